"""The shared state of one project's events: its log, its key, its names in plain text.

It is built at most every 20 ms, under the cached decision, for the processors of the pipeline.
"""

from __future__ import annotations

import itertools
import os
import time

from telemetry_kit import settings
from telemetry_kit._runtime import load, runtime
from telemetry_kit.consent import cache, policy
from telemetry_kit.errors import ConsentError, KeyUnavailableError, Off, Refused
from telemetry_kit.files.private import UnsafeFileError, name_of, open_own
from telemetry_kit.privacy import keys, projects
from telemetry_kit.privacy.declared_names import DeclaredNames
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import quote
from telemetry_kit.schema.validation import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from telemetry_kit.context import Scope
    from telemetry_kit.paths import ProjectPaths
    from telemetry_kit.storage.writer import LogWriter

    class Sink(Protocol):
        """Where lines go: the journal, or memory."""

        def append(self, line: bytes) -> bool:
            """Write one line; False asks for a second look at consent and key first."""
            raise NotImplementedError


_NOT_OURS = "{} was there before: recording begins after the next telemetry command in this project"
_sequence = itertools.count()


class Recorder:
    """What the events of one place have in common, worked out at most every 20 ms.

    Args:
        cached: the decision that it rests on.
        journal: the open journal.
        key: the key in force.
    """

    __slots__ = (
        "clear",
        "context",
        "dropped",
        "instant",
        "journal",
        "key",
        "names_file",
        "names",
        "outside",
        "plain",
        "project_id",
        "resolution",
        "sequence",
        "settings",
        "stored",
        "undeclared",
        "unseen",
        "unseen_tokens",
        "cached",
    )

    def __init__(
        self, cached: cache.CachedDecision, journal: Sink, key: keys.Key, names_file: DeclaredNames
    ) -> None:
        self.names_file = names_file
        self.cached = cached
        self.journal = journal
        self.key = key
        self.take_over_settings()
        self.project_id = key.pseudonym("project_id", cached.paths.root)
        self.instant = (0.0, 0.0, "")
        self.sequence = _sequence
        # What was left out, and which names became pseudonyms; None outside of captures.
        self.dropped: list[tuple[str, str]] | None = None
        self.undeclared: list[tuple[str, str]] | None = None
        self.outside = _outside(self.settings.prefix, key)

    def refresh(self) -> None:
        """Take over names and settings that were declared since, for a recorder that stays."""
        if self.cached.settings_generation != settings.generation():
            self.cached.settings_generation = settings.generation()
            self.take_over_settings()

    def take_over_settings(self) -> None:
        """Names, context and resolution: what is declared, as far as the user said yes to it."""
        self.settings = now = settings.current()
        listed = settings.names_from_files(self.cached.paths.naming_files)
        self.names = {v: now.names[v].union(listed[v]) for v in catalog.VOCABULARIES}
        # By vocabulary (and `errors`, `context`, `context.KEY`): the names on file so far.
        self.clear: dict[str, set[str]] = {v: set() for v in catalog.VOCABULARIES}
        self.clear["roles"].update(catalog.ROLES)
        # By field: names that were met, each as it is stored.
        self.stored: dict[str, dict[str, str]] = {field: {} for field in catalog.NAMES}
        self.context = now.context
        self.resolution = now.resolution
        # Whether no name in `clear` needs an escape in JSON, so that a line can be made by format.
        self.plain = True
        self.unseen: frozenset[str] = frozenset()
        self.unseen_tokens: dict[str, frozenset[str]] = {}
        grant = self.cached.decision.grant
        if grant is None:
            return
        self.resolution = grant.resolution(now.resolution)
        self.context = grant.covered(now.context)
        if grant.notice < catalog.NOTICE_VERSION:
            known = catalog.covered_events(grant.notice) | catalog.covered_fields(grant.notice)
            self.unseen = frozenset(catalog.EVENTS) | frozenset(catalog.FIELDS)
            self.unseen -= known
            self.unseen_tokens = catalog.later_tokens(grant.notice)

    def keeps(self, kind: str, name: str) -> bool:
        """Whether a declared name may be stored in plain text: it is on file, or was added."""
        if name not in self.clear.setdefault(kind, set()):
            try:
                self.names_file.add(kind, name)
            except (OSError, UnsafeFileError):
                return False
            # In this order: another thread that finds the name knows how to write it.
            self.plain = self.plain and quote(name) == f'"{name}"'
            self.clear[kind].add(name)
        return True

    def timestamp(self, now: float) -> str:
        """`now` in UTC, cut to the configured resolution."""
        begin, end, text = self.instant
        if not begin <= now < end:
            step = catalog.RESOLUTIONS[self.resolution]
            begin = now // step * step
            text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))
            self.instant = (begin, begin + step, text)
        return text


_recorders: dict[tuple[str, str], Recorder] = {}
_journals: dict[tuple[str, str], LogWriter] = {}
# Standings of `capture_events()`, the innermost last: every event goes there while there is one.
captures: list[Recorder] = []


def recorder_for(start: str | None = None) -> Recorder:
    """The recorder of a directory: recording is on, the journal is open, the key is loaded.

    Raises:
        Refused: one of the three is not so.
    """
    if captures:
        captures[-1].refresh()
        return captures[-1]
    cached = cache.lookup(start)
    if cached.recorder is not None:
        recorder: Recorder = cached.recorder
        return recorder
    if not cached.allowed:
        raise Off(cached.decision.rule.says)
    home = cached.paths
    known = _recorders.get((home.app, home.root))
    dirs = cached.decision.dirs
    if dirs is None:
        raise Refused("there is no key")
    # First of all: without a key there is to be no log either.
    version = _version_of(dirs.key)
    key = _key_at(home, dirs)
    journal = _journals.get((home.app, home.root))
    if journal is None:
        # deferred: a capture needs no file, and on Windows this cannot be loaded
        writer = load("telemetry_kit.storage.writer")
        if writer is None:
            raise Refused("the journal cannot be loaded now")
        journal = _journals[home.app, home.root] = writer.LogWriter(
            home,
            lambda: _decision(home).allowed,
            keep_days=lambda: _decision(home).keep_days,
            remember=lambda name: remember(home, name),
        )
    journal.open()
    # A clear may have deleted the key before the log was open.
    if not version or version != _version_of(dirs.key):
        key = _key_at(home, dirs)
    if known is not None and known.key is key:
        names_file = known.names_file
    else:
        names_file = DeclaredNames(dirs, quote)
    found = _recorders[home.app, home.root] = Recorder(cached, journal, key, names_file)
    cached.recorder = found
    return found


def _decision(home: ProjectPaths) -> policy.Decision:
    return policy.decide(home, runtime.environ)


def remember(home: ProjectPaths, name: str) -> None:
    """Keep the name of the last error, and its day, for `doctor`; never the cause of another one.

    Args:
        home: whose event was not recorded.
        name: the system's name of the error, or that of an exception of the language.
    """
    try:
        dirs = projects.ProjectDirs.of(home)
        if dirs is None:
            return
        fd = open_own(dirs.last_error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            day = time.strftime("%Y-%m-%d", time.gmtime(runtime.now()))
            os.write(fd, f"{day} {name}\n".encode("ascii", "replace"))
        finally:
            os.close(fd)
    except Exception:
        return  # it is in trouble already


def key_of(home: ProjectPaths) -> keys.Key:
    """The key in force in a project; made where a yes for all projects meets it first.

    Raises:
        Refused: there is none that can be used.
    """
    try:
        dirs = projects.ProjectDirs.of(home)
    except ConsentError as error:
        raise Refused(str(error)) from None
    if dirs is None:
        raise Refused("there is no key")
    return _key_at(home, dirs)


def _version_of(path: str) -> tuple[int, ...]:
    """What differs once another key was put there, or none is left."""
    try:
        st = os.lstat(path)
    except OSError:
        return ()
    return (st.st_dev, st.st_ino, st.st_mtime_ns, st.st_ctime_ns)


def _key_at(home: ProjectPaths, dirs: ProjectDirs) -> keys.Key:
    known = _recorders.get((home.app, home.root))
    path = dirs.key
    try:
        # In this order: another process makes the key before the folder.
        is_there = os.path.lexists(home.folder)
        if not os.path.lexists(path):
            _prepare(home, dirs, is_there)
        key = keys.renew_if_old(path, keys.load(path), runtime.now())
    except KeyUnavailableError as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"the key cannot be made ({name_of(error)})") from None
    # The one in use knows its pseudonyms already.
    return known.key if known is not None and known.key.equals(key) else key


def _prepare(home: ProjectPaths, dirs: ProjectDirs, is_there: bool) -> None:
    """Make a project ready that a grant for all projects meets for the first time.

    Args:
        home: the project's places.
        dirs: the project's directories.
        is_there: whether the folder of its log was there before its key was looked for.

    Raises:
        Refused: the folder is not one that we made, or recording was turned off meanwhile.
        OSError: the key cannot be made.
    """
    if is_there and not projects.is_registered(dirs):
        raise Refused(_NOT_OURS.format(home.folder))
    projects.register(home, dirs, sync=False)
    keys.create(dirs.key, runtime.now(), sync=False)
    if _decision(home).allowed:
        return
    # A reset has returned meanwhile: what was made after it is taken away.
    projects.unregister(home, dirs)
    raise Off("recording was turned off")


def environment_of(scope: Scope) -> dict[str, str]:
    """What ties a child process to a scope; `child_environment()` is for callers.

    Raises:
        Refused: nothing is recorded there.
    """
    at = recorder_for(scope.start)
    ids = {"session_id": scope.session_id, "parent_id": scope.enclosing_span}
    return {
        _OUTSIDE[field].format(at.settings.prefix): f"{value}-{at.key.signature(field, value)}"
        for field, value in ids.items()
        if value is not None
    }


_HEX = frozenset("0123456789abcdef")
_OUTSIDE = {"session_id": "{}_TELEMETRY_SESSION_ID", "parent_id": "{}_TELEMETRY_PARENT_ID"}


def is_outside(field: str) -> bool:
    """Whether the environment carries this id (`session_id` or `parent_id`)."""
    variable = _OUTSIDE[field].format(settings.current().prefix)
    return bool(runtime.environ.get(variable))


def _outside(prefix: str, key: keys.Key) -> dict[str, str]:
    """Session and parent that the environment carries, each as 12 hex digits.

    An id that this library signed stays as it is; anything else is stored as a code.
    """
    found: dict[str, str] = {}
    for field, variable in _OUTSIDE.items():
        given = text(runtime.environ.get(variable.format(prefix)))
        if given is not None:
            value, _, code = given.partition("-")
            ours = len(value) == 12 and _HEX.issuperset(value)
            signed = ours and code == key.signature(field, value)
            found[field] = value if signed else key.outside_id(field, given)
    return found
