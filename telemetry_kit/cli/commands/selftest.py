"""`telemetry-kit selftest`: record 1,000 events in a monitored process and report its actions.

ProjectPaths and project are temporary. The files of the user are neither read nor changed.
"""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import tempfile
from dataclasses import asdict, dataclass

import telemetry_kit
from telemetry_kit import settings
from telemetry_kit.cli.child_process import run_python
from telemetry_kit.cli.output import CommandError, safe
from telemetry_kit.verification import selftest_child

TIMEOUT_SECONDS = 120
# The files that recording creates below home and project; `?` is a pseudonym.
EXPECTED = (
    "home/.config/telemetry-kit/{app}/projects/?/telemetry.enabled",
    "home/.config/telemetry-kit/{app}/projects/?/telemetry.history.jsonl",
    "home/.local/state/telemetry-kit/.gitignore",
    "home/.local/state/telemetry-kit/made",
    "home/.local/state/telemetry-kit/{app}/place.key",
    "home/.local/state/telemetry-kit/{app}/projects/?/key",
    "home/.local/state/telemetry-kit/{app}/projects/?/names",
    "home/.local/state/telemetry-kit/{app}/projects/?/path",
    "project/.git",
    "project/.{app}/.gitignore",
    "project/.{app}/telemetry.jsonl",
)
PSEUDONYM = re.compile(r"/projects/[0-9a-f]{16}(?=/|$)")
# The lock of a decision exists only while a process holds it.
MOMENTARY = "home/.config/telemetry-kit/{app}/.telemetry.deciding"
TEMPORARY = re.compile(r"/\.[\w.-]+-[0-9a-f]{12}\.telemetry-kit\.tmp$")


@dataclass(frozen=True, slots=True)
class Report:
    """The actions of the process.

    Args:
        events: lines in its log.
        sockets: network events of the audit hook.
        subprocesses: processes that it started.
        threads: threads that it started.
        output_bytes: bytes that it wrote to stdout and stderr.
        files: files that it created; `?` is a pseudonym.
        unexpected: files that it created or changed against the promise.
        exit_code: its exit code.
    """

    events: int
    sockets: int
    subprocesses: int
    threads: int
    output_bytes: int
    files: list[str]
    unexpected: list[str]
    exit_code: int

    @property
    def passed(self) -> bool:
        """Whether recording did nothing else."""
        bad = (self.sockets, self.subprocesses, self.threads, self.output_bytes, self.exit_code)
        return self.events == selftest_child.EVENTS and not any(bad) and not self.unexpected


def run(project: str | None, as_json: bool) -> None:
    """Record 1,000 events under an audit hook and report all other actions.

    Raises:
        CommandError: recording did something else.
    """
    report = observe(settings.current().app)
    if as_json:
        print(json.dumps({"passed": report.passed, **asdict(report)}))
    else:
        for line in lines(report):
            print(safe(line))
    if not report.passed:
        raise CommandError("recording did something else: see the report")


def observe(app: str) -> Report:
    """Run the process and return its actions.

    Args:
        app: the app name of its events.

    Raises:
        CommandError: it could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="telemetry-kit-selftest-") as name:
        base = os.path.realpath(name)
        make_project(base, app)
        child = "telemetry_kit.verification.selftest_child"
        try:
            done = run_python(
                ("-m", child, f"{base}/report", app),
                cwd=f"{base}/project",
                env=isolated_environment(f"{base}/home"),
                timeout_seconds=TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise CommandError("the Python interpreter could not be started") from None
        return report_of(base, app, done)


def make_project(base: str, app: str) -> None:
    """Create an empty project and a home directory in a temporary folder."""
    for folder in ("home", "project", f"project/.{app}"):
        os.mkdir(f"{base}/{folder}", 0o700)
    # If the temporary folder is in a repository, this file keeps that repository unchanged.
    with open(f"{base}/project/.git", "x", encoding="utf-8"):
        pass


def isolated_environment(user: str) -> dict[str, str]:
    """Return the environment of a process with another home directory and no veto."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(telemetry_kit.__file__)))
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    paths = [os.path.abspath(path) for path in inherited]
    if package not in [*site.getsitepackages(), site.getusersitepackages()]:
        paths.insert(0, package)
    found = {"PATH": os.environ.get("PATH", os.defpath), "HOME": user}
    found["PYTHONDONTWRITEBYTECODE"] = "1"
    if paths:
        found["PYTHONPATH"] = os.pathsep.join(paths)
    if site.ENABLE_USER_SITE:
        # This library may be in the user's packages, whose path depends on HOME otherwise.
        found["PYTHONUSERBASE"] = site.getuserbase()
    return found


def report_of(base: str, app: str, done: subprocess.CompletedProcess[bytes]) -> Report:
    """Return the actions of the process, from its own report and from the files it left."""

    def below(path: str) -> str:
        return PSEUDONYM.sub("/projects/?", path.removeprefix(f"{base}/"))

    try:
        with open(f"{base}/report", encoding="utf-8") as file:
            seen = json.load(file)
        os.unlink(f"{base}/report")
    except (OSError, ValueError):
        seen = {"sockets": 0, "subprocesses": 0, "threads": 0, "paths": []}
    left = sorted({below(f"{top}/{name}") for top, _, names in os.walk(base) for name in names})
    expected = {path.format(app=app) for path in EXPECTED}
    folders = {os.path.dirname(path) for path in expected}
    while parents := {os.path.dirname(path) for path in folders} - folders - {""}:
        folders |= parents
    touched = {below(path) for path in seen["paths"]} - {MOMENTARY.format(app=app)}
    changed = {p for p in touched if p not in expected | folders and not is_own(p, expected)}
    try:
        with open(f"{base}/project/.{app}/telemetry.jsonl", "rb") as log:
            events = log.read().count(b"\n")
    except OSError:
        events = 0
    return Report(
        events=events,
        **{name: seen[name] for name in ("sockets", "subprocesses", "threads")},
        output_bytes=len(done.stdout),
        files=left,
        unexpected=sorted(changed | (set(left) - expected)),
        exit_code=done.returncode,
    )


def is_own(path: str, expected: set[str]) -> bool:
    """Whether a path is the temporary file of an expected one, or a name inside an open folder."""
    if TEMPORARY.search(path):
        return os.path.dirname(path) in {os.path.dirname(p) for p in expected}
    return "/" not in path and path in {os.path.basename(p) for p in expected}


def lines(report: Report) -> list[str]:
    """Return the report for people."""
    verdict = "PASSED" if report.passed else "FAILED"
    total = selftest_child.EVENTS
    found = [f"{verdict}: {report.events:,} of {total:,} events recorded in a new process"]
    for name in ("sockets", "subprocesses", "threads", "output_bytes"):
        found.append(f"  {name.replace('_', ' '):<13} {getattr(report, name)}")
    found += [f"  files         {len(report.files)}:"]
    found += [f"    {path}" for path in report.files]
    found += [f"  unexpected    {path}" for path in report.unexpected]
    if report.exit_code:
        found.append(f"  exit code     {report.exit_code}")
    return found
