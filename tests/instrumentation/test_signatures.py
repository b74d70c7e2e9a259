"""A decorated function has a `__signature__` for tools that ignore `__wrapped__`."""

import asyncio
import contextlib
import functools
import inspect
import sys
from typing import Any

import pytest

from telemetry_kit import RoleEvent, role_session, tracks

AGENT = RoleEvent.AGENT_INVOKED
LAZY = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="a signature evaluates annotations there"
)


def add(first: int, second: int = 2, *, third: bytes = b"") -> int:
    return first + second


async def add_later(first: int, second: int) -> int:
    await asyncio.sleep(0)
    return first + second


def counted(first: int, second: int) -> Any:
    yield first
    yield second


async def counted_later(first: int, second: int) -> Any:
    yield first
    yield second


class Defined:
    """A class that an annotation names before it is defined."""


def with_text(first: "Defined", second: int) -> None: ...


@LAZY
@pytest.mark.parametrize("function", [add, add_later, counted, counted_later])
@pytest.mark.parametrize("decorate", [tracks(AGENT), role_session("dev")])
def test_getfullargspec_is_the_originals(function: Any, decorate: Any) -> None:
    """`inspect.getfullargspec` returns the arguments of the original."""
    decorated = decorate(function)

    assert inspect.getfullargspec(function) == inspect.getfullargspec(decorated)
    assert inspect.signature(function) == inspect.signature(decorated)


@LAZY
def test_two_decorators() -> None:
    """A function decorated twice has the signature of the original."""
    decorated = role_session("dev")(tracks(AGENT)(add))

    assert inspect.getfullargspec(add) == inspect.getfullargspec(decorated)


def test_text_annotations_are_evaluated() -> None:
    """A function with text annotations has no `__signature__`, so they are evaluated."""
    decorated = tracks(AGENT)(with_text)
    shown = inspect.signature(decorated, eval_str=True)

    assert inspect.signature(with_text, eval_str=True) == shown
    assert Defined is shown.parameters["first"].annotation


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at definition")
def test_decoration_evaluates_no_annotation(at_top_level) -> None:
    """Decoration evaluates no annotation, so annotations may name later definitions."""
    names = at_top_level(
        "@tracks('agent.invoked', agent='a')\ndef work(a: Later): ...\nclass Later: ..."
    )

    assert "__signature__" not in vars(names["work"])


def test_signatures_of_other_decorators_are_kept() -> None:
    """A function that other decorators made keeps its signature."""

    @functools.wraps(add)
    def wrapping(*args: Any, **kwargs: Any) -> int:
        return add(*args, **kwargs)

    def signed(*args: Any) -> None: ...

    signed.__signature__ = inspect.signature(add)  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def managed(first: int) -> Any:
        yield first

    for function in (wrapping, signed, managed):
        decorated = tracks(AGENT)(function)
        assert inspect.signature(function) == inspect.signature(decorated)
        assert inspect.unwrap(function) is inspect.unwrap(decorated)
    assert "__signature__" not in vars(tracks(AGENT)(wrapping))


def test_decoration_does_not_import_inspect(undecided) -> None:
    """Decoration does not import `inspect`."""
    done = undecided.run(
        "import sys; before = 'inspect' in sys.modules\n"
        "@telemetry_kit.tracks('agent.invoked')\ndef work(a): ...\n"
        "assert not before and 'inspect' not in sys.modules\n"
        "assert '__signature__' not in vars(work)"
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert [] == undecided.tree()


@LAZY
@pytest.mark.filterwarnings("ignore")
def test_celery_checks_the_arguments() -> None:
    """Celery checks the arguments of a decorated task."""
    app = pytest.importorskip("celery").Celery("signatures", set_as_current=False)
    undecorated = app.task(add, name="undecorated")
    task = app.task(tracks(AGENT)(add), name="decorated")
    app.conf.task_always_eager = True

    assert 3 == task.delay(1, 2).get()
    for checked in (undecorated, task):
        with pytest.raises(TypeError, match=r"takes .* but 3 were given"):
            checked.delay(1, 2, 3)
