"""Events that cannot be written although consent allows them: everybody who is asked says so."""

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
# Loaded while the interpreter can be read: a user who is not root may not look into root's home.
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
# What another program of the same user says and does.
ASKS = """
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
    return Path(place.home.folder)


def key_of(place) -> Path:
    (key,) = place.user.rglob("projects/*/key")
    return key


def asks(place) -> tuple[dict, str]:
    done = place.python("-c", LOADED + _STEP_DOWN.format(nobody=NOBODY) + ASKS)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    return json.loads(last), "\n".join([*said, done.stderr])


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
    key_of(place).parent.parent.chmod(0)


def a_key_of_another_user(place) -> None:
    os.chown(key_of(place), 0, 0)


def a_key_open_to_others(place) -> None:
    key_of(place).chmod(0o644)


def a_damaged_key(place) -> None:
    key_of(place).write_bytes(b"v1 1\n")


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
def test_all_of_them_say_so(unprivileged, scene) -> None:
    """Nothing is recorded, and `enable`, `status --check` and the API say so, with the reason."""
    scene(unprivileged)
    found, said = asks(unprivileged)

    assert not found["recorded"]
    assert (found["enabled"], found["granted"]) == (False, False)
    assert (found["check"], found["enable"]) == (UNWRITABLE, 1)
    why = found["obstacles"][0]
    assert SCENES[scene] in why
    assert f"Recording is on, but events cannot be written: {why}." in said
    if scene is not projects_unreadable:
        assert f"is saved, but events cannot be written: {why}" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_advice_helps(unprivileged) -> None:
    """What the advice for a closed folder says to run is what makes events come again."""
    projects_unreadable(unprivileged)
    found, _ = asks(unprivileged)
    command = found["obstacles"][0].rpartition(": ")[2].partition(" opens")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)

    assert asks(unprivileged)[0]["recorded"]


@pytest.mark.parametrize("made", ["nothing", "folder", "log"])
def test_nothing_stands_in_the_way(place, made: str) -> None:
    """Where events can be written nobody says otherwise, and looking makes nothing."""
    if made != "nothing":
        place.run("from telemetry_kit import *; track_role_event('role.selected', role='dev')")
    if made == "folder":
        place.log.unlink()
    before = place.tree()

    assert [] == obstacles.obstacles(place.home)
    assert is_telemetry_enabled()
    assert place.tree() == before
    assert place.python(*APP, "status", "--check").returncode == RECORDING


def test_a_grant_for_all_projects_meets_a_new_one(undecided) -> None:
    """Where the first event will make the key nothing stands in the way yet."""
    changes.enable_telemetry(all_projects=True)
    shutil.rmtree(undecided.key_file.parent)

    assert [] == obstacles.obstacles(undecided.home)
    undecided.key_file.parent.parent.rmdir()
    undecided.key_file.parent.parent.write_text("")
    (why,) = obstacles.obstacles(undecided.home)
    assert "nothing is recorded without a key" in why


def test_json_says_it_too(place) -> None:
    """`recording` is false, and `obstacles` holds the reasons."""
    folder(place).write_text("")
    told = json.loads(place.python(*APP, "status", "--json").stdout)

    assert (told["recording"], told["obstacles"]) == (False, [f"{folder(place)} is not a folder"])


def test_off_is_off(place) -> None:
    """A denial keeps its exit code, whatever the log is like."""
    folder(place).write_text("")
    with pytest.raises(JournalError, match="ENOTDIR"):
        changes.disable_telemetry()

    assert place.python(*APP, "status", "--check").returncode == 10


def test_notice_0_covers_nothing(place) -> None:
    """A record of a notice that never was is no valid grant, and its reader is told what to do."""
    place.record.write_bytes(place.record.read_bytes().replace(b"notice=1", b"notice=0"))
    done = place.python(*APP, "status", "--check")

    assert done.returncode == 10
    assert "is not a valid consent record: run on or off to decide again" in done.stdout
    assert place.python(*APP, "enable", "--yes").returncode == 0
    assert place.python(*APP, "status", "--check").returncode == RECORDING


# -- what helps -----------------------------------------------------------------------------------

STATUS = """
from telemetry_kit.consent import policy as consent
print(consent.decide(control.paths_of(), os.environ).rule.says)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_directory_key_after_a_sudo(unprivileged) -> None:
    """A place key that root took is given back by `chown`; nothing has to be erased."""
    key = Path(unprivileged.home.directory_key)
    os.chown(key, 0, 0)
    says = unprivileged.run(STATUS).stdout
    os.chown(key, unprivileged.root.stat().st_uid, -1)

    assert f"sudo chown \"$USER\" '{key}' gives it back to you" in says
    assert "reset" not in says
    assert unprivileged.run("print(is_telemetry_enabled())").stdout == "True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_the_state_folder_after_a_sudo(unprivileged) -> None:
    """The same where root took the folder."""
    state = Path(unprivileged.home.state)
    state.chmod(0o700)
    os.chown(state, 0, 0)
    says = unprivileged.run(STATUS).stdout

    assert f"sudo chown -R \"$USER\" '{state}' gives it back to you" in says


def test_a_directory_key_that_is_open_to_others(place) -> None:
    """`chmod` is the advice, and it helps."""
    key = Path(place.home.directory_key)
    key.chmod(0o644)
    says = place.python(*APP, "status").stdout
    command = says.partition("0644): ")[2].partition(" makes it yours")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)

    assert place.python(*APP, "status", "--check").returncode == RECORDING


@pytest.mark.parametrize("what", ["cut", "link"])
def test_a_directory_key_that_nothing_brings_back(place, what: str) -> None:
    """Only where no change of mode or owner helps, erasing is the advice."""
    key = Path(place.home.directory_key)
    if what == "cut":
        key.write_bytes(b"short")
    else:
        key.rename(key.with_name("elsewhere"))
        key.symlink_to("elsewhere")

    assert "reset --all-projects deletes it" in place.python(*APP, "status").stdout


def test_a_name_with_a_quote(tmp_path) -> None:
    """The command can be pasted whatever the path is."""
    path = tmp_path / "o'brien's key"
    path.write_text("")
    path.chmod(0o640)
    advice = private.remedy(str(path))
    subprocess.run(["/bin/sh", "-c", advice.partition(" makes it")[0]], check=True)

    assert path.stat().st_mode & 0o777 == 0o600
    assert private.remedy(str(path)) == ""
