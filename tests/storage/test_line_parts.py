"""Lines, and what is glued together in one: cut apart, and put together as they were."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from telemetry_kit.storage import line_parts
from telemetry_kit.storage.parser import PREFIX


def whole(number: int) -> bytes:
    return PREFIX + b'%016x"}' % number


def cut(data: bytes, size: int = 1 << 16) -> list[line_parts.LinePart]:
    return list(line_parts.split(data[at : at + size] for at in range(0, len(data), size)))


BITS = st.sampled_from(
    [b"\n", b"\0", b"\0\0\0", b"\r\n", b"{", b'"', PREFIX, PREFIX[:9], PREFIX[9:], b"x", whole(1)]
)


@given(st.lists(BITS, max_size=30).map(b"".join), st.integers(1, 200))
def test_together_they_are_the_file(data: bytes, size: int) -> None:
    """Nothing is lost or added, and how the bytes came does not matter."""
    found = cut(data, size)

    assert data == b"".join(piece.data + piece.end for piece in found)
    assert [(p.data, p.end, p.last) for p in cut(data)] == [(p.data, p.end, p.last) for p in found]
    assert all(p.begins and not p.ahead for p in found)
    assert all(b"\n" not in p.data and b"\0" not in p.data for p in found)
    assert all(PREFIX not in p.data[1:] for p in found)
    assert [p.last for p in found[:-1]] == [False] * (len(found) - 1) if found else True


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (whole(1) + b"\n", [whole(1)]),
        (whole(1)[:20] + whole(2) + b"\n", [whole(1)[:20], whole(2)]),
        (whole(1) + whole(2) + whole(3), [whole(1), whole(2), whole(3)]),
        (whole(1) + b"\0" * 100 + whole(2) + b"\n", [whole(1), b"", whole(2)]),
        (b"\xef\xbb\xbf" + whole(1), [b"\xef\xbb\xbf", whole(1)]),
        (b"", []),
    ],
    ids=["a line", "a fragment", "three", "NULs", "BOM", "nothing"],
)
def test_where_a_piece_ends(data: bytes, expected: list[bytes]) -> None:
    """At a newline, at NULs, and where the next event of ours begins."""
    assert expected == [piece.data for piece in cut(data)]


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 1 << 22])
def test_a_long_piece_comes_in_parts(size: int) -> None:
    """So that memory stays bounded; a part is judged with what follows it."""
    data = b"a" * (5 << 20) + b"\n" + whole(1) + b"\n"
    found = cut(data, size)

    assert data == b"".join(piece.data + piece.end for piece in found)
    assert max(len(p.data) for p in found) <= line_parts.MAX_PART_BYTES + size
    assert [True] + [False] * (len(found) - 2) + [True] == [p.begins for p in found]
    assert all(len(p.ahead) == line_parts.OVERLAP_BYTES for p in found if not p.end)


@pytest.mark.parametrize("at", [0, 10, (1 << 20) - 3, (1 << 20) + 60_000, 3 << 20])
def test_a_long_piece_goes_from_where_it_must(at: int) -> None:
    """Whatever lies across two of its parts is seen, and no part behind it stays."""
    text = b"somebody's name"
    data = b"a" * at + text + b"b" * ((4 << 20) - at) + b"\n" + whole(1) + b"\n"
    judged = list(
        line_parts.select(
            iter([data[n : n + 65_536] for n in range(0, len(data), 65_536)]),
            lambda piece: text not in piece,
        )
    )
    kept = b"".join(piece.data + piece.end for piece, goes in judged if not goes)

    assert kept.endswith(whole(1) + b"\n")
    assert b"b" not in kept
    assert text not in kept
