"""Run one command: find the app and the project, call it, and turn failures into exit codes."""

from __future__ import annotations

import os

from telemetry_kit._runtime import SUPPORTED, UNSUPPORTED
from telemetry_kit.cli.options import PARAMETERS, Parameters, converted, parse
from telemetry_kit.cli.output import USAGE, CommandError, guarded
from telemetry_kit.cli.registry import COLD, COMMANDS, GLOBAL_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

# For Click and Typer.
CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
if not SUPPORTED:
    # Where no command works, no word is wrong.
    CONTEXT_SETTINGS |= {"ignore_unknown_options": True, "allow_extra_args": True}


class Command:
    """One row of the table of commands; its module is imported when it runs.

    Args:
        names: its name, and its aliases.
        module: the file it lives in.
        help: one sentence.
    """

    __slots__ = ("_module", "help", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        module: str,
        help: str,  # noqa: A002 - the word of argparse, Click and Typer
    ) -> None:
        self.names = names
        self.help = help
        self._module = module

    @property
    def parameters(self) -> Parameters:
        """Its options and arguments; none where no command works, as then no word is wrong."""
        return PARAMETERS[self.names[0]] if SUPPORTED else ()

    def run(self, target: tuple[str | None, str | None], values: Mapping[str, Any]) -> int:
        """Run the command.

        Args:
            target: the tool whose events are meant, None to find it; and a folder inside the
                project, None for the working directory.
            values: those of its parameters, by key, as a parser found them.

        Returns:
            The exit code.
        """
        return guarded(lambda: self._run(*target, values))

    def _run(self, app: str | None, project: str | None, values: Mapping[str, Any]) -> int:
        from importlib import import_module  # deferred: the help of a command needs none of them

        from telemetry_kit.cli.app_option import name_app  # deferred: as above
        from telemetry_kit.cli.maintenance import run_maintenance  # deferred: as above

        _check_supported()
        given = converted(self.parameters, values)
        if project is not None and not os.path.isdir(project):
            told = f"there is no folder {project[:80]!r}: see --project"
            raise CommandError(f"{told}. Nothing was changed", USAGE)
        name_app(self.names[0], app, project)
        module = import_module(f"telemetry_kit.cli.commands.{self._module}")
        code = guarded(lambda: module.run(project, **given))
        run_maintenance(project)
        return code


def mounted() -> Iterator[Command]:
    """The commands that a host mounts."""
    return (Command(*row) for row in COMMANDS if row[0][0] not in COLD)


def run_line(options: Sequence[str], name: str, words: Sequence[str]) -> int:
    """Run one line of our own command line.

    Args:
        options: the words before the command: global options and their values.
        name: the command; empty if there is none.
        words: the words after it.

    Returns:
        The exit code.
    """
    return guarded(lambda: _run_line(options, name, words))


def _run_line(options: Sequence[str], name: str, words: Sequence[str]) -> int:
    _check_supported()
    target = _target(options)
    known = {n: row for row in COMMANDS for n in row[0]}
    if not name:
        raise CommandError("which command? See telemetry-kit --help", USAGE)
    if name not in known:
        from telemetry_kit.schema.catalog import nearest  # deferred: only for a mistake

        kind, names = ("option", GLOBAL_OPTIONS) if name.startswith("-") else ("command", known)
        told = f"there is no {kind} {name[:40]!r}"
        raise CommandError(f"{told}: did you mean {nearest(name, names)[0]!r}? See --help", USAGE)
    command = Command(*known[name])
    values = parse(name, command.help, command.parameters, words)
    return 0 if values is None else command.run((target["--app"], target["--project"]), values)


def _target(options: Sequence[str]) -> dict[str, str | None]:
    """The values of the global options.

    Raises:
        CommandError: one has no value.
    """
    found: dict[str, str | None] = dict.fromkeys(GLOBAL_OPTIONS)
    words = iter(options)
    for word in words:
        name, equals, value = word.partition("=")
        given = value if equals else next(words, None)
        if given is None:
            raise CommandError(f"{name} needs a value: see --help", USAGE)
        found[name] = given
    return found


def _check_supported() -> None:
    if not SUPPORTED:
        raise CommandError(f"{UNSUPPORTED}.")
