"""`telemetry-kit names`: list the names that a repository shows anyway, and declare them."""

from __future__ import annotations

import json

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.agents import names, roles
from telemetry_kit.agents.names import Names, NamesError
from telemetry_kit.cli import output, tables
from telemetry_kit.cli.arguments import declared
from telemetry_kit.cli.output import USAGE, CommandError, counted, info, safe
from telemetry_kit.consent import changes
from telemetry_kit.files.private import explain
from telemetry_kit.paths import ProjectPaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(
    project: str | None, write: bool, given_roles: tuple[str, ...], as_json: bool
) -> int | None:
    """List the names of agents and commands that this repository shows.

    Raises:
        CommandError: a role cannot be read, or the names cannot be written.
    """
    paths = changes.paths_of(project)
    mapping = dict(map(parse_role, given_roles))
    if write and paths.is_user_scope:
        problem = f"{paths.app} has no settings in projects"
        raise CommandError(f"{problem}: add the names to {paths.user_file}", USAGE)
    found = names.find(paths.checkout, runtime.environ)
    if write:
        declare(paths, found, mapping)
    rows = rows_of(paths, found, mapping)
    if as_json:
        data = {"app": paths.app, "names": rows, "not_understood": found.unknown}
        print(json.dumps(data))
        return None
    if rows:
        show(rows)
    else:
        info("This repository has no agents, commands or skills of a coding agent.")
    for source in found.unknown:
        info(f"Not understood: {safe(source)}")
    if not write and (mapping or not all(row["declared"] for row in rows)):
        file = safe(paths.naming_files[0])
        info(f"A name that is not declared is stored as a pseudonym. --write adds all to {file}.")
    return None


def parse_role(text: str) -> tuple[str, str]:
    """Parse `COMMAND=ROLE`.

    Raises:
        CommandError: it has another form.
    """
    command, equals, role = (part.strip() for part in text.rpartition("="))
    key = roles.with_slash(command)
    problem = settings.why_not_allowed(key) or settings.why_not_allowed(role)
    if not equals or not command or problem:
        hint = "write a command and its role, such as /pm:*=pm"
        raise CommandError(f"--roles {safe(text[:60])!r}: {hint}", USAGE)
    return key, role


def declare(paths: ProjectPaths, found: Names, mapping: dict[str, str]) -> None:
    """Write the names and the roles of commands into the settings of the project.

    Raises:
        CommandError: they cannot be written.
    """
    path = paths.naming_files[0]
    builtin = settings.ROLES
    given = {
        "roles": sorted({role for role in mapping.values() if role not in builtin}),
        names.AGENTS: found.of(names.AGENTS),
        names.COMMANDS: found.of(names.COMMANDS),
    }
    try:
        added = names.declare(path, given, mapping)
    except NamesError as error:
        raise CommandError(f"nothing was written: {error}") from None
    except (OSError, ValueError) as error:
        raise CommandError(f"nothing was written: {safe(path)}: {explain(error)}") from None
    done = f"Added {counted(len(added), 'entry', 'entries')} to" if added else "Nothing to add to"
    info(f"{done} {safe(path)}.")


def rows_of(paths: ProjectPaths, found: Names, mapping: dict[str, str]) -> list[dict[str, Any]]:
    """Return the rows of the table, as `--json` prints them."""
    known = {kind: declared(paths, kind) for kind in (names.AGENTS, names.COMMANDS)}
    rows = []
    for kind, declared_names in known.items():
        for name in found.of(kind):
            role = None
            if kind == names.COMMANDS:
                role = roles.role_in(mapping, name) or roles.role_of(name, paths)
            is_declared = name in declared_names
            row = {"kind": kind[:-1], "name": name, "role": role, "declared": is_declared}
            rows.append({**row, "sources": found.sources[kind, name]})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the names as a table."""
    columns = [
        tables.Column("kind", [row["kind"] for row in rows]),
        tables.Column("name", [row["name"] for row in rows], can_fold=True),
        tables.Column("role", [row["role"] or "" for row in rows], priority=1),
        tables.Column("declared", ["yes" if row["declared"] else "no" for row in rows]),
        tables.Column("source", [source_of(row) for row in rows], can_fold=True),
    ]
    for line in tables.table(columns, output.width()):
        print(line)


def source_of(row: dict[str, Any]) -> str:
    """Return the first file with a name, and how many others have it."""
    first, *others = row["sources"]
    return f"{first} and {counted(len(others), 'other')}" if others else str(first)
