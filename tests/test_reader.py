"""The reader: every event once and in order, whatever the files hold."""

import gzip
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import telemetry_kit
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import newest
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import compression, reader, rotation
from telemetry_kit.storage.segments import ReadReport, snapshot

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKAGE = Path(telemetry_kit.__file__).parent
DAY = "2026-11-22"
_numbers = itertools.count(1)


def event(number=None, **fields):
    """A record as the chain writes it; its id is its number."""
    number = next(_numbers) if number is None else number
    given = {
        "schema_version": "1.0",
        "event_id": f"{number:016x}",
        "event_type": "agent.completed",
        "timestamp": f"{DAY}T00:00:00Z",
        "seq": number,
        "role": "dev",
        "command": "/dev:build",
        "agent": "backend-engineer",
        "project_id": "h:0123456789ab",
        "session_id": "0123456789ab",
        "outcome": "ok",
        "duration_ms": 16,
        "source": "decorator",
        "key_epoch": 1,
        "context": {"requirements": 3, "share": 0.5, "first": True, "task": "h:0123456789ab"},
        **fields,
    }
    return {name: given[name] for name in catalog.ORDER if name in given}


def line(number=None, **fields):
    return encode(event(number, **fields))


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """With an empty folder of ours."""
    os.mkdir(home.folder, 0o700)
    return home


def put(home, data, name="telemetry.jsonl"):
    path = f"{home.folder}/{name}"
    with open(path, "wb") as file:
        file.write(data)
    return path


def read(home):
    """Everything, with the problems."""
    problems = ReadReport()
    return list(reader.read(home, problems)), problems


def ids(events):
    return [int(found["event_id"], 16) for found in events]


def report(problems, name="telemetry.jsonl"):
    return problems.files[name]


def zstd_packed(data, level=3):
    named = zstd.CompressionParameter
    return zstd.compress(data, options={named.compression_level: level, named.checksum_flag: 1})


PACKED = {"gz": lambda data: gzip.compress(data, mtime=0), "zst": zstd_packed}
by_packing = pytest.mark.parametrize("ending", PACKED)


# -- which files -----------------------------------------------------------------------------


def test_no_folder_holds_nothing(tmp_path):
    """Where nothing was ever recorded, nothing is read, made or wrong."""
    root = os.path.realpath(tmp_path)
    found = ProjectPaths("flowspec", root, f"{root}/config", f"{root}/state")

    events, problems = read(found)

    assert (events, problems.files) == ([], {})
    with snapshot(found, ReadReport()) as sources:
        assert sources == []
    assert os.listdir(root) == []


def test_segments_stand_in_order(home):
    """By day, then by number as a number; the active log is last, other files are none."""
    names = [
        "telemetry-2026-11-21-10.jsonl.gz",
        "telemetry-2026-11-22.jsonl",
        "telemetry-2026-11-21.jsonl.gz",
        "telemetry-2026-11-21-2.jsonl.gz",
        "telemetry-2026-11-22-2.jsonl",
        "telemetry-2025-12-31-11.jsonl",
    ]
    for number, name in enumerate(names):
        data = line(number)
        put(home, gzip.compress(data) if name.endswith(".gz") else data, name)
    put(home, line(9))
    for other in ("telemetry.toml", ".telemetry-x.tmp", "telemetry-2026.jsonl", ".telemetry.lock"):
        put(home, b"no event", other)
    events, problems = read(home)

    with snapshot(home, ReadReport()) as sources:
        found = [source.segment.name for source in sources]

    assert found == [
        "telemetry-2025-12-31-11.jsonl",
        "telemetry-2026-11-21.jsonl.gz",
        "telemetry-2026-11-21-2.jsonl.gz",
        "telemetry-2026-11-21-10.jsonl.gz",
        "telemetry-2026-11-22.jsonl",
        "telemetry-2026-11-22-2.jsonl",
        "telemetry.jsonl",
    ]
    assert ids(events) == [5, 2, 3, 0, 1, 4, 9]
    assert problems.sentences() == []


def test_the_sealed_file_wins(home):
    """An archive beside its sealed file is the work of an archiver that died: not read."""
    put(home, line(1) + line(2), f"telemetry-{DAY}.jsonl")
    put(home, gzip.compress(line(1))[:-9], f"telemetry-{DAY}.jsonl.gz")
    put(home, gzip.compress(line(3)), f"telemetry-{DAY}-2.jsonl.gz")
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == []


def test_one_inode_is_read_once(home):
    """A file with two names is one file."""
    path = put(home, line(1))
    os.link(path, f"{home.folder}/telemetry-{DAY}.jsonl")

    assert ids(read(home)[0]) == [1]


@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "folder"])
def test_only_plain_files_are_opened(home, tmp_path, kind):
    """Whatever else bears a segment's name is left alone, and said to be wrong."""
    elsewhere = tmp_path / "elsewhere.jsonl"
    path = f"{home.folder}/telemetry-{DAY}.jsonl"
    if kind == "symlink":
        elsewhere.write_bytes(line(7))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    else:
        os.symlink(elsewhere, path)
    put(home, line(1))
    events, problems = read(home)

    assert ids(events) == [1]
    assert next(iter(problems.files)) == f"telemetry-{DAY}.jsonl"
    assert len(problems.sentences()) == 1
    assert elsewhere.exists() == (kind == "symlink")


def test_a_linked_folder_is_not_followed(home, tmp_path):
    """A folder that is a symbolic link is nobody's journal."""
    put(home, line(1))
    os.rename(home.folder, tmp_path / "moved")
    os.symlink(tmp_path / "moved", home.folder)
    events, problems = read(home)

    assert events == []
    assert len(problems.sentences()) == 1


def test_an_archive_deleted_meanwhile_is_no_problem(home):
    """What retention or `clear` takes away while we read is gone, and nothing is wrong."""
    put(home, line(1), "telemetry-2026-11-21.jsonl")
    path = put(home, gzip.compress(line(2)), f"telemetry-{DAY}.jsonl.gz")
    put(home, line(3))
    problems = ReadReport()
    events = reader.read(home, problems)
    first = next(events)
    os.unlink(path)

    assert ids([first, *events]) == [1, 3]
    assert problems.sentences() == []


def test_what_is_cleared_while_reading_was_there(home):
    """The log of the moment of opening is read to its end of that moment."""
    path = put(home, line(1) + line(2))
    events = reader.read(home)
    first = next(events)
    with open(path, "ab") as log:
        log.write(line(3))
    os.unlink(path)

    assert ids([first, *events]) == [1, 2]


def test_nothing_is_written_and_no_file_stays_open(home):
    """Reading, to the end or not, leaves the folder and the process as they were."""
    put(home, line(1), f"telemetry-{DAY}.jsonl")
    put(home, line(2) + b"torn")
    before = sorted(os.listdir(home.folder)), sorted(os.listdir("/dev/fd"))
    read(home)
    next(reader.read(home))
    next(newest(home, 1, Query(), ReadReport()))
    with snapshot(home, ReadReport()) as sources:
        assert len(sources) == 2

    assert (sorted(os.listdir(home.folder)), sorted(os.listdir("/dev/fd"))) == before


def test_newest_reads_no_more_files_than_it_needs(home):
    """The last events, newest first, across files; an older broken one is not even opened."""
    put(home, b"\xff\xff", "telemetry-2026-11-20.jsonl.gz")
    put(home, line(1) + line(2), f"telemetry-{DAY}.jsonl")
    put(home, line(3) + line(4))
    problems = ReadReport()

    assert ids(newest(home, 1, Query(), problems)) == [4]
    assert ids(newest(home, 3, Query(), problems)) == [4, 3, 2]
    assert problems.sentences() == []
    assert ids(newest(home, 10**30, Query(), problems)) == [4, 3, 2, 1]
    assert len(problems.sentences()) == 1


def test_each_event_once_while_sealing_goes_on(home):
    """A reader beside a writer and a sealer sees a gapless beginning of the sequence."""
    stop = threading.Event()
    wrong = []

    def write_and_seal():
        for number in range(3_000):
            fd = os.open(home.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(fd, line(number))
            os.close(fd)
            if number % 50 == 49:
                rotation.seal(home, DAY)
        stop.set()

    writer = threading.Thread(target=write_and_seal)
    writer.start()
    rounds = 0
    while not stop.is_set():
        found = ids(reader.read(home))
        wrong += [] if found == list(range(len(found))) else [found]
        rounds += 1
    writer.join()

    assert wrong == []
    assert rounds > 1
    assert ids(reader.read(home)) == list(range(3_000))


def test_a_held_lock_is_not_waited_for(home):
    """While another process is at work the reader reads all the same."""
    put(home, line(1), f"telemetry-{DAY}.jsonl")
    with rotation.maintenance(home):
        assert ids(read(home)[0]) == [1]


# -- lines -----------------------------------------------------------------------------------


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


# -- archives --------------------------------------------------------------------------------


@by_packing
def test_concatenated_archives(home, ending):
    """Members behind each other, with padding, are one file; a line may cross them."""
    data = line(1) + line(2)
    packed = [PACKED[ending](part) for part in (data[:100], data[100:], b"", line(3))]
    put(home, b"\0\0".join(packed) + b"\0" * 600, f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == []


@by_packing
def test_a_truncated_archive_at_every_offset(home, ending):
    """A cut archive gives the events before the cut, and says that it is cut."""
    name = f"telemetry-{DAY}.jsonl.{ending}"
    packed = PACKED[ending](b"".join(line(number) for number in range(20)))
    for at in range(1, len(packed)):
        put(home, packed[:at], name)
        events, problems = read(home)

        assert ids(events) == list(range(len(events)))
        assert problems.sentences() != []


@by_packing
def test_an_archive_with_flipped_bits(home, ending):
    """What a damaged archive gives is what was packed, or is said to be damaged."""
    name = f"telemetry-{DAY}.jsonl.{ending}"
    whole = [event(number) for number in range(3)]
    packed = PACKED[ending](b"".join(line(number) for number in range(3)))
    for at in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[at] ^= 1 << bit
            put(home, bytes(flipped), name)
            events, problems = read(home)

            assert events == whole or problems.sentences()


@by_packing
def test_an_archive_longer_than_a_piece(home, ending):
    """Lines that fill many pieces of what is unpacked at once come out whole."""
    put(home, PACKED[ending](b"".join(map(line, range(5_000)))), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == list(range(5_000))
    assert problems.sentences() == []


@by_packing
def test_garbage_behind_an_archive(home, ending):
    """What follows an archive and is none is a problem; the events before it are read."""
    put(home, PACKED[ending](line(1)) + b"garbage", f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1]
    assert len(problems.sentences()) == 1


@by_packing
def test_noise_for_an_archive(home, ending):
    """Bytes that never were an archive are a problem of that file alone."""
    put(home, os.urandom(1_000), f"telemetry-{DAY}.jsonl.{ending}")
    put(home, line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert len(problems.sentences()) == 1


def test_an_archive_that_this_python_cannot_read(home):
    """Without any zstd, an archive of it is named with what to do; the rest is read."""
    name = f"telemetry-{DAY}.jsonl.zst"
    packed = zstd_packed(line(1))
    put(home, packed, name)
    put(home, line(2))
    # Without the backport, and below the version that has its own.
    hide = 'import sys\nsys.version_info = (3, 13)\nsys.modules["backports.zstd"] = None\n'
    done = subprocess.run(
        [sys.executable, "-c", hide + _MEASURED, home.root],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
    )
    events, _, said = done.stdout.rstrip().split(" ", 2)

    assert events == "1"
    assert said == (
        f"{name}: it is compressed with zstd, which this Python cannot read: "
        "use Python 3.14 or later, or install backports.zstd"
    )
    assert Path(home.folder, name).read_bytes() == packed


def test_no_module_of_the_host_unpacks(home, tmp_path, monkeypatch):
    """Where the interpreter has no zstd, a host's own `compression` is not loaded."""
    (tmp_path / "compression.py").write_text("raise SystemExit('loaded')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13))
    put(home, zstd_packed(line(1)), f"telemetry-{DAY}.jsonl.zst")
    monkeypatch.setattr(compression, "READING", ("compression.zstd",))
    events, problems = read(home)

    assert events == []
    assert "compressed with zstd" in problems.sentences()[0]


@by_packing
def test_a_bomb_is_left_unread(home, ending):
    """An archive that unpacks to far more than it should is left where that is certain."""
    bomb = PACKED[ending](line(1) + b"\n" * (20 << 20))
    put(home, bomb, f"telemetry-{DAY}.jsonl.{ending}")
    put(home, line(2))
    events, problems = read(home)

    assert ids(events) == [1, 2]
    assert len(bomb) < 100_000
    told = "it is larger than an archive may be: the rest was not read"
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl.{ending}: {told}"]


@by_packing
def test_an_archive_has_a_largest_size(home, monkeypatch, ending):
    """Also at a modest ratio."""
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 6 << 20)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(150_000))
    put(home, PACKED[ending](line(1) + noise), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1]
    assert "it is larger than an archive may be" in problems.sentences()[0]


@pytest.mark.parametrize("packed", [b"X", b"\x1f\x8b", zlib.compress(line(2))], ids=len)
def test_what_is_no_member_of_an_archive(home, packed):
    """Alone and behind a whole member: only gzip is taken for gzip, and the rest is a problem."""
    put(home, packed, f"telemetry-{DAY}.jsonl.gz")
    put(home, gzip.compress(line(1)) + packed, f"telemetry-{DAY}-2.jsonl.gz")
    events, problems = read(home)

    assert ids(events) == [1]
    damaged = "the archive is damaged: events before the damage may be wrong, later ones are lost"
    assert {report.stopped for report in problems.files.values()} <= {
        damaged,
        "the archive is incomplete: the rest is lost",
    }
    assert (damaged in str(problems.sentences())) == (len(packed) > 2)
    assert len(problems.sentences()) == 2


@by_packing
def test_much_padding_between_members(home, ending):
    """More than is read at once: the member behind it is read all the same."""
    members = PACKED[ending](line(1)), PACKED[ending](line(2))
    put(home, (b"\0" * 200_000).join(members), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert (ids(events), problems.sentences()) == ([1, 2], [])


@by_packing
def test_an_event_behind_much_that_packs_to_nothing(home, ending):
    """What a decompressor holds back is fetched to the last byte."""
    blank = b"\n" * ((4 << 20) - len(line(1)))
    put(home, PACKED[ending](blank + line(1)), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert (ids(events), problems.sentences()) == ([1], [])


@by_packing
def test_all_of_an_archive_is_weighed(home, monkeypatch, ending):
    """How much came out is compared with all that went in, not with the last piece of it."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 4)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(6_000))
    put(home, PACKED[ending](line(1) + noise + line(2)), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1, 2]
    assert "it is larger than an archive may be" not in problems.sentences()[0]


def test_the_limits_of_an_archive():
    """5 MiB are free; above that 200 times what was read, and 256 MiB, may just be reached."""
    free, most = 5 << 20, 256 << 20

    assert not compression.is_bomb(1, free)
    assert compression.is_bomb(1, free + 1)
    assert not compression.is_bomb(free, 200 * free // 200)
    assert not compression.is_bomb(100_000, 20_000_000)
    assert compression.is_bomb(100_000, 20_000_001)
    assert not compression.is_bomb(most, most)
    assert compression.is_bomb(most, most + 1)


def test_an_archive_that_becomes_a_link(home, tmp_path):
    """Between the listing and its turn: it is not followed, and said to be unreadable."""
    put(home, line(1), "telemetry-2026-11-21.jsonl")
    path = put(home, gzip.compress(line(2)), f"telemetry-{DAY}.jsonl.gz")
    problems = ReadReport()
    events = reader.read(home, problems)
    first = next(events)
    os.rename(path, tmp_path / "moved")
    os.symlink(tmp_path / "moved", path)

    assert ids([first, *events]) == [1]
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl.gz: it cannot be read (ELOOP)"]


_MEASURED = """
import resource, sys
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import reader
from telemetry_kit.storage.segments import ReadReport
home = ProjectPaths("flowspec", sys.argv[1], "/none", "/none")
def peak():
    unit = 1 if sys.platform == "linux" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
before = peak()
problems = ReadReport()
events = sum(1 for _ in reader.read(home, problems))
print(events, peak() - before, "|".join(problems.sentences()))
"""


def put_bomb(path, kind):
    """An event, and behind it 100 MB; or a frame that asks for a window of 128 MB."""
    window = {zstd.CompressionParameter.window_log: 27 if kind == "large window" else 21}
    if kind == "gzip bomb":
        opened = gzip.open(f"{path}.gz", "wb", 1)  # noqa: SIM115
    else:
        opened = zstd.open(f"{path}.zst", "wb", options=window)
    with opened as packed:
        packed.write(line(1))
        packed.writelines(b"x" * (1 << 20) for _ in range(100))


@pytest.mark.parametrize("kind", ["line", "nuls", "gzip bomb", "zstd bomb", "large window"])
def test_memory_is_bounded(home, kind):
    """A line of 100 MB, a hole of 100 MB and a bomb cost a few MB and no event."""
    name = f"telemetry-{DAY}.jsonl"
    if kind not in ("line", "nuls"):
        put_bomb(f"{home.folder}/{name}", kind)
    else:
        with open(f"{home.folder}/{name}", "wb") as file:
            file.write(line(1))
            if kind == "line":
                file.writelines(b"x" * (1 << 20) for _ in range(100))
            else:
                file.seek(100 << 20)
            file.write(b"\n" + line(2))
    put(home, line(3))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, home.root],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
    )
    events, kilobytes, *said = done.stdout.split()

    # Of a frame that asks for too much not even the beginning is unpacked.
    assert int(events) == (1 if kind == "large window" else 2 if "bomb" in kind else 3)
    assert int(kilobytes) < 24 * 1024
    assert (said == []) == (kind == "nuls")


# -- the seed's original ---------------------------------------------------------------------


def test_lines_of_the_original(home):
    """They are read in the shape of ours: times in UTC, unknown and empty fields left out."""
    lines = [
        {
            "event_type": "role.selected",
            "timestamp": "2025-12-01T10:20:30.123456",
            "role": "dev",
            "command": "/flow:implement",
            "agent": None,
            "context": {},
            "metadata": {"hostname_hash": "abc"},
        },
        {"event_type": "agent.invoked", "timestamp": "2025-12-01T10:20:30+02:00", "agent": "x"},
        {"event_type": "agent.invoked", "timestamp": "2025-12-01T10:20:30Z", "extra": [1]},
    ]
    put(home, "".join(json.dumps(row) + "\n" for row in lines).encode() + line(1))
    events, problems = read(home)

    assert problems.sentences() == []
    assert events == [
        {
            "event_type": "role.selected",
            "timestamp": "2025-12-01T10:20:30.123456Z",
            "role": "dev",
            "command": "/flow:implement",
            "metadata": {"hostname_hash": "abc"},
        },
        {"event_type": "agent.invoked", "timestamp": "2025-12-01T08:20:30Z", "agent": "x"},
        {"event_type": "agent.invoked", "timestamp": "2025-12-01T10:20:30Z"},
        event(1),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        {"timestamp": 1764584430},
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"timestamp": "0001-01-01T00:00:00+23:00"},
        {"event_type": "task.created"},
        {"event_type": ["role.selected"]},
        {"role": 3},
        {"context": {"a": json.loads("[" * 50 + "]" * 50)}},
    ],
)
def test_bad_lines_of_the_original(home, bad):
    """What cannot be understood is malformed, not guessed."""
    good = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30Z", "role": "dev"}
    put(home, json.dumps({**good, **bad}).encode() + b"\n")
    events, problems = read(home)

    assert events == []
    assert report(problems).malformed == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_times_of_the_original_do_not_depend_on_the_reader(home, monkeypatch, zone):
    """Wherever it is read, a time without a zone is UTC, and one with a zone is converted."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    for when in ("2025-12-01T10:20:30", "2025-12-01T15:50:30+05:30"):
        row = {"event_type": "role.selected", "timestamp": when, "agent": ""}
        put(home, json.dumps(row).encode() + b"\n")
        (found,) = reader.read(home)

        assert found == {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30Z"}
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("depth", "read_back"), [(14, True), (15, False)])
def test_how_deep_the_original_may_go(home, depth, read_back):
    """Context nested fourteen lists deep is an event; deeper it is malformed."""
    inner: object = 1
    for _ in range(depth):
        inner = [inner]
    row = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30Z"}
    put(home, json.dumps({**row, "context": {"a": inner}}).encode() + b"\n")

    assert [bool(found) for found in reader.read(home)] == [True] * read_back
