"""Concurrent writers beside loggers that rotate: `python -m benchmarks.journal_writers [--full]`.

Every number is a ratio to bare `os.write` calls of the same line in the same run; lines are
counted afterwards, also after writers were killed. Loggers that are not installed are left out.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from logging.handlers import RotatingFileHandler
from mmap import mmap
from pathlib import Path

from telemetry_kit.home import Home
from telemetry_kit.journal.lease import Journal

PAD = "x" * 215
# Both rotate after about as many lines.
SEAL_EVENTS = 2_000
MAX_BYTES = 250 * SEAL_EVENTS
BACKUPS = 1_000
WRITERS = (1, 4, 16)

Write = Callable[[str], object]


def line(writer: int, number: int) -> str:
    return f"{writer:06d} {number:010d} {PAD}"


def bare(folder: Path) -> Write:
    fd = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return lambda text: os.write(fd, text.encode() + b"\n")


def journal(folder: Path) -> Write:
    home = Home("flowspec", str(folder), str(folder / "config"), str(folder / "state"))
    # A clock that stands: what is measured is the writing, not the breaker of a slow disk.
    found = Journal(home, lambda: True, lambda: 0.0, SEAL_EVENTS)

    def write(text: str) -> None:
        while not found.append(text.encode() + b"\n"):
            pass

    return write


def growing(folder: Path) -> Write:
    """The journal without any sealing."""
    home = Home("flowspec", str(folder), str(folder / "config"), str(folder / "state"))
    found = Journal(home, lambda: True, lambda: 0.0, 1 << 40)
    return lambda text: found.append(text.encode() + b"\n")


def _logger(handler: logging.Handler) -> Write:
    made = logging.Logger("benchmark")
    made.addHandler(handler)
    return made.info


def rotating(folder: Path) -> Write:
    logging.raiseExceptions = False
    return _logger(RotatingFileHandler(folder / "log", maxBytes=MAX_BYTES, backupCount=BACKUPS))


def concurrent(folder: Path) -> Write:
    from concurrent_log_handler import ConcurrentRotatingFileHandler

    handler = ConcurrentRotatingFileHandler(
        str(folder / "log"), maxBytes=MAX_BYTES, backupCount=BACKUPS
    )
    return _logger(handler)


def loguru(folder: Path) -> Write:
    from loguru import logger

    logger.remove()
    logger.add(folder / "log", rotation=MAX_BYTES, format="{message}", catch=True)
    return logger.info


def kinds() -> dict[str, Callable[[Path], Write]]:
    found = {"os.write": bare, "journal": journal, "journal, not sealing": growing}
    found["RotatingFileHandler"] = rotating
    if find_spec("concurrent_log_handler"):
        found["concurrent-log-handler"] = concurrent
    if find_spec("loguru"):
        found["loguru"] = loguru
    return found


def child(
    begin: Callable[[Path], Write], folder: Path, shared: memoryview, slot: int, count: int
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        write = begin(folder)
        for number in range(count):
            write(line(slot, number))
            shared[slot] = number + 1
        code = 0
    finally:
        os._exit(code)


def stored(folder: Path) -> set[str]:
    """The heads of all whole lines, wherever they were rotated to."""
    heads = set()
    for path in folder.rglob("*"):
        if path.is_file():
            for text in path.read_text(errors="replace").splitlines():
                for part in text.split(PAD)[:-1]:
                    heads.add(part[-18:])
    return heads


def run(begin: Callable[[Path], Write], writers: int, count: int) -> float:
    """Seconds per event, all writers together."""
    with tempfile.TemporaryDirectory() as name:
        shared = memoryview(mmap(-1, 8 * writers)).cast("Q")
        began = time.perf_counter()
        pids = [child(begin, Path(name), shared, n, count) for n in range(writers)]
        for pid in pids:
            os.waitpid(pid, 0)
        return (time.perf_counter() - began) / (writers * count)


def lost(begin: Callable[[Path], Write], seconds: float) -> tuple[int, int, int]:
    """Kills, lines whose call returned, and how many of those are not there."""
    slots, dice = 1 << 14, random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        shared = memoryview(mmap(-1, 8 * slots)).cast("Q")
        folder, used, kills = Path(name), 0, 0
        running: list[int] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            while len(running) < 6:
                running.append(child(begin, folder, shared, used, 1 << 40))
                used += 1
            time.sleep(dice.uniform(0.01, 0.03))
            pid = running.pop(dice.randrange(6))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            kills += 1
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        heads = stored(folder)
        returned = missing = 0
        for slot in range(used):
            count = shared[slot]
            returned += count
            missing += sum(f"{slot:06d} {n:010d} " not in heads for n in range(count))
        return kills, returned, missing


def main(args: list[str]) -> int:
    """Print both tables."""
    full = "--full" in args
    count, rounds, seconds = (20_000, 5, 20.0) if full else (3_000, 3, 3.0)
    found = kinds()
    per_event: dict[tuple[str, int], list[float]] = {}
    order = random.Random(0)
    for _ in range(rounds):
        for writers in WRITERS:
            for kind in order.sample(sorted(found), len(found)):
                share = max(count // writers, 500)
                took = run(found[kind], writers, share)
                per_event.setdefault((kind, writers), []).append(took)
    print("| writers | " + " | ".join(found) + " |")
    print("|---:|" + "---:|" * len(found))
    for writers in WRITERS:
        base = min(per_event["os.write", writers])
        cells = [f"{min(per_event[kind, writers]) / base:.1f}x" for kind in found]
        print(f"| {writers} | " + " | ".join(cells) + " |")
    print()
    print("| killed at random, 6 writers | kills | calls that returned | lines lost |")
    print("|---|---:|---:|---:|")
    for kind, begin in found.items():
        kills, returned, missing = lost(begin, seconds)
        print(f"| {kind} | {kills:,} | {returned:,} | {missing:,} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
