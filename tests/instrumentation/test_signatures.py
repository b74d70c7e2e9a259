"""`__signature__` of decorated functions, for readers that do not follow `__wrapped__`."""

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
    """What an annotation below names."""


def with_text(first: "Defined", second: int) -> None: ...


@LAZY
@pytest.mark.parametrize("function", [add, add_later, counted, counted_later])
@pytest.mark.parametrize("decorate", [tracks(AGENT), role_session("dev")])
def test_getfullargspec_is_the_originals(function: Any, decorate: Any) -> None:
    """It reads `__signature__` and follows no `__wrapped__`."""
    decorated = decorate(function)

    assert inspect.getfullargspec(function) == inspect.getfullargspec(decorated)
    assert inspect.signature(function) == inspect.signature(decorated)


@LAZY
def test_two_decorators() -> None:
    """The outer one has the same signature."""
    decorated = role_session("dev")(tracks(AGENT)(add))

    assert inspect.getfullargspec(add) == inspect.getfullargspec(decorated)


def test_text_is_evaluated_as_before() -> None:
    """A `__signature__` would be shown as it is, with its text."""
    decorated = tracks(AGENT)(with_text)
    shown = inspect.signature(decorated, eval_str=True)

    assert inspect.signature(with_text, eval_str=True) == shown
    assert Defined is shown.parameters["first"].annotation


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated at definition")
def test_nothing_is_evaluated_too_early(at_top_level) -> None:
    """Annotations may name what is defined later."""
    names = at_top_level(
        "@tracks('agent.invoked', agent='a')\ndef work(a: Later): ...\nclass Later: ..."
    )

    assert "__signature__" not in vars(names["work"])


def test_what_other_decorators_made_is_shown_as_before() -> None:
    """With `functools.wraps`, and with a signature of its own."""

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


def test_inspect_is_not_loaded_for_it(undecided) -> None:
    """A program without it is not slowed down."""
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
    """As it does for a task that is not decorated."""
    app = pytest.importorskip("celery").Celery("signatures", set_as_current=False)
    undecorated = app.task(add, name="undecorated")
    task = app.task(tracks(AGENT)(add), name="decorated")
    app.conf.task_always_eager = True

    assert 3 == task.delay(1, 2).get()
    for checked in (undecorated, task):
        with pytest.raises(TypeError, match=r"takes .* but 3 were given"):
            checked.delay(1, 2, 3)
