"""`telemetry-kit selftest`: record 1,000 events in a watched child process, and report on it.

Home and project are temporary. The caller's files are not read or changed.
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
from telemetry_kit.cli.output import CommandError, print_line, safe
from telemetry_kit.verification import selftest_child

TIMEOUT_SECONDS = 120
# What recording may leave behind, below home and project, with codes as `?`.
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
_CODE = re.compile(r"/projects/[0-9a-f]{16}(?=/|$)")
# The lock of a decision, there only while it is held.
MOMENTARY = "home/.config/telemetry-kit/{app}/.telemetry.deciding"
_TEMPORARY = re.compile(r"/\.[\w.-]+-[0-9a-f]{12}\.telemetry-kit\.tmp$")


@dataclass(frozen=True, slots=True)
class Report:
    """What the child did.

    Args:
        events: lines in its log.
        sockets: network events of the audit hook.
        subprocesses: processes that it started.
        threads: threads that it started.
        output_bytes: bytes that it wrote to stdout and stderr.
        files: what it left, with codes as `?`.
        unexpected: files that it left or changed and that it should not have.
        exit_code: its own.
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
        """Whether all of it is as promised."""
        bad = (self.sockets, self.subprocesses, self.threads, self.output_bytes, self.exit_code)
        return self.events == selftest_child.EVENTS and not any(bad) and not self.unexpected


def run(project: str | None, as_json: bool) -> None:
    """Record 1,000 events under an audit hook and report what was done besides.

    Raises:
        CommandError: something was done that should not be.
    """
    report = observe(settings.current().app)
    if as_json:
        print_line(json.dumps({"passed": report.passed, **asdict(report)}))
    else:
        for line in _lines(report):
            print_line(safe(line))
    if not report.passed:
        raise CommandError("recording did something that it should not")


def observe(app: str) -> Report:
    """Run the child and gather what it did.

    Args:
        app: the app name it records under.

    Raises:
        CommandError: it could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="telemetry-kit-selftest-") as name:
        base = os.path.realpath(name)
        for folder in ("home", "project", f"project/.{app}"):
            os.mkdir(f"{base}/{folder}", 0o700)
        # Where the temporary folder lies in a repository: nothing of that one is touched.
        with open(f"{base}/project/.git", "x", encoding="utf-8"):
            pass
        try:
            done = run_python(
                ("-m", "telemetry_kit.verification.selftest_child", f"{base}/report", app),
                cwd=f"{base}/project",
                env=_environment(f"{base}/home"),
                timeout_seconds=TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise CommandError("the child interpreter could not be run") from None
        return _gathered(base, app, done)


def _gathered(base: str, app: str, done: subprocess.CompletedProcess[bytes]) -> Report:
    try:
        with open(f"{base}/report", encoding="utf-8") as file:
            seen = json.load(file)
        os.unlink(f"{base}/report")
    except (OSError, ValueError):
        seen = {"sockets": 0, "subprocesses": 0, "threads": 0, "paths": []}
    left = sorted(_generic(path, base) for path in _tree(base))
    expected = {path.format(app=app) for path in EXPECTED}
    folders = {os.path.dirname(path) for path in expected}
    while parents := {os.path.dirname(path) for path in folders} - folders - {""}:
        folders |= parents
    touched = {_generic(path, base) for path in seen["paths"]} - {MOMENTARY.format(app=app)}
    changed = {p for p in touched if p not in expected | folders and not _is_own(p, expected)}
    try:
        with open(f"{base}/project/.{app}/telemetry.jsonl", "rb") as log:
            events = log.read().count(b"\n")
    except OSError:
        events = 0
    return Report(
        events=events,
        sockets=seen["sockets"],
        subprocesses=seen["subprocesses"],
        threads=seen["threads"],
        output_bytes=len(done.stdout),
        files=left,
        unexpected=sorted(changed | (set(left) - expected)),
        exit_code=done.returncode,
    )


def _is_own(path: str, expected: set[str]) -> bool:
    """Whether a path is a file on its way to its place, or a name inside an open folder."""
    folder = os.path.dirname(_TEMPORARY.sub("/x", path))
    if _TEMPORARY.search(path):
        return folder in {os.path.dirname(p) for p in expected}
    return "/" not in path and path in {os.path.basename(p) for p in expected}


def _generic(path: str, base: str) -> str:
    return _CODE.sub("/projects/?", path.removeprefix(f"{base}/"))


def _tree(base: str) -> list[str]:
    return [f"{folder}/{name}" for folder, _, names in os.walk(base) for name in names]


def _environment(user: str) -> dict[str, str]:
    """What the child sees: nothing that vetoes, and no home but its own."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(telemetry_kit.__file__)))
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": user,
        "PYTHONPATH": os.pathsep.join([package, *map(os.path.abspath, inherited)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if site.ENABLE_USER_SITE:
        # Worked out from HOME otherwise, and this library may be installed there.
        found["PYTHONUSERBASE"] = site.getuserbase()
    return found


def _lines(report: Report) -> list[str]:
    verdict = "PASSED" if report.passed else "FAILED"
    total = selftest_child.EVENTS
    told = [f"{verdict}: {report.events} of {total} events recorded in a child interpreter"]
    for name in ("sockets", "subprocesses", "threads", "output_bytes"):
        told.append(f"  {name.replace('_', ' '):<13} {getattr(report, name)}")
    told.append(f"  {'files':<13} {len(report.files)}, and exactly these:")
    told += [f"    {path}" for path in report.files]
    told += [f"  unexpected    {path}" for path in report.unexpected]
    if report.exit_code:
        told.append(f"  exit code     {report.exit_code}")
    return told
