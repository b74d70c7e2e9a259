"""A text in the forms in which it could hide in a file: cases, Unicode forms, encodings.

Nothing is searched here, and no program that records loads this.
"""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_CHARS = 4
# Letters of other scripts that look like ours (a part of the table of Unicode UTS #39).
_ALIKE = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458\u0501\u051b\u051d"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0405\u0406\u0408\u04bb\u04cf\u0261"
    "\u03b1\u03bd\u03bf\u03b9\u03ba\u03c1\u03c4\u03c5\u03c7\u03b3\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c"
    "\u039d\u039f\u03a1\u03a4\u03a5\u03a7\u0578\u057d\u0570\u0563\u0131\u0237\u0251\u026a\u0280\u028f\u1d04\u1d0f",
    "abekmhopctyxsijdqwabekmhopctyxsijhlgavoikptuxyabezhikmnoptyxnuhgijairyco",
)
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def views(secret: str) -> Iterator[str]:
    """The secret as text: as it is, in other cases, in the four Unicode forms, reversed."""
    forms = [unicodedata.normalize(form, secret) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    for text in dict.fromkeys([secret, *forms]):
        yield from dict.fromkeys(
            [text, text.lower(), text.upper(), text.casefold(), text.title(), text[::-1]]
        )


def fold(text: str) -> str:
    """A text as it looks: one case, one Unicode form, no accents, no invisible or foreign twins."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text.translate(_ALIKE))
    seen = _FOREIGN.sub(_visible, plain)
    return seen.translate(_ALIKE).casefold()


def _visible(match: re.Match[str]) -> str:
    return "" if unicodedata.category(match[0]) in ("Mn", "Cf") else match[0]


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
