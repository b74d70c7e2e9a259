"""Torn lines: the fragments that a process leaves if it is killed while it writes.

A fragment is, to the byte, the beginning of a line that the grammar accepts.
"""

from __future__ import annotations

import json
import re

from telemetry_kit.schema import catalog
from telemetry_kit.verification.grammar import ALWAYS, Grammar

_END = re.compile(r'("(?:[^"\\]|\\.)*"|-?[0-9][0-9.e+-]*|true|false)([,}])')
_NUMBER = re.compile(r"-?(?:[0-9]{1,17}(?:\.[0-9]{0,17})?(?:e[+-]?[0-9]{0,3})?)?")
_TIME = "0000-00-00T00:00:00Z"
_BOOLEANS = ("true", "false")


def is_torn(fragment: bytes, grammar: Grammar) -> bool:
    """Return whether these bytes are the beginning of a line that the grammar accepts.

    Args:
        fragment: a line without its end.
        grammar: the grammar of the line.
    """
    if not fragment.isascii() or fragment[:1] != b"{" or len(fragment) >= catalog.MAX_LINE_BYTES:
        return False
    fields = [row.name for row in grammar.fields]
    return begins_pairs(fragment[1:].decode("ascii"), fields, grammar, "")


def begins_pairs(rest: str, keys: list[str], grammar: Grammar, inside: str) -> bool:
    """Return whether `rest` is the beginning of the pairs of an object, in the order of `keys`.

    Args:
        rest: the text after the brace.
        keys: the keys that may follow.
        grammar: the grammar of the line.
        inside: the prefix of the field that holds the object; empty for the line itself.
    """
    while True:
        for key in keys:
            start = f'"{key}":'
            if start.startswith(rest):
                return True
            if rest.startswith(start):
                break
            if not inside and key in ALWAYS:
                return False
        else:
            return False
        rest, keys = rest[len(start) :], keys[keys.index(key) + 1 :]
        if not inside and key == "context":
            known = sorted(grammar.vocabulary.context)
            return not rest or (
                rest[0] == "{" and begins_pairs(rest[1:], known, grammar, "context.")
            )
        whole = _END.match(rest)
        if whole is None:
            return _begins(rest, inside + key, grammar)
        if whole[2] == "}":
            # The brace of the context may be followed by that of the line, which may be missing.
            is_last = inside != "" and rest[whole.end() :] == ""
            return is_last and is_value(whole[1], key, grammar, inside)
        if not is_value(whole[1], key, grammar, inside):
            return False
        rest = rest[whole.end() :]


def is_value(text: str, key: str, grammar: Grammar, inside: str) -> bool:
    """Return whether a field or a context key accepts a complete value."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return grammar.fits_context(key, value) if inside else grammar.fits(key, value)


def _begins(rest: str, field: str, grammar: Grammar) -> bool:
    """Return whether `rest` is the beginning of a value of this field."""
    if rest in ("", '"', "-"):
        return True
    row = catalog.FIELDS.get(field)
    if row is None:
        tokens = grammar.vocabulary.context.get(field.removeprefix("context."), frozenset())
        return (
            _one_of(rest, tokens)
            or _code(rest, "h:", 12)
            or _NUMBER.fullmatch(rest) is not None
            or any(word.startswith(rest) for word in _BOOLEANS)
        )
    if row.kind == catalog.MEASURE:
        return _NUMBER.fullmatch(rest) is not None
    if row.kind == catalog.TIME:
        return _like_time(rest)
    if row.kind == catalog.RANDOM and isinstance(row.domain, int):
        return _code(rest, "", row.domain // 4)
    if row.kind == catalog.CONSTANT:
        return _one_of(rest, {str(row.domain)})
    if row.kind == catalog.TOKEN:
        return _one_of(
            rest, row.domain if isinstance(row.domain, tuple) else grammar.vocabulary.errors
        )
    if row.kind == catalog.NAME:
        names = grammar.vocabulary.names.get(str(row.domain), frozenset())
        return _one_of(rest, names) or _code(rest, "h:", 12)
    return _code(rest, "h:", 12)


def _one_of(rest: str, tokens: frozenset[str] | set[str] | tuple[str, ...]) -> bool:
    return any(json.dumps(token).startswith(rest) for token in tokens)


def _code(rest: str, mark: str, digits: int) -> bool:
    body = rest[1:].removesuffix('"')
    if mark.startswith(body):
        return True
    hexes = body.removeprefix(mark)
    whole = len(hexes) == digits
    return (
        body.startswith(mark)
        and len(hexes) <= digits
        and set(hexes) <= set("0123456789abcdef")
        and (whole or not rest.endswith('"'))
    )


def _like_time(rest: str) -> bool:
    body = rest[1:]
    whole = _TIME + '"'
    return len(body) <= len(whole) and all(
        c.isdigit() if form == "0" else c == form for c, form in zip(body, whole, strict=False)
    )
