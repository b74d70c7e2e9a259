"""Sessions as trees: which call ran inside which, its result and its duration.

The caller supplies the events.
"""

from __future__ import annotations

from collections.abc import Iterator

from telemetry_kit.cli.tables import can_draw, fold
from telemetry_kit.insights.answers import span
from telemetry_kit.storage.parser import Event

_DRAWN = ("├─ ", "└─ ", "│  ")
_PLAIN = ("|- ", "`- ", "|  ")
_MAX_DEPTH = 60
_MIN_TEXT = 12
_MAX_LINES = 200


class Node:
    """One span, or one event that is no span.

    Args:
        first: its first event.
        last: its last event; the same where there is only one.
        inside: what ran inside of it.
        events: how many events it is, without those inside.
    """

    __slots__ = ("events", "first", "inside", "last")

    def __init__(self, first: Event, last: Event) -> None:
        self.first = first
        self.last = last
        self.events = 1
        self.inside: list[Node] = []


def build_tree(events: list[Event]) -> list[Node]:
    """The trees in the events of one session, in the order in which they begin.

    Args:
        events: oldest first; whose parent is not among them stands at the root.
    """
    spans: dict[str, Node] = {}
    nodes: list[Node] = []
    for event in events:
        key = event.get("span_id")
        known = spans.get(key) if key is not None else None
        if known is not None:
            known.last = event
            known.events += 1
            continue
        node = Node(event, event)
        if key is not None:
            spans[key] = node
        nodes.append(node)
    roots = []
    for node in nodes:
        parent = spans.get(node.first.get("parent_id", ""))
        if parent is None or parent is node or _is_inside(parent, node):
            roots.append(node)
        else:
            parent.inside.append(node)
    return roots


def _is_inside(node: Node, tree: Node) -> bool:
    """Whether a node is somewhere in a tree: damaged lines may name each other as parents."""
    left = [tree]
    while left:
        at = left.pop()
        if at is node:
            return True
        left += at.inside
    return False


def render_tree(session: str, events: list[Event], max_width: int) -> Iterator[str]:
    """One session as lines of at most `max_width` columns; the rest of a very long one is counted.

    Args:
        session: its id; empty for events outside of any.
        events: oldest first.
        max_width: columns of the terminal.
    """
    first, last = events[0], events[-1]
    days = sorted({first["timestamp"][:10], last["timestamp"][:10]})
    title = f"session {session}" if session else "outside of sessions"
    count = f"{len(events):,} event{'s' if len(events) > 1 else ''}"
    roles = dict.fromkeys(e["role"] for e in events if "role" in e)
    head = "  ".join([title, ", ".join(roles), " to ".join(days), count])
    yield from fold(head, max_width, "", "  ")
    # Not by recursion: damaged lines may nest as deep as they like.
    left = [(node, "", at == 0) for at, node in enumerate(reversed(build_tree(events)))]
    fork, end, rail = _DRAWN if can_draw() else _PLAIN
    shown = lines = 0
    while left:
        if lines >= _MAX_LINES:
            more = len(events) - shown
            told = f"and {more:,} more event{'s' if more > 1 else ''}: see view --json"
            yield from fold(told, max_width, "", "  ")
            return
        node, lead, is_last = left.pop()
        below = lead + ("   " if is_last else rail)
        shown += node.events
        for line in fold(_said(node), max_width, lead + (end if is_last else fork), below):
            lines += 1
            yield line
        if len(below) > 3 * _MAX_DEPTH or len(below) > max_width - _MIN_TEXT:
            below = lead  # no deeper than there is space
        left += [(inner, below, at == 0) for at, inner in enumerate(reversed(node.inside))]


def _said(node: Node) -> str:
    first, last = node.first, node.last
    kind, _, what = first["event_type"].partition(".")
    if kind == "handoff":
        name = f"{first.get('source_agent', '?')} -> {first.get('target_agent', '?')}"
    elif kind == "role":
        before = f" after {first['previous_role']}" if "previous_role" in first else ""
        name = f"{first.get('role', '?')} {what}{before}"
    else:
        name = str(first.get(kind, "?"))
    parts = [f"{'hand-off' if kind == 'handoff' else kind} {name}"]
    ended = last["event_type"].rpartition(".")[2]
    if ended in ("completed", "failed"):
        parts.append(str(last.get("outcome", ended)))
    elif kind != "role":
        parts.append("not ended")
    parts += [str(last["error_type"])] if "error_type" in last else []
    parts += [span(last["duration_ms"])] if "duration_ms" in last else []
    return "  ".join(parts)
