"""Validate incoming values: accept the shape of their class, and leave out the rest.

The caller supplies the event and writes it. Nothing here runs code of the host: no `str()`, no
`repr()`, no comparison and no `isinstance`, which asks an object for its class.
"""

from __future__ import annotations

import itertools

from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

MAX_CONTEXT_ITEMS = 64


def text(value: object) -> str | None:
    """A string of 1 to 1,024 characters, freed of any subclass; None for anything else."""
    kind = type(value)
    if kind is not str and not issubclass(kind, str):
        return None
    given: Any = value
    found: str = given if kind is str else str.__str__(given)
    return found if 0 < len(found) <= catalog.MAX_NAME_CHARS else None


def measure(value: object) -> int | float | None:
    """A bounded number with three significant digits; None for anything else."""
    if type(value) is int:
        if abs(value) >= catalog.MAX_MEASURE:
            return None
        # Three digits tell how much; ten tell a telephone number.
        step: int = 10 ** max(0, len(str(abs(value))) - 3)
        return round(value / step) * step
    if type(value) is float and abs(value) < catalog.MAX_MEASURE:  # false for nan
        return float(f"{value:.3g}")
    return None


def power_of_two(milliseconds: object) -> int | None:
    """A duration rounded up to a power of two, at least 1; None for anything else."""
    if type(milliseconds) is float and 0 <= milliseconds < catalog.MAX_MEASURE:
        milliseconds = int(-(-milliseconds // 1))
    if type(milliseconds) is not int or not 0 <= milliseconds < catalog.MAX_MEASURE:
        return None
    return 1 << max(milliseconds - 1, 0).bit_length()


def error_name(kind: type[BaseException], declared: frozenset[str]) -> str:
    """The storable name of an exception class."""
    # By identity: looking the class up would run the hash of its metaclass.
    builtin = catalog.BUILTIN_ERRORS.get(id(kind))
    if builtin is not None:
        return builtin
    name = text(type.__dict__["__name__"].__get__(kind))
    return name if name is not None and name in declared else "other"


def _outcome(value: object) -> str | None:
    found = text(value)
    return found if found in catalog.OUTCOMES else None


def _exit_code(value: object) -> int | None:
    return value if type(value) is int and -(2**31) <= value < 2**31 else None


ERROR_NAMES = frozenset(catalog.BUILTIN_ERRORS.values()) | {"other"}
VALIDATORS: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(catalog.NAMES, text),
    "outcome": _outcome,
    "exit_code": _exit_code,
    "duration_ms": power_of_two,
}


def context_of(
    given: object, declared: Mapping[str, str | frozenset[str]]
) -> tuple[dict[str, tuple[object, object]], int]:
    """Declared keys with (class, value), and how many were dropped."""
    if not issubclass(type(given), dict):
        return {}, 1
    mapping: Any = given
    kept: dict[str, tuple[object, object]] = {}
    # dict's own methods: a subclass may have made theirs do anything.
    for key, value in itertools.islice(dict.items(mapping), MAX_CONTEXT_ITEMS):
        name = text(key)
        kind = declared.get(name) if name is not None else None
        taken = None if kind is None else _context_value(kind, value)
        if taken is not None and name is not None:
            kept[name] = (kind, taken)
    return dict(sorted(kept.items())), dict.__len__(mapping) - len(kept)


def lost_keys(name: str, given: object, kept: Mapping[str, object]) -> list[tuple[str, str]]:
    """What was dropped of a context, as pairs of event type and key.

    Args:
        name: the event type.
        given: the context as the host gave it.
        kept: what was kept of it.
    """
    if not issubclass(type(given), dict):
        return [(name, "context")]
    mapping: Any = given
    keys: list[str | None] = [text(key) for key in dict.keys(mapping)]
    return [(name, f"context.{key or '?'}") for key in keys if key not in kept]


def _context_value(kind: str | frozenset[str], value: object) -> object:
    if kind == catalog.MEASURE:
        return measure(value)
    if kind == "flag":
        return value if type(value) is bool else None
    if kind == catalog.IDENTIFIER:
        if type(value) is int and value.bit_length() <= 64:
            return str(value)
        return text(value)
    found = text(value)
    return found if found is not None and found in kind else None
