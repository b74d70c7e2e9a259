"""The closed vocabulary: every name that may occur in plain text in the events of one project.

`verification.grammar` defines the lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from telemetry_kit import settings
from telemetry_kit.paths import Home
from telemetry_kit.privacy import declared_names
from telemetry_kit.schema import catalog


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names that are no finding.

    Args:
        names: for each of `catalog.VOCABULARIES` its names.
        errors: names of exceptions.
        context: for each context key its tokens.
    """

    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    errors: frozenset[str] = frozenset()
    context: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of_field(self, field: catalog.Field) -> frozenset[str]:
        """Return the names that a field may store in plain text."""
        if field.name == "error_type":
            return self.errors
        return self.names.get(field.domain, frozenset())

    def strings(self) -> frozenset[str]:
        """All of them."""
        tokens = frozenset[str]().union(*self.names.values(), *self.context.values())
        return tokens | self.errors | frozenset(self.context)


def of(home: Home) -> Vocabulary:
    """What is built in, in the names ledger, in the configuration files, or declared right now.

    Args:
        home: the project's places.

    Raises:
        UnsafeFileError: the ledger cannot be trusted.
        ConsentError: the place key cannot be used.
    """
    noted = declared_names.read(home)
    now = settings.current()
    listed = settings.listed(home.naming_files)
    names = {
        v: settings.vocabulary(v, noted.get(v, frozenset()).union(listed[v]))
        for v in catalog.VOCABULARIES
    }
    builtin = frozenset({*catalog.BUILTIN_ERRORS.values(), "other"})
    keys = noted.get("context", frozenset()) | frozenset(now.context)
    context = {key: _tokens(now.context.get(key), noted.get(f"context.{key}")) for key in keys}
    return Vocabulary(
        names=names,
        errors=builtin | now.errors | noted.get("errors", frozenset()),
        context=context,
    )


def _tokens(kind: object, noted: frozenset[str] | None) -> frozenset[str]:
    declared = kind if isinstance(kind, frozenset) else frozenset()
    return declared | (noted or frozenset())
