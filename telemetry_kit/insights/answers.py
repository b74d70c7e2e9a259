"""The questions of the catalog, each with its present answer in one sentence.

The numbers come from `insights.metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from telemetry_kit._units import counted, percent, shares, span
from telemetry_kit.insights.metrics import Metrics
from telemetry_kit.schema import catalog

# Names with their counts, the largest count first.
Counts = list[tuple[str, int]]

NO_ANSWER = "Nothing was recorded yet."
# An answer names this many rows, and the number of the others.
NAMED = 3
_JOINED = re.compile(", | and ")
_BRACKETS = re.compile(r"\([^)]*\)")


def answers(found: Metrics) -> list[Metrics]:
    """Answer each declared question.

    Args:
        found: the result of `metrics()`.

    Returns:
        In the order of the catalog: `question`, `answer`, and the `events` that it is about. The
        last ones are about all events, and have an empty list of them.
    """
    rows: dict[str, Metrics] = {}
    for event in catalog.EVENTS.values():
        row = rows.setdefault(event.question, {"question": event.question, "events": []})
        row["events"].append(event.name)
    for row in rows.values():
        answer = _ANSWERS.get(row["events"][0])
        row["answer"] = (answer(found) if answer else "") or NO_ANSWER
    of_all = [
        {"question": question, "events": [], "answer": answer(found) or NO_ANSWER}
        for question, answer in _OF_ALL_EVENTS
    ]
    return [*rows.values(), *of_all]


# -- parts of a sentence ---------------------------------------------------------------------


def join(parts: list[str], total: int) -> str:
    """Join parts with commas and `and`, or with semicolons if a part has some itself.

    Args:
        parts: the first of them are named.
        total: how many there are.
    """
    parts = parts[:NAMED]
    if total > NAMED:
        parts.append(f"{total - NAMED:,} more")
    if len(parts) == 1:
        return parts[0]
    nested = any(_JOINED.search(_BRACKETS.sub("", part)) for part in parts)
    comma, last = ("; ", "; and ") if nested else (", ", " and ")
    return comma.join(parts[:-1]) + last + parts[-1]


def join_rows(rows: list[Metrics], text_of: Callable[[Metrics], str]) -> str:
    """Describe the first rows, and end the sentence; empty without rows."""
    return join([text_of(row) for row in rows[:NAMED]], len(rows)) + "." if rows else ""


def most_of(counts: Counts, total: int) -> str:
    """Name the largest count, or several equal ones.

    Args:
        counts: at least one.
        total: how many there are, also without a name.
    """
    count = counts[0][1]
    tied = [name for name, n in counts if n == count]
    if len(tied) > 1:
        return f"{join(tied, len(tied))} equally often ({count:,} of {total:,} each)"
    if count >= total:
        return f"only {tied[0]} ({count:,})"
    word = "mostly" if 2 * count > total else "most often"
    return f"{word} {tied[0]} ({count:,} of {total:,})"


def was(count: int) -> str:
    """`was` or `were`."""
    return "was" if count == 1 else "were"


def handoff_of(row: Metrics) -> str:
    """Both agents of a hand-off."""
    return f"{row['source']} -> {row['target']}"


# -- answers, each empty if there are no such events -----------------------------------------


def roles(found: Metrics) -> str:
    """Which roles are selected most?"""
    rows = [row for row in found["roles"] if row["chosen"]]
    percents = shares([row["chosen"] for row in rows])
    rows = [{**row, "percent": text} for row, text in zip(rows, percents, strict=True)]
    return join_rows(rows, lambda r: f"{r['role']} ({r['chosen']:,}, {r['percent']})")


def role_changes(found: Metrics) -> str:
    """How often do people change roles within a session?"""
    types = {row["event"]: row["count"] for row in found["types"]}
    changed, sessions = types.get("role.changed", 0), found["sessions"]
    if not changed and not types.get("role.selected", 0):
        return ""
    text = {0: "Never", 1: "Once"}.get(changed, f"{changed:,} times")
    if sessions:
        text += f", in {counted(sessions, 'session')}"
    pairs = [(f"from {r['from']} to {r['to']}", r["count"]) for r in found["role_changes"]]
    return f"{text}; {most_of(pairs, changed)}." if pairs else f"{text}."


def use_by_role(kind: str, found: Metrics) -> str:
    """Which agents or commands does each role use?"""
    used: dict[str, Counts] = {}
    for row in found[f"role_{kind}s"]:
        used.setdefault(row["role"], []).append((row[kind], row["count"]))
    rows = [{"role": role, "counts": counts} for role, counts in used.items()]

    def text_of(row: Metrics) -> str:
        return f"{row['role']}: {most_of(row['counts'], sum(n for _, n in row['counts']))}"

    return join_rows(rows, text_of)


def commands_by_role(found: Metrics) -> str:
    """Which commands does each role use, also those of another role?"""
    text, crossed = use_by_role("command", found), found["cross_use"]
    if not text or not crossed:
        return text
    total = sum(row["count"] for row in crossed)
    most = most_of([(f"{row['command']} by {row['role']}", row["count"]) for row in crossed], total)
    times = counted(total, "time")
    return f"{text[:-1]}; another role's commands were used {times}, {most}."


def completions(kind: str, found: Metrics) -> str:
    """Which agents, commands or workflows finish, and how long do they take?"""
    rows = [row for row in found[f"{kind}s"] if row["rate"] is not None]
    if not rows:
        return never_ended(kind, found)
    completed = sum(row["completed"] for row in rows)
    ended = completed + sum(row["failed"] for row in rows)

    def text_of(row: Metrics) -> str:
        took = f", half within {span(row['p50_ms'])}" if row["p50_ms"] else ""
        return f"{row[kind]} {percent(row['rate'])}{took}"

    text = (
        f"{completed:,} of {ended:,} that ended {was(completed)} completed "
        f"({percent(completed / ended)}): {join_rows(rows, text_of)}"
    )
    return f"{text} {never_ended(kind, found)}".rstrip()


def never_ended(kind: str, found: Metrics) -> str:
    """Name the commands, agents or workflows that never ended; empty if all did."""
    rows = [row for row in found[f"{kind}s"] if row["spans"]]
    some = sorted((row for row in rows if row["unfinished"]), key=lambda row: -row["unfinished"])
    if not some:
        return ""
    unfinished, spans = (sum(row[key] for row in rows) for key in ("unfinished", "spans"))
    text = f"{unfinished:,} of {spans:,} never ended"
    if len(rows) == 1:
        return f"{text}."
    named = join_rows(some, lambda r: f"{r[kind]} {r['unfinished']:,} of {r['spans']:,}")
    return f"{text}: {named}"


def failures(kind: str, found: Metrics) -> str:
    """Which agents, commands or workflows fail, and with what kind of error?"""
    ended = [row for row in found[f"{kind}s"] if row["rate"] is not None]
    rows = sorted((r for r in ended if r["failed"]), key=lambda r: (-r["failed"], r[kind]))
    unfinished = never_ended(kind, found)
    if ended and not rows:
        return f"None of those that ended failed. {unfinished}".rstrip()
    errors: dict[str, Counts] = {}
    for row in found["errors"]:
        if row["kind"] == kind:
            errors.setdefault(row["name"], []).append((row["error_type"], row["count"]))

    def text_of(row: Metrics) -> str:
        counts = errors.get(row[kind])
        most = f", {most_of(counts, row['failed'])}" if counts else ""
        of = f"{row['completed'] + row['failed']:,}{' that ended' * bool(row['unfinished'])}"
        return f"{row[kind]} {row['failed']:,} of {of}{most}"

    return f"{join_rows(rows, text_of)} {unfinished}".strip()


def handoffs_clicked(found: Metrics) -> str:
    """Are hand-offs followed or ignored?"""
    counts = [(handoff_of(row), row["clicked"]) for row in found["handoffs"] if row["clicked"]]
    if not counts:
        return ""
    clicked = sum(count for _, count in counts)
    most = most_of(counts, clicked)
    return f"{clicked:,} {was(clicked)} followed, {most}; an ignored hand-off leaves no event."


def handoffs_completed(found: Metrics) -> str:
    """Which followed hand-offs reach the next agent?"""
    rows = [row for row in found["handoffs"] if row["clicked"]]
    if not rows:
        return ""
    clicked = sum(row["clicked"] for row in rows)
    completed = sum(min(row["completed"], row["clicked"]) for row in rows)
    pairs = join_rows(rows, lambda r: f"{handoff_of(r)} {percent(r['rate'])}")
    return f"{completed:,} of {clicked:,} ({percent(completed / clicked)}): {pairs}"


def workflows(found: Metrics) -> str:
    """Which workflows are started?"""
    rows = [row for row in found["workflows"] if row["begun"]]
    return join_rows(rows, lambda r: f"{r['workflow']} ({r['begun']:,})")


def invokers(found: Metrics) -> str:
    """Do people or coding agents run the program?"""
    rows = found["invokers"]
    percents = shares([row["events"] for row in rows])
    rows = [{**row, "percent": text} for row, text in zip(rows, percents, strict=True)]
    return join_rows(rows, lambda r: f"{r['invoker']} ({r['events']:,}, {r['percent']})")


def versions(found: Metrics) -> str:
    """Did commands fail more often since the last release?"""

    def text_of(row: Metrics) -> str:
        ended = row["completed"] + row["failed"]
        if not ended:
            return f"{row['app_version']} no command ended"
        share = percent(row["failed"] / ended)
        return f"{row['app_version']} {row['failed']:,} of {ended:,} ({share})"

    return join_rows(found["versions"], text_of)


# By the first event of the question.
_ANSWERS: dict[str, Callable[[Metrics], str]] = {
    "role.selected": roles,
    "role.changed": role_changes,
    "agent.invoked": partial(use_by_role, "agent"),
    "agent.completed": partial(completions, "agent"),
    "agent.failed": partial(failures, "agent"),
    "handoff.clicked": handoffs_clicked,
    "handoff.completed": handoffs_completed,
    "command.executed": commands_by_role,
    "command.completed": partial(completions, "command"),
    "command.failed": partial(failures, "command"),
    "workflow.started": workflows,
    "workflow.completed": partial(completions, "workflow"),
    "workflow.failed": partial(failures, "workflow"),
}
_OF_ALL_EVENTS: tuple[tuple[str, Callable[[Metrics], str]], ...] = (
    ("Who runs the program: people, or coding agents?", invokers),
    ("Do commands fail more often since the last version of the program?", versions),
)
