"""`@tracks`: the events around a function, and their names.

`instrumentation.decorate` wraps the function. `instrumentation.spans` makes the events.
"""

from telemetry_kit._runtime import load, runtime
from telemetry_kit.instrumentation.decorate import Around

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Any

    from telemetry_kit.instrumentation.spans import Span

_spans: "Any" = None


class tracks(Around):  # noqa: N801 - it is used like a function
    """Record the start and the end of a function or a block.

    Given the first event of a pair (`agent.invoked`, `agent.started`, `command.executed`,
    `workflow.started`, `handoff.clicked`), it records that event at entry and `*.completed` or
    `*.failed` at the end, tied together by a span id. Given any other event, it records that one
    at the end: `*.failed` after a failure, the others after a success.

    A decorator and a context manager (also `async with`); one object can be used many times, also
    at once. As a decorator that is made or applied at the top level of a module or class body, it
    declares its names, so that they are stored in clear. Inside a running function it declares
    nothing: a name may be what a user typed, and is stored as a pseudonym unless it is declared
    elsewhere.

    Args:
        event: a `RoleEvent` or its string value.
        role: who is acting.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow it belongs to.
        source_agent: who hands off.
        target_agent: who takes over.
        project_root: a directory inside the project; the working directory by default.

    Raises:
        UnknownEventError: no such event; the message names the nearest ones.
        ConfigurationError: a name that it declares cannot be stored in clear.
        DecorationError: as a decorator, on something that cannot be decorated.
    """

    __slots__ = ("_event", "_start")

    def __init__(
        self,
        event: str,
        *,
        role: "str | None" = None,
        command: "str | None" = None,
        agent: "str | None" = None,
        workflow: "str | None" = None,
        source_agent: "str | None" = None,
        target_agent: "str | None" = None,
        project_root: "str | os.PathLike[str] | None" = None,
    ) -> None:
        super().__init__(
            {
                "role": role,
                "command": command,
                "agent": agent,
                "workflow": workflow,
                "source_agent": source_agent,
                "target_agent": target_agent,
            }
        )
        if type(event) is str or type(event).__module__ != "telemetry_kit.events":
            event = _known(event)
        self._event = event
        self._start = project_root

    def __enter__(self) -> "Call":
        return Call(self._open())

    async def __aenter__(self) -> "Call":
        return Call(self._open())

    def _written(self) -> str:
        return f"@tracks({str(self._event)!r})"

    def _open(self) -> "Span | None":
        opened = self._begin()
        self._entered.append(opened)
        return opened

    def _begin(self) -> "Span | None":
        if runtime.is_off():
            return None
        global _spans
        if _spans is None:
            # deferred: only where somebody may have said yes
            _spans = load("telemetry_kit.instrumentation.spans")
            if _spans is None:
                return None
        opened: Span | None = _spans.begin(self._event, self._names, "decorator", self._start)
        return opened


class Call:
    """What `with tracks(...) as call` gives: a handle on the open span, or on nothing.

    Args:
        span: the open span; None when nothing is recorded.
    """

    __slots__ = ("_span",)

    def __init__(self, span: "Span | None") -> None:
        self._span = span

    def set(
        self, *, context: "Mapping[str, object] | None" = None, exit_code: "int | None" = None
    ) -> None:
        """Add to the event that ends the span.

        Args:
            context: values for keys declared with `configure(context=...)`.
            exit_code: the exit code, for command events.
        """
        if self._span is not None:
            self._span.set(context=context, exit_code=exit_code)


def _known(event: object) -> str:
    if not isinstance(event, str):
        from telemetry_kit.errors import DecorationError  # deferred: only for a mistake

        raise DecorationError("tracks() needs an event: @tracks(RoleEvent.AGENT_INVOKED)")
    catalog = load("telemetry_kit.schema.catalog")  # deferred: a RoleEvent needs no look-up
    # Where it is being loaded, the chain decides: it records no unknown event.
    name: str = event if catalog is None else catalog.event(event).name
    return name
