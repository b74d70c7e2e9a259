"""Find the names of agents and commands that a repository shows anyway, and declare them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable

from telemetry_kit import settings
from telemetry_kit.agents import front_matter, roles
from telemetry_kit.agents.front_matter import UnknownForm
from telemetry_kit.errors import TelemetryError
from telemetry_kit.files import atomic, git, private
from telemetry_kit.paths import enclosing_repositories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    # The name in a file, and the agents that work is handed to.
    Read = tuple[str, list[str]]

AGENTS, COMMANDS = "agents", "commands"
_MAX_FILES = 2_000
_MAX_DEPTH = 4


class NamesError(TelemetryError):
    """The names cannot be written; the message says why, and what to do."""


class Place:
    """One folder of a repository with names.

    Args:
        folder: the folder.
        ending: the ending of its files.
        kind: `AGENTS` or `COMMANDS`.
        depth: how many folders may lie between it and a file.
        read: reads the name in a file; the path alone has it by default.
    """

    __slots__ = ("depth", "ending", "folder", "kind", "read")

    def __init__(
        self, folder: str, ending: str, kind: str, depth: int, read: Callable[[bytes], Read]
    ) -> None:
        self.folder = folder
        self.ending = ending
        self.kind = kind
        self.depth = depth
        self.read = read


def _of_markdown(data: bytes) -> Read:
    return front_matter.read(data.decode())


def _of_command(data: bytes) -> Read:
    """The path of a command has its name."""
    return "", front_matter.read(data.decode())[1]


def _of_toml(data: bytes) -> Read:
    name = (settings.parse_toml(data) or {}).get("name")
    if not isinstance(name, str):
        raise UnknownForm
    return name, []


def _of_nothing(_data: bytes) -> Read:
    return "", []


PLACES = (
    Place(".claude/agents", ".md", AGENTS, _MAX_DEPTH, _of_markdown),
    Place(".claude/skills", "/SKILL.md", COMMANDS, 1, _of_markdown),
    Place(".claude/commands", ".md", COMMANDS, _MAX_DEPTH, _of_command),
    Place(".github/agents", ".agent.md", AGENTS, 0, _of_markdown),
    Place(".github/skills", "/SKILL.md", COMMANDS, 1, _of_markdown),
    Place(".github/prompts", ".prompt.md", COMMANDS, 0, _of_markdown),
    Place(".agents/skills", "/SKILL.md", COMMANDS, 1, _of_markdown),
    Place(".gemini/agents", ".md", AGENTS, 0, _of_markdown),
    Place(".gemini/commands", ".toml", COMMANDS, _MAX_DEPTH, _of_nothing),
    Place(".codex/agents", ".toml", AGENTS, 0, _of_toml),
    Place(".codex/prompts", ".md", COMMANDS, 0, _of_command),
    Place(".cursor/commands", ".md", COMMANDS, 0, _of_command),
    Place(".opencode/command", ".md", COMMANDS, 0, _of_command),
)


class Names:
    """The names that a repository shows.

    Attributes:
        sources: the files that have each name, by kind and name.
        unknown: the files that were not understood.
    """

    __slots__ = ("sources", "unknown")

    def __init__(self) -> None:
        self.sources: dict[tuple[str, str], list[str]] = {}
        self.unknown: list[str] = []

    def add(self, kind: str, name: str, source: str) -> None:
        """Add a name of a file."""
        name = roles.with_slash(name) if kind == COMMANDS else name
        if settings.why_not_allowed(name) is not None:
            raise UnknownForm
        sources = self.sources.setdefault((kind, name), [])
        if source not in sources:
            sources.append(source)

    def of(self, kind: str) -> list[str]:
        """The names of one kind, sorted."""
        return sorted(name for one, name in self.sources if one == kind)


def find(checkout: str, environ: Mapping[str, str]) -> Names:
    """Find the names that a repository shows; files that git ignores are left out.

    Args:
        checkout: the folder with the files of the project.
        environ: the environment variables.
    """
    found = Names()
    for place in PLACES:
        folder = os.path.join(checkout, place.folder)
        if not os.path.isdir(folder):
            continue
        shown = files_in_git(checkout, place.folder, environ)
        if shown is None and enclosing_repositories(checkout):
            found.unknown.append(place.folder)
            continue
        for path in files_of(folder, place):
            source = os.path.relpath(path, checkout)
            if shown is None or source in shown:
                read_file(place, folder, path, source, found)
    return found


def files_of(folder: str, place: Place) -> Iterator[str]:
    """The files of a place, sorted. Links to folders are not followed."""
    left = _MAX_FILES
    for above, folders, names in os.walk(folder):
        folders.sort()
        depth = os.path.relpath(above, folder).count("/") + (above != folder)
        if depth >= place.depth:
            folders.clear()
        for name in sorted(names):
            path = os.path.join(above, name)
            is_deep = depth == 1 or not place.ending.startswith("/")
            if path.endswith(place.ending) and is_deep and left:
                left -= 1
                yield path


def files_in_git(checkout: str, folder: str, environ: Mapping[str, str]) -> set[str] | None:
    """The files of a folder that git does not ignore; None if git cannot tell."""
    words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--")
    done = git.run(checkout, *words, f":(literal){folder}", environ=environ)
    if done is None or done.returncode != 0:
        return None
    return {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}


def read_file(place: Place, folder: str, path: str, source: str, found: Names) -> None:
    """Add the names of one file, or the file to those that were not understood."""
    inside = os.path.relpath(path, folder).removesuffix(place.ending)
    try:
        # A linked file may lie outside of the repository.
        data = private.read_regular(path, settings.MAX_TOML_BYTES, follow=False)
        if len(data) == settings.MAX_TOML_BYTES:
            data = data[: data.rfind(b"\n") + 1]
        name, targets = place.read(data)
        found.add(place.kind, name or inside.replace("/", ":"), source)
        for target in targets:
            found.add(AGENTS, target, source)
    except (UnknownForm, OSError, ValueError):
        found.unknown.append(source)


# -- telemetry.toml ------------------------------------------------------------------------------


def declare(path: str, names: Mapping[str, list[str]], mapping: Mapping[str, str]) -> list[str]:
    """Add names and roles of commands to a configuration file; what it has stays as it is.

    Args:
        path: the file.
        names: the names by vocabulary.
        mapping: the roles of commands.

    Returns:
        What was added: names, and commands with a role.

    Raises:
        NamesError: the file has a form that cannot be extended, or maps a command otherwise.
        OSError: the file cannot be read or written.
    """
    old = ""
    mode = 0o644
    if os.path.lexists(path):
        fd = private.open_own(path, os.O_RDONLY)
        try:
            mode = os.fstat(fd).st_mode & 0o777
        finally:
            os.close(fd)
        old = private.read_regular(path, settings.MAX_TOML_BYTES + 1, follow=False).decode()
    tables = settings.parse_toml(old.encode())
    if tables is None:
        raise NamesError(f"{path} is no TOML file of at most {settings.MAX_TOML_BYTES >> 10} KiB")
    missing = {v: [n for n in names[v] if n not in known_of(tables, v)] for v in names}
    missing = {vocabulary: more for vocabulary, more in missing.items() if more}
    known = tables.get(roles.TABLE, {})
    more_roles = {k: role for k, role in mapping.items() if known.get(k) != role}
    for key in more_roles:
        if key in known:
            raise NamesError(f"{path} maps {key} to {known[key]}: change it there")
    if not missing and not more_roles:
        return []
    new = extended(old, tables, missing, more_roles)
    expected = dict(tables)
    for vocabulary, more in missing.items():
        expected[vocabulary] = sorted([*known_of(tables, vocabulary), *more])
    if more_roles:
        expected[roles.TABLE] = {**known, **more_roles}
    if not same(parsed(new), expected):
        text = extended("", {}, missing, more_roles)
        raise NamesError(f"{path} has a form that is not changed here. Add to it:\n{text}")
    write(path, new.encode(), mode)
    return [*(name for more in missing.values() for name in more), *more_roles]


def known_of(tables: Mapping[str, Any], vocabulary: str) -> list[Any]:
    """The names of a vocabulary in a file; empty if it has no such list."""
    found = tables.get(vocabulary)
    return found if isinstance(found, list) else []


def parsed(text: str) -> dict[str, Any]:
    """The tables of a text; empty if it is no TOML."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether two files say the same, whatever the order of names."""

    def normal(tables: Mapping[str, Any]) -> dict[str, Any]:
        lists = {v: sorted(map(repr, known_of(tables, v))) for v in settings.VOCABULARIES}
        return {**tables, **{v: names for v, names in lists.items() if v in tables}}

    return normal(found) == normal(expected)


def extended(
    text: str,
    tables: Mapping[str, Any],
    names: Mapping[str, list[str]],
    mapping: Mapping[str, str],
) -> str:
    """A configuration file with more names and roles of commands."""
    for vocabulary, more in names.items():
        text = with_names(text, vocabulary, more, is_new=vocabulary not in tables)
    lines = "".join(f"{quoted(key)} = {quoted(role)}\n" for key, role in mapping.items())
    if not lines:
        return text
    header = re.search(rf"^\[{roles.TABLE}\][ \t]*(?:#.*)?(?:\r?\n|\Z)", text, re.MULTILINE)
    if header is None:
        return f"{ended(text)}{chr(10) * bool(text)}[{roles.TABLE}]\n{lines}"
    return f"{ended(text[: header.end()])}{lines}{text[header.end() :]}"


def with_names(text: str, vocabulary: str, more: list[str], is_new: bool) -> str:
    """A configuration file with more names at the beginning of a list, or with a new list."""
    items = ", ".join(map(quoted, more))
    long = "".join(f"    {quoted(name)},\n" for name in more)
    is_short = len(more) < 4 and len(items) < 70
    if is_new:
        line = f"{vocabulary} = [{items}]\n" if is_short else f"{vocabulary} = [\n{long}]\n"
        # Before the first table, to which a later line would belong.
        table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
        at = table.start() if table else len(text)
        return ended(text[:at].rstrip("\r\n")) + line + ("\n" + text[at:] if table else "")
    begin = re.search(rf"^[ \t]*[\"']?{vocabulary}[\"']?[ \t]*=[ \t]*\[", text, re.MULTILINE)
    if begin is None:
        return text
    rest = text[begin.end() :]
    if rest.lstrip().startswith("]"):
        rest = rest.lstrip()
        return text[: begin.end()] + (items if is_short else f"\n{long}") + rest
    if rest[:1] in "\r\n":
        return f"{text[: begin.end()]}\n{long.rstrip(chr(10))}{rest}"
    return f"{text[: begin.end()]}{items}, {rest}"


def quoted(text: str) -> str:
    """A text as a string of TOML, which takes the escapes of JSON."""
    import json  # deferred: only a file that is written needs it

    return json.dumps(text, ensure_ascii=False)


def ended(text: str) -> str:
    """A text with a newline at its end, unless it is empty."""
    return text + "\n" * (text != "" and not text.endswith("\n"))


def write(path: str, data: bytes, mode: int) -> None:
    """Replace a file of the repository, which keeps its mode."""
    private.make_folder(os.path.dirname(path))
    with atomic.NewFile(path) as new:
        new.write(data)
        os.fchmod(new.fd, mode)
        new.place(path)
    private.sync_folder(os.path.dirname(path))
