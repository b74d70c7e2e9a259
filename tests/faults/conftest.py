"""The fault campaign counts faults over the session and writes a table at its end.

`TELEMETRY_KIT_FAULTS=full` runs the full numbers, which takes most of an hour. Without it a run
takes a few minutes. `TELEMETRY_KIT_FAULTS_ROWS=FILE` saves the rows of a successful session in a
file, so that the campaign can run in parts. If a machine lacks a capability, its row is skipped
with the reason.
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
ROWS_FILE = os.environ.get("TELEMETRY_KIT_FAULTS_ROWS")
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


class FaultTable:
    """The counts of the campaign, by row and column."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, int]] = {}
        self.skipped: dict[str, str] = {}

    def add(self, row: str, **counts: int) -> None:
        """Add counts to a row."""
        assert row in dict(ROWS), row
        row_counts = self.rows.setdefault(row, dict.fromkeys(COLUMNS, 0))
        for name, count in counts.items():
            row_counts[name] += count

    def join(self, path: Path) -> None:
        """Add the rows of earlier sessions from the file, and save all rows in it."""
        earlier = json.loads(path.read_text()) if path.exists() else {}
        self.rows = {**earlier, **self.rows}
        path.write_text(json.dumps(self.rows))

    def table(self) -> str:
        """Return the page, whose layout does not depend on the counts."""
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
        for row, description in ROWS:
            counts = self.rows.get(row)
            if counts is None:
                lines.append(f"| {description} | not run: {self.skipped.get(row, 'left out')} |")
                continue
            for name in COLUMNS:
                total[name] += counts[name]
            cells = " | ".join(f"{counts[name]:,}" for name in COLUMNS)
            lines.append(f"| {description} | {cells} |")
        lines.append("| **all** | " + " | ".join(f"**{total[n]:,}**" for n in COLUMNS) + " |")
        lines += [
            "",
            "The reader on damaged files (random bytes, every bit flipped, truncation at every",
            "offset, bombs) is tested with the other tests, in `tests/storage/test_reader.py`.",
            "",
        ]
        return "\n".join(lines)


_FAULT_TABLE = FaultTable()


@pytest.fixture(scope="session")
def fault_table() -> FaultTable:
    """Return the counts of this session."""
    return _FAULT_TABLE


@pytest.fixture(scope="session")
def full() -> bool:
    """Return whether the full numbers are requested."""
    return FULL


@pytest.fixture(autouse=True)
def _not_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library suppress internal errors, as it does outside of pytest."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page if each row was run and the session passed."""
    if ROWS_FILE and exitstatus == 0:
        _FAULT_TABLE.join(Path(ROWS_FILE))
    is_complete = len(_FAULT_TABLE.rows) + len(_FAULT_TABLE.skipped) >= len(ROWS)
    if exitstatus == 0 and is_complete and TABLE.parents[1].is_dir():
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(_FAULT_TABLE.table())


@pytest.fixture
def skip_row(fault_table: FaultTable) -> Callable[[str, str], None]:
    """Skip the rest of a row, and show the reason in the table."""

    def skip(row: str, reason: str) -> None:
        fault_table.skipped.setdefault(row, reason)
        pytest.skip(reason)

    return skip


# -- stored events -------------------------------------------------------------------------------


class StoredEvents:
    """The events and the problems that a reader finds.

    Args:
        home: the paths of the project.
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
        """Return the number of events that were recovered from damaged lines."""
        return sum(r.recovered for r in self.problems.files.values())

    def lost(self, acknowledged: "Any") -> int:
        """Return the number of acknowledged events that are not stored."""
        return sum(1 for name in acknowledged if name not in self.count)

    @property
    def torn(self) -> int:
        """Return the number of lines that are malformed, joined or incomplete."""
        reports = self.problems.files.values()
        return self.problems.malformed + sum(r.recovered + r.in_progress for r in reports)

    @property
    def doubled(self) -> int:
        """Return the number of events that are stored more than once."""
        return sum(1 for times in self.count.values() if times > 1)


@pytest.fixture
def stored_events() -> type[StoredEvents]:
    """Return the class that reads all stored events."""
    return StoredEvents


def check_modes(home: ProjectPaths) -> None:
    """Check the mode of each file, and that no temporary file is left."""
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
    """Return the check of the modes in a project directory."""
    return check_modes


# -- hosts ---------------------------------------------------------------------------------------

EXIT_CODE = 7


class Host:
    """A program that prints, uses telemetry, prints again, and exits with 7."""

    def wrap(self, code: str) -> str:
        """Return the program with this code in the middle."""
        return (
            f"{NAMED}import sys\nprint('begin', flush=True)\n{code}\n"
            f"print('end'); print('warned', file=sys.stderr); sys.exit({EXIT_CODE})\n"
        )

    def check(self, done: "subprocess.CompletedProcess[str]") -> list[Any]:
        """Return the output of the code, and check that the rest of the program is not affected."""
        first, *output, last = done.stdout.splitlines()
        assert (EXIT_CODE, "warned\n", "begin", "end") == (
            done.returncode,
            done.stderr,
            first,
            last,
        )
        return [json.loads(line) for line in output]


@pytest.fixture
def host() -> Host:
    """Return the host, which creates programs and checks their results."""
    return Host()


# -- processes -----------------------------------------------------------------------------------


@pytest.fixture
def run_program() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a program of this directory in a project.

    It must exit with 7 and print nothing to stderr.
    """

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
        assert (EXIT_CODE, "") == (done.returncode, done.stderr), done.stderr[-2000:]
        return done

    return run


@pytest.fixture
def start_suspended() -> Callable[..., "subprocess.Popen[str]"]:
    """Start a program that is suspended during an event until it gets a line of input."""

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
    """Return the available interpreters by version: this one and others."""
    interpreters = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    configured = os.environ.get("TELEMETRY_KIT_PYTHONS", "").split(os.pathsep)
    candidates = [p for v in (11, 12, 13, 14) if (p := shutil.which(f"python3.{v}"))]
    candidates += sorted(map(str, Path.home().glob(".pyenv/versions/3.*/bin/python3")))
    for path in [p for p in configured if p] + candidates:
        answer = subprocess.run(
            # Resolve the path, because the name may be a shim of this environment.
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"],
            capture_output=True,
            text=True,
            check=False,
        )
        version, _, executable = answer.stdout.strip().partition(" ")
        if answer.returncode == 0 and tuple(map(int, version.split("."))) >= (3, 11):
            interpreters.setdefault(version, executable)
    return interpreters


@pytest.fixture(params=["3.11", "3.12", "3.13", "3.14"])
def python(request: pytest.FixtureRequest) -> str:
    """Return one interpreter after the other. A missing one is skipped."""
    path = _PYTHONS.get(request.param)
    if path is None:
        pytest.skip(f"there is no Python {request.param}")
    return path


_PYTHONS = pythons()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a file system in the directory of the test, or skip the test."""
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
    """Return the output of a program with one JSON object on each line."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def parse_lines() -> Callable[[str], list[dict[str, Any]]]:
    """Return the parser of such output."""
    return lines_of
