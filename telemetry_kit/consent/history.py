"""The history of the user's decisions: a hash chain with one entry for each decision.

The current record names its entry, so that lines cut off at the end show as well. The current
decision is not read from here. Only commands read and write it. It holds no name of a user.
"""

from __future__ import annotations

import os
import time
from datetime import date

from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import hash_chain, private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HISTORY = policy.HISTORY
MAX_HISTORY_BYTES = 1 << 20
SCHEMA = 1
# Keys of the former form, and of entries as they are shown.
_PREVIOUS, _SHA256 = "previous_sha256", "sha256"


def append(
    folder: str, decision: str, method: str, now: float, text_sha256: str, *, declined: str = ""
) -> str:
    """Add an entry. Those before it stay as they are; of the former form, inside one of this form.

    A history that cannot be trusted is set aside under another name: it must never keep anybody
    from saying no.

    Args:
        folder: where the record of the decision is.
        decision: `yes` or `no`.
        method: `prompt`, `flag` or `api`.
        now: seconds since the epoch.
        text_sha256: SHA-256 of the text that it answers.
        declined: fingerprint of the wider scope that this no is about; the yes stands.

    Returns:
        The name of the entry for the record: the first 16 digits of its SHA-256.

    Raises:
        OSError: nothing was written.
    """
    # deferred: the chain, and reading a history needs none
    from telemetry_kit.consent import notice

    path = f"{folder}/{HISTORY}"
    try:
        lines = _lines(folder)
    except UnsafeFileError:
        os.rename(path, f"{path}.damaged-{os.urandom(3).hex()}")
        lines = []
    links = [hash_chain.parse(line) for line in lines]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    withdraws = decision == "no" and not declined and _standing(links) == "yes"
    entry: dict[str, Any] = {
        "schema": SCHEMA,
        "id": os.urandom(8).hex(),
        "decision": decision,
        "at": at,
        "method": method,
        "notice": catalog.NOTICE_VERSION,
        "notice_sha256": text_sha256,
        "dictionary_sha256": notice.dictionary_sha256(),
        "expires": consent_decision.a_year_after(at[:10]) if decision == "yes" else None,
        "withdrawn_at": at if withdraws else None,
        **({"declined": declined} if declined else {}),
    }
    line = hash_chain.render(entry, links[-1].sha256 if links else None)
    private.replace(path, b"".join(b"%b\n" % one for one in (*lines, line)))
    return hash_chain.parse(line).sha256[:16]


def read(folder: str) -> list[dict[str, Any]]:
    """The entries that can be read, oldest first.

    Args:
        folder: where the record of the decision is.

    Raises:
        UnsafeFileError: the file cannot be read or trusted.
    """
    entries = [fields_of(hash_chain.parse(line)) for line in _lines(folder)]
    return [entry for entry in entries if entry is not None]


def fields_of(link: hash_chain.Link) -> dict[str, Any] | None:
    """An entry with the SHA-256 of the line before and its own; None where there is none.

    One of the former form has those that it had: the record names it by them.
    """
    if link.entry is None:
        return None
    fields = dict(link.entry)
    fields.setdefault(_PREVIOUS, link.previous)
    fields.setdefault(_SHA256, link.sha256)
    return fields


def broken_at(folder: str) -> int | None:
    """The number of the first entry that is not as it was written; None when all are.

    Args:
        folder: where the record of the decision is.

    Raises:
        UnsafeFileError: the file cannot be read or trusted.
    """
    for number, (link, follows) in enumerate(hash_chain.follow(_lines(folder)), 1):
        if not (link.is_intact and follows):
            return number
    return None


def disagrees(folder: str) -> str | None:
    """What is wrong between the history and the decision in force; None when nothing is.

    Args:
        folder: where the record of the decision is.

    Raises:
        UnsafeFileError: one of the two files cannot be read or trusted.
    """
    entries = read(folder)
    record = private.read(f"{folder}/{policy.RECORD}", policy.MAX_RECORD_BYTES)
    if record is None:
        return "the last decision is not in force: its record is gone" if entries else None
    state, day = consent_decision.parse_record(record, consent_decision.today())
    if state == "corrupt":
        return "the record in force is not valid, and nothing is recorded under it"
    state = "yes" if state == "expired" else state
    if not entries:
        return f"a {state} of {day} is in force that the history does not know"
    last = _decided(entries)
    line = record.decode("ascii", "replace")
    name = consent_decision.entry_of(line)
    where = os.path.basename(folder)
    place = where if policy.is_place(where) else policy.ALL
    if state == "yes" and not name:
        return f"the record in force ({state} of {day}) names no entry of the history"
    if state == "yes" and consent_decision.place_of(line) != place:
        return f"the record in force ({state} of {day}) is about another place"
    if name and not any(_is_named(entry, name) for entry in entries):
        return f"the history does not hold the decision in force ({state} of {day})"
    # A decision made at midnight may carry either day.
    same_day = abs(_number(day) - _number(str(last.get("at"))[:10])) <= 1
    if state != last.get("decision") or not same_day or not _is_named(entries[-1], name):
        return f"the record in force ({state} of {day}) is not the last decision of the history"
    return None


def folders(home: ProjectPaths) -> list[tuple[str, str]]:
    """Where decisions about a project are kept, each with whom it is about.

    Raises:
        ConsentError: the place key cannot be used.
    """
    place = projects.place_of(home)
    own = [] if place is None else [("this project", f"{home.config}/projects/{place}")]
    return [("all projects", home.config), *own]


def trouble(home: ProjectPaths) -> list[str]:
    """What is wrong with the histories of a project, one sentence each; empty when nothing is."""
    found: list[str] = []
    try:
        for scope, folder in folders(home):
            number = broken_at(folder)
            if number is not None:
                found.append(f"decision {number} for {scope} is not as it was written: see audit")
            different = disagrees(folder)
            if different is not None:
                found.append(f"for {scope}, {different}: see audit")
    except (ConsentError, UnsafeFileError) as error:
        found.append(str(error))
    return found


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


def _lines(folder: str) -> list[bytes]:
    """The lines of the history; those of the former form as they are in this one."""
    data = private.read(f"{folder}/{HISTORY}", MAX_HISTORY_BYTES) or b""
    # Not splitlines(): a changed line end must show.
    lines = data.split(b"\n")
    return list(hash_chain.upgraded(lines if lines[-1] else lines[:-1], _PREVIOUS, _SHA256))


def _standing(links: list[hash_chain.Link]) -> str | None:
    """The decision that holds after these entries, as text."""
    for link in reversed(links):
        if link.entry is not None and "declined" not in link.entry:
            return str(link.entry.get("decision"))
    return None


def _decided(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The last entry that is a decision of its own, and no declined widening."""
    return next((e for e in reversed(entries) if "declined" not in e), entries[-1])


def _is_named(entry: dict[str, Any], name: str) -> bool:
    # A denial that was written without space names none.
    return not name or str(entry.get("sha256"))[:16] == name


def _number(day: str) -> int:
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return 0
