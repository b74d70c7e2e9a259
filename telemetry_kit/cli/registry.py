"""The table of commands: names, the module of each, one line of help, and the help printer.

Only what `record` and `--help` need is imported here.
"""

import os
import sys

# Name and aliases, module, help.
COMMANDS = (
    (
        ("demo",),
        "demo",
        "Run the example program in a temporary project and show what is recorded.",
    ),
    (("status",), "status", "Say whether events are recorded here, and why."),
    (("enable", "on"), "enable", "Start recording in this project."),
    (("disable", "off"), "disable", "Stop recording in this project."),
    (("preview",), "preview", "Show the notice and a sample of each event; writes nothing."),
    (("record",), "record", "Record one event (for scripts and slash commands); never fails."),
    (("view",), "view", "Show the recorded events."),
    (("stats",), "stats", "Show what is used, how it ends, how long it takes, and the trend."),
    (("answers",), "answers", "Answer the questions that the events are recorded for."),
    (("export",), "export", "Write the events to a file: json, jsonl, csv, parquet, sqlite, otlp."),
    (("verify",), "verify", "Prove that nothing is stored that should not be: a certificate."),
    (("find",), "find", "Say whether a text is in the events, in clear or as a pseudonym."),
    (("forget",), "forget", "Remove the events that hold a text, from archives too."),
    (("selftest",), "selftest", "Record 1,000 events under a watch: no network, no output."),
    (("rotate-key",), "rotate_key", "Replace the key of the pseudonyms by a fresh one now."),
    (("doctor",), "doctor", "Check that everything is in order, and mend what safely can be."),
    (("clear",), "clear", "Delete the recorded events and the key that made their pseudonyms."),
    (("reset",), "reset", "Erase everything: events, key, decision and its history."),
    (("audit",), "audit", "Show what was decided, when and how, and whether the record is whole."),
    (("schema",), "schema", "Print the data dictionary: what may be recorded, and why."),
)
# These parse their own arguments, because loading a parser would cost more than the event.
COLD = ("record",)
# They stand before the command; name, value and help of each.
GLOBAL_OPTIONS = {
    "--app": ("NAME", "The tool whose events are meant (default: the one that fits)."),
    "--project": ("DIR", "A folder inside the project (default: the working directory)."),
}
HELP = "See how you use a tool: local, opt-in, and nothing leaves this machine."


def overview() -> str:
    """The help of the whole command line."""
    commands = [(", ".join(names), text) for names, _, text in COMMANDS]
    options = [(f"{name} {value}", text) for name, (value, text) in GLOBAL_OPTIONS.items()]
    options += [
        ("--version", "Print the version."),
        ("--help", "Print this, or the help of a command."),
    ]
    usage = " ".join(f"[{name} {value}]" for name, (value, _) in GLOBAL_OPTIONS.items())
    lines = [f"Usage: telemetry-kit {usage} COMMAND [OPTIONS]", "", HELP]
    for title, rows in (("Commands", commands), ("Options", options)):
        width = max(len(left) for left, _ in rows)
        lines += ["", f"{title}:", *(f"  {left:<{width}}  {right}" for left, right in rows)]
    return "\n".join([*lines, ""])


def show(text: str) -> int:
    """Print a text.

    Returns:
        The exit code: 0, or 1 where the system refused to take it.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Without this the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(error, BrokenPipeError):  # that is a reader who has seen enough
            sys.stderr.write(f"telemetry-kit: not finished, the system says: {error.strerror}\n")
            return 1
    return 0
