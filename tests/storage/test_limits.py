"""Sealing deletes expired segments, and the oldest ones above the size limit."""

import fcntl
import gzip
import os
import time
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, maintenance, reader, rotation
from telemetry_kit.storage.writer import LogWriter

pytestmark = pytest.mark.usefixtures("project_directory")

NOW = 1_709_115_630.0  # 2024-02-28
TODAY = "2024-02-28"


def write_segment(
    home: ProjectPaths, day: str, modified: str = "", number: int = 0, size: int = 0
) -> Path:
    """Write a segment of a day and set its time. An even number makes an archive."""
    line = (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode() + os.urandom(size).hex().encode()
    suffix = f"-{number}" if number > 1 else ""
    compressed = number % 2 == 0
    path = Path(home.folder, f"telemetry-{day}{suffix}.jsonl{'.gz' * compressed}")
    path.write_bytes(gzip.compress(line) if compressed else line)
    path.chmod(0o600 if compressed else 0o400)
    at = time.mktime(time.strptime(modified or day, "%Y-%m-%d"))
    os.utime(path, (at, at))
    return path


def expire(home: ProjectPaths, keep_days: int = 90, now: float = NOW) -> limits.MaintenanceResult:
    """Expire segments under the lock and return the result."""
    with rotation.maintenance(home) as folder:
        assert folder is not None
        return limits.expire(home, folder, keep_days, now)


def segment_names(home: ProjectPaths) -> list[str]:
    """Return the names of the segments in the project directory."""
    return sorted(name for name in os.listdir(home.folder) if rotation.SEGMENT.fullmatch(name))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("day", "modified", "is_deleted"),
    [
        ("2023-11-01", "", True),
        ("2023-11-01", "2024-02-20", False),
        ("2024-02-20", "2023-11-01", False),
        ("2023-12-15", "", False),
    ],
    ids=["over", "written to since", "named later", "not yet"],
)
def test_expired_segments_are_deleted(
    home, number: int, day: str, modified: str, is_deleted: bool
) -> None:
    """A segment expires by the later of the day in its name and its modification time."""
    path = write_segment(home, day, modified, number)
    write_segment(home, TODAY)
    done = expire(home)

    assert (is_deleted, not is_deleted, 0) == (
        bool(done.deleted),
        path.exists(),
        done.deleted_for_space,
    )


@pytest.mark.parametrize(("keep_days", "is_deleted"), [(3, True), (400, False)])
def test_the_retention_that_the_user_set(home, keep_days: int, is_deleted: bool) -> None:
    """The caller sets the number of days."""
    path = write_segment(home, "2024-02-20")
    write_segment(home, TODAY)
    expire(home, keep_days)

    assert is_deleted != path.exists()


def test_a_clock_in_2099_deletes_nothing(home) -> None:
    """If the newest earlier segment is more than 400 days old, no segment expires."""
    ahead = time.strftime("%Y-%m-%d", time.gmtime(NOW + 75 * 365 * 86_400))
    for number, day in enumerate(["2023-12-01", "2024-01-15", TODAY, ahead]):
        write_segment(home, day, number=number)
    before = segment_names(home)
    expire(home, now=NOW + 75 * 365 * 86_400)

    assert before == segment_names(home)


def test_a_segment_in_use_is_kept(home) -> None:
    """A suspended program may still write to the segment, so it is kept."""
    path = write_segment(home, "2023-11-01", number=1)
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    expire(home)

    assert path.exists()
    os.close(fd)
    expire(home)
    assert not path.exists()


def test_the_oldest_segments_are_deleted_for_space(home, monkeypatch) -> None:
    """The oldest segments are deleted until the rest fits. The newest is kept at any size."""
    for number, day in enumerate(["2024-02-01", "2024-02-09", "2024-02-10", "2024-02-11"]):
        write_segment(home, day, number=number, size=1_000)
    monkeypatch.setattr(limits, "MAX_BYTES", 4_500)
    done = expire(home)

    assert (2, 2) == (done.deleted_for_space, done.deleted)
    assert ["telemetry-2024-02-10-2.jsonl.gz", "telemetry-2024-02-11-3.jsonl"] == segment_names(
        home
    )
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    done = expire(home)
    assert (1, ["telemetry-2024-02-11-3.jsonl"]) == (done.deleted_for_space, segment_names(home))
    assert 0 == expire(home).deleted_for_space


def test_other_files_are_kept(home) -> None:
    """Links, directories and other files are kept, and do not stop the maintenance."""
    (Path(home.folder) / "telemetry-2023-01-01.jsonl").mkdir()
    Path(home.folder, "telemetry-2023-01-02.jsonl.gz").symlink_to("/etc/hostname")
    Path(home.folder, "notes.txt").write_text("mine")
    expired = write_segment(home, "2023-11-01")
    expire(home)

    assert not expired.exists()
    assert ["telemetry-2023-01-01.jsonl", "telemetry-2023-01-02.jsonl.gz"] == segment_names(home)


def test_a_full_log_deletes_expired_segments(home) -> None:
    """The recorder deletes expired segments even if no command runs for months."""
    expired_day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 100 * 86_400))
    recent = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 20 * 86_400))
    expired, kept = (
        write_segment(home, expired_day, number=1),
        write_segment(home, recent, number=1),
    )
    calls: list[int] = []
    log_writer = LogWriter(
        home, lambda: True, seal_events=20, keep_days=lambda: calls.append(1) or 90
    )
    line = b'{"schema_version":"1.0"' + b"x" * 200 + b"}\n"
    for _ in range(30):
        while not log_writer.append(line):
            pass
    log_writer.close()

    assert (False, True, [1]) == (expired.exists(), kept.exists(), calls)


def test_an_error_in_the_retention_setting(home) -> None:
    """If the retention setting cannot be read, the log is not sealed and no line is lost."""

    def fails() -> int:
        raise OSError("no such place")

    log_writer = LogWriter(home, lambda: True, seal_events=20, keep_days=fails)
    line = b'{"schema_version":"1.0"' + b"x" * 200 + b"}\n"

    assert all(log_writer.append(line) for _ in range(30))
    log_writer.close()
    assert 30 == Path(home.log).read_bytes().count(b"\n")


def test_off_does_not_delete_what_it_just_sealed(home, monkeypatch) -> None:
    """`off` keeps the newest segment at any size."""
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    os.rename(write_segment(home, TODAY, number=1), home.log)
    os.chmod(home.log, 0o600)
    rotation.seal(home, TODAY)
    done = maintenance.maintain(home, 90, TODAY)

    assert (0, 0) == (done.deleted, done.deleted_for_space)
    assert 1 == len(list(reader.read(home)))


MIDNIGHT = 1_709_078_430.0  # 2024-02-28T00:00:30Z


@pytest.mark.parametrize(
    ("day", "is_deleted"),
    [("2023-11-29", True), ("2023-11-30", False), ("2023-01-24", True), ("2023-01-23", False)],
    ids=["91 days", "90 days", "400 days", "401 days"],
)
@pytest.mark.parametrize("now", [MIDNIGHT, NOW])
def test_the_exact_day_of_expiry(home, now: float, day: str, is_deleted: bool) -> None:
    """A segment of 91 days is deleted. After a gap of over 400 days no segment is deleted."""
    path = write_segment(home, day)
    write_segment(home, TODAY)
    expire(home, now=now)

    assert is_deleted != path.exists()


def test_expired_segments_do_not_count(home, monkeypatch) -> None:
    """Expired segments count neither to the size nor to those deleted for space."""
    expired = write_segment(home, "2023-11-01", number=1, size=1_000)
    for number, day in enumerate(["2024-02-09", "2024-02-10", "2024-02-11"]):
        write_segment(home, day, number=number * 2 + 1, size=1_000)
    monkeypatch.setattr(limits, "MAX_BYTES", 5_000)
    done = expire(home)

    assert (2, 1, False) == (done.deleted, done.deleted_for_space, expired.exists())
    assert ["telemetry-2024-02-10-3.jsonl", "telemetry-2024-02-11-5.jsonl"] == segment_names(home)


def test_segments_of_a_day_are_deleted_in_order(home, monkeypatch) -> None:
    """Segments of a day are ordered by number. The one without a number is the first."""
    for number in (10, 1, 2):
        write_segment(home, TODAY, number=number, size=1_000)
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    expire(home)

    assert [f"telemetry-{TODAY}-10.jsonl.gz"] == segment_names(home)


def test_a_segment_that_cannot_be_deleted(home, monkeypatch) -> None:
    """The result names its path, and the other segments are deleted."""
    kept, deleted = (
        write_segment(home, "2023-11-01", number=1),
        write_segment(home, "2023-11-02", number=3),
    )
    write_segment(home, TODAY)
    real = os.unlink

    def fails(name: str, **options: object) -> None:
        if name == kept.name:
            raise PermissionError(1, "")
        real(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "unlink", fails)
    done = expire(home)

    assert [f"{kept} (EPERM)"] == done.failures
    assert (True, False, 1) == (kept.exists(), deleted.exists(), done.deleted)


@pytest.mark.parametrize("same_log", [True, False])
def test_sealing_a_full_log(home, same_log: bool) -> None:
    """The segment is named after the given day. Only the log that was counted is sealed."""
    path = write_segment(home, "2024-02-20", number=1)
    os.rename(path, home.log)
    os.chmod(home.log, 0o600)
    expired = write_segment(home, "2023-11-01", number=1)
    st = os.stat(home.log)
    limits.seal_full(home, (st.st_ino + (not same_log), st.st_dev), 90, NOW)

    expected = ["telemetry-2024-02-28.jsonl"] if same_log else ["telemetry-2023-11-01.jsonl"]
    assert expected == segment_names(home)
    assert same_log != expired.exists()
