"""The files of the log, and the state by which a reader recognizes them."""

import contextlib
import errno
import gzip
import os
import zlib
from pathlib import Path

import pytest

from telemetry_kit.errors import JournalError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import rotation
from telemetry_kit.storage.segments import FileReport, ReadReport, snapshot

pytestmark = pytest.mark.usefixtures("project_directory")

NAME = "telemetry-2024-02-28.jsonl"


@pytest.mark.parametrize("size", [0, 1, 100, 65_536, 200_000])
@pytest.mark.parametrize("ends", [10, 50, 70_000, 1 << 20])
def test_the_checksum(home, size: int, ends: int) -> None:
    """The checksum covers all given bytes, or the first and last ones of a long file."""
    data = bytes(number * 7 % 251 for number in range(size))
    Path(home.folder, NAME).write_bytes(data + b"later")
    expected_bytes = data if size <= 2 * ends else data[:ends] + data[-ends:]
    with snapshot(home, ReadReport()) as (source,):
        assert zlib.crc32(expected_bytes) == source.checksum(size, ends)


def test_the_checksum_of_a_replaced_file(home) -> None:
    """A deleted or replaced file has no checksum, and no descriptor is left open."""
    path = Path(home.folder, NAME)
    path.write_bytes(b"x")
    with snapshot(home, ReadReport()) as (source,):
        count = len(os.listdir("/dev/fd"))
        path.rename(path.with_suffix(".old"))
        deleted = source.checksum(1, 1)
        path.write_bytes(b"x")
        replaced = source.checksum(1, 1)

        assert ((-1, -1), count) == ((deleted, replaced), len(os.listdir("/dev/fd")))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_state_of_a_file(home, tmp_path, suffix: str) -> None:
    """The state is that of the open file.

    For an archive, it is that of the current file of its name.
    """
    path = Path(home.folder, NAME + suffix)
    path.write_bytes(gzip.compress(b"x"))
    before = path.stat()
    with snapshot(home, ReadReport()) as (source,):
        assert before == source.state()
        path.rename(tmp_path / "moved")
        os.symlink(tmp_path / "moved", path)
        found = source.state()
        assert found is not None
        assert (before.st_ino == found.st_ino) == (suffix == "")
        path.unlink()
        assert (None is source.state()) == (suffix == ".gz")


@pytest.mark.parametrize("begin", [0, 1, 70_000, 99_999, 100_000])
def test_reading_from_the_middle(home, begin: int) -> None:
    """A read from an offset yields the rest as it was at the start of the read."""
    data = bytes(number * 7 % 251 for number in range(100_000))
    path = Path(home.folder, NAME)
    path.write_bytes(data)
    report = FileReport()
    with snapshot(home, ReadReport()) as (source,):
        chunks = source.chunks(report, begin)
        first = next(chunks, b"")
        with path.open("ab") as file:
            file.write(b"later")
        # The rest of the file at the time when its read started.
        assert data[begin:] == b"".join([first, *chunks])
    assert "" == report.stopped


def test_an_unusable_segment_does_not_hide_its_archive(home) -> None:
    """A sealed segment takes precedence over its archive only if it is readable."""
    os.mkfifo(Path(home.folder, NAME))
    Path(home.folder, f"{NAME}.gz").write_bytes(gzip.compress(b"x\n"))
    with snapshot(home, ReadReport()) as (source,):
        assert b"x\n" == b"".join(source.chunks(FileReport()))


def test_a_log_that_is_renamed_after_the_listing(home) -> None:
    """A file that is renamed after the listing is still read."""
    log = Path(home.log)
    log.write_bytes(b"x" * 300_000)
    with snapshot(home, ReadReport()) as (source,):
        rotation.seal(home, "2024-02-28")
        log.write_bytes(b"later\n")
        assert b"x" * 300_000 == b"".join(source.chunks(FileReport()))


def test_reports_of_parts_add_up() -> None:
    """Counts are added. The first read error is kept, and one part in progress is enough."""
    one, other = FileReport(1, 2, 3, 4), FileReport(10, 20, 30, 40)
    other.stopped = "second"
    one.add(other)
    assert (11, 22, 33, 44) == (one.malformed, one.recovered, one.too_long, one.other_version)
    assert ("second", False) == (one.stopped, one.in_progress)
    last = FileReport()
    last.stopped, last.in_progress = "third", True
    one.add(last)
    one.add(FileReport())

    assert ("second", True) == (one.stopped, one.in_progress)


def test_the_attributes_of_segments(home) -> None:
    """A segment has the name, kind, size and identity of its file."""
    for name, size in (("telemetry.jsonl", 3), (NAME, 5), (f"{NAME[:-6]}-2.jsonl.gz", 7)):
        Path(home.folder, name).write_bytes(b"x" * size)
    with snapshot(home, ReadReport()) as sources:
        found = [source.segment for source in sources]
    on_disk = [os.stat(Path(home.folder, segment.name)) for segment in found]

    assert [("sealed", 5), ("archive", 7), ("active", 3)] == [(s.kind, s.size_bytes) for s in found]
    assert [(st.st_dev, st.st_ino) for st in on_disk] == [s.identity for s in found]


# -- from the end --------------------------------------------------------------------------------

LINES = [b"x" * (number * 37 % 101) + b"\n" for number in range(60)]


@pytest.mark.parametrize("size", [1, 7, 64, 500, 1 << 20])
@pytest.mark.parametrize("complete", [True, False])
def test_reading_from_the_end(home, size: int, complete: bool) -> None:
    """Blocks of complete lines are yielded from the end, and together they are the file."""
    data = b"".join(LINES) + b"torn" * (not complete)
    Path(home.folder, NAME).write_bytes(data)
    count = len(os.listdir("/dev/fd"))
    with snapshot(home, ReadReport()) as (source,):
        report = FileReport()
        blocks = list(source.backwards(report, size, 1 << 20))
        assert len(os.listdir("/dev/fd")) == count + 1  # the directory

    assert data == b"".join(reversed(blocks))
    assert all(blocks)
    assert all(block.endswith(b"\n") for block in blocks[complete is False :])
    assert (size < 500) == (len(blocks) > 10)
    assert "" == report.stopped


@pytest.mark.parametrize("following", [b"\nlast\n", b"\n", b""], ids=["more", "end", "none"])
def test_a_long_line_from_the_end(home, following: bytes) -> None:
    """Only the end of an overlong line is kept, and it is still too long."""
    Path(home.folder, NAME).write_bytes(b"first\n" + b"x" * 5_000 + b"end" + following)
    for size in range(60, 160):
        with snapshot(home, ReadReport()) as (source,):
            found = b"".join(reversed(list(source.backwards(FileReport(), size, 50))))
        first, long_line, *last = found.splitlines()

        assert (b"first", following.split()) == (first, last)
        assert 50 <= len(long_line) <= size + 50
        assert long_line.endswith(b"xxend")


def test_an_archive_is_not_read_from_the_end(home) -> None:
    """An archive is decompressed from its start, so it is not read backwards."""
    Path(home.folder, f"{NAME}.gz").write_bytes(gzip.compress(b"x\n"))
    with snapshot(home, ReadReport()) as (source,):
        assert [] == list(source.backwards(FileReport(), 100, 50))


def test_a_file_that_cannot_be_read_from_the_end(home, monkeypatch) -> None:
    """The read error is reported."""

    def fail(_fd: int, _count: int, _at: int) -> bytes:
        raise OSError(errno.EIO, "")

    Path(home.folder, NAME).write_bytes(b"x\n")
    report = FileReport()
    with snapshot(home, ReadReport()) as (source,):
        monkeypatch.setattr(os, "pread", fail)
        assert [] == list(source.backwards(report, 100, 50))

    assert "it cannot be read (EIO)" == report.stopped


# -- one snapshot --------------------------------------------------------------------------------


def seal_after_listing(monkeypatch, home: ProjectPaths, listings: int) -> list[str]:
    """Seal the log after each of the first listings and return the list of results."""
    real = os.scandir
    results: list[str] = []

    def scandir(folder: int) -> contextlib.AbstractContextManager[object]:
        with real(folder) as entries:
            found = list(entries)
        if len(results) < listings:
            try:
                results.append("sealed" if rotation.seal(home, "2024-02-28", 0.0) else "nothing")
            except JournalError:
                results.append("busy")
        return contextlib.nullcontext(found)

    monkeypatch.setattr(os, "scandir", scandir)
    return results


def test_a_log_that_is_sealed_after_the_listing(home, monkeypatch) -> None:
    """Without a lock file, the directory is listed again until it is unchanged."""
    Path(home.log).write_bytes(b"x\n")
    os.chmod(home.log, 0o600)
    results = seal_after_listing(monkeypatch, home, 1)
    problems = ReadReport()

    with snapshot(home, problems) as sources:
        assert [NAME] == [source.segment.name for source in sources]
    assert (["sealed"], []) == (results, problems.sentences())


def test_no_process_seals_during_the_listing(home, monkeypatch) -> None:
    """The reader shares the lock until it has opened the files, and then releases it."""
    Path(home.log).write_bytes(b"x\n")
    os.chmod(home.log, 0o600)
    Path(home.lock).touch(0o600)
    results = seal_after_listing(monkeypatch, home, 1)
    with snapshot(home, ReadReport()) as sources:
        assert ["telemetry.jsonl"] == [source.segment.name for source in sources]
        assert ["busy"] == results
        assert rotation.seal(home, "2024-02-28", 0.0)
        assert [b"x\n"] == list(sources[0].chunks(FileReport()))


# -- unusable files ------------------------------------------------------------------------------


def problems_of(home: ProjectPaths) -> list[str]:
    """Return the problems of a directory without any readable segment."""
    problems = ReadReport()
    with snapshot(home, problems) as sources:
        assert [] == sources
    return problems.sentences()


def test_a_directory_that_cannot_be_listed(home, monkeypatch) -> None:
    """The error is reported with the name of the log."""

    def fail(_folder: int) -> object:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "scandir", fail)

    assert ["telemetry.jsonl: its folder cannot be read (EIO)"] == problems_of(home)


@pytest.mark.parametrize("kind", ["file", "fifo", "link"])
def test_a_file_named_like_the_directory(home, tmp_path, kind: str) -> None:
    """The path is reported with the error code, and a pipe does not block the reader."""
    os.rmdir(home.folder)
    if kind == "fifo":
        os.mkfifo(home.folder)
    elif kind == "file":
        Path(home.folder).touch()
    else:
        os.symlink(tmp_path, home.folder)

    assert [f"{home.folder}: it cannot be opened (ENOTDIR)"] == problems_of(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_directory_of_another_user(home) -> None:
    """A directory of another user is reported and not read."""
    Path(home.log).touch()
    os.chown(home.folder, 65_534, 65_534)

    assert [f"{home.folder}: it is not a folder of yours"] == problems_of(home)


def test_a_linked_segment(home, tmp_path) -> None:
    """A link is reported and not followed."""
    (tmp_path / "theirs").touch()
    os.symlink(tmp_path / "theirs", Path(home.folder, NAME))

    assert [f"{NAME}: it cannot be opened (ELOOP)"] == problems_of(home)


def test_a_checksum_without_read_access(home, monkeypatch) -> None:
    """If the file cannot be read, it has no checksum."""

    def fail(_fd: int, _count: int, _at: int) -> bytes:
        raise OSError(errno.EIO, "")

    Path(home.folder, NAME).write_bytes(b"x")
    with snapshot(home, ReadReport()) as (source,):
        monkeypatch.setattr(os, "pread", fail)

        assert -1 == source.checksum(1, 1)
