"""Counters: the counts of events, which do not depend on the parts of a log."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.insights.counters import TABLES, Counters
from telemetry_kit.schema import catalog

NAMES = st.sampled_from(["dev", "pm", "h:0123456789ab"])
EVENTS = st.fixed_dictionaries(
    {"event_type": st.sampled_from(sorted(catalog.EVENTS))},
    optional={
        "role": NAMES,
        "command": NAMES,
        "agent": NAMES,
        "source_agent": NAMES,
        "target_agent": NAMES,
        "outcome": st.sampled_from(catalog.OUTCOMES),
        "dropped": st.integers(1, 9),
    },
)


def counters_of(events):
    counters = Counters()
    for event in events:
        counters.add(event)
    return counters


@given(st.lists(st.lists(EVENTS)), st.lists(st.integers(0, 5)))
def test_merged_parts_equal_the_log(parts, malformed):
    """The merged counters of the parts of a log equal the counters of the log."""
    merged = Counters()
    for part in parts:
        merged.merge(counters_of(part))
    for lines in malformed:
        merged.count_malformed(lines)
    whole = counters_of(event for part in parts for event in part)
    whole.count_malformed(sum(malformed))

    assert merged == whole
    assert merged.to_dict() == whole.to_dict()


@given(st.lists(EVENTS))
def test_counters_come_back_from_json(events):
    """`from_dict` reverses `to_dict`, also through JSON, and equal counters give equal text."""
    counters = counters_of(events)
    stored = json.dumps(counters.to_dict())

    assert Counters.from_dict(json.loads(stored)) == counters
    assert json.dumps(Counters.from_dict(json.loads(stored)).to_dict()) == stored


@given(st.lists(EVENTS))
def test_totals_agree_with_tables(events):
    """Each event is in `types` once, and no table has more counts than there are events."""
    counters = counters_of(events)

    assert sum(counters.tables["types"].values()) == counters.total("events") == len(events)
    assert counters.total("dropped") == sum(event.get("dropped", 0) for event in events)
    for name in TABLES.keys() - {"totals", "roles"}:
        assert sum(counters.tables[name].values()) <= len(events)


def test_what_is_counted():
    """Roles are counted by choice, work by its steps, hand-offs by both agents."""
    dev = {"role": "dev", "command": "/dev:build"}
    counters = counters_of(
        [
            {"event_type": "role.selected", **dev},
            {"event_type": "role.changed", "role": "qa", "previous_role": "dev"},
            {"event_type": "command.executed", **dev},
            {"event_type": "agent.invoked", "agent": "writer", **dev},
            {"event_type": "agent.failed", "agent": "writer", "outcome": "error", **dev},
            {"event_type": "handoff.clicked", "source_agent": "writer", "target_agent": "tester"},
            {"event_type": "handoff.completed", "target_agent": "tester", "outcome": "ok"},
            {"event_type": "command.failed", "outcome": "error", "dropped": 2, **dev},
        ]
    )

    assert counters.rows("roles") == {
        ("dev",): {"events": 5, "selected": 1},
        ("qa",): {"changed": 1, "events": 1},
    }
    assert counters.rows("commands") == {("/dev:build",): {"executed": 1, "failed": 1}}
    assert counters.rows("role_commands") == {("dev", "/dev:build"): {"executed": 1, "failed": 1}}
    assert counters.rows("agents") == {("writer",): {"failed": 1, "invoked": 1}}
    assert counters.rows("handoffs") == {
        ("?", "tester"): {"completed": 1},
        ("writer", "tester"): {"clicked": 1},
    }
    assert counters.tables["outcomes"] == {("ok",): 1, ("error",): 2}
    assert counters.total("dropped") == 2


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"types": 3},
        {"types": ["role.selected"]},
        {"types": [["role.selected"]]},
        {"types": [[]]},
        {"types": [[{"role.selected": "2"}]]},
        {"types": [[{"role.selected": True}]]},
        {"types": [[{"role.selected": -1}]]},
        {"types": [[{"role.selected": 0}]]},
        {"types": [[{3: 1}]]},
        {"roles": [[3, {"events": 1}]]},
        {"roles": [["dev", 1]]},
        {"roles": [["dev", "events", 1]]},
        {"roles": [{"events": 1}]},
    ],
)
def test_stored_counters_are_checked(stored):
    """An invalid table or row raises ValueError."""
    with pytest.raises(ValueError, match=r"counters|table|row"):
        Counters.from_dict(stored)
