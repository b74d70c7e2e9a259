"""`read_events()` yields what the commands show, as dictionaries."""

import enum
import gzip
import itertools
import json
import os
import re
import types
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit import (
    RoleEvent,
    capture_events,
    configure,
    disable_telemetry,
    read_events,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.errors import UnknownEventError
from tests.insights.written import fill, sessions, stored


class Role(enum.StrEnum):
    """Roles of a host."""

    DEV = "dev"


def ids(events: Any) -> list[str]:
    """Return the ID of each event."""
    return [event["event_id"] for event in events]


@pytest.fixture
def three_days(undecided: Any) -> Any:
    """A project without consent, with one event on each of three days, each of another role."""
    fill(
        undecided.home,
        stored(1, "role.selected", role="dev", timestamp="2026-11-21T00:00:00Z"),
        stored(2, "agent.invoked", role="qa", timestamp="2026-11-22T00:00:00Z"),
        stored(3, "role.selected", role="h:0123456789ab", timestamp="2026-11-23T00:00:00Z"),
    )
    return undecided


# -- what is read --------------------------------------------------------------------------------


def test_the_recorded_events_in_order(place: Any) -> None:
    """Each recorded event is a dictionary with its fields as stored; the newest is the last one."""
    place.configure(context={"files": "measure"}, agents=["planner"])
    with role_session("dev"), tracks("agent.invoked", agent="planner", context={"files": 2}):
        record = track_role_event("handoff.clicked", source_agent="jane")
    found = list(read_events())

    assert found == place.events()
    assert [event["event_type"] for event in found] == [
        *("role.selected", "agent.invoked", "handoff.clicked", "agent.completed")
    ]
    assert (found[2], found[1]["context"], found[1]["agent"]) == (record, {"files": 2}, "planner")


def test_archives_sealed_files_and_the_log(undecided: Any) -> None:
    """All files are read, the oldest first. What a sealed file and its archive share comes once."""
    events = [stored(number) for number in range(6)]
    for name, chosen in {
        "telemetry-2026-11-20.jsonl.gz": events[:2],
        "telemetry-2026-11-21.jsonl.gz": events[2:4],
        "telemetry-2026-11-21.jsonl": events[2:4],
        "telemetry.jsonl": events[4:],
    }.items():
        path = fill(undecided.home, *chosen)
        data = path.read_bytes()
        path.unlink()
        path.with_name(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    assert events == list(read_events())
    assert events[1:2] == list(itertools.islice(read_events(), 1, 2))


def test_the_same_as_the_commands(undecided: Any) -> None:
    """`read_events()` yields what `telemetry-kit export` writes, whatever else is in the files."""
    path = fill(undecided.home, *sessions(400))
    lines = path.read_bytes().splitlines(keepends=True)
    original = b'{"event_type": "role.selected", "timestamp": "2026-10-01T10:00:00", "role": "dev"}'
    lines[50:51] = [lines[50][:40], original + b"\n", b"\n\0\0\n"]
    path.write_bytes(b"".join(lines))
    for options, arguments in (
        ((), {}),
        (("--role", "dev"), {"role": "dev"}),
        (
            ("--event", "role.selected", "--since", "2026-10-01"),
            {"event": "role.selected", "since": "2026-10-01"},
        ),
    ):
        done = undecided.python("-m", "telemetry_kit", "export", "--format", "jsonl", *options)
        with pytest.warns(UserWarning, match=r"telemetry\.jsonl: 1 malformed line"):
            found = list(read_events(**arguments))

        assert [json.loads(line) for line in done.stdout.splitlines()] == found
        assert len(found) > 10


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({}, [1, 2, 3]),
        ({"since": "2026-11-22"}, [2, 3]),
        ({"until": "2026-11-22"}, [1, 2]),
        ({"since": date(2026, 11, 22), "until": date(2026, 11, 22)}, [2]),
        ({"since": datetime(2026, 11, 22, 23, 59)}, [2, 3]),
        ({"since": datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=2)))}, [1, 2, 3]),
        ({"until": datetime(2026, 11, 21, 23, tzinfo=UTC)}, [1]),
        ({"since": "2026-11-22T10:20", "until": "today"}, [2, 3]),
        ({"since": "yesterday"}, [2, 3]),
        ({"since": "1w", "until": "2d"}, [1]),
        ({"since": "2m", "until": "1m"}, []),
        ({"role": "dev"}, [1]),
        ({"role": Role.DEV}, [1]),
        ({"role": "h:0123456789ab"}, [3]),
        ({"role": "nobody"}, []),
        ({"event": "role.selected"}, [1, 3]),
        ({"event": RoleEvent.AGENT_INVOKED}, [2]),
        ({"event": "role.selected", "role": "dev", "since": "2026-11-22"}, []),
    ],
    ids=str,
)
def test_selection(three_days: Any, arguments: dict[str, Any], numbers: list[int]) -> None:
    """A period, a role and a type select events, in each form that is accepted."""
    three_days.now.seconds = datetime(2026, 11, 23, tzinfo=UTC).timestamp()

    assert numbers == [int(i, 16) for i in ids(read_events(**arguments))]


def test_a_role_under_its_pseudonym(place: Any) -> None:
    """A role that was not declared is found by its name."""
    with role_session("jane"):
        pass
    found = list(read_events(role="jane"))

    assert [place.key.pseudonym("role", "jane")] == [event["role"] for event in found]


def test_a_project_is_named(three_days: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """`project_root` names a folder inside of another project, as text or as a path."""
    inside = three_days.root / "src"
    inside.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    assert [0, 3, 3] == [len(list(read_events(p))) for p in (None, inside, os.fsencode(inside))]


# -- when ----------------------------------------------------------------------------------------


def test_events_are_read_as_they_are_asked_for(place: Any) -> None:
    """Nothing is read before the first event is asked for, and files are closed with it."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    found = read_events()
    for _ in range(3):
        track_role_event("role.selected", role="dev")
    writing = len(os.listdir("/proc/self/fd")) if before else 0

    assert isinstance(found, types.GeneratorType)
    assert next(found) == place.events()[0]
    found.close()
    assert [] == list(found)
    if before:
        assert writing == len(os.listdir("/proc/self/fd"))


def test_recording_may_be_off(place: Any) -> None:
    """Events are read after consent was withdrawn, and under a veto."""
    track_role_event("role.selected", role="dev")
    disable_telemetry()
    place.environ["DO_NOT_TRACK"] = "1"

    assert ["role.selected"] == [event["event_type"] for event in read_events()]


def test_captured_events_are_not_read(place: Any) -> None:
    """A capture goes into memory; what is read is the log."""
    track_role_event("role.selected", role="dev")
    with capture_events():
        track_role_event("role.selected", role="qa")

        assert ["dev"] == [event["role"] for event in read_events()]


@pytest.mark.parametrize("home", [True, False])
def test_no_data(undecided: Any, home: bool) -> None:
    """Without data, and without a home directory, nothing is yielded and nothing is created."""
    if not home:
        del undecided.environ["HOME"]
    before = undecided.tree()

    assert [] == list(read_events(since="7d", role="dev", event="role.selected"))
    assert before == undecided.tree()


def test_reading_creates_nothing(three_days: Any) -> None:
    """Reading leaves every file as it is."""
    before = three_days.tree(), three_days.log.read_bytes()
    list(read_events(role="dev"))

    assert before == (three_days.tree(), three_days.log.read_bytes())


def test_a_file_that_cannot_be_read(three_days: Any) -> None:
    """The other files are read, and a warning names the one that is damaged."""
    archive = three_days.log.with_name("telemetry-2026-11-20.jsonl.gz")
    other = three_days.log.read_bytes().replace(b'"event_id":"0', b'"event_id":"f')
    archive.write_bytes(gzip.compress(other)[:-20])
    with pytest.warns(UserWarning, match=r"^telemetry_kit: telemetry-2026-11-20\.jsonl\.gz: "):
        found = list(read_events())

    assert ids(found)[-3:] == ["0000000000000001", "0000000000000002", "0000000000000003"]


# -- mistakes ------------------------------------------------------------------------------------

FORMS = "write the day as 2026-11-23, today, yesterday, 7d, 2w or 3m, or as a time of that day"
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "word": ({"since": "last week"}, f"since='last week': {FORMS}"),
    "number": ({"until": 7}, f"until=7: {FORMS}"),
    "day": ({"until": "2026-02-30"}, f"until='2026-02-30': {FORMS}"),
    "empty": ({"since": ""}, f"since='': {FORMS}"),
    "swapped": (
        {"since": "2026-11-23", "until": date(2026, 11, 22)},
        "until=2026-11-22 is before since=2026-11-23: swap them",
    ),
    "role": ({"role": ""}, "role='': give the name of a role"),
    "no role": ({"role": 3}, "role=3: give the name of a role"),
    "folder": ({"project_root": "/nowhere"}, "project_root='/nowhere': there is no such folder"),
    "file": ({"project_root": __file__}, "there is no such folder"),
    "no folder": ({"project_root": 3}, "project_root=3: there is no such folder"),
    "NUL": ({"project_root": "a\0b"}, "there is no such folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_raise_at_the_call(undecided: Any, mistake: str) -> None:
    """An invalid argument raises one clear sentence before anything is read."""
    arguments, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=re.escape(message)):
        read_events(**arguments)


def test_an_unknown_event(undecided: Any) -> None:
    """The error for an unknown event names the nearest ones."""
    with pytest.raises(UnknownEventError, match=r"unknown event 'agent\.invokd': use 'agent\.inv"):
        read_events(event="agent.invokd")


def test_the_program_needs_a_name(undecided: Any) -> None:
    """Without `configure(app=...)` the error names what to call."""
    done = undecided.run(
        "from telemetry_kit import read_events\n"
        "try: read_events()\nexcept ValueError as error: print(error)",
        named=False,
    )

    assert done.stdout == ("the tool has no name: call configure(app=...) before reading\n")
    with configure(app="other"):
        assert [] == list(read_events())
