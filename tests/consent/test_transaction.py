"""Decisions are made one at a time, and a kill in between leaves the old or the new one."""

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
from tests.consent.history_helpers import audit, file, folder


@pytest.fixture
def decided(place):
    """A project with a yes, a no and a yes, all by the real clock."""
    with cache.override_runtime(place.environ):
        disable_telemetry(method="flag")
        enable_telemetry(method="prompt")
    return place


DECIDE = """
import sys
import time
from telemetry_kit import disable_telemetry, enable_telemetry
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    {"yes": enable_telemetry, "no": disable_telemetry}[sys.argv[1]]()
"""


# -- one at a time -------------------------------------------------------------------------------


def test_many_at_once(undecided) -> None:
    """Of decisions made at the same moment none is lost, and the last one is in force."""
    words = ["yes", "no"] * 6
    children = [undecided.start(DECIDE, word, "4") for word in words]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    errors = [child.communicate(timeout=120)[1] for child in children]
    entries = consent_history.read(folder(undecided))

    assert errors == [""] * len(words)
    assert sorted(e["decision"] for e in entries) == sorted(words * 4)
    assert consent_history.broken_at(folder(undecided)) is None
    assert consent_history.disagrees(folder(undecided)) is None
    assert undecided.record.read_text().split()[1] == entries[-1]["decision"]
    assert transaction.LOCK not in os.listdir(undecided.home.config)


def test_reset_among_them(undecided) -> None:
    """A reset at the same moment leaves all of a decision or nothing of it."""
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


def test_the_lock(undecided) -> None:
    """It can be read by its user alone, and is gone with the decision."""
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
def test_a_lock_that_stays_held(decided, words: list[str]) -> None:
    """It waits for some time, says so in one sentence, ends with 1, and nothing was decided."""
    before = {p: p.read_bytes() for p in decided.record.parent.iterdir()}
    with transaction.consent_lock(decided.home.config):
        done = decided.run(BUSY, *words)

    assert (done.returncode, done.stdout) == (1, "")
    goes_on = ". Other programs continue to record: set FLOWSPEC_TELEMETRY_DISABLED=1 to stop them"
    assert done.stderr == (
        "telemetry-kit: another process is writing a decision and does not finish"
        f"{goes_on if 'disable' in words else ''}\n"
    )
    assert {p: p.read_bytes() for p in decided.record.parent.iterdir()} == before


@pytest.mark.parametrize(("patience", "waits"), [(0.0, False), (None, True)])
def test_how_long_a_lock_is_waited_for(decided, monkeypatch, patience, waits: bool) -> None:
    """As long as the caller has patience, else as long as everybody."""
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
    """What a killed process left behind holds nobody up, and goes."""
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


def test_a_lock_that_a_child_inherited(decided) -> None:
    """A child that was forked meanwhile and lives on holds nobody up."""
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
    said = child.stdout.readline()
    _, err = child.communicate(timeout=60)

    assert (said, err, child.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
def test_a_lock_that_is_none(decided, kind: str) -> None:
    """Whatever stands in its place never keeps anybody from saying no, and is left alone."""
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
    """Where nothing can be locked it goes on without, and leaves nothing."""
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


# -- a kill in between ---------------------------------------------------------------------------


@pytest.mark.parametrize("decide", ["disable_telemetry", "enable_telemetry"])
@pytest.mark.parametrize("at", [1, 2])
def test_killed_while_deciding(decided, decide: str, at: int) -> None:
    """A kill before either rename leaves the old decision in force and every file whole."""
    before = decided.record.read_bytes()
    entries = len(consent_history.read(folder(decided)))
    done = decided.run(KILLED, decide, str(at))

    assert done.returncode == -signal.SIGKILL
    assert decided.record.read_bytes() == before
    assert consent_history.broken_at(folder(decided)) is None
    assert len(consent_history.read(folder(decided))) == entries + (at == 2)
    with cache.override_runtime(decided.environ):
        disable_telemetry()
    assert audit(decided).returncode == 0


def test_a_decision_in_force_has_its_entry(decided) -> None:
    """The entry is written first: killed in between, a denial counts already, and audit says so."""
    decided.run(KILLED, "disable_telemetry", "2")
    done = audit(decided)

    assert not is_telemetry_enabled()
    assert done.returncode == 1
    assert "is not the last decision of the history" in done.stderr


def test_a_full_disk_decides_nothing(decided, monkeypatch) -> None:
    """Where nothing can be written, nothing is granted, and no half file is left."""
    before = {p.name: p.read_bytes() for p in decided.record.parent.iterdir()}

    def full(*_: object) -> int:
        raise OSError(28, "")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(changes.ConsentError, match="ENOSPC"):
        enable_telemetry()

    assert {p.name: p.read_bytes() for p in decided.record.parent.iterdir()} == before


def test_a_number_that_is_none(decided) -> None:
    """NaN is no JSON: such a line cannot be read, and is told."""
    with file(decided).open("a") as history:
        history.write('{"decision": NaN}\n')

    assert consent_history.broken_at(folder(decided)) == len(
        file(decided).read_bytes().splitlines()
    )
    assert all("id" in entry for entry in consent_history.read(folder(decided)))


def test_a_damaged_record_is_told(decided) -> None:
    """It has no day to name."""
    decided.record.write_bytes(b"nonsense")

    assert consent_history.disagrees(folder(decided)) == (
        "the current record is not valid, so nothing is recorded under it"
    )


def test_a_folder_that_goes_away_before_the_lock(undecided, monkeypatch) -> None:
    """A reset that ends meanwhile takes it along: it is made again, and the lock is held."""
    config = Path(undecided.home.config)
    make, gone = private.make_folder, []

    def once(path: str, *sync: bool) -> None:
        make(path, *sync)
        if not gone:
            gone.append(os.rmdir(path))

    monkeypatch.setattr(private, "make_folder", once)
    with transaction.consent_lock(str(config)):
        assert (config / transaction.LOCK).exists()
    with cache.override_runtime(undecided.environ):
        disable_telemetry()

    assert consent_history.trouble(undecided.home) == []


def test_a_folder_that_goes_away_before_a_file(tmp_path: Path, monkeypatch) -> None:
    """The same while a file is written."""
    make, gone = private.make_folder, []

    def once(path: str, *sync: bool) -> None:
        make(path, *sync)
        if not gone:
            gone.append(os.rmdir(path))

    monkeypatch.setattr(private, "make_folder", once)
    atomic.replace(str(tmp_path / "a" / "b"), b"x")

    assert (tmp_path / "a" / "b").read_bytes() == b"x"
