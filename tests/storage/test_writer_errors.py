"""The writer after errors of the system: the circuit breaker, and each error of each call."""

import errno
import fcntl
import itertools
import json
import os
from pathlib import Path

import pytest

from telemetry_kit.errors import Off, Refused
from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import ignore_file, log_file, writer
from telemetry_kit.storage.writer import LogWriter
from tests.storage.writer_helpers import LINE, Clock, content, plant


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


# -- trouble -------------------------------------------------------------------------------------


def test_breaker_pauses(home, clock) -> None:
    """While it pauses nothing is tried; the pauses are 1, 2, 4, 8, 16, 32, 60, 60 seconds."""
    tried = []

    def allowed() -> bool:
        tried.append(clock.seconds)
        raise Refused("it cannot be asked")

    journal = LogWriter(home, allowed, clock)
    for _ in range(4 * 250):
        with pytest.raises(Refused):
            journal.append(LINE)
        clock.seconds += 0.25
    pauses = [after - before for before, after in itertools.pairwise(tried)]

    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_breaker_closes_after_a_success(home, journal, clock) -> None:
    """When the trouble is gone, the first attempt after the pause works and clears the reason."""
    os.mkdir(home.folder)
    os.mkdir(home.log)
    with pytest.raises(Refused):
        journal.append(LINE)
    os.rmdir(home.log)
    with pytest.raises(Refused):
        journal.append(LINE)
    assert not os.path.exists(home.log)
    clock.seconds += 1

    assert journal.append(LINE)
    assert journal.breaker.reason == ""
    os.unlink(home.log)
    os.mkdir(home.log)
    with pytest.raises(Refused):
        journal.append(LINE)
    assert clock.seconds + 1 == journal.breaker.resume


def test_being_off_is_no_trouble(home, clock) -> None:
    """A no does not open the breaker: a yes afterwards works at once."""
    answers = [False]
    journal = LogWriter(home, lambda: answers[0], clock)
    for _ in range(5):
        with pytest.raises(Off):
            journal.append(LINE)
    answers[0] = True

    assert journal.append(LINE)
    journal.close()


def slow(clock: Clock, seconds: float) -> Clock:
    """A clock on which the next question takes as long as given."""

    class Slow(Clock):
        def __call__(self) -> float:
            self.seconds += seconds
            return self.seconds

    found = Slow()
    found.seconds = clock.seconds
    return found


def test_a_slow_disk_opens_the_breaker_after_three(home, clock) -> None:
    """Three lines in a row that each took over 50 ms pause the writing; the lines are on file."""
    journal = LogWriter(home, lambda: True, slow(clock, 0.06))
    for _ in range(3):
        assert journal.append(LINE)
    with pytest.raises(Refused, match="the disk is slow"):
        journal.append(LINE)

    assert content(home) == LINE * 3
    journal.close()


def test_trouble_is_remembered_by_its_short_name(home, clock, monkeypatch) -> None:
    """Whoever looks later finds what it was: the slow disk, or the name of the system's error."""
    told: list[str] = []
    journal = LogWriter(home, lambda: True, slow(clock, 0.06), remember=told.append)
    for _ in range(3):
        journal.append(LINE)
    assert told == ["slow disk"]
    journal.close()
    told.clear()

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = LogWriter(home, lambda: True, clock, remember=told.append)
    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(Refused, match=r"the disk is full \(ENOSPC\)$"):
        journal.append(LINE)
    journal.close()

    assert told == ["ENOSPC"]


def test_a_disk_that_is_slow_now_and_then_is_fine(home, clock) -> None:
    """Two slow lines and a quick one do not open it."""
    watch = slow(clock, 0.06)
    journal = LogWriter(home, lambda: True, lambda: watch() if slowly else watch.seconds)
    for number in range(30):
        slowly = number % 3 != 2
        assert journal.append(LINE)

    assert content(home) == LINE * 30
    journal.close()


def test_a_quick_disk_never_pauses(home, clock) -> None:
    """Lines of 20 ms each are no reason to pause."""
    journal = LogWriter(home, lambda: True, slow(clock, 0.02))
    for _ in range(20):
        assert journal.append(LINE)
    journal.close()


def test_a_short_write_is_not_acknowledged(place) -> None:
    """A line that did not fit is refused and counted, what is there of it is ended.

    The limit on the size of files is the one way to a short write that every system has.
    """
    done = place.run(
        "import os, resource, signal\n"
        "from telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.recording import recorder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "first = t('role.selected', role='dev')\n"
        "size = os.stat('.flowspec/telemetry.jsonl').st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, -1))\n"
        "assert t('role.selected', role='dev') is None\n"
        "journal = recorder.recorder_for().writer\n"
        "print(journal.lost, journal.breaker.reason)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
    )
    again = place.run(
        "from telemetry_kit import track_role_event as t; assert t('role.selected', role='dev')"
    )

    assert (done.returncode, done.stderr, again.returncode, again.stderr) == (0, "", 0, "")
    assert done.stdout.startswith("1 ")
    whole = [line for line in place.lines() if line.startswith(b'{"schema') and b"}" in line]
    assert [json.loads(line)["event_type"] for line in whole] == ["role.selected"] * 2
    assert place.log.read_bytes().endswith(b"}\n")


def short_once(monkeypatch, failing: bool) -> None:
    """The next write stops in the middle, as on a full disk; then there is room, or is not."""
    real = os.write
    written: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        written.append(data)
        if len(written) == 1:
            return real(fd, data[: len(data) // 2])
        if len(written) == 2 and failing:
            raise OSError(errno.ENOSPC, "")
        return real(fd, data)

    monkeypatch.setattr(writer, "_write", write)
    monkeypatch.setattr(ignore_file, "_write", write)


# -- what the system may say ---------------------------------------------------------------------


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("before", [0, 3])
def test_half_a_line(home, journal, clock, monkeypatch, failing: bool, before: int) -> None:
    """It is no event: it is counted as lost, ended, and the next one is on a line of its own."""
    for _ in range(before):
        journal.append(LINE)
    journal.open()
    short_once(monkeypatch, failing)
    with pytest.raises(Refused, match=r"^\S+: the disk is full \(ENOSPC\)$"):
        journal.append(LINE)
    clock.seconds += 1

    assert journal.append(LINE)
    assert journal.append(LINE)
    assert LINE * before + LINE[: len(LINE) // 2] + b"\n" + LINE * 2 == content(home)
    assert 1 == journal.lost


def test_every_half_line_is_counted(home, journal, clock, monkeypatch) -> None:
    """Two of them are two."""
    journal.open()
    for _ in range(2):
        short_once(monkeypatch, failing=False)
        with pytest.raises(Refused):
            journal.append(LINE)
        clock.seconds += 10

    assert 2 == journal.lost


def test_half_an_ignore_file(home, journal, clock, monkeypatch) -> None:
    """There is no log before the ignore file is whole; the next attempt writes both."""
    short_once(monkeypatch, failing=False)
    with pytest.raises(Refused, match=r"the disk is full \(ENOSPC\)"):
        journal.append(LINE)
    assert (b"", False) == (Path(home.ignore).read_bytes(), os.path.exists(home.log))
    clock.seconds += 1

    assert journal.append(LINE)
    assert ignore_file.IGNORE == Path(home.ignore).read_bytes()


@pytest.mark.parametrize("number", sorted(private.NO_LOCKS))
def test_a_file_system_without_locks(home, journal, monkeypatch, number: int) -> None:
    """Lines are written without a lease."""

    def none(fd: int, how: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(log_file, "flock", none)

    assert journal.append(LINE)
    assert LINE == content(home)


def test_a_lock_that_fails(home, journal, monkeypatch) -> None:
    """Any other answer is a trouble: nothing is written, nothing stays open."""

    def fails(fd: int, how: int) -> None:
        raise OSError(errno.EIO, "")

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(log_file, "flock", fails)
    with pytest.raises(Refused, match=r"input/output error \(EIO\)"):
        journal.append(LINE)

    assert (b"", count) == (content(home), len(os.listdir("/dev/fd")))


def test_a_log_that_somebody_keeps_for_himself(home, journal, clock) -> None:
    """Nobody waits for an exclusive lock on the log; when it is given back, writing goes on."""
    journal.append(LINE)
    journal.close()
    count = len(os.listdir("/dev/fd"))
    with open(home.log, "rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="was replaced by other processes at every attempt"):
            journal.append(LINE)
    assert count == len(os.listdir("/dev/fd"))
    clock.seconds += 1

    assert journal.append(LINE)
    assert LINE * 2 == content(home)


def test_a_log_that_another_process_makes_first(home, journal, clock, monkeypatch) -> None:
    """Both write into the one that is there."""
    other = LogWriter(home, lambda: True, clock)
    real = os.open
    made: list[bool] = []
    streams = [os.fstat(number).st_ino for number in range(3)]

    def slowly(path, flags, *args, **more):
        if path == log_file.LOG and flags & os.O_CREAT and not made:
            monkeypatch.setattr(os, "open", real)
            made.append(other.append(b"first\n"))
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", slowly)
    assert journal.append(b"second\n")
    other.close()

    assert [True] == made
    assert streams == [os.fstat(number).st_ino for number in range(3)]
    assert b"first\nsecond\n" == content(home)


def test_a_mode_that_cannot_be_set(home, journal, monkeypatch) -> None:
    """A umask took the owner's bits and they cannot be given back: no event, nothing stays open."""

    def fails(fd: int, bits: int) -> None:
        if bits == 0o600:
            raise OSError(errno.EPERM, "")

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "fchmod", fails)
    former = os.umask(0o277)
    try:
        with pytest.raises(Refused, match=r"operation not permitted \(EPERM\)"):
            journal.append(LINE)
    finally:
        os.umask(former)

    assert (b"", count) == (content(home), len(os.listdir("/dev/fd")))


@pytest.mark.parametrize("closed", [(0, 1), (0, 2), (1, 2)], ids=str)
def test_a_host_without_its_streams(home, journal, closed: tuple[int, int]) -> None:
    """The log never gets the number of a stream: what the host prints would be in it."""
    kept = [os.dup(number) for number in closed]
    try:
        for number in closed:
            os.close(number)
        assert journal.append(LINE)
        log = journal.lease.fd
        taken = [number for number in closed if os.path.exists(f"/dev/fd/{number}")]
    finally:
        for former, number in zip(kept, closed, strict=True):
            os.dup2(former, number)
            os.close(former)

    assert (True, []) == (log > 2, taken)
    assert not os.get_inheritable(log)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("link", "it is a symbolic link (ELOOP)"),
        ("directory", "it is a folder (EISDIR)"),
        ("socket", "it is no plain file (ENXIO)"),
    ],
)
def test_trouble_is_told_in_words(home, journal, kind: str, words: str) -> None:
    """The reason names the file, says what it means, and gives the system's short name."""
    plant(kind, home.log, Path(home.root).parent / "outside")
    with pytest.raises(Refused):
        journal.append(LINE)

    assert f"{home.log}: {words}" == journal.breaker.reason


def test_trouble_without_a_word_for_it() -> None:
    """An error that is not in the list is told by its short name."""
    assert "cannot be used (EBUSY)" == private.explain(OSError(errno.EBUSY, "secret"))
    assert "cannot be used (ValueError)" == private.explain(ValueError("secret"))


def test_a_fragment_of_one_byte(home, clock) -> None:
    """A log that holds nothing but the first byte of a line."""
    first = LogWriter(home, lambda: True, clock)
    first.open()
    first.close()
    Path(home.log).write_bytes(b"{")
    second = LogWriter(home, lambda: True, clock)
    second.append(LINE)
    second.close()

    assert b"{\n" + LINE == content(home)


def test_after_a_slow_disk_three_more_are_needed(home, clock) -> None:
    """A pause begins the counting anew: two slow lines after it do not pause again."""
    watch = slow(clock, 0.06)
    journal = LogWriter(home, lambda: True, watch)
    for _ in range(3):
        assert journal.append(LINE)
    watch.seconds += 1
    for _ in range(3):
        assert journal.append(LINE)
    with pytest.raises(Refused, match="the disk is slow"):
        journal.append(LINE)
    journal.close()


def test_root_says_whose_project_it_is(home, journal) -> None:
    """The reason names the project."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(home.root, 65_534, 65_534)
    with pytest.raises(Refused, match=f"^{home.root} belongs to another user$"):
        journal.append(LINE)
