"""Make the screens beside this file: `python docs/design/screens/make.py`. It needs tmux.

Each one is what stands in a terminal in which a person runs the real program, in a project and
with a home directory of its own: keys are typed by `tmux send-keys`, the picture is
`capture-pane`. Paths and days are replaced by fixed ones of the same length, so that lines break
where they broke.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from telemetry_kit.consent import decision

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# As long as a temporary folder's name.
HOME = "/home/someone"
COLUMNS = 80
PATIENCE_SECONDS = 60
QUESTION = "later]"
CTRL_C, CTRL_D = "C-c", "C-d"
HOST = """\
import sys

from telemetry_kit import ask_consent, configure, role_session

as_json = "--json" in sys.argv
configure(app="flowspec"{settings})
try:
    ask_consent(quiet=as_json)
except KeyboardInterrupt:
    sys.exit(130)
with role_session("dev"):
    print('{{"pages": 3}}' if as_json else "3 pages built.")
"""
PLAIN = HOST.format(settings="")
WIDER = HOST.format(settings=", timestamp_resolution='hour', context={'task': 'identifier'}")
DENY = "[tool.telemetry_kit]\nenabled = false\n"
SHELL = """\
PS1='$ '
unset HISTFILE
telemetry-kit() {{ "{python}" -m telemetry_kit "$@"; }}
python() {{ "{python}" "$@"; }}
bind 'set enable-bracketed-paste off'
"""
YES = ["telemetry-kit on --yes"]
RUN = "python host.py"
STATE = "telemetry-kit status | head -1"
EXPLAIN = "telemetry-kit status --explain"
ASCII = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"

# Name: what is run before, without a picture; what is run, and the keys pressed at its questions.
Steps = list[tuple[str, list[str]]]
SCREENS: dict[str, tuple[list[str], Steps]] = {
    "prompt-yes": ([], [(RUN, ["y"]), (STATE, [])]),
    "prompt-no": ([], [(RUN, ["n"]), (RUN, []), (STATE, [])]),
    "prompt-enter": ([], [(RUN, [""]), (RUN, []), (STATE, [])]),
    "prompt-later": ([], [(RUN, ["what?", "later"]), (RUN, ["later"])]),
    "prompt-ctrl-c": ([], [(RUN, [CTRL_C]), ("echo $?", []), (STATE, [])]),
    "prompt-end-of-file": ([], [(RUN, [CTRL_D]), (STATE, [])]),
    "prompt-narrow": ([], [(RUN, ["y"])]),
    "prompt-no-color": ([], [(f"NO_COLOR=1 {RUN}", ["y"])]),
    "prompt-dumb": ([], [(f"TERM=dumb {RUN}", ["y"])]),
    "prompt-locale": (
        ["mkdir h\u00e4user", "mv *.py h\u00e4user", "cd h\u00e4user"],
        [(f"{ASCII} {RUN}", ["y"])],
    ),
    "prompt-pipe": (
        [],
        [(f"echo y | {RUN}", []), ("echo y | telemetry-kit enable", []), ("echo $?", [])],
    ),
    "prompt-redirected": ([], [(f"{RUN} 2>errors.txt", []), ("cat errors.txt", [])]),
    "prompt-ci": ([], [(f"CI=true {RUN}", []), ("CI=true telemetry-kit enable", ["y"])]),
    "prompt-json": ([], [(f"{RUN} --json", []), ("telemetry-kit status --json", [])]),
    "prompt-wider": (
        YES,
        [("python wider.py", ["n"]), ("python wider.py", []), ("telemetry-kit audit", [])],
    ),
    "enable": ([], [("telemetry-kit enable", ["y"]), ("telemetry-kit audit", [])]),
    "explain-undecided": ([], [(EXPLAIN, [])]),
    "explain-on": (YES, [(EXPLAIN, [])]),
    "explain-off": ([*YES, "telemetry-kit off"], [(EXPLAIN, [])]),
    "explain-variable": (YES, [(f"DO_NOT_TRACK=1 {EXPLAIN}", [])]),
    "explain-repository": ([*YES, "cp deny.toml pyproject.toml"], [(EXPLAIN, [])]),
    "simulate": (
        YES,
        [("telemetry-kit status --simulate CI=true --check", []), ("echo $?", [])],
    ),
}
NARROW = {"prompt-narrow": 20}


class Terminal:
    """A shell in a terminal of its own, at which keys can be pressed.

    Args:
        base: the user's home directory; the project in it is where the shell starts.
        columns: how wide the terminal is.
    """

    def __init__(self, base: Path, columns: int) -> None:
        self.socket = f"{base}/.tmux"
        shell = ["bash", "--noprofile", "--rcfile", f"{base}/.shell", "-i"]
        env = {
            "HOME": str(base),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
            "TERM": "screen",
        }
        self._tmux(
            *("start-server", ";", "set", "-g", "history-limit", "9000", ";"),
            *("set", "-g", "status", "off", ";", "new-session", "-d"),
            *("-x", str(columns), "-y", "50", "-c", str(base / "project")),
            *("env", "-i", *(f"{key}={value}" for key, value in env.items()), *shell),
        )
        self._await(lambda text: text == "$")

    def run(self, command: str, keys: list[str]) -> None:
        """Type a command and, at each of its questions, a key or a word."""
        self._type(command)
        asked = self._screen().count(QUESTION)
        self._press("Enter")
        for key in keys:
            self._await(lambda text, n=asked: text.count(QUESTION) > n and text.endswith(QUESTION))
            asked += 1
            if key not in (CTRL_C, CTRL_D):
                self._type(key)
            self._press(key if key in (CTRL_C, CTRL_D) else "Enter")
        self._await(lambda text: text.rpartition("\n")[2] == "$")

    def clear(self) -> None:
        """Begin a new picture."""
        self._tmux("send-keys", "-R", ";", "clear-history")
        self._press("Enter")
        self._await(lambda text: text.strip("\n") == "$")

    def picture(self) -> str:
        """What stands there, as it stands there, without the last prompt."""
        text = self._tmux("capture-pane", "-p", "-S", "-")
        return text.strip("\n").removesuffix("$")

    def close(self) -> None:
        """End the shell and what runs in it."""
        self._tmux("kill-server")

    def _type(self, text: str) -> None:
        before = self._screen()
        if text:
            self._tmux("send-keys", "-l", text)
            self._await(lambda now: now == f"{before} {text}".rstrip())

    def _press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def _screen(self) -> str:
        """The same with lines that the terminal broke put together."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-").rstrip()

    def _await(self, there) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not there(self._screen()):
            if time.monotonic() > until:
                raise TimeoutError(self._screen())
            time.sleep(0.02)

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-u", "-S", self.socket, "-f", os.devnull, *words]
        env = {key: value for key, value in os.environ.items() if key != "TMUX"}
        done = subprocess.run(command, capture_output=True, check=True, env=env, encoding="utf-8")
        return done.stdout


def make(name: str) -> str:
    """One screen as text.

    Args:
        name: a key of `SCREENS`.
    """
    before, shown = SCREENS[name]
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="", dir="/tmp") as folder:
        base = Path(folder)
        stage(base)
        terminal = Terminal(base, NARROW.get(name, COLUMNS))
        try:
            for command in before:
                terminal.run(command, [])
            terminal.clear()
            for command, keys in shown:
                terminal.run(command, keys)
            return fixed(terminal.picture(), base, began)
        finally:
            terminal.close()


def stage(base: Path) -> None:
    """A home directory, and in it a project with two host programs."""
    project = base / "project"
    project.mkdir()
    (base / ".shell").write_text(SHELL.format(python=sys.executable))
    (project / "host.py").write_text(PLAIN)
    (project / "wider.py").write_text(WIDER)
    (project / "deny.toml").write_text(DENY)


def _any_code(found: re.Match[str]) -> str:
    """The same code for each project, broken where the terminal breaks it."""
    digits = iter("0123456789abcdef")
    return "".join(char if char.isspace() else next(digits) for char in found[0])


def fixed(text: str, base: Path, began: float) -> str:
    """The text with the paths, codes and days of this run replaced by fixed ones.

    Args:
        text: the picture.
        base: the home directory of this run.
        began: when it began; it may have gone on past midnight.
    """
    assert len(str(base)) == len(HOME)
    text = replaced(text, str(base), HOME)
    for seconds in {began, time.time()}:
        day = time.strftime("%Y-%m-%d", time.gmtime(seconds))
        text = replaced(text, decision.a_year_after(day), "2027-11-23")
        text = replaced(text, day, "2026-11-23", r"(?!T00:00:00Z)")
    text = re.sub(r"(?<=projects/)\s*(?:[0-9a-f]\n?){16}", _any_code, text)
    text = re.sub(r"(?<=2026-11-23T)\d\d:\d\d:\d\dZ", "09:00:00Z", text)
    return re.sub(r"\(([0-9a-f]{12})\)", "(0123456789ab)", text)


def replaced(text: str, old: str, new: str, behind: str = "") -> str:
    """`text` with `new` for `old`, which is as long, also where the terminal broke it."""

    def like(found: re.Match[str]) -> str:
        rest = iter(new)
        return "".join(c if c == "\n" else next(rest) for c in found[0])

    return re.sub(r"\n?".join(map(re.escape, old)) + behind, like, text)


if __name__ == "__main__":
    for screen in sys.argv[1:] or SCREENS:
        (HERE / f"{screen}.txt").write_text(make(screen), encoding="ascii")
