"""Compression, retention and removal lose no current event and restore no deleted one."""

import fcntl
import gzip
import json
import os
import sys
import time
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, maintenance, rotation
from telemetry_kit.storage.writer import LogWriter
from tests.storage.rewrite_helpers import ids

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAY = "2024-02-28"


def line(number: int, day: str = DAY) -> bytes:
    """Return an event as one line of the log."""
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


@pytest.fixture
def with_zstd(monkeypatch) -> None:
    """Let the module that reads zstd write it too."""
    monkeypatch.setattr(compression, "WRITING", compression.READING)


@pytest.fixture
def without_zstd(monkeypatch) -> None:
    """Hide every module that reads zstd."""
    monkeypatch.setattr(compression, "READING", ())


def names(home: ProjectPaths) -> list[str]:
    """Return the names of the segments."""
    return sorted(n for n in os.listdir(home.folder) if n.startswith("telemetry-"))


def segment(home: ProjectPaths, numbers: range, day: str = DAY, named: str = DAY) -> Path:
    """Write these events, seal the log and return the path of the segment."""
    log_writer = LogWriter(home, lambda: True)
    for number in numbers:
        while not log_writer.append(line(number, day)):
            pass
    log_writer.close()
    before = set(os.listdir(home.folder))
    rotation.seal(home, named)
    (name,) = {n for n in set(os.listdir(home.folder)) - before if n.startswith("telemetry-")}
    return Path(home.folder, name)


def test_compression_keeps_every_byte(home) -> None:
    """The archive contains each byte of the sealed segment, including bytes that are no event."""
    sealed = segment(home, range(5))
    sealed.chmod(0o600)
    sealed.write_bytes(sealed.read_bytes() + b"torn")
    content = sealed.read_bytes()
    done = maintenance.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.failures)
    assert content == gzip.decompress(Path(f"{sealed}.gz").read_bytes())
    assert not sealed.exists()


def test_a_segment_in_use_is_compressed_later(home) -> None:
    """A segment in use is compressed after the program has released its lease."""
    log_writer = LogWriter(home, lambda: True)
    log_writer.append(line(1))
    rotation.seal(home, DAY)
    first = maintenance.maintain(home, 90, DAY)
    log_writer.close()
    second = maintenance.maintain(home, 90, DAY)

    assert (1, 0, 0, 1) == (first.in_use, first.archived, second.in_use, second.archived)


@pytest.mark.parametrize("how", ["rewrite", "retain"])
def test_an_unfinished_archive_is_deleted_too(home, how: str) -> None:
    """A sealed segment is deleted together with the unfinished archive beside it."""
    sealed = segment(home, range(5))
    Path(f"{sealed}.gz").write_bytes(gzip.compress(sealed.read_bytes()))
    if how == "rewrite":
        maintenance.rewrite(home, lambda _line: False, DAY)
    else:
        log_writer = LogWriter(home, lambda: True)
        lease = os.open(sealed, os.O_RDONLY)
        fcntl.flock(lease, fcntl.LOCK_SH)
        maintenance.maintain(home, 90, "2024-12-28")
        os.close(lease)
        log_writer.close()

    assert [] == ids(home)


def test_removal_reports_a_segment_that_it_cannot_open(home, tmp_path) -> None:
    """Removal reports a segment that it cannot open, and does not skip it silently."""
    segment(home, range(5))
    os.symlink(tmp_path / "nothing", Path(home.folder, "telemetry-2024-01-01.jsonl"))
    done = maintenance.rewrite(home, lambda _line: False, DAY)

    assert 5 == done.lines
    assert any("telemetry-2024-01-01.jsonl" in failure for failure in done.failures)


def test_a_directory_named_like_a_temporary_file(home) -> None:
    """A directory with the name of a temporary file is reported. The segments are compressed."""
    sealed = segment(home, range(5))
    Path(home.folder, ".telemetry-x.tmp").mkdir()
    done = maintenance.maintain(home, 90, DAY)

    assert (1, 1) == (done.archived, len(done.failures))
    assert done.failures[0].startswith(f"{home.folder}/.telemetry-x.tmp (E")
    assert not sealed.exists()


def test_a_hard_link_keeps_its_mode(home, tmp_path) -> None:
    """Maintenance does not change the mode of a file with a second hard link."""
    os.mkdir(home.folder, 0o700)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"")
    theirs.chmod(0o600)
    os.link(theirs, Path(home.folder, "telemetry-2024-01-01.jsonl"))
    maintenance.maintain(home, 90, DAY)

    assert 0o600 == theirs.stat().st_mode & 0o7777


def test_retention_uses_the_day_of_the_line(home) -> None:
    """If a wrong clock named the segment, retention uses the days of its lines."""
    segment(home, range(5), named="1970-01-01")
    segment(home, range(5, 6))
    maintenance.maintain(home, 90, "2024-03-01")
    maintenance.maintain(home, 90, "2024-03-10")

    assert list(range(6)) == ids(home)


def test_retention_removes_old_lines(home) -> None:
    """Retention deletes expired segments, and expired lines from the other segments."""
    segment(home, range(5), "2023-06-01", "2023-06-01")
    segment(home, range(5, 10), "2023-12-15", "2024-02-28")
    segment(home, range(10, 15))
    maintenance.maintain(home, 30, DAY)

    assert list(range(10, 15)) == ids(home)


@pytest.mark.parametrize("where", ["config", "state", "config/projects/x", "state/projects/x"])
def test_leftovers_of_killed_commands_are_deleted(home, where: str) -> None:
    """A temporary file of the user is deleted unless another process is writing it."""
    folder = Path(home.root).parent / where
    folder.mkdir(parents=True)
    leftover, in_use = (folder / f".key-{code * 12}.telemetry-kit.tmp" for code in "12")
    for path in (leftover, in_use):
        path.write_bytes(b"x")
        path.chmod(0o600)
    with open(in_use, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        maintenance.maintain(home, 90, DAY)

    assert [in_use.name] == sorted(os.listdir(folder))


def test_a_very_high_ratio_is_stored(home, monkeypatch) -> None:
    """Compression never writes an archive that the reader would reject as a bomb."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 3)
    segment(home, range(200))
    done = maintenance.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.failures)
    assert list(range(200)) == ids(home)


def test_a_segment_above_the_maximum_size(home, monkeypatch) -> None:
    """A segment above the maximum size of an archive stays sealed and is reported."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 2_000)
    sealed = segment(home, range(200))
    done = maintenance.maintain(home, 90, DAY)

    assert (0, 1) == (done.archived, len(done.failures))
    assert sealed.exists()
    assert list(range(200)) == ids(home)


# -- zstd ----------------------------------------------------------------------------------------


def test_which_module_writes_zstd() -> None:
    """Only Python's own module writes zstd. The backport only reads it."""
    own = sys.version_info >= (3, 14)

    assert own == (compression.find(compression.WRITING) is not None)
    assert compression.find(compression.READING) is not None


def test_an_archive_of_zstd(home, with_zstd) -> None:
    """A zstd archive contains each byte, detects damage, and leaves no other file."""
    sealed = segment(home, range(500))
    content = sealed.read_bytes()
    done = maintenance.maintain(home, 90, DAY)
    compressed = Path(f"{sealed}.zst").read_bytes()

    assert (1, []) == (done.archived, done.failures)
    assert [f"{sealed.name}.zst"] == names(home)
    assert content == zstd.decompress(compressed)
    # The flag in the header announces a checksum at the end.
    assert compressed[4] & 0b100
    assert 0o600 == os.stat(f"{sealed}.zst").st_mode & 0o7777
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(compressed[:-1] + bytes([compressed[-1] ^ 1]))


def test_an_archive_keeps_its_codec(home, monkeypatch) -> None:
    """A rewrite keeps the codec of an archive, even if Python prefers another one."""
    monkeypatch.setattr(compression, "WRITING", ())
    segment(home, range(5), "2024-02-01")
    maintenance.maintain(home, 90, DAY)
    monkeypatch.setattr(compression, "WRITING", compression.READING)
    segment(home, range(5, 10), "2024-02-01")
    maintenance.maintain(home, 90, DAY)
    monkeypatch.setattr(compression, "WRITING", ())
    segment(home, range(10, 15))
    compressed = [f"telemetry-{DAY}-2.jsonl.zst", f"telemetry-{DAY}.jsonl.gz"]

    def numbers_from(first: int):
        return lambda text: int(json.loads(text)["event_id"], 16) >= first

    assert [compressed[0], f"telemetry-{DAY}-3.jsonl", compressed[1]] == names(home)
    assert 1 == maintenance.rewrite(home, numbers_from(1), DAY).lines
    assert 7 == maintenance.rewrite(home, numbers_from(8), DAY).lines
    assert list(range(8, 15)) == ids(home)
    assert [compressed[0], f"telemetry-{DAY}-3.jsonl.gz"] == names(home)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_duplicate_archive_of_another_codec(home, request, ending: str) -> None:
    """A killed process left an archive beside its segment. Each event is still stored once."""
    sealed = segment(home, range(5))
    compress = {"gz": gzip.compress, "zst": zstd.compress}[ending]
    Path(f"{sealed}.{ending}").write_bytes(compress(sealed.read_bytes()))
    if ending == "gz":
        request.getfixturevalue("with_zstd")
    maintenance.maintain(home, 90, DAY)

    assert [f"{sealed.name}.{'zst' if ending == 'gz' else 'gz'}"] == names(home)
    assert list(range(5)) == ids(home)


def test_a_very_high_ratio_of_zstd_is_stored(home, monkeypatch, with_zstd) -> None:
    """If the zstd ratio is too high, the segment is stored in a gzip archive."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 3)
    segment(home, range(200))
    done = maintenance.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.failures)
    assert [f"telemetry-{DAY}.jsonl.gz"] == names(home)
    assert list(range(200)) == ids(home)


def zstd_archive(home: ProjectPaths, named: str, modified: str) -> Path:
    """Write a zstd archive of one day that was modified on another day."""
    path = Path(home.folder, f"telemetry-{named}.jsonl.zst")
    path.write_bytes(zstd.compress(line(1, named)))
    when = time.mktime(time.strptime(modified + " 12", "%Y-%m-%d %H"))
    os.utime(path, (when, when))
    return path


def test_removal_reports_an_archive_that_it_cannot_read(home, without_zstd) -> None:
    """Without zstd, removal reports the archive, leaves it unchanged and counts no line."""
    segment(home, range(5))
    path = zstd_archive(home, "2024-02-01", "2024-02-01")
    content = path.read_bytes()
    done = maintenance.rewrite(home, maintenance.keep_since("2024-02-20"), DAY)

    assert 1 == len(done.failures)
    assert f"{path.name} (it is compressed with zstd" in done.failures[0]
    assert content == path.read_bytes()


@pytest.mark.parametrize(
    ("named", "modified", "is_kept"),
    [
        ("2024-02-01", "2024-02-01", True),
        ("2023-06-01", "2024-02-01", True),  # compressed much later, or named by a wrong clock
        ("2023-06-01", "2023-06-02", False),
    ],
)
def test_retention_of_an_archive_without_zstd(
    home, without_zstd, named: str, modified: str, is_kept: bool
) -> None:
    """Without zstd, an archive expires by the later of its name and its modification time."""
    segment(home, range(5))
    path = zstd_archive(home, named, modified)
    done = maintenance.maintain(home, 90, DAY)

    assert is_kept == path.exists()
    assert [] == done.failures


def test_clearing_needs_no_zstd(home, without_zstd) -> None:
    """Without zstd, a clear deletes zstd archives too."""
    os.mkdir(home.folder, 0o700)
    zstd_archive(home, DAY, DAY)

    assert [] == rotation.clear(home)
    assert [] == names(home)


def test_the_ratio_of_a_long_segment(home, monkeypatch) -> None:
    """The ratio of a long segment is that of all its chunks.

    A segment above the limit stays sealed.
    """
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 4)
    sealed = segment(home, range(1))
    noise = b"".join(os.urandom(50).hex().encode() + b"\n" for _ in range(4_000))
    for limit, archived in ((300_000, 0), (1_000_000, 1)):
        monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", limit)
        sealed.chmod(0o600)
        sealed.write_bytes(noise)

        assert archived == maintenance.maintain(home, 90, DAY).archived
    assert noise == gzip.decompress(Path(f"{sealed}.gz").read_bytes())
    assert os.stat(f"{sealed}.gz").st_size < 0.7 * len(noise)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_rewrite_keeps_the_name_of_an_archive(home, with_zstd, ending: str) -> None:
    """A rewrite keeps the suffix of the archive and leaves no second archive."""
    compress = {"gz": gzip.compress, "zst": zstd.compress}[ending]
    os.mkdir(home.folder, 0o700)
    path = Path(home.folder, f"telemetry-{DAY}.jsonl.{ending}")
    path.write_bytes(compress(line(1) + line(2)))
    done = maintenance.rewrite(home, lambda text: b"00002" in text, DAY)

    assert (1, []) == (done.lines, done.failures)
    assert ([path.name], [2]) == (names(home), ids(home))


def test_the_first_available_module() -> None:
    """The first available codec module is selected. Without any, the result is None."""
    found = compression.find(("telemetry_kit.nothing", *compression.READING))

    assert found is compression.find(compression.READING)
    assert None is compression.find(("telemetry_kit.nothing",))
