"""`telemetry-kit answers`: each declared question, with its present answer in one sentence."""

from __future__ import annotations

import json

from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import declared
from telemetry_kit.cli.commands.stats import check_role, looked, nothing, wanted_of
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import info, print_line, width
from telemetry_kit.cli.tables import fold, heading
from telemetry_kit.consent import changes
from telemetry_kit.insights.answers import answers as answers_to
from telemetry_kit.insights.metrics import metrics


def run(
    project: str | None,
    since: str | None,
    until: str | None,
    role: str | None,
    as_json: bool,
) -> None:
    """Answer the questions that the events are recorded for.

    Args:
        project: a folder inside the project.
        since: first day.
        until: last day.
        role: from events of this role only.
        as_json: print JSON.

    Raises:
        CommandError: a date cannot be understood, or there is no such role.
    """
    home = changes.paths_of(project)
    wanted = wanted_of(home, since, until, role)
    seen = looked(home, wanted)
    check_role(home, role, seen)
    roles = seen.roles | declared(home, "roles")
    found = answers_to(metrics(seen.counters, wanted, roles))
    unread = read_report.unread(seen.problems)
    if as_json:
        print_line(json.dumps([{**row, "incomplete": unread} for row in found], indent=2))
    else:
        max_width = width()
        if not seen.counters.total("events") and not unread:
            info(nothing(wanted))
        for row in found:
            for line in fold(row["question"], max_width):
                print_line(heading(line))
            for line in fold(row["answer"], max_width, "  "):
                print_line(line)
    keep(home, seen)
    read_report.must_be_whole(seen.problems)
