"""For hosts written with argparse: `--telemetry / --no-telemetry`, ready to mount."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from telemetry_kit.integrations.flag import decide

Parsed = tuple[argparse.Namespace, list[str]]


class _Remember(argparse.BooleanOptionalAction):
    """Keeps what was typed until the whole line is known to be valid."""

    typed: bool | None = None
    parser: argparse.ArgumentParser | None = None

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        self.typed = getattr(namespace, self.dest)
        if parser is not self.parser:
            # It came by `parents=`: nobody tells when this one is done.
            self.settle()

    def settle(self) -> None:
        typed, self.typed = self.typed, None
        decide(typed)


def add_telemetry_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--telemetry` and `--no-telemetry` to a parser; the answer is remembered.

    It is written down when the parser has accepted the whole line. With `parse_known_args()` and
    words left over nobody knows whether it was meant so: then a no counts, and a yes does not.

    Args:
        parser: the host's parser, or one of its subcommands.
    """
    action = parser.add_argument(
        "--telemetry",
        action=_Remember,
        default=None,
        help="keep a private usage log on this computer (remembered)",
    )
    assert isinstance(action, _Remember)
    action.parser = parser
    for name in ("parse_known_args", "parse_known_intermixed_args"):
        # On this one alone: argparse has no hook for "done", and every way to parse ends in these.
        vars(parser)[name] = _settling(action, getattr(parser, name))


def _settling(action: _Remember, parse: Callable[..., Parsed]) -> Callable[..., Parsed]:
    def parsing(*args: Any, **kwargs: Any) -> Parsed:
        try:
            parsed = parse(*args, **kwargs)
        except BaseException:
            action.typed = None
            raise
        if action.typed is False or not parsed[1]:
            action.settle()
        return parsed

    return parsing
