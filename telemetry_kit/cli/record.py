"""`telemetry-kit record`: record one event from a script, through the direct driver.

It exits with 0 and prints nothing even on failure, unless `--strict` or `--print-span` is given. It
imports only what a recorded event needs.
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
Two events with the same span are the start and the end of the same work.

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
  --span ID             the span that --print-span printed, or any other text
  --print-span          print the span of the event, or nothing if recording is off
  --app NAME            the tool that records (default: the one that matches)
  --project DIR         a folder inside the project (default: the working directory)
  --strict              report wrong arguments and exit with 2
"""
NAMES = (
    *("role", "command", "agent", "workflow", "source_agent", "target_agent"),
    "previous_role",
)
NUMBERS = ("exit_code", "duration_ms")
OPTIONS = (*NAMES, *NUMBERS, "outcome", "span", "app", "project")
FLAGS = ("--strict", "--print-span")
MAX_SPAN_CHARS = 1_024


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
        event, given = parse([a for a in args if a not in FLAGS])
        if strict:
            check(event, given)
        span = record(event, given, "--print-span" in args)
        if span and "--print-span" in args:
            sys.stdout.write(f"{span}\n")
            sys.stdout.flush()
    except UsageError as error:
        if strict:
            from telemetry_kit.cli.output import info  # deferred: only for a mistake

            info(f"{program} record: {error}")
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


def record(event: str, given: "dict[str, str]", is_new_span: bool = False) -> str:
    """Record the event if the user has granted consent.

    Args:
        event: its type.
        given: the values of the options.
        is_new_span: whether it gets a span if none is given.

    Returns:
        The span for later commands; empty if the event has none or was not recorded.
    """
    from telemetry_kit._runtime import runtime  # deferred: nothing may fail before it is caught

    project = given.pop("project", None)
    if project is not None and not os.path.isdir(project):
        return ""
    app = given.pop("app", None) or runtime.app
    if not app:
        from telemetry_kit.consent import app_choice  # deferred: only if no app is named

        app = app_choice.choose(project, runtime.environ)
    if not is_on(app, project, given):
        return ""
    from telemetry_kit import context  # deferred: only if recording is on
    from telemetry_kit.recording import pipeline  # deferred: only if recording is on
    from telemetry_kit.recording.recorder import recorder_for  # deferred: as above

    start = context.place(project)
    span, printed = given.pop("span", "")[:MAX_SPAN_CHARS], ""
    fields: dict[str, object] = dict(given)
    for key in NUMBERS:
        value = number(given.get(key, ""))
        if value is not None:
            fields[key] = value  # what is no number stays a text, which is dropped and counted
    metadata = pipeline.EventMetadata("cli", None, start=start)

    def drive(event: "dict[str, object]") -> "dict[str, object]":
        nonlocal printed
        if span or is_new_span:
            # Under the key of this attempt.
            metadata.span_id, printed = recorder_for(start).span_of(span)
        return pipeline.drive(event)

    recorded = pipeline.emit({**fields, "event": event, "_metadata": metadata}, drive)
    return printed if recorded is not None else ""


def is_on(app: str, project: "str | None", names: "Mapping[str, str]") -> bool:
    """Whether an app may record in a project. The settings are then those that it has stored.

    Args:
        app: the app.
        project: a directory in the project; None for the working directory.
        names: the names of the event by their fields.
    """
    from telemetry_kit._runtime import runtime  # deferred: as above

    runtime.app = app
    if runtime.is_off():
        return False
    # deferred: only if consent may have been granted
    from telemetry_kit import context, settings
    from telemetry_kit.consent import cache  # deferred: as above
    from telemetry_kit.privacy import program  # deferred: as above

    # A host that mounts this command has declared everything itself.
    if settings.current().app != app:
        settings.configure(app=app, **program.read(app, runtime.environ, names))
    return cache.is_allowed(context.place(project))


def number(text: str) -> "int | None":
    """Parse a whole number of at most 12 digits."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None
