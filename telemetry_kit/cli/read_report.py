"""Report unreadable data in the same words in every command that shows events."""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import CommandError, counted, info, safe
from telemetry_kit.storage.segments import ReadReport


def print_problems(problems: ReadReport) -> None:
    """Print one sentence on stderr for each file with a problem."""
    for sentence in problems.sentences():
        info(f"{runtime.program}: {safe(sentence)}")


def unread_files(problems: ReadReport) -> list[str]:
    """Return the names of the files that were not read to the end or have unknown versions."""
    return problems.unread_files


def incomplete(problems: ReadReport) -> str:
    """Return the sentence about these files; empty if there are none."""
    files = problems.files.items()
    stopped = ", ".join(safe(name) for name, report in files if report.stopped)
    unknown = ", ".join(safe(name) for name, report in files if report.other_version)
    parts = [f"{stopped} could not be read to the end"] if stopped else []
    if unknown:
        lines = counted(problems.other_version, "line")
        parts.append(f"{lines} of another version in {unknown}: update telemetry-kit to read them")
    return f"incomplete: {'; '.join(parts)}" if parts else ""


def check_complete(problems: ReadReport, is_shown: bool = True) -> None:
    """Check that all files were read.

    Args:
        problems: the problems of reading.
        is_shown: whether the command has shown any event.

    Raises:
        CommandError: events may be missing; the command exits with 1 after its output.
    """
    message = incomplete(problems)
    if message:
        raise CommandError(message if is_shown else f"no such events in the rest; {message}")
