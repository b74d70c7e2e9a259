"""The pseudonym of a name: HMAC-SHA-256 (RFC 2104) over the interpreter's own SHA-256.

No key is stored here, and OpenSSL is not loaded: `hashlib` and `hmac` would add a third of a bare
interpreter's start to every short command. A test compares every result with `hmac`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    # As the standard library's `random` does, to do without hashlib.
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:
        from hashlib import sha256

__all__ = ["CODE_CHARS", "Mac", "sha256"]

CODE_CHARS = 12

_BLOCK = 64
_IPAD = bytes(b ^ 0x36 for b in range(256))
_OPAD = bytes(b ^ 0x5C for b in range(256))


class Mac:
    """One key, ready for many messages.

    Args:
        key: the secret; one of more than 64 bytes is hashed first.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = (sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
        self._inner = sha256(padded.translate(_IPAD))
        self._outer = sha256(padded.translate(_OPAD))

    def hex(self, message: bytes, chars: int) -> str:
        """The first `chars` hex digits of the code of `message`."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()[:chars]

    def code(self, field: str, value: str, domain: bytes = b"") -> str:
        """The 12 hex digits that stand for a value of a field.

        Args:
            field: so that equal texts in two fields differ.
            value: the text; compared after NFKC normalisation.
            domain: 0xff and a name, for codes that no field gives: 0xff is in no UTF-8 text.
        """
        if not value.isascii():
            import unicodedata  # deferred: a megabyte, and most names are ASCII

            value = unicodedata.normalize("NFKC", value)
        message = f"{field}\0{value}".encode("utf-8", "surrogatepass")
        return self.hex(domain + message, CODE_CHARS)
