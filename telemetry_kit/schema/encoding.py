"""A record as one canonical line of JSON.

`schema.catalog` defines the content.
"""

from __future__ import annotations

from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if not TYPE_CHECKING:
    try:
        # The C half of json; its Python half would load re and enum.
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


_MAX_SHAPES = 256
_line_formats: dict[tuple[str, ...], LineFormat] = {}
_chunks = _make_encoder(None, None, quote, None, ":", ",", False, False, False)


def encode(record: Mapping[str, object]) -> bytes:
    """A record as one canonical line: ASCII JSON, no spaces, a newline last."""
    return ("".join(_chunks(record, 0)) + "\n").encode("ascii")


class LineFormat:
    """The fields that an event of one shape has, in the order of the line.

    Args:
        fields: their names.

    `names` are those of them that are names. `blank` has all of them in order, without
    values, to be filled. `template` is the line for values that need no escape,
    none of them a context.
    """

    __slots__ = ("blank", "names", "template")

    def __init__(self, fields: tuple[str, ...]) -> None:
        self.blank: dict[str, Any] = dict.fromkeys(fields)
        self.names = tuple(f for f in fields if f in catalog.NAMES)
        measures = {f for f in fields if catalog.FIELDS[f].kind == catalog.MEASURE}
        parts = [f'"{f}":%s' if f in measures else f'"{f}":"%s"' for f in fields]
        self.template = "{" + ",".join(parts) + "}\n"


def line_format(shape: tuple[str, ...]) -> LineFormat:
    """The layout of events with these keys, worked out once.

    Args:
        shape: the keys of an event, in the order in which it has them.
    """
    known = _line_formats.get(shape)
    if known is not None:
        return known
    if len(_line_formats) >= _MAX_SHAPES:
        _line_formats.clear()
    found = _line_formats[shape] = LineFormat(tuple(f for f in catalog.ORDER if f in shape))
    return found


__all__ = ["LineFormat", "encode", "line_format", "quote"]
