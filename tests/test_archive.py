"""Packing, retention and removal: nothing that counts is lost, nothing that went comes back."""

import gzip
import os
from pathlib import Path

import pytest

from telemetry_kit.home import Home
from telemetry_kit.journal import archive, reader, segments, upkeep
from telemetry_kit.journal.lease import Journal

DAY = "2024-02-28"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home in an empty project."""
    base = Path(os.path.realpath(tmp_path))
    (base / "the-work").mkdir()
    return Home("flowspec", str(base / "the-work"), str(base / "config"), str(base / "state"))


def line(number: int, day: str = DAY) -> bytes:
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


def segment(home: Home, numbers: range, day: str = DAY, named: str = DAY) -> Path:
    journal = Journal(home, lambda: True)
    for number in numbers:
        while not journal.append(line(number, day)):
            pass
    journal.close()
    before = set(os.listdir(home.folder))
    upkeep.seal(home, named)
    (name,) = {n for n in set(os.listdir(home.folder)) - before if n.startswith("telemetry-")}
    return Path(home.folder, name)


def ids(home: Home) -> list[int]:
    return [int(event["event_id"], 16) for event in reader.read(home)]


def test_packing_keeps_every_byte(home) -> None:
    """The archive holds what the sealed segment held, also what is no event."""
    sealed = segment(home, range(5))
    sealed.chmod(0o600)
    sealed.write_bytes(sealed.read_bytes() + b"torn")
    content = sealed.read_bytes()
    done = archive.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.survivors)
    assert content == gzip.decompress(Path(f"{sealed}.gz").read_bytes())
    assert not sealed.exists()


def test_a_leased_segment_waits(home) -> None:
    """What a program holds open is packed once it has given it back."""
    journal = Journal(home, lambda: True)
    journal.append(line(1))
    upkeep.seal(home, DAY)
    first = archive.maintain(home, 90, DAY)
    journal.close()
    second = archive.maintain(home, 90, DAY)

    assert (1, 0, 0, 1) == (first.leased, first.archived, second.leased, second.archived)


@pytest.mark.parametrize("how", ["rewrite", "retain"])
def test_a_broken_off_archive_does_not_come_back(home, how: str) -> None:
    """A sealed segment goes together with the archive that a killed archiver left beside it."""
    sealed = segment(home, range(5))
    Path(f"{sealed}.gz").write_bytes(gzip.compress(sealed.read_bytes()))
    if how == "rewrite":
        archive.rewrite(home, lambda _line: False, DAY)
    else:
        journal = Journal(home, lambda: True)
        held = os.open(sealed, os.O_RDONLY)
        import fcntl

        fcntl.flock(held, fcntl.LOCK_SH)
        archive.maintain(home, 90, "2024-12-28")
        os.close(held)
        journal.close()

    assert [] == ids(home)


def test_removal_says_what_it_could_not_open(home, tmp_path) -> None:
    """A segment that cannot be used is told, not passed over."""
    segment(home, range(5))
    os.symlink(tmp_path / "nothing", Path(home.folder, "telemetry-2024-01-01.jsonl"))
    done = archive.rewrite(home, lambda _line: False, DAY)

    assert 5 == done.lines
    assert any("telemetry-2024-01-01.jsonl" in told for told in done.survivors)


def test_one_bad_leftover_stops_nothing(home) -> None:
    """A folder under the name of a temporary file is told; the rest is packed."""
    sealed = segment(home, range(5))
    Path(home.folder, ".telemetry-x.tmp").mkdir()
    done = archive.maintain(home, 90, DAY)

    assert (1, 1) == (done.archived, len(done.survivors))
    assert not sealed.exists()


def test_a_hard_link_is_not_healed(home, tmp_path) -> None:
    """A file with a second name keeps its mode."""
    os.mkdir(home.folder, 0o700)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"")
    theirs.chmod(0o600)
    os.link(theirs, Path(home.folder, "telemetry-2024-01-01.jsonl"))
    archive.maintain(home, 90, DAY)

    assert 0o600 == theirs.stat().st_mode & 0o7777


def test_new_lines_under_an_old_name_stay(home) -> None:
    """Sealed while the clock stood in the past: retention goes by the lines, not the name."""
    segment(home, range(5), named="1970-01-01")
    archive.maintain(home, 90, DAY)
    archive.maintain(home, 90, "2024-03-10")

    assert list(range(5)) == ids(home)


def test_retention_removes_old_lines(home) -> None:
    """Old segments go, and old lines go from those that stay."""
    segment(home, range(5), "2023-01-01", "2023-01-01")
    segment(home, range(5, 10), "2023-12-15", "2024-02-28")
    segment(home, range(10, 15))
    archive.maintain(home, 30, DAY)

    assert list(range(10, 15)) == ids(home)


@pytest.mark.parametrize("where", ["config", "state", "config/projects/x", "state/projects/x"])
def test_leftovers_of_dead_commands_go(home, where: str) -> None:
    """A temporary file in the user's folders goes unless somebody is writing it."""
    import fcntl

    folder = Path(home.root).parent / where
    folder.mkdir(parents=True)
    (folder / ".key-1.tmp").write_bytes(b"x")
    (folder / ".key-2.tmp").write_bytes(b"x")
    with open(folder / ".key-2.tmp", "ab") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        archive.maintain(home, 90, DAY)

    assert [".key-2.tmp"] == sorted(os.listdir(folder))


def test_what_packs_too_well_is_stored(home, monkeypatch) -> None:
    """An archive is never one that the reader would take for a bomb."""
    monkeypatch.setattr(segments, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(segments, "MAX_RATIO", 3)
    segment(home, range(200))
    done = archive.maintain(home, 90, DAY)

    assert (1, []) == (done.archived, done.survivors)
    assert list(range(200)) == ids(home)


def test_what_is_too_large_stays_sealed(home, monkeypatch) -> None:
    """A segment over the largest size of an archive is kept as it is, and said to be."""
    monkeypatch.setattr(segments, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(segments, "MAX_ARCHIVE_BYTES", 2_000)
    sealed = segment(home, range(200))
    done = archive.maintain(home, 90, DAY)

    assert (0, 1) == (done.archived, len(done.survivors))
    assert sealed.exists()
    assert list(range(200)) == ids(home)
