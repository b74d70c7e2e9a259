"""Measure inside one long-lived process, in random order, without garbage collection.

The module runs as its own process in its own project, and prints the values as JSON.
"""

import json
import random
import sys
import timeit
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns, sleep

from benchmarks import workloads
from benchmarks.place import HERE, Place, lines_in

UNROLLED = 20
CALLS = 400
WRITES = 100
BARE_WRITES = 10  # for each event
SPANS = 200
PAUSES = 100
PAUSE_SECONDS = 0.021  # a decision is cached for 20 ms
EVENTS = 10_000

Values = dict[str, list[float]]


def run(place: Place, what: str, rounds: int, count: int) -> Values:
    """Measure in a new process.

    Args:
        place: the project to measure in.
        what: `calls`, `events`, `spans`, `p99` or `pause`.
        rounds: pairs to keep.
        count: repetitions in each round, or events for `p99`.
    """
    # At the end of the path, so that the installed library is measured.
    code = f"import sys; sys.path.append({str(HERE.parent)!r}); from benchmarks import hot"
    command = [sys.executable, "-c", f"{code}; hot.main()", what, str(rounds), str(count)]
    values: Values = json.loads(place.output(command))
    return values


def main() -> None:
    """Measure in this process what the arguments select."""
    what, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    measured: Callable[[int, int], Values] = globals()[f"measure_{what}"]
    json.dump(measured(rounds, count), sys.stdout)


def measure_calls(rounds: int, count: int) -> Values:
    """Measure one call of each decorated function, in seconds."""
    timers = {
        name: timeit.Timer("\n".join([statement] * UNROLLED), globals=names)
        for name, (statement, names) in workloads.calls().items()
    }
    found = _interleaved(timers, rounds, dict.fromkeys(timers, count))
    if Path(".flowspec").exists():
        raise RuntimeError("off, and yet something was made in the project")
    return found


def measure_events(rounds: int, count: int) -> Values:
    """Measure one line by each way to write one, in seconds."""
    events = workloads.Events()
    works = events.works
    timers = {name: timeit.Timer(work) for name, (work, _, _) in works.items()}
    files = {path for _, _, path in works.values()}
    before = {path: _lines(path) for path in files}
    # The rounds take about the same time, so other load on the machine affects them alike.
    counts = {name: count * (BARE_WRITES if name == "bare" else 1) for name in works}
    with events.session:
        found = _interleaved(timers, rounds, counts)
    written = dict.fromkeys(files, 0)
    for name, (_, lines, path) in works.items():
        written[path] += lines * (counts[name] + 1) * (rounds + 1)
    written[events.log] += 1  # the session itself
    for path in files:
        _expect(path, before[path] + written[path])
    return {n: [v / counts[n] / works[n][1] for v in values] for n, values in found.items()}


def measure_spans(rounds: int, count: int) -> Values:
    """Measure a span that is no agent with our processor, and with one that does nothing."""
    timers = {name: timeit.Timer(work) for name, work in workloads.spans().items()}
    found = _interleaved(timers, rounds, dict.fromkeys(timers, count))
    if Path(".flowspec").exists() and _lines(Path(".flowspec/telemetry.jsonl")):
        raise RuntimeError("a span that is no agent was recorded")
    return {name: [seconds / count for seconds in values] for name, values in found.items()}


def measure_p99(_rounds: int, count: int) -> Values:
    """Return the time that 99 of 100 single events do not exceed, in seconds."""
    events = workloads.Events()
    before = _lines(events.log)
    took = []
    for _ in range(count):
        began = perf_counter_ns()
        events.api()
        took.append(perf_counter_ns() - began)
    _expect(events.log, before + count)
    return {"p99": [sorted(took)[int(count * 0.99)] / 1e9]}


def measure_pause(_rounds: int, count: int) -> Values:
    """Measure single events, each after a pause in which cached decisions expire, in seconds."""
    events = workloads.Events()
    before = _lines(events.log)
    took = []
    for _ in range(count):
        sleep(PAUSE_SECONDS)
        began = perf_counter_ns()
        events.api()
        took.append((perf_counter_ns() - began) / 1e9)
    _expect(events.log, before + count)
    return {"pause": took}


def _interleaved(
    timers: Mapping[str, timeit.Timer], rounds: int, counts: Mapping[str, int]
) -> Values:
    """Run all timers in every round, in random order. The first round is a warm-up.

    Each timer runs once before its measurement, to decide consent outside of it. Another figure
    measures that decision, and a short round would give it too much weight.
    """
    found: Values = {name: [] for name in timers}
    order = list(timers)
    for _ in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            timers[name].timeit(1)
            found[name].append(timers[name].timeit(counts[name]))
    return {name: values[1:] for name, values in found.items()}


def _lines(path: Path) -> int:
    # The log is rotated every 10,000 events, so the rotated files count too.
    return lines_in(path.parent, f"{path.stem}*.jsonl*")


def _expect(path: Path, lines: int) -> None:
    found = _lines(path)
    if found != lines:
        raise RuntimeError(f"{lines} lines should be in {path.name}, {found} are")
