"""The options and arguments of commands as data, and the argparse parser made from them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import USAGE, CommandError, safe, width
from telemetry_kit.cli.registry import GLOBAL_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

FLAG, TEXT, TEXTS, COUNT = "flag", "text", "texts", "count"
MAX_HELP_COLUMNS = 100


class Parameter:
    """One option or argument of a command.

    Args:
        names: the names of an option, separated by spaces, for instance `-n --limit`; the key of
            an argument.
        help: one sentence.
        metavar: the name of the value in the help; None for a flag.
        kind: `FLAG`, `TEXT`, `TEXTS` if it may be repeated, or `COUNT` for a whole number of at
            least 1; by default a flag, or a text if there is a metavar.
        default: the value if the option is not given.
        key: the argument of the command's function; the last name by default.
    """

    __slots__ = ("default", "help", "is_argument", "key", "kind", "metavar", "names")

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
        self.is_argument = not names.startswith("-")
        self.help = help if default is None else f"{help.rstrip('.')} (default: {default})."
        self.kind = kind or (TEXT if metavar else FLAG)
        self.metavar = f"[{metavar}]..." if self.is_argument and kind == TEXTS else metavar
        self.default = default
        self.key = key or self.names[-1].removeprefix("--").replace("-", "_")


Parameters = Sequence[Parameter]

GLOBALS = tuple(Parameter(name, text, metavar) for name, (metavar, text) in GLOBAL_OPTIONS.items())
_EVENT = Parameter("--event", "Only events of this type.", "TYPE")
_JSON = Parameter("--json", "Print JSON.", key="as_json")
_PERIOD_AND_ROLE = (
    Parameter("--since", "First day, in UTC: 2026-11-23, today, or 7d, 2w or 3m ago.", "DATE"),
    Parameter("--until", "Last day, in UTC.", "DATE"),
    Parameter("--role", "Only events of this role.", "NAME"),
)
_AGENT_AND_COMMAND = (
    Parameter("--agent", "Only events of this agent.", "NAME"),
    Parameter("--command", "Only events of this command.", "NAME", key="of_command"),
)
# The options and arguments of each command, in the order of its help.
PARAMETERS: dict[str, Parameters] = {
    "demo": (Parameter("--keep", "Keep the temporary folder."),),
    "status": (
        Parameter("--explain", "Show every rule and its result."),
        _JSON,
        Parameter("--simulate", "Decide as if this variable were set.", "VAR=VALUE", kind=TEXTS),
        Parameter("--check", "Exit with 0 on, 10 off, 11 vetoed, 12 outdated, 13 not writable."),
    ),
    "enable": (
        Parameter("--yes", "Grant consent without a question."),
        Parameter("--no", "Deny consent without a question."),
        Parameter("--all-projects", "Decide for all projects."),
    ),
    "disable": (Parameter("--all-projects", "Decide for all projects."),),
    "preview": (Parameter("--json", "Print the samples only.", key="as_json"),),
    "hooks": (
        Parameter("action", "What to do: install, uninstall or status.", "ACTION"),
        Parameter(
            "--for",
            "Only this agent: claude, copilot, codex, gemini or cursor.",
            "AGENT",
            TEXTS,
            key="agents",
        ),
        Parameter("--app", "The tool whose events the hooks record.", "NAME"),
        _JSON,
    ),
    "names": (
        Parameter("--write", "Declare them in telemetry.toml, beside what the file has."),
        Parameter(
            "--roles",
            "The role of a command, or of all that begin so: /pm:*=pm.",
            "COMMAND=ROLE",
            TEXTS,
            key="given_roles",
        ),
        _JSON,
    ),
    "projects": (_JSON,),
    "view": (
        Parameter("-n --limit", "Number of events, or sessions, to show.", "N", COUNT, default=20),
        *_PERIOD_AND_ROLE[:2],
        _EVENT,
        _PERIOD_AND_ROLE[2],
        *_AGENT_AND_COMMAND,
        Parameter("--outcome", "Only events with this outcome.", "WORD"),
        Parameter("--project", "A folder of a project, or its pseudonym.", "DIR|CODE", key="other"),
        Parameter("--wide", "Also show ids, sequence, source and key epoch."),
        Parameter("--json", "Print whole events, one JSON object per line.", key="as_json"),
        Parameter("--follow", "Also print new events as they arrive, until Ctrl-C."),
        Parameter("--tree", "Show sessions as trees, newest first."),
    ),
    "stats": (
        *_PERIOD_AND_ROLE,
        *_AGENT_AND_COMMAND,
        Parameter(
            "--top", "Rows of each table (default: 10, or 5 of the shorter ones).", "N", COUNT
        ),
        Parameter("--by", "Show a table of each day, or of each week from Monday.", "day|week"),
        Parameter("--all-projects", "Count each project of the tool, and all together."),
        _JSON,
    ),
    "answers": (*_PERIOD_AND_ROLE, _JSON),
    "export": (
        Parameter(
            "--format",
            "The format of the output (default: by the ending of FILE, else jsonl).",
            "json|jsonl|csv|parquet|sqlite|otlp-json",
            key="form",
        ),
        *_PERIOD_AND_ROLE,
        _EVENT,
        Parameter("-o --output", "The file to write; stdout by default.", "FILE"),
        Parameter("--precise", "Write exact times, in UTC, instead of days."),
        Parameter("--dictionary", "Also write FILE.dictionary.md."),
        Parameter("--history", "Also write your decisions to FILE.consent.jsonl."),
        Parameter("--force", "Replace an existing file."),
    ),
    "import": (
        Parameter("file", "A log, or an export as jsonl, json or csv; also as .gz.", "FILE"),
        Parameter("--dry-run", "Show what would be imported, and change nothing."),
        Parameter("--yes", "Import without a question."),
        Parameter("--json", "Print JSON; needs --yes or --dry-run.", key="as_json"),
    ),
    "verify": (
        Parameter("files", "More files to check, such as exports.", "FILE", TEXTS),
        _JSON,
    ),
    "find": (Parameter("text", "The text; - reads one from each line of stdin.", "TEXT"), _JSON),
    "forget": (
        Parameter("text", "The text; - reads one from each line of stdin.", "TEXT"),
        Parameter("--yes", "Delete without a question."),
    ),
    "selftest": (_JSON,),
    "rotate-key": (Parameter("--yes", "Replace the key without a question."),),
    "doctor": (Parameter("--fix", "Repair the problems that can be repaired safely."), _JSON),
    "clear": (
        Parameter("--before", "Only events of earlier days (YYYY-MM-DD, in UTC).", "DATE"),
        Parameter("--yes", "Delete without a question."),
    ),
    "reset": (
        Parameter("--all-projects", "Delete the data of every project."),
        Parameter("--yes", "Delete without a question."),
    ),
    "audit": (_JSON,),
    "schema": (
        Parameter(
            "--format", "The format of the output.", "md|json|jsonschema", None, "md", "form"
        ),
    ),
}


def parse(
    command: str, text: str, parameters: Parameters, words: Sequence[str]
) -> dict[str, Any] | None:
    """Parse the words after a command.

    Args:
        command: its name.
        text: its help, one sentence.
        parameters: its options and arguments.
        words: the words that the user typed.

    Returns:
        The values by key; None after `--help`, which is printed.

    Raises:
        CommandError: an option is unknown, or a value is missing.
    """
    try:
        found, unknown = parser_of(command, text, parameters).parse_known_args(words)
    except SystemExit:
        return None  # by --help alone: every mistake raises CommandError
    values = vars(found)
    many = next((p.key for p in parameters if p.is_argument and p.kind == TEXTS), "")
    if many and not any(word.startswith("-") for word in unknown):
        # argparse stops at the next option, and its "intermixed" parser loses the words after `--`.
        values[many] += unknown
    elif unknown:
        raise CommandError(explain_unknown(command, parameters, unknown), USAGE)
    return values


def converted(parameters: Parameters, values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the values of a parser: counts to numbers, repeated texts to tuples.

    Args:
        parameters: the options and arguments of the command.
        values: the values from the parser, by key.

    Raises:
        CommandError: a count is not a whole number of at least 1.
    """
    found = dict(values)
    for parameter in parameters:
        value = found[parameter.key]
        if parameter.kind == TEXTS:
            found[parameter.key] = tuple(value or ())
        elif parameter.kind == COUNT and value is not None:
            text = str(value)
            if not (text.isascii() and text.isdigit() and len(text) < 99 and int(text) > 0):
                problem = f"{'/'.join(parameter.names)} {text[:20]!r}"
                raise CommandError(f"{problem}: write a whole number of at least 1", USAGE)
            found[parameter.key] = int(text)
    return found


class Parser(argparse.ArgumentParser):
    """An argparse parser in the style of the overview, whose errors are a `CommandError`."""

    def error(self, message: str) -> NoReturn:
        """Raise the error instead of printing it."""
        sentence = safe(message.removeprefix("argument "))
        raise CommandError(f"{sentence}. See {self.prog} --help", USAGE)

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse itself is silent if it cannot be printed."""
        print(self.format_help(), end="", file=file)

    def format_help(self) -> str:
        """Return the help with a capital letter at its beginning."""
        return super().format_help().replace("usage: ", "Usage: ", 1)


def parser_of(command: str, text: str, parameters: Parameters) -> Parser:
    """Make the parser of one command."""
    names = [p.metavar for p in parameters if p.is_argument and p.metavar]
    columns = min(width(), MAX_HELP_COLUMNS)
    parser = Parser(
        prog=f"{runtime.program} {command}",
        usage=" ".join(["%(prog)s [OPTIONS]", *names]),
        description=text,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=24, width=columns),
        add_help=False,
        allow_abbrev=False,
    )
    arguments, options = map(parser.add_argument_group, ("Arguments", "Options"))
    for parameter in parameters:
        given: dict[str, Any] = {"help": parameter.help.replace("%", "%%")}
        if parameter.kind == FLAG:
            given["action"] = "store_true"
        else:
            given["metavar"] = parameter.metavar
        if parameter.is_argument:
            nargs = "*" if parameter.kind == TEXTS else None
            arguments.add_argument(parameter.key, nargs=nargs, **given)
            continue
        if parameter.kind == TEXTS:
            given["action"] = "append"
        elif parameter.kind != FLAG:
            given["default"] = parameter.default
        options.add_argument(*parameter.names, dest=parameter.key, **given)
    options.add_argument("-h", "--help", action="help", help="Show this message and exit.")
    return parser


def explain_unknown(command: str, parameters: Parameters, words: Sequence[str]) -> str:
    """Return the message for words that the command does not accept."""
    word = next((word for word in words if word.startswith("-")), words[0])
    name = word.partition("=")[0]
    if not word.startswith("-"):
        problem = f"unexpected argument {word[:40]!r}"
    elif name in GLOBAL_OPTIONS:
        problem = f"{name} must be before the command"
    else:
        from telemetry_kit.cli.arguments import suggest  # deferred: only for a mistake

        known = [n for p in parameters if not p.is_argument for n in p.names]
        problem = f"there is no option {name[:40]!r}: {suggest(name, [*known, '--help'])}"
    return f"{problem}{'' if problem.endswith('?') else '.'} See {runtime.program} {command} --help"
