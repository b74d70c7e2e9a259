"""Measure processes in turn (A B A B), and compute their ratios.

Other modules define what is measured.
"""

from collections.abc import Callable, Mapping, Sequence

WARM_UP = 3

Processes = Mapping[str, Callable[[], float]]
Rounds = list[dict[str, float]]


class Ratios(list[float]):
    """The ratio of the times of one thing to those of another, round by round.

    `fastest` is the ratio of their fastest rounds. Other load on the machine only adds time, as the
    documentation of `timeit` explains, and it adds more time to longer rounds.

    Args:
        one: seconds, round by round.
        other: seconds of the other thing, in the same rounds.
    """

    def __init__(self, one: Sequence[float], other: Sequence[float]) -> None:
        super().__init__(a / b for a, b in zip(one, other, strict=True))
        self.fastest = min(one) / min(other)


class Added(list[float]):
    """The time that one thing took more than another, round by round; `fastest` as in `Ratios`.

    Args:
        one: seconds, round by round.
        other: seconds of the other thing, in the same rounds.
        unit: the seconds that count as 1.
    """

    def __init__(self, one: Sequence[float], other: Sequence[float], unit: float) -> None:
        super().__init__((a - b) / unit for a, b in zip(one, other, strict=True))
        self.fastest = (min(one) - min(other)) / unit


def rounds(processes: Processes, count: int) -> Rounds:
    """Run every process once in each round, in turn.

    Args:
        processes: by name, a function that runs one and returns the seconds it took.
        count: rounds to keep; `WARM_UP` more run first and are not returned.

    Returns:
        The seconds of each, round by round.
    """
    found = [{name: run() for name, run in processes.items()} for _ in range(WARM_UP + count)]
    return found[WARM_UP:]


def ratios(found: Rounds, one: str, other: str) -> Ratios:
    """Return the ratios of the times of `one` to those of `other`."""
    return Ratios([r[one] for r in found], [r[other] for r in found])


def added(found: Rounds, one: str, other: str, unit: str) -> Added:
    """Return the time `one` took more than `other`, as a multiple of the fastest `unit`."""
    return Added([r[one] for r in found], [r[other] for r in found], min(r[unit] for r in found))


def added_ms(found: Rounds, one: str, other: str) -> Added:
    """Return the time `one` took more than `other`, in milliseconds."""
    return Added([r[one] for r in found], [r[other] for r in found], 1e-3)
