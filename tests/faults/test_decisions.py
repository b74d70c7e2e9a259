"""Six writers while the user revokes, grants and clears, against recorded start and write times."""

import json
from bisect import bisect_right


def notes(place) -> list[tuple[int, int, str]]:
    return [tuple(n) for s in range(6) for n in json.loads((place.root / f"notes{s}").read_text())]


def test_revocations(place, program, found, ledger, full) -> None:
    """No event that began after a revocation returned is written; none under a grant is lost."""
    count = 200 if full else 60
    told = json.loads(program(place, "decide.py", "revoke", count, seconds=300).stdout)
    assert [0] * 6 == told["ends"]
    written = notes(place)
    begins = [span[0] for span in told["spans"]]
    late = 0
    for began, ended, _ in written:
        at = bisect_right(begins, began) - 1
        # One that was still under way when the next grant came asked under that one.
        late += at >= 0 and ended < told["spans"][at][1]
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
    # Each grant is taken up: somebody wrote between most of the revocations.
    taken = {bisect_right(begins, began) for began, _, _ in written}
    assert len(taken) > count // 2


def test_clears(place, program, found, ledger, full) -> None:
    """Nothing that was written before a clear began is seen after it; nothing later is lost."""
    count = 200 if full else 60
    told = json.loads(program(place, "decide.py", "clear", count, seconds=300).stdout)
    assert [0] * 6 == told["ends"]
    written = notes(place)
    ends = {name: end for _, end, name in written}
    late = sum(
        ends.get(name, began + 1) < began for began, _, seen in told["spans"] for name in seen
    )
    last = told["spans"][-1][1]
    stored = found(place.home)
    lost = stored.lost(name for began, _, name in written if began > last)
    ledger.add(
        "clears",
        clears=count,
        acknowledged=len(written),
        late=late,
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0, 0) == (late, lost, stored.doubled)
