"""The kinds of fields: the values of each, as checks, as a pattern, as JSON Schema and in words.

A recording program does not load this module.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from telemetry_kit._units import counted
from telemetry_kit.schema import catalog
from telemetry_kit.schema.catalog import MAX_DECLARED_BYTES, MAX_NAME_CHARS
from telemetry_kit.schema.validation import is_day, measure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Whole numbers of three significant digits below 10^12 with their signs, and the same with a
# decimal exponent from -324 to 12.
_MEASURES = 2 * (1_000 + 900 * 9) + 2 * 900 * 336
# What a duration may be, up to `MAX_MEASURE`. Earlier versions rounded it up to a power of two.
_DURATIONS = frozenset(digits * 10**zeros for digits in range(1, 101) for zeros in range(11))
_DURATIONS |= {1 << bits for bits in range(54)}
_SCALARS = (str, int, float, bool)
_NUMBER_START = re.compile(r"-?(?:[0-9]{1,17}(?:\.[0-9]{0,17})?(?:e[+-]?[0-9]{0,3})?)?")
_CLOCK_PARTS = re.compile(r"T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)Z", re.ASCII)

# Parts of the patterns. The 29th of February is missing: it depends on the year.
DAY = (
    rb"(?!0000)\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    rb"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
CLOCK = rb"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_NAME = rb'"[^"\\\x00-\x1f\x7f-\xff]{1,1024}+"'
_NUMBER = rb"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][-+]?\d{1,2})?"
_VALUE = rb'(?:"[^"\\{}\x00-\x1f\x7f-\xff]{0,1024}"|true|false|' + _NUMBER + rb")"
_PAIR = rb'"[^"\\{}\x00-\x1f\x7f-\xff]{0,128}":' + _VALUE


class Kind:
    """The values of one field.

    Args:
        description: type and domain in words.
        json_schema: the JSON Schema of a value.
        pattern: matches the JSON text of nearly all values that the recorder writes, and of no
            value that `accepts` rejects.
        accepts: returns whether the reader accepts a parsed value.

    Attributes:
        is_canonical: returns whether the recorder can have written a parsed value.
        begins: returns whether the JSON text of a canonical value can begin with a text.
        size: the number of canonical values.
    """

    begins: Callable[[str], bool]
    size = 1

    def __init__(
        self,
        description: str,
        json_schema: dict[str, Any],
        pattern: bytes,
        accepts: Callable[[Any], bool],
    ) -> None:
        self.description = description
        self.json_schema = json_schema
        self.pattern = pattern
        self.accepts = self.is_canonical = accepts


class Token(Kind):
    """A text of a closed list."""

    def __init__(self, tokens: tuple[str, ...], _names: frozenset[str]) -> None:
        known = frozenset(tokens)
        super().__init__(
            f"one of {', '.join(tokens)}",
            {"enum": list(tokens)},
            rb'"(?:' + b"|".join(re.escape(token.encode()) for token in tokens) + rb')"',
            lambda value: type(value) is str and value in known,
        )
        self.begins = lambda text: any(json.dumps(token).startswith(text) for token in tokens)
        self.size = len(tokens)


class Constant(Token):
    """The same text in each line."""

    def __init__(self, text: str, names: frozenset[str]) -> None:
        super().__init__((text,), names)
        self.description = f"the text {text}"
        self.json_schema = {"const": text}


class ErrorName(Token):
    """The name of an exception class. The reader accepts any name."""

    def __init__(self, failures: tuple[str, ...], names: frozenset[str]) -> None:
        super().__init__(tuple(sorted(names)), names)
        self.description = "name of a builtin or declared exception, or `other`"
        if failures:
            self.description += f"; of a coding agent also {', '.join(failures)}"
        self.pattern = _NAME
        self.accepts = lambda value: type(value) is str and 0 < len(value) <= MAX_NAME_CHARS


class Name(ErrorName):
    """A name of a vocabulary, or a pseudonym. The reader accepts any name."""

    def __init__(self, vocabulary: str, names: frozenset[str]) -> None:
        super().__init__((), names)
        self.description = f"declared name, or pseudonym ({vocabulary})"
        self.json_schema = {"type": "string", "minLength": 1, "maxLength": MAX_DECLARED_BYTES}
        is_name, begins_name = self.is_canonical, self.begins
        self.is_canonical = lambda value: is_name(value) or PSEUDONYM.is_canonical(value)
        self.begins = lambda text: begins_name(text) or PSEUDONYM.begins(text)
        self.size += PSEUDONYM.size


class Code(Kind):
    """A prefix and hex digits."""

    def __init__(self, description: str, prefix: str, digits: int) -> None:
        code = f"{prefix}[0-9a-f]{{{digits}}}"
        matches = re.compile(code).fullmatch
        super().__init__(
            description,
            {"type": "string", "pattern": f"^{code}$"},
            f'"{code}"'.encode(),
            lambda value: type(value) is str and matches(value) is not None,
        )
        self.begins = _begins_like(f'"{code}"', f'"{prefix}{"0" * digits}"')
        self.size = 16**digits


class Random(Code):
    """Random hex digits."""

    def __init__(self, bits: int, _names: frozenset[str]) -> None:
        super().__init__(f"random hex digits, {bits} bits", "", bits // 4)


class Identifier(Code):
    """A pseudonym."""

    def __init__(self, _domain: None, _names: frozenset[str]) -> None:
        super().__init__("pseudonym", catalog.PSEUDONYM_PREFIX, 12)


class Measure(Kind):
    """A whole number in a range."""

    def __init__(self, limits: tuple[int, int], _names: frozenset[str]) -> None:
        lowest, highest = limits
        # A number with fewer digits than the highest one is in the range.
        pattern = rb"[1-9]\d{0,%d}" % (len(str(highest)) - 2)
        if lowest <= 0:
            pattern = b"(?:0|%s%s)" % (b"-?" if lowest < 0 else b"", pattern)
        super().__init__(
            f"whole number, {lowest:,} to {highest:,}",
            {"type": "integer", "minimum": lowest, "maximum": highest},
            pattern,
            lambda value: type(value) is int and lowest <= value <= highest,
        )
        self.begins = lambda text: _NUMBER_START.fullmatch(text) is not None
        self.size = highest - lowest + 1


class Duration(Measure):
    """Milliseconds, rounded up to two digits and zeros. The reader accepts any number of them."""

    def __init__(self, limits: tuple[int, int], names: frozenset[str]) -> None:
        super().__init__(limits, names)
        self.is_canonical = lambda value: type(value) is int and value in _DURATIONS
        self.size = len(_DURATIONS)


class Time(Kind):
    """A time in UTC, to the second."""

    def __init__(self, _domain: None, _names: frozenset[str]) -> None:
        form = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z"
        super().__init__(
            "UTC time",
            {"type": "string", "pattern": f"^{form}$"},
            b'"' + DAY + b"T" + CLOCK + b'Z"',
            lambda value: seconds_of_day(value) is not None,
        )
        self.begins = _begins_like(f'"{form}"', '"0000-00-00T00:00:00Z"')


class Version(Kind):
    """A declared version. The reader accepts any version of this form."""

    def __init__(self, _domain: None, names: frozenset[str]) -> None:
        form = r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}"
        accepted = re.compile(form).fullmatch
        super().__init__(
            "declared version, one to four numbers",
            {"type": "string", "pattern": f"^{form}$"},
            f'"{form}"'.encode(),
            lambda value: type(value) is str and accepted(value) is not None,
        )
        self.is_canonical = lambda value: self.accepts(value) and value in names
        self.begins = lambda text: any(json.dumps(name).startswith(text) for name in names)
        self.size = len(names)


class Mapping(Kind):
    """An object of context keys with their values."""

    def __init__(self, _domain: None, _names: frozenset[str]) -> None:
        super().__init__(
            "declared keys",
            {"type": "object", "additionalProperties": False},
            # The group stays empty in every match. It rejects an object with a key twice.
            rb'(?!\{[^}]*"(?P<twice>[^"\\]*)":[^}]*"(?P=twice)":)'
            rb"\{(?:" + _PAIR + rb"(?:," + _PAIR + rb"){0,7})?\}",
            lambda found: type(found) is dict and all(type(v) in _SCALARS for v in found.values()),
        )


class ContextValue(Kind):
    """The value of a context key.

    Args:
        declared: the class that the host gave to the key, or the tokens.
        names: the tokens that may be stored.
    """

    def __init__(self, declared: str | frozenset[str], names: frozenset[str] = frozenset()) -> None:
        description, json_schema = counted(len(declared), "word"), {"enum": sorted(declared)}
        if isinstance(declared, str):
            description, json_schema = _CONTEXT_CLASSES[declared]
        super().__init__(description, json_schema, _VALUE, lambda value: type(value) in _SCALARS)
        name = Name("", names)
        self.is_canonical = lambda value: (
            measure(value) == value
            if type(value) in (int, float)
            else type(value) is bool or name.is_canonical(value)
        )
        self.begins = lambda text: (
            name.begins(text)
            or _NUMBER_START.fullmatch(text) is not None
            or any(word.startswith(text) for word in ("true", "false"))
        )
        self.size = name.size + 2 + _MEASURES


def _begins_like(form: str, example: str) -> Callable[[str], bool]:
    """Return a check of beginnings, for values of one length."""
    matches = re.compile(form, re.ASCII).fullmatch
    return lambda text: matches(text + example[len(text) :]) is not None


def seconds_of_day(value: Any) -> int | None:
    """Return the seconds since midnight of a stored time; None for any other value."""
    return _seconds_of_day(value) if type(value) is str and len(value) == 20 else None


@lru_cache(maxsize=1024)
def _seconds_of_day(text: str) -> int | None:
    clock = _CLOCK_PARTS.fullmatch(text, 10)
    if clock is None or not is_day(text[:10]):
        return None
    return 3_600 * int(clock[1]) + 60 * int(clock[2]) + int(clock[3])


PSEUDONYM = Identifier(None, frozenset())
_CONTEXT_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    catalog.IDENTIFIER: ("pseudonym", PSEUDONYM.json_schema),
    catalog.MEASURE: ("number", {"type": "number"}),
    "flag": ("yes/no", {"type": "boolean"}),
}
_KINDS: dict[str, Callable[[Any, frozenset[str]], Kind]] = {
    catalog.CONSTANT: Constant,
    catalog.RANDOM: Random,
    catalog.TOKEN: Token,
    catalog.TIME: Time,
    catalog.MEASURE: Measure,
    catalog.NAME: Name,
    catalog.IDENTIFIER: Identifier,
    catalog.VERSION: Version,
    catalog.MAPPING: Mapping,
    "duration_ms": Duration,
    "error_type": ErrorName,
}


def kind_of(field: catalog.Field, names: frozenset[str] = frozenset()) -> Kind:
    """Return the values of a field.

    Args:
        field: a row of the catalog.
        names: the names that the field may store in plain text.
    """
    return _KINDS[field.name if field.name in _KINDS else field.kind](field.domain, names)
