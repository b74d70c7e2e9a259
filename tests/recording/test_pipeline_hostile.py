"""The pipeline records exceptions and handles hostile values."""

import math
from pathlib import Path

import pytest

from telemetry_kit import (
    configure,
    track_role_event,
    tracks,
)
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import validation
from tests.recording.pipeline_helpers import NAMES, emitted


class Ours(Exception):  # noqa: N818
    """An exception class of the host."""


class Loud(type):
    """A metaclass whose every method fails."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise AssertionError("asked")

    def __repr__(cls) -> str:
        raise AssertionError("asked")

    def __hash__(cls) -> int:
        raise AssertionError("asked")


# -- exceptions ----------------------------------------------------------------------------------


def test_error_names() -> None:
    """Builtin and declared classes are stored by name, all others as `other`."""
    found = [validation.error_name(k, frozenset()) for k in (ValueError, OSError, Ours)]

    assert found == ["ValueError", "OSError", "other"]
    assert validation.error_name(Ours, frozenset({"Ours"})) == "Ours"


def test_a_class_named_like_a_builtin() -> None:
    """A class of the host with the name of a builtin class is stored as `other`."""
    pretender = type("ValueError", (Exception,), {})

    assert validation.error_name(pretender, frozenset()) == "other"


def test_a_hostile_exception_class(place) -> None:
    """Recording calls no method of an exception's metaclass and re-raises the exception."""
    hostile = Loud("Jane", (Exception,), {})
    with pytest.raises(Exception) as caught, tracks("agent.invoked"):  # noqa: PT011
        raise hostile

    assert hostile is type(caught.value)
    assert [e["error_type"] for e in place.events() if "error_type" in e] == ["other"]


@pytest.mark.parametrize("declared", [True, False])
def test_error_type_in_a_line(place, declared: bool) -> None:
    """A declared exception class is named. The message is not stored."""
    if declared:
        configure(errors=[Ours])
    with pytest.raises(Ours), tracks("command.executed"):
        raise Ours("jane.doe@example.org")

    assert ("Ours" if declared else "other") == place.events()[-1]["error_type"]
    assert b"jane" not in place.log.read_bytes()


def never(*_: object, **__: object) -> object:
    """Fail as a method that recording must not call."""
    raise AssertionError("a host object was asked")


HOOKS = [
    "__str__",
    "__repr__",
    "__format__",
    "__len__",
    "__iter__",
    "__bool__",
    "__hash__",
    "__eq__",
    "__ne__",
    "__lt__",
    "__bytes__",
    "__contains__",
    "__getitem__",
    "__index__",
    "__int__",
    "__float__",
    "__abs__",
    "__round__",
    "__fspath__",
    "__reduce_ex__",
    "encode",
    "isascii",
    "strip",
    "casefold",
    "startswith",
    "isprintable",
    "keys",
    "items",
    "get",
]


def loud(base: type) -> type:
    """Make a subclass whose every special method fails."""
    return type(f"Loud{base.__name__}", (base,), dict.fromkeys(HOOKS, never))


def self_reference() -> dict:
    """Make a dict that contains itself."""
    found: dict = {}
    found["self"] = found
    found["dry"] = found
    return found


HOSTILE = {
    "str": loud(str)("secret-jane"),
    "int": loud(int)(7),
    "float": loud(float)(7.0),
    "dict": loud(dict)({"dry": True, "secret": "secret-jane"}),
    "list": loud(list)(["secret-jane"]),
    "bytes": loud(bytes)(b"secret-jane"),
    "object": loud(object)(),
    "nan": math.nan,
    "huge int": 10**5000,
    "huge str": "secret-jane" * 1_000_000,
    "bytes plain": b"secret-jane",
    "itself": self_reference(),
    "surrogate": "secret-jane\ud800",
    "zero": "secret-jane\0",
    "newline": 'secret-jane\n{"schema_version":"1.0"}\n',
    "escape": "secret-jane\x1b]0;x\x07",
    "exception": ValueError("secret-jane"),
    "type": loud(str),
    "lambda": lambda: "secret-jane",
    "path": Path("/secret-jane"),
    "deep": [[[[["secret-jane"]]]]],
    "set": {"secret-jane"},
}


# -- hostile values ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values(place, kind: str) -> None:
    """A hostile value raises nothing, runs no method and is not stored in plain text."""
    value: object = HOSTILE[kind]
    place.configure(context={"dry": "flag", "k": "identifier", "m": "measure", "t": ["fast"]})
    for field in NAMES:
        track_role_event("agent.invoked", **{field: value})  # type: ignore[arg-type]
    track_role_event("agent.invoked", context=value)  # type: ignore[arg-type]
    for key in ("dry", "k", "m", "t", "unknown"):
        track_role_event("agent.invoked", context={key: value})
    pipeline.emit(
        {"event": "agent.invoked", "outcome": value, "exit_code": value, "duration_ms": value}
    )
    pipeline.emit({"event": "agent.invoked", "unknown": value})
    assert None is track_role_event(value)  # type: ignore[arg-type]

    assert len(NAMES) + 1 + 5 + 2 == len(place.events())
    assert b"secret-jane" not in place.log.read_bytes()
    assert all(line.isascii() and line.endswith(b"}\n") for line in place.lines())


@pytest.mark.parametrize("field", ["agent", "context", "outcome", "project_root"])
def test_a_false_class_attribute(place, field: str) -> None:
    """The pipeline identifies a value by its type and never reads `__class__`."""

    class Lazy:
        @property
        def __class__(self) -> type:  # type: ignore[override]
            raise RuntimeError("working outside of a request")

    if field == "outcome":
        assert emitted("agent.completed", outcome=Lazy())["dropped"] == 1
    else:
        track_role_event("agent.invoked", **{field: Lazy()})  # type: ignore[arg-type]


def test_a_subclass_of_str(place) -> None:
    """A subclass of str is stored by its text, like a plain str."""
    kept = emitted("agent.invoked", role=loud(str)("dev"), agent=loud(str)("x"))

    assert ("dev", str) == (kept["role"], type(kept["role"]))
    assert place.key.pseudonym("agent", "x") == kept["agent"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_project_root(place, kind: str) -> None:
    """A `project_root` that is not a directory raises nothing."""
    track_role_event("role.selected", project_root=HOSTILE[kind])  # type: ignore[arg-type]

    assert b"secret-jane" not in b"".join(place.lines())
