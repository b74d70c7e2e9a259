"""`instrument()` and `undo()`, in any order and among the wrappers of others."""

import functools
import gc
import importlib
import pickle
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from telemetry_kit import capture_events, instrument, tracks
from telemetry_kit.errors import DecorationError
from telemetry_kit.testing import Captured

AGENT = "agent.invoked"
THEIRS = """
def function():
    return 3

class Base:
    def inherited(self):
        return 3

    @classmethod
    def of_class(cls):
        return 3

    @staticmethod
    def static():
        return 3

class Theirs(Base):
    def method(self):
        return 3

partial = __import__("functools").partial(int, "3")

class Fixed:
    __slots__ = ()

    def method(self):
        return 3

instance, fixed = Theirs(), Fixed()
"""
PATHS = [
    *("function", "Theirs.method", "Theirs.inherited", "Theirs.static", "Theirs.of_class"),
    *("Base.of_class", "instance.method"),
]


def of_agent(name: str) -> Any:
    """Return a decorator that is recognised by its agent."""
    return tracks(AGENT, agent=name)


def owner_of(module: Any, path: str) -> tuple[Any, str]:
    """Return the object that has the attribute, and the attribute's name."""
    owner, _, name = path.rpartition(".")
    return (getattr(module, owner) if owner else module), name


def call(module: Any, path: str) -> int:
    """Call what a path names, a method on an instance."""
    owner, name = owner_of(module, path)
    if isinstance(owner, type):
        owner = owner()
    found: int = getattr(owner, name)()
    return found


def agents(captured: Captured) -> list[str]:
    """Return the agents that were invoked since the last time, the outermost first."""
    found = [field for _, field in captured.undeclared]
    captured.lines.clear()
    captured.undeclared.clear()
    return found[: len(found) // 2]


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module of the host, imported for the first time."""
    (tmp_path / "tk_theirs.py").write_text(textwrap.dedent(THEIRS))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module("tk_theirs")
    sys.modules.pop("tk_theirs", None)


@pytest.mark.parametrize("order", ["AB", "BA", "AAB", "ABBA"])
@pytest.mark.parametrize("path", PATHS)
def test_two_patches_undone_in_any_order(
    captured: Captured, theirs: Any, path: str, order: str
) -> None:
    """Each undo ends its own records, and after both the attribute is what it was."""
    owner, name = owner_of(theirs, path)
    before = dict(vars(owner))
    patches = {letter: instrument(f"tk_theirs:{path}", of_agent(letter)) for letter in "AB"}
    assert call(theirs, path) == 3
    assert agents(captured) == ["B", "A"]
    left = ["B", "A"]
    for letter in order:
        patches[letter].undo()
        left = [other for other in left if other != letter]

        assert call(theirs, path) == 3
        assert agents(captured) == left

    assert dict(vars(owner)) == before
    assert getattr(vars(owner).get(name), "__wrapped__", None) is getattr(
        before.get(name), "__wrapped__", None
    )


@pytest.mark.parametrize("path", PATHS)
def test_the_middle_of_three(captured: Captured, theirs: Any, path: str) -> None:
    """A patch undone below another one goes with that one, and a new one does not wrap it."""
    owner, _ = owner_of(theirs, path)
    before = dict(vars(owner))
    a, b, c = (instrument(f"tk_theirs:{path}", of_agent(name)) for name in "ABC")
    b.undo()
    call(theirs, path)
    assert agents(captured) == ["C", "A"]
    a.undo()
    c.undo()

    assert dict(vars(owner)) == before


@pytest.mark.parametrize("path", ["function", "Theirs.method", "Theirs.inherited", "Theirs.static"])
def test_a_mock_stays(captured: Captured, theirs: Any, path: str) -> None:
    """Undone inside `mock.patch`, the mock stays. What it restores records nothing."""
    owner, name = owner_of(theirs, path)
    before = dict(vars(owner))
    patch = instrument(f"tk_theirs:{path}", of_agent("A"))
    with mock.patch.object(owner, name, return_value=4) as mocked:
        patch.undo()
        assert getattr(owner, name) is mocked
    assert call(theirs, path) == 3
    assert agents(captured) == []
    with instrument(f"tk_theirs:{path}", of_agent("B")):
        call(theirs, path)
        assert agents(captured) == ["B"]

    assert dict(vars(owner)) == before


@pytest.mark.parametrize("path", ["function", "Theirs.method", "Theirs.inherited"])
def test_a_patch_of_a_mock(captured: Captured, theirs: Any, path: str) -> None:
    """A mock is decorated, and ends with its patch around or inside."""
    owner, name = owner_of(theirs, path)
    before = dict(vars(owner))
    with mock.patch.object(owner, name, return_value=4):
        inside = instrument(f"tk_theirs:{path}", of_agent("A"))
        assert call(theirs, path) == 4
        assert agents(captured) == ["A"]
        later = instrument(f"tk_theirs:{path}", of_agent("B"))
        later.undo()
    inside.undo()

    assert dict(vars(owner)) == before
    assert call(theirs, path) == 3
    assert agents(captured) == []


def test_after_a_reload(captured: Captured, theirs: Any) -> None:
    """After a reload the new function stays, and the patch of the old one can be undone."""
    patch = instrument("tk_theirs:function", of_agent("A"))
    old = theirs.function
    importlib.reload(theirs)
    new = theirs.function
    patch.undo()

    assert theirs.function is new
    assert (old(), new()) == (3, 3)
    assert agents(captured) == []


def test_a_wrapper_of_others_stays(captured: Captured, theirs: Any) -> None:
    """A wrapper that the host put over ours stays, and ours below it records nothing."""
    patch = instrument("tk_theirs:function", of_agent("A"))
    over = theirs.function = functools.lru_cache(theirs.function)
    patch.undo()

    assert theirs.function is over
    assert theirs.function() == 3
    assert agents(captured) == []


def test_an_instrumented_object_pickles(captured: Captured, theirs: Any) -> None:
    """An object without a name of its own pickles by value, and its copy works."""
    with instrument("tk_theirs:partial", of_agent("A")):
        copied = pickle.loads(pickle.dumps(theirs.partial))
        assert theirs.partial() == 3
        assert agents(captured) == ["A"]

    assert copied() == 3
    assert agents(captured) == ["A"]


def test_inactive_wrappers_go_also_without_their_handle(captured: Captured, theirs: Any) -> None:
    """A wrapper that a mock restored goes with the next one, when its handle is gone, too."""
    before = theirs.function
    patch = instrument("tk_theirs:function", of_agent("A"))
    with mock.patch.object(theirs, "function"):
        patch.undo()
    del patch
    gc.collect()
    with instrument("tk_theirs:function", of_agent("B")):
        theirs.function()

    assert agents(captured) == ["B"]
    assert theirs.function is before


def test_base_and_subclass(captured: Captured, theirs: Any) -> None:
    """Patches of a base class and of what a subclass inherits do not touch one another."""
    before = [dict(vars(theirs.Base)), dict(vars(theirs.Theirs))]
    for order in ("BS", "SB"):
        patches = {
            "B": instrument("tk_theirs:Base.inherited", of_agent("B")),
            "S": instrument("tk_theirs:Theirs.inherited", of_agent("S")),
        }
        theirs.Theirs().inherited()
        assert agents(captured) == ["S", "B"]
        patches.pop(order[0]).undo()
        theirs.Theirs().inherited()
        assert agents(captured) == [order[1]]
        patches.pop(order[1]).undo()

        assert before == [dict(vars(theirs.Base)), dict(vars(theirs.Theirs))]


def test_what_others_hold_records_nothing_after_undo(captured: Captured, theirs: Any) -> None:
    """A reference to the wrapper that was taken before `undo()` calls the function only."""
    with instrument("tk_theirs:function", of_agent("A")):
        held = theirs.function
    assert held() == 3
    assert agents(captured) == []


def test_patches_that_wait_for_an_import(captured: Captured, theirs: Any, tmp_path: Path) -> None:
    """Of patches that wait, those undone before the import do nothing."""
    (tmp_path / "tk_later.py").write_text(textwrap.dedent(THEIRS))
    importlib.invalidate_caches()
    try:
        a, b, c = (instrument("tk_later:function", of_agent(name)) for name in "ABC")
        b.undo()
        later = importlib.import_module("tk_later")
        later.function()
        assert sorted(agents(captured)) == ["A", "C"]
        a.undo()
        c.undo()

        assert later.function() == 3
        assert agents(captured) == []
        assert not hasattr(later.function, "__wrapped__")
    finally:
        sys.modules.pop("tk_later", None)


@pytest.mark.parametrize("target", ["builtins:int.bit_length", "tk_theirs:fixed.method"])
def test_what_cannot_be_replaced(theirs: Any, target: str) -> None:
    """An attribute that cannot be replaced is refused with a sentence."""
    with pytest.raises(DecorationError, match=f"{target} cannot be replaced"):
        instrument(target, of_agent("A"))


class Orders(RuleBasedStateMachine):
    """Patches, mocks, wrappers of the host and reloads of one function, in random order.

    The model is the attribute: a stack of layers, the last one outermost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.module: Any = ModuleType("tk_orders")
        sys.modules["tk_orders"] = self.module
        self.functions = [lambda: 3]
        self.module.function = self.functions[0]
        self.patches: dict[str, Any] = {}
        self.active: set[str] = set()
        self.layers: list[str] = []
        self.mocks: list[tuple[Any, list[str]]] = []
        self.names = (f"p{number}" for number in range(10_000))

    def teardown(self) -> None:
        """Undo everything: what is left are the wrappers of the host, and the function."""
        while self.mocks:
            self.unmock()
        for name, patch in self.patches.items():
            patch.undo()
            self.active.discard(name)
        with capture_events() as captured:
            assert self.module.function() == 3
        assert captured.events == []
        if "host" not in self.layers:
            assert any(self.module.function is function for function in self.functions)
        del sys.modules["tk_orders"]

    @rule()
    def patch(self) -> None:
        """Instrument the function; inactive wrappers on top are taken away."""
        name = next(self.names)
        self.patches[name] = instrument("tk_orders:function", of_agent(name))
        self.active.add(name)
        self.layers = [*self.without_inactive(self.layers), name]

    @precondition(lambda self: self.patches)
    @rule(data=st.data())
    def undo(self, data: Any) -> None:
        """Undo any patch, perhaps again."""
        name = data.draw(st.sampled_from(sorted(self.patches)))
        self.patches[name].undo()
        self.active.discard(name)
        if self.layers[-1:] == [name]:
            self.layers = self.without_inactive(self.layers)

    def without_inactive(self, layers: list[str]) -> list[str]:
        """The layers without inactive patches on top."""
        while layers and layers[-1] in self.patches and layers[-1] not in self.active:
            layers = layers[:-1]
        return layers

    @rule()
    def mock(self) -> None:
        """Put a mock in its place, which calls nothing."""
        patcher = mock.patch.object(self.module, "function", return_value=3)
        patcher.start()
        self.mocks.append((patcher, self.layers))
        self.layers = ["mock"]

    @precondition(lambda self: self.mocks)
    @rule()
    def unmock(self) -> None:
        """Stop the latest mock, which restores what was there before."""
        patcher, self.layers = self.mocks.pop()
        patcher.stop()

    @rule()
    def wrap(self) -> None:
        """Put a wrapper of the host over everything."""
        function: Callable[[], int] = self.module.function
        self.module.function = lambda: function()
        self.layers = [*self.layers, "host"]

    @rule()
    def reload(self) -> None:
        """Define the function anew, as a reload does."""
        self.functions.append(lambda: 3)
        self.module.function = self.functions[-1]
        self.layers = []

    @invariant()
    def active_layers_record(self) -> None:
        """Exactly the active patches that lie over the function record, the outermost first."""
        with capture_events() as captured:
            assert self.module.function() == 3
        expected = [name for name in reversed(self.layers) if name in self.active]

        assert agents(captured) == expected


Orders.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=20, derandomize=True, database=None, deadline=None
)
TestOrders = Orders.TestCase
