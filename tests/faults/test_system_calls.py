"""Each system call of each operation fails once, with each error; and each one is the last."""

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
# The question mark: not every machine has each of them.
TRACED = ",".join(f"?{name}" for name in CALLS.split(","))
OPERATIONS = ("record", "seal", "pack", "clear", "thin", "blank", "revoke")
DEADLY = ("record", "seal", "pack", "clear", "thin", "blank", "revoke")
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")
# What `operate.py blank` removes.
GOES = [f"0001{number:012x}" for number in range(3)]


def line(name: str, day: str) -> bytes:
    return (
        f'{{"schema_version":"1.0","event_id":"{name}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z","source":"api"}}\n'
    ).encode()


class Scene:
    """A project with an archive, a sealed and an active log, made anew for each run."""

    def __init__(self, place) -> None:
        self.place = place
        self.home = place.home
        self.base = Path(self.home.root).parent
        self.names: list[str] = []
        # What is before it goes: the scene's own lines never do, however long the campaign.
        day = self.day = decision.today()
        for group in range(3):
            journal = storage_writer.LogWriter(self.home, lambda: True)
            for number in range(5):
                name = f"00{group:02x}{number:012x}"
                while not journal.append(line(name, day)):
                    pass
                self.names.append(name)
            journal.close()
            if group < 2:
                rotation.seal(self.home, day)
            if group < 1:
                maintenance.maintain(self.home, 90, day)
        kept = os.listdir(self.home.folder)
        assert 3 == len([n for n in kept if n.startswith("telemetry")]), kept
        self.template = self.base.parent / f"{self.base.name}-template"
        shutil.copytree(self.base, self.template, symlinks=True)

    def fresh(self) -> None:
        for part in ("the-work", "home"):
            shutil.rmtree(self.base / part)
            shutil.copytree(self.template / part, self.base / part, symlinks=True)

    def run(self, operation: str, *inject: str):
        """One operation under strace.

        Returns:
            Exit code, what it told, and its system calls between the marks with their numbers.
        """
        trace = self.base / "trace"
        # With the filter of the kernel only these calls stop, the many others run at full speed.
        command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace)]
        command += ["-e", f"trace={TRACED}"]
        for one in inject:
            command += ["-e", f"inject={one}"]
        command += [sys.executable, "-S", "-W", "error", str(OPERATE), operation, self.day]
        env = dict(self.place.env, PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(
            command, env=env, cwd=self.home.root, capture_output=True, timeout=60, check=False
        )
        if b"ptrace" in done.stderr:
            pytest.skip("strace may not trace here")
        return done, self._calls(trace.read_text(errors="replace"))

    def acknowledged(self) -> list[str]:
        """The events that the last operation was told to be on file."""
        text = (self.base / "acknowledged").read_bytes().rstrip(b"\0").decode()
        return [text[at : at + 16] for at in range(0, len(text), 16)]

    def _calls(self, text: str):
        counts: dict[str, int] = {}
        inside: list[tuple[str, int]] = []
        injected, marks = "", 0
        for one in text.splitlines():
            match = _CALL.match(one)
            if match is None:
                continue
            name = match[1]
            counts[name] = counts.get(name, 0) + 1
            if '"mark\\n"' in one:
                marks += 1
                continue
            if marks == 1:
                inside.append((name, counts[name]))
            if "INJECTED" in one:
                injected = "inside" if marks == 1 else "outside"
        return inside, injected


@pytest.fixture
def scene(place, lacking) -> Scene:
    """A project to run operations in."""
    if shutil.which("strace") is None:
        lacking("errors", "strace is missing")
    return Scene(place)


def told(done) -> dict:
    last = done.stdout.decode().splitlines()
    return json.loads(last[-1]) if last and last[-1].startswith("{") else {}


def leftovers(scene: Scene) -> list[str]:
    """Temporary files anywhere, in the project or in the user's folders."""
    return [str(p) for p in scene.base.rglob("*.tmp")]


def check(scene: Scene, operation: str, done, found, modes, ledger, row: str, point) -> None:
    """What holds after every fault: all there, once; and in order after the next maintenance."""
    answer = told(done)
    acknowledged = scene.acknowledged()
    before = found(scene.home)
    stays = [] if operation == "clear" else scene.names
    if operation == "blank":
        stays = [name for name in scene.names if name not in GOES]
        if answer.get("failures") == []:
            assert [] == [name for name in GOES if name in before.count], point
    lost = before.lost([*stays, *acknowledged])
    ledger.add(row, acknowledged=len(acknowledged), lost=lost, doubled=before.doubled)
    assert (0, 0) == (lost, before.doubled), (operation, point, answer)
    # The one that was being recorded: all of it or nothing, and there is only one.
    unknown = before.count.keys() - set(scene.names) - set(acknowledged)
    assert len(unknown) <= (1 if row == "deaths" else 0), (operation, point, unknown)
    assert 0 == before.torn, (operation, point)
    if operation == "clear" and answer.get("failures") == []:
        assert {} == before.count, point
        assert scene.place.key_file.read_bytes() != scene.key, point
    if operation == "revoke" and answer == {} and done.returncode == 7:
        assert not decided(scene), point
    if answer.get("raised") == "ConsentError":
        assert decided(scene), point
    after = maintenance.maintain(scene.home, 90, decision.today())
    assert [] == after.failures, (operation, point)
    again = found(scene.home)
    assert before.count == again.count, (operation, point)
    assert [] == leftovers(scene), (operation, point)
    modes(scene.home)
    # And a fresh writer goes on.
    if operation != "revoke" and decided(scene):
        writer = storage_writer.LogWriter(scene.home, lambda: True)
        while not writer.append(line("ffff" + "0" * 12, decision.today())):
            pass
        writer.close()
        assert 1 == found(scene.home).count["ffff" + "0" * 12]


def decided(scene: Scene) -> bool:
    return policy.decide(scene.home, scene.place.environ).allowed


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_call_fails_once(scene, operation: str, found, modes, ledger, full) -> None:
    """The host ends as it would, nothing is lost or doubled, the next command heals the rest."""
    scene.key = scene.place.key_file.read_bytes()
    scene.fresh()
    _, (points, _) = scene.run(operation)
    assert points
    missed = 0
    for number, (name, when) in enumerate(points):
        errors = ERRORS if full else (ERRORS[number % len(ERRORS)],)
        for error in errors:
            scene.fresh()
            done, (_, where) = scene.run(operation, f"{name}:error={error}:when={when}")
            if where != "inside":
                missed += 1
                continue
            point = f"{name} {when} {error}"
            assert (7, b"") == (done.returncode, done.stderr), (point, done.stderr)
            ledger.add("errors", faults=1)
            check(scene, operation, done, found, modes, ledger, "errors", point)
    assert missed <= len(points) // 2


@pytest.mark.parametrize("operation", DEADLY)
def test_each_call_is_the_last(scene, operation: str, found, modes, ledger) -> None:
    """Killed anywhere: nothing acknowledged is lost or doubled; the next command tidies up."""
    scene.key = scene.place.key_file.read_bytes()
    scene.fresh()
    _, (points, _) = scene.run(operation)
    for name, when in points:
        scene.fresh()
        done, _ = scene.run(operation, f"{name}:signal=SIGKILL:when={when}")
        if done.returncode not in (-signal.SIGKILL, 137):
            continue
        ledger.add("deaths", faults=1, kills=1)
        check(scene, operation, done, found, modes, ledger, "deaths", f"{name} {when} SIGKILL")
