"""`telemetry-kit find TEXT`: search the events for a text, in plain text or as a pseudonym.

A text itself is never printed.
"""

from __future__ import annotations

import json
import sys

from telemetry_kit.cli.output import USAGE, CommandError, counted, info, safe
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes
from telemetry_kit.verification.lookup import FORMS, SPELLINGS, Lookup, Matches

STDIN = "-"
MAX_STDIN_BYTES = 1 << 20
MAX_LINES = 1_000
SPELLED = f"Spellings searched for: {', '.join(SPELLINGS)}."


def run(project: str | None, text: str, as_json: bool) -> None:
    """Print how many events contain a text, and of which types.

    Raises:
        CommandError: the text is empty, or a file could not be read.
    """
    found = Lookup(changes.paths_of(project), read_texts(text)).count()
    if as_json:
        print(json.dumps(to_dict(found)))
    else:
        for line in lines(found):
            print_folded(line, "", 4)
        for line in limits(found):
            info(line)
        info(f"Forms searched for: {', '.join(FORMS)}.")
        info(SPELLED)
    if found.unread:
        raise CommandError(f"incomplete: {'; '.join(map(safe, found.unread))}")


def read_texts(text: str) -> dict[int, str]:
    """Return the text; for a dash, each line of stdin, so that no shell history contains it.

    Returns:
        The texts, by the number of their line. Blank lines are left out.

    Raises:
        CommandError: there is none, or there are too many.
    """
    given = [text]
    if text == STDIN:
        given = [line.removesuffix("\r") for line in read_stdin().split("\n")]
    found = {number: line for number, line in enumerate(given, 1) if line.strip()}
    if not found:
        raise CommandError("the text is empty: write a text, or - for stdin", USAGE)
    if len(found) > MAX_LINES:
        problem = f"stdin has more than {MAX_LINES:,} lines"
        raise CommandError(f"{problem}: search for them in several runs", USAGE)
    return found


def read_stdin() -> str:
    """Return one line of a terminal, or all of another stdin.

    Raises:
        CommandError: it is too long.
    """
    if sys.stdin is None:
        return ""
    if sys.stdin.isatty():
        return sys.stdin.readline()
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise CommandError("stdin has more than 1 MiB: search for it in several runs", USAGE)
    return data.decode("utf-8-sig", "surrogateescape")


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
    if len(found.of_lines) > 1:
        sentences += [
            f"  line {number:<8}  {counted(of_line.events, 'event')}"
            for number, of_line in found.of_lines.items()
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


def counts_of(found: Matches) -> dict[str, object]:
    """Return the counts of all texts, or of one line of stdin, for `--json`."""
    return {
        "events": found.events,
        "types": dict(sorted(found.types.items())),
        "in_clear": dict(sorted(found.plain.items())),
        "as_pseudonym": dict(sorted(found.pseudonyms.items())),
        "part_of_longer_text": found.parts,
        "declared": found.is_declared,
    }


def to_dict(found: Matches) -> dict[str, object]:
    """Return the result as data, for `--json`."""
    return {
        **counts_of(found),
        "of_retired_keys": found.other_keys,
        "unread": found.unread,
        "forms_looked_for": list(FORMS),
        "spellings_looked_for": list(SPELLINGS),
        "lines": [
            {"line": number, **counts_of(of_line)} for number, of_line in found.of_lines.items()
        ],
    }
