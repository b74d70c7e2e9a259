"""Makes the pictures from what the program really prints: `python docs/pictures/make.py`."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
# rich's own template loads a font from the network; the viewer's monospace font does as well.
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
LIGHT = TerminalTheme(
    (255, 255, 255),
    (31, 35, 40),
    [
        *((36, 41, 47), (207, 34, 46), (17, 99, 41), (77, 45, 0)),
        *((9, 105, 218), (130, 80, 223), (27, 124, 131), (110, 119, 129)),
    ],
)
# The frame of rich's template is white, for a dark window.
FRAME, LIGHT_FRAME = "rgba(255,255,255,0.35)", "rgba(31,35,40,0.3)"


def picture(name: str, title: str, output: str, columns: int, light: bool = False) -> None:
    """Write terminal output as an SVG.

    Args:
        name: file name without its ending.
        title: what stands in the window's title.
        output: the text, with ANSI colours if there are any.
        columns: width of the terminal.
        light: dark on white instead of light on black.
    """
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    for line in output.rstrip("\n").split("\n"):
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    console.print()  # rich cuts the last line's descenders
    theme = LIGHT if light else SVG_EXPORT_THEME
    made = FONT_FACE.sub("", console.export_svg(title=title, unique_id=name, theme=theme))
    # Without this some viewers drop the spaces that a line begins with.
    made = made.replace("<svg ", '<svg xml:space="preserve" ', 1)
    (HERE / f"{name}.svg").write_text(made.replace(FRAME, LIGHT_FRAME) if light else made)


def run(*words: str, columns: int) -> str:
    """What a command prints on stdout in a terminal of this width."""
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "telemetry_kit", *words]
    with subprocess.Popen(command, env=env, stdout=theirs) as process:
        os.close(theirs)
        printed = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # that is how a terminal ends on Linux
        return b""


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
    """`stats`, `view --tree` and `answers` of 10,000 events, wide and narrow, dark and light."""
    from benchmarks.insights import place_with

    with tempfile.TemporaryDirectory() as folder:
        project = str(place_with(Path(folder) / "place", 10_000).project)
        for name, *words in (
            ("stats", "stats"),
            ("view-tree", "view", "--tree", "-n", "3"),
            ("answers", "answers"),
        ):
            for columns in (80, 40):
                printed = run("--project", project, *words, columns=columns)
                for light in (False, True):
                    made = name + ("-40" if columns == 40 else "") + ("-light" if light else "")
                    picture(made, f"telemetry-kit {' '.join(words)}", printed, columns, light)


if __name__ == "__main__":
    demo()
    insights()
