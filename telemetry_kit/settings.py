"""The host's settings: one immutable value, replaced as a whole by `configure()`.

User input never gets in here: a value that arrives at run time is no declaration.
"""

import os

from telemetry_kit import _terms
from telemetry_kit._runtime import load, runtime
from telemetry_kit.paths import is_app_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any

    Names = Iterable[str] | None
    _Tables = dict[str, Any]

_KEY_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class Settings:
    """Everything `configure()` can say, after checking; never changed once made."""

    __slots__ = ("app", "context", "errors", "names", "prefix", "resolution", "retention_days")

    def __init__(
        self,
        app: str = "",
        names: "Mapping[str, frozenset[str]] | None" = None,
        context: "Mapping[str, str | frozenset[str]] | None" = None,
        errors: frozenset[str] = frozenset(),
        resolution: str = "day",
        retention_days: int = 90,
    ) -> None:
        self.app = app
        self.prefix = app.upper().replace("-", "_")
        self.names = names or dict.fromkeys(_terms.VOCABULARIES, frozenset())
        self.context = context or {}
        self.errors = errors
        self.resolution = resolution
        self.retention_days = retention_days


class Restore:
    """Returned by `configure()`: as a context manager it brings the former settings back."""

    __slots__ = ("_former",)

    def __init__(self, former: Settings) -> None:
        self._former = former

    def __enter__(self) -> Settings:
        return current()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        _swap(self._former)


_current = Settings()
_generation = 0
# Names given at decoration time: they come from source code, so they outlive any `configure()`.
# The sets only grow, so that whoever looks a name up needs no copy of them; each name that comes
# is another generation of the settings.
decorated: dict[str, set[str]] = {v: set() for v in _terms.VOCABULARIES}
# More in one vocabulary come from no source code; those are stored as pseudonyms.
MAX_DECORATED = 4_096


def current() -> Settings:
    """The settings in force."""
    return _current


def generation() -> int:
    """Changes whenever the settings do; names given at decoration time are taken over."""
    if runtime.declared:
        _take_over()
    return _generation


def configure(
    *,
    app: str | None = None,
    roles: "Names" = None,
    agents: "Names" = None,
    commands: "Names" = None,
    workflows: "Names" = None,
    errors: "Iterable[str | type[BaseException]] | None" = None,
    context: "Mapping[str, str | Iterable[str]] | None" = None,
    timestamp_resolution: str | None = None,
    retention_days: int | None = None,
) -> Restore:
    """Declare what may be stored in clear, and under which name the tool keeps its events.

    What is given is added to what was declared before (names, errors, context keys) or replaces
    it (the rest); what is left out stays as it is. Nothing is read or created.

    Args:
        app: name of the tool, required once: without a name nothing is recorded. Events live
            in `.<app>/`, the kill switch is `<APP>_TELEMETRY_DISABLED`. Lower-case letters,
            digits, `-` and `_`.
        roles: role names beyond the seven built-in ones.
        agents: agent names.
        commands: command names.
        workflows: workflow names.
        errors: exception classes (or their names) whose names may be stored.
        context: for each context key its class: `"identifier"` (stored as a pseudonym),
            `"measure"` (a number, three significant digits), `"flag"` (a bool), or a closed
            collection of strings (stored if it is one of them).
        timestamp_resolution: `"day"`, `"hour"`, `"minute"` or `"second"`.
        retention_days: events older than this are deleted by maintenance; 1 to 3650.

    Returns:
        A context manager that restores the former settings when it is left.

    Raises:
        ConfigurationError: a value that cannot be kept; nothing was changed.

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
    old = _current
    given = {"roles": roles, "agents": agents, "commands": commands, "workflows": workflows}
    new = Settings(
        app=old.app if app is None else _app(app),
        names={v: old.names[v] | _names(v, n) for v, n in given.items()},
        context={**old.context, **_context(context)},
        errors=old.errors | _errors(errors),
        resolution=old.resolution
        if timestamp_resolution is None
        else _resolution(timestamp_resolution),
        retention_days=old.retention_days if retention_days is None else _days(retention_days),
    )
    _swap(new)
    return Restore(old)


def declare(field: str, name: str) -> None:
    """Take a name given at decoration time into the vocabulary of its field.

    Raises:
        ConfigurationError: the name cannot be stored in clear.
    """
    for checked in _names(field, (name,)):
        _decorate(field, checked)


def _decorate(field: str, name: str) -> None:
    names = decorated[_terms.VOCABULARY_OF[field]]
    if name not in names and len(names) < MAX_DECORATED:
        names.add(name)
        _bump()


def vocabulary(name: str, more: "Iterable[str]" = ()) -> frozenset[str]:
    """All names of one vocabulary that may be stored in clear.

    Args:
        name: `roles`, `agents`, `commands` or `workflows`.
        more: names that the project or the user declared.
    """
    _take_over()
    builtin = _terms.ROLES if name == "roles" else ()
    return _current.names[name].union(decorated[name], builtin, more)


def storable(name: object) -> str | None:
    """Why `name` cannot be declared, or None when it can."""
    if not isinstance(name, str):
        return f"must be a string, not {type(name).__name__}"
    if not name or name != name.strip() or not name.isprintable():
        return "must be printable text without surrounding space"
    if name.startswith(_terms.PSEUDONYM_PREFIX):
        return f"must not start with {_terms.PSEUDONYM_PREFIX!r}, the mark of a pseudonym"
    if len(name.encode("ascii", "backslashreplace")) > _terms.MAX_DECLARED_BYTES:
        return f"must fit {_terms.MAX_DECLARED_BYTES} bytes"
    return None


def listed(paths: "Iterable[str]") -> "dict[str, list[str]]":
    """The names in configuration files, by vocabulary, but for those that cannot be declared.

    Args:
        paths: the files; of one that is not there, or cannot be parsed, none.

    Raises:
        Refused: nothing can be parsed now; a moment later it can.
    """
    found: dict[str, list[str]] = {name: [] for name in _terms.VOCABULARIES}
    for table in map(read_toml, paths):
        for name, more in found.items():
            names = table.get(name) if table else None
            if isinstance(names, list):
                more += [n for n in names if storable(n) is None]
    return found


MAX_TOML_BYTES = 1 << 16
# Somebody else's file may be longer as long as nothing in it is for us.
_MAX_SEARCHED_BYTES = 1 << 20
_MAX_KEY_PARTS = 8
# Strings and comments. One that does not end goes on to where a parser would give up.
_OPAQUE = (
    rb'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"""(?:"{1,2})?|\Z)'
    rb"|'''.*?(?:'''(?:'{1,2})?|\Z)"
    rb'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    rb"|'[^'\n]*+'?"
    rb"|#[^\n]*+"
)
# What else may have dots in a row is a key, and nothing but a dot parts it.
_LONG_KEY = rb"(?:\.[^.\n=,\[\]{}]*+){%d}" % _MAX_KEY_PARTS
_toml: "dict[tuple[str, bytes], tuple[tuple[int, ...], _Tables | None]]" = {}


def read_toml(path: str, marker: bytes = b"") -> "dict[str, Any] | None":
    """A configuration file, parsed anew only when it changed.

    Args:
        path: the file.
        marker: bytes without which the file says nothing to us and is not parsed.

    Returns:
        The tables; `{}` when there is no such file or no marker; None when it is there but
        cannot be read or parsed, is longer than `MAX_TOML_BYTES` or has a key of more than eight
        parts, which every caller must take as a denial.

    Raises:
        Refused: nothing can be parsed now; a moment later it can.
    """
    try:
        st = os.lstat(path)
        if st.st_mode & 0o170000 == 0o120000:
            st = _behind(path)
        if st.st_mode & 0o170000 != 0o100000:
            return None
        seen = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        return None
    known = _toml.get((path, marker))
    if known is None or known[0] != seen:
        known = _toml[path, marker] = (seen, _parsed_file(path, marker))
    return known[1]


def _behind(link: str) -> os.stat_result:
    """What a link leads to; one that leads nowhere is there all the same, and no missing file."""
    try:
        return os.stat(link)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError("a link that leads nowhere") from None


def _parsed_file(path: str, marker: bytes) -> "_Tables | None":
    """The tables, or what `read_toml()` says of a file that has none.

    Raises:
        Refused: nothing can be parsed now.
    """
    most = _MAX_SEARCHED_BYTES if marker else MAX_TOML_BYTES
    private = load("telemetry_kit.files.private")  # deferred: a program that is off reads no file
    if private is None:
        raise _not_now("what reads the file is being loaded")
    try:
        data: bytes = private.read_regular(path, most + 1)
    except (OSError, ValueError):
        return None
    if marker and marker not in data and len(data) <= most:
        return {}
    return parse_toml(data)


def parse_toml(data: bytes) -> "_Tables | None":
    """The tables of a document; None where it is too long, has too long a key or is none.

    A parser spends memory with the square of the number of parts that a key has, so these are
    counted before.

    Args:
        data: the document.

    Raises:
        Refused: nothing can be parsed now; a moment later it can.
    """
    if len(data) > MAX_TOML_BYTES:
        return None
    tomllib = load("tomllib")  # deferred: 12 ms, and most projects have no such file
    if tomllib is None:
        raise _not_now("no parser can be loaded now")
    if _has_long_key(data):
        return None
    try:
        tables: _Tables = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    return tables


def _has_long_key(data: bytes) -> bool:
    if data.count(b".") < _MAX_KEY_PARTS:
        return False
    import re  # deferred: the parser has loaded it

    # A string may be part of a key. In its place stands what is no dot.
    bare = re.sub(_OPAQUE, b"_", data, flags=re.DOTALL)
    return re.search(_LONG_KEY, bare) is not None


def _take_over() -> None:
    while runtime.declared:
        try:
            _decorate(*runtime.declared.pop())
        except KeyError:
            return  # another thread took the last one


def _swap(new: Settings) -> None:
    global _current
    _current = new
    runtime.app = new.app
    runtime.off_until = 0.0
    _bump()


def _bump() -> None:
    global _generation
    _generation += 1


def _mistake(message: str) -> Exception:
    from telemetry_kit.errors import ConfigurationError  # deferred: only for a mistake

    return ConfigurationError(message)


def _not_now(reason: str) -> Exception:
    from telemetry_kit.errors import Refused  # deferred: only where nothing can be loaded

    return Refused(reason)


def _app(app: str) -> str:
    if not is_app_name(app):
        raise _mistake(
            f"app={app!r}: use 1 to 40 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or digit"
        )
    return app


def _names(vocabulary: str, names: "Names") -> frozenset[str]:
    if names is None:
        return frozenset()
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise _mistake(f"{vocabulary}={names!r}: give a list of names")
    kept = []
    for name in names:
        trouble = storable(name)
        if trouble:
            raise _mistake(f"{vocabulary}: {str(name)[:60]!r} {trouble}")
        kept.append(str.__str__(name))
    return frozenset(kept)


def _errors(errors: "Iterable[str | type[BaseException]] | None") -> frozenset[str]:
    names = [e.__name__ if isinstance(e, type) else e for e in errors or ()]
    return _names("errors", names)


def _context(
    context: "Mapping[str, str | Iterable[str]] | None",
) -> dict[str, str | frozenset[str]]:
    found: dict[str, str | frozenset[str]] = {}
    for key, kind in (context or {}).items():
        trouble = storable(key)
        if trouble or not _KEY_CHARS.issuperset(key):
            trouble = trouble or "may have ASCII letters, digits, '_', '-' and '.' only"
            raise _mistake(f"context key {str(key)[:60]!r} {trouble}")
        if not isinstance(kind, str):
            found[key] = _names(f"context[{key!r}]", kind)
        elif kind in _terms.CONTEXT_CLASSES:
            found[key] = kind
        else:
            raise _mistake(
                f"context[{key!r}]={kind!r}: use 'identifier', 'measure', 'flag' "
                "or a list of the strings allowed"
            )
    return found


def _resolution(value: str) -> str:
    if not isinstance(value, str) or value not in _terms.RESOLUTIONS:
        raise _mistake(
            f"timestamp_resolution={value!r}: use one of {', '.join(_terms.RESOLUTIONS)}"
        )
    return value


def _days(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 3_650:
        raise _mistake(f"retention_days={value!r}: use a whole number from 1 to 3650")
    return value
