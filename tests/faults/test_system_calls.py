"""Each system call of each operation fails with each error, or is the last before a kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_kit.consent import decision, policy
from telemetry_kit.storage import maintenance, rotation
from telemetry_kit.storage import writer as storage_writer

pytestmark = pytest.mark.strace
OPERATE = Path(__file__).resolve().parent / "operate.py"
ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES", "EMFILE", "ENOLCK", "EDQUOT")
CALLS = (
    "open,openat,stat,lstat,fstat,newfstatat,statx,access,faccessat,faccessat2,read,pread64,write,"
    "close,flock,chmod,fchmod,fchmodat,fchmodat2,rename,renameat,renameat2,unlink,unlinkat,mkdir,"
    "mkdirat,link,linkat,fsync,pwrite64,ftruncate,dup2,dup3,getdents64,lseek,getcwd,readlink,statfs"
)
# The question mark skips calls that the machine does not have.
TRACED = ",".join(f"?{name}" for name in CALLS.split(","))
OPERATIONS = ("record", "seal", "pack", "clear", "thin", "blank", "revoke")
KILLED_OPERATIONS = ("record", "seal", "pack", "clear", "thin", "blank", "revoke")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")
# The events that `operate.py blank` removes.
REMOVED = [f"0001{number:012x}" for number in range(3)]


def line(name: str, day: str) -> bytes:
    """Return one event as a line."""
    return (
        f'{{"schema_version":"1.0","event_id":"{name}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z","source":"api"}}\n'
    ).encode()


class Scene:
    """A project with an archive, a sealed segment and a log, copied anew for each run."""

    def __init__(self, place) -> None:
        self.place = place
        self.home = place.home
        self.base = Path(self.home.root).parent
        self.names: list[str] = []
        # Operations remove earlier days only, so the scene's own events are kept.
        day = self.day = decision.today()
        for group in range(3):
            log_writer = storage_writer.LogWriter(self.home, lambda: True)
            for number in range(5):
                name = f"00{group:02x}{number:012x}"
                while not log_writer.append(line(name, day)):
                    pass
                self.names.append(name)
            log_writer.close()
            if group < 2:
                rotation.seal(self.home, day)
            if group < 1:
                maintenance.maintain(self.home, 90, day)
        file_names = os.listdir(self.home.folder)
        assert 3 == len([n for n in file_names if n.startswith("telemetry")]), file_names
        self.template = self.base.parent / f"{self.base.name}-template"
        shutil.copytree(self.base, self.template, symlinks=True)

    def fresh(self) -> None:
        """Restore the project and the user's files."""
        for part in ("the-work", "home"):
            shutil.rmtree(self.base / part)
            shutil.copytree(self.template / part, self.base / part, symlinks=True)

    def run(self, operation: str, *inject: str):
        """Run one operation under strace.

        Returns:
            The completed process, its numbered system calls between the marks, and where the
            fault was injected.
        """
        trace = self.base / "trace"
        # With the kernel filter, only these calls stop and all others run at full speed.
        command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace)]
        command += ["-e", f"trace={TRACED}"]
        for fault in inject:
            command += ["-e", f"inject={fault}"]
        command += [sys.executable, "-S", "-W", "error", str(OPERATE), operation, self.day]
        env = dict(self.place.env, PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(
            command,
            env=env,
            cwd=self.home.root,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if b"ptrace" in done.stderr:
            pytest.skip("strace may not trace here")
        return done, self._calls(trace.read_text(errors="replace"))

    def acknowledged(self) -> list[str]:
        """Return the ids that the last operation acknowledged."""
        text = (self.base / "acknowledged").read_bytes().rstrip(b"\0").decode()
        return [text[at : at + 16] for at in range(0, len(text), 16)]

    def _calls(self, text: str):
        """Return the calls between the marks, and whether a fault was injected there."""
        counts: dict[str, int] = {}
        inside: list[tuple[str, int]] = []
        injected, marks = "", 0
        for trace_line in text.splitlines():
            match = _CALL.match(trace_line)
            if match is None:
                continue
            name = match[1]
            counts[name] = counts.get(name, 0) + 1
            if '"mark\\n"' in trace_line:
                marks += 1
                continue
            if marks == 1:
                inside.append((name, counts[name]))
            if "INJECTED" in trace_line:
                injected = "inside" if marks == 1 else "outside"
        return inside, injected


@pytest.fixture
def scene(place, skip_row) -> Scene:
    """Create a project for the operations."""
    if shutil.which("strace") is None:
        skip_row("errors", "strace is missing")
    return Scene(place)


def result_of(done) -> dict:
    """Return the result that the operation printed."""
    last = done.stdout.decode().splitlines()
    return json.loads(last[-1]) if last and last[-1].startswith("{") else {}


def temporary_files(scene: Scene) -> list[str]:
    """Return the temporary files in the project and in the user's directories."""
    return [str(p) for p in scene.base.rglob("*.tmp")]


def check_after_fault(
    scene: Scene, operation: str, done, stored_events, modes, fault_table, row: str, point
) -> None:
    """Check that each event is stored once, and that the next maintenance restores order."""
    answer = result_of(done)
    acknowledged = scene.acknowledged()
    before = stored_events(scene.home)
    expected = [] if operation == "clear" else scene.names
    if operation == "blank":
        expected = [name for name in scene.names if name not in REMOVED]
        if answer.get("failures") == []:
            assert [] == [name for name in REMOVED if name in before.count], point
    lost = before.lost([*expected, *acknowledged])
    fault_table.add(row, acknowledged=len(acknowledged), lost=lost, doubled=before.doubled)
    assert (0, 0) == (lost, before.doubled), (operation, point, answer)
    # An event that was being recorded is complete or missing, and there is at most one.
    unknown = before.count.keys() - set(scene.names) - set(acknowledged)
    assert len(unknown) <= (1 if row == "deaths" else 0), (operation, point, unknown)
    assert 0 == before.torn, (operation, point)
    if operation == "clear" and answer.get("failures") == []:
        assert {} == before.count, point
        assert scene.place.key_file.read_bytes() != scene.key, point
    if operation == "revoke" and answer == {} and done.returncode == 7:
        assert not has_consent(scene), point
    if answer.get("raised") == "ConsentError":
        assert has_consent(scene), point
    after = maintenance.maintain(scene.home, 90, decision.today())
    assert [] == after.failures, (operation, point)
    again = stored_events(scene.home)
    assert before.count == again.count, (operation, point)
    assert [] == temporary_files(scene), (operation, point)
    modes(scene.home)
    # A new writer can record.
    if operation != "revoke" and has_consent(scene):
        writer = storage_writer.LogWriter(scene.home, lambda: True)
        while not writer.append(line("ffff" + "0" * 12, decision.today())):
            pass
        writer.close()
        assert 1 == stored_events(scene.home).count["ffff" + "0" * 12]


def has_consent(scene: Scene) -> bool:
    """Return whether the user has granted consent."""
    return policy.decide(scene.home, scene.place.environ).allowed


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_call_fails_once(
    scene, operation: str, stored_events, modes, fault_table, full
) -> None:
    """The host exits as usual, no event is lost, and the next command repairs the rest."""
    scene.key = scene.place.key_file.read_bytes()
    scene.fresh()
    _, (points, _) = scene.run(operation)
    assert points
    missed = 0
    for number, (name, when) in enumerate(points):
        errors = ERRORS if full else (ERRORS[number % len(ERRORS)],)
        for error in errors:
            scene.fresh()
            done, (_, position) = scene.run(operation, f"{name}:error={error}:when={when}")
            if position != "inside":
                missed += 1
                continue
            point = f"{name} {when} {error}"
            assert (7, b"") == (done.returncode, done.stderr), (point, done.stderr)
            fault_table.add("errors", faults=1)
            check_after_fault(
                scene, operation, done, stored_events, modes, fault_table, "errors", point
            )
    assert missed <= len(points) // 2


@pytest.mark.parametrize("operation", KILLED_OPERATIONS)
def test_a_kill_at_each_call(scene, operation: str, stored_events, modes, fault_table) -> None:
    """After a kill at any call, no acknowledged event is lost or doubled."""
    scene.key = scene.place.key_file.read_bytes()
    scene.fresh()
    _, (points, _) = scene.run(operation)
    for name, when in points:
        scene.fresh()
        done, _ = scene.run(operation, f"{name}:signal=SIGKILL:when={when}")
        if done.returncode not in (-signal.SIGKILL, 137):
            continue
        fault_table.add("deaths", faults=1, kills=1)
        check_after_fault(
            scene,
            operation,
            done,
            stored_events,
            modes,
            fault_table,
            "deaths",
            f"{name} {when} SIGKILL",
        )
