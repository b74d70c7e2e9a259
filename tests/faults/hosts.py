"""Hosts that close descriptors, fork, use threads and handle signals: `hosts.py NAME ...`."""

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
    """Record one event and return its id, or None if it was not recorded."""
    found = track_role_event(TRACK, role="dev")
    return None if found is None else found["event_id"]


def first_event() -> list[str | None]:
    """Record the first event, which imports the pipeline without forks or signals."""
    return [record()]


def ignore_slow_disk() -> None:
    """Disable the pause for a slow disk, because the test machines are busy."""
    writer.SLOW_SECONDS = 60.0


def daemonise() -> None:
    """Close the descriptors 3 to 256, open a database, and record."""
    ignore_slow_disk()
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
    """Open and close files in threads while the log is sealed repeatedly."""
    ignore_slow_disk()
    home = changes.paths_of()
    done: list[str | None] = []
    finished = threading.Event()
    dirty: list[int] = []

    def files(number: int) -> None:
        while not finished.is_set():
            fd = os.open(f"file{number}", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            time.sleep(0.0005)
            if os.fstat(fd).st_size:
                dirty.append(number)
            os.close(fd)

    def events() -> None:
        while not finished.is_set():
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
    finished.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"acknowledged": done, "sealings": sealed, "dirty": dirty}))


def fork(count: int) -> None:
    """Fork while threads open and write the log. Each child records and exits."""
    import warnings

    # Newer Python versions warn about forks with threads, which is up to the host.
    warnings.simplefilter("ignore", DeprecationWarning)
    ignore_slow_disk()
    home = changes.paths_of()
    done = first_event()
    finished = threading.Event()

    def events() -> None:
        while not finished.is_set():
            done.append(record())

    def seal() -> None:
        while not finished.is_set():
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
    finished.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"acknowledged": done, "ends": ends}))


def signals(seconds: float) -> None:
    """Record in a handler 5,000 times a second, while the log is sealed and written."""
    ignore_slow_disk()
    home = changes.paths_of()
    done = first_event()
    in_handler: list[str | None] = []
    depth = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal depth
        # Signals interrupt handlers too. Without a limit, the main program would not progress.
        if depth < 3:
            depth += 1
            in_handler.append(record())
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
    print(json.dumps({"acknowledged": done + in_handler, "signals": len(in_handler)}))


def ends(how: str) -> None:
    """Record at the exit of the interpreter."""
    import atexit

    ignore_slow_disk()

    def record_id() -> None:
        name = record()
        if name is not None:
            os.write(output, name.encode() + b"\n")

    output = os.open("told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    record_id()
    if how == "atexit":
        atexit.register(record_id)
    elif how == "daemon":

        def forever() -> None:
            while True:
                record_id()

        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
    elif how == "del":

        class Last:
            def __del__(self) -> None:
                record_id()

        globals()["last"] = Last()
        sys.modules["last"] = Last()
    else:
        record_id()
        os._exit(7)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(110, exit=True)
    # A short switch interval lets the sealing thread run beside threads that never wait.
    sys.setswitchinterval(0.0002)
    encode({})
    name, *arguments = sys.argv[1:]
    globals()[name](*(json.loads(g) for g in arguments))
    sys.exit(7)
