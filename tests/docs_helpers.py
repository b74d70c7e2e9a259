"""Run the programs and the commands of the pages of the documentation."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language."""
    return [body for kind, body in BLOCK.findall(page.read_text()) if kind == language]


def how_to(name: str) -> Path:
    """Return the path of a how-to page."""
    return ROOT / "docs" / "how-to" / f"{name}.md"


def make_program(program: str, bin_folder: Path) -> Path:
    """Install a program of a page as the command `acme`."""
    bin_folder.mkdir(exist_ok=True)
    path = bin_folder / "acme"
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o755)
    return path


def make_command_lines(bin_folder: Path) -> None:
    """Install Python and our own command line as commands."""
    bin_folder.mkdir(exist_ok=True)
    for name, option in {"python": "", "telemetry-kit": " -m telemetry_kit"}.items():
        path = bin_folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable}{option} "$@"\n')
        path.chmod(0o755)


def shell_environment(place, bin_folder: Path) -> dict[str, str]:
    """Return the environment for commands of a page."""
    return {**place.env, "PATH": f"{bin_folder}:/usr/bin:/bin", "COLUMNS": "100"}


def run_words(words: list[str], place, bin_folder: Path, **env: str) -> str:
    """Run a command in the project, and return its output and its messages."""
    done = subprocess.run(
        words,
        cwd=place.root,
        env={**shell_environment(place, bin_folder), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def run_shell(
    script: str, place, bin_folder: Path, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run a script of a page in the project."""
    return subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=place.root,
        env={**shell_environment(place, bin_folder), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def pattern_of(expected: str) -> str:
    """Return a regular expression for a text in which `...` matches any text."""
    return re.escape(expected.strip()).replace(r"\.\.\.", ".*")


def run_console(console: list[str], place, bin_folder: Path) -> None:
    """Run each command of the blocks, and compare its output. `...` matches any text."""
    for block in console:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            output = run_words(shlex.split(command), place, bin_folder)

            assert re.fullmatch(pattern_of(expected), output.strip(), re.DOTALL), (command, output)
