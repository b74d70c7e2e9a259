"""The writer: its files, one write per event, and a log that another process changes."""

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
from tests.storage.writer_helpers import LINE, log_bytes, tree


def mode(path: str | Path) -> int:
    """Return the permission bits of a path, without following a link."""
    return stat.S_IMODE(os.lstat(path).st_mode)


# -- created files -------------------------------------------------------------------------------


def test_a_line_is_stored_when_append_returns(home, log_writer) -> None:
    """If `append` returns True, the complete line is in the file."""
    assert True is log_writer.append(LINE)
    assert log_bytes(home) == LINE


def test_files_are_private(home, log_writer) -> None:
    """The directory has mode 0700 and the log has mode 0600."""
    log_writer.append(LINE)

    assert (mode(home.folder), mode(home.log)) == (0o700, 0o600)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277, 0o777])
def test_the_umask_has_no_effect(home, log_writer, umask: int) -> None:
    """With any umask, directory and log have their modes and the line is written."""
    previous = os.umask(umask)
    try:
        assert log_writer.append(LINE)
    finally:
        os.umask(previous)

    assert (mode(home.folder), mode(home.log), log_bytes(home)) == (0o700, 0o600, LINE)
    assert mode(home.ignore) == 0o644


def test_opening_creates_an_empty_log(home, log_writer) -> None:
    """Opening takes the lease and creates an empty log."""
    log_writer.open()

    assert log_bytes(home) == b""


def test_creating_a_writer_creates_no_file(home, log_writer) -> None:
    """A writer that was never opened creates no file."""
    assert tree(home) == {"the-work": None}


def test_denied_creates_nothing(home, clock) -> None:
    """Without consent, not even the directory is created."""
    with pytest.raises(Off, match=r"^recording was turned off$"):
        LogWriter(home, lambda: False, clock).append(LINE)

    assert tree(home) == {"the-work": None}


def test_denied_between_the_two_checks_writes_nothing(home, clock) -> None:
    """Consent is checked again after the log is open. A denial in between leaves no file."""
    answers = iter([True, False])
    with pytest.raises(Off, match=r"^recording was turned off$"):
        LogWriter(home, lambda: next(answers), clock).append(LINE)

    assert not os.path.exists(home.folder)


def test_an_existing_directory_keeps_its_mode(home, log_writer) -> None:
    """A directory that the project created keeps its mode."""
    os.mkdir(home.folder)
    os.chmod(home.folder, 0o755)
    log_writer.append(LINE)

    assert (mode(home.folder), mode(home.log)) == (0o755, 0o600)


def test_git_status_stays_clean(home, log_writer) -> None:
    """`git status` shows neither the events nor the ignore file."""
    git = ["git", "-c", "safe.directory=*", "-C", home.root]
    subprocess.run([*git, "init", "-q"], check=True)
    log_writer.append(LINE)
    rotation.seal(home, "2024-02-28")
    log_writer.append(LINE)
    status = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        check=True,
    )

    assert status.stdout == b""


def test_the_settings_of_the_project_are_not_ignored(home, log_writer) -> None:
    """`telemetry.toml` belongs to the project and can be committed."""
    git = ["git", "-c", "safe.directory=*", "-C", home.root]
    subprocess.run([*git, "init", "-q"], check=True)
    log_writer.append(LINE)
    Path(home.folder, "telemetry.toml").write_text("roles = ['x']\n")
    status = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        check=True,
    )

    assert status.stdout == b"?? .flowspec/telemetry.toml\n"


def test_an_existing_ignore_file_is_kept(home, log_writer) -> None:
    """An existing ignore file belongs to the project and is not changed."""
    os.mkdir(home.folder)
    Path(home.ignore).write_bytes(b"theirs\n")
    log_writer.append(LINE)

    assert Path(home.ignore).read_bytes() == b"theirs\n"


# -- one write -----------------------------------------------------------------------------------


def test_lines_are_appended(home, log_writer) -> None:
    """Lines are stored in the order in which they were written."""
    lines = [b"%d\n" % n for n in range(100)]
    for one in lines:
        assert log_writer.append(one)

    assert b"".join(lines) == log_bytes(home)


@pytest.mark.strace
def test_one_write_per_event(place) -> None:
    """Once the log is open, an event takes one `fstat` and one `write` of the log."""
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
    # On a busy machine 20 ms may pass, and consent is then checked again.
    assert len([c for c in calls if "fstat" in c]) >= 5


def test_the_descriptor_is_not_inherited(home, log_writer) -> None:
    """A program that the host starts does not inherit the descriptor of the log."""
    log_writer.append(LINE)

    assert not os.get_inheritable(log_writer.lease.fd)


def test_the_lease_is_a_shared_lock(home, log_writer) -> None:
    """While a writer has the log open, no process gets an exclusive lock on it."""
    log_writer.append(LINE)
    fd = os.open(home.log, os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log_writer.close()
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def test_two_writers_share(home, clock) -> None:
    """Two writers of one project append to one log."""
    one, two = LogWriter(home, lambda: True, clock), LogWriter(home, lambda: True, clock)
    for _ in range(3):
        assert one.append(b"1\n")
        assert two.append(b"2\n")
    one.close()
    two.close()

    assert log_bytes(home) == b"1\n2\n" * 3


def test_closing_twice(home, log_writer) -> None:
    """Closing a writer twice does no harm, and the next line takes a new lease."""
    log_writer.append(LINE)
    log_writer.close()
    log_writer.close()

    assert log_writer.append(LINE)
    assert log_bytes(home) == LINE * 2


# -- an incomplete last line ---------------------------------------------------------------------


@pytest.mark.parametrize("fragment", [b'{"schema_ver', b"x", b'{"a":1}', b"y" * 4095])
def test_a_line_after_a_fragment(home, clock, fragment: bytes) -> None:
    """After a fragment, the first line of a new writer starts on a new line."""
    first = LogWriter(home, lambda: True, clock)
    first.append(LINE)
    first.close()
    with open(home.log, "ab") as file:
        file.write(fragment)
    second = LogWriter(home, lambda: True, clock)
    second.append(LINE)
    second.append(LINE)
    second.close()

    assert LINE + fragment + b"\n" + LINE * 2 == log_bytes(home)


def test_a_line_after_a_complete_line(home, clock) -> None:
    """After a complete line, no newline is added."""
    for _ in range(3):
        log_writer = LogWriter(home, lambda: True, clock)
        log_writer.append(LINE)
        log_writer.close()

    assert log_bytes(home) == LINE * 3


def replace(home: ProjectPaths, how: str) -> None:
    """Change the log as another process may do."""
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
def test_a_log_that_is_gone_is_detected(home, log_writer, how: str) -> None:
    """The next append returns False and writes nothing. The one after it writes to a new log."""
    log_writer.append(b"old\n")
    replace(home, how)

    assert False is log_writer.append(b"lost\n")
    assert True is log_writer.append(b"new\n")
    assert log_bytes(home) == b"new\n"


def test_a_sealed_log_is_not_changed(home, log_writer) -> None:
    """A sealed segment keeps its bytes, the name of its day and mode 0400."""
    log_writer.append(b"old\n")
    rotation.seal(home, "2024-02-28")
    log_writer.append(b"new\n")
    log_writer.append(b"new\n")
    sealed = Path(home.folder, "telemetry-2024-02-28.jsonl")

    assert (sealed.read_bytes(), mode(sealed)) == (b"old\n", 0o400)


def test_later_segments_of_a_day_are_numbered(home, log_writer) -> None:
    """The second and third segment of a day have the suffixes -2 and -3."""
    for _ in range(3):
        log_writer.append(b"x\n")
        rotation.seal(home, "2024-02-28")
        log_writer.append(b"-\n")
    names = {p.name for p in Path(home.folder).glob("telemetry-*.jsonl")}

    assert {f"telemetry-2024-02-28{n}.jsonl" for n in ("", "-2", "-3")} == names


def test_the_descriptor_number_is_kept(home, log_writer) -> None:
    """A new log gets the old descriptor number, so that no thread writes to another file."""
    log_writer.append(LINE)
    number = log_writer.lease.fd
    count = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        rotation.seal(home, "2024-02-28")
        log_writer.append(LINE)

    assert number == log_writer.lease.fd
    assert count == (len(os.listdir("/proc/self/fd")) if count else 0)
    assert not os.get_inheritable(number)


def test_a_descriptor_that_the_host_reuses(home, log_writer, tmp_path) -> None:
    """If the host reuses the descriptor number for its own file, the writer does not write it."""
    log_writer.append(LINE)
    number = log_writer.lease.fd
    os.close(number)
    file_of_the_host = os.open(tmp_path / "database", os.O_RDWR | os.O_CREAT)
    if file_of_the_host != number:
        os.dup2(file_of_the_host, number)
        os.close(file_of_the_host)
    os.write(number, b"precious")

    assert False is log_writer.append(b"2\n")
    assert True is log_writer.append(b"3\n")
    assert (tmp_path / "database").read_bytes() == b"precious"
    assert log_bytes(home) == LINE + b"3\n"
    os.write(number, b" still open")
    os.close(number)
    assert (tmp_path / "database").read_bytes() == b"precious still open"


def test_a_descriptor_that_the_host_closes(home, log_writer) -> None:
    """If the host closes the descriptor, the next append returns False and the next one works."""
    log_writer.append(LINE)
    os.close(log_writer.lease.fd)

    assert (log_writer.append(b"2\n"), log_writer.append(b"3\n")) == (False, True)
    assert log_bytes(home) == LINE + b"3\n"


def test_closing_keeps_a_descriptor_of_the_host(home, log_writer, tmp_path) -> None:
    """Closing the writer does not close a descriptor that the host reuses."""
    log_writer.append(LINE)
    number = log_writer.lease.fd
    os.close(number)
    file_of_the_host = os.open(tmp_path / "database", os.O_RDWR | os.O_CREAT)
    if file_of_the_host != number:
        os.dup2(file_of_the_host, number)
        os.close(file_of_the_host)
    log_writer.close()
    os.write(number, b"open")
    os.close(number)

    assert (tmp_path / "database").read_bytes() == b"open"


def test_consent_is_checked_when_the_log_was_replaced(home, clock) -> None:
    """After a revocation has sealed the log, no new log is created."""
    allowed = [True]
    log_writer = LogWriter(home, lambda: allowed[0], clock)
    log_writer.append(LINE)
    rotation.seal(home, "2024-02-28")
    allowed[0] = False
    with pytest.raises(Off):
        log_writer.append(LINE)

    assert not os.path.exists(home.log)
    allowed[0] = True
    assert log_writer.append(LINE) in (True, False)


@pytest.mark.parametrize("bits", [0o400, 0o644, 0o666, 0o660])
def test_a_change_of_mode_is_detected(home, log_writer, bits: int) -> None:
    """If the mode of the open log changes, no more lines are written."""
    log_writer.append(LINE)
    os.chmod(home.log, bits)
    with pytest.raises(Refused):
        log_writer.append(b"no\n")

    assert (LINE, bits) == (log_bytes(home), mode(home.log))


def test_a_new_hard_link_is_detected(home, log_writer, tmp_path) -> None:
    """If the open log gets a second hard link, no more lines are written."""
    log_writer.append(LINE)
    os.link(home.log, tmp_path / "second")
    with pytest.raises(Refused, match="2 links"):
        log_writer.append(b"no\n")

    assert (tmp_path / "second").read_bytes() == LINE
