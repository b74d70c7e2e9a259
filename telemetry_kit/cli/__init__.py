"""The command line: the table of commands, and `main()`, which runs one of them.

Nothing is imported here that `record` or `--help` does not need; the parser comes in with the
first other command.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import click
    import typer

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


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    _open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    at = command_at(args)
    name, words = "".join(args[at : at + 1]), args[at + 1 :]
    if not args or name in ("--help", "-h", "help"):
        return show(_help())
    if name in ("--version", "-V"):
        from telemetry_kit._version import __version__  # deferred: only for this

        return show(f"telemetry-kit {__version__}\n")
    if name in COLD:
        from telemetry_kit.cli import record  # deferred: the cold path

        return record.main(args[:at] + words)
    from telemetry_kit.cli.invocation import run_line  # deferred: the parser, 10 ms

    return run_line(args[:at], name, words)


def _open_streams() -> None:
    """Let no name of a folder, and no stream that was closed, be a failure of a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            # It stays open as long as we are, and nobody is told that it was left so.
            setattr(sys, name, open(nowhere, "w", closefd=False))  # noqa: SIM115
        elif getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def typer_app(app: "str | None" = None) -> "typer.Typer":
    """The interactive commands as a Typer app that a host mounts.

    `host.add_typer(telemetry_kit.cli.typer_app("acme"), name="telemetry")`

    Args:
        app: the host's app name; by default the one given to `configure()`.

    Raises:
        ModuleNotFoundError: Typer is not installed.
    """
    try:
        from telemetry_kit.cli.typer_adapter import build  # deferred: Typer
    except ModuleNotFoundError as error:
        raise _missing(error, "typer") from None
    return build(app)


def click_group(app: "str | None" = None) -> "click.Group":
    """The interactive commands as a Click group that a host mounts.

    `host.add_command(telemetry_kit.cli.click_group("acme"), name="telemetry")`

    Args:
        app: the host's app name; by default the one given to `configure()`.

    Raises:
        ModuleNotFoundError: Click is not installed.
    """
    try:
        from telemetry_kit.cli.click_adapter import build  # deferred: Click
    except ModuleNotFoundError as error:
        raise _missing(error, "click") from None
    return build(app)


def _missing(error: ModuleNotFoundError, name: str) -> ModuleNotFoundError:
    """What to raise where a library is not installed that the host mounts the commands with."""
    if error.name != name:
        return error
    sentence = f"{name} is not installed, and only hosts need it: pip install {name}"
    return ModuleNotFoundError(sentence, name=name)


def command_at(args: "Sequence[str]") -> int:
    """Where the command is: behind the global options and their values.

    Returns:
        The index of the first word that is none of these; it may lie behind the last word.
    """
    at = 0
    while at < len(args) and args[at].partition("=")[0] in GLOBAL_OPTIONS:
        at += 1 if "=" in args[at] else 2
    return at


def _help() -> str:
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
