"""Five programs from the package index, each with `install()` in a few lines around it.

The session `programs` installs them. Each program runs as it was published and with the lines in
`programs/`, as processes of the same user without a network, and the two are compared.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from telemetry_kit.cli.registry import SHORT_HELP
from tests.conftest import Place

FOLDER = Path(__file__).with_name("programs")
ROOT = FOLDER.parents[2]
EVERY = "TELEMETRY_KIT_ALL_PROGRAMS" in os.environ
real = pytest.mark.skipif(not EVERY, reason="the session `programs` installs them")

OK, EXECUTED = ("command.completed", "ok"), "command.executed"


def failed(code: int | None, error: str = "other") -> tuple:
    """The end of a command that fails: its exit code, if the exception has one, and its error."""
    return ("command.failed", "error", code, error)


class Line(NamedTuple):
    """A command line.

    Args:
        words: the words after the program.
        command: the name in its events; empty if it writes none.
        end: type, outcome, exit code and error of its last event.
    """

    words: str
    command: str = ""
    end: tuple = OK


class Program(NamedTuple):
    """A program of the package index.

    Args:
        package: its name there.
        lines: the command lines that are tried; the first ones are a success and two failures.
        inner: the command line whose help has nothing of ours.
        complete: the variable that asks for completions, and its value; empty if it has none.
        log: the log; the folder of the user's state comes first for a tool without projects.
    """

    package: str
    lines: tuple[Line, ...]
    inner: str
    complete: tuple[str, str] | None
    log: str


PROGRAMS = {
    "hf": Program(
        "huggingface_hub",
        (
            Line("version", "version"),
            Line("cache ls", "cache list", failed(None)),
            Line("repo create", "repos create", failed(2)),
            Line("lfs-enable-largefiles .", "lfs-enable-largefiles"),
            Line("ext list", "extensions list"),
            Line("auth list", "auth list"),
            Line("jobs scheduled uv run", "jobs scheduled uv run", failed(2)),
            Line("--version"),
            Line("nonsense"),
            Line("cache nonsense"),
        ),
        "cache",
        ("_HF_COMPLETE", "complete_bash"),
        ".hf/telemetry.jsonl",
    ),
    "globus": Program(
        "globus-cli",
        (
            Line("cli-profile-list", "cli-profile-list"),
            Line("endpoint local-id", "endpoint local-id", failed(1)),
            Line("gcp create mapped", "gcp create mapped", failed(2)),
            Line("whoami", "whoami", failed(None)),
            Line("flows list --format json", "flows list", failed(None)),
            Line("logout --yes", "logout", failed(None, "ValueError")),
            Line("gcp create mapped --bad", "gcp create mapped", failed(2)),
            Line("--bash-completer"),
            Line("nonsense"),
        ),
        "gcp create",
        ("_GLOBUS_COMPLETE", "bash_complete"),
        ".globus/telemetry.jsonl",
    ),
    "bump-my-version": Program(
        "bump-my-version",
        (
            Line("show current_version", "show"),
            Line("bump nonsense", "bump", failed(2)),
            Line("replace --bad", "replace", failed(2)),
            Line("bump patch --allow-dirty", "bump"),
            Line("show --increment minor new_version", "show"),
            Line("show-bump", "show-bump"),
            Line("sample-config --no-prompt", "sample-config"),
            Line("--version"),
            Line("nonsense"),
        ),
        "bump",
        ("_BUMP_MY_VERSION_COMPLETE", "bash_complete"),
        ".bump-my-version/telemetry.jsonl",
    ),
    "cz": Program(
        "commitizen",
        (
            Line("version", "version"),
            Line("check -m nonsense", "check", failed(14)),
            Line("check --commit-msg-file", "check", failed(2, "SystemExit")),
            Line("check -m feat:\u00a0one", "check", failed(14)),
            Line("ch", "changelog"),
            Line("schema", "schema"),
            Line("bump --get-next --yes", "bump", (*OK, 0)),
            Line("init --help"),
            Line("nonsense"),
        ),
        "bump",
        ("_ARGCOMPLETE", "1"),
        ".cz/telemetry.jsonl",
    ),
    "http": Program(
        "httpie",
        (
            Line("--offline --ignore-stdin POST example.com a=b", "http", (*OK, 0)),
            Line("--ignore-stdin 127.0.0.1:1", "http", failed(None)),
            Line("--bad", "http", failed(2, "SystemExit")),
            Line("--offline --ignore-stdin --session=./s.json example.com X-A:b", "http", (*OK, 0)),
            Line("--offline telemetry a=b --ignore-stdin", "http", (*OK, 0)),
            Line("--version"),
            Line("--help"),
        ),
        "--offline",
        None,
        ".local/state/telemetry-kit/http/user/telemetry.jsonl",
    ),
}
# Nothing may reach a network, and no text may depend on the machine.
ENVIRONMENT = {
    "COLUMNS": "100",
    "HF_HUB_OFFLINE": "1",
    "LC_ALL": "C.UTF-8",
    "http_proxy": "http://127.0.0.1:1",
    "https_proxy": "http://127.0.0.1:1",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}
FILES = {
    "pyproject.toml": '[tool.bumpversion]\ncurrent_version = "1.2.3"\n'
    '[[tool.bumpversion.files]]\nfilename = "a.txt"\n'
    '[tool.commitizen]\nversion = "1.2.3"\n',
    "a.txt": "version 1.2.3\n",
}
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")


class User:
    """A user with a project and a home directory, who runs one program.

    Args:
        place: the project and the home directory.
        name: the program.
        is_ours: whether it runs with the lines in `programs/`.
    """

    def __init__(self, place, name: str, is_ours: bool) -> None:
        self.place, self.name, self.program = place, name, PROGRAMS[name]
        self.typed: dict[str, tuple[int, str, str]] = {}
        script = Path(sys.executable).with_name(name)
        if is_ours:
            # The program prints the name of its script.
            script = place.user.parent / name
            script.write_text((FOLDER / f"{name}.py").read_text())
        self.script = script
        for path, text in FILES.items():
            (place.root / path).write_text(text)
        config = place.user / ".config/httpie/config.json"
        config.parent.mkdir(parents=True)
        config.write_text('{"disable_update_warnings": true}')
        for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "feat: one"]):
            subprocess.run(
                ["git", *IDENTITY, *words],
                cwd=place.root,
                env={**place.env, **ENVIRONMENT},
                check=True,
            )

    def run(self, words: str, **env: str) -> tuple[int, str, str]:
        """Run a command line; return exit code, output and errors, without paths of the test."""
        done = self.place.python(
            str(self.script),
            *words.split(" "),
            env={**ENVIRONMENT, **env},
            stdin=subprocess.DEVNULL,
        )
        return (done.returncode, self.text(done.stdout), self.text(done.stderr))

    def text(self, text: str) -> str:
        """Replace what differs between two runs: folders and addresses of objects."""
        text = text.replace(str(self.place.user.parent), "BASE")
        return re.sub(r"0x[0-9a-f]+", "0x", text)

    def files(self) -> dict[str, bytes]:
        """The files of the program and of the user, without the log and the decision."""
        found = {}
        for top in (self.place.root, self.place.user):
            for path in top.rglob("*"):
                name = str(path.relative_to(top.parent))
                # A grant lets git ignore the log, in a file that `reset` restores.
                is_ours = f"the-work/.{self.name}/" in name or name.endswith("/info/exclude")
                if path.is_file() and not is_ours and "telemetry-kit/" not in name:
                    # A database, and the index of git, have times in them.
                    is_dated = path.suffix in (".db", "") and b"\0" in path.read_bytes()
                    found[name] = b"" if is_dated else self.text(path.read_text()).encode()
        return found

    def events(self) -> list[dict]:
        """The events in the log."""
        home = self.place.user if self.program.log.startswith(".local") else self.place.root
        return [json.loads(line) for line in (home / self.program.log).read_text().splitlines()]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in PROGRAMS],
)
def users(request, tmp_path_factory):
    """Return a function that makes a user, with folders whose paths are equally long."""
    base = Path(os.path.realpath(tmp_path_factory.mktemp("programs")))

    def make(label: str, is_ours: bool = True) -> User:
        folder = base / f"{label:_<4}"
        folder.mkdir()
        return User(Place(folder), request.param, is_ours)

    return make


@pytest.fixture(scope="module")
def own(users) -> User:
    """The user of the program as it was published, who has typed each line."""
    user = users("own", False)
    user.typed = {line.words: user.run(line.words) for line in user.program.lines}
    return user


@pytest.fixture(scope="module")
def on(users) -> User:
    """The user who has granted consent, and has typed each line."""
    user = users("on")
    assert user.run("telemetry on --yes")[0] == 0
    user.typed = {line.words: user.run(line.words) for line in user.program.lines}
    return user


def pairs(lines: tuple[Line, ...]) -> list[tuple]:
    """The events that command lines write."""
    found: list[tuple] = []
    for line in lines:
        if line.command:
            found.append((EXECUTED, line.command, None, None, None))
            kind, *end = (*line.end, None, None)[:4]
            found.append((kind, line.command, *end))
    return found


def seen(events: list[dict]) -> list[tuple]:
    """Type, command, outcome, exit code and error of events."""
    keys = ("event_type", "command", "outcome", "exit_code", "error_type")
    return [tuple(event.get(key) for key in keys) for event in events]


# -- the page ----------------------------------------------------------------------------------


def test_the_page() -> None:
    """The page has a row for each program: its version, the lines it needs, and the commands."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    versions = dict(pin.split("==") for pin in groups["programs"] if "==" in pin)
    text = (ROOT / "docs/reference/programs.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    expected = [
        [
            f"`{name}`",
            f"{program.package} {versions[program.package]}",
            str(len(source_lines(name))),
            str(len(program.lines)),
            f"{len(pairs(program.lines))} of {len(pairs(program.lines))}",
        ]
        for name, program in PROGRAMS.items()
    ]

    assert expected == [[row[0], row[1], *row[3:]] for row in rows]
    assert max(int(row[3]) for row in rows) <= 15


def source_lines(name: str) -> list[str]:
    """The lines of code around a program, without its docstring."""
    text = (FOLDER / f"{name}.py").read_text().partition('"""\n')[2]
    return [line for line in text.splitlines() if line.strip()]


# -- the same as without -----------------------------------------------------------------------


@real
@pytest.mark.parametrize("state", ["none", "off"])
def test_off(users, own, state: str) -> None:
    """Without a decision, and after a denial, a program does the same and nothing is recorded."""
    ours = users(state)
    if state == "off":
        assert ours.run("telemetry off")[0] == 0
    for line in own.program.lines[:3]:
        assert own.typed[line.words] == ours.run(line.words)

    assert [p for p in ours.place.tree() if p.endswith("telemetry.jsonl")] == []
    assert not (ours.place.root / f".{ours.name}").exists()
    assert state == "off" or [p for p in ours.place.tree() if "telemetry" in p] == []
    assert set(ours.files()) <= set(own.files())


@real
def test_on(own, on) -> None:
    """With consent, a program does the same, and each command is recorded."""
    for line in own.program.lines:
        expected = own.typed[line.words]

        assert expected == without_ours(on.typed[line.words])
    events = on.events()
    status = ["git", "status", "--porcelain"]
    listed = subprocess.run(status, cwd=on.place.root, capture_output=True, check=True).stdout

    assert pairs(own.program.lines) == seen(events)
    assert len({e["span_id"] for e in events}) * 2 == len(events)
    assert own.files() == on.files()
    assert b"telemetry" not in listed
    assert f'"events": {len(events)},' in on.run("telemetry stats --json")[1]
    assert on.run("telemetry verify")[0] == 0


@real
def test_completion(own, on) -> None:
    """The program completes one more command, which is ours, and records nothing."""
    if own.program.complete is None:
        pytest.skip("this program has no completion of its own")
    before, after = (completed(user, f"{own.name} ") for user in (own, on))
    inner = f"{own.name} {own.program.inner} --"
    recorded = on.events()

    assert len(before) > 3
    assert before == [entry for entry in after if "telemetry" not in entry]
    assert len(after) == len(before) + 1
    assert completed(own, inner) == completed(on, inner)
    assert recorded == on.events()


def completed(user: User, line: str) -> list[str]:
    """What a shell gets when it asks the program to complete a line."""
    assert user.program.complete is not None
    variable, value = user.program.complete
    out = user.place.user.parent / "completions"
    env = {
        variable: value,
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "_ARGCOMPLETE_IFS": "\n",
    }
    printed = user.run("", **env)[1]
    return re.split(r"[\n\v]", printed + (out.read_text() if out.exists() else ""))


@real
def test_reset(own, users) -> None:
    """After `reset --all-projects`, nothing of ours is left."""
    ours = users("bye")
    for words in ("telemetry on --yes", own.program.lines[0].words):
        assert ours.run(words)[0] == 0
    assert ours.events() != []
    assert ours.run("telemetry reset --all-projects --yes")[0] == 0

    exclude = ".git/info/exclude"
    assert [p for p in ours.place.tree() if "telemetry" in p] == []
    assert (own.place.root / exclude).read_text() == (ours.place.root / exclude).read_text()


def without_ours(found: tuple[int, str, str]) -> tuple[int, str, str]:
    """Remove the name of the mounted group from the lists of commands that a program prints."""
    out, errors = (
        text.replace(", 'telemetry'", "").replace(",telemetry", "") for text in found[1:]
    )
    return (found[0], out, errors)


@real
def test_a_read_only_home(users) -> None:
    """If the home directory becomes read-only, a program does the same, and the log stays whole."""
    own, ours = users("free", False), users("lock")
    ours.run("telemetry on --yes")
    first, *others = own.program.lines[:3]
    assert own.run(first.words) == ours.run(first.words)
    with read_only(own.place.user), read_only(ours.place.user):
        for line in others:
            assert own.run(line.words) == ours.run(line.words)

    assert own.files() == ours.files()
    # A name is stored in plain text if the project's list in the home directory has it.
    expected = pairs((first,) if own.program.log.startswith(".local") else own.program.lines[:3])
    found = seen(ours.events())
    assert [(kind, *end) for kind, _, *end in expected] == [(kind, *end) for kind, _, *end in found]
    assert [first.command] * 2 == [command for _, command, *_ in found[:2]]
    assert {command[:2] for _, command, *_ in found[2:]} <= {"h:"}


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only for a time. The test is skipped if that is not possible."""
    if os.geteuid() != 0:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o500)
        yield
        for path in folders:
            path.chmod(0o700)
        return
    target = str(folder)
    if subprocess.run(["mount", "--bind", target, target], capture_output=True).returncode:
        pytest.skip("root needs a mount for this, which is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@real
def test_help(own, on) -> None:
    """The help of the program has one more command, and that of its commands is the same."""
    before, after = own.run("--help"), without_ours(on.run("--help"))
    added = [line for line in after[1].splitlines() if line not in before[1].splitlines()]
    inner = f"{own.program.inner} --help"

    assert [["telemetry", *SHORT_HELP.split()]] * (own.name != "http") == [
        line.strip(" │").split() for line in added
    ]
    kept = "".join(f"{line}\n" for line in after[1].splitlines() if line not in added)
    assert before == (after[0], kept, after[2])
    assert own.run(inner) == on.run(inner)
