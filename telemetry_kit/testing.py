"""For tests of programs: `capture_events()` records into memory, `granted_consent()` into files.

A test makes its own assertions about the events.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache
from telemetry_kit.consent.policy import (
    CI_VARIABLES,
    GRANT,
    PYTEST_VARIABLES,
    WEAK_CI_VARIABLES,
    Decision,
    Rule,
    decide,
)
from telemetry_kit.errors import ConsentError
from telemetry_kit.paths import NO_APP, ProjectPaths
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.declared_names import DeclaredNames
from telemetry_kit.recording import recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_NOWHERE = "/dev/null"
# Variables that deny, or that point to other folders or to another process.
_OF_THE_MACHINE = (
    *("CI", *CI_VARIABLES, *WEAK_CI_VARIABLES, "DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED"),
    *("TELEMETRY_KIT_APP", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"),
)
_OF_THE_APP = ("TELEMETRY_DISABLED", "TELEMETRY_SESSION_ID", "TELEMETRY_PARENT_ID")


class Captured:
    """The events of a `with capture_events() as captured:` block; a context manager."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.dropped: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.undeclared: list[tuple[str, str]] = []
        # One for each time it was entered.
        self._recorders: list[recorder.Recorder] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """The records, in the order they were written."""
        return [json.loads(line) for line in self.lines]

    def append(self, line: bytes) -> bool:
        """Take a line, as the log would."""
        self.lines.append(line)
        return True

    def __enter__(self) -> Self:
        if not settings.current().app:
            self.notes.append(NO_APP)
        paths = ProjectPaths(settings.current().app or "capture", _NOWHERE, _NOWHERE, _NOWHERE)
        decision = Decision(True, Rule("test", "capture_events", None, GRANT, "captured"))
        cached = cache.CachedDecision(
            paths, decision, cache.Switches({}, ""), settings.generation(), 0.0
        )
        key = keys.Key(b"telemetry_kit capture_events key", 1)
        nothing = DeclaredNames(None, repr)
        capture = recorder.Recorder(cached, self, key, nothing, nothing)
        capture.dropped = self.dropped
        capture.undeclared = self.undeclared
        capture.sequence = itertools.count()
        self._recorders.append(capture)
        runtime.captured += 1
        runtime.off_until = 0.0
        recorder.captures.append(capture)
        return self

    def __exit__(self, *_: object) -> None:
        if self._recorders:
            recorder.captures.remove(self._recorders.pop())
            runtime.captured -= 1


def capture_events() -> Captured:
    """Run a block with every event of the process going into memory, with or without consent.

    The processors are the real ones; nothing is written to disk. Blocks can be nested: the
    innermost one gets the events, those of other threads included.

    Returns:
        A context manager. `.events` are the records, `.lines` their bytes. `.dropped` are pairs of
        event type and key of dropped values. `.undeclared` are pairs of field and name that became
        pseudonyms, for instance names given to a decorator inside a running function. `.notes` are
        reasons for which the program would record nothing outside of tests.

    Example:
        >>> from telemetry_kit import capture_events, track_role_event
        >>> with capture_events() as captured:
        ...     record = track_role_event("agent.invoked", agent="planner", context={"x": 1})
        >>> [event["event_type"] for event in captured.events]
        ['agent.invoked']
        >>> captured.dropped, captured.undeclared
        ([('agent.invoked', 'context.x')], [('agent', 'planner')])
    """
    return Captured()


# -- a granted consent -------------------------------------------------------------------------


class Granted:
    """What `granted_consent()` made: a user who granted consent, and a project.

    Attributes:
        root: the folder of the project, which is the working directory inside the block.
        home: the user's home directory.
        log: the file that the events are written to; it exists after the first one.
    """

    def __init__(self, paths: ProjectPaths, root: str, home: str) -> None:
        self._paths = paths
        self.root = Path(root)
        self.home = Path(home)
        self.log = Path(paths.log)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events on disk, oldest first: those of this process and of all others."""
        from telemetry_kit.insights import reading  # deferred: a capture reads no file
        from telemetry_kit.insights.query import Query  # deferred: so

        return list(reading.events(self._paths, Query()))

    @property
    def environ(self) -> dict[str, str]:
        """The environment for a child process, with which it records as this process does."""
        return dict(_WithoutPytest())


class _WithoutPytest(Mapping[str, str]):
    """The environment of the process without the variables that pytest sets again and again."""

    def __getitem__(self, name: str) -> str:
        if name in PYTEST_VARIABLES:
            raise KeyError(name)
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in os.environ if name not in PYTEST_VARIABLES)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def granted_consent(tmp_path: str | os.PathLike[str]) -> Iterator[Granted]:
    """Run a block as after the user has granted consent, with real files in a temporary home.

    The working directory is an empty project, and `HOME` is an empty home directory. The
    variables by which a CI system denies recording are not set. The end of the block restores
    all of that, and closes the log. The files stay.

    Declare names and context with `configure()` before, because consent covers what is declared
    then. A child process records if it gets `environ`. Events go to the files even inside
    `capture_events()` and with `--telemetry-record`.

    Args:
        tmp_path: a folder outside of any repository, for instance the fixture `tmp_path` of
            pytest. The folders `project` and `home` are made in it.

    Returns:
        A context manager. `.root`, `.home` and `.log` are paths, `.events` are the events on
        disk, and `.environ` is the environment for child processes.

    Raises:
        ConsentError: the program has no name, the folder is inside a repository, or a rule
            denies recording; the message names it. On Windows always.

    Example:
        >>> import tempfile
        >>> from telemetry_kit import configure, track_role_event
        >>> from telemetry_kit.testing import granted_consent
        >>> with tempfile.TemporaryDirectory() as folder, configure(app="acme"):
        ...     with granted_consent(folder) as granted:
        ...         record = track_role_event("role.selected", role="dev")
        ...         print(granted.log.relative_to(granted.root), len(granted.events))
        .acme/telemetry.jsonl 1
    """
    from telemetry_kit.consent import changes  # deferred: a capture decides nothing

    base = os.path.realpath(tmp_path)
    root, home = f"{base}/project", f"{base}/home"
    for folder in (root, home):
        os.makedirs(folder, exist_ok=True)
    with (
        _environment(home),
        cache.override_runtime(_WithoutPytest()),
        _without_captures(),
        chdir(root),
    ):
        paths = changes.paths_of(root)
        if not paths.is_user_scope and paths.root != root:
            says = f"{base} is inside the project {paths.root}: give a folder outside of it"
            raise ConsentError(says)
        try:
            if not changes.grant(paths, any_context=True):
                raise ConsentError(f"recording is off: {decide(paths, runtime.environ).rule.says}")
            yield Granted(paths, root, home)
        finally:
            recorder.close_logs()


@contextmanager
def _environment(home: str) -> Iterator[None]:
    """Set the home directory, and remove the variables of this machine; restores them."""
    prefix = settings.current().prefix
    names = ("HOME", *_OF_THE_MACHINE, *(f"{prefix}_{name}" for name in _OF_THE_APP))
    former = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["HOME"] = home
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(former)


@contextmanager
def _without_captures() -> Iterator[None]:
    """Suspend the captures, and a denial of this process that could not be saved."""
    former = (recorder.captures[:], runtime.captured, runtime.is_denied)
    recorder.captures[:], runtime.captured, runtime.is_denied = [], 0, False
    try:
        yield
    finally:
        recorder.captures[:], runtime.captured, runtime.is_denied = former
