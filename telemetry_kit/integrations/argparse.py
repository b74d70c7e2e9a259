"""Hosts that use argparse: count their commands, or add `--telemetry / --no-telemetry`."""

from __future__ import annotations

import argparse

from telemetry_kit.integrations import argparse_commands, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from telemetry_kit.integrations.program import Role


def install(
    parser: argparse.ArgumentParser, *, name: str, prog: str | None = None, role: Role = None
) -> None:
    """Count each sub-command of an argparse program, and mount the commands of this library.

    Call it once, before `parse_args()`. The program gives each sub-command a function by
    `set_defaults(func=...)`, and calls it after `parse_args()`. Where the user has granted
    consent, each call is recorded as `command.executed` and `command.completed` or
    `command.failed`, with the registered names (`db migrate`). A number that the function returns
    is its exit code. Without a decision, the user is asked before the function runs.
    `acme telemetry ...` has the commands of this library.

    Args:
        parser: the parser of the program.
        name: the app name, as in `configure(app=...)`.
        prog: the words that users type before a command of this library; `<name> telemetry` by
            default.
        role: where the acting role comes from: an option (`"--role"`), a variable
            (`"$ACME_ROLE"`), a key of a TOML or JSON file (`"acme.toml:tool.role"`), a function
            without arguments, or a list of these. The first that has a value counts.

    Raises:
        ConfigurationError: a value cannot be used, the process has another app, or the program has
            a sub-command `telemetry`, or one without a function.

    Example:
        >>> parser = argparse.ArgumentParser(prog="acme")
        >>> build = parser.add_subparsers(required=True).add_parser("build")
        >>> build.set_defaults(func=lambda args: print("built"))
        >>> install(parser, name="acme")
    """
    if not isinstance(parser, argparse.ArgumentParser):
        raise program.mistake(f"give the ArgumentParser of the program, not {parser!r:.60}")
    is_new = argparse_commands.FOLLOWED not in vars(parser)
    names = {n for prefix, a in argparse_commands.actions(parser) if not prefix for n in a.choices}
    if is_new and program.GROUP in names:
        raise program.own_command(name)
    argparse_commands.check_functions(parser)
    installed = program.install(name, prog, role, "argparse")
    if is_new:
        argparse_commands.follow(parser, installed)


class Action(argparse.BooleanOptionalAction):
    """Keep the value of the flag until the whole line is parsed."""

    typed: bool | None = None
    parser: argparse.ArgumentParser | None = None

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        """Read the value."""
        super().__call__(parser, namespace, values, option)
        self.typed = getattr(namespace, self.dest)
        if parser is not self.parser:
            # Another parser has the action by `parents=`, and its end is unknown here.
            self.settle()

    def settle(self) -> None:
        """Save the decision."""
        typed, self.typed = self.typed, None
        if typed is not None:
            from telemetry_kit.integrations.flag import decide  # deferred: only if it was typed

            decide(typed)


def add_telemetry_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--telemetry` and `--no-telemetry` to a parser; the decision is saved.

    It is saved after the whole line is parsed. If `parse_known_args()` leaves words over, their
    meaning is unknown. Then a denial is saved, and a grant is not.

    Args:
        parser: the host's parser, or that of a subcommand.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_telemetry_argument(parser)
    """
    from telemetry_kit.integrations.click_flag import HELP  # deferred: `install()` needs no flag

    action = parser.add_argument(
        "--telemetry", action=Action, default=None, help=HELP.lower().removesuffix(".")
    )
    assert isinstance(action, Action)
    action.parser = parser
    for name in ("parse_args", "parse_known_args", "parse_known_intermixed_args"):
        # argparse has no hook for the end of parsing. Every way to parse ends in one of these. A
        # `parse_args()` of the program's own class may call a method that is not wrapped here.
        vars(parser)[name] = settling(action, getattr(parser, name))


def settling(action: Action, parse: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of a parser, so that the action decides after it."""

    def parse_and_decide(*args: Any, **kwargs: Any) -> Any:
        try:
            parsed = parse(*args, **kwargs)
        except BaseException:
            action.typed = None
            raise
        # Of these methods, the ones for known arguments alone return the words that are left over.
        if action.typed is False or not (isinstance(parsed, tuple) and parsed[1]):
            action.settle()
        return parsed

    return parse_and_decide
