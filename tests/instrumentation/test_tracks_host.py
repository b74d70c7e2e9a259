"""`@tracks` changes neither the host's exceptions nor its functions."""

import asyncio
import copy
import functools
import inspect
import pickle
import traceback

import pytest

from telemetry_kit import role_session, tracks
from telemetry_kit.errors import DecorationError, UnknownEventError
from tests.instrumentation.tracks_helpers import FORMS, run

# -- the host's exceptions -----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_the_exception_is_the_hosts_own(place, form: str) -> None:
    """The same exception object is raised, with its cause, context and notes unchanged."""
    error, cause = ValueError("x"), KeyError("y")
    error.__cause__, error.__suppress_context__ = cause, True
    error.add_note("note")
    raised = run(form, "agent.invoked", error)

    assert raised is error
    assert (cause, None, ["note"]) == (error.__cause__, error.__context__, error.__notes__)


@pytest.mark.parametrize("form", ["function", "coroutine"])
def test_at_most_one_more_frame(place, form: str) -> None:
    """Decoration adds at most one frame to a traceback."""

    def body() -> None:
        raise ValueError

    async def coroutine() -> None:
        raise ValueError

    def frames(call) -> int:
        try:
            call()
        except ValueError as error:
            return len(traceback.extract_tb(error.__traceback__))
        raise AssertionError("nothing raised")

    def plain() -> None:
        body() if form == "function" else asyncio.run(coroutine())

    body_, coroutine_ = tracks("agent.invoked")(body), tracks("agent.invoked")(coroutine)

    def tracked() -> None:
        body_() if form == "function" else asyncio.run(coroutine_())

    assert frames(tracked) - frames(plain) <= 1


def test_context_is_untouched(place) -> None:
    """An exception raised inside a handler keeps its context."""
    first = KeyError("first")

    @tracks("agent.invoked")
    def body() -> None:
        try:
            raise first
        except KeyError:
            raise ValueError("second")  # noqa: B904

    with pytest.raises(ValueError, match="second") as caught:
        body()

    assert caught.value.__context__ is first
    assert None is first.__context__


@pytest.mark.parametrize("form", FORMS)
def test_no_reference_to_an_exception_is_kept(place, form: str) -> None:
    """No object of ours refers to an exception after the host drops it."""
    import gc
    import weakref

    class Mine(Exception):  # noqa: N818
        pass

    error: Mine | None = Mine()
    alive = weakref.ref(error)
    run(form, "agent.invoked", error)
    error = None
    gc.collect()

    assert None is alive()


def test_an_exception_while_handling_one(place) -> None:
    """A decorated function called in a handler does not change the handled exception."""
    tracked = tracks("agent.invoked")(lambda: None)
    try:
        raise ValueError
    except ValueError as error:
        tracked()
        kept = error

    assert (kept.__context__, kept.__cause__) == (None, None)


def test_an_exit_code_that_fails(place) -> None:
    """If reading `exit_code` of an exception fails, the outcome is `error`."""

    class Broken(Exception):  # noqa: N818
        @property
        def exit_code(self) -> int:
            raise RuntimeError("secret-jane")

    assert isinstance(run("function", "command.executed", Broken()), Broken)
    assert (
        place.events()[-1]["outcome"],
        "exit_code" in place.events()[-1],
    ) == ("error", False)


@tracks("agent.invoked", agent="sample")
def sample(task: str, /, times: int = 2, *more: str, loud: bool = False, **rest: int) -> str:
    """Repeat a text."""
    return task * times


sample.marker = "kept"  # type: ignore[attr-defined]


@tracks("agent.invoked", agent="sample")
async def async_sample(task: str) -> str:
    """Return a text."""
    return task


# -- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [sample, async_sample])
def test_metadata_of_a_function_is_kept(function) -> None:
    """Name, module, docstring, annotations, signature and `__wrapped__` are the original's."""
    original = function.__wrapped__

    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(original, name) == getattr(function, name), name
    assert inspect.signature(original) == inspect.signature(function)
    assert inspect.unwrap(function) is original
    assert inspect.isfunction(function)
    assert inspect.getsource(function) == inspect.getsource(original)
    assert inspect.getdoc(original) == inspect.getdoc(function)


def test_attributes_are_kept() -> None:
    """The decorated function has the attributes of the original."""

    def original() -> None:
        pass

    original.marker = "x"  # type: ignore[attr-defined]

    assert tracks("agent.invoked")(original).marker == "x"  # type: ignore[attr-defined]


def test_a_function_keeps_its_kind() -> None:
    """A plain function stays plain and an async function async, by every test for it."""
    assert (
        inspect.iscoroutinefunction(sample),
        inspect.iscoroutinefunction(async_sample),
    ) == (False, True)
    assert (inspect.isgeneratorfunction(sample), inspect.isclass(sample)) == (False, False)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [sample, async_sample])
def test_a_function_pickles_by_name(function, protocol: int, monkeypatch) -> None:
    """A decorated function unpickles as the same object."""
    import sys
    import types

    module = types.ModuleType(function.__module__)
    monkeypatch.setitem(sys.modules, function.__module__, module)
    setattr(module, function.__name__, function)

    assert function is pickle.loads(pickle.dumps(function, protocol))


@pytest.mark.parametrize("function", [sample, async_sample])
def test_a_function_copies_as_itself(function) -> None:
    """`copy` and `deepcopy` return the same function, as they do for any function."""
    assert copy.copy(function) is function
    assert copy.deepcopy({"f": function})["f"] is function


def test_arguments_and_result_pass_through(place) -> None:
    """Arguments of all kinds reach the function, and its result is returned unchanged."""
    result = object()

    @tracks("agent.invoked")
    def body(*args: object, **kwargs: object) -> object:
        assert (args, kwargs) == ((1, 2), {"a": 3, "self": 4, "call": 5, "function": 6, "args": 7})
        return result

    assert result is body(1, 2, a=3, self=4, call=5, function=6, args=7)


def test_methods_bind(place) -> None:
    """A decorated method binds to its instance or class, also as class or static method."""

    class Tool:
        @tracks("agent.invoked")
        def method(self) -> object:
            return self

        @classmethod
        @tracks("agent.invoked")
        def of_class(cls) -> object:
            return cls

        @staticmethod
        @tracks("agent.invoked")
        def of_none(x: int) -> int:
            return x

        @property
        @tracks("agent.invoked")
        def value(self) -> int:
            return 3

    tool = Tool()

    assert (tool, Tool, 1, 3) == (tool.method(), tool.of_class(), tool.of_none(1), tool.value)
    assert len(place.lines()) == 8
    assert inspect.ismethod(tool.method)


def test_stacked_decorators(place) -> None:
    """`tracks`, `role_session` and decorators of `functools` work in any order."""

    @role_session("dev")
    @functools.lru_cache
    @tracks("agent.invoked")
    def body(n: int) -> int:
        return n

    assert (body(1), body(1)) == (1, 1)
    assert place.types() == ["role.selected", "agent.invoked", "agent.completed", "role.selected"]


def test_the_type_of_a_result_is_not_compared(place) -> None:
    """A result whose type defines what equals it and how it is hashed runs no code of the host."""

    class Loud(type):
        def __eq__(cls, other: object) -> bool:
            raise AssertionError("compared")

        def __hash__(cls) -> int:
            raise AssertionError("hashed")

    class Result(metaclass=Loud):
        pass

    @tracks("agent.invoked")
    def body() -> Result:
        return result

    result = Result()

    assert body() is result
    assert place.types() == ["agent.invoked", "agent.completed"]


# -- mistakes ------------------------------------------------------------------------------------


def test_unknown_event_is_an_error_at_decoration() -> None:
    """An unknown event raises ValueError at decoration and names the nearest valid ones."""
    with pytest.raises(ValueError, match=r"'agent\.invokd'.*'agent\.invoked'") as caught:
        tracks("agent.invokd")

    assert UnknownEventError is type(caught.value)


def test_a_member_of_another_enum() -> None:
    """A member of the host's own string enum is accepted or refused by its value."""
    from enum import StrEnum

    class HostEvent(StrEnum):
        GOOD = "agent.invoked"
        BAD = "agent.gone"

    tracks(HostEvent.GOOD)
    with pytest.raises(ValueError, match=r"agent\.gone"):
        tracks(HostEvent.BAD)


def test_forgotten_parentheses() -> None:
    """`@tracks` without arguments raises a TypeError that shows the correct form."""
    with pytest.raises(TypeError, match=r"@tracks\(RoleEvent\.AGENT_INVOKED\)"):

        @tracks  # type: ignore[arg-type]
        def body() -> None:
            pass


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        (property(lambda self: 3), "under @property"),
        (functools.cached_property(lambda self: 3), "under @cached_property"),
        (3, "called"),
        (None, "called"),
        ("text", "called"),
    ],
    ids=["property", "cached_property", "int", "None", "str"],
)
@pytest.mark.parametrize(
    "decorator", [tracks("agent.invoked"), role_session("dev")], ids=["t", "s"]
)
def test_what_cannot_be_decorated(target: object, advice: str, decorator) -> None:
    """A target that cannot be decorated raises a TypeError with advice."""
    with pytest.raises(DecorationError, match=advice) as caught:
        decorator(target)

    assert isinstance(caught.value, TypeError)


def test_a_class_cannot_be_decorated() -> None:
    """Decorating a class is refused with the advice to decorate a method."""
    with pytest.raises(TypeError, match=r"the class .*Tool: .*the method that does the work"):

        @tracks("agent.invoked")
        class Tool:
            pass


def test_generator_functions(place) -> None:
    """A decorated generator function stays one and has one span around its body."""

    @tracks("agent.invoked")
    def numbers() -> object:
        yield 1
        yield 2

    assert inspect.isgeneratorfunction(numbers)
    assert list(numbers()) == [1, 2]
    assert place.types() == ["agent.invoked", "agent.completed"]
