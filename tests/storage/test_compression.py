"""The reader of archives: cut, damaged, too large, and of each codec."""

import gzip
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import telemetry_kit
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, reader
from telemetry_kit.storage.segments import ReadReport
from tests.storage.reader_helpers import (
    DAY,
    PACKED,
    event,
    ids,
    line,
    put,
    read,
    zstd,
    zstd_packed,
)

PACKAGE = Path(telemetry_kit.__file__).parent


@pytest.fixture
def home(home: ProjectPaths) -> ProjectPaths:
    """With an empty folder of ours."""
    os.mkdir(home.folder, 0o700)
    return home


by_packing = pytest.mark.parametrize("ending", PACKED)


@by_packing
def test_concatenated_archives(home, ending):
    """Members behind each other, with padding, are one file; a line may cross them."""
    data = line(1) + line(2)
    packed = [PACKED[ending](part) for part in (data[:100], data[100:], b"", line(3))]
    put(home, b"\0\0".join(packed) + b"\0" * 600, f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == []


@by_packing
def test_a_truncated_archive_at_every_offset(home, ending):
    """A cut archive gives the events before the cut, and says that it is cut."""
    name = f"telemetry-{DAY}.jsonl.{ending}"
    packed = PACKED[ending](b"".join(line(number) for number in range(20)))
    for at in range(1, len(packed)):
        put(home, packed[:at], name)
        events, problems = read(home)

        assert ids(events) == list(range(len(events)))
        assert problems.sentences() != []


@by_packing
def test_an_archive_with_flipped_bits(home, ending):
    """What a damaged archive gives is what was packed, or is said to be damaged."""
    name = f"telemetry-{DAY}.jsonl.{ending}"
    whole = [event(number) for number in range(3)]
    packed = PACKED[ending](b"".join(line(number) for number in range(3)))
    for at in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[at] ^= 1 << bit
            put(home, bytes(flipped), name)
            events, problems = read(home)

            assert events == whole or problems.sentences()


@by_packing
def test_an_archive_longer_than_a_piece(home, ending):
    """Lines that fill many pieces of what is unpacked at once come out whole."""
    put(home, PACKED[ending](b"".join(map(line, range(5_000)))), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == list(range(5_000))
    assert problems.sentences() == []


@by_packing
def test_garbage_behind_an_archive(home, ending):
    """What follows an archive and is none is a problem; the events before it are read."""
    put(home, PACKED[ending](line(1)) + b"garbage", f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1]
    assert len(problems.sentences()) == 1


@by_packing
def test_noise_for_an_archive(home, ending):
    """Bytes that never were an archive are a problem of that file alone."""
    put(home, os.urandom(1_000), f"telemetry-{DAY}.jsonl.{ending}")
    put(home, line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert len(problems.sentences()) == 1


def test_an_archive_that_this_python_cannot_read(home):
    """Without any zstd, an archive of it is named with what to do; the rest is read."""
    name = f"telemetry-{DAY}.jsonl.zst"
    packed = zstd_packed(line(1))
    put(home, packed, name)
    put(home, line(2))
    # Without the backport, and below the version that has its own.
    hide = 'import sys\nsys.version_info = (3, 13)\nsys.modules["backports.zstd"] = None\n'
    done = subprocess.run(
        [sys.executable, "-c", hide + _MEASURED, home.root],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
    )
    events, _, said = done.stdout.rstrip().split(" ", 2)

    assert events == "1"
    assert said == (
        f"{name}: it is compressed with zstd, which this Python cannot read: "
        "use Python 3.14 or later, or install backports.zstd"
    )
    assert Path(home.folder, name).read_bytes() == packed


def test_no_module_of_the_host_unpacks(home, tmp_path, monkeypatch):
    """Where the interpreter has no zstd, a host's own `compression` is not loaded."""
    (tmp_path / "compression.py").write_text("raise SystemExit('loaded')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13))
    put(home, zstd_packed(line(1)), f"telemetry-{DAY}.jsonl.zst")
    monkeypatch.setattr(compression, "READING", ("compression.zstd",))
    events, problems = read(home)

    assert events == []
    assert "compressed with zstd" in problems.sentences()[0]


@by_packing
def test_a_bomb_is_left_unread(home, ending):
    """An archive that unpacks to far more than it should is left where that is certain."""
    bomb = PACKED[ending](line(1) + b"\n" * (20 << 20))
    put(home, bomb, f"telemetry-{DAY}.jsonl.{ending}")
    put(home, line(2))
    events, problems = read(home)

    assert ids(events) == [1, 2]
    assert len(bomb) < 100_000
    told = "it is larger than an archive may be: the rest was not read"
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl.{ending}: {told}"]


@by_packing
def test_an_archive_has_a_largest_size(home, monkeypatch, ending):
    """Also at a modest ratio."""
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 6 << 20)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(150_000))
    put(home, PACKED[ending](line(1) + noise), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1]
    assert "it is larger than an archive may be" in problems.sentences()[0]


@pytest.mark.parametrize("packed", [b"X", b"\x1f\x8b", zlib.compress(line(2))], ids=len)
def test_what_is_no_member_of_an_archive(home, packed):
    """Alone and behind a whole member: only gzip is taken for gzip, and the rest is a problem."""
    put(home, packed, f"telemetry-{DAY}.jsonl.gz")
    put(home, gzip.compress(line(1)) + packed, f"telemetry-{DAY}-2.jsonl.gz")
    events, problems = read(home)

    assert ids(events) == [1]
    damaged = "the archive is damaged: events before the damage may be wrong, later ones are lost"
    assert {report.stopped for report in problems.files.values()} <= {
        damaged,
        "the archive is incomplete: the rest is lost",
    }
    assert (damaged in str(problems.sentences())) == (len(packed) > 2)
    assert len(problems.sentences()) == 2


@by_packing
def test_much_padding_between_members(home, ending):
    """More than is read at once: the member behind it is read all the same."""
    members = PACKED[ending](line(1)), PACKED[ending](line(2))
    put(home, (b"\0" * 200_000).join(members), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert (ids(events), problems.sentences()) == ([1, 2], [])


@by_packing
def test_an_event_behind_much_that_packs_to_nothing(home, ending):
    """What a decompressor holds back is fetched to the last byte."""
    blank = b"\n" * ((4 << 20) - len(line(1)))
    put(home, PACKED[ending](blank + line(1)), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert (ids(events), problems.sentences()) == ([1], [])


@by_packing
def test_all_of_an_archive_is_weighed(home, monkeypatch, ending):
    """How much came out is compared with all that went in, not with the last piece of it."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 4)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(6_000))
    put(home, PACKED[ending](line(1) + noise + line(2)), f"telemetry-{DAY}.jsonl.{ending}")
    events, problems = read(home)

    assert ids(events) == [1, 2]
    assert "it is larger than an archive may be" not in problems.sentences()[0]


def test_the_limits_of_an_archive():
    """5 MiB are free; above that 200 times what was read, and 256 MiB, may just be reached."""
    free, most = 5 << 20, 256 << 20

    assert not compression.is_bomb(1, free)
    assert compression.is_bomb(1, free + 1)
    assert not compression.is_bomb(free, 200 * free // 200)
    assert not compression.is_bomb(100_000, 20_000_000)
    assert compression.is_bomb(100_000, 20_000_001)
    assert not compression.is_bomb(most, most)
    assert compression.is_bomb(most, most + 1)


def test_an_archive_that_becomes_a_link(home, tmp_path):
    """Between the listing and its turn: it is not followed, and said to be unreadable."""
    put(home, line(1), "telemetry-2026-11-21.jsonl")
    path = put(home, gzip.compress(line(2)), f"telemetry-{DAY}.jsonl.gz")
    problems = ReadReport()
    events = reader.read(home, problems)
    first = next(events)
    os.rename(path, tmp_path / "moved")
    os.symlink(tmp_path / "moved", path)

    assert ids([first, *events]) == [1]
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl.gz: it cannot be read (ELOOP)"]


_MEASURED = """
import resource, sys
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import reader
from telemetry_kit.storage.segments import ReadReport
home = ProjectPaths("flowspec", sys.argv[1], "/none", "/none")
def peak():
    unit = 1 if sys.platform == "linux" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
before = peak()
problems = ReadReport()
events = sum(1 for _ in reader.read(home, problems))
print(events, peak() - before, "|".join(problems.sentences()))
"""


def put_bomb(path, kind):
    """An event, and behind it 100 MB; or a frame that asks for a window of 128 MB."""
    window = {zstd.CompressionParameter.window_log: 27 if kind == "large window" else 21}
    if kind == "gzip bomb":
        opened = gzip.open(f"{path}.gz", "wb", 1)  # noqa: SIM115
    else:
        opened = zstd.open(f"{path}.zst", "wb", options=window)
    with opened as packed:
        packed.write(line(1))
        packed.writelines(b"x" * (1 << 20) for _ in range(100))


@pytest.mark.parametrize("kind", ["line", "nuls", "gzip bomb", "zstd bomb", "large window"])
def test_memory_is_bounded(home, kind):
    """A line of 100 MB, a hole of 100 MB and a bomb cost a few MB and no event."""
    name = f"telemetry-{DAY}.jsonl"
    if kind not in ("line", "nuls"):
        put_bomb(f"{home.folder}/{name}", kind)
    else:
        with open(f"{home.folder}/{name}", "wb") as file:
            file.write(line(1))
            if kind == "line":
                file.writelines(b"x" * (1 << 20) for _ in range(100))
            else:
                file.seek(100 << 20)
            file.write(b"\n" + line(2))
    put(home, line(3))
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, home.root],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
    )
    events, kilobytes, *said = done.stdout.split()

    # Of a frame that asks for too much not even the beginning is unpacked.
    assert int(events) == (1 if kind == "large window" else 2 if "bomb" in kind else 3)
    assert int(kilobytes) < 24 * 1024
    assert (said == []) == (kind == "nuls")
