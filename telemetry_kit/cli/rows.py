"""One event as the cells of a row, and rows as lines that fit the terminal with nothing left out.

Which events these are is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from telemetry_kit.cli.layout import cell_width, pieces, wrapped
from telemetry_kit.cli.output import safe
from telemetry_kit.journal.lines import Event

COLUMNS = ("when", "event", "role", "command", "agent", "outcome", "more")
_MORE = len(COLUMNS) - 1
_GAP = "  "
_MIN_WIDTH = 10
_MIN_MORE_WIDTH = 16


def layout(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """The rows as lines of at most `width` columns, with nothing left out.

    Columns that are empty in every row are not shown. What does not fit goes on below its own
    column; `more` goes to lines of its own where too little room is left for it, and where even
    the columns do not fit, each event becomes a block.
    """
    shown = [[safe(cell) for cell in row] for row in rows]
    used = [at for at in range(len(COLUMNS)) if any(row[at] for row in shown)]
    natural = {at: max(len(COLUMNS[at]), *(cell_width(row[at]) for row in shown)) for at in used}
    more = natural.pop(_MORE, 0)
    fitted = _fit(natural, width)
    if fitted is None:
        for row in shown:
            yield from _block(row, width)
        return
    room = width - sum(fitted.values()) - len(_GAP) * len(fitted)
    beside = 0 < min(more, _MIN_MORE_WIDTH) <= room
    if beside:
        fitted[_MORE] = min(more, room)
    yield from _folded([COLUMNS[at] for at in fitted], fitted)
    yield _GAP.join("-" * size for size in fitted.values())
    for row in shown:
        yield from _folded([row[at] for at in fitted], fitted)
        if not beside and row[_MORE]:
            yield from _indented(row[_MORE], width)


def _fit(natural: dict[int, int], width: int) -> dict[int, int] | None:
    """Widths that fit into a line, the widest columns made narrower; None when none do."""
    sizes = dict(natural)
    while sum(sizes.values()) + len(_GAP) * (len(sizes) - 1) > width:
        widest = max(sizes, key=lambda at: sizes[at])
        if sizes[widest] <= _MIN_WIDTH:
            return None
        sizes[widest] -= 1
    return sizes


def _folded(texts: Sequence[str], sizes: dict[int, int]) -> Iterator[str]:
    columns = [
        list(wrapped(text, size) if at == _MORE else pieces(text, size))
        for text, (at, size) in zip(texts, sizes.items(), strict=True)
    ]
    for line in zip_longest(*columns, fillvalue=""):
        padded = (
            piece + " " * (size - cell_width(piece))
            for piece, size in zip(line, sizes.values(), strict=True)
        )
        yield _GAP.join(padded).rstrip()


def _block(row: Sequence[str], width: int) -> Iterator[str]:
    yield from pieces(f"{row[0]} {row[1]}", width)
    for at in range(2, len(COLUMNS)):
        if row[at]:
            yield from _indented(f"{COLUMNS[at]}: {row[at]}", width)


def _indented(text: str, width: int) -> Iterator[str]:
    return wrapped(text, max(width, _MIN_WIDTH), _GAP, _GAP * 2)


def cells(event: Event, wide: bool = False) -> tuple[str, ...]:
    """One event as the text of its columns.

    Args:
        event: as the reader yields it.
        wide: also ids, sequence, source and key epoch.
    """
    return (
        event["timestamp"].removesuffix("Z").replace("T", " ").removesuffix(" 00:00:00"),
        event["event_type"],
        event.get("role", ""),
        event.get("command", ""),
        event.get("agent", ""),
        event.get("outcome", ""),
        ", ".join((*_others(event), *(_ids(event) if wide else ()))),
    )


def _others(event: Event) -> Iterator[str]:
    if "source_agent" in event or "target_agent" in event:
        yield f"{event.get('source_agent', '?')} -> {event.get('target_agent', '?')}"
    if "previous_role" in event:
        yield f"before: {event['previous_role']}"
    if "workflow" in event:
        yield f"workflow {event['workflow']}"
    if "duration_ms" in event:
        yield f"{event['duration_ms']} ms"
    if "error_type" in event:
        yield str(event["error_type"])
    if "exit_code" in event:
        yield f"exit {event['exit_code']}"
    for name in ("context", "metadata"):
        for key, value in event.get(name, {}).items():
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"
    if "dropped" in event:
        yield f"{event['dropped']} dropped"


_IDS = (
    "event_id",
    "seq",
    "project_id",
    "session_id",
    "span_id",
    "parent_id",
    "source",
    "key_epoch",
    "schema_version",
)


def _ids(event: Event) -> Iterator[str]:
    for name in _IDS:
        if name in event:
            yield f"{name.removesuffix('_id')} {event[name]}"
