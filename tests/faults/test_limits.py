"""Small disks, limits, read-only and dead file systems: nothing is raised; then recovery."""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

import pytest

from telemetry_kit.errors import Refused
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import maintenance, rotation
from telemetry_kit.storage.writer import LogWriter

DAY = "2026-01-01"
SHUTDOWN = 0x8004587D


def line(number: int, size: int = 300) -> bytes:
    head = (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{DAY}T00:00:00Z","context":{{"pad":"'
    )
    return f'{head}{"x" * (size - len(head))}"}}}}\n'.encode()


def home_in(path: Path) -> ProjectPaths:
    return ProjectPaths("flowspec", str(path), str(path / "config"), str(path / "state"))


class Clock:
    """Seconds that pass only when a test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def fill(journal: LogWriter, first: int, count: int) -> list[str]:
    """Append until refused, or so many; what was acknowledged."""
    done = []
    for number in range(first, first + count):
        try:
            while not journal.append(line(number)):
                pass
        except Refused:
            break
        done.append(f"{number:016x}")
    return done


def settle(home, found, ledger, names) -> None:
    stored = found(home)
    lost = stored.lost(names)
    ledger.add("limits", faults=1, acknowledged=len(names), lost=lost, doubled=stored.doubled)

    assert (0, 0) == (lost, stored.doubled)


def test_a_small_disk(mounted, found, ledger) -> None:
    """Filled to the last byte, sealed, packed as far as it goes; used again when it is freed."""
    at = mounted("-t", "tmpfs", "-o", "size=64k,nr_inodes=16", "none")
    home, clock = home_in(at), Clock()
    journal = LogWriter(home, lambda: True, clock)
    names = fill(journal, 0, 1_000)
    assert 50 < len(names) < 1_000
    assert "full" in journal.breaker.reason
    settle(home, found, ledger, names)
    rotation.seal(home, DAY)
    journal.close()
    maintenance.maintain(home, 90, DAY)
    settle(home, found, ledger, [])
    settle(home, found, ledger, names)
    subprocess.run(["mount", "-o", "remount,size=1m", str(at)], check=True)
    clock.seconds = 100
    names += fill(journal, 10_000, 100)
    journal.close()
    assert [] == maintenance.maintain(home, 90, DAY).failures

    settle(home, found, ledger, names)


def test_a_disk_without_inodes(mounted, ledger) -> None:
    """No file can be made: nothing is recorded, nothing is raised."""
    at = mounted("-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "none")
    journal = LogWriter(home_in(at), lambda: True, Clock())

    assert [] == fill(journal, 0, 3)
    assert "full" in journal.breaker.reason
    ledger.add("limits", faults=1)


def test_a_read_only_remount(mounted, found, ledger) -> None:
    """The reason is said, by maintaining and clearing too; then all goes on."""
    at = mounted("-t", "tmpfs", "-o", "size=1m", "none")
    home, clock = home_in(at), Clock()
    journal = LogWriter(home, lambda: True, clock)
    names = fill(journal, 0, 20)
    journal.close()
    subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
    assert [] == fill(journal, 100, 1)
    assert "read-only" in journal.breaker.reason
    assert [] != rotation.clear(home)
    assert [] != maintenance.maintain(home, 90, DAY).failures
    settle(home, found, ledger, names)
    subprocess.run(["mount", "-o", "remount,rw", str(at)], check=True)
    clock.seconds = 100
    names += fill(journal, 200, 20)
    journal.close()

    settle(home, found, ledger, names)


def test_a_disk_that_dies(tmp_path, mounted, found, ledger) -> None:
    """ext4 stops all input and output: nothing is raised, and whole lines come back."""
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("there is no mkfs.ext4")
    at = mounted("-o", "loop", str(image))
    home = home_in(at)
    journal = LogWriter(home, lambda: True, Clock())
    names = fill(journal, 0, 50)
    os.sync()
    fd = os.open(at, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", 0))
    except OSError as error:
        pytest.skip(f"this file system cannot be shut down ({error.errno})")
    finally:
        os.close(fd)
    assert [] == fill(journal, 100, 1)
    assert "EIO" in journal.breaker.reason
    journal.close()
    assert [] != maintenance.maintain(home, 90, DAY).failures
    assert [] != rotation.clear(home)
    subprocess.run(["umount", "-l", str(at)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)

    settle(home, found, ledger, names)


LIMITED = """
import json, os, resource, signal, sys, threading
from telemetry_kit import track_role_event as t
from telemetry_kit.storage import maintenance as archive
from telemetry_kit.storage import writer as lease
from telemetry_kit.storage import rotation as upkeep
which, limit, early = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "early"
def record():
    found = t("role.selected", role="dev")
    return [] if found is None else [found["event_id"]]
kept = []
if not early:
    kept += record()
number = getattr(resource, "RLIMIT_" + which)
hard = resource.getrlimit(number)[1]
if which == "AS":
    with open("/proc/self/statm") as f:
        limit += int(f.read().split()[0]) * 4096
resource.setrlimit(number, (limit, hard))
for _ in range(20):
    kept += record()
resource.setrlimit(number, (hard, hard))
print(json.dumps(kept))
"""


PROCESSES = """
import json, resource
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
def record():
    found = track_role_event("role.selected", role="dev")
    return [] if found is None else [found["event_id"]]
kept = [] if EARLY else record()
resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
try:
    threading.Thread(target=print).start()
    limited = False
except RuntimeError:
    limited = True
for _ in range(20):
    kept += record()
from telemetry_kit.storage import reader
stored = [event["event_id"] for event in reader.read(control.paths_of())]
print(json.dumps([limited, kept, stored]))
"""


@pytest.mark.parametrize("early", [True, False])
def test_no_more_processes(unprivileged, host, ledger, early: bool) -> None:
    """A user who may start no process and no thread records all the same."""
    code = host.around(f"EARLY = {early}\n{PROCESSES}")
    ((limited, names, stored),) = host.unharmed(unprivileged.run(code))
    if not limited:
        pytest.skip("this user may start as many as it likes")
    ledger.add("limits", faults=1, acknowledged=len(names))

    assert 21 - early == len(names)
    assert sorted(names) == sorted(stored)


@pytest.mark.parametrize("early", ["early", "late"])
@pytest.mark.parametrize(
    ("which", "limit"),
    [
        *(("FSIZE", n) for n in (0, 500, 4_000)),
        *(("NOFILE", n) for n in (3, 4, 5)),
        *(("AS", n) for n in (0, 1 << 16, 1 << 20)),
    ],
)
def test_limits(place, host, found, ledger, which: str, limit: int, early: str) -> None:
    """The host goes on and ends well; what was acknowledged is there; then all is well again."""
    code = host.around(LIMITED)
    (names,) = host.unharmed(place.run(code, which, str(limit), early))
    (again,) = host.unharmed(place.run(code, "NOFILE", "64", "late"))
    assert 21 == len(again)

    settle(place.home, found, ledger, names + again)
