"""Sealing and clearing change only telemetry files, and a sealed segment stays sealed."""

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
    """Return the mode of each segment by name."""
    return {p.name: p.stat().st_mode & 0o7777 for p in Path(home.folder).glob("telemetry*")}


@pytest.mark.parametrize("mask", [0o022, 0o277, 0o777])
def test_a_log_that_is_sealed_while_it_is_created(home, monkeypatch, mask: int) -> None:
    """If a log is sealed before its mode is set, it stays sealed and a new log gets the line."""
    real = os.open
    sealed = []

    def open_then_seal(path, flags, *args, **more):
        fd = real(path, flags, *args, **more)
        if path == log_file.LOG and flags & os.O_CREAT and not sealed:
            sealed.append(rotation.seal(home, DAY, 0.0))
        return fd

    monkeypatch.setattr(os, "open", open_then_seal)
    previous = os.umask(mask)
    log_writer = LogWriter(home, lambda: True)
    try:
        assert log_writer.append(LINE)
    finally:
        os.umask(previous)
        log_writer.close()

    assert 0o600 == modes(home).pop("telemetry.jsonl")
    assert LINE == Path(home.log).read_bytes()
    assert all(mode == 0o400 for name, mode in modes(home).items() if name != "telemetry.jsonl")


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_sealing_changes_nothing_outside(home, tmp_path, kind: str) -> None:
    """Sealing rejects a link or a directory in place of the log, and changes nothing outside."""
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


def test_a_segment_missing_from_the_listing(home, monkeypatch) -> None:
    """Sealing does not overwrite a segment that the listing did not show."""
    log_writer = LogWriter(home, lambda: True)
    log_writer.append(LINE)
    rotation.seal(home, DAY)
    while not log_writer.append(LINE):
        pass
    monkeypatch.setattr(os, "listdir", lambda _folder: [])
    rotation.seal(home, DAY)
    log_writer.close()

    assert {"telemetry-2024-02-28.jsonl", "telemetry-2024-02-28-2.jsonl"} == set(modes(home))


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_the_lock_is_private_and_usable(home, mask: int) -> None:
    """With any umask, the lock has mode 0600."""
    write(home)
    previous = os.umask(mask)
    try:
        rotation.seal(home, DAY)
    finally:
        os.umask(previous)

    assert 0o600 == os.stat(home.lock).st_mode & 0o7777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_does_not_seal_for_another_user(home) -> None:
    """Root rejects the directory of another user and creates no file in it."""
    write(home)
    os.chown(home.folder, 65_534, 65_534)
    with pytest.raises(JournalError, match="belongs to another user"):
        rotation.seal(home, DAY)

    assert {"telemetry.jsonl", ".gitignore"} == set(os.listdir(home.folder))


def test_a_directory_without_events(home) -> None:
    """In a directory with settings only, sealing and clearing create no file."""
    os.mkdir(home.folder, 0o700)
    Path(home.folder, "telemetry.toml").write_text("enabled = false")

    assert not rotation.seal(home, DAY)
    assert [] == rotation.clear(home)
    assert ["telemetry.toml"] == os.listdir(home.folder)


def test_a_closed_writer_has_no_lease(home) -> None:
    """Closing a writer releases its lease even if the log was sealed."""
    log_writer = LogWriter(home, lambda: True)
    log_writer.append(LINE)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    rotation.seal(home, DAY)
    log_writer.close()

    assert not descriptors or descriptors - 1 == len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("failing", [True, False])
def test_an_empty_ignore_file_is_completed(home, failing: bool) -> None:
    """If a killed process left an empty ignore file, it is written before the log."""
    os.mkdir(home.folder, 0o700)
    Path(home.ignore).write_bytes(b"" if failing else b"theirs\n")
    log_writer = LogWriter(home, lambda: True)
    log_writer.append(LINE)
    log_writer.close()

    assert (ignore_file.IGNORE if failing else b"theirs\n") == Path(home.ignore).read_bytes()


# -- the lock ------------------------------------------------------------------------------------


def write(home: ProjectPaths, count: int = 1) -> None:
    """Append this number of lines to the log and close it."""
    log_writer = LogWriter(home, lambda: True)
    for _ in range(count):
        while not log_writer.append(LINE):
            pass
    log_writer.close()


@pytest.fixture
def busy_lock(home):
    """Write one line and take the lock. `os.close` of the value releases it."""
    write(home)
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    if os.path.exists(f"/dev/fd/{lock}"):
        os.close(lock)


def test_the_result_of_sealing(home) -> None:
    """Sealing returns True if there was a log, and False without creating anything otherwise."""
    assert False is rotation.seal(home, DAY)
    assert not os.path.exists(home.folder)
    write(home)

    assert True is rotation.seal(home, DAY)
    assert False is rotation.seal(home, DAY)


def test_sealing_without_waiting(home, busy_lock) -> None:
    """With a timeout of zero, sealing fails at once and names the directory. Nothing changes."""
    descriptors = len(os.listdir("/dev/fd"))
    with pytest.raises(JournalError, match=f"^another process is busy with {home.folder}$"):
        rotation.seal(home, DAY, 0.0)

    assert descriptors == len(os.listdir("/dev/fd"))
    assert LINE == Path(home.log).read_bytes()


def test_sealing_waits_for_the_lock(home, busy_lock, monkeypatch) -> None:
    """Sealing retries with pauses and succeeds when the lock is released."""
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.close(busy_lock)

    monkeypatch.setattr(time, "sleep", pause)

    assert True is rotation.seal(home, DAY, 60.0)
    assert 3 == len(pauses)
    assert all(0 < seconds < 0.1 for seconds in pauses)


def test_sealing_waits_no_longer_than_the_timeout(home, busy_lock, monkeypatch) -> None:
    """After the timeout by the monotonic clock, sealing fails."""
    seconds = iter(range(100, 200))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with pytest.raises(JournalError, match="busy"):
        rotation.seal(home, DAY, 5.0)

    assert 106 == next(seconds)


def test_maintenance_takes_and_releases_the_lock(home) -> None:
    """The block is exclusive.

    After it, even with an error, the lock is free and no descriptor is open.
    """
    write(home)
    descriptors = len(os.listdir("/dev/fd"))
    for error in (None, ValueError):
        with contextlib.suppress(ValueError), rotation.maintenance(home) as folder:
            assert os.path.samestat(os.stat(home.folder), os.fstat(folder))
            with pytest.raises(JournalError, match="busy"), rotation.maintenance(home):
                pass
            if error is not None:
                raise error
        with rotation.maintenance(home):
            pass

    assert descriptors == len(os.listdir("/dev/fd"))


def test_a_directory_in_place_of_the_lock(home) -> None:
    """A directory in place of the lock is rejected with the error code."""
    write(home)
    os.mkdir(home.lock)
    with pytest.raises(JournalError, match=rf"^{home.lock} cannot be opened \(EISDIR\)$"):
        rotation.seal(home, DAY)

    assert os.path.exists(home.log)


def test_a_linked_lock(home, tmp_path) -> None:
    """A linked lock is not followed, and the target is not created."""
    write(home)
    os.symlink(tmp_path / "made", home.lock)
    with pytest.raises(JournalError, match="ELOOP"):
        rotation.seal(home, DAY)

    assert not (tmp_path / "made").exists()


def test_a_linked_directory(home, tmp_path) -> None:
    """A linked project directory is rejected, and no file is created in it."""
    write(home)
    os.rename(home.folder, tmp_path / "moved")
    os.symlink(tmp_path / "moved", home.folder)
    with pytest.raises(JournalError, match=rf"^{home.folder} cannot be opened \(E\w+\)$"):
        rotation.seal(home, DAY)

    assert not (tmp_path / "moved" / ".telemetry.lock").exists()


@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_a_file_in_place_of_the_directory(home, kind: str) -> None:
    """A file or pipe in place of the directory is rejected at once."""
    _ = os.mkfifo(home.folder) if kind == "fifo" else Path(home.folder).touch()
    with pytest.raises(JournalError, match=r"cannot be opened \(ENOTDIR\)"):
        rotation.seal(home, DAY)


def test_sealing_without_locks(home, monkeypatch) -> None:
    """On a file system without locks, sealing works without a lock."""

    def fail(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "")

    write(home)
    monkeypatch.setattr(rotation, "flock", fail)

    assert True is rotation.seal(home, DAY)


# -- names of segments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("existing", "expected"),
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
def test_the_next_free_name(home, existing: list[str], expected: str) -> None:
    """The segment gets the number after the highest of the day, for any codec.

    No file is replaced.
    """
    write(home)
    for name in existing:
        Path(home.folder, name).write_bytes(b"theirs")
    rotation.seal(home, DAY)

    assert LINE == Path(home.folder, f"telemetry-{DAY}{expected}.jsonl").read_bytes()
    assert all(b"theirs" == Path(home.folder, name).read_bytes() for name in existing)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_segment_of_any_codec_missing_from_the_listing(home, monkeypatch, suffix: str) -> None:
    """A segment that the listing did not show keeps its number, for any codec."""
    write(home)
    Path(home.folder, f"telemetry-{DAY}.jsonl{suffix}").write_bytes(b"theirs")
    monkeypatch.setattr(os, "listdir", lambda _folder: [])
    rotation.seal(home, DAY)

    assert LINE == Path(home.folder, f"telemetry-{DAY}-2.jsonl").read_bytes()


def test_a_log_that_cannot_be_sealed(home, monkeypatch) -> None:
    """The error names the log and the error code. The log is kept."""

    def fail(*_args: object, **_more: object) -> None:
        raise OSError(errno.EROFS, "")

    write(home)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(JournalError, match=rf"^{home.log} cannot be sealed \(EROFS\)$"):
        rotation.seal(home, DAY)

    assert LINE == Path(home.log).read_bytes()


@pytest.mark.parametrize("kind", ["same", "another inode", "another device"])
def test_sealing_one_log_only(home, kind: str) -> None:
    """A log whose inode or device differs from the given one is not sealed."""
    write(home)
    st = os.stat(home.log)
    only = st.st_ino + (kind == "another inode"), st.st_dev + (kind == "another device")
    with rotation.maintenance(home) as folder:
        assert folder is not None
        assert (kind == "same") is rotation.seal_under_lock(home, folder, DAY, only)

    assert (kind != "same") == os.path.exists(home.log)


@pytest.mark.parametrize("bits", [0o640, 0o644, 0o666, 0o700])
def test_a_log_of_another_mode_is_sealed(home, bits: int) -> None:
    """Writers reject a log with another mode, but it can be sealed."""
    write(home)
    os.chmod(home.log, bits)
    rotation.seal(home, DAY)

    assert {f"telemetry-{DAY}.jsonl": 0o400} == modes(home)


# -- clearing, size, problems --------------------------------------------------------------------

TELEMETRY_FILES = [
    "telemetry.jsonl",
    "telemetry-2024-02-28.jsonl",
    "telemetry-2024-02-28-2.jsonl.gz",
    "telemetry-2024-02-29-3.jsonl.zst",
]
OTHER_FILES = ["telemetry.toml", ".gitignore", ".telemetry.lock", "telemetry-notes.jsonl", "x.tmp"]


def test_clearing_deletes_only_telemetry_files(home) -> None:
    """A clear deletes logs, segments, count cache and temporary files. Other files are kept."""
    os.mkdir(home.folder, 0o700)
    for name in [
        *TELEMETRY_FILES,
        *OTHER_FILES,
        "telemetry-rollup.json",
        ".telemetry-2024-02-28-ab.tmp",
    ]:
        Path(home.folder, name).write_bytes(b"x")

    assert [] == rotation.clear(home)
    assert sorted(OTHER_FILES) == sorted(os.listdir(home.folder))


def test_clearing_without_a_directory(home) -> None:
    """Without a directory, a clear reports no failure and creates nothing."""
    assert [] == rotation.clear(home)
    assert not os.path.exists(home.folder)


def test_files_that_cannot_be_deleted(home) -> None:
    """A clear reports each failure with its reason, in order. The other files are deleted."""
    write(home)
    for name in ("telemetry-2024-02-28.jsonl", "telemetry-2024-02-27.jsonl.gz"):
        os.mkdir(f"{home.folder}/{name}")
    failures = rotation.clear(home)

    assert [one.partition(" (E")[0] for one in failures] == [
        f"{home.folder}/telemetry-2024-02-27.jsonl.gz",
        f"{home.folder}/telemetry-2024-02-28.jsonl",
    ]
    assert not os.path.exists(home.log)


def test_clearing_during_maintenance(home, busy_lock, monkeypatch) -> None:
    """After a few seconds a clear reports that the lock is taken, and deletes nothing."""
    seconds = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    assert [f"another process is busy with {home.folder}"] == rotation.clear(home)
    assert LINE == Path(home.log).read_bytes()
    assert 6 == next(seconds)


def test_clearing_a_directory_that_cannot_be_listed(home, monkeypatch) -> None:
    """The directory is reported with the error code."""

    def fail(_folder: object) -> list[str]:
        raise OSError(errno.EIO, "")

    write(home)
    monkeypatch.setattr(os, "listdir", fail)

    assert [f"{home.folder} (EIO)"] == rotation.clear(home)
    assert LINE == Path(home.log).read_bytes()


def test_the_size_is_that_of_all_segments(home) -> None:
    """The size is the sum of the file sizes of all segments. Other files do not count."""
    assert 0 == rotation.disk_usage(home)[1]
    os.mkdir(home.folder, 0o700)
    for number, name in enumerate([*TELEMETRY_FILES, *OTHER_FILES]):
        Path(home.folder, name).write_bytes(b"x" * 10**number)

    assert 1_111 == rotation.disk_usage(home)[1]


def test_the_size_of_a_link(home, tmp_path) -> None:
    """The size of a link is its own and not that of its target."""
    os.mkdir(home.folder, 0o700)
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    os.symlink(tmp_path / "large", f"{home.folder}/telemetry-{DAY}.jsonl")

    assert rotation.disk_usage(home)[1] < 10_000


@pytest.mark.parametrize("kind", ["file", "link"])
def test_problems_of_the_directory(home, kind: str) -> None:
    """A file or a link in place of the directory is reported."""
    if kind == "file":
        Path(home.folder).write_bytes(b"")
    else:
        os.symlink(home.root, home.folder)

    what = "not a folder" if kind == "file" else "a symbolic link"

    assert [f"{home.folder} is {what}"] == rotation.trouble(home)


def test_problems_above_the_directory(home) -> None:
    """A file in place of the project is reported."""
    os.rmdir(home.root)
    Path(home.root).write_bytes(b"")

    assert [f"{home.folder}: its folder is not a plain folder (ENOTDIR)"] == rotation.trouble(home)


@pytest.mark.parametrize("bits", [0o702, 0o777])
@pytest.mark.parametrize("with_log", [False, True])
def test_problems_of_a_writable_directory(home, bits: int, with_log: bool) -> None:
    """A directory that others can write is reported, and so is the mode of the log."""
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
def test_problems_of_another_owner(home, what: str) -> None:
    """A project, a directory or a log of another user is reported."""
    if what != "root":
        write(home)
    os.chown(getattr(home, what), 65_534, 65_534)
    expected = {
        "root": f"{home.root} belongs to another user",
        "folder": f"{home.folder} is not a private folder of yours",
        "log": f"{home.log} belongs to another user",
    }

    assert [expected[what]] == rotation.trouble(home)


def test_problems_of_an_unreadable_log(home, monkeypatch) -> None:
    """An error of `lstat` on the log is reported."""
    write(home)
    real = os.lstat

    def fail(path: str) -> os.stat_result:
        if path == home.log:
            raise OSError(errno.EIO, "")
        return real(path)

    monkeypatch.setattr(os, "lstat", fail)

    assert [f"{home.log}: input/output error (EIO)"] == rotation.trouble(home)


class FileSystem:
    """The result of `statvfs` for a file system.

    Args:
        flag: the mount flags.
        blocks: the number of all blocks.
        left: the number of free blocks.
    """

    def __init__(self, flag: int = 0, blocks: int = 100, left: int = 1) -> None:
        self.f_flag, self.f_blocks, self.f_bavail = flag, blocks, left


@pytest.mark.parametrize("existing_parts", ["nothing", "folder", "log"])
def test_problems_of_a_read_only_disk(home, monkeypatch, existing_parts: str) -> None:
    """A read-only file system is reported with the path that would be created or written."""
    if existing_parts != "nothing":
        write(home)
    if existing_parts == "folder":
        os.unlink(home.log)
    expected_path = {"nothing": home.root, "folder": home.folder, "log": home.log}[existing_parts]
    monkeypatch.setattr(os, "statvfs", lambda _path: FileSystem(os.ST_RDONLY | os.ST_NOSUID))

    assert [f"{expected_path}: the file system is read-only"] == rotation.trouble(home)


@pytest.mark.parametrize("existing_parts", ["nothing", "folder", "log"])
def test_problems_of_missing_write_permission(home, monkeypatch, existing_parts: str) -> None:
    """Missing write permission is reported with the path that would be created or written."""
    if existing_parts != "nothing":
        write(home)
    if existing_parts == "folder":
        os.unlink(home.log)
    expected_path = {"nothing": home.root, "folder": home.folder, "log": home.log}[existing_parts]
    monkeypatch.setattr(os, "access", lambda path, right: (path, right) != (expected_path, os.W_OK))

    assert [f"{expected_path} cannot be written to"] == rotation.trouble(home)


@pytest.mark.parametrize(
    ("disk", "full"), [(FileSystem(left=0), 1), (FileSystem(), 0), (FileSystem(0, 0, 0), 0)]
)
def test_problems_of_a_full_disk(home, monkeypatch, disk: FileSystem, full: int) -> None:
    """A file system without a free block is reported, unless it does not count blocks."""
    write(home)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)

    assert [f"{home.log}: the disk is full"] * full == rotation.trouble(home)


def test_the_disk_usage_counts_files(home) -> None:
    """The disk usage has the number of files with events, and their bytes."""
    write(home)
    rotation.seal(home, DAY)
    write(home)

    assert (2, 2 * len(LINE)) == rotation.disk_usage(home)


def test_the_ignore_file_is_created_before_the_lock(home) -> None:
    """If another program created the log, the ignore file is created before the lock."""
    os.mkdir(home.folder, 0o700)
    Path(home.log).write_bytes(LINE)
    with rotation.maintenance(home):
        names = set(os.listdir(home.folder))

    assert {"telemetry.jsonl", ".gitignore", ".telemetry.lock"} == names
    assert ignore_file.IGNORE == Path(home.ignore).read_bytes()


@pytest.mark.parametrize("mode", [0o400, 0o200, 0o000])
def test_a_log_without_owner_permissions(home, mode: int) -> None:
    """Such a log is sealed, unless it is empty and thus still being created."""
    os.mkdir(home.folder, 0o700)
    Path(home.log).touch()
    Path(home.log).chmod(mode)

    assert not rotation.seal(home, DAY)
    Path(home.log).chmod(0o600)
    Path(home.log).write_bytes(LINE)
    Path(home.log).chmod(mode)
    assert rotation.seal(home, DAY)
