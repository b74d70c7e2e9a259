"""A segment is compressed, rewritten or deleted, even while a program has it open."""

import errno
import fcntl
import gzip
import os
import re
import time
from pathlib import Path

import pytest

from telemetry_kit.errors import JournalError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, maintenance, rewrite, rotation
from telemetry_kit.storage.segments import ReadReport, snapshot
from tests.storage.rewrite_helpers import DAY, SegmentUser, ids, line, write_segment

pytestmark = pytest.mark.usefixtures("project_directory")


def odd(text: bytes) -> bool:
    """Keep the lines with odd numbers, and those without an event."""
    number = re.search(rb'"event_id":"([0-9a-f]{16})"', text)
    return number is None or int(number[1], 16) % 2 == 1


def names(home: ProjectPaths) -> list[str]:
    """Return the names in the project directory except lock and ignore file."""
    found = set(os.listdir(home.folder)) - {".telemetry.lock", ".gitignore"}
    return sorted(found)


# -- in use --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", [0, 3_900, 4_000, 20_000], ids=str)
def test_lines_of_a_segment_in_use_are_blanked(home, segment_users, pad: int) -> None:
    """Removed lines are overwritten with newlines.

    Size, mode and the other lines do not change.
    """
    lines = [line(number, pad=pad) for number in range(20)]
    path = write_segment(home, b"".join(lines))
    segment_users.append(SegmentUser(path))
    done = maintenance.rewrite(home, odd, DAY)

    assert (10, 0, 0, []) == (done.lines, done.archived, done.deleted, done.failures)
    blanked = [b"\n" * len(one) if number % 2 == 0 else one for number, one in enumerate(lines)]
    assert b"".join(blanked) == path.read_bytes()
    assert 0o400 == path.stat().st_mode & 0o7777
    assert [path.name] == names(home)
    segment_users[0].end()
    assert (1, 0) == (
        (second_run := maintenance.rewrite(home, odd, DAY)).archived,
        second_run.lines,
    )
    assert list(range(1, 20, 2)) == ids(home)


def test_blanking_twice_counts_once(home, segment_users) -> None:
    """Blank lines do not count as removed lines."""
    path = write_segment(home, line(0) + b"\n\n" + line(2))
    segment_users.append(SegmentUser(path))

    assert [2, 0] == [maintenance.rewrite(home, lambda _line: False, DAY).lines for _ in range(2)]
    assert {b"\n"} == {path.read_bytes()[at : at + 1] for at in range(path.stat().st_size)}


def test_blanking_starts_at_the_end_of_a_line(home, segment_users, monkeypatch) -> None:
    """If blanking is interrupted, the start of the line is left with its day."""
    path = write_segment(home, line(0, pad=30_000) + line(1))
    segment_users.append(SegmentUser(path))
    real, calls = os.pwrite, []

    def fail_at_third_call(fd: int, data: bytes, at: int) -> int:
        calls.append((at, len(data)))
        if len(calls) == 3:
            raise OSError(errno.EIO, "")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", fail_at_third_call)
    done = maintenance.rewrite(home, odd, DAY)

    assert [f"{path} (EIO)"] == done.failures
    assert path.read_bytes().startswith(line(0, pad=30_000)[:20_000])
    assert path.read_bytes().endswith(b"\n\n" + line(1))
    # Each write stays within one page, which a disk writes as a unit.
    assert all(at % 4096 == 0 and size <= 4096 for at, size in calls)


def test_an_incomplete_line_of_a_segment_in_use(home, segment_users) -> None:
    """A program may still be writing the last line, so it is kept and reported."""
    path = write_segment(home, line(0) + line(2)[:-1])
    segment_users.append(SegmentUser(path))
    done = maintenance.rewrite(home, odd, DAY)
    reason = "its last line has no newline, and a program has it open"

    assert (1, [f"{path} ({reason})"]) == (done.lines, done.failures)
    assert b"\n" * len(line(0)) + line(2)[:-1] == path.read_bytes()


def test_a_segment_in_use_is_not_compressed(home, segment_users) -> None:
    """Segments in use are counted. The others are compressed."""
    for number in range(2):
        segment_users.append(SegmentUser(write_segment(home, line(number), f"2024-02-2{number}")))
    write_segment(home, line(5), "2024-02-25")
    write_segment(home, line(6), "2024-02-26")
    done = maintenance.maintain(home, 90, DAY)

    assert (2, 2, []) == (done.in_use, done.archived, done.failures)
    assert [".jsonl"] * 2 + [".gz"] * 2 == [Path(name).suffix for name in names(home)]


@pytest.mark.parametrize("suffixes", [[".gz"], [".zst"], [".gz", ".zst"]], ids=str)
def test_an_unfinished_archive_beside_a_segment_in_use(
    home, segment_users, suffixes: list[str]
) -> None:
    """The archive of a killed process is deleted, so it cannot restore blanked lines."""
    path = write_segment(home, line(0))
    for suffix in suffixes:
        Path(f"{path}{suffix}").write_bytes(b"half an archive")
    segment_users.append(SegmentUser(path))
    maintenance.rewrite(home, odd, DAY)

    assert [path.name] == names(home)


def test_a_segment_that_is_replaced_while_opened(
    home, segment_users, monkeypatch, tmp_path
) -> None:
    """If the segment is replaced before it is opened, the new file is not written."""
    path = write_segment(home, line(0))
    segment_users.append(SegmentUser(path))
    real = os.fchmod

    def swap(fd: int, mode: int) -> None:
        real(fd, mode)
        if mode == rotation.WRITABLE_MODE:
            os.rename(path, tmp_path / "moved")
            write_segment(home, line(2))
            path.chmod(0o600)

    monkeypatch.setattr(os, "fchmod", swap)
    count = len(os.listdir("/dev/fd"))
    done = maintenance.rewrite(home, odd, DAY)

    assert (0, 1) == (done.lines, len(done.failures))
    assert (line(0), line(2)) == ((tmp_path / "moved").read_bytes(), path.read_bytes())
    assert (0o400, count) == (
        (tmp_path / "moved").stat().st_mode & 0o7777,
        len(os.listdir("/dev/fd")),
    )


def test_a_user_without_write_permission(home, segment_users, monkeypatch) -> None:
    """Without write permission on a sealed segment, its use is still detected."""
    free = write_segment(home, line(1), "2024-02-27")
    open_path = write_segment(home, line(3))
    segment_users.append(SegmentUser(open_path))
    real = os.open

    def opens(path, flags: int, *args, **more) -> int:
        if path in (free.name, open_path.name) and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "")
        return real(path, flags, *args, **more)

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "open", opens)
    done = maintenance.maintain(home, 90, DAY)

    assert (1, 1, []) == (done.archived, done.in_use, done.failures)
    assert [f"{free.name}.gz", open_path.name] == names(home)
    assert count == len(os.listdir("/dev/fd"))


def test_whether_a_segment_is_in_use(home, segment_users) -> None:
    """A sealed segment is in use while a lease exists. An archive is never in use."""
    write_segment(home, line(1), "2024-02-27", compressed=True)
    write_segment(home, line(2), "2024-02-26")
    segment_users.append(SegmentUser(write_segment(home, line(0))))
    with rotation.maintenance(home) as folder:
        assert folder is not None
        with snapshot(home, ReadReport()) as sources:
            found = {}
            for source in sources:
                with rewrite.lock(folder, source.segment) as is_free:
                    found[source.segment.name] = not is_free

    assert found == {
        "telemetry-2024-02-26.jsonl": False,
        "telemetry-2024-02-27.jsonl.gz": False,
        "telemetry-2024-02-28.jsonl": True,
    }


# -- compressed again ----------------------------------------------------------------------------


def test_lines_are_removed_from_an_archive(home) -> None:
    """The archive is rewritten with mode 0600.

    Text that is no event is kept, as is an incomplete end.
    """
    path = write_segment(
        home, line(0) + b"noise\n" + line(1) + b"\n" + line(2) + b"torn", compressed=True
    )
    done = maintenance.rewrite(home, odd, DAY)

    assert (2, 0, 0, []) == (done.lines, done.archived, done.deleted, done.failures)
    assert b"noise\n" + line(1) + b"\ntorn" == gzip.decompress(path.read_bytes())
    assert (0o600, [path.name]) == (path.stat().st_mode & 0o7777, names(home))


def test_long_lines_are_filtered_whole(home) -> None:
    """Lines that span several chunks are removed or kept as a whole."""
    lines = [line(number, pad=number * 40_000) for number in range(6)]
    path = write_segment(home, b"".join(lines))
    done = maintenance.rewrite(home, odd, DAY)

    assert (3, 1) == (done.lines, done.archived)
    assert b"".join(lines[1::2]) == gzip.decompress(Path(f"{path}.gz").read_bytes())


def test_an_archive_without_removed_lines(home) -> None:
    """If no line is removed, the archive is not rewritten."""
    path = write_segment(home, line(1) + line(3), compressed=True)
    before = path.stat()
    maintenance.rewrite(home, odd, DAY)

    assert before == path.stat()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_segment_without_remaining_lines(home, compressed: bool) -> None:
    """A segment without remaining lines is deleted and counted."""
    for number in range(3):
        write_segment(home, line(number) + line(number), f"2024-02-0{number + 1}", compressed)
    done = maintenance.rewrite(home, lambda _line: False, DAY)

    assert (6, 3, 0) == (done.lines, done.deleted, done.archived)
    assert [] == names(home)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_error_during_compression(home, monkeypatch, call: str) -> None:
    """The sealed segment is unchanged, no other file is left, and the error is reported."""

    def fail(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "")

    path = write_segment(home, line(0))
    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, call, fail)
    done = maintenance.maintain(home, 90, DAY)

    assert ([f"{path} (ENOSPC)"], 0) == (done.failures, done.archived)
    assert (line(0), [path.name]) == (path.read_bytes(), names(home))
    assert count == len(os.listdir("/dev/fd"))


def test_a_segment_that_grows_during_compression(home, monkeypatch) -> None:
    """The segment is kept and its archive is deleted. The next run compresses all of it."""
    path = write_segment(home, line(0))
    real = os.fsync

    def append_line(fd: int) -> None:
        real(fd)
        path.chmod(0o600)
        path.write_bytes(line(0) + line(1))

    monkeypatch.setattr(os, "fsync", append_line)
    done = maintenance.maintain(home, 90, DAY)
    monkeypatch.undo()

    assert [f"{path} (it is still written to)"] == done.failures
    assert [path.name] == names(home)
    assert 1 == maintenance.maintain(home, 90, DAY).archived
    assert [0, 1] == ids(home)


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_temporary_file_of_an_archive(home, monkeypatch, umask: int) -> None:
    """The temporary file is private, and its name is one that maintenance deletes."""
    path = write_segment(home, line(0))
    real, seen = os.fsync, []

    def inspect(fd: int) -> None:
        real(fd)
        temporary = [n for n in os.listdir(home.folder) if rotation.TEMPORARY.fullmatch(n)]
        seen.append((temporary, os.fstat(fd).st_mode & 0o7777, path.exists()))

    monkeypatch.setattr(os, "fsync", inspect)
    previous = os.umask(umask)
    try:
        maintenance.maintain(home, 90, DAY)
    finally:
        os.umask(previous)
    temporary, mode_bits, sealed = seen[0]

    assert (1, 0o600, True) == (len(temporary), mode_bits, sealed)


def test_partial_writes(home, monkeypatch) -> None:
    """After a partial write, the rest is written."""
    path = write_segment(home, b"".join(line(number) for number in range(500)))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    maintenance.maintain(home, 90, DAY)
    monkeypatch.undo()

    assert list(range(500)) == ids(home)
    assert [f"{path.name}.gz"] == names(home)


@pytest.mark.parametrize("damage", ["incomplete", "damaged"])
def test_a_damaged_archive_is_not_rewritten(home, damage: str) -> None:
    """A damaged archive is kept unchanged and reported."""
    path = write_segment(home, b"".join(line(number) for number in range(100)), compressed=True)
    data = path.read_bytes()
    data = data[:-20] if damage == "incomplete" else data[:200] + b"\xff" * 40 + data[240:]
    path.write_bytes(data)
    done = maintenance.rewrite(home, odd, DAY)

    assert (0, 1) == (done.lines, len(done.failures))
    assert done.failures[0].startswith(f"{path} (the archive is {damage}")
    assert (data, [path.name]) == (path.read_bytes(), names(home))


# -- all segments --------------------------------------------------------------------------------


def test_the_maximum_size_of_all_segments(home, segment_users, monkeypatch) -> None:
    """The oldest segments are deleted until the rest fits. A segment in use is skipped."""
    noise = os.urandom(500).hex().encode()
    for number in range(1, 6):
        write_segment(home, line(number) + noise + b"\n", f"2024-02-0{number}", compressed=True)
    open_path = write_segment(home, line(0) + noise + b"\n", "2024-01-31")
    segment_users.append(SegmentUser(open_path))
    sizes = {name: os.stat(Path(home.folder, name)).st_size for name in names(home)}
    remaining = [open_path.name, "telemetry-2024-02-04.jsonl.gz", "telemetry-2024-02-05.jsonl.gz"]
    monkeypatch.setattr(limits, "MAX_BYTES", sum(sizes[name] for name in remaining))
    done = maintenance.maintain(home, 90, DAY)

    assert (3, remaining) == (done.deleted, names(home))


@pytest.mark.parametrize(("keep", "is_kept"), [(lambda _line: True, True), (odd, False)])
def test_the_count_cache_of_removed_lines(home, keep, is_kept: bool) -> None:
    """The count cache is deleted if a line is removed, and kept otherwise."""
    write_segment(home, line(0), compressed=True)
    count_cache = Path(home.folder, rotation.COUNT_CACHE)
    count_cache.write_bytes(b"counts")
    maintenance.rewrite(home, keep, DAY)

    assert is_kept == count_cache.exists()


@pytest.mark.parametrize("mode", [0o600, rotation.WRITABLE_MODE])
@pytest.mark.parametrize("how", ["maintain", "rewrite"])
def test_an_interrupted_operation_is_completed(home, segment_users, mode: int, how: str) -> None:
    """A segment left writable is sealed, temporary files are deleted, and other files are kept."""
    path = write_segment(home, line(1))
    segment_users.append(SegmentUser(path))
    path.chmod(mode)
    for name in (".telemetry-2024-02-28-ab.tmp", "telemetry.toml", "telemetry-x.jsonl"):
        Path(home.folder, name).write_bytes(b"")
        Path(home.folder, name).chmod(0o600)
    if how == "maintain":
        maintenance.maintain(home, 90, DAY)
    else:
        maintenance.rewrite(home, odd, DAY)

    assert 0o400 == path.stat().st_mode & 0o7777
    assert [path.name, "telemetry-x.jsonl", "telemetry.toml"] == names(home)
    assert 0o600 == Path(home.folder, "telemetry-x.jsonl").stat().st_mode & 0o7777


def test_an_archive_is_not_sealed(home) -> None:
    """An archive keeps its mode."""
    path = write_segment(home, line(1), compressed=True)
    maintenance.maintain(home, 90, DAY)

    assert 0o600 == path.stat().st_mode & 0o7777


def test_removal_waits_for_the_lock(home, monkeypatch) -> None:
    """Removal waits five seconds for the lock, then fails without any change."""
    write_segment(home, line(0))
    seconds = iter(range(100, 200))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with open(home.lock, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(JournalError, match="busy"):
            maintenance.rewrite(home, odd, DAY)

    assert 106 == next(seconds)
    assert [0] == ids(home)


def test_maintenance_does_not_wait(home) -> None:
    """If another process has the lock, maintenance returns at once and reports it."""
    write_segment(home, line(0))
    with rotation.maintenance(home):
        done = maintenance.maintain(home, 90, DAY)

    assert [f"another process is busy with {home.folder}"] == done.failures


def test_a_directory_that_cannot_be_listed(home, monkeypatch) -> None:
    """The error code is reported and nothing is removed."""

    def fail(_folder: object) -> list[str]:
        raise OSError(errno.EIO, "")

    write_segment(home, line(0))
    monkeypatch.setattr(os, "listdir", fail)
    removed, maintained = maintenance.rewrite(home, odd, DAY), maintenance.maintain(home, 90, DAY)
    monkeypatch.undo()

    assert ([f"{home.folder} (EIO)"], ["EIO"]) == (removed.failures, maintained.failures)
    assert [0] == ids(home)


def test_maintenance_without_files(home) -> None:
    """If nothing is stored, no lock file is created."""
    maintenance.maintain(home, 90, DAY)
    assert [] == os.listdir(home.folder)
    os.rmdir(home.folder)
    removed = maintenance.rewrite(home, odd, DAY)

    assert (0, []) == (removed.lines, removed.failures)
    assert not os.path.exists(home.folder)
