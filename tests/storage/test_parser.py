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
    DAY,
    PACKED,
    event,
    ids,
    line,
    put,
    read,
    report,
)


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """With an empty folder of ours."""
    os.mkdir(home.folder, 0o700)
    return home


def test_a_written_record_comes_back_as_it_was(place):
    """What the chain wrote is what the reader yields."""
    written = [
        pipeline.emit({"event": "role.selected", "role": "dev"}),
        pipeline.emit({"event": "agent.invoked", "agent": "someone unknown", "role": "dev"}),
    ]

    assert all(written)
    assert list(reader.read(place.home)) == written


def test_a_line_glued_to_a_torn_one_is_recovered(home):
    """A writer killed inside its line does not cost the next writer's event."""
    torn = line(2)
    put(home, line(1) + torn[:100] + line(3) + torn[:300] + torn[:9] + line(4) + line(5))
    events, problems = read(home)

    assert ids(events) == [1, 3, 4, 5]
    assert report(problems).malformed == 2
    assert report(problems).recovered == 2
    assert problems.sentences() == [
        "telemetry.jsonl: 2 malformed lines, 2 events recovered from them"
    ]


def test_lines_that_lost_their_end_are_two_events(home):
    """Two whole events on one line are both whole."""
    put(home, line(1)[:-1] + line(2) + line(3)[:-1] + b"\x0b" + line(4))

    assert ids(read(home)[0]) == [1, 2, 3, 4]


def test_recovery_needs_an_event(home):
    """What only looks like one, or goes on behind its end, is not taken out of a bad line."""
    put(
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
    assert report(problems).malformed == 4
    assert report(problems).recovered == 0


@pytest.mark.parametrize("kind", ["active", "sealed", "archive"])
def test_truncation_at_every_offset(home, kind):
    """However short the file is cut, the whole lines are read and the rest is accounted for."""
    data = line(1) + line(2) + line(3)
    name = "telemetry.jsonl" if kind == "active" else f"telemetry-{DAY}.jsonl"
    ends = [at for at in range(len(data)) if data[at : at + 1] == b"\n"]
    for at in range(len(data) + 1):
        if kind == "archive":
            put(home, gzip.compress(data[:at]), f"{name}.gz")
        else:
            put(home, data[:at], name)
        events, problems = read(home)
        found = problems.files.popitem()[1]
        whole = sum(end <= at for end in ends)
        torn = at > 0 and at not in ends and data[at - 1 : at] != b"\n"

        assert ids(events) == list(range(1, whole + 1))
        assert found.in_progress == (torn and kind == "active")
        assert found.malformed == (torn and kind != "active")
        assert found.stopped == ""


def test_every_bit_flipped(home):
    """No flipped bit makes the reader raise, lose a neighbour, or invent a field."""
    data = line(1) + line(2, context={"requirements": 3}) + line(3)
    start, end = len(line(1)), len(line(1) + line(2, context={"requirements": 3}))
    first, original, last = event(1), event(2, context={"requirements": 3}), event(3)
    for at in range(start, end - 1):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            put(home, bytes(flipped))
            events, problems = read(home)

            assert events[0] == first
            assert events[-1] == last
            if len(events) == 2:
                assert report(problems).sentence()
            else:
                _, changed, _ = events
                assert problems.sentences() == []
                assert list(changed) == list(original)
                assert json.dumps(changed, separators=(",", ":")).encode() == bytes(
                    flipped[start : end - 1]
                )


def test_a_flipped_line_end(home):
    """Where a newline is no longer one, nothing is returned that was not written."""
    data = line(1) + line(2) + line(3)
    at = len(line(1)) - 1
    for bit in range(8):
        flipped = bytearray(data)
        flipped[at] ^= 1 << bit
        put(home, bytes(flipped))
        events, problems = read(home)

        assert events == [event(1), event(2), event(3)]
        assert report(problems).malformed + report(problems).recovered in (0, 3)


@given(st.binary(max_size=300), st.sampled_from(["", "gz", "zst"]))
def test_random_bytes(tmp_path_factory, noise, ending):
    """Noise between two events is counted or blank; the events around it are read."""
    root = os.path.realpath(tmp_path_factory.mktemp("noise"))
    home = ProjectPaths("flowspec", root, f"{root}/config", f"{root}/state")
    os.mkdir(home.folder, 0o700)
    data = line(1) + noise + b"\n" + line(2)
    name = f"telemetry-{DAY}.jsonl"
    put(home, PACKED[ending](data) if ending else data, f"{name}.{ending}" if ending else name)
    put(home, noise, f"telemetry-{DAY}-2.jsonl.gz")
    put(home, noise, f"telemetry-{DAY}-3.jsonl.zst")
    put(home, noise)
    events, _ = read(home)

    assert ids(events) == [1, 2]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*catalog.ORDER, "metadata", "more"]), _VALUES))
def test_any_json_object(fields):
    """An object with values of any kind is an event of the schema, or none."""
    for made in (fields, {**event(1), **fields}, {"event_type": "role.selected", **fields}):
        found = reader.parse(json.dumps(made).encode())

        assert found is None or found["event_type"] in catalog.EVENTS
        if found is not None and "schema_version" in found:
            assert found.keys() <= catalog.FIELDS.keys()


@pytest.mark.parametrize(
    "bad",
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
def test_what_is_no_event(home, bad):
    """Malformed: not JSON in the strict sense, twice the same key, too deep, or off the schema."""
    put(home, line(7) + bad + b"\n" + line(8))
    events, problems = read(home)

    assert ids(events) == [7, 8]
    assert report(problems).malformed == 1


def test_the_least_event(home):
    """The four fields that every event has are enough; without one of them it is none."""
    least = ("schema_version", "event_id", "event_type", "timestamp")
    whole = {name: event(1)[name] for name in least}
    put(home, encode(whole) + line(2))
    assert ids(read(home)[0]) == [1, 2]
    for name in least[1:]:
        put(home, encode({key: value for key, value in whole.items() if key != name}) + line(2))

        assert ids(read(home)[0]) == [2]


MEASURES = [row for row in catalog.FIELDS.values() if row.kind == catalog.MEASURE]


@pytest.mark.parametrize("field", MEASURES, ids=[row.name for row in MEASURES])
def test_how_large_a_number_may_be(home, field):
    """The lowest and the highest of its range are in it, their neighbours are not."""
    lowest, highest = field.domain
    for number in (lowest - 1, lowest, highest, highest + 1):
        put(home, line(1, **{field.name: number}))

        assert [1] * (lowest <= number <= highest) == ids(read(home)[0])


@pytest.mark.parametrize(("length", "good"), [(1, True), (1_024, True), (1_025, False)])
def test_how_long_a_name_may_be(home, length, good):
    """One character to 1,024."""
    put(home, line(1, role="x" * length))

    assert [1] * good == ids(read(home)[0])


def test_another_version_is_said_to_be_one(home):
    """A line that a later version wrote is not called malformed."""
    put(home, line(1).replace(b'"1.0"', b'"1.1"') + line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert problems.sentences() == ["telemetry.jsonl: 1 line of another version"]


def test_line_ends_marks_and_nuls(home):
    """CRLF, byte order marks, blank lines and NUL runs cost no event and are no problem."""
    bom = b"\xef\xbb\xbf"
    data = [
        bom + line(1)[:-1] + b"\r\n",
        b"\r\n\n  \n",
        bom + line(2),
        b"\0" * 5_000 + line(3),
        line(4)[:-1] + b"\0" * 200_000,
        line(5)[:-1] + b"\r",
    ]
    put(home, b"".join(data))
    events, problems = read(home)

    assert ids(events) == [1, 2, 3, 4, 5]
    assert problems.sentences() == []


def test_a_nul_inside_a_line_is_not_taken_out(home):
    """Bytes that never reached the disk do not make another value of what is left."""
    put(home, line(1).replace(b"backend-", b"back\0\0\0\0") + line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert report(problems).malformed == 2


def test_the_last_line_without_its_end(home):
    """A whole event is used; half of one is in progress in the active log, and only there."""
    put(home, line(1)[:-1], f"telemetry-{DAY}.jsonl")
    put(home, line(2) + line(3)[:-1])

    assert ids(read(home)[0]) == [1, 2, 3]

    put(home, line(1)[:50], f"telemetry-{DAY}.jsonl")
    put(home, line(2) + line(3)[:50])
    events, problems = read(home)

    assert ids(events) == [2]
    assert report(problems).in_progress
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl: 1 malformed line"]
    assert problems.malformed == 1


def test_an_event_behind_a_line_that_is_too_long(home):
    """The end of an overlong line is looked at: an event may be glued to it."""
    put(home, line(1) + b"x" * 3_000_000 + line(2) + line(3))
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == [
        "telemetry.jsonl: 1 line over 1 MiB, 1 event recovered from them"
    ]


@pytest.mark.parametrize(
    ("behind", "expected"), [(b"", [1, 2, 3]), (b"?", [1, 2, 3]), (b"xy", [2, 3])]
)
def test_an_event_with_something_behind_it(home, behind, expected):
    """In a damaged line an event is trusted where the next one, or one odd byte, follows it."""
    put(home, b"torn" + line(1)[:-1] + behind + line(2)[:-1] + line(3))

    assert ids(read(home)[0]) == expected


def test_many_events_in_one_damaged_line(home):
    """Every one that is whole, in order, also between two that are not."""
    whole = [line(number)[:-1] for number in range(1, 6)]
    put(home, b"torn" + whole[0] + whole[1] + whole[2][:200] + whole[3] + whole[4] + b"\n")
    events, problems = read(home)

    assert ids(events) == [1, 2, 4, 5]
    assert (report(problems).malformed, report(problems).recovered) == (1, 4)


def test_counts_are_told_in_words(home):
    """One of a kind and many of it, all kinds in one sentence, the reason for stopping last."""
    long = b"x" * 1_100_000 + b"\n"
    later = line(1).replace(b'"1.0"', b'"2.0"')
    put(home, b"bad\n" * 1_200 + long * 2 + later * 2 + b"torn" + line(1))
    put(home, b"bad\n" + long + later + b"torn" + line(2), f"telemetry-{DAY}.jsonl")
    put(home, gzip.compress(line(3) + b"bad\n")[:-4], f"telemetry-{DAY}-2.jsonl.gz")
    _, problems = read(home)

    assert problems.sentences() == [
        (
            f"telemetry-{DAY}.jsonl: 2 malformed lines, 1 line over 1 MiB, "
            "1 line of another version, 1 event recovered from them"
        ),
        (
            f"telemetry-{DAY}-2.jsonl.gz: 1 malformed line; "
            "the archive is incomplete: the rest is lost"
        ),
        (
            "telemetry.jsonl: 1,201 malformed lines, 2 lines over 1 MiB, "
            "2 lines of another version, 1 event recovered from them"
        ),
    ]
    assert problems.malformed == 3 + 1 + 1_203


@pytest.mark.parametrize(("over", "told"), [(0, "1 malformed line"), (1, "1 line over 1 MiB")])
@pytest.mark.parametrize("pieces", ["one", "many"])
def test_how_long_a_line_may_be(home, over, told, pieces):
    """A line of exactly 1 MiB is not too long, whether it comes in one piece or in many."""
    data = b"x" * ((1 << 20) + over) + b"\n" + line(1)
    found = ReadReport()
    size = len(data) if pieces == "one" else 1 << 16
    chunks = (data[at : at + size] for at in range(0, len(data), size))

    assert ids(reader.events_in(chunks, found.of("x"))) == [1]
    assert found.sentences() == [f"x: {told}"]


def test_a_run_of_lines_is_no_active_log(home):
    """Outside the active log nothing is still being written: half a line is a damaged one."""
    found = ReadReport()

    assert ids(reader.events_in(iter([line(1) + line(2)[:50]]), found.of("x"))) == [1]
    assert found.sentences() == ["x: 1 malformed line"]


def test_problems_without_reading_all(home):
    """`snapshot()` and `newest()` too say which file cannot be used."""
    os.mkfifo(f"{home.folder}/telemetry-{DAY}.jsonl")
    put(home, b"bad\n" + line(1))
    listed, last = ReadReport(), ReadReport()
    pipe = f"telemetry-{DAY}.jsonl: it is not a plain file of yours"

    with snapshot(home, listed) as sources:
        assert [s.segment.name for s in sources] == ["telemetry.jsonl"]
    assert ids(newest(home, 1, Query(), last)) == [1]
    assert listed.sentences() == [pipe]
    assert last.sentences() == [pipe, "telemetry.jsonl: 1 malformed line"]
