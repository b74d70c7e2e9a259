"""Read archives of each codec, including damaged, truncated and very large ones."""

import gzip
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import telemetry_kit
from telemetry_kit.storage import compression, reader
from telemetry_kit.storage.segments import ReadReport
from tests.storage.reader_helpers import (
    COMPRESS,
    DAY,
    compress_zstd,
    event,
    ids,
    line,
    read,
    write_file,
    zstd,
)

pytestmark = pytest.mark.usefixtures("project_directory")

PACKAGE = Path(telemetry_kit.__file__).parent


each_codec = pytest.mark.parametrize("suffix", COMPRESS)


@each_codec
def test_concatenated_archives(home, suffix):
    """Concatenated members with padding are read as one file. A line may span two members."""
    data = line(1) + line(2)
    compressed = [COMPRESS[suffix](part) for part in (data[:100], data[100:], b"", line(3))]
    write_file(home, b"\0\0".join(compressed) + b"\0" * 600, f"telemetry-{DAY}.jsonl.{suffix}")
    events, problems = read(home)

    assert ids(events) == [1, 2, 3]
    assert problems.sentences() == []


@each_codec
def test_a_truncated_archive_at_every_offset(home, suffix):
    """A truncated archive yields the events before the cut, and the report names the file."""
    name = f"telemetry-{DAY}.jsonl.{suffix}"
    compressed = COMPRESS[suffix](b"".join(line(number) for number in range(20)))
    for at in range(1, len(compressed)):
        write_file(home, compressed[:at], name)
        events, problems = read(home)

        assert ids(events) == list(range(len(events)))
        assert problems.sentences() != []


@each_codec
def test_an_archive_with_flipped_bits(home, suffix):
    """A damaged archive yields the original events, or the report says that it is damaged."""
    name = f"telemetry-{DAY}.jsonl.{suffix}"
    whole = [event(number) for number in range(3)]
    compressed = COMPRESS[suffix](b"".join(line(number) for number in range(3)))
    for at in range(len(compressed)):
        for bit in range(8):
            flipped = bytearray(compressed)
            flipped[at] ^= 1 << bit
            write_file(home, bytes(flipped), name)
            events, problems = read(home)

            assert events == whole or problems.sentences()


@each_codec
@pytest.mark.parametrize("count", [1, 300, 3_000])
def test_an_archive_with_a_wrong_checksum(home, suffix, count):
    """All events are read, whichever byte of the checksum is wrong, and the file is reported."""
    name = f"telemetry-{DAY}.jsonl.{suffix}"
    compressed = COMPRESS[suffix](b"".join(map(line, range(count))))
    for at in range(-8 if suffix == "gz" else -4, 0):
        wrong = bytearray(compressed)
        wrong[at] ^= 1
        write_file(home, bytes(wrong), name)
        events, problems = read(home)

        assert ids(events) == list(range(count))
        assert [name] == [file for file, report in problems.files.items() if report.stopped]


@each_codec
def test_an_archive_longer_than_a_chunk(home, suffix):
    """Lines that span several decompressed chunks are read whole."""
    write_file(
        home, COMPRESS[suffix](b"".join(map(line, range(5_000)))), f"telemetry-{DAY}.jsonl.{suffix}"
    )
    events, problems = read(home)

    assert ids(events) == list(range(5_000))
    assert problems.sentences() == []


@each_codec
def test_garbage_after_an_archive(home, suffix):
    """Garbage after an archive is a problem. The events before it are read."""
    write_file(home, COMPRESS[suffix](line(1)) + b"garbage", f"telemetry-{DAY}.jsonl.{suffix}")
    events, problems = read(home)

    assert ids(events) == [1]
    assert len(problems.sentences()) == 1


@each_codec
def test_random_bytes_as_an_archive(home, suffix):
    """A file of random bytes is reported. The other files are read."""
    write_file(home, os.urandom(1_000), f"telemetry-{DAY}.jsonl.{suffix}")
    write_file(home, line(2))
    events, problems = read(home)

    assert ids(events) == [2]
    assert len(problems.sentences()) == 1


def test_an_archive_that_this_python_cannot_read(home):
    """Without zstd, the report names the archive and the remedy. The other files are read."""
    name = f"telemetry-{DAY}.jsonl.zst"
    compressed = compress_zstd(line(1))
    write_file(home, compressed, name)
    write_file(home, line(2))
    # Hide the backport, and report a Python version without its own zstd module.
    hide = 'import sys\nsys.version_info = (3, 13)\nsys.modules["backports.zstd"] = None\n'
    done = subprocess.run(
        [sys.executable, "-c", hide + _READ_AND_MEASURE, home.root],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
    )
    events, _, message = done.stdout.rstrip().split(" ", 2)

    assert events == "1"
    assert message == (
        f"{name}: it is compressed with zstd, which this Python cannot read: "
        "use Python 3.14 or later, or install backports.zstd"
    )
    assert Path(home.folder, name).read_bytes() == compressed


def test_no_module_of_the_host_decompresses(home, tmp_path, monkeypatch):
    """If Python has no zstd, the reader does not import the host's own `compression` module."""
    (tmp_path / "compression.py").write_text("raise SystemExit('loaded')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "version_info", (3, 13))
    write_file(home, compress_zstd(line(1)), f"telemetry-{DAY}.jsonl.zst")
    monkeypatch.setattr(compression, "READING", ("compression.zstd",))
    events, problems = read(home)

    assert events == []
    assert "compressed with zstd" in problems.sentences()[0]


@each_codec
def test_a_decompression_bomb_is_not_read(home, suffix):
    """The reader stops reading an archive as soon as its ratio shows a decompression bomb."""
    bomb = COMPRESS[suffix](line(1) + b"\n" * (20 << 20))
    write_file(home, bomb, f"telemetry-{DAY}.jsonl.{suffix}")
    write_file(home, line(2))
    events, problems = read(home)

    assert ids(events) == [1, 2]
    assert len(bomb) < 100_000
    message = "it is larger than an archive may be: the rest was not read"
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl.{suffix}: {message}"]


@each_codec
def test_an_archive_has_a_maximum_size(home, monkeypatch, suffix):
    """The maximum size applies at a normal compression ratio too."""
    monkeypatch.setattr(compression, "MAX_ARCHIVE_BYTES", 6 << 20)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(150_000))
    write_file(home, COMPRESS[suffix](line(1) + noise), f"telemetry-{DAY}.jsonl.{suffix}")
    events, problems = read(home)

    assert ids(events) == [1]
    assert "it is larger than an archive may be" in problems.sentences()[0]


@pytest.mark.parametrize("compressed", [b"X", b"\x1f\x8b", zlib.compress(line(2))], ids=len)
def test_bytes_that_are_no_gzip_member(home, compressed):
    """The reader accepts gzip members only. Other bytes are a problem, alone or after a member."""
    write_file(home, compressed, f"telemetry-{DAY}.jsonl.gz")
    write_file(home, gzip.compress(line(1)) + compressed, f"telemetry-{DAY}-2.jsonl.gz")
    events, problems = read(home)

    assert ids(events) == [1]
    damaged = "the archive is damaged: events before the damage may be wrong, later ones are lost"
    assert {report.stopped for report in problems.files.values()} <= {
        damaged,
        "the archive is incomplete: the rest is lost",
    }
    assert (damaged in str(problems.sentences())) == (len(compressed) > 2)
    assert len(problems.sentences()) == 2


@each_codec
def test_long_padding_between_members(home, suffix):
    """The reader finds a member after padding that is longer than one read."""
    members = COMPRESS[suffix](line(1)), COMPRESS[suffix](line(2))
    write_file(home, (b"\0" * 200_000).join(members), f"telemetry-{DAY}.jsonl.{suffix}")
    events, problems = read(home)

    assert (ids(events), problems.sentences()) == ([1, 2], [])


@each_codec
def test_an_event_after_blank_lines(home, suffix):
    """The reader fetches all output that the decompressor has buffered."""
    blank = b"\n" * ((4 << 20) - len(line(1)))
    write_file(home, COMPRESS[suffix](blank + line(1)), f"telemetry-{DAY}.jsonl.{suffix}")
    events, problems = read(home)

    assert (ids(events), problems.sentences()) == ([1], [])


@each_codec
def test_the_ratio_of_the_whole_archive(home, monkeypatch, suffix):
    """The ratio compares all output with all input, not with the last chunk of the input."""
    monkeypatch.setattr(compression, "RATIO_FREE_BYTES", 1_000)
    monkeypatch.setattr(compression, "MAX_RATIO", 4)
    noise = b"".join(os.urandom(32).hex().encode() + b"\n" for _ in range(6_000))
    write_file(home, COMPRESS[suffix](line(1) + noise + line(2)), f"telemetry-{DAY}.jsonl.{suffix}")
    events, problems = read(home)

    assert ids(events) == [1, 2]
    assert "it is larger than an archive may be" not in problems.sentences()[0]


def test_the_limits_of_an_archive():
    """Up to 5 MiB of output has no limit.

    Above that, the ratio is at most 200 and the size at most 256 MiB.
    """
    free, maximum = 5 << 20, 256 << 20

    assert not compression.is_bomb(1, free)
    assert compression.is_bomb(1, free + 1)
    assert not compression.is_bomb(free, 200 * free // 200)
    assert not compression.is_bomb(100_000, 20_000_000)
    assert compression.is_bomb(100_000, 20_000_001)
    assert not compression.is_bomb(maximum, maximum)
    assert compression.is_bomb(maximum, maximum + 1)


def test_an_archive_that_becomes_a_link(home, tmp_path):
    """A link that replaces an archive after the listing is reported and not followed."""
    write_file(home, line(1), "telemetry-2026-11-21.jsonl")
    path = write_file(home, gzip.compress(line(2)), f"telemetry-{DAY}.jsonl.gz")
    problems = ReadReport()
    events = reader.read(home, problems)
    first = next(events)
    os.rename(path, tmp_path / "moved")
    os.symlink(tmp_path / "moved", path)

    assert ids([first, *events]) == [1]
    assert problems.sentences() == [f"telemetry-{DAY}.jsonl.gz: it cannot be read (ELOOP)"]


_READ_AND_MEASURE = """
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


def write_bomb(path, kind):
    """Write an event and 100 MB after it, or a zstd frame that requires a window of 128 MB."""
    window = {zstd.CompressionParameter.window_log: 27 if kind == "large window" else 21}
    if kind == "gzip bomb":
        archive = gzip.open(f"{path}.gz", "wb", 1)  # noqa: SIM115
    else:
        archive = zstd.open(f"{path}.zst", "wb", options=window)
    with archive as compressed:
        compressed.write(line(1))
        compressed.writelines(b"x" * (1 << 20) for _ in range(100))


@pytest.mark.parametrize("kind", ["line", "nuls", "gzip bomb", "zstd bomb", "large window"])
def test_memory_is_bounded(home, kind):
    """A line, a hole or a bomb of 100 MB costs a few MB of memory and no other event."""
    name = f"telemetry-{DAY}.jsonl"
    if kind not in ("line", "nuls"):
        write_bomb(f"{home.folder}/{name}", kind)
    else:
        with open(f"{home.folder}/{name}", "wb") as file:
            file.write(line(1))
            if kind == "line":
                file.writelines(b"x" * (1 << 20) for _ in range(100))
            else:
                file.seek(100 << 20)
            file.write(b"\n" + line(2))
    write_file(home, line(3))
    done = subprocess.run(
        [sys.executable, "-c", _READ_AND_MEASURE, home.root],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
    )
    events, kilobytes, *message = done.stdout.split()

    # The decompressor rejects a frame with a large window before it decompresses any of it.
    assert int(events) == (1 if kind == "large window" else 2 if "bomb" in kind else 3)
    assert int(kilobytes) < 24 * 1024
    assert (message == []) == (kind == "nuls")
