"""`telemetry-kit demo`: run the example workflow in a temporary project, deleted afterwards.

The example program runs in its own processes, with its own home directory and environment. The
files of the user are neither read nor changed, and the user is not asked.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import telemetry_kit
from telemetry_kit._runtime import runtime
from telemetry_kit.cli.child_process import run_python
from telemetry_kit.cli.commands.selftest import isolated_environment, make_project
from telemetry_kit.cli.output import CommandError, counted, safe, width
from telemetry_kit.cli.tables import Column, numbers, table
from telemetry_kit.consent import notice
from telemetry_kit.files.private import name_of
from telemetry_kit.insights.counters import Counters, Key
from telemetry_kit.paths import ProjectPaths, find
from telemetry_kit.storage.reader import read
from telemetry_kit.storage.segments import ReadReport

APP = "flowspec"
PROGRAM, SPEC = "specflow.py", "spec.md"
RAW_LINES = 3
CRITERION = 'shorten("a long description", 9) == "a long..."'
HOOK = "agent.invoked --agent backend-engineer --role dev --command /dev:build"

# Arguments of a process, its exit code, and how many events it records.
PROCESSES: tuple[tuple[tuple[str, ...], int, int], ...] = (
    ((PROGRAM, "pm", "assess", SPEC), 0, 6),
    ((PROGRAM, "dev", "build", SPEC, "--handoff"), 0, 7),
    ((PROGRAM, "qa", "test", SPEC), 1, 5),
    ((PROGRAM, "pm", "clarify", SPEC, "REQ-3", CRITERION), 0, 5),
    ((PROGRAM, "dev", "build", SPEC), 0, 5),
    ((PROGRAM, "qa", "test", SPEC), 0, 5),
    ((PROGRAM, "ops", "release", SPEC), 0, 11),
    (("-m", "telemetry_kit", "record", *HOOK.split()), 0, 1),
)


class Sandbox:
    """A temporary folder with a project and a home directory.

    Args:
        base: the folder.
    """

    __slots__ = ("env", "paths", "project")

    def __init__(self, base: str) -> None:
        make_project(base, APP)
        self.project = f"{base}/project"
        user = f"{base}/home"
        self.env = {
            **isolated_environment(user),
            "LANG": "C.UTF-8",
            "PYTHONUTF8": "1",
            "COLUMNS": str(width()),
            "XDG_CONFIG_HOME": f"{user}/.config",
            "XDG_STATE_HOME": f"{user}/.local/state",
            "XDG_DATA_HOME": f"{user}/.local/share",
            "XDG_CACHE_HOME": f"{user}/.cache",
        }
        self.paths: ProjectPaths = find(APP, self.project, self.env)

    def run(self, args: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """Run this interpreter in the project."""
        done = run_python(args, cwd=self.project, env=self.env)
        output = done.stdout.decode("utf-8", "replace")
        return subprocess.CompletedProcess(args, done.returncode, output)

    def run_and_print(self, args: tuple[str, ...]) -> int:
        """Run this interpreter, print the command and its output, and return the exit code."""
        print(f"  $ {safe(shlex.join(('python', *args)))}", flush=True)
        done = self.run(args)
        for line in done.stdout.splitlines():
            print(f"    {safe(line)}")
        return done.returncode


def run(project: str | None, keep: bool) -> None:
    """Run the example program in a temporary project and show what it records.

    Raises:
        CommandError: a process exited or recorded otherwise than expected.
    """
    with sandbox(keep) as box:
        copy_example(box.project)
        print(f"A temporary project: {safe(str(box.project))}")
        grant_consent(box)
        differences = run_processes(box)
        print_log(box)
        print_table(box)
        differences += print_counts(box)
    if differences:
        raise CommandError(f"the demo has other results than expected: {'; '.join(differences)}")


@contextmanager
def sandbox(keep: bool) -> Iterator[Sandbox]:
    """Create the temporary folder, and delete it afterwards unless the user keeps it."""
    try:
        base = os.path.realpath(tempfile.mkdtemp(prefix="telemetry-kit-demo-"))
    except OSError as error:
        raise CommandError(f"no temporary folder can be created ({name_of(error)})") from None
    try:
        yield Sandbox(base)
    finally:
        if not keep:
            shutil.rmtree(base, ignore_errors=True)
    print()
    print(
        f"{safe(str(base))} contained the project, its {APP} log, and a home with consent and key."
    )
    if keep:
        print("It is kept: delete it when you have seen enough.")
    elif os.path.lexists(base):
        raise CommandError(f"{base} could not be deleted: delete it yourself")
    else:
        print("It is deleted. Nothing was recorded elsewhere, and your own home is unchanged.")


def copy_example(project: str) -> None:
    """Copy the example program into the project."""
    folder: Traversable = files(telemetry_kit) / "examples"
    if not folder.is_dir():
        # In a checkout the examples are beside the package.
        folder = files(telemetry_kit) / ".." / "examples"
    for name in (PROGRAM, SPEC):
        try:
            with as_file(folder / name) as path:
                shutil.copyfile(path, f"{project}/{name}")
        except FileNotFoundError:
            raise CommandError(f"the example is missing from this installation: {name}") from None


def grant_consent(box: Sandbox) -> None:
    """Print the notice and grant consent in the temporary project."""
    print("\nThe notice that its user reads and agrees to, for this project only\n")
    for line in notice.lines(box.paths):
        print(f"  | {safe(line)}".rstrip())
    print()
    if box.run_and_print(("-m", "telemetry_kit", "enable", "--yes")):
        raise CommandError("consent for the temporary project could not be granted")


def run_processes(box: Sandbox) -> list[str]:
    """Run the processes and return the differences from the expected results."""
    print("\nThe example program at work\n")
    differences = []
    before = 0
    for number, (args, expected_code, events) in enumerate(PROCESSES, start=1):
        code = box.run_and_print(args)
        after = sum(1 for _ in read(box.paths))
        print(f"    exit code {code}, {counted(after - before, 'event')} recorded")
        if code != expected_code:
            differences.append(f"process {number} exited with {code}, not {expected_code}")
        if after - before != events:
            differences.append(
                f"process {number} recorded {counted(after - before, 'event')}, not {events}"
            )
        before = after
    return differences


def print_log(box: Sandbox) -> None:
    """Print the first lines of the log."""
    try:
        with open(box.paths.log, encoding="utf-8") as log:
            lines = log.read().splitlines()
    except FileNotFoundError:
        lines = []
    print(f"\nThe first of {len(lines)} lines in .{APP}/telemetry.jsonl, cut to fit here\n")
    max_width = max(width() - 5, 10)
    for line in lines[:RAW_LINES]:
        print(f"  {safe(line if len(line) <= max_width else line[:max_width] + '...')}")


def print_table(box: Sandbox) -> None:
    """Print the output of `view`."""
    print(f"\n{runtime.program} view: the newest first; -n 50 shows all, --json whole events\n")
    done = box.run(("-m", "telemetry_kit", "view", "-n", "12"))
    for line in done.stdout.splitlines():
        print(safe(line))
    print()
    print("Names that a process has not declared are stored as pseudonyms: h:...")


def print_counts(box: Sandbox) -> list[str]:
    """Print counts of all events and return the lines that could not be read."""
    tally, problems = Counters(), ReadReport()
    for event in read(box.paths, problems):
        tally.add(event)
    print("\nCounts\n")
    print_count_table("role", tally.rows("roles"), ("selected", "changed", "events"))
    print_count_table("command", tally.rows("commands"), ("executed", "completed", "failed"))
    print_count_table("hand-off", tally.rows("handoffs"), ("clicked", "completed"))
    expected = sum(events for _, _, events in PROCESSES)
    found = counted(tally.total("events"), "event")
    print(f"{found} read, {expected} expected, {counted(problems.malformed, 'malformed line')}.")
    return problems.sentences() if problems.malformed else []


def print_count_table(title: str, rows: dict[Key, dict[str, int]], titles: tuple[str, ...]) -> None:
    """Print one table of counts."""
    columns = [Column(title, [" -> ".join(key) for key in rows], can_fold=True)]
    columns += [numbers(t, [counts.get(t, 0) for counts in rows.values()]) for t in titles]
    for line in table(columns, width() - 2):
        print(f"  {line}")
    print()
