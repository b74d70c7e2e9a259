"""The host's settings: one immutable value, which `configure()` replaces as a whole.

A value that arrives at run time is never a declaration, so no user input is stored here.
"""

import os

from telemetry_kit._runtime import load, runtime
from telemetry_kit.paths import ProjectPaths, find, is_app_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any

    Names = Iterable[str] | None
    Tables = dict[str, Any]

ROLES = ("pm", "arch", "dev", "sec", "qa", "ops", "all")
RESOLUTIONS = {"day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
VOCABULARIES = ("roles", "agents", "commands", "workflows")
# The vocabulary of each field with a name; a test compares it with the catalog.
VOCABULARY_OF = {
    "role": "roles",
    "command": "commands",
    "agent": "agents",
    "workflow": "workflows",
    "source_agent": "agents",
    "target_agent": "agents",
    "previous_role": "roles",
}
MEASURE = "measure"
IDENTIFIER = "identifier"
# The classes of a context key, besides a closed list of strings.
CONTEXT_CLASSES = (IDENTIFIER, MEASURE, "flag")
MAX_DECLARED_BYTES = 128
PSEUDONYM_PREFIX = "h:"
# Source code contains fewer names per vocabulary. Any further ones become pseudonyms.
MAX_DECORATED = 4_096
_KEY_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
MAX_PROG_CHARS = 60
_PROG_MARKS = "-_./+:@%="
_PROG_CHARS = _KEY_CHARS.union(_PROG_MARKS, " ")


class Settings:
    """All values given to `configure()`, after the checks; never changed."""

    __slots__ = (
        *("app", "context", "directory", "errors", "names", "prefix", "prog", "resolution"),
        *("retention_days", "scope", "version"),
    )

    def __init__(
        self,
        app: str = "",
        names: "Mapping[str, frozenset[str]] | None" = None,
        context: "Mapping[str, str | frozenset[str]] | None" = None,
        errors: frozenset[str] = frozenset(),
        resolution: str = "day",
        retention_days: int = 90,
        version: str = "",
        scope: str = "project",
        directory: str = "",
        prog: str = "",
    ) -> None:
        self.app = app
        self.prog = prog
        self.prefix = app.upper().replace("-", "_")
        self.names = names or dict.fromkeys(VOCABULARIES, frozenset())
        self.context = context or {}
        self.errors = errors
        self.resolution = resolution
        self.retention_days = retention_days
        self.version = version
        self.scope = scope
        self.directory = directory

    def paths(self, start: "str | None") -> ProjectPaths:
        """Find the paths of the app for a directory, by default the working directory.

        Raises:
            Refused: see `paths.find()`.
        """
        return find(self.app, start, runtime.environ, self.scope, self.directory)


class State:
    """The current settings; the generation changes with them and with names from decorations."""

    __slots__ = ("generation", "settings", "tables")

    def __init__(self) -> None:
        self.settings = Settings()
        self.generation = 0
        # Parsed files by path and marker, each with the version of the file.
        self.tables: dict[tuple[str, bytes], tuple[tuple[int, ...], Tables | None]] = {}

    def replace(self, settings: Settings) -> None:
        """Make these settings the current ones."""
        self.settings = settings
        self.generation += 1
        runtime.app = settings.app
        runtime.prog = settings.prog
        runtime.off_until = 0.0

    def add_decorated(self, field: str, name: str) -> None:
        """Add a name given at decoration time to the vocabulary of its field."""
        names = decorated[VOCABULARY_OF[field]]
        if name not in names and len(names) < MAX_DECORATED:
            names.add(name)
            self.generation += 1


# Names given at decoration time are source code, so each `configure()` keeps them. The sets only
# grow, so the pipeline reads them without a copy.
decorated: dict[str, set[str]] = {v: set() for v in VOCABULARIES}
state = State()


class Restore:
    """Returned by `configure()`: as a context manager it restores the former settings."""

    __slots__ = ("_former",)

    def __init__(self, former: Settings) -> None:
        self._former = former

    def __enter__(self) -> Settings:
        return state.settings

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        state.replace(self._former)


def current() -> Settings:
    """The current settings."""
    return state.settings


def generation() -> int:
    """The generation of the settings, after names given at decoration time were added."""
    while runtime.declared:
        try:
            field, name = runtime.declared.pop()
        except KeyError:
            break  # another thread added the last one
        state.add_decorated(field, name)
    return state.generation


def configure(
    *,
    app: str | None = None,
    version: str | None = None,
    scope: str | None = None,
    directory: str | None = None,
    prog: str | None = None,
    roles: "Names" = None,
    agents: "Names" = None,
    commands: "Names" = None,
    workflows: "Names" = None,
    errors: "Iterable[str | type[BaseException]] | None" = None,
    context: "Mapping[str, str | Iterable[str]] | None" = None,
    timestamp_resolution: str | None = None,
    retention_days: int | None = None,
) -> Restore:
    """Declare the tool's name, and the names that may be stored in plain text.

    Names, errors and context keys are added to those of earlier calls. Other values replace the
    earlier ones. Values that are left out stay the same. Nothing is read or created.

    Example:
        >>> from telemetry_kit import configure
        >>> with configure(app="acme", commands=["build"], retention_days=30) as settings:
        ...     settings.app
        'acme'

    Args:
        app: name of the tool, required once: without a name nothing is recorded. Events are
            stored in `.<app>/`, and `<APP>_TELEMETRY_DISABLED` turns recording off. Lower-case
            letters, digits, `-` and `_`.
        version: the tool's version, for instance `"1.4.2"` or `"2.0rc1"`. Events store its release
            number alone, at most four numbers: `"2.0rc1"` is stored as `2.0`.
        scope: `"project"`, with events and a decision for each project, or `"user"` for a tool
            without projects. In user scope there is one decision, all events are in one log in the
            user's state directory, and no file is written to a working directory.
        directory: name of the folder in a project with the events, `.<app>` by default. Give
            another one if `.<app>` has a meaning for the tool itself.
        prog: the words that users type before a command of this library, such as
            `"acme telemetry"`. Each notice and message says them. Mounting the commands sets it.
        roles: role names beyond the seven built-in ones.
        agents: agent names.
        commands: command names.
        workflows: workflow names.
        errors: exception classes (or their names) whose names may be stored.
        context: the class of each context key: `"identifier"` (stored as a pseudonym),
            `"measure"` (a number, three significant digits), `"flag"` (a bool), or a closed
            collection of strings (only these are stored).
        timestamp_resolution: `"day"`, `"hour"`, `"minute"` or `"second"`.
        retention_days: maintenance deletes events that are older; 1 to 3650.

    Returns:
        A context manager that restores the former settings at its end.

    Raises:
        ConfigurationError: a value cannot be used; nothing has changed.

    Example:
        >>> from telemetry_kit import capture_events, configure, track_role_event
        >>> with configure(app="acme", agents=["planner"], context={"tries": "measure"}):
        ...     with capture_events() as captured:
        ...         record = track_role_event(
        ...             "agent.invoked", agent="planner", context={"tries": 2}
        ...         )
        >>> record["agent"], record["context"], captured.dropped
        ('planner', {'tries': 2}, [])
    """
    if app is not None and not is_app_name(app):
        raise _mistake(
            f"app={app!r}: use 1 to 40 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or digit"
        )
    if scope is not None and scope not in ("project", "user"):
        raise _mistake(f"scope={scope!r}: use 'project' or 'user'")
    if directory is not None and not is_directory(directory):
        raise _mistake(f"directory={directory!r}: use one name with a dot, for instance '.usage'")
    if prog and not is_prog(prog):
        raise _mistake(
            f"prog={prog!r}: use the words that users type, such as 'acme telemetry': at most "
            f"{MAX_PROG_CHARS} letters, digits, single spaces and characters of {_PROG_MARKS}"
        )
    resolution = timestamp_resolution
    if resolution is not None and resolution not in tuple(RESOLUTIONS):
        raise _mistake(f"timestamp_resolution={resolution!r}: use one of {', '.join(RESOLUTIONS)}")
    days = retention_days
    is_number = isinstance(days, int) and not isinstance(days, bool)
    if days is not None and not (is_number and 1 <= days <= 3_650):
        raise _mistake(f"retention_days={days!r}: use a whole number from 1 to 3650")
    release = None if version is None else release_of(version)
    if release == "":
        raise _mistake(f"version={version!r}: use numbers with dots, for instance '1.4.2'")
    error_names = [e.__name__ if isinstance(e, type) else e for e in errors or ()]
    given = {"roles": roles, "agents": agents, "commands": commands, "workflows": workflows}
    old = state.settings
    new = Settings(
        app=old.app if app is None else app,
        names={v: old.names[v] | check_names(v, names) for v, names in given.items()},
        context={**old.context, **check_context(context or {})},
        errors=old.errors | check_names("errors", error_names),
        resolution=resolution or old.resolution,
        retention_days=days or old.retention_days,
        version=old.version if release is None else release,
        scope=scope or old.scope,
        directory=old.directory if directory is None else directory,
        prog=old.prog if prog is None else prog,
    )
    state.replace(new)
    return Restore(old)


def is_directory(name: object) -> bool:
    """Whether the folder with the events may have this name."""
    return (
        why_not_allowed(name) is None
        and str(name)[0] == "."
        and "/" not in str(name)
        and name not in (".", "..", ".git")
    )


def release_of(version: object) -> str:
    """The release number that a version begins with, at most four numbers; empty if it has none.

    What follows it in a version of PEP 440 or of Semantic Versioning is left out.
    """
    numbers: list[str] = []
    parts = version.removeprefix("v").split(".") if isinstance(version, str) else ()
    for part in parts[:4]:
        rest = part.lstrip("0123456789")
        number = part[: len(part) - len(rest)]
        if not 0 < len(number) <= 9:
            break
        numbers.append(number)
        if rest:
            break
    return ".".join(numbers)


def is_prog(prog: object) -> bool:
    """Whether a shell takes a text as the words of a command, each as it is."""
    return (
        isinstance(prog, str)
        and 0 < len(prog) <= MAX_PROG_CHARS
        and _PROG_CHARS.issuperset(prog)
        and prog == " ".join(prog.split())
    )


def allow_name(field: str, name: str) -> None:
    """Add a name given at decoration time to the vocabulary of its field.

    Raises:
        ConfigurationError: the name cannot be stored in plain text.
    """
    for checked in check_names(field, (name,)):
        state.add_decorated(field, checked)


def vocabulary(name: str, more: "Iterable[str]" = ()) -> frozenset[str]:
    """All names of one vocabulary that may be stored in plain text.

    Args:
        name: `roles`, `agents`, `commands` or `workflows`.
        more: names that the project or the user declared.
    """
    generation()
    builtin = ROLES if name == "roles" else ()
    return state.settings.names[name].union(decorated[name], builtin, more)


def why_not_allowed(name: object) -> str | None:
    """Why `name` cannot be declared, or None if it can."""
    if not isinstance(name, str):
        return f"must be a string, not {type(name).__name__}"
    if not name or name != name.strip() or not name.isprintable():
        return "must be printable text without surrounding space"
    if name.startswith(PSEUDONYM_PREFIX):
        return f"must not start with {PSEUDONYM_PREFIX!r}, the mark of a pseudonym"
    if len(name.encode("ascii", "backslashreplace")) > MAX_DECLARED_BYTES:
        return f"must fit {MAX_DECLARED_BYTES} bytes"
    return None


def names_from_files(paths: "Iterable[str]") -> "dict[str, list[str]]":
    """The names in configuration files, by vocabulary, without those that cannot be declared.

    Args:
        paths: the files; one that is missing or cannot be parsed declares nothing.

    Raises:
        Refused: the parser cannot be loaded at this moment.
    """
    found: dict[str, list[str]] = {name: [] for name in VOCABULARIES}
    for table in map(read_toml, paths):
        for name, more in found.items():
            names = table.get(name) if table else None
            if isinstance(names, list):
                more += [n for n in names if why_not_allowed(n) is None]
    return found


MAX_TOML_BYTES = 1 << 16
# A file of another tool may be longer, if it has no section for us.
_MAX_SEARCHED_BYTES = 1 << 20
_MAX_KEY_PARTS = 8
# Strings and comments. One without an end goes on to where a parser would give up.
_OPAQUE = (
    rb'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"""(?:"{1,2})?|\Z)'
    rb"|'''.*?(?:'''(?:'{1,2})?|\Z)"
    rb'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    rb"|'[^'\n]*+'?"
    rb"|#[^\n]*+"
)
# Outside of strings, only a key has several dots with none of these characters between them.
_LONG_KEY = rb"(?:\.[^.\n=,\[\]{}]*+){%d}" % _MAX_KEY_PARTS


def read_toml(path: str, marker: bytes = b"") -> "Tables | None":
    """Read a configuration file, which is parsed again only after it changed.

    Args:
        path: the file.
        marker: bytes without which the file has no section for us and is not parsed.

    Returns:
        The tables; `{}` if there is no such file or no marker; None if the file exists but
        cannot be read or parsed, is longer than `MAX_TOML_BYTES` or has a key of more than eight
        parts, which every caller must take as a denial.

    Raises:
        Refused: the parser cannot be loaded at this moment.
    """
    try:
        st = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        return None
    try:
        # A link whose target is missing is not a missing file.
        st = os.stat(path) if st.st_mode & 0o170000 == 0o120000 else st
    except OSError:
        return None
    if st.st_mode & 0o170000 != 0o100000:
        return None
    version = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    known = state.tables.get((path, marker))
    if known is None or known[0] != version:
        known = state.tables[path, marker] = (version, _parsed_file(path, marker))
    return known[1]


def _parsed_file(path: str, marker: bytes) -> "Tables | None":
    max_bytes = _MAX_SEARCHED_BYTES if marker else MAX_TOML_BYTES
    private = _loaded("telemetry_kit.files.private")
    try:
        data: bytes = private.read_regular(path, max_bytes + 1)
    except (OSError, ValueError):
        return None
    if marker and marker not in data and len(data) <= max_bytes:
        return {}
    return parse_toml(data)


def parse_toml(data: bytes) -> "Tables | None":
    """The tables of a document; None if it is not valid, too long, or has a key of many parts.

    A parser needs memory in proportion to the square of the number of parts of a key, so the
    parts are counted first.

    Raises:
        Refused: the parser cannot be loaded at this moment.
    """
    if len(data) > MAX_TOML_BYTES:
        return None
    tomllib = _loaded("tomllib")
    if data.count(b".") >= _MAX_KEY_PARTS:
        import re  # deferred: the parser has loaded it

        # A string may be part of a key, so it is replaced, and not removed.
        bare = re.sub(_OPAQUE, b"_", data, flags=re.DOTALL)
        if re.search(_LONG_KEY, bare) is not None:
            return None
    try:
        tables: Tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    return tables


def _loaded(name: str) -> "Any":
    # deferred: a program that is off reads no file, and most projects have none to parse
    module = load(name)
    if module is None:
        from telemetry_kit.errors import Refused  # deferred: only if nothing can be loaded

        raise Refused("the settings files cannot be read now: a module is being loaded")
    return module


def _mistake(message: str) -> Exception:
    from telemetry_kit.errors import ConfigurationError  # deferred: only for a mistake

    return ConfigurationError(message)


def check_names(vocabulary: str, names: "Names") -> frozenset[str]:
    """Check the names of one vocabulary, and convert subclasses of `str`."""
    if names is None:
        return frozenset()
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise _mistake(f"{vocabulary}={names!r}: give a list of names")
    checked = []
    for name in names:
        problem = why_not_allowed(name)
        if problem:
            raise _mistake(f"{vocabulary}: {str(name)[:60]!r} {problem}")
        checked.append(str.__str__(name))
    return frozenset(checked)


def check_context(
    context: "Mapping[str, str | Iterable[str]]",
) -> dict[str, str | frozenset[str]]:
    """Check context keys and their classes."""
    checked: dict[str, str | frozenset[str]] = {}
    for key, kind in context.items():
        problem = why_not_allowed(key)
        if problem or not _KEY_CHARS.issuperset(key):
            problem = problem or "may have ASCII letters, digits, '_', '-' and '.' only"
            raise _mistake(f"context key {str(key)[:60]!r} {problem}")
        if not isinstance(kind, str):
            checked[key] = check_names(f"context[{key!r}]", kind)
        elif kind in CONTEXT_CLASSES:
            checked[key] = kind
        else:
            raise _mistake(
                f"context[{key!r}]={kind!r}: use 'identifier', 'measure', 'flag' "
                "or a list of the strings allowed"
            )
    return checked
