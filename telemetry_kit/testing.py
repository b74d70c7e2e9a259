"""`capture_events()`: the real pipeline, with memory instead of a disk at its end.

The assertions are the test's own.
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
        """Take a line, as the journal would."""
        self.lines.append(line)
        return True

    def __enter__(self) -> Self:
        if not settings.current().app:
            self.notes.append(NO_APP)
        home = ProjectPaths(settings.current().app or "capture", _NOWHERE, _NOWHERE, _NOWHERE)
        decision = Decision(True, Rule("test", "capture_events", None, GRANT, "captured"))
        cached = cache.CachedDecision(
            home, decision, cache.Switches({}, ""), settings.generation(), 0.0
        )
        key = keys.Key(b"telemetry_kit capture_events key", 1)
        place = recorder.Recorder(cached, self, key, DeclaredNames(None, repr))
        place.dropped = self.dropped
        place.undeclared = self.undeclared
        place.sequence = itertools.count()
        self._recorders.append(place)
        runtime.captured += 1
        runtime.off_until = 0.0
        recorder.captures.append(place)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._recorders:
            return
        recorder.captures.remove(self._recorders.pop())
        runtime.captured -= 1


def capture_events() -> Captured:
    """Run a block with every event of the process going into memory, whatever consent says.

    The steps of the chain are the real ones; nothing is written to disk. Blocks nest: the
    innermost one gets the events, those of other threads included.

    Returns:
        A context manager; `.events` are the records, `.lines` their bytes, `.dropped` pairs of
        event type and key of what was left out, `.undeclared` pairs of field and name that became
        pseudonyms: those given to a decorator inside a running function, for instance, and
        `.notes` what would keep the program from recording anything outside of tests.
    """
    return Captured()
