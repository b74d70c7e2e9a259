"""The door of the command line: command names, the file each lives in, and one line of help.

Nothing is imported here that `record` or `--help` does not need; Typer and rich come in with the
first interactive command.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

# Name, room, help. Aliases stand behind the name.
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
# Asked often: what is written without a mistake is read without Typer, which costs five times
# the interpreter's own start.
QUICK = ("view", "stats", "answers")
FAILED = 1
USAGE = 2
INTERRUPTED = 130


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    _open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("--help", "-h", "help"):
        return show(_help())
    if args[0] in ("--version", "-V"):
        from telemetry_kit._version import __version__  # deferred: only for this

        return show(f"telemetry-kit {__version__}\n")
    cold = _cold(args)
    if cold is not None:
        from telemetry_kit.cli import record  # deferred: the cold path

        return record.main(cold)
    from telemetry_kit.latch import SUPPORTED, UNSUPPORTED  # deferred: help needs none of it

    if not SUPPORTED:
        sys.stderr.write(f"telemetry-kit: {UNSUPPORTED}.\n")
        return FAILED
    unknown = _unknown(args)
    if unknown:
        sys.stderr.write(f"telemetry-kit: {unknown}\n")
        return USAGE
    done = _quick(args)
    if done is not None:
        return done
    from telemetry_kit.cli import app  # deferred: Typer, 60 ms

    return app.run(args)


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
    """
    from telemetry_kit.cli.app import build  # deferred: Typer, 60 ms

    return build(app)


def command_at(args: "Sequence[str]") -> "int | None":
    """Where the command is: the first word that is no global option, nor the value of one.

    Returns:
        Its index; None where there is none, or an option of another kind stands before it.
    """
    at = 0
    while at < len(args):
        if args[at] in ("--app", "--project"):
            at += 2
        elif args[at].startswith(("--app=", "--project=")):
            at += 1
        else:
            return None if args[at].startswith("-") else at
    return None


def _cold(args: "list[str]") -> "list[str] | None":
    """The arguments of `record` where that is the command, with the global options before it."""
    at = command_at(args)
    return None if at is None or args[at] not in COLD else args[:at] + args[at + 1 :]


def _quick(args: "list[str]") -> "int | None":
    """The exit code of one of `QUICK`; None where it is none, or Typer has to look at it."""
    at = command_at(args)
    if at is None or args[at] not in QUICK:
        return None
    from telemetry_kit.cli import quick  # deferred: only for these

    given: dict[str, str] = {}
    words = iter(args[:at])
    for word in words:
        name, equals, value = word.partition("=")
        given[name] = value if equals else next(words)
    return quick.run(args[at], given.get("--project"), given.get("--app"), args[at + 1 :])


def _unknown(args: "list[str]") -> str:
    """What to say when there is no such command; empty when there is."""
    at = command_at(args)
    known = [name for names, _, _ in COMMANDS for name in names]
    if at is None or args[at] in known:
        return ""
    from telemetry_kit.catalog import nearest  # deferred: only for a mistake

    near = nearest(args[at], known)[0]
    return f"there is no command {args[at][:40]!r}: did you mean {near!r}? See --help"


def _help() -> str:
    width = max(len(", ".join(names)) for names, _, _ in COMMANDS)
    lines = [f"  {', '.join(names):<{width}}  {text}" for names, _, text in COMMANDS]
    return "\n".join(
        [
            "Usage: telemetry-kit [--app NAME] [--project DIR] COMMAND [OPTIONS]",
            "",
            "See how you use a tool: local, opt-in, and nothing leaves this machine.",
            "",
            "Commands:",
            *lines,
            "",
            "Options:",
            "  --app NAME     the tool whose events are meant (default: the one that fits)",
            "  --project DIR  a folder inside the project (default: the working directory)",
            "  --version      print the version",
            "  --help         print this, or the help of a command",
            "",
        ]
    )


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
