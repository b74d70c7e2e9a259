"""Measure one decorated call while recording is off: `pytest benchmarks/bench_calls.py`."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import workloads
from benchmarks.place import Place

CASES = workloads.calls()


@pytest.mark.parametrize("case", CASES)
def bench_off(benchmark: Any, undecided: Place, case: str) -> None:
    statement, names = CASES[case]
    (target,) = names.values()
    call = target.implement if "thing" in statement else target
    with undecided.inside():
        benchmark.pedantic(call, ("a task",), iterations=1_000, rounds=200, warmup_rounds=1)

        assert not Path(".flowspec").exists()
