"""Damaged and joined lines are split into parts, and the parts add up to the file."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from telemetry_kit.storage import line_parts
from telemetry_kit.storage.parser import PREFIX


def complete_line(number: int) -> bytes:
    """Return an event without its newline."""
    return PREFIX + b'%016x"}' % number


def split(data: bytes, size: int = 1 << 16) -> list[line_parts.LinePart]:
    """Split data that arrives in chunks of this size."""
    return list(line_parts.split(data[at : at + size] for at in range(0, len(data), size)))


FRAGMENTS = st.sampled_from(
    [
        b"\n",
        b"\0",
        b"\0\0\0",
        b"\r\n",
        b"{",
        b'"',
        PREFIX,
        PREFIX[:9],
        PREFIX[9:],
        b"x",
        complete_line(1),
    ]
)


@given(st.lists(FRAGMENTS, max_size=30).map(b"".join), st.integers(1, 200))
def test_the_parts_add_up_to_the_file(data: bytes, size: int) -> None:
    """Splitting loses and adds no byte, and does not depend on the size of the chunks."""
    parts = split(data, size)

    assert data == b"".join(part.data + part.end for part in parts)
    assert [(p.data, p.end, p.last) for p in split(data)] == [
        (p.data, p.end, p.last) for p in parts
    ]
    assert all(p.begins and not p.ahead for p in parts)
    assert all(b"\n" not in p.data and b"\0" not in p.data for p in parts)
    assert all(PREFIX not in p.data[1:] for p in parts)
    assert [p.last for p in parts[:-1]] == [False] * (len(parts) - 1) if parts else True


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (complete_line(1) + b"\n", [complete_line(1)]),
        (
            complete_line(1)[:20] + complete_line(2) + b"\n",
            [complete_line(1)[:20], complete_line(2)],
        ),
        (
            complete_line(1) + complete_line(2) + complete_line(3),
            [complete_line(1), complete_line(2), complete_line(3)],
        ),
        (
            complete_line(1) + b"\0" * 100 + complete_line(2) + b"\n",
            [complete_line(1), b"", complete_line(2)],
        ),
        (b"\xef\xbb\xbf" + complete_line(1), [b"\xef\xbb\xbf", complete_line(1)]),
        (b"", []),
    ],
    ids=["a line", "a fragment", "three", "NULs", "BOM", "nothing"],
)
def test_where_a_part_ends(data: bytes, expected: list[bytes]) -> None:
    """A part ends at a newline, at NUL bytes, and where the next event starts."""
    assert expected == [part.data for part in split(data)]


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 1 << 22])
def test_a_long_line_is_split(size: int) -> None:
    """A long line is split to limit memory. Each part carries the start of the next one."""
    data = b"a" * (5 << 20) + b"\n" + complete_line(1) + b"\n"
    parts = split(data, size)

    assert data == b"".join(part.data + part.end for part in parts)
    assert max(len(p.data) for p in parts) <= line_parts.MAX_PART_BYTES + size
    assert [True] + [False] * (len(parts) - 2) + [True] == [p.begins for p in parts]
    assert all(len(p.ahead) == line_parts.OVERLAP_BYTES for p in parts if not p.end)


@pytest.mark.parametrize("at", [0, 10, (1 << 20) - 3, (1 << 20) + 60_000, 3 << 20])
def test_a_long_line_is_removed_from_a_match(at: int) -> None:
    """The match may span two parts of a line. Every later part of the line is removed too."""
    text = b"somebody's name"
    data = b"a" * at + text + b"b" * ((4 << 20) - at) + b"\n" + complete_line(1) + b"\n"
    selected = list(
        line_parts.select(
            iter([data[n : n + 65_536] for n in range(0, len(data), 65_536)]),
            lambda part: text not in part,
        )
    )
    kept = b"".join(part.data + part.end for part, is_removed in selected if not is_removed)

    assert kept.endswith(complete_line(1) + b"\n")
    assert b"b" not in kept
    assert text not in kept
