"""A text in the forms in which it could hide in a file: cases, Unicode forms, encodings.

Nothing is searched here, and no program that records loads this.
"""

from __future__ import annotations

import base64
import html
import json
import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_CHARS = 4
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def views(secret: str) -> Iterator[str]:
    """The secret as text: as it is, in other cases, in the four Unicode forms, reversed."""
    forms = [unicodedata.normalize(form, secret) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    for text in dict.fromkeys([secret, *forms]):
        yield from dict.fromkeys(
            [text, text.lower(), text.upper(), text.casefold(), text.title(), text[::-1]]
        )


def encodings(secret: str) -> set[bytes]:
    """Every byte string that would betray the secret.

    Args:
        secret: the text; shorter than 4 characters it would be found everywhere.

    Returns:
        Raw in UTF-8 and UTF-16, JSON, percent and HTML escapes, hex, base32, and base64 at the
        three alignments, of every view.
    """
    found: set[bytes] = set()
    if len(secret) < MIN_CHARS:
        return found
    for text in views(secret):
        raw = text.encode("utf-8", "surrogatepass")
        found |= {raw, text.encode("utf-16-le", "surrogatepass")}
        found.add(json.dumps(text)[1:-1].encode())
        found.add(json.dumps(text)[1:-1].replace("/", "\\/").encode())
        found.add(html.escape(text).encode("utf-8", "surrogatepass"))
        found |= {c.encode() for c in _percent(raw)}
        found |= {raw.hex().encode(), raw.hex().upper().encode()}
        found |= _base64(raw)
        found |= _base32(raw)
    return {code for code in found if len(code) >= MIN_CHARS}


def _percent(raw: bytes) -> tuple[str, str, str]:
    """RFC 3986: all but unreserved characters, the same but for slashes, and every byte."""
    return (
        "".join(chr(b) if b in _UNRESERVED else f"%{b:02X}" for b in raw),
        "".join(chr(b) if b in _UNRESERVED or b == 0x2F else f"%{b:02X}" for b in raw),
        "".join(f"%{b:02X}" for b in raw),
    )


def _base64(raw: bytes) -> set[bytes]:
    found = set()
    for shift in range(3):
        code = base64.b64encode(b"\0" * shift + raw)
        # Digits that other bytes have a part in are left out at both ends.
        begin = (shift * 8 + 5) // 6
        end = (shift + len(raw)) * 8 // 6
        inner = code[begin:end]
        found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {code for code in found if len(code) >= MIN_CHARS}


def _base32(raw: bytes) -> set[bytes]:
    found = set()
    for shift in range(5):
        code = base64.b32encode(b"\0" * shift + raw)
        inner = code[(shift * 8 + 4) // 5 : (shift + len(raw)) * 8 // 5]
        found |= {inner, inner.lower()}
    return {code for code in found if len(code) > MIN_CHARS}
