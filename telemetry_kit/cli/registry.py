"""The table of commands with one line of help each, and the help of the whole command line.

`record`, `hook` and `--help` import nothing else.
"""

import sys

# The names, the module and the help of a command.
Row = tuple[tuple[str, ...], str, str]
COMMANDS: tuple[Row, ...] = (
    (("demo",), "demo", "Run the example program in a temporary project and show what it records."),
    (("status",), "status", "Show whether events are recorded here, and why."),
    (("enable", "on"), "enable", "Start recording in this project."),
    (("disable", "off"), "disable", "Stop recording in this project."),
    (("preview",), "preview", "Show the notice, the names in plain text, and sample events."),
    (("record",), "record", "Record one event, from a script or a slash command; never fails."),
    (("hook",), "hook", "Record what a coding agent reports to a hook; never fails."),
    (("hooks",), "hooks", "Install the hooks of coding agents, remove them, or show them."),
    (("names",), "names", "List the names of agents and commands that this repository shows."),
    (("projects",), "projects", "List your projects with events, from all folders."),
    (("view",), "view", "Show the recorded events."),
    (("stats",), "stats", "Show usage, results, durations and the trend."),
    (("answers",), "answers", "Answer the questions that the events are recorded for."),
    (("export",), "export", "Write the events to a file: json, jsonl, csv, parquet, sqlite, otlp."),
    (("import",), "import_", "Take the events of another log or an export into this project."),
    (("verify",), "verify", "Check all stored data against the schema and print a report."),
    (("find",), "find", "Search the events for a text, in plain text or as a pseudonym."),
    (("forget",), "forget", "Delete the events that contain a text, also from archives."),
    (("selftest",), "selftest", "Record 1,000 events and check for network access and output."),
    (("rotate-key",), "rotate_key", "Replace the key of the pseudonyms now."),
    (("doctor",), "doctor", "Check consent, key, files and git, and repair problems."),
    (("clear",), "clear", "Delete the recorded events and the key of their pseudonyms."),
    (("reset",), "reset", "Delete everything: events, key, decision and its history."),
    (("audit",), "audit", "Show past decisions and exports, and check both records."),
    (("schema",), "schema", "Print the data dictionary: what may be recorded, and why."),
)
# These parse their own arguments, because loading a parser would cost more than the event.
COLD = ("record", "hook")
# The options before the command: name, value and help of each.
GLOBAL_OPTIONS = {
    "--app": ("NAME", "The tool that recorded the events (default: the one that matches)."),
    "--project": ("DIR", "A folder inside the project (default: the working directory)."),
}
# The line in the help of a program. A longer one would change the widths of its columns.
SHORT_HELP = "Show how you use a tool."
HELP = f"{SHORT_HELP} It is opt-in, and all data stays on this machine."


def overview(program: str) -> str:
    """Return the help of the whole command line.

    Args:
        program: the words that users type before a command.
    """
    commands = [(", ".join(names), text) for names, _, text in COMMANDS]
    options = [(f"{name} {value}", text) for name, (value, text) in GLOBAL_OPTIONS.items()]
    options += [
        ("--version", "Print the version."),
        ("--help", "Print this help, or the help of a command."),
    ]
    usage = " ".join(f"[{name} {value}]" for name, (value, _) in GLOBAL_OPTIONS.items())
    lines = [f"Usage: {program} {usage} COMMAND [OPTIONS]", "", HELP]
    for title, rows in (("Commands", commands), ("Options", options)):
        width = max(len(left) for left, _ in rows)
        lines += ["", f"{title}:", *(f"  {left:<{width}}  {right}" for left, right in rows)]
    return "\n".join([*lines, ""])


def show(text: str) -> int:
    """Print a text.

    Returns:
        The exit code: 0, or 1 if stdout cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        from telemetry_kit.cli.output import report_os_error  # deferred: only for a failure

        return report_os_error(error)
    return 0
