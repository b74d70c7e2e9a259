"""`telemetry-kit answers`: each declared question, with its present answer in one sentence."""

from __future__ import annotations

import json

from telemetry_kit._units import counted, dates
from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import declared
from telemetry_kit.cli.commands.stats import count_events, no_events
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import info, width
from telemetry_kit.cli.tables import fold, heading
from telemetry_kit.consent import changes
from telemetry_kit.insights.answers import answers as answers_to
from telemetry_kit.insights.metrics import metrics


def run(
    project: str | None, since: str | None, until: str | None, role: str | None, as_json: bool
) -> None:
    """Answer the questions that the events are recorded for.

    Raises:
        CommandError: a day is invalid, or there is no such role.
    """
    paths = changes.paths_of(project)
    wanted, seen = count_events(paths, since, until, {} if role is None else {"role": role})
    counts = metrics(seen.counters, wanted, seen.roles | declared(paths, "roles"))
    found = answers_to(counts)
    unread = read_report.unread_files(seen.problems)
    if as_json:
        state = {"incomplete": unread, "other_version": seen.problems.other_version}
        print(json.dumps([{**row, **state} for row in found], indent=2))
    else:
        max_width = width()
        if not counts["events"] and not unread:
            info(no_events(wanted))
        for row in found:
            for line in fold(row["question"], max_width):
                print(heading(line))
            for line in fold(row["answer"], max_width, "  "):
                print(line)
        if counts["events"]:
            period = dates(counts["since"], counts["until"])
            for line in fold(f"From {counted(counts['events'], 'event')}, {period}.", max_width):
                print(line)
    keep(paths, seen)
    read_report.check_complete(seen.problems)
