"""Compare concurrent writers of our log with loggers that rotate.

    python -m benchmarks.journal_writers                     a quick run of half a minute
    python -m benchmarks.journal_writers --full --markdown   also writes docs/reference/journal.md

Every ratio is to bare `os.write` calls of the same line in the same run. Lines are counted
afterwards, also after writers were killed. Loggers that are not installed are omitted.
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
from statistics import median

from telemetry_kit.errors import Refused
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, maintenance
from telemetry_kit.storage.writer import LogWriter

PAD = "x" * 215
# Our log and the loggers rotate after about the same number of lines.
SEAL_EVENTS = 2_000
MAX_BYTES = 250 * SEAL_EVENTS
BACKUPS = 1_000
WRITERS = (1, 4, 16)
READY_SECONDS = 0.3
# No limit on the total size, because lines deleted for space would count as lost.
limits.MAX_BYTES = 1 << 50

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "journal.md"

Write = Callable[[str], object]
Begin = Callable[[Path], Write]


def line(writer: int, number: int) -> str:
    return f"{writer:06d} {number:010d} {PAD}"


def bare(folder: Path) -> Write:
    fd = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return lambda text: os.write(fd, text.encode() + b"\n")


def log_writer(folder: Path) -> Write:
    home = ProjectPaths("flowspec", str(folder), str(folder / "config"), str(folder / "state"))
    # A fixed clock, so that the circuit breaker of a slow disk does not interfere.
    found = LogWriter(home, lambda: True, lambda: 0.0, SEAL_EVENTS)

    def write(text: str) -> None:
        while not found.append(text.encode() + b"\n"):
            pass

    return write


def without_rotation(folder: Path) -> Write:
    """Append to our log without rotation."""
    home = ProjectPaths("flowspec", str(folder), str(folder / "config"), str(folder / "state"))
    found = LogWriter(home, lambda: True, lambda: 0.0, 1 << 40)
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


def kinds() -> dict[str, Begin]:
    found = {"os.write": bare, "journal": log_writer, "journal, not sealing": without_rotation}
    found["RotatingFileHandler"] = rotating
    if find_spec("concurrent_log_handler"):
        found["concurrent-log-handler"] = concurrent
    if find_spec("loguru"):
        found["loguru"] = loguru
    return found


def child(
    begin: Begin,
    folder: Path,
    shared: memoryview,
    slot: int,
    count: int,
    start: tuple[int, ...] = (),
) -> int:
    """Fork a process that writes. With `start`, it waits for the end of that pipe to close."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        write = begin(folder)
        if start:
            os.close(start[1])
            os.read(start[0], 1)
        for number in range(count):
            write(line(slot, number))
            shared[slot] = number + 1
        code = 0
    finally:
        os._exit(code)


def stored(folder: Path) -> set[str]:
    """Return the beginnings of all complete lines, in every rotated file."""
    heads = set()
    for path in folder.rglob("*"):
        if path.is_file():
            for text in path.read_text(errors="replace").splitlines():
                for part in text.split(PAD)[:-1]:
                    heads.add(part[-18:])
    return heads


def run(begin: Begin, writers: int, count: int) -> float:
    """Return the seconds per event of all writers together, from their common start."""
    with tempfile.TemporaryDirectory() as name:
        shared = memoryview(mmap(-1, 8 * writers)).cast("Q")
        start = os.pipe()
        pids = [child(begin, Path(name), shared, n, count, start) for n in range(writers)]
        time.sleep(READY_SECONDS)
        began = time.perf_counter()
        os.close(start[1])
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        seconds = time.perf_counter() - began
        os.close(start[0])
        return seconds / (writers * count)


def lost(begin: Begin, seconds: float) -> tuple[int, int, int]:
    """Return the number of kills, of calls that returned, and of their lines that are missing."""
    slots, generator = 1 << 14, random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        shared = memoryview(mmap(-1, 8 * slots)).cast("Q")
        folder, used, kills = Path(name), 0, 0
        running: list[int] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            while len(running) < 6:
                running.append(child(begin, folder, shared, used, 1 << 40))
                used += 1
            time.sleep(generator.uniform(0.01, 0.03))
            pid = running.pop(generator.randrange(6))
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


def events_per_second(found: dict[str, Begin], count: int, rounds: int) -> list[str]:
    """Measure all kinds in each round, in random order, and compare within the round."""
    took: dict[tuple[str, int], list[float]] = {}
    order = random.Random(0)
    for _ in range(rounds):
        for writers in WRITERS:
            for kind in order.sample(sorted(found), len(found)):
                seconds = run(found[kind], writers, max(count // writers, 500))
                took.setdefault((kind, writers), []).append(seconds)
    head = " | ".join(f"{n} writer{'s' * (n > 1)}" for n in WRITERS)
    lines = [f"| | {head} |", "|---|" + "---:|" * len(WRITERS)]
    for kind in found:
        cells = []
        for writers in WRITERS:
            mine, bare_ones = took[kind, writers], took["os.write", writers]
            ratio = median(m / b for m, b in zip(mine, bare_ones, strict=True))
            cells.append(f"{1 / median(mine):,.0f} ({ratio:.1f}x)")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def lost_lines(found: dict[str, Begin], seconds: float) -> list[str]:
    """Count the lines that each kind loses while its writers are killed."""
    lines = ["| | kills | calls that returned | lines lost |", "|---|---:|---:|---:|"]
    for kind, begin in found.items():
        kills, returned, missing = lost(begin, seconds)
        lines.append(f"| {kind} | {kills:,} | {returned:,} | {missing:,} |")
    return lines


# -- one event during rotation and compression ----------------------------------------------------


def costs(folder: Path, begin: Begin, count: int, compressor: bool) -> list[float]:
    """Return the seconds of each call, with or without another process that compresses."""
    home = ProjectPaths("flowspec", str(folder), str(folder / "config"), str(folder / "state"))
    pid = os.fork() if compressor else 0
    if compressor and not pid:
        while True:
            maintenance.maintain(home, 90, "2026-01-01")
            time.sleep(0.002)
    try:
        write, now = begin(folder), time.perf_counter
        found = []
        for number in range(count):
            text = line(0, number)
            began = now()
            write(text)
            found.append(now() - began)
        return found
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def while_sealing(count: int, rounds: int) -> list[str]:
    """Compare one writer: bare, without rotation, and with rotation and compression beside it."""
    kinds_of = {
        "`os.write`": (bare, False),
        "journal, never sealed": (without_rotation, False),
        f"journal, sealed every {SEAL_EVENTS:,} events, an archiver beside it": (log_writer, True),
    }
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds_of}
    for _ in range(rounds):
        for kind, (begin, compressor) in kinds_of.items():
            with tempfile.TemporaryDirectory() as name:
                found[kind].append(sorted(costs(Path(name), begin, count, compressor)))
    lines = ["| one event | median | 99th of 100 | 999th of 1,000 |", "|---|---:|---:|---:|"]
    plain = found["`os.write`"]
    for kind, mine in found.items():
        cells = []
        for share in (0.5, 0.99, 0.999):
            at = int(count * share)
            ratio = median(m[at] / p[at] for m, p in zip(mine, plain, strict=True))
            cells.append(f"{median(m[at] for m in mine) * 1e6:,.1f} µs ({ratio:.1f}x)")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


# -- another file in the place of the log ----------------------------------------------------------


def _obstacles() -> dict[str, Callable[[Path], object]]:
    return {
        "a link": lambda path: path.symlink_to(path.with_name("theirs")),
        "a link into nothing": lambda path: path.symlink_to(path.with_name("nothing")),
        "a hard link": lambda path: os.link(path.with_name("theirs"), path),
        "a pipe": lambda path: os.mkfifo(path, 0o600),
        "a folder": lambda path: path.mkdir(),
        "a file with mode 0666": lambda path: (path.touch(), path.chmod(0o666)),
    }


def refusals(count: int) -> list[str]:
    """Measure the time until a refused write returns to the host."""
    lines = ["| in the place of the log | until the host goes on, longest |", "|---|---:|"]
    for kind, create in _obstacles().items():
        longest = 0.0
        for _ in range(count):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                home = ProjectPaths("flowspec", name, f"{name}/config", f"{name}/state")
                os.mkdir(home.folder, 0o700)
                Path(home.folder, "theirs").touch()
                create(Path(home.log))
                found = LogWriter(home, lambda: True)
                began = time.perf_counter()
                try:
                    found.append(b"line\n")
                    raise AssertionError(f"{kind} was written to in {folder}")
                except Refused:
                    longest = max(longest, time.perf_counter() - began)
        lines.append(f"| {kind} | {longest * 1e3:.2f} ms |")
    return lines


def main(args: list[str]) -> int:
    """Print the page, and write it with `--markdown`."""
    full = "--full" in args
    count, rounds, seconds = (20_000, 5, 20.0) if full else (3_000, 3, 3.0)
    found = kinds()
    missing = [n for n in ("concurrent-log-handler", "loguru") if n not in found]
    page = [
        "<!-- Generated by benchmarks/journal_writers.py; do not edit. -->",
        "",
        "# The journal beside other writers",
        "",
        f"Python {sys.version_info[0]}.{sys.version_info[1]}, {len(line(0, 0)) + 1} bytes a line.",
        "Medians; in brackets the ratio to bare `os.write` calls of the same lines in that run.",
        f"Every writer is a process; all that rotate do so after about {SEAL_EVENTS:,} lines.",
        *([f"Not installed, and left out: {', '.join(missing)}.", ""] if missing else [""]),
        "## Events per second, all writers together",
        "",
        *events_per_second(found, count, rounds),
        "",
        "## What an event costs while the log is sealed and packed",
        "",
        *while_sealing(count, rounds),
        "",
        "## Lines lost when writers are killed",
        "",
        "Six writers, of which one is killed by SIGKILL every 10 to 30 ms and another one begins.",
        "A line is lost when its call returned and it is in no file.",
        "",
        *lost_lines(found, seconds),
        "",
        "## Something else in the place of the log",
        "",
        "Nothing is followed, waited for or changed; the event is not recorded.",
        "",
        *refusals(200 if full else 20),
        "",
    ]
    print("\n".join(page))
    if "--markdown" in args:
        PAGE.write_text("\n".join(page))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
