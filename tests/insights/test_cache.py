"""The count cache gives the same counts as counting anew, after any change of the files."""

import contextlib
import errno
import gc
import gzip
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
import written
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_kit.cli.count_cache import keep
from telemetry_kit.insights import cache, counting
from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.counting import count
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import newest
from telemetry_kit.paths import find
from telemetry_kit.storage import maintenance, reader, rotation
from telemetry_kit.storage.segments import ACTIVE, FileReport, ReadReport, snapshot

TODAY = "2026-11-23"
DAMAGE = (
    b"nonsense\n",
    b'{"schema_version":"1.0","event_id":"',
    b"\0" * 300 + b"\n",
    b"\n" * 50,
    b"x" * (2 << 20) + b"\n",
    b"\xef\xbb\xbf",
)
CHANGES = st.lists(
    st.sampled_from(
        [
            *("write", "write", *DAMAGE, "seal", "pack", "before", "forget", "look", "edit"),
            *("paste", "copy", "restore", "restore-sealed"),
        ]
    ),
    max_size=14,
)


def compare(home):
    """Compare a count with the cache with one without it, and save the cache."""
    expected = count(home, Query())
    seen = cache.count_log(home)

    assert expected.counters == seen.counters
    assert expected.problems.sentences() == seen.problems.sentences()
    keep(home, seen)


def change_log(home, step, number):
    """Change the log in one way."""
    log = Path(home.log)
    if step == "write":
        day = f"2026-{1 + number % 11:02d}-10T00:00:00Z"
        events = [
            written.stored(
                1_000 * number + n,
                role=("dev", "qa")[n % 2],
                timestamp=day,
                session_id=f"{number % 3 * 25 + n:012x}",
            )
            for n in range(30)
        ]
        written.fill(home, *events)
    elif step in DAMAGE:
        written.fill(home)
        with log.open("ab") as file:
            file.write(step)
    elif step == "seal":
        rotation.seal(home, TODAY)
    elif step == "pack":
        maintenance.maintain(home, 3_650, TODAY)
    elif step == "before":
        maintenance.rewrite(home, maintenance.keep_since("2026-04-01"), TODAY)
    elif step == "forget":
        maintenance.rewrite(home, lambda line: b'"role":"qa"' not in line, TODAY)
    elif step == "edit" and log.exists():
        log.write_bytes(log.read_bytes().replace(b'"role":"dev"', b'"role":"ops"'))
    elif step == "look":
        compare(home)
    elif step == "paste" and log.exists():
        for path in (log, *Path(home.folder).glob("telemetry-2*.jsonl")):
            written.fill(home)
            with log.open("ab") as file:
                file.write(path.read_bytes())
    elif step == "copy" and log.exists():
        shutil.copy(log, Path(home.folder, "copy"))
    elif step.startswith("restore") and Path(home.folder, "copy").exists():
        target = log if step == "restore" else Path(home.folder, f"telemetry-{TODAY}-7.jsonl")
        target.unlink(missing_ok=True)
        shutil.copy(Path(home.folder, "copy"), target)


def stored_events(home):
    """Return the first of the events with the same ID, from all bytes of all files."""
    found = {}
    with snapshot(home, ReadReport()) as sources:
        for source in sources:
            kind = source.segment.kind
            for event in reader.events_in(
                source.chunks(FileReport()), FileReport(), kind == ACTIVE
            ):
                found.setdefault(event["event_id"], event)
    return list(found.values())


@settings(max_examples=40)
@given(CHANGES)
def test_the_cache_equals_a_full_count(steps):
    """The counts are right after each order of changes, such as damage, rotation and deletion."""
    with tempfile.TemporaryDirectory() as base:
        root, user = Path(base, "work"), Path(base, "user")
        root.mkdir()
        user.mkdir()
        home = find("flowspec", str(root), {"HOME": str(user)})
        former, cache.MIN_NEWS = cache.MIN_NEWS, 1
        try:
            for number, step in enumerate(["write", *steps]):
                change_log(home, step, number)
            compare(home)
            compare(home)
            expected = stored_events(home)
            assert expected == list(reader.read(home))
            assert expected == list(newest(home, 10**9, Query(), ReadReport()))[::-1]
            counters = written.counted_with_sessions(expected)
            counters.count_malformed(cache.count_log(home).problems.malformed)
            assert counters == cache.count_log(home).counters
        finally:
            cache.MIN_NEWS = former


@pytest.fixture
def home(place):
    """A log with a count cache."""
    written.fill(place.home, *written.sessions(3_000))

    assert keep(place.home, cache.count_log(place.home))
    return place.home


def test_the_cache_is_private(home):
    """Other users cannot read the cache, and no temporary file is left beside it."""
    path = Path(home.folder, cache.NAME)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [name for name in os.listdir(home.folder) if name.endswith(".tmp")]


def test_the_second_count_reads_only_new_bytes(home, monkeypatch):
    """The bytes in the cache are not counted again."""
    seen = []
    real = cache.count_file

    def watched(source, wanted, begin):
        seen.append(begin)
        return real(source, wanted, begin)

    monkeypatch.setattr(cache, "count_file", watched)
    size = Path(home.log).stat().st_size
    first = cache.count_log(home)
    written.fill(home, written.stored(9_999_999))
    second = cache.count_log(home)

    assert [size] == seen
    assert (first.cache_lines, second.cache_lines) == (None, None)
    assert second.counters.total("events") == first.counters.total("events") + 1


def test_many_files_take_little_memory(place, monkeypatch):
    """For any number of files, only the sum is in memory as counters. Each file is text."""
    home = place.home
    for number in range(12):
        written.fill(home, written.stored(number))
        rotation.seal(home, TODAY)
    monkeypatch.setattr(cache, "MIN_NEWS", 1)
    real, seen = cache.CachedCounting.lines, []

    def lines(self, entries):
        gc.collect()
        seen.append(sum(isinstance(one, Counters) for one in gc.get_objects()))
        return real(self, entries)

    monkeypatch.setattr(cache.CachedCounting, "lines", lines)

    assert cache.count_log(home).counters.total("events") == 12
    assert seen[0] < 12


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-40],
        lambda data: data.replace(b"dev", b"sec"),
        lambda data: b"",
        lambda data: b"{}\n",
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'"version":%d' % cache.VERSION, b'"version":99'),
        lambda data: b"\xff" + data,
        lambda data: data.replace(b'"files":[[', b'"files":[[0,'),
        lambda data: data.partition(b"\n")[2],
        lambda data: b"9" * 5_000 + b"\n" + data,
    ],
    ids=["cut", "other", "empty", "braces", "deep", "version", "byte", "shape", "headless", "sum"],
)
def test_a_damaged_cache_is_ignored(home, change):
    """Damage of the cache does not change the counts."""
    path = Path(home.folder, cache.NAME)
    path.write_bytes(change(path.read_bytes()))

    compare(home)


def test_a_forged_head_is_ignored(home):
    """The checksum includes the counts of malformed lines, the sizes and the times."""
    path = Path(home.folder, cache.NAME)
    data = path.read_bytes()
    forged = data.replace(b",[0,0,0,0]]", b",[7,0,0,0]]", 1)
    path.write_bytes(forged)

    assert forged != data
    compare(home)


def test_a_cache_of_an_older_version_is_replaced(home, monkeypatch):
    """The cache of an earlier release is ignored and replaced."""
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    seen = cache.count_log(home)

    assert seen.cache_lines is not None
    assert keep(home, seen)
    assert cache.count_log(home).cache_lines is None


def edited(path, at, text):
    """Change bytes of a file in place, and restore its time."""
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(text)
    path.chmod(stat.S_IMODE(before.st_mode))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("kind", ["active", "sealed"])
@pytest.mark.parametrize("more", [False, True], ids=["as-long", "longer"])
def test_a_change_in_the_middle_is_seen(home, kind, more):
    """All bytes are compared: the length, the inode and the time may be unchanged."""
    path = Path(home.log)
    if kind == "sealed":
        rotation.seal(home, TODAY)
        path = next(Path(home.folder).glob("telemetry-2*.jsonl"))
        compare(home)
    data = path.read_bytes()
    edited(path, data.index(b'"role":"dev"', len(data) // 2), b'"role":"ops"')
    if more and kind == "active":
        written.fill(home, written.stored(9_999_999))

    compare(home)


@pytest.mark.parametrize("kind", ["active", "sealed"])
def test_a_change_in_the_middle_of_a_very_large_log(home, kind, monkeypatch):
    """The times of a very large file are compared while its size is unchanged."""
    monkeypatch.setattr(cache, "_COMPARED_BYTES", 10_000)
    monkeypatch.setattr(cache, "_END_BYTES", 1_000)
    path = Path(home.log)
    if kind == "sealed":
        rotation.seal(home, TODAY)
        path = next(Path(home.folder).glob("telemetry-2*.jsonl"))
    compare(home)
    keep(home, cache.count_log(home))
    entries, *_ = cache.load(Path(home.folder, cache.NAME).read_bytes())
    data = path.read_bytes()
    edited(path, data.index(b'"role":"dev"', len(data) // 2), b'"role":"ops"')

    assert entries
    compare(home)


def test_a_change_in_an_archive_is_seen(home):
    """The change time is compared: the size, the time and the inode may be unchanged."""
    rotation.seal(home, TODAY)
    maintenance.maintain(home, 36_500, TODAY)
    path = next(Path(home.folder).glob("telemetry-2*.gz"))
    data = gzip.decompress(path.read_bytes()).replace(b'"role":"dev"', b'"role":"ops"')
    compressed = gzip.compress(data, 1)
    path.write_bytes(compressed)
    compare(home)
    again = gzip.compress(data.replace(b'"role":"ops"', b'"role":"dev"'), 1)
    edited(path, 0, again.ljust(len(compressed), b"\0")[: len(compressed)])

    compare(home)


@given(st.lists(st.integers(0, 3), min_size=60, max_size=60))
@settings(max_examples=15)
def test_any_split_is_the_same(parts):
    """Counters of any parts of a log, stored and read again, merge into those of the log."""
    events = list(written.sessions(60))
    counters = [Counters() for _ in range(4)]
    for part, event in zip(parts, events, strict=False):
        counters[part].add(event)
    merged = Counters()
    for part in counters:
        merged.merge(Counters.from_dict(json.loads(json.dumps(part.to_dict()))))

    assert written.counted(events[: len(parts)]) == merged


def test_a_cache_that_others_can_write_is_ignored(home):
    """A cache that other users can write is ignored and replaced."""
    path = Path(home.folder, cache.NAME)
    path.chmod(0o644)
    compare(home)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_deleted_events_do_not_return(home):
    """A cache that was counted before `clear` is not saved after it."""
    seen = cache.count_log(home)
    rotation.clear(home)

    assert not keep(home, seen)
    assert not Path(home.folder, cache.NAME).exists()


def test_an_empty_log_has_no_cache(undecided):
    """Without events, no cache is saved."""
    seen = cache.count_log(undecided.home)

    assert (None, False) == (seen.cache_lines, keep(undecided.home, seen))
    assert undecided.tree() == []


@pytest.fixture
def three_files(place):
    """A log of 900 events in three files, one of them an archive."""
    for _ in range(2):
        written.fill(place.home, *written.sessions(300))
        rotation.seal(place.home, TODAY)
        maintenance.maintain(place.home, 3_650, TODAY)
    written.fill(place.home, *written.sessions(300))
    return place.home


def test_files_that_cannot_be_read_are_reported(three_files, monkeypatch):
    """The result names each file with the reason, and no file stays open."""
    real_snapshot, real_open = counting.snapshot, os.open

    def full(path, *given, **more):
        if str(path).startswith("telemetry"):
            raise OSError(errno.EMFILE, "too many")
        return real_open(path, *given, **more)

    @contextlib.contextmanager
    def opened(*given, **named):
        with real_snapshot(*given, **named) as sources, pytest.MonkeyPatch.context() as patch:
            for source in sources:
                source.close()
            patch.setattr(os, "open", full)
            yield sources

    before = os.listdir("/dev/fd")
    monkeypatch.setattr(counting, "snapshot", opened)
    counted = count(three_files, Query())
    sentences = counted.problems.sentences()

    assert counted.counters.total("events") == 0
    assert all("EMFILE" in sentence for sentence in sentences)
    assert len(sentences) == 3
    assert before == os.listdir("/dev/fd")


def test_every_role_is_reported(three_files):
    """The result names the roles, also if all events count."""
    assert set(written.ROLES) <= count(three_files, Query()).roles


def test_sessions_are_counted_once(place, monkeypatch):
    """A session in several files is one session, also after one of these was deleted."""
    home = place.home
    monkeypatch.setattr(cache, "MIN_NEWS", 1)
    for number, sessions in enumerate((range(30), range(10, 60), range(50, 70))):
        events = [written.stored(n, session_id=f"{n:012x}") for n in sessions]
        written.fill(home, *events, written.stored(99, "role.selected", role="dev"))
        if number < 2:
            rotation.seal(home, TODAY)
        compare(home)
    written.fill(home, *[written.stored(n, session_id=f"{n:012x}") for n in (3, 55, 65, 90)])
    compare(home)
    found = [cache.count_log(home).counters.total("sessions")]
    next(Path(home.folder).glob("telemetry-2*-2.jsonl")).unlink()
    compare(home)
    found.append(cache.count_log(home).counters.total("sessions"))

    assert [71 + 3, 30 + 20 + 1 + 2] == found
