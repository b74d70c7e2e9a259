"""The context of child processes."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from telemetry_kit import (
    capture_events,
    child_environment,
    context,
    current,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured
from tests.context_helpers import AGENT

CHILD = (
    "from telemetry_kit import *\n"
    "@tracks('agent.invoked')\n"
    "def work():\n"
    "    track_role_event('handoff.clicked')\n"
    "work()\n"
)


def test_spawned_child_has_no_parent(place: Any) -> None:
    """A spawned child has its own ids and no parent."""
    with role_session("dev"), tracks("command.executed"):
        done = place.run(CHILD)
    events = place.events()
    parent_events = [e for e in events if e["event_type"].startswith(("role", "command"))]
    child_events = [e for e in events if e not in parent_events]

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(child_events) == 3
    assert len(events) == len({e["event_id"] for e in events})
    assert "parent_id" not in child_events[0]
    assert "session_id" not in child_events[0]
    assert child_events[0]["span_id"] == child_events[1]["parent_id"] != parent_events[1]["span_id"]


def test_child_environment_links_a_child(place: Any) -> None:
    """With the variables of `child_environment()`, a child is in the session and the span."""
    with role_session("dev"), tracks("command.executed"):
        done = place.run(CHILD, env=child_environment())
    events = place.events()
    command = next(e for e in events if e["event_type"] == "command.executed")
    started = next(e for e in events if e["event_type"] == "agent.invoked")

    assert done.returncode == 0
    assert command["span_id"] == started["parent_id"]
    assert command["session_id"] == started["session_id"]


def test_child_environment_is_empty_without_a_session(undecided: Any) -> None:
    """While recording is off, or outside of any session, the variables are empty."""
    with role_session("dev"):
        off = child_environment()

    assert off == {}
    with capture_events():
        assert child_environment() == {}
        with role_session("dev"):
            assert sorted(child_environment()) == ["FLOWSPEC_TELEMETRY_SESSION_ID"]
        with tracks(AGENT):
            assert sorted(child_environment()) == ["FLOWSPEC_TELEMETRY_PARENT_ID"]


FORK = """
import os, sys
from telemetry_kit import *

def main():
    with role_session("dev"), tracks("command.executed"):
        pid = os.fork()
        if pid == 0:
            with tracks("agent.invoked"):
                track_role_event("handoff.clicked")
            print(sorted(child_environment()))
        else:
            os.waitpid(pid, 0)
            with tracks("workflow.started"):
                pass
    return pid

if main() == 0:
    # The child leaves the block that its parent opened, as a host's child may do.
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_has_its_own_ids_and_no_parent(place: Any) -> None:
    """A forked child keeps the role. Only the parent process ends the parent's span."""
    done = place.run(FORK)
    events = place.events()
    commands = [e for e in events if e["event_type"].startswith("command")]
    agents = [e for e in events if e["event_type"].startswith("agent")]
    handoff = next(e for e in events if e["event_type"] == "handoff.clicked")
    workflow = next(e for e in events if e["event_type"] == "workflow.started")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['FLOWSPEC_TELEMETRY_SESSION_ID']\n"
    assert [e["event_type"] for e in commands] == ["command.executed", "command.completed"]
    assert [e["role"] for e in agents] == ["dev", "dev"]
    assert "parent_id" not in agents[0]
    assert agents[0]["span_id"] == handoff["parent_id"]
    assert commands[0]["span_id"] == workflow["parent_id"]
    assert len(events) == len({e["event_id"] for e in events})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(place: Any, method: str) -> None:
    """Workers of every start method record events with their own ids."""
    (place.root / "tk_work.py").write_text(
        "from telemetry_kit import *\n"
        "configure(app='flowspec')\n"
        "@tracks('agent.invoked')\n"
        "def work(number):\n"
        "    return number\n"
    )
    done = place.run(
        "import multiprocessing, sys\n"
        "sys.path.insert(0, '.')\n"
        "from tk_work import work\n"
        "from telemetry_kit import *\n"
        "if __name__ == '__main__':\n"
        "    with tracks('command.executed'):\n"
        f"        with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "            assert pool.map(work, range(6), chunksize=1) == list(range(6))\n"
        "            pool.close(); pool.join()\n",
        env={"PYTHONPATH": f"{place.env['PYTHONPATH']}{os.pathsep}{place.root}"},
    )
    events = place.events()
    started = [e for e in events if e["event_type"] == "agent.invoked"]

    assert (done.returncode, done.stderr) == (0, "")
    assert len(started) == 6
    assert not any("parent_id" in e for e in started)
    assert 14 == len(events) == len({e["event_id"] for e in events})


def test_ids_of_a_forked_process_without_telemetry_before(place: Any) -> None:
    """A forked child can be the first process to record."""
    done = place.run(
        "import os\nfrom telemetry_kit import *\n"
        "pid = os.fork()\n"
        "track_role_event('agent.invoked')\n"
        "pid and os.waitpid(pid, 0)"
    )
    ids = {e["event_id"] for e in place.events()}

    assert done.returncode == 0
    assert len(ids) == 2


def test_threads_of_a_forked_child(captured: Captured) -> None:
    """A scope identifies the process that opened it."""
    with tracks(AGENT):
        inside = current()

        assert inside is not None
        assert inside.is_ours

        inside.forks -= 1

        assert inside.enclosing_span is None

    assert [json.loads(line)["event_type"] for line in captured.lines] == ["agent.invoked"]
    assert context.innermost() is None


def test_no_event_outside_of_a_capture(undecided: Any) -> None:
    """Without a decision nothing is recorded, and the variables for a child are empty."""
    track_role_event("agent.invoked")
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=undecided.root, env=undecided.env, check=False
    )

    assert done.returncode == 0
    assert not undecided.log.exists()
