"""A decorated callable keeps its identity, can be pickled, and works in command-line libraries."""

import asyncio
import copy
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
    capture_events,
    instrument,
    role_session,
    tracks,
)
from telemetry_kit.errors import DecorationError
from telemetry_kit.testing import Captured
from tests.instrumentation.proxies_helpers import (
    AGENT,
    PAIR,
    Adder,
    AsyncAdder,
    Methods,
    add,
    adder,
    anumbers,
    cached,
    kinds,
    later,
    length,
    numbers,
    three,
)


def _label(thing: Any) -> str:
    """Name a test case without the address of the object."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


PREDICATES = (
    inspect.isfunction,
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
    inspect.ismethod,
    inspect.isbuiltin,
    callable,
)


# -- identity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [add, later, numbers, anumbers, Methods.method, Methods.static_above], ids=_label
)
def test_inspect_sees_the_original(function: Any) -> None:
    """`inspect` and `typing` return the same for a decorated function as for the original."""
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
    """A proxy of any other callable has the attributes and the equality of the original."""
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
    """Attributes that frameworks set on a function are kept."""

    def target() -> None: ...

    target.route = "/x"
    decorated = tracks(AGENT)(target)

    assert decorated.route == "/x"
    assert target is decorated.__wrapped__


def test_names_of_running_bodies(captured: Captured) -> None:
    """Running coroutines and generators have the name of the decorated callable."""
    made = [numbers(1), later(1), anumbers(1), tracks(AGENT)(AsyncAdder(1))(1)]
    names = [m.__qualname__ for m in made]
    made[1].close()
    made[3].close()

    assert names == ["numbers", "later", "anumbers", "AsyncAdder.__call__"]


def test_never_awaited_proxy_warns_with_its_name(captured: Captured) -> None:
    """Python's warning names the decorated callable."""
    with pytest.warns(RuntimeWarning, match=r"'AsyncAdder.__call__' was never awaited") as caught:
        tracks(AGENT)(AsyncAdder(1))(1)

    assert len(caught) == 1


@pytest.mark.parametrize("kind", ["partial", "callable object", "bound method", "builtin"])
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_at_most_one_more_frame(kind: str, on: bool) -> None:
    """Decoration adds at most one frame to a traceback."""

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
    """A mock made with `create_autospec` checks the arguments of the original."""
    spec = mock.create_autospec(add, return_value=7)
    async_spec = mock.create_autospec(later)

    assert spec(1, b=2) == 7
    assert asyncio.run(async_spec(1)) is not None
    with pytest.raises(TypeError):
        spec(1, 2, 3)
    with pytest.raises(TypeError):
        mock.create_autospec(Methods, instance=True).method(1, 2, 3)


NAMED = [add, later, numbers, anumbers, Methods.method, Methods.static_above, cached]


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this file importable under the module name of its functions."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())


def _this_module() -> Any:
    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


# -- pickles and copies --------------------------------------------------------------------------


@pytest.mark.parametrize("function", NAMED, ids=_label)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_by_reference(importable: None, function: Any, protocol: int) -> None:
    """A callable with a name of its own unpickles as the same object."""

    assert pickle.loads(pickle.dumps(function, protocol)) is function


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("proxy", [adder, three, length], ids=["object", "partial", "builtin"])
def test_pickled_by_value(captured: Captured, importable: None, proxy: Any, protocol: int) -> None:
    """A callable without a name unpickles as an equal object that is still measured."""
    back = pickle.loads(pickle.dumps(proxy, protocol))
    argument = [] if proxy is three else [[1, 2, 3]] if proxy is length else [1]

    assert back(*argument) == 3
    assert kinds(captured) == PAIR


def test_bound_methods_pickle(importable: None) -> None:
    """A bound method pickles together with its instance."""
    bound = pickle.loads(pickle.dumps(Methods(1).method))
    proxied = pickle.loads(pickle.dumps(Methods(1).cached))

    assert (bound(2), proxied(2)) == (3, 3)


def test_local_functions_fail_to_pickle() -> None:
    """A local function raises Python's own pickle error."""

    @tracks(AGENT)
    def local() -> None: ...

    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        pickle.dumps(local)


def test_copies(captured: Captured) -> None:
    """Functions copy as themselves. Copies of other callables are still measured."""
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
    """Decorated functions and proxies can be sent to worker processes and back."""
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


# -- commands of Click and Typer -----------------------------------------------------------------


def test_typer_apps_in_place(captured: Captured) -> None:
    """Every command of a Typer app is measured, and the app stays the same object."""
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
    """Click commands and groups are measured and stay the same objects."""
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
    """An app without commands, or a group without a function, is refused with advice."""
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
def import_host_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Any]]:
    """Return a function that imports a module of the host for the first time."""
    (tmp_path / "tk_theirs.py").write_text(textwrap.dedent(THEIRS))
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: __import__("tk_theirs")
    sys.modules.pop("tk_theirs", None)


# -- instrument() --------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "path",
    ["function", "Theirs.method", "Theirs.inherited", "Theirs.static", "Theirs.of_class"],
)
def test_instrument_and_undo(
    captured: Captured, import_host_module: Callable[[], Any], when: str, path: str
) -> None:
    """`instrument()` measures the named functions until the patch is undone."""
    if when == "after":
        import_host_module()
    handle = instrument(f"tk_theirs:{path}", tracks(AGENT))
    module = import_host_module()

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


def test_undo_before_the_import(captured: Captured, import_host_module: Callable[[], Any]) -> None:
    """If the patch is undone before the import, the module stays unchanged."""
    with instrument("tk_theirs:function", tracks(AGENT)):
        pass
    import_host_module().function()

    assert captured.events == []


@pytest.mark.parametrize(
    "target", ["json", "json:", ":dumps", "json:dumps()", "json:a-b", "json:no_such_name"]
)
def test_instrument_refuses(target: str) -> None:
    """A malformed target, or a name that an imported module lacks, is refused."""
    with pytest.raises(DecorationError, match="instrument"):
        instrument(target, tracks(AGENT))


def test_instrumenting_upon_import_never_breaks_it(
    import_host_module: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that a later import lacks is an error in tests and ignored in production."""
    instrument("tk_theirs:gone", tracks(AGENT))
    with pytest.raises(DecorationError, match="gone"):
        import_host_module()
    sys.modules.pop("tk_theirs", None)
    instrument("tk_theirs:gone", tracks(AGENT))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")

    assert import_host_module().function() == 3
