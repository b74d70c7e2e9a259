"""`python -m benchmarks`: measure the budgets, print the table, fail when one is missed."""

import argparse
import datetime as dt
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import (
    cold_hook,
    cold_install,
    cold_naive,
    cold_off,
    cold_on,
    cold_record,
    in_process,
)
from benchmarks.budgets import BY_NAME, Result, table
from benchmarks.place import HERE, Place, check_bytecode

GROUPS: dict[str, Callable[[Path, int], dict[str, list[float]]]] = {
    "off": cold_off.measure,
    "on": cold_on.measure,
    "record": cold_record.measure,
    "hook": cold_hook.measure,
    "install": cold_install.measure,
    "calls": in_process.calls,
    "events": in_process.events,
    "spans": in_process.spans,
    "naive": cold_naive.measure,
}
PAIRS = 41
QUICK_PAIRS = 5
ATTEMPTS = 10


def main(arguments: list[str] | None = None) -> int:
    """Measure the groups that are asked for. Return 1 if a budget is missed."""
    given = _parser().parse_args(arguments)
    pairs = given.pairs or (QUICK_PAIRS if given.quick else PAIRS)
    output = Path.cwd() / given.output if given.output else None
    if output is None and not given.quick and not given.name:
        output = HERE / "results.json"
    results = []
    for group in given.name or [name for name in GROUPS if given.quick or name != "install"]:
        print(f"measuring {group} ...", file=sys.stderr, flush=True)
        results += _measure(group, pairs, 1 if given.quick else ATTEMPTS)
    print(table(results))
    if output is not None:
        output.write_text(json.dumps(_report(results), indent=2) + "\n")
    missed = [r.budget.name for r in results if r.missed]
    if missed and not given.quick:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "name",
        nargs="*",
        help=f"groups: {', '.join(GROUPS)}; by default all but install, which takes minutes",
    )
    parser.add_argument("--quick", action="store_true", help="few pairs; nothing fails on time")
    parser.add_argument("--pairs", type=int, help=f"pairs per figure; {PAIRS} by default")
    parser.add_argument("--output", help="where the JSON goes; a full run writes results.json")
    return parser


def _measure(group: str, pairs: int, attempts: int) -> list[Result]:
    """Measure one group. Repeat it if a budget is missed, because the machine may be busy."""
    results: dict[str, Result] = {}
    for attempt in range(1, attempts + 1):
        for name, values in _in_place(group, pairs).items():
            known = results.get(name)
            if known is None or known.missed:
                results[name] = Result(BY_NAME[name], values, attempt)
        if not any(result.missed for result in results.values()):
            break
    return [results[name] for name in BY_NAME if name in results]


def _in_place(group: str, pairs: int) -> dict[str, list[float]]:
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        try:
            check_bytecode(Place(Path(folder) / "check"))
            return GROUPS[group](Path(folder), pairs)
        finally:
            os.chdir(here)


def _report(results: Iterable[Result]) -> dict[str, object]:
    """Return the content of results.json. It names only the kind of machine."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": sys.platform,
        "figures": {
            r.budget.name: {
                "what": r.budget.what.strip(),
                "measured": round(r.measured, 3),
                "lowest": round(min(r.values), 3),
                "highest": round(max(r.values), 3),
                "unit": r.budget.unit,
                "must": r.budget.must,
                "aim": r.budget.aim,
                "verdict": r.verdict,
                "pairs": len(r.values),
                "attempts": r.attempts,
            }
            for r in results
        },
    }


if __name__ == "__main__":
    sys.exit(main())
