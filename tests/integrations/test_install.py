"""`install()` counts each command of a program, and changes nothing else."""

import argparse
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

import click
import pytest
import typer

from telemetry_kit import configure, settings, track_role_event
from telemetry_kit._runtime import runtime
from telemetry_kit.cli.registry import SHORT_HELP
from telemetry_kit.errors import ConfigurationError
from telemetry_kit.integrations.argparse_commands import actions
from tests.integrations.install_helpers import INSTALLS, PROGRAMS, Run, work

EXECUTED, COMPLETED, FAILED = "command.executed", "command.completed", "command.failed"


@pytest.fixture(params=PROGRAMS)
def kind(request) -> str:
    """The library of the program."""
    return str(request.param)


@pytest.fixture
def program(kind: str) -> Run:
    """A function that runs a command line of a program that calls `install()`."""
    return PROGRAMS[kind]()


def seen(captured) -> list[tuple]:
    """Return event type, command, outcome and exit code of each captured event."""
    return [
        (e["event_type"], e.get("command"), e.get("outcome"), e.get("exit_code"))
        for e in captured.events
    ]


# -- events ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "name", "end"),
    [
        (["build", "1"], 0, "build", (COMPLETED, "ok", None)),
        (["build", "3"], 3, "build", (FAILED, "error", 3)),
        (["build", "5"], 1, "build", (FAILED, "error", None)),
        (["build", "9"], None, "build", (FAILED, "cancelled", None)),
        (["db", "migrate"], 0, "db migrate", (COMPLETED, "ok", None)),
        (["--role", "dev", "db", "migrate"], 0, "db migrate", (COMPLETED, "ok", None)),
        (["build", "x"], 2, "build", (FAILED, "error", 2)),
        (["build", "1", "2"], 2, "build", (FAILED, "error", 2)),
        (["build", "1", "--bad"], 2, "build", (FAILED, "error", 2)),
        (["db", "migrate", "--bad"], 2, "db migrate", (FAILED, "error", 2)),
    ],
    ids=str,
)
def test_a_pair_of_events(program, captured, words, code, name, end) -> None:
    """A command is one pair of events with its registered names, also after a wrong argument."""
    exit_code = program(*words)
    events = seen(captured)

    assert code in (None, exit_code)
    assert [(EXECUTED, name, None, None), (end[0], name, *end[1:])] == events
    assert len({e["span_id"] for e in captured.events}) == 1
    assert captured.undeclared == []


@pytest.mark.parametrize(
    "words",
    [
        *([], ["--help"], ["--version"], ["build", "--help"], ["db"], ["db", "--help"]),
        *(["nonsense"], ["db", "nonsense"], ["--bad"], ["db", "--bad"]),
        *(["telemetry", "--help"], ["telemetry", "schema"], ["telemetry", "nonsense"]),
        ["telemetry", "view", "--bad"],
    ],
    ids=str,
)
def test_no_event(program, captured, words) -> None:
    """Help, the version, unknown words, groups and the commands of this library write nothing."""
    program(*words)

    assert captured.events == []


def test_the_command_line_is_not_stored(program, captured) -> None:
    """No argument, option or value is in an event."""
    program("--role", "jane@example.org", "build", "774411")

    assert "jane" not in str(captured.events)
    assert "774411" not in str(captured.events)


def test_installing_twice_counts_once(kind, captured) -> None:
    """A second `install()` of the same program changes nothing."""
    run = PROGRAMS[kind]()
    INSTALLS[kind](run.app, name="flowspec")
    run("build", "1")

    assert [EXECUTED, COMPLETED] == [event[0] for event in seen(captured)]


def test_the_source(kind, program, captured) -> None:
    """The source of the events is the library. Typer is built on Click."""
    program("build", "1")

    assert {"argparse" if kind == "argparse" else "click"} == {e["source"] for e in captured.events}


def test_an_alias_has_the_name_of_its_command(captured) -> None:
    """An alias of argparse is counted under the first name."""
    PROGRAMS["argparse"]()("b", "1")

    assert [e["command"] for e in captured.events] == ["build", "build"]


def aliased(base: type) -> type:
    """A class of groups that splits the text with which a command is registered into names."""

    class Aliased(base):
        def get_command(self, ctx, cmd_name):
            """Return the command that has the name."""
            for text in self.commands:
                if cmd_name in re.split(r" ?[,|] ?", text):
                    return super().get_command(ctx, text)
            return super().get_command(ctx, cmd_name)

    return Aliased


@pytest.mark.parametrize("text", ["list | ls", "list, ls", "list|ls"])
@pytest.mark.parametrize("word", ["list", "ls"])
@pytest.mark.parametrize("library", ["click", "typer"])
def test_names_that_are_registered_as_one(captured, library, word, text) -> None:
    """A command with several names in one text is counted and declared under the first of them."""
    if library == "click":
        db = aliased(click.Group)("db | database", commands=[click.Command(text)])
        app = aliased(click.Group)("acme", commands=[db])
        INSTALLS["click"](app, name="flowspec")
        app.main(["database", word], standalone_mode=False)
    else:
        app, db = (typer.Typer(cls=aliased(typer.core.TyperGroup)) for _ in "ab")
        INSTALLS["typer"](app, name="flowspec")
        db.command(text)(lambda: None)
        app.add_typer(db, name="db | database", callback=lambda: None)
        app(["database", word], standalone_mode=False)

    assert [e["command"] for e in captured.events] == ["db list", "db list"]
    assert track_role_event("agent.invoked", command="db list")["command"] == "db list"


def test_a_comma_that_separates_no_names(captured) -> None:
    """A group that does not split such a text keeps it as the name."""
    app = click.Group("acme", commands={"a, b": click.Command("a, b")})
    app.add_command(click.Command("a"))
    INSTALLS["click"](app, name="flowspec")
    app.main(["a, b"], standalone_mode=False)

    assert [e["command"] for e in captured.events] == ["a, b", "a, b"]


def test_a_chain_of_commands(captured) -> None:
    """Each command of a chain is counted."""
    app = click.Group("acme", chain=True)
    for name in "ab":
        app.add_command(click.Command(name, callback=lambda: None))
    INSTALLS["click"](app, name="flowspec")
    app.main(["a", "b"], standalone_mode=False)

    assert [e["command"] for e in captured.events] == ["a", "a", "b", "b"]


class AnyWord(click.Group):
    """A group that lists one command, and takes any word for a command."""

    def list_commands(self, ctx):
        """Return the name of the registered command."""
        return ["known"]

    def get_command(self, ctx, cmd_name):
        """Return a command for any word."""
        return click.Command(cmd_name, callback=lambda: None)


def test_a_word_of_the_user_is_no_name(captured) -> None:
    """A word that a lazy group does not list is a pseudonym, one that it lists is in plain text."""
    app = AnyWord("acme")
    INSTALLS["click"](app, name="flowspec")
    app.main(["known"], standalone_mode=False)
    app.main(["jane@example.org"], standalone_mode=False)
    names = [e["command"] for e in captured.events]

    assert ["known", "known"] == names[:2]
    assert names[2].startswith("h:")
    assert names[2] == names[3]


def test_a_group_that_runs_without_a_command(captured) -> None:
    """Such a group is counted if it runs itself: the root as the app, another by its name."""
    app = click.Group("acme", invoke_without_command=True, callback=lambda: None)
    app.add_command(click.Group("db", invoke_without_command=True, callback=lambda: None))
    INSTALLS["click"](app, name="flowspec")
    app.main([], standalone_mode=False)
    app.main(["db"], standalone_mode=False)

    assert [e["command"] for e in captured.events] == ["flowspec", "flowspec", "db", "db"]


def test_completion_writes_nothing(captured) -> None:
    """Completion parses the line so far, also one with a mistake."""
    app = PROGRAMS["click"]().app
    with app.make_context("acme", ["build", "x"], resilient_parsing=True) as context:
        name, command, words = app.resolve_command(context, ["build", "x"])
        command.make_context(name, words, parent=context, resilient_parsing=True)

    assert captured.events == []


def test_a_command_called_by_another_program(captured) -> None:
    """A group of another program is counted by its names below the installed one."""
    app = PROGRAMS["click"]().app
    other = click.Group("other")
    other.add_command(app, "acme")
    other.main(["acme", "db", "migrate"], standalone_mode=False)
    app.commands["build"].main(["1"], standalone_mode=False)

    assert [e["command"] for e in captured.events] == ["db migrate", "db migrate"]


# -- a program of one command ----------------------------------------------------------------------


def one_command(kind: str) -> Callable[..., list[str]]:
    """Make a program of one command that takes words."""
    got: list[str] = []
    if kind == "argparse":
        parser = argparse.ArgumentParser(prog="flowspec")
        parser.add_argument("words", nargs="*")
        parser.set_defaults(func=lambda args: got.extend(args.words))
        INSTALLS[kind](parser, name="flowspec")

        def run(*words: str) -> list[str]:
            got.clear()
            try:
                args = parser.parse_args(words)
                args.func(args)
            except SystemExit:
                pass
            return list(got)

        return run
    app: object
    if kind == "typer":
        app = typer.Typer()
        INSTALLS[kind](app, name="flowspec")

        @app.command()
        def main(words: Annotated[list[str] | None, typer.Argument()] = None) -> None:
            got.extend(words or [])

    else:
        app = click.Command(
            "acme",
            params=[click.Argument(["words"], nargs=-1)],
            callback=lambda words: got.extend(words),
        )
        INSTALLS[kind](app, name="flowspec")

    def call(*words: str) -> list[str]:
        got.clear()
        try:
            app(list(words))
        except SystemExit:
            pass
        return list(got)

    return call


def test_a_program_of_one_command(kind, captured, capsys) -> None:
    """It keeps its command line, is counted as its app, and has the commands of this library."""
    run = one_command(kind)
    given = [["a", "b"], ["telemetry"], ["telemetry", "x"]]

    assert given == [run(*words) for words in given]
    assert ["flowspec"] * 6 == [e["command"] for e in captured.events]
    assert run("telemetry", "schema") == []
    assert "What telemetry_kit records" in capsys.readouterr().out
    assert len(captured.events) == 6


# -- mistakes of the author --------------------------------------------------------------------


def make(kind: str, command: str = "build") -> object:
    """Make a program with one command in a group, without `install()`."""
    if kind == "click":
        return click.Group("acme", commands=[click.Command(command, callback=lambda: None)])
    if kind == "typer":
        app = typer.Typer()
        app.callback()(lambda: None)
        app.command(command)(lambda: None)
        return app
    parser = argparse.ArgumentParser(prog="acme")
    parser.add_subparsers().add_parser(command).set_defaults(func=lambda args: None)
    return parser


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a/b"}, r"install\(\): name='a/b' is no file name: use 1 to 40 lower-case"),
        ({"name": "Acme"}, "name='Acme' is no file name"),
        ({"name": "acme.py"}, "name='acme.py' is no file name"),
        ({"name": ""}, "name='' is no file name"),
        ({"name": "other"}, "this process is the app 'flowspec' already, and a process is one app"),
        ({"name": "flowspec", "prog": "acme 'x'"}, "use the words that users type"),
        ({"name": "flowspec", "role": "dev"}, r"role='dev': write an option \('--role'\)"),
        ({"name": "flowspec", "role": "acme.yml:role"}, "a key of a TOML or JSON file"),
        ({"name": "flowspec", "role": 3}, "role=3: write an option"),
    ],
    ids=str,
)
def test_mistakes(kind, given, message) -> None:
    """A mistake of the author raises one sentence, and nothing is changed."""
    app = make(kind)
    before = settings.current()
    with pytest.raises(ConfigurationError, match=message):
        INSTALLS[kind](app, **given)

    assert before is settings.current()
    assert "telemetry" not in str(getattr(app, "commands", ""))


def test_a_command_called_telemetry(kind) -> None:
    """A program with a command `telemetry` of its own cannot mount ours."""
    with pytest.raises(ConfigurationError, match=r"has a command 'telemetry' already.*rename it"):
        INSTALLS[kind](make(kind, "telemetry"), name="flowspec")


@pytest.mark.parametrize("thing", [None, "acme", print])
def test_no_program(kind, thing) -> None:
    """Anything but a program of the library raises one sentence."""
    with pytest.raises(ConfigurationError, match=r"install\(\): give the "):
        INSTALLS[kind](thing, name="flowspec")


def test_two_apps_in_one_process(kind) -> None:
    """A second app in the process is refused."""
    expected = pytest.raises(ConfigurationError, match="is the app 'acme' already")
    with configure(app="acme"), expected:
        INSTALLS[kind](make(kind), name="other")


@pytest.mark.parametrize("kind", ["click", "typer"])
def test_while_the_program_runs(kind) -> None:
    """`install()` inside of a command comes too late."""
    app = make(kind)
    errors: list[str] = []

    def late() -> None:
        with pytest.raises(ConfigurationError) as raised:
            INSTALLS[kind](app, name="flowspec")
        errors.append(str(raised.value))

    if kind == "click":
        app.add_command(click.Command("late", callback=late))
    else:
        app.command("late")(late)
    with pytest.raises(SystemExit):
        app(["late"])

    assert errors == ["install(): the program runs already: call install() before app()"]


def test_argparse_without_functions() -> None:
    """A sub-command without a function raises a sentence with what to write."""
    parser = argparse.ArgumentParser()
    group = parser.add_subparsers().add_parser("db").add_subparsers()
    group.add_parser("migrate")
    with pytest.raises(ConfigurationError, match=r"'db migrate' has no function.*func=\.\.\."):
        INSTALLS["argparse"](parser, name="flowspec")
    with pytest.raises(ConfigurationError, match="the parser has no function to count"):
        INSTALLS["argparse"](argparse.ArgumentParser(), name="flowspec")


class OwnParser(argparse.ArgumentParser):
    """A parser whose way to parse a line calls that of argparse without asking the object."""

    def parse_args(self, env, args=None):
        """Parse the words; the environment comes first."""
        return super().parse_known_args(args)[0]


@pytest.mark.parametrize("has_groups", [False, True])
def test_a_class_that_parses_in_its_own_way(captured, capsys, has_groups) -> None:
    """Commands, mistakes and the commands of this library are found in such a class, too."""
    parser = OwnParser("acme")
    leaf = parser.add_subparsers().add_parser("build") if has_groups else parser
    leaf.add_argument("number", type=int)
    leaf.set_defaults(func=lambda args: args.number)
    INSTALLS["argparse"](parser, name="flowspec")
    before = ["build"] * has_groups
    args = parser.parse_args(object(), [*before, "3"])
    args.func(args)
    with pytest.raises(SystemExit):
        parser.parse_args(object(), [*before, "x"])
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(object(), ["telemetry", "schema"])
    name = "build" if has_groups else "flowspec"

    assert [(FAILED, name, "error", 3), (FAILED, name, "error", 2)] == seen(captured)[1::2]
    assert (ended.value.code, "handoff.clicked" in capsys.readouterr().out) == (0, True)


def test_a_class_that_is_changed_later(captured) -> None:
    """A parser may get another class with a way to parse of its own, as argcomplete gives it."""
    run = PROGRAMS["argparse"]()
    parsed = []

    class Changed(type(run.app)):
        def _parse_known_args(self, *given):
            parsed.append(given[0])
            return super()._parse_known_args(*given)

    run.app.__class__ = Changed

    assert (run("build", "1"), parsed) == (0, [["build", "1"]])
    assert len(captured.events) == 2


def test_completion_of_argparse(captured, monkeypatch, capsys) -> None:
    """argcomplete finds the action that it knows, and completing a line runs no command of ours."""
    run = PROGRAMS["argparse"]()
    monkeypatch.setitem(runtime.environ, "_ARGCOMPLETE", "1")
    run.app.parse_args(["telemetry"])

    # argcomplete compares the class of the action, to go on with the parser that it selects.
    assert [argparse._SubParsersAction] * 2 == [type(a) for _, a in actions(run.app)]
    with pytest.raises(SystemExit) as ended:
        run.app.parse_args(["telemetry", "schema"])
    assert (ended.value.code, capsys.readouterr().out) == (2, "")
    assert captured.events == []


class Build:
    """A sub-command as a class: the program makes an object, and then calls it."""

    def __init__(self, number: int) -> None:
        if number < 0:
            raise ValueError(number)
        self.number = number

    def __call__(self) -> None:
        """Do the work."""
        track_role_event("agent.invoked", agent="inside")
        work(self.number)


class Clean:
    """A sub-command as a class without values."""

    def __call__(self) -> None:
        """Do nothing."""


class Untouchable(Clean):
    """A class that takes no subclass."""

    def __init_subclass__(cls) -> None:
        """Refuse."""
        raise TypeError("this class is final")


@pytest.mark.parametrize(
    ("number", "error", "end"),
    [
        (0, None, (COMPLETED, "build", "ok", None)),
        (3, SystemExit, (FAILED, "build", "error", 3)),
        (5, ValueError, (FAILED, "build", "error", None)),
        (-1, ValueError, (FAILED, "build", "error", None)),
    ],
)
def test_a_sub_command_that_is_a_class(captured, number, error, end) -> None:
    """The pair of events is around the call of the object, and the class remains a class."""
    parser = argparse.ArgumentParser("acme")
    groups = parser.add_subparsers()
    groups.add_parser("build").set_defaults(func=Build)
    groups.add_parser("clean").set_defaults(func=Clean)
    groups.add_parser("late").set_defaults(func=Untouchable)
    INSTALLS["argparse"](parser, name="flowspec")
    kind = parser.parse_args(["build"]).func
    with pytest.raises(error) if error else nullcontext():
        kind(number)()
    events = seen(captured)

    assert (issubclass(kind, Build), kind.__qualname__) == (True, "Build")
    assert [(EXECUTED, "build", None, None), end] == [events[0], events[-1]]
    assert number < 0 or captured.events[1]["parent_id"] == captured.events[0]["span_id"]
    parser.parse_args(["clean"]).func()()
    parser.parse_args(["late"]).func()()
    assert [name for _, name, *_ in seen(captured)[len(events) :]] == ["clean", "clean"]


# -- what users are told -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"), [({}, "flowspec telemetry"), ({"prog": "fs telemetry"}, "fs telemetry")]
)
def test_the_commands_that_users_are_told(kind, given, told) -> None:
    """The commands are those of the program, or those that the author names."""
    with configure():
        PROGRAMS[kind](**given)

        assert told == runtime.command_line


def test_the_help_lists_the_commands(kind, capsys) -> None:
    """The program's help has one line for the commands of this library."""
    run = PROGRAMS[kind]()
    if kind == "argparse":
        run.app.print_help()
    else:
        with pytest.raises(SystemExit):
            run.app(["--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if SHORT_HELP in line]

    # A longer text would change how the lines of the other commands are laid out.
    assert [["telemetry", *SHORT_HELP.split()]] == [line.strip(" │").split() for line in lines]


class Broken(click.Group):
    """A group that finds its commands, and fails to list them."""

    def list_commands(self, ctx):
        """Fail."""
        raise OSError("no plug-ins")

    def get_command(self, ctx, cmd_name):
        """Return a command for any word."""
        return click.Command(cmd_name, callback=lambda: 7)


def test_a_group_that_cannot_list_its_commands(captured) -> None:
    """Its commands run, and are not counted."""
    app = Broken("acme")
    INSTALLS["click"](app, name="flowspec")

    assert app.main(["work"], standalone_mode=False) == 7
    assert captured.events == []


def test_a_command_that_takes_no_attributes(captured) -> None:
    """Its function runs, and is not counted."""

    class Fixed(click.Command):
        def __setattr__(self, name, value):
            if name.startswith("_telemetry"):
                raise AttributeError(name)
            super().__setattr__(name, value)

    app = click.Group("acme", commands=[Fixed("work", callback=lambda: 7)])
    INSTALLS["click"](app, name="flowspec")

    assert app.main(["work"], standalone_mode=False) == 7
    assert captured.events == []


def test_each_registered_command_is_declared(program, captured) -> None:
    """The first event declares all registered commands, so that `record` may name any of them."""
    program("build", "1")
    record = track_role_event("agent.invoked", command="db migrate")

    assert record["command"] == "db migrate"
