"""The scanner gives the same events and problems as the reader, for all lines."""

import tempfile

import pytest
import written
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_kit.insights import selection
from telemetry_kit.insights.counting import Counting, count
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.scanner import Region, is_of_whole_days, read_rest, regions
from telemetry_kit.insights.selection import Block, Meter, newest, sessions
from telemetry_kit.paths import find
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import maintenance, reader, rotation
from telemetry_kit.storage.parser import parse
from telemetry_kit.storage.segments import ACTIVE, FileReport, ReadReport


def scanned(chunks, report):
    """Yield the events of the regions."""
    for region in regions(iter(chunks)):
        if isinstance(region, Region):
            yield from map(parse, region.block.splitlines())
        else:
            yield from read_rest(region, report, ACTIVE)


def selected(home, one, problems):
    """Yield the accepted events, oldest first, as an export does."""
    for portion in selection.lines(home, one, problems, Meter()):
        items = portion.data.splitlines() if isinstance(portion, Block) else portion
        yield from (parse(item) if isinstance(item, bytes) else item for item in items)


@given(written.LINES, st.integers(1, 500))
def test_the_same_events_and_problems_as_the_reader(lines, size):
    """The lines are canonical, old, damaged or torn, and the pieces have any size."""
    data = b"".join(lines)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    expected, report = FileReport(), FileReport()

    assert list(reader.events_in(iter(chunks), expected, active=True)) == list(
        scanned(chunks, report)
    )
    assert vars(expected) == vars(report)


@given(written.LINES)
def test_the_same_counters_as_the_reader(lines):
    """The counters of rows are those of the events."""
    chunks = [b"".join(lines)]
    counting = Counting(Query())
    for region in regions(iter(chunks)):
        if isinstance(region, Region):
            counting.add_rows(region.rows)
        else:
            for event in read_rest(region, FileReport(), ACTIVE):
                counting.add_event(event)

    expected = written.counted_with_sessions(
        reader.events_in(iter(chunks), FileReport(), active=True)
    )
    counters = counting.settle()
    counters.count_sessions(len(counting.sessions))

    assert expected == counters


@given(written.RECORDS)
def test_a_line_of_a_whole_day_is_accepted_by_the_reader(record):
    """The faster pattern accepts only midnights, and no line that the reader rejects."""
    line = encode(record) if "timestamp" in record else b""
    if is_of_whole_days(line):
        assert parse(line.rstrip(b"\n")) == record
        assert record["timestamp"].endswith("T00:00:00Z")


def test_a_line_without_end_is_not_collected(place):
    """A very long line without an end is skipped in bounded pieces."""
    piece = b"x" * 65_536
    report = FileReport()

    assert list(scanned((piece for _ in range(200)), report)) == []
    assert report.malformed + report.too_long + report.in_progress == 1


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"since": "2026-09-20"},
        {"since": "2026-09-20", "until": "2026-09-21"},
        {"fields": {"role": "dev"}},
        {"fields": {"event_type": "agent.failed", "agent": "backend-engineer"}},
        {"fields": {"command": "/qa:check"}, "until": "2026-09-10"},
        {"fields": {"role": "nobody"}},
    ],
)
def test_queries(place, chosen):
    """Each query selects its events in order, and the newest are the last of them."""
    written.fill(place.home, *written.sessions(2_000))
    one = Query(**chosen)
    expected = [event for event in reader.read(place.home) if one.accepts(event)]

    assert expected == list(selected(place.home, one, ReadReport()))
    assert expected[::-1][:7] == list(newest(place.home, 7, one, ReadReport()))


def test_a_context_key_is_not_a_field(place):
    """A query compares fields, not text."""
    written.fill(place.home, written.stored(1, context={"role": "dev"}))

    assert list(selected(place.home, Query(fields={"role": "dev"}), ReadReport())) == []


def test_counts_of_a_query(place):
    """The counters of a query are those of its events, except for the table of days."""
    written.fill(place.home, *written.sessions(2_000))
    query = Query("2026-09-10", "2026-09-30", {"role": "dev"})
    counters = count(place.home, query).counters
    expected = written.counted_with_sessions(
        event
        for event in reader.read(place.home)
        if query.has_day(event["timestamp"][:10]) and event.get("role") == "dev"
    )
    counters.tables["days"].clear()
    expected.tables["days"].clear()

    assert expected == counters
    assert counters.total("events") > 0


def test_sessions_are_whole(place):
    """The last sessions come newest first, each with all its events."""
    written.fill(place.home, *written.sessions(500))
    by_session = {}
    for event in reader.read(place.home):
        key = event["session_id"]
        by_session[key] = [*by_session.pop(key, []), event]
    expected = list(reversed(by_session.items()))[:4]

    assert expected == list(sessions(place.home, 4, Query(), ReadReport()))


def rotated_and_compressed(home, lines):
    """Write the lines as an archive, a rotated and an active file."""
    third = len(lines) // 3
    for at, step in ((0, "pack"), (third, "seal"), (2 * third, "")):
        written.fill(home)
        with open(home.log, "ab") as log:
            log.write(b"".join(lines[at : at + third] if step else lines[at:]))
        if step:
            rotation.seal(home, "2026-11-23")
        if step == "pack":
            maintenance.maintain(home, 36_500, "2026-11-23")


@pytest.mark.parametrize("chosen", [{}, {"fields": {"role": "dev"}}], ids=["all", "role"])
@settings(max_examples=25)
@given(written.LINES)
def test_reading_from_the_end(chosen, lines):
    """The events are the same in blocks of any size, also if they do not fit in memory at once."""
    with tempfile.TemporaryDirectory() as base:
        home = find("flowspec", base, {"HOME": base})
        rotated_and_compressed(home, lines)
        one = Query(**chosen)
        expected, problems = list(selected(home, one, ReadReport())), ReadReport()
        for block, max_held in ((1, 1), (300, 7), (1 << 18, 20_000)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(selection, "_BLOCK_BYTES", block)
                patch.setattr(selection, "_MAX_HELD", max_held)

                assert expected[::-1] == list(newest(home, 10**30, one, problems))
                assert expected[::-1][:5] == list(newest(home, 5, one, ReadReport()))


def test_the_newest_events_are_read_from_the_end(place):
    """Only the end of a log is read for the last events."""
    log = written.fill(place.home, *written.sessions(3_000))
    with log.open("r+b") as file:
        file.write(b"x" * 100_000)  # would be reported as damage
    problems = ReadReport()

    assert len(list(newest(place.home, 20, Query(), problems))) == 20
    assert problems.sentences() == []


def test_a_line_without_end_from_the_end(place):
    """A line of three megabytes is skipped, and a complete event at its end is found."""
    log = written.fill(place.home, written.stored(1))
    with log.open("ab") as file:
        file.write(b"x" * (3 << 20))
    written.fill(place.home, written.stored(2), written.stored(3))
    problems = ReadReport()
    found = [event["seq"] for event in newest(place.home, 9, Query(), problems)]

    assert [3, 2, 1] == found
    assert problems.sentences() == [
        "telemetry.jsonl: 1 line over 1.05 MB, 1 event recovered from them"
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_sessions_over_the_borders_of_blocks(place, monkeypatch, compressed):
    """Sessions are whole in blocks of any size. A session that is far apart is split."""
    written.fill(place.home, *written.sessions(400))
    if compressed:
        rotation.seal(place.home, "2026-11-23")
        maintenance.maintain(place.home, 36_500, "2026-11-23")
        monkeypatch.setattr(selection, "_MAX_HELD", 7)
    expected = list(sessions(place.home, 9, Query(), ReadReport()))
    monkeypatch.setattr(selection, "_BLOCK_BYTES", 500)

    assert expected == list(sessions(place.home, 9, Query(), ReadReport()))

    for name in ("_NEAR_BYTES", "_FAR_BYTES"):
        monkeypatch.setattr(selection, name, 1_000)
    parts = list(sessions(place.home, 10_000, Query(), ReadReport()))
    total = sum(len(events) for _, events in parts)

    assert len(list(reader.read(place.home))) == total
