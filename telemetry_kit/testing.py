"""`capture_events()`: the real pipeline, writing into memory.

A test makes its own assertions about the events.
"""

from __future__ import annotations

import itertools
import json

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache
from telemetry_kit.consent.policy import GRANT, Decision, Rule
from telemetry_kit.paths import NO_APP, ProjectPaths
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.declared_names import DeclaredNames
from telemetry_kit.recording import recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_NOWHERE = "/dev/null"


class Captured:
    """The events of a `with capture_events() as captured:` block; a context manager."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.dropped: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.undeclared: list[tuple[str, str]] = []
        # One for each time it was entered.
        self._recorders: list[recorder.Recorder] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """The records, in the order they were written."""
        return [json.loads(line) for line in self.lines]

    def append(self, line: bytes) -> bool:
        """Take a line, as the log would."""
        self.lines.append(line)
        return True

    def __enter__(self) -> Self:
        if not settings.current().app:
            self.notes.append(NO_APP)
        paths = ProjectPaths(settings.current().app or "capture", _NOWHERE, _NOWHERE, _NOWHERE)
        decision = Decision(True, Rule("test", "capture_events", None, GRANT, "captured"))
        cached = cache.CachedDecision(
            paths, decision, cache.Switches({}, ""), settings.generation(), 0.0
        )
        key = keys.Key(b"telemetry_kit capture_events key", 1)
        nothing = DeclaredNames(None, repr)
        capture = recorder.Recorder(cached, self, key, nothing, nothing)
        capture.dropped = self.dropped
        capture.undeclared = self.undeclared
        capture.sequence = itertools.count()
        self._recorders.append(capture)
        runtime.captured += 1
        runtime.off_until = 0.0
        recorder.captures.append(capture)
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorders:
            recorder.captures.remove(self._recorders.pop())
            runtime.captured -= 1


def capture_events() -> Captured:
    """Run a block with every event of the process going into memory, with or without consent.

    The processors are the real ones; nothing is written to disk. Blocks can be nested: the
    innermost one gets the events, those of other threads included.

    Returns:
        A context manager. `.events` are the records, `.lines` their bytes. `.dropped` are pairs of
        event type and key of dropped values. `.undeclared` are pairs of field and name that became
        pseudonyms, for instance names given to a decorator inside a running function. `.notes` are
        reasons for which the program would record nothing outside of tests.

    Example:
        >>> from telemetry_kit import capture_events, track_role_event
        >>> with capture_events() as captured:
        ...     record = track_role_event("agent.invoked", agent="planner", context={"x": 1})
        >>> [event["event_type"] for event in captured.events]
        ['agent.invoked']
        >>> captured.dropped, captured.undeclared
        ([('agent.invoked', 'context.x')], [('agent', 'planner')])
    """
    return Captured()
