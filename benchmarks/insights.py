"""`python -m benchmarks.insights`: how fast the recorded events are read, in ratios of one run.

Whole processes, in turn; what a figure may be at most stands beside it. DuckDB and the seed's
original are rows only where they can be run.
"""

import argparse
import gzip
import importlib.util
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from benchmarks.pairs import ratios, rounds
from benchmarks.place import Place
from telemetry_kit import catalog
from telemetry_kit.line import encode

ROLES = ("pm", "arch", "dev", "sec", "qa", "ops")
AGENTS = ("backend-engineer", "frontend-engineer", "quality-guardian", "h:2bd806c97f0e")
DAYS = 90
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
    """One figure: what was measured, how often, and the most that it may be."""

    what: str
    values: list[float]
    must: float | None
    aim: float | None = None
    unit: str = "x"


def events(count: int) -> Iterator[bytes]:
    """Lines of sessions, the same each time."""
    r = random.Random(1)
    first, made = date(2026, 8, 25), 0
    while made < count:
        day = first + timedelta(made * DAYS // count)
        role, session = r.choices(ROLES, (2, 1, 6, 1, 3, 2))[0], f"{r.getrandbits(48):012x}"
        for kind, fields in _session(r, role):
            made += 1
            event = {
                "schema_version": catalog.SCHEMA_VERSION,
                "event_id": f"{r.getrandbits(64):016x}",
                "event_type": kind,
                "timestamp": f"{day}T00:00:00Z",
                "seq": made,
                "role": role,
                "project_id": "h:7ac3f0ae7aea",
                "session_id": session,
                "source": "decorator",
                "key_epoch": 1,
                **fields,
            }
            yield encode({n: event[n] for n in catalog.ORDER if n in event})
            if made == count:
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
            ends = {"source_agent": agent, "target_agent": r.choice(AGENTS), "parent_id": span}
            yield "handoff.clicked", ends
            if r.random() < 0.7:
                yield "handoff.completed", {**ends, "outcome": "ok"}
        yield _ended(r, "command", outer, 18)


def _ended(
    r: random.Random, kind: str, fields: dict[str, object], most: int
) -> tuple[str, dict[str, object]]:
    took = {"duration_ms": 2 ** r.randint(3, most)}
    if r.random() < 0.1:
        return f"{kind}.failed", {**fields, "outcome": "error", "error_type": "ValueError", **took}
    return f"{kind}.completed", {**fields, "outcome": "ok", **took}


def place_with(folder: Path, count: int, archived: bool = False) -> Place:
    """A place with so many events: in one file, or in archives as the journal makes them."""
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
            day = "2026-11-22" if part == 1 else f"2026-11-22-{part}"
            with gzip.open(log / f"telemetry-{day}.jsonl.gz", "wb", compresslevel=6) as file:
                file.writelines(lines)
            lines = []
    return place


def command(*words: str) -> list[str]:
    """One of our commands as a process."""
    return [sys.executable, "-m", "telemetry_kit", *words]


BARE = [sys.executable, "-c", "pass"]


def small(folder: Path, count: int, pairs: int) -> list[Row]:
    """`view` and `stats` on 10,000 events, against a bare interpreter."""
    place = place_with(folder, count)
    rollup = place.project / ".flowspec" / "telemetry-rollup.json"

    def cold(words: list[str]) -> float:
        rollup.unlink(missing_ok=True)
        return place.seconds(words)

    found = rounds(
        {
            "bare": lambda: place.seconds(BARE),
            "view": lambda: place.seconds(command("view")),
            "stats": lambda: cold(command("stats")),
            "again": lambda: place.seconds(command("stats")),
        },
        pairs,
    )
    rows = []
    for name, what in (("view", "view"), ("stats", "stats, first look"), ("again", "stats, again")):
        rows.append(Row(f"{what}, {count:,} events / bare", ratios(found, name, "bare"), 12, 8))
        rows.append(Row(f"  {what}, ms", [r[name] * 1e3 for r in found], 500, None, "ms"))
    return rows


def large(folder: Path, count: int, few: int, pairs: int) -> list[Row]:
    """`stats` from scratch against DuckDB, and the second look."""
    place, other = place_with(folder / "large", count), place_with(folder / "few", few)
    log = place.project / ".flowspec" / "telemetry.jsonl"
    rollup = log.with_name("telemetry-rollup.json")
    has_duckdb = importlib.util.find_spec("duckdb") is not None
    more = list(events(100))

    def cold() -> float:
        rollup.unlink(missing_ok=True)
        return place.seconds(command("stats"))

    def again() -> float:
        with log.open("ab") as file:
            file.writelines(more)
        return place.seconds(command("stats"))

    steps = {"stats": cold, "again": again, "few": lambda: other.seconds(command("stats"))}
    if has_duckdb:
        steps["duckdb"] = lambda: place.seconds([sys.executable, "-c", _DUCKDB, str(log)])
    found = rounds(steps, pairs)
    rows = [
        Row(
            f"stats, {count:,} events and 100 new ones / stats, {few:,} events",
            ratios(found, "again", "few"),
            1.5,
        )
    ]
    if has_duckdb:
        what = f"stats, {count:,} events from scratch / DuckDB"
        rows.insert(0, Row(what, ratios(found, "stats", "duckdb"), 3, 1.5))
    return rows


def exported(folder: Path, count: int, pairs: int) -> list[Row]:
    """`export --format jsonl` against `gzip -dc` and `cat`."""
    place = place_with(folder, count, archived=True)
    where = str(place.project / "out")
    gunzip = ["/bin/sh", "-c", f"gzip -dc .flowspec/telemetry-*.gz | cat > {where}"]
    ours = command("export", "--format", "jsonl", "-o", where, "--force")
    found = rounds(
        {"gzip": lambda: place.seconds(gunzip), "export": lambda: place.seconds(ours)}, pairs
    )
    return [
        Row(f"export jsonl, {count:,} events / gzip -dc | cat", ratios(found, "export", "gzip"), 2)
    ]


def memory(folder: Path, count: int) -> list[Row]:
    """The most that any command holds, in MB."""
    place = place_with(folder, count)
    rows = []
    for words in (
        ("stats",),
        ("stats", "--role", "dev"),
        ("view",),
        ("view", "--tree"),
        ("export", "--format", "csv", "-o", "out"),
    ):
        code = (
            "import resource, subprocess, sys\n"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL,"
            " stderr=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        most = place.output([sys.executable, "-c", code, *command(*words)])
        scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
        what = f"memory of {' '.join(words[:3])}, {count:,} events"
        rows.append(Row(what, [int(most) / scale], 200, None, "MB"))
    return rows


def original(folder: Path, count: int, pairs: int, program: list[str]) -> list[Row]:
    """The seed's original on as many events of its own form, against ours on the same file."""
    place = place_with(folder, count)
    found = rounds(
        {
            "theirs": lambda: place.seconds(program),
            "ours": lambda: place.seconds(command("stats")),
        },
        pairs,
    )
    return [
        Row(f"the seed's stats, {count:,} events / ours", ratios(found, "theirs", "ours"), None)
    ]


def table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = [f"{'what':<72} {'median':>9} {'lowest':>9} {'highest':>9} {'must':>6}  verdict"]
    for row in rows:
        middle = median(row.values)
        met = row.must is None or middle <= row.must
        verdict = "MISSED" if not met else "aim" if row.aim and middle <= row.aim else "must"
        cells = (middle, min(row.values), max(row.values))
        shown = " ".join(f"{value:>8.2f}{row.unit[:1]}" for value in cells)
        lines.append(f"{row.what:<72} {shown} {row.must or '':>6}  {verdict}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and fail when a must was missed, unless the sizes were made small."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insights", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing fails on time")
    parser.add_argument("--pairs", type=int, default=7, help="rounds per figure")
    parser.add_argument("--huge", type=int, help="events for the memory row; 10,000,000 by default")
    parser.add_argument("--original", nargs="+", help="the command that runs the seed's stats")
    given = parser.parse_args(arguments)
    size = 20_000 if given.quick else 1_000_000
    huge = given.huge or (50_000 if given.quick else 10_000_000)
    few = 2_000 if given.quick else 10_000
    here, rows = os.getcwd(), []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        try:
            rows += small(folder / "small", few, given.pairs)
            rows += large(folder / "two", size, few, max(given.pairs // 2, 1))
            shutil.rmtree(folder / "two")
            rows += exported(folder / "export", size, max(given.pairs // 2, 1))
            shutil.rmtree(folder / "export")
            rows += memory(folder / "memory", huge)
            if given.original:
                rows += original(folder / "original", few, given.pairs, given.original)
        finally:
            os.chdir(here)
    print(table(rows))
    missed = [r for r in rows if r.must is not None and median(r.values) > r.must]
    return 1 if missed and not given.quick else 0


if __name__ == "__main__":
    sys.exit(main())
