"""Follow the commands of Click and Typer, on the objects themselves.

Typer carries its own copy of Click, and a program may have classes of its own. So this module
imports neither, and replaces methods of each object that a command line reaches.
"""

from __future__ import annotations

import sys

from telemetry_kit._runtime import runtime
from telemetry_kit.integrations.program import GROUP, declare, is_ours, mistake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from telemetry_kit.instrumentation.tracks import ActiveSpan
    from telemetry_kit.integrations.program import OptionValue, Program

# The attributes of a command that is followed, and of the root of a program.
_FOLLOWED, _ROOT = "_telemetry_kit_followed", "_telemetry_kit_root"
_MAX_DEPTH = 8


def follow_root(root: Any, program: Program, build: Callable[[Callable[[Any], None]], Any]) -> None:
    """Follow a program's group, or its only command, and mount the commands of this library.

    Args:
        root: the command object; it is changed in place, once.
        program: the program.
        build: makes the group of this library's commands, given what runs before `record` and
            before a notice.
    """
    if hasattr(root, _ROOT):
        return
    setattr(root, _ROOT, Mount(program, build))
    follow(root, program)
    if is_group(root):
        mount_in_group(root, getattr(root, _ROOT))
    else:
        mount_in_command(root, getattr(root, _ROOT))


def follow(command: Any, program: Program) -> None:
    """Record each run of a command, and follow the commands that a group resolves."""
    if hasattr(command, _FOLLOWED):
        return
    setattr(command, _FOLLOWED, True)
    invoke, make_context = command.invoke, command.make_context

    def recorded_invoke(context: Any) -> Any:
        if context.command is not command or not is_leaf(command, context):
            return invoke(context)
        if root_of(context.parent, command) is not None:
            program.ask(lambda: declare_all(context.find_root()))
        span = open_command(program, context.parent, context.info_name, command, context)
        if span is None:
            return invoke(context)
        try:
            result = invoke(context)
        except BaseException as error:
            span.finish(error)
            raise
        span.finish(None)
        return result

    def recorded_make_context(
        info_name: Any, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        try:
            return make_context(info_name, args, parent=parent, **extra)
        except BaseException as error:
            completes = extra.get("resilient_parsing") or getattr(
                parent, "resilient_parsing", False
            )
            if not (is_group(command) or completes or is_help(error)):
                span = open_command(program, parent, info_name, command, parent)
                if span is not None:
                    span.finish(error)
            raise

    command.invoke, command.make_context = recorded_invoke, recorded_make_context
    if not is_group(command):
        return
    resolve = command.resolve_command

    def followed_resolve(context: Any, args: list[str]) -> Any:
        found = resolve(context, args)
        try:
            if found[1] is not None and not hasattr(found[1], _ROOT):
                follow(found[1], program)
        except Exception:
            return found  # an object that takes no attributes runs as ever, and is not counted
        return found

    command.resolve_command = followed_resolve


def open_command(
    program: Program, parent: Any, info_name: Any, command: Any, context: Any
) -> ActiveSpan | None:
    """Record the start of a command; None if nothing is recorded. It raises nothing.

    Args:
        program: the program.
        parent: the context around the command.
        info_name: the name by which the command was found.
        command: the command.
        context: the innermost context with values of options.
    """
    if runtime.is_off():
        return None
    try:
        root = root_of(parent, command)
        if root is None:
            return None
        getattr(root, _ROOT).declare_registered(root, context)
        path = path_of(parent, info_name, command)
    except Exception:
        return None  # a class of the program cannot list its commands
    return path and program.open_command(*path, option_of(context))


def root_of(parent: Any, command: Any) -> Any:
    """The outermost root of a program that the command line went through; None if there is none.

    Args:
        parent: the context around a command.
        command: the command.
    """
    found = None
    while True:
        if hasattr(command, _ROOT):
            found = command
        if parent is None:
            return found
        parent, command = parent.parent, parent.command


def is_group(command: Any) -> bool:
    """Whether a command has subcommands."""
    return hasattr(command, "resolve_command")


def is_leaf(command: Any, context: Any) -> bool:
    """Whether a command runs itself: no group, or one that runs without a subcommand."""
    if not is_group(command):
        return True
    words = getattr(context, "_protected_args", None)
    if words is None:
        words = getattr(context, "protected_args", ())  # up to Click 8.1
    return bool(getattr(command, "invoke_without_command", False)) and not words


def is_help(error: BaseException) -> bool:
    """Whether parsing ended by `--help`, `--version` or the like, and not by a mistake."""
    # Since Click 8.2, a missing argument of a command with `no_args_is_help` is an error.
    names = {kind.__name__ for kind in type(error).__mro__}
    return "NoArgsIsHelpError" in names or getattr(error, "exit_code", 1) == 0


def option_of(context: Any) -> OptionValue:
    """Return a function that returns the value of an option of a context or one around it."""

    def value(name: str) -> object:
        at = context
        while at is not None:
            for parameter in at.command.params:
                if name in (*parameter.opts, *parameter.secondary_opts):
                    found: object = at.params.get(parameter.name)
                    if found is not None:
                        return found
            at = at.parent
        return None

    return value


# -- names -------------------------------------------------------------------------------------


def path_of(parent: Any, info_name: Any, command: Any) -> tuple[str, bool] | None:
    """The registered names of a command, joined by blanks, and whether each one is registered.

    The name of a program without subcommands is its app name. None if the command was reached by
    another program.
    """
    names: list[str] = []
    found = None
    is_registered = True
    while True:
        mount = getattr(command, _ROOT, None)
        if mount is not None:
            # The outermost one: a Typer app may be a group of another one.
            found = (" ".join(reversed(names)) or mount.program.name, is_registered)
        if parent is None:
            return found
        name = registered(parent, info_name, command)
        is_registered = is_registered and name is not None
        names.append(str(info_name) if name is None else name)
        parent, info_name, command = parent.parent, parent.info_name, parent.command


def registered(context: Any, name: Any, command: Any) -> str | None:
    """The name under which a group has a command; None if the group lists no such name.

    A group may accept other words, such as an abbreviation, or any text that a user types.
    """
    group = context.command
    found = next((n for n in (name, command.name) if n in getattr(group, "commands", {})), None)
    if found is None:
        listed = group.list_commands(context)
        found = next((n for n in (name, command.name) if n in listed), None)
    return found and first_of(found, command, context, group)


def first_of(name: str, command: Any, context: Any, group: Any) -> str:
    """The first of the names that a program registers as one, such as `list | ls` or `list, ls`.

    Click has no aliases. Many programs have a class of groups that splits such a text.
    """
    first = name.replace(",", "|").partition("|")[0].strip()
    if first in ("", name):
        return name
    try:
        return first if group.get_command(context, first) is command else name
    except Exception:
        return name  # the group splits no text


def declare_all(root_context: Any) -> None:
    """Declare each command of the program, so that a notice names it."""
    for command in (root_context.command, *getattr(root_context.command, "commands", {}).values()):
        mount = getattr(command, _ROOT, None)
        if mount is not None:
            if not is_group(command):
                declare(mount.program.name)
            break
    declare_below(root_context, root_context.command, [])


def declare_below(context: Any, group: Any, names: list[str]) -> None:
    """Declare the commands of a group and of the groups in it."""
    if not is_group(group):
        return
    try:
        listed = list(group.list_commands(context))
    except Exception:
        return  # a class of the program cannot list its commands here
    for name in listed:
        try:
            command = group.get_command(context, name)
        except Exception:
            continue  # it cannot be loaded here
        if command is None or (name == GROUP and not names):
            continue
        path = [*names, first_of(name, command, context, group)]
        if not is_group(command) or getattr(command, "invoke_without_command", False):
            declare(" ".join(path))
        if len(path) < _MAX_DEPTH:
            declare_below(context, command, path)


# -- the commands of this library ----------------------------------------------------------------


class Mount:
    """The group with the commands of this library, made when it is used.

    Args:
        program: the program.
        build: makes the group.
    """

    def __init__(self, program: Program, build: Callable[[Callable[[Any], None]], Any]) -> None:
        self.program = program
        self._build = build
        self._group: Any = None
        self._is_declared = False

    @property
    def group(self) -> Any:
        """The group, which is not followed."""
        if self._group is None:
            self._group = self._build(lambda context: declare_all(context.find_root()))
            setattr(self._group, _FOLLOWED, True)
        return self._group

    def declare_registered(self, root: Any, context: Any) -> None:
        """Declare the commands that are in memory, once. A lazy group has others, which stay so."""
        if not self._is_declared:
            self._is_declared = True
            declare_in_memory(root, [], context)


def declare_in_memory(group: Any, names: list[str], context: Any) -> None:
    """Declare the commands of a group, and of the groups in it, without loading any."""
    for name, command in dict(getattr(group, "commands", {})).items():
        path = [*names, first_of(str(name), command, context, group)]
        if not is_group(command) or getattr(command, "invoke_without_command", False):
            declare(" ".join(path))
        if len(path) < _MAX_DEPTH:
            declare_in_memory(command, path, context)


def mount_in_group(root: Any, mount: Mount) -> None:
    """Add the commands of this library to a group."""
    get_command, list_commands = root.get_command, root.list_commands

    def is_own() -> bool:
        return GROUP in getattr(root, "commands", {})

    def mounted_get(context: Any, name: str) -> Any:
        return mount.group if name == GROUP and not is_own() else get_command(context, name)

    def mounted_list(context: Any) -> list[str]:
        names = list(list_commands(context))
        return names if GROUP in names else [*names, GROUP]

    root.get_command, root.list_commands = mounted_get, mounted_list


def mount_in_command(root: Any, mount: Mount) -> None:
    """Let `acme telemetry COMMAND` reach the commands of this library in a program of one command.

    Only the two words together do so: `telemetry` alone may be an argument of the program.
    """
    invoke, make_context = root.invoke, root.make_context

    def mounted_make_context(
        info_name: Any, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        if parent is None and is_ours(args):
            # With a parent, so that usage errors name the program.
            return mount.group.make_context(f"{info_name} {GROUP}", list(args[1:]), **extra)
        return make_context(info_name, args, parent=parent, **extra)

    def mounted_invoke(context: Any) -> Any:
        return invoke(context) if context.command is root else context.command.invoke(context)

    root.make_context, root.invoke = mounted_make_context, mounted_invoke


def check_not_running(kind: type) -> None:
    """Check that no command of Click or Typer runs in this thread.

    Args:
        kind: a class of Click or Typer, which names the copy of Click in use.

    Raises:
        ConfigurationError: one runs, so that `install()` comes too late.
    """
    for base in kind.__mro__:
        module = sys.modules.get(f"{base.__module__.rpartition('.')[0]}.globals")
        get_current = getattr(module, "get_current_context", None)
        if get_current is not None and get_current(silent=True) is not None:
            raise mistake("the program runs already: call install() before app()")
