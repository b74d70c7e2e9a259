"""The options and arguments of commands as data, and the argparse parser made from them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from telemetry_kit.cli.output import USAGE, CommandError, safe, width
from telemetry_kit.cli.registry import GLOBAL_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

FLAG, TEXT, TEXTS, COUNT = "flag", "text", "texts", "count"
_MAX_HELP_COLUMNS = 100
_HELP_COLUMN = 24


class Option:
    """One option of a command.

    Args:
        names: as it is written, `-n --limit` for instance.
        help: one sentence.
        metavar: the name of the value in the help; None for a flag.
        kind: `FLAG`, `TEXT`, `TEXTS` where it may be given several times, or `COUNT`, a whole
            number of at least one; by default a flag, or a text where there is a metavar.
        default: the value if the option is not given.
        key: the argument of the command's function; its last name by default.
    """

    __slots__ = ("default", "help", "key", "kind", "metavar", "names")

    def __init__(
        self,
        names: str,
        help: str,  # noqa: A002 - the word of argparse, Click and Typer
        metavar: str | None = None,
        kind: str | None = None,
        default: str | int | None = None,
        key: str | None = None,
    ) -> None:
        self.names = names.split()
        self.help = help if default is None else f"{help.rstrip('.')} (default: {default})."
        self.metavar = metavar
        self.kind = kind or (TEXT if metavar else FLAG)
        self.default = default
        self.key = key or self.names[-1].removeprefix("--").replace("-", "_")


class Argument:
    """One argument of a command.

    Args:
        key: the argument of the command's function.
        metavar: its name in the help.
        help: one sentence.
        many: whether there may be none or several.
    """

    __slots__ = ("help", "key", "many", "metavar")

    def __init__(
        self,
        key: str,
        metavar: str,
        help: str,  # noqa: A002 - as above
        many: bool = False,
    ) -> None:
        self.key = key
        self.metavar = f"[{metavar}]..." if many else metavar
        self.help = help
        self.many = many


Parameters = Sequence[Option | Argument]

_PERIOD = (
    Option("--since", "From this day on: 2026-11-23, today, 7d, 2w, 3m ago.", "DATE"),
    Option("--until", "Up to and with this day.", "DATE"),
)
_ROLE = Option("--role", "Only events of this role.", "NAME")
_JSON = Option("--json", "Print JSON.", key="as_json")
# The options and arguments of each command, in the order of its help.
PARAMETERS: dict[str, Parameters] = {
    "demo": (Option("--keep", "Keep the temporary folder."),),
    "status": (
        Option("--explain", "Show every rule and what it said."),
        _JSON,
        Option("--simulate", "As if this variable were set.", "VAR=VALUE", kind=TEXTS),
        Option(
            "--check",
            "Exit with 0 recording, 10 off, 11 vetoed, 12 notice outdated, 13 not writable.",
        ),
    ),
    "enable": (
        Option("--yes", "Say yes without being asked."),
        Option("--no", "Say no without being asked."),
        Option("--all-projects", "In all projects, not only this one."),
    ),
    "disable": (Option("--all-projects", "In all projects, not only this one."),),
    "preview": (Option("--json", "Print the samples only.", key="as_json"),),
    "view": (
        Option("-n --limit", "How many events, or sessions, to show.", "N", kind=COUNT, default=20),
        *_PERIOD,
        Option("--event", "Only events of this type.", "TYPE"),
        _ROLE,
        Option("--agent", "Only events of this agent.", "NAME"),
        Option("--command", "Only events of this command.", "NAME", key="of_command"),
        Option("--outcome", "Only events that ended like this.", "WORD"),
        Option(
            "--project",
            "A folder inside the project, or a project's pseudonym.",
            "DIR|CODE",
            key="other",
        ),
        Option("--wide", "Also show ids, sequence, source and key epoch."),
        Option("--json", "Print whole records, one JSON object per line.", key="as_json"),
        Option("--follow", "Go on with new events as they come, until Ctrl-C."),
        Option("--tree", "Show sessions as trees, newest first."),
    ),
    "stats": (*_PERIOD, _ROLE, _JSON),
    "answers": (*_PERIOD, _ROLE, _JSON),
    "export": (
        Option(
            "--format",
            "How to write it.",
            "json|jsonl|csv|parquet|sqlite|otlp-json",
            default="jsonl",
            key="form",
        ),
        *_PERIOD,
        _ROLE,
        Option("--event", "Only events of this type.", "TYPE"),
        Option("-o --output", "Where to; stdout by default.", "FILE"),
        Option("--precise", "Leave times as stored instead of cut to the day."),
        Option("--dictionary", "Also write FILE.dictionary.md."),
        Option("--history", "Also write FILE.consent.jsonl: what you decided."),
        Option("--force", "Replace what is there."),
    ),
    "verify": (Argument("files", "FILE", "Exports, reports, other files.", many=True), _JSON),
    "find": (Argument("text", "TEXT", "What to look for; - reads stdin."), _JSON),
    "forget": (
        Argument("text", "TEXT", "What to forget; - reads stdin."),
        Option("--yes", "Remove without being asked."),
    ),
    "selftest": (_JSON,),
    "rotate-key": (Option("--yes", "Replace it without being asked."),),
    "doctor": (Option("--fix", "Mend what safely can be."), _JSON),
    "clear": (
        Option("--before", "Only events of earlier days (YYYY-MM-DD).", "DATE"),
        Option("--yes", "Delete without being asked."),
    ),
    "reset": (
        Option("--all-projects", "In every project, not only this one."),
        Option("--yes", "Erase without being asked."),
    ),
    "audit": (_JSON,),
    "schema": (
        Option("--format", "How to print it.", "md|json|jsonschema", default="md", key="form"),
    ),
}


def parse(
    command: str, text: str, parameters: Parameters, words: Sequence[str]
) -> dict[str, Any] | None:
    """Read the words after a command.

    Args:
        command: its name.
        text: its help, one sentence.
        parameters: its options and arguments.
        words: what the user typed.

    Returns:
        The values by key; None if the user asked for help, which is printed.

    Raises:
        CommandError: an option is unknown, or a value is missing.
    """
    parser = _parser(command, text, parameters)
    try:
        found, unknown = parser.parse_known_args(words)
    except SystemExit:
        return None  # by --help alone: every mistake raises CommandError
    values = vars(found)
    many = next((p.key for p in parameters if isinstance(p, Argument) and p.many), "")
    if many and not any(word.startswith("-") for word in unknown):
        # argparse takes them up to the next option only; its "intermixed" loses what follows `--`.
        values[many] += unknown
    elif unknown:
        raise CommandError(_not_understood(command, parameters, unknown), USAGE)
    return values


def converted(parameters: Parameters, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the command's function takes them: counts as numbers, several texts as tuples.

    Args:
        parameters: the options and arguments of the command.
        values: what a parser found, by key.

    Raises:
        CommandError: a count is not a whole number of at least 1.
    """
    found = dict(values)
    for parameter in parameters:
        value = found[parameter.key]
        if isinstance(parameter, Argument):
            found[parameter.key] = tuple(value or ()) if parameter.many else value
        elif parameter.kind == TEXTS:
            found[parameter.key] = tuple(value or ())
        elif parameter.kind == COUNT:
            found[parameter.key] = _count(parameter, str(value))
    return found


def _count(option: Option, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 99 and int(text) > 0):
        name = "/".join(option.names)
        raise CommandError(f"{name} {text[:20]!r}: write a whole number of at least 1", USAGE)
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sentence = safe(message.removeprefix("argument "))
        raise CommandError(f"{sentence}. See {self.prog} --help", USAGE)


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        columns = min(width(), _MAX_HELP_COLUMNS)
        super().__init__(prog, max_help_position=_HELP_COLUMN, width=columns)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        super().add_usage(usage, actions, groups, "Usage: " if prefix is None else prefix)


def _parser(command: str, text: str, parameters: Parameters) -> argparse.ArgumentParser:
    names = [p.metavar for p in parameters if isinstance(p, Argument)]
    parser = _Parser(
        prog=f"telemetry-kit {command}",
        usage=" ".join(["%(prog)s [OPTIONS]", *names]),
        description=text,
        formatter_class=_Formatter,
        add_help=False,
        allow_abbrev=False,
    )
    arguments, options = map(parser.add_argument_group, ("Arguments", "Options"))
    for parameter in parameters:
        text = parameter.help.replace("%", "%%")
        if isinstance(parameter, Argument):
            arguments.add_argument(
                parameter.key,
                nargs="*" if parameter.many else None,
                metavar=parameter.metavar,
                help=text,
            )
        elif parameter.kind == FLAG:
            options.add_argument(
                *parameter.names, dest=parameter.key, action="store_true", help=text
            )
        else:
            options.add_argument(
                *parameter.names,
                dest=parameter.key,
                action="append" if parameter.kind == TEXTS else "store",
                metavar=parameter.metavar,
                default=parameter.default,
                help=text,
            )
    options.add_argument("-h", "--help", action="help", help="Show this message and exit.")
    return parser


def _not_understood(command: str, parameters: Parameters, words: Sequence[str]) -> str:
    """The sentence about words that the command does not take."""
    word = next((word for word in words if word.startswith("-")), words[0])
    name = word.partition("=")[0]
    if not word.startswith("-"):
        told = f"{word[:40]!r} is one word too many"
    elif name in GLOBAL_OPTIONS:
        told = f"{name} stands before the command"
    else:
        from telemetry_kit.cli.arguments import hint  # deferred: only for a mistake

        known = [n for p in parameters if isinstance(p, Option) for n in p.names]
        told = f"there is no option {name[:40]!r}: {hint(name, [*known, '--help'])}"
    return f"{told}{'' if told.endswith('?') else '.'} See telemetry-kit {command} --help"
