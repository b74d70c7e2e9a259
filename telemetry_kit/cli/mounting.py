"""The parts that the Click group and the Typer app of a host have in common.

A host makes them when it starts, so this module loads no parser and no command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from telemetry_kit import settings
from telemetry_kit._runtime import SUPPORTED, runtime
from telemetry_kit.cli.registry import COMMANDS, Row

# On an unsupported system every command fails in the same way, whatever its options.
CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
if not SUPPORTED:
    CONTEXT_SETTINGS |= {"ignore_unknown_options": True, "allow_extra_args": True}

ROWS: dict[str, Row] = {name: row for row in COMMANDS for name in row[0]}
# The app and the folder that the options of the group name.
Target = tuple[str | None, str | None]


class Commands(MutableMapping[str, Any]):
    """The commands of a group by name, in the order of the table, each made at its first use.

    Args:
        make: makes the command for a row and a name.
    """

    def __init__(self, make: Callable[[Row, str], Any]) -> None:
        self._make = make
        self._made: dict[str, Any] = dict.fromkeys(ROWS)

    def __getitem__(self, name: str) -> Any:
        if self._made[name] is None:
            self._made[name] = self._make(ROWS[name], name)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


def set_prog(app: str | None) -> None:
    """Set the words that users type before a command, unless the program has set them."""
    now = settings.current()
    prog = f"{app or now.app} telemetry"
    if (app or now.app) and not now.prog and settings.is_prog(prog):
        settings.configure(prog=prog)


def target_of(app: str | None, given: dict[str, Any]) -> Target:
    """The target of a command.

    Args:
        app: the app of the host.
        given: the values of the group's options.
    """
    return (app if given["app"] is None else given["app"], given["project"])


def run_unparsed(name: str, target: Target, words: list[str]) -> int:
    """Run `record` or `hook`, which parse their own words.

    Returns:
        The exit code.
    """
    from telemetry_kit.cli import hook, record  # deferred: only these commands need them

    app, project = target
    options = [f"--app={app}"] * (app is not None) + [f"--project={project}"] * bool(project)
    main = hook.main if name == "hook" else record.main
    return main([*options, *words], runtime.program)


def run(row: Row, values: dict[str, Any], target: Target) -> int:
    """Run any other command with the values of its parameters.

    Returns:
        The exit code.
    """
    from telemetry_kit.cli.invocation import run_command  # deferred: the table of options
    from telemetry_kit.cli.output import guarded  # deferred: as above

    return guarded(lambda: run_command(row, values, *target))
