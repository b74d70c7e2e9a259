"""Sealing and clearing: only what is ours is touched, and what is sealed stays sealed."""

import os
from pathlib import Path

import pytest

from telemetry_kit.errors import JournalError
from telemetry_kit.home import Home
from telemetry_kit.journal import lease, upkeep
from telemetry_kit.journal.lease import Journal

DAY = "2024-02-28"
LINE = b'{"schema_version":"1.0"}\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home in an empty project."""
    base = Path(os.path.realpath(tmp_path))
    (base / "the-work").mkdir()
    return Home("flowspec", str(base / "the-work"), str(base / "config"), str(base / "state"))


def modes(home: Home) -> dict[str, int]:
    """The mode of each segment, by name."""
    return {p.name: p.stat().st_mode & 0o7777 for p in Path(home.folder).glob("telemetry*")}


@pytest.mark.parametrize("mask", [0o022, 0o277, 0o777])
def test_a_log_sealed_while_it_is_made_stays_sealed(home, monkeypatch, mask: int) -> None:
    """Between making the log and setting its mode it is sealed: the line goes into a new one."""
    real = os.open
    sealed = []

    def slowly(path, flags, *args, **more):
        fd = real(path, flags, *args, **more)
        if path == lease.LOG and flags & os.O_CREAT and not sealed:
            sealed.append(upkeep.seal(home, DAY, 0.0))
        return fd

    monkeypatch.setattr(os, "open", slowly)
    former = os.umask(mask)
    journal = Journal(home, lambda: True)
    try:
        assert journal.append(LINE)
    finally:
        os.umask(former)
        journal.close()

    assert 0o600 == modes(home).pop("telemetry.jsonl")
    assert LINE == Path(home.log).read_bytes()
    assert all(mode == 0o400 for name, mode in modes(home).items() if name != "telemetry.jsonl")


@pytest.mark.parametrize("kind", ["link", "hard link", "folder"])
def test_sealing_changes_nothing_outside(home, tmp_path, kind: str) -> None:
    """Something else under the log's name is not sealed, and what it leads to keeps its mode."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    outside.chmod(0o600)
    os.mkdir(home.folder, 0o700)
    if kind == "link":
        os.symlink(outside, home.log)
    elif kind == "hard link":
        os.link(outside, home.log)
    else:
        os.mkdir(home.log)
    with pytest.raises(JournalError, match="not sealed"):
        upkeep.seal(home, DAY)

    assert 0o600 == outside.stat().st_mode & 0o7777
    assert os.path.lexists(home.log)


def test_a_listing_alone_is_not_believed(home, monkeypatch) -> None:
    """A segment that a listing did not show is not overwritten."""
    journal = Journal(home, lambda: True)
    journal.append(LINE)
    upkeep.seal(home, DAY)
    while not journal.append(LINE):
        pass
    monkeypatch.setattr(os, "listdir", lambda _folder: [])
    upkeep.seal(home, DAY)
    journal.close()

    assert {"telemetry-2024-02-28.jsonl", "telemetry-2024-02-28-2.jsonl"} == set(modes(home))


@pytest.mark.parametrize("mask", [0o000, 0o777])
def test_the_lock_is_private_and_usable(home, mask: int) -> None:
    """Whatever the mask, the lock has mode 0600."""
    os.mkdir(home.folder, 0o700)
    former = os.umask(mask)
    try:
        upkeep.seal(home, DAY)
    finally:
        os.umask(former)

    assert 0o600 == os.stat(home.lock).st_mode & 0o7777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_no_lock_in_somebody_elses_folder(home) -> None:
    """Maintenance of a foreign folder is refused, and nothing is made in it."""
    os.mkdir(home.folder, 0o700)
    os.chown(home.folder, 65_534, 65_534)
    with pytest.raises(JournalError, match="belongs to another user"):
        upkeep.seal(home, DAY)

    assert [] == os.listdir(home.folder)


def test_a_closed_journal_keeps_no_lease(home) -> None:
    """Closing gives back the lease of a log that was sealed since, too."""
    journal = Journal(home, lambda: True)
    journal.append(LINE)
    count = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    upkeep.seal(home, DAY)
    journal.close()

    assert not count or count - 1 == len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("failing", [True, False])
def test_an_unfinished_ignore_file_is_finished(home, failing: bool) -> None:
    """An empty ignore file, left by a process that died, is written before the log is made."""
    os.mkdir(home.folder, 0o700)
    Path(home.ignore).write_bytes(b"" if failing else b"theirs\n")
    journal = Journal(home, lambda: True)
    journal.append(LINE)
    journal.close()

    assert (lease.IGNORE if failing else b"theirs\n") == Path(home.ignore).read_bytes()
