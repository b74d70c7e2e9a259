"""Decisions and deletions are on disk when the command returns.

The recorder never waits for the disk.
"""

import fcntl
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry_kit.consent import cache, changes

APP = ("-m", "telemetry_kit", "--app", "flowspec")
RECORD = (*APP, "record", "agent.invoked", "--agent", "bob", "--role", "dev")
CHANGES = "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat"
TRACED = ",".join(f"?{name}" for name in f"{CHANGES},fsync".split(","))
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
NAMED = re.compile(r'(?:AT_FDCWD|\d+)<([^>]*)>, "([^"]*)"|"([^"]*)"')
# Locks and temporary files need not survive a power failure.
PASSING = re.compile(r"\.deciding$|\.lock$|\.tmp$|__pycache__|\.pyc")


class Trace:
    """The directories that one command changed and the files that it synced, in order."""

    def __init__(self, place, *args: str) -> None:
        self.base = str(place.root.parent)
        file = Path(self.base) / "trace"
        command = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-o", str(file)]
        command += ["-e", f"trace={TRACED}"]
        done = subprocess.run(
            [*command, sys.executable, "-B", *args],
            env=place.env,
            cwd=place.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if "ptrace" in done.stderr:
            pytest.skip("strace may not trace here")
        assert done.returncode == 0, done.stderr
        self.changed: dict[str, int] = {}
        self.synced: dict[str, int] = {}
        self.renamed: list[tuple[str, int]] = []
        for number, line in enumerate(file.read_text(errors="replace").splitlines()):
            call = CALL.match(line)
            if call is not None and call[3] == "0":
                self._take(number, call[1], call[2])

    def _take(self, number: int, call: str, args: str) -> None:
        """Add one system call to the trace."""
        if call == "fsync":
            self.synced[args.partition("<")[2].rpartition(">")[0]] = number
            return
        paths = [os.path.join(m[1] or "", m[2] or m[3] or "") for m in NAMED.finditer(args)]
        if call.startswith(("rename", "link")):
            self.renamed.append((paths[0], number))
        for path in paths:
            if path.startswith(self.base) and not PASSING.search(path):
                self.changed[os.path.dirname(path)] = number

    def unsynced(self, *tops: str) -> list[str]:
        """Return the existing directories with a change after their last sync."""
        found = [f for f, at in self.changed.items() if self.synced.get(f, -1) < at]
        return sorted(f for f in found if os.path.isdir(f) and f.startswith(tops))

    def unsynced_files(self, top: str) -> list[str]:
        """Return the files that were renamed before they were synced."""
        return [p for p, at in self.renamed if p.startswith(top) and self.synced.get(p, at) >= at]


@pytest.fixture
def trace(place) -> Callable[..., Trace]:
    """Run a command of a project with events under strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    return lambda *args: Trace(place, *args)


COMMANDS = {
    "off": ("off",),
    "off everywhere": ("off", "--all-projects"),
    "on everywhere": ("on", "--yes", "--all-projects"),
    "clear": ("clear", "--yes"),
    "clear a part": ("clear", "--yes", "--before", "2099-01-01"),
    "forget": ("forget", "bob", "--yes"),
    "rotate-key": ("rotate-key", "--yes"),
    "reset": ("reset", "--yes"),
    "reset all": ("reset", "--yes", "--all-projects"),
}


@pytest.mark.strace
@pytest.mark.parametrize("command", COMMANDS)
def test_changes_are_synced_before_the_command_returns(place, trace, command: str) -> None:
    """Each directory is synced after its last change, and each file before its rename."""
    place.python(*RECORD)
    traced = trace(*APP, *COMMANDS[command])

    assert traced.changed
    # The seal need not be synced, because the denial on disk already stops recording.
    tops = (str(place.user),) if command.startswith("off") else (traced.base,)
    assert traced.unsynced(*tops) == []
    assert traced.unsynced_files(str(place.user)) == []


@pytest.mark.strace
def test_the_first_decision_syncs_its_directories(undecided, trace) -> None:
    """Each directory that a decision creates is synced in its parent."""
    shutil.rmtree(undecided.user / ".config")
    shutil.rmtree(undecided.user / ".local")
    traced = trace(*APP, "on", "--yes")

    assert str(undecided.user) in traced.synced
    assert traced.unsynced(traced.base) == []


@pytest.mark.strace
def test_the_recorder_does_not_wait_for_the_disk(place, trace) -> None:
    """An event syncs nothing. Only a new key is synced, without its directory."""
    place.python(*RECORD)
    assert trace(*RECORD).synced == {}
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    place.key_file.unlink()
    traced = trace(*RECORD)

    assert place.key_file.exists()
    assert [os.path.basename(path)[:5] for path in traced.synced] == [".key-"]


# -- power failures ------------------------------------------------------------------------------

SHUTDOWN, WITHOUT_SYNC = 0x8004587D, 2


@pytest.fixture
def cut_power(undecided) -> Iterator[Callable[[], None]]:
    """Put project and user on their own file system, and provide a call that cuts its power."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("only root can mount a file system")
    base = undecided.root.parent
    disk_image, at = base.with_name(f"{base.name}-image"), str(base)
    with open(disk_image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(disk_image)], check=True)
    mount = ["mount", "-o", "loop", str(disk_image), at]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()[:60]}")
    undecided.root.mkdir()
    undecided.user.mkdir()

    def shut_down() -> None:
        """Shut the file system down without a sync, and mount it again."""
        fd = os.open(at, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", WITHOUT_SYNC))
        except OSError as error:
            pytest.skip(f"this file system cannot be shut down ({error.errno})")
        finally:
            os.close(fd)
        subprocess.run(["umount", at], check=True)
        subprocess.run(mount, check=True)

    yield shut_down
    subprocess.run(["umount", "-l", at], check=False)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["off", "clear", "rotate-key", "reset"])
def test_a_power_failure_after_a_command(undecided, cut_power, command: str) -> None:
    """After a power failure, a revoked grant, deleted events and a replaced key stay deleted."""
    place = undecided
    assert place.python(*APP, "on", "--yes").returncode == 0
    place.python(*RECORD)
    os.sync()
    secret = place.key_file.read_bytes()
    yes = () if command == "off" else ("--yes",)
    done = place.python(*APP, command, *yes)
    assert done.returncode == 0, done.stderr
    cut_power()
    keys = [path.read_bytes() for path in place.user.rglob("key")]
    log = Path(place.home.folder) / "telemetry.jsonl"

    assert place.python(*APP, "status", "--check").returncode == (
        10 if command in ("off", "reset") else 0
    )
    assert secret not in keys or command == "off"
    assert not log.exists() or command in ("off", "rotate-key")
