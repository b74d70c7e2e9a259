"""The writer with obstacles: foreign files, a full log, and a failing file system."""

import contextlib
import errno
import os
import time
from pathlib import Path

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.errors import Refused
from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import log_file, rotation
from telemetry_kit.storage.writer import LogWriter
from tests.storage.writer_helpers import LINE, log_bytes, misplace, tree

LOG_KINDS = ["link", "dangling", "loop", "link to a folder", "directory", "fifo", "hard link"]


LOG_KINDS += ["socket", "0666", "0644", "0640", "0602", "0700", "0000", "04600"]


# -- misplaced files -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOG_KINDS)
def test_an_obstacle_in_place_of_the_log(home, log_writer, clock, kind: str) -> None:
    """With an obstacle in place of the log, nothing is written, changed or created."""
    outside = Path(home.root).parent / "outside"
    misplace(kind, home.log, outside)
    stat_before = os.lstat(home.log)
    before = tree(home)
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            log_writer.append(LINE)
        clock.seconds += 100

    after = os.lstat(home.log)
    assert before == tree(home)
    assert (stat_before.st_mode, stat_before.st_ino, stat_before.st_size) == (
        after.st_mode,
        after.st_ino,
        after.st_size,
    )
    assert caught.value.reason.startswith(home.log)
    assert caught.value.reason == log_writer.breaker.reason


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "link to a folder", "fifo", "file"])
def test_an_obstacle_in_place_of_the_directory(home, log_writer, kind: str) -> None:
    """An obstacle in place of the directory is not entered, and nothing is created behind it."""
    outside = Path(home.root).parent / "outside"
    misplace(kind, home.folder, outside)
    before = tree(home)
    with pytest.raises(Refused):
        log_writer.append(LINE)

    assert before == tree(home)


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
def test_an_obstacle_in_place_of_the_ignore_file(home, log_writer, kind: str) -> None:
    """An obstacle in place of the ignore file is not written, and the event is recorded."""
    outside = Path(home.root).parent / "outside"
    misplace(kind, home.ignore, outside)
    log_writer.append(LINE)

    assert ((outside / "file").read_bytes(), (outside / "nothing").exists()) == (b"theirs", False)
    assert log_bytes(home) == LINE


@pytest.mark.parametrize("bits", [0o777, 0o702, 0o722])
def test_a_directory_that_others_can_write(home, log_writer, bits: int) -> None:
    """If other users can write to the directory, no log is created in it."""
    os.mkdir(home.folder)
    os.chmod(home.folder, bits)
    with pytest.raises(Refused, match="not a private folder"):
        log_writer.append(LINE)

    assert os.listdir(home.folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["log", "folder", "root"])
def test_files_of_another_user(home, log_writer, what: str) -> None:
    """Root leaves the log, the directory and the project of another user unchanged."""
    if what != "root":
        os.mkdir(home.folder, 0o700)
    if what == "log":
        Path(home.log).write_bytes(b"")
        os.chmod(home.log, 0o600)
    os.chown(getattr(home, what), 65_534, 65_534)
    before = tree(home)
    with pytest.raises(Refused):
        log_writer.append(LINE)

    assert before == tree(home)


def line_of_size(number: int, length: int) -> bytes:
    """Return a line of this number of bytes."""
    return b"%d" % number + b"x" * (length - 1 - len(b"%d" % number)) + b"\n"


def segments_of(home: ProjectPaths) -> list[bytes]:
    """Return the bytes of the sealed segments in order."""
    found = Path(home.folder).glob("telemetry-*.jsonl")
    return [path.read_bytes() for path in sorted(found, key=lambda path: (len(path.name), path))]


# -- a full log ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [160, 161, 250, 1_000])
def test_a_full_log_is_sealed(home, clock, length: int) -> None:
    """The first line above the limit is the last of its segment.

    The next line starts a new log.
    """
    log_writer = LogWriter(home, lambda: True, clock, seal_events=20)
    lines = [line_of_size(number, length) for number in range(70)]
    for one in lines:
        while not log_writer.append(one):
            pass
    log_writer.close()

    assert [b"".join(lines[at : at + 21]) for at in (0, 21, 42)] == segments_of(home)
    assert b"".join(lines[63:]) == log_bytes(home)


def test_a_segment_is_named_after_the_day_it_was_sealed(home, clock) -> None:
    """The name of a segment has the UTC day of the sealing."""
    log_writer = LogWriter(home, lambda: True, clock, seal_events=1)
    days = {time.strftime("%Y-%m-%d", time.gmtime())}
    for number in range(2):
        assert log_writer.append(line_of_size(number, 200))
    days.add(time.strftime("%Y-%m-%d", time.gmtime()))
    log_writer.close()

    assert {p.name for p in Path(home.folder).glob("telemetry-*")} <= {
        f"telemetry-{day}.jsonl" for day in days
    }
    assert [line_of_size(0, 200) + line_of_size(1, 200)] == segments_of(home)


def test_lines_of_other_programs_count(home, clock) -> None:
    """Lines of other programs count to the limit, so a full log is sealed at once."""
    os.mkdir(home.folder, 0o700)
    fd = os.open(home.log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"".join(line_of_size(number, 2_000) for number in range(1_200)))
    os.close(fd)
    log_writer = LogWriter(home, lambda: True, clock, seal_events=1_000)
    answers = [log_writer.append(LINE) for _ in range(3)]
    log_writer.close()

    assert [True, False, True] == answers
    assert (1, 1_201) == (len(segments_of(home)), segments_of(home)[0].count(b"\n"))


def test_a_full_log_during_maintenance(home, clock) -> None:
    """While the lock is taken, the log grows without waiting. It is sealed after the release."""
    log_writer = LogWriter(home, lambda: True, clock, seal_events=20)
    with rotation.maintenance(home) as folder:
        assert folder is None
    log_writer.open()
    with rotation.maintenance(home):
        assert all(log_writer.append(line_of_size(number, 200)) for number in range(50))
    assert [] == segments_of(home)
    answers = [log_writer.append(line_of_size(50, 200)), log_writer.append(line_of_size(51, 200))]
    log_writer.close()

    assert [True, False] == answers
    assert 51 == segments_of(home)[0].count(b"\n")


def test_only_the_log_that_was_counted_is_sealed(home, clock, monkeypatch) -> None:
    """If another process seals the log first, the new log is not sealed."""
    other = LogWriter(home, lambda: True, clock)
    real = os.pread

    def read_after_seal(fd: int, count: int, at: int) -> bytes:
        if count > 1 and not segments_of(home):
            rotation.seal(home, "2024-02-28")
            assert other.append(b"new\n")
        return real(fd, count, at)

    log_writer = LogWriter(home, lambda: True, clock, seal_events=20)
    lines = [line_of_size(number, 160) for number in range(20)]
    assert all(log_writer.append(one) for one in lines)
    monkeypatch.setattr(os, "pread", read_after_seal)
    assert log_writer.append(b"last\n")
    log_writer.close()
    other.close()

    assert [b"".join([*lines, b"last\n"])] == segments_of(home)
    assert b"new\n" == log_bytes(home)


def test_a_log_that_cannot_be_counted(home, clock, monkeypatch) -> None:
    """If the lines cannot be counted, the append still succeeds."""

    def fail(fd: int, count: int, at: int) -> bytes:
        raise OSError(errno.EIO, "")

    log_writer = LogWriter(home, lambda: True, clock, seal_events=2)
    lines = [line_of_size(number, 200) for number in range(6)]
    log_writer.append(lines[0])
    monkeypatch.setattr(os, "pread", fail)
    assert all(log_writer.append(one) for one in lines[1:])
    log_writer.close()

    assert b"".join(lines) == log_bytes(home)
    assert log_writer.breaker.reason == ""


@pytest.fixture
def writer_with_reentry(home, clock, monkeypatch):
    """Create a writer that records an event while it opens the log, as a signal handler may."""
    pending: list[bytes] = []
    answers: list[bool] = []

    def record_inside(*_: object) -> bool:
        while pending:
            answers.append(found.append(pending.pop()))
        return True

    real = log_file.ignore
    monkeypatch.setattr(log_file, "ignore", lambda *args: record_inside() and real(*args))
    found = LogWriter(home, record_inside, clock)
    yield found, pending, answers
    found.close()


# -- events while the log is opened --------------------------------------------------------------


@pytest.mark.parametrize("fragment", [b"", b"torn"])
def test_an_event_while_the_log_is_opened(home, writer_with_reentry, fragment: bytes) -> None:
    """The inner event is written on its own line before the outer event."""
    log_writer, pending, answers = writer_with_reentry
    log_writer.append(LINE)
    log_writer.close()
    with open(home.log, "ab") as file:
        file.write(fragment)
    pending.append(b"inner\n")

    assert log_writer.append(b"outer\n")
    assert log_writer.append(b"last\n")
    assert [True] == answers
    middle = fragment and fragment + b"\n"
    assert LINE + middle + b"inner\nouter\nlast\n" == log_bytes(home)


def test_an_event_while_the_log_is_replaced(home, writer_with_reentry) -> None:
    """The same holds if the log was sealed. No descriptor is left open."""
    log_writer, pending, answers = writer_with_reentry
    log_writer.append(LINE)
    count = len(os.listdir("/dev/fd"))
    rotation.seal(home, "2024-02-28")
    pending.append(b"inner\n")

    assert False is log_writer.append(b"outer\n")
    assert True is log_writer.append(b"outer\n")
    assert [True] == answers
    assert b"inner\nouter\n" == log_bytes(home)
    assert count == len(os.listdir("/dev/fd"))


# -- an unprivileged user ------------------------------------------------------------------------


def test_a_read_only_project(unprivileged) -> None:
    """In a read-only project, nothing is recorded or created, and the reason is reported."""
    unprivileged.root.chmod(0o555)
    done = unprivileged.run(
        "assert track_role_event('role.selected', role='dev') is None\n"
        "from telemetry_kit.storage import rotation as upkeep\n"
        "print(upkeep.trouble(control.paths_of()))"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written to" in done.stdout
    assert list(unprivileged.root.iterdir()) == []


def test_a_read_only_directory(unprivileged) -> None:
    """In a read-only project directory without a log, nothing is recorded or created."""
    folder = unprivileged.root / ".flowspec"
    unprivileged.run("os.mkdir('.flowspec', 0o555)")
    done = unprivileged.run("assert track_role_event('role.selected', role='dev') is None")

    assert (done.returncode, done.stderr, list(folder.iterdir())) == (0, "", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_log_of_root(unprivileged, what: str) -> None:
    """A user does not write to a log or a directory that root created."""
    folder = unprivileged.root / ".flowspec"
    folder.mkdir(mode=0o755)
    if what == "file":
        os.chown(folder, 65_534, 65_534)
        (folder / "telemetry.jsonl").write_bytes(b"theirs\n")
        (folder / "telemetry.jsonl").chmod(0o666)
    done = unprivileged.run("assert track_role_event('role.selected', role='dev') is None")

    assert (done.returncode, done.stderr) == (0, "")
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert ({"telemetry.jsonl": b"theirs\n"} if what == "file" else {}) == found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_in_the_project_of_a_user(place) -> None:
    """Root records nothing in the project of a user, because its files would block the owner."""
    os.chown(place.root, 65_534, 65_534)

    assert None is track_role_event("role.selected", role="dev")
    assert list(place.root.iterdir()) == []


def test_the_problems_are_found_without_writing(home) -> None:
    """`trouble()` reports what would prevent an event, and changes nothing."""
    assert rotation.trouble(home) == []
    misplace("link", home.log, Path(home.root).parent / "outside")
    before = tree(home)

    assert [f"{home.log} is a symbolic link"] == rotation.trouble(home)
    assert before == tree(home)


def test_no_mode_is_set_through_a_link(tmp_path) -> None:
    """Setting the mode of a link fails or affects the link. Its target is unchanged."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(outside)
    before = (tmp_path / "link").lstat().st_mode
    with contextlib.suppress(OSError):
        private.set_mode(str(tmp_path / "link"), 0o700)
        before = 0o120700

    assert before == (tmp_path / "link").lstat().st_mode
    assert 0o755 == outside.stat().st_mode & 0o777
    private.set_mode(str(outside), 0o700)
    assert 0o700 == outside.stat().st_mode & 0o777
