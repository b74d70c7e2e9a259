"""Logs for the tests: events of sessions, and damaged lines."""

import json
import random
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from telemetry_kit.insights.counters import Counters
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.schema.validation import two_digits

ROLES = ("pm", "dev", "qa", "ops")
AGENTS = ("backend-engineer", "quality-guardian", "h:2bd806c97f0e")
FIRST_DAY = date(2026, 9, 1)


def stored(number: int, kind: str = "command.failed", **fields: Any) -> dict[str, Any]:
    """Return a record with its keys in schema order."""
    event = {
        "schema_version": "1.0",
        "event_id": f"{number:016x}",
        "event_type": kind,
        "timestamp": "2026-11-22T00:00:00Z",
        "seq": number,
        **fields,
    }
    return {name: event[name] for name in catalog.ORDER if name in event}


def sessions(count: int, days: int = 60) -> Iterator[dict[str, Any]]:
    """Yield `count` events of sessions, the same ones each time."""
    r = random.Random(7)
    number = 0

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        day = FIRST_DAY + timedelta(number * days // count)
        origin = {"app_version": ("1.9", "1.10.0")[2 * number > count]} if number % 7 else {}
        if number % 5:
            origin["invoker"] = ("person", "claude-code")[number % 3 == 0]
        stamp = f"{day}T00:00:00Z"
        return stored(number, kind, timestamp=stamp, key_epoch=1, **origin, **fields)

    def session() -> Iterator[dict[str, Any]]:
        role, sid = r.choice(ROLES), f"{r.getrandbits(48):012x}"
        both = {"role": role, "session_id": sid, "project_id": "h:7ac3f0ae7aea"}
        yield event("role.selected", **both, source="session")
        if r.random() < 0.2:
            yield event("role.changed", **{**both, "role": "all"}, previous_role=role)
        if r.random() < 0.3:
            yield event("workflow.started", **both, workflow="release")
            ends = {"outcome": "error", "error_type": "other", "duration_ms": 64}
            yield event("workflow.failed", **both, workflow="release", **ends)
        for _ in range(r.randint(1, 3)):
            command = f"/{r.choice(ROLES)}:{r.choice(('plan', 'build', 'check'))}"
            span, inner = (f"{r.getrandbits(48):012x}" for _ in range(2))
            agent = r.choice(AGENTS)
            outer = {**both, "command": command, "span_id": span}
            yield event("command.executed", **outer, context={"task_id": f"h:{span}"})
            within = {**both, "command": command, "span_id": inner, "parent_id": span}
            yield event("agent.invoked", **within, agent=agent)
            yield event(
                r.choice(("agent.completed", "agent.completed", "agent.failed")),
                **within,
                agent=agent,
                outcome=r.choice(catalog.OUTCOMES),
                error_type="ValueError",
                duration_ms=two_digits(2 ** r.uniform(0, 18)),
            )
            if r.random() < 0.4:
                ends = {"source_agent": agent, "target_agent": r.choice(AGENTS)}
                yield event("handoff.clicked", **both, **ends)
                if r.random() < 0.6:
                    yield event("handoff.completed", **both, **ends, outcome="ok")
            if r.random() < 0.9:
                yield event(
                    r.choice(("command.completed", "command.failed")),
                    **outer,
                    outcome="ok",
                    duration_ms=two_digits(2 ** r.uniform(3, 12)),
                    dropped=r.randint(1, 3),
                )

    while True:
        for one in session():
            yield one
            if number >= count:
                return


def fill(home: ProjectPaths, *events: dict[str, Any]) -> Path:
    """Append records to the active log."""
    log = Path(home.log)
    log.parent.mkdir(mode=0o700, exist_ok=True)
    with log.open("ab") as file:
        file.writelines(encode(event) for event in events)
    log.chmod(0o600)
    return log


# -- lines of every kind ----------------------------------------------------------------------

_NAMES = st.sampled_from(
    ["dev", "/dev:build", "h:0123456789ab", "a b", "über", 'q"uote', "x" * 300]
)
_DAYS = st.sampled_from(["2026-11-22", "2024-02-29", "2026-02-29", "2026-04-31", "0000-01-01"])
_TIMES = st.sampled_from(["00:00:00", "23:59:59", "24:00:00", "12:60:00"])
_MEASURES = st.sampled_from([1, 2, 4096, 2**53, 2**53 + 1, 0, -3, 10**9])
_VALUES = st.sampled_from(["x", "", "}", "é", 1, 1.5, 1e300, True, None, [1], "h:0123456789ab"])
_OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "seq": _MEASURES,
    "project_id": st.sampled_from(["h:7ac3f0ae7aea", "7ac3f0ae7aea", "nobody"]),
    "session_id": st.sampled_from(["h:7ac3f0ae7aea", "7ac3f0ae7aea", "x"]),
    "span_id": st.sampled_from(["7ac3f0ae7aea"]),
    "outcome": st.sampled_from([*catalog.OUTCOMES, "fine"]),
    "error_type": _NAMES,
    "exit_code": _MEASURES,
    "duration_ms": _MEASURES,
    "source": st.sampled_from(["api", "nobody"]),
    "invoker": st.sampled_from(["person", "codex", "nobody"]),
    "app_version": st.sampled_from(["1", "1.4.2", "1.", "1.2.3.4.5", "dev", ""]),
    "key_epoch": _MEASURES,
    "dropped": _MEASURES,
    "context": st.dictionaries(st.sampled_from(["a", "b", "a b", ""]), _VALUES, max_size=4),
}
RECORDS = st.builds(
    lambda kind, day, time, more: stored(1, kind, **{"timestamp": f"{day}T{time}Z", **more}),
    st.sampled_from([*catalog.EVENTS, "no.such"]),
    _DAYS,
    _TIMES,
    st.fixed_dictionaries({}, optional={**dict.fromkeys(catalog.NAMES, _NAMES), **_OTHERS}),
)
_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"", b"\0\n", b"\n\n", b" \n"])


def _damaged(record: dict[str, Any], end: bytes, cut: int, twice: bool) -> bytes:
    line = json.dumps(record, separators=(",", ":")).encode()
    if twice:
        line = line.replace(b'"context":{', b'"context":{"a":1,"a":2,')
    return line[cut:] + end if cut >= 0 else line[:cut] + end


_WHOLE = st.builds(lambda record, end: _damaged(record, end, 0, False), RECORDS, _ENDS)
_TORN = st.builds(_damaged, RECORDS, _ENDS, st.integers(-60, 60), st.booleans())
_ORIGINAL = st.sampled_from(
    [
        b'{"event_type":"role.selected","timestamp":"2025-12-01T10:20:30+02:00","role":"pm"}\n',
        b"nonsense\n",
        b"\xef\xbb\xbf\n",
        b'{"schema_version":"2.0","event_id":"0"}\n',
    ]
)
LINES = st.lists(st.one_of(_WHOLE, _WHOLE, _TORN, _ORIGINAL), max_size=30)


def counted(events: Iterable[dict[str, Any]]) -> Counters:
    """Count events one by one, but no sessions."""
    counters = Counters()
    for event in events:
        counters.add(event)
    return counters


def counted_with_sessions(events: Iterable[dict[str, Any]]) -> Counters:
    """Count events one by one, and the different sessions."""
    events = list(events)
    counters = counted(events)
    alone = [e for e in events if "session_id" not in e and e["event_type"] == "role.selected"]
    counters.count_sessions(len({e["session_id"] for e in events if "session_id" in e}))
    counters.count_sessions(len(alone))
    return counters
