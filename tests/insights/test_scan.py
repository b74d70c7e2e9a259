"""Reading fast gives what the reader gives, whatever the lines are."""

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
from telemetry_kit.storage.segments import ACTIVE, Problems, Report


def scanned(chunks, report):
    """The events of the regions, one by one."""
    for region in regions(iter(chunks)):
        if isinstance(region, Region):
            yield from map(parse, region.block.splitlines())
        else:
            yield from read_rest(region, report, ACTIVE)


def selected(home, one, problems):
    """The wanted events, oldest first, as an export gets them."""
    for portion in selection.lines(home, one, problems, Meter()):
        items = portion.data.splitlines() if isinstance(portion, Block) else portion
        yield from (parse(item) if isinstance(item, bytes) else item for item in items)


@given(written.LINES, st.integers(1, 500))
def test_the_same_events_and_problems_as_the_reader(lines, size):
    """Canonical, old, damaged, torn lines; in pieces of any size."""
    data = b"".join(lines)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    expected, report = Report(), Report()

    assert list(reader.events_in(iter(chunks), expected, active=True)) == list(
        scanned(chunks, report)
    )
    assert expected == report


@given(written.LINES)
def test_the_same_counters_as_the_reader(lines):
    """Counting rows is counting events."""
    chunks = [b"".join(lines)]
    counting = Counting(Query())
    for region in regions(iter(chunks)):
        if isinstance(region, Region):
            counting.add_rows(region.rows)
        else:
            for event in read_rest(region, Report(), ACTIVE):
                counting.add_event(event)

    expected = written.counted(reader.events_in(iter(chunks), Report(), active=True))

    assert expected == counting.settle()


@given(written.RECORDS)
def test_a_whole_day_is_one_that_the_reader_takes(record):
    """The faster pattern accepts nothing that the reader refuses, and only midnights."""
    line = encode(record) if "timestamp" in record else b""
    if is_of_whole_days(line):
        assert parse(line.rstrip(b"\n")) == record
        assert record["timestamp"].endswith("T00:00:00Z")


def test_a_line_without_end_is_not_collected(place):
    """A gigabyte without a newline is passed over in bounded pieces."""
    piece = b"x" * 65_536
    report = Report()

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
def test_filters(place, chosen):
    """Each filter leaves what it says, in order, and the newest are the last of it."""
    written.fill(place.home, *written.sessions(2_000))
    one = Query(**chosen)
    expected = [event for event in reader.read(place.home) if one.accepts(event)]

    assert expected == list(selected(place.home, one, Problems()))
    assert expected[::-1][:7] == list(newest(place.home, 7, one, Problems()))


def test_a_context_does_not_pass_for_a_field(place):
    """A filter compares fields, not letters."""
    written.fill(place.home, written.stored(1, context={"role": "dev"}))

    assert list(selected(place.home, Query(fields={"role": "dev"}), Problems())) == []


def test_wanted(place):
    """The counters of a period and a role are those of its events, besides the table of days."""
    written.fill(place.home, *written.sessions(2_000))
    wanted = Query("2026-09-10", "2026-09-30", {"role": "dev"})
    counters = count(place.home, wanted).counters
    expected = written.counted(
        event
        for event in reader.read(place.home)
        if wanted.has_day(event["timestamp"][:10]) and event.get("role") == "dev"
    )
    counters.tables["days"].clear()
    expected.tables["days"].clear()

    assert expected == counters
    assert counters.total("events") > 0


def test_sessions_are_whole(place):
    """The last sessions, newest first, each with all its events."""
    written.fill(place.home, *written.sessions(500))
    by_session = {}
    for event in reader.read(place.home):
        key = event["session_id"]
        by_session[key] = [*by_session.pop(key, []), event]
    expected = list(reversed(by_session.items()))[:4]

    assert expected == list(sessions(place.home, 4, Query(), Problems()))


def sealed_and_packed(home, lines):
    """The lines as a packed, a sealed and an active file; the last line may have no end."""
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
def test_from_the_end_it_is_the_same(chosen, lines):
    """In blocks of any size, whatever lies at their borders; also more than is held at once."""
    with tempfile.TemporaryDirectory() as base:
        home = find("flowspec", base, {"HOME": base})
        sealed_and_packed(home, lines)
        one = Query(**chosen)
        expected, problems = list(selected(home, one, Problems())), Problems()
        for block, held in ((1, 1), (300, 7), (1 << 18, 20_000)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(selection, "_BLOCK_BYTES", block)
                patch.setattr(selection, "_MAX_HELD", held)

                assert expected[::-1] == list(newest(home, 10**30, one, problems))
                assert expected[::-1][:5] == list(newest(home, 5, one, Problems()))


def test_the_newest_are_read_alone(place):
    """However long the log is, only its end is read for the last events."""
    log = written.fill(place.home, *written.sessions(3_000))
    with log.open("r+b") as file:
        file.write(b"x" * 100_000)  # what lies there would be told as damage
    problems = Problems()

    assert len(list(newest(place.home, 20, Query(), problems))) == 20
    assert problems.sentences() == []


def test_a_line_without_end_from_the_end(place):
    """Three megabytes without a newline are passed over; a whole event at their end is found."""
    log = written.fill(place.home, written.stored(1))
    with log.open("ab") as file:
        file.write(b"x" * (3 << 20))
    written.fill(place.home, written.stored(2), written.stored(3))
    problems = Problems()
    found = [event["seq"] for event in newest(place.home, 9, Query(), problems)]

    assert [3, 2, 1] == found
    assert problems.sentences() == [
        "telemetry.jsonl: 1 line over 1 MiB, 1 event recovered from them"
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_sessions_over_the_borders_of_blocks(place, monkeypatch, packed):
    """Sessions are whole in blocks of any size; those that lie far apart come in parts."""
    written.fill(place.home, *written.sessions(400))
    if packed:
        rotation.seal(place.home, "2026-11-23")
        maintenance.maintain(place.home, 36_500, "2026-11-23")
        monkeypatch.setattr(selection, "_MAX_HELD", 7)
    expected = list(sessions(place.home, 9, Query(), Problems()))
    monkeypatch.setattr(selection, "_BLOCK_BYTES", 500)

    assert expected == list(sessions(place.home, 9, Query(), Problems()))

    for name in ("_NEAR_BYTES", "_FAR_BYTES"):
        monkeypatch.setattr(selection, name, 1_000)
    parts = list(sessions(place.home, 10_000, Query(), Problems()))
    total = sum(len(events) for _, events in parts)

    assert len(list(reader.read(place.home))) == total
