"""Measure one line on disk, by each way to write one: `pytest benchmarks/bench_events.py`."""

from typing import Any

import pytest

from benchmarks.place import Place, lines_in
from benchmarks.workloads import Events


@pytest.mark.parametrize("way", ["bare", "logging", "api", "decorated", "warm_door"])
def bench_on(benchmark: Any, recording: Place, way: str) -> None:
    with recording.inside():
        events = Events()
        work, each, path = events.works[way]
        done = 0

        def work_and_count() -> None:
            nonlocal done
            work()
            done += each

        with events.session:
            before = lines_in(path.parent, f"{path.stem}*")
            benchmark.pedantic(work_and_count, iterations=100, rounds=100, warmup_rounds=1)

            assert done == lines_in(path.parent, f"{path.stem}*") - before

        events.close()
