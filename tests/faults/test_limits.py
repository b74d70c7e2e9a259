"""Small disks, resource limits, read-only and failed file systems: no exception, then recovery."""

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
    """Return an event of this size."""
    head = (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{DAY}T00:00:00Z","context":{{"pad":"'
    )
    return f'{head}{"x" * (size - len(head))}"}}}}\n'.encode()


def paths_in(path: Path) -> ProjectPaths:
    """Return the paths of a project in this directory."""
    return ProjectPaths("flowspec", str(path), str(path / "config"), str(path / "state"))


class Clock:
    """A clock that advances only when a test sets it."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def fill(log_writer: LogWriter, first: int, count: int) -> list[str]:
    """Append events until one is rejected or up to the count. Return the acknowledged ids."""
    done = []
    for number in range(first, first + count):
        try:
            while not log_writer.append(line(number)):
                pass
        except Refused:
            break
        done.append(f"{number:016x}")
    return done


def check_stored(home, stored_events, fault_table, names) -> None:
    """Check that each acknowledged event is stored exactly once."""
    stored = stored_events(home)
    lost = stored.lost(names)
    fault_table.add("limits", faults=1, acknowledged=len(names), lost=lost, doubled=stored.doubled)

    assert (0, 0) == (lost, stored.doubled)


def test_a_small_disk(mounted, stored_events, fault_table) -> None:
    """A full disk is sealed and compressed as far as possible.

    More space lets recording resume.
    """
    at = mounted("-t", "tmpfs", "-o", "size=64k,nr_inodes=16", "none")
    home, clock = paths_in(at), Clock()
    log_writer = LogWriter(home, lambda: True, clock)
    names = fill(log_writer, 0, 1_000)
    assert 50 < len(names) < 1_000
    assert "full" in log_writer.breaker.reason
    check_stored(home, stored_events, fault_table, names)
    rotation.seal(home, DAY)
    log_writer.close()
    maintenance.maintain(home, 90, DAY)
    check_stored(home, stored_events, fault_table, [])
    check_stored(home, stored_events, fault_table, names)
    subprocess.run(["mount", "-o", "remount,size=1m", str(at)], check=True)
    clock.seconds = 100
    names += fill(log_writer, 10_000, 100)
    log_writer.close()
    assert [] == maintenance.maintain(home, 90, DAY).failures

    check_stored(home, stored_events, fault_table, names)


def test_a_disk_without_inodes(mounted, fault_table) -> None:
    """If no file can be created, nothing is recorded and nothing is raised."""
    at = mounted("-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "none")
    log_writer = LogWriter(paths_in(at), lambda: True, Clock())

    assert [] == fill(log_writer, 0, 3)
    assert "full" in log_writer.breaker.reason
    fault_table.add("limits", faults=1)


def test_a_read_only_remount(mounted, stored_events, fault_table) -> None:
    """The reason is reported, also by maintenance and clear. Then recording resumes."""
    at = mounted("-t", "tmpfs", "-o", "size=1m", "none")
    home, clock = paths_in(at), Clock()
    log_writer = LogWriter(home, lambda: True, clock)
    names = fill(log_writer, 0, 20)
    log_writer.close()
    subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
    assert [] == fill(log_writer, 100, 1)
    assert "read-only" in log_writer.breaker.reason
    assert [] != rotation.clear(home)
    assert [] != maintenance.maintain(home, 90, DAY).failures
    check_stored(home, stored_events, fault_table, names)
    subprocess.run(["mount", "-o", "remount,rw", str(at)], check=True)
    clock.seconds = 100
    names += fill(log_writer, 200, 20)
    log_writer.close()

    check_stored(home, stored_events, fault_table, names)


def test_a_disk_that_fails(tmp_path, mounted, stored_events, fault_table) -> None:
    """If ext4 stops all I/O, nothing is raised. After a remount, the events are stored."""
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    result = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    if result.returncode != 0:
        pytest.skip("there is no mkfs.ext4")
    at = mounted("-o", "loop", str(image))
    home = paths_in(at)
    log_writer = LogWriter(home, lambda: True, Clock())
    names = fill(log_writer, 0, 50)
    os.sync()
    fd = os.open(at, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", 0))
    except OSError as error:
        pytest.skip(f"this file system cannot be shut down ({error.errno})")
    finally:
        os.close(fd)
    assert [] == fill(log_writer, 100, 1)
    assert "EIO" in log_writer.breaker.reason
    log_writer.close()
    assert [] != maintenance.maintain(home, 90, DAY).failures
    assert [] != rotation.clear(home)
    subprocess.run(["umount", "-l", str(at)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)

    check_stored(home, stored_events, fault_table, names)


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
def test_no_more_processes(unprivileged, host, fault_table, early: bool) -> None:
    """A user who may start no process and no thread still records."""
    code = host.wrap(f"EARLY = {early}\n{PROCESSES}")
    ((limited, names, stored),) = host.check(unprivileged.run(code))
    if not limited:
        pytest.skip("this user may start as many as it likes")
    fault_table.add("limits", faults=1, acknowledged=len(names))

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
def test_limits(
    place, host, stored_events, fault_table, which: str, limit: int, early: str
) -> None:
    """Under a limit the host exits as usual, no event is lost, and recording resumes."""
    code = host.wrap(LIMITED)
    (names,) = host.check(place.run(code, which, str(limit), early))
    (again,) = host.check(place.run(code, "NOFILE", "64", "late"))
    assert 21 == len(again)

    check_stored(place.home, stored_events, fault_table, names + again)
