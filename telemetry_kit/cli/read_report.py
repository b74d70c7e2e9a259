"""Report unreadable data in the same words in every command that shows events.

`storage` reads the data.
"""

from __future__ import annotations

from telemetry_kit.cli.output import CommandError, info, safe
from telemetry_kit.storage.segments import ReadReport


def tell(problems: ReadReport) -> None:
    """One sentence on stderr for each file with something wrong."""
    for sentence in problems.sentences():
        info(f"telemetry-kit: {safe(sentence)}")


def unread(problems: ReadReport) -> list[str]:
    """The files that could not be read to their end."""
    return [name for name, report in problems.files.items() if report.stopped]


def incomplete(problems: ReadReport) -> str:
    """What to say of those files; empty where there are none."""
    names = ", ".join(map(safe, unread(problems)))
    return f"incomplete: {names} could not be read to the end" if names else ""


def must_be_whole(problems: ReadReport, shown: bool = True) -> None:
    """Nothing where all was read.

    Args:
        problems: filled by reading.
        shown: whether there was anything to show.

    Raises:
        CommandError: it was not: exit code 1, after what could be read was shown.
    """
    told = incomplete(problems)
    if told:
        raise CommandError(told if shown else f"no such events in what could be read; {told}")
