"""The history of the user's decisions: a hash chain with one entry for each decision.

The current record names its entry, so a history whose last lines were removed is noticed. The
current decision is not read from here. Only commands read and write it. It contains no user name.
`folder` is always the folder of the consent record.
"""

from __future__ import annotations

import os
import time
from datetime import date

from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import policy
from telemetry_kit.consent.app_choice import names_in
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import atomic, hash_chain, private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HISTORY = policy.HISTORY
MAX_HISTORY_BYTES = 1 << 20
SCHEMA = 1
# Keys of an entry in the former format, and of an entry as it is shown.
_PREVIOUS, _SHA256 = "previous_sha256", "sha256"


def append(
    folder: str, decision: str, method: str, now: float, text_sha256: str, *, declined: str = ""
) -> str:
    """Append an entry. Earlier entries do not change; those in the former format are enclosed.

    A history that cannot be trusted is renamed first, so that it never prevents a denial.

    Args:
        folder: the folder of the consent record.
        decision: `yes` or `no`.
        method: `prompt`, `flag` or `api`.
        now: seconds since the epoch.
        text_sha256: SHA-256 of the text that the user answered.
        declined: fingerprint of the extended scope that the user denied; the grant stays.

    Returns:
        The name of the entry for the record: the first 16 digits of its SHA-256.

    Raises:
        OSError: nothing was written.
    """
    # deferred: the documents, and reading a history needs none
    from telemetry_kit.consent import notice

    path = f"{folder}/{HISTORY}"
    try:
        lines = read_lines(folder)
    except UnsafeFileError:
        os.rename(path, f"{path}.damaged-{os.urandom(3).hex()}")
        lines = []
    links = [hash_chain.parse(line) for line in lines]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    last = last_decision([link.entry for link in links if link.entry is not None])
    withdraws = decision == "no" and not declined and last.get("decision") == "yes"
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
    atomic.replace(path, b"".join(b"%b\n" % one for one in (*lines, line)))
    return hash_chain.parse(line).sha256[:16]


def read(folder: str) -> list[dict[str, Any]]:
    """Read the entries that can be parsed, oldest first.

    Each one has the SHA-256 of the line before and its own. An entry in the former format has
    those that were written, because the record names it by them.

    Raises:
        UnsafeFileError: the file cannot be read or trusted.
    """
    found = []
    for link in map(hash_chain.parse, read_lines(folder)):
        if link.entry is not None:
            found.append(dict(link.entry))
            found[-1].setdefault(_PREVIOUS, link.previous)
            found[-1].setdefault(_SHA256, link.sha256)
    return found


def broken_at(folder: str) -> int | None:
    """The number of the first entry that was changed; None if the chain is intact.

    Raises:
        UnsafeFileError: the file cannot be read or trusted.
    """
    links = enumerate(hash_chain.follow(read_lines(folder)), 1)
    return next((n for n, (link, follows) in links if not (link.is_intact and follows)), None)


def disagrees(folder: str) -> str | None:
    """How the history differs from the current record; None if both agree.

    Raises:
        UnsafeFileError: one of the two files cannot be read or trusted.
    """
    entries = read(folder)
    record = private.read(f"{folder}/{policy.RECORD}", policy.MAX_RECORD_BYTES)
    if record is None:
        return "the record of the last decision is missing" if entries else None
    state, day = consent_decision.parse_record(record, consent_decision.today())
    if state == "corrupt":
        return "the current record is not valid, so nothing is recorded under it"
    state = "yes" if state == "expired" else state
    current = f"the current record ({state} of {day})"
    if not entries:
        return f"{current} has no history"
    line = record.decode("ascii", "replace")
    name = consent_decision.value_of(line, "entry")
    directory = os.path.basename(folder)
    if not policy.is_directory_name(directory):
        directory = policy.ALL
    if state == "yes" and not name:
        return f"{current} names no entry of the history"
    if state == "yes" and consent_decision.value_of(line, "place") != directory:
        return f"{current} is about another project"
    # A denial that was written on a full disk names no entry.
    if name and not any(str(entry[_SHA256])[:16] == name for entry in entries):
        return f"{current} is not in the history"
    last = last_decision(entries)
    # A decision made at midnight may have either day.
    same_day = abs(day_number(day) - day_number(str(last.get("at"))[:10])) <= 1
    is_last = not name or str(entries[-1][_SHA256])[:16] == name
    if state != last.get("decision") or not same_day or not is_last:
        return f"{current} is not the last decision of the history"
    return None


def folders(paths: ProjectPaths) -> list[tuple[str, str]]:
    """The folders of the consent records that cover a project, each with its scope.

    Raises:
        ConsentError: the directory key cannot be used.
    """
    dirs = ProjectDirs.of(paths)
    own = [] if dirs is None else [(paths.scope, dirs.config)]
    return [("all projects", paths.config), *own]


def trouble(paths: ProjectPaths) -> list[str]:
    """Check the histories of a project; returns one sentence for each problem."""
    found: list[str] = []
    try:
        for scope, folder in folders(paths):
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
    """Histories and records that were renamed because they could not be trusted."""
    return [f"{folder}/{name}" for name in names_in(folder) if ".damaged-" in name]


def read_lines(folder: str) -> list[bytes]:
    """The lines of the history; those in the former format are enclosed in the present one."""
    data = private.read(f"{folder}/{HISTORY}", MAX_HISTORY_BYTES) or b""
    # splitlines() would hide a changed line end.
    lines = data.split(b"\n")
    return list(hash_chain.upgraded(lines if lines[-1] else lines[:-1], _PREVIOUS, _SHA256))


def last_decision(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The last entry that is not a denied extension; the last of all if there is no other."""
    last = entries[-1] if entries else {}
    return next((entry for entry in reversed(entries) if "declined" not in entry), last)


def day_number(day: str) -> int:
    """The ordinal number of a day; 0 for any other text."""
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return 0
