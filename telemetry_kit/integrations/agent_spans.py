"""Agent spans of other tracing libraries: one pair of events for each, under the span around it.

A tracing library reports the start and the end of its spans, perhaps each in another thread, in any
order, and to two processors. A span that the library drops is forgotten here as well.
"""

from __future__ import annotations

import os
from time import time_ns
from weakref import ref

from telemetry_kit._runtime import load, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from telemetry_kit.context import Scope
    from telemetry_kit.instrumentation.spans import Span

# The ids of so many ended spans are kept, by which a second processor recognises them.
_ENDED = 256


class Followed:
    """A span of the host: that of an agent, or one inside of it.

    Args:
        span: a weak reference to it, which forgets this object when the host drops the span.
        inside: the scope of the agent around it; of an agent, later its own.
    """

    __slots__ = ("inside", "opened", "span", "unopened")

    def __init__(self, span: ref[object], inside: Scope | None) -> None:
        self.span = span
        self.inside = inside
        self.opened: Span | None = None
        # Several threads and processors may try to open it. The one that takes the item does.
        self.unopened = [True]


class AgentSpans:
    """The spans of one tracing library that are agents, or inside of one.

    Args:
        source: the `source` of their events, one of `catalog.SOURCES`.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.followed: dict[Hashable, Followed] = {}
        self._ended: dict[Hashable, object] = {}
        self._ended_before: dict[Hashable, object] = {}
        # When this process was forked, in nanoseconds since the epoch.
        self.forked_at = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._note_fork)

    def _note_fork(self) -> None:
        self.forked_at = time_ns()

    def _follow(self, span: object, key: Hashable, inside: Scope | None) -> Followed:
        found = self.followed.get(key)
        if found is None:
            reference = ref(span, lambda _: self.followed.pop(key, None))
            found = self.followed.setdefault(key, Followed(reference, inside))
        return found

    def _inside(self, parent: Hashable) -> Scope | None:
        around = self.followed.get(parent)
        return None if around is None else around.inside

    def follow(self, span: object, key: Hashable, parent: Hashable) -> None:
        """Follow a span that is no agent, where it is inside of one.

        Args:
            span: the span.
            key: its id.
            parent: the id of the span around it.
        """
        around = self.followed.get(parent)
        if around is not None:
            self._follow(span, key, around.inside)

    def open(
        self,
        span: object,
        key: Hashable,
        parent: Hashable,
        event: str,
        names: Mapping[str, object],
    ) -> None:
        """Record the start of an agent, once.

        Args:
            span: the span of the agent.
            key: its id.
            parent: the id of the span around it.
            event: the first event of a pair.
            names: its names; None for one that the span does not have.
        """
        if runtime.is_off():
            return
        inside = self._inside(parent)
        entry = self._follow(span, key, inside)
        try:
            entry.unopened.pop()
        except IndexError:
            return
        entry.opened = self._open(event, names, inside)
        if entry.opened is not None:
            entry.inside = entry.opened.scope

    def close(self, key: Hashable, failed: bool, seconds: float | None) -> bool:
        """Record the end of an agent, once.

        Args:
            key: the id of its span.
            failed: whether it failed.
            seconds: how long it took; None for the time since its start was recorded.

        Returns:
            Whether its start was recorded before.
        """
        entry = self.followed.get(key)
        if entry is None:
            return False
        opened = entry.opened
        if opened is not None and self._is_first(key):
            opened.finish(None, failed, seconds)
        self.followed.pop(key, None)
        return opened is not None

    def record(
        self,
        key: Hashable,
        parent: Hashable,
        event: str,
        names: Mapping[str, object],
        failed: bool,
        seconds: float | None,
    ) -> None:
        """Record both events of a pair at its end, once.

        Args:
            key: the id of its span.
            parent: the id of the span around it.
            event: the first event of the pair.
            names: its names; None for one that the span does not have.
            failed: whether it failed.
            seconds: how long it took.
        """
        if self._is_first(key):
            opened = self._open(event, names, self._inside(parent))
            if opened is not None:
                opened.finish(None, failed, seconds)

    def _open(self, event: str, names: Mapping[str, object], inside: Scope | None) -> Span | None:
        if runtime.is_off():
            return None
        # deferred: only where the user may have granted consent
        tracks = load("telemetry_kit.instrumentation.tracks")
        spans = tracks and (runtime.spans or tracks.load_spans())
        opened: Span | None = None
        if spans is not None:
            opened = spans.open_span(event, names, self.source, inside=inside)
        return opened

    def _is_first(self, key: Hashable) -> bool:
        """Whether the end of a span is reported for the first time."""
        ended, mine = self._ended, object()
        if key in self._ended_before or ended.setdefault(key, mine) is not mine:
            return False
        if len(ended) >= _ENDED:
            self._ended_before, self._ended = ended, {}
        return True


def swallow(error: Exception) -> None:
    """Ignore an internal error in a host program; raise it in a test."""
    errors = load("telemetry_kit.errors")  # deferred: only after an internal error
    if errors is not None:
        errors.swallow(error)
