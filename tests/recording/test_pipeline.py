"""The pipeline: the event, its metadata, its line and its project."""

import json
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import (
    RoleEvent,
    capture_events,
    configure,
    context,
    track_role_event,
)
from telemetry_kit.consent import cache
from telemetry_kit.errors import Refused
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from tests.recording.pipeline_helpers import HASHED, NAMES, emitted

# -- the record ----------------------------------------------------------------------------------


def test_the_record_is_the_line(place) -> None:
    """`track_role_event()` returns the record that is parsed from its line."""
    record = track_role_event(
        RoleEvent.AGENT_INVOKED, role="dev", command="/x", agent="a", workflow="w"
    )

    assert [record] == place.events()
    assert list(record or ()) == list(place.events()[0])


def test_all_fields_of_a_record(place) -> None:
    """An event has exactly the fields and formats of the design."""
    record = track_role_event("agent.invoked", role="dev", agent="somebody")

    assert record is not None
    assert {
        "schema_version": "1.0",
        "event_id": record["event_id"],
        "event_type": "agent.invoked",
        "timestamp": "2024-02-28T00:00:00Z",
        "seq": record["seq"],
        "role": "dev",
        "agent": place.key.pseudonym("agent", "somebody"),
        "project_id": place.key.pseudonym("project_id", str(place.root)),
        "source": "api",
        "invoker": "person",
        "key_epoch": 1,
    } == record
    assert re.fullmatch("[0-9a-f]{16}", record["event_id"])


@pytest.mark.parametrize("event", RoleEvent)
@pytest.mark.parametrize("form", [RoleEvent, str], ids=["member", "string"])
def test_event_as_member_or_string(place, event: RoleEvent, form: type) -> None:
    """A `RoleEvent` and its string value record the same event type."""
    record = track_role_event(form(event.value), role="dev")

    assert record is not None
    assert (str, event.value) == (type(record["event_type"]), record["event_type"])


@pytest.mark.parametrize(
    "event", ["agent.invokd", "", "x" * 100_000, None, 3, b"agent.invoked", [], object(), "\ud800"]
)
def test_an_unknown_event_writes_nothing(place, event: object) -> None:
    """An unknown event raises nothing and writes nothing at run time."""
    assert None is track_role_event(event)  # type: ignore[arg-type]
    assert place.lines() == []


def test_off_returns_none(undecided) -> None:
    """While recording is off, `track_role_event()` returns None and creates no file."""
    assert None is track_role_event("role.selected", role="dev")
    assert undecided.tree() == []


def test_keys_are_in_schema_order(place) -> None:
    """The keys of a record are in the order of the catalog, in any order of arguments."""
    place.configure(context={"k": "flag"})
    record = emitted(
        "command.completed",
        context={"k": True},
        duration_ms=3,
        exit_code=0,
        outcome="ok",
        **dict.fromkeys(reversed((*NAMES, "previous_role")), "x"),
    )

    assert [f for f in catalog.ORDER if f in record] == list(record)


def test_seq_increases(place) -> None:
    """Sequence numbers strictly increase within a process, across threads too."""
    threads = [
        threading.Thread(target=lambda: [track_role_event("role.selected") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(50):
        track_role_event("role.selected")
    found = [event["seq"] for event in place.events()]

    assert 250 == len(set(found)) == len(found)
    assert sorted(found[200:]) == found[200:]


def test_another_thread_takes_the_last_id(place, monkeypatch) -> None:
    """If another thread takes the last prepared id, the event gets a new one."""

    class Contended(list[str]):
        def pop(self, *_: object) -> str:
            self.clear()
            raise IndexError

    monkeypatch.setattr(pipeline, "_ids", Contended(["0" * 16]))
    with cache.override_runtime(place.environ):
        record = emitted("agent.invoked")

    assert re.fullmatch("[0-9a-f]{16}", record["event_id"])
    assert [record] == place.events()


def test_ids_are_random(place) -> None:
    """No two events have the same id."""
    for _ in range(100):
        track_role_event("role.selected")

    assert len({event["event_id"] for event in place.events()}) == 100


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        (None, "2024-02-28T00:00:00Z"),
        ("day", "2024-02-28T00:00:00Z"),
        ("hour", "2024-02-28T10:00:00Z"),
        ("minute", "2024-02-28T10:20:00Z"),
        ("second", "2024-02-28T10:20:30Z"),
    ],
)
def test_timestamp_is_truncated(place, resolution: str | None, expected: str) -> None:
    """The time is truncated to the configured resolution. The default is the day."""
    place.now.advance(0.999)
    place.configure(timestamp_resolution=resolution)
    record = track_role_event("role.selected")

    assert record is not None
    assert expected == record["timestamp"]


def test_midnight(place) -> None:
    """The date changes at midnight, and changes back if the clock is set back."""
    found = []
    for seconds in (13 * 3600 + 39 * 60 + 29, 1, -1):
        place.now.advance(seconds)
        record = track_role_event("role.selected")
        found.append(record and record["timestamp"][:10])

    assert found == ["2024-02-28", "2024-02-29", "2024-02-28"]


def test_time_zone_does_not_matter(place) -> None:
    """Timestamps are UTC in every time zone."""
    code = (
        "from telemetry_kit import configure, enable_telemetry, track_role_event as t\n"
        "from telemetry_kit.consent import cache\n"
        "configure(timestamp_resolution='hour')\n"
        "enable_telemetry()\n"
        "cache.override_runtime(now=lambda: 1709115630.0).__enter__()\n"
        "print(t('role.selected')['timestamp'])"
    )
    found = {place.run(code, env={"TZ": zone}).stdout for zone in ("UTC", "Asia/Tokyo", "EST5")}

    assert {"2024-02-28T10:00:00Z\n"} == found


def canonical(line: bytes) -> bytes:
    """Encode the event of a line with `json.dumps`."""
    return json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


# -- the line ------------------------------------------------------------------------------------


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys((*NAMES, "previous_role"), st.text(max_size=80)),
            "outcome": st.sampled_from(catalog.OUTCOMES),
            "exit_code": st.integers(-(2**31), 2**31 - 1),
            "duration_ms": st.floats(0, 1e9) | st.integers(0, 10**9),
            "context": st.dictionaries(
                st.sampled_from(["f", "m", "t", "k", "unknown"]),
                st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            ),
        },
    ),
    st.sampled_from(list(catalog.EVENTS)),
)
def test_lines_are_canonical(place, fields: dict, name: str) -> None:
    """Every line equals the output of `json.dumps`: ASCII, no spaces, at most 4,096 bytes."""
    with place.configure(
        context={"f": "flag", "m": "measure", "t": ["a", "ü", '"'], "k": "identifier"},
        agents=['"quoted"', "back\\slash", "ü"],
    ):
        record = pipeline.emit({**fields, "event": name})
    line = place.lines()[-1]

    assert canonical(line) == line == encode(record or {})
    assert record == json.loads(line)
    assert line.startswith(b'{"schema_version":"1.0","event_id":"')
    assert len(line) <= 4096


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ü", "日本", "🦜", "</script>", "a/b", "\u007e"])
def test_declared_names_of_any_script(place, name: str) -> None:
    """A declared name is unchanged after encoding and decoding, in any script."""
    configure(agents=[name])
    track_role_event("agent.invoked", agent=name)

    assert (name, True) == (place.events()[-1]["agent"], place.lines()[-1].isascii())


def test_a_line_has_at_most_4096_bytes(place) -> None:
    """A record over 4,096 bytes loses its context and counts the lost keys."""
    keys = {f"{'k' * 100}{n:02}": "identifier" for n in range(40)}
    place.configure(context=keys)
    record = emitted("agent.invoked", role="dev", context=dict.fromkeys(keys, "x"), unknown=1)

    assert (record["dropped"], "context" in record, record["role"]) == (41, False, "dev")
    assert [record] == place.events()
    assert list(record) == [f for f in catalog.ORDER if f in record]
    assert len(place.lines()[-1]) <= 4096


def test_the_longest_names_fit(place) -> None:
    """Seven declared names of maximum length fit into one line."""
    longest = "x" * 128
    vocabularies = {v: [longest] for v in catalog.VOCABULARIES}
    configure(**vocabularies)
    record = emitted("agent.invoked", **dict.fromkeys((*NAMES, "previous_role"), longest))

    assert longest == record["previous_role"]
    assert len(place.lines()[-1]) <= 4096


# -- projects ------------------------------------------------------------------------------------


def test_project_root_chooses_the_project(place, other: Path) -> None:
    """`project_root` selects the project, whatever the working directory is."""
    for start in (other, str(other), other / "deep/er", os.fsencode(other / "deep")):
        assert track_role_event("role.selected", role="dev", project_root=start)

    assert place.lines() == []
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 4


def test_the_working_directory_chooses_the_project(place, other: Path, monkeypatch) -> None:
    """The working directory selects the project anew for each event."""
    for directory in (other, place.root, other / "deep/er"):
        monkeypatch.chdir(directory)
        track_role_event("role.selected", role="dev")

    assert len(place.lines()) == 1
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 2
    assert not (other / "deep/er/.flowspec").exists()


def test_a_project_without_consent_gets_nothing(place, monkeypatch) -> None:
    """In a project without consent nothing is recorded, there or in another project."""
    undecided_project = place.root.parent / "undecided_project"
    undecided_project.mkdir()
    monkeypatch.chdir(undecided_project)

    assert None is track_role_event("role.selected", role="dev")
    assert (list(undecided_project.iterdir()), place.lines()) == ([], [])


@pytest.mark.parametrize("start", ["/nonexistent/x", "\0", "", "relative/gone"])
def test_no_such_project(place, start: str) -> None:
    """A directory that does not exist records nothing and raises nothing."""
    track_role_event("role.selected", project_root=start)

    assert not os.path.exists("/nonexistent")


def test_a_deleted_working_directory(place, monkeypatch) -> None:
    """In a deleted working directory nothing is recorded and nothing is raised."""
    gone = place.root / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert None is track_role_event("role.selected", role="dev")
    assert track_role_event("role.selected", role="dev", project_root=place.root)


def test_each_app_has_its_own_project(place) -> None:
    """`configure(app=...)` changes the folder, the consent and the key."""
    from telemetry_kit.consent import changes

    with configure(app="acme"):
        assert None is track_role_event("role.selected", role="dev")
        changes.enable_telemetry()
        record = track_role_event("agent.invoked", agent="x")
        assert [record] == place.events()
        assert str(place.root / ".acme/telemetry.jsonl") == place.home.log
    again = track_role_event("agent.invoked", agent="x")

    assert again is not None
    assert record is not None
    assert record["agent"] != again["agent"]


def test_key_epoch_is_that_of_the_key(place) -> None:
    """`key_epoch` is the epoch of the key that made the pseudonyms of the line."""
    from telemetry_kit.consent import changes

    first = emitted("agent.invoked", agent="x")
    changes.clear(place.home)
    second = emitted("agent.invoked", agent="x")

    assert (first["key_epoch"], second["key_epoch"]) == (1, 2)
    assert (place.key.pseudonym("agent", "x"), [second]) == (second["agent"], place.events())


def test_a_clear_before_the_log_is_open(place, monkeypatch) -> None:
    """If a clear replaces the key before the log is open, the recorder loads the new key."""
    from telemetry_kit.consent import changes
    from telemetry_kit.storage.writer import LogWriter

    opened, real = [], LogWriter.open

    def clear_and_open(writer: LogWriter) -> None:
        if not opened:
            opened.append(changes.clear(place.home))
        real(writer)

    monkeypatch.setattr(LogWriter, "open", clear_and_open)
    event = emitted("agent.invoked", agent="x")

    assert opened == [[]]
    assert (event["key_epoch"], place.key.epoch) == (2, 2)
    assert place.key.pseudonym("agent", "x") == event["agent"]


def test_run_raises_with_a_reason(undecided) -> None:
    """The direct driver raises `Refused` with a reason."""
    with pytest.raises(Refused) as caught:
        pipeline.run({"event": "role.selected"})

    assert caught.value.reason


def test_the_processors_in_order() -> None:
    """The pipeline has six processors in a fixed order."""
    assert [processor.__name__ for processor in pipeline.PROCESSORS] == [
        "check_consent",
        "validate",
        "add_metadata",
        "add_context",
        "pseudonymize",
        "write",
    ]


@pytest.fixture
def checked_event():
    """An event after `check_consent`, and the capture that it goes to."""
    with capture_events() as captured:
        yield pipeline.check_consent(None, "info", {"event": "agent.invoked"}), captured


# -- each processor alone ------------------------------------------------------------------------


def test_check_consent_alone(place) -> None:
    """`check_consent` adds the metadata with a recorder and changes nothing else."""
    event = pipeline.check_consent(None, "info", {"event": "agent.invoked", "agent": "x"})
    metadata = event.pop(pipeline.METADATA)

    assert event == {"event": "agent.invoked", "agent": "x"}
    assert (metadata.source, metadata.scope) == ("api", None)
    assert metadata.recorder.key.equals(place.key)


def test_check_consent_alone_when_off(undecided) -> None:
    """While recording is off, `check_consent` raises `Refused`."""
    with pytest.raises(Refused):
        pipeline.check_consent(None, "info", {"event": "agent.invoked"})


def test_validate_alone(checked_event) -> None:
    """`validate` keeps known fields with valid values and counts the others."""
    event, captured = checked_event
    given = {**event, "agent": "x", "exit_code": "many", "unknown": 1, "role": None}
    valid = pipeline.validate(None, "info", given)
    valid.pop(pipeline.METADATA)

    assert sorted(valid) == [
        *("agent", "dropped", "event_type", "invoker", "key_epoch", "project_id"),
        *("schema_version", "source"),
    ]
    assert (valid["agent"], valid["dropped"]) == ("x", 2)
    assert captured.dropped == [("agent.invoked", "exit_code"), ("agent.invoked", "unknown")]


def test_add_metadata_alone(checked_event) -> None:
    """`add_metadata` adds the id, the time and the sequence number."""
    first = pipeline.add_metadata(None, "info", dict(checked_event[0]))
    second = pipeline.add_metadata(None, "info", dict(checked_event[0]))

    assert set(first) - set(checked_event[0]) == {"event_id", "timestamp", "seq"}
    assert (second["seq"] - first["seq"], first["event_id"] == second["event_id"]) == (1, False)


def test_add_context_alone(checked_event) -> None:
    """`add_context` adds the fields of the scope that the event does not have."""
    event, _ = checked_event
    scope = context.Scope(None, None, {"role": "dev", "agent": "x"}, "s" * 12, "p" * 12)
    metadata = pipeline.EventMetadata(scope=scope, span_id="i" * 12)
    metadata.recorder = event[pipeline.METADATA].recorder
    found = pipeline.add_context(None, "info", {"agent": "y", pipeline.METADATA: metadata})
    found.pop(pipeline.METADATA)

    assert found == {
        "agent": "y",
        "role": "dev",
        "span_id": "i" * 12,
        "session_id": "s" * 12,
        "parent_id": "p" * 12,
    }


def test_pseudonymize_alone(checked_event) -> None:
    """`pseudonymize` keeps declared names and replaces all others."""
    event = pipeline.pseudonymize(None, "info", {**checked_event[0], "role": "dev", "agent": "x"})

    assert (event["role"], bool(HASHED.fullmatch(event["agent"]))) == ("dev", True)
    assert checked_event[1].undeclared == [("agent", "x")]


@pytest.mark.parametrize("formatted", [True, False])
def test_write_alone(checked_event, formatted: bool) -> None:
    """`write` writes one line in field order and returns the record without metadata."""
    event = pipeline.validate(None, "info", {**checked_event[0], "role": "dev"})
    event = pipeline.pseudonymize(None, "info", pipeline.add_metadata(None, "info", event))
    if not formatted:
        event[pipeline.METADATA].line_format = None
    record = pipeline.write(None, "info", event)

    assert [f for f in catalog.ORDER if f in record] == list(record)
    assert checked_event[1].lines == [encode(record)]


def test_an_internal_error_is_silent_in_a_host(place) -> None:
    """An internal error raises and prints nothing in a host."""
    code = (
        "import sys\nfrom telemetry_kit import track_role_event\n"
        "from telemetry_kit.recording import pipeline\n"
        "def broken(*_): raise ZeroDivisionError('secret')\n"
        "pipeline.PROCESSORS = (broken, *pipeline.PROCESSORS[1:])\n"
        "print(track_role_event('role.selected'))\n"
    )

    done = place.run(code)

    assert (done.stdout, done.stderr) == ("None\n", "")


def test_an_internal_error_is_raised_under_pytest(place, monkeypatch) -> None:
    """Under pytest an internal error is raised."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "PROCESSORS", (broken, *pipeline.PROCESSORS[1:]))
    with pytest.raises(ZeroDivisionError):
        track_role_event("role.selected")
