"""Many writers at once: nothing torn, lost or doubled; also when they are killed all the time."""

import json
from pathlib import Path

import pytest

from telemetry_kit.consent import decision
from telemetry_kit.storage import limits, maintenance, rotation
from telemetry_kit.storage.writer import LogWriter


@pytest.fixture(autouse=True)
def _unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of killing writes more than a journal may take; `writers.py` has no bound either."""
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 50)


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
    maintenance.maintain(place.home, 90, decision.today())
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
    after = maintenance.maintain(place.home, 90, decision.today())
    assert [] == after.failures
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


@pytest.mark.parametrize("seed", range(3))
def test_lines_are_removed_while_all_are_killed(
    place, program, found, modes, ledger, full, seed: int
) -> None:
    """Old lines go from under writers that die in the middle of theirs, and nothing else goes."""
    seconds = 60 if full else 8
    today = decision.today()
    told = json.loads(
        program(place, "writers.py", "massacre", seconds, 500, seed, 3, seconds=900).stdout
    )
    assert [] == maintenance.rewrite(place.home, maintenance.keep_since(today), today).failures
    stored = found(place.home)
    acknowledged = told["acknowledged"]
    new = [name for name in names(acknowledged) if int(name[6:], 16) % 3]
    lost = stored.lost(new)
    ledger.add(
        "removed",
        kills=told["kills"],
        acknowledged=len(new),
        lost=lost,
        doubled=stored.doubled,
        recovered=stored.recovered,
    )

    assert (0, 0) == (lost, stored.doubled)
    assert [] == [name for name in stored.count if int(name[6:], 16) % 3 == 0]
    modes(place.home)


def test_a_glued_line_was_recovered(ledger) -> None:
    """The runs before met what only resynchronisation saves."""
    if "kills" not in ledger.rows:
        pytest.skip("nothing was killed")

    assert ledger.rows["kills"]["recovered"] > 0


# -- a writer that sleeps ------------------------------------------------------------------------

OLD, NEW = "2026-01-01", "2026-06-01"
REMOVALS = {
    "clear --before": lambda home: maintenance.rewrite(home, maintenance.keep_since(NEW), NEW),
    "clear --before, twice": lambda home: [
        maintenance.rewrite(home, maintenance.keep_since(NEW), NEW) for _ in range(2)
    ][-1],
    "forget": lambda home: maintenance.rewrite(home, lambda text: OLD.encode() not in text, NEW),
    "retention of a part": lambda home: maintenance.maintain(home, 90, NEW),
    "packing": lambda home: maintenance.maintain(home, 365, NEW),
}


def old_line(number: int) -> bytes:
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{OLD}T00:00:00Z","context":{{"pad":"{"x" * (number % 700)}"}}}}\n'
    ).encode()


@pytest.mark.parametrize("new", [True, False], ids=["with new lines", "old ones only"])
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_writer_that_sleeps(
    place, program, found, modes, ledger, sleeping, removal: str, new: bool
) -> None:
    """Asleep between its look and its write while lines go: its line is found all the same."""
    journal = LogWriter(place.home, lambda: True)
    olds = [f"{number:016x}" for number in range(1_000, 3_000)]
    for number in range(1_000, 3_000):
        journal.append(old_line(number))
    journal.close()
    with sleeping(place, NEW if new else OLD) as host:
        assert "looked\n" == host.stdout.readline()
        rotation.seal(place.home, NEW)
        done = REMOVALS[removal](place.home)
        between = found(place.home)
        out, err = host.communicate("go\n", timeout=60)
    names = json.loads(out)
    late = names[1:] if not new and removal != "packing" else names
    after = found(place.home)
    assert (7, "", []) == (host.returncode, err, done.failures)
    assert [name for name in olds if name in after.count] == (olds if removal == "packing" else [])
    assert (names[0] in between.count) == (new or removal == "packing")
    ledger.add(
        "sleepers",
        faults=1,
        acknowledged=len(names),
        lost=after.lost(late),
        doubled=after.doubled,
    )

    assert (0, 0) == (after.lost(late), after.doubled)
    # And with nobody asleep any more it is packed as all others are.
    assert [] == maintenance.maintain(place.home, 365, NEW).failures
    assert after.count == found(place.home).count
    modes(place.home)


def test_a_writer_inside_its_write(place, found, sleeping) -> None:
    """Of a line whose end is yet to come nothing is removed, and that is said."""
    journal = LogWriter(place.home, lambda: True)
    journal.append(old_line(1_000))
    with sleeping(place, NEW) as host:
        assert "looked\n" == host.stdout.readline()
        with open(place.log, "ab") as log:
            log.write(old_line(1_001)[:140])
        rotation.seal(place.home, NEW)
        done = maintenance.rewrite(place.home, maintenance.keep_since(NEW), NEW)
        with open(next(Path(place.home.folder).glob("telemetry-*")), "rb") as log:
            left = log.read().split()
        host.communicate("go\n", timeout=60)
    journal.close()

    assert 1 == done.lines
    assert 1 == len(done.failures)
    assert "its last line has no newline, and a program has it open" in done.failures[0]
    assert old_line(1_001)[:140] == left[-1]
