"""`telemetry-kit hook`: record what a coding agent reports, through the direct driver.

It exits with 0 and prints nothing, also on failure: an agent may read what a hook prints, and ask
its user about a hook that fails. It imports only what a recorded event needs.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HELP = """\
Usage: {program} hook AGENT EVENT [OPTIONS]

Record what a coding agent reports to a hook. The payload is one JSON object on stdin. The command
always exits with 0 and prints nothing. It writes nothing if recording is off.
Of the payload, it reads IDs, names of commands and sub-agents, and words for the outcome.

Agents: claude, copilot, codex, gemini, cursor

Options:
  --app NAME            the tool that records; give it once for each tool to choose from
                        (default: the one that matches)
  --project DIR         a folder inside the project (default: the working directory)
"""
MAX_BYTES = 8 << 20


def main(args: "list[str]", program: str = "telemetry-kit") -> int:
    """Record one event of a coding agent, if its user has granted consent.

    Args:
        args: the words after `hook`.
        program: the words that users type before `hook`.

    Returns:
        0.
    """
    if "--help" in args or "-h" in args:
        from telemetry_kit.cli.registry import show  # deferred: recording an event needs no help

        return show(HELP.format(program=program))
    try:
        hook(args)
    except Exception:
        return 0  # a hook must never stop the agent that runs it
    return 0


def hook(args: "list[str]") -> None:
    """Record the payload on stdin as the arguments say.

    Raises:
        ValueError: the arguments are no agent and event, or an option has no value.
    """
    from telemetry_kit._runtime import runtime  # deferred: nothing may fail before it is caught

    apps, project, words = parse(args)
    agent, event = words
    if project is not None and not os.path.isdir(project):
        return
    if not apps:
        apps = [runtime.app] if runtime.app else _known_apps()
    if len(apps) == 1:
        runtime.app = apps[0]
    if not apps or (len(apps) == 1 and runtime.is_off()):
        return
    # deferred: only if consent may have been granted
    from telemetry_kit.agents import formats
    from telemetry_kit.cli import record

    data = payload()
    report = formats.read(agent, event, formats.parse(data)) if data else None
    if report is None:
        return
    app = apps[0]
    if len(apps) > 1:
        from telemetry_kit.agents.apps import choose_app  # deferred: most users have hooks of one

        app = choose_app(report, apps, project)
    names = {report.field: report.name} if report.name else {}
    if app and record.is_on(app, project, names):
        from telemetry_kit.agents import hook  # deferred: only if recording is on

        hook.record(report, project)


def parse(args: "list[str]") -> "tuple[list[str], str | None, list[str]]":
    """Parse the arguments into the apps, the project and the other words.

    Raises:
        ValueError: an option is unknown or has no value.
    """
    given: dict[str, list[str]] = {"--app": [], "--project": []}
    words = iter(args)
    others = []
    for word in words:
        if not word.startswith("--"):
            others.append(word)
            continue
        name, equals, value = word.partition("=")
        value = value if equals else next(words, "")
        if name not in given or not value:
            raise ValueError("an unknown option, or one without a value")
        given[name].append(value)
    project = given["--project"][-1] if given["--project"] else None
    return list(dict.fromkeys(given["--app"])), project, others


def _known_apps() -> "list[str]":
    """Return the app that the environment names, else all apps that the user has decided about."""
    from telemetry_kit._runtime import runtime  # deferred: as above
    from telemetry_kit.consent import app_choice  # deferred: only if no app is named

    named = runtime.environ.get(app_choice.VARIABLE, "").strip()
    return [named] if named else app_choice.decided_apps(runtime.environ)


def payload() -> bytes:
    """Read stdin to its end; no bytes if it is a terminal, is closed, or has more than 8 MiB.

    An agent that still writes when the hook exits would get an error.
    """
    stream: Any = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        return b""
    data: bytes = stream.read(MAX_BYTES + 1)
    if len(data) <= MAX_BYTES:
        return data
    while stream.read(MAX_BYTES):
        pass
    return b""
