"""Names as command arguments: as typed, as stored, and the message for an unknown one.

`insights` finds the events that have them.
"""

from __future__ import annotations

from collections.abc import Iterable

from telemetry_kit import settings
from telemetry_kit.cli.output import USAGE, CommandError, safe
from telemetry_kit.errors import TelemetryError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import declared_names, keys, projects
from telemetry_kit.schema import catalog

_SHOWN = 20
_CUTOFF = 0.6


def declared(home: ProjectPaths, vocabulary: str) -> frozenset[str]:
    """Names that are built in, declared by the program, the project or the user, or were once.

    Args:
        home: the project's places.
        vocabulary: one of `catalog.VOCABULARIES`.
    """
    found = set(settings.names_from_files(home.naming_files)[vocabulary])
    try:
        found |= declared_names.read(home).get(vocabulary, frozenset())
    except TelemetryError:
        pass  # `verify` and `doctor` say so; whoever looks at numbers is not kept from it
    return settings.vocabulary(vocabulary, found)


def forms(home: ProjectPaths, field: str, text: str) -> frozenset[str]:
    """A name in every form in which it may be stored: in clear, and as the key's pseudonym.

    What keys that are gone made of it, nobody can tell: `find` says how many events those are.

    Args:
        home: the project's places.
        field: one of `catalog.NAMES`.
        text: as it was typed.
    """
    try:
        dirs = projects.ProjectDirs.of(home)
        if dirs is None or text.startswith(catalog.PSEUDONYM_PREFIX):
            return frozenset((text,))
        key = keys.load(dirs.key)
        return frozenset((text, key.pseudonym(field, text)))
    except (TelemetryError, UnicodeError):
        return frozenset((text,))


def given(option: str, text: str | None) -> str | None:
    """A name as it was typed.

    Raises:
        CommandError: it is empty.
    """
    if text is not None and not text.strip():
        raise CommandError(f"{option} {safe(text[:40])!r}: which one? Write a name", USAGE)
    return text


def one_of(option: str, text: str | None, names: Iterable[str]) -> str | None:
    """A word of a closed list.

    Raises:
        CommandError: it is none of them.
    """
    if text is not None and text not in (known := list(names)):
        raise CommandError(f"{option} {safe(text[:40])!r}: {hint(text, known)}", USAGE)
    return text


def must_be_known(
    home: ProjectPaths, option: str, field: str, text: str, present: Iterable[str]
) -> None:
    """Nothing where a name is in some event, or declared; it may have no events all the same.

    Args:
        home: the project's places.
        option: with which it was asked for.
        field: one of `catalog.NAMES`.
        text: as it was typed.
        present: the names in the events.

    Raises:
        CommandError: there is no such name.
    """
    known = {*present, *declared(home, catalog.NAMES[field])}
    if known.isdisjoint(forms(home, field, text)):
        problem = f"{option} {safe(text[:40])!r}: no events of it; {hint(text, known)}"
        raise CommandError(problem, USAGE)


def hint(text: str, known: Iterable[str]) -> str:
    """What to write instead: the name that is close, else those there are."""
    import difflib  # deferred: 10 ms, and only a mistake needs it

    # Pseudonyms last: nobody mistypes them.
    names = sorted(known, key=lambda name: (name.startswith(catalog.PSEUDONYM_PREFIX), name))
    folded = {name.casefold(): name for name in reversed(names)}
    near = difflib.get_close_matches(text[:100].casefold(), folded, n=1, cutoff=_CUTOFF)
    if near:
        return f"did you mean {safe(folded[near[0]])!r}?"
    if not names:
        return "there are no names"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"there {'is' if len(names) == 1 else 'are'} {safe(', '.join(names[:_SHOWN]))}{more}"
