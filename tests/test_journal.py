"""The write path of the journal: whole lines, in our file, whatever happens around it."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.errors import Off, Refused
from telemetry_kit.files import private
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import ignore_file, log_file, rotation, writer
from telemetry_kit.storage.writer import LogWriter

LINE = b'{"schema_version":"1.0","n":1}\n'


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    """The clock of the journal."""
    return Clock()


@pytest.fixture
def journal(home: ProjectPaths, clock: Clock):
    """A journal that may be written to."""
    found = LogWriter(home, lambda: True, clock)
    yield found
    found.close()


def content(home: ProjectPaths) -> bytes:
    """The bytes of the active log."""
    return Path(home.log).read_bytes()


def mode(path: str | Path) -> int:
    """The permission bits of a path itself."""
    return stat.S_IMODE(os.lstat(path).st_mode)


def tree(home: ProjectPaths) -> dict[str, bytes | None]:
    """All that is around the project, with contents."""
    base = Path(home.root).parent
    return {
        str(p.relative_to(base)): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in base.rglob("*")
    }


# -- what is made ------------------------------------------------------------------------------


def test_a_line_is_on_file_when_append_returns(home, journal) -> None:
    """True means that the whole line is in the file."""
    assert True is journal.append(LINE)
    assert content(home) == LINE


def test_files_are_private(home, journal) -> None:
    """The folder is 0700 and the log 0600."""
    journal.append(LINE)

    assert (mode(home.folder), mode(home.log)) == (0o700, 0o600)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277, 0o777])
def test_umask_changes_nothing(home, journal, mask: int) -> None:
    """Whatever the umask, folder and log have their modes and the line is written."""
    former = os.umask(mask)
    try:
        assert journal.append(LINE)
    finally:
        os.umask(former)

    assert (mode(home.folder), mode(home.log), content(home)) == (0o700, 0o600, LINE)
    assert mode(home.ignore) == 0o644


def test_opening_alone_writes_nothing(home, journal) -> None:
    """Taking the lease makes an empty log."""
    journal.open()

    assert content(home) == b""


def test_making_a_journal_touches_nothing(home, journal) -> None:
    """A journal that was never opened left nothing."""
    assert tree(home) == {"the-work": None}


def test_denied_makes_nothing(home, clock) -> None:
    """Where recording is off, not even the folder is made."""
    with pytest.raises(Off, match=r"^recording was turned off$"):
        LogWriter(home, lambda: False, clock).append(LINE)

    assert tree(home) == {"the-work": None}


def test_denied_between_the_two_questions_writes_nothing(home, clock) -> None:
    """Consent is asked again once the log is open: a no in between wins, and nothing is left."""
    answers = iter([True, False])
    with pytest.raises(Off, match=r"^recording was turned off$"):
        LogWriter(home, lambda: next(answers), clock).append(LINE)

    assert not os.path.exists(home.folder)


def test_an_existing_folder_keeps_its_mode(home, journal) -> None:
    """A folder that the project made itself stays as it is."""
    os.mkdir(home.folder)
    os.chmod(home.folder, 0o755)
    journal.append(LINE)

    assert (mode(home.folder), mode(home.log)) == (0o755, 0o600)


def test_git_status_stays_clean(home, journal) -> None:
    """Events, and the ignore file itself, never show up in the project's version control."""
    git = ["git", "-c", "safe.directory=*", "-C", home.root]
    subprocess.run([*git, "init", "-q"], check=True)
    journal.append(LINE)
    rotation.seal(home, "2024-02-28")
    journal.append(LINE)
    status = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        check=True,
    )

    assert status.stdout == b""


def test_the_projects_declarations_are_not_ignored(home, journal) -> None:
    """`telemetry.toml` is the project's own file and can be committed."""
    git = ["git", "-c", "safe.directory=*", "-C", home.root]
    subprocess.run([*git, "init", "-q"], check=True)
    journal.append(LINE)
    Path(home.folder, "telemetry.toml").write_text("roles = ['x']\n")
    status = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        check=True,
    )

    assert status.stdout == b"?? .flowspec/telemetry.toml\n"


def test_an_existing_ignore_file_is_left(home, journal) -> None:
    """An ignore file that is there belongs to the project."""
    os.mkdir(home.folder)
    Path(home.ignore).write_bytes(b"theirs\n")
    journal.append(LINE)

    assert Path(home.ignore).read_bytes() == b"theirs\n"


# -- one write ---------------------------------------------------------------------------------


def test_lines_are_appended(home, journal) -> None:
    """Lines stand in the order in which they were written."""
    lines = [b"%d\n" % n for n in range(100)]
    for one in lines:
        assert journal.append(one)

    assert b"".join(lines) == content(home)


@pytest.mark.strace
def test_one_write_per_event(place) -> None:
    """Once the log is open, an event is one `fstat` and one `write`, and nothing else of a file."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    trace = place.user / "trace"
    code = (
        "from telemetry_kit import configure, track_role_event as t\n"
        "import os, time\n"
        "configure(app='flowspec')\n"
        "for _ in range(3): t('role.selected', role='dev')\n"
        "os.write(2, b'mark')\n"
        "for _ in range(5): t('role.selected', role='dev')\n"
        "os.write(2, b'mark')\n"
    )
    done = subprocess.run(
        ["strace", "-qq", "-o", str(trace), "-e", "trace=file,desc", sys.executable, "-c", code],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        check=False,
    )
    if b"ptrace" in done.stderr or not trace.exists():
        pytest.skip("strace may not trace here")
    calls = trace.read_text().split('write(2, "mark", 4)')[1].splitlines()
    writes = [c for c in calls if c.startswith("write(") and "schema_version" in c]

    assert len(writes) == 5
    # 20 ms may pass on a busy machine, so a second look at consent may be in between.
    assert len([c for c in calls if "fstat" in c]) >= 5


def test_descriptor_is_not_inherited(home, journal) -> None:
    """A program started by the host does not get our descriptor."""
    journal.append(LINE)

    assert not os.get_inheritable(journal.lease.fd)


def test_the_lease_is_a_shared_lock(home, journal) -> None:
    """As long as a writer has the log open nobody gets it exclusively; then somebody does."""
    journal.append(LINE)
    fd = os.open(home.log, os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal.close()
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def test_two_writers_share(home, clock) -> None:
    """Two journals of one project write into one log."""
    one, two = LogWriter(home, lambda: True, clock), LogWriter(home, lambda: True, clock)
    for _ in range(3):
        assert one.append(b"1\n")
        assert two.append(b"2\n")
    one.close()
    two.close()

    assert content(home) == b"1\n2\n" * 3


def test_closing_twice(home, journal) -> None:
    """Giving the lease back twice does no harm, and the next line takes a new one."""
    journal.append(LINE)
    journal.close()
    journal.close()

    assert journal.append(LINE)
    assert content(home) == LINE * 2


# -- a torn tail -------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"schema_ver', b"x", b'{"a":1}', b"y" * 4095])
def test_a_torn_tail_is_healed(home, clock, torn: bytes) -> None:
    """After a fragment the first line of a new writer begins on a line of its own."""
    first = LogWriter(home, lambda: True, clock)
    first.append(LINE)
    first.close()
    with open(home.log, "ab") as file:
        file.write(torn)
    second = LogWriter(home, lambda: True, clock)
    second.append(LINE)
    second.append(LINE)
    second.close()

    assert LINE + torn + b"\n" + LINE * 2 == content(home)


def test_a_whole_tail_gets_no_empty_line(home, clock) -> None:
    """Where the last line is whole, no newline is added."""
    for _ in range(3):
        journal = LogWriter(home, lambda: True, clock)
        journal.append(LINE)
        journal.close()

    assert content(home) == LINE * 3


# -- sealed, cleared, replaced -----------------------------------------------------------------


def replace(home: ProjectPaths, how: str) -> None:
    """What another process may do to the log."""
    if how == "seal":
        rotation.seal(home, "2024-02-28")
    elif how == "clear":
        rotation.clear(home)
    elif how == "unlink":
        os.unlink(home.log)
    elif how == "replace":
        new = Path(home.log + ".new")
        new.write_bytes(b"")
        new.chmod(0o600)
        new.rename(home.log)
        os.unlink(home.log)
    elif how == "folder":
        shutil.rmtree(home.folder)


@pytest.mark.parametrize("how", ["seal", "clear", "unlink", "replace", "folder"])
def test_a_log_that_is_gone_is_noticed(home, journal, how: str) -> None:
    """The next append writes nothing and says False; the one after it is in a new log."""
    journal.append(b"old\n")
    replace(home, how)

    assert False is journal.append(b"lost\n")
    assert True is journal.append(b"new\n")
    assert content(home) == b"new\n"


def test_a_sealed_log_is_not_changed(home, journal) -> None:
    """What was sealed stays byte for byte, under the day's name, 0400."""
    journal.append(b"old\n")
    rotation.seal(home, "2024-02-28")
    journal.append(b"new\n")
    journal.append(b"new\n")
    sealed = Path(home.folder, "telemetry-2024-02-28.jsonl")

    assert (sealed.read_bytes(), mode(sealed)) == (b"old\n", 0o400)


def test_later_segments_of_a_day_are_numbered(home, journal) -> None:
    """The second and third log of a day are called -2 and -3."""
    for _ in range(3):
        journal.append(b"x\n")
        rotation.seal(home, "2024-02-28")
        journal.append(b"-\n")
    names = {p.name for p in Path(home.folder).glob("telemetry-*.jsonl")}

    assert {f"telemetry-2024-02-28{n}.jsonl" for n in ("", "-2", "-3")} == names


def test_the_descriptor_number_stays(home, journal) -> None:
    """A new log comes behind the old number, so that no thread writes to somebody else's."""
    journal.append(LINE)
    number = journal.lease.fd
    count = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        rotation.seal(home, "2024-02-28")
        journal.append(LINE)

    assert number == journal.lease.fd
    assert count == (len(os.listdir("/proc/self/fd")) if count else 0)
    assert not os.get_inheritable(number)


def test_a_number_that_the_host_took_over_is_never_written_to(home, journal, tmp_path) -> None:
    """The host closed our descriptor and opened its own file under the number: hands off."""
    journal.append(LINE)
    number = journal.lease.fd
    os.close(number)
    theirs = os.open(tmp_path / "database", os.O_RDWR | os.O_CREAT)
    if theirs != number:
        os.dup2(theirs, number)
        os.close(theirs)
    os.write(number, b"precious")

    assert False is journal.append(b"2\n")
    assert True is journal.append(b"3\n")
    assert (tmp_path / "database").read_bytes() == b"precious"
    assert content(home) == LINE + b"3\n"
    os.write(number, b" still open")
    os.close(number)
    assert (tmp_path / "database").read_bytes() == b"precious still open"


def test_a_number_that_was_only_closed(home, journal) -> None:
    """The host closed all descriptors: the next append says False, and then it works."""
    journal.append(LINE)
    os.close(journal.lease.fd)

    assert (journal.append(b"2\n"), journal.append(b"3\n")) == (False, True)
    assert content(home) == LINE + b"3\n"


def test_closing_never_closes_a_number_of_the_host(home, journal, tmp_path) -> None:
    """Giving back a lease whose number the host took over leaves the host's file open."""
    journal.append(LINE)
    number = journal.lease.fd
    os.close(number)
    theirs = os.open(tmp_path / "database", os.O_RDWR | os.O_CREAT)
    if theirs != number:
        os.dup2(theirs, number)
        os.close(theirs)
    journal.close()
    os.write(number, b"open")
    os.close(number)

    assert (tmp_path / "database").read_bytes() == b"open"


def test_consent_is_asked_when_the_log_was_replaced(home, clock) -> None:
    """A log that was sealed by a revocation is not begun anew."""
    allowed = [True]
    journal = LogWriter(home, lambda: allowed[0], clock)
    journal.append(LINE)
    rotation.seal(home, "2024-02-28")
    allowed[0] = False
    with pytest.raises(Off):
        journal.append(LINE)

    assert not os.path.exists(home.log)
    allowed[0] = True
    assert journal.append(LINE) in (True, False)


@pytest.mark.parametrize("bits", [0o400, 0o644, 0o666, 0o660])
def test_a_mode_that_changes_under_us_is_noticed(home, journal, bits: int) -> None:
    """A log whose mode was changed while we held it gets no further line."""
    journal.append(LINE)
    os.chmod(home.log, bits)
    with pytest.raises(Refused):
        journal.append(b"no\n")

    assert (LINE, bits) == (content(home), mode(home.log))


def test_a_second_link_under_us_is_noticed(home, journal, tmp_path) -> None:
    """A log that got a second name while we held it gets no further line."""
    journal.append(LINE)
    os.link(home.log, tmp_path / "second")
    with pytest.raises(Refused, match="2 links"):
        journal.append(b"no\n")

    assert (tmp_path / "second").read_bytes() == LINE


# -- what may be in the way ----------------------------------------------------------------------


def plant(kind: str, path: str, outside: Path) -> None:
    """Put something in the place of the log or of the folder."""
    outside.mkdir(exist_ok=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    (outside / "file").write_bytes(b"theirs")
    (outside / "file").chmod(0o600)
    if kind == "link":
        os.symlink(outside / "file", path)
    elif kind == "dangling":
        os.symlink(outside / "nothing", path)
    elif kind == "loop":
        os.symlink(path, path)
    elif kind == "link to a folder":
        os.symlink(outside, path)
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "hard link":
        os.link(outside / "file", path)
    elif kind == "file":
        Path(path).write_bytes(b"theirs")
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            former = os.getcwd()
            os.chdir(os.path.dirname(path))
            try:
                listener.bind(os.path.basename(path))
            finally:
                os.chdir(former)
    else:
        Path(path).write_bytes(b"theirs")
        os.chmod(path, int(kind, 8))


LOG_KINDS = ["link", "dangling", "loop", "link to a folder", "directory", "fifo", "hard link"]
LOG_KINDS += ["socket", "0666", "0644", "0640", "0602", "0700", "0000", "04600"]


@pytest.mark.parametrize("kind", LOG_KINDS)
def test_planted_log(home, journal, clock, kind: str) -> None:
    """Whatever stands in the log's place, no line is written, nothing is changed or made."""
    outside = Path(home.root).parent / "outside"
    plant(kind, home.log, outside)
    seen = os.lstat(home.log)
    before = tree(home)
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            journal.append(LINE)
        clock.seconds += 100

    after = os.lstat(home.log)
    assert before == tree(home)
    assert (seen.st_mode, seen.st_ino, seen.st_size) == (after.st_mode, after.st_ino, after.st_size)
    assert caught.value.reason.startswith(home.log)
    assert caught.value.reason == journal.breaker.reason


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "link to a folder", "fifo", "file"])
def test_planted_folder(home, journal, kind: str) -> None:
    """Whatever stands in the folder's place is not entered, and nothing is made behind it."""
    outside = Path(home.root).parent / "outside"
    plant(kind, home.folder, outside)
    before = tree(home)
    with pytest.raises(Refused):
        journal.append(LINE)

    assert before == tree(home)


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
def test_planted_ignore_file(home, journal, kind: str) -> None:
    """Something in the ignore file's place is not written through; the event is recorded."""
    outside = Path(home.root).parent / "outside"
    plant(kind, home.ignore, outside)
    journal.append(LINE)

    assert ((outside / "file").read_bytes(), (outside / "nothing").exists()) == (b"theirs", False)
    assert content(home) == LINE


@pytest.mark.parametrize("bits", [0o777, 0o702, 0o722])
def test_a_folder_that_others_may_write_to(home, journal, bits: int) -> None:
    """A folder in which anybody may put files is no place for a log."""
    os.mkdir(home.folder)
    os.chmod(home.folder, bits)
    with pytest.raises(Refused, match="not a private folder"):
        journal.append(LINE)

    assert os.listdir(home.folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["log", "folder", "root"])
def test_somebody_elses(home, journal, what: str) -> None:
    """The log, the folder or the project of another user is left alone, also by root."""
    if what != "root":
        os.mkdir(home.folder, 0o700)
    if what == "log":
        Path(home.log).write_bytes(b"")
        os.chmod(home.log, 0o600)
    os.chown(getattr(home, what), 65_534, 65_534)
    before = tree(home)
    with pytest.raises(Refused):
        journal.append(LINE)

    assert before == tree(home)


# -- trouble -----------------------------------------------------------------------------------


def test_breaker_pauses(home, clock) -> None:
    """While it pauses nothing is tried; the pauses are 1, 2, 4, 8, 16, 32, 60, 60 seconds."""
    tried = []

    def allowed() -> bool:
        tried.append(clock.seconds)
        raise Refused("it cannot be asked")

    journal = LogWriter(home, allowed, clock)
    for _ in range(4 * 250):
        with pytest.raises(Refused):
            journal.append(LINE)
        clock.seconds += 0.25
    pauses = [after - before for before, after in itertools.pairwise(tried)]

    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_breaker_closes_after_a_success(home, journal, clock) -> None:
    """When the trouble is gone, the first attempt after the pause works and clears the reason."""
    os.mkdir(home.folder)
    os.mkdir(home.log)
    with pytest.raises(Refused):
        journal.append(LINE)
    os.rmdir(home.log)
    with pytest.raises(Refused):
        journal.append(LINE)
    assert not os.path.exists(home.log)
    clock.seconds += 1

    assert journal.append(LINE)
    assert journal.breaker.reason == ""
    os.unlink(home.log)
    os.mkdir(home.log)
    with pytest.raises(Refused):
        journal.append(LINE)
    assert clock.seconds + 1 == journal.breaker.resume


def test_being_off_is_no_trouble(home, clock) -> None:
    """A no does not open the breaker: a yes afterwards works at once."""
    answers = [False]
    journal = LogWriter(home, lambda: answers[0], clock)
    for _ in range(5):
        with pytest.raises(Off):
            journal.append(LINE)
    answers[0] = True

    assert journal.append(LINE)
    journal.close()


def slow(clock: Clock, seconds: float) -> Clock:
    """A clock on which the next question takes as long as given."""

    class Slow(Clock):
        def __call__(self) -> float:
            self.seconds += seconds
            return self.seconds

    found = Slow()
    found.seconds = clock.seconds
    return found


def test_a_slow_disk_opens_the_breaker_after_three(home, clock) -> None:
    """Three lines in a row that each took over 50 ms pause the writing; the lines are on file."""
    journal = LogWriter(home, lambda: True, slow(clock, 0.06))
    for _ in range(3):
        assert journal.append(LINE)
    with pytest.raises(Refused, match="the disk is slow"):
        journal.append(LINE)

    assert content(home) == LINE * 3
    journal.close()


def test_trouble_is_remembered_by_its_short_name(home, clock, monkeypatch) -> None:
    """Whoever looks later finds what it was: the slow disk, or the name of the system's error."""
    told: list[str] = []
    journal = LogWriter(home, lambda: True, slow(clock, 0.06), remember=told.append)
    for _ in range(3):
        journal.append(LINE)
    assert told == ["slow disk"]
    journal.close()
    told.clear()

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = LogWriter(home, lambda: True, clock, remember=told.append)
    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(Refused, match=r"the disk is full \(ENOSPC\)$"):
        journal.append(LINE)
    journal.close()

    assert told == ["ENOSPC"]


def test_a_disk_that_is_slow_now_and_then_is_fine(home, clock) -> None:
    """Two slow lines and a quick one do not open it."""
    watch = slow(clock, 0.06)
    journal = LogWriter(home, lambda: True, lambda: watch() if slowly else watch.seconds)
    for number in range(30):
        slowly = number % 3 != 2
        assert journal.append(LINE)

    assert content(home) == LINE * 30
    journal.close()


def test_a_quick_disk_never_pauses(home, clock) -> None:
    """Lines of 20 ms each are no reason to pause."""
    journal = LogWriter(home, lambda: True, slow(clock, 0.02))
    for _ in range(20):
        assert journal.append(LINE)
    journal.close()


def test_a_short_write_is_not_acknowledged(place) -> None:
    """A line that did not fit is refused and counted, what is there of it is ended.

    The limit on the size of files is the one way to a short write that every system has.
    """
    done = place.run(
        "import os, resource, signal\n"
        "from telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.recording import recorder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "first = t('role.selected', role='dev')\n"
        "size = os.stat('.flowspec/telemetry.jsonl').st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, -1))\n"
        "assert t('role.selected', role='dev') is None\n"
        "journal = recorder.recorder_for().writer\n"
        "print(journal.lost, journal.breaker.reason)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
    )
    again = place.run(
        "from telemetry_kit import track_role_event as t; assert t('role.selected', role='dev')"
    )

    assert (done.returncode, done.stderr, again.returncode, again.stderr) == (0, "", 0, "")
    assert done.stdout.startswith("1 ")
    whole = [line for line in place.lines() if line.startswith(b'{"schema') and b"}" in line]
    assert [json.loads(line)["event_type"] for line in whole] == ["role.selected"] * 2
    assert place.log.read_bytes().endswith(b"}\n")


# -- a log that is full ------------------------------------------------------------------------


def sized(number: int, length: int) -> bytes:
    """A line of so many bytes."""
    return b"%d" % number + b"x" * (length - 1 - len(b"%d" % number)) + b"\n"


def segments_of(home: ProjectPaths) -> list[bytes]:
    """The bytes of the sealed segments, in order."""
    found = Path(home.folder).glob("telemetry-*.jsonl")
    return [path.read_bytes() for path in sorted(found, key=lambda path: (len(path.name), path))]


@pytest.mark.parametrize("length", [160, 161, 250, 1_000])
def test_a_full_log_is_sealed(home, clock, length: int) -> None:
    """The line after the last that fits is the segment's last; the one after it begins a log."""
    journal = LogWriter(home, lambda: True, clock, seal_events=20)
    lines = [sized(number, length) for number in range(70)]
    for one in lines:
        while not journal.append(one):
            pass
    journal.close()

    assert [b"".join(lines[at : at + 21]) for at in (0, 21, 42)] == segments_of(home)
    assert b"".join(lines[63:]) == content(home)


def test_a_segment_is_named_after_the_day_it_was_sealed(home, clock) -> None:
    """The day in UTC, which one it is when the log is full."""
    journal = LogWriter(home, lambda: True, clock, seal_events=1)
    days = {time.strftime("%Y-%m-%d", time.gmtime())}
    for number in range(2):
        assert journal.append(sized(number, 200))
    days.add(time.strftime("%Y-%m-%d", time.gmtime()))
    journal.close()

    assert {p.name for p in Path(home.folder).glob("telemetry-*")} <= {
        f"telemetry-{day}.jsonl" for day in days
    }
    assert [sized(0, 200) + sized(1, 200)] == segments_of(home)


def test_a_full_log_that_is_not_its_own(home, clock) -> None:
    """What other programs wrote counts too: a log that is full already is sealed at once."""
    os.mkdir(home.folder, 0o700)
    fd = os.open(home.log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"".join(sized(number, 2_000) for number in range(1_200)))
    os.close(fd)
    journal = LogWriter(home, lambda: True, clock, seal_events=1_000)
    answers = [journal.append(LINE) for _ in range(3)]
    journal.close()

    assert [True, False, True] == answers
    assert (1, 1_201) == (len(segments_of(home)), segments_of(home)[0].count(b"\n"))


def test_a_full_log_grows_while_somebody_is_at_work(home, clock) -> None:
    """While the lock is held nothing waits and nothing is lost; it is sealed a little later."""
    journal = LogWriter(home, lambda: True, clock, seal_events=20)
    with rotation.maintenance(home) as folder:
        assert folder is None
    journal.open()
    with rotation.maintenance(home):
        assert all(journal.append(sized(number, 200)) for number in range(50))
    assert [] == segments_of(home)
    answers = [journal.append(sized(50, 200)), journal.append(sized(51, 200))]
    journal.close()

    assert [True, False] == answers
    assert 51 == segments_of(home)[0].count(b"\n")


def test_only_the_log_that_was_counted_is_sealed(home, clock, monkeypatch) -> None:
    """Another process seals it first and begins a new one: that one stays open."""
    other = LogWriter(home, lambda: True, clock)
    real = os.pread

    def slowly(fd: int, count: int, at: int) -> bytes:
        if count > 1 and not segments_of(home):
            rotation.seal(home, "2024-02-28")
            assert other.append(b"new\n")
        return real(fd, count, at)

    journal = LogWriter(home, lambda: True, clock, seal_events=20)
    lines = [sized(number, 160) for number in range(20)]
    assert all(journal.append(one) for one in lines)
    monkeypatch.setattr(os, "pread", slowly)
    assert journal.append(b"last\n")
    journal.close()
    other.close()

    assert [b"".join([*lines, b"last\n"])] == segments_of(home)
    assert b"new\n" == content(home)


def test_a_log_that_cannot_be_counted(home, clock, monkeypatch) -> None:
    """The line is on file, and that is what its writer is told."""

    def fails(fd: int, count: int, at: int) -> bytes:
        raise OSError(errno.EIO, "")

    journal = LogWriter(home, lambda: True, clock, seal_events=2)
    lines = [sized(number, 200) for number in range(6)]
    journal.append(lines[0])
    monkeypatch.setattr(os, "pread", fails)
    assert all(journal.append(one) for one in lines[1:])
    journal.close()

    assert b"".join(lines) == content(home)
    assert journal.breaker.reason == ""


# -- inside the slow path ----------------------------------------------------------------------


@pytest.fixture
def reentered(home, clock, monkeypatch):
    """A journal in which an event happens while a log is opened, as a signal's might."""
    inner: list[bytes] = []
    answers: list[bool] = []

    def happens(*_: object) -> bool:
        while inner:
            answers.append(found.append(inner.pop()))
        return True

    real = log_file.ignore
    monkeypatch.setattr(log_file, "ignore", lambda *args: happens() and real(*args))
    found = LogWriter(home, happens, clock)
    yield found, inner, answers
    found.close()


@pytest.mark.parametrize("torn", [b"", b"torn"])
def test_an_event_while_the_log_is_opened(home, reentered, torn: bytes) -> None:
    """It is written whole, on a line of its own, before the one that was begun."""
    journal, inner, answers = reentered
    journal.append(LINE)
    journal.close()
    with open(home.log, "ab") as file:
        file.write(torn)
    inner.append(b"inner\n")

    assert journal.append(b"outer\n")
    assert journal.append(b"last\n")
    assert [True] == answers
    middle = torn and torn + b"\n"
    assert LINE + middle + b"inner\nouter\nlast\n" == content(home)


def test_an_event_while_the_log_is_changed(home, reentered) -> None:
    """The same where the old log was sealed; no descriptor is left over."""
    journal, inner, answers = reentered
    journal.append(LINE)
    count = len(os.listdir("/dev/fd"))
    rotation.seal(home, "2024-02-28")
    inner.append(b"inner\n")

    assert False is journal.append(b"outer\n")
    assert True is journal.append(b"outer\n")
    assert [True] == answers
    assert b"inner\nouter\n" == content(home)
    assert count == len(os.listdir("/dev/fd"))


# -- what the system may say -------------------------------------------------------------------


def short_once(monkeypatch, failing: bool) -> None:
    """The next write stops in the middle, as on a full disk; then there is room, or is not."""
    real = os.write
    written: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        written.append(data)
        if len(written) == 1:
            return real(fd, data[: len(data) // 2])
        if len(written) == 2 and failing:
            raise OSError(errno.ENOSPC, "")
        return real(fd, data)

    monkeypatch.setattr(writer, "_write", write)
    monkeypatch.setattr(ignore_file, "_write", write)


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("before", [0, 3])
def test_half_a_line(home, journal, clock, monkeypatch, failing: bool, before: int) -> None:
    """It is no event: it is counted as lost, ended, and the next one is on a line of its own."""
    for _ in range(before):
        journal.append(LINE)
    journal.open()
    short_once(monkeypatch, failing)
    with pytest.raises(Refused, match=r"^\S+: the disk is full \(ENOSPC\)$"):
        journal.append(LINE)
    clock.seconds += 1

    assert journal.append(LINE)
    assert journal.append(LINE)
    assert LINE * before + LINE[: len(LINE) // 2] + b"\n" + LINE * 2 == content(home)
    assert 1 == journal.lost


def test_every_half_line_is_counted(home, journal, clock, monkeypatch) -> None:
    """Two of them are two."""
    journal.open()
    for _ in range(2):
        short_once(monkeypatch, failing=False)
        with pytest.raises(Refused):
            journal.append(LINE)
        clock.seconds += 10

    assert 2 == journal.lost


def test_half_an_ignore_file(home, journal, clock, monkeypatch) -> None:
    """There is no log before the ignore file is whole; the next attempt writes both."""
    short_once(monkeypatch, failing=False)
    with pytest.raises(Refused, match=r"the disk is full \(ENOSPC\)"):
        journal.append(LINE)
    assert (b"", False) == (Path(home.ignore).read_bytes(), os.path.exists(home.log))
    clock.seconds += 1

    assert journal.append(LINE)
    assert ignore_file.IGNORE == Path(home.ignore).read_bytes()


@pytest.mark.parametrize("number", sorted(private.NO_LOCKS))
def test_a_file_system_without_locks(home, journal, monkeypatch, number: int) -> None:
    """Lines are written without a lease."""

    def none(fd: int, how: int) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(log_file, "flock", none)

    assert journal.append(LINE)
    assert LINE == content(home)


def test_a_lock_that_fails(home, journal, monkeypatch) -> None:
    """Any other answer is a trouble: nothing is written, nothing stays open."""

    def fails(fd: int, how: int) -> None:
        raise OSError(errno.EIO, "")

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(log_file, "flock", fails)
    with pytest.raises(Refused, match=r"input/output error \(EIO\)"):
        journal.append(LINE)

    assert (b"", count) == (content(home), len(os.listdir("/dev/fd")))


def test_a_log_that_somebody_keeps_for_himself(home, journal, clock) -> None:
    """Nobody waits for an exclusive lock on the log; when it is given back, writing goes on."""
    journal.append(LINE)
    journal.close()
    count = len(os.listdir("/dev/fd"))
    with open(home.log, "rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="was replaced by other processes at every attempt"):
            journal.append(LINE)
    assert count == len(os.listdir("/dev/fd"))
    clock.seconds += 1

    assert journal.append(LINE)
    assert LINE * 2 == content(home)


def test_a_log_that_another_process_makes_first(home, journal, clock, monkeypatch) -> None:
    """Both write into the one that is there."""
    other = LogWriter(home, lambda: True, clock)
    real = os.open
    made: list[bool] = []
    streams = [os.fstat(number).st_ino for number in range(3)]

    def slowly(path, flags, *args, **more):
        if path == log_file.LOG and flags & os.O_CREAT and not made:
            monkeypatch.setattr(os, "open", real)
            made.append(other.append(b"first\n"))
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", slowly)
    assert journal.append(b"second\n")
    other.close()

    assert [True] == made
    assert streams == [os.fstat(number).st_ino for number in range(3)]
    assert b"first\nsecond\n" == content(home)


def test_a_mode_that_cannot_be_set(home, journal, monkeypatch) -> None:
    """A umask took the owner's bits and they cannot be given back: no event, nothing stays open."""

    def fails(fd: int, bits: int) -> None:
        if bits == 0o600:
            raise OSError(errno.EPERM, "")

    count = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "fchmod", fails)
    former = os.umask(0o277)
    try:
        with pytest.raises(Refused, match=r"operation not permitted \(EPERM\)"):
            journal.append(LINE)
    finally:
        os.umask(former)

    assert (b"", count) == (content(home), len(os.listdir("/dev/fd")))


@pytest.mark.parametrize("closed", [(0, 1), (0, 2), (1, 2)], ids=str)
def test_a_host_without_its_streams(home, journal, closed: tuple[int, int]) -> None:
    """The log never gets the number of a stream: what the host prints would be in it."""
    kept = [os.dup(number) for number in closed]
    try:
        for number in closed:
            os.close(number)
        assert journal.append(LINE)
        log = journal.lease.fd
        taken = [number for number in closed if os.path.exists(f"/dev/fd/{number}")]
    finally:
        for former, number in zip(kept, closed, strict=True):
            os.dup2(former, number)
            os.close(former)

    assert (True, []) == (log > 2, taken)
    assert not os.get_inheritable(log)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("link", "it is a symbolic link (ELOOP)"),
        ("directory", "it is a folder (EISDIR)"),
        ("socket", "it is no plain file (ENXIO)"),
    ],
)
def test_trouble_is_told_in_words(home, journal, kind: str, words: str) -> None:
    """The reason names the file, says what it means, and gives the system's short name."""
    plant(kind, home.log, Path(home.root).parent / "outside")
    with pytest.raises(Refused):
        journal.append(LINE)

    assert f"{home.log}: {words}" == journal.breaker.reason


def test_trouble_without_a_word_for_it() -> None:
    """An error that is not in the list is told by its short name."""
    assert "cannot be used (EBUSY)" == private.explain(OSError(errno.EBUSY, "secret"))
    assert "cannot be used (ValueError)" == private.explain(ValueError("secret"))


def test_a_fragment_of_one_byte(home, clock) -> None:
    """A log that holds nothing but the first byte of a line."""
    first = LogWriter(home, lambda: True, clock)
    first.open()
    first.close()
    Path(home.log).write_bytes(b"{")
    second = LogWriter(home, lambda: True, clock)
    second.append(LINE)
    second.close()

    assert b"{\n" + LINE == content(home)


def test_after_a_slow_disk_three_more_are_needed(home, clock) -> None:
    """A pause begins the counting anew: two slow lines after it do not pause again."""
    watch = slow(clock, 0.06)
    journal = LogWriter(home, lambda: True, watch)
    for _ in range(3):
        assert journal.append(LINE)
    watch.seconds += 1
    for _ in range(3):
        assert journal.append(LINE)
    with pytest.raises(Refused, match="the disk is slow"):
        journal.append(LINE)
    journal.close()


def test_root_says_whose_project_it_is(home, journal) -> None:
    """The reason names the project."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(home.root, 65_534, 65_534)
    with pytest.raises(Refused, match=f"^{home.root} belongs to another user$"):
        journal.append(LINE)


# -- threads and processes ---------------------------------------------------------------------


def test_threads_lose_and_tear_nothing(home, clock) -> None:
    """Eight threads over one journal: every acknowledged line is there once, and whole."""
    journal = LogWriter(home, lambda: True, clock)
    start = threading.Barrier(8)

    def write(thread: int) -> None:
        start.wait()
        for n in range(200):
            line = b'{"t":%d,"n":%d,"pad":"%s"}\n' % (thread, n, b"x" * 200)
            while not journal.append(line):
                pass

    threads = [threading.Thread(target=write, args=(t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found = [json.loads(line) for line in content(home).splitlines() if line]

    assert {(t, n) for t in range(8) for n in range(200)} == {(e["t"], e["n"]) for e in found}
    assert len(found) == 1600


def test_threads_while_the_log_is_sealed(home, clock) -> None:
    """The same while another thread seals all the time: nothing lost, nothing twice."""
    journal = LogWriter(home, lambda: True, clock)
    over = threading.Event()

    def seal() -> None:
        while not over.is_set():
            rotation.seal(home, "2024-02-28")

    def write(thread: int) -> None:
        for n in range(150):
            while not journal.append(b'{"t":%d,"n":%d}\n' % (thread, n)):
                pass

    sealer = threading.Thread(target=seal)
    writers = [threading.Thread(target=write, args=(t,)) for t in range(4)]
    for thread in (sealer, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    sealer.join()
    journal.close()
    segments = Path(home.folder).glob("telemetry*.jsonl")
    found = [json.loads(one) for p in segments for one in p.read_bytes().splitlines() if one]

    assert sorted((t, n) for t in range(4) for n in range(150)) == sorted(
        (e["t"], e["n"]) for e in found
    )


def test_a_forked_child_writes(place) -> None:
    """Parent and children share the lease and write whole lines into one log."""
    done = place.run(
        "import os\nfrom telemetry_kit import track_role_event as t\n"
        "assert t('role.selected', role='pm')\n"
        "children = []\n"
        "for _ in range(4):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        for _ in range(50): assert t('agent.invoked', role='dev')\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "for _ in range(50): assert t('role.selected', role='qa')\n"
        "assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4\n"
        "assert t('role.selected', role='ops')\n"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert len(place.events()) == 1 + 200 + 50 + 1


def test_a_child_that_ends_does_not_end_the_parents_lease(place) -> None:
    """A child's end gives nothing of the parent's back: the shared lock is never unlocked."""
    done = place.run(
        "import fcntl, os\nfrom telemetry_kit import track_role_event as t\n"
        "assert t('role.selected', role='pm')\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    assert t('role.selected', role='dev')\n"
        "    raise SystemExit\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "fd = os.open('.flowspec/telemetry.jsonl', os.O_RDWR)\n"
        "try: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('held')\n"
    )

    assert (done.stdout, done.stderr) == ("held\n", "")


def test_two_children_notice_a_seal_of_their_parent(place) -> None:
    """Children that inherited the descriptor switch to the new log each for itself."""
    done = place.run(
        "import os\nfrom telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.consent import changes as control\n"
        "from telemetry_kit.storage import rotation as upkeep\n"
        "assert t('role.selected', role='pm')\n"
        "r, w = os.pipe()\n"
        "children = []\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        os.close(w)\n"
        "        os.read(r, 1)\n"
        "        assert t('role.selected', role='dev')\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "upkeep.seal(control.paths_of(), '2024-02-28')\n"
        "os.write(w, b'go')\n"
        "assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]\n"
    )

    assert (done.returncode, done.stderr, len(place.events())) == (0, "", 2)


def test_many_processes_write_whole_lines(place) -> None:
    """Six processes at once: every line whole, every event there."""
    code = (
        "from telemetry_kit import track_role_event as t\n"
        "for _ in range(200): assert t('agent.invoked', agent='x' * 300)\n"
    )
    children = [place.start(code) for _ in range(6)]
    answers = [child.communicate(timeout=60) for child in children]

    assert {("", "")} == set(answers)
    assert len({event["event_id"] for event in place.events()}) == 1200


def test_a_signal_handler_may_record(place) -> None:
    """An event from a signal handler inside another one is written whole, not waited for.

    On a machine that is very busy the breaker may call the disk slow; nothing else is refused
    once the first event has loaded all that it takes.
    """
    done = place.run(
        "import signal\nfrom telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.recording import recorder\n"
        "made, inside = [t('role.selected', role='dev')], []\n"
        "def handle(*_):\n"
        "    if not inside:\n"
        "        inside.append(1)\n"
        "        made.append(t('role.selected', role='qa'))\n"
        "        inside.pop()\n"
        "signal.signal(signal.SIGALRM, handle)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "own = [t('role.selected', role='dev') for _ in range(2000)]\n"
        "signal.setitimer(signal.ITIMER_REAL, 0, 0)\n"
        "every = own + made\n"
        "if None in every: assert 'slow' in recorder.recorder_for().writer.breaker.reason\n"
        "print(len([record for record in every if record is not None]))\n"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(place.events())


def test_recording_while_the_interpreter_ends(place) -> None:
    """An event from an exit handler or a destructor is written, or silently not."""
    done = place.run(
        "import atexit\nfrom telemetry_kit import track_role_event as t\n"
        "class Last:\n"
        "    def __del__(self): t('role.selected', role='qa')\n"
        "keep = Last()\n"
        "t('role.selected', role='dev')\n"
        "atexit.register(t, 'role.selected', role='pm')\n"
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [event["role"] for event in place.events()][:2] == ["dev", "pm"]


# -- an unprivileged user ------------------------------------------------------------------------


def test_a_read_only_folder(unprivileged) -> None:
    """A project that its user may not write to: no event, no file, and a reason."""
    unprivileged.root.chmod(0o555)
    done = unprivileged.run(
        "assert track_role_event('role.selected', role='dev') is None\n"
        "from telemetry_kit.storage import rotation as upkeep\n"
        "print(upkeep.trouble(control.paths_of()))"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written to" in done.stdout
    assert list(unprivileged.root.iterdir()) == []


def test_a_read_only_log_folder(unprivileged) -> None:
    """The same with our own folder made read-only before there is a log."""
    folder = unprivileged.root / ".flowspec"
    unprivileged.run("os.mkdir('.flowspec', 0o555)")
    done = unprivileged.run("assert track_role_event('role.selected', role='dev') is None")

    assert (done.returncode, done.stderr, list(folder.iterdir())) == (0, "", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_user_meets_roots_log(unprivileged, what: str) -> None:
    """A log or folder that root left is not written to by the user, and stays."""
    folder = unprivileged.root / ".flowspec"
    folder.mkdir(mode=0o755)
    if what == "file":
        os.chown(folder, 65_534, 65_534)
        (folder / "telemetry.jsonl").write_bytes(b"theirs\n")
        (folder / "telemetry.jsonl").chmod(0o666)
    done = unprivileged.run("assert track_role_event('role.selected', role='dev') is None")

    assert (done.returncode, done.stderr) == (0, "")
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert ({"telemetry.jsonl": b"theirs\n"} if what == "file" else {}) == found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_leaves_no_folder_in_a_users_project(place) -> None:
    """Root recording in somebody's project would lock its owner out: no event."""
    os.chown(place.root, 65_534, 65_534)

    assert None is track_role_event("role.selected", role="dev")
    assert list(place.root.iterdir()) == []


def test_trouble_is_told_without_writing(home) -> None:
    """`upkeep.trouble()` says what would keep an event from being written, and changes nothing."""
    assert rotation.trouble(home) == []
    plant("link", home.log, Path(home.root).parent / "outside")
    before = tree(home)

    assert [f"{home.log} is a symbolic link"] == rotation.trouble(home)
    assert before == tree(home)


def test_no_mode_is_set_through_a_link(tmp_path) -> None:
    """Whatever the system can do to a link: what it leads to is left alone, and it is an error."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(outside)
    before = (tmp_path / "link").lstat().st_mode
    with contextlib.suppress(OSError):
        private.set_mode(str(tmp_path / "link"), 0o700)
        before = 0o120700

    assert before == (tmp_path / "link").lstat().st_mode
    assert 0o755 == outside.stat().st_mode & 0o777
    private.set_mode(str(outside), 0o700)
    assert 0o700 == outside.stat().st_mode & 0o777
