"""The parser accepts the lines that the writer writes, and reports each other line."""

import gzip
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import newest
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import reader
from telemetry_kit.storage.segments import ReadReport, snapshot
from tests.storage.reader_helpers import (
    COMPRESS,
    DAY,
    event,
    file_report,
    ids,
    line,
    read,
    write_file,
)


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """Create an empty project directory, for the tests that ask for the paths."""
    os.mkdir(home.folder, 0o700)
    return home


def test_a_recorded_event_is_read_back(place):
    """The reader yields the events that the pipeline has written."""
    written = [
        pipeline.emit({"event": "role.selected", "role": "dev"}),
        pipeline.emit({"event": "agent.invoked", "agent": "someone unknown", "role": "dev"}),
    ]

    assert all(written)
    assert list(reader.read(place.home)) == written


def test_a_line_joined_to_a_fragment_is_recovered(home):
    """If a writer is killed inside its line, the next writer's event is recovered."""
    torn = line(2)
    write_file(home, line(1) + torn[:100] + line(3) + torn[:300] + torn[:9] + line(4) + line(5))
    events, problems = read(home)

    assert ids(events) == [1, 3, 4, 5]
    assert file_report(problems).malformed == 2
    assert file_report(problems).recovered == 2
    assert problems.sentences() == [
        "telemetry.jsonl: 2 malformed lines, 2 events recovered from them"
    ]


def test_two_events_on_one_line(home):
    """Two complete events on one line are both read."""
    write_file(home, line(1)[:-1] + line(2) + line(3)[:-1] + b"\x0b" + line(4))

    assert ids(read(home)[0]) == [1, 2, 3, 4]


def test_recovery_needs_an_event(home):
    """Text that resembles an event, or continues after one, is not recovered from a bad line."""
    write_file(
        home,
        b"x" + line(1)[:-1] + b"tail\n"
        b"x"
        + line(2).replace(b"agent.completed", b"agent.exploded")
        + b'x{"schema_version":"1.0","event_id":"1"}\n'
        + b"x"
        + line(3).replace(b"backend", b"b\xc3\xa4ckend"),
    )
    events, problems = read(home)

    assert events == []
    assert file_report(problems).malformed == 4
    assert file_report(problems).recovered == 0


@pytest.mark.parametrize("kind", ["active", "sealed", "archive"])
def test_truncation_at_every_offset(home, kind):
    """A file truncated at any offset yields its complete lines, and the rest is reported."""
    data = line(1) + line(2) + line(3)
    name = "telemetry.jsonl" if kind == "active" else f"telemetry-{DAY}.jsonl"
    ends = [at for at in range(len(data)) if data[at : at + 1] == b"\n"]
    for at in range(len(data) + 1):
        if kind == "archive":
            write_file(home, gzip.compress(data[:at]), f"{name}.gz")
        else:
            write_file(home, data[:at], name)
        events, problems = read(home)
        found = problems.files.popitem()[1]
        whole = sum(end <= at for end in ends)
        torn = at > 0 and at not in ends and data[at - 1 : at] != b"\n"

        assert ids(events) == list(range(1, whole + 1))
        assert found.in_progress == (torn and kind == "active")
        assert found.malformed == (torn and kind != "active")
        assert found.stopped == ""


def test_every_bit_flipped(home):
    """A flipped bit neither raises an error, nor loses another event, nor adds a field."""
    data = line(1) + line(2, context={"requirements": 3}) + line(3)
    start, end = len(line(1)), len(line(1) + line(2, context={"requirements": 3}))
    first, original, last = event(1), event(2, context={"requirements": 3}), event(3)
    for at in range(start, end - 1):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            write_file(home, bytes(flipped))
            events, problems = read(home)

            assert events[0] == first
            assert events[-1] == last
            if len(events) == 2:
                assert file_report(problems).sentence()
            else:
                _, changed, _ = events
                assert problems.sentences() == []
                assert list(changed) == list(original)
                assert json.dumps(changed, separators=(",", ":")).encode() == bytes(
                    flipped[start : end - 1]
                )


def test_a_flipped_line_end(home):
    """If a newline is damaged, the reader still returns only written events."""
    data = line(1) + line(2) + line(3)
    at = len(line(1)) - 1
    for bit in range(8):
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        write_file(home, bytes(flipped))
        events, problems = read(home)

        assert events == [event(1), event(2), event(3)]
        assert file_report(problems).malformed + file_report(problems).recovered in (0, 3)


@given(st.binary(max_size=300), st.sampled_from(["", "gz", "zst"]))
def test_random_bytes(tmp_path_factory, noise, suffix):
    """Random bytes between two events do not affect these events."""
    root = os.path.realpath(tmp_path_factory.mktemp("noise"))
    home = ProjectPaths("flowspec", root, f"{root}/config", f"{root}/state")
    os.mkdir(home.folder, 0o700)
    data = line(1) + noise + b"\n" + line(2)
    name = f"telemetry-{DAY}.jsonl"
    write_file(
        home, COMPRESS[suffix](data) if suffix else data, f"{name}.{suffix}" if suffix else name
    )
    write_file(home, noise, f"telemetry-{DAY}-2.jsonl.gz")
    write_file(home, noise, f"telemetry-{DAY}-3.jsonl.zst")
    write_file(home, noise)
    events, _ = read(home)

    assert ids(events) == [1, 2]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*catalog.ORDER, "metadata", "more"]), _VALUES))
def test_any_json_object(fields):
    """An object with arbitrary values is a valid event or is rejected."""
    for candidate in (fields, {**event(1), **fields}, {"event_type": "role.selected", **fields}):
        found = reader.parse(json.dumps(candidate).encode())

        assert found is None or found["event_type"] in catalog.EVENTS
        if found is not None and "schema_version" in found:
            assert found.keys() <= catalog.FIELDS.keys()


@pytest.mark.parametrize(
    "line_of_no_event",
    [
        b'{"context":{"a":NaN}}',
        b"[]",
        b"3",
        b'"text"',
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        line(1).replace(b":3,", b":NaN,").strip(),
        line(1).replace(b":3,", b":1e999,").strip(),
        line(1).replace(b":3,", b":-Infinity,").strip(),
        line(1).replace(b'"role":"dev"', b'"role":"dev","role":"pm"').strip(),
        line(1).replace(b'"role":"dev"', b'"role":null').strip(),
        line(1).replace(b'"role":"dev"', b'"role":""').strip(),
        line(1).replace(b'"seq":1', b'"seq":true').strip(),
        line(1).replace(b'"seq":1', b'"seq":-1').strip(),
        line(1).replace(b'"outcome":"ok"', b'"outcome":"fine"').strip(),
        line(1).replace(DAY.encode(), b"2026-02-30").strip(),
        line(1).replace(b"T00:00:00Z", b"T00:00:00+00:00").strip(),
        line(1).replace(b"T00:00:00Z", b"T00:00:00.500000Z").strip(),
        line(1).replace(b'"first":true', b'"first":[]').strip(),
        line(1).replace(b'"source"', b'"sauce"').strip(),
        line(1).strip() + b"X",
        line(1).strip() + b"\x0c",
        line(1).replace(b'"event_id"', b'"event_ie"').strip(),
        line(1).replace(b'"schema_version"', b'"schema_versiom"').strip(),
    ],
)
def test_malformed_lines(home, line_of_no_event):
    """Invalid JSON, duplicate keys, deep nesting and schema violations are malformed lines."""
    write_file(home, line(7) + line_of_no_event + b"\n" + line(8))
    events, problems = read(home)

    assert ids(events) == [7, 8]
    assert file_report(problems).malformed == 1


def test_the_smallest_event(home):
    """The four required fields make an event. Without any one of them, the line is rejected."""
    required = ("schema_version", "event_id", "event_type", "timestamp")
    whole = {name: event(1)[name] for name in required}
    write_file(home, encode(whole) + line(2))
    assert ids(read(home)[0]) == [1, 2]
    for name in required[1:]:
        write_file(
            home, encode({key: value for key, value in whole.items() if key != name}) + line(2)
        )

        assert ids(read(home)[0]) == [2]


MEASURES = [row for row in catalog.FIELDS.values() if row.kind == catalog.MEASURE]


@pytest.mark.parametrize("field", MEASURES, ids=[row.name for row in MEASURES])
def test_the_range_of_a_number(home, field):
    """The lowest and the highest number of the range are accepted, the next ones are rejected."""
    lowest, highest = field.domain
    for number in (lowest - 1, lowest, highest, highest + 1):
        write_file(home, line(1, **{field.name: number}))

        assert [1] * (lowest <= number <= highest) == ids(read(home)[0])


@pytest.mark.parametrize(("length", "is_accepted"), [(1, True), (1_024, True), (1_025, False)])
def test_the_length_of_a_name(home, length, is_accepted):
    """A name has 1 to 1,024 characters."""
    write_file(home, line(1, role="x" * length))

    assert [1] * is_accepted == ids(read(home)[0])


def test_a_line_of_another_version(home):
    """A line of a later schema version is reported as such and not as malformed."""
    write_file(home, line(1).replace(b'"1.0"', b'"1.1"') + line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert problems.sentences() == ["telemetry.jsonl: 1 line of another version"]


def test_line_ends_marks_and_nuls(home):
    """CRLF, byte order marks, blank lines and NUL bytes cost no event and are no problem."""
    bom = b"\xef\xbb\xbf"
    data = [
        bom + line(1)[:-1] + b"\r\n",
        b"\r\n\n  \n",
        bom + line(2),
        b"\0" * 5_000 + line(3),
        line(4)[:-1] + b"\0" * 200_000,
        line(5)[:-1] + b"\r",
    ]
    write_file(home, b"".join(data))
    events, problems = read(home)

    assert ids(events) == [1, 2, 3, 4, 5]
    assert problems.sentences() == []


def test_a_nul_inside_a_line_is_not_removed(home):
    """NUL bytes inside a value make the line malformed. They are not removed from it."""
    write_file(home, line(1).replace(b"backend-", b"back\0\0\0\0") + line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert file_report(problems).malformed == 2


def test_the_last_line_without_a_newline(home):
    """A complete last line is an event.

    An incomplete one is in progress in the active log only.
    """
    write_file(home, line(1)[:-1], f"telemetry-{DAY}.jsonl")
    write_file(home, line(2) + line(3)[:-1])

    assert ids(read(home)[0]) == [1, 2, 3]

    write_file(home, line(1)[:50], f"telemetry-{DAY}.jsonl")
    write_file(home, line(2) + line(3)[:50])
    events, problems = read(home)

    assert ids(events) == [2]
    assert file_report(problems).in_progress
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl: 1 malformed line"]
    assert problems.malformed == 1


def test_an_event_joined_to_an_overlong_line(home):
    """The reader recovers an event that is joined to an overlong line."""
    write_file(home, line(1) + b"x" * 3_000_000 + line(2) + line(3))
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == [
        "telemetry.jsonl: 1 line over 1.05 MB, 1 event recovered from them"
    ]


@pytest.mark.parametrize(
    ("separator", "expected"), [(b"", [1, 2, 3]), (b"?", [1, 2, 3]), (b"xy", [2, 3])]
)
def test_an_event_before_other_bytes(home, separator, expected):
    """In a damaged line, an event is accepted before the next event or before one extra byte."""
    write_file(home, b"torn" + line(1)[:-1] + separator + line(2)[:-1] + line(3))

    assert ids(read(home)[0]) == expected


def test_many_events_in_one_damaged_line(home):
    """Each complete event in a damaged line is recovered, in order."""
    whole = [line(number)[:-1] for number in range(1, 6)]
    write_file(home, b"torn" + whole[0] + whole[1] + whole[2][:200] + whole[3] + whole[4] + b"\n")
    events, problems = read(home)

    assert ids(events) == [1, 2, 4, 5]
    assert (file_report(problems).malformed, file_report(problems).recovered) == (1, 4)


def test_the_sentences_of_a_report(home):
    """The report has one sentence for each file, with singular and plural.

    The read error is last.
    """
    long = b"x" * 1_100_000 + b"\n"
    later = line(1).replace(b'"1.0"', b'"2.0"')
    write_file(home, b"bad\n" * 1_200 + long * 2 + later * 2 + b"torn" + line(1))
    write_file(home, b"bad\n" + long + later + b"torn" + line(2), f"telemetry-{DAY}.jsonl")
    write_file(home, gzip.compress(line(3) + b"bad\n")[:-4], f"telemetry-{DAY}-2.jsonl.gz")
    _, problems = read(home)

    assert problems.sentences() == [
        (
            f"telemetry-{DAY}.jsonl: 2 malformed lines, 1 line over 1.05 MB, "
            "1 line of another version, 1 event recovered from them"
        ),
        (
            f"telemetry-{DAY}-2.jsonl.gz: 1 malformed line; "
            "the archive is incomplete: the rest is lost"
        ),
        (
            "telemetry.jsonl: 1,201 malformed lines, 2 lines over 1.05 MB, "
            "2 lines of another version, 1 event recovered from them"
        ),
    ]
    assert problems.malformed == 3 + 1 + 1_203


@pytest.mark.parametrize(
    ("extra", "message"), [(0, "1 malformed line"), (1, "1 line over 1.05 MB")]
)
@pytest.mark.parametrize("delivery", ["one", "many"])
def test_the_length_of_a_line(home, extra, message, delivery):
    """A line of exactly 1 MiB is accepted, in one chunk or in many."""
    data = b"x" * ((1 << 20) + extra) + b"\n" + line(1)
    found = ReadReport()
    size = len(data) if delivery == "one" else 1 << 16
    chunks = (data[at : at + size] for at in range(0, len(data), size))

    assert ids(reader.events_in(chunks, found.of("x"))) == [1]
    assert found.sentences() == [f"x: {message}"]


def test_an_incomplete_line_outside_the_active_log(home):
    """Outside the active log, an incomplete line is malformed and not in progress."""
    found = ReadReport()

    assert ids(reader.events_in(iter([line(1) + line(2)[:50]]), found.of("x"))) == [1]
    assert found.sentences() == ["x: 1 malformed line"]


def test_problems_without_reading_all(home):
    """`snapshot()` and `newest()` report the files that cannot be used."""
    os.mkfifo(f"{home.folder}/telemetry-{DAY}.jsonl")
    write_file(home, b"bad\n" + line(1))
    listed, last = ReadReport(), ReadReport()
    pipe = f"telemetry-{DAY}.jsonl: it is not a plain file of yours"

    with snapshot(home, listed) as sources:
        assert [s.segment.name for s in sources] == ["telemetry.jsonl"]
    assert ids(newest(home, 1, Query(), last)) == [1]
    assert listed.sentences() == [pipe]
    assert last.sentences() == [pipe, "telemetry.jsonl: 1 malformed line"]
