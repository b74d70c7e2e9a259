"""The writer in several threads and processes."""

import json
import threading
from pathlib import Path

from telemetry_kit.storage import rotation
from telemetry_kit.storage.writer import LogWriter
from tests.storage.writer_helpers import log_bytes


def test_threads_lose_no_line(home, clock) -> None:
    """Eight threads share one writer, and each acknowledged line is stored once and complete."""
    log_writer = LogWriter(home, lambda: True, clock)
    start = threading.Barrier(8)

    def write(thread: int) -> None:
        start.wait()
        for n in range(200):
            line = b'{"t":%d,"n":%d,"pad":"%s"}\n' % (thread, n, b"x" * 200)
            while not log_writer.append(line):
                pass

    threads = [threading.Thread(target=write, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log_writer.close()
    created = [json.loads(line) for line in log_bytes(home).splitlines() if line]

    assert {(t, n) for t in range(8) for n in range(200)} == {(e["t"], e["n"]) for e in created}
    assert len(created) == 1600


def test_threads_while_the_log_is_sealed(home, clock) -> None:
    """While another thread keeps sealing the log, no line is lost or doubled."""
    log_writer = LogWriter(home, lambda: True, clock)
    finished = threading.Event()

    def seal() -> None:
        while not finished.is_set():
            rotation.seal(home, "2024-02-28")

    def write(thread: int) -> None:
        for n in range(150):
            while not log_writer.append(b'{"t":%d,"n":%d}\n' % (thread, n)):
                pass

    sealer = threading.Thread(target=seal)
    writers = [threading.Thread(target=write, args=(t,)) for t in range(4)]
    for thread in (sealer, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    finished.set()
    sealer.join()
    log_writer.close()
    segments = Path(home.folder).glob("telemetry*.jsonl")
    created = [json.loads(one) for p in segments for one in p.read_bytes().splitlines() if one]

    assert sorted((t, n) for t in range(4) for n in range(150)) == sorted(
        (e["t"], e["n"]) for e in created
    )


def test_a_forked_child_writes(place) -> None:
    """Parent and children share the lease and write complete lines to one log."""
    done = place.run(
        "import os\nfrom telemetry_kit import track_role_event as t\n"
        "assert t('role.selected', role='pm')\n"
        "children = []\n"
        "for _ in range(4):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        for _ in range(50): assert t('agent.invoked', role='dev')\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "for _ in range(50): assert t('role.selected', role='qa')\n"
        "assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4\n"
        "assert t('role.selected', role='ops')\n"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(place.events()) == 1 + 200 + 50 + 1


def test_a_child_that_exits_keeps_the_parents_lease(place) -> None:
    """When a child exits, the parent still has its shared lock."""
    done = place.run(
        "import fcntl, os\nfrom telemetry_kit import track_role_event as t\n"
        "assert t('role.selected', role='pm')\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    assert t('role.selected', role='dev')\n"
        "    raise SystemExit\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "fd = os.open('.flowspec/telemetry.jsonl', os.O_RDWR)\n"
        "try: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('held')\n"
    )

    assert (done.stdout, done.stderr) == ("held\n", "")


def test_two_children_detect_a_seal_of_their_parent(place) -> None:
    """Each child that inherited the descriptor opens the new log by itself."""
    done = place.run(
        "import os\nfrom telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.consent import changes as control\n"
        "from telemetry_kit.storage import rotation as upkeep\n"
        "assert t('role.selected', role='pm')\n"
        "r, w = os.pipe()\n"
        "children = []\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        os.close(w)\n"
        "        os.read(r, 1)\n"
        "        assert t('role.selected', role='dev')\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "upkeep.seal(control.paths_of(), '2024-02-28')\n"
        "os.write(w, b'go')\n"
        "assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]\n"
    )

    assert (done.returncode, done.stderr, len(place.events())) == (0, "", 2)


def test_many_processes_write_complete_lines(place) -> None:
    """Six processes write at once. No line is incomplete and no event is lost."""
    code = (
        "from telemetry_kit import track_role_event as t\n"
        "for _ in range(200): assert t('agent.invoked', agent='x' * 300)\n"
    )
    children = [place.start(code) for _ in range(6)]
    outputs = [child.communicate(timeout=60) for child in children]

    assert {("", "")} == set(outputs)
    assert len({event["event_id"] for event in place.events()}) == 1200


def test_a_signal_handler_may_record(place) -> None:
    """An event in a signal handler is written during another event, without waiting for it.

    On a very busy machine, the circuit breaker may report a slow disk. It rejects no event
    otherwise.
    """
    done = place.run(
        "import signal\nfrom telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.recording import recorder\n"
        "made, inside = [t('role.selected', role='dev')], []\n"
        "def handle(*_):\n"
        "    if not inside:\n"
        "        inside.append(1)\n"
        "        made.append(t('role.selected', role='qa'))\n"
        "        inside.pop()\n"
        "signal.signal(signal.SIGALRM, handle)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "own = [t('role.selected', role='dev') for _ in range(2000)]\n"
        "signal.setitimer(signal.ITIMER_REAL, 0, 0)\n"
        "every = own + made\n"
        "if None in every: assert 'slow' in recorder.recorder_for().writer.breaker.reason\n"
        "print(len([record for record in every if record is not None]))\n"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(place.events())


def test_recording_at_interpreter_exit(place) -> None:
    """An event in an exit handler or a destructor is written or silently dropped."""
    done = place.run(
        "import atexit\nfrom telemetry_kit import track_role_event as t\n"
        "class Last:\n"
        "    def __del__(self): t('role.selected', role='qa')\n"
        "keep = Last()\n"
        "t('role.selected', role='dev')\n"
        "atexit.register(t, 'role.selected', role='pm')\n"
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [event["role"] for event in place.events()][:2] == ["dev", "pm"]
