"""Rewriting by day, and lines that were joined."""

import errno
import gzip
import os
import resource
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, maintenance, rotation
from telemetry_kit.storage.writer import LogWriter
from tests.storage.rewrite_helpers import DAY, Sleeper, ids, line, put


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """With an empty folder of ours."""
    os.mkdir(home.folder, 0o700)
    return home


@pytest.fixture
def sleeper(home) -> Iterator[list[Sleeper]]:
    """Those that sleep; all of them end with the test."""
    found: list[Sleeper] = []
    yield found
    for one in found:
        one.end()


# -- days ----------------------------------------------------------------------------------------


def test_the_oldest_day(home) -> None:
    """That of the first line of the oldest segment that has one; None where there is nothing.

    What cannot be used, or is damaged, is passed over.
    """
    assert None is maintenance.oldest_day(home)
    journal = LogWriter(home, lambda: True)
    journal.append(line(1, "2024-02-27"))
    journal.close()
    assert "2024-02-27" == maintenance.oldest_day(home)
    put(home, b"", "2024-01-01")
    os.mkfifo(f"{home.folder}/telemetry-2024-01-01-2.jsonl")
    Path(home.folder, "telemetry-2024-01-01-3.jsonl.gz").write_bytes(b"noise")
    put(home, b"noise\n", "2024-01-02", packed=True)
    put(home, line(2, "2024-01-05") + line(3), "2024-01-03", packed=True)

    assert "2024-01-05" == maintenance.oldest_day(home)


def test_what_is_before_a_day() -> None:
    """Lines of earlier days; the day itself, and what tells no day, is kept."""
    keep = maintenance.keep_since("2024-02-28")
    days = ["2023-12-31", "2024-02-27", "2024-02-28", "2024-02-29"]

    assert [False, False, True, True] == [keep(line(1, day)) for day in days]
    assert [True, True] == [keep(b"noise"), keep(b"")]


@pytest.mark.parametrize("inside", [1, 8, 15, 20, 23])
@pytest.mark.parametrize("packed", [False, True])
def test_a_day_that_lies_across_two_pieces(home, inside: int, packed: bool) -> None:
    """Of what is read at once: a line whose time is over goes all the same."""
    over = line(1, "2023-06-01")
    front = b"x" * ((1 << 16) - over.index(b'"timestamp"') - inside - 1) + b"\n"
    put(home, front + over + line(2), packed=packed)
    done = maintenance.maintain(home, 90, DAY)

    assert (1, [], [2]) == (done.lines, done.failures, ids(home))


def test_segments_that_cannot_be_deleted(home, sleeper, monkeypatch) -> None:
    """Each is told with the reason, and none is counted."""
    path = put(home, line(1, "2023-06-01"), "2023-06-01", packed=True)
    held = put(home, line(2, "2023-06-01") + line(3, "2023-06-01")[:-1], "2023-06-02")
    sleeper.append(Sleeper(held))
    real = os.unlink

    def fails(name: str, *, dir_fd: int) -> None:
        if name == path.name:
            raise OSError(errno.EPERM, "")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", fails)
    done = maintenance.maintain(home, 90, DAY)

    assert (1, 0) == (done.lines, done.deleted)
    assert done.failures == [
        f"{path} (EPERM)",
        f"{held} (its last line has no newline, and a program has it open)",
    ]


def test_the_counts_go_with_what_is_over(home) -> None:
    """Maintenance deletes the roll-up with the first line that retention takes."""
    put(home, line(1, "2023-06-01") + line(2), packed=True)
    rollup = Path(home.folder, rotation.COUNT_CACHE)
    rollup.write_bytes(b"counts")
    maintenance.maintain(home, 90, "2023-06-02")
    assert rollup.exists()
    maintenance.maintain(home, 90, DAY)

    assert not rollup.exists()


def test_lines_that_tell_no_day(home, sleeper) -> None:
    """They stay beside lines that stay, and go with a segment whose time is over."""
    noise = b"noise\n"
    mixed = put(home, line(1, "2023-06-01") + noise + line(3), "2023-06-01", packed=True)
    over = put(home, line(1, "2023-06-01") + noise + line(3, "2023-06-02"), "2023-06-02")
    sleeper.append(Sleeper(over))
    done = maintenance.maintain(home, 90, DAY)

    assert noise + line(3) == gzip.decompress(mixed.read_bytes())
    assert b"\n" == bytes(set(over.read_bytes()))
    assert (1 + 3, []) == (done.lines, done.failures)


@pytest.mark.parametrize(("changed", "stays"), [("2023-06-02", False), ("2024-02-01", True)])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_segment_without_days(home, changed: str, stays: bool, damaged: bool) -> None:
    """What cannot be read is no newer than the file: its time is over when the file's is."""
    path = put(home, line(1, "2023-06-01") if damaged else b"noise\n", "2023-06-01", packed=True)
    if damaged:
        path.write_bytes(path.read_bytes()[:-4])
    when = noon(changed)
    os.utime(path, (when, when))
    maintenance.maintain(home, 90, DAY)

    assert stays == path.exists()


def noon(day: str) -> float:
    """Noon of a day, in seconds."""
    return datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()


OLD = "2024-02-20"


TORN = line(2, OLD)[:-5]


@pytest.fixture(params=["archive", "sealed", "held"])
def put_as(request, home, sleeper):
    """Puts a segment there as each of the three that removal can meet."""

    def as_it_is(data: bytes) -> Path:
        path = put(home, data, packed=request.param == "archive")
        if request.param == "held":
            sleeper.append(Sleeper(path))
        return path

    return as_it_is


# -- glued together ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "stay", "removed"),
    [
        (line(1, OLD) + TORN + line(3) + line(4), [3, 4], 2),
        (TORN + line(3), [3], 1),
        (line(3)[:-5] + line(1, OLD) + line(4), [4], 1),
        (line(1, OLD)[:-1] + b"\0" * 100 + line(3), [3], 1),
        (line(3)[:-1] + b"\0" * 100 + line(1, OLD), [3], 1),
        (line(3)[:60] + line(4)[:60] + TORN + line(5) + line(6), [5, 6], 1),
        (line(1, OLD) + b"x" * (3 << 20) + line(3), [3], 1),
        (line(1, OLD) + b'{"timestamp":"2024-02-20' + b"x" * (3 << 20) + b"\n" + line(3), [3], 2),
    ],
    ids=["old torn", "torn alone", "new torn", "NULs", "NULs behind", "three", "long", "long old"],
)
def test_glued_events_go_and_stay_by_themselves(home, put_as, data, stay, removed) -> None:
    """A fragment of a killed writer decides nothing about the event that is glued to it."""
    put_as(data)
    done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    assert stay == ids(home)
    assert (removed, []) == (done.lines, done.failures)


def test_retention_of_glued_events(home, put_as) -> None:
    """The retention takes what is over out of a line, and only that."""
    put_as(TORN + line(3) + line(1, OLD) + line(4))
    done = maintenance.maintain(home, 5, DAY)

    assert [3, 4] == ids(home)
    assert (2, []) == (done.lines, done.failures)


@pytest.mark.parametrize("size", [0, 400 << 20])
def test_removal_needs_little_memory(home, size: int) -> None:
    """Also where one line is as long as the file."""
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
    with os.fdopen(read) as told:
        assert "1 []" == told.read()
    os.waitpid(pid, 0)

    assert [3] == ids(home)


def test_what_is_too_large_for_an_archive_loses_its_lines_in_place(home, monkeypatch) -> None:
    """A log that outgrew what an archive may be is no place where lines stay for ever."""
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 6 << 20)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(150_000))
    path = put(home, line(1, OLD) + noise + line(3))
    done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    assert (1, []) == (done.lines, done.failures)
    assert [3] == ids(home)
    assert 0o400 == path.stat().st_mode & 0o7777


def test_a_second_name_is_not_written_through(home, sleeper, tmp_path) -> None:
    """A sealed segment that is also another file is left as it is, and named."""
    precious = tmp_path / "precious.log"
    precious.write_bytes(line(1, OLD))
    precious.chmod(0o644)
    path = Path(home.folder, f"telemetry-{DAY}.jsonl")
    os.link(precious, path)
    sleeper.append(Sleeper(path))
    done = maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    assert [f"{path} (EMLINK)"] == done.failures
    assert (line(1, OLD), 0o644) == (precious.read_bytes(), precious.stat().st_mode & 0o7777)


def test_what_stays_of_a_line_is_as_it_was(home) -> None:
    """A fragment before what goes gets one end, and nothing else is added or taken."""
    fragment = line(3)[:-5]
    put(home, fragment + line(1, OLD)[:-1] + line(2, OLD) + line(4) + fragment, packed=True)
    maintenance.rewrite(home, maintenance.keep_since(DAY), DAY)

    packed = Path(home.folder, f"telemetry-{DAY}.jsonl.gz").read_bytes()
    assert fragment + b"\n" + line(4) + fragment == gzip.decompress(packed)
