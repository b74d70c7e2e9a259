"""A reset during the first event of another program."""

import shutil
import subprocess

import pytest

from telemetry_kit.consent import cache, changes

# The program stops before or after the named step and waits for a line on stdin.
PROGRAM = """
import sys
from telemetry_kit import configure, track_role_event
from telemetry_kit.consent import policy as consent
from telemetry_kit.recording import pipeline
from telemetry_kit.privacy import keys as privacy
from telemetry_kit.storage import log_file
configure(app="flowspec")
step, when, place = sys.argv[1:]
modules = {"create": privacy, "make_last_folder": log_file, "ignore": log_file, "flock": log_file}
real = getattr(modules[step], step)
stops = 1

def wait():
    global stops
    if stops:
        stops -= 1
        print("at it", flush=True)
        sys.stdin.readline()

def stopping(*args, **more):
    if when == "before":
        wait()
    done = real(*args, **more)
    if when == "after":
        wait()
    return done

setattr(modules[step], step, stopping)
print(track_role_event("role.selected", role="dev"), flush=True)
"""
STEPS = [
    ("create", "before"),
    ("create", "after"),
    ("make_last_folder", "before"),
    ("make_last_folder", "after"),
    ("ignore", "before"),
    ("ignore", "after"),
    ("flock", "before"),
]
RESET = ("-m", "telemetry_kit", "--app", "flowspec", "reset", "--yes", "--all-projects")


@pytest.fixture
def stopped(undecided):
    """Start a program that stops at a step of its first event."""
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(all_projects=True)
    key = undecided.key_file
    children = []

    def start(step: str, when: str) -> "subprocess.Popen[str]":
        if step == "create":
            shutil.rmtree(key.parent)
        child = undecided.start(PROGRAM, step, when, "")
        children.append(child)
        assert child.stdout.readline() == "at it\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def files_after_reset(place) -> list[str]:
    """List the files of this package, except those that each reset leaves."""
    expected = (".gitignore", ".telemetry.lock", "/.flowspec")
    return [
        path
        for path in place.tree()
        if "flowspec" in path and not path.endswith(expected) and "__pycache__" not in path
    ]


@pytest.mark.parametrize(("step", "when"), STEPS, ids=lambda value: value)
def test_no_file_is_created_after_a_reset(undecided, stopped, step: str, when: str) -> None:
    """After a reset, the stopped program continues and leaves no file."""
    child = stopped(step, when)
    done = undecided.python(*RESET)
    assert done.returncode == 0, done.stderr
    output, errors = child.communicate("go on\n", timeout=60)

    assert (output, errors) == ("None\n", "")
    assert files_after_reset(undecided) == []
    # If the reset found no folder, none exists now.
    if (step, when) in (("create", "before"), ("make_last_folder", "before")):
        assert list(undecided.root.iterdir()) == []


@pytest.mark.parametrize(("step", "when"), STEPS, ids=lambda value: value)
def test_without_a_reset_the_event_is_recorded(undecided, stopped, step: str, when: str) -> None:
    """Without a reset, the stopped program continues and records its event."""
    output, _ = stopped(step, when).communicate("go on\n", timeout=60)

    assert output.startswith("{")
    assert undecided.types() == ["role.selected"]
