"""One segment is compressed, rewritten or deleted, also while a program holds it open."""

import errno
import fcntl
import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry_kit.errors import JournalError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, maintenance, rewrite, rotation
from telemetry_kit.storage.segments import ReadReport, snapshot
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


def odd(text: bytes) -> bool:
    """Keeps every second line."""
    return b'{"schema' not in text or int(text[36:52], 16) % 2 == 1


def names(home: ProjectPaths) -> list[str]:
    found = set(os.listdir(home.folder)) - {".telemetry.lock", ".gitignore"}
    return sorted(found)


# -- held open -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pad", [0, 3_900, 4_000, 20_000], ids=str)
def test_lines_of_a_held_segment_are_blanked(home, sleeper, pad: int) -> None:
    """In their place: what stays does not move, and the file is as long and as sealed as before."""
    lines = [line(number, pad=pad) for number in range(20)]
    path = put(home, b"".join(lines))
    sleeper.append(Sleeper(path))
    done = maintenance.rewrite(home, odd, DAY)

    assert (10, 0, 0, []) == (done.lines, done.archived, done.deleted, done.failures)
    blanked = [b"\n" * len(one) if number % 2 == 0 else one for number, one in enumerate(lines)]
    assert b"".join(blanked) == path.read_bytes()
    assert 0o400 == path.stat().st_mode & 0o7777
    assert [path.name] == names(home)
    sleeper[0].end()
    assert (1, 0) == ((again := maintenance.rewrite(home, odd, DAY)).archived, again.lines)
    assert list(range(1, 20, 2)) == ids(home)


def test_blanking_twice_counts_once(home, sleeper) -> None:
    """Empty lines are nothing that goes."""
    path = put(home, line(0) + b"\n\n" + line(2))
    sleeper.append(Sleeper(path))

    assert [2, 0] == [maintenance.rewrite(home, lambda _line: False, DAY).lines for _ in range(2)]
    assert {b"\n"} == {path.read_bytes()[at : at + 1] for at in range(path.stat().st_size)}


def test_blanking_begins_at_the_end_of_a_line(home, sleeper, monkeypatch) -> None:
    """Killed in between, it leaves the front of the line, which tells its day."""
    path = put(home, line(0, pad=30_000) + line(1))
    sleeper.append(Sleeper(path))
    real, calls = os.pwrite, []

    def dies(fd: int, data: bytes, at: int) -> int:
        calls.append((at, len(data)))
        if len(calls) == 3:
            raise OSError(errno.EIO, "")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", dies)
    done = maintenance.rewrite(home, odd, DAY)

    assert [f"{path} (EIO)"] == done.failures
    assert path.read_bytes().startswith(line(0, pad=30_000)[:20_000])
    assert path.read_bytes().endswith(b"\n\n" + line(1))
    # Each on a page of its own: a page is what a disk writes at once.
    assert all(at % 4096 == 0 and size <= 4096 for at, size in calls)


def test_a_held_line_that_is_not_ended(home, sleeper) -> None:
    """Somebody may be inside it: it stays, and that is told; the others go."""
    path = put(home, line(0) + line(2)[:-1])
    sleeper.append(Sleeper(path))
    done = maintenance.rewrite(home, odd, DAY)
    told = "its last line has no newline, and a program has it open"

    assert (1, [f"{path} ({told})"]) == (done.lines, done.failures)
    assert b"\n" * len(line(0)) + line(2)[:-1] == path.read_bytes()


def test_a_held_segment_is_not_packed(home, sleeper) -> None:
    """It is counted, each one; what is held by nobody is packed."""
    for number in range(2):
        sleeper.append(Sleeper(put(home, line(number), f"2024-02-2{number}")))
    put(home, line(5), "2024-02-25")
    put(home, line(6), "2024-02-26")
    done = maintenance.maintain(home, 90, DAY)

    assert (2, 2, []) == (done.in_use, done.archived, done.failures)
    assert [".jsonl"] * 2 + [".gz"] * 2 == [Path(name).suffix for name in names(home)]


@pytest.mark.parametrize("suffixes", [[".gz"], [".zst"], [".gz", ".zst"]], ids=str)
def test_a_leftover_beside_a_held_segment_goes(home, sleeper, suffixes: list[str]) -> None:
    """The archive of a killed archiver must not bring back what was blanked."""
    path = put(home, line(0))
    for suffix in suffixes:
        Path(f"{path}{suffix}").write_bytes(b"half an archive")
    sleeper.append(Sleeper(path))
    maintenance.rewrite(home, odd, DAY)

    assert [path.name] == names(home)


def test_a_file_that_was_put_in_its_place(home, sleeper, monkeypatch, tmp_path) -> None:
    """Between making it writable and opening it: the other file is not written to."""
    path = put(home, line(0))
    sleeper.append(Sleeper(path))
    real = os.fchmod

    def swaps(fd: int, mode: int) -> None:
        real(fd, mode)
        if mode == rotation.WRITABLE_MODE:
            os.rename(path, tmp_path / "moved")
            put(home, line(2))
            path.chmod(0o600)

    monkeypatch.setattr(os, "fchmod", swaps)
    count = len(os.listdir("/dev/fd"))
    done = maintenance.rewrite(home, odd, DAY)

    assert (0, 1) == (done.lines, len(done.failures))
    assert (line(0), line(2)) == ((tmp_path / "moved").read_bytes(), path.read_bytes())
    assert (0o400, count) == (
        (tmp_path / "moved").stat().st_mode & 0o7777,
        len(os.listdir("/dev/fd")),
    )


def test_a_user_who_may_not_write_to_what_is_sealed(home, sleeper, monkeypatch) -> None:
    """Whoever is not root meets the mode of a sealed file: whether it is held is seen as well."""
    free = put(home, line(1), "2024-02-27")
    held = put(home, line(3))
    sleeper.append(Sleeper(held))
    real = os.open

    def opens(path, flags: int, *args, **more) -> int:
        if path in (free.name, held.name) and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "")
        return real(path, flags, *args, **more)

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "open", opens)
    done = maintenance.maintain(home, 90, DAY)

    assert (1, 1, []) == (done.archived, done.in_use, done.failures)
    assert [f"{free.name}.gz", held.name] == names(home)
    assert count == len(os.listdir("/dev/fd"))


def test_who_holds_a_segment(home, sleeper) -> None:
    """A sealed one is held while its lease is; an archive never is."""
    put(home, line(1), "2024-02-27", packed=True)
    put(home, line(2), "2024-02-26")
    sleeper.append(Sleeper(put(home, line(0))))
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


# -- packed anew ---------------------------------------------------------------------------------


def test_an_archive_loses_lines(home) -> None:
    """It is packed anew, privately; what is no event stays, and so does a last half line."""
    path = put(home, line(0) + b"noise\n" + line(1) + b"\n" + line(2) + b"torn", packed=True)
    done = maintenance.rewrite(home, odd, DAY)

    assert (2, 0, 0, []) == (done.lines, done.archived, done.deleted, done.failures)
    assert b"noise\n" + line(1) + b"\ntorn" == gzip.decompress(path.read_bytes())
    assert (0o600, [path.name]) == (path.stat().st_mode & 0o7777, names(home))


def test_long_lines_are_filtered_whole(home) -> None:
    """Also those that lie across many pieces of what is read at once."""
    lines = [line(number, pad=number * 40_000) for number in range(6)]
    path = put(home, b"".join(lines))
    done = maintenance.rewrite(home, odd, DAY)

    assert (3, 1) == (done.lines, done.archived)
    assert b"".join(lines[1::2]) == gzip.decompress(Path(f"{path}.gz").read_bytes())


def test_an_archive_that_loses_nothing_is_not_touched(home) -> None:
    """The very file is still there."""
    path = put(home, line(1) + line(3), packed=True)
    before = path.stat()
    maintenance.rewrite(home, odd, DAY)

    assert before == path.stat()


@pytest.mark.parametrize("packed", [False, True])
def test_a_segment_that_loses_everything_goes(home, packed: bool) -> None:
    """There are no empty archives; each one is counted."""
    for number in range(3):
        put(home, line(number) + line(number), f"2024-02-0{number + 1}", packed)
    done = maintenance.rewrite(home, lambda _line: False, DAY)

    assert (6, 3, 0) == (done.lines, done.deleted, done.archived)
    assert [] == names(home)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_fails_while_packing(home, monkeypatch, call: str) -> None:
    """The sealed file stays as it was, nothing else is left, and the reason is told."""

    def fails(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, "")

    path = put(home, line(0))
    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, call, fails)
    done = maintenance.maintain(home, 90, DAY)

    assert ([f"{path} (ENOSPC)"], 0) == (done.failures, done.archived)
    assert (line(0), [path.name]) == (path.read_bytes(), names(home))
    assert count == len(os.listdir("/dev/fd"))


def test_a_segment_that_grows_while_it_is_packed(home, monkeypatch) -> None:
    """It stays; the archive in the making goes; the next time all of it is packed."""
    path = put(home, line(0))
    real = os.fsync

    def late(fd: int) -> None:
        real(fd)
        path.chmod(0o600)
        path.write_bytes(line(0) + line(1))

    monkeypatch.setattr(os, "fsync", late)
    done = maintenance.maintain(home, 90, DAY)
    monkeypatch.undo()

    assert [f"{path} (it is still written to)"] == done.failures
    assert [path.name] == names(home)
    assert 1 == maintenance.maintain(home, 90, DAY).archived
    assert [0, 1] == ids(home)


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_an_archive_in_the_making(home, monkeypatch, mask: int) -> None:
    """Its user alone may read it, and maintenance knows its name, should it be left behind."""
    path = put(home, line(0))
    real, seen = os.fsync, []

    def looks(fd: int) -> None:
        real(fd)
        temporary = [n for n in os.listdir(home.folder) if rotation.TEMPORARY.fullmatch(n)]
        seen.append((temporary, os.fstat(fd).st_mode & 0o7777, path.exists()))

    monkeypatch.setattr(os, "fsync", looks)
    former = os.umask(mask)
    try:
        maintenance.maintain(home, 90, DAY)
    finally:
        os.umask(former)
    temporary, bits, sealed = seen[0]

    assert (1, 0o600, True) == (len(temporary), bits, sealed)


def test_a_disk_that_takes_little_at_once(home, monkeypatch) -> None:
    """What a write left over is written by the next one."""
    path = put(home, b"".join(line(number) for number in range(500)))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    maintenance.maintain(home, 90, DAY)
    monkeypatch.undo()

    assert list(range(500)) == ids(home)
    assert [f"{path.name}.gz"] == names(home)


@pytest.mark.parametrize("damage", ["incomplete", "damaged"])
def test_a_damaged_archive_is_not_rewritten(home, damage: str) -> None:
    """Better a damaged archive than what is left of it; it is told."""
    path = put(home, b"".join(line(number) for number in range(100)), packed=True)
    data = path.read_bytes()
    data = data[:-20] if damage == "incomplete" else data[:200] + b"\xff" * 40 + data[240:]
    path.write_bytes(data)
    done = maintenance.rewrite(home, odd, DAY)

    assert (0, 1) == (done.lines, len(done.failures))
    assert done.failures[0].startswith(f"{path} (the archive is {damage}")
    assert (data, [path.name]) == (path.read_bytes(), names(home))


# -- all of them ---------------------------------------------------------------------------------


def test_the_journal_has_a_largest_size(home, sleeper, monkeypatch) -> None:
    """The oldest go until the rest fits; one that is held stays, and the next goes for it."""
    noise = os.urandom(500).hex().encode()
    for number in range(1, 6):
        put(home, line(number) + noise + b"\n", f"2024-02-0{number}", packed=True)
    held = put(home, line(0) + noise + b"\n", "2024-01-31")
    sleeper.append(Sleeper(held))
    sizes = {name: os.stat(Path(home.folder, name)).st_size for name in names(home)}
    rest = [held.name, "telemetry-2024-02-04.jsonl.gz", "telemetry-2024-02-05.jsonl.gz"]
    monkeypatch.setattr(limits, "MAX_BYTES", sum(sizes[name] for name in rest))
    done = maintenance.maintain(home, 90, DAY)

    assert (3, rest) == (done.deleted, names(home))


@pytest.mark.parametrize(("keep", "stays"), [(lambda _line: True, True), (odd, False)])
def test_the_counts_of_lines_that_are_gone_go(home, keep, stays: bool) -> None:
    """The roll-up is deleted with the first line, and kept where none went."""
    put(home, line(0), packed=True)
    rollup = Path(home.folder, rotation.COUNT_CACHE)
    rollup.write_bytes(b"counts")
    maintenance.rewrite(home, keep, DAY)

    assert stays == rollup.exists()


@pytest.mark.parametrize("mode", [0o600, rotation.WRITABLE_MODE])
@pytest.mark.parametrize("how", ["maintain", "rewrite"])
def test_what_was_broken_off_is_finished(home, sleeper, mode: int, how: str) -> None:
    """A segment that a sealer or a blanker left open is sealed, leftovers go, others stay."""
    path = put(home, line(1))
    sleeper.append(Sleeper(path))
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
    """It keeps its mode."""
    path = put(home, line(1), packed=True)
    maintenance.maintain(home, 90, DAY)

    assert 0o600 == path.stat().st_mode & 0o7777


def test_removal_waits_for_its_turn(home, monkeypatch) -> None:
    """For five seconds; then nothing was touched, and it is said who is busy."""
    put(home, line(0))
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
    """Where somebody is busy it says so and returns."""
    put(home, line(0))
    with rotation.maintenance(home):
        done = maintenance.maintain(home, 90, DAY)

    assert [f"another process is busy with {home.folder}"] == done.failures


def test_a_folder_that_cannot_be_listed(home, monkeypatch) -> None:
    """The reason is told with the system's short name, and nothing is removed."""

    def fails(_folder: object) -> list[str]:
        raise OSError(errno.EIO, "")

    put(home, line(0))
    monkeypatch.setattr(os, "listdir", fails)
    removed, maintained = maintenance.rewrite(home, odd, DAY), maintenance.maintain(home, 90, DAY)
    monkeypatch.undo()

    assert ([f"{home.folder} (EIO)"], ["EIO"]) == (removed.failures, maintained.failures)
    assert [0] == ids(home)


def test_nothing_to_maintain_makes_nothing(home) -> None:
    """Where nothing is stored, not even a lock is made."""
    maintenance.maintain(home, 90, DAY)
    assert [] == os.listdir(home.folder)
    os.rmdir(home.folder)
    removed = maintenance.rewrite(home, odd, DAY)

    assert (0, []) == (removed.lines, removed.failures)
    assert not os.path.exists(home.folder)
