"""Select the app of a command: `--app`, else the host's app, else the one that matches."""

from __future__ import annotations

from telemetry_kit import settings
from telemetry_kit._runtime import DEFAULT_APP, runtime
from telemetry_kit.cli.output import USAGE, CommandError
from telemetry_kit.consent import app_choice
from telemetry_kit.errors import ConfigurationError
from telemetry_kit.privacy import program

# These commands read no project of the user, so any app is right.
ABOUT_NO_APP = ("demo", "selftest", "schema")


def configure_app(command: str, app: str | None, project: str | None) -> None:
    """Configure the app of a command.

    Args:
        command: the command's name.
        app: the value of `--app`; None to find the app.
        project: a folder inside the project; None for the working directory.

    Raises:
        CommandError: several apps match, or the name is invalid.
    """
    if app is None and settings.current().app:
        return
    try:
        found = app if app is not None else app_choice.choose(project, runtime.environ)
    except ConfigurationError as error:
        if command not in ABOUT_NO_APP:
            raise CommandError(str(error), USAGE) from None
        found = DEFAULT_APP
    host = settings.current()
    try:
        settings.configure(app=found)
        if command not in ABOUT_NO_APP:
            settings.configure(**program.read_all(found, runtime.environ))
        if host.prog and found != host.app:
            # The host's commands with `--app`, if that is short enough, else our own command line.
            prog = f"{host.prog} --app {found}"
            settings.configure(prog=prog if settings.is_prog(prog) else "")
    except ConfigurationError as error:
        raise CommandError(str(error), USAGE) from None
