"""The files beside the log: decision, history, declared names and keys, each with a grammar.

The content of a key is not read here, only its owner and permissions.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from telemetry_kit.consent import decision, history, policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import hash_chain, private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import is_day
from telemetry_kit.storage.rotation import COUNT_CACHE
from telemetry_kit.verification.grammar import Violation

RECORD, HISTORY, NAMES, KEY, OTHER = "record", "history", "names", "key", "other"
PROGRAM = projects.PROGRAM
MAX_BYTES = 8 << 20
# People write it for other people, so it is not checked.
_TOML = "telemetry.toml"
_KINDS = {
    policy.RECORD: RECORD,
    history.HISTORY: HISTORY,
    projects.NAMES: NAMES,
    projects.PROGRAM: PROGRAM,
    "key": KEY,
    "place.key": KEY,
}
_MAX_NAME_LINE_BYTES = 1_024
_CODE = r"[0-9a-f]{16}"
_DAY = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_TIME = rf'"{_DAY}T\d{{2}}:\d{{2}}:\d{{2}}Z"'
_SHA256 = r'"[0-9a-f]{64}"'
_KEY = r"[\w.-]+:(?:identifier|measure|flag|=(?:[A-Za-z0-9]|%[0-9a-f]+\.)*)"
_WORD = re.compile(
    rf"notice=\d{{1,6}}|scope={_CODE}|expires={_DAY}|keep=\d{{1,4}}"
    rf"|declined={_CODE}(?:,{_CODE}){{0,7}}|entry={_CODE}|place=(?:all|{_CODE})"
    rf"|time=(?:{'|'.join(catalog.RESOLUTIONS)})"
    rf"|context=(?:\*|(?:{_KEY}(?:,{_KEY})*)?)",
    re.ASCII,
)
# The fields of an entry of the history, each with the pattern of its value in JSON.
_ENTRY = {
    "schema": r"[1-9]\d?",
    "id": rf'"{_CODE}"',
    "decision": '"(?:yes|no)"',
    "at": _TIME,
    "method": '"(?:prompt|flag|api)"',
    "notice": r"[1-9]\d{0,3}",
    "notice_sha256": _SHA256,
    "dictionary_sha256": _SHA256,
    "expires": rf'null|"{_DAY}"',
    "withdrawn_at": f"null|{_TIME}",
    "declined": rf'"{_CODE}"',
    "sha256": _SHA256,
    "previous_sha256": f"null|{_SHA256}",
}
# The words of our own records, which are public.
WORDS = (
    *_ENTRY,
    *("v1", "yes", "no", "prompt", "flag", "api", "notice", "scope", "expires", "time", "keep"),
    *("context", "declined", "entry", "identifier", "measure", "command", "fields", "rows"),
    *("destination", "incomplete", "previous", "entries", "uncounted", "export", "format"),
    *("since", "until", "event", "precise", *catalog.VOCABULARIES),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One file in the config or state directory of the user.

    Args:
        path: the file.
        name: its name in the certificate, without the folders above that of the app.
        kind: `record`, `history`, `names`, `program`, `key` or `other`.
        size_bytes: its size on disk.
    """

    path: str
    name: str
    kind: str
    size_bytes: int


def files(paths: ProjectPaths) -> Iterator[Record]:
    """Yield the files of this project and of the app, and none of other projects.

    Args:
        paths: the paths of the project.
    """
    try:
        dirs = projects.ProjectDirs.of(paths)
    except ConsentError:
        dirs = None
    names = [] if dirs is None else [dirs.name, dirs.of_app().name]
    inside = ["", *(f"/projects/{name}" for name in names)]
    found = {
        path: f"{label}{inner}/{os.path.basename(path)}"
        # On some systems both directories are the same.
        for top, label in {paths.config: "config", paths.state: "state"}.items()
        for inner in inside
        for path in sorted(glob.glob(f"{glob.escape(top + inner)}/*", include_hidden=True))
    }
    for path, shown in {**found, f"{paths.folder}/{COUNT_CACHE}": COUNT_CACHE}.items():
        try:
            st = os.lstat(path)
        except OSError:
            continue  # missing, or deleted by another process
        name = os.path.basename(path)
        kind = _KINDS.get(name, OTHER)
        if name == projects.INDEX_ENTRY and read(path) == os.fsencode(paths.root):
            kind = KEY  # the entry of this project in the index, which is a path
        if name != _TOML and not stat.S_ISDIR(st.st_mode):
            yield Record(path, shown, kind, st.st_size)


def read(path: str) -> bytes:
    """Return the first `MAX_BYTES` of a file; no bytes if it cannot be read."""
    try:
        return private.read_regular(path, MAX_BYTES, follow=False)
    except OSError:
        return b""


def violations(kind: str, data: bytes) -> Iterator[tuple[int, Violation]]:
    """Yield the violations of the grammar of a record, each with the number of its line.

    Args:
        kind: the kind of the file.
        data: its bytes.
    """
    check = {RECORD: check_decision, HISTORY: check_entry}.get(kind)
    if check is None:
        return
    for number, line in enumerate(data.splitlines(), 1):
        for violation in check(line):
            yield number, violation
    if kind == RECORD and decision.parse_record(data, decision.today())[0] == "corrupt":
        yield 0, Violation("not a record of a decision")


def check_decision(line: bytes) -> Iterator[Violation]:
    """Check one line of the current decision."""
    version, answer, day, *words = (*line.decode("ascii", "replace").split(" "), "", "")
    if version != "v1" or answer not in ("yes", "no") or not is_day(day):
        yield Violation("not a record of a decision")
    for word in words:
        # An empty list at the end leaves an empty word.
        if word and not _WORD.fullmatch(word):
            yield Violation("unknown word", "?", word)


def check_entry(line: bytes) -> Iterator[Violation]:
    """Check one line of the history of decisions."""
    link = hash_chain.parse(line)
    if link.entry is None:
        yield Violation("not an entry of the history", "", line.decode("utf-8", "replace"))
    elif json.dumps(json.loads(line)).encode() != line:
        yield Violation("not canonical")
    else:
        hashes = {"previous_sha256": link.previous, "sha256": link.sha256}
        for key, value in (*link.entry.items(), *hashes.items()):
            if key not in _ENTRY:
                yield Violation("unknown field", "?", key)
            elif not re.fullmatch(_ENTRY[key], json.dumps(value)):
                yield Violation("not in its domain", key, str(value))


def is_torn_name(line: bytes) -> bool:
    """Return whether a line is the beginning of a declared name, left by a short write."""
    text = line.strip(b"\0")
    begins = b'["'.startswith(text[:2])
    return begins and not text.endswith(b"]") and len(text) < _MAX_NAME_LINE_BYTES


def ownership_problems(paths: ProjectPaths) -> Iterator[tuple[str, str]]:
    """Yield the name and the problem of each file with a wrong owner, mode or name.

    Args:
        paths: the paths of the project.
    """
    for top, label, forbidden in ((paths.config, "config", 0o022), (paths.state, "state", 0o077)):
        for folder, folders, names in os.walk(top):
            inner = [
                part if part == "projects" or re.fullmatch(_CODE, part) else "?"
                for part in folder.removeprefix(top).split("/")[1:]
            ]
            shown = "/".join((label, *inner))
            if inner[-2:] == ["projects", "?"]:
                yield shown, "a folder that is not named by a code"
            for name in (*folders, *names):
                if name == ".gitignore":
                    continue  # git reads it, also for other users
                problem = ownership_problem(f"{folder}/{name}", forbidden)
                if problem:
                    yield f"{shown}/{name if name in (*_KINDS, _TOML) else '?'}", problem


def ownership_problem(path: str, forbidden: int) -> str:
    """Return what is wrong with the owner or mode of a file; empty if nothing is."""
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
