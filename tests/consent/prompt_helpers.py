"""Helpers of the tests of the consent prompt."""

import os
import sys
import warnings
from typing import NamedTuple

import pexpect

from telemetry_kit.consent import history as consent_history

HOST = """
import os, sys
from telemetry_kit import ask_consent, configure, role_session, tracks
configure(app="flowspec")
answer = ask_consent()
with role_session("dev"):
    on_disk = os.path.exists(".flowspec/telemetry.jsonl")
print(answer, on_disk)
"""


CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"


PROMPT = "later] "


ASKED = "Record how you use"


class Seen(NamedTuple):
    """What the terminal displayed, what stdout received, and the exit code."""

    screen: str
    stdout: str
    code: int


def at_terminal(place, code, *keys, columns=80, redirect='>"$OUT"', args=(), prompt=PROMPT, **env):
    """Run a program at its own terminal, and press a key at each prompt.

    Its stdout is redirected to a file, so the screen displays only stderr.
    """
    out = place.user.parent / "stdout"
    out.write_bytes(b"")
    program = [sys.executable, "-W", "error", "-c", code, *args]
    with warnings.catch_warnings():
        # Python 3.12 and later warn of a fork in a process with threads. The child execs at once.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = pexpect.spawn(
            "/bin/sh",
            ["-c", f'exec "$@" {redirect}', "sh", *program],
            cwd=place.root,
            env={"TERM": "xterm", **place.env, "OUT": str(out), **env},
            dimensions=(24, columns),
            timeout=30,
            echo=False,
        )
    child.delaybeforesend = None
    child.delayafterclose = child.ptyproc.delayafterclose = 0.01
    screen = b""
    for key in keys:
        child.expect_exact(prompt)
        screen += child.before + child.after
        child.send(key)
    child.expect(pexpect.EOF)
    screen += child.before
    child.close()
    return Seen(screen.decode("ascii").replace("\r\n", "\n"), out.read_text(), child.exitstatus)


def asked(seen):
    """Return whether the screen displayed the question."""
    return ASKED in seen.screen


def history(place):
    """Return the entries of the project's history."""
    return consent_history.read(os.path.dirname(place.record))
