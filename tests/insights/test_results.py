"""`telemetry_kit.insights.stats()` returns what `stats --json` prints, as typed objects."""

import dataclasses
import doctest
import json
import os
import re
from typing import Any, get_type_hints

import pytest

from telemetry_kit import disable_telemetry, insights, role_session, tracks
from telemetry_kit.insights import results, stats
from tests.insights.written import fill, sessions

RENAMED = {"from_": "from"}


def plain(value: Any, key: str = "") -> Any:
    """Return an object as JSON has it."""
    if isinstance(value, tuple):
        return [plain(item, key) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    names = {**RENAMED, "name": key.removesuffix("s")} if type(value) is results.Work else RENAMED
    values = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {names.get(name, name): plain(item, name) for name, item in values.items()}


@pytest.fixture
def filled(undecided: Any) -> Any:
    """A project without consent and with many events, one of them damaged."""
    path = fill(undecided.home, *sessions(600))
    with path.open("ab") as log:
        log.write(b"damaged\n")
    return undecided


@pytest.mark.parametrize(
    "arguments",
    [{}, {"role": "dev"}, {"since": "2026-10-10", "until": "2026-10-20", "role": "qa"}],
    ids=str,
)
def test_the_same_as_the_command(filled: Any, arguments: dict[str, str]) -> None:
    """Every key of `stats --json` is an attribute with the same value, and there are no others."""
    options = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    done = filled.python("-m", "telemetry_kit", "stats", "--json", *options)
    found = stats(**arguments)

    assert json.loads(done.stdout) == plain(found)
    assert found.events > 0
    assert found.commands
    assert found.malformed == 1


def values_of(item: Any) -> list[Any]:
    """Return an object and all objects inside of it."""
    if isinstance(item, tuple):
        return [found for part in item for found in values_of(part)]
    if not dataclasses.is_dataclass(item):
        return []
    inside = (getattr(item, field.name) for field in dataclasses.fields(item))
    return [item, *(found for part in inside for found in values_of(part))]


def test_values_have_the_declared_types(filled: Any) -> None:
    """Each attribute has a value of its type, and no object can be changed."""
    found = stats()
    kinds = set()
    for item in values_of(found):
        kinds.add(type(item))
        for name, hint in get_type_hints(type(item)).items():
            value = getattr(item, name)
            if not str(hint).startswith("tuple"):
                assert isinstance(value, hint), (item, name)

    assert len(kinds) >= 14
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.events = 3  # type: ignore[misc]


def test_no_events(undecided: Any) -> None:
    """Without events all counts are 0 or empty, and no file is created."""
    before = undecided.tree()
    found = stats(since="7d", role="dev")

    assert (found.events, found.agents, found.comparison, found.incomplete) == (0, (), None, ())
    assert (found.role, before) == ("dev", undecided.tree())
    del undecided.environ["HOME"]

    assert stats().events == 0


def test_recorded_events(place: Any) -> None:
    """What the program recorded is counted, also after consent was withdrawn."""
    place.configure(agents=["planner"])
    with role_session("dev"), tracks("agent.invoked", agent="planner"):
        pass
    disable_telemetry()
    before = place.tree()
    (agent,) = stats().agents

    assert (agent.name, agent.begun, agent.completed, agent.rate) == ("planner", 1, 1, 1)
    assert [("dev", 1, 1.0)] == [(r.role, r.chosen, r.share) for r in stats().roles if r.chosen]
    assert before == place.tree()


def test_a_file_that_cannot_be_read(filled: Any) -> None:
    """A file that cannot be read to its end is named."""
    archive = filled.log.with_name("telemetry-2026-08-01.jsonl.gz")
    archive.write_bytes(b"no archive")

    assert stats().incomplete == (archive.name,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"since": "x"}, "since='x': write the day as 2026-11-23, today"),
        ({"role": b"dev"}, "role=b'dev': give the name of a role"),
        ({"project_root": "/nowhere"}, "project_root='/nowhere': there is no such folder"),
    ],
)
def test_mistakes(undecided: Any, arguments: dict[str, Any], message: str) -> None:
    """An invalid argument raises one clear sentence."""
    with pytest.raises(ValueError, match=re.escape(message)):
        stats(**arguments)


def test_the_example_runs(undecided: Any) -> None:
    """The docstring has an example with the correct output."""
    test = doctest.DocTestParser().get_doctest(str(insights.stats.__doc__), {}, "stats", None, 0)
    result = doctest.DocTestRunner(verbose=False).run(test)

    assert (result.failed, result.attempted > 3, os.getcwd()) == (0, True, str(undecided.root))
