"""Maintenance of the log after each command's output; it never makes the command fail."""

from __future__ import annotations

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import counted, in_bytes, info
from telemetry_kit.consent import changes, decision, policy
from telemetry_kit.errors import TelemetryError, swallow


def run_maintenance(project: str | None) -> None:
    """Compress segments and delete expired lines, if the user has ever decided.

    A user who has never decided does not know about the retention, and gets no files of ours.

    Args:
        project: a folder inside the project; None for the working directory.
    """
    # deferred: after the output of the command
    from telemetry_kit.agents import pending
    from telemetry_kit.storage import limits, maintenance

    if not settings.current().app:
        return
    try:
        paths = changes.paths_of(project)
        if not policy.is_decided(paths):
            return
        changes.prepare_project(paths)
        pending.sweep(paths.state)
        done = maintenance.maintain(
            paths, policy.decide(paths, runtime.environ).keep_days, decision.today()
        )
    except (TelemetryError, OSError):
        return  # `doctor` reports the problem
    except Exception as error:
        swallow(error)
        return
    if done.deleted_for_space:
        info(
            f"{runtime.program}: the events took more than {in_bytes(limits.MAX_BYTES)}: "
            f"the oldest {counted(done.deleted_for_space, 'file was', 'files were')} deleted"
        )
