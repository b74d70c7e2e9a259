"""Sealing lets segments go whose time is over, and the oldest of too many."""

import fcntl
import gzip
import os
import time
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, maintenance, reader, rotation
from telemetry_kit.storage.writer import LogWriter

NOW = 1_709_115_630.0  # 2024-02-28
TODAY = "2024-02-28"


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """With an empty folder of ours."""
    os.mkdir(home.folder, 0o700)
    return home


def put(home: ProjectPaths, day: str, changed: str = "", number: int = 0, size: int = 0) -> Path:
    """A segment of a day, last written to on that or another one; packed with an even number."""
    line = (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode() + os.urandom(size).hex().encode()
    more = f"-{number}" if number > 1 else ""
    packed = number % 2 == 0
    path = Path(home.folder, f"telemetry-{day}{more}.jsonl{'.gz' * packed}")
    path.write_bytes(gzip.compress(line) if packed else line)
    path.chmod(0o600 if packed else 0o400)
    at = time.mktime(time.strptime(changed or day, "%Y-%m-%d"))
    os.utime(path, (at, at))
    return path


def tidied(home: ProjectPaths, keep_days: int = 90, now: float = NOW) -> limits.MaintenanceResult:
    with rotation.maintenance(home) as folder:
        assert folder is not None
        return limits.expire(home, folder, keep_days, now)


def left(home: ProjectPaths) -> list[str]:
    return sorted(name for name in os.listdir(home.folder) if rotation.SEGMENT.fullmatch(name))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("day", "changed", "goes"),
    [
        ("2023-11-01", "", True),
        ("2023-11-01", "2024-02-20", False),
        ("2024-02-20", "2023-11-01", False),
        ("2023-12-15", "", False),
    ],
    ids=["over", "written to since", "named later", "not yet"],
)
def test_what_is_over_goes(home, number: int, day: str, changed: str, goes: bool) -> None:
    """By the day in its name and that of its last change, packed or not."""
    path = put(home, day, changed, number)
    put(home, TODAY)
    done = tidied(home)

    assert (goes, not goes, 0) == (bool(done.deleted), path.exists(), done.deleted_for_space)


@pytest.mark.parametrize(("keep_days", "goes"), [(3, True), (400, False)])
def test_as_long_as_the_user_said(home, keep_days: int, goes: bool) -> None:
    """The number of days is given."""
    path = put(home, "2024-02-20")
    put(home, TODAY)
    tidied(home, keep_days)

    assert goes != path.exists()


def test_a_clock_in_2099_deletes_nothing(home) -> None:
    """400 days after the newest segment of an earlier day nothing is over."""
    ahead = time.strftime("%Y-%m-%d", time.gmtime(NOW + 75 * 365 * 86_400))
    for number, day in enumerate(["2023-12-01", "2024-01-15", TODAY, ahead]):
        put(home, day, number=number)
    before = left(home)
    tidied(home, now=NOW + 75 * 365 * 86_400)

    assert before == left(home)


def test_one_that_is_held_stays(home) -> None:
    """A sleeping program may write to it yet."""
    path = put(home, "2023-11-01", number=1)
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    tidied(home)

    assert path.exists()
    os.close(fd)
    tidied(home)
    assert not path.exists()


def test_the_oldest_go_for_the_newer(home, monkeypatch) -> None:
    """Until the rest fits; the newest stays, however large it is."""
    for number, day in enumerate(["2024-02-01", "2024-02-09", "2024-02-10", "2024-02-11"]):
        put(home, day, number=number, size=1_000)
    monkeypatch.setattr(limits, "MAX_BYTES", 4_500)
    done = tidied(home)

    assert (2, 2) == (done.deleted_for_space, done.deleted)
    assert ["telemetry-2024-02-10-2.jsonl.gz", "telemetry-2024-02-11-3.jsonl"] == left(home)
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    done = tidied(home)
    assert (1, ["telemetry-2024-02-11-3.jsonl"]) == (done.deleted_for_space, left(home))
    assert 0 == tidied(home).deleted_for_space


def test_what_is_no_segment_stays(home) -> None:
    """Links, folders and files of others are not touched, and stop nothing."""
    (Path(home.folder) / "telemetry-2023-01-01.jsonl").mkdir()
    Path(home.folder, "telemetry-2023-01-02.jsonl.gz").symlink_to("/etc/hostname")
    Path(home.folder, "notes.txt").write_text("mine")
    over = put(home, "2023-11-01")
    tidied(home)

    assert not over.exists()
    assert ["telemetry-2023-01-01.jsonl", "telemetry-2023-01-02.jsonl.gz"] == left(home)


def test_a_full_log_takes_what_is_over_with_it(home) -> None:
    """A program that records lets go what is over, though no command was run for months."""
    old = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 100 * 86_400))
    young = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 20 * 86_400))
    over, stays = put(home, old, number=1), put(home, young, number=1)
    asked: list[int] = []
    journal = LogWriter(home, lambda: True, seal_events=20, keep_days=lambda: asked.append(1) or 90)
    line = b'{"schema_version":"1.0"' + b"x" * 200 + b"}\n"
    for _ in range(30):
        while not journal.append(line):
            pass
    journal.close()

    assert (False, True, [1]) == (over.exists(), stays.exists(), asked)


def test_retention_that_cannot_be_told_hurts_nobody(home) -> None:
    """The log is not sealed then, and every line is on file."""

    def fails() -> int:
        raise OSError("no such place")

    journal = LogWriter(home, lambda: True, seal_events=20, keep_days=fails)
    line = b'{"schema_version":"1.0"' + b"x" * 200 + b"}\n"

    assert all(journal.append(line) for _ in range(30))
    journal.close()
    assert 30 == Path(home.log).read_bytes().count(b"\n")


def test_off_does_not_delete_what_it_just_sealed(home, monkeypatch) -> None:
    """However large the log was: the newest segment stays."""
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    os.rename(put(home, TODAY, number=1), home.log)
    os.chmod(home.log, 0o600)
    rotation.seal(home, TODAY)
    done = maintenance.maintain(home, 90, TODAY)

    assert (0, 0) == (done.deleted, done.deleted_for_space)
    assert 1 == len(list(reader.read(home)))


MIDNIGHT = 1_709_078_430.0  # 2024-02-28T00:00:30Z


@pytest.mark.parametrize(
    ("day", "goes"),
    [("2023-11-29", True), ("2023-11-30", False), ("2023-01-24", True), ("2023-01-23", False)],
    ids=["91 days", "90 days", "400 days", "401 days"],
)
@pytest.mark.parametrize("now", [MIDNIGHT, NOW])
def test_to_the_day(home, now: float, day: str, goes: bool) -> None:
    """What is 90 days old stays, what is 400 days old is in no doubt yet."""
    path = put(home, day)
    put(home, TODAY)
    tidied(home, now=now)

    assert goes != path.exists()


def test_what_is_over_makes_room(home, monkeypatch) -> None:
    """It does not count among those that are too much, and those are counted without it."""
    over = put(home, "2023-11-01", number=1, size=1_000)
    for number, day in enumerate(["2024-02-09", "2024-02-10", "2024-02-11"]):
        put(home, day, number=number * 2 + 1, size=1_000)
    monkeypatch.setattr(limits, "MAX_BYTES", 5_000)
    done = tidied(home)

    assert (2, 1, False) == (done.deleted, done.deleted_for_space, over.exists())
    assert ["telemetry-2024-02-10-3.jsonl", "telemetry-2024-02-11-5.jsonl"] == left(home)


def test_the_first_of_a_day_goes_first(home, monkeypatch) -> None:
    """By its number: the one without is the first, and the tenth comes after the second."""
    for number in (10, 1, 2):
        put(home, TODAY, number=number, size=1_000)
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    tidied(home)

    assert [f"telemetry-{TODAY}-10.jsonl.gz"] == left(home)


def test_what_could_not_be_deleted_is_named(home, monkeypatch) -> None:
    """With its path, and the others go all the same."""
    kept, gone = put(home, "2023-11-01", number=1), put(home, "2023-11-02", number=3)
    put(home, TODAY)
    real = os.unlink

    def fails(name: str, **more: object) -> None:
        if name == kept.name:
            raise PermissionError(1, "")
        real(name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", fails)
    done = tidied(home)

    assert [f"{kept} (EPERM)"] == done.failures
    assert (True, False, 1) == (kept.exists(), gone.exists(), done.deleted)


@pytest.mark.parametrize("ours", [True, False])
def test_sealing_a_full_log(home, ours: bool) -> None:
    """It is named after the day it is told, and only the log that was counted is sealed."""
    path = put(home, "2024-02-20", number=1)
    os.rename(path, home.log)
    os.chmod(home.log, 0o600)
    over = put(home, "2023-11-01", number=1)
    st = os.stat(home.log)
    limits.seal_full(home, (st.st_ino + (not ours), st.st_dev), 90, NOW)

    expected = ["telemetry-2024-02-28.jsonl"] if ours else ["telemetry-2023-11-01.jsonl"]
    assert expected == left(home)
    assert ours != over.exists()
