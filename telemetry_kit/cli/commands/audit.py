"""`telemetry-kit audit`: show the decisions and exports, and check that both records are intact."""

from __future__ import annotations

import json
import sys
from typing import Any

from telemetry_kit.cli.output import CommandError, info, print_line, safe, width
from telemetry_kit.cli.tables import display_width, fold
from telemetry_kit.consent import changes, history, policy
from telemetry_kit.export.log import ExportLog

_INDENT = 22


def run(project: str | None, as_json: bool) -> None:
    """Show the history of decisions for this project and for all projects, and the exports.

    Raises:
        CommandError: an entry is not as it was written, or is not what is in force.
        TelemetryError: the history cannot be read.
    """
    home = changes.paths_of(project)
    wrong: list[str] = []
    found: dict[str, list[dict[str, Any]]] = {}
    for scope, folder in history.folders(home):
        found[scope] = history.read(folder)
        number = history.broken_at(folder)
        if number is not None:
            wrong.append(f"entry {number} for {scope} is not as it was written")
        different = history.disagrees(folder)
        if different is not None:
            wrong.append(f"for {scope}, {different}")
        for path in history.set_aside(folder):
            info(f"Set aside, because it could not be trusted: {safe(path)}")
    wrong += filter(None, [policy.lost_key_problem(home)])
    exported = ExportLog(home)
    if as_json:
        _as_json(found, exported)
    else:
        _print(found)
        _print_exports(exported)
    wrong += exported.problems
    if wrong:
        raise CommandError("; ".join(wrong))
    if not as_json and not any(found.values()) and not exported.count:
        info("Nothing was decided yet.")


def _as_json(found: dict[str, list[dict[str, Any]]], exported: ExportLog) -> None:
    write = sys.stdout.write
    write(json.dumps({**found, "exports": []}).removesuffix("]}"))
    for number, entry in enumerate(exported):
        write((", " if number else "") + json.dumps(entry))
    write("]}\n")


def _print(found: dict[str, list[dict[str, Any]]]) -> None:
    for scope, entries in found.items():
        for entry in entries:
            until = f", until {entry['expires']}" if entry.get("expires") else ""
            until = ", to what is wider; the yes stands" if "declined" in entry else until
            _line(
                f"{entry.get('at')}  {entry.get('decision')!s:<3}  {scope}, by "
                f"{entry.get('method')}, notice {entry.get('notice')} "
                f"({str(entry.get('notice_sha256'))[:12]}){until}"
            )


def _print_exports(exported: ExportLog) -> None:
    for number, entry in enumerate(exported):
        if not number:
            print_line("Exports and reports:")
        cut = ", cut short" if entry.get("incomplete") else ""
        fields = entry.get("fields")
        many = f" of {len(fields)} fields" if isinstance(fields, list) else ""
        _line(
            f"{entry.get('at')}  {entry.get('rows')} events{many} to "
            f"{entry.get('destination')}, by {entry.get('command')} "
            f"(SHA-256 {str(entry.get('sha256'))[:12]}){cut}"
        )


def _line(text: str) -> None:
    """One entry; folded on a terminal, whole in a pipe."""
    max_width = width() if sys.stdout.isatty() else max(display_width(text), 1)
    below = " " * (_INDENT if max_width >= _INDENT * 2 else 2)
    for part in fold(text, max_width, rest=below):
        print_line(part)
