"""Names as command arguments: the forms in which they are stored, and errors for unknown names."""

from __future__ import annotations

from collections.abc import Iterable

from telemetry_kit.cli.output import USAGE, CommandError, safe
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import declared_names, keys
from telemetry_kit.schema import catalog

MAX_LISTED = 20
MIN_SIMILARITY = 0.6


def declared(paths: ProjectPaths, vocabulary: str) -> frozenset[str]:
    """Return the names that are built in, declared by program, project or user, or were once.

    Args:
        paths: the project's paths.
        vocabulary: one of `catalog.VOCABULARIES`.
    """
    return declared_names.all_declared(paths, vocabulary)


def stored_forms(paths: ProjectPaths, field: str, text: str) -> frozenset[str]:
    """Return the forms in which a name may be stored: plain text and the key's pseudonym.

    Pseudonyms of deleted keys are unknown; `find` reports the number of those events.

    Args:
        paths: the project's paths.
        field: one of `catalog.NAMES`.
        text: the name as the user typed it.

    Raises:
        CommandError: it is empty.
    """
    if not text.strip():
        raise CommandError(f"--{field} {safe(text[:40])!r}: write a name", USAGE)
    return keys.stored_forms(paths, field, text)


def check_choice(option: str, text: str | None, names: Iterable[str]) -> None:
    """Check that a value, if any, is in a closed list.

    Raises:
        CommandError: it is not.
    """
    if text is not None and text not in (known := list(names)):
        raise CommandError(f"{option} {safe(text[:40])!r}: {suggest(text, known)}", USAGE)


def check_known(paths: ProjectPaths, field: str, text: str, present: Iterable[str]) -> None:
    """Check that a name is declared or in some event.

    Args:
        paths: the project's paths.
        field: one of `catalog.NAMES`.
        text: the name as the user typed it.
        present: the names in the events.

    Raises:
        CommandError: the name is unknown; the message suggests the closest one.
    """
    known = {*present, *declared(paths, catalog.NAMES[field])}
    if known.isdisjoint(stored_forms(paths, field, text)):
        problem = f"--{field} {safe(text[:40])!r}: no events of it; {suggest(text, known)}"
        raise CommandError(problem, USAGE)


def suggest(text: str, known: Iterable[str]) -> str:
    """Suggest the closest name, or list the known ones."""
    import difflib  # deferred: 10 ms, and only a mistake needs it

    # Pseudonyms last: a user rarely types one.
    names = sorted(known, key=lambda name: (name.startswith(catalog.PSEUDONYM_PREFIX), name))
    folded = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(text[:100].casefold(), folded, n=1, cutoff=MIN_SIMILARITY)
    if near:
        return f"did you mean {safe(folded[near[0]])!r}?"
    if not names:
        return "there are no names"
    more = f" and {len(names) - MAX_LISTED:,} more" if len(names) > MAX_LISTED else ""
    listed = safe(", ".join(names[:MAX_LISTED]))
    return f"there {'is' if len(names) == 1 else 'are'} {listed}{more}"
