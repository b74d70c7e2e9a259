"""The closed vocabulary: every name that may occur in plain text in the events of one project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from telemetry_kit import settings
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import declared_names
from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import ERROR_NAMES


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Names that events may hold in plain text.

    Args:
        names: the names of each of `catalog.VOCABULARIES`.
        errors: the names of exceptions.
        context: the tokens of each context key.
        versions: the versions of the program.
    """

    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    errors: frozenset[str] = frozenset()
    context: Mapping[str, frozenset[str]] = field(default_factory=dict)
    versions: frozenset[str] = frozenset()

    def of_field(self, field: catalog.Field) -> frozenset[str]:
        """Return the names that a field may store in plain text."""
        if field.name == "error_type":
            return self.errors
        if field.kind == catalog.VERSION:
            return self.versions
        return self.names.get(field.domain, frozenset())

    def strings(self) -> frozenset[str]:
        """Return all names, tokens and context keys."""
        tokens = frozenset[str]().union(*self.names.values(), *self.context.values())
        return tokens | self.errors | self.versions | frozenset(self.context)


def of(paths: ProjectPaths) -> Vocabulary:
    """Return the names that are built in, declared now or earlier, or listed in files.

    Args:
        paths: the paths of the project.

    Raises:
        UnsafeFileError: the file of declared names cannot be trusted.
        ConsentError: the key that names the project directory cannot be used.
    """
    earlier = declared_names.read(paths)
    now = settings.current()
    listed = settings.names_from_files(paths.naming_files)
    empty = frozenset[str]()
    context = {}
    for key in earlier.get("context", empty) | frozenset(now.context):
        tokens = now.context.get(key)
        declared = tokens if isinstance(tokens, frozenset) else empty
        context[key] = declared | earlier.get(f"context.{key}", empty)
    return Vocabulary(
        names={
            name: settings.vocabulary(name, earlier.get(name, empty).union(listed[name]))
            for name in catalog.VOCABULARIES
        },
        errors=now.errors.union(ERROR_NAMES, earlier.get("errors", empty)),
        context=context,
        versions=earlier.get("versions", empty).union(filter(None, (now.version,))),
    )
