"""Lines are removed by day, and joined events are handled separately."""

import errno
import gzip
import os
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetry_kit.storage import compression, maintenance, rotation
from telemetry_kit.storage.writer import LogWriter
from tests.storage.rewrite_helpers import DAY, SegmentUser, ids, line, write_segment

pytestmark = pytest.mark.usefixtures("project_directory")


# -- days ----------------------------------------------------------------------------------------


def test_the_oldest_day(home) -> None:
    """The oldest day is that of the first line of the oldest readable segment, or None."""
    assert None is maintenance.oldest_day(home)
    log_writer = LogWriter(home, lambda: True)
    log_writer.append(line(1, "2024-02-27"))
    log_writer.close()
    assert "2024-02-27" == maintenance.oldest_day(home)
    write_segment(home, b"", "2024-01-01")
    os.mkfifo(f"{home.folder}/telemetry-2024-01-01-2.jsonl")
    Path(home.folder, "telemetry-2024-01-01-3.jsonl.gz").write_bytes(b"noise")
    write_segment(home, b"noise\n", "2024-01-02", compressed=True)
    write_segment(home, line(2, "2024-01-05") + line(3), "2024-01-03", compressed=True)

    assert "2024-01-05" == maintenance.oldest_day(home)


def test_lines_before_a_day() -> None:
    """Lines of earlier days are removed. Lines of the day and lines without a day are kept."""
    keep = maintenance.keep_since("2024-02-28")
    days = ["2023-12-31", "2024-02-27", "2024-02-28", "2024-02-29"]

    assert [False, False, True, True] == [keep(line(1, day)) for day in days]
    assert [True, True] == [keep(b"noise"), keep(b"")]


@pytest.mark.parametrize("bytes_before_split", [1, 8, 15, 20, 23])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_day_across_two_chunks(home, bytes_before_split: int, compressed: bool) -> None:
    """A line expires even if its day spans two chunks of the read."""
    expired = line(1, "2023-06-01")
    front = b"x" * ((1 << 16) - expired.index(b'"timestamp"') - bytes_before_split - 1) + b"\n"
    write_segment(home, front + expired + line(2), compressed=compressed)
    done = maintenance.maintain(home, 90, DAY)

    assert (1, [], [2]) == (done.lines, done.failures, ids(home))


def test_segments_that_cannot_be_deleted(home, segment_users, monkeypatch) -> None:
    """Each failure is reported with the reason and not counted as deleted."""
    path = write_segment(home, line(1, "2023-06-01"), "2023-06-01", compressed=True)
    open_path = write_segment(
        home, line(2, "2023-06-01") + line(3, "2023-06-01")[:-1], "2023-06-02"
    )
    segment_users.append(SegmentUser(open_path))
    real = os.unlink

    def fail(name: str, *, dir_fd: int) -> None:
        if name == path.name:
            raise OSError(errno.EPERM, "")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", fail)
    done = maintenance.maintain(home, 90, DAY)

    assert (1, 0) == (done.lines, done.deleted)
    assert done.failures == [
        f"{path} (EPERM)",
        f"{open_path} (its last line has no newline, and a program has it open)",
    ]


def test_the_count_cache_of_expired_lines(home) -> None:
    """Maintenance deletes the count cache when it deletes the first expired line."""
    write_segment(home, line(1, "2023-06-01") + line(2), compressed=True)
    count_cache = Path(home.folder, rotation.COUNT_CACHE)
    count_cache.write_bytes(b"counts")
    maintenance.maintain(home, 90, "2023-06-02")
    assert count_cache.exists()
    maintenance.maintain(home, 90, DAY)

    assert not count_cache.exists()


def test_lines_without_a_day(home, segment_users) -> None:
    """A line without a day is kept beside current lines, and deleted in an expired segment."""
    noise = b"noise\n"
    mixed = write_segment(
        home, line(1, "2023-06-01") + noise + line(3), "2023-06-01", compressed=True
    )
    expired = write_segment(
        home, line(1, "2023-06-01") + noise + line(3, "2023-06-02"), "2023-06-02"
    )
    segment_users.append(SegmentUser(expired))
    done = maintenance.maintain(home, 90, DAY)

    assert noise + line(3) == gzip.decompress(mixed.read_bytes())
    assert b"\n" == bytes(set(expired.read_bytes()))
    assert (1 + 3, []) == (done.lines, done.failures)


@pytest.mark.parametrize(("modified", "is_kept"), [("2023-06-02", False), ("2024-02-01", True)])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_segment_without_days(home, modified: str, is_kept: bool, damaged: bool) -> None:
    """A segment without a readable day expires by its modification time."""
    path = write_segment(
        home, line(1, "2023-06-01") if damaged else b"noise\n", "2023-06-01", compressed=True
    )
    if damaged:
        path.write_bytes(path.read_bytes()[:-4])
    when = noon(modified)
    os.utime(path, (when, when))
    maintenance.maintain(home, 90, DAY)

    assert is_kept == path.exists()


def noon(day: str) -> float:
    """Return noon of a day in seconds since the epoch."""
    return datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()


OLD = "2024-02-20"


FRAGMENT = line(2, OLD)[:-5]


@pytest.fixture(params=["archive", "sealed", "held"])
def write_as(request, home, segment_users):
    """Write a segment as an archive, a sealed segment, or a sealed segment in use."""

    def write(data: bytes) -> Path:
        path = write_segment(home, data, compressed=request.param == "archive")
        if request.param == "held":
            segment_users.append(SegmentUser(path))
        return path

    return write


# -- joined events -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kept", "removed"),
    [
        (line(1, OLD) + FRAGMENT + line(3) + line(4), [3, 4], 2),
        (FRAGMENT + line(3), [3], 1),
        (line(3)[:-5] + line(1, OLD) + line(4), [4], 1),
        (line(1, OLD)[:-1] + b"\0" * 100 + line(3), [3], 1),
        (line(3)[:-1] + b"\0" * 100 + line(1, OLD), [3], 1),
        (line(3)[:60] + line(4)[:60] + FRAGMENT + line(5) + line(6), [5, 6], 1),
        (line(1, OLD) + b"x" * (3 << 20) + line(3), [3], 1),
        (line(1, OLD) + b'{"timestamp":"2024-02-20' + b"x" * (3 << 20) + b"\n" + line(3), [3], 2),
    ],
    ids=["old torn", "torn alone", "new torn", "NULs", "NULs behind", "three", "long", "long old"],
)
def test_joined_events_are_removed_separately(home, write_as, data, kept, removed) -> None:
    """A fragment of a killed writer does not affect the event that is joined to it."""
    write_as(data)
    done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    assert kept == ids(home)
    assert (removed, []) == (done.lines, done.failures)


def test_retention_of_joined_events(home, write_as) -> None:
    """Retention removes only the expired events of a line."""
    write_as(FRAGMENT + line(3) + line(1, OLD) + line(4))
    done = maintenance.maintain(home, 5, DAY)

    assert [3, 4] == ids(home)
    assert (2, []) == (done.lines, done.failures)


@pytest.mark.parametrize("size", [0, 400 << 20])
def test_removal_needs_little_memory(home, size: int) -> None:
    """Removal needs little memory even if one line is as long as the file."""
    path = Path(home.folder, "telemetry.jsonl")
    with path.open("wb") as log:
        log.write(line(1, OLD))
        log.truncate(len(line(1, OLD)) + size)
        log.seek(0, os.SEEK_END)
        log.write(b"\n" + line(3))
    path.chmod(0o600)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        limit = 600 << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)
        os.write(write, f"{done.lines} {done.failures}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert "1 []" == pipe.read()
    os.waitpid(pid, 0)

    assert [3] == ids(home)


def test_a_log_above_the_maximum_size_of_an_archive(home, monkeypatch) -> None:
    """If a log is too large for an archive, its lines are removed in place."""
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 6 << 20)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(150_000))
    path = write_segment(home, line(1, OLD) + noise + line(3))
    done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    assert (1, []) == (done.lines, done.failures)
    assert [3] == ids(home)
    assert 0o400 == path.stat().st_mode & 0o7777


def test_a_hard_link_is_not_written(home, segment_users, tmp_path) -> None:
    """A segment that is a hard link to another file is left unchanged and reported."""
    other_file = tmp_path / "precious.log"
    other_file.write_bytes(line(1, OLD))
    other_file.chmod(0o644)
    path = Path(home.folder, f"telemetry-{DAY}.jsonl")
    os.link(other_file, path)
    segment_users.append(SegmentUser(path))
    done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    assert [f"{path} (EMLINK)"] == done.failures
    assert (line(1, OLD), 0o644) == (other_file.read_bytes(), other_file.stat().st_mode & 0o7777)


def test_a_kept_fragment_is_unchanged(home) -> None:
    """A fragment before a removed event gets one newline. No other byte changes."""
    fragment = line(3)[:-5]
    write_segment(
        home, fragment + line(1, OLD)[:-1] + line(2, OLD) + line(4) + fragment, compressed=True
    )
    maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    compressed = Path(home.folder, f"telemetry-{DAY}.jsonl.gz").read_bytes()
    assert fragment + b"\n" + line(4) + fragment == gzip.decompress(compressed)
