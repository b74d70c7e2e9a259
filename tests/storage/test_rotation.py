"""Sealing and clearing: only what is ours is touched, and what is sealed stays sealed."""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from telemetry_kit.errors import JournalError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import ignore_file, log_file, rotation
from telemetry_kit.storage.writer import LogWriter

DAY = "2024-02-28"
LINE = b'{"schema_version":"1.0"}\n'


def modes(home: ProjectPaths) -> dict[str, int]:
    """The mode of each segment, by name."""
    return {p.name: p.stat().st_mode & 0o7777 for p in Path(home.folder).glob("telemetry*")}


@pytest.mark.parametrize("mask", [0o022, 0o277, 0o777])
def test_a_log_sealed_while_it_is_made_stays_sealed(home, monkeypatch, mask: int) -> None:
    """Between making the log and setting its mode it is sealed: the line goes into a new one."""
    real = os.open
    sealed = []

    def slowly(path, flags, *args, **more):
        fd = real(path, flags, *args, **more)
        if path == log_file.LOG and flags & os.O_CREAT and not sealed:
            sealed.append(rotation.seal(home, DAY, 0.0))
        return fd

    monkeypatch.setattr(os, "open", slowly)
    former = os.umask(mask)
    journal = LogWriter(home, lambda: True)
    try:
        assert journal.append(LINE)
    finally:
        os.umask(former)
        journal.close()

    assert 0o600 == modes(home).pop("telemetry.jsonl")
    assert LINE == Path(home.log).read_bytes()
    assert all(mode == 0o400 for name, mode in modes(home).items() if name != "telemetry.jsonl")


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_sealing_changes_nothing_outside(home, tmp_path, kind: str) -> None:
    """Something else under the log's name is not sealed, and what it leads to keeps its mode."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    outside.chmod(0o600)
    os.mkdir(home.folder, 0o700)
    if kind == "link":
        os.symlink(outside, home.log)
    elif kind == "hard link":
        os.link(outside, home.log)
    else:
        os.mkdir(home.log)
    with pytest.raises(JournalError, match="not sealed"):
        rotation.seal(home, DAY)

    assert 0o600 == outside.stat().st_mode & 0o7777
    assert os.path.lexists(home.log)


def test_a_listing_alone_is_not_believed(home, monkeypatch) -> None:
    """A segment that a listing did not show is not overwritten."""
    journal = LogWriter(home, lambda: True)
    journal.append(LINE)
    rotation.seal(home, DAY)
    while not journal.append(LINE):
        pass
    monkeypatch.setattr(os, "listdir", lambda _folder: [])
    rotation.seal(home, DAY)
    journal.close()

    assert {"telemetry-2024-02-28.jsonl", "telemetry-2024-02-28-2.jsonl"} == set(modes(home))


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_the_lock_is_private_and_usable(home, mask: int) -> None:
    """Whatever the mask, the lock has mode 0600."""
    write(home)
    former = os.umask(mask)
    try:
        rotation.seal(home, DAY)
    finally:
        os.umask(former)

    assert 0o600 == os.stat(home.lock).st_mode & 0o7777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_no_lock_in_somebody_elses_folder(home) -> None:
    """Maintenance of a foreign folder is refused, and nothing is made in it."""
    write(home)
    os.chown(home.folder, 65_534, 65_534)
    with pytest.raises(JournalError, match="belongs to another user"):
        rotation.seal(home, DAY)

    assert {"telemetry.jsonl", ".gitignore"} == set(os.listdir(home.folder))


def test_nothing_stored_needs_no_lock(home) -> None:
    """A folder with the project's own settings in it gets no file of ours by a look or an off."""
    os.mkdir(home.folder, 0o700)
    Path(home.folder, "telemetry.toml").write_text("enabled = false")

    assert not rotation.seal(home, DAY)
    assert [] == rotation.clear(home)
    assert ["telemetry.toml"] == os.listdir(home.folder)


def test_a_closed_journal_keeps_no_lease(home) -> None:
    """Closing gives back the lease of a log that was sealed since, too."""
    journal = LogWriter(home, lambda: True)
    journal.append(LINE)
    count = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    rotation.seal(home, DAY)
    journal.close()

    assert not count or count - 1 == len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("failing", [True, False])
def test_an_unfinished_ignore_file_is_finished(home, failing: bool) -> None:
    """An empty ignore file, left by a process that died, is written before the log is made."""
    os.mkdir(home.folder, 0o700)
    Path(home.ignore).write_bytes(b"" if failing else b"theirs\n")
    journal = LogWriter(home, lambda: True)
    journal.append(LINE)
    journal.close()

    assert (ignore_file.IGNORE if failing else b"theirs\n") == Path(home.ignore).read_bytes()


# -- the lock ----------------------------------------------------------------------------------


def write(home: ProjectPaths, count: int = 1) -> None:
    """So many lines in the active log, which nobody holds open after it."""
    journal = LogWriter(home, lambda: True)
    for _ in range(count):
        while not journal.append(LINE):
            pass
    journal.close()


@pytest.fixture
def held(home):
    """The lock of a journal with one line, while another process is at work; `os.close` ends it."""
    write(home)
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    if os.path.exists(f"/dev/fd/{lock}"):
        os.close(lock)


def test_whether_there_was_a_log_to_seal(home) -> None:
    """True is said for a log, False where there is none or no folder; nothing is made for it."""
    assert False is rotation.seal(home, DAY)
    assert not os.path.exists(home.folder)
    write(home)

    assert True is rotation.seal(home, DAY)
    assert False is rotation.seal(home, DAY)


def test_who_is_busy_is_not_disturbed(home, held) -> None:
    """Without waiting it is refused at once, saying where; nothing stays open, nothing changes."""
    count = len(os.listdir("/dev/fd"))
    with pytest.raises(JournalError, match=f"^another process is busy with {home.folder}$"):
        rotation.seal(home, DAY, 0.0)

    assert count == len(os.listdir("/dev/fd"))
    assert LINE == Path(home.log).read_bytes()


def test_the_lock_is_waited_for_a_little(home, held, monkeypatch) -> None:
    """It is tried again until the time is over, with pauses, and had when it is given back."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.close(held)

    monkeypatch.setattr(time, "sleep", pause)

    assert True is rotation.seal(home, DAY, 60.0)
    assert 3 == len(pauses)
    assert all(0 < seconds < 0.1 for seconds in pauses)


def test_the_lock_is_not_waited_for_longer(home, held, monkeypatch) -> None:
    """When the time is over it is refused; by the clock that never jumps."""
    seconds = iter(range(100, 200))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with pytest.raises(JournalError, match="busy"):
        rotation.seal(home, DAY, 5.0)

    assert 106 == next(seconds)


def test_the_lock_is_held_and_given_back(home) -> None:
    """Inside, nobody else gets it; outside, everybody, also after an error; nothing stays open."""
    write(home)
    count = len(os.listdir("/dev/fd"))
    for error in (None, ValueError):
        with contextlib.suppress(ValueError), rotation.maintenance(home) as folder:
            assert os.path.samestat(os.stat(home.folder), os.fstat(folder))
            with pytest.raises(JournalError, match="busy"), rotation.maintenance(home):
                pass
            if error is not None:
                raise error
        with rotation.maintenance(home):
            pass

    assert count == len(os.listdir("/dev/fd"))


def test_a_lock_that_is_none(home) -> None:
    """Something else under the lock's name: refused, saying what the system says."""
    write(home)
    os.mkdir(home.lock)
    with pytest.raises(JournalError, match=rf"^{home.lock} cannot be opened \(EISDIR\)$"):
        rotation.seal(home, DAY)

    assert os.path.exists(home.log)


def test_a_lock_behind_a_link(home, tmp_path) -> None:
    """It is not followed, and nothing is made behind it."""
    write(home)
    os.symlink(tmp_path / "made", home.lock)
    with pytest.raises(JournalError, match="ELOOP"):
        rotation.seal(home, DAY)

    assert not (tmp_path / "made").exists()


def test_a_folder_behind_a_link(home, tmp_path) -> None:
    """It is not entered."""
    write(home)
    os.rename(home.folder, tmp_path / "moved")
    os.symlink(tmp_path / "moved", home.folder)
    with pytest.raises(JournalError, match=rf"^{home.folder} cannot be opened \(E\w+\)$"):
        rotation.seal(home, DAY)

    assert not (tmp_path / "moved" / ".telemetry.lock").exists()


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_a_folder_that_is_none(home, kind: str) -> None:
    """It is refused at once; nobody waits for a pipe."""
    _ = os.mkfifo(home.folder) if kind == "fifo" else Path(home.folder).touch()
    with pytest.raises(JournalError, match=r"cannot be opened \(ENOTDIR\)"):
        rotation.seal(home, DAY)


def test_sealing_without_locks(home, monkeypatch) -> None:
    """A file system that has none: there is nothing better than going on."""

    def none(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "")

    write(home)
    monkeypatch.setattr(rotation, "flock", none)

    assert True is rotation.seal(home, DAY)


# -- names of segments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], ""),
        (["telemetry-2024-02-27.jsonl", "telemetry-2024-02-27-7.jsonl"], ""),
        (["telemetry-2024-02-28.jsonl.gz"], "-2"),
        (["telemetry-2024-02-28.jsonl.zst"], "-2"),
        (["telemetry-2024-02-28-9.jsonl", "telemetry-2024-02-28-10.jsonl.gz"], "-11"),
        (["telemetry-2024-02-28-2.jsonl"], "-3"),
        (["telemetry-2024-02-28-x.jsonl", "telemetry-2024-02-28.jsonl.bak"], ""),
    ],
    ids=str,
)
def test_the_next_free_name(home, there: list[str], expected: str) -> None:
    """One more than the highest number of the day, whatever its packing; nothing is replaced."""
    write(home)
    for name in there:
        Path(home.folder, name).write_bytes(b"theirs")
    rotation.seal(home, DAY)

    assert LINE == Path(home.folder, f"telemetry-{DAY}{expected}.jsonl").read_bytes()
    assert all(b"theirs" == Path(home.folder, name).read_bytes() for name in there)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_a_name_that_a_listing_did_not_show(home, monkeypatch, packing: str) -> None:
    """A segment of any packing that came meanwhile keeps its number for itself."""
    write(home)
    Path(home.folder, f"telemetry-{DAY}.jsonl{packing}").write_bytes(b"theirs")
    monkeypatch.setattr(os, "listdir", lambda _folder: [])
    rotation.seal(home, DAY)

    assert LINE == Path(home.folder, f"telemetry-{DAY}-2.jsonl").read_bytes()


def test_a_log_that_cannot_be_sealed(home, monkeypatch) -> None:
    """The reason names the log and what the system says; the log stays."""

    def fails(*_args: object, **_more: object) -> None:
        raise OSError(errno.EROFS, "")

    write(home)
    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(JournalError, match=rf"^{home.log} cannot be sealed \(EROFS\)$"):
        rotation.seal(home, DAY)

    assert LINE == Path(home.log).read_bytes()


@pytest.mark.parametrize("kind", ["same", "another inode", "another device"])
def test_sealing_one_log_only(home, kind: str) -> None:
    """A log with another inode or device than was said is left open."""
    write(home)
    st = os.stat(home.log)
    only = st.st_ino + (kind == "another inode"), st.st_dev + (kind == "another device")
    with rotation.maintenance(home) as folder:
        assert folder is not None
        assert (kind == "same") is rotation.seal_under_lock(home, folder, DAY, only)

    assert (kind != "same") == os.path.exists(home.log)


@pytest.mark.parametrize("bits", [0o640, 0o644, 0o666, 0o700])
def test_a_log_of_another_mode_is_sealed(home, bits: int) -> None:
    """Writers refuse a log whose mode was changed; to seal it is all the same right."""
    write(home)
    os.chmod(home.log, bits)
    rotation.seal(home, DAY)

    assert {f"telemetry-{DAY}.jsonl": 0o400} == modes(home)


# -- clearing, size, trouble -------------------------------------------------------------------

OURS = [
    "telemetry.jsonl",
    "telemetry-2024-02-28.jsonl",
    "telemetry-2024-02-28-2.jsonl.gz",
    "telemetry-2024-02-29-3.jsonl.zst",
]
THEIRS = ["telemetry.toml", ".gitignore", ".telemetry.lock", "telemetry-notes.jsonl", "x.tmp"]


def test_clearing_takes_what_is_ours(home) -> None:
    """Log, segments, roll-up and leftovers go; lock, declarations and other files stay."""
    os.mkdir(home.folder, 0o700)
    for name in [*OURS, *THEIRS, "telemetry-rollup.json", ".telemetry-2024-02-28-ab.tmp"]:
        Path(home.folder, name).write_bytes(b"x")

    assert [] == rotation.clear(home)
    assert sorted(THEIRS) == sorted(os.listdir(home.folder))


def test_clearing_where_nothing_is(home) -> None:
    """No folder: nothing to say, nothing made."""
    assert [] == rotation.clear(home)
    assert not os.path.exists(home.folder)


def test_what_could_not_be_cleared_is_told(home) -> None:
    """Each with the reason, in order; the others are gone."""
    write(home)
    for name in ("telemetry-2024-02-28.jsonl", "telemetry-2024-02-27.jsonl.gz"):
        os.mkdir(f"{home.folder}/{name}")
    told = rotation.clear(home)

    assert [one.partition(" (E")[0] for one in told] == [
        f"{home.folder}/telemetry-2024-02-27.jsonl.gz",
        f"{home.folder}/telemetry-2024-02-28.jsonl",
    ]
    assert not os.path.exists(home.log)


def test_clearing_while_somebody_is_busy(home, held, monkeypatch) -> None:
    """After a few seconds that is told, and nothing was deleted."""
    seconds = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    assert [f"another process is busy with {home.folder}"] == rotation.clear(home)
    assert LINE == Path(home.log).read_bytes()
    assert 6 == next(seconds)


def test_clearing_what_cannot_be_listed(home, monkeypatch) -> None:
    """The folder is told with the reason."""

    def fails(_folder: object) -> list[str]:
        raise OSError(errno.EIO, "")

    write(home)
    monkeypatch.setattr(os, "listdir", fails)

    assert [f"{home.folder} (EIO)"] == rotation.clear(home)
    assert LINE == Path(home.log).read_bytes()


def test_the_size_is_that_of_all_segments(home) -> None:
    """In bytes as they lie on disk, packed or not; other files do not count."""
    assert 0 == rotation.disk_usage(home)[1]
    os.mkdir(home.folder, 0o700)
    for number, name in enumerate([*OURS, *THEIRS]):
        Path(home.folder, name).write_bytes(b"x" * 10**number)

    assert 1_111 == rotation.disk_usage(home)[1]


def test_the_size_of_a_link_is_its_own(home, tmp_path) -> None:
    """What it leads to is not ours."""
    os.mkdir(home.folder, 0o700)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    os.symlink(tmp_path / "large", f"{home.folder}/telemetry-{DAY}.jsonl")

    assert rotation.disk_usage(home)[1] < 10_000


@pytest.mark.parametrize("kind", ["file", "link"])
def test_trouble_with_the_folder(home, kind: str) -> None:
    """Something else in the folder's place is told as such."""
    if kind == "file":
        Path(home.folder).write_bytes(b"")
    else:
        os.symlink(home.root, home.folder)

    what = "not a folder" if kind == "file" else "a symbolic link"

    assert [f"{home.folder} is {what}"] == rotation.trouble(home)


def test_trouble_above_the_folder(home) -> None:
    """A file in the project's place is told in words."""
    os.rmdir(home.root)
    Path(home.root).write_bytes(b"")

    assert [f"{home.folder}: its folder is not a plain folder (ENOTDIR)"] == rotation.trouble(home)


@pytest.mark.parametrize("bits", [0o702, 0o777])
@pytest.mark.parametrize("with_log", [False, True])
def test_trouble_with_an_open_folder(home, bits: int, with_log: bool) -> None:
    """A folder that others may write to is told, and beside it what is wrong with the log."""
    os.mkdir(home.folder)
    if with_log:
        Path(home.log).touch(0o600)
        os.chmod(home.log, 0o4644)
    os.chmod(home.folder, bits)
    log = [f"{home.log} has mode 4644 instead of 0600: chmod 600 it"]

    assert [f"{home.folder} is not a private folder of yours", *log * with_log] == rotation.trouble(
        home
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["root", "folder", "log"])
def test_trouble_with_somebody_elses(home, what: str) -> None:
    """Project, folder or log of another user are told."""
    if what != "root":
        write(home)
    os.chown(getattr(home, what), 65_534, 65_534)
    expected = {
        "root": f"{home.root} belongs to another user",
        "folder": f"{home.folder} is not a private folder of yours",
        "log": f"{home.log} belongs to another user",
    }

    assert [expected[what]] == rotation.trouble(home)


def test_trouble_with_a_log_that_cannot_be_seen(home, monkeypatch) -> None:
    """The reason is told in words."""
    write(home)
    real = os.lstat

    def fails(path: str) -> os.stat_result:
        if path == home.log:
            raise OSError(errno.EIO, "")
        return real(path)

    monkeypatch.setattr(os, "lstat", fails)

    assert [f"{home.log}: input/output error (EIO)"] == rotation.trouble(home)


class Disk:
    """What a file system says of itself.

    Args:
        flag: of how it is mounted.
        blocks: how many it has.
        left: how many are free.
    """

    def __init__(self, flag: int = 0, blocks: int = 100, left: int = 1) -> None:
        self.f_flag, self.f_blocks, self.f_bavail = flag, blocks, left


@pytest.mark.parametrize("made", ["nothing", "folder", "log"])
def test_trouble_with_a_read_only_disk(home, monkeypatch, made: str) -> None:
    """The place is told where the next thing would have to be made."""
    if made != "nothing":
        write(home)
    if made == "folder":
        os.unlink(home.log)
    place = {"nothing": home.root, "folder": home.folder, "log": home.log}[made]
    monkeypatch.setattr(os, "statvfs", lambda _path: Disk(os.ST_RDONLY | os.ST_NOSUID))

    assert [f"{place}: the file system is read-only"] == rotation.trouble(home)


@pytest.mark.parametrize("made", ["nothing", "folder", "log"])
def test_trouble_with_what_may_not_be_written(home, monkeypatch, made: str) -> None:
    """The same where the user has no right to."""
    if made != "nothing":
        write(home)
    if made == "folder":
        os.unlink(home.log)
    place = {"nothing": home.root, "folder": home.folder, "log": home.log}[made]
    monkeypatch.setattr(os, "access", lambda path, right: (path, right) != (place, os.W_OK))

    assert [f"{place} cannot be written to"] == rotation.trouble(home)


@pytest.mark.parametrize(("disk", "full"), [(Disk(left=0), 1), (Disk(), 0), (Disk(0, 0, 0), 0)])
def test_trouble_with_a_full_disk(home, monkeypatch, disk: Disk, full: int) -> None:
    """No block left is trouble, unless the file system counts none."""
    write(home)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)

    assert [f"{home.log}: the disk is full"] * full == rotation.trouble(home)


def test_the_disk_usage_counts_files(home) -> None:
    """Those that hold events, and their bytes."""
    write(home)
    rotation.seal(home, DAY)
    write(home)

    assert (2, 2 * len(LINE)) == rotation.disk_usage(home)


def test_no_file_of_ours_before_it_is_ignored(home) -> None:
    """Where another program made the log, the lock is not made before the ignore file."""
    os.mkdir(home.folder, 0o700)
    Path(home.log).write_bytes(LINE)
    with rotation.maintenance(home):
        made = set(os.listdir(home.folder))

    assert {"telemetry.jsonl", ".gitignore", ".telemetry.lock"} == made
    assert ignore_file.IGNORE == Path(home.ignore).read_bytes()


@pytest.mark.parametrize("mode", [0o400, 0o200, 0o000])
def test_a_log_that_lacks_a_bit_of_its_owner(home, mode: int) -> None:
    """It is sealed like any other, unless it is empty: then it is being made."""
    os.mkdir(home.folder, 0o700)
    Path(home.log).touch()
    Path(home.log).chmod(mode)

    assert not rotation.seal(home, DAY)
    Path(home.log).chmod(0o600)
    Path(home.log).write_bytes(LINE)
    Path(home.log).chmod(mode)
    assert rotation.seal(home, DAY)
