"""The fault campaign: counts kept over the whole session, and the table that is written at its end.

`TELEMETRY_KIT_FAULTS=full` runs the full numbers, most of an hour; without it a run takes a few
minutes. `TELEMETRY_KIT_FAULTS_ROWS=FILE` keeps the rows of a session that passed in a file, so that
the campaign can be run in parts. A row whose capability is missing on a machine is skipped and says
why.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import reader, rotation
from telemetry_kit.storage.segments import ReadReport
from tests.conftest import NAMED

HERE = Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "docs" / "reference" / "faults.md"
FULL = os.environ.get("TELEMETRY_KIT_FAULTS") == "full"
KEPT = os.environ.get("TELEMETRY_KIT_FAULTS_ROWS")
ROWS = (
    ("writers", "16 processes write lines of 32 B to 64 KiB into one log"),
    ("sealing", "6 writers, sealing every 200 events, two archivers"),
    ("kills", "the same; writers and archivers killed and started again"),
    ("removed", "6 writers of old and new lines, old ones removed, all of them killed"),
    ("sleepers", "a writer sleeps between its look and its write while lines are removed"),
    ("errors", "each system call of record, seal, archive, clear, remove lines, revoke fails once"),
    ("deaths", "SIGKILL at each system call of record, seal, archive, clear, remove lines, revoke"),
    ("limits", "small disks, resource limits, read-only remount, I/O shutdown"),
    ("daemons", "a host closes our descriptors and opens files under their numbers"),
    ("first", "forks and 5 kHz signals while the first event loads the chain"),
    ("forks", "forks while threads are inside the slow path"),
    ("signals", "a signal handler at 5 kHz, and finalizers, that record"),
    ("ends", "events at exit, in daemon threads, before `os._exit`"),
    ("decisions", "6 writers, revocations and grants"),
    ("clears", "6 writers, clears"),
    ("records", "the consent record replaced, edited, deleted, damaged"),
    ("planted", "links, pipes, folders, sockets, foreign files in the place of ours"),
    ("swapped", "the folder swapped for a link in a loop"),
    ("places", "umask, home, working directory and paths as they should not be"),
    ("clocks", "the clock in 2099, in 1970, and back"),
    ("daylight", "the clocks of five time zones put forward and back"),
    ("stalls", "each write takes 200 ms"),
    ("machine", "random sequences of all operations, compared with a list"),
)
COLUMNS = (
    "faults",
    "kills",
    "sealings",
    "clears",
    "revocations",
    "acknowledged",
    "recovered",
    "lost",
    "doubled",
    "late",
)


class DeclaredNames:
    """What the campaign did and found, by row and column."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, int]] = {}
        self.skipped: dict[str, str] = {}

    def add(self, row: str, **counts: int) -> None:
        assert row in dict(ROWS), row
        kept = self.rows.setdefault(row, dict.fromkeys(COLUMNS, 0))
        for name, count in counts.items():
            kept[name] += count

    def join(self, path: Path) -> None:
        """Take over rows of earlier sessions, this one's instead of older ones; keep them all."""
        earlier = json.loads(path.read_text()) if path.exists() else {}
        self.rows = {**earlier, **self.rows}
        path.write_text(json.dumps(self.rows))

    def table(self) -> str:
        """The page, with the same layout whatever was counted."""
        lines = [
            "# The fault campaign",
            "",
            "Written by `nox -s faults`; do not edit. Real processes and real files; in every row",
            "the host's exit code and output are unchanged, nothing is raised and nothing hangs.",
            "An event is acknowledged when the call that recorded it said so; it is lost when a",
            "reader does not find it, doubled when a reader finds it twice, late when it began",
            "after a revocation had returned and was written before the next grant, or is seen",
            "although it was on file when a clear began that has returned.",
            "`recovered` counts events that a kill had glued to the fragment of another one.",
            "",
            "Run with the full numbers."
            if FULL
            else "Run with the quick numbers; `TELEMETRY_KIT_FAULTS=full` runs the full ones.",
            "",
            "| injected | " + " | ".join(COLUMNS) + " |",
            "|---|" + "---:|" * len(COLUMNS),
        ]
        total = dict.fromkeys(COLUMNS, 0)
        for row, says in ROWS:
            counts = self.rows.get(row)
            if counts is None:
                lines.append(f"| {says} | not run: {self.skipped.get(row, 'left out')} |")
                continue
            for name in COLUMNS:
                total[name] += counts[name]
            cells = " | ".join(f"{counts[name]:,}" for name in COLUMNS)
            lines.append(f"| {says} | {cells} |")
        lines.append("| **all** | " + " | ".join(f"**{total[n]:,}**" for n in COLUMNS) + " |")
        lines += [
            "",
            "The reader on damaged files (random bytes, every bit flipped, truncation at every",
            "offset, bombs) is tested with the other tests, in `tests/storage/test_reader.py`.",
            "",
        ]
        return "\n".join(lines)


_LEDGER = DeclaredNames()


@pytest.fixture(scope="session")
def ledger() -> DeclaredNames:
    """The counts of this session."""
    return _LEDGER


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the full numbers are asked for."""
    return FULL


@pytest.fixture(autouse=True)
def _free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Internal errors stay inside, as they would for a host that is no test."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page when everything ran and held."""
    if KEPT and exitstatus == 0:
        _LEDGER.join(Path(KEPT))
    whole = len(_LEDGER.rows) + len(_LEDGER.skipped) >= len(ROWS)
    if exitstatus == 0 and whole and TABLE.parents[1].is_dir():
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(_LEDGER.table())


@pytest.fixture
def lacking(ledger: DeclaredNames) -> Callable[[str, str], None]:
    """Skip the rest of a row, with the reason, in the table too."""

    def skip(row: str, reason: str) -> None:
        ledger.skipped.setdefault(row, reason)
        pytest.skip(reason)

    return skip


# -- what is stored ----------------------------------------------------------------------------


class Found:
    """What a reader finds.

    Args:
        home: whose journal.
    """

    def __init__(self, home: ProjectPaths) -> None:
        self.problems = ReadReport()
        self.count: dict[str, int] = {}
        self.order: list[str] = []
        for event in reader.read(home, self.problems):
            name = event["event_id"]
            self.order.append(name)
            self.count[name] = self.count.get(name, 0) + 1

    @property
    def recovered(self) -> int:
        return sum(r.recovered for r in self.problems.files.values())

    def lost(self, acknowledged: "Any") -> int:
        return sum(1 for name in acknowledged if name not in self.count)

    @property
    def torn(self) -> int:
        """Lines that are no event, or only a part of one, or not ended."""
        reports = self.problems.files.values()
        return self.problems.malformed + sum(r.recovered + r.in_progress for r in reports)

    @property
    def doubled(self) -> int:
        return sum(1 for times in self.count.values() if times > 1)


@pytest.fixture
def found() -> type[Found]:
    """Reads everything that is stored."""
    return Found


def check_modes(home: ProjectPaths) -> None:
    """Whatever is there has the mode that it must have, and nothing is left over."""
    if not os.path.isdir(home.folder):
        return
    assert 0o700 == os.lstat(home.folder).st_mode & 0o7777
    for name in os.listdir(home.folder):
        mode = os.lstat(f"{home.folder}/{name}").st_mode & 0o7777
        assert not rotation.TEMPORARY.fullmatch(name), name
        if name == "telemetry.jsonl" or name.endswith((".gz", ".zst")) or name == rotation.LOCK:
            assert 0o600 == mode, (name, oct(mode))
        elif rotation.SEGMENT.fullmatch(name):
            assert 0o400 == mode, (name, oct(mode))


@pytest.fixture
def modes() -> Callable[[ProjectPaths], None]:
    """Checks every mode in a folder, and that nothing temporary is in it."""
    return check_modes


# -- hosts -------------------------------------------------------------------------------------

ENDS = 7


class Host:
    """A program that says something, does something with telemetry, says more, and ends with 7."""

    def around(self, code: str) -> str:
        """The program, with this in its middle."""
        return (
            f"{NAMED}import sys\nprint('begin', flush=True)\n{code}\n"
            f"print('end'); print('warned', file=sys.stderr); sys.exit({ENDS})\n"
        )

    def unharmed(self, done: "subprocess.CompletedProcess[str]") -> list[Any]:
        """What it printed in its middle; all else is as it would be without telemetry."""
        first, *told, last = done.stdout.splitlines()
        assert (ENDS, "warned\n", "begin", "end") == (done.returncode, done.stderr, first, last)
        return [json.loads(line) for line in told]


@pytest.fixture
def host() -> Host:
    """Makes programs, and checks that no fault was felt in them."""
    return Host()


# -- processes ---------------------------------------------------------------------------------


@pytest.fixture
def program() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run one of the programs beside this file in a place; it must end as it would, with 7, and
    say nothing."""

    def run(
        place: Any, name: str, *args: object, seconds: float = 300, python: str = sys.executable
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [python, "-W", "error", str(HERE / name), *map(str, args)],
            env=place.env,
            cwd=place.root,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert (ENDS, "") == (done.returncode, done.stderr), done.stderr[-2000:]
        return done

    return run


@pytest.fixture
def sleeping() -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a program that sleeps in the middle of an event until it is told to go on."""

    def start(place: Any, day: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "sleeper.py"), day],
            env=place.env,
            cwd=place.root,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start


def pythons() -> dict[str, str]:
    """Interpreters to run hosts on: this one, and others that are at hand."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    listed = os.environ.get("TELEMETRY_KIT_PYTHONS", "").split(os.pathsep)
    named = [p for v in (11, 12, 13, 14) if (p := shutil.which(f"python3.{v}"))]
    named += sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")))
    for path in [p for p in listed if p] + named:
        asked = subprocess.run(
            # Its own path: the name may be that of a shim, which works in this environment only.
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"],
            capture_output=True,
            text=True,
            check=False,
        )
        version, _, executable = asked.stdout.strip().partition(" ")
        if asked.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 11):
            found.setdefault(version, executable)
    return found


@pytest.fixture(params=["3.11", "3.12", "3.13", "3.14"])
def python(request: pytest.FixtureRequest) -> str:
    """One interpreter after the other; a missing one is skipped."""
    path = _PYTHONS.get(request.param)
    if path is None:
        pytest.skip(f"there is no Python {request.param}")
    return path


_PYTHONS = pythons()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system in the test's own folder; skips where that is denied."""
    mounts: list[Path] = []

    def mount(*args: str) -> Path:
        at = tmp_path / f"mount{len(mounts)}"
        at.mkdir()
        done = subprocess.run(
            ["mount", *args, str(at)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()[:60]}")
        mounts.append(at)
        return at

    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    yield mount
    for at in mounts:
        subprocess.run(["umount", "-l", str(at)], check=False)


def lines_of(text: str) -> list[dict[str, Any]]:
    """What a program printed, one JSON object on each line."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def told() -> Callable[[str], list[dict[str, Any]]]:
    """Parses what a program printed."""
    return lines_of
