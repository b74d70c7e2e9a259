"""Weak hashes: hashes of this machine's secrets without a key, or with a key that can be guessed.

A pseudonym cannot be computed again without its text. So the module computes every weak hash of
each secret, and looks up each pseudonym among them.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable, Iterator

from telemetry_kit.schema import catalog
from telemetry_kit.verification.machine_secrets import Secret

ALGORITHMS = (
    *("md5", "sha1", "sha224", "sha256", "sha384", "sha512"),
    *("sha3_224", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s"),
)
PART_BYTES = 6
_FIELDS = (*catalog.NAMES, "project_id", "session_id", "parent_id", "context")


class WeakHashes:
    """Every hash of some secrets that anybody could compute.

    Args:
        secrets: the secrets of this machine.
        salts: words that a careless program would use as a salt or key.
    """

    def __init__(self, secrets: Iterable[Secret], salts: Iterable[str]) -> None:
        salted = [salt.encode("utf-8", "surrogatepass") for salt in dict.fromkeys(salts) if salt]
        self._owners: dict[bytes, Secret] = {}
        for secret in secrets:
            for digest in digests(secret.text, salted):
                self._owners[digest[:PART_BYTES]] = secret
                self._owners[digest[-PART_BYTES:]] = secret

    def owner(self, digits: str) -> Secret | None:
        """Return the secret of which a code is a weak hash; None if it is of none.

        Args:
            digits: at least 12 hex digits.
        """
        raw = bytes.fromhex(digits[: len(digits) & ~1])
        return self._owners.get(raw[:PART_BYTES]) or self._owners.get(raw[-PART_BYTES:])


def salts_of(app: str, secrets: Iterable[Secret]) -> list[str]:
    """Return the obvious salts: the app, the fields, common words, the user and the machine.

    Args:
        app: the name of the app.
        secrets: the secrets of this machine.
    """
    own = [s.text for s in secrets if s.kind in ("user", "host", "machine id")]
    folders = [s.text for s in secrets if s.kind == "directory" and "/" not in s.text]
    fixed = ["salt", "telemetry", "telemetry_kit", "telemetry-kit", "key", "secret", "pepper"]
    return [app, app.upper(), *_FIELDS, *fixed, *own, *folders[-2:]]


def digests(text: str, salts: list[bytes]) -> Iterator[bytes]:
    """Yield every weak hash of a text."""
    spellings = (text, text.lower(), text.upper(), unicodedata.normalize("NFKC", text))
    for spelling in dict.fromkeys(spellings):
        raw = spelling.encode("utf-8", "surrogatepass")
        messages = [raw]
        for salt in salts:
            messages += [salt + raw, raw + salt, salt + b"\0" + raw, salt + b":" + raw]
        for name in ALGORITHMS:
            for message in messages:
                yield hashlib.new(name, message, usedforsecurity=False).digest()
        for salt in (b"", *salts):
            for name in ("md5", "sha1", "sha256"):
                yield hmac.digest(salt, raw, name)
