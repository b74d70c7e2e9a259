"""The history of what the user decided: one JSON line each, chained by hashes.

Which decision is in force is not read from here; only commands read and write it. There is no
name of a user in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

from telemetry_kit import catalog, consent, notice, private
from telemetry_kit.errors import ConsentError
from telemetry_kit.home import Home
from telemetry_kit.private import NotPrivateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HISTORY = "telemetry.history.jsonl"
MAX_HISTORY_BYTES = 1 << 20
SCHEMA = 1


def append(folder: str, home: Home, decision: str, method: str, now: float) -> None:
    """Add an entry; those before it stay as they are, to the byte.

    Args:
        folder: where the record of the decision is.
        home: the project's places, for the text of the notice.
        decision: `yes` or `no`.
        method: `prompt`, `flag` or `api`.
        now: seconds since the epoch.

    Raises:
        OSError: nothing was written.
        ConsentError: the history is there but cannot be trusted.
    """
    path = f"{folder}/{HISTORY}"
    try:
        old = private.read(path, MAX_HISTORY_BYTES) or b""
    except NotPrivateError as error:
        raise ConsentError(str(error)) from None
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    lines = old.splitlines()
    entry: dict[str, Any] = {
        "schema": SCHEMA,
        "id": os.urandom(8).hex(),
        "decision": decision,
        "at": at,
        "method": method,
        "notice": catalog.NOTICE_VERSION,
        "notice_sha256": notice.text_sha256(home),
        "dictionary_sha256": notice.dictionary_sha256(),
        "expires": consent.a_year_after(at[:10]) if decision == "yes" else None,
        "withdrawn_at": at if decision == "no" and _last(lines) == "yes" else None,
        "previous_sha256": hashlib.sha256(lines[-1]).hexdigest() if lines else None,
    }
    if old and not old.endswith(b"\n"):
        old += b"\n"
    private.replace(path, old + json.dumps(entry).encode() + b"\n")


def read(folder: str) -> list[dict[str, Any]]:
    """The entries, oldest first.

    Args:
        folder: where the record of the decision is.

    Raises:
        ConsentError: it cannot be read.
    """
    try:
        data = private.read(f"{folder}/{HISTORY}", MAX_HISTORY_BYTES) or b""
        entries = [json.loads(line) for line in data.splitlines()]
    except (NotPrivateError, ValueError, RecursionError) as error:
        raise ConsentError(f"the history of decisions cannot be read: {error}") from None
    return [entry for entry in entries if isinstance(entry, dict)]


def broken_at(folder: str) -> int | None:
    """The number of the first entry that does not fit the one before it; None when all do.

    Args:
        folder: where the record of the decision is.
    """
    data = private.read(f"{folder}/{HISTORY}", MAX_HISTORY_BYTES) or b""
    before: bytes | None = None
    for number, line in enumerate(data.splitlines(), 1):
        try:
            named = json.loads(line)["previous_sha256"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return number
        if named != (None if before is None else hashlib.sha256(before).hexdigest()):
            return number
        before = line
    return None


def _last(lines: list[bytes]) -> str | None:
    try:
        found = json.loads(lines[-1])["decision"]
    except (IndexError, KeyError, ValueError, TypeError, RecursionError):
        return None
    return str(found)
