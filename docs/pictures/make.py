"""Makes the pictures from what the program really prints: `python docs/pictures/make.py`."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
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


def insights() -> None:
    """`stats`, `view --tree` and `answers` of a project with 10,000 events of 90 days."""
    from benchmarks.insights import place_with

    with tempfile.TemporaryDirectory() as folder:
        project = str(place_with(Path(folder) / "place", 10_000).project)
        for name, words, columns, most in (
            ("stats", ("stats",), 80, 96),
            ("stats-40", ("stats",), 40, 60),
            ("view-tree", ("view", "--tree", "-n", "3"), 80, 40),
            ("answers", ("answers",), 80, 60),
        ):
            lines = run("--project", project, *words, columns=columns).split("\n")
            shown = lines if len(lines) <= most else [*lines[:most], "..."]
            picture(name, f"telemetry-kit {' '.join(words)}", "\n".join(shown), columns)
            # Without this some viewers drop the spaces that a line begins with.
            path = HERE / f"{name}.svg"
            path.write_text(path.read_text().replace("<svg ", '<svg xml:space="preserve" ', 1))


if __name__ == "__main__":
    demo()
    insights()
