"""If consent allows events that cannot be written, commands and API report the reason."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from telemetry_kit import is_telemetry_enabled
from telemetry_kit.cli.commands.status import RECORDING, UNWRITABLE
from telemetry_kit.consent import changes, obstacles
from telemetry_kit.errors import JournalError
from telemetry_kit.files import private
from tests.conftest import _STEP_DOWN, NOBODY

APP = ("-m", "telemetry_kit", "--app", "flowspec")
# Imports run as root, since another user cannot read the interpreter in root's home.
LOADED = """
import contextlib, io, json, os, sys
from telemetry_kit.consent import transaction as deciding
from telemetry_kit.consent import history as decisions
from telemetry_kit.consent import notice
from telemetry_kit.cli import main
from telemetry_kit.cli.commands import enable
from telemetry_kit.cli.commands import status
def command(*args):
    sys.argv[1:] = ["--app", "flowspec", *args]
    try:
        return main()
    except SystemExit as end:
        return end.code
with contextlib.redirect_stdout(io.StringIO()):
    command("status", "--check")
    command("enable", "--help")
"""
# A program that queries every command and function, and then records two events.
QUERY = """
from telemetry_kit import errors
from telemetry_kit.consent import obstacles as checks
configure(app="flowspec")
def granted():
    try:
        return enable_telemetry()
    except errors.ConsentError:  # the key cannot be looked at
        return False
found = {
    "enabled": is_telemetry_enabled(),
    "granted": granted(),
    "obstacles": checks.obstacles(control.paths_of()),
    "check": command("status", "--check"),
    "enable": command("enable", "--yes"),
}
for _ in range(2):
    event = track_role_event("role.selected", role="dev")
print(json.dumps({**found, "recorded": event is not None}))
"""


def folder(place) -> Path:
    """Return the project's directory of logs."""
    return Path(place.home.folder)


def only_key(place) -> Path:
    """Return the path of the only project key."""
    (key,) = place.user.rglob("projects/*/key")
    return key


def query(place) -> tuple[dict, str]:
    """Run the program as another user, and return its results and its output."""
    done = place.python("-c", LOADED + _STEP_DOWN.format(nobody=NOBODY) + QUERY)
    assert done.returncode == 0, done.stderr
    *output, last = done.stdout.splitlines()
    return json.loads(last), "\n".join([*output, done.stderr])


def linked(place) -> None:
    away = place.user.parent / "away"
    away.mkdir(mode=0o755)
    folder(place).symlink_to(away)


def a_file(place) -> None:
    folder(place).write_text("")


def of_another_user(place) -> None:
    folder(place).mkdir(0o755)


def read_only(place) -> None:
    folder(place).mkdir(0o500)
    os.chown(folder(place), place.root.stat().st_uid, -1)


def a_log_open_to_others(place) -> None:
    place.run("track_role_event('role.selected', role='dev')")
    place.log.chmod(0o644)


def a_log_of_another_user(place) -> None:
    place.run("track_role_event('role.selected', role='dev')")
    os.chown(place.log, 0, 0)


def projects_unreadable(place) -> None:
    only_key(place).parent.parent.chmod(0)


def a_key_of_another_user(place) -> None:
    os.chown(only_key(place), 0, 0)


def a_key_open_to_others(place) -> None:
    only_key(place).chmod(0o644)


def a_damaged_key(place) -> None:
    only_key(place).write_bytes(b"v1 1\n")


SCENES: dict[Callable[..., None], str] = {
    linked: "is a symbolic link",
    a_file: "is not a folder",
    of_another_user: "is not a private folder of yours",
    read_only: "cannot be written to",
    a_log_open_to_others: "chmod 600 it",
    a_log_of_another_user: "belongs to another user",
    projects_unreadable: "chmod 700",
    a_key_of_another_user: 'sudo chown "$USER"',
    a_key_open_to_others: "chmod 600",
    a_damaged_key: "the key file is damaged",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_commands_and_api_report_the_obstacle(unprivileged, scene) -> None:
    """If events cannot be written, `enable`, `status --check` and the API report the reason."""
    scene(unprivileged)
    found, output = query(unprivileged)

    assert not found["recorded"]
    assert (found["enabled"], found["granted"]) == (False, False)
    assert (found["check"], found["enable"]) == (UNWRITABLE, 1)
    why = found["obstacles"][0]
    assert SCENES[scene] in why
    assert f"Recording is on, but events cannot be written: {why}." in output
    if scene is not projects_unreadable:
        assert f"is saved, but events cannot be written: {why}" in output


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_suggested_command_helps(unprivileged) -> None:
    """After the user runs the suggested command, events are recorded again."""
    projects_unreadable(unprivileged)
    found, _ = query(unprivileged)
    command = found["obstacles"][0].rpartition(": ")[2].partition(" opens")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)

    assert query(unprivileged)[0]["recorded"]


@pytest.mark.parametrize("made", ["nothing", "folder", "log"])
def test_no_obstacle_is_reported(place, made: str) -> None:
    """If events can be written, no obstacle is reported, and the check creates no file."""
    if made != "nothing":
        place.run("from telemetry_kit import *; track_role_event('role.selected', role='dev')")
    if made == "folder":
        place.log.unlink()
    before = place.tree()

    assert [] == obstacles.obstacles(place.home)
    assert is_telemetry_enabled()
    assert place.tree() == before
    assert place.python(*APP, "status", "--check").returncode == RECORDING


def test_a_new_project_without_a_key(undecided) -> None:
    """If the first event can create the key, a missing key is no obstacle."""
    changes.enable_telemetry(all_projects=True)
    shutil.rmtree(undecided.key_file.parent)

    assert [] == obstacles.obstacles(undecided.home)
    undecided.key_file.parent.parent.rmdir()
    undecided.key_file.parent.parent.write_text("")
    (why,) = obstacles.obstacles(undecided.home)
    assert "nothing is recorded without a key" in why


def test_status_json_lists_obstacles(place) -> None:
    """In the JSON of `status`, `recording` is false, and `obstacles` lists the reasons."""
    folder(place).write_text("")
    status = json.loads(place.python(*APP, "status", "--json").stdout)

    assert (status["recording"], status["obstacles"]) == (
        False,
        [f"{folder(place)} is not a folder"],
    )


def test_a_denial_takes_precedence_over_an_obstacle(place) -> None:
    """If consent is denied, `status --check` exits with 10, even if the log cannot be written."""
    folder(place).write_text("")
    with pytest.raises(JournalError, match="ENOTDIR"):
        changes.disable_telemetry()

    assert place.python(*APP, "status", "--check").returncode == 10


def test_notice_0_is_not_valid(place) -> None:
    """A record of notice 0 is not valid, and the report names the commands that repair it."""
    place.record.write_bytes(place.record.read_bytes().replace(b"notice=1", b"notice=0"))
    done = place.python(*APP, "status", "--check")

    assert done.returncode == 10
    assert "is not a valid consent record: run on or off to decide again" in done.stdout
    assert place.python(*APP, "enable", "--yes").returncode == 0
    assert place.python(*APP, "status", "--check").returncode == RECORDING


# -- suggested commands ---------------------------------------------------------------------------

STATUS = """
from telemetry_kit.consent import policy as consent
print(consent.decide(control.paths_of(), os.environ).rule.says)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_directory_key_after_a_sudo(unprivileged) -> None:
    """If root owns the directory key, the report suggests `chown`, and not `reset`."""
    key = Path(unprivileged.home.directory_key)
    os.chown(key, 0, 0)
    says = unprivileged.run(STATUS).stdout
    os.chown(key, unprivileged.root.stat().st_uid, -1)

    assert f"sudo chown \"$USER\" '{key}' gives it back to you" in says
    assert "reset" not in says
    assert unprivileged.run("print(is_telemetry_enabled())").stdout == "True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_state_directory_after_a_sudo(unprivileged) -> None:
    """If root owns the state directory, the report suggests `chown -R`."""
    state = Path(unprivileged.home.state)
    state.chmod(0o700)
    os.chown(state, 0, 0)
    says = unprivileged.run(STATUS).stdout

    assert f"sudo chown -R \"$USER\" '{state}' gives it back to you" in says


def test_a_directory_key_that_is_open_to_others(place) -> None:
    """If the directory key is open to others, the report suggests `chmod`, which repairs it."""
    key = Path(place.home.directory_key)
    key.chmod(0o644)
    says = place.python(*APP, "status").stdout
    command = says.partition("0644): ")[2].partition(" makes it yours")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)

    assert place.python(*APP, "status", "--check").returncode == RECORDING


@pytest.mark.parametrize("what", ["cut", "link"])
def test_a_directory_key_that_cannot_be_repaired(place, what: str) -> None:
    """If no change of mode or owner repairs the key, the report suggests `reset`."""
    key = Path(place.home.directory_key)
    if what == "cut":
        key.write_bytes(b"short")
    else:
        key.rename(key.with_name("elsewhere"))
        key.symlink_to("elsewhere")

    assert "reset --all-projects deletes it" in place.python(*APP, "status").stdout


def test_a_name_with_a_quote(tmp_path) -> None:
    """The suggested command works for a path with a quote."""
    path = tmp_path / "o'brien's key"
    path.write_text("")
    path.chmod(0o640)
    advice = private.remedy(str(path))
    subprocess.run(["/bin/sh", "-c", advice.partition(" makes it")[0]], check=True)

    assert path.stat().st_mode & 0o777 == 0o600
    assert private.remedy(str(path)) == ""
