"""Masks, homes, paths, clocks and disks as they should not be; planted and swapped files."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from telemetry_kit import consent, control
from telemetry_kit.errors import JournalError, Refused
from telemetry_kit.journal import archive, upkeep
from telemetry_kit.journal.lease import Journal

RECORD = """
import json
from telemetry_kit import track_role_event as t, disable_telemetry
from telemetry_kit.errors import TelemetryError
found = [t("role.selected", role="dev") for _ in range(3)]
print(json.dumps([f["event_id"] for f in found if f]))
"""
DAY = "2024-02-28"
WHERE = ("telemetry.jsonl", ".telemetry.lock", f"telemetry-{DAY}.jsonl")
WHERE += (f"telemetry-{DAY}.jsonl.gz", ".telemetry-x.tmp", ".gitignore")
KINDS = ("link", "dangling", "hard link", "fifo", "folder", "socket", "owner", "0666")


def line(number: int, day: str) -> bytes:
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


# -- planted -----------------------------------------------------------------------------------


def plant(kind: str, path: Path, outside: Path) -> None:
    theirs = outside / "theirs"
    if kind == "link":
        path.symlink_to(theirs)
    elif kind == "dangling":
        path.symlink_to(outside / "nothing")
    elif kind == "hard link":
        os.link(theirs, path)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
        (path / "inside").write_bytes(b"theirs")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
            listener.bind(path.name)
    else:
        path.write_bytes(b"")
        path.chmod(0o600)
        if kind == "owner":
            os.chown(path, 65_534, 65_534)
        else:
            path.chmod(0o666)


def state(outside: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (p.name, (st := p.lstat()).st_mode, st.st_uid, p.read_bytes())
        for p in sorted(outside.iterdir())
    ]


@pytest.mark.parametrize("name", WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_planted(place, ledger, kind: str, name: str) -> None:
    """Recording, sealing, packing, clearing and revoking: nothing outside is changed or made."""
    if kind == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    outside = place.root.parent / "outside"
    outside.mkdir()
    (outside / "theirs").write_bytes(line(1, DAY))
    (outside / "theirs").chmod(0o600)
    folder = Path(place.home.folder)
    folder.mkdir(mode=0o700)
    plant(kind, folder / name, outside)
    before = state(outside)
    done = place.run(RECORD)
    assert (0, "") == (done.returncode, done.stderr)
    for step in (
        lambda: upkeep.seal(place.home, DAY, 0.0),
        lambda: archive.maintain(place.home, 90, DAY),
        lambda: archive.rewrite(place.home, archive.before("2025-01-01"), DAY),
        lambda: control.disable_telemetry(place.root),
        lambda: upkeep.clear(place.home),
    ):
        with contextlib.suppress(JournalError):
            step()
        assert before == state(outside)
    ledger.add("planted", faults=1)


def test_a_folder_that_is_swapped(place, ledger, full) -> None:
    """`.flowspec` becomes a link to a folder outside, and back: nothing gets there."""
    outside = place.root.parent / "outside"
    outside.mkdir(mode=0o755)
    folder = Path(place.home.folder)
    over = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not over.is_set():
            with contextlib.suppress(OSError):
                if folder.is_symlink():
                    folder.unlink()
                else:
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.symlink_to(outside)
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    journal = Journal(place.home, lambda: True, lambda: 0.0)
    former = os.umask(0o777)
    try:
        for number in range(20_000 if full else 3_000):
            journal._resume = -1.0
            with contextlib.suppress(Refused):
                journal.append(line(number, DAY))
            if number % 10 == 0:
                with contextlib.suppress(JournalError):
                    upkeep.seal(place.home, DAY, 0.0)
                archive.maintain(place.home, 90, DAY)
    finally:
        os.umask(former)
        over.set()
        thread.join()
        journal.close()
    ledger.add("swapped", faults=swaps)

    assert [] == list(outside.iterdir())
    assert 0o755 == outside.stat().st_mode & 0o777


# -- masks, homes, folders, paths ----------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_masks(unprivileged, found, ledger, told, mask: int) -> None:
    """Whatever the mask: 0600 and 0700, also of the lock, and maintenance works afterwards."""
    code = (
        f"os.umask({mask})\n{RECORD}\n"
        f"upkeep.seal(control.home_of(), {DAY!r})\n"
        "found = t('role.selected', role='dev')\nprint(json.dumps([found['event_id']]))\n"
    )
    done = unprivileged.run(code)
    assert (0, "") == (done.returncode, done.stderr)
    first, second = told(done.stdout)
    pack = (
        f"os.umask({mask})\nfrom telemetry_kit.journal import archive\n"
        f"print(json.dumps([archive.maintain(control.home_of(), 90, {DAY!r}).survivors]))\n"
    )
    packed = unprivileged.run("import tempfile, dataclasses, zlib\n" + pack)
    assert (0, "") == (packed.returncode, packed.stderr)
    survivors = told(packed.stdout)[0]
    assert [[]] == survivors
    folder = Path(unprivileged.root, ".flowspec")
    seen = {p.name: p.stat().st_mode & 0o7777 for p in folder.iterdir()}
    assert 0o700 == folder.stat().st_mode & 0o7777
    assert 0o644 == seen.pop(".gitignore")
    assert {0o600} == set(seen.values())
    assert {"telemetry.jsonl", ".telemetry.lock", f"telemetry-{DAY}.jsonl.gz"} == set(seen)
    ledger.add("places", faults=1, acknowledged=len(first + second))


ODD = {
    "no HOME, no entry": ("os.environ.pop('HOME', None); os.setuid(54321)", {}),
    "HOME empty": ("", {"HOME": ""}),
    "HOME relative": ("", {"HOME": "here"}),
    "HOME is the root": ("", {"HOME": "/"}),
    "HOME is a tilde": ("", {"HOME": "~"}),
    "deleted folder": ("os.mkdir('gone'); os.chdir('gone'); os.rmdir(os.getcwd())", {}),
    "long path": (
        """
import atexit, shutil
top = os.getcwd()
for _ in range(25):
    os.mkdir('x' * 200)
    os.chdir('x' * 200)
atexit.register(lambda: (os.chdir(top), shutil.rmtree('x' * 200)))
""",
        {},
    ),
    "surrogates in HOME": ("", {"HOME": "/nowhere/\udcff"}),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_places(place, ledger, case: str) -> None:
    """Off, without a word and without a file; the host ends as it would."""
    step, env = ODD[case]
    if "setuid" in step and os.geteuid() != 0:
        pytest.skip("only root can become somebody without an entry")
    code = "import os, errno, json, telemetry_kit\nfrom telemetry_kit import *\n" + (
        "from telemetry_kit import pipeline, control\n" + step + "\n" + RECORD
    )
    before = place.tree()
    done = place.run(code, env=env)

    assert (0, "") == (done.returncode, done.stderr)
    assert "[]\n" == done.stdout
    left = [p for p in place.tree() if p not in before]
    assert [] == left
    ledger.add("places", faults=1)


@pytest.mark.parametrize("root", ["\0", "a\0b", "\udcff", "x" * 5_000, "/dev/null/x"])
def test_odd_roots(place, ledger, root: str) -> None:
    """A root that cannot be: no event, no exception."""
    code = (
        "from telemetry_kit import track_role_event as t\n"
        f"print(t('role.selected', role='dev', project_root={root!r}))"
    )
    done = place.run(code)

    assert (0, "", "None\n") == (done.returncode, done.stderr, done.stdout)
    ledger.add("places", faults=1)


# -- clocks ------------------------------------------------------------------------------------


def segment(home, day: str, numbers: range, lines_of: str = "") -> None:
    journal = Journal(home, lambda: True)
    for number in numbers:
        while not journal.append(line(number, lines_of or day)):
            pass
    journal.close()
    upkeep.seal(home, day)


@pytest.mark.parametrize("wrong", ["2099-06-01", "9999-12-31"])
def test_a_clock_in_the_future(place, found, ledger, wrong: str) -> None:
    """Maintenance under a clock far ahead deletes nothing; and none when it is right again."""
    segment(place.home, DAY, range(10))
    for today in (DAY, wrong, wrong, "2024-03-01"):
        archive.maintain(place.home, 90, today)
    stored = found(place.home)
    ledger.add("clocks", faults=1, acknowledged=10, lost=10 - len(stored.count))

    assert 10 == len(stored.count)


def test_a_clock_in_the_past(place, found, ledger) -> None:
    """Sealed while the clock stood in 1970: the lines are kept by their own day."""
    segment(place.home, "1970-01-01", range(10), DAY)
    segment(place.home, DAY, range(10, 20))
    for today in ("1970-01-01", DAY, "2024-03-10", "2024-03-31"):
        archive.maintain(place.home, 90, today)
    stored = found(place.home)
    ledger.add("clocks", faults=1, acknowledged=20, lost=20 - len(stored.count))

    assert 20 == len(stored.count)
    assert 2 == len({p.name for p in Path(place.home.folder).glob("telemetry-*")})


def test_names_are_unique(place, found, ledger) -> None:
    """The same day again and again: no segment takes the place of another one."""
    for number in range(12):
        segment(place.home, DAY, range(number, number + 1))
        if number % 3 == 0:
            archive.maintain(place.home, 90, DAY)
    ledger.add("clocks", sealings=12, acknowledged=12)

    assert 12 == len(found(place.home).count)


# -- a disk that stalls --------------------------------------------------------------------------


@pytest.mark.strace
def test_a_disk_that_stalls(place, ledger, told, lacking) -> None:
    """Each write takes 200 ms: after three the breaker opens, and the host is quick again."""
    if shutil.which("strace") is None:
        lacking("stalls", "strace is missing")
    code = (
        "import json\nfrom telemetry_kit import track_role_event as t\n"
        "found = [t('role.selected', role='dev') for _ in range(20)]\n"
        "print(json.dumps([f is not None for f in found]))"
    )
    Path(place.home.folder).mkdir(mode=0o700)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", place.home.log]
    command += ["-e", "trace=write", "-e", "inject=write:delay_enter=200000"]
    done = subprocess.run(
        [*command, sys.executable, "-c", code],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")

    assert (0, "") == (done.returncode, done.stderr)
    assert [True] * 3 + [False] * 17 == told(done.stdout)[0]
    assert 3 == len(place.lines())
    ledger.add("stalls", faults=3, acknowledged=3)


# -- the record --------------------------------------------------------------------------------

DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "edited in place": lambda path: path.write_bytes(b"v1 no 2024-01-01\n"),
    "replaced twice": lambda path: [
        ((new := path.with_name("new")).write_bytes(word) and new.chmod(0o600)) or new.replace(path)
        for word in (b"v1 yes", b"v1 no 2024-01-01\n")
    ],
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "10 MB": lambda path: path.write_bytes(b"x" * 10_000_000),
    "deep JSON": lambda path: path.write_bytes(b"[" * 4_000),
    "NULs": lambda path: path.write_bytes(b"\0" * 100),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_the_record(place, ledger, how: str) -> None:
    """What was done to it is noticed by a running program within 20 ms, and means off."""
    code = (
        "import sys, time\nfrom telemetry_kit import track_role_event as t\n"
        "print(t('role.selected', role='dev') is not None, flush=True)\n"
        "sys.stdin.readline(); time.sleep(0.025)\n"
        "print(t('role.selected', role='dev') is not None, flush=True)\n"
    )
    with place.start(code) as host:
        first = host.stdout.readline()
        DAMAGE[how](place.record)
        out, err = host.communicate("go\n", timeout=30)

    assert ("True\n", "False\n", "", 0) == (first, out, err, host.returncode)
    assert not consent.decide(place.home, place.environ).allowed
    ledger.add("records", faults=1)
