"""Every number of `stats` equals the result of its SQL query in DuckDB over the same file."""

import pytest
import written

from telemetry_kit.insights.answers import answers
from telemetry_kit.insights.counters import TABLES
from telemetry_kit.insights.counting import count
from telemetry_kit.insights.metrics import metrics, owner_of
from telemetry_kit.insights.query import Query
from telemetry_kit.schema import catalog

duckdb = pytest.importorskip("duckdb")

KIND = "split_part(event_type, '.', 1)"
SUFFIX = "split_part(event_type, '.', 2)"
ENDED = f"{SUFFIX} in ('completed', 'failed')"
WORK = {"commands": "command", "agents": "agent", "workflows": "workflow"}
DAY = "left(timestamp, 10)"
TABLE_QUERIES = {
    "types": "select event_type, count(*) from e group by all",
    "days": f"select {DAY}, event_type, count(*) from e group by all",
    "roles": (
        "select role, 'events', count(*) from e where role is not null group by all union all "
        f"select role, {SUFFIX}, count(*) from e where {KIND} = 'role' and role is not null "
        "group by all"
    ),
    "changes": (
        "select previous_role, role, count(*) from e "
        f"where {KIND} = 'role' and previous_role is not null group by all"
    ),
    **{
        table: f"select {name}, {SUFFIX}, count(*) from e where {KIND} = '{name}' "
        f"and {name} is not null group by all"
        for table, name in WORK.items()
    },
    **{
        f"role_{table}": f"select role, {name}, {SUFFIX}, count(*) from e where {KIND} = '{name}' "
        f"and {name} is not null and role is not null group by all"
        for table, name in list(WORK.items())[:2]
    },
    "handoffs": (
        "select coalesce(source_agent, '?'), coalesce(target_agent, '?'), "
        f"{SUFFIX}, count(*) from e where {KIND} = 'handoff' group by all"
    ),
    **{
        table: f"select {name}, 'events', count(*) from e where {name} is not null group by all "
        f"union all select {name}, {SUFFIX}, count(*) from e where {KIND} = 'command' and {ENDED} "
        f"and {name} is not null group by all"
        for table, name in (("invokers", "invoker"), ("versions", "app_version"))
    },
    "outcomes": "select outcome, count(*) from e where outcome is not null group by all",
    "errors": " union all ".join(
        f"select '{name}', {name}, error_type, count(*) from e where event_type = '{name}.failed' "
        f"and {name} is not null and error_type is not null group by all"
        for name in WORK.values()
    ),
    "spans": " union all ".join(
        f"select '{name}', {name}, case when {ENDED} then 'ended' else 'started' end, count(*) "
        f"from e where {KIND} = '{name}' and {name} is not null and span_id is not null "
        "group by all"
        for name in WORK.values()
    ),
    "durations": " union all ".join(
        f"select '{name}', {name}, duration_ms::varchar, count(*) from e where {KIND} = '{name}' "
        f"and {ENDED} and {name} is not null and duration_ms is not null group by all"
        for name in WORK.values()
    ),
    "totals": (
        "select 'events', count(*) from e union all select 'dropped', sum(dropped) from e "
        "union all select 'sessions', count(distinct session_id) from e"
    ),
}


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    """A project, and a function that queries its log with DuckDB."""
    from telemetry_kit.paths import find

    base = tmp_path_factory.mktemp("oracle")
    (base / "work").mkdir()
    home = find("flowspec", str(base / "work"), {"HOME": str(base)})
    log = written.fill(home, *written.sessions(20_000))
    connection = duckdb.connect()
    columns = {
        name: "BIGINT" if row.kind == catalog.MEASURE else "VARCHAR"
        for name, row in catalog.FIELDS.items()
        if row.kind != catalog.MAPPING
    }
    spec = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    connection.execute(
        f"create table e as select *, row_number() over () as place from "
        f"read_json('{log}', format='newline_delimited', columns={{{spec}}})"
    )
    yield home, lambda sql: connection.execute(sql).fetchall()
    connection.close()


@pytest.mark.parametrize("table", list(TABLES))
def test_each_table_equals_its_query(queries, table):
    """The counts of all keys are equal."""
    home, sql = queries
    counters = count(home, Query()).counters
    expected = {tuple(row[:-1]): row[-1] for row in sql(TABLE_QUERIES[table]) if row[-1]}

    assert expected == {key: n for key, n in counters.tables[table].items() if n}
    assert expected


@pytest.fixture(scope="module")
def found(queries):
    """The metrics of the same log."""
    return metrics(count(queries[0], Query()).counters)


@pytest.mark.parametrize("table", ["commands", "agents"])
def test_rates_and_percentiles(queries, found, table):
    """Counts, rates, Wilson intervals and discrete percentiles are equal."""
    _, sql = queries
    name, started = WORK[table], "'executed', 'invoked', 'started'"
    z = 1.959963984540054
    rows = sql(
        f"with c as (select {name} as name, count(*) filter ({SUFFIX} in ({started})) as b, "
        f"count(*) filter ({SUFFIX} = 'completed') as c, "
        f"count(*) filter ({SUFFIX} = 'failed') as f, "
        + ", ".join(
            f"quantile_disc(duration_ms, {q}) filter ({ENDED} and duration_ms is not null) "
            f"as p{q * 100:.0f}"
            for q in (0.5, 0.9, 0.95)
        )
        + f" from e where {KIND} = '{name}' group by {name}), "
        "r as (select *, c / (c + f) as p, c + f as n "
        f"from c) select name, b, c, f, round(p, 4), "
        f"round((p + {z * z} / (2 * n) - {z} * sqrt(p * (1 - p) / n + {z * z} / (4 * n * n))) "
        f"/ (1 + {z * z} / n), 4), "
        f"round((p + {z * z} / (2 * n) + {z} * sqrt(p * (1 - p) / n + {z * z} / (4 * n * n))) "
        f"/ (1 + {z * z} / n), 4), p50, p90, p95 from r"
    )
    keys = ("begun", "completed", "failed", "rate", "low", "high", "p50_ms", "p90_ms", "p95_ms")
    ours = {row[name]: tuple(row[key] for key in keys) for row in found[table]}

    assert {row[0]: pytest.approx(row[1:], abs=1e-4) for row in rows} == ours


def test_roles_trend_and_hand_offs(queries, found):
    """Shares, days, weeks, hand-offs and the use of another role's commands are equal."""
    _, sql = queries
    chosen = dict(
        sql(f"select role, count(*) from e where {KIND} = 'role' and role is not null group by all")
    )
    total = sum(chosen.values())
    days = dict(sql(f"select {DAY}, count(*) from e group by all"))
    weeks = dict(
        sql(
            "select strftime(date_trunc('week', timestamp::date), '%Y-%m-%d'), count(*) "
            "from e group by all"
        )
    )
    handoffs = sql(
        "select source_agent, target_agent, count(*) filter (event_type = 'handoff.clicked') c, "
        "count(*) filter (event_type = 'handoff.completed') from e "
        f"where {KIND} = 'handoff' group by all"
    )
    used = sql(
        "select role, command, count(*) from e where event_type = 'command.executed' group by all"
    )
    roles = frozenset({*written.ROLES, *catalog.ROLES})
    crossed = {(r, c, n) for r, c, n in used if owner_of(c, roles) not in (None, r)}

    assert chosen == {row["role"]: row["chosen"] for row in found["roles"]}
    assert {role: round(n / total, 4) for role, n in chosen.items()} == {
        row["role"]: row["share"] for row in found["roles"]
    }
    assert days == {row["day"]: row["events"] for row in found["days"] if row["events"]}
    assert weeks == {row["week"]: row["events"] for row in found["weeks"] if row["events"]}
    assert set(handoffs) == {
        (r["source"], r["target"], r["clicked"], r["completed"]) for r in found["handoffs"]
    }
    assert crossed == {(r["role"], r["command"], r["count"]) for r in found["cross_use"]}
    assert sql("select sum(dropped) from e") == [(found["dropped"],)]


def test_invokers_and_versions(queries, found):
    """Events and failed commands are equal, and the newest version is the first one."""
    _, sql = queries
    for table, name in (("invokers", "invoker"), ("versions", "app_version")):
        rows = sql(
            f"select {name}, count(*), count(*) filter (event_type = 'command.completed'), "
            f"count(*) filter (event_type = 'command.failed') from e where {name} is not null "
            "group by all"
        )
        keys = (name, "events", "completed", "failed")

        assert set(rows) == {tuple(row[key] for key in keys) for row in found[table]}
    assert [row["app_version"] for row in found["versions"]] == ["1.10.0", "1.9"]


def test_the_period_before(queries):
    """A period and the one before it equal their queries."""
    home, sql = queries
    period = Query("2026-10-01", "2026-10-10")
    both = metrics(count(home, period).counters, period)["comparison"]
    for part in (both["now"], both["before"]):
        rows = dict(
            sql(
                f"select event_type, count(*) from e where {DAY} between '{part['since']}' "
                f"and '{part['until']}' group by all"
            )
        )

        assert sum(rows.values()) == part["events"]
        assert rows["command.executed"] == part["commands_begun"]
        assert rows["handoff.clicked"] == part["handoffs_clicked"]
    assert (both["before"]["since"], both["before"]["until"]) == ("2026-09-21", "2026-09-30")


def test_each_declared_question_has_an_answer(found):
    """Each answer is a sentence, with a number if events were recorded."""
    rows = answers(found)

    asked = dict.fromkeys(event.question for event in catalog.EVENTS.values())

    assert [row["question"] for row in rows][: len(asked)] == list(asked)
    assert len(rows) == len(asked) + 2
    for row in rows:
        assert row["answer"].endswith(".")
        if row["question"] != "Which workflows are completed?":
            assert any(c.isdigit() for c in row["answer"]), row
