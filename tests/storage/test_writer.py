"""The writer: what it makes, one write per event, and a log that another process changes."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_kit.errors import Off, Refused
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import rotation
from telemetry_kit.storage.writer import LogWriter
from tests.storage.writer_helpers import LINE, Clock, content, tree


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


def mode(path: str | Path) -> int:
    """The permission bits of a path itself."""
    return stat.S_IMODE(os.lstat(path).st_mode)


# -- what is made --------------------------------------------------------------------------------


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


# -- one write -----------------------------------------------------------------------------------


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


# -- a torn tail ---------------------------------------------------------------------------------


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


# -- sealed, cleared, replaced -------------------------------------------------------------------


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
