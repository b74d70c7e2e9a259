"""The writer with something in its way: foreign files, a full log, a file system that fails."""

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
from tests.storage.writer_helpers import LINE, Clock, content, plant, tree


@pytest.fixture
def clock() -> Clock:
    """The clock of the journal."""
    return Clock()


@pytest.fixture
def journal(home: ProjectPaths, clock: Clock):
    """A journal that may be written to."""
    found = LogWriter(home, lambda: True, clock)
    yield found
    found.close()


LOG_KINDS = ["link", "dangling", "loop", "link to a folder", "directory", "fifo", "hard link"]


LOG_KINDS += ["socket", "0666", "0644", "0640", "0602", "0700", "0000", "04600"]


# -- what may be in the way ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOG_KINDS)
def test_planted_log(home, journal, clock, kind: str) -> None:
    """Whatever stands in the log's place, no line is written, nothing is changed or made."""
    outside = Path(home.root).parent / "outside"
    plant(kind, home.log, outside)
    seen = os.lstat(home.log)
    before = tree(home)
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            journal.append(LINE)
        clock.seconds += 100

    after = os.lstat(home.log)
    assert before == tree(home)
    assert (seen.st_mode, seen.st_ino, seen.st_size) == (after.st_mode, after.st_ino, after.st_size)
    assert caught.value.reason.startswith(home.log)
    assert caught.value.reason == journal.breaker.reason


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "link to a folder", "fifo", "file"])
def test_planted_folder(home, journal, kind: str) -> None:
    """Whatever stands in the folder's place is not entered, and nothing is made behind it."""
    outside = Path(home.root).parent / "outside"
    plant(kind, home.folder, outside)
    before = tree(home)
    with pytest.raises(Refused):
        journal.append(LINE)

    assert before == tree(home)


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
def test_planted_ignore_file(home, journal, kind: str) -> None:
    """Something in the ignore file's place is not written through; the event is recorded."""
    outside = Path(home.root).parent / "outside"
    plant(kind, home.ignore, outside)
    journal.append(LINE)

    assert ((outside / "file").read_bytes(), (outside / "nothing").exists()) == (b"theirs", False)
    assert content(home) == LINE


@pytest.mark.parametrize("bits", [0o777, 0o702, 0o722])
def test_a_folder_that_others_may_write_to(home, journal, bits: int) -> None:
    """A folder in which anybody may put files is no place for a log."""
    os.mkdir(home.folder)
    os.chmod(home.folder, bits)
    with pytest.raises(Refused, match="not a private folder"):
        journal.append(LINE)

    assert os.listdir(home.folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["log", "folder", "root"])
def test_somebody_elses(home, journal, what: str) -> None:
    """The log, the folder or the project of another user is left alone, also by root."""
    if what != "root":
        os.mkdir(home.folder, 0o700)
    if what == "log":
        Path(home.log).write_bytes(b"")
        os.chmod(home.log, 0o600)
    os.chown(getattr(home, what), 65_534, 65_534)
    before = tree(home)
    with pytest.raises(Refused):
        journal.append(LINE)

    assert before == tree(home)


def sized(number: int, length: int) -> bytes:
    """A line of so many bytes."""
    return b"%d" % number + b"x" * (length - 1 - len(b"%d" % number)) + b"\n"


def segments_of(home: ProjectPaths) -> list[bytes]:
    """The bytes of the sealed segments, in order."""
    found = Path(home.folder).glob("telemetry-*.jsonl")
    return [path.read_bytes() for path in sorted(found, key=lambda path: (len(path.name), path))]


# -- a log that is full --------------------------------------------------------------------------


@pytest.mark.parametrize("length", [160, 161, 250, 1_000])
def test_a_full_log_is_sealed(home, clock, length: int) -> None:
    """The line after the last that fits is the segment's last; the one after it begins a log."""
    journal = LogWriter(home, lambda: True, clock, seal_events=20)
    lines = [sized(number, length) for number in range(70)]
    for one in lines:
        while not journal.append(one):
            pass
    journal.close()

    assert [b"".join(lines[at : at + 21]) for at in (0, 21, 42)] == segments_of(home)
    assert b"".join(lines[63:]) == content(home)


def test_a_segment_is_named_after_the_day_it_was_sealed(home, clock) -> None:
    """The day in UTC, which one it is when the log is full."""
    journal = LogWriter(home, lambda: True, clock, seal_events=1)
    days = {time.strftime("%Y-%m-%d", time.gmtime())}
    for number in range(2):
        assert journal.append(sized(number, 200))
    days.add(time.strftime("%Y-%m-%d", time.gmtime()))
    journal.close()

    assert {p.name for p in Path(home.folder).glob("telemetry-*")} <= {
        f"telemetry-{day}.jsonl" for day in days
    }
    assert [sized(0, 200) + sized(1, 200)] == segments_of(home)


def test_a_full_log_that_is_not_its_own(home, clock) -> None:
    """What other programs wrote counts too: a log that is full already is sealed at once."""
    os.mkdir(home.folder, 0o700)
    fd = os.open(home.log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"".join(sized(number, 2_000) for number in range(1_200)))
    os.close(fd)
    journal = LogWriter(home, lambda: True, clock, seal_events=1_000)
    answers = [journal.append(LINE) for _ in range(3)]
    journal.close()

    assert [True, False, True] == answers
    assert (1, 1_201) == (len(segments_of(home)), segments_of(home)[0].count(b"\n"))


def test_a_full_log_grows_while_somebody_is_at_work(home, clock) -> None:
    """While the lock is held nothing waits and nothing is lost; it is sealed a little later."""
    journal = LogWriter(home, lambda: True, clock, seal_events=20)
    with rotation.maintenance(home) as folder:
        assert folder is None
    journal.open()
    with rotation.maintenance(home):
        assert all(journal.append(sized(number, 200)) for number in range(50))
    assert [] == segments_of(home)
    answers = [journal.append(sized(50, 200)), journal.append(sized(51, 200))]
    journal.close()

    assert [True, False] == answers
    assert 51 == segments_of(home)[0].count(b"\n")


def test_only_the_log_that_was_counted_is_sealed(home, clock, monkeypatch) -> None:
    """Another process seals it first and begins a new one: that one stays open."""
    other = LogWriter(home, lambda: True, clock)
    real = os.pread

    def slowly(fd: int, count: int, at: int) -> bytes:
        if count > 1 and not segments_of(home):
            rotation.seal(home, "2024-02-28")
            assert other.append(b"new\n")
        return real(fd, count, at)

    journal = LogWriter(home, lambda: True, clock, seal_events=20)
    lines = [sized(number, 160) for number in range(20)]
    assert all(journal.append(one) for one in lines)
    monkeypatch.setattr(os, "pread", slowly)
    assert journal.append(b"last\n")
    journal.close()
    other.close()

    assert [b"".join([*lines, b"last\n"])] == segments_of(home)
    assert b"new\n" == content(home)


def test_a_log_that_cannot_be_counted(home, clock, monkeypatch) -> None:
    """The line is on file, and that is what its writer is told."""

    def fails(fd: int, count: int, at: int) -> bytes:
        raise OSError(errno.EIO, "")

    journal = LogWriter(home, lambda: True, clock, seal_events=2)
    lines = [sized(number, 200) for number in range(6)]
    journal.append(lines[0])
    monkeypatch.setattr(os, "pread", fails)
    assert all(journal.append(one) for one in lines[1:])
    journal.close()

    assert b"".join(lines) == content(home)
    assert journal.breaker.reason == ""


@pytest.fixture
def reentered(home, clock, monkeypatch):
    """A journal in which an event happens while a log is opened, as a signal's might."""
    inner: list[bytes] = []
    answers: list[bool] = []

    def happens(*_: object) -> bool:
        while inner:
            answers.append(found.append(inner.pop()))
        return True

    real = log_file.ignore
    monkeypatch.setattr(log_file, "ignore", lambda *args: happens() and real(*args))
    found = LogWriter(home, happens, clock)
    yield found, inner, answers
    found.close()


# -- inside the slow path ------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"", b"torn"])
def test_an_event_while_the_log_is_opened(home, reentered, torn: bytes) -> None:
    """It is written whole, on a line of its own, before the one that was begun."""
    journal, inner, answers = reentered
    journal.append(LINE)
    journal.close()
    with open(home.log, "ab") as file:
        file.write(torn)
    inner.append(b"inner\n")

    assert journal.append(b"outer\n")
    assert journal.append(b"last\n")
    assert [True] == answers
    middle = torn and torn + b"\n"
    assert LINE + middle + b"inner\nouter\nlast\n" == content(home)


def test_an_event_while_the_log_is_changed(home, reentered) -> None:
    """The same where the old log was sealed; no descriptor is left over."""
    journal, inner, answers = reentered
    journal.append(LINE)
    count = len(os.listdir("/dev/fd"))
    rotation.seal(home, "2024-02-28")
    inner.append(b"inner\n")

    assert False is journal.append(b"outer\n")
    assert True is journal.append(b"outer\n")
    assert [True] == answers
    assert b"inner\nouter\n" == content(home)
    assert count == len(os.listdir("/dev/fd"))


# -- an unprivileged user ------------------------------------------------------------------------


def test_a_read_only_folder(unprivileged) -> None:
    """A project that its user may not write to: no event, no file, and a reason."""
    unprivileged.root.chmod(0o555)
    done = unprivileged.run(
        "assert track_role_event('role.selected', role='dev') is None\n"
        "from telemetry_kit.storage import rotation as upkeep\n"
        "print(upkeep.trouble(control.paths_of()))"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written to" in done.stdout
    assert list(unprivileged.root.iterdir()) == []


def test_a_read_only_log_folder(unprivileged) -> None:
    """The same with our own folder made read-only before there is a log."""
    folder = unprivileged.root / ".flowspec"
    unprivileged.run("os.mkdir('.flowspec', 0o555)")
    done = unprivileged.run("assert track_role_event('role.selected', role='dev') is None")

    assert (done.returncode, done.stderr, list(folder.iterdir())) == (0, "", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_user_meets_roots_log(unprivileged, what: str) -> None:
    """A log or folder that root left is not written to by the user, and stays."""
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
def test_root_leaves_no_folder_in_a_users_project(place) -> None:
    """Root recording in somebody's project would lock its owner out: no event."""
    os.chown(place.root, 65_534, 65_534)

    assert None is track_role_event("role.selected", role="dev")
    assert list(place.root.iterdir()) == []


def test_trouble_is_told_without_writing(home) -> None:
    """`upkeep.trouble()` says what would keep an event from being written, and changes nothing."""
    assert rotation.trouble(home) == []
    plant("link", home.log, Path(home.root).parent / "outside")
    before = tree(home)

    assert [f"{home.log} is a symbolic link"] == rotation.trouble(home)
    assert before == tree(home)


def test_no_mode_is_set_through_a_link(tmp_path) -> None:
    """Whatever the system can do to a link: what it leads to is left alone, and it is an error."""
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
