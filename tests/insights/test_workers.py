"""Counting in several processes: the same numbers as in one, whatever becomes of them."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import written
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_kit.cli.rollup import keep
from telemetry_kit.home import Home
from telemetry_kit.insights import count as counting
from telemetry_kit.insights import rollup, workers
from telemetry_kit.insights.count import Wanted, count
from telemetry_kit.journal import archive, upkeep
from telemetry_kit.journal.segments import Problems

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells how many threads there are"
)
TODAY = "2026-11-23"
# What the parts of a file may begin, end or be filled with.
DAMAGE = (
    b"nonsense\n",
    b'{"schema_version":"1.0","event_id":"',
    b"\0" * 300 + b"\n",
    b"\n" * 50,
    b"x" * (2 << 20) + b"\n",
    b"\xef\xbb\xbf",
)


def shared(patch: pytest.MonkeyPatch, processes: int = 3, part_bytes: int = 700) -> None:
    """Have a few lines be much to count."""
    patch.setattr(workers, "most", lambda: processes)
    patch.setattr(counting, "MIN_SHARED_BYTES", 0)
    patch.setattr(counting, "part_size", lambda *_: part_bytes)


def found(home: Home, wanted: Wanted) -> tuple[object, ...]:
    """All that is told of a journal: by a count, and by a first and a second look."""
    Path(home.folder, rollup.NAME).unlink(missing_ok=True)
    problems, roles = Problems(), set[str]()
    tally = count(home, wanted, problems, roles)
    first = rollup.look(home, wanted)
    keep(home, first)
    second = rollup.look(home, wanted)
    looks = [(seen.tally, seen.roles, seen.problems) for seen in (first, second)]
    return tally, roles, problems, looks


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(role="dev"),
        Wanted(since="2026-09-20", until="2026-10-05"),
    ],
    ids=["all", "role", "period"],
)
@settings(max_examples=15)
@given(
    steps=st.lists(
        st.sampled_from(["write", "seal", "pack", *range(len(DAMAGE))]), min_size=1, max_size=6
    ),
    processes=st.integers(2, 3),
    part_bytes=st.sampled_from([1, 700, 5_000, 1 << 20]),
)
def test_the_numbers_are_the_same(tmp_path_factory, wanted, steps, processes, part_bytes) -> None:
    """Archives, sealed and growing files, damage anywhere, parts of any size."""
    base = tmp_path_factory.mktemp("shared")
    home = Home("flowspec", str(base), str(base / "config"), str(base / "state"))
    written.fill(home, *written.sessions(200))
    for step in steps:
        if step == "seal":
            upkeep.seal(home, TODAY)
        elif step == "pack":
            archive.maintain(home, 3_650, TODAY)
        else:
            with open(home.log, "ab") as log:
                log.write(b"" if step == "write" else DAMAGE[step])
            written.fill(home, *written.sessions(40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollup, "MIN_NEWS", 1)
        alone = found(home, wanted)
        shared(patch, processes, part_bytes)
        together = found(home, wanted)

    assert alone == together


@pytest.fixture
def log(place, monkeypatch) -> Home:
    """A journal in three files, which three processes share."""
    for _ in range(2):
        written.fill(place.home, *written.sessions(300))
        upkeep.seal(place.home, TODAY)
        archive.maintain(place.home, 3_650, TODAY)
    written.fill(place.home, *written.sessions(300))
    shared(monkeypatch)
    return place.home


def test_the_work_is_done_by_others(log, monkeypatch) -> None:
    """Not by this process: it only puts the results together."""
    here = os.getpid()
    real = counting.count_part

    def elsewhere(*given):
        assert os.getpid() != here
        return real(*given)

    monkeypatch.setattr(counting, "count_part", elsewhere)

    assert count(log, Wanted(), Problems()).total("events") == 900


def in_a_child(monkeypatch, happens) -> None:
    """Have something happen to every second process that counts, and never to this one."""
    here, real = os.getpid(), counting.count_part

    def hurt(source, *given):
        if os.getpid() != here and os.getpid() % 2:
            happens()
        return real(source, *given)

    monkeypatch.setattr(counting, "count_part", hurt)


def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize(
    "happens", [lambda: os.kill(os.getpid(), signal.SIGKILL), fail, lambda: os._exit(0)]
)
def test_what_a_process_did_not_do_is_done_here(log, monkeypatch, happens, capfd) -> None:
    """Killed, failed or gone without a word: nothing is missing, and nothing is said."""
    # Only some of them: two are sure to have an odd and an even number among four in a row.
    shared(monkeypatch, processes=4, part_bytes=500)
    in_a_child(monkeypatch, happens)

    assert count(log, Wanted(), Problems()).total("events") == 900
    assert capfd.readouterr() == ("", "")


def test_no_process_can_be_started(log, monkeypatch) -> None:
    """All of it is done here, and no file is left open."""

    def refused():
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(os, "fork", refused)
    before = os.listdir("/proc/self/fd")

    assert count(log, Wanted(), Problems()).total("events") == 900
    assert before == os.listdir("/proc/self/fd")


def test_no_file_can_be_opened(log, monkeypatch) -> None:
    """What could not be read is told, and nothing is raised."""

    def refused(_: int) -> int:
        raise OSError(errno.EMFILE, "too many")

    real = os.open

    def full(path, *given, **more):
        if str(path).startswith("telemetry"):
            raise OSError(errno.EMFILE, "too many")
        return real(path, *given, **more)

    real_snapshot = counting.snapshot

    @contextlib.contextmanager
    def opened(*given):
        with real_snapshot(*given) as sources, pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "dup", refused)
            patch.setattr(os, "open", full)
            yield sources

    monkeypatch.setattr(counting, "snapshot", opened)
    problems = Problems()

    assert count(log, Wanted(), problems).total("events") == 0
    assert all("EMFILE" in sentence for sentence in problems.sentences())
    assert len(problems.sentences()) == 3


def test_every_role_is_told(log) -> None:
    """Also where all events count."""
    roles: set[str] = set()
    count(log, Wanted(), Problems(), roles)

    assert set(written.ROLES) <= roles


def test_nothing_is_left_of_it(log) -> None:
    """No open file, no process to be waited for."""
    before = os.listdir("/proc/self/fd")
    count(log, Wanted(), Problems())

    assert before == os.listdir("/proc/self/fd")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_program_that_waits_for_no_child(log) -> None:
    """Where the system forgets children at once, their results count all the same."""
    former = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert count(log, Wanted(), Problems()).total("events") == 900
    finally:
        signal.signal(signal.SIGCHLD, former)


def test_a_long_file_has_a_part_for_each_process(place, monkeypatch) -> None:
    """No more than that, and none that is not worth a process."""
    written.fill(place.home, *written.sessions(600))
    monkeypatch.setattr(counting, "MIN_SHARED_BYTES", 0)
    monkeypatch.setattr(workers, "most", lambda: 3)
    seen: list[int] = []
    real = workers.spread

    def watched(weights, work, processes):
        seen.append(len(weights))
        return real(weights, work, processes)

    monkeypatch.setattr(workers, "spread", watched)
    assert count(place.home, Wanted(), Problems()).total("events") == 600
    monkeypatch.setattr(counting, "MIN_PART_BYTES", 1_000)
    assert count(place.home, Wanted(), Problems()).total("events") == 600

    assert seen == [1, 3]


def test_little_is_counted_here(place, monkeypatch) -> None:
    """A few thousand events are counted before a process has begun."""
    written.fill(place.home, *written.sessions(3_000))
    monkeypatch.setattr(os, "fork", fail)

    assert count(place.home, Wanted(), Problems()).total("events") == 3_000


# -- how many ----------------------------------------------------------------------------------


MOST = """
import os, threading
from telemetry_kit.insights import workers
os.sched_getaffinity = lambda _: set(range({usable}))
end = threading.Event()
others = [threading.Thread(target=end.wait) for _ in range({threads})]
for other in others:
    other.start()
{more}
print(workers.most())
end.set()
"""


# The system may see a thread for a moment longer than the interpreter.
GONE = """
end.set()
while len(os.listdir("/proc/self/task")) > 1:
    others[0].join()
"""


@pytest.mark.parametrize(
    ("usable", "threads", "more", "expected"),
    [
        (1, 0, "", 1),
        (2, 0, "", 2),
        (64, 0, "", 4),
        (2, 1, "", 1),
        (2, 1, GONE, 2),
        (2, 0, "del os.sched_getaffinity", 1),
        (2, 0, "os.listdir = lambda _: open('no such file')", 1),
    ],
    ids=["one", "two", "many", "thread", "ended", "another system", "no proc"],
)
def test_how_many(place, usable: int, threads: int, more: str, expected: int) -> None:
    """One for each usable processor up to four; none is started beside a thread, or in doubt."""
    done = place.run(MOST.format(usable=usable, threads=threads, more=more))

    assert (done.stdout, done.stderr) == (f"{expected}\n", "")


# -- whole programs ----------------------------------------------------------------------------

STATS = """
import json, os, signal, sys, time
from telemetry_kit.cli import main
from telemetry_kit.insights import count, workers
workers.most = lambda: 2
count.MIN_SHARED_BYTES = 0
count.part_size = lambda *_: 10_000
{more}
sys.stdout.write("before ")
sys.exit(main(["stats", "--json"]))
"""
# Each process that counts says who it is and then takes its time.
SLOW = """
real, here = count.count_part, os.getpid()
def slow(*given):
    if os.getpid() != here:
        open(f"../child-{os.getpid()}", "w").close()
        time.sleep(SECONDS)
    return real(*given)
count.count_part = slow
"""


def test_what_was_said_is_said_once(place) -> None:
    """Nothing that stands in a buffer is written by a copy as well."""
    written.fill(place.home, *written.sessions(1_000))
    done = place.python("-c", STATS.format(more=""))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("before {")
    assert json.loads(done.stdout.removeprefix("before "))["events"] == 1_000


def begun(place, seconds: float) -> tuple["subprocess.Popen[str]", list[int]]:
    """A `stats` whose two processes have begun, and their numbers."""
    written.fill(place.home, *written.sessions(1_000))
    child = place.start(STATS.format(more=SLOW.replace("SECONDS", str(seconds))))
    names: list[Path] = []
    while len(names) < 2:
        assert child.poll() is None
        time.sleep(0.01)
        names = list(place.root.parent.glob("child-*"))
    return child, [int(path.name.removeprefix("child-")) for path in names]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_within(seconds: float, pids: list[int]) -> bool:
    """Whether all of them end by themselves."""
    until = time.monotonic() + seconds
    while any(map(is_running, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_whoever_is_interrupted_takes_them_along(place) -> None:
    """Ctrl-C ends the command, and all that it started, at once and quietly."""
    child, others = begun(place, 600)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)

    assert (child.returncode, out) == (130, "before ")
    assert "Traceback" not in err
    assert not any(map(is_running, others))


def test_nobody_goes_on_alone(place) -> None:
    """Those whose program was killed end with the piece they are at."""
    child, others = begun(place, 1)
    child.kill()
    child.communicate(timeout=60)

    assert end_within(60, others)
