"""`telemetry-kit find TEXT`: is this text in my data, in plain text or as a pseudonym?

The text itself is never printed.
"""

from __future__ import annotations

import json
import sys

from telemetry_kit.cli.output import USAGE, CommandError, info, print_line, safe
from telemetry_kit.consent import changes
from telemetry_kit.verification.lookup import FORMS, Lookup, Matches

STDIN = "-"


def run(project: str | None, text: str, as_json: bool) -> None:
    """Say in how many events a text is, and of which kind.

    Raises:
        CommandError: there is no text to look for, or not everything could be read.
    """
    found = Lookup(changes.paths_of(project), given(text)).count()
    if as_json:
        print_line(json.dumps(_as_json(found)))
    else:
        for line in lines(found):
            print_line(line)
        for line in limits(found):
            info(line)
        info(f"Forms looked for: {', '.join(FORMS)}.")
    if found.unread:
        raise CommandError(f"incomplete: {'; '.join(map(safe, found.unread))}")


def given(text: str) -> str:
    """The text, from stdin where a dash stands for it, so that no shell history keeps it.

    Raises:
        CommandError: there is none.
    """
    if text == STDIN:
        text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise CommandError("which text? Nothing was looked for", USAGE)
    return text


def lines(found: Matches) -> list[str]:
    """What was found, in words."""
    if not found.events:
        where = "what could be read" if found.unread else "the data"
        return [f"Not in {where}: no event holds it, in clear or as a pseudonym."]
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(found.types.items()))
    told = [f"In {found.events} events: {kinds}."]
    told += [f"  in clear      {name:<16} {n} events" for name, n in sorted(found.plain.items())]
    told += [
        f"  as pseudonym  {name:<16} {n} events" for name, n in sorted(found.pseudonyms.items())
    ]
    return told


def limits(found: Matches) -> list[str]:
    """What cannot be said, in words."""
    told = []
    if found.parts:
        told.append(f"In {found.parts} more events it is a part of a longer text.")
    if found.is_declared:
        told.append("The tool has declared this name: its events hold it in clear.")
    if found.other_keys:
        told.append(
            f"{_events(found.other_keys)} made with other keys, before a rotation or in a folder "
            "of another name: whether it is in them as a pseudonym, nobody can tell."
        )
    return told


def _events(count: int) -> str:
    return "1 event was" if count == 1 else f"{count:,} events were"


def _as_json(found: Matches) -> dict[str, object]:
    return {
        "events": found.events,
        "types": dict(sorted(found.types.items())),
        "in_clear": dict(sorted(found.plain.items())),
        "as_pseudonym": dict(sorted(found.pseudonyms.items())),
        "part_of_longer_text": found.parts,
        "declared": found.is_declared,
        "of_retired_keys": found.other_keys,
        "unread": found.unread,
        "forms_looked_for": list(FORMS),
    }
