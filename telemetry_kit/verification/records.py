"""The files beside the events: decision, history, declared names and keys, each with a grammar.

The content of a key file is never read here, only its permissions.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from telemetry_kit.consent import decision, history, policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import hash_chain, private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import is_day
from telemetry_kit.storage.rotation import COUNT_CACHE
from telemetry_kit.verification.grammar import Violation

RECORD, HISTORY, NAMES, KEY, TOML, OTHER = "record", "history", "names", "key", "toml", "other"
MAX_BYTES = 8 << 20
_PLACE = re.compile(r"[0-9a-f]{16}")
_KINDS = {
    policy.RECORD: RECORD,
    history.HISTORY: HISTORY,
    projects.NAMES: NAMES,
    "key": KEY,
    "place.key": KEY,
    "telemetry.toml": TOML,
}
_DAY = r"\d{4}-\d{2}-\d{2}"
_KEY = r"[\w.-]+:(?:identifier|measure|flag|=(?:[A-Za-z0-9]|%[0-9a-f]+\.)*)"
_WORD = re.compile(
    rf"notice=\d{{1,6}}|scope=[0-9a-f]{{16}}|expires={_DAY}|keep=\d{{1,4}}"
    r"|declined=[0-9a-f]{16}(?:,[0-9a-f]{16}){0,7}|entry=[0-9a-f]{16}|place=(?:all|[0-9a-f]{16})"
    rf"|time=(?:{'|'.join(catalog.RESOLUTIONS)})"
    rf"|context=(?:\*|(?:{_KEY}(?:,{_KEY})*)?)",
    re.ASCII,
)
_MAX_NAME_LINE_BYTES = 1_024
_HEX64 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(rf"{_DAY}T\d{{2}}:\d{{2}}:\d{{2}}Z")


@dataclass(frozen=True, slots=True)
class Record:
    """One file in the user's config or state directory.

    Args:
        path: where it is.
        name: how it is called in the certificate: without the folders above the app's.
        kind: `record`, `history`, `names`, `key`, `toml` or `other`.
    """

    path: str
    name: str
    kind: str


def files(home: ProjectPaths) -> list[Record]:
    """The files of this project and of the app; other projects' own are not opened.

    Args:
        home: the project's places.
    """
    try:
        dirs = projects.ProjectDirs.of(home)
    except ConsentError:
        dirs = None
    found: dict[str, Record] = {}
    for top, label in ((home.config, "config"), (home.state, "state")):
        folders = [(top, label)]
        if dirs is not None:
            folders.append((f"{top}/projects/{dirs.name}", f"{label}/projects/{dirs.name}"))
        for folder, shown in folders:
            for name in _names(folder):
                path = f"{folder}/{name}"
                if not os.path.isdir(path) or os.path.islink(path):
                    kind = KEY if _is_index(path, home) else _KINDS.get(name, OTHER)
                    found.setdefault(path, Record(path, f"{shown}/{name}", kind))
    counts = f"{home.folder}/{COUNT_CACHE}"
    if os.path.lexists(counts):
        found[counts] = Record(counts, COUNT_CACHE, OTHER)
    return list(found.values())


def _is_index(path: str, home: ProjectPaths) -> bool:
    """Whether a file is the entry of this project in the index, which holds its path alone."""
    try:
        found = private.read_regular(path, MAX_BYTES, follow=False)
    except OSError:
        return False
    return os.path.basename(path) == projects.INDEX_ENTRY and found == os.fsencode(home.root)


def content(record: Record) -> bytes:
    """The bytes of a record; none of a key or of what cannot be read."""
    if record.kind == KEY:
        return b""
    try:
        return private.read_regular(record.path, MAX_BYTES, follow=False)
    except OSError:
        return b""


def violations(kind: str, data: bytes) -> Iterator[tuple[int, Violation]]:
    """What the grammar of a record has no place for, each with the number of its line.

    Args:
        kind: of which file.
        data: its bytes.
    """
    check = {RECORD: _decision, HISTORY: _entry}.get(kind)
    if check is None:
        return
    for number, line in enumerate(data.splitlines(), 1):
        for violation in check(line):
            yield number, violation
    if kind == RECORD and decision.parse_record(data, decision.today())[0] == "corrupt":
        yield 0, Violation("not a record of a decision")


def _decision(line: bytes) -> Iterator[Violation]:
    words = line.decode("ascii", "replace").split(" ")
    head = words[:3]
    if len(head) < 3 or head[0] != "v1" or head[1] not in ("yes", "no") or not is_day(head[2]):
        yield Violation("not a record of a decision")
    for word in words[3:]:
        # Two spaces stand where the record ends in an empty list.
        if word and not _WORD.fullmatch(word):
            yield Violation("unknown word", "?", word)


def _entry(line: bytes) -> Iterator[Violation]:
    link = hash_chain.parse(line)
    if link.entry is None:
        yield Violation("not an entry of the history", "", line.decode("utf-8", "replace"))
        return
    if json.dumps(json.loads(line)).encode() != line:
        yield Violation("not canonical")
        return
    codes = (("previous_sha256", link.previous), ("sha256", link.sha256))
    for key, value in (*link.entry.items(), *codes):
        check = _ENTRY.get(key)
        if check is None:
            yield Violation("unknown field", "?", key)
        elif not check(value):
            yield Violation("not in its domain", key, str(value))


_ENTRY: dict[str, Any] = {
    "schema": lambda v: type(v) is int and 0 < v < 100,
    "id": lambda v: type(v) is str and _PLACE.fullmatch(v) is not None,
    "decision": lambda v: v in ("yes", "no"),
    "at": lambda v: type(v) is str and _TIME.fullmatch(v) is not None,
    "method": lambda v: v in ("prompt", "flag", "api"),
    "notice": lambda v: type(v) is int and 0 < v < 10_000,
    "notice_sha256": lambda v: type(v) is str and _HEX64.fullmatch(v) is not None,
    "dictionary_sha256": lambda v: type(v) is str and _HEX64.fullmatch(v) is not None,
    "expires": lambda v: v is None or (type(v) is str and is_day(v)),
    "withdrawn_at": lambda v: v is None or (type(v) is str and _TIME.fullmatch(v) is not None),
    "declined": lambda v: type(v) is str and _PLACE.fullmatch(v) is not None,
    "sha256": lambda v: type(v) is str and _HEX64.fullmatch(v) is not None,
    "previous_sha256": lambda v: v is None or (type(v) is str and _HEX64.fullmatch(v) is not None),
}


def is_torn_name(line: bytes) -> bool:
    """Whether a line of the names ledger is the beginning of an entry, left by a short write."""
    text = line.strip(b"\0")
    begins = b'["'.startswith(text[:2])
    return begins and not text.endswith(b"]") and len(text) < _MAX_NAME_LINE_BYTES


# What our own records say, whoever the user is.
WORDS = (
    *_ENTRY,
    *("v1", "yes", "no", "prompt", "flag", "api", "notice", "scope", "expires", "time", "keep"),
    *("context", "declined", "entry", "identifier", "measure", "command", "fields", "rows"),
    *("destination", "incomplete", "previous", "entries", "uncounted", "export", "format"),
    *("since", "until", "event", "precise", *catalog.VOCABULARIES),
)


def ownership_problems(home: ProjectPaths) -> Iterator[tuple[str, str]]:
    """What is wrong with owners, modes and names of the user's folders: name and sentence.

    Args:
        home: the project's places.
    """
    for top, label, forbidden in (
        (home.config, "config", 0o022),
        (home.state, "state", 0o077),
    ):
        for folder, folders, names in os.walk(top):
            shown = label + folder.removeprefix(top)
            parent = os.path.basename(os.path.dirname(folder))
            if parent == "projects" and not _PLACE.fullmatch(os.path.basename(folder)):
                shown = f"{label}/projects/?"
                yield shown, "a folder that is not named by a code"
            for name in (*folders, *names):
                wrong = _wrong(f"{folder}/{name}", forbidden)
                if wrong:
                    yield f"{shown}/{name if name in _KINDS else '?'}", wrong


def _wrong(path: str, forbidden: int) -> str:
    try:
        st = os.lstat(path)
    except OSError:
        return ""
    if stat.S_ISLNK(st.st_mode):
        return "a link"
    if st.st_uid != os.geteuid():
        return "belongs to another user"
    if st.st_mode & forbidden:
        return f"open to others (mode {st.st_mode & 0o777:04o})"
    return ""


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
