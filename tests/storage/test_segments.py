"""The files of the journal, and the marks by which a reader knows them again."""

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

NAME = "telemetry-2024-02-28.jsonl"


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """With an empty folder of ours."""
    os.mkdir(home.folder, 0o700)
    return home


@pytest.mark.parametrize("size", [0, 1, 100, 65_536, 200_000])
@pytest.mark.parametrize("ends", [10, 50, 70_000, 1 << 20])
def test_the_sum_of_counted_bytes(home, size: int, ends: int) -> None:
    """All of them, or of many so many at each end; what came behind them does not count."""
    data = bytes(number * 7 % 251 for number in range(size))
    Path(home.folder, NAME).write_bytes(data + b"later")
    counted = data if size <= 2 * ends else data[:ends] + data[-ends:]
    with snapshot(home, ReadReport()) as (source,):
        assert zlib.crc32(counted) == source.checksum(size, ends)


def test_the_sum_of_another_file(home) -> None:
    """There is none where the file is gone or another one has its name; nothing stays open."""
    path = Path(home.folder, NAME)
    path.write_bytes(b"x")
    with snapshot(home, ReadReport()) as (source,):
        count = len(os.listdir("/dev/fd"))
        path.rename(path.with_suffix(".old"))
        gone = source.checksum(1, 1)
        path.write_bytes(b"x")
        other = source.checksum(1, 1)

        assert ((-1, -1), count) == ((gone, other), len(os.listdir("/dev/fd")))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_state_of_a_file(home, tmp_path, suffix: str) -> None:
    """That of the plain file that is open, also without a name; of an archive, by its name."""
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
    """What lies in front is left out, and nothing that is written meanwhile comes along."""
    data = bytes(number * 7 % 251 for number in range(100_000))
    path = Path(home.folder, NAME)
    path.write_bytes(data)
    report = FileReport()
    with snapshot(home, ReadReport()) as (source,):
        chunks = source.chunks(report, begin)
        first = next(chunks, b"")
        with path.open("ab") as file:
            file.write(b"later")
        # The rest of what there was when its turn came.
        assert data[begin:] == b"".join([first, *chunks])
    assert "" == report.stopped


def test_what_cannot_be_used_hides_no_archive(home) -> None:
    """A sealed file stands for its archive only where it can be read."""
    os.mkfifo(Path(home.folder, NAME))
    Path(home.folder, f"{NAME}.gz").write_bytes(gzip.compress(b"x\n"))
    with snapshot(home, ReadReport()) as (source,):
        assert b"x\n" == b"".join(source.chunks(FileReport()))


def test_what_was_opened_is_read(home) -> None:
    """A file that got another name since it was listed is read all the same."""
    log = Path(home.log)
    log.write_bytes(b"x" * 300_000)
    with snapshot(home, ReadReport()) as (source,):
        rotation.seal(home, "2024-02-28")
        log.write_bytes(b"later\n")
        assert b"x" * 300_000 == b"".join(source.chunks(FileReport()))


def test_reports_of_parts_add_up() -> None:
    """Counts are added; what stopped the first stays, and one that is in progress is enough."""
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


def test_segments_are_what_they_are_on_disk(home) -> None:
    """Name, kind, size and identity of each."""
    for name, size in (("telemetry.jsonl", 3), (NAME, 5), (f"{NAME[:-6]}-2.jsonl.gz", 7)):
        Path(home.folder, name).write_bytes(b"x" * size)
    with snapshot(home, ReadReport()) as sources:
        found = [source.segment for source in sources]
    on_disk = [os.stat(Path(home.folder, segment.name)) for segment in found]

    assert [("sealed", 5), ("archive", 7), ("active", 3)] == [(s.kind, s.size_bytes) for s in found]
    assert [(st.st_dev, st.st_ino) for st in on_disk] == [s.identity for s in found]


# -- from the end ------------------------------------------------------------------------------

LINES = [b"x" * (number * 37 % 101) + b"\n" for number in range(60)]


@pytest.mark.parametrize("size", [1, 7, 64, 500, 1 << 20])
@pytest.mark.parametrize("ended", [True, False])
def test_reading_from_the_end(home, size: int, ended: bool) -> None:
    """Blocks of whole lines, the last one first; together they are the file, and it is closed."""
    data = b"".join(LINES) + b"torn" * (not ended)
    Path(home.folder, NAME).write_bytes(data)
    count = len(os.listdir("/dev/fd"))
    with snapshot(home, ReadReport()) as (source,):
        report = FileReport()
        blocks = list(source.backwards(report, size, 1 << 20))
        assert len(os.listdir("/dev/fd")) == count + 1  # the folder

    assert data == b"".join(reversed(blocks))
    assert all(blocks)
    assert all(block.endswith(b"\n") for block in blocks[ended is False :])
    assert (size < 500) == (len(blocks) > 10)
    assert "" == report.stopped


@pytest.mark.parametrize("behind", [b"\nlast\n", b"\n", b""], ids=["more", "end", "none"])
def test_a_long_line_from_the_end(home, behind: bytes) -> None:
    """Of it only its end is kept, whatever stands around it, and it is still known to be long."""
    Path(home.folder, NAME).write_bytes(b"first\n" + b"x" * 5_000 + b"end" + behind)
    for size in range(60, 160):
        with snapshot(home, ReadReport()) as (source,):
            found = b"".join(reversed(list(source.backwards(FileReport(), size, 50))))
        first, long, *last = found.splitlines()

        assert (b"first", behind.split()) == (first, last)
        assert 50 <= len(long) <= size + 50
        assert long.endswith(b"xxend")


def test_an_archive_has_no_end_to_read_from(home) -> None:
    """It has to be unpacked from its beginning."""
    Path(home.folder, f"{NAME}.gz").write_bytes(gzip.compress(b"x\n"))
    with snapshot(home, ReadReport()) as (source,):
        assert [] == list(source.backwards(FileReport(), 100, 50))


def test_a_file_that_cannot_be_read_from_the_end(home, monkeypatch) -> None:
    """The reason is told."""

    def fails(_fd: int, _count: int, _at: int) -> bytes:
        raise OSError(errno.EIO, "")

    Path(home.folder, NAME).write_bytes(b"x\n")
    report = FileReport()
    with snapshot(home, ReadReport()) as (source,):
        monkeypatch.setattr(os, "pread", fails)
        assert [] == list(source.backwards(report, 100, 50))

    assert "it cannot be read (EIO)" == report.stopped


# -- one moment --------------------------------------------------------------------------------


def sealing_after(monkeypatch, home: ProjectPaths, listings: int) -> list[str]:
    """Another process seals the log right after a listing; what came of each attempt."""
    real = os.scandir
    made: list[str] = []

    def scandir(folder: int) -> contextlib.AbstractContextManager[object]:
        with real(folder) as entries:
            found = list(entries)
        if len(made) < listings:
            try:
                made.append("sealed" if rotation.seal(home, "2024-02-28", 0.0) else "nothing")
            except JournalError:
                made.append("busy")
        return contextlib.nullcontext(found)

    monkeypatch.setattr(os, "scandir", scandir)
    return made


def test_a_log_that_is_sealed_after_the_listing(home, monkeypatch) -> None:
    """Where there is no lock yet, the folder is listed again until nothing has changed."""
    Path(home.log).write_bytes(b"x\n")
    os.chmod(home.log, 0o600)
    made = sealing_after(monkeypatch, home, 1)
    problems = ReadReport()

    with snapshot(home, problems) as sources:
        assert [NAME] == [source.segment.name for source in sources]
    assert (["sealed"], []) == (made, problems.sentences())


def test_nobody_seals_while_it_is_listed(home, monkeypatch) -> None:
    """Where there is a lock, whoever reads shares it until the files are open, and no longer."""
    Path(home.log).write_bytes(b"x\n")
    os.chmod(home.log, 0o600)
    Path(home.lock).touch(0o600)
    made = sealing_after(monkeypatch, home, 1)
    with snapshot(home, ReadReport()) as sources:
        assert ["telemetry.jsonl"] == [source.segment.name for source in sources]
        assert ["busy"] == made
        assert rotation.seal(home, "2024-02-28", 0.0)
        assert [b"x\n"] == list(sources[0].chunks(FileReport()))


# -- what cannot be used -------------------------------------------------------------------------


def told(home: ProjectPaths) -> list[str]:
    """What is wrong, when nothing is to be had."""
    problems = ReadReport()
    with snapshot(home, problems) as sources:
        assert [] == sources
    return problems.sentences()


def test_a_folder_that_cannot_be_listed(home, monkeypatch) -> None:
    """The reason is told with the log's name."""

    def fails(_folder: int) -> object:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "scandir", fails)

    assert ["telemetry.jsonl: its folder cannot be read (EIO)"] == told(home)


@pytest.mark.parametrize("kind", ["file", "fifo", "link"])
def test_a_folder_that_is_none(home, tmp_path, kind: str) -> None:
    """It is named, with the system's short name for why; nobody waits for a pipe."""
    os.rmdir(home.folder)
    if kind == "fifo":
        os.mkfifo(home.folder)
    elif kind == "file":
        Path(home.folder).touch()
    else:
        os.symlink(tmp_path, home.folder)

    assert [f"{home.folder}: it cannot be opened (ENOTDIR)"] == told(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else(home) -> None:
    """Nothing in it is looked at."""
    Path(home.log).touch()
    os.chown(home.folder, 65_534, 65_534)

    assert [f"{home.folder}: it is not a folder of yours"] == told(home)


def test_a_segment_behind_a_link(home, tmp_path) -> None:
    """It is not followed, and the reason is told."""
    (tmp_path / "theirs").touch()
    os.symlink(tmp_path / "theirs", Path(home.folder, NAME))

    assert [f"{NAME}: it cannot be opened (ELOOP)"] == told(home)


def test_a_sum_that_cannot_be_made(home, monkeypatch) -> None:
    """As if the file were gone."""

    def fails(_fd: int, _count: int, _at: int) -> bytes:
        raise OSError(errno.EIO, "")

    Path(home.folder, NAME).write_bytes(b"x")
    with snapshot(home, ReadReport()) as (source,):
        monkeypatch.setattr(os, "pread", fails)

        assert -1 == source.checksum(1, 1)
