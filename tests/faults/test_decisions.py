"""Six writers while the user revokes, grants and clears, against recorded start and write times."""

import json
from bisect import bisect_right
from math import inf


def notes(place) -> list[tuple[int, int, str]]:
    """When each acknowledged event began, when it was on file, and which it was."""
    return [tuple(n) for s in range(6) for n in json.loads((place.root / f"notes{s}").read_text())]


def test_revocations(place, program, found, ledger, full) -> None:
    """No event that began after a revocation returned is written; none under a grant is lost."""
    count = 200 if full else 60
    told = json.loads(program(place, "decide.py", "revoke", count, seconds=300).stdout)
    assert [0] * 6 == told["ends"]
    written = notes(place)
    begins = [returned for returned, _ in told["spans"]]
    late = 0
    for began, on_file, _ in written:
        at = bisect_right(begins, began) - 1
        # On file before there was another grant, whenever its call returned.
        late += at >= 0 and on_file < told["spans"][at][1]
    stored = found(place.home)
    lost = stored.lost(name for _, _, name in written)
    ledger.add(
        "decisions",
        revocations=count,
        acknowledged=len(written),
        late=late,
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0, 0) == (late, lost, stored.doubled)
    # And none that nobody was told of.
    assert len(stored.count) == len(written) + 1
    # Each grant is taken up: somebody wrote between most of the revocations.
    taken = {bisect_right(begins, began) for began, _, _ in written}
    assert len(taken) > count // 2


def test_clears(place, program, found, ledger, full) -> None:
    """What was on file before a clear is not seen after it; what began after it is not lost."""
    count = 200 if full else 60
    told = json.loads(program(place, "decide.py", "clear", count, seconds=300).stdout)
    assert [0] * 6 == told["ends"]
    written = notes(place)
    on_file = {name: at for _, at, name in written}
    stored = found(place.home)
    late = lost = doubled = 0
    cleared = 0
    for span in told["spans"]:
        late += sum(on_file.get(name, 0) < span["began"] for name in span["after"])
        lost += missing(written, cleared, span["looked"], set(span["before"]))
        doubled += len(span["before"]) - len(set(span["before"]))
        cleared, last = span["ended"], span["began"]
    late += sum(on_file.get(name, 0) < last for name in stored.order)
    lost += missing(written, cleared, inf, set(stored.order))
    doubled += stored.doubled
    ledger.add(
        "clears",
        clears=count,
        acknowledged=len(written),
        late=late,
        lost=lost,
        doubled=doubled,
    )

    assert (0, 0, 0) == (late, lost, doubled)


def missing(written: list[tuple[int, int, str]], begin: int, end: float, seen: set[str]) -> int:
    """How many events that began and were on file in between are not there."""
    return sum(began > begin and at < end and name not in seen for began, at, name in written)
