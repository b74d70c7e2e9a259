"""The pytest plugin: the fixture `telemetry_events` and the option `--telemetry-record`.

In a test run recording is off. Both run the real pipeline into memory, and load it on
first use.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from telemetry_kit.testing import Captured


class TelemetryEvents:
    """The events of a test, with assertions about them.

    Iteration yields the events as dictionaries, in order, and `len()` counts them.

    Args:
        captured: the captured events.

    Example:
        >>> from telemetry_kit import capture_events, configure, track_role_event
        >>> from telemetry_kit.integrations.pytest import TelemetryEvents
        >>> with configure(app="acme", agents=["planner"]), capture_events() as captured:
        ...     record = track_role_event("agent.invoked", agent="planner", context={"x": 1})
        >>> events = TelemetryEvents(captured)
        >>> events.assert_sequence("agent.invoked")
        >>> events.one("agent.invoked", agent="planner")["source"], len(events)
        ('api', 1)
        >>> events.dropped, events.undeclared
        ([('agent.invoked', 'context.x')], [])
    """

    def __init__(self, captured: Captured) -> None:
        self._captured = captured

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._captured.events)

    def __len__(self) -> int:
        return len(self._captured.lines)

    @property
    def lines(self) -> list[bytes]:
        """The lines as the log would contain them."""
        return list(self._captured.lines)

    @property
    def dropped(self) -> list[tuple[str, str]]:
        """The values that were left out: pairs of event type and key."""
        return list(self._captured.dropped)

    @property
    def notes(self) -> list[str]:
        """What keeps the program, or one of its functions, from recording outside of tests."""
        return [*self._captured.notes, *_not_called()]

    @property
    def undeclared(self) -> list[tuple[str, str]]:
        """The undeclared names that became pseudonyms: pairs of field and name."""
        return list(self._captured.undeclared)

    @property
    def types(self) -> list[str]:
        """The event types, in order."""
        return [event["event_type"] for event in self]

    def clear(self) -> None:
        """Delete the events so far."""
        for found in (self._captured.lines, self._captured.dropped, self._captured.undeclared):
            found.clear()

    def one(self, event: str, **fields: object) -> dict[str, Any]:
        """Return the only event of this type with these fields.

        Raises:
            AssertionError: no event matches, or several do.
        """
        found = [
            e
            for e in self
            if e["event_type"] == event and all(e.get(k) == v for k, v in fields.items())
        ]
        asked = ", ".join([repr(str(event)), *(f"{k}={v!r}" for k, v in fields.items())])
        _check(len(found) == 1, f"{len(found)} events match {asked}\n{self.tree()}")
        return found[0]

    def assert_sequence(self, *events: str) -> None:
        """Check that exactly these event types were recorded, in this order."""
        expected = [str(event) for event in events]
        same = self.types == expected
        _check(same, f"expected {expected}\nrecorded {self.types}\n{self.tree()}")

    def assert_tree(self, path: str) -> None:
        """Check that spans contain each other, as in `"command(build) > agent(reviewer)"`."""
        # Split with the spaces, because the label of a hand-off is "handoff(a->b)".
        wanted = [label.strip() for label in path.split(" > ")]
        nodes = list(self._nodes().values())
        found = any(_contains(nodes, node, wanted) for node in nodes)
        _check(found, f"no {path!r} among\n{self.tree()}")

    def assert_private(self, *secrets: str) -> None:
        """Check that no line contains any of these texts, plain or encoded.

        Raises:
            AssertionError: a line contains one.
            ValueError: a text has fewer than 4 characters, so that chance could produce it.
        """
        # deferred: only this assertion needs them
        from telemetry_kit.verification.machine_secrets import MIN_CHARS, Secret
        from telemetry_kit.verification.search import Search

        for text in secrets:
            if len(text) < MIN_CHARS:
                raise ValueError(f"a secret needs {MIN_CHARS} characters or more, not {len(text)}")
        wanted = [Secret("secret", text) for text in secrets]
        for number, line in enumerate(self.lines, 1):
            # One search for each line: all lines together could use up its budget of bytes.
            for found in Search(wanted, whole_words=False).find(line):
                length = len(found.text)
                _check(False, f"secret of {length} characters found in line {number}")

    def tree(self) -> str:
        """Return the events as an indented tree of spans, for messages."""
        nodes = self._nodes()
        lines: list[str] = []

        def show(node: _Node, depth: int) -> None:
            lines.append("  " * depth + node.label + (f" [{node.end}]" if node.end else ""))
            for child in nodes.values():
                if child.parent == node.span and node.span is not None:
                    show(child, depth + 1)

        for node in nodes.values():
            if node.parent not in nodes:
                show(node, 0)
        return "\n".join(lines or ["(nothing was recorded)", *_not_called()])

    def _nodes(self) -> dict[object, _Node]:
        nodes: dict[object, _Node] = {}
        for number, event in enumerate(self):
            key = event.get("span_id") or number
            if key in nodes:
                nodes[key].end = event.get("outcome", "")
            else:
                nodes[key] = _Node(event)
        return nodes


class _Node:
    def __init__(self, event: dict[str, Any]) -> None:
        kind = event["event_type"].partition(".")[0]
        name = event.get(kind, "")
        if kind == "handoff":
            name = f"{event.get('source_agent', '?')}->{event.get('target_agent', '?')}"
        self.label = f"{kind}({name})"
        self.span = event.get("span_id")
        self.parent = event.get("parent_id")
        self.end = event.get("outcome", "")


def _contains(nodes: list[_Node], node: _Node, wanted: list[str]) -> bool:
    if node.label != wanted[0]:
        return False
    inside = [n for n in nodes if n.parent == node.span and node.span is not None]
    return len(wanted) == 1 or any(_contains(nodes, child, wanted[1:]) for child in inside)


def _check(holds: bool, message: str) -> None:
    # Not an assert statement: pytest rewrites those of a plugin, and indents the tree.
    if not holds:
        raise AssertionError(message)


_NOTES = pytest.StashKey[set[str]]()
_CAPTURED = pytest.StashKey["Captured"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--telemetry-record`."""
    parser.getgroup("telemetry_kit").addoption(
        "--telemetry-record",
        action="store_true",
        help="Record the events of every test into memory, as if the user had granted consent.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Record every test if the option is given."""
    if config.getoption("--telemetry-record"):
        config.pluginmanager.register(RecordEveryTest())


class RecordEveryTest:
    """Run every test, with its fixtures, as it runs after a user has granted consent.

    The events go into memory. The report of a failed test shows them as a tree.
    """

    def pytest_report_header(self) -> str:
        """Say so at the start of the run."""
        return "telemetry_kit: every test records into memory"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Record from the setup of a test to the end of its teardown."""
        from telemetry_kit.testing import capture_events  # deferred: only for this option

        with capture_events() as item.stash[_CAPTURED]:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Add the events so far to the report of the test."""
        from telemetry_kit import settings  # deferred: only for this option
        from telemetry_kit.paths import NO_APP  # deferred: only for this option

        try:
            return (yield)
        finally:
            tree = TelemetryEvents(item.stash[_CAPTURED]).tree()
            item.add_report_section("call", "telemetry events", tree)
            notes = item.config.stash.setdefault(_NOTES, set())
            # The program may name itself in a fixture or in the test.
            if not settings.current().app:
                notes.add(NO_APP)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look once for functions whose framework calls them without their decorator."""
    notes = session.config.stash.get(_NOTES, None)
    if notes is None:
        return  # no test has recorded
    notes.update(_not_called())
    # What pytest-xdist sends from a worker.
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["telemetry_kit"] = sorted(notes)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the notes of a worker of pytest-xdist."""
    notes = getattr(node, "workeroutput", {}).get("telemetry_kit", ())
    node.config.stash.setdefault(_NOTES, set()).update(notes)


def _not_called() -> list[str]:
    # deferred: only where a test has recorded
    from telemetry_kit.instrumentation.registrations import not_called

    return not_called()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print at the end of a run why the program would record nothing for its users."""
    for note in sorted(terminalreporter.config.stash.get(_NOTES, ())):
        terminalreporter.write_line(f"telemetry_kit: {note}")


@pytest.fixture
def telemetry_events(request: pytest.FixtureRequest) -> Iterator[TelemetryEvents]:
    """The events of this test, from the real pipeline, with counted ids and a ticking clock.

    Ids count from 1. The clock starts on 2026-01-01 and advances by a millisecond at each use.
    Internal errors of the library are raised.
    """
    # A test run without this fixture loads none of these.
    from telemetry_kit.consent.cache import override_runtime  # deferred: so
    from telemetry_kit.testing import capture_events  # deferred: so

    ticks, ids = itertools.count(), itertools.count(1)
    # 1767225600 is 2026-01-01T00:00:00Z.
    other = override_runtime(
        {},
        lambda: next(ticks) / 1000,
        lambda: 1767225600.0,
        lambda size: next(ids).to_bytes(size, "big"),
    )
    with other, capture_events() as captured:
        yield TelemetryEvents(captured)
    request.config.stash.setdefault(_NOTES, set()).update(captured.notes)
