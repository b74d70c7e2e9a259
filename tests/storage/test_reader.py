"""The reader yields each event once and in order, from files of any content."""

import gzip
import json
import os
import threading
import time

import pytest

from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import newest
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import reader, rotation
from telemetry_kit.storage.segments import ReadReport, snapshot
from tests.storage.reader_helpers import (
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


# -- which files ---------------------------------------------------------------------------------


def test_no_project_directory(tmp_path):
    """Before the first event, the reader yields nothing, creates nothing and reports no problem."""
    root = os.path.realpath(tmp_path)
    found = ProjectPaths("flowspec", root, f"{root}/config", f"{root}/state")

    events, problems = read(found)

    assert (events, problems.files) == ([], {})
    with snapshot(found, ReadReport()) as sources:
        assert sources == []
    assert os.listdir(root) == []


def test_the_order_of_segments(home):
    """Segments are ordered by day and number.

    The active log is last, and other files are ignored.
    """
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
        write_file(home, gzip.compress(data) if name.endswith(".gz") else data, name)
    write_file(home, line(9))
    for other in ("telemetry.toml", ".telemetry-x.tmp", "telemetry-2026.jsonl", ".telemetry.lock"):
        write_file(home, b"no event", other)
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


def test_a_sealed_segment_hides_its_archive(home):
    """An archive beside its sealed segment is unfinished, so it is not read."""
    write_file(home, line(1) + line(2), f"telemetry-{DAY}.jsonl")
    write_file(home, gzip.compress(line(1))[:-9], f"telemetry-{DAY}.jsonl.gz")
    write_file(home, gzip.compress(line(3)), f"telemetry-{DAY}-2.jsonl.gz")
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == []


def test_one_inode_is_read_once(home):
    """A file with two hard links is read once."""
    path = write_file(home, line(1))
    os.link(path, f"{home.folder}/telemetry-{DAY}.jsonl")

    assert ids(read(home)[0]) == [1]


@pytest.mark.parametrize("kind", ["symlink", "dangling", "fifo", "folder"])
def test_only_regular_files_are_opened(home, tmp_path, kind):
    """A segment that is not a regular file is reported and not opened."""
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
    write_file(home, line(1))
    events, problems = read(home)

    assert ids(events) == [1]
    assert next(iter(problems.files)) == f"telemetry-{DAY}.jsonl"
    assert len(problems.sentences()) == 1
    assert elsewhere.exists() == (kind == "symlink")


def test_a_linked_project_directory(home, tmp_path):
    """If the project directory is a symbolic link, it is not read."""
    write_file(home, line(1))
    os.rename(home.folder, tmp_path / "moved")
    os.symlink(tmp_path / "moved", home.folder)
    events, problems = read(home)

    assert events == []
    assert len(problems.sentences()) == 1


def test_an_archive_that_is_deleted_while_reading(home):
    """If retention or `clear` deletes an archive during a read, that is no problem."""
    write_file(home, line(1), "telemetry-2026-11-21.jsonl")
    path = write_file(home, gzip.compress(line(2)), f"telemetry-{DAY}.jsonl.gz")
    write_file(home, line(3))
    problems = ReadReport()
    events = reader.read(home, problems)
    first = next(events)
    os.unlink(path)

    assert ids([first, *events]) == [1, 3]
    assert problems.sentences() == []


def test_a_log_that_is_cleared_while_reading(home):
    """The reader yields the log as it was when it was opened, even if it is deleted."""
    path = write_file(home, line(1) + line(2))
    events = reader.read(home)
    first = next(events)
    with open(path, "ab") as log:
        log.write(line(3))
    os.unlink(path)

    assert ids([first, *events]) == [1, 2]


def test_nothing_is_written_and_no_file_stays_open(home):
    """A read, complete or not, changes no file and leaves no descriptor open."""
    write_file(home, line(1), f"telemetry-{DAY}.jsonl")
    write_file(home, line(2) + b"torn")
    before = sorted(os.listdir(home.folder)), sorted(os.listdir("/dev/fd"))
    read(home)
    next(reader.read(home))
    next(newest(home, 1, Query(), ReadReport()))
    with snapshot(home, ReadReport()) as sources:
        assert len(sources) == 2

    assert (sorted(os.listdir(home.folder)), sorted(os.listdir("/dev/fd"))) == before


def test_newest_reads_no_more_files_than_it_needs(home):
    """`newest()` reads from the end, across files, and opens an older file only if needed."""
    write_file(home, b"\xff\xff", "telemetry-2026-11-20.jsonl.gz")
    write_file(home, line(1) + line(2), f"telemetry-{DAY}.jsonl")
    write_file(home, line(3) + line(4))
    problems = ReadReport()

    assert ids(newest(home, 1, Query(), problems)) == [4]
    assert ids(newest(home, 3, Query(), problems)) == [4, 3, 2]
    assert problems.sentences() == []
    assert ids(newest(home, 10**30, Query(), problems)) == [4, 3, 2, 1]
    assert len(problems.sentences()) == 1


def test_reading_while_the_log_is_sealed(home):
    """While another thread writes and seals, the reader finds each event so far exactly once."""
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


def test_the_reader_does_not_wait_for_the_lock(home):
    """The reader does not wait for the maintenance lock of another process."""
    write_file(home, line(1), f"telemetry-{DAY}.jsonl")
    with rotation.maintenance(home):
        assert ids(read(home)[0]) == [1]


# -- lines of the original program ---------------------------------------------------------------


def test_lines_of_the_original(home):
    """Times are converted to UTC. Unknown fields and empty fields are left out."""
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
    write_file(home, "".join(json.dumps(row) + "\n" for row in lines).encode() + line(1))
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
    "invalid",
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
def test_invalid_lines_of_the_original(home, invalid):
    """An invalid value makes the line malformed. It is not guessed."""
    good = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30Z", "role": "dev"}
    write_file(home, json.dumps({**good, **invalid}).encode() + b"\n")
    events, problems = read(home)

    assert events == []
    assert file_report(problems).malformed == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_times_of_the_original_do_not_depend_on_the_reader(home, monkeypatch, zone):
    """In any time zone, a time without a zone is UTC and a time with a zone is converted."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    for when in ("2025-12-01T10:20:30", "2025-12-01T15:50:30+05:30"):
        row = {"event_type": "role.selected", "timestamp": when, "agent": ""}
        write_file(home, json.dumps(row).encode() + b"\n")
        (found,) = reader.read(home)

        assert found == {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30Z"}
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("depth", "read_back"), [(14, True), (15, False)])
def test_the_nesting_of_the_original(home, depth, read_back):
    """A context of up to 14 nested lists is an event. A deeper one is malformed."""
    inner: object = 1
    for _ in range(depth):
        inner = [inner]
    row = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30Z"}
    write_file(home, json.dumps({**row, "context": {"a": inner}}).encode() + b"\n")

    assert [bool(found) for found in reader.read(home)] == [True] * read_back
