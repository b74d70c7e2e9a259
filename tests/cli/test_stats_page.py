"""The page of `telemetry-kit stats`: totals, dates, comparisons, and the options of its tables."""

import json
from datetime import date, timedelta

import pytest

from telemetry_kit.cli.commands.stats import axis, page
from telemetry_kit.cli.options import PARAMETERS
from telemetry_kit.cli.tables import display_width
from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.metrics import metrics
from telemetry_kit.insights.query import Query
from tests.cli.test_stats import fill, run

LAST = date(2026, 11, 28)


def days(count, *types, per_day=1):
    """Yield events of each type on each of the last days."""
    for at in range(count):
        day = LAST - timedelta(count - 1 - at)
        for kind in types * per_day:
            yield {"event_type": kind, "timestamp": f"{day}T00:00:00Z", "command": "/dev:build"}


def counters_of(events):
    """Count events."""
    counters = Counters()
    for event in events:
        counters.add(event)
    return counters


def page_of(events, columns=100, query=None, by=None, top=None):
    """Return the lines of the page about some events."""
    found = metrics(counters_of(events), query, by=by)
    return list(page(found, columns, top))


def section(lines, title):
    """Return the lines of one section, without its title."""
    begin = next(at for at, line in enumerate(lines) if line.startswith(title))
    return lines[begin + 1 : lines.index("", begin)]


@pytest.mark.parametrize(
    ("count", "since", "expected"),
    [
        (30, "", False),
        (55, "", False),
        (56, "", True),
        (80, "", True),
        (80, "2026-10-20", True),
        (80, "2026-10-01", False),
    ],
)
def test_no_percentage_of_a_period_without_all_its_days(count, since, expected):
    """A change in percent needs an earlier period that does not begin before the first event."""
    events = [*days(count, "command.executed", per_day=10)]
    query = Query(since)
    both = metrics(counters_of(events), query)["comparison"]
    lines = page_of(events, query=query)
    title = next(line for line in lines if " compared with " in line)
    rows = section(lines, title)
    now, before = both["now"], both["before"]

    assert both["before_is_complete"] == expected
    assert title == (
        f"{now['since']} to {now['until']} compared with "
        f"{before['since']} to {before['until']} (UTC)"
    )
    assert ("change" in rows[0]) == expected
    assert any("%" in row for row in rows) == expected
    assert any(both["first_day"] in row for row in rows) != expected


def test_a_large_change_has_separators():
    """A change in percent is written as other large numbers are."""
    before = [*days(56, "command.executed")][:28]
    lines = page_of([*before, *days(28, "command.executed", per_day=30)])

    assert "+2,900%" in "\n".join(lines)


def test_totals_and_unfinished_work():
    """Each table of several rows ends with the totals of all rows, also of those not shown."""
    one, other = {"command": "/dev:build"}, {"command": "/qa:check"}
    ended = {"event_type": "command.completed", "duration_ms": 1_100}
    events = [
        {"timestamp": "2026-11-28T00:00:00Z", **event}
        for event in (
            *(
                {"event_type": "command.executed", "span_id": f"{number:012x}", **name}
                for number, name in enumerate((one, one, one, other))
            ),
            {**ended, **one, "span_id": f"{0:012x}"},
            {
                **ended,
                **other,
                "event_type": "command.failed",
                "error_type": "OSError",
                "span_id": f"{3:012x}",
            },
        )
    ]
    total = metrics(counters_of(events))["totals"]["commands"]
    rows = section(page_of(events), "Commands")
    short = section(page_of(events, top=1), "Commands")

    assert (total["begun"], total["unfinished"], total["p50_ms"]) == (4, 2, 1_100)
    assert [row.split()[:5] for row in rows[1:3]] == [
        ["/dev:build", "3", "1", "0", "2"],
        ["/qa:check", "1", "0", "1", "0"],
    ]
    assert rows[0].split()[1:6] == ["started", "done", "failed", "not", "finished"]
    assert rows[3].split()[:7] == ["total", "of", "2", "4", "1", "1", "2"]
    assert short[2:] == [rows[3].replace("total of 2", "total of 2"), short[3]]
    assert short[3] == "and 1 more: --top 2 shows all"


def test_shares_of_the_roles():
    """The shares of the roles do not add up to more than 100 %."""
    names = ["dev"] * 4 + ["qa", "pm"]
    events = [
        {"event_type": "role.selected", "timestamp": "2026-11-28T00:00:00Z", "role": name}
        for name in names
    ]
    rows = section(page_of(events), "Roles")[1:4]

    assert [row.split()[2] for row in rows] == ["67%", "16%", "16%"]


def test_dates_below_the_lines():
    """The first and the last date stand below the ends of the line that is shown."""
    lines = section(page_of(days(80, "command.executed"), columns=80), "Events over time")
    drawn = lines[0][9:].split("  ")[0]

    assert lines[1][9:19] == str(LAST - timedelta(len(drawn) - 1))
    assert lines[1].strip().split() == [lines[1][9:19], str(LAST)]
    assert len(lines[1]) == len("by day   ") + len(drawn)
    assert lines[3].split() == ["2026-09-07", "to", "2026-11-23"]
    assert axis("2026-11-28", "2026-11-28", 1) == "2026-11-28"


@pytest.mark.parametrize(("by", "rows"), [("day", 30), ("week", 5)])
def test_a_table_of_days_or_weeks(by, rows):
    """`--by` shows what began in each day or ISO week, and no sparklines."""
    events = [*days(30, "command.executed", "command.completed")]
    lines = page_of(events, by=by)
    table = section(lines, f"Events by {by}")
    periods = metrics(counters_of(events), by=by)["periods"]

    assert len(table) == len(periods) + 1 == rows + 1
    assert sum(row["commands_begun"] for row in periods) == 30
    assert [row.split()[0] for row in table[1:]] == [row["since"] for row in periods]
    assert not any(line.startswith("Events over time") for line in lines)
    assert {date.fromisoformat(p["until"]) - date.fromisoformat(p["since"]) for p in periods} == {
        timedelta(rows == 5 and 6)
    }


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("by", [None, "day", "week"])
def test_the_page_fits(columns, by):
    """No line is wider than the terminal."""
    events = days(40, "command.executed", "command.completed", "handoff.clicked", "agent.invoked")

    assert max(map(display_width, page_of(events, columns, by=by))) <= columns


def test_options(undecided):
    """`--agent`, `--command`, `--top` and `--by` select events, rows and periods, also in JSON."""
    fill(
        undecided,
        *(
            {"event_type": "agent.invoked", "role": "dev", "agent": agent, "command": command}
            for agent, command in (("writer", "/a"), ("writer", "/b"), ("tester", "/b"))
        ),
    )

    def found(*args):
        return json.loads(run(undecided, "stats", "--json", *args).stdout)

    both = found("--agent", "writer", "--command", "/b", "--by", "week")
    first = found("--top", "1")
    text = run(undecided, "stats", "--agent", "writer", "--by", "day", "--top", "1").stdout
    wrong = run(undecided, "stats", "--agent", "writr")

    assert (both["events"], both["agent"], both["command"]) == (1, "writer", "/b")
    assert [row["since"] for row in both["periods"]] == ["2026-11-16"]
    assert [row["agent"] for row in first["agents"]] == ["writer"]
    assert [row["agent"] for row in first["role_agents"]] == ["writer"]
    assert first["totals"]["agents"]["begun"] == 3
    assert text.startswith("2 events of agent writer, 2026-11-22 (UTC)\n")
    assert "Events by day" in text
    assert (wrong.returncode, "did you mean 'writer'?" in wrong.stderr) == (2, True)


def test_each_date_option_names_utc():
    """The help of each option that takes a day says that days are UTC."""
    dated = [p for all_of in PARAMETERS.values() for p in all_of if p.metavar == "DATE"]

    assert len(dated) >= 9
    assert all("UTC" in parameter.help for parameter in dated)
