"""Makes the pictures from what the program really prints: `python docs/pictures/make.py`."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
# rich's own template loads a font from the network; the viewer's monospace font does as well.
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def picture(name: str, title: str, output: str, columns: int) -> None:
    """Write terminal output as an SVG.

    Args:
        name: file name without its ending.
        title: what stands in the window's title.
        output: the text, with ANSI colours if there are any.
        columns: width of the terminal.
    """
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    for line in output.rstrip("\n").split("\n"):
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    made = FONT_FACE.sub("", console.export_svg(title=title, unique_id=name))
    (HERE / f"{name}.svg").write_text(made)


def run(*words: str, columns: int) -> str:
    """What a command prints on stdout in a terminal of this width."""
    env = {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run(
        [sys.executable, "-m", "telemetry_kit", *words],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def demo() -> None:
    """The end of the demo: the table of `view`, and the counts."""
    columns = 116
    lines = run("demo", columns=columns).split("\n")
    begin = next(n for n, line in enumerate(lines) if line.startswith("when"))
    end = next(n for n, line in enumerate(lines) if "events read" in line)
    table = lines[begin : end + 1]
    shown = [*table[:16], "...", *table[_counts(table) :]]
    picture("demo", "telemetry-kit demo", "\n".join(shown), columns)


def _counts(table: list[str]) -> int:
    return next(n for n, line in enumerate(table) if re.match(r"\s+role\s+selected", line)) - 2


if __name__ == "__main__":
    demo()
