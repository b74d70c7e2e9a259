"""The acting role of a program: where it comes from, and the role of the run before.

Loaded only where recording is on.
"""

from __future__ import annotations

import os

from telemetry_kit import context, settings
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache
from telemetry_kit.errors import swallow
from telemetry_kit.files import private
from telemetry_kit.privacy import projects
from telemetry_kit.recording.recorder import recorder_for
from telemetry_kit.schema.validation import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from telemetry_kit.instrumentation.tracks import ActiveSpan
    from telemetry_kit.integrations.program import OptionValue, Program, RoleSource

_MAX_BYTES = settings.MAX_DECLARED_BYTES * 8


class Run:
    """A command in a session with the program's role.

    Args:
        session: the session around it.
        command: the command; None if its start could not be recorded.
    """

    def __init__(self, session: ActiveSpan, command: ActiveSpan | None) -> None:
        self.outer = session.outer
        self.scope = (command or session).scope
        self._session = session
        self._command = command

    def finish(self, error: BaseException | None) -> None:
        """End the command, and then the session."""
        if self._command is not None:
            self._command.finish(error)
        self._session.finish(error)


def open_command(program: Program, name: str, option: OptionValue) -> ActiveSpan | None:
    """Record the start of a command, and before that its role or the change of the role.

    Args:
        program: the program.
        name: the name of the command.
        option: returns the value of an option of the program.

    Returns:
        The open command; None if nothing is recorded.
    """
    spans = runtime.spans
    try:
        if not cache.is_allowed():
            return None
        role = first_value(program.roles, option)
    except Exception as error:
        swallow(error)
        role = None
    if role is None or context.innermost() is not None:
        command: ActiveSpan | None = spans.open_span(
            "command.executed", {"command": name}, program.source
        )
        return command
    session: ActiveSpan | None = spans.open_session({"role": role}, None, last_role())
    if session is None:
        return None
    save_role(role)
    return Run(session, spans.open_span("command.executed", {"command": name}, program.source))


def first_value(sources: tuple[RoleSource, ...], option: OptionValue) -> str | None:
    """The first of the sources that has a text."""
    for source in sources:
        try:
            found = source() if callable(source) else value_of(source, option)
        except Exception as error:
            swallow(error)
            continue
        role = text(found)
        if role is not None:
            return role
    return None


def value_of(source: str, option: OptionValue) -> object:
    """The value of an option, a variable, or a key of a file."""
    if source.startswith("-"):
        return option(source)
    if source.startswith("$"):
        return runtime.environ.get(source[1:]) or None
    path, _, key = source.rpartition(":")
    path = os.path.join(cache.lookup().paths.checkout, os.path.expanduser(path))
    found: Any = read_file(path)
    for part in key.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def read_file(path: str) -> Any:
    """The content of a TOML or JSON file; None if it cannot be read."""
    if path.endswith(".toml"):
        return settings.read_toml(path)
    import json  # deferred: only for a JSON file

    try:
        return json.loads(private.read_regular(path, settings.MAX_TOML_BYTES))
    except (OSError, ValueError, RecursionError):
        return None


# -- the run before ----------------------------------------------------------------------------


def last_role() -> str | None:
    """The role of the last run in this project, if it was a declared one."""
    try:
        path = _path()
        data = private.read(path, _MAX_BYTES) if path else None
        role = (data or b"").decode()
    except Exception:
        return None
    return role if role and settings.why_not_allowed(role) is None else None


def save_role(role: str) -> None:
    """Store the role for the next run. A role that is not declared is not stored."""
    try:
        path = _path()
        if not path or last_role() == role:
            return
        if role in recorder_for().allowed["roles"]:
            projects.load_atomic().replace(path, role.encode(), sync=False)
        else:
            private.remove(path)
    except Exception:
        return


def _path() -> str:
    """The file with the role; empty in a capture, whose events are not on disk."""
    dirs = None if runtime.captured else cache.lookup().decision.dirs
    return "" if dirs is None else dirs.last_role
