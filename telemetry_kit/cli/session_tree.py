"""Sessions as trees: which call ran inside which, with results and durations."""

from __future__ import annotations

from collections.abc import Iterator

from telemetry_kit._units import counted, dates, span
from telemetry_kit.cli.tables import can_draw, fold
from telemetry_kit.storage.parser import Event

BRANCHES = ("├─ ", "└─ ", "│  ")
ASCII_BRANCHES = ("|- ", "`- ", "|  ")
MAX_DEPTH = 60
MIN_TEXT = 12
MAX_LINES = 200


class Node:
    """One span, or one event outside of spans.

    Args:
        event: its first event.
    """

    __slots__ = ("children", "events", "first", "last", "parent")

    def __init__(self, event: Event) -> None:
        self.first = self.last = event
        self.events = 0
        self.parent: Node | None = None
        self.children: list[Node] = []


def build_tree(events: list[Event]) -> list[Node]:
    """Build the trees of one session, in the order in which they begin.

    Args:
        events: oldest first; a span whose parent is missing becomes a root.
    """
    nodes: dict[object, Node] = {}
    for number, event in enumerate(events):
        node = nodes.setdefault(event.get("span_id", number), Node(event))
        node.last = event
        node.events += 1
    roots = []
    for node in nodes.values():
        parent = ancestor = nodes.get(node.first.get("parent_id", ""))
        # Damaged events may name each other as parents.
        while ancestor is not None and ancestor is not node:
            ancestor = ancestor.parent
        if parent is None or ancestor is node:
            roots.append(node)
        else:
            node.parent = parent
            parent.children.append(node)
    return roots


def render_tree(session: str, events: list[Event], max_width: int) -> Iterator[str]:
    """Draw one session; of a very long one, only the number of further events.

    Args:
        session: its id; empty for events outside of sessions.
        events: oldest first.
        max_width: columns of the terminal.
    """
    days = dates(*sorted(event["timestamp"][:10] for event in (events[0], events[-1])))
    title = f"session {session}" if session else "outside of sessions"
    roles = dict.fromkeys(e["role"] for e in events if "role" in e)
    parts = [title, ", ".join(roles), days, counted(len(events), "event")]
    yield from fold("  ".join(filter(None, parts)), max_width, "", "  ")
    # Without recursion: damaged events may be nested to any depth.
    left = [(node, "", at == 0) for at, node in enumerate(reversed(build_tree(events)))]
    fork, end, rail = BRANCHES if can_draw() else ASCII_BRANCHES
    shown = lines = 0
    while left:
        if lines >= MAX_LINES:
            more = counted(len(events) - shown, "more event")
            yield from fold(f"and {more}: see view --json", max_width, "", "  ")
            return
        node, lead, is_last = left.pop()
        below = lead + ("   " if is_last else rail)
        shown += node.events
        for line in fold(describe(node), max_width, lead + (end if is_last else fork), below):
            lines += 1
            yield line
        if len(below) > 3 * MAX_DEPTH or len(below) > max_width - MIN_TEXT:
            below = lead  # the terminal has no space for another level
        left += [(child, below, at == 0) for at, child in enumerate(reversed(node.children))]


def describe(node: Node) -> str:
    """Return the text of one node: kind, name, outcome, error and duration."""
    first, last = node.first, node.last
    kind, _, action = first["event_type"].partition(".")
    if kind == "handoff":
        name = f"{first.get('source_agent', '?')} -> {first.get('target_agent', '?')}"
    elif kind == "role":
        before = f" after {first['previous_role']}" if "previous_role" in first else ""
        name = f"{first.get('role', '?')} {action}{before}"
    else:
        name = str(first.get(kind, "?"))
    parts = [f"{'hand-off' if kind == 'handoff' else kind} {name}"]
    result = last["event_type"].rpartition(".")[2]
    if "span_id" not in first:
        # A single event: without a span, nothing is known about its other end.
        parts += [] if kind == "role" else [result]
        parts += [str(last["outcome"])] if "outcome" in last else []
    elif result in ("completed", "failed"):
        parts.append(str(last.get("outcome", result)))
    elif kind != "role":
        parts.append("not ended")
    parts += [str(last["error_type"])] if "error_type" in last else []
    parts += [span(last["duration_ms"])] if "duration_ms" in last else []
    return "  ".join(parts)
