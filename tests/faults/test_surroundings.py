"""Unusual umasks, home directories, paths, clocks and disks, and misplaced files."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from calendar import timegm
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetry_kit.consent import changes, policy
from telemetry_kit.errors import JournalError, Refused
from telemetry_kit.storage import maintenance, rotation
from telemetry_kit.storage.writer import LogWriter

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
    """Return an event of this day."""
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


# -- misplaced files -----------------------------------------------------------------------------


def misplace(kind: str, path: Path, outside: Path) -> None:
    """Create a file of this kind at the path."""
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
    """Return the name, mode, owner and bytes of each file in this directory."""
    return [
        (p.name, (st := p.lstat()).st_mode, st.st_uid, p.read_bytes())
        for p in sorted(outside.iterdir())
    ]


@contextlib.contextmanager
def time_limit(seconds: int):
    """Raise an error if the block waits longer, for instance for the other end of a pipe."""

    def raise_timeout(*_: object) -> None:
        raise TimeoutError(f"still waiting after {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, raise_timeout)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


OPENED = re.compile(r'open(?:at)?\([^"]*"([^"]*)", ([A-Z_|]+)')
ALL_OPERATIONS = f"""
import contextlib
from telemetry_kit.consent import changes as control
from telemetry_kit.cli.commands import doctor
from telemetry_kit.errors import JournalError
from telemetry_kit.storage import maintenance as archive
from telemetry_kit.storage import reader
from telemetry_kit.storage import rotation as upkeep
home = control.paths_of()
for step in (
    lambda: list(reader.read(home)),
    lambda: list(doctor.check_all(home, fix=True)),
    lambda: archive.oldest_day(home),
    lambda: upkeep.seal(home, {DAY!r}, 0.0),
    lambda: archive.maintain(home, 90, {DAY!r}),
    lambda: archive.rewrite(home, archive.keep_since("2025-01-01"), {DAY!r}),
    lambda: control.disable_telemetry(),
    lambda: control.clear(home),
):
    with contextlib.suppress(JournalError):
        step()
"""


@pytest.mark.strace
@pytest.mark.parametrize("name", WHERE)
def test_a_misplaced_pipe_does_not_block(place, host, skip_row, name: str) -> None:
    """Each call opens the file without waiting and without following a link."""
    if shutil.which("strace") is None:
        skip_row("stalls", "strace is missing")
    Path(place.home.folder).mkdir(mode=0o700)
    os.mkfifo(Path(place.home.folder, name), 0o600)
    trace = place.root.parent / "trace"
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace)]
    command += ["-e", "trace=open,openat"]
    done = subprocess.run(
        [*command, sys.executable, "-c", host.wrap(RECORD + ALL_OPERATIONS)],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    opened = OPENED.findall(trace.read_text(errors="replace"))
    flags = [set(words.split("|")) for path, words in opened if os.path.basename(path) == name]

    (recorded,) = host.check(done)
    assert [] == recorded or name != "telemetry.jsonl"
    assert [] == [f for f in flags if not {"O_NONBLOCK", "O_NOFOLLOW"} <= f and "O_EXCL" not in f]
    assert flags or name == ".telemetry-x.tmp"


@pytest.mark.parametrize("name", WHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_misplaced_file(place, host, fault_table, kind: str, name: str) -> None:
    """With a misplaced file, no operation changes or creates a file outside the project."""
    if kind == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    outside = place.root.parent / "outside"
    outside.mkdir()
    (outside / "theirs").write_bytes(line(1, DAY))
    (outside / "theirs").chmod(0o600)
    folder = Path(place.home.folder)
    folder.mkdir(mode=0o700)
    misplace(kind, folder / name, outside)
    before = state(outside)
    host.check(place.run(host.wrap(RECORD)))
    for step in (
        lambda: rotation.seal(place.home, DAY, 0.0),
        lambda: maintenance.maintain(place.home, 90, DAY),
        lambda: maintenance.rewrite(place.home, maintenance.keep_since("2025-01-01"), DAY),
        lambda: changes.disable_telemetry(place.root),
        lambda: rotation.clear(place.home),
    ):
        with contextlib.suppress(JournalError), time_limit(60):
            step()
        assert before == state(outside)
    fault_table.add("planted", faults=1)


def test_a_directory_that_is_swapped(place, host, fault_table, full) -> None:
    """If `.flowspec` is swapped for a link in a loop, no file is created in its target."""
    outside = place.root.parent / "outside"
    outside.mkdir(mode=0o755)
    folder = Path(place.home.folder)
    finished = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not finished.is_set():
            with contextlib.suppress(OSError):
                if folder.is_symlink():
                    folder.unlink()
                else:
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.symlink_to(outside)
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    log_writer, recorded = LogWriter(place.home, lambda: True, lambda: 0.0), 0
    previous = os.umask(0o777)
    try:
        for number in range(20_000 if full else 3_000):
            log_writer.breaker.resume = -1.0
            with contextlib.suppress(Refused):
                recorded += log_writer.append(line(number, DAY))
            if number % 10 == 0:
                with contextlib.suppress(JournalError):
                    rotation.seal(place.home, DAY, 0.0)
                maintenance.maintain(place.home, 90, DAY)
        os.umask(previous)
        for _ in range(50 if full else 10):
            host.check(place.run(host.wrap(RECORD)))
    finally:
        os.umask(previous)
        finished.set()
        thread.join()
        log_writer.close()
    fault_table.add("swapped", faults=swaps)

    # Some events were recorded while the directory was not a link.
    assert recorded > 0
    assert [] == list(outside.iterdir())
    assert 0o755 == outside.stat().st_mode & 0o777


# -- umasks, home directories, paths -------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_umasks(unprivileged, host, stored_events, fault_table, parse_lines, umask: int) -> None:
    """With any umask, files have mode 0600, the directory has 0700, and maintenance works."""
    code = (
        f"os.umask({umask})\n{RECORD}\n"
        f"upkeep.seal(control.paths_of(), {DAY!r})\n"
        "found = t('role.selected', role='dev')\nprint(json.dumps([found['event_id']]))\n"
    )
    first, second = host.check(unprivileged.run(host.wrap(code)))
    pack = (
        f"os.umask({umask})\nfrom telemetry_kit.storage import maintenance as archive\n"
        f"print(json.dumps([archive.maintain(control.paths_of(), 90, {DAY!r}).failures]))\n"
    )
    compressed = unprivileged.run("import tempfile, dataclasses, zlib\n" + pack)
    assert (0, "") == (compressed.returncode, compressed.stderr)
    failures = parse_lines(compressed.stdout)[0]
    assert [[]] == failures
    folder = Path(unprivileged.root, ".flowspec")
    mode_by_name = {p.name: p.stat().st_mode & 0o7777 for p in folder.iterdir()}
    assert 0o700 == folder.stat().st_mode & 0o7777
    assert 0o644 == mode_by_name.pop(".gitignore")
    assert {0o600} == set(mode_by_name.values())
    assert {"telemetry.jsonl", ".telemetry.lock", f"telemetry-{DAY}.jsonl.gz"} == set(mode_by_name)
    fault_table.add("places", faults=1, acknowledged=len(first + second))


UNUSUAL = {
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


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_environments(place, host, fault_table, case: str) -> None:
    """In an unusual environment, nothing is recorded, printed or created."""
    step, env = UNUSUAL[case]
    if "setuid" in step and os.geteuid() != 0:
        pytest.skip("only root can become a user without an entry")
    code = "import os, errno, json, telemetry_kit\nfrom telemetry_kit import *\n" + (
        "from telemetry_kit.recording import pipeline\n"
        "from telemetry_kit.consent import changes as control\n" + step + "\n" + RECORD
    )
    before = place.tree()

    assert [[]] == host.check(place.run(host.wrap(code), env=env))
    left = [p for p in place.tree() if p not in before]
    assert [] == left
    fault_table.add("places", faults=1)


@pytest.mark.parametrize("root", ["\0", "a\0b", "\udcff", "x" * 5_000, "/dev/null/x"])
def test_unusual_roots(place, host, fault_table, root: str) -> None:
    """With an impossible project root, nothing is recorded and nothing is raised."""
    code = (
        "from telemetry_kit import track_role_event as t\n"
        f"print('null' if t('role.selected', role='dev', project_root={root!r}) is None else 1)"
    )

    assert [None] == host.check(place.run(host.wrap(code)))
    fault_table.add("places", faults=1)


# -- clocks --------------------------------------------------------------------------------------


DAYS = 86_400


def second(day: str) -> int:
    """Return the first second of a UTC day."""
    return timegm((*map(int, day.split("-")), 0, 0, 0))


def utc(at: int) -> str:
    """Return the timestamp of an event at this second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def second_of_day(at: int) -> int:
    """Return the first second of the day of this second."""
    return at // DAYS * DAYS


def segment(home, day: str, numbers: range, lines_of: str = "") -> None:
    """Write and seal a segment of this day."""
    log_writer = LogWriter(home, lambda: True)
    for number in numbers:
        while not log_writer.append(line(number, lines_of or day)):
            pass
    log_writer.close()
    rotation.seal(home, day)


@pytest.mark.parametrize("wrong", ["2099-06-01", "9999-12-31"])
def test_a_clock_in_the_future(place, stored_events, fault_table, wrong: str) -> None:
    """Maintenance with a clock far ahead deletes nothing, and neither does the next one."""
    segment(place.home, DAY, range(10))
    for today in (DAY, wrong, wrong, "2024-03-01"):
        maintenance.maintain(place.home, 90, today)
    stored = stored_events(place.home)
    fault_table.add("clocks", faults=1, acknowledged=10, lost=10 - len(stored.count))

    assert 10 == len(stored.count)


@pytest.mark.parametrize("seals", [False, True], ids=["unsealed", "sealed"])
@pytest.mark.parametrize("wrong", ["2099-06-01", "2031-01-01", "9000-12-31"])
def test_twenty_rounds_with_a_wrong_clock(
    place, run_program, stored_events, modes, fault_table, wrong: str, seals: bool
) -> None:
    """Twenty rounds of recording and maintenance in the future delete nothing."""
    output = json.loads(
        run_program(
            place, "clocks.py", "ahead", second(DAY), second(wrong), json.dumps(seals)
        ).stdout
    )
    names = [name for name, _, _ in output["acknowledged"]]
    stored = stored_events(place.home)
    fault_table.add(
        "clocks",
        faults=2,
        sealings=output["sealings"],
        acknowledged=len(names),
        lost=stored.lost(names),
        doubled=stored.doubled,
    )

    assert 45 == len(names)
    assert sorted(names) == sorted(stored.order)
    modes(place.home)


ZONES = {
    "Berlin": "CET-1CEST,M3.5.0,M10.5.0/3",
    "New York": "EST5EDT,M3.2.0,M11.1.0",
    "Lord Howe, half an hour": "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "Santiago, at midnight": "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
    "Dublin, the other way round": "IST-1GMT0,M10.5.0,M3.5.0/1",
}


@pytest.mark.parametrize("zone", ZONES)
def test_daylight_saving_time(
    place, run_program, stored_events, modes, fault_table, zone: str
) -> None:
    """At both clock changes of a year, timestamps, names and retention are in UTC."""
    place.env["TZ"] = ZONES[zone]
    output = json.loads(run_program(place, "clocks.py", "daylight", second("2024-01-01")).stdout)
    acknowledged = output["acknowledged"]
    assert 2 == len(output["changes"])
    for day, left in output["left"]:
        wanted = [
            n for n, at, _ in acknowledged if 0 <= (second(day) - second_of_day(at)) <= 90 * DAYS
        ]
        assert wanted == left
    stored = stored_events(place.home)
    fault_table.add(
        "daylight",
        faults=len(output["changes"]),
        sealings=output["sealings"],
        acknowledged=len(acknowledged),
        lost=stored.lost(output["left"][-1][1]),
        doubled=stored.doubled,
    )

    assert [utc(at) for _, at, _ in acknowledged] == [time for _, _, time in acknowledged]
    assert len(acknowledged) == output["sealings"]
    assert output["left"][-1][1] == stored.order
    modes(place.home)


def test_a_clock_in_the_past(place, stored_events, fault_table) -> None:
    """If the log was sealed with a clock in 1970, retention uses the days of the lines."""
    segment(place.home, "1970-01-01", range(10), DAY)
    segment(place.home, DAY, range(10, 20))
    for today in ("1970-01-01", DAY, "2024-03-10", "2024-03-31"):
        maintenance.maintain(place.home, 90, today)
    stored = stored_events(place.home)
    fault_table.add("clocks", faults=1, acknowledged=20, lost=20 - len(stored.count))

    assert 20 == len(stored.count)
    assert 2 == len({p.name for p in Path(place.home.folder).glob("telemetry-*")})


def test_names_are_unique(place, stored_events, fault_table) -> None:
    """Segments of the same day never replace each other."""
    for number in range(12):
        segment(place.home, DAY, range(number, number + 1))
        if number % 3 == 0:
            maintenance.maintain(place.home, 90, DAY)
    fault_table.add("clocks", sealings=12, acknowledged=12)

    assert 12 == len(stored_events(place.home).count)


# -- a disk that stalls --------------------------------------------------------------------------


@pytest.mark.strace
def test_a_disk_that_stalls(place, host, fault_table, skip_row) -> None:
    """If each write takes 200 ms, the breaker opens after three and the host is fast again.

    Opening the log counts too if it was slow, as it may be under strace.
    """
    if shutil.which("strace") is None:
        skip_row("stalls", "strace is missing")
    code = (
        "import json\nfrom telemetry_kit import track_role_event as t\n"
        "found = [t('role.selected', role='dev') for _ in range(20)]\n"
        "print(json.dumps([f is not None for f in found]))"
    )
    Path(place.home.folder).mkdir(mode=0o700)
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-P", place.home.log]
    command += ["-e", "trace=write", "-e", "inject=write:delay_enter=200000"]
    done = subprocess.run(
        [*command, sys.executable, "-W", "error", "-c", host.wrap(code)],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")

    (recorded,) = host.check(done)
    written = len(place.lines())
    assert written in (2, 3)
    assert [True] * written + [False] * (20 - written) == recorded
    fault_table.add("stalls", faults=written, acknowledged=written)


# -- the consent record --------------------------------------------------------------------------

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
def test_a_changed_consent_record(place, fault_table, how: str) -> None:
    """A running program detects a changed record within 20 ms and stops recording."""
    code = (
        "import sys, time\nfrom telemetry_kit import track_role_event as t\n"
        "print(t('role.selected', role='dev') is not None, flush=True)\n"
        "sys.stdin.readline(); time.sleep(0.025)\n"
        "print(t('role.selected', role='dev') is not None, flush=True)\n"
        "sys.exit(7)\n"
    )
    with place.start(code) as host:
        first = host.stdout.readline()
        DAMAGE[how](place.record)
        out, err = host.communicate("go\n", timeout=30)

    assert ("True\n", "False\n", "", 7) == (first, out, err, host.returncode)
    assert not policy.decide(place.home, place.environ).allowed
    fault_table.add("records", faults=1)
