"""The writer after system errors: the circuit breaker, and each error of each call."""

import errno
import fcntl
import itertools
import json
import os
from pathlib import Path

import pytest

from telemetry_kit.errors import Off, Refused
from telemetry_kit.files import private
from telemetry_kit.storage import ignore_file, log_file, writer
from telemetry_kit.storage.writer import LogWriter
from tests.storage.writer_helpers import LINE, Clock, log_bytes, misplace

# -- the circuit breaker -------------------------------------------------------------------------


def test_breaker_pauses(home, clock) -> None:
    """The breaker pauses for 1, 2, 4, 8, 16, 32, 60 and 60 seconds without an attempt."""
    attempts = []

    def allowed() -> bool:
        attempts.append(clock.seconds)
        raise Refused("it cannot be asked")

    log_writer = LogWriter(home, allowed, clock)
    for _ in range(4 * 250):
        with pytest.raises(Refused):
            log_writer.append(LINE)
        clock.seconds += 0.25
    pauses = [after - before for before, after in itertools.pairwise(attempts)]

    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_breaker_closes_after_a_success(home, log_writer, clock) -> None:
    """After the pause, a successful attempt clears the reason and resets the pause."""
    os.mkdir(home.folder)
    os.mkdir(home.log)
    with pytest.raises(Refused):
        log_writer.append(LINE)
    os.rmdir(home.log)
    with pytest.raises(Refused):
        log_writer.append(LINE)
    assert not os.path.exists(home.log)
    clock.seconds += 1

    assert log_writer.append(LINE)
    assert log_writer.breaker.reason == ""
    os.unlink(home.log)
    os.mkdir(home.log)
    with pytest.raises(Refused):
        log_writer.append(LINE)
    assert clock.seconds + 1 == log_writer.breaker.resume


def test_a_denial_does_not_open_the_breaker(home, clock) -> None:
    """A denial does not open the breaker, so a later grant takes effect at once."""
    answers = [False]
    log_writer = LogWriter(home, lambda: answers[0], clock)
    for _ in range(5):
        with pytest.raises(Off):
            log_writer.append(LINE)
    answers[0] = True

    assert log_writer.append(LINE)
    log_writer.close()


def slow_clock(clock: Clock, seconds: float) -> Clock:
    """Create a clock that advances by this many seconds at each call."""

    class Slow(Clock):
        def __call__(self) -> float:
            self.seconds += seconds
            return self.seconds

    found = Slow()
    found.seconds = clock.seconds
    return found


def test_three_slow_writes_open_the_breaker(home, clock) -> None:
    """Three lines in a row over 50 ms pause the writer. These lines are stored."""
    log_writer = LogWriter(home, lambda: True, slow_clock(clock, 0.06))
    for _ in range(3):
        assert log_writer.append(LINE)
    with pytest.raises(Refused, match="the disk is slow"):
        log_writer.append(LINE)

    assert log_bytes(home) == LINE * 3
    log_writer.close()


def test_an_error_is_saved_by_its_code(home, clock, monkeypatch) -> None:
    """The writer saves "slow disk" or the code of the system error."""
    saved: list[str] = []
    log_writer = LogWriter(home, lambda: True, slow_clock(clock, 0.06), remember=saved.append)
    for _ in range(3):
        log_writer.append(LINE)
    assert saved == ["slow disk"]
    log_writer.close()
    saved.clear()

    def fail_with_enospc(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log_writer = LogWriter(home, lambda: True, clock, remember=saved.append)
    monkeypatch.setattr(writer, "_write", fail_with_enospc)
    with pytest.raises(Refused, match=r"the disk is full \(ENOSPC\)$"):
        log_writer.append(LINE)
    log_writer.close()

    assert saved == ["ENOSPC"]


def test_single_slow_writes_do_not_open_the_breaker(home, clock) -> None:
    """Two slow lines and a fast one do not open the breaker."""
    watch = slow_clock(clock, 0.06)
    log_writer = LogWriter(
        home, lambda: True, lambda: watch() if open_after_other else watch.seconds
    )
    for number in range(30):
        open_after_other = number % 3 != 2
        assert log_writer.append(LINE)

    assert log_bytes(home) == LINE * 30
    log_writer.close()


def test_a_fast_disk_does_not_open_the_breaker(home, clock) -> None:
    """Lines of 20 ms each do not open the breaker."""
    log_writer = LogWriter(home, lambda: True, slow_clock(clock, 0.02))
    for _ in range(20):
        assert log_writer.append(LINE)
    log_writer.close()


def test_a_partial_write_is_not_acknowledged(place) -> None:
    """A line that is written in part is rejected and counted, and its fragment gets a newline.

    The file size limit produces a partial write on each system.
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


def write_partially_once(monkeypatch, failing: bool) -> None:
    """Let the next write stop in the middle, and the one after it succeed or fail."""
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


# -- system errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("before", [0, 3])
def test_a_partial_line(home, log_writer, clock, monkeypatch, failing: bool, before: int) -> None:
    """A partial line counts as lost and gets a newline. The next event starts on a new line."""
    for _ in range(before):
        log_writer.append(LINE)
    log_writer.open()
    write_partially_once(monkeypatch, failing)
    with pytest.raises(Refused, match=r"^\S+: the disk is full \(ENOSPC\)$"):
        log_writer.append(LINE)
    clock.seconds += 1

    assert log_writer.append(LINE)
    assert log_writer.append(LINE)
    assert LINE * before + LINE[: len(LINE) // 2] + b"\n" + LINE * 2 == log_bytes(home)
    assert 1 == log_writer.lost


def test_each_partial_line_is_counted(home, log_writer, clock, monkeypatch) -> None:
    """Two partial lines count as two lost events."""
    log_writer.open()
    for _ in range(2):
        write_partially_once(monkeypatch, failing=False)
        with pytest.raises(Refused):
            log_writer.append(LINE)
        clock.seconds += 10

    assert 2 == log_writer.lost


def test_a_partial_ignore_file(home, log_writer, clock, monkeypatch) -> None:
    """The log is created only after the ignore file is complete. The next attempt writes both."""
    write_partially_once(monkeypatch, failing=False)
    with pytest.raises(Refused, match=r"the disk is full \(ENOSPC\)"):
        log_writer.append(LINE)
    assert (b"", False) == (Path(home.ignore).read_bytes(), os.path.exists(home.log))
    clock.seconds += 1

    assert log_writer.append(LINE)
    assert ignore_file.IGNORE == Path(home.ignore).read_bytes()


@pytest.mark.parametrize("number", sorted(private.NO_LOCKS))
def test_a_file_system_without_locks(home, log_writer, monkeypatch, number: int) -> None:
    """On a file system without locks, lines are written without a lease."""

    def fail(fd: int, how: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(log_file, "flock", fail)

    assert log_writer.append(LINE)
    assert LINE == log_bytes(home)


def test_a_lock_that_fails(home, log_writer, monkeypatch) -> None:
    """With another error of `flock`, nothing is written and no descriptor is left open."""

    def fail(fd: int, how: int) -> None:
        raise OSError(errno.EIO, "")

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(log_file, "flock", fail)
    with pytest.raises(Refused, match=r"input/output error \(EIO\)"):
        log_writer.append(LINE)

    assert (b"", count) == (log_bytes(home), len(os.listdir("/dev/fd")))


def test_an_exclusive_lock_on_the_log(home, log_writer, clock) -> None:
    """The writer does not wait for an exclusive lock. When it is released, writing resumes."""
    log_writer.append(LINE)
    log_writer.close()
    count = len(os.listdir("/dev/fd"))
    with open(home.log, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="was replaced by other processes at every attempt"):
            log_writer.append(LINE)
    assert count == len(os.listdir("/dev/fd"))
    clock.seconds += 1

    assert log_writer.append(LINE)
    assert LINE * 2 == log_bytes(home)


def test_a_log_that_another_process_creates_first(home, log_writer, clock, monkeypatch) -> None:
    """If another process creates the log first, both write to it."""
    other = LogWriter(home, lambda: True, clock)
    real = os.open
    made: list[bool] = []
    streams = [os.fstat(number).st_ino for number in range(3)]

    def open_after_other(path, flags, *args, **more):
        if path == log_file.LOG and flags & os.O_CREAT and not made:
            monkeypatch.setattr(os, "open", real)
            made.append(other.append(b"first\n"))
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", open_after_other)
    assert log_writer.append(b"second\n")
    other.close()

    assert [True] == made
    assert streams == [os.fstat(number).st_ino for number in range(3)]
    assert b"first\nsecond\n" == log_bytes(home)


def test_a_mode_that_cannot_be_set(home, log_writer, monkeypatch) -> None:
    """If the mode of the log cannot be set, nothing is written and no descriptor is left open."""

    def fail(fd: int, bits: int) -> None:
        if bits == 0o600:
            raise OSError(errno.EPERM, "")

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "fchmod", fail)
    previous = os.umask(0o277)
    try:
        with pytest.raises(Refused, match=r"operation not permitted \(EPERM\)"):
            log_writer.append(LINE)
    finally:
        os.umask(previous)

    assert (b"", count) == (log_bytes(home), len(os.listdir("/dev/fd")))


@pytest.mark.parametrize("closed", [(0, 1), (0, 2), (1, 2)], ids=str)
def test_a_host_without_standard_streams(home, log_writer, closed: tuple[int, int]) -> None:
    """The log never gets the descriptor of a standard stream, so the host cannot print into it."""
    saved_streams = [os.dup(number) for number in closed]
    try:
        for number in closed:
            os.close(number)
        assert log_writer.append(LINE)
        log = log_writer.lease.fd
        taken = [number for number in closed if os.path.exists(f"/dev/fd/{number}")]
    finally:
        for previous, number in zip(saved_streams, closed, strict=True):
            os.dup2(previous, number)
            os.close(previous)

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
def test_the_reason_of_an_error(home, log_writer, kind: str, words: str) -> None:
    """The reason has the file, an explanation and the error code."""
    misplace(kind, home.log, Path(home.root).parent / "outside")
    with pytest.raises(Refused):
        log_writer.append(LINE)

    assert f"{home.log}: {words}" == log_writer.breaker.reason


def test_the_reason_of_an_unlisted_error() -> None:
    """An unlisted error is reported by its code."""
    assert "cannot be used (EBUSY)" == private.explain(OSError(errno.EBUSY, "secret"))
    assert "cannot be used (ValueError)" == private.explain(ValueError("secret"))


def test_a_fragment_of_one_byte(home, clock) -> None:
    """A log may consist of the first byte of a line."""
    first = LogWriter(home, lambda: True, clock)
    first.open()
    first.close()
    Path(home.log).write_bytes(b"{")
    second = LogWriter(home, lambda: True, clock)
    second.append(LINE)
    second.close()

    assert b"{\n" + LINE == log_bytes(home)


def test_slow_writes_are_counted_anew_after_a_pause(home, clock) -> None:
    """After a pause, two slow lines do not open the breaker again."""
    watch = slow_clock(clock, 0.06)
    log_writer = LogWriter(home, lambda: True, watch)
    for _ in range(3):
        assert log_writer.append(LINE)
    watch.seconds += 1
    for _ in range(3):
        assert log_writer.append(LINE)
    with pytest.raises(Refused, match="the disk is slow"):
        log_writer.append(LINE)
    log_writer.close()


def test_root_rejects_the_project_of_another_user(home, log_writer) -> None:
    """Root records nothing there, and the reason names the project."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(home.root, 65_534, 65_534)
    with pytest.raises(Refused, match=f"^{home.root} belongs to another user$"):
        log_writer.append(LINE)
