"""Follow the sub-commands of an argparse program, on the parsers themselves."""

from __future__ import annotations

import argparse
import functools
import sys

from telemetry_kit._runtime import runtime
from telemetry_kit.integrations.program import GROUP, GROUP_HELP, declare, is_ours, mistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

    from telemetry_kit.integrations.program import Program

    Leaf = tuple[str, argparse.ArgumentParser]

# argparse documents no other way to see the sub-commands of a parser.
SUB_PARSERS: Any = argparse._SubParsersAction  # pyright: ignore[reportPrivateUsage]
FOLLOWED = "_telemetry_kit_followed"
PARSE = "_parse_known_args"


class Followed:
    """A parser whose sub-commands are followed, and the state of the line that it parses.

    Args:
        parser: the parser of the program.
        program: the program.
    """

    def __init__(self, parser: argparse.ArgumentParser, program: Program) -> None:
        self.parser = parser
        self.program = program
        # The sub-command of the line, and its values, once they are known.
        self.name = ""
        self.values = argparse.Namespace()
        self.leaves: set[str] = set()

    def follow_all(self) -> None:
        """Follow each sub-command that has been added so far."""
        for names, parser in leaves(self.parser):
            name = names or self.program.name
            declare(name)
            self.leaves.add(name)
            for key, function in parser._defaults.items():
                if callable(function) and not hasattr(function, FOLLOWED):
                    record = self.recorded_class if makes_calls(function) else self.recorded
                    parser._defaults[key] = record(function, name)
        for parser in (self.parser, *(one for _, one in leaves(self.parser))):
            if FOLLOWED not in vars(parser):
                vars(parser)[FOLLOWED] = True
                vars(parser)["error"] = self.reported(parser.error)
        for prefix, action in actions(self.parser):
            for word, parser in action.choices.items():
                # A name comes before its aliases, which select the same parser.
                if PARSE not in vars(parser):
                    name = f"{prefix} {word}".strip()
                    vars(parser)[PARSE] = functools.partial(self.parse_words, parser, name)

    def run_ours(self, words: list[str]) -> NoReturn:
        """Run a command of this library, and exit."""
        from telemetry_kit.cli import main  # deferred: only these commands need it

        sys.exit(main(words, runtime.program))

    def parse_words(self, parser: Any, name: str, words: list[str], *given: Any) -> Any:
        """Parse the words after the name of a sub-command, or run a command of this library."""
        self.name = name
        if name == GROUP and not is_completing():
            self.run_ours(words)
        return type(parser)._parse_known_args(parser, words, *given)

    def parse(self, words: list[str], namespace: argparse.Namespace, *given: Any) -> Any:
        """Parse a whole line, instead of the parser's own method, which does so in the end."""
        self.follow_all()
        has_groups = any(True for _ in actions(self.parser))
        self.name = "" if has_groups else self.program.name
        if not has_groups and not is_completing() and is_ours(words):
            self.run_ours(words[1:])
        self.values = namespace
        # argcomplete changes the class of a parser, and has a method of its own there.
        parse = type(self.parser)._parse_known_args
        return parse(self.parser, words, namespace, *given)

    def reported(self, error: Callable[[str], NoReturn]) -> Callable[[str], NoReturn]:
        """Wrap the method that reports a mistake in the line: it exits."""

        def report(message: str) -> NoReturn:
            name, self.name = self.name, ""
            if name in self.leaves and not is_completing():
                span = self.program.open_command(name, True, self.option)
                if span is not None:
                    try:
                        error(message)
                    except BaseException as raised:
                        span.finish(raised)
                        raise
            error(message)

        return report

    def recorded(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Wrap the function of a sub-command."""

        @functools.wraps(function)
        def run(*args: Any, **given: Any) -> Any:
            self.program.ask(lambda: None)  # each command is declared
            span = self.program.open_command(name, True, self.option)
            if span is None:
                return function(*args, **given)
            try:
                result = function(*args, **given)
            except BaseException as error:
                span.finish(error)
                raise
            # As `sys.exit(args.func(args))` takes it.
            is_code = isinstance(result, int) and not isinstance(result, bool)
            span.finish(SystemExit(int(result)) if is_code else None)
            return result

        setattr(run, FOLLOWED, True)
        return run

    def recorded_class(self, kind: Any, name: str) -> Any:
        """Make a class that records a sub-command whose program calls `args.func(args)()`.

        The call of the object is recorded, and a failure to make one.
        """
        own: dict[str, Any] = {"__call__": self.recorded(kind.__call__, name)}

        def init(made: Any, *args: Any, **given: Any) -> None:
            try:
                kind.__init__(made, *args, **given)
            except BaseException as error:
                span = self.program.open_command(name, True, self.option)
                if span is not None:
                    span.finish(error)
                raise

        if kind.__init__ is not object.__init__:
            own["__init__"] = init
        names = {key: getattr(kind, key) for key in ("__doc__", "__module__", "__qualname__")}
        try:
            made = type(kind)(kind.__name__, (kind,), {**names, **own})
            setattr(made, FOLLOWED, True)
        except Exception:
            return kind  # a class that takes no subclass runs as ever, and is not counted
        return made

    def option(self, name: str) -> object:
        """The value of an option of the line."""
        for parser in (self.parser, *(one for _, one in leaves(self.parser))):
            action = parser._option_string_actions.get(name)
            if action is not None and hasattr(self.values, action.dest):
                found: object = getattr(self.values, action.dest)
                return found
        return None


def actions(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each action that selects a sub-command, with the names before it."""
    for action in parser._actions:
        if isinstance(action, SUB_PARSERS):
            yield prefix, action
            for name, inner in parsers_of(action, prefix):
                yield from actions(inner, f"{prefix} {name}".strip())


def leaves(parser: argparse.ArgumentParser, names: str = "") -> Iterator[Leaf]:
    """Yield each parser that has no sub-commands, with its names joined by blanks."""
    groups = [a for a in parser._actions if isinstance(a, SUB_PARSERS)]
    if not groups:
        yield names, parser
    for action in groups:
        for name, inner in parsers_of(action, names):
            yield from leaves(inner, f"{names} {name}".strip())


def parsers_of(action: Any, prefix: str) -> Iterator[Leaf]:
    """Yield the parsers of an action, without aliases and without the commands of this library."""
    seen: set[int] = set()
    for name, parser in action.choices.items():
        if id(parser) not in seen and not (name == GROUP and not prefix):
            seen.add(id(parser))
            yield name, parser


def is_completing() -> bool:
    """Whether argcomplete parses the line so far, which is no use of the program."""
    return "_ARGCOMPLETE" in runtime.environ


def makes_calls(function: Any) -> bool:
    """Whether a function is a class whose objects can be called."""
    return isinstance(function, type) and any("__call__" in vars(k) for k in function.__mro__)


def check_functions(parser: argparse.ArgumentParser) -> None:
    """Check that each sub-command has a function.

    Raises:
        ConfigurationError: one has none.
    """
    for names, leaf in leaves(parser):
        if not any(map(callable, leaf._defaults.values())):
            what = f"the sub-command {names!r}" if names else "the parser"
            raise mistake(
                f"{what} has no function to count: write parser.set_defaults(func=...) for it, "
                "and call args.func(args) after parse_args()"
            )


def follow(parser: argparse.ArgumentParser, program: Program) -> None:
    """Follow the sub-commands of a parser, and mount the commands of this library."""
    for _, action in actions(parser):
        action.add_parser(GROUP, help=GROUP_HELP, add_help=False)
        break  # the others are inside of the first one
    followed = Followed(parser, program)
    # argparse has no hook. Every way to parse a line ends in this method, also if a class of the
    # program has a `parse_args()` of its own.
    vars(parser)[PARSE] = followed.parse
    followed.follow_all()
