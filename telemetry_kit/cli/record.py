"""`telemetry-kit record`: record one event from a script, through the direct driver.

Even on failure it exits with 0 and prints nothing, unless `--strict` is given. Only the imports of
a recorded event are made here.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE = 2
HELP = """\
Usage: telemetry-kit record EVENT [OPTIONS]

Record one event. Exits with 0 and prints nothing, whatever happens; nothing is written where
recording is off. Names outside the declared vocabulary are stored as pseudonyms.

Options:
  --role NAME           who is acting
  --command NAME        the command that runs
  --agent NAME          the agent at work
  --workflow NAME       the workflow it belongs to
  --source-agent NAME   who hands off
  --target-agent NAME   who takes over
  --outcome WORD        ok, error, cancelled or closed
  --exit-code NUMBER    exit code of a command
  --duration-ms NUMBER  how long it took
  --app NAME            the tool whose event it is (default: the one that fits)
  --project DIR         a folder inside the project (default: the working directory)
  --strict              say what is wrong with the arguments, with exit code 2
"""
_NAMES = ("role", "command", "agent", "workflow", "source_agent", "target_agent")
_OPTIONS = (*_NAMES, "outcome", "exit_code", "duration_ms", "app", "project")


class _UsageError(Exception):
    pass


def main(args: "list[str]") -> int:
    """Record what `args` say.

    Args:
        args: what stands behind `record`.

    Returns:
        0; with `--strict`, 2 when the arguments were wrong.
    """
    if "--help" in args or "-h" in args:
        from telemetry_kit.cli.registry import show  # deferred: the caller's own, already loaded

        return show(HELP)
    strict = "--strict" in args
    try:
        event, given = _parse([a for a in args if a != "--strict"])
        if strict:
            _check(event, given)
        _record(event, given)
    except _UsageError as error:
        return _complain(str(error)) if strict else 0
    except Exception:
        # A hook must never break the script it stands in.
        return 0
    return 0


def _parse(args: "list[str]") -> "tuple[str, dict[str, str]]":
    event = ""
    given: dict[str, str] = {}
    words = iter(args)
    for word in words:
        if not word.startswith("--"):
            if event:
                raise _UsageError(f"one event at a time: {_short(word)} is too many")
            event = word
            continue
        name, equals, value = word[2:].partition("=")
        key = name.replace("-", "_")
        if key not in _OPTIONS:
            raise _UsageError(f"there is no option --{_short(name)}: see record --help")
        if not equals:
            found = next(words, None)
            if found is None:
                raise _UsageError(f"--{name} needs a value")
            value = found
        given[key] = value
    if not event:
        raise _UsageError("which event? see record --help")
    return event, given


def _check(event: str, given: "Mapping[str, str]") -> None:
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
        raise _UsageError(str(error)) from None
    if not _is_folder(given.get("project", ".")):
        raise _UsageError(f"there is no folder {_short(given['project'])}")
    if given.get("outcome", "ok") not in catalog.OUTCOMES:
        raise _UsageError(f"--outcome is one of {', '.join(catalog.OUTCOMES)}")
    for key in ("exit_code", "duration_ms"):
        if key in given and _number(given[key]) is None:
            raise _UsageError(f"--{key.replace('_', '-')} needs a whole number")


def _record(event: str, given: "dict[str, str]") -> None:
    from telemetry_kit._runtime import runtime  # deferred: nothing may fail before it is caught

    project = given.get("project")
    if project is not None and not _is_folder(project):
        return
    app = given.pop("app", None) or runtime.app
    if not app:
        from telemetry_kit.consent import app_choice  # deferred: only where nobody names the app

        app = app_choice.choose(project, runtime.environ)
    runtime.app = app
    if runtime.is_off():
        return
    from telemetry_kit import (
        context,  # deferred: where consent may be given
        settings,  # deferred: where consent may be given
    )
    from telemetry_kit.consent import cache  # deferred: where consent may be given

    settings.configure(app=app)
    fields: dict[str, object] = dict(given)
    start = context.place(project)
    fields.pop("project", None)
    if not cache.is_allowed(start):
        return
    from telemetry_kit.recording import pipeline  # deferred: only where recording is on

    for key in ("exit_code", "duration_ms"):
        if key in given:
            fields[key] = _number(given[key])
    metadata = pipeline.EventMetadata("cli", None, start=start)
    pipeline.emit({**fields, "event": event, "_metadata": metadata})


def _is_folder(path: str) -> bool:
    import os  # deferred: as above, and loaded in any case

    return os.path.isdir(path)


def _number(text: str) -> "int | None":
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 12 else None


def _short(word: str) -> str:
    return repr(word[:40])[1:-1]


def _complain(sentence: str) -> int:
    sys.stderr.write(f"telemetry-kit record: {sentence}\n")
    return USAGE
