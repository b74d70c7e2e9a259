"""Make the screens beside this file: `python docs/design/screens/make.py`.

Each one is what a person sees who runs the real program at a terminal of 80 columns, in a project
and with a home directory of its own. Paths and days are replaced by fixed ones.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import pexpect

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
QUESTION = "later] "
HOST = """\
from telemetry_kit import ask_consent, configure, role_session
{settings}
ask_consent()
with role_session("dev"):
    pass
"""
PLAIN = HOST.format(settings="")
WIDER = HOST.format(
    settings="configure(timestamp_resolution='hour', context={'task': 'identifier'})"
)
YES = ["telemetry-kit on --yes"]
DENY = "[tool.telemetry_kit]\nenabled = false\n"

# Name: what is run before, without a picture; what is run, with the keys that are pressed.
SCREENS: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "prompt-yes": ([], [("python host.py", "y")]),
    "prompt-no": ([], [("python host.py", ""), ("python host.py", "")]),
    "prompt-later": ([], [("python host.py", "what?"), ("", "later")]),
    "prompt-wider": (YES, [("python wider.py", "n"), ("telemetry-kit status", "")]),
    "enable": ([], [("telemetry-kit enable", "y"), ("telemetry-kit audit", "")]),
    "explain-undecided": ([], [("telemetry-kit status --explain", "")]),
    "explain-on": (YES, [("telemetry-kit status --explain", "")]),
    "explain-off": (
        [*YES, "telemetry-kit off"],
        [("telemetry-kit status --explain", "")],
    ),
    "explain-variable": (YES, [("DO_NOT_TRACK=1 telemetry-kit status --explain", "")]),
    "explain-repository": (
        [*YES, "cp deny.toml pyproject.toml"],
        [("telemetry-kit status --explain", "")],
    ),
    "simulate": (YES, [("telemetry-kit status --simulate CI=true --check; echo $?", "")]),
}


def make(name: str) -> str:
    """One screen as text.

    Args:
        name: a key of `SCREENS`.
    """
    before, shown = SCREENS[name]
    with tempfile.TemporaryDirectory() as folder:
        base = Path(os.path.realpath(folder))
        stage(base)
        for command in before:
            run(base, command, [])
        text = ""
        pressed = list(shown)
        while pressed:
            command, key = pressed.pop(0)
            keys = [key]
            while pressed and not pressed[0][0]:
                keys.append(pressed.pop(0)[1])
            text += f"$ {command}\n{run(base, command, keys)}"
        return fixed(text, base)


def stage(base: Path) -> None:
    """A project with two host programs, and a home directory."""
    project = base / "project"
    project.mkdir()
    (base / "home").mkdir()
    (project / "host.py").write_text(PLAIN)
    (project / "wider.py").write_text(WIDER)
    (project / "deny.toml").write_text(DENY)


def run(base: Path, command: str, keys: list[str]) -> str:
    """Run a command at a terminal and answer its questions; what stands on the screen then."""
    shell = (
        f'telemetry-kit() {{ "{sys.executable}" -m telemetry_kit "$@"; }}\n'
        f'python() {{ "{sys.executable}" "$@"; }}\n{command}'
    )
    child = pexpect.spawn(
        "/bin/bash",
        ["--norc", "-c", shell],
        cwd=base / "project",
        env={
            "HOME": str(base / "home"),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(ROOT),
            "TERM": "dumb",
        },
        dimensions=(50, 80),
        encoding="ascii",
        timeout=60,
    )
    child.delaybeforesend = 0.1
    screen = ""
    for key in keys:
        if child.expect_exact([QUESTION, pexpect.EOF]) == 1:
            return (screen + child.before).replace("\r\n", "\n")
        screen += child.before + child.after
        child.send(f"{key}\r")
    child.expect(pexpect.EOF)
    child.close()
    return (screen + child.before).replace("\r\n", "\n")


def fixed(text: str, base: Path) -> str:
    """The text with the paths, codes and days of this run replaced by fixed ones."""
    text = text.replace(f"{base}/home", "/home/me").replace(f"{base}/project", "/home/me/project")
    text = re.sub(r"projects/[0-9a-f]{16}", "projects/0123456789abcdef", text)
    text = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", "2026-11-23T09:00:00Z  ", text)
    text = re.sub(r"(until |expires=)20\d\d-\d\d-\d\d", r"\g<1>2027-11-23", text)
    text = re.sub(r"(v1 yes |v1 no |on )20\d\d-\d\d-\d\d", r"\g<1>2026-11-23", text)
    return re.sub(r"\(([0-9a-f]{12})\)", "(0123456789ab)", text)


if __name__ == "__main__":
    for screen in SCREENS:
        (HERE / f"{screen}.txt").write_text(make(screen), encoding="ascii")
