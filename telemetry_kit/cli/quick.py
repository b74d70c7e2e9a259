"""Commands that are asked often: their options are read here, as Typer costs more than they do.

Only what is written without a mistake is taken; everything else, and `--help`, goes to Typer,
which gets the same table of options. So both ways accept the same words.
"""

from __future__ import annotations

from importlib import import_module

from telemetry_kit.cli.maintenance import look_after
from telemetry_kit.cli.naming import name_app
from telemetry_kit.cli.terminal import (
    FAILED,
    INTERRUPTED,
    USAGE,
    Problem,
    flush,
    no_folder,
    refused,
    safe,
    say,
    stop_output,
)
from telemetry_kit.errors import TelemetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Given = dict[str, Any]
    Main = Callable[..., None]

FLAG, TEXT, COUNT = "flag", "text", "count"


class Option:
    """One option of a command.

    Args:
        names: as it is written, `-n` and `--limit` for instance.
        key: the argument of the command's function.
        kind: `FLAG`, `TEXT`, or `COUNT`, a whole number of at least one.
        help: one sentence.
        metavar: what stands for the value in the help.
        default: the value where it is not given.
    """

    __slots__ = ("default", "help", "key", "kind", "metavar", "names")

    def __init__(
        self,
        names: tuple[str, ...],
        key: str,
        kind: str,
        help: str,  # noqa: A002 - Typer's word
        metavar: str = "",
        default: Any = None,
    ) -> None:
        self.names = names
        self.key = key
        self.kind = kind
        self.help = help
        self.metavar = metavar
        self.default = False if kind == FLAG else default


PERIOD = (
    Option(
        ("--since",), "since", TEXT, "From this day on: 2026-11-23, today, 7d, 2w, 3m ago.", "DATE"
    ),
    Option(("--until",), "until", TEXT, "Up to and with this day.", "DATE"),
)
ROLE = Option(("--role",), "role", TEXT, "Only events of this role.", "NAME")
JSON = Option(("--json",), "as_json", FLAG, "Print JSON.")


def run(room: str, project: str | None, app: str | None, words: Sequence[str]) -> int | None:
    """Run a command.

    Args:
        room: the file it lives in.
        project: a folder inside the project; None for the working directory.
        app: the tool whose events are meant; None for the configured one.
        words: what stands behind the command.

    Returns:
        The exit code; None where Typer has to look at it.
    """
    module = import_module(f"telemetry_kit.cli.{room}")
    given = parse(module.OPTIONS, words)
    if given is None:
        return None
    code = 0
    try:
        mistake = no_folder(project)
        if mistake:
            raise Problem(mistake, USAGE)
        name_app(room, app, project)
        try:
            module.run(project, **given)
            flush()
        finally:
            look_after(project)
    except Problem as problem:
        say(f"telemetry-kit: {problem}")
        code = problem.code
    except TelemetryError as error:
        say(f"telemetry-kit: {error}")
        code = FAILED
    except KeyboardInterrupt:
        say()
        code = INTERRUPTED
    except BrokenPipeError:
        stop_output()  # the reader has seen enough
    except OSError as error:
        stop_output()
        say(f"telemetry-kit: {refused(error)}")
        code = FAILED
    return code


def parse(options: Sequence[Option], words: Sequence[str]) -> Given | None:
    """The values of the options; None where a word is not understood.

    Args:
        options: those there are.
        words: what was typed.
    """
    found: Given = {option.key: option.default for option in options}
    by_name = {name: option for option in options for name in option.names}
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        option = by_name.get(name)
        if option is None or (equals and (option.kind == FLAG or not name.startswith("--"))):
            return None
        if option.kind == FLAG:
            found[option.key] = True
            continue
        if not equals:
            value = next(left, "")
        if not value or value.startswith("-"):
            return None
        if option.kind == COUNT:
            if not (value.isascii() and value.isdigit() and len(value) < 16 and int(value) > 0):
                return None
            found[option.key] = int(value)
        else:
            found[option.key] = value
    return found


def _counted(option: Option, text: str) -> int:
    """A count as it was typed.

    Raises:
        Problem: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 99 and int(text) > 0):
        name = "/".join(option.names)
        raise Problem(f"{name} {safe(text[:20])!r}: write a whole number of at least 1", USAGE)
    return int(text)


def command(options: Sequence[Option], main: Main, name: str) -> Callable[..., None]:
    """The same command as Typer wants it.

    Args:
        options: those there are.
        main: what runs it, given the project and the values.
        name: of the command.
    """
    import inspect  # deferred: only for Typer
    from typing import Annotated  # deferred: as above

    import typer  # deferred: 85 ms, and only help and mistakes need it

    def function(context: typer.Context, **given: Any) -> None:
        for option in options:
            if option.kind == COUNT:
                given[option.key] = _counted(option, str(given[option.key]))
        main(context.obj.project, **given)
        flush()

    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    for option in options:
        # A count is text to Typer, so that what is wrong with it is said by us.
        kind: Any = bool if option.kind == FLAG else str
        default = str(option.default) if option.kind == COUNT else option.default
        if default is None:
            kind = kind | None
        made = typer.Option(
            *option.names,
            help=option.help,
            metavar=option.metavar or None,
        )
        parameters.append(
            inspect.Parameter(
                option.key, keyword, default=default, annotation=Annotated[kind, made]
            )
        )
    function.__name__ = name
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function
