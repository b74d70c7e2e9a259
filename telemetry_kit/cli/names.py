"""The names that a user may ask for: those that somebody declared.

Whether an event has one of them is not known here.
"""

from __future__ import annotations

from telemetry_kit import ledger, settings
from telemetry_kit.errors import TelemetryError
from telemetry_kit.home import Home


def declared(home: Home, vocabulary: str) -> frozenset[str]:
    """Names that are built in, declared by the program, the project or the user, or were once.

    Args:
        home: the project's places.
        vocabulary: one of `catalog.VOCABULARIES`.
    """
    found: set[str] = set()
    for path in (home.repository_files[0][0], home.user_file):
        names = (_table(path) or {}).get(vocabulary)
        if isinstance(names, list):
            found.update(name for name in names if settings.storable(name) is None)
    try:
        found |= ledger.read(home).get(vocabulary, frozenset())
    except TelemetryError:
        pass  # `verify` and `doctor` say so; whoever looks at numbers is not kept from it
    return settings.vocabulary(vocabulary, found)


def _table(path: str) -> dict[str, object] | None:
    try:
        return settings.read_toml(path)
    except TelemetryError:
        return None
