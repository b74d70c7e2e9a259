"""Fixtures: projects to record in, each with a user, clocks and an environment of its own."""

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
from telemetry_kit import capture_events, context, settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.paths import ProjectPaths, find
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.recording import recorder
from telemetry_kit.testing import Captured

# Every run uses the same examples, keeps no database and has no deadline.
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
# The first statements of a host program.
NAMED = f"import telemetry_kit; telemetry_kit.configure(app={APP!r})\n"
PACKAGE = Path(telemetry_kit.__file__).parent
# 2024-02-28T10:20:30Z is in the past, so no key that a child process makes is old by this clock.
NOW = 1_709_115_630.0
NOBODY = 65_534


# Seconds: longer than any test, and than the collection by all workers.
BEFORE_MIDNIGHT = 60


def pytest_configure(config: pytest.Config) -> None:
    """Collect on the same day in every worker, and restore the handlers of two signals.

    A shell ignores interrupts for a background script, nohup ignores hangups, and child processes
    inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _wait_for_midnight()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that read the disk if `--telemetry-record` captures events in memory."""
    if config.getoption("--telemetry-record", default=False):
        on_disk = {"undecided", "make_place", "unprivileged"}
        items[:] = [i for i in items if not on_disk & set(getattr(i, "fixturenames", ()))]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Wait until midnight has passed, so that the date changes between two tests."""
    _wait_for_midnight()


def _wait_for_midnight() -> None:
    left = 86_400 - time.time() % 86_400
    if left < BEFORE_MIDNIGHT:
        time.sleep(left)


class Clock:
    """A clock that only the test advances."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Place:
    """A project, its user's home directory, and the environment and clocks of one test.

    Args:
        base: the directory in which to create the project and the home directory.
    """

    def __init__(self, base: Path) -> None:
        self.root = base / "the-work"
        self.user = base / "home"
        self.root.mkdir()
        self.user.mkdir()
        self.environ = {"HOME": str(self.user)}
        # Near zero, so that the real clock is later: `off_until` is compared with the real clock.
        self.clock = Clock(0.0)
        self.now = Clock(NOW)
        self.env = {
            "HOME": str(self.user),
            "PATH": os.environ.get("PATH", os.defpath),
            "PYTHONPATH": str(PACKAGE.parent),
        }

    @property
    def home(self) -> ProjectPaths:
        """Return the paths of the current app."""
        now = settings.current()
        return find(now.app, str(self.root), self.environ, now.scope, now.directory)

    @property
    def log(self) -> Path:
        """Return the path of the active log."""
        return Path(self.home.log)

    @property
    def record(self) -> Path:
        """Return the path of the user's consent record for this project."""
        return record_of(self.home)

    @property
    def key_file(self) -> Path:
        """Return the path of the current key."""
        dirs = ProjectDirs.of(self.home)
        assert dirs is not None
        return Path(dirs.key)

    @property
    def key(self) -> keys.Key:
        """Return the current key."""
        return keys.load(str(self.key_file))

    def grant(self) -> None:
        """Grant consent for this project, with everything declared so far."""
        # With the real clock, so that no child process finds the key old.
        with cache.override_runtime(self.environ):
            changes.enable_telemetry(self.root)

    def configure(self, **declared: Any) -> settings.Restore:
        """Declare settings, and grant consent for them."""
        previous = settings.configure(**declared)
        self.grant()
        return previous

    def lines(self) -> list[bytes]:
        """Return the raw lines of the active log, each with its newline."""
        return self.log.read_bytes().splitlines(keepends=True) if self.log.exists() else []

    def events(self) -> list[dict[str, Any]]:
        """Return the parsed lines of the active log.

        A writer that starts during another process's write leaves an empty line, which is skipped.
        """
        return [json.loads(line) for line in self.lines() if line != b"\n"]

    def types(self) -> list[str]:
        """Return the event types in the active log, in order."""
        return [event["event_type"] for event in self.events()]

    def tree(self) -> list[str]:
        """Return every path in the project and in the user's home directory."""
        tops = (self.root, self.user)
        return sorted(str(p.relative_to(top.parent)) for top in tops for p in top.rglob("*"))

    def run(
        self, code: str, *args: str, named: bool = True, **options: Any
    ) -> "CompletedProcess[str]":
        """Run Python code as a process in the project, by default with the app named."""
        return self.python("-W", "error", "-c", NAMED * named + code, *args, **options)

    def python(self, *args: str, **options: Any) -> "CompletedProcess[str]":
        """Run the Python interpreter in the project."""
        env = {**self.env, **options.pop("env", {})}
        given = {"cwd": self.root, "timeout": 60, "check": False, **options}
        return subprocess.run(
            [sys.executable, *args], env=env, capture_output=True, text=True, **given
        )

    def start(self, code: str, *args: str) -> "subprocess.Popen[str]":
        """Start Python code in the project, with pipes for input and output."""
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
    """Return the path of the user's consent record for a project, or for all projects."""
    if all_projects:
        return Path(paths.config, policy.RECORD)
    dirs = ProjectDirs.of(paths)
    assert dirs is not None
    return Path(dirs.config, policy.RECORD)


def believed(path: Path, data: bytes) -> bytes:
    """Complete a grant written by hand: add its last words, and write the history beside it.

    Args:
        path: the path of the record.
        data: the line of the record. Any line other than a grant is returned unchanged.
    """
    if not data.startswith(b"v1 yes ") or not data.endswith(b"\n") or b"entry=" in data:
        return data
    name = path.parent.name
    place = name if policy.is_directory_name(name) else policy.ALL
    history = f'{{"decision": "yes", "sha256": "{ENTRY:0<64}"}}\n'
    path.with_name(policy.HISTORY).write_text(history)
    path.with_name(policy.HISTORY).chmod(0o600)
    return data[:-1] + f" place={place} entry={ENTRY}\n".encode()


@pytest.fixture(autouse=True)
def _restore_state() -> Iterator[None]:
    """Restore settings, names, log files and context after each test."""
    previous = settings.current()
    settings.configure(app=APP)
    decorated = {name: set(names) for name, names in settings.decorated.items()}
    recorder.close_logs()
    runtime.declared.clear()
    with cache.override_runtime():
        yield
    recorder.close_logs()
    runtime.declared.clear()
    for name, names in settings.decorated.items():
        names.intersection_update(decorated[name])
    settings.state.replace(previous)
    settings.state.tables.clear()
    runtime.is_denied = False
    context.variable.set(None)
    cache.invalidate()


@pytest.fixture
def at_top_level() -> Callable[..., dict[str, Any]]:
    """Return a function that runs code as a module, where decorations declare their names."""

    def run(code: str, **names: Any) -> dict[str, Any]:
        found = {**vars(telemetry_kit), "RoleEvent": telemetry_kit.RoleEvent, **names}
        found.update({"tracks": telemetry_kit.tracks, "role_session": telemetry_kit.role_session})
        exec(compile(code, "a_module", "exec"), found)
        return found

    return run


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Capture every event of the test, and raise internal errors."""
    with capture_events() as events:
        yield events


@pytest.fixture
def home(tmp_path: Path) -> ProjectPaths:
    """The paths of an empty project."""
    base = Path(os.path.realpath(tmp_path))
    (base / "the-work").mkdir()
    return ProjectPaths(APP, str(base / "the-work"), str(base / "config"), str(base / "state"))


@pytest.fixture
def undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A project without a decision of its user, as the working directory."""
    place = Place(Path(os.path.realpath(tmp_path)))
    monkeypatch.chdir(place.root)
    with cache.override_runtime(place.environ, place.clock, place.now):
        yield place


@pytest.fixture
def place(undecided: Place) -> Place:
    """A project with consent, as the working directory."""
    undecided.grant()
    return undecided


@pytest.fixture
def make_place(tmp_path: Path) -> Callable[[str], Place]:
    """Return a function that makes further projects, each with its own user."""

    def make(name: str) -> Place:
        base = Path(os.path.realpath(tmp_path)) / name
        base.mkdir()
        return Place(base)

    return make


# A process that gives up root cannot read an interpreter in root's home directory any more. So it
# imports every module that it may need before that.
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
    """A project with consent whose user is not root. `run()` runs code as that user."""

    class UnprivilegedPlace(Place):
        def run(self, code: str, *args: str, **options: Any) -> "CompletedProcess[str]":
            return super().run(_STEP_DOWN.format(nobody=NOBODY) + code, *args, **options)

    with tempfile.TemporaryDirectory(prefix="telemetry-kit-") as name:
        base = Path(os.path.realpath(name))
        base.chmod(0o755)
        unprivileged_place = UnprivilegedPlace(base)
        if os.geteuid() == 0:
            os.chown(unprivileged_place.root, NOBODY, NOBODY)
            os.chown(unprivileged_place.user, NOBODY, NOBODY)
        done = unprivileged_place.run("assert enable_telemetry()")
        assert done.returncode == 0, done.stderr
        yield unprivileged_place
        unprivileged_place.root.chmod(0o755)
