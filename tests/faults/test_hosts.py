"""Hosts that close descriptors, fork, interrupt and exit: no deadlock, no lost event."""

import json
from pathlib import Path

import pytest


def check_stored(
    place, stored_events, fault_table, row: str, names: list[str], **counts: int
) -> None:
    """Check that each acknowledged event is stored exactly once."""
    stored = stored_events(place.home)
    lost = stored.lost(names)
    fault_table.add(row, acknowledged=len(names), lost=lost, doubled=stored.doubled, **counts)

    assert (0, 0) == (lost, stored.doubled)
    assert 0 == stored.problems.malformed


def test_a_host_that_daemonises(place, run_program, stored_events, fault_table) -> None:
    """The host closes 3 to 256 and opens its own files there. No event is written to them."""
    output = json.loads(run_program(place, "hosts.py", "daemonise", seconds=60).stdout)

    assert [len(b"precious")] * 8 == output["sizes"]
    assert None not in output["acknowledged"]
    check_stored(place, stored_events, fault_table, "daemons", output["acknowledged"], faults=1)


def test_threads_open_and_close_files(place, run_program, stored_events, fault_table, full) -> None:
    """While threads open and close files, up to 1,000 seals write no byte to them."""
    sealings = 1_000 if full else 300
    output = json.loads(run_program(place, "hosts.py", "churn", sealings, seconds=300).stdout)

    assert [] == output["dirty"]
    assert [0] * 4 == [(place.root / f"file{n}").stat().st_size for n in range(4)]
    assert None not in output["acknowledged"]
    check_stored(
        place,
        stored_events,
        fault_table,
        "daemons",
        output["acknowledged"],
        sealings=output["sealings"],
    )


def test_forks_while_the_log_is_opened(
    place, run_program, stored_events, fault_table, python
) -> None:
    """Fifty forks while threads open the log lose no event of parent or children."""
    done = run_program(place, "hosts.py", "fork", 50, seconds=120, python=python)
    output = json.loads(done.stdout)

    assert [0] * 50 == output["ends"]
    assert None not in output["acknowledged"]
    check_stored(place, stored_events, fault_table, "forks", output["acknowledged"], faults=50)


def test_forks_during_the_first_event(
    place, run_program, stored_events, fault_table, full, python
) -> None:
    """A child that is forked while another thread imports the pipeline records without waiting."""
    count = 200 if full else 40
    output = json.loads(
        run_program(place, "first.py", "fork", count, seconds=300, python=python).stdout
    )

    assert [0] * 2 * count == output["ends"]
    assert None not in output["acknowledged"]
    check_stored(place, stored_events, fault_table, "first", output["acknowledged"], faults=count)


def test_signals_during_the_first_event(
    place, run_program, stored_events, fault_table, full, python
) -> None:
    """Signal handlers record while the pipeline is imported."""
    count = 200 if full else 20
    output = json.loads(
        run_program(place, "first.py", "interrupt", count, seconds=300, python=python).stdout
    )

    assert [0] * count == output["ends"]
    assert [] == output["strange"]
    assert sum(output["during"]) > count
    assert None not in output["acknowledged"]
    check_stored(
        place,
        stored_events,
        fault_table,
        "first",
        output["acknowledged"],
        faults=sum(output["during"]),
    )


def test_signals_and_finalizers(
    place, run_program, stored_events, fault_table, full, python
) -> None:
    """A handler at 5 kHz and finalizers record while the log is sealed."""
    seconds = 20 if full else 3
    output = json.loads(
        run_program(place, "hosts.py", "signals", seconds, seconds=120, python=python).stdout
    )

    assert output["signals"] > 100
    assert None not in output["acknowledged"]
    check_stored(
        place,
        stored_events,
        fault_table,
        "signals",
        output["acknowledged"],
        faults=output["signals"],
    )


@pytest.mark.parametrize("how", ["atexit", "daemon", "del", "exit"])
def test_events_at_exit(place, run_program, stored_events, fault_table, python, how: str) -> None:
    """Each acknowledged event at exit is stored, and the interpreter prints nothing."""
    run_program(place, "hosts.py", "ends", json.dumps(how), seconds=60, python=python)
    names = Path(place.root, "told").read_text().split()

    assert len(names) >= (2 if how in ("atexit", "exit") else 1)
    check_stored(place, stored_events, fault_table, "ends", names, faults=1)
