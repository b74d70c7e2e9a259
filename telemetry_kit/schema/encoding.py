"""Encode a record as one canonical line of JSON."""

from __future__ import annotations

from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if not TYPE_CHECKING:
    try:
        # The C part of json. Its Python part would import re and enum.
        from _json import encode_basestring_ascii as quote
        from _json import make_encoder as _make_encoder
    except ImportError:
        from json.encoder import c_make_encoder as _make_encoder
        from json.encoder import encode_basestring_ascii as quote
else:
    from collections.abc import Callable, Mapping
    from json.encoder import encode_basestring_ascii as quote
    from typing import Any

    def _make_encoder(*_: object) -> Callable[[object, int], tuple[str, ...]]:
        raise NotImplementedError


_MAX_LINE_FORMATS = 256
_line_formats: dict[tuple[str, ...], LineFormat] = {}
_chunks = _make_encoder(None, None, quote, None, ":", ",", False, False, False)


def encode(record: Mapping[str, object]) -> bytes:
    """Encode a record as ASCII JSON without spaces, with a newline at the end."""
    return ("".join(_chunks(record, 0)) + "\n").encode("ascii")


class LineFormat:
    """The format of a line with given fields.

    Args:
        fields: the fields, in the order of the line.

    Attributes:
        names: the fields that are names.
        blank: the fields without values.
        template: the line for values that need no escape. It does not fit a context.
    """

    __slots__ = ("blank", "names", "template")

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.blank: dict[str, Any] = dict.fromkeys(fields)
        self.names = tuple(f for f in fields if f in catalog.NAMES)
        measures = {f for f in fields if catalog.FIELDS[f].kind == catalog.MEASURE}
        parts = [f'"{f}":%s' if f in measures else f'"{f}":"%s"' for f in fields]
        self.template = "{" + ",".join(parts) + "}\n"


def line_format(keys: tuple[str, ...]) -> LineFormat:
    """Return the line format of an event with these keys. It is made once.

    Args:
        keys: in the order of the event.
    """
    known = _line_formats.get(keys)
    if known is not None:
        return known
    if len(_line_formats) >= _MAX_LINE_FORMATS:
        _line_formats.clear()
    found = _line_formats[keys] = LineFormat(tuple(f for f in catalog.ORDER if f in keys))
    return found


__all__ = ["LineFormat", "encode", "line_format", "quote"]
