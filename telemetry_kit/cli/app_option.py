"""Select the app of a command: `--app`, else the host's name, else the one that matches."""

from __future__ import annotations

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import USAGE, CommandError
from telemetry_kit.consent import app_choice
from telemetry_kit.errors import ConfigurationError

# Commands about no project of the user's: any name will do.
ABOUT_NO_APP = ("demo", "selftest", "schema")


def name_app(command: str, app: str | None, project: str | None) -> None:
    """Configure the app that a command is about.

    Args:
        command: the command's name.
        app: the app that was named; None to find it.
        project: a folder inside the project; None for the working directory.

    Raises:
        CommandError: several apps fit, or the name is none.
    """
    if app is None and settings.current().app:
        return
    try:
        settings.configure(app=app if app is not None else _found(command, project))
    except ConfigurationError as error:
        raise CommandError(str(error), USAGE) from None


def _found(command: str, project: str | None) -> str:
    try:
        return app_choice.choose(project, runtime.environ)
    except ConfigurationError:
        if command in ABOUT_NO_APP:
            return app_choice.DEFAULT
        raise
