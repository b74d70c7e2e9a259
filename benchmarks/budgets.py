"""The table of budgets: each figure with its limit and its aim.

Other modules measure the figures.
"""

from dataclasses import dataclass
from statistics import median

from benchmarks.pairs import Added, Ratios


@dataclass(frozen=True)
class Budget:
    """One row of the table.

    Args:
        name: `group.figure`; the figures of one group are measured together.
        what: the row in words.
        must: the limit above which the run fails; None if the figure is only shown.
        aim: the value to aim for.
        unit: `x` for a ratio, `ms` for milliseconds, `us` for microseconds.
    """

    name: str
    what: str
    must: float | None = None
    aim: float | None = None
    unit: str = "x"


@dataclass(frozen=True)
class Result:
    """The result for one budget.

    Args:
        budget: the row.
        values: one for each pair, as `Ratios`, `Added` or plain numbers.
        attempts: how often it was measured.
    """

    budget: Budget
    values: list[float]
    attempts: int = 1

    @property
    def measured(self) -> float:
        """The value of the fastest rounds, or the median if the values are not pairs."""
        paired = isinstance(self.values, Ratios | Added)
        return self.values.fastest if paired else median(self.values)

    @property
    def missed(self) -> bool:
        """Whether the run fails because of this result."""
        return self.budget.must is not None and self.measured > self.budget.must

    @property
    def verdict(self) -> str:
        """`aim`, `must`, `MISSED`, or `shown` if there is no limit."""
        if self.budget.must is None:
            return "shown"
        if self.missed:
            return "MISSED"
        aim = self.budget.aim
        return "aim" if aim is not None and self.measured <= aim else "must"


BUDGETS = (
    Budget("off.undecided", "off, cold: 20 decorated functions, nobody asked yet", 1.10, 1.03),
    Budget("off.denied", "off, cold: the user said no", 1.10, 1.03),
    Budget("off.do_not_track", "off, cold: a yes, and DO_NOT_TRACK", 1.10, 1.03),
    Budget("off.configured", "  undecided, and configure() is called as well"),
    Budget("on.added", "on, cold: added by three events, in bare interpreters", 1.0, 0.5),
    Budget("on.added_ms", "on, cold: the same in milliseconds", 50.0, None, "ms"),
    Budget("record.script", "telemetry-kit record, the installed script / bare", 2.0, 1.5),
    Budget("record.module", "  python -m telemetry_kit record / bare"),
    Budget("hook.record", "telemetry-kit hook / record", 1.5, 1.1),
    Budget("hook.text", "  with a payload of 1 MB, one long text / of 200 bytes", 1.3, 1.1),
    Budget("hook.parts", "  with a payload of 1 MB, many short parts / of 200 bytes", 1.3, 1.1),
    Budget("hook.bare", "  python -m telemetry_kit hook / bare"),
    Budget("install.typer_off", "install(), off, cold: a Typer program / without us", 1.05),
    Budget("install.typer_on", "install(), on, cold: added to it, in bare interpreters", 1.0),
    Budget("install.click_off", "install(), off, cold: a Click program / without us", 1.05),
    Budget("install.click_on", "install(), on, cold: added to it, in bare interpreters", 1.0),
    Budget(
        "install.argparse_off",
        "install(), off, cold: an argparse program / without us",
        1.05,
    ),
    Budget("install.argparse_on", "install(), on, cold: added to it, in bare interpreters", 1.0),
    Budget("calls.function", "off, per call: function / functools.wraps closure", 2.0, 1.2),
    Budget("calls.method", "off, per call: method / functools.wraps closure", 2.0, 1.2),
    Budget("calls.veto", "off, per call: function, DO_NOT_TRACK", 2.0, 1.2),
    Budget("calls.denied", "  function, the user said no for this project"),
    Budget("calls.wrapt_function", "  a wrapt decorator that passes through, function"),
    Budget("calls.wrapt_method", "  a wrapt decorator that passes through, method"),
    Budget("events.api", "on, per event: track_role_event() / bare os.write", 12.0, 6.0),
    Budget("events.decorated", "  of a decorated call (two events and a scope) / bare os.write"),
    Budget("events.standard", "on, per event: / the same line by json and FileHandler", 1.0),
    Budget("events.logging", "  / FileHandler alone, the line ready-made"),
    Budget("events.warm_door", "  the structlog logger / bare os.write"),
    Budget("events.p99_ms", "p99 of 10,000 events", 50.0, 1.0, "ms"),
    Budget("events.pause_ms", "  one event after 20 ms: consent is asked anew", unit="ms"),
    Budget("spans.added_us", "on, per OpenTelemetry span that is no agent: added", 1.0, 0.7, "us"),
    Budget("spans.other", "  the same span / with a processor that does nothing"),
    Budget("naive.added", "  the naive program: added, in bare interpreters"),
    Budget("naive.added_ms", "  the naive program: added, in milliseconds", None, None, "ms"),
    Budget("naive.times_ours", "  the naive program: added / added by ours"),
    Budget("naive.wrapt", "  import wrapt / bare"),
    Budget("naive.structlog", "  import structlog / bare"),
)
BY_NAME = {budget.name: budget for budget in BUDGETS}


def table(results: list[Result]) -> str:
    """Format the results as text, with rows without a limit indented."""
    head = ("what", "measured", "lowest", "highest", "must", "aim", "verdict")
    rows = [head, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:6], widths[1:6], strict=True)]
        lines.append("  ".join([*cells, row[6]]))
    return "\n".join(lines)


def _row(result: Result) -> tuple[str, ...]:
    budget = result.budget

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}{budget.unit}"

    verdict = result.verdict if result.attempts == 1 else f"{result.verdict} ({result.attempts})"
    low, high = min(result.values), max(result.values)
    cells = (result.measured, low, high, budget.must, budget.aim)
    return (budget.what, *(shown(cell) for cell in cells), verdict)
