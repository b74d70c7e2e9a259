"""Decisions are saved one at a time, and a crash leaves the old or the new decision."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest

from telemetry_kit import (
    disable_telemetry,
    enable_telemetry,
    is_telemetry_enabled,
)
from telemetry_kit.consent import cache, changes, transaction
from telemetry_kit.consent import history as consent_history
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import atomic, private
from tests.consent.history_helpers import audit, history_dir, history_file

DECIDE = """
import sys
import time
from telemetry_kit import disable_telemetry, enable_telemetry
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    {"yes": enable_telemetry, "no": disable_telemetry}[sys.argv[1]]()
"""


# -- concurrent decisions ------------------------------------------------------------------------


def test_concurrent_decisions(undecided) -> None:
    """No concurrent decision is lost, and the last one is current."""
    words = ["yes", "no"] * 6
    children = [undecided.start(DECIDE, word, "4") for word in words]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=120)[1] for child in children]
    entries = consent_history.read(history_dir(undecided))

    assert errors == [""] * len(words)
    assert sorted(e["decision"] for e in entries) == sorted(words * 4)
    assert consent_history.broken_at(history_dir(undecided)) is None
    assert consent_history.disagrees(history_dir(undecided)) is None
    assert undecided.record.read_text().split()[1] == entries[-1]["decision"]
    assert transaction.LOCK not in os.listdir(undecided.home.config)


def test_a_concurrent_reset(undecided) -> None:
    """A concurrent reset leaves a decision complete or deletes it."""
    children = [undecided.start(DECIDE, word, "6") for word in ("yes", "no", "yes")]
    erase = (
        "import sys; sys.stdin.readline()\nfrom telemetry_kit.consent import changes as control\n"
    )
    children += [undecided.start(erase + "assert control.reset(control.paths_of()) == []")]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=120)[1] for child in children]

    assert errors == [""] * 4
    assert consent_history.trouble(undecided.home) == []


def test_the_lock_is_private_and_deleted(undecided) -> None:
    """The lock has mode 0600, and is deleted after the decision."""
    config = Path(undecided.home.config)
    with transaction.consent_lock(str(config)):
        found = [(p.name, stat.S_IMODE(p.stat().st_mode)) for p in config.iterdir()]

    assert found == [(transaction.LOCK, 0o600)]
    assert list(config.iterdir()) == []


BUSY = """
import sys
from telemetry_kit.consent import transaction as deciding
from telemetry_kit.cli import main
deciding.PATIENCE_SECONDS = 0.05
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words", [["enable", "--yes"], ["disable"], ["reset", "--yes"]], ids=" ".join
)
def test_a_lock_that_is_not_released(decided, words: list[str]) -> None:
    """If the lock is not released in time, the command exits with 1 and saves no decision."""
    before = {p: p.read_bytes() for p in decided.record.parent.iterdir()}
    with transaction.consent_lock(decided.home.config):
        done = decided.run(BUSY, *words)

    assert (done.returncode, done.stdout) == (1, "")
    advice = ". Other programs continue to record: set FLOWSPEC_TELEMETRY_DISABLED=1 to stop them"
    assert done.stderr == (
        "telemetry-kit: another process is writing a decision and does not finish"
        f"{advice if 'disable' in words else ''}\n"
    )
    assert {p: p.read_bytes() for p in decided.record.parent.iterdir()} == before


@pytest.mark.parametrize(("patience", "waits"), [(0.0, False), (None, True)])
def test_the_time_limit_of_a_lock(decided, monkeypatch, patience, waits: bool) -> None:
    """The caller can set the time limit of a lock. Without one, the default applies."""
    slept: list[float] = []
    monkeypatch.setattr(transaction, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(time, "sleep", slept.append)
    with (
        transaction.consent_lock(decided.home.config),
        pytest.raises(ConsentError, match="does not finish"),
        transaction.consent_lock(decided.home.config, patience),
    ):
        pass

    assert waits == bool(slept)


def test_a_lock_of_a_killed_process(decided) -> None:
    """If a killed process left a lock, the next decision does not wait, and deletes it."""
    code = (
        "import os, signal\nfrom telemetry_kit.consent import changes as control\n"
        "from telemetry_kit.consent import transaction as deciding\n"
        "with deciding.consent_lock(control.paths_of().config):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = decided.run(code)
    left = os.listdir(decided.home.config)
    disable_telemetry()

    assert (done.returncode, transaction.LOCK in left) == (-signal.SIGKILL, True)
    assert transaction.LOCK not in os.listdir(decided.home.config)
    assert not is_telemetry_enabled()


def test_a_lock_in_a_forked_child(decided) -> None:
    """If a forked child inherited the lock, its parent can still save decisions."""
    code = (
        "import os, sys\nfrom telemetry_kit.consent import changes as control\n"
        "from telemetry_kit.consent import transaction as deciding\n"
        "with deciding.consent_lock(control.paths_of().config):\n"
        "    if os.fork() == 0:\n"
        "        sys.stdin.read()\n"
        "        os._exit(0)\n"
        "control.disable_telemetry()\n"
        "print('done', flush=True)\n"
        "os.wait()"
    )
    child = decided.start(code)
    output = child.stdout.readline()
    _, err = child.communicate(timeout=60)

    assert (output, err, child.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_a_lock_of_another_file_type(decided, kind: str) -> None:
    """If the lock's path has another file type, a denial is saved, and that file is kept."""
    path, outside = Path(decided.home.config) / transaction.LOCK, decided.user / "outside"
    outside.write_bytes(b"theirs")
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(outside)
    disable_telemetry()

    assert not is_telemetry_enabled()
    assert (outside.read_bytes(), os.path.lexists(path)) == (b"theirs", True)


@pytest.mark.parametrize("error", ["ENOTSUP", "ENOLCK"])
def test_a_file_system_without_locks(undecided, error: str) -> None:
    """If the file system has no locks, decisions are saved without a lock."""
    code = (
        "import errno, fcntl, sys\n"
        "def flock(*_): raise OSError(getattr(errno, sys.argv[1]), '')\n"
        "fcntl.flock = flock\n"
        "from telemetry_kit import enable_telemetry\n"
        "assert enable_telemetry()"
    )
    done = undecided.run(code, error)

    assert (done.returncode, done.stderr) == (0, "")
    assert is_telemetry_enabled()
    assert transaction.LOCK not in os.listdir(undecided.home.config)


KILLED = """
import os, signal, sys
from telemetry_kit.consent import changes as control
from telemetry_kit.consent import decision as grants
number = int(sys.argv[2])
rename = os.rename
def killing(*args, **folders):
    global number
    number -= 1
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*args, **folders)
os.rename = killing
getattr(control, sys.argv[1])()
"""


# -- crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("decide", ["disable_telemetry", "enable_telemetry"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_crash_during_a_decision(decided, decide: str, at: int) -> None:
    """After a crash before either rename, the old decision is current, and all files are valid."""
    before = decided.record.read_bytes()
    entries = len(consent_history.read(history_dir(decided)))
    done = decided.run(KILLED, decide, str(at))

    assert done.returncode == -signal.SIGKILL
    assert decided.record.read_bytes() == before
    assert consent_history.broken_at(history_dir(decided)) is None
    assert len(consent_history.read(history_dir(decided))) == entries + (at == 2)
    with cache.override_runtime(decided.environ):
        disable_telemetry()
    assert audit(decided).returncode == 0


def test_a_denial_is_valid_after_its_entry_is_written(decided) -> None:
    """If a process is killed after it wrote an entry, a denial is valid and `audit` reports it."""
    decided.run(KILLED, "disable_telemetry", "2")
    done = audit(decided)

    assert not is_telemetry_enabled()
    assert done.returncode == 1
    assert "is not the last decision of the history" in done.stderr


def test_a_grant_on_a_full_disk(decided, monkeypatch) -> None:
    """If the disk is full, a grant raises, and no file changes."""
    before = {p.name: p.read_bytes() for p in decided.record.parent.iterdir()}

    def full(*_: object) -> int:
        raise OSError(28, "")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(changes.ConsentError, match="ENOSPC"):
        enable_telemetry()

    assert {p.name: p.read_bytes() for p in decided.record.parent.iterdir()} == before


def test_nan_is_no_json(decided) -> None:
    """An entry with NaN is not JSON, so it is skipped and its number is reported."""
    with history_file(decided).open("a") as history:
        history.write('{"decision": NaN}\n')

    assert consent_history.broken_at(history_dir(decided)) == len(
        history_file(decided).read_bytes().splitlines()
    )
    assert all("id" in entry for entry in consent_history.read(history_dir(decided)))


def test_a_damaged_record_is_reported(decided) -> None:
    """If the record is damaged, the history reports that it is not valid."""
    decided.record.write_bytes(b"nonsense")

    assert consent_history.disagrees(history_dir(decided)) == (
        "the current record is not valid, so nothing is recorded under it"
    )


def test_a_directory_deleted_before_the_lock(undecided, monkeypatch) -> None:
    """If a reset deletes the directory before the lock is taken, it is created again."""
    config = Path(undecided.home.config)
    make, deleted = private.make_folder, []

    def make_and_delete_once(path: str, *sync: bool) -> None:
        make(path, *sync)
        if not deleted:
            deleted.append(os.rmdir(path))

    monkeypatch.setattr(private, "make_folder", make_and_delete_once)
    with transaction.consent_lock(str(config)):
        assert (config / transaction.LOCK).exists()
    with cache.override_runtime(undecided.environ):
        disable_telemetry()

    assert consent_history.trouble(undecided.home) == []


def test_a_directory_deleted_before_a_file_is_written(tmp_path: Path, monkeypatch) -> None:
    """If the directory is deleted before a file is written, it is created again."""
    make, deleted = private.make_folder, []

    def make_and_delete_once(path: str, *sync: bool) -> None:
        make(path, *sync)
        if not deleted:
            deleted.append(os.rmdir(path))

    monkeypatch.setattr(private, "make_folder", make_and_delete_once)
    atomic.replace(str(tmp_path / "a" / "b"), b"x")

    assert (tmp_path / "a" / "b").read_bytes() == b"x"
