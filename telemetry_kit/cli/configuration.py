"""Problems of the configuration files, each in one sentence with the file and the line."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator, Mapping

from telemetry_kit.agents import roles
from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema.catalog import VOCABULARIES
from telemetry_kit.settings import MAX_TOML_BYTES, read_toml, why_not_allowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SECTION = "[tool.telemetry_kit]"
_HEADER = re.compile(r"\s*\[\s*tool\s*\.\s*[\"']?telemetry_kit[\"']?\s*\]")
_LINE = re.compile(r" ?\(at (?:line (\d+), column \d+|end of document)\)")
# What a user may have meant by an unknown setting.
_MEANT = {name: name for name in ("enabled", *VOCABULARIES)} | {v[:-1]: v for v in VOCABULARIES}
_MEANT["commandroles"] = roles.TABLE


def problems(paths: ProjectPaths) -> list[str]:
    """Return a sentence for each setting that has no effect, and for each unreadable file."""
    (ours, _), (theirs, marker) = paths.repository_files
    found: list[str] = []
    for path in (ours, paths.user_file):
        table = read_toml(path)
        found += [why_unreadable(path)] if table is None else key_problems(path, table)
    if read_toml(theirs, marker) is None:
        return [*found, why_unreadable(theirs)]
    # The policy reads only the section with the exact name.
    tool = (read_toml(theirs) or {}).get("tool", {})
    for name, section in tool.items() if isinstance(tool, dict) else ():
        if name != "telemetry_kit" and simplified(name) == "telemetrykit":
            found.append(f"{theirs}: [tool.{name}] has no effect; write {SECTION}")
        elif name == "telemetry_kit" and isinstance(section, dict):
            found += key_problems(theirs, section, ours)
        elif name == "telemetry_kit":
            found.append(f"{place(theirs, name)}: {name} is no table, so it denies")
    return found


def key_problems(path: str, table: Mapping[str, Any], names_in: str = "") -> Iterator[str]:
    """Yield the problems of the keys of a table.

    Args:
        path: the file.
        table: its settings.
        names_in: the file to which names belong, if this one cannot have them.
    """
    for key, value in table.items():
        meant = _MEANT.get(simplified(key), "")
        if key == "enabled":
            if not isinstance(value, bool):
                yield f"{place(path, key)}: enabled must be true or false, so it denies"
        elif key in (*VOCABULARIES, roles.TABLE) and names_in:
            yield f"{place(path, key)}: {key} has no effect here; write it into {names_in}"
        elif key in VOCABULARIES and not isinstance(value, list):
            yield f'{place(path, key)}: {key} has no effect; write a list, {key} = ["..."]'
        elif key in VOCABULARIES:
            wrong = [(name, why) for name in value if (why := why_not_allowed(name))]
            yield from (f"{place(path, key)}: {key}: {str(n)[:60]!r} {why}" for n, why in wrong)
        elif key == roles.TABLE:
            yield from role_problems(path, value)
        else:
            hint = f": did you mean {meant}?" if meant else ""
            yield f"{place(path, key)}: unknown setting {key!r}{hint}"


def role_problems(path: str, mapping: Any) -> Iterator[str]:
    """Yield the problems of the table with the roles of commands."""
    if not isinstance(mapping, dict):
        problem = f"{place(path, roles.TABLE)}: {roles.TABLE} has no effect"
        yield f'{problem}; write a table: "/pm:*" = "pm"'
        return
    for name, role in mapping.items():
        if not roles.is_mapping(name, role):
            problem = f"{place(path, name)}: {roles.TABLE}: {name[:60]!r} has no effect"
            yield f"{problem}; its role must be a name"


def simplified(name: str) -> str:
    """Return a name without capitals, hyphens and underscores."""
    return name.casefold().replace("-", "").replace("_", "")


def place(path: str, key: str) -> str:
    """Return the file and, if it can be found, the line of a key."""
    before = r"\s*\[*\s*(?:tool\s*\.\s*)?(?:telemetry_kit\s*\.\s*)?"
    at = re.compile(rf"{before}[\"']?{re.escape(key)}(?![\w-])")
    try:
        text = private.read_regular(path, MAX_TOML_BYTES).decode()
    except (OSError, ValueError):
        return path
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if _HEADER.match(line)), 0)
    for number, line in enumerate(lines[first:], first + 1):
        if at.match(line):
            return f"{path}:{number}"
    return path


def why_unreadable(path: str) -> str:
    """Return the sentence about a file for which `settings.read_toml` returns None.

    Such a file denies.
    """
    try:
        data = private.read_regular(path, MAX_TOML_BYTES + 1)
    except (OSError, ValueError) as error:
        return f"{path} {private.explain(error)}, so it denies"
    if len(data) > MAX_TOML_BYTES:
        return f"{path} is longer than {MAX_TOML_BYTES >> 10} KiB, so it denies"
    if data.startswith(codecs.BOM_UTF8):
        problem = "a byte order mark begins the file, so it denies"
        return f"{path}:1: {problem}; save it as UTF-8 without one"
    try:
        tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        return f"{path}:{number}: this is not UTF-8, so the file denies; save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        number = int(line[1]) if line and line[1] else data.count(b"\n") + 1
        reason = _LINE.sub("", str(error))
        return f"{path}:{number}: this is not TOML, so the file denies: {reason}"
    except RecursionError:
        return f"{path}: its tables are too deep, so the file denies"
    return f"{path} has a key of too many parts, so it denies"
