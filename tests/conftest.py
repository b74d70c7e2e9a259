"""Projects to record in, each with a home, clocks and a clean environment of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import telemetry_kit
from telemetry_kit import context, settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.paths import ProjectPaths, find
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.recording import recorder

# The same examples in every run, nothing kept between runs, no clock in the verdict.
hypothesis_settings.register_profile(
    "steady",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
hypothesis_settings.load_profile("steady")

APP = "flowspec"
# What a host says before anything else.
NAMED = f"import telemetry_kit; telemetry_kit.configure(app={APP!r})\n"
PACKAGE = Path(telemetry_kit.__file__).parent
# 2024-02-28T10:20:30Z: past, so that no key made by a child of today is old by this clock.
NOW = 1_709_115_630.0
NOBODY = 65_534


# Longer than a test takes, and a collection by all workers.
BEFORE_MIDNIGHT = 60


def pytest_configure(config: pytest.Config) -> None:
    """Every worker collects on the same day, and passes on no signal that it ignores.

    In the background of a script, and under nohup, interrupts are ignored, and what is started
    inherits that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _wait_for_midnight()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--telemetry-record` no event reaches a disk: the tests that read one are left out."""
    if config.getoption("--telemetry-record", default=False):
        on_disk = {"undecided", "make_place", "unprivileged"}
        items[:] = [i for i in items if not on_disk & set(getattr(i, "fixturenames", ()))]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The day changes between tests, not in the middle of one, whose processes see the real one."""
    _wait_for_midnight()


def _wait_for_midnight() -> None:
    left = 86_400 - time.time() % 86_400
    if left < BEFORE_MIDNIGHT:
        time.sleep(left)


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Place:
    """A project, its user's home directory, and the environment and clocks of this test.

    Args:
        base: a directory in which both are made.
    """

    def __init__(self, base: Path) -> None:
        self.root = base / "the-work"
        self.user = base / "home"
        self.root.mkdir()
        self.user.mkdir()
        self.environ = {"HOME": str(self.user)}
        # Near zero, so that the real clock, which `off_until` is compared with, is past it.
        self.clock = Clock(0.0)
        self.now = Clock(NOW)
        self.env = {
            "HOME": str(self.user),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(PACKAGE.parent),
        }

    @property
    def home(self) -> ProjectPaths:
        """The paths of the current app."""
        return find(settings.current().app, str(self.root), self.environ)

    @property
    def log(self) -> Path:
        """The active log."""
        return Path(self.home.log)

    @property
    def record(self) -> Path:
        """The user's consent record for this project."""
        return record_of(self.home)

    @property
    def key_file(self) -> Path:
        """The file of the key in force."""
        dirs = ProjectDirs.of(self.home)
        assert dirs is not None
        return Path(dirs.key)

    @property
    def key(self) -> keys.Key:
        """The key in force."""
        return keys.load(str(self.key_file))

    def grant(self) -> None:
        """Have the user say yes in this project, to all that is declared by now."""
        # By the real clock, so that no child process finds the key old.
        with cache.override_runtime(self.environ):
            changes.enable_telemetry(self.root)

    def configure(self, **declared: Any) -> settings.Restore:
        """Declare something, and have the user say yes to it."""
        former = settings.configure(**declared)
        self.grant()
        return former

    def lines(self) -> list[bytes]:
        """The raw lines of the active log, each with its newline."""
        return self.log.read_bytes().splitlines(keepends=True) if self.log.exists() else []

    def events(self) -> list[dict[str, Any]]:
        """The parsed lines of the active log.

        An empty line is what a writer leaves that began while another one was inside its write.
        """
        return [json.loads(line) for line in self.lines() if line != b"\n"]

    def types(self) -> list[str]:
        """The event types in the active log, in order."""
        return [event["event_type"] for event in self.events()]

    def tree(self) -> list[str]:
        """Every path in the project and the user's home directory."""
        tops = (self.root, self.user)
        return sorted(str(p.relative_to(top.parent)) for top in tops for p in top.rglob("*"))

    def run(
        self, code: str, *args: str, named: bool = True, **options: Any
    ) -> "CompletedProcess[str]":
        """Run Python code in the project, as a process of its own, which has named itself."""
        return self.python("-W", "error", "-c", NAMED * named + code, *args, **options)

    def python(self, *args: str, **options: Any) -> "CompletedProcess[str]":
        """Run the interpreter in the project."""
        env = {**self.env, **options.pop("env", {})}
        given = {"cwd": self.root, "timeout": 60, "check": False, **options}
        return subprocess.run(
            [sys.executable, *args], env=env, capture_output=True, text=True, **given
        )

    def start(self, code: str, *args: str) -> "subprocess.Popen[str]":
        """Start Python code in the project, with pipes to talk to it."""
        return subprocess.Popen(
            [sys.executable, "-u", "-W", "error", "-c", NAMED + code, *args],
            env=self.env,
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


ENTRY = "0123456789abcdef"


def record_of(paths: ProjectPaths, all_projects: bool = False) -> Path:
    """The user's consent record for a project, or for all."""
    if all_projects:
        return Path(paths.config, policy.RECORD)
    dirs = ProjectDirs.of(paths)
    assert dirs is not None
    return Path(dirs.config, policy.RECORD)


def believed(path: Path, data: bytes) -> bytes:
    """A grant written by hand, with the words and, beside it, the history that it needs to count.

    Args:
        path: where the record will be.
        data: its line; anything but a grant stays as it is.
    """
    if not data.startswith(b"v1 yes ") or not data.endswith(b"\n") or b"entry=" in data:
        return data
    name = path.parent.name
    place = name if policy.is_directory_name(name) else policy.ALL
    history = f'{{"decision": "yes", "sha256": "{ENTRY:0<64}"}}\n'
    path.with_name(policy.HISTORY).write_text(history)
    path.with_name(policy.HISTORY).chmod(0o600)
    return data[:-1] + f" place={place} entry={ENTRY}\n".encode()


def _close_journals() -> None:
    for project in recorder._projects.values():
        project.writer.close()
    recorder._projects.clear()


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Whatever a test declares, opens or enters in this process is gone after it."""
    former = settings.current()
    settings.configure(app=APP)
    decorated = {name: set(names) for name, names in settings.decorated.items()}
    _close_journals()
    runtime.declared.clear()
    with cache.override_runtime():
        yield
    _close_journals()
    runtime.declared.clear()
    for name, names in settings.decorated.items():
        names.intersection_update(decorated[name])
    settings.state.replace(former)
    settings.state.tables.clear()
    runtime.is_denied = False
    context.variable.set(None)
    cache.invalidate()


@pytest.fixture
def at_top_level() -> Callable[..., dict[str, Any]]:
    """Runs code as a module of its own, where decorations declare; gives its names back."""

    def run(code: str, **names: Any) -> dict[str, Any]:
        found = {**vars(telemetry_kit), "RoleEvent": telemetry_kit.RoleEvent, **names}
        found.update({"tracks": telemetry_kit.tracks, "role_session": telemetry_kit.role_session})
        exec(compile(code, "a_module", "exec"), found)
        return found

    return run


@pytest.fixture
def home(tmp_path: Path) -> ProjectPaths:
    """The paths of an empty project."""
    base = Path(os.path.realpath(tmp_path))
    (base / "the-work").mkdir()
    return ProjectPaths(APP, str(base / "the-work"), str(base / "config"), str(base / "state"))


@pytest.fixture
def undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project whose user was never asked; the working directory is in it."""
    place = Place(Path(os.path.realpath(tmp_path)))
    monkeypatch.chdir(place.root)
    with cache.override_runtime(place.environ, place.clock, place.now):
        yield place


@pytest.fixture
def place(undecided: Place) -> Place:
    """The same, whose user said yes for this project."""
    undecided.grant()
    return undecided


@pytest.fixture
def make_place(tmp_path: Path) -> Callable[[str], Place]:
    """Further projects, each with a user of its own."""

    def make(name: str) -> Place:
        base = Path(os.path.realpath(tmp_path)) / name
        base.mkdir()
        return Place(base)

    return make


# A process that gives up root can no longer read an interpreter in root's home: it loads all
# that it may need before.
_STEP_DOWN = """
import os, sys, errno, fcntl, unicodedata, difflib, hashlib, tomllib, json, threading, time
import resource
import telemetry_kit
from telemetry_kit import *
from telemetry_kit.instrumentation import spans
from telemetry_kit.recording import pipeline
from telemetry_kit.instrumentation import coroutines
from telemetry_kit.consent import changes as control
from telemetry_kit.cli import record
from telemetry_kit.storage import reader
from telemetry_kit.storage import rotation as upkeep
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
"""


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A granted project of a user who is not root; `run()` is that user."""

    class Theirs(Place):
        def run(self, code: str, *args: str, **options: Any) -> "CompletedProcess[str]":
            return super().run(_STEP_DOWN.format(nobody=NOBODY) + code, *args, **options)

    with tempfile.TemporaryDirectory(prefix="telemetry-kit-") as name:
        base = Path(os.path.realpath(name))
        base.chmod(0o755)
        theirs = Theirs(base)
        if os.geteuid() == 0:
            os.chown(theirs.root, NOBODY, NOBODY)
            os.chown(theirs.user, NOBODY, NOBODY)
        done = theirs.run("assert enable_telemetry()")
        assert done.returncode == 0, done.stderr
        yield theirs
        theirs.root.chmod(0o755)
