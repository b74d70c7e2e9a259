"""A hash chain: what a line says, and that no line is altered, added or taken out unnoticed."""

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


def chained(entries):
    """The lines of these entries."""
    lines, name = [], None
    for entry in entries:
        lines.append(hash_chain.render(entry, name))
        name = json.loads(lines[-1])["sha256"]
    return lines


def is_whole(lines):
    """Whether nothing is found."""
    return all(link.is_intact and follows for link, follows in hash_chain.follow(lines))


@given(ENTRIES)
def test_what_is_written_is_read(entries):
    """Each line is ASCII with three keys in order, names the one before, and is intact."""
    lines = chained(entries)
    links = [link for link, _ in hash_chain.follow(lines)]

    assert entries == [link.entry for link in links]
    assert [None, *(link.sha256 for link in links[:-1])] == [link.previous for link in links]
    assert is_whole(lines)
    for line, link in zip(lines, links, strict=True):
        body = json.loads(line)
        assert ["entry", "previous", "sha256"] == list(body)
        assert link.sha256 == body.pop("sha256")
        assert link.sha256 == hashlib.sha256(json.dumps(body).encode()).hexdigest()


@given(ENTRIES, st.data())
def test_an_altered_byte_is_found(entries, data):
    """In the line that it is in, and in no other."""
    lines = chained(entries)
    number = data.draw(st.integers(0, len(lines) - 1))
    line = lines[number]
    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.binary(max_size=2).filter(lambda found: found != line[at : at + 1]))
    altered = line[:at] + other + line[at + 1 :]
    if altered == line:
        return  # the same byte twice in a row, one taken out and one put in
    lines[number] = altered
    found = [
        n
        for n, (link, follows) in enumerate(hash_chain.follow(lines))
        if not (link.is_intact and follows)
    ]

    assert [number] == found


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 1, 1, 2), (2,)])
def test_lines_moved_or_removed(order):
    """Lines taken out, swapped or repeated break the chain."""
    lines = chained([{"n": 0}, {"n": 1}, {"n": 2}])

    assert not is_whole([lines[at] for at in order])


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"null", b"1e999", b"NaN", b'{"a": NaN}', b"\xff", b"[" * 100_000, b"{"],
    ids=lambda line: repr(line[:10]),
)
def test_no_object(line):
    """It holds no entry, and has a name of its own for the line behind it."""
    link = hash_chain.parse(line)

    assert (None, None, False) == (link.entry, link.previous, link.is_intact)
    assert hashlib.sha256(line).hexdigest() == link.sha256


def former(entries):
    """Lines of the form before this one."""
    lines = []
    for entry in entries:
        before = hashlib.sha256(lines[-1]).hexdigest() if lines else None
        body = {**entry, "before": before}
        code = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        lines.append(json.dumps({**body, "code": code}).encode())
    return lines


def upgraded(lines):
    return list(hash_chain.upgraded(lines, "before", "code"))


@given(ENTRIES)
def test_lines_of_the_former_form(entries):
    """They become entries, to the byte; upgraded again they stay as they are."""
    lines = former(entries)
    made = upgraded(lines)
    name = json.loads(made[-1])["sha256"]

    assert lines == [json.dumps(json.loads(line)["entry"]).encode() for line in made]
    assert is_whole(made)
    assert made == upgraded(made)
    assert is_whole([*made, hash_chain.render({}, name)])
    assert is_whole(upgraded([*lines, hash_chain.render({}, name)]))


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 1, 1, 2), (2,)])
def test_former_lines_moved_or_removed(order):
    """What was broken stays broken."""
    lines = former([{"n": 0}, {"n": 1}, {"n": 2}])

    assert not is_whole(upgraded([lines[at] for at in order]))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_former_line_that_was_altered(number):
    """It stays as it is, and is the only one that is found."""
    lines = former([{"n": 0}, {"n": 1}, {"n": 2}])
    lines[number] = lines[number].replace(b'"n": ', b'"n": 7')
    made = upgraded(lines)
    found = [
        n
        for n, (link, follows) in enumerate(hash_chain.follow(made))
        if not (link.is_intact and follows)
    ]

    assert lines[number] == made[number]
    assert [number] == found
