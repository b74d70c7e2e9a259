"""One table of commands and options defines our command line, Typer and Click."""

import inspect
import json
import re
import subprocess
from importlib import import_module

import pytest
import typer
import typer.main
from click.testing import CliRunner as ClickRunner
from typer.testing import CliRunner as TyperRunner

from telemetry_kit import cli
from telemetry_kit.cli import click_group, main, typer_app
from telemetry_kit.cli.commands import export, schema
from telemetry_kit.cli.options import (
    COUNT,
    FLAG,
    PARAMETERS,
    TEXTS,
    Parameter,
    converted,
    parse,
)
from telemetry_kit.cli.output import USAGE, CommandError
from telemetry_kit.cli.registry import COLD, COMMANDS, GLOBAL_OPTIONS

MOUNTED = [row for row in COMMANDS if row[0][0] not in COLD]
NAMES = [name for names, _, _ in MOUNTED for name in names]
SAMPLE = (
    Parameter("-n --limit", "", "N", kind=COUNT, default=20),
    Parameter("--on", ""),
    Parameter("--name", "", "NAME"),
    Parameter("--set", "", "VALUE", kind=TEXTS),
)


def test_the_global_options() -> None:
    """`record` has its own short list of the global options, which matches the table."""
    assert tuple(GLOBAL_OPTIONS) == cli._BEFORE
    assert COLD == ("record", "hook")


# -- argparse and the table ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"limit": 20, "on": False, "name": None, "set": ()}),
        (["-n", "3", "--on"], {"limit": 3, "on": True, "name": None, "set": ()}),
        (["--limit=3", "--name=a=b"], {"limit": 3, "on": False, "name": "a=b", "set": ()}),
        (
            ["-n3", "--set", "a", "--set=b"],
            {"limit": 3, "on": False, "name": None, "set": ("a", "b")},
        ),
        (["--name", ""], {"limit": 20, "on": False, "name": "", "set": ()}),
    ],
)
def test_valid_options(words, expected):
    """Options can be in any order, with `=` or a space, and list options can be repeated."""
    found = parse("thing", "Do it.", SAMPLE, words)

    assert expected == converted(SAMPLE, found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "0"], "-n/--limit '0': write a whole number of at least 1"),
        (["-n", "9" * 99], "write a whole number"),
        (["--on=1"], "--on: "),
        (["--name"], "--name: expected one argument. See telemetry-kit thing --help"),
        (["--name", "--on"], "--name: expected one argument"),
        (["--lim", "3"], "there is no option '--lim': did you mean '--limit'? See telemetry-kit"),
        (["--zzz=3"], "there is no option '--zzz': there are --help, --limit, --name, --on"),
        (["--app", "x"], "--app must be before the command. See telemetry-kit thing --help"),
        (["word"], "unexpected argument 'word'. See telemetry-kit thing --help"),
        (["\x1b[31m"], r"unexpected argument '\x1b[31m'"),
        (["--", "--on"], "there is no option '--'"),
    ],
)
def test_invalid_options(words, message):
    """A usage error names the argument, and the closest option if one is similar."""
    with pytest.raises(CommandError) as caught:
        converted(SAMPLE, parse("thing", "Do it.", SAMPLE, words))

    assert (USAGE, True) == (caught.value.code, message in str(caught.value))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ()),
        (["a", "--on", "b", "c"], ("a", "b", "c")),
        (["--on", "a"], ("a",)),
        (["--", "-a", "b"], ("-a", "b")),
    ],
)
def test_arguments_between_options(words, expected):
    """Files can be before and after options. After `--`, they can begin with a dash."""
    parameters = (SAMPLE[1], Parameter("files", "", "FILE", kind=TEXTS))

    assert expected == converted(parameters, parse("thing", "", parameters, words))["files"]


# -- one table for three parsers -------------------------------------------------------------------


def without_line_breaks(text: str) -> str:
    """Return a text with each run of white space as one space."""
    return re.sub(r"\s+", " ", text)


def help_pages(name: str, capsys, monkeypatch) -> dict[str, str]:
    """Return the help of a command from each parser. An empty name is the list of commands."""
    monkeypatch.setenv("COLUMNS", "200")
    words = [name, "--help"] if name else ["--help"]
    assert main(words) == 0
    own = capsys.readouterr().out
    found = {
        "typer": TyperRunner().invoke(typer_app("flowspec"), words, terminal_width=200),
        "click": ClickRunner().invoke(click_group("flowspec"), words, terminal_width=200),
    }
    assert {"typer": 0, "click": 0} == {kind: done.exit_code for kind, done in found.items()}
    return {"argparse": own, **{kind: done.output for kind, done in found.items()}}


def shape_of(group) -> dict[str, dict[str, tuple]]:
    """Return the options and arguments of each command of a Click or Typer group."""
    return {
        name: {
            parameter.name: (
                tuple(sorted(parameter.opts)) if parameter.param_type_name == "option" else (),
                bool(getattr(parameter, "is_flag", False)),
                bool(parameter.multiple),
                parameter.nargs,
                bool(parameter.required),
                getattr(parameter, "help", None) if parameter.param_type_name == "option" else "",
                command.hidden,
            )
            for parameter in command.params
            if parameter.name != "help"
        }
        for name, command in group.commands.items()
    }


def expected_shape(names) -> dict[str, dict[str, tuple]]:
    """Return the options and arguments of a command from the table."""
    parameters = PARAMETERS[names[0]]
    return {
        name: {
            p.key: (
                (),
                False,
                False,
                -1 if p.kind == TEXTS else 1,
                p.kind != TEXTS,
                "",
                name != names[0],
            )
            if p.is_argument
            else (
                tuple(sorted(p.names)),
                p.kind == FLAG,
                p.kind == TEXTS,
                1,
                False,
                p.help,
                name != names[0],
            )
            for p in parameters
        }
        for name in names
    }


@pytest.mark.parametrize("kind", ["typer", "click"])
def test_mounted_commands_match_the_table(kind):
    """A host gets exactly the commands, options, flags, arguments and help texts of the table."""
    group = {"typer": lambda: typer.main.get_command(typer_app()), "click": click_group}[kind]()
    expected = {"record": {}, "hook": {}}  # they parse their own words
    for names, _, _ in MOUNTED:
        expected |= expected_shape(names)

    assert expected == shape_of(group)
    assert {f"--{parameter.name}" for parameter in group.params if parameter.name != "help"} == set(
        GLOBAL_OPTIONS
    )


@pytest.mark.parametrize(("names", "module", "text"), MOUNTED, ids=lambda value: str(value)[:12])
def test_the_function_has_the_options_as_parameters(names, module, text):
    """Each command is a function of the project and of the values of its options."""
    function = import_module(f"telemetry_kit.cli.commands.{module}").run

    assert ["project", *(p.key for p in PARAMETERS[names[0]])] == list(
        inspect.signature(function).parameters
    )


def test_formats_are_those_of_the_commands():
    """The help lists exactly the formats of a command."""
    for command, formats in (("export", export.FORMATS), ("schema", schema.FORMATS)):
        option = next(p for p in PARAMETERS[command] if p.key == "form")

        assert list(formats) == option.metavar.split("|")
        assert (option.default or export.DEFAULT.name) in formats
        assert (option.default or export.DEFAULT.name) in option.help


@pytest.mark.parametrize(("names", "text"), [(row[0], row[2]) for row in MOUNTED], ids=str)
def test_the_same_help(names, text, capsys, monkeypatch):
    """The help of each parser contains every option, argument and sentence of the table."""
    parameters = PARAMETERS[names[0]]
    for kind, page in help_pages(names[-1], capsys, monkeypatch).items():
        flat = without_line_breaks(page)
        for parameter in parameters:
            message = [parameter.help, parameter.metavar or ""]
            message += parameter.names if not parameter.is_argument else []
            assert [] == [word for word in message if word not in flat], kind
        assert text in flat, kind
        # The options are in the order of the table, and no others are printed.
        options = re.findall(r"^  (?:-\w(?: \S+)?, )?(--[\w-]+)", page, re.MULTILINE)
        named = [p.names[-1] for p in parameters if not p.is_argument]
        assert [*named, "--help"] == options, kind


def test_the_same_list_of_commands(capsys, monkeypatch):
    """The list has one line for each command."""
    for kind, page in help_pages("", capsys, monkeypatch).items():
        flat = without_line_breaks(page)
        assert [] == [text for _, _, text in COMMANDS if text not in flat], kind
        assert [] == [text for _, text in GLOBAL_OPTIONS.values() if text not in flat], kind


LINES = [
    *([name, "--no-such-option"] for name in NAMES),
    *([name, "one", "two", "--three"] for name in NAMES),
    ["status"],
    ["status", "--check"],
    ["status", "--check", "--simulate", "DO_NOT_TRACK=1"],
    ["status", "--simulate", "nonsense"],
    ["view", "-n", "0"],
    ["view", "-n", "x"],
    ["view", "--limit=3"],
    ["view", "--role", ""],
    ["view", "--event", "command.faild"],
    ["stats", "--since"],
    ["stats", "--since", "tomorrow"],
    ["stats", "--json"],
    ["find"],
    ["find", "x", "--json"],
    ["find", "--", "-x"],
    ["forget", ""],
    ["verify", "no-such-file", "--json", "nor-this"],
    ["enable", "--yes", "--no"],
    ["clear"],
    ["rotate-key"],
    ["schema", "--format", "xml"],
    ["schema", "--format=json"],
    ["answers", "-h"],
    ["no-such-command"],
    ["--no-such-option"],
    ["--app", "NO SUCH", "status"],
    ["--project", "/no/such/folder", "status"],
    ["--project"],
]
ALL_THREE = """
import contextlib, io, json, sys
import telemetry_kit
from telemetry_kit.cli import click_group, main, typer_app
telemetry_kit.configure(app="flowspec")
lines = json.loads(sys.argv[1])
ways = {"argparse": main, "typer": typer_app(), "click": click_group()}
found = []
for line in lines:
    row = {}
    for kind, way in ways.items():
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = way(list(line))
            except SystemExit as end:
                code = end.code
        row[kind] = (code or 0, out.getvalue(), err.getvalue())
    found.append(row)
print(json.dumps(found))
"""


def test_the_same_exit_codes(place):
    """Each command line has the same exit code and the same output in each parser."""
    done = place.python("-c", ALL_THREE, json.dumps(LINES), env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    for line, row in zip(LINES, json.loads(done.stdout), strict=True):
        codes = {kind: code for kind, (code, _, _) in row.items()}
        assert len(set(codes.values())) == 1, (line, codes)
        own = row["argparse"]
        assert own[0] != USAGE or (own[1] == "" and own[2].startswith("flowspec telemetry: "))
        if row["typer"][2].startswith("flowspec telemetry: ") or ("-h" not in line and not own[0]):
            assert own[1:] == row["typer"][1:] == row["click"][1:], line


HOST = """
import sys
import click
from telemetry_kit.cli import click_group

@click.group()
@click.pass_context
def host(context):
    context.obj = "the host's own"

@host.command()
@click.pass_context
def build(context):
    print(context.obj)

host.add_command(click_group("acme"), name="telemetry")
host(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["build"], 0, "the host's own"),
        (["telemetry", "status", "--check"], 10, "  app      acme"),
        (["telemetry", "--app", "other", "status"], 0, "  app      other"),
        (["telemetry", "on", "--yes"], 0, "Recording is on for"),
        (["telemetry", "clear"], 2, "add --yes"),
        (["telemetry", "record", "role.selected", "--role", "dev", "--strict"], 0, ""),
        (["telemetry", "record", "no.event"], 0, ""),
        (["telemetry", "record", "no.event", "--strict"], 2, "acme telemetry record: unknown"),
        (["telemetry", "record", "--help"], 0, "Usage: acme telemetry record EVENT"),
    ],
)
def test_mounted_in_a_click_host(undecided, words, code, message):
    """The commands use the app of the host and leave the context object unchanged."""
    done = undecided.python("-W", "error", "-c", HOST, *words, stdin=subprocess.DEVNULL)

    assert (code, True) == (done.returncode, message in done.stdout + done.stderr)


# -- loaded modules --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_help_loads_no_command(place, name):
    """The help of a command loads the table and argparse, but not the command."""
    code = (
        f"import sys, telemetry_kit.cli\ntelemetry_kit.cli.main([{name!r}, '--help'])\n"
        "names = [n.partition('.')[2] for n in sys.modules if n.startswith('telemetry_kit')]\n"
        "sys.stderr.write(' '.join(names))"
    )
    done = place.python("-c", code)
    expected = {
        *("_runtime", "cli", "cli.invocation", "cli.options", "cli.output", "cli.registry"),
        *("_units", "errors", "paths"),
    }

    assert expected == set(done.stderr.split()), done.stderr
    assert "Usage: telemetry-kit " in done.stdout


@pytest.mark.parametrize("words", [["stats"], ["status", "--json"], ["export"], ["view", "--help"]])
def test_our_own_command_line_needs_no_library(place, words):
    """A command loads neither Typer nor Click nor rich."""
    place.run("telemetry_kit.track_role_event('role.selected', role='dev')")
    code = (
        f"import sys, telemetry_kit.cli\ncode = telemetry_kit.cli.main({words!r})\n"
        "sys.stderr.write(' '.join({n.partition('.')[0] for n in sys.modules}))\nsys.exit(code)"
    )
    done = place.python("-c", code)

    assert (0, True) == (done.returncode, bool(done.stdout))
    assert set() == {"typer", "click", "rich", "pydantic"} & set(done.stderr.split())


@pytest.mark.parametrize(
    ("function", "library"), [("typer_app", "typer"), ("click_group", "click")]
)
def test_a_host_without_the_library(place, function, library):
    """The error names the library to install."""
    done = place.python(
        "-c",
        f"import sys\nsys.modules[{library!r}] = None\n"
        f"from telemetry_kit.cli import {function}\n{function}()",
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: {library} is not installed. Hosts that mount the commands need it: "
        f"pip install {library}"
    )
