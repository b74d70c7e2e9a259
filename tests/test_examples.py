"""Recording does not change what the example program does. It runs in the test's process."""

import contextlib
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from telemetry_kit import capture_events
from telemetry_kit.cli.commands.demo import PROCESSES, PROGRAM, SPEC

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMANDS = [(args, code) for args, code, _ in PROCESSES if args[0] == PROGRAM]


def all_commands(folder: Path, monkeypatch, capsys) -> dict[str, Any]:
    """Run the commands of the demo in a folder, and return exit codes, output and files."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in (PROGRAM, SPEC):
        shutil.copyfile(EXAMPLES / name, folder / name)
    codes = []
    for args, _ in COMMANDS:
        monkeypatch.setattr(sys, "argv", list(args))
        code: object = 0
        try:
            runpy.run_path(PROGRAM, run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        codes.append(code or 0)
    files = {p.name: p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {"codes": codes, "printed": tuple(capsys.readouterr()), "files": files}


def test_the_example_does_the_same_on_and_off(tmp_path, monkeypatch, capsys) -> None:
    """Each command of the demo has the same exit code, output and files on and off."""
    off = all_commands(tmp_path / "off", monkeypatch, capsys)
    with capture_events() as captured, contextlib.chdir(tmp_path):
        on = all_commands(tmp_path / "on", monkeypatch, capsys)

    assert [code for _, code in COMMANDS] == off["codes"]
    assert off == on
    assert len(COMMANDS) < len(captured.lines)
