"""`telemetry-kit demo`: run the real workflow in a temporary project, deleted afterwards.

The example program runs in its own processes, with its own home and environment. The caller's
files are not read or changed, and the caller is not asked.
"""

from __future__ import annotations

import os
import shlex
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import telemetry_kit
from telemetry_kit.cli.child_process import run_python
from telemetry_kit.cli.output import FAILED, CommandError, print_line, safe, width
from telemetry_kit.cli.tables import Column, numbers, table
from telemetry_kit.consent import notice
from telemetry_kit.files.private import name_of
from telemetry_kit.insights.counters import Key, Tally
from telemetry_kit.paths import Home, find
from telemetry_kit.storage.reader import read
from telemetry_kit.storage.segments import Problems

APP = "flowspec"
PROGRAM, SPEC = "specflow.py", "spec.md"
RAW_LINES = 3
_ACCEPT = 'shorten("a long description", 9) == "a long..."'
_HOOK = "agent.invoked --agent backend-engineer --role dev --command /dev:build"

# Arguments of a process, its exit code, and how many events it records.
PROCESSORS: tuple[tuple[tuple[str, ...], int, int], ...] = (
    ((PROGRAM, "pm", "assess", SPEC), 0, 6),
    ((PROGRAM, "dev", "build", SPEC, "--handoff"), 0, 7),
    ((PROGRAM, "qa", "test", SPEC), 1, 5),
    ((PROGRAM, "pm", "clarify", SPEC, "REQ-3", _ACCEPT), 0, 5),
    ((PROGRAM, "dev", "build", SPEC), 0, 5),
    ((PROGRAM, "qa", "test", SPEC), 0, 5),
    ((PROGRAM, "ops", "release", SPEC), 0, 11),
    (("-m", "telemetry_kit", "record", *_HOOK.split()), 0, 1),
)


class Stage:
    """A temporary folder with a project and a home, and the environment of what runs there.

    Args:
        base: the folder.
    """

    __slots__ = ("base", "env", "home", "project", "width")

    def __init__(self, base: str) -> None:
        self.base = base
        self.project = f"{base}/project"
        user = f"{base}/home"
        self.width = width()
        # Made here, so that no folder of that name above the temporary one is taken for ours.
        for folder in (user, self.project, f"{self.project}/.{APP}"):
            os.mkdir(folder, 0o700)
        # Where the temporary folder lies in a repository: nothing of that one is touched.
        with open(f"{self.project}/.git", "x", encoding="utf-8"):
            pass
        self.env = _environment(user, self.width)
        self.home: Home = find(APP, self.project, self.env)

    def run(self, args: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """Run this interpreter in the project."""
        done = run_python(args, cwd=self.project, env=self.env)
        output = done.stdout.decode("utf-8", "replace")
        return subprocess.CompletedProcess(args, done.returncode, output)


def run(project: str | None, keep: bool) -> None:
    """Run the example program in a temporary project and show what is recorded.

    Raises:
        CommandError: a process ended, or recorded, otherwise than expected.
    """
    with _stage(keep) as stage:
        _copy_example(stage.project)
        print_line(f"A temporary project: {stage.project}")
        _consent(stage)
        differences = _play(stage)
        _show_raw_lines(stage)
        _show_table(stage)
        differences += _show_counts(stage)
    if differences:
        raise CommandError("the demo did not go as expected: " + "; ".join(differences), FAILED)


@contextmanager
def _stage(keep: bool) -> Iterator[Stage]:
    try:
        base = os.path.realpath(tempfile.mkdtemp(prefix="telemetry-kit-demo-"))
    except OSError as error:
        raise CommandError(f"there is no place for a temporary folder ({name_of(error)})") from None
    try:
        yield Stage(base)
    finally:
        if not keep:
            shutil.rmtree(base, ignore_errors=True)
    print_line()
    print_line(
        f"Everything was in {base}: the project, its {APP} log, and a home with consent and key."
    )
    if keep:
        print_line("It is still there: delete it when you have seen enough.")
    elif os.path.lexists(base):
        raise CommandError(f"{base} could not be deleted: delete it yourself")
    else:
        print_line(
            "It is gone. Nothing was recorded anywhere else, and your own home was not touched."
        )


def _environment(user: str, width: int) -> dict[str, str]:
    """What the processes of the demo see: nothing that vetoes, and no home but the demo's."""
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": user,
        "LANG": "C.UTF-8",
        "PYTHONUTF8": "1",
        "COLUMNS": str(width),
    }
    for name, below in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_CACHE_HOME", ".cache"),
    ):
        found[name] = f"{user}/{below}"
    if site.ENABLE_USER_SITE:
        # Worked out from HOME otherwise, and this library may be installed there.
        found["PYTHONUSERBASE"] = site.getuserbase()
    package = os.path.dirname(os.path.dirname(os.path.abspath(telemetry_kit.__file__)))
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [os.path.abspath(path) for path in inherited if path]
    if package not in [*site.getsitepackages(), site.getusersitepackages()]:
        paths.insert(0, package)
    if paths:
        found["PYTHONPATH"] = os.pathsep.join(paths)
    return found


def _copy_example(project: str) -> None:
    folder: Traversable = files(telemetry_kit) / "examples"
    if not folder.is_dir():
        # A checkout, where the package does not contain them yet.
        folder = files(telemetry_kit) / ".." / "examples"
    for name in (PROGRAM, SPEC):
        try:
            with as_file(folder / name) as path:
                shutil.copyfile(path, f"{project}/{name}")
        except FileNotFoundError:
            raise CommandError(f"the example is missing from this installation: {name}") from None


def _consent(stage: Stage) -> None:
    _title("What its user is asked, and says yes to for this project only")
    for line in notice.lines(stage.home):
        print_line(f"  | {safe(line)}".rstrip())
    print_line()
    done = _show_run(stage, ("-m", "telemetry_kit", "enable", "--yes"))
    if done.returncode:
        raise CommandError("consent for the temporary project could not be given")


def _play(stage: Stage) -> list[str]:
    """Run the processes; returns what differed from what was expected."""
    _title("The example program at work")
    differences = []
    before = 0
    for number, (args, code, events) in enumerate(PROCESSORS, start=1):
        done = _show_run(stage, args)
        after = sum(1 for _ in read(stage.home))
        print_line(f"    exit code {done.returncode}, {_events(after - before)} recorded")
        if done.returncode != code:
            differences.append(f"process {number} exited with {done.returncode}, not {code}")
        if after - before != events:
            differences.append(f"process {number} recorded {after - before} events, not {events}")
        before = after
    return differences


def _show_run(stage: Stage, args: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    print_line(f"  $ {safe(shlex.join(('python', *args)))}")
    sys.stdout.flush()
    done = stage.run(args)
    for line in done.stdout.splitlines():
        print_line(f"    {safe(line)}")
    return done


def _show_raw_lines(stage: Stage) -> None:
    try:
        with open(stage.home.log, encoding="utf-8") as log:
            lines = log.read().splitlines()
    except FileNotFoundError:
        lines = []
    _title(f"The first of {len(lines)} lines in .{APP}/telemetry.jsonl, cut to fit here")
    max_width = max(stage.width - 5, 10)
    for line in lines[:RAW_LINES]:
        print_line(f"  {safe(line if len(line) <= max_width else line[:max_width] + '...')}")


def _show_table(stage: Stage) -> None:
    _title("telemetry-kit view: the newest first; -n 50 shows all, --json whole records")
    done = stage.run(("-m", "telemetry_kit", "view", "-n", "12"))
    for line in done.stdout.splitlines():
        print_line(safe(line))
    print_line()
    print_line("Names that a process has not declared are stored as keyed codes: h:...")


def _show_counts(stage: Stage) -> list[str]:
    tally, problems = Tally(), Problems()
    for event in read(stage.home, problems):
        tally.add(event)
    _title("Counts")
    _count_table("role", tally.rows("roles"), ("selected", "changed", "events"))
    _count_table("command", tally.rows("commands"), ("executed", "completed", "failed"))
    _count_table("hand-off", tally.rows("handoffs"), ("clicked", "completed"))
    expected = sum(events for _, _, events in PROCESSORS)
    found = tally.total("events")
    print_line(f"{_events(found)} read, {expected} expected, {problems.malformed} malformed lines.")
    return [] if problems.malformed == 0 else problems.sentences()


def _count_table(heading: str, rows: dict[Key, dict[str, int]], titles: tuple[str, ...]) -> None:
    columns = [Column(heading, [" -> ".join(key) for key in rows], can_fold=True)]
    columns += [numbers(t, [counts.get(t, 0) for counts in rows.values()]) for t in titles]
    for line in table(columns, width() - 2):
        print_line(f"  {line}")
    print_line()


def _title(text: str) -> None:
    print_line()
    print_line(text)
    print_line()


def _events(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"
