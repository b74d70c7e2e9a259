"""Measured in turn: A B A B, and what came out.

What is measured is not known here.
"""

from collections.abc import Callable, Mapping, Sequence

WARM_UP = 3

Processes = Mapping[str, Callable[[], float]]
Rounds = list[dict[str, float]]


class Ratios(list[float]):
    """How many times as long one thing took as another, round by round.

    The ratio that counts is that of the fastest round of each: whatever else the machine does
    only adds to the others, as the documentation of `timeit` has it, and it adds more to what
    runs longer.

    Args:
        one: seconds, round by round.
        other: those of the other, in the same rounds.
    """

    def __init__(self, one: Sequence[float], other: Sequence[float]) -> None:
        super().__init__(a / b for a, b in zip(one, other, strict=True))
        self.fastest = min(one) / min(other)


class Added(list[float]):
    """What one thing took more than another, round by round; the fastest of each counts here too.

    Args:
        one: seconds, round by round.
        other: those of the other, in the same rounds.
        unit: what 1 means, in seconds.
    """

    def __init__(self, one: Sequence[float], other: Sequence[float], unit: float) -> None:
        super().__init__((a - b) / unit for a, b in zip(one, other, strict=True))
        self.fastest = (min(one) - min(other)) / unit


def rounds(processes: Processes, count: int) -> Rounds:
    """Run every process once a round, in turn.

    Args:
        processes: by name, what runs one and returns the seconds it took.
        count: rounds to keep; `WARM_UP` more are run before and thrown away.

    Returns:
        The seconds of each, round by round.
    """
    found = [{name: run() for name, run in processes.items()} for _ in range(WARM_UP + count)]
    return found[WARM_UP:]


def ratios(found: Rounds, one: str, other: str) -> Ratios:
    """How many times as long `one` took as `other`."""
    return Ratios([r[one] for r in found], [r[other] for r in found])


def added(found: Rounds, one: str, other: str, unit: str) -> Added:
    """What `one` took more than `other`, as a multiple of the fastest `unit`."""
    return Added([r[one] for r in found], [r[other] for r in found], min(r[unit] for r in found))


def added_ms(found: Rounds, one: str, other: str) -> Added:
    """The same in milliseconds."""
    return Added([r[one] for r in found], [r[other] for r in found], 1e-3)
