"""The pytest plugin: the fixture `telemetry_events` and the option `--telemetry-record`.

Under pytest telemetry is off by itself. Both run the real pipeline into memory, and load it on
first use.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from telemetry_kit.testing import Captured

_OWN_NAME = {"role": "role", "command": "command", "agent": "agent", "workflow": "workflow"}


class TelemetryEvents:
    """What was recorded in a test, with assertions about it.

    Args:
        captured: where the events go.
    """

    def __init__(self, captured: Captured) -> None:
        self._captured = captured

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._captured.events)

    def __len__(self) -> int:
        return len(self._captured.lines)

    @property
    def lines(self) -> list[bytes]:
        """The lines as they would stand in the file."""
        return list(self._captured.lines)

    @property
    def dropped(self) -> list[tuple[str, str]]:
        """What was left out: pairs of event type and key."""
        return list(self._captured.dropped)

    @property
    def notes(self) -> list[str]:
        """What keeps the program, or one of its functions, from recording outside of tests."""
        return [*self._captured.notes, *_not_called()]

    @property
    def undeclared(self) -> list[tuple[str, str]]:
        """Names that became pseudonyms because nothing declares them: pairs of field and name."""
        return list(self._captured.undeclared)

    @property
    def types(self) -> list[str]:
        """The event types, in order."""
        return [event["event_type"] for event in self]

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self._captured.lines.clear()
        self._captured.dropped.clear()
        self._captured.undeclared.clear()

    def one(self, event: str, **fields: object) -> dict[str, Any]:
        """The one event of this type with these fields.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = [
            e
            for e in self
            if e["event_type"] == event and all(e.get(k) == v for k, v in fields.items())
        ]
        asked = ", ".join([repr(str(event)), *(f"{k}={v!r}" for k, v in fields.items())])
        _hold(len(found) == 1, f"{len(found)} events match {asked}\n{self.tree()}")
        return found[0]

    def assert_sequence(self, *events: str) -> None:
        """Exactly these event types were recorded, in this order."""
        expected = [str(event) for event in events]
        same = self.types == expected
        _hold(same, f"expected {expected}\nrecorded {self.types}\n{self.tree()}")

    def assert_tree(self, path: str) -> None:
        """Some span contains the next one, and so on: `"command(build) > agent(reviewer)"`."""
        # With its spaces: a hand-off is labelled "handoff(a->b)".
        wanted = [label.strip() for label in path.split(" > ")]
        nodes = self._nodes()
        found = any(_holds(nodes, node, wanted) for node in nodes)
        _hold(found, f"no {path!r} among\n{self.tree()}")

    def assert_private(self, *secrets: str) -> None:
        """None of these texts is in any line, plain or encoded.

        Raises:
            AssertionError: one is.
            ValueError: one has fewer than 4 characters, so that it could stand there by chance.
        """
        # deferred: only for this one
        from telemetry_kit.verification.encodings import MIN_CHARS, encodings

        for secret in secrets:
            if len(secret) < MIN_CHARS:
                raise ValueError(
                    f"a secret needs {MIN_CHARS} characters or more, not {len(secret)}"
                )
            codes = encodings(secret)
            for number, line in enumerate(self.lines, 1):
                leaked = any(code in line for code in codes)
                _hold(not leaked, f"secret of {len(secret)} characters found in line {number}")

    def tree(self) -> str:
        """The events as an indented tree of spans, for messages."""
        nodes = self._nodes()
        lines: list[str] = []

        def show(node: _Node, depth: int) -> None:
            lines.append("  " * depth + node.label + (f" [{node.end}]" if node.end else ""))
            for child in nodes:
                if child.parent == node.span and node.span is not None:
                    show(child, depth + 1)

        spans = {node.span for node in nodes}
        for node in nodes:
            if node.parent is None or node.parent not in spans:
                show(node, 0)
        return "\n".join(lines or ["(nothing was recorded)", *_not_called()])

    def _nodes(self) -> list[_Node]:
        nodes: dict[str, _Node] = {}
        for number, event in enumerate(self):
            span = event.get("span_id")
            node = nodes.get(span or f"event {number}")
            if node is None:
                nodes[span or f"event {number}"] = _Node(event)
            else:
                node.end = event.get("outcome", "")
        return list(nodes.values())


def _hold(held: bool, message: str) -> None:
    # No assert statement: pytest rewrites those of a plugin, and indents the tree away.
    if not held:
        raise AssertionError(message)


class _Node:
    def __init__(self, event: dict[str, Any]) -> None:
        family = event["event_type"].partition(".")[0]
        name = event.get(_OWN_NAME.get(family, ""), "")
        if family == "handoff":
            name = f"{event.get('source_agent', '?')}->{event.get('target_agent', '?')}"
        self.label = f"{family}({name})"
        self.span = event.get("span_id")
        self.parent = event.get("parent_id")
        self.end = event.get("outcome", "")


def _holds(nodes: list[_Node], node: _Node, wanted: list[str]) -> bool:
    if node.label != wanted[0]:
        return False
    if len(wanted) == 1:
        return True
    inside = [n for n in nodes if n.parent == node.span and node.span is not None]
    return any(_holds(nodes, child, wanted[1:]) for child in inside)


def _counter() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


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
    """Say at the end of a run what keeps the program from recording anything for its users."""
    notes: set[str] = terminalreporter.config.stash.get(_NOTES, set())
    for note in sorted(notes):
        terminalreporter.write_line(f"telemetry_kit: {note}")


@pytest.fixture
def telemetry_events(request: pytest.FixtureRequest) -> Iterator[TelemetryEvents]:
    """The events of this test: the real chain into memory, with counted ids and a ticking clock.

    Ids count from 1; the clock starts on 2026-01-01 and each look at it takes a millisecond.
    Internal errors of the library are raised.
    """
    # A test session without this fixture pays for nothing.
    from telemetry_kit._runtime import World  # deferred: so
    from telemetry_kit.consent.cache import Elsewhere  # deferred: so
    from telemetry_kit.testing import capture_events  # deferred: so

    ticks = itertools.count()
    # 1767225600 is 2026-01-01T00:00:00Z.
    other = World({}, lambda: next(ticks) / 1000, lambda: 1767225600.0, _counter())
    with Elsewhere(other), capture_events() as captured:
        yield TelemetryEvents(captured)
    request.config.stash.setdefault(_NOTES, set()).update(captured.notes)
