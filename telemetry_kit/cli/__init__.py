"""The command line: `main()`, and the same commands for hosts to mount.

Only what `record` and `--help` need is imported here. The first other command loads the parser.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import click
    import typer

# The options that may stand before a command; a test compares them with the table.
_BEFORE = ("--app", "--project")


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        The exit code: 0 done, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    _open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    at = _command_at(args)
    name, words = "".join(args[at : at + 1]), args[at + 1 :]
    if name == "record":
        from telemetry_kit.cli import record  # deferred: the cold path

        return record.main(args[:at] + words)
    from telemetry_kit.cli.registry import overview, show  # deferred: `record` needs no table

    if not args or name in ("--help", "-h", "help"):
        return show(overview())
    if name in ("--version", "-V"):
        from telemetry_kit._version import __version__  # deferred: only for this

        return show(f"telemetry-kit {__version__}\n")
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


def _command_at(args: "Sequence[str]") -> int:
    """Where the command is: behind the global options and their values.

    Returns:
        The index of the first word that is none of these; it may lie behind the last word.
    """
    at = 0
    while at < len(args) and args[at].partition("=")[0] in _BEFORE:
        at += 1 if "=" in args[at] else 2
    return at
