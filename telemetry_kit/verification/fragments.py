"""Torn lines: the fragments that a process leaves if it is killed while it writes.

A fragment is the beginning of a line that the grammar could accept, to the byte. Any other line
that is not an event is a finding. Nothing is recovered here.
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
    """Whether some acceptable line begins with these bytes and goes on.

    Args:
        fragment: a line without its end.
        grammar: what is acceptable.
    """
    if not fragment.isascii() or len(fragment) >= catalog.MAX_LINE_BYTES:
        return False
    text = fragment.decode("ascii")
    if not text.startswith("{"):
        return False
    rows = [row.name for row in grammar.fields]
    return _pairs(text[1:], rows, grammar, False)


def _pairs(rest: str, keys: list[str], grammar: Grammar, inside: bool) -> bool:
    """Whether `rest` begins the pairs of an object whose keys stand in this order.

    Args:
        rest: what follows the brace.
        keys: those that may still come.
        grammar: what is acceptable.
        inside: whether it is the context, and not the line itself.
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
            return not rest or (rest[0] == "{" and _pairs(rest[1:], known, grammar, True))
        kind = grammar.context[key] if inside else grammar.kinds[key]
        whole = _END.match(rest)
        if whole is None:
            return kind.begins(rest)
        check = kind.is_canonical if inside else grammar.checks[key]
        if not _is_canonical(whole[1], check):
            return False
        if whole[2] == "}":
            # The brace of the context may be followed by that of the line, which may be missing.
            return inside and rest[whole.end() :] == ""
        rest = rest[whole.end() :]


def _is_canonical(text: str, check: Callable[[Any], bool]) -> bool:
    try:
        return check(json.loads(text))
    except ValueError:
        return False
