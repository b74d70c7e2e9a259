"""`python -m benchmarks.insights`: how fast commands read events, as ratios within one run.

Whole processes run in turn. The table shows the limit of each figure. DuckDB and the original
of this project have rows only if they can run.
"""

import argparse
import gzip
import importlib.util
import itertools
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from benchmarks.pairs import ratios, rounds
from benchmarks.place import HERE, Place
from telemetry_kit.export.formats import FORMATS
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.schema.validation import two_digits

ROLES = ("pm", "arch", "dev", "sec", "qa", "ops")
AGENTS = ("backend-engineer", "frontend-engineer", "quality-guardian", "h:2bd806c97f0e")
DAYS = 80  # less than the retention, so no event expires during the measurement
SEGMENT_EVENTS = 10_000
_DUCKDB = """
import duckdb, sys
names = ("event_type", "timestamp", "role", "command", "agent", "workflow", "source_agent",
         "target_agent", "previous_role", "outcome", "error_type")
columns = {**dict.fromkeys(names, "VARCHAR"), "duration_ms": "BIGINT", "dropped": "BIGINT"}
spec = ", ".join(f"{n}: '{k}'" for n, k in columns.items())
db = duckdb.connect()
db.execute(f"create table e as select *, left(timestamp, 10) as day from read_json("
           f"'{sys.argv[1]}', format='newline_delimited', columns={{{spec}}})")
for by in ("event_type", "day, event_type", "role, event_type", "previous_role, role",
           "command, event_type", "agent, event_type", "workflow, event_type",
           "role, command, event_type", "role, agent, event_type",
           "source_agent, target_agent, event_type", "outcome", "command, error_type",
           "agent, error_type", "command, duration_ms", "agent, duration_ms"):
    db.execute(f"select {by}, count(*) from e group by all order by all").fetchall()
print(db.execute("select sum(dropped) from e").fetchall())
"""


@dataclass(frozen=True)
class Row:
    """One figure with its values and its limits.

    Args:
        what: the description to print.
        values: one for each round.
        must: the limit of the median: the highest, or with `least` the lowest value allowed.
        aim: the value to aim for.
        unit: `x`, `ms` or `MB`.
        least: whether more is better.
    """

    what: str
    values: list[float]
    must: float | None = None
    aim: float | None = None
    unit: str = "x"
    least: bool = False

    def reaches(self, limit: float | None) -> bool:
        """Return whether the median meets a limit."""
        middle = median(self.values)
        return limit is not None and (middle >= limit if self.least else middle <= limit)

    @property
    def verdict(self) -> str:
        """`aim`, `must`, `MISSED`, or nothing if there is no limit."""
        if self.reaches(self.aim):
            return "aim"
        return "" if self.must is None else "must" if self.reaches(self.must) else "MISSED"

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table's row."""
        sign = "≥" if self.least else "≤"
        limits = [f"{sign} {x:g} {self.unit}" if x is not None else "" for x in self.limits]
        shown = [f"{value:.2f} {self.unit}" for value in self.spread]
        return (self.what, *shown, *limits, self.verdict)

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The limit and the aim."""
        return self.must, self.aim

    @property
    def spread(self) -> tuple[float, float, float]:
        """The median, the lowest and the highest value."""
        return median(self.values), min(self.values), max(self.values)


def events(count: int, seed: int = 1) -> Iterator[bytes]:
    """Yield lines of realistic sessions, the same in every run with the same seed."""
    r = random.Random(seed)
    first, number = date.today() - timedelta(DAYS), 0
    while number < count:
        day = first + timedelta(number * DAYS // count)
        role, session = r.choices(ROLES, (2, 1, 6, 1, 3, 2))[0], f"{r.getrandbits(48):012x}"
        for kind, fields in _session(r, role):
            number += 1
            event = {
                "schema_version": catalog.SCHEMA_VERSION,
                "event_id": f"{r.getrandbits(64):016x}",
                "event_type": kind,
                "timestamp": f"{day}T00:00:00Z",
                "seq": number,
                "role": role,
                "project_id": "h:7ac3f0ae7aea",
                "session_id": session,
                "source": "decorator",
                "key_epoch": 1,
                **fields,
            }
            yield encode({n: event[n] for n in catalog.ORDER if n in event})
            if number == count:
                return


def _session(r: random.Random, role: str) -> Iterator[tuple[str, dict[str, object]]]:
    yield "role.selected", {"source": "session"}
    for _ in range(r.randint(1, 4)):
        of = role if r.random() < 0.85 else r.choice(ROLES)
        command = f"/{of}:{r.choice(('plan', 'build', 'check', 'review', 'ship'))}"
        agent, span, inner = r.choice(AGENTS), *(f"{r.getrandbits(48):012x}" for _ in range(2))
        outer: dict[str, object] = {"command": command, "span_id": span}
        within = {"command": command, "agent": agent, "span_id": inner, "parent_id": span}
        task = {"context": {"task_id": f"h:{span}"}} if r.random() < 0.2 else {}
        yield "command.executed", {**outer, **task}
        yield "agent.invoked", within
        yield _ended(r, "agent", within, 16)
        if r.random() < 0.3:
            ends = {
                "source_agent": agent,
                "target_agent": r.choice(AGENTS),
                "span_id": f"{r.getrandbits(48):012x}",
                "parent_id": span,
            }
            yield "handoff.clicked", ends
            if r.random() < 0.7:
                yield "handoff.completed", {**ends, "outcome": "ok"}
        yield _ended(r, "command", outer, 18)


def _ended(
    r: random.Random, kind: str, fields: dict[str, object], exponent: int
) -> tuple[str, dict[str, object]]:
    took: dict[str, object] = {"duration_ms": two_digits(2 ** r.uniform(3, exponent))}
    if r.random() < 0.1:
        return f"{kind}.failed", {**fields, "outcome": "error", "error_type": "ValueError", **took}
    return f"{kind}.completed", {**fields, "outcome": "ok", **took}


def place_with(folder: Path, count: int, archived: bool = False) -> Place:
    """Make a project with `count` events, in one log or in archives like those of the recorder."""
    place = Place(folder)
    log = place.project / ".flowspec"
    log.mkdir(mode=0o700)
    if not archived:
        with (log / "telemetry.jsonl").open("wb") as file:
            file.writelines(events(count))
        (log / "telemetry.jsonl").chmod(0o600)
        return place
    lines: list[bytes] = []
    part = 0
    for line in events(count):
        lines.append(line)
        if len(lines) == SEGMENT_EVENTS:
            part += 1
            day = f"{date.today() - timedelta(1)}" + (f"-{part}" if part > 1 else "")
            path = log / f"telemetry-{day}.jsonl.gz"
            with gzip.open(path, "wb", compresslevel=6) as file:
                file.writelines(lines)
            path.chmod(0o600)
            lines = []
    return place


def command(*words: str) -> list[str]:
    """Return the command line of one of our commands."""
    return [sys.executable, "-m", "telemetry_kit", *words]


BARE = [sys.executable, "-c", "pass"]


def first_look(place: Place) -> float:
    """Return the seconds of `stats` without its count cache."""
    (place.project / ".flowspec" / "telemetry-rollup.json").unlink(missing_ok=True)
    return place.seconds(command("stats"))


def small(folder: Path, count: int, pairs: int) -> list[Row]:
    """Compare `view` and `stats` on 10,000 events with a bare interpreter."""
    place = place_with(folder, count)
    found = rounds(
        {
            "bare": lambda: place.seconds(BARE),
            "view": lambda: place.seconds(command("view")),
            "stats": lambda: first_look(place),
            "again": lambda: place.seconds(command("stats")),
        },
        pairs,
    )
    rows = []
    for name, what in (("view", "view"), ("stats", "stats, first look"), ("again", "stats, again")):
        rows.append(Row(f"{what}, {count:,} events / bare", ratios(found, name, "bare"), 12, 8))
        rows.append(
            Row(f"{what}, {count:,} events", [r[name] * 1e3 for r in found], 500, unit="ms")
        )
    return rows


def large(folder: Path, count: int, few: int, pairs: int) -> list[Row]:
    """Compare `stats` without a cache with DuckDB, and `stats` with a cache with a small log."""
    place, other = place_with(folder / "large", count), place_with(folder / "few", few)
    log = place.project / ".flowspec" / "telemetry.jsonl"
    seeds = itertools.count(2)

    def again() -> float:
        # Events with IDs of their own: the same ones again would be doubles.
        with log.open("ab") as file:
            file.writelines(events(100, next(seeds)))
        return place.seconds(command("stats"))

    steps = {
        "stats": lambda: first_look(place),
        "again": again,
        "few": lambda: other.seconds(command("stats")),
    }
    if importlib.util.find_spec("duckdb") is not None:
        steps["duckdb"] = lambda: place.seconds([sys.executable, "-c", _DUCKDB, str(log)])
    found = rounds(steps, pairs)
    rows = []
    if "duckdb" in steps:
        what = f"stats, {count:,} events from scratch / DuckDB on the same file"
        rows.append(Row(what, ratios(found, "stats", "duckdb"), 3, 1.5))
    what = f"stats, {count:,} events known and 100 new / stats, {few:,} events known"
    return [*rows, Row(what, ratios(found, "again", "few"), 1.5)]


def exported(folder: Path, count: int, pairs: int) -> list[Row]:
    """Compare `export --format jsonl` with `gzip -dc` and `cat`."""
    place = place_with(folder, count, archived=True)
    where = str(place.project / "out")
    gunzip = ["/bin/sh", "-c", f"gzip -dc .flowspec/telemetry-*.gz | cat > {where}"]
    ours = command("export", "--format", "jsonl", "-o", where, "--force")
    found = rounds(
        {"gzip": lambda: place.seconds(gunzip), "export": lambda: place.seconds(ours)}, pairs
    )
    what = f"throughput of export jsonl, {count:,} events / gzip -dc and cat"
    return [Row(what, ratios(found, "gzip", "export"), 0.5, least=True)]


COMMANDS = (
    ("view",),
    ("view", "--role", "dev"),
    ("view", "--tree"),
    ("stats",),
    ("stats", "--role", "dev"),
    ("answers",),
    *(("export", "--format", name, "-o", "out", "--force") for name in FORMATS),
    ("find", "zebra"),
    ("audit",),
    ("verify",),
)
# In a process of its own, because a child process starts with the memory of its parent.
_PEAK = """
import resource, subprocess, sys

done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(0 if done.returncode == 0 or "verify" in sys.argv else 1)
"""


def memory(folder: Path, count: int) -> list[Row]:
    """Return the peak memory of each command, in MB, on a log with archives."""
    place = place_with(folder, count, archived=True)
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    rows = []
    for words in COMMANDS:
        if "parquet" in words and importlib.util.find_spec("duckdb") is None:
            continue
        print(f"  memory of {' '.join(words[:3])} ...", file=sys.stderr, flush=True)
        peak = place.output([sys.executable, "-c", _PEAK, *command(*words)])
        what = f"memory of {' '.join(words[:3])}, {count:,} events"
        rows.append(Row(what, [int(peak) / scale], 200, unit="MB"))
    return rows


_WHOLE = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.argv[1:] = ['telemetry', 'stats', "
    "'--days', '3650']; from flowspec_cli import main; main()"
)
_ALONE = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.argv[1:] = ['stats', '--days', '3650']; "
    "from flowspec_cli.telemetry.cli import telemetry_app; telemetry_app()"
)


def original(folder: Path, count: int, pairs: int, python: str, source: str) -> list[Row]:
    """Compare the original, as its users run it and its telemetry alone, on the same file."""
    place = place_with(folder / "place", count)
    alone = folder / "alone" / "flowspec_cli"
    alone.mkdir(parents=True)
    (alone / "__init__.py").touch()
    (alone / "telemetry").symlink_to(Path(source, "flowspec_cli", "telemetry").resolve())
    whole = [python, "-c", _WHOLE, str(Path(source).resolve())]
    for words in (whole, part := [python, "-c", _ALONE, str(alone.parent)]):
        if f"{count:,}" not in (printed := place.output(words)) and str(count) not in printed:
            raise RuntimeError(f"the original does not say that it read {count} events")
    found = rounds(
        {
            "whole": lambda: place.seconds(whole),
            "first": lambda: first_look(place),
            "alone": lambda: place.seconds(part),
            "again": lambda: place.seconds(command("stats")),
        },
        pairs,
    )
    rows = []
    for theirs, what, must in (
        ("whole", "the original's whole program", 10),
        ("alone", "the original's telemetry module alone", None),
    ):
        for ours, look in (("first", "first look"), ("again", "second look")):
            title = f"{what}, stats, {count:,} events / ours, {look}"
            rows.append(Row(title, ratios(found, theirs, ours), must, least=True))
    return rows


# -- the tables ------------------------------------------------------------------------------

HEAD = ("what", "median", "lowest", "highest", "must", "aim", "holds")
PAGE = HERE.parent / "docs" / "reference" / "insights.md"
BEGIN = "<!-- Written by `python -m benchmarks.insights --write`: do not edit. -->"
END = "<!-- end -->"


def table(rows: list[Row]) -> str:
    """Format the rows as text."""
    cells = [HEAD, *(row.cells() for row in rows)]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for what, *numbers in cells:
        padded = (text.rjust(size) for text, size in zip(numbers, sizes[1:], strict=True))
        lines.append("  ".join([what.ljust(sizes[0]), *padded]).rstrip())
    return "\n".join(lines)


def markdown(rows: list[Row], pairs: int) -> str:
    """Format the rows as Markdown."""
    lines = [
        f"{date.today()}, {platform.python_implementation()} {platform.python_version()}.",
        f"{sys.platform}, {os.cpu_count()} cores; {pairs} rounds, those on many events fewer.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|---|{'---:|' * 5}---|",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
    ]
    return "\n".join(lines)


def written(page: str, text: str) -> str:
    """Return a page with new text between its markers.

    Raises:
        ValueError: the page has no markers.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has no place for the table")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Return 1 if a figure misses its limit and `--quick` is not given."""
    given = _parser().parse_args(arguments)
    rows: list[Row] = []
    here = os.getcwd()
    try:
        for name, group in _groups(given):
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                rows += group(Path(folder) / name)
                os.chdir(here)
    finally:
        os.chdir(here)
    print(table(rows))
    if given.write:
        PAGE.write_text(written(PAGE.read_text(), markdown(rows, given.pairs)))
    return 1 if any(row.verdict == "MISSED" for row in rows) and not given.quick else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insights", description=__doc__)
    parser.add_argument("group", nargs="*", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing fails on time")
    parser.add_argument("--pairs", type=int, default=7, help="rounds per figure")
    parser.add_argument("--events", type=int, help="for the rows on many; 1,000,000 by default")
    parser.add_argument("--huge", type=int, help="for the rows on memory; 10,000,000 by default")
    parser.add_argument(
        "--original",
        nargs=2,
        metavar=("PYTHON", "SOURCE"),
        help="the seed's original: an interpreter that has what it imports, and its src folder",
    )
    parser.add_argument("--write", action="store_true", help="the table into docs/reference")
    return parser


GROUPS = ("small", "large", "export", "memory", "original")


def _groups(given: argparse.Namespace) -> Iterator[tuple[str, Callable[[Path], list[Row]]]]:
    few, many, huge = (2_000, 20_000, 50_000) if given.quick else (10_000, 1_000_000, 10_000_000)
    many, huge = given.events or many, given.huge or huge
    half = max(given.pairs // 2, 1)
    groups: dict[str, Callable[[Path], list[Row]]] = {
        "small": lambda folder: small(folder, few, given.pairs),
        "large": lambda folder: large(folder, many, few, half),
        "export": lambda folder: exported(folder, many, half),
        "memory": lambda folder: memory(folder, huge),
    }
    if given.original:
        groups["original"] = lambda folder: original(folder, few, given.pairs, *given.original)
    for name in given.group or groups:
        if name not in groups:
            raise SystemExit(f"there is no group {name!r}, or it needs --original")
        yield name, groups[name]


if __name__ == "__main__":
    sys.exit(main())
