"""Hosts that do to our descriptors, threads and signals what hosts do: `hosts.py NAME ...`."""

import faulthandler
import json
import os
import signal
import sys
import threading
import time

from telemetry_kit import configure, track_role_event
from telemetry_kit.consent import changes
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import rotation, writer

configure(app="flowspec")

TRACK = "role.selected"


def record() -> str | None:
    found = track_role_event(TRACK, role="dev")
    return None if found is None else found["event_id"]


def first_event() -> list[str | None]:
    """It loads the chain, and what a fork or a signal does to an import is another matter."""
    return [record()]


def steady() -> None:
    """No pause for a slow disk: these machines are busy."""
    writer.SLOW_SECONDS = 60.0


def daemonise() -> None:
    """Close 3 to 256, open a database, record."""
    steady()
    done = [record() for _ in range(3)]
    os.closerange(3, 257)
    databases = [os.open(f"db{n}", os.O_RDWR | os.O_CREAT, 0o600) for n in range(8)]
    for fd in databases:
        os.write(fd, b"precious")
    done += [record() for _ in range(5)]
    sizes = [os.fstat(fd).st_size for fd in databases]
    for fd in databases:
        os.close(fd)
    print(json.dumps({"acknowledged": done, "sizes": sizes}))


def churn(sealings: int) -> None:
    """Threads open and close files while the log is sealed again and again."""
    steady()
    home = changes.paths_of()
    done: list[str | None] = []
    over = threading.Event()
    dirty: list[int] = []

    def files(number: int) -> None:
        while not over.is_set():
            fd = os.open(f"file{number}", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            time.sleep(0.0005)
            if os.fstat(fd).st_size:
                dirty.append(number)
            os.close(fd)

    def events() -> None:
        while not over.is_set():
            done.append(record())
            time.sleep(0.0002)

    threads = [threading.Thread(target=files, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=events) for _ in range(3)]
    for thread in threads:
        thread.start()
    sealed = 0
    while sealed < sealings:
        sealed += rotation.seal(home, "2024-02-28")
        time.sleep(0.0005)
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"acknowledged": done, "sealings": sealed, "dirty": dirty}))


def fork(count: int) -> None:
    """Forks while threads are inside the slow path; each child records and ends."""
    import warnings

    # Later interpreters warn of forks beside threads: the host's own doing.
    warnings.simplefilter("ignore", DeprecationWarning)
    steady()
    home = changes.paths_of()
    done = first_event()
    over = threading.Event()

    def events() -> None:
        while not over.is_set():
            done.append(record())

    def seal() -> None:
        while not over.is_set():
            rotation.seal(home, "2024-02-28")

    threads = [threading.Thread(target=f) for f in (events, events, events, seal)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(count):
        time.sleep(0.002)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            names = [record() for _ in range(5)]
            os.write(write, json.dumps(names).encode())
            os._exit(0)
        os.close(write)
        children.append((pid, read))
    ends = []
    for pid, read in children:
        with os.fdopen(read) as pipe:
            done += json.loads(pipe.read())
        ends.append(os.waitpid(pid, 0)[1])
    over.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"acknowledged": done, "ends": ends}))


def signals(seconds: float) -> None:
    """A handler that records, 5,000 times a second, while the log is sealed and events happen."""
    steady()
    home = changes.paths_of()
    done = first_event()
    late: list[str | None] = []
    depth = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal depth
        # Handlers are interrupted too; without a floor nobody would ever get on.
        if depth < 3:
            depth += 1
            late.append(record())
            depth -= 1

    class Finalized:
        def __del__(self) -> None:
            done.append(record())

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done.append(record())
        Finalized()
        if len(done) % 20 == 0:
            rotation.seal(home, "2024-02-28")
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps({"acknowledged": done + late, "signals": len(late)}))


def ends(how: str) -> None:
    """Events in the last moments of an interpreter."""
    import atexit

    steady()

    def note() -> None:
        name = record()
        if name is not None:
            os.write(told, name.encode() + b"\n")

    told = os.open("told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    note()
    if how == "atexit":
        atexit.register(note)
    elif how == "daemon":

        def forever() -> None:
            while True:
                note()

        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
    elif how == "del":

        class Last:
            def __del__(self) -> None:
                note()

        globals()["last"] = Last()
        sys.modules["last"] = Last()
    else:
        note()
        os._exit(7)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(110, exit=True)
    # Threads that never wait would keep the one that seals from its turn.
    sys.setswitchinterval(0.0002)
    encode({})
    name, *given = sys.argv[1:]
    globals()[name](*(json.loads(g) for g in given))
    sys.exit(7)
