"""Six writers record while the user revokes, grants and clears. The test compares the times."""

import json
from bisect import bisect_right
from math import inf


def acknowledged_events(place) -> list[tuple[int, int, str]]:
    """Return start time, write time and id of each acknowledged event."""
    return [tuple(n) for s in range(6) for n in json.loads((place.root / f"notes{s}").read_text())]


def test_revocations(place, run_program, stored_events, fault_table, full) -> None:
    """No event that starts after a revocation is written, and none under a grant is lost."""
    count = 200 if full else 60
    output = json.loads(run_program(place, "decide.py", "revoke", count, seconds=300).stdout)
    assert [0] * 6 == output["ends"]
    written = acknowledged_events(place)
    begins = [returned for returned, _ in output["spans"]]
    late = 0
    for began, on_file, _ in written:
        at = bisect_right(begins, began) - 1
        # The event was written before the next grant.
        late += at >= 0 and on_file < output["spans"][at][1]
    stored = stored_events(place.home)
    lost = stored.lost(name for _, _, name in written)
    fault_table.add(
        "decisions",
        revocations=count,
        acknowledged=len(written),
        late=late,
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0, 0) == (late, lost, stored.doubled)
    # No other event is stored.
    assert len(stored.count) == len(written) + 1
    # Writers recorded under most of the grants.
    used_grants = {bisect_right(begins, began) for began, _, _ in written}
    assert len(used_grants) > count // 2


def test_clears(place, run_program, stored_events, fault_table, full) -> None:
    """Events written before a clear are gone after it. Events started after it are not lost."""
    count = 200 if full else 60
    output = json.loads(run_program(place, "decide.py", "clear", count, seconds=300).stdout)
    assert [0] * 6 == output["ends"]
    written = acknowledged_events(place)
    on_file = {name: at for _, at, name in written}
    stored = stored_events(place.home)
    late = lost = doubled = 0
    cleared = 0
    for span in output["spans"]:
        late += sum(on_file.get(name, 0) < span["began"] for name in span["after"])
        lost += count_missing(written, cleared, span["looked"], set(span["before"]))
        doubled += len(span["before"]) - len(set(span["before"]))
        cleared, last = span["ended"], span["began"]
    late += sum(on_file.get(name, 0) < last for name in stored.order)
    lost += count_missing(written, cleared, inf, set(stored.order))
    doubled += stored.doubled
    fault_table.add(
        "clears",
        clears=count,
        acknowledged=len(written),
        late=late,
        lost=lost,
        doubled=doubled,
    )

    assert (0, 0, 0) == (late, lost, doubled)


def count_missing(
    written: list[tuple[int, int, str]], begin: int, end: float, seen: set[str]
) -> int:
    """Return how many events of this interval are not stored."""
    return sum(began > begin and at < end and name not in seen for began, at, name in written)
