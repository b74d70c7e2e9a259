"""Five frequent operations call few functions, which `sys.setprofile` counts."""

import json
from pathlib import Path

import pytest

COUNTED = """
import collections, json, sys
calls, where = collections.Counter(), "/telemetry_kit/"

def count(frame, event, _arg):
    file = frame.f_code.co_filename
    if event == "call" and where in file and "/tests/" not in file:
        name = file.rpartition(where)[2].removesuffix(".py").replace("/", ".")
        calls[name + "." + frame.f_code.co_name] += 1
        if name == "files.private" and frame.f_code.co_name == "read":
            calls["read " + frame.f_locals["path"].rpartition("/")[2]] += 1

# Set before any module imports it, so that no cached decision expires on a slow machine.
import telemetry_kit._runtime
telemetry_kit._runtime.FRESH_SECONDS = 60.0
{before}
sys.setprofile(count)
{code}
sys.setprofile(None)
loaded = [n for n in sys.modules if n.startswith("telemetry_kit.")]
print(json.dumps([calls, loaded]))
"""
DECORATED = """
from telemetry_kit import RoleEvent, configure, role_session, tracks
configure(app="flowspec")

@tracks(RoleEvent.AGENT_INVOKED, agent="backend-engineer")
def implement():
    return 42

implement()
"""
COMMAND = "from telemetry_kit.cli import main\nmain({words!r})"


def calls_of(place, before: str, code: str) -> tuple[dict[str, int], list[str]]:
    """Return how often each function is called, and the modules that are loaded."""
    done = place.python("-c", COUNTED.format(before=before, code=code))
    assert done.returncode == 0, done.stderr
    calls, loaded = json.loads(done.stdout.splitlines()[-1])
    return calls, loaded


def test_a_decorated_call_when_off(undecided) -> None:
    """While recording is off, a decorated call runs the wrapper and reads the clock."""
    calls, _ = calls_of(undecided, DECORATED, "implement()")

    assert calls == {"instrumentation.tracks.wrapper": 1}


def test_a_decorated_call_to_a_line_on_disk(place) -> None:
    """A second decorated call decides nothing, opens no file, and writes each event once."""
    calls, _ = calls_of(place, DECORATED, "implement()")

    assert calls["recording.pipeline.write"] == 2
    assert calls["storage.writer.append"] == 2
    assert not any(name.startswith(("consent.policy", "read ")) for name in calls)


def test_a_first_decorated_call(place) -> None:
    """A first decorated call decides consent once and reads each file once.

    There are two files of names: that of the project, and that of the program.
    """
    place.python("-c", DECORATED)
    calls, _ = calls_of(place, DECORATED.replace("\nimplement()\n", "\n"), "implement()")

    assert calls["consent.policy.decide"] == 1
    assert calls["recording.pipeline.write"] == 2
    assert (calls["read place.key"], calls["read key"], calls["read names"]) == (1, 1, 2)


def test_a_cold_record_into_an_existing_log(place) -> None:
    """`record` decides consent once.

    It reads the key of the directories a second time, for what the program declared: this decides
    where the project and its consent are.
    """
    words = ["--app", "flowspec", "record", "agent.invoked", "--agent", "x"]
    place.python("-c", COMMAND.format(words=words))
    calls, _ = calls_of(place, "import telemetry_kit.cli", COMMAND.format(words=words))

    assert calls["consent.policy.decide"] == 1
    assert calls["recording.pipeline.write"] == 1
    assert (calls["read place.key"], calls["read key"]) == (2, 1)


def test_stats_reads_each_file_once(place) -> None:
    """`stats` reads the counts once and each file once, and loads no recording module."""
    place.python("-c", DECORATED)
    words = ["--app", "flowspec", "stats"]
    calls, loaded = calls_of(place, "import telemetry_kit.cli", COMMAND.format(words=words))

    assert (calls["insights.cache.count_log"], calls["insights.counting.count_file"]) == (1, 1)
    assert not {"telemetry_kit.recording.pipeline", "telemetry_kit.storage.writer"} & set(loaded)


@pytest.mark.parametrize("words", [["disable"], ["enable", "--yes"]])
def test_a_decision_records_nothing(place, words) -> None:
    """Commands that grant or deny load no recording module."""
    words = ["--app", "flowspec", *words]
    calls, loaded = calls_of(place, "import telemetry_kit.cli", COMMAND.format(words=words))

    assert calls["consent.transaction.decide"] == 1
    assert {n for n in loaded if n.startswith("telemetry_kit.recording.")} == set()


def test_the_page_of_the_architecture_has_these_counts(place) -> None:
    """Each row of the table is what the route does."""
    page = (Path(__file__).parents[1] / "docs/explanation/architecture.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if "a cold `" in line]
    rows += [
        line.strip("| ").split(" | ") for line in page.splitlines() if "decorated call" in line
    ]
    place.python("-c", DECORATED)
    first = DECORATED.replace("\nimplement()\n", "\n")
    words = ["--app", "flowspec", "record", "agent.invoked", "--agent", "x"]
    routes = {
        "the first decorated call of a process, two events": (first, "implement()"),
        "each later decorated call, two events": (DECORATED, "implement()"),
        "a cold `telemetry-kit record`": (
            "import telemetry_kit.cli",
            COMMAND.format(words=words),
        ),
    }
    found = {}
    for name, (before, code) in routes.items():
        calls, _ = calls_of(place, before, code)
        reads = [calls.get(f"read {key}", 0) for key in ("place.key", "key", "names")]
        found[name] = [
            str(calls.get("consent.policy.decide", 0)),
            ", ".join(map(str, reads)),
            str(calls["recording.pipeline.write"]),
        ]

    assert found == {name: numbers for name, *numbers in rows if name in found}
