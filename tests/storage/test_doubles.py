"""An event that is stored twice is read once."""

import gzip
import os
import shutil

import pytest

from telemetry_kit.insights.counting import count
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import Following, Meter, lines, newest
from telemetry_kit.storage import rotation
from telemetry_kit.storage.segments import ReadReport
from tests.storage.reader_helpers import COMPRESS, DAY, ids, line, read, write_file

pytestmark = pytest.mark.usefixtures("project_directory")


def many(*numbers):
    """Return the lines of these events."""
    return b"".join(map(line, numbers))


def check(home, expected, doubles):
    """Check what each reader returns, and the number of doubles that is reported."""
    events, problems = read(home)
    exported = [
        item for part in lines(home, Query(), ReadReport(), Meter()) for item in part_of(part)
    ]

    assert ids(events) == list(expected)
    assert len(exported) == len(events)
    assert ids(newest(home, 10**9, Query(), ReadReport())) == list(expected)[::-1]
    assert count(home, Query()).counters.total("events") == len(events)
    assert sum(report.doubles for report in problems.files.values()) == doubles


def part_of(portion):
    """Return the items of one portion of an export."""
    return portion if isinstance(portion, list) else portion.data.splitlines()


def test_a_copy_restored_over_a_log_that_was_sealed(home):
    """The events of the copy are those of the sealed file, so each is read once."""
    path = write_file(home, many(*range(500)))
    shutil.copy(path, f"{home.folder}/copy")
    with open(path, "ab") as log:
        log.write(many(*range(500, 600)))
    rotation.seal(home, DAY)
    shutil.copy(f"{home.folder}/copy", path)
    with open(path, "ab") as log:
        log.write(many(*range(600, 650)))

    check(home, range(650), 500)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("size", [1, 3, 700])
def test_a_log_pasted_onto_itself(home, suffix, size):
    """Each event is read once, whether the file was compressed since or not."""
    data = many(*range(size)) * 2 + many(size, size + 1)
    compress = COMPRESS[suffix[1:]] if suffix else bytes
    write_file(
        home, compress(data), f"telemetry-{DAY}.jsonl{suffix}" if suffix else "telemetry.jsonl"
    )

    check(home, range(size + 2), size)


def test_several_files_pasted_into_one(home):
    """The log itself and an archive of other events are behind its own events."""
    write_file(home, gzip.compress(many(*range(100, 200))), f"telemetry-{DAY}.jsonl.gz")
    write_file(home, many(*range(50)) * 2 + many(*range(100, 200)) + many(*range(50, 60)))

    check(home, [*range(100, 200), *range(60)], 150)


def test_a_sealed_file_that_lost_events(home):
    """A copy from before `forget` has events that the sealed file has, too."""
    write_file(home, many(*range(1, 100, 2)), f"telemetry-{DAY}.jsonl")
    write_file(home, many(*range(100)))

    check(home, [*range(1, 100, 2), *range(0, 100, 2)], 50)


def test_a_pasted_line_without_end(home):
    """A double without an end hides no later event."""
    path = write_file(home, many(1, 2, 1, 2)[:-1])
    check(home, [1, 2], 2)
    with open(path, "ab") as log:
        log.write(b"\n" + line(3))

    check(home, [1, 2, 3], 2)


def test_new_events_are_followed_once(home):
    """A file that is pasted onto itself while it is followed has no new events."""
    path = write_file(home, many(*range(30)))
    following = Following(home, Query())
    with open(path, "ab") as log:
        log.write(many(*range(30)) + line(30))

    assert ids(following.news()) == [30]


def test_other_files_are_read_as_they_are(home):
    """Without a second first event no ids are compared: a line in the middle is not looked for."""
    write_file(home, many(1, 2, 3, 2, 4))

    check(home, [1, 2, 3, 2, 4], 0)
    assert os.listdir(home.folder) == ["telemetry.jsonl"]
