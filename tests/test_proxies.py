"""Every kind of callable, decorated: it looks as it did, also to other libraries."""

import abc
import asyncio
import copy
import dataclasses
import functools
import inspect
import multiprocessing
import pickle
import sys
import textwrap
import traceback
import types
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer

from telemetry_kit import (
    RoleEvent,
    capture_events,
    current,
    instrument,
    role_session,
    tracks,
)
from telemetry_kit.errors import DecorationError
from telemetry_kit.testing import Captured

AGENT = RoleEvent.AGENT_INVOKED
PAIR = ["agent.invoked", "agent.completed"]


def _label(thing: Any) -> str:
    """A name for a case without the address of the object."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Every event of the test; internal errors are raised."""
    with capture_events() as events:
        yield events


def kinds(captured: Captured) -> list[str]:
    """The event types that were recorded."""
    return [e["event_type"] for e in captured.events]


# -- module level, so that it can be pickled ---------------------------------------------------


@tracks(AGENT, agent="adder")
def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


@tracks(AGENT)
async def later(a: int) -> int:
    """Add one."""
    return a + 1


@tracks(AGENT)
def numbers(count: int) -> Iterator[int]:
    """Count."""
    yield from range(count)


@tracks(AGENT)
async def anumbers(count: int) -> typing.AsyncIterator[int]:
    """Count."""
    for n in range(count):
        yield n


class Adder:
    """A callable object."""

    def __init__(self, more: int) -> None:
        self.more = more

    def __call__(self, a: int) -> int:
        return a + self.more

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder) and self.more == other.more

    def __hash__(self) -> int:
        return hash(self.more)


class AsyncAdder(Adder):
    """One whose call is a coroutine."""

    async def __call__(self, a: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return a + self.more


class Counter(Adder):
    """One whose call is a generator."""

    def __call__(self, a: int) -> Iterator[int]:  # type: ignore[override]
        yield a
        yield a + self.more


class AsyncCounter(Adder):
    """One whose call is an async generator."""

    async def __call__(self, a: int) -> typing.AsyncIterator[int]:  # type: ignore[override]
        yield a
        yield a + self.more


adder = tracks(AGENT)(Adder(2))
three = tracks(AGENT)(functools.partial(Adder(2), 1))
length = tracks(AGENT)(len)


@tracks(AGENT)
@functools.lru_cache(maxsize=4)
def cached(a: int) -> int:
    """Keep."""
    return a + 2


class Methods:
    """Every kind of method."""

    def __init__(self, base: int) -> None:
        self.base = base

    @tracks(AGENT)
    def method(self, a: int) -> int:
        """Add to the base."""
        return self.base + a

    @tracks(AGENT)
    async def coroutine(self, a: int) -> int:
        """Add to the base."""
        return self.base + a

    @tracks(AGENT)
    @classmethod
    def class_above(cls, a: int) -> tuple[type, int]:
        """The decorator is above."""
        return cls, a

    @classmethod
    @tracks(AGENT)
    def class_below(cls, a: int) -> tuple[type, int]:
        """The decorator is below."""
        return cls, a

    @tracks(AGENT)
    @staticmethod
    def static_above(a: int) -> int:
        """The decorator is above."""
        return a + 2

    @staticmethod
    @tracks(AGENT)
    def static_below(a: int) -> int:
        """The decorator is below."""
        return a + 2

    @tracks(AGENT)
    @classmethod
    async def async_class(cls, a: int) -> tuple[type, int]:
        """A coroutine of the class."""
        return cls, a

    @property
    @tracks(AGENT)
    def attribute(self) -> int:
        """A property whose getter is measured."""
        return self.base

    @functools.cached_property
    @tracks(AGENT)
    def kept(self) -> int:
        """A cached one."""
        return self.base

    @tracks(AGENT)
    @functools.lru_cache(maxsize=4)  # noqa: B019
    def cached(self, a: int) -> int:
        """Keep."""
        return self.base + a

    def __deepcopy__(self, memo: dict[int, Any]) -> "Methods":
        return Methods(self.base + 100)

    partial = functools.partialmethod(method, 5)


class Derived(Methods):
    """A subclass that calls its base."""

    @tracks(AGENT)
    def method(self, a: int) -> int:
        """Add twice."""
        return super().method(a) * 2


# -- kinds -------------------------------------------------------------------------------------


def _list(generator: Any) -> Any:
    return list(generator)


async def _alist(generator: Any) -> Any:
    return [n async for n in generator]


def _await(made: Any) -> Any:
    return asyncio.run(_alist(made) if inspect.isasyncgen(made) else made)


KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "function": (lambda: add(1), 3),
    "keywords": (lambda: add(b=4, a=1), 5),
    "async function": (lambda: _await(later(1)), 2),
    "generator": (lambda: _list(numbers(2)), [0, 1]),
    "async generator": (lambda: _await(anumbers(2)), [0, 1]),
    "method": (lambda: Methods(1).method(2), 3),
    "method by class": (lambda: Methods.method(Methods(1), 2), 3),
    "async method": (lambda: _await(Methods(1).coroutine(2)), 3),
    "classmethod above": (lambda: Methods.class_above(2), (Methods, 2)),
    "classmethod above, derived": (lambda: Derived.class_above(2), (Derived, 2)),
    "classmethod above, instance": (lambda: Derived(1).class_above(2), (Derived, 2)),
    "classmethod below": (lambda: Derived(1).class_below(2), (Derived, 2)),
    "staticmethod above": (lambda: Methods.static_above(1), 3),
    "staticmethod above, instance": (lambda: Methods(1).static_above(1), 3),
    "staticmethod below": (lambda: Methods(1).static_below(1), 3),
    "async classmethod": (lambda: _await(Derived.async_class(1)), (Derived, 1)),
    "property": (lambda: Methods(3).attribute, 3),
    "cached_property": (lambda: Methods(3).kept, 3),
    "lru_cache on a method": (lambda: Methods(3).cached(1), 4),
    "partialmethod": (lambda: Methods(3).partial(), 8),
    "partial": (lambda: three(), 3),
    "partial of a coroutine function": (
        lambda: _await(tracks(AGENT)(functools.partial(later.__wrapped__, 1))()),
        2,
    ),
    "partial of a generator function": (
        lambda: _list(tracks(AGENT)(functools.partial(numbers.__wrapped__, 2))()),
        [0, 1],
    ),
    "partial of a partial": (lambda: tracks(AGENT)(functools.partial(three.__wrapped__))(), 3),
    "callable object": (lambda: adder(1), 3),
    "async callable object": (lambda: _await(tracks(AGENT)(AsyncAdder(2))(1)), 3),
    "generator object": (lambda: _list(tracks(AGENT)(Counter(2))(1)), [1, 3]),
    "async generator object": (lambda: _await(tracks(AGENT)(AsyncCounter(2))(1)), [1, 3]),
    "partial of an async callable": (
        lambda: _await(tracks(AGENT)(functools.partial(AsyncAdder(2), 1))()),
        3,
    ),
    "builtin": (lambda: length([1, 2]), 2),
    "no signature": (lambda: tracks(AGENT)(dict.fromkeys)("ab", 1), {"a": 1, "b": 1}),
    "slot wrapper": (lambda: tracks(AGENT)(int.__add__)(1, 2), 3),
    "method of a C object": (lambda: tracks(AGENT)("a-b".split)("-"), ["a", "b"]),
    "bound method": (lambda: tracks(AGENT)(Adder(2).__call__)(1), 3),
    "bound coroutine method": (lambda: _await(tracks(AGENT)(AsyncAdder(2).__call__)(1)), 3),
    "lru_cache": (lambda: cached(1), 3),
    "partial of a class": (lambda: tracks(AGENT)(functools.partial(Adder, 2))(), Adder(2)),
    "lambda": (lambda: tracks(AGENT)(lambda: 3)(), 3),
    "mock": (lambda: tracks(AGENT)(mock.Mock(return_value=3))(), 3),
    "method type": (lambda: tracks(AGENT)(types.MethodType(Adder.__call__, Adder(2)))(1), 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable(captured: Captured, kind: str) -> None:
    """It returns what it did, and one pair is recorded."""
    call, expected = KINDS[kind]
    found = call()

    assert expected == found
    assert kinds(captured) == PAIR
    assert captured.events[0]["span_id"] == captured.events[1]["span_id"]
    assert current() is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable_when_off(kind: str) -> None:
    """It returns what it did where nothing is recorded, too."""
    call, expected = KINDS[kind]

    assert expected == call()


@pytest.mark.parametrize("kind", KINDS)
def test_the_scope_covers_the_body(captured: Captured, kind: str) -> None:
    """A session around any kind shows itself to its body alone."""
    call, _ = KINDS[kind]
    with role_session("qa"):
        call()

    assert {"qa"} == {e["role"] for e in captured.events}


def test_super_calls_nest(captured: Captured) -> None:
    """A method that calls its base has it inside."""
    found = Derived(1).method(2)
    outer, inner, *_ = captured.events

    assert found == 6
    assert outer["span_id"] == inner["parent_id"]


def test_wraps_chains(captured: Captured) -> None:
    """Other decorators above and below see through ours, and ours through them."""

    def other(function):
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @other
    @tracks(AGENT)
    @other
    def target(a: int, *, b: str = "x") -> list[int]:
        """Documented."""
        return [a]

    assert target(1) == [1]
    assert str(inspect.signature(target)) == "(a: int, *, b: str = 'x') -> list[int]"
    assert target.__name__ == "target"
    assert target.__doc__ == "Documented."
    assert kinds(captured) == PAIR


def test_abstractmethod_on_either_side(captured: Captured) -> None:
    """The class stays abstract until the method is given."""

    class Above(abc.ABC):
        @tracks(AGENT)
        @abc.abstractmethod
        def method(self) -> int: ...

    class Below(abc.ABC):
        @abc.abstractmethod
        @tracks(AGENT)
        def method(self) -> int:
            return 3

    class Given(Below):
        def method(self) -> int:
            return super().method()

    for abstract in (Above, Below):
        with pytest.raises(TypeError, match="abstract"):
            abstract()

    assert Given().method() == 3
    assert kinds(captured) == PAIR


def test_singledispatch_on_either_side(captured: Captured) -> None:
    """Implementations are registered by annotation and chosen as before."""

    @tracks(AGENT)
    @functools.singledispatch
    def above(value: object) -> str:
        return "object"

    @above.register
    def _(value: int) -> str:
        return "int"

    @functools.singledispatch
    @tracks(AGENT)
    def below(value: object) -> str:
        return "object"

    @below.register
    @tracks(AGENT)
    def _(value: int) -> str:
        return "int"

    assert [above("a"), above(1), below("a"), below(1)] == ["object", "int"] * 2
    assert kinds(captured) == PAIR * 4


def test_lru_cache_on_either_side(captured: Captured) -> None:
    """Above it, every call is measured; below it, only the misses; the cache can be asked."""

    @functools.lru_cache
    @tracks(AGENT)
    def below(a: int) -> int:
        return a

    @tracks(AGENT)
    @functools.lru_cache
    def above(a: int) -> int:
        return a

    below(1), below(1), above(1), above(1)

    assert kinds(captured) == PAIR * 3
    assert (above.cache_info().hits, below.cache_info().hits) == (1, 1)

    above.cache_clear()


# -- what cannot be decorated ------------------------------------------------------------------


@dataclasses.dataclass
class Data:
    """A class."""

    value: int


REFUSED: dict[str, tuple[Any, str]] = {
    "class": (Data, "class Data: decorate the method"),
    "abstract class": (abc.ABC, "decorate the method"),
    "property": (property(lambda self: 1), "put it under @property"),
    "cached_property": (functools.cached_property(lambda self: 1), "put it under @cached_property"),
    "partialmethod": (functools.partialmethod(add, 1), "decorate the method it is made of"),
    "singledispatchmethod": (functools.singledispatchmethod(add), "under @singledispatchmethod"),
    "number": (7, "something that can be called"),
    "None": (None, "something that can be called"),
    "classmethod of a property": (classmethod(property(lambda self: 1)), "under @property"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("around", [tracks(AGENT), role_session("dev")], ids=["tracks", "session"])
def test_refused_at_decoration(what: str, around: Any) -> None:
    """A TypeError names the decorator and tells what to do instead."""
    target, advice = REFUSED[what]
    with pytest.raises(TypeError, match=advice) as raised:
        around(target)

    assert isinstance(raised.value, DecorationError)
    assert str(raised.value).startswith(("@tracks('agent.invoked')", "@role_session('dev')"))


# -- identity ----------------------------------------------------------------------------------

PREDICATES = (
    inspect.isfunction,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.ismethod,
    inspect.isbuiltin,
    callable,
)


@pytest.mark.parametrize(
    "function", [add, later, numbers, anumbers, Methods.method, Methods.static_above], ids=_label
)
def test_a_function_stays_a_function_of_its_kind(function: Any) -> None:
    """Whatever `inspect` and `typing` are asked, they answer as for the original."""
    original = function.__wrapped__

    assert [p(original) for p in PREDICATES] == [p(function) for p in PREDICATES]
    assert inspect.signature(original) == inspect.signature(function)
    assert typing.get_type_hints(original) == typing.get_type_hints(function)
    assert inspect.getsource(original) == inspect.getsource(function)
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        assert getattr(original, name) == getattr(function, name)


@pytest.mark.parametrize(
    "original",
    [
        functools.partial(add, 1),
        functools.partial(later, 1),
        Adder(2),
        AsyncAdder(2),
        len,
        dict.fromkeys,
        Adder(2).__call__,
        functools.lru_cache(add),
    ],
    ids=_label,
)
def test_a_proxy_looks_like_what_it_wraps(original: Any) -> None:
    """The same for everything that is no function, attributes and equality included."""
    proxy = tracks(AGENT)(original)

    assert [p(original) for p in PREDICATES] == [p(proxy) for p in PREDICATES]
    assert isinstance(proxy, type(original))
    assert proxy == original
    assert hash(original) == hash(proxy)
    assert getattr(original, "__name__", None) == getattr(proxy, "__name__", None)
    try:
        expected = inspect.signature(original)
    except ValueError:
        with pytest.raises(ValueError, match="signature"):
            inspect.signature(proxy)
    else:
        assert expected == inspect.signature(proxy)


def test_attributes_of_a_function_are_kept() -> None:
    """What frameworks hang on a function is still there."""

    def target() -> None: ...

    target.route = "/x"
    decorated = tracks(AGENT)(target)

    assert decorated.route == "/x"
    assert target is decorated.__wrapped__


def test_names_of_running_bodies(captured: Captured) -> None:
    """Coroutines and generators bear the user's name, those of callable objects too."""
    made = [numbers(1), later(1), anumbers(1), tracks(AGENT)(AsyncAdder(1))(1)]
    names = [m.__qualname__ for m in made]
    made[1].close()
    made[3].close()

    assert names == ["numbers", "later", "anumbers", "AsyncAdder.__call__"]


def test_never_awaited_proxy_warns_under_its_name(captured: Captured) -> None:
    """Python's warning names the user's function."""
    with pytest.warns(RuntimeWarning, match=r"'AsyncAdder.__call__' was never awaited") as caught:
        tracks(AGENT)(AsyncAdder(1))(1)

    assert len(caught) == 1


@pytest.mark.parametrize("kind", ["partial", "callable object", "bound method", "builtin"])
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_at_most_one_more_frame(kind: str, on: bool) -> None:
    """A traceback through a proxy has one frame of ours."""

    class Failing:
        def __call__(self, value: str) -> int:
            return int(value)

    target: Any = {
        "partial": functools.partial(Failing.__call__, None),
        "callable object": Failing(),
        "bound method": Failing().__call__,
        "builtin": int.from_bytes,
    }[kind]
    lengths = []
    with capture_events() if on else typing.cast(Any, mock.MagicMock()):
        for function in (target, tracks(AGENT)(target)):
            with pytest.raises((TypeError, ValueError)) as raised:
                function("x")
            lengths.append(len(traceback.extract_tb(raised.value.__traceback__)))

    assert lengths[0] + 1 == lengths[1]


def test_create_autospec(captured: Captured) -> None:
    """A mock with the spec of a decorated function knows its arguments."""
    spec = mock.create_autospec(add, return_value=7)
    async_spec = mock.create_autospec(later)

    assert spec(1, b=2) == 7
    assert asyncio.run(async_spec(1)) is not None
    with pytest.raises(TypeError):
        spec(1, 2, 3)
    with pytest.raises(TypeError):
        mock.create_autospec(Methods, instance=True).method(1, 2, 3)


# -- pickles and copies ------------------------------------------------------------------------

NAMED = [add, later, numbers, anumbers, Methods.method, Methods.static_above, cached]


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This file under the name that its functions bear."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())


def _this_module() -> Any:
    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


@pytest.mark.parametrize("function", NAMED, ids=_label)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_by_reference(importable: None, function: Any, protocol: int) -> None:
    """What has a name comes back as the very same object."""

    assert pickle.loads(pickle.dumps(function, protocol)) is function


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("proxy", [adder, three, length], ids=["object", "partial", "builtin"])
def test_pickled_by_value(captured: Captured, importable: None, proxy: Any, protocol: int) -> None:
    """What has no name of its own comes back equal, and is still measured."""
    back = pickle.loads(pickle.dumps(proxy, protocol))
    argument = [] if proxy is three else [[1, 2, 3]] if proxy is length else [1]

    assert back(*argument) == 3
    assert kinds(captured) == PAIR


def test_bound_methods_pickle(importable: None) -> None:
    """Bound methods of decorated functions and of proxies go with their instance."""
    bound = pickle.loads(pickle.dumps(Methods(1).method))
    proxied = pickle.loads(pickle.dumps(Methods(1).cached))

    assert (bound(2), proxied(2)) == (3, 3)


def test_local_functions_fail_to_pickle_as_ever() -> None:
    """The error is Python's own."""

    @tracks(AGENT)
    def local() -> None: ...

    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        pickle.dumps(local)


def test_copies(captured: Captured) -> None:
    """Functions are atomic; objects are copied as they were, and still measured."""
    holder = {"function": add, "cached": cached, "builtin": length, "object": adder}
    copied = copy.deepcopy(holder)

    assert [copied[k] is holder[k] for k in holder] == [True, True, True, False]
    assert copied["object"] == adder

    adder.more = 7
    try:
        assert (copied["object"](1), adder(1)) == (3, 8)
    finally:
        adder.more = 2
    assert kinds(captured) == PAIR * 2
    assert copy.copy(add) is add
    assert copy.copy(adder) is not adder
    assert copy.copy(adder).more == 2


def test_copies_of_bound_proxies() -> None:
    """A deep copy of a bound proxy is bound to a deep copy of its instance."""
    bound = Methods(1).cached

    assert copy.copy(bound)(1) == 2
    assert copy.deepcopy(bound)(1) == 102


WORKER = """
from functools import partial
from telemetry_kit import RoleEvent, tracks

@tracks(RoleEvent.AGENT_INVOKED)
def add(a, b=2):
    return a + b

three = tracks(RoleEvent.AGENT_INVOKED)(partial(add, 1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Decorated functions and proxies go to workers and back."""
    (tmp_path / "tk_worker_module.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    import tk_worker_module as worker

    context = multiprocessing.get_context(method)
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = [pool.submit(worker.add, 1).result(), pool.submit(worker.three).result()]
    finally:
        del sys.modules["tk_worker_module"]

    assert found == [3, 3]


# -- commands of Click and Typer ---------------------------------------------------------------


def test_typer_apps_in_place(captured: Captured) -> None:
    """All commands of an app and of its sub-apps are measured; the app is the same object."""
    from typer.testing import CliRunner

    app, inner = typer.Typer(), typer.Typer()

    @app.command()
    def build(name: str) -> None:
        typer.echo(f"built {name}")

    @inner.command()
    def deep() -> None:
        raise typer.Exit(3)

    @inner.command()
    def other() -> None:
        raise typer.Exit

    app.add_typer(inner, name="inner")
    same = tracks("command.executed", command="acme")(app)
    results = [CliRunner().invoke(app, args) for args in (["build", "x"], ["inner", "deep"])]
    CliRunner().invoke(app, ["inner", "other"])

    assert same is app
    assert (results[0].output, results[0].exit_code) == ("built x\n", 0)
    assert results[1].exit_code == 3
    ended = [(e["event_type"], e.get("exit_code")) for e in captured.events[1::2]]

    assert ended == [("command.completed", None), ("command.failed", 3), ("command.completed", 0)]


def test_click_commands_in_place(captured: Captured) -> None:
    """A command and a group are measured and stay the same objects."""
    click = pytest.importorskip("click")
    from click.testing import CliRunner

    @tracks("command.executed", command="group")
    @click.group()
    def group() -> None: ...

    @group.command()
    @click.argument("name")
    def build(name: str) -> None:
        click.echo(name)
        raise click.Abort

    same = tracks("command.executed", command="build")(build)
    result = CliRunner().invoke(group, ["build", "x"])

    assert same is build
    assert isinstance(group, click.Group)
    assert result.output == "x\nAborted!\n"
    assert [e["outcome"] for e in captured.events if "failed" in e["event_type"]] == ["cancelled"]


def test_commands_without_a_function_are_refused() -> None:
    """An app that has no commands yet, or a group without a function, tells what to do."""
    with pytest.raises(DecorationError, match="no commands yet"):
        tracks(AGENT)(typer.Typer())

    class Group:
        """The shape of a Click group."""

        name, callback = "outer", None

        def invoke(self) -> None: ...
        def make_context(self) -> None: ...
        def __call__(self) -> None: ...

    with pytest.raises(DecorationError, match="'outer': there is no function"):
        role_session("dev")(Group())


# -- code of others, by name -------------------------------------------------------------------

THEIRS = """
def function():
    return 3

class Base:
    def inherited(self):
        return 3

    @classmethod
    def of_class(cls):
        return cls

    @staticmethod
    def static():
        return 3

class Theirs(Base):
    def method(self):
        return 3
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """A module that is not ours, not imported yet; imports it."""
    (tmp_path / "tk_theirs.py").write_text(textwrap.dedent(THEIRS))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: __import__("tk_theirs")
    sys.modules.pop("tk_theirs", None)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "path",
    ["function", "Theirs.method", "Theirs.inherited", "Theirs.static", "Theirs.of_class"],
)
def test_instrument_and_undo(
    captured: Captured, theirs: Callable[[], Any], when: str, path: str
) -> None:
    """What is named is measured, imported already or not, until it is undone."""
    if when == "after":
        theirs()
    handle = instrument(f"tk_theirs:{path}", tracks(AGENT))
    module = theirs()

    def call() -> Any:
        owner, _, name = path.rpartition(".")
        target: Any = getattr(module, owner)() if owner else module
        return getattr(target, name)()

    original = {k: dict(vars(v)) for k, v in vars(module).items() if isinstance(v, type)}
    found = call()

    assert found in (3, module.Theirs)
    assert kinds(captured) == PAIR

    module.Base().inherited()
    handle.undo()
    handle.undo()

    assert found == call()
    assert kinds(captured) == PAIR
    assert original["Base"] == dict(vars(module.Base))
    assert ("inherited" in vars(module.Theirs)) is False


def test_undo_before_the_import(captured: Captured, theirs: Callable[[], Any]) -> None:
    """A module that is imported later stays as it is; leaving the block undoes, too."""
    with instrument("tk_theirs:function", tracks(AGENT)):
        pass
    theirs().function()

    assert captured.events == []


@pytest.mark.parametrize(
    "target", ["json", "json:", ":dumps", "json:dumps()", "json:a-b", "json:no_such_name"]
)
def test_instrument_refuses(target: str) -> None:
    """A target that is not written as it must be, or that an imported module lacks."""
    with pytest.raises(DecorationError, match="instrument"):
        instrument(target, tracks(AGENT))


def test_instrumenting_upon_import_never_breaks_it(
    theirs: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that their next version lacks does not fail their import; in tests it does."""
    instrument("tk_theirs:gone", tracks(AGENT))
    with pytest.raises(DecorationError, match="gone"):
        theirs()
    sys.modules.pop("tk_theirs", None)
    instrument("tk_theirs:gone", tracks(AGENT))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")

    assert theirs().function() == 3
