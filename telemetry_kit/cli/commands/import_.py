"""`telemetry-kit import FILE`: take the events of another log or of an export into this project."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from telemetry_kit import context
from telemetry_kit.cli.output import USAGE, CommandError, confirm, counted, info, safe
from telemetry_kit.errors import JournalError, Off, Refused
from telemetry_kit.export.reader import read_file
from telemetry_kit.files import private
from telemetry_kit.recording.importer import (
    IN_FUTURE,
    NOT_COVERED,
    REPEATED,
    STORED,
    TOO_OLD,
    Importer,
)
from telemetry_kit.storage.maintenance import list_segments
from telemetry_kit.storage.segments import FileReport

NOTHING = "nothing was imported"


def run(project: str | None, file: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Show what an import would take, ask, and store it.

    Raises:
        CommandError: recording is off, the user cannot be asked, or the file cannot be imported.
    """
    if as_json and not (yes or dry_run):
        raise CommandError(f"--json needs --yes or --dry-run: {NOTHING}", USAGE)
    try:
        if dry_run or not yes:
            found, report = prepare(project, file, is_trial=True)
            found.leave_out_stored()
            show(file, found, report, as_json, dry_run=True)
            if dry_run:
                check_complete(file, report)
                return
            if not len(found):
                info("There is nothing to import.")
                return
            if not confirm(f"Import {counted(len(found), 'event')} into {found.paths.folder}?"):
                info("Nothing was changed.")
                return
        found, report = prepare(project, file)
        found.write()
    except Off as refusal:
        raise CommandError(f"{NOTHING}, because recording is off: {refusal}") from None
    except Refused as refusal:
        raise CommandError(f"{NOTHING}: {refusal}") from None
    except JournalError as error:
        remedy = "Run the command again to import the rest"
        raise CommandError(f"the import is incomplete: {error}. {remedy}") from None
    if yes:
        show(file, found, report, as_json, dry_run=False)
    info(f"Imported {counted(len(found), 'event')} into {found.paths.folder}.")
    check_complete(file, report)


def prepare(project: str | None, file: str, is_trial: bool = False) -> tuple[Importer, FileReport]:
    """Read the file.

    Args:
        project: a folder inside the project; None for the working directory.
        file: the file.
        is_trial: create nothing.

    Returns:
        Its events, and what could not be read.

    Raises:
        CommandError: the file cannot be read, has no events, or is a file of the log itself.
        Refused: recording is off.
    """
    found, report = Importer(context.place(project), is_trial=is_trial), FileReport()
    try:
        st = os.stat(file)
        if (st.st_dev, st.st_ino) in {s.identity for s in list_segments(found.paths, active=True)}:
            raise CommandError(f"{NOTHING}: {safe(file)} belongs to the log of this project")
        for event in read_file(file, report):
            found.add(event)
    except (OSError, ValueError) as error:
        raise CommandError(f"{NOTHING}: {safe(file)} {private.explain(error)}") from None
    if not found.read and (bad_lines(report) or report.stopped):
        why = report.stopped or "it is neither a log nor an export as jsonl, json or csv"
        raise CommandError(f"{NOTHING}: {safe(file)} has no events, {why}")
    return found, report


def bad_lines(report: FileReport) -> int:
    """Return how many lines are no event."""
    return report.malformed + report.too_long + report.other_version


def check_complete(file: str, report: FileReport) -> None:
    """Check that the file was read to its end.

    Raises:
        CommandError: it was not.
    """
    if report.stopped:
        raise CommandError(f"{safe(file)} was not read to its end: {report.stopped}")


def show(file: str, found: Importer, report: FileReport, as_json: bool, dry_run: bool) -> None:
    """Print the counts as lines or as JSON."""
    if as_json:
        print(json.dumps(to_dict(found, report, dry_run)))
    else:
        for line in lines(file, found, report, dry_run):
            print(safe(line))
    # Before the question, and before the message on stderr.
    sys.stdout.flush()


def to_dict(found: Importer, report: FileReport, dry_run: bool) -> dict[str, object]:
    """Return the counts for `--json`."""
    days = found.days
    return {
        "dry_run": dry_run,
        "events": found.read,
        "imported": len(found),
        "first_day": days[0] if days else None,
        "last_day": days[-1] if days else None,
        "left_out": {
            reason: found.left_out[reason]
            for reason in (STORED, REPEATED, TOO_OLD, IN_FUTURE, NOT_COVERED)
        },
        "malformed_lines": bad_lines(report),
        "undeclared_names": found.undeclared_names,
        "dropped_values": found.dropped_values,
        "incomplete": report.stopped or None,
    }


def lines(file: str, found: Importer, report: FileReport, dry_run: bool) -> Iterator[str]:
    """Yield the counts in words."""
    days = found.days
    period = f", from {days[0]} to {days[-1]} (UTC)" if days else ""
    yield f"{file}: {counted(found.read, 'event')}"
    yield f"  {len(found):>7,}  {'to import' if dry_run else 'imported'}{period}"
    words = {
        STORED: "stored already",
        REPEATED: "twice in the file",
        TOO_OLD: f"older than {counted(found.keep_days, 'day')}",
        IN_FUTURE: "in the future",
        NOT_COVERED: "of types that your consent does not name",
    }
    counts = {
        **{text: found.left_out[reason] for reason, text in words.items()},
        "lines that are no event": bad_lines(report),
        "undeclared names, which become pseudonyms": found.undeclared_names,
        "values left out, which the schema or your consent does not name": found.dropped_values,
    }
    yield from (f"  {number:>7,}  {text}" for text, number in counts.items() if number)
