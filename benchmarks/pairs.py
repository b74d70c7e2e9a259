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


def added(found: Rounds, one: str, other: str, unit: str) -> list[float]:
    """What `one` took more than `other`, as a multiple of `unit`, round by round."""
    return [(r[one] - r[other]) / r[unit] for r in found]


def added_ms(found: Rounds, one: str, other: str) -> list[float]:
    """The same in milliseconds."""
    return [(r[one] - r[other]) * 1e3 for r in found]
