"""Many projects in one process: few logs stay open, no event is lost, no other file is touched."""

import os
import threading
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import writer
from telemetry_kit.storage.writer import LogWriter


class Clock:
    """Seconds that pass only when a test says so."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journals(tmp_path, clock):
    """Journals of as many projects as are asked for."""
    made: list[LogWriter] = []

    def make(count: int) -> list[LogWriter]:
        for _ in range(count):
            root = os.path.realpath(tmp_path / f"project-{len(made)}")
            os.mkdir(root)
            home = ProjectPaths("flowspec", root, f"{root}/config", f"{root}/state")
            made.append(LogWriter(home, lambda: True, clock))
        return made[-count:]

    yield make
    for journal in made:
        journal.close()


def write(journal: LogWriter, line: bytes) -> None:
    """As the chain does it: open, and try again after False."""
    journal.open()
    while not journal.append(line):
        journal.open()


def content(journal: LogWriter) -> bytes:
    return Path(journal._paths.log).read_bytes()


def is_open(journal: LogWriter) -> bool:
    return journal.lease is not None


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_few_logs_stay_open(journals) -> None:
    """Of 60 projects that are written to in turn, 16 logs are open at the end; all lines stand."""
    before = descriptors()
    found = journals(60)
    for number in range(3):
        for journal in found:
            write(journal, b"%d\n" % number)
            assert descriptors() - before <= writer.MAX_OPEN

    assert [b"0\n1\n2\n"] * 60 == [content(journal) for journal in found]
    assert found[-writer.MAX_OPEN :] == [journal for journal in found if is_open(journal)]


def test_a_thousand_projects(place) -> None:
    """1,200 projects in one process: no more than 16 descriptors are added, no event is lost."""
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


def test_an_idle_log_is_closed(journals, clock) -> None:
    """A log that nothing was written to for 10 s is closed when another one is used."""
    idle, busy = journals(2)
    write(idle, b"1\n")
    write(busy, b"1\n")
    clock.seconds += 10
    write(busy, b"2\n")
    assert is_open(idle)
    clock.seconds += 1
    write(busy, b"3\n")

    assert (False, True) == (is_open(idle), is_open(busy))


def test_a_closed_log_asks_again(journals, clock) -> None:
    """The line that meets a closed log is made anew: consent and key may have changed."""
    idle, busy = journals(2)
    write(idle, b"1\n")
    write(busy, b"1\n")
    clock.seconds += 11
    busy.open()

    assert (False, True) == (idle.append(b"2\n"), idle.append(b"2\n"))
    assert b"1\n2\n" == content(idle)


def test_a_log_between_fstat_and_write_stays_open(journals, clock, monkeypatch) -> None:
    """While one thread is about to write, others that open 40 logs leave its number alone."""
    (slow,) = journals(1)
    others = journals(40)
    write(slow, b"1\n")
    ready, go = threading.Event(), threading.Event()
    real = os.write

    def held(fd: int, data: bytes) -> int:
        if data == b"slow\n":
            ready.set()
            go.wait()
        return real(fd, data)

    monkeypatch.setattr(writer, "_write", held)
    thread = threading.Thread(target=write, args=(slow, b"slow\n"))
    thread.start()
    ready.wait()
    clock.seconds += 60
    for journal in others:
        write(journal, b"1\n")
    number = slow.lease.fd if slow.lease else -1
    still = is_open(slow) and os.path.samestat(os.fstat(number), os.stat(slow._paths.log))
    go.set()
    thread.join()
    clock.seconds += 60
    write(others[0], b"2\n")

    assert (True, b"1\nslow\n", False) == (still, content(slow), is_open(slow))


def test_threads_lose_nothing_and_touch_no_other_file(journals, tmp_path) -> None:
    """Eight threads over 48 projects, and a host that opens and closes files all the time."""
    found = journals(48)
    done = threading.Event()
    trouble: list[BaseException] = []
    (tmp_path / "theirs").mkdir()

    def record(thread: int) -> None:
        try:
            for number in range(400):
                at = (number * (thread + 1) * 7 + number // 3) % len(found)
                write(found[at], b"%d-%d\n" % (thread, number))
        except BaseException as error:
            trouble.append(error)

    def host(thread: int) -> None:
        number = 0
        while not done.is_set():
            files = [open(tmp_path / "theirs" / f"{thread}-{n}", "ab") for n in range(8)]  # noqa: SIM115
            for file in files:
                file.close()
            number += 1

    hosts = [threading.Thread(target=host, args=(n,)) for n in range(2)]
    threads = [threading.Thread(target=record, args=(n,)) for n in range(8)]
    for thread in (*hosts, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    for thread in hosts:
        thread.join()
    lines = [
        line
        for journal in found
        if os.path.exists(journal._paths.log)
        for line in content(journal).splitlines()
        if line
    ]

    assert ([], 3_200, 3_200) == (trouble, len(lines), len(set(lines)))
    assert {0} == {path.stat().st_size for path in (tmp_path / "theirs").iterdir()}
    assert len([journal for journal in found if is_open(journal)]) <= writer.MAX_OPEN + 8
