"""For hosts written with argparse: `--telemetry / --no-telemetry`, ready to mount."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from telemetry_kit.bridges.flag import decide


class _Decide(argparse.BooleanOptionalAction):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        super().__call__(parser, namespace, values, option_string)
        decide(getattr(namespace, self.dest))


def add_telemetry_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--telemetry` and `--no-telemetry` to a parser; the answer is remembered."""
    parser.add_argument(
        "--telemetry",
        action=_Decide,
        default=None,
        help="keep a private usage log on this computer (remembered)",
    )
