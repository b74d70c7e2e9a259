"""`telemetry-kit record`: record one event from a script, through the direct driver.

It exits with 0 and prints nothing even on failure, unless `--strict` is given. It imports only what
a recorded event needs.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE = 2
HELP = """\
Usage: {program} record EVENT [OPTIONS]

Record one event. The command always exits with 0 and prints nothing. It writes nothing if
recording is off. Names outside the declared vocabulary are stored as pseudonyms.

Options:
  --role NAME           the role that acts
  --command NAME        the command that runs
  --agent NAME          the agent that works
  --workflow NAME       the workflow of the event
  --source-agent NAME   the agent before a hand-off
  --target-agent NAME   the agent after a hand-off
  --previous-role NAME  the role before a change
  --outcome WORD        ok, error, cancelled or closed
  --exit-code NUMBER    exit code of a command
  --duration-ms NUMBER  duration in milliseconds
  --app NAME            the tool that records (default: the one that matches)
  --project DIR         a folder inside the project (default: the working directory)
  --strict              report wrong arguments and exit with 2
"""
NAMES = (
    *("role", "command", "agent", "workflow", "source_agent", "target_agent"),
    "previous_role",
)
NUMBERS = ("exit_code", "duration_ms")
OPTIONS = (*NAMES, *NUMBERS, "outcome", "app", "project")


class UsageError(Exception):
    """An argument that is wrong, as one sentence."""


def main(args: "list[str]", program: str = "telemetry-kit") -> int:
    """Record the event that the arguments describe.

    Args:
        args: the words after `record`.
        program: the words that users type before `record`.

    Returns:
        0; with `--strict`, 2 if the arguments are wrong.
    """
    if "--help" in args or "-h" in args:
        from telemetry_kit.cli.registry import show  # deferred: recording an event needs no help

        return show(HELP.format(program=program))
    strict = "--strict" in args
    try:
        event, given = parse([a for a in args if a != "--strict"])
        if strict:
            check(event, given)
        record(event, given)
    except UsageError as error:
        if strict:
            sys.stderr.write(f"{program} record: {error}\n")
            return USAGE
    except Exception:
        return 0  # a hook must never break the script that calls it
    return 0


def parse(args: "list[str]") -> "tuple[str, dict[str, str]]":
    """Parse the arguments into the event's name and the values of the options."""
    event = ""
    given: dict[str, str] = {}
    words = iter(args)
    for word in words:
        if not word.startswith("--"):
            if event:
                raise UsageError(f"unexpected argument {word[:40]!r}: record one event at a time")
            event = word
            continue
        name, equals, value = word[2:].partition("=")
        key = name.replace("-", "_")
        if key not in OPTIONS:
            raise UsageError(f"there is no option {word[:40]!r}: see record --help")
        if not equals:
            found = next(words, None)
            if found is None:
                raise UsageError(f"--{name} needs a value: see record --help")
            value = found
        given[key] = value
    if not event:
        raise UsageError("the event is missing: see record --help")
    return event, given


def check(event: str, given: "Mapping[str, str]") -> None:
    """Check the arguments; only `--strict` does so.

    Raises:
        UsageError: the first one that is wrong.
    """
    # deferred: only with --strict
    from telemetry_kit import settings
    from telemetry_kit._runtime import runtime  # deferred: as above
    from telemetry_kit.consent import app_choice
    from telemetry_kit.errors import ConfigurationError, UnknownEventError
    from telemetry_kit.schema import catalog

    try:
        catalog.event(event)
        if "app" in given:
            settings.configure(app=given["app"])
        elif not settings.current().app:
            app_choice.choose(given.get("project"), runtime.environ)
    except (UnknownEventError, ConfigurationError) as error:
        raise UsageError(str(error)) from None
    if not os.path.isdir(given.get("project", ".")):
        raise UsageError(f"there is no folder {given['project'][:40]!r}: see --project")
    if given.get("outcome", "ok") not in catalog.OUTCOMES:
        raise UsageError(f"--outcome is one of {', '.join(catalog.OUTCOMES)}")
    for key in NUMBERS:
        if key in given and number(given[key]) is None:
            raise UsageError(f"--{key.replace('_', '-')} needs a whole number")


def record(event: str, given: "dict[str, str]") -> None:
    """Record the event if the user has granted consent."""
    from telemetry_kit._runtime import runtime  # deferred: nothing may fail before it is caught

    project = given.pop("project", None)
    if project is not None and not os.path.isdir(project):
        return
    app = given.pop("app", None) or runtime.app
    if not app:
        from telemetry_kit.consent import app_choice  # deferred: only if no app is named

        app = app_choice.choose(project, runtime.environ)
    runtime.app = app
    if runtime.is_off():
        return
    # deferred: only if consent may have been granted
    from telemetry_kit import context, settings
    from telemetry_kit.consent import cache  # deferred: as above

    settings.configure(app=app)
    start = context.place(project)
    if not cache.is_allowed(start):
        return
    from telemetry_kit.recording import pipeline  # deferred: only if recording is on

    fields: dict[str, object] = {
        key: number(text) if key in NUMBERS else text for key, text in given.items()
    }
    metadata = pipeline.EventMetadata("cli", None, start=start)
    pipeline.emit({**fields, "event": event, "_metadata": metadata})


def number(text: str) -> "int | None":
    """Parse a whole number of at most 12 digits."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None
