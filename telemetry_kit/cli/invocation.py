"""Run one command: select the app, call the command's function, then maintain the log."""

from __future__ import annotations

import os

from telemetry_kit._runtime import SUPPORTED, UNSUPPORTED, runtime
from telemetry_kit.cli.options import GLOBALS, PARAMETERS, Parameters, converted, parse
from telemetry_kit.cli.output import USAGE, CommandError, guarded
from telemetry_kit.cli.registry import COLD, COMMANDS, GLOBAL_OPTIONS, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

# The commands whose options are in the table.
MOUNTED: tuple[Row, ...] = tuple(row for row in COMMANDS if row[0][0] not in COLD)


def parameters_of(row: Row) -> Parameters:
    """Return the options and arguments of a command; none on an unsupported system."""
    return PARAMETERS[row[0][0]] if SUPPORTED else ()


def run_command(
    row: Row, values: Mapping[str, Any], app: str | None, project: str | None
) -> int | None:
    """Run a command and then the maintenance of the log.

    Args:
        row: the command's row in the table.
        values: the values of its parameters, by key, as a parser returned them.
        app: the tool that recorded the events; None to find it.
        project: a folder inside the project; None for the working directory.

    Returns:
        The exit code.

    Raises:
        CommandError: a value, the folder or the app is wrong.
    """
    from importlib import import_module  # deferred: the help of a command needs none of them

    from telemetry_kit.cli.app_option import configure_app  # deferred: as above
    from telemetry_kit.cli.maintenance import run_maintenance  # deferred: as above

    if not SUPPORTED:
        raise CommandError(f"{UNSUPPORTED}.")
    arguments = converted(parameters_of(row), values)
    if project is not None and not os.path.isdir(project):
        problem = f"there is no folder {project[:80]!r}: see --project"
        raise CommandError(f"{problem}. Nothing was changed", USAGE)
    # `hooks install --app acme` reads well, too.
    configure_app(row[0][0], arguments.get("app") or app, project)
    module = import_module(f"telemetry_kit.cli.commands.{row[1]}")
    code = guarded(lambda: module.run(project, **arguments))
    run_maintenance(project)
    return code


def run_line(options: Sequence[str], name: str, words: Sequence[str]) -> int | None:
    """Run one line of our own command line.

    Args:
        options: the words before the command: global options and their values.
        name: the command; empty if there is none.
        words: the words after it.

    Returns:
        The exit code.

    Raises:
        CommandError: the line cannot be understood, or the command cannot run.
    """
    if not SUPPORTED:
        raise CommandError(f"{UNSUPPORTED}.")
    target = global_values(options)
    known = {n: row for row in COMMANDS for n in row[0]}
    if not name:
        raise CommandError(f"the command is missing: see {runtime.program} --help", USAGE)
    if name not in known:
        from telemetry_kit.schema.catalog import nearest  # deferred: only for a mistake

        kind, names = ("option", GLOBAL_OPTIONS) if name.startswith("-") else ("command", known)
        problem = f"there is no {kind} {name[:40]!r}: did you mean {nearest(name, names)[0]!r}?"
        raise CommandError(f"{problem} See --help", USAGE)
    row = known[name]
    values = parse(name, row[2], parameters_of(row), words)
    return 0 if values is None else run_command(row, values, target["app"], target["project"])


def global_values(options: Sequence[str]) -> dict[str, str | None]:
    """Read the options before a command.

    Raises:
        CommandError: one has no value.
    """
    found: dict[str, str | None] = {option.key: None for option in GLOBALS}
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        given = value if equals else next(words, None)
        if given is None:
            raise CommandError(f"{name} needs a value: see --help", USAGE)
        found[name.removeprefix("--")] = given
    return found
