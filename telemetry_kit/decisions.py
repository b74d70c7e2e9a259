"""The history of what the user decided: one JSON line each, chained by hashes.

Each entry ends with its own SHA-256 and names that of the line before, so that a changed byte
shows wherever it is. Which decision is in force is not read from here; only commands read and
write it. There is no name of a user in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import date

from telemetry_kit import catalog, consent, grants, notice, private
from telemetry_kit.home import Home
from telemetry_kit.private import NotPrivateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HISTORY = "telemetry.history.jsonl"
MAX_HISTORY_BYTES = 1 << 20
SCHEMA = 1
_SEAL = ', "sha256": "{}"}}'


def append(folder: str, home: Home, decision: str, method: str, now: float) -> None:
    """Add an entry; those before it stay as they are, to the byte.

    A history that cannot be trusted is set aside under another name: it must never keep anybody
    from saying no.

    Args:
        folder: where the record of the decision is.
        home: the project's places, for the text of the notice.
        decision: `yes` or `no`.
        method: `prompt`, `flag` or `api`.
        now: seconds since the epoch.

    Raises:
        OSError: nothing was written.
    """
    path = f"{folder}/{HISTORY}"
    try:
        old = private.read(path, MAX_HISTORY_BYTES) or b""
    except NotPrivateError:
        os.rename(path, f"{path}.damaged-{os.urandom(3).hex()}")
        old = b""
    if old and not old.endswith(b"\n"):
        old += b"\n"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    lines = _lines(old)
    entry: dict[str, Any] = {
        "schema": SCHEMA,
        "id": os.urandom(8).hex(),
        "decision": decision,
        "at": at,
        "method": method,
        "notice": catalog.NOTICE_VERSION,
        "notice_sha256": notice.text_sha256(home, everywhere=folder == home.config),
        "dictionary_sha256": notice.dictionary_sha256(),
        "expires": grants.a_year_after(at[:10]) if decision == "yes" else None,
        "withdrawn_at": at if decision == "no" and _last(lines) == "yes" else None,
        "previous_sha256": hashlib.sha256(lines[-1]).hexdigest() if lines else None,
    }
    body = json.dumps(entry)
    line = body[:-1] + _SEAL.format(hashlib.sha256(body.encode()).hexdigest())
    private.replace(path, old + line.encode() + b"\n")


def read(folder: str) -> list[dict[str, Any]]:
    """The entries that can be read, oldest first.

    Args:
        folder: where the record of the decision is.

    Raises:
        NotPrivateError: the file cannot be read or trusted.
    """
    entries = [_parsed(line) for line in _lines(_bytes(folder))]
    return [entry for entry in entries if entry is not None]


def broken_at(folder: str) -> int | None:
    """The number of the first entry that is not as it was written; None when all are.

    Args:
        folder: where the record of the decision is.

    Raises:
        NotPrivateError: the file cannot be read or trusted.
    """
    before: bytes | None = None
    for number, line in enumerate(_lines(_bytes(folder)), 1):
        named = None if before is None else hashlib.sha256(before).hexdigest()
        entry = _parsed(line)
        if entry is None or not _is_sealed(line) or entry.get("previous_sha256", "") != named:
            return number
        before = line
    return None


def disagrees(folder: str) -> str | None:
    """What is wrong between the last entry and the decision in force; None when nothing is.

    Args:
        folder: where the record of the decision is.

    Raises:
        NotPrivateError: one of the two files cannot be read or trusted.
    """
    entries = read(folder)
    record = private.read(f"{folder}/{consent.RECORD}", consent.MAX_RECORD_BYTES, 0o022)
    if record is None:
        return "the last decision is not in force: its record is gone" if entries else None
    state, day = grants.parse_record(record, grants.today())
    state = "yes" if state == "expired" else state
    if not entries:
        return f"a {state} of {day} is in force that the history does not know"
    last = entries[-1]
    # A decision made at midnight may carry either day.
    if state != last.get("decision") or abs(_number(day) - _number(str(last.get("at"))[:10])) > 1:
        return f"the record in force ({state} of {day}) is not the last decision of the history"
    return None


def set_aside(folder: str) -> list[str]:
    """Histories and records that could not be trusted when a later decision was written.

    Args:
        folder: where the record of the decision is.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [f"{folder}/{name}" for name in names if ".damaged-" in name]


def _bytes(folder: str) -> bytes:
    return private.read(f"{folder}/{HISTORY}", MAX_HISTORY_BYTES) or b""


def _lines(data: bytes) -> list[bytes]:
    # Not splitlines(): a changed line end must show.
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _is_sealed(line: bytes) -> bool:
    body = line[: -len(_SEAL.format("0" * 64))] + b"}"
    return line == body[:-1] + _SEAL.format(hashlib.sha256(body).hexdigest()).encode()


def _last(lines: list[bytes]) -> str | None:
    entry = _parsed(lines[-1]) if lines else None
    return None if entry is None else str(entry.get("decision"))


def _number(day: str) -> int:
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return 0
