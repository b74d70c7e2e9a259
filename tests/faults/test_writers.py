"""Many writers at once lose, double and tear no event, even if they are killed repeatedly."""

import json
from pathlib import Path

import pytest

from telemetry_kit.consent import decision
from telemetry_kit.storage import limits, maintenance, rotation
from telemetry_kit.storage.writer import LogWriter


@pytest.fixture(autouse=True)
def _unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the size limit, because a minute of kills exceeds it. `writers.py` does the same."""
    monkeypatch.setattr(limits, "MAX_BYTES", 1 << 50)


def names(acknowledged: dict[str, int]):
    """Return the ids of the acknowledged events."""
    return (f"{int(w):06x}{n:010x}" for w, count in acknowledged.items() for n in range(count))


def count_segments(home) -> int:
    """Return the number of segments."""
    return len([p for p in Path(home.folder).iterdir() if p.name.startswith("telemetry-")])


def is_in_order(order: list[str]) -> bool:
    """Return whether the ids of each writer are ascending."""
    last: dict[str, str] = {}
    for name in order:
        if last.get(name[:6], "") > name:
            return False
        last[name[:6]] = name
    return True


def test_sixteen_processes(place, run_program, fault_table, full) -> None:
    """Lines of 32 B to 64 KiB are complete and in the order of each process."""
    count = 20_000 if full else 1_000
    output = json.loads(run_program(place, "writers.py", "raw", 16, count, seconds=1_800).stdout)
    assert [0] * 16 == output["ends"]
    next_numbers = [0] * 16
    torn = 0
    with open(place.log, "rb") as log:
        for line in log:
            if line == b"\n":
                continue  # A new writer found an incomplete line of another one.
            writer, number, *pad = line.rstrip(b"\n").split(b" ")
            torn += b"".join(pad).strip(b"x") != b"" or next_numbers[int(writer)] != int(number)
            next_numbers[int(writer)] += 1
    fault_table.add("writers", acknowledged=16 * count, lost=16 * count - sum(next_numbers))

    assert (0, [count] * 16) == (torn, next_numbers)


def test_sealing_with_two_archivers(
    place, run_program, stored_events, modes, fault_table, full
) -> None:
    """Over hundreds of seals, each event of six writers is stored once."""
    count = 50_000 if full else 8_000
    output = json.loads(
        run_program(place, "writers.py", "crowd", 6, count, 200, 2, seconds=900).stdout
    )
    assert [0] * 6 == output["ends"]
    maintenance.maintain(place.home, 90, decision.today())
    stored = stored_events(place.home)
    lost = stored.lost(names(output["acknowledged"]))
    fault_table.add(
        "sealing",
        acknowledged=6 * count,
        sealings=count_segments(place.home),
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0, 6 * count) == (lost, stored.doubled, len(stored.count))
    assert 0 == stored.problems.malformed
    modes(place.home)


@pytest.mark.parametrize("seed", range(8))
def test_writers_and_archivers_are_killed(
    place, run_program, stored_events, modes, fault_table, full, seed: int
) -> None:
    """One of eight processes is killed every 4 ms, until a joined line was recovered."""
    if seed > 0 and not full and fault_table.rows.get("kills", {}).get("recovered"):
        return
    seconds = 60 if full else 8
    output = json.loads(
        run_program(place, "writers.py", "massacre", seconds, 500, seed, seconds=900).stdout
    )
    sealed = count_segments(place.home)
    after = maintenance.maintain(place.home, 90, decision.today())
    assert [] == after.failures
    stored = stored_events(place.home)
    acknowledged = output["acknowledged"]
    lost = stored.lost(names(acknowledged))
    fault_table.add(
        "kills",
        kills=output["kills"],
        sealings=sealed,
        acknowledged=sum(acknowledged.values()),
        recovered=stored.recovered,
        lost=lost,
        doubled=stored.doubled,
    )

    assert (0, 0) == (lost, stored.doubled)
    # Each writer may have one event that was written and not acknowledged.
    unacknowledged = len(stored.count) - sum(acknowledged.values())
    assert 0 <= unacknowledged <= len(acknowledged)
    modes(place.home)


@pytest.mark.parametrize("seed", range(3))
def test_lines_are_removed_while_writers_are_killed(
    place, run_program, stored_events, modes, fault_table, full, seed: int
) -> None:
    """While writers are killed inside their lines, removal deletes only old lines."""
    seconds = 60 if full else 8
    today = decision.today()
    output = json.loads(
        run_program(place, "writers.py", "massacre", seconds, 500, seed, 3, seconds=900).stdout
    )
    assert [] == maintenance.rewrite(place.home, maintenance.keep_since(today), today).failures
    stored = stored_events(place.home)
    acknowledged = output["acknowledged"]
    new = [name for name in names(acknowledged) if int(name[6:], 16) % 3]
    lost = stored.lost(new)
    fault_table.add(
        "removed",
        kills=output["kills"],
        acknowledged=len(new),
        lost=lost,
        doubled=stored.doubled,
        recovered=stored.recovered,
    )

    assert (0, 0) == (lost, stored.doubled)
    assert [] == [name for name in stored.count if int(name[6:], 16) % 3 == 0]
    modes(place.home)


def test_a_joined_line_was_recovered(fault_table) -> None:
    """The previous runs recovered at least one event that was joined to a fragment."""
    if "kills" not in fault_table.rows:
        pytest.skip("nothing was killed")

    assert fault_table.rows["kills"]["recovered"] > 0


# -- a suspended writer --------------------------------------------------------------------------

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
    """Return an event of the old day."""
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{OLD}T00:00:00Z","context":{{"pad":"{"x" * (number % 700)}"}}}}\n'
    ).encode()


@pytest.mark.parametrize("new", [True, False], ids=["with new lines", "old ones only"])
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_suspended_writer(
    place, run_program, stored_events, modes, fault_table, start_suspended, removal: str, new: bool
) -> None:
    """If lines are removed between the check and the write of a writer, its event is stored."""
    log_writer = LogWriter(place.home, lambda: True)
    old_ids = [f"{number:016x}" for number in range(1_000, 3_000)]
    for number in range(1_000, 3_000):
        log_writer.append(old_line(number))
    log_writer.close()
    with start_suspended(place, NEW if new else OLD) as host:
        assert "looked\n" == host.stdout.readline()
        rotation.seal(place.home, NEW)
        done = REMOVALS[removal](place.home)
        between = stored_events(place.home)
        out, err = host.communicate("go\n", timeout=60)
    names = json.loads(out)
    expected = names[1:] if not new and removal != "packing" else names
    after = stored_events(place.home)
    assert (7, "", []) == (host.returncode, err, done.failures)
    assert [name for name in old_ids if name in after.count] == (
        old_ids if removal == "packing" else []
    )
    assert (names[0] in between.count) == (new or removal == "packing")
    fault_table.add(
        "sleepers",
        faults=1,
        acknowledged=len(names),
        lost=after.lost(expected),
        doubled=after.doubled,
    )

    assert (0, 0) == (after.lost(expected), after.doubled)
    # After the writer has exited, its segment is compressed like the others.
    assert [] == maintenance.maintain(place.home, 365, NEW).failures
    assert after.count == stored_events(place.home).count
    modes(place.home)


def test_a_writer_inside_its_write(place, stored_events, start_suspended) -> None:
    """An incomplete line of a segment in use is kept and reported."""
    log_writer = LogWriter(place.home, lambda: True)
    log_writer.append(old_line(1_000))
    with start_suspended(place, NEW) as host:
        assert "looked\n" == host.stdout.readline()
        with open(place.log, "ab") as log:
            log.write(old_line(1_001)[:140])
        rotation.seal(place.home, NEW)
        done = maintenance.rewrite(place.home, maintenance.keep_since(NEW), NEW)
        with open(next(Path(place.home.folder).glob("telemetry-*")), "rb") as log:
            remaining = log.read().split()
        host.communicate("go\n", timeout=60)
    log_writer.close()

    assert 1 == done.lines
    assert 1 == len(done.failures)
    assert "its last line has no newline, and a program has it open" in done.failures[0]
    assert old_line(1_001)[:140] == remaining[-1]
