"""Hosts that close our descriptors, fork, interrupt and end: no deadlock, no traceback, no loss."""

import json
from pathlib import Path

import pytest


def settle(place, found, ledger, row: str, names: list[str], **more: int) -> None:
    """Every acknowledged event is there once."""
    stored = found(place.home)
    lost = stored.lost(names)
    ledger.add(row, acknowledged=len(names), lost=lost, doubled=stored.doubled, **more)

    assert (0, 0) == (lost, stored.doubled)
    assert 0 == stored.problems.malformed


def test_a_host_that_daemonises(place, program, found, ledger) -> None:
    """It closes 3 to 256 and opens its own files there: nothing of ours gets into them."""
    told = json.loads(program(place, "hosts.py", "daemonise", seconds=60).stdout)

    assert [len(b"precious")] * 8 == told["sizes"]
    assert None not in told["acknowledged"]
    settle(place, found, ledger, "daemons", told["acknowledged"], faults=1)


def test_threads_open_and_close_files(place, program, found, ledger, full) -> None:
    """A thousand sealings while threads open and close files: not a byte in theirs."""
    sealings = 1_000 if full else 300
    told = json.loads(program(place, "hosts.py", "churn", sealings, seconds=300).stdout)

    assert [] == told["dirty"]
    assert [0] * 4 == [(place.root / f"file{n}").stat().st_size for n in range(4)]
    assert None not in told["acknowledged"]
    settle(place, found, ledger, "daemons", told["acknowledged"], sealings=told["sealings"])


def test_forks_inside_the_slow_path(place, program, found, ledger, python) -> None:
    """Fifty forks while threads open and switch: parents and children lose nothing."""
    done = program(place, "hosts.py", "fork", 50, seconds=120, python=python)
    told = json.loads(done.stdout)

    assert [0] * 50 == told["ends"]
    assert None not in told["acknowledged"]
    settle(place, found, ledger, "forks", told["acknowledged"], faults=50)


def test_forks_beside_the_first_event(place, program, found, ledger, full, python) -> None:
    """A child that is forked while another thread loads the chain records, and never waits."""
    count = 200 if full else 40
    told = json.loads(program(place, "first.py", "fork", count, seconds=300, python=python).stdout)

    assert [0] * 2 * count == told["ends"]
    assert None not in told["acknowledged"]
    settle(place, found, ledger, "first", told["acknowledged"], faults=count)


def test_signals_inside_the_first_event(place, program, found, ledger, full, python) -> None:
    """Handlers that interrupt the loading of the chain get an answer, and nothing breaks."""
    count = 200 if full else 20
    told = json.loads(
        program(place, "first.py", "interrupt", count, seconds=300, python=python).stdout
    )

    assert [0] * count == told["ends"]
    assert [] == told["strange"]
    assert sum(told["during"]) > count
    assert None not in told["acknowledged"]
    settle(place, found, ledger, "first", told["acknowledged"], faults=sum(told["during"]))


def test_signals_and_finalizers(place, program, found, ledger, full, python) -> None:
    """A handler at 5 kHz, and finalizers, that record while the log is sealed all the time."""
    seconds = 20 if full else 3
    told = json.loads(
        program(place, "hosts.py", "signals", seconds, seconds=120, python=python).stdout
    )

    assert told["signals"] > 100
    assert None not in told["acknowledged"]
    settle(place, found, ledger, "signals", told["acknowledged"], faults=told["signals"])


@pytest.mark.parametrize("how", ["atexit", "daemon", "del", "exit"])
def test_the_last_moments(place, program, found, ledger, python, how: str) -> None:
    """Whatever says that it recorded, did; and the interpreter ends without a word."""
    program(place, "hosts.py", "ends", json.dumps(how), seconds=60, python=python)
    names = Path(place.root, "told").read_text().split()

    assert len(names) >= (2 if how in ("atexit", "exit") else 1)
    settle(place, found, ledger, "ends", names, faults=1)
