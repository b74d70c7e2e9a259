"""What a program declares is stored once, and `record` and the commands know it."""

import json
import os
from pathlib import Path

import pytest

from telemetry_kit import configure
from telemetry_kit.errors import ConfigurationError
from telemetry_kit.paths import find
from telemetry_kit.privacy import program

HOST = """
from telemetry_kit import configure, enable_telemetry, track_role_event, tracks
configure(app="acme", {facts})
@tracks("command.executed", command="decorated one")
def decorated(): pass
"""
GRANT = "enable_telemetry()\n"
EVENT = "assert track_role_event('agent.invoked', agent='planner')\n"
IN_PROJECT = (
    "prog='acme telemetry', version='1.4.2', directory='.acme-usage', commands=['db migrate'], "
    "agents=['planner']"
)
IN_USER = "version='1.4.2', scope='user', commands=['get']"


def run(place, facts: str, *code: str, cwd: Path | None = None) -> None:
    """Run a program with these facts in a directory, by default in the project."""
    source = HOST.format(facts=facts) + "".join(code)
    done = place.python("-W", "error", "-c", source, cwd=cwd or place.root)
    assert ("", 0) == (done.stderr, done.returncode)


def kit(place, *words: str, cwd: Path | None = None):
    """Run a command of `telemetry-kit` in a directory, by default in the project."""
    return place.python("-m", "telemetry_kit", *words, cwd=cwd or place.root)


def lines(log: Path) -> list[dict]:
    """Return the events of a log."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def stored(place) -> Path:
    """Return the file with the facts."""
    (found,) = (place.user / ".local/state/telemetry-kit/acme/projects").glob("*/program")
    return found


def test_record_knows_what_the_program_declared(undecided) -> None:
    """`record` finds the folder, and keeps declared names in plain text, in every project."""
    run(undecided, IN_PROJECT, GRANT, EVENT)
    other = undecided.root / "other"
    (other / ".git").mkdir(parents=True)
    run(undecided, IN_PROJECT, GRANT, cwd=other)
    for name in ("db migrate", "decorated one", "rm -rf"):
        kit(undecided, "--app", "acme", "record", "command.executed", "--command", name, cwd=other)
    found = lines(other / ".acme-usage/telemetry.jsonl")

    assert ["db migrate", "decorated one"] == [event["command"] for event in found[:2]]
    assert found[2]["command"].startswith("h:")
    assert {"1.4.2"} == {event["app_version"] for event in found}
    assert not (other / ".acme").exists()


def test_commands_know_what_the_program_declared(undecided) -> None:
    """The commands find the log, and `verify` accepts it; without `--app`, the folder decides."""
    run(undecided, IN_PROJECT, GRANT, EVENT)
    done = kit(undecided, "view", "--json")
    verified = kit(undecided, "--app", "acme", "verify")

    assert ["planner"] == [json.loads(line)["agent"] for line in done.stdout.splitlines()]
    assert 0 == verified.returncode, verified.stdout


@pytest.mark.parametrize("how", ["altered", "copied", "open to others"])
def test_a_program_that_is_not_ours_is_ignored(undecided, how: str) -> None:
    """A file that another program wrote names no folder, and `verify` reports it."""
    run(undecided, IN_PROJECT, GRANT, EVENT)
    file = stored(undecided)
    if how == "open to others":
        file.chmod(0o666)
    else:
        name = ".evil" if how == "altered" else ".acme-usage"
        text = file.read_text().replace(".acme-usage", name)
        file.write_text(text if how == "altered" else text.replace("1.4.2", "1.4.3"))
    environ = {"HOME": str(undecided.user)}

    assert {} == program.read("acme", environ, {})
    if how != "open to others":
        done = kit(undecided, "--app", "acme", "--project", ".", "verify")
        assert "not written by the recorder" in done.stdout


def test_facts_are_replaced_and_written_once(undecided) -> None:
    """Each start of the program replaces other facts, and leaves the same ones alone."""
    run(undecided, IN_PROJECT, GRANT, EVENT)
    before = stored(undecided).stat().st_ino
    run(undecided, IN_PROJECT, EVENT)
    assert stored(undecided).stat().st_ino == before
    run(undecided, IN_PROJECT.replace("1.4.2", "1.5"), EVENT)

    assert "1.5" == program.read("acme", {"HOME": str(undecided.user)}, {})["version"]


def test_without_facts_nothing_is_stored(undecided) -> None:
    """A program that declares only its name leaves no file of facts or names."""
    source = 'configure(app="acme"); enable_telemetry(); track_role_event("role.selected")'
    done = undecided.python("-c", f"from telemetry_kit import *\n{source}")
    state = undecided.user / ".local/state/telemetry-kit/acme"

    assert ("", 0) == (done.stderr, done.returncode)
    assert [] == list(state.rglob("program"))


# -- user scope --------------------------------------------------------------------------------


def test_user_scope_has_one_log_and_one_decision(undecided) -> None:
    """A program without projects is asked once, and writes nothing into a working directory."""
    folders = [undecided.root, undecided.root / "a", undecided.user]
    folders[1].mkdir()
    before = {folder: sorted(os.listdir(folder)) for folder in folders[:2]}
    run(undecided, IN_USER, GRANT)
    for folder in folders:
        run(
            undecided,
            IN_USER,
            "assert track_role_event('command.executed', command='get')",
            cwd=folder,
        )
        kit(
            undecided, "--app", "acme", "record", "command.executed", "--command", "get", cwd=folder
        )
    log = Path(find("acme", None, {"HOME": str(undecided.user)}, "user").log)
    found = lines(log)

    assert before == {folder: sorted(os.listdir(folder)) for folder in folders[:2]}
    assert 6 == len(found)
    assert {"get"} == {event["command"] for event in found}
    assert not any("project_id" in event for event in found)
    assert log.is_relative_to(undecided.user / ".local/state/telemetry-kit/acme")


def test_commands_in_user_scope(undecided) -> None:
    """`view`, `verify`, `find` and `status` work in every folder, and the reset leaves nothing."""
    before = undecided.tree()
    run(undecided, IN_USER, GRANT, "assert track_role_event('command.executed', command='get')")
    away = undecided.root / "away"
    away.mkdir()
    view = kit(undecided, "view", "--json", cwd=away)
    verify = kit(undecided, "verify", cwd=away)
    find_name = kit(undecided, "find", "get", cwd=away)
    status = kit(undecided, "status", cwd=away)

    assert ["get"] == [json.loads(line)["command"] for line in view.stdout.splitlines()]
    assert 0 == verify.returncode, verify.stdout
    assert "1 event" in find_name.stdout
    assert "all folders" in status.stdout
    done = kit(undecided, "reset", "--all-projects", "--yes", cwd=away)
    away.rmdir()
    assert 0 == done.returncode, done.stderr
    assert before == undecided.tree()


def test_a_repository_denies_in_user_scope(undecided) -> None:
    """The repository of the working directory may deny; elsewhere, events are recorded."""
    run(undecided, IN_USER, GRANT)
    (undecided.root / ".git").mkdir()
    (undecided.root / ".acme").mkdir()
    (undecided.root / ".acme/telemetry.toml").write_text("enabled = false\n")
    inside = undecided.root / "inside"
    inside.mkdir()
    run(undecided, IN_USER, "assert track_role_event('role.selected') is None", cwd=inside)

    run(undecided, IN_USER, "assert track_role_event('role.selected')", cwd=undecided.user)


# -- the author's mistakes ---------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", ".", "..", ".git", "usage", ".a/b", "a\0b", 7, ".a\n"])
def test_bad_directory(value: object) -> None:
    """The folder with the events has one name, which begins with a dot."""
    with pytest.raises(ConfigurationError, match=r"for instance '\.usage'"):
        configure(directory=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", "global", 1])
def test_bad_scope(value: object) -> None:
    """The scope is that of the project or that of the user."""
    with pytest.raises(ConfigurationError, match="'project' or 'user'"):
        configure(scope=value)  # type: ignore[arg-type]
