"""Find functions that a framework calls without the decorator that was put on them.

A framework registers the function that its decorator receives. A decorator above it then wraps
what the framework returns, and the framework never calls that. Only `doctor` and the tests'
fixture look: nothing is noted when a function is decorated or called.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# The class of a registered thing, by its top-level package and name: how people call the
# framework, and the attribute with the function that it calls.
REGISTERED = {
    ("celery", "Task"): ("Celery", "run"),
    ("click", "Command"): ("Click", "callback"),
    ("cyclopts", "App"): ("Cyclopts", "default_command"),
    ("dramatiq", "Actor"): ("Dramatiq", "fn"),
    ("fastapi", "APIRoute"): ("FastAPI", "endpoint"),
    ("fastapi", "APIWebSocketRoute"): ("FastAPI", "endpoint"),
    ("fastmcp", "FunctionPrompt"): ("FastMCP", "fn"),
    ("fastmcp", "FunctionResource"): ("FastMCP", "fn"),
    ("fastmcp", "FunctionTool"): ("FastMCP", "fn"),
    ("pydantic_ai", "OutputValidator"): ("Pydantic AI", "function"),
    ("pydantic_ai", "SystemPromptRunner"): ("Pydantic AI", "function"),
    ("pydantic_ai", "Tool"): ("Pydantic AI", "function"),
    ("typer", "CommandInfo"): ("Typer", "callback"),
    ("typer", "TyperInfo"): ("Typer", "callback"),
}
# What Celery returns becomes the task on first use. It is not looked at before it is decorated.
PLACEHOLDERS = {
    ("celery", "PromiseProxy"): ("Celery", "run"),
    ("celery", "Proxy"): ("Celery", "run"),
}
_PROXIES = "telemetry_kit.instrumentation.proxies"
_FUNCTION = type(lambda: None)


def not_called() -> list[str]:
    """Find decorated functions whose framework calls the undecorated ones.

    Returns:
        A sentence for each, sorted.
    """
    if not {package for package, _ in REGISTERED} & sys.modules.keys():
        return []
    proxy = getattr(sys.modules.get(_PROXIES), "Proxy", None)
    # The wrapper of each decorated function, by the id of that function.
    wrappers: dict[int, Any] = {}
    # Functions that a framework calls, and its name.
    registered: list[tuple[Any, str]] = []
    found: list[tuple[Any, str]] = []
    kinds: dict[int, tuple[str, str] | None] = {}
    for thing in gc.get_objects():
        kind = type(thing)
        try:
            if kind is _FUNCTION:
                if is_wrapper(thing):
                    wrappers[id(thing.__wrapped__)] = thing
                continue
            if kind is proxy:
                target = thing.__wrapped__
                row = row_of(type(target), REGISTERED | PLACEHOLDERS)
                if row is not None:
                    found.append(function_of(target, row))
                continue
            if id(kind) not in kinds:
                kinds[id(kind)] = row_of(kind, REGISTERED)
            row = kinds[id(kind)]
            if row is not None:
                registered.append(function_of(thing, row))
        except Exception:
            # An object of the host that answers with an error is not looked at.
            continue
    called = {id(function) for function, _ in registered}
    found += [
        (function, framework)
        for function, framework in registered
        if id(function) in wrappers and id(wrappers[id(function)]) not in called
    ]
    return sorted({sentence(function, framework) for function, framework in found})


def is_wrapper(function: Any) -> bool:
    """Return whether a function is what one of our decorators made."""
    module = function.__globals__.get("__name__", "")
    return (
        type(module) is str
        and module.startswith("telemetry_kit.instrumentation.")
        and "__wrapped__" in function.__dict__
    )


def row_of(kind: type, table: Mapping[tuple[str, str], tuple[str, str]]) -> tuple[str, str] | None:
    """Return the row of the first base class that is in a table."""
    for base in type.__dict__["__mro__"].__get__(kind):
        module = base.__module__
        package = module.partition(".")[0] if type(module) is str else ""
        if (package, base.__name__) in table:
            return table[package, base.__name__]
    return None


def function_of(thing: Any, row: tuple[str, str]) -> tuple[Any, str]:
    """Return the function that a framework calls, and the name of the framework."""
    framework, attribute = row
    function = getattr(thing, attribute, None)
    return getattr(function, "__func__", function), framework


def sentence(function: Any, framework: str) -> str:
    """Say what is wrong, and what helps."""
    module = getattr(function, "__module__", None) or "?"
    name = getattr(function, "__qualname__", None) or "?"
    return (
        f"{module}.{name} is decorated, never called through {framework}: "
        f"put @tracks below the decorator of {framework}"
    )
