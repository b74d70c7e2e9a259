"""Validate the values that a host passes: each either fits the class of its field or is left out.

Nothing here runs code of the host. It calls no `str()`, `repr()` or comparison of an object, and
no `isinstance`, which reads the attribute `__class__`.
"""

from __future__ import annotations

import itertools

from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

MAX_CONTEXT_ITEMS = 64


def text(value: object) -> str | None:
    """Return a string of 1 to 1,024 characters as a plain `str`; None for any other value."""
    kind = type(value)
    if kind is not str and not issubclass(kind, str):
        return None
    given: Any = value
    found: str = given if kind is str else str.__str__(given)
    return found if 0 < len(found) <= catalog.MAX_NAME_CHARS else None


def measure(value: object) -> int | float | None:
    """Return a number with three significant digits; None for any other value or a large one."""
    if type(value) is int:
        if abs(value) >= catalog.MAX_MEASURE:
            return None
        # Three digits are enough for a measure. Ten could be a telephone number.
        step: int = 10 ** max(0, len(str(abs(value))) - 3)
        return round(value / step) * step
    if type(value) is float and abs(value) < catalog.MAX_MEASURE:  # false for nan
        return float(f"{value:.3g}")
    return None


def two_digits(milliseconds: object) -> int | None:
    """Return a duration rounded up to two digits and zeros, at least 1; None for any other value.

    A percentile of such durations is at most a tenth too high.
    """
    if type(milliseconds) is float and 0 <= milliseconds < catalog.MAX_MEASURE:
        milliseconds = int(-(-milliseconds // 1))
    if type(milliseconds) is not int or not 0 <= milliseconds < catalog.MAX_MEASURE:
        return None
    step: int = 10 ** max(0, len(str(milliseconds)) - 2)
    return max(-(-milliseconds // step) * step, 1)


def error_name(kind: type[BaseException], declared: frozenset[str]) -> str:
    """Return the name of a builtin or declared exception class, or `other`."""
    # By identity: looking up the class itself would call the hash of its metaclass.
    builtin = catalog.BUILTIN_ERRORS.get(id(kind))
    if builtin is not None:
        return builtin
    return token(type.__dict__["__name__"].__get__(kind), declared) or "other"


def token(value: object, tokens: Collection[str]) -> str | None:
    """Return a string of a closed list; None for any other value."""
    found = text(value)
    return found if found in tokens else None


def identifier(value: object) -> str | None:
    """Return a string, or a 64-bit number as a string; None for any other value."""
    return str(value) if type(value) is int and value.bit_length() <= 64 else text(value)


ERROR_NAMES = frozenset((*catalog.BUILTIN_ERRORS.values(), *catalog.FAILURES, "other"))
VALIDATORS: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(catalog.NAMES, text),
    "outcome": lambda v: name if (name := text(v)) in catalog.OUTCOMES else None,
    "exit_code": lambda v: v if type(v) is int and -(2**31) <= v < 2**31 else None,
    "duration_ms": two_digits,
}
CONTEXT_VALIDATORS: dict[object, Callable[[object], object]] = {
    catalog.MEASURE: measure,
    catalog.IDENTIFIER: identifier,
    "flag": lambda value: value if type(value) is bool else None,
}


def context_of(
    given: object, declared: Mapping[str, str | frozenset[str]]
) -> tuple[dict[str, tuple[object, object]], int]:
    """Return the declared keys with their class and value, and how many keys were left out."""
    if not issubclass(type(given), dict):
        return {}, 1
    mapping: Any = given
    kept: dict[str, tuple[object, object]] = {}
    # The methods of dict: a subclass may override its own.
    for key, value in itertools.islice(dict.items(mapping), MAX_CONTEXT_ITEMS):
        name = text(key) or ""
        kind = declared.get(name)
        if kind is None:
            continue
        validate = CONTEXT_VALIDATORS.get(kind)
        taken = validate(value) if validate else token(value, kind)
        if taken is not None:
            kept[name] = (kind, taken)
    return dict(sorted(kept.items())), dict.__len__(mapping) - len(kept)


def lost_keys(name: str, given: object, kept: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what was left out of a context, as pairs of event type and key.

    Args:
        name: the event type.
        given: the context that the host passed.
        kept: the keys that were stored.
    """
    if not issubclass(type(given), dict):
        return [(name, "context")]
    mapping: Any = given
    keys: list[str | None] = [text(key) for key in dict.keys(mapping)]
    return [(name, f"context.{key or '?'}") for key in keys if key not in kept]


def is_day(text: str) -> bool:
    """Whether a text is a day of the calendar, as `YYYY-MM-DD`."""
    year, month, day = text[:4], text[5:7], text[8:]
    if len(text) != 10 or text[4] + text[7] != "--" or not (year + month + day).isdigit():
        return False
    longest = 31 - (month in ("04", "06", "09", "11")) - 3 * (month == "02")
    if month == "02" and int(year) % 4 == 0 and (int(year) % 100 or int(year) % 400 == 0):
        longest = 29
    return text.isascii() and year > "0000" and "01" <= month <= "12" and 1 <= int(day) <= longest
