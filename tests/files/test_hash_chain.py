"""A hash chain detects each altered, added and removed line."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.files import hash_chain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
ENTRIES = st.lists(st.dictionaries(st.text(max_size=9), JSON, max_size=4), min_size=1, max_size=5)


def chain(entries):
    """Return the lines of these entries."""
    lines, name = [], None
    for entry in entries:
        lines.append(hash_chain.render(entry, name))
        name = json.loads(lines[-1])["sha256"]
    return lines


def is_intact(lines):
    """Return whether no line is altered and none is missing."""
    return all(link.is_intact and follows for link, follows in hash_chain.follow(lines))


@given(ENTRIES)
def test_entries_are_read_back(entries):
    """Each line has three keys in ASCII, has the checksum of the line before, and is intact."""
    lines = chain(entries)
    links = [link for link, _ in hash_chain.follow(lines)]

    assert entries == [link.entry for link in links]
    assert [None, *(link.sha256 for link in links[:-1])] == [link.previous for link in links]
    assert is_intact(lines)
    for line, link in zip(lines, links, strict=True):
        body = json.loads(line)
        assert ["entry", "previous", "sha256"] == list(body)
        assert link.sha256 == body.pop("sha256")
        assert link.sha256 == hashlib.sha256(json.dumps(body).encode()).hexdigest()


@given(ENTRIES, st.data())
def test_an_altered_byte_is_found(entries, data):
    """An altered byte is found in its own line only."""
    lines = chain(entries)
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.binary(max_size=2).filter(lambda found: found != line[at : at + 1]))
    altered = line[:at] + other + line[at + 1 :]
    if altered == line:
        return  # a byte was removed and the same one inserted
    lines[number] = altered
    found = [
        n
        for n, (link, follows) in enumerate(hash_chain.follow(lines))
        if not (link.is_intact and follows)
    ]

    assert [number] == found


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 1, 1, 2), (2,)])
def test_lines_moved_or_removed(order):
    """Removed, swapped or repeated lines break the chain."""
    lines = chain([{"n": 0}, {"n": 1}, {"n": 2}])

    assert not is_intact([lines[at] for at in order])


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"null", b"1e999", b"NaN", b'{"a": NaN}', b"\xff", b"[" * 100_000, b"{"],
    ids=lambda line: repr(line[:10]),
)
def test_a_line_that_is_no_object(line):
    """The line has no entry, and its own checksum for the next line."""
    link = hash_chain.parse(line)

    assert (None, None, False) == (link.entry, link.previous, link.is_intact)
    assert hashlib.sha256(line).hexdigest() == link.sha256


def previous_format(entries):
    """Return lines in the previous format."""
    lines = []
    for entry in entries:
        before = hashlib.sha256(lines[-1]).hexdigest() if lines else None
        body = {**entry, "before": before}
        checksum = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        lines.append(json.dumps({**body, "code": checksum}).encode())
    return lines


def upgrade(lines):
    """Return the lines after the upgrade."""
    return list(hash_chain.upgraded(lines, "before", "code"))


@given(ENTRIES)
def test_lines_of_the_previous_format(entries):
    """The upgrade keeps the bytes of the entries. A second upgrade changes nothing."""
    lines = previous_format(entries)
    upgraded_lines = upgrade(lines)
    name = json.loads(upgraded_lines[-1])["sha256"]

    assert lines == [json.dumps(json.loads(line)["entry"]).encode() for line in upgraded_lines]
    assert is_intact(upgraded_lines)
    assert upgraded_lines == upgrade(upgraded_lines)
    assert is_intact([*upgraded_lines, hash_chain.render({}, name)])
    assert is_intact(upgrade([*lines, hash_chain.render({}, name)]))


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 1, 1, 2), (2,)])
def test_previous_lines_moved_or_removed(order):
    """A chain that was broken before the upgrade is broken after it."""
    lines = previous_format([{"n": 0}, {"n": 1}, {"n": 2}])

    assert not is_intact(upgrade([lines[at] for at in order]))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_previous_line_that_was_altered(number):
    """An altered line is kept unchanged, and is the only one that is found."""
    lines = previous_format([{"n": 0}, {"n": 1}, {"n": 2}])
    lines[number] = lines[number].replace(b'"n": ', b'"n": 7')
    upgraded_lines = upgrade(lines)
    found = [
        n
        for n, (link, follows) in enumerate(hash_chain.follow(upgraded_lines))
        if not (link.is_intact and follows)
    ]

    assert lines[number] == upgraded_lines[number]
    assert [number] == found
