"""Packing, retention and removal: nothing that counts is lost, nothing that went comes back."""

import fcntl
import gzip
import json
import os
import sys
import time
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, maintenance, reader, rotation
from telemetry_kit.storage.writer import LogWriter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAY = "2024-02-28"


def line(number: int, day: str = DAY) -> bytes:
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


@pytest.fixture
def with_zstd(monkeypatch) -> None:
    """What is in place of the standard module may write, too."""
    monkeypatch.setattr(compression, "WRITING", compression.READING)


@pytest.fixture
def without_zstd(monkeypatch) -> None:
    """No module to read it with."""
    monkeypatch.setattr(compression, "READING", ())


def names(home: ProjectPaths) -> list[str]:
    """The segments that are there."""
    return sorted(n for n in os.listdir(home.folder) if n.startswith("telemetry-"))


def segment(home: ProjectPaths, numbers: range, day: str = DAY, named: str = DAY) -> Path:
    journal = LogWriter(home, lambda: True)
    for number in numbers:
        while not journal.append(line(number, day)):
            pass
    journal.close()
    before = set(os.listdir(home.folder))
    rotation.seal(home, named)
    (name,) = {n for n in set(os.listdir(home.folder)) - before if n.startswith("telemetry-")}
    return Path(home.folder, name)


def ids(home: ProjectPaths) -> list[int]:
    return [int(event["event_id"], 16) for event in reader.read(home)]


def test_packing_keeps_every_byte(home) -> None:
    """The archive holds what the sealed segment held, also what is no event."""
    sealed = segment(home, range(5))
    sealed.chmod(0o600)
    sealed.write_bytes(sealed.read_bytes() + b"torn")
    content = sealed.read_bytes()
    done = maintenance.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.failures)
    assert content == gzip.decompress(Path(f"{sealed}.gz").read_bytes())
    assert not sealed.exists()


def test_a_leased_segment_waits(home) -> None:
    """What a program holds open is packed once it has given it back."""
    journal = LogWriter(home, lambda: True)
    journal.append(line(1))
    rotation.seal(home, DAY)
    first = maintenance.maintain(home, 90, DAY)
    journal.close()
    second = maintenance.maintain(home, 90, DAY)

    assert (1, 0, 0, 1) == (first.in_use, first.archived, second.in_use, second.archived)


@pytest.mark.parametrize("how", ["rewrite", "retain"])
def test_a_broken_off_archive_does_not_come_back(home, how: str) -> None:
    """A sealed segment goes together with the archive that a killed archiver left beside it."""
    sealed = segment(home, range(5))
    Path(f"{sealed}.gz").write_bytes(gzip.compress(sealed.read_bytes()))
    if how == "rewrite":
        maintenance.rewrite(home, lambda _line: False, DAY)
    else:
        journal = LogWriter(home, lambda: True)
        held = os.open(sealed, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
        maintenance.maintain(home, 90, "2024-12-28")
        os.close(held)
        journal.close()

    assert [] == ids(home)


def test_removal_says_what_it_could_not_open(home, tmp_path) -> None:
    """A segment that cannot be used is told, not passed over."""
    segment(home, range(5))
    os.symlink(tmp_path / "nothing", Path(home.folder, "telemetry-2024-01-01.jsonl"))
    done = maintenance.rewrite(home, lambda _line: False, DAY)

    assert 5 == done.lines
    assert any("telemetry-2024-01-01.jsonl" in told for told in done.failures)


def test_one_bad_leftover_stops_nothing(home) -> None:
    """A folder under the name of a temporary file is told; the rest is packed."""
    sealed = segment(home, range(5))
    Path(home.folder, ".telemetry-x.tmp").mkdir()
    done = maintenance.maintain(home, 90, DAY)

    assert (1, 1) == (done.archived, len(done.failures))
    assert done.failures[0].startswith(f"{home.folder}/.telemetry-x.tmp (E")
    assert not sealed.exists()


def test_a_hard_link_is_not_healed(home, tmp_path) -> None:
    """A file with a second name keeps its mode."""
    os.mkdir(home.folder, 0o700)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"")
    theirs.chmod(0o600)
    os.link(theirs, Path(home.folder, "telemetry-2024-01-01.jsonl"))
    maintenance.maintain(home, 90, DAY)

    assert 0o600 == theirs.stat().st_mode & 0o7777


def test_new_lines_under_an_old_name_stay(home) -> None:
    """Sealed while the clock stood in the past: retention goes by the lines, not the name."""
    segment(home, range(5), named="1970-01-01")
    segment(home, range(5, 6))
    maintenance.maintain(home, 90, "2024-03-01")
    maintenance.maintain(home, 90, "2024-03-10")

    assert list(range(6)) == ids(home)


def test_retention_removes_old_lines(home) -> None:
    """Old segments go, and old lines go from those that stay."""
    segment(home, range(5), "2023-06-01", "2023-06-01")
    segment(home, range(5, 10), "2023-12-15", "2024-02-28")
    segment(home, range(10, 15))
    maintenance.maintain(home, 30, DAY)

    assert list(range(10, 15)) == ids(home)


@pytest.mark.parametrize("where", ["config", "state", "config/projects/x", "state/projects/x"])
def test_leftovers_of_dead_commands_go(home, where: str) -> None:
    """A temporary file in the user's folders goes unless somebody is writing it."""
    folder = Path(home.root).parent / where
    folder.mkdir(parents=True)
    left, written = (folder / f".key-{code * 12}.telemetry-kit.tmp" for code in "12")
    for path in (left, written):
        path.write_bytes(b"x")
        path.chmod(0o600)
    with open(written, "ab") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        maintenance.maintain(home, 90, DAY)

    assert [written.name] == sorted(os.listdir(folder))


def test_what_packs_too_well_is_stored(home, monkeypatch) -> None:
    """An archive is never one that the reader would take for a bomb."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 3)
    segment(home, range(200))
    done = maintenance.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.failures)
    assert list(range(200)) == ids(home)


def test_what_is_too_large_stays_sealed(home, monkeypatch) -> None:
    """A segment over the largest size of an archive is kept as it is, and said to be."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 2_000)
    sealed = segment(home, range(200))
    done = maintenance.maintain(home, 90, DAY)

    assert (0, 1) == (done.archived, len(done.failures))
    assert sealed.exists()
    assert list(range(200)) == ids(home)


# -- zstd ----------------------------------------------------------------------------------------


def test_who_writes_zstd() -> None:
    """The interpreter's own module alone; a backport, which one environment has, only reads."""
    own = sys.version_info >= (3, 14)

    assert own == (compression.find(compression.WRITING) is not None)
    assert compression.find(compression.READING) is not None


def test_an_archive_of_zstd(home, with_zstd) -> None:
    """It holds every byte, says when it is damaged, and nothing is left beside it."""
    sealed = segment(home, range(500))
    content = sealed.read_bytes()
    done = maintenance.maintain(home, 90, DAY)
    packed = Path(f"{sealed}.zst").read_bytes()

    assert (1, []) == (done.archived, done.failures)
    assert [f"{sealed.name}.zst"] == names(home)
    assert content == zstd.decompress(packed)
    # The flag of its header says that a checksum stands at its end.
    assert packed[4] & 0b100
    assert 0o600 == os.stat(f"{sealed}.zst").st_mode & 0o7777
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(packed[:-1] + bytes([packed[-1] ^ 1]))


def test_an_archive_keeps_its_packing(home, monkeypatch) -> None:
    """Thinned out by an interpreter that would write another one: no second name at any time."""
    monkeypatch.setattr(compression, "WRITING", ())
    segment(home, range(5), "2024-02-01")
    maintenance.maintain(home, 90, DAY)
    monkeypatch.setattr(compression, "WRITING", compression.READING)
    segment(home, range(5, 10), "2024-02-01")
    maintenance.maintain(home, 90, DAY)
    monkeypatch.setattr(compression, "WRITING", ())
    segment(home, range(10, 15))
    packed = [f"telemetry-{DAY}-2.jsonl.zst", f"telemetry-{DAY}.jsonl.gz"]

    def numbers_from(first: int):
        return lambda text: int(json.loads(text)["event_id"], 16) >= first

    assert [packed[0], f"telemetry-{DAY}-3.jsonl", packed[1]] == names(home)
    assert 1 == maintenance.rewrite(home, numbers_from(1), DAY).lines
    assert 7 == maintenance.rewrite(home, numbers_from(8), DAY).lines
    assert list(range(8, 15)) == ids(home)
    assert [packed[0], f"telemetry-{DAY}-3.jsonl.gz"] == names(home)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_an_archive_that_another_interpreter_left(home, request, ending: str) -> None:
    """Killed before it deleted the sealed file: packed again, and each event is there once."""
    sealed = segment(home, range(5))
    pack = {"gz": gzip.compress, "zst": zstd.compress}[ending]
    Path(f"{sealed}.{ending}").write_bytes(pack(sealed.read_bytes()))
    if ending == "gz":
        request.getfixturevalue("with_zstd")
    maintenance.maintain(home, 90, DAY)

    assert [f"{sealed.name}.{'zst' if ending == 'gz' else 'gz'}"] == names(home)
    assert list(range(5)) == ids(home)


def test_what_zstd_packs_too_well_is_stored(home, monkeypatch, with_zstd) -> None:
    """An archive is never one that the reader would take for a bomb."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 3)
    segment(home, range(200))
    done = maintenance.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.failures)
    assert [f"telemetry-{DAY}.jsonl.gz"] == names(home)
    assert list(range(200)) == ids(home)


def unreadable(home: ProjectPaths, named: str, changed: str) -> Path:
    """An archive of zstd of one day, whose file was changed on another one."""
    path = Path(home.folder, f"telemetry-{named}.jsonl.zst")
    path.write_bytes(zstd.compress(line(1, named)))
    when = time.mktime(time.strptime(changed + " 12", "%Y-%m-%d %H"))
    os.utime(path, (when, when))
    return path


def test_removal_says_what_it_cannot_unpack(home, without_zstd) -> None:
    """Lines of an archive that cannot be unpacked are not said to be gone; it stays as it is."""
    segment(home, range(5))
    path = unreadable(home, "2024-02-01", "2024-02-01")
    content = path.read_bytes()
    done = maintenance.rewrite(home, maintenance.keep_since("2024-02-20"), DAY)

    assert 1 == len(done.failures)
    assert f"{path.name} (it is compressed with zstd" in done.failures[0]
    assert content == path.read_bytes()


@pytest.mark.parametrize(
    ("named", "changed", "stays"),
    [
        ("2024-02-01", "2024-02-01", True),
        ("2023-06-01", "2024-02-01", True),  # packed long after, or sealed by a wrong clock
        ("2023-06-01", "2023-06-02", False),
    ],
)
def test_retention_of_what_cannot_be_unpacked(
    home, without_zstd, named: str, changed: str, stays: bool
) -> None:
    """It goes when both its name and its file are too old, and never before."""
    segment(home, range(5))
    path = unreadable(home, named, changed)
    done = maintenance.maintain(home, 90, DAY)

    assert stays == path.exists()
    assert [] == done.failures


def test_clearing_needs_no_zstd(home, without_zstd) -> None:
    """Everything goes, also what cannot be read."""
    os.mkdir(home.folder, 0o700)
    unreadable(home, DAY, DAY)

    assert [] == rotation.clear(home)
    assert [] == names(home)


def test_a_long_segment_is_weighed_as_a_whole(home, monkeypatch) -> None:
    """Many pieces of what packs modestly are no bomb, and are packed; too many stay sealed."""
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
def test_an_archive_keeps_its_name(home, with_zstd, ending: str) -> None:
    """Thinned out where zstd is preferred: no second archive beside it, whatever it was."""
    pack = {"gz": gzip.compress, "zst": zstd.compress}[ending]
    os.mkdir(home.folder, 0o700)
    path = Path(home.folder, f"telemetry-{DAY}.jsonl.{ending}")
    path.write_bytes(pack(line(1) + line(2)))
    done = maintenance.rewrite(home, lambda text: b"00002" in text, DAY)

    assert (1, []) == (done.lines, done.failures)
    assert ([path.name], [2]) == (names(home), ids(home))


def test_the_first_module_that_is_there() -> None:
    """One that is missing is passed over; where none is there, there is no zstd."""
    found = compression.find(("telemetry_kit.nothing", *compression.READING))

    assert found is compression.find(compression.READING)
    assert None is compression.find(("telemetry_kit.nothing",))
