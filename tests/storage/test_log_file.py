"""A process that records for many projects has few logs open and loses no event."""

import os
import threading
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import writer
from telemetry_kit.storage.writer import LogWriter


class Clock:
    """A clock that advances only when a test sets it."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """Create the clock of the writers."""
    return Clock()


@pytest.fixture
def log_writers(tmp_path, clock):
    """Create log writers for the given number of projects."""
    created: list[LogWriter] = []

    def make(count: int) -> list[LogWriter]:
        for _ in range(count):
            root = os.path.realpath(tmp_path / f"project-{len(created)}")
            os.mkdir(root)
            home = ProjectPaths("flowspec", root, f"{root}/config", f"{root}/state")
            created.append(LogWriter(home, lambda: True, clock))
        return created[-count:]

    yield make
    for log_writer in created:
        log_writer.close()


def write(log_writer: LogWriter, line: bytes) -> None:
    """Write a line as the pipeline does: open the log and retry after False."""
    log_writer.open()
    while not log_writer.append(line):
        log_writer.open()


def log_bytes(log_writer: LogWriter) -> bytes:
    """Return the bytes of the writer's log."""
    return Path(log_writer._paths.log).read_bytes()


def is_open(log_writer: LogWriter) -> bool:
    """Return whether the writer has its log open."""
    return log_writer.lease is not None


def count_descriptors() -> int:
    """Return the number of open descriptors."""
    return len(os.listdir("/dev/fd"))


def test_few_logs_stay_open(log_writers) -> None:
    """If 60 projects are written to in turn, 16 logs are open at the end and no line is lost."""
    before = count_descriptors()
    writers = log_writers(60)
    for number in range(3):
        for log_writer in writers:
            write(log_writer, b"%d\n" % number)
            assert count_descriptors() - before <= writer.MAX_OPEN

    assert [b"0\n1\n2\n"] * 60 == [log_bytes(log_writer) for log_writer in writers]
    assert writers[-writer.MAX_OPEN :] == [
        log_writer for log_writer in writers if is_open(log_writer)
    ]


def test_a_thousand_projects(place) -> None:
    """For 1,200 projects, a process opens at most 16 more descriptors and loses no event."""
    done = place.run(
        "import os\n"
        "from telemetry_kit import *\n"
        "configure(app='flowspec')\n"
        "enable_telemetry(all_projects=True)\n"
        "before = len(os.listdir('/dev/fd'))\n"
        "for n in range(1_200):\n"
        "    os.makedirs(f'p{n}/.git')\n"
        "    assert track_role_event('role.selected', project_root=f'p{n}'), n\n"
        "print(len(os.listdir('/dev/fd')) - before)\n"
    )

    assert (done.stderr, int(done.stdout) <= 16) == ("", True)


def test_an_idle_log_is_closed(log_writers, clock) -> None:
    """A log without writes for 10 s is closed when another log is used."""
    idle, busy = log_writers(2)
    write(idle, b"1\n")
    write(busy, b"1\n")
    clock.seconds += 10
    write(busy, b"2\n")
    assert is_open(idle)
    clock.seconds += 1
    write(busy, b"3\n")

    assert (False, True) == (is_open(idle), is_open(busy))


def test_a_closed_log_rejects_the_first_line(log_writers, clock) -> None:
    """If the log was closed, the line is rejected, because consent and key may have changed."""
    idle, busy = log_writers(2)
    write(idle, b"1\n")
    write(busy, b"1\n")
    clock.seconds += 11
    busy.open()

    assert (False, True) == (idle.append(b"2\n"), idle.append(b"2\n"))
    assert b"1\n2\n" == log_bytes(idle)


def test_a_log_between_fstat_and_write_stays_open(log_writers, clock, monkeypatch) -> None:
    """While one thread is about to write, opening 40 other logs does not close its descriptor."""
    (slow,) = log_writers(1)
    others = log_writers(40)
    write(slow, b"1\n")
    ready, resume = threading.Event(), threading.Event()
    real = os.write

    def delayed(fd: int, data: bytes) -> int:
        if data == b"slow\n":
            ready.set()
            resume.wait()
        return real(fd, data)

    monkeypatch.setattr(writer, "_write", delayed)
    thread = threading.Thread(target=write, args=(slow, b"slow\n"))
    thread.start()
    ready.wait()
    clock.seconds += 60
    for log_writer in others:
        write(log_writer, b"1\n")
    number = slow.lease.fd if slow.lease else -1
    is_same_file = is_open(slow) and os.path.samestat(os.fstat(number), os.stat(slow._paths.log))
    resume.set()
    thread.join()
    clock.seconds += 60
    write(others[0], b"2\n")

    assert (True, b"1\nslow\n", False) == (is_same_file, log_bytes(slow), is_open(slow))


def test_threads_lose_nothing_and_touch_no_other_file(log_writers, tmp_path) -> None:
    """Eight threads write to 48 projects while the host opens and closes its own files."""
    writers = log_writers(48)
    done = threading.Event()
    errors: list[BaseException] = []
    (tmp_path / "theirs").mkdir()

    def record(thread: int) -> None:
        try:
            for number in range(400):
                at = (number * (thread + 1) * 7 + number // 3) % len(writers)
                write(writers[at], b"%d-%d\n" % (thread, number))
        except BaseException as error:
            errors.append(error)

    def open_and_close(thread: int) -> None:
        number = 0
        while not done.is_set():
            files = [open(tmp_path / "theirs" / f"{thread}-{n}", "ab") for n in range(8)]  # noqa: SIM115
            for file in files:
                file.close()
            number += 1

    host_threads = [threading.Thread(target=open_and_close, args=(n,)) for n in range(2)]
    threads = [threading.Thread(target=record, args=(n,)) for n in range(8)]
    for thread in (*host_threads, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    for thread in host_threads:
        thread.join()
    lines = [
        line
        for log_writer in writers
        if os.path.exists(log_writer._paths.log)
        for line in log_bytes(log_writer).splitlines()
        if line
    ]

    assert ([], 3_200, 3_200) == (errors, len(lines), len(set(lines)))
    assert {0} == {path.stat().st_size for path in (tmp_path / "theirs").iterdir()}
    assert len([log_writer for log_writer in writers if is_open(log_writer)]) <= writer.MAX_OPEN + 8
