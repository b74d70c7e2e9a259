"""The shared state of one project's events: its writer, its key, its names in plain text.

The processors use it for as long as the cached decision lasts, 20 ms.
"""

from __future__ import annotations

import itertools
import os
import time

from telemetry_kit import settings
from telemetry_kit._runtime import load, runtime
from telemetry_kit.consent import cache, coding_agents, policy
from telemetry_kit.context import new_id
from telemetry_kit.errors import ConsentError, KeyUnavailableError, Off, Refused, swallow
from telemetry_kit.files.private import UnsafeFileError, name_of, open_own
from telemetry_kit.privacy import keys, program, projects
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

    class Writer(Protocol):
        """The destination of lines: the log, or memory."""

        def append(self, line: bytes) -> bool:
            """Write one line; False if consent and key must be read again first."""
            raise NotImplementedError


_NOT_OURS = "{} was there before: recording begins after the next telemetry command in this project"
_sequence = itertools.count()


class Recorder:
    """The facts that the events of one project share.

    Args:
        cached: the cached decision that it was made under.
        writer: the open log.
        key: the current key.
        names_file: the declared names of the project that are stored already.
        program_names: those of the program, for `record` and the commands.
    """

    def __init__(
        self,
        cached: cache.CachedDecision,
        writer: Writer,
        key: keys.Key,
        names_file: DeclaredNames,
        program_names: DeclaredNames,
    ) -> None:
        self.names_file = names_file
        self.program_names = program_names
        self.cached = cached
        self.writer = writer
        self.key = key
        self.apply_settings()
        # Begin and end of the current day, hour, minute or second, and its timestamp.
        self.period = (0.0, 0.0, "")
        self.sequence = _sequence
        # Dropped values, and names that became pseudonyms; None outside of captures.
        self.dropped: list[tuple[str, str]] | None = None
        self.undeclared: list[tuple[str, str]] | None = None
        self.environment_ids = environment_ids(self.settings.prefix, key)

    def span_of(self, given: str) -> tuple[str, str]:
        """The ID of a span, as it is stored, and as other processes give it.

        The second one is also valid as the parent that the environment carries.

        Args:
            given: the span as another process gave it; empty for a new one.
        """
        known = text(given)
        span_id = new_id() if known is None else stored_id("parent_id", known, self.key)
        return span_id, f"{span_id}-{self.key.signature('parent_id', span_id)}"

    def apply_settings(self) -> None:
        """Read the declared names, context keys and resolution that the user consented to."""
        self.settings = now = settings.current()
        listed = settings.names_from_files(self.cached.paths.naming_files)
        self.names = {v: now.names[v].union(listed[v]) for v in catalog.VOCABULARIES}
        # By vocabulary (and `errors`, `context`, `context.KEY`): names on file, so far.
        self.allowed: dict[str, set[str]] = {v: set() for v in catalog.VOCABULARIES}
        self.allowed["roles"].update(catalog.ROLES)
        # By field: the names of earlier events, each as it is stored.
        self.stored_names: dict[str, dict[str, str]] = {field: {} for field in catalog.NAMES}
        self.context = now.context
        self.resolution = now.resolution
        # Whether no allowed name needs an escape in JSON, so that a template can make the line.
        self.needs_no_escape = True
        # The fields that are the same in all events.
        self.constants: dict[str, object] = {
            "schema_version": catalog.SCHEMA_VERSION,
            "invoker": coding_agents.invoker(runtime.environ),
            "key_epoch": self.key.epoch,
        }
        project_id = self.key.project_id(self.cached.paths)
        if project_id is not None:
            self.constants["project_id"] = project_id
        if now.version and self.allows("versions", now.version):
            self.constants["app_version"] = now.version
        self.uncovered: frozenset[str] = frozenset()
        self.uncovered_tokens: dict[str, frozenset[str]] = {}
        grant = self.cached.decision.grant
        if grant is None:
            return
        self.resolution = grant.resolution(now.resolution)
        self.context = grant.covered(now.context)
        notice = grant.notice
        if notice < catalog.NOTICE_VERSION:
            self.uncovered = frozenset(catalog.EVENTS) | frozenset(catalog.FIELDS)
            self.uncovered -= catalog.covered_events(notice) | catalog.covered_fields(notice)
            self.uncovered_tokens = catalog.later_tokens(notice)

    def allows(self, kind: str, name: str) -> bool:
        """Store a declared name with the others; whether it may now be in plain text in events."""
        if name not in self.allowed.setdefault(kind, set()):
            try:
                self.names_file.add(kind, name)
            except (OSError, UnsafeFileError):
                return False
            if name in settings.decorated.get(kind, ()):
                self.save_for_commands(kind, name)
            # In this order: a thread that finds the name in `allowed` reads the flag after it.
            self.needs_no_escape = self.needs_no_escape and quote(name) == f'"{name}"'
            self.allowed[kind].add(name)
        return True

    def save_for_commands(self, kind: str, name: str) -> None:
        """Store a name that the program declared while it runs, for `record` and the commands."""
        try:
            self.program_names.add(kind, name)
        except (OSError, UnsafeFileError):
            return  # the events of this program are complete without it

    def timestamp(self, now: float) -> str:
        """`now` in UTC, cut to the configured resolution."""
        step = catalog.RESOLUTIONS[self.resolution]
        begin = now // step * step
        found = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))
        self.period = (begin, begin + step, found)
        return found


class Project:
    """What one project keeps beyond a decision: its writer, key and stored names."""

    __slots__ = ("key", "names_file", "program_names", "saved", "writer")

    def __init__(self, paths: ProjectPaths) -> None:
        self.key: keys.Key | None = None
        self.names_file: DeclaredNames | None = None
        self.program_names: DeclaredNames | None = None
        # The settings that are stored for commands.
        self.saved: settings.Settings | None = None
        # deferred: a capture needs no file, and on Windows this cannot be loaded
        module = load("telemetry_kit.storage.writer")
        if module is None:
            raise Refused("the writer cannot be loaded now")
        self.writer: LogWriter = module.LogWriter(
            paths,
            lambda: policy.decide(paths, runtime.environ).allowed,
            keep_days=lambda: policy.decide(paths, runtime.environ).keep_days,
            remember=lambda name: save_error(paths, name),
        )


# By app and root.
_projects: dict[tuple[str, str], Project] = {}
# The recorders of `capture_events()`: while there is one, the last one gets every event.
captures: list[Recorder] = []


def recorder_for(start: str | None = None) -> Recorder:
    """The recorder of a directory's project, with its log open and its key loaded.

    Raises:
        Refused: recording is off there, or the log or the key cannot be used.
    """
    if captures:
        capture = captures[-1]
        if capture.cached.settings_generation != settings.generation():
            capture.cached.settings_generation = settings.generation()
            capture.apply_settings()
        return capture
    cached = cache.lookup(start)
    if cached.recorder is not None:
        recorder: Recorder = cached.recorder
        return recorder
    if not cached.allowed:
        raise Off(cached.decision.rule.says)
    paths, dirs = cached.paths, cached.decision.dirs
    if dirs is None:
        raise Refused("there is no key")
    # First of all: a project without a key gets no log.
    version = version_of(dirs.key)
    key = current_key(paths, dirs)
    project = _projects.get((paths.app, paths.root))
    if project is None:
        project = _projects[paths.app, paths.root] = Project(paths)
    project.writer.open()
    # A clear may have deleted the key before the log was open.
    if not version or version != version_of(dirs.key):
        key = current_key(paths, dirs)
    if project.names_file is None or project.key is not key:
        project.key = key
        project.names_file = DeclaredNames(dirs, quote)
        project.program_names = DeclaredNames(dirs.of_app(), quote, of_app=True)
    assert project.program_names is not None
    if project.saved is not settings.current():
        project.saved = settings.current()
        save_program(dirs, project.program_names)
    found = cached.recorder = Recorder(
        cached, project.writer, key, project.names_file, project.program_names
    )
    return found


def close_logs() -> None:
    """Close the log of each project; the next event of a project opens its log again."""
    for project in _projects.values():
        project.writer.close()
    _projects.clear()


def save_program(dirs: ProjectDirs, names: DeclaredNames) -> None:
    """Store what the program declares, for `record` and the commands, which do not load it."""
    try:
        program.save(dirs, settings.current(), names)
    except (OSError, UnsafeFileError):
        return  # the events of this program are complete without it


def version_of(path: str) -> tuple[int, ...]:
    """The identity and times of a file, which change when another file replaces it."""
    try:
        st = os.lstat(path)
    except OSError:
        return ()
    return (st.st_dev, st.st_ino, st.st_mtime_ns, st.st_ctime_ns)


def save_error(paths: ProjectPaths, name: str) -> None:
    """Save the name of the last error, and its day, for `doctor`. It raises nothing.

    Args:
        paths: the project whose event was not recorded.
        name: the system's name of the error, or that of a builtin exception.
    """
    try:
        dirs = ProjectDirs.of(paths)
        if dirs is None:
            return
        fd = open_own(dirs.last_error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            day = time.strftime("%Y-%m-%d", time.gmtime(runtime.now()))
            os.write(fd, f"{day} {name}\n".encode("ascii", "replace"))
        finally:
            os.close(fd)
    except Exception:
        return  # the first error is the one to report


def current_key(paths: ProjectPaths, dirs: ProjectDirs | None = None) -> keys.Key:
    """The current key of a project, created if a grant for all projects meets the project first.

    Args:
        paths: the project's paths.
        dirs: the project's directories, where the caller has them.

    Raises:
        Refused: there is no usable key.
    """
    try:
        dirs = dirs or ProjectDirs.of(paths)
        if dirs is None:
            raise Refused("there is no key")
        # In this order: another process creates the key before the folder.
        folder_exists = os.path.lexists(paths.folder)
        if not os.path.lexists(dirs.key):
            create_key(paths, dirs, folder_exists)
        key = keys.renew_if_old(dirs.key, keys.load(dirs.key), runtime.now())
    except (ConsentError, KeyUnavailableError) as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"the key cannot be created ({name_of(error)})") from None
    project = _projects.get((paths.app, paths.root))
    # The key in use has its pseudonyms cached.
    if project is not None and project.key is not None and project.key.equals(key):
        key = project.key
    return key


def create_key(paths: ProjectPaths, dirs: ProjectDirs, folder_exists: bool) -> None:
    """Create the key of a project that a grant for all projects meets for the first time.

    Raises:
        Refused: another program made the folder of the log, or recording was turned off meanwhile.
        OSError: the key cannot be created.
    """
    if folder_exists and not projects.is_registered(dirs):
        raise Refused(_NOT_OURS.format(paths.folder))
    projects.register(paths, dirs, sync=False)
    keys.create(dirs.key, runtime.now(), sync=False)
    if not policy.decide(paths, runtime.environ).allowed:
        # A reset has returned meanwhile: files made after it are deleted.
        projects.unregister(paths, dirs)
        raise Off("recording was turned off")


# -- ids that the environment carries ------------------------------------------------------------

_VARIABLES = {"session_id": "{}_TELEMETRY_SESSION_ID", "parent_id": "{}_TELEMETRY_PARENT_ID"}


def child_environment(scope: Scope) -> dict[str, str]:
    """The variables that tie the events of a child process to a scope; empty where it is off."""
    try:
        recorder = recorder_for(scope.start)
        ids = {"session_id": scope.session_id, "parent_id": scope.enclosing_span}
        return {
            _VARIABLES[field].format(recorder.settings.prefix): (
                f"{value}-{recorder.key.signature(field, value)}"
            )
            for field, value in ids.items()
            if value is not None
        }
    except Refused:
        return {}
    except Exception as error:
        swallow(error)
        return {}


def has_session() -> bool:
    """Whether the environment carries a session, so that this process continues it."""
    variable = _VARIABLES["session_id"].format(settings.current().prefix)
    return bool(runtime.environ.get(variable))


def environment_ids(prefix: str, key: keys.Key) -> dict[str, str]:
    """Session and parent that the environment carries, each as 12 hex digits."""
    found: dict[str, str] = {}
    for field, variable in _VARIABLES.items():
        given = text(runtime.environ.get(variable.format(prefix)))
        if given is not None:
            found[field] = stored_id(field, given, key)
    return found


def stored_id(field: str, given: str, key: keys.Key) -> str:
    """The 12 hex digits of an ID from outside: those that this library signed, or a pseudonym."""
    value, _, signature = given.partition("-")
    is_id = len(value) == 12 and set(value) <= set("0123456789abcdef")
    signed = is_id and signature == key.signature(field, value)
    return value if signed else key.outside_id(field, given)
