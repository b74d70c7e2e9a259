"""The command line: `main()`, and the same commands for hosts to mount.

`record`, `hook` and `--help` load no parser.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import click
    import typer

# The options before a command; a test compares them with the table.
_BEFORE = ("--app", "--project")


def main(argv: "Sequence[str] | None" = None, program: str = "telemetry-kit") -> int:
    """Run the command line.

    Args:
        argv: the arguments; those of the process by default.
        program: the words that users type before a command.

    Returns:
        The exit code: 0 done, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    _open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    at = _command_at(args)
    name, words = "".join(args[at : at + 1]), args[at + 1 :]
    if name == "record":
        from telemetry_kit.cli import record  # deferred: the cold path

        return record.main(args[:at] + words, program)
    if name == "hook":
        from telemetry_kit.cli import hook  # deferred: as above

        return hook.main(args[:at] + words, program)
    # deferred: `record` and `hook` need no table
    from telemetry_kit.cli.registry import overview, show

    if not args or name in ("--help", "-h", "help"):
        return show(overview(program))
    if name in ("--version", "-V"):
        from telemetry_kit._version import __version__  # deferred: only for this

        return show(f"telemetry-kit {__version__}\n")
    from telemetry_kit.cli.invocation import run_line  # deferred: the parser, 10 ms
    from telemetry_kit.cli.output import guarded  # deferred: as above

    return guarded(lambda: run_line(args[:at], name, words))


def _open_streams() -> None:
    """Replace closed standard streams."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_WRONLY)
            # It stays open until the process ends; `closefd` prevents a warning about that.
            setattr(sys, name, open(null, "w", closefd=False))  # noqa: SIM115


def typer_app(app: "str | None" = None) -> "typer.Typer":
    """Return the commands as a Typer app that a host mounts under the name `telemetry`.

    Each notice and message then says `<app> telemetry`, unless `configure(prog=...)` names others.

    Example:
        >>> import typer
        >>> host = typer.Typer()
        >>> host.add_typer(typer_app("acme"), name="telemetry")

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
    """Return the commands as a Click group that a host mounts under the name `telemetry`.

    Each notice and message then says `<app> telemetry`, unless `configure(prog=...)` names others.

    Example:
        >>> import click
        >>> host = click.Group("acme")
        >>> host.add_command(click_group("acme"), name="telemetry")

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
    """Return the error for a library that is not installed; another error stays as it is."""
    if error.name != name:
        return error
    sentence = f"{name} is not installed. Hosts that mount the commands need it: pip install {name}"
    return ModuleNotFoundError(sentence, name=name)


def _command_at(args: "Sequence[str]") -> int:
    """Return the index of the command, after the global options and their values."""
    at = 0
    while at < len(args) and args[at].partition("=")[0] in _BEFORE:
        at += 1 if "=" in args[at] else 2
    return at
