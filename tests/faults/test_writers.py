"""Many writers at once: nothing torn, lost or doubled; also when they are killed all the time."""

import json
from pathlib import Path

import pytest

from telemetry_kit import grants
from telemetry_kit.journal import archive


def names(acknowledged: dict[str, int]):
    return (f"{int(w):06x}{n:010x}" for w, count in acknowledged.items() for n in range(count))


def sealings(home) -> int:
    return len([p for p in Path(home.folder).iterdir() if p.name.startswith("telemetry-")])


def in_order(order: list[str]) -> bool:
    last: dict[str, str] = {}
    for name in order:
        if last.get(name[:6], "") > name:
            return False
        last[name[:6]] = name
    return True


def test_sixteen_processes(place, program, ledger, full) -> None:
    """Lines of 32 B to 64 KiB, without a cap: whole, and in the order of each process."""
    count = 20_000 if full else 1_000
    told = json.loads(program(place, "writers.py", "raw", 16, count, seconds=1_800).stdout)
    assert [0] * 16 == told["ends"]
    following = [0] * 16
    torn = 0
    with open(place.log, "rb") as log:
        for line in log:
            if line == b"\n":
                continue  # a writer that began met another one inside its line
            writer, number, *pad = line.rstrip(b"\n").split(b" ")
            torn += b"".join(pad).strip(b"x") != b"" or following[int(writer)] != int(number)
            following[int(writer)] += 1
    ledger.add("writers", acknowledged=16 * count, lost=16 * count - sum(following))

    assert (0, [count] * 16) == (torn, following)


def test_sealing_with_two_archivers(place, program, found, modes, ledger, full) -> None:
    """Six writers over hundreds of sealings: each event once, in the order of its writer."""
    count = 50_000 if full else 8_000
    told = json.loads(program(place, "writers.py", "crowd", 6, count, 200, 2, seconds=900).stdout)
    assert [0] * 6 == told["ends"]
    archive.maintain(place.home, 90, grants.today())
    stored = found(place.home)
    lost = stored.lost(names(told["acknowledged"]))
    ledger.add(
        "sealing",
        acknowledged=6 * count,
        sealings=sealings(place.home),
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0, 6 * count) == (lost, stored.doubled, len(stored.count))
    assert 0 == stored.problems.malformed
    modes(place.home)


@pytest.mark.parametrize("seed", range(8))
def test_killed_all_the_time(place, program, found, modes, ledger, full, seed: int) -> None:
    """Every 4 ms one of six writers and two archivers dies; until a glued line was recovered."""
    if seed > 0 and not full and ledger.rows.get("kills", {}).get("recovered"):
        return
    seconds = 60 if full else 8
    told = json.loads(
        program(place, "writers.py", "massacre", seconds, 500, seed, seconds=900).stdout
    )
    sealed = sealings(place.home)
    after = archive.maintain(place.home, 90, grants.today())
    assert [] == after.survivors
    stored = found(place.home)
    acknowledged = told["acknowledged"]
    lost = stored.lost(names(acknowledged))
    ledger.add(
        "kills",
        kills=told["kills"],
        sealings=sealed,
        acknowledged=sum(acknowledged.values()),
        recovered=stored.recovered,
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0) == (lost, stored.doubled)
    # Written, and killed before it could be acknowledged: at most one of each writer.
    extra = len(stored.count) - sum(acknowledged.values())
    assert 0 <= extra <= len(acknowledged)
    modes(place.home)


def test_a_glued_line_was_recovered(ledger) -> None:
    """The runs before met what only resynchronisation saves."""
    if "kills" not in ledger.rows:
        pytest.skip("nothing was killed")

    assert ledger.rows["kills"]["recovered"] > 0
