"""Torn lines: the fragments that a process leaves if it is killed while it writes.

A fragment is, to the byte, the beginning of a line that the grammar accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from telemetry_kit.schema import catalog
from telemetry_kit.verification.grammar import ALWAYS, Grammar

_END = re.compile(r'("(?:[^"\\]|\\.)*"|-?[0-9][0-9.e+-]*|true|false)([,}])')


def is_torn(fragment: bytes, grammar: Grammar) -> bool:
    """Return whether these bytes are the beginning of a line that the grammar accepts.

    Args:
        fragment: a line without its end.
        grammar: the grammar of the line.
    """
    if not fragment.isascii() or fragment[:1] != b"{" or len(fragment) >= catalog.MAX_LINE_BYTES:
        return False
    fields = [row.name for row in grammar.fields]
    return begins_pairs(fragment[1:].decode("ascii"), fields, grammar, False)


def begins_pairs(rest: str, keys: list[str], grammar: Grammar, inside: bool) -> bool:
    """Return whether `rest` is the beginning of the pairs of an object, in the order of `keys`.

    Args:
        rest: the text after the brace.
        keys: the keys that may follow.
        grammar: the grammar of the line.
        inside: whether the object is the context, and not the line itself.
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
            return not rest or (rest[0] == "{" and begins_pairs(rest[1:], known, grammar, True))
        kind = grammar.context[key] if inside else grammar.kinds[key]
        whole = _END.match(rest)
        if whole is None:
            return kind.begins(rest)
        check = kind.is_canonical if inside else grammar.checks[key]
        if not is_value(whole[1], check):
            return False
        if whole[2] == "}":
            # The brace of the context may be followed by that of the line, which may be missing.
            return inside and rest[whole.end() :] == ""
        rest = rest[whole.end() :]


def is_value(text: str, check: Callable[[Any], bool]) -> bool:
    """Return whether a check accepts a complete value."""
    try:
        return check(json.loads(text))
    except ValueError:
        return False
