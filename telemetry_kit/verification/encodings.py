"""The encodings in which `verify` and the pytest fixture search a file for a text."""

from __future__ import annotations

import base64
import json
import re
import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FORMS = ("plain", "folded", "URL", "JSON", "hex", "base64", "base32", "UTF-16")
MIN_CHARS = 4
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def fold(text: str) -> str:
    """Reduce a text to one case and one Unicode form, without accents and invisible characters."""
    if text.isascii():
        return text.lower()
    return _FOREIGN.sub(_visible, unicodedata.normalize("NFKD", text)).casefold()


def _visible(match: re.Match[str]) -> str:
    return "" if unicodedata.category(match[0]) in ("Mn", "Cf") else match[0]


def _spellings(secret: str) -> Iterator[str]:
    forms = [unicodedata.normalize(form, secret) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    for text in dict.fromkeys([secret, *forms]):
        yield from dict.fromkeys([text, text.lower(), text.upper(), text.casefold()])


def encodings(secret: str) -> set[bytes]:
    """Return the byte strings that show that a file holds a secret, in each of `FORMS`.

    Args:
        secret: the text; one shorter than `MIN_CHARS` characters would be found everywhere, so
            the set is empty then.
    """
    found: set[bytes] = set()
    if len(secret) < MIN_CHARS:
        return found
    for text in _spellings(secret):
        raw = text.encode("utf-8", "surrogatepass")
        found |= {raw, raw.hex().encode(), raw.hex().upper().encode()}
        found |= {text.encode(code, "surrogatepass") for code in ("utf-16-le", "utf-16-be")}
        escaped = json.dumps(text)[1:-1]
        found |= {escaped.encode(), escaped.replace("/", "\\/").encode()}
        found |= {code.encode() for code in _percent(raw)} | _base64(raw) | _base32(raw)
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
