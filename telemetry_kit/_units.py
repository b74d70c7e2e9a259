"""Counts, shares, sizes and durations as people write them. JSON and CSV have plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

_SIZES = (("kB", 1e3), ("MB", 1e6), ("GB", 1e9))
# Each unit with its length in milliseconds, and where the next unit begins.
_SPANS = (("s", 1e3, 6e4), ("min", 6e4, 3.6e6), ("h", 3.6e6, 1.728e8), ("d", 8.64e7, 0))


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, such as `1 event` or `2,371 events`.

    Args:
        count: how many there are.
        noun: its singular.
        plural: the plural; by default the noun and an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def in_bytes(size: int) -> str:
    """Return a size in the unit that people use for it, such as `761 kB`."""
    if size < 1_000:
        return counted(size, "byte")
    unit, one = next(((u, one) for u, one in _SIZES if size / one < 999.5), _SIZES[-1])
    return f"{three_digits(size / one)} {unit}"


def span(milliseconds: int | None) -> str:
    """Return a duration: `510 ms`, `16.4 s`, `4.4 min`, `3.2 d`; empty for None."""
    if milliseconds is None:
        return ""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    unit, one = next((u, one) for u, one, end in _SPANS if milliseconds < end or not end)
    return f"{three_digits(milliseconds / one)} {unit}"


def three_digits(number: float) -> str:
    """Return a number with three digits, or more if it is a large one."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def percent(share: float | None) -> str:
    """Return a share in percent; `?` for None. Only 1 is `100%`, and only 0 is `0%`."""
    return "?" if share is None else _as_percent(round(share * 100), share)


def shares(counts: Sequence[int]) -> list[str]:
    """Return the share of each count in percent; `?` if all counts are zero.

    They never add up to more than 100, and equal counts have equal shares: shares are rounded
    down, and those with the largest remainders up (the method of A. Hamilton), as long as all
    equal counts can be.

    Args:
        counts: none below zero.
    """
    total = sum(counts)
    if not total:
        return ["?"] * len(counts)
    left = 100 - sum(count * 100 // total for count in counts)
    rounded_up: set[int] = set()
    for count in sorted(set(counts), key=lambda n: (-(n * 100 % total), -n)):
        left -= counts.count(count)
        if left < 0 or count * 100 % total == 0:
            break
        rounded_up.add(count)
    return [_as_percent(n * 100 // total + (n in rounded_up), n / total) for n in counts]


def _as_percent(rounded: int, share: float) -> str:
    if rounded >= 100 and share < 1:
        return ">99%"
    return "<1%" if rounded <= 0 < share else f"{rounded}%"


def dates(first: str, last: str) -> str:
    """Return a period of days, such as `2026-11-01 to 2026-11-28 (UTC)`."""
    return f"{first} (UTC)" if first == last else f"{first} to {last} (UTC)"
