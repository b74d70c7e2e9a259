"""What every command does for the log after its output; never a failure of the command."""

from __future__ import annotations

from telemetry_kit import consent, control, grants, settings
from telemetry_kit.cli.output import info
from telemetry_kit.errors import TelemetryError, swallow


def run_maintenance(project: str | None) -> None:
    """Pack and thin out what is due, where the user has ever decided.

    Who never did has not been told that lines go after some days, and gets no files of ours.

    Args:
        project: a folder inside the project; None for the working directory.
    """
    from telemetry_kit.journal import archive, keeping  # deferred: only once the command has spoken

    if not settings.current().app:
        return
    try:
        home = control.home_of(project)
        if not consent.is_decided(home):
            return
        control.look_after(home)
        done = archive.maintain(home, control.retention_days(home), grants.today())
    except (TelemetryError, OSError):
        return  # `doctor` says what is wrong
    except Exception as error:
        swallow(error)
        return
    if done.crowded:
        info(
            f"telemetry-kit: the events took more than {keeping.MAX_BYTES >> 20} MiB: "
            f"the oldest {done.crowded} files of them were deleted"
        )
