"""A program between its look at the record and its first file, while `reset` returns."""

import shutil
import subprocess

import pytest

from telemetry_kit.consent import cache, changes

# Stops before the step that is named, until it is told to go on.
RECORDS = """
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
PROCESSORS = [
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
    """A granted project in which nothing was recorded yet, and its recorder, stopped at a step."""
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(all_projects=True)
    key = undecided.key_file
    children = []

    def start(step: str, when: str) -> "subprocess.Popen[str]":
        if step == "create":
            shutil.rmtree(key.parent)
        child = undecided.start(RECORDS, step, when, "")
        children.append(child)
        assert child.stdout.readline() == "at it\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def left(place) -> list[str]:
    """What is there of ours, but for what every reset leaves."""
    kept = (".gitignore", ".telemetry.lock", "/.flowspec")
    return [
        path
        for path in place.tree()
        if "flowspec" in path and not path.endswith(kept) and "__pycache__" not in path
    ]


@pytest.mark.parametrize(("step", "when"), PROCESSORS, ids=lambda value: value)
def test_nothing_is_made_after_a_reset(undecided, stopped, step: str, when: str) -> None:
    """Whatever the program was about to make, it is not there when the program goes on."""
    child = stopped(step, when)
    done = undecided.python(*RESET)
    assert done.returncode == 0, done.stderr
    said, errors = child.communicate("go on\n", timeout=60)

    assert (said, errors) == ("None\n", "")
    assert left(undecided) == []
    # Nor a folder, where the reset met none.
    if (step, when) in (("create", "before"), ("make_last_folder", "before")):
        assert list(undecided.root.iterdir()) == []


@pytest.mark.parametrize(("step", "when"), PROCESSORS, ids=lambda value: value)
def test_without_a_reset_it_is_recorded(undecided, stopped, step: str, when: str) -> None:
    """Where consent stays, the step goes on, and nothing is taken away."""
    said, _ = stopped(step, when).communicate("go on\n", timeout=60)

    assert said.startswith("{")
    assert undecided.types() == ["role.selected"]
