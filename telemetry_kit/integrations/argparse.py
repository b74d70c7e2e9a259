"""`--telemetry / --no-telemetry` for hosts that use argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from telemetry_kit.integrations.flag import HELP, decide

Parsed = tuple[argparse.Namespace, list[str]]


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
    action = parser.add_argument(
        "--telemetry", action=Action, default=None, help=HELP.lower().removesuffix(".")
    )
    assert isinstance(action, Action)
    action.parser = parser
    for name in ("parse_known_args", "parse_known_intermixed_args"):
        # argparse has no hook for the end of parsing. Every way to parse ends in one of these.
        vars(parser)[name] = settling(action, getattr(parser, name))


def settling(action: Action, parse: Callable[..., Parsed]) -> Callable[..., Parsed]:
    """Wrap a method of a parser, so that the action decides after it."""

    def parse_and_decide(*args: Any, **kwargs: Any) -> Parsed:
        try:
            parsed = parse(*args, **kwargs)
        except BaseException:
            action.typed = None
            raise
        if action.typed is False or not parsed[1]:
            action.settle()
        return parsed

    return parse_and_decide
