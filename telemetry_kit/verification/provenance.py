"""The provenance of pseudonyms: the evidence that a key made each one, and which key.

Without the text no pseudonym can be computed again. So the module makes every hash of this
machine's own secrets that needs no key, or a guessable one, and searches for it.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable, Iterator

from telemetry_kit.schema import catalog
from telemetry_kit.verification.machine_secrets import Secret

ALGORITHMS = (
    "md5",
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3_224",
    "sha3_256",
    "sha3_384",
    "sha3_512",
    "blake2b",
    "blake2s",
)
PART_BYTES = 6
_FIELDS = (*catalog.NAMES, "project_id", "session_id", "parent_id", "context")


class WeakHashes:
    """Every hash of these secrets that anybody could make: unkeyed, or with an obvious salt.

    Args:
        secrets: this machine's own.
        salts: words that a careless program would use as salt or key.
    """

    def __init__(self, secrets: Iterable[Secret], salts: Iterable[str]) -> None:
        salted = [salt.encode("utf-8", "surrogatepass") for salt in dict.fromkeys(salts) if salt]
        self._parts: dict[bytes, Secret] = {}
        for secret in secrets:
            for digest in _digests(secret.text, salted):
                self._parts[digest[:PART_BYTES]] = secret
                self._parts[digest[-PART_BYTES:]] = secret

    def __len__(self) -> int:
        return len(self._parts)

    def made(self, code: str) -> Secret | None:
        """The secret that a code was made of without a key; None when it was none of them.

        Args:
            code: hex digits, at least 12.
        """
        raw = bytes.fromhex(code[: len(code) & ~1])
        return self._parts.get(raw[:PART_BYTES]) or self._parts.get(raw[-PART_BYTES:])


def salts_of(app: str, secrets: Iterable[Secret]) -> list[str]:
    """The obvious salts: the app, the fields, the word itself, and who and where the user is.

    Args:
        app: the app's name.
        secrets: this machine's own.
    """
    own = [s.text for s in secrets if s.kind in ("user", "host", "machine id")]
    projects = [s.text for s in secrets if s.kind == "directory" and "/" not in s.text]
    fixed = ["salt", "telemetry", "telemetry_kit", "telemetry-kit", "key", "secret", "pepper"]
    return [app, app.upper(), *_FIELDS, *fixed, *own, *projects[-2:]]


def _digests(text: str, salts: list[bytes]) -> Iterator[bytes]:
    views = (text, text.lower(), text.upper(), unicodedata.normalize("NFKC", text))
    for view in dict.fromkeys(views):
        raw = view.encode("utf-8", "surrogatepass")
        messages = [raw]
        for salt in salts:
            messages += [salt + raw, raw + salt, salt + b"\0" + raw, salt + b":" + raw]
        for name in ALGORITHMS:
            for message in messages:
                yield hashlib.new(name, message, usedforsecurity=False).digest()
        for salt in (b"", *salts):
            for name in ("md5", "sha1", "sha256"):
                yield hmac.digest(salt, raw, name)
