"""`telemetry-kit find TEXT`: search the events for a text, in plain text or as a pseudonym.

The text itself is never printed.
"""

from __future__ import annotations

import json
import sys

from telemetry_kit.cli.output import USAGE, CommandError, counted, info, safe
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes
from telemetry_kit.verification.lookup import FORMS, Lookup, Matches

STDIN = "-"


def run(project: str | None, text: str, as_json: bool) -> None:
    """Print how many events contain a text, and of which types.

    Raises:
        CommandError: the text is empty, or a file could not be read.
    """
    found = Lookup(changes.paths_of(project), read_text(text)).count()
    if as_json:
        print(json.dumps(to_dict(found)))
    else:
        for line in lines(found):
            print_folded(line, "", 4)
        for line in limits(found):
            info(line)
        info(f"Forms searched for: {', '.join(FORMS)}.")
    if found.unread:
        raise CommandError(f"incomplete: {'; '.join(map(safe, found.unread))}")


def read_text(text: str) -> str:
    """Return the text; for a dash, read it from stdin, so that no shell history contains it.

    Raises:
        CommandError: it is empty.
    """
    if text == STDIN:
        text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise CommandError("the text is empty: write a text, or - for stdin", USAGE)
    return text


def lines(found: Matches) -> list[str]:
    """Return the result in words."""
    if not found.events:
        where = "in the readable part" if found.unread else "stored"
        return [f"Not {where}: no event contains it, in plain text or as a pseudonym."]
    types = ", ".join(f"{name} {count}" for name, count in sorted(found.types.items()))
    sentences = [f"In {counted(found.events, 'event')}: {types}."]
    for title, counts in (("in plain text", found.plain), ("as pseudonym", found.pseudonyms)):
        sentences += [
            f"  {title:<13}  {name:<16} {counted(count, 'event')}"
            for name, count in sorted(counts.items())
        ]
    return sentences


def limits(found: Matches) -> list[str]:
    """Return what the search cannot know, in words."""
    sentences = []
    if found.parts:
        sentences.append(f"In {counted(found.parts, 'more event')} it is a part of a longer text.")
    if found.is_declared:
        sentences.append("The tool has declared this name: its events store it in plain text.")
    if found.other_keys:
        was = "was" if found.other_keys == 1 else "were"
        sentences.append(
            f"{counted(found.other_keys, 'event')} {was} recorded with other keys, before a "
            "rotation or in a folder of another name. "
            "Their pseudonyms cannot be compared with the text."
        )
    return sentences


def to_dict(found: Matches) -> dict[str, object]:
    """Return the result as data, for `--json`."""
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
