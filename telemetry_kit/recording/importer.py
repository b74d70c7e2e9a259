"""Store events that another program recorded: each once, by the rules of the recorder.

Each event passes through the processors of the recorder, so an import adds nothing that this
program could not have recorded. No pseudonym and no id is taken over, because a file cannot prove
which key made it. Both are replaced by pseudonyms under the current key, so equal ones stay equal.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache, policy
from telemetry_kit.errors import JournalError, Off, Refused
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.declared_names import DeclaredNames
from telemetry_kit.recording import pipeline
from telemetry_kit.recording.recorder import Recorder, recorder_for, stored_id
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import quote
from telemetry_kit.schema.validation import ERROR_NAMES, MAX_CONTEXT_ITEMS, text, token
from telemetry_kit.storage import maintenance
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.reader import read_some
from telemetry_kit.storage.segments import ReadReport

# Why an event is left out.
STORED, REPEATED = "stored", "repeated"
TOO_OLD, IN_FUTURE, NOT_COVERED = "too_old", "in_future", "not_covered"

# The recorder's own values, and the fields that `_add_own` adds.
_SAME = ("schema_version", "project_id", "key_epoch")
_IDS = ("session_id", "span_id", "parent_id")
_OWN = frozenset(
    {*_SAME, *_IDS, "event_id", "event_type", "timestamp", "seq", "source", "dropped"}
    | {"error_type", "invoker", "app_version"}
)
# A long line may lose its context, too.
_MAX_DROPPED: int = catalog.FIELDS["dropped"].domain[1] - MAX_CONTEXT_ITEMS


class _Kept(NamedTuple):
    """An event to store: its line, and the values that are not in it."""

    day: str
    line: bytes
    given_id: str
    dropped: int
    undeclared: tuple[tuple[str, str], ...]


class Importer:
    """The events of an import, and how many were left out. Only `write()` stores them.

    Args:
        start: a directory in the project; by default the working directory.
        is_trial: only count; nothing is created, not even a key.

    Attributes:
        paths: the project's paths.
        read: how many events were given.
        left_out: how many of them are not stored, by reason.
        keep_days: for how many days events are kept.

    Raises:
        Refused: recording is off there, or the log or the key cannot be used.
    """

    def __init__(self, start: str | None = None, *, is_trial: bool = False) -> None:
        found = _trial_recorder(start) if is_trial else recorder_for(start)
        decision, self.paths = found.cached.decision, found.cached.paths
        if decision.dirs is None:
            raise Refused("there is no key")
        self._mac = decision.dirs.mac
        self._lines = _Lines()
        self._recorder = Recorder(
            found.cached, self._lines, found.key, found.names_file, found.program_names
        )
        self._version = self._recorder.constants.get("app_version")
        constants = self._recorder.constants.items()
        self._recorder.constants = {name: value for name, value in constants if name in _SAME}
        self._recorder.sequence = itertools.count()
        self.keep_days = decision.keep_days
        self._today = keys.day_of(runtime.now())
        self._oldest = keys.day_of(runtime.now() - self.keep_days * 86_400)
        self._kept: dict[str, _Kept] = {}  # by event ID
        self.left_out: Counter[str] = Counter()
        self.read = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def days(self) -> list[str]:
        """The days of the events to store, oldest first."""
        return sorted({kept.day for kept in self._kept.values()})

    @property
    def undeclared_names(self) -> int:
        """How many names of the events to store become pseudonyms."""
        return len({name for kept in self._kept.values() for name in kept.undeclared})

    @property
    def dropped_values(self) -> int:
        """How many values are left out of the events to store."""
        return sum(kept.dropped for kept in self._kept.values())

    def add(self, event: Event, entry: str = "") -> None:
        """Take an event, or count why it is left out.

        Args:
            event: fields of the catalog; `event_type` and `timestamp`, in UTC, are required.
            entry: identifies the event; by default its ID, or all of it if it has none. The same
                entry is stored once, also by later imports.
        """
        self.read += 1
        day, event_id = event["timestamp"][:10], self._id_of(event, entry)
        if not self._oldest <= day <= self._today:
            self.left_out[TOO_OLD if day < self._oldest else IN_FUTURE] += 1
        elif event_id in self._kept:
            self.left_out[REPEATED] += 1
        else:
            try:
                dropped, undeclared = self._pass(event, event_id)
            except Refused:
                self.left_out[NOT_COVERED] += 1
                return
            given_id = event.get("event_id", "")
            self._kept[event_id] = _Kept(day, self._lines.last, given_id, dropped, undeclared)

    def leave_out_stored(self) -> None:
        """Leave out the events that the log has, whether imported or recorded here.

        Raises:
            JournalError: the log cannot be read to its end, so an event could be stored twice.
        """
        wanted = {*self._kept, *(kept.given_id for kept in self._kept.values())}
        problems = ReadReport()
        events = read_some(self.paths, lambda event_id: event_id in wanted, problems)
        stored = {event.get("event_id") or self._id_of(event) for event in events}
        if problems.unread_files:
            names = ", ".join(problems.unread_files)
            raise JournalError(f"{names} in {self.paths.folder} could not be read to the end")
        for event_id, kept in list(self._kept.items()):
            if event_id in stored or kept.given_id in stored:
                del self._kept[event_id]
                self.left_out[STORED] += 1

    def write(self) -> None:
        """Store the events as sealed segments, one or more for each day.

        If the process is killed, each segment is complete or absent, and the next import stores
        the rest.

        Raises:
            JournalError: not all of them could be stored.
        """

        def by_day() -> dict[str, list[bytes]]:
            # Under the lock: two imports at once store each event once.
            now = policy.decide(self.paths, runtime.environ)
            key = keys.current(now.dirs)
            if not now.allowed or key is None or not key.equals(self._recorder.key):
                raise JournalError("another command has changed consent or the key")
            self.leave_out_stored()
            found: dict[str, list[bytes]] = {day: [] for day in self.days}
            for kept in self._kept.values():
                found[kept.day].append(kept.line)
            return found

        maintenance.add_segments(self.paths, by_day)

    def _id_of(self, event: Event, entry: str = "") -> str:
        """Return the ID of an event: the same in each import into this project."""
        entry = entry or event.get("event_id") or json.dumps(event, sort_keys=True)
        message = f"{self.paths.root}\0{entry}".encode("utf-8", "surrogatepass")
        return self._mac.hex(b"\xffimport\0" + message, 16)

    def _pass(self, event: Event, event_id: str) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Pass an event through the processors.

        Returns:
            How many values were dropped, and the names that are not declared.

        Raises:
            Refused: the notice that the user accepted does not name its type.
        """
        metadata = pipeline.EventMetadata("import", None)
        metadata.recorder = self._recorder
        given = {name: value for name, value in event.items() if name not in _OWN}
        given.update({"event": event["event_type"], pipeline.METADATA: metadata})
        out = pipeline.validate(None, "info", given)
        dropped = self._add_own(event, out)
        out["event_id"] = event_id
        names = [(name, out[name]) for name in catalog.NAMES if name in out]
        out = pipeline.pseudonymize(None, "info", out)
        undeclared = [pair for pair in names if out.get(*pair) != pair[1]]
        pipeline.write(None, "info", out)
        return dropped, tuple(undeclared)

    def _add_own(self, event: Event, out: Event) -> int:
        """Add the fields that a file may not set as it likes.

        Returns:
            How many values of the event were dropped.
        """
        dropped: int = out.get("dropped", 0)
        invoker = token(event.get("invoker"), catalog.INVOKERS)
        if invoker is not None:
            out["invoker"] = invoker
        version = event.get("app_version")
        if version is not None and self._is_declared_version(version):
            out["app_version"] = version
        elif version is not None:
            dropped += 1
        error = text(event.get("error_type"))
        if error is not None:
            known = error in ERROR_NAMES or error in self._recorder.settings.errors
            out["error_type"] = error if known else "other"
        for field in _IDS:
            given = text(event.get(field))
            if given is not None:
                # A span has the same ID as the parent of others.
                kind = "session_id" if field == "session_id" else "parent_id"
                out[field] = stored_id(kind, given, self._recorder.key)
        if dropped or event.get("dropped"):
            out["dropped"] = min(dropped + event.get("dropped", 0), _MAX_DROPPED)
        when = datetime.fromisoformat(event["timestamp"]).timestamp()
        out["timestamp"] = self._recorder.timestamp(when)
        out["seq"] = next(self._recorder.sequence)
        return dropped

    def _is_declared_version(self, version: object) -> bool:
        """Whether the program has declared a version now or in an earlier event here."""
        if version == self._version:
            return True
        try:
            return type(version) is str and self._recorder.names_file.has("versions", version)
        except (OSError, UnsafeFileError):
            return False


class _Lines:
    """A writer that keeps the last line."""

    last = b""

    def append(self, line: bytes) -> bool:
        """Take a line, as the log would."""
        self.last = line
        return True


class _UnsavedNames(DeclaredNames):
    """The declared names, to which nothing is added on disk."""

    __slots__ = ()

    def add(self, kind: str, name: str) -> None:
        """Store nothing."""


def _trial_recorder(start: str | None) -> Recorder:
    """Return a recorder that creates nothing.

    Raises:
        Refused: recording is off.
    """
    cached = cache.lookup(start)
    if not cached.allowed:
        raise Off(cached.decision.rule.says)
    dirs = cached.decision.dirs
    names = _UnsavedNames(dirs, quote)
    return Recorder(cached, _Lines(), keys.current(dirs) or keys.Key(b"trial", 1), names, names)
