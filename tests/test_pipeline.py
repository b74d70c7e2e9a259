"""The pipeline: which values are kept, hashed or dropped, and the form of a line."""

import json
import math
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import (
    RoleEvent,
    capture_events,
    configure,
    context,
    settings,
    track_role_event,
    tracks,
)
from telemetry_kit.consent import cache
from telemetry_kit.errors import Refused
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog, validation
from telemetry_kit.schema.encoding import encode

NAMES = ("role", "command", "agent", "workflow", "source_agent", "target_agent")
HASHED = re.compile("h:[0-9a-f]{12}")


def emitted(name: str, **fields: object) -> dict:
    """One event through the pipeline, which must be written."""
    record = pipeline.emit({**fields, "event": name})
    assert record is not None
    return record


# -- the record --------------------------------------------------------------------------------


def test_record_is_what_stands_in_the_file(place) -> None:
    """`track_role_event()` returns the record exactly as its line parses."""
    record = track_role_event(
        RoleEvent.AGENT_INVOKED, role="dev", command="/x", agent="a", workflow="w"
    )

    assert [record] == place.events()
    assert list(record or ()) == list(place.events()[0])


def test_a_whole_record(place) -> None:
    """Every field has the form that the design gives it."""
    record = track_role_event("agent.invoked", role="dev", agent="somebody")

    assert record is not None
    assert {
        "schema_version": "1.0",
        "event_id": record["event_id"],
        "event_type": "agent.invoked",
        "timestamp": "2024-02-28T00:00:00Z",
        "seq": record["seq"],
        "role": "dev",
        "agent": place.key.pseudonym("agent", "somebody"),
        "project_id": place.key.pseudonym("project_id", str(place.root)),
        "source": "api",
        "key_epoch": 1,
    } == record
    assert re.fullmatch("[0-9a-f]{16}", record["event_id"])


@pytest.mark.parametrize("event", RoleEvent)
@pytest.mark.parametrize("form", [RoleEvent, str], ids=["member", "string"])
def test_event_as_member_or_string(place, event: RoleEvent, form: type) -> None:
    """A `RoleEvent` and its value record the same event type, as a plain string."""
    record = track_role_event(form(event.value), role="dev")

    assert record is not None
    assert (str, event.value) == (type(record["event_type"]), record["event_type"])


@pytest.mark.parametrize(
    "event", ["agent.invokd", "", "x" * 100_000, None, 3, b"agent.invoked", [], object(), "\ud800"]
)
def test_unknown_event_is_silently_nothing(place, event: object) -> None:
    """At run time an unknown event raises nothing and writes nothing."""
    assert None is track_role_event(event)  # type: ignore[arg-type]
    assert place.lines() == []


def test_off_is_none(undecided) -> None:
    """Off, the answer is None, and nothing is left on disk."""
    assert None is track_role_event("role.selected", role="dev")
    assert undecided.tree() == []


def test_keys_stand_in_schema_order(place) -> None:
    """Whatever order fields are given in, keys stand in the catalog's order."""
    place.configure(context={"k": "flag"})
    record = emitted(
        "command.completed",
        context={"k": True},
        duration_ms=3,
        exit_code=0,
        outcome="ok",
        **dict.fromkeys(reversed((*NAMES, "previous_role")), "x"),
    )

    assert [f for f in catalog.ORDER if f in record] == list(record)


def test_seq_increases(place) -> None:
    """The sequence strictly increases within a process, over threads too."""
    threads = [
        threading.Thread(target=lambda: [track_role_event("role.selected") for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(50):
        track_role_event("role.selected")
    found = [event["seq"] for event in place.events()]

    assert 250 == len(set(found)) == len(found)
    assert sorted(found[200:]) == found[200:]


def test_another_thread_takes_the_last_id(place, monkeypatch) -> None:
    """The event gets a new one, however late the list of them turns out to be empty."""

    class Contended(list[str]):
        def pop(self, *_: object) -> str:
            self.clear()
            raise IndexError

    monkeypatch.setattr(pipeline, "_ids", Contended(["0" * 16]))
    with cache.override_runtime(place.environ):
        record = emitted("agent.invoked")

    assert re.fullmatch("[0-9a-f]{16}", record["event_id"])
    assert [record] == place.events()


def test_ids_are_random(place) -> None:
    """No two events share an id."""
    for _ in range(100):
        track_role_event("role.selected")

    assert len({event["event_id"] for event in place.events()}) == 100


# -- time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        (None, "2024-02-28T00:00:00Z"),
        ("day", "2024-02-28T00:00:00Z"),
        ("hour", "2024-02-28T10:00:00Z"),
        ("minute", "2024-02-28T10:20:00Z"),
        ("second", "2024-02-28T10:20:30Z"),
    ],
)
def test_timestamp_is_cut(place, resolution: str | None, expected: str) -> None:
    """The time is cut, never rounded, to the configured resolution; the default is the day."""
    place.now.advance(0.999)
    place.configure(timestamp_resolution=resolution)
    record = track_role_event("role.selected")

    assert record is not None
    assert expected == record["timestamp"]


def test_midnight(place) -> None:
    """The last second of a day is that day's, the next one is the next day's; and back."""
    found = []
    for seconds in (13 * 3600 + 39 * 60 + 29, 1, -1):
        place.now.advance(seconds)
        record = track_role_event("role.selected")
        found.append(record and record["timestamp"][:10])

    assert found == ["2024-02-28", "2024-02-29", "2024-02-28"]


def test_time_zone_does_not_matter(place) -> None:
    """Timestamps are UTC in every time zone."""
    code = (
        "from telemetry_kit import configure, enable_telemetry, track_role_event as t\n"
        "from telemetry_kit.consent import cache\n"
        "configure(timestamp_resolution='hour')\n"
        "enable_telemetry()\n"
        "cache.override_runtime(now=lambda: 1709115630.0).__enter__()\n"
        "print(t('role.selected')['timestamp'])"
    )
    found = {place.run(code, env={"TZ": zone}).stdout for zone in ("UTC", "Asia/Tokyo", "EST5")}

    assert {"2024-02-28T10:00:00Z\n"} == found


# -- names: keep or hash -----------------------------------------------------------------------


@pytest.mark.parametrize("role", catalog.ROLES)
def test_built_in_roles_are_kept(place, role: str) -> None:
    """The seven roles are in plain text, also as previous role."""
    record = emitted("role.changed", role=role, previous_role=role)

    assert (role, role) == (record["role"], record["previous_role"])


@pytest.mark.parametrize("field", [*NAMES, "previous_role"])
def test_undeclared_names_are_hashed(place, field: str) -> None:
    """A name that was not declared is a pseudonym made for its own field."""
    record = emitted("role.changed", **{field: "jane.doe@example.org"})

    assert place.key.pseudonym(field, "jane.doe@example.org") == record[field]
    assert b"jane" not in place.log.read_bytes()


@pytest.mark.parametrize(
    ("vocabulary", "fields"),
    [
        ("roles", ["role", "previous_role"]),
        ("agents", ["agent", "source_agent", "target_agent"]),
        ("commands", ["command"]),
        ("workflows", ["workflow"]),
    ],
)
@pytest.mark.parametrize("where", ["configure", "project", "user"])
def test_declared_names_are_kept_in_their_fields(
    place, vocabulary: str, fields: list[str], where: str
) -> None:
    """Declared by the app, the project or the user: clear in that vocabulary's fields only."""
    listed = f"{vocabulary} = ['the-name']\n"
    if where == "configure":
        configure(**{vocabulary: ["the-name"]})
    elif where == "project":
        (place.root / ".flowspec").mkdir(exist_ok=True)
        (place.root / ".flowspec/telemetry.toml").write_text(listed)
    else:
        Path(place.home.user_file).write_text(listed)
    every = [*NAMES, "previous_role"]
    record = emitted("role.changed", **dict.fromkeys(every, "the-name"))

    assert set(fields) == {f for f in every if record[f] == "the-name"}
    assert all(HASHED.fullmatch(record[f]) for f in every if f not in fields)


def test_the_repositorys_pyproject_declares_nothing(place) -> None:
    """Names come from `.<app>/telemetry.toml`, which the design names; nothing else speaks."""
    (place.root / "pyproject.toml").write_text("[tool.telemetry_kit]\nagents = ['x']\n")

    assert HASHED.fullmatch(emitted("agent.invoked", agent="x")["agent"])


@pytest.mark.parametrize(
    "listed",
    [
        "agents = 'x'",
        "agents = 3",
        "agents = {x = 1}",
        "agents = [3, true, 'h:x', '', ' x', ['x']]",
    ],
)
def test_nonsense_in_a_names_file_declares_nothing(place, listed: str) -> None:
    """What is no list of storable names declares none; events go on."""
    Path(place.home.user_file).write_text(listed + "\n")

    assert HASHED.fullmatch(emitted("agent.invoked", agent="x")["agent"])


def test_names_given_at_decoration_are_kept(place, at_top_level) -> None:
    """Arguments of `@tracks` are in plain text from then on, in every event."""
    before = emitted("agent.invoked", agent="planner")
    at_top_level("tracks('agent.invoked', agent='planner')(lambda: None)")
    after = emitted("agent.invoked", agent="planner")

    assert (bool(HASHED.fullmatch(before["agent"])), after["agent"]) == (True, "planner")


def test_a_value_at_run_time_is_no_declaration(place) -> None:
    """Recording a name, also as a block, never makes it public."""
    with tracks("agent.invoked", agent="typed"):
        track_role_event("agent.invoked", agent="typed")

    assert b"typed" not in place.log.read_bytes()
    assert "typed" not in settings.vocabulary("agents")


def test_a_given_pseudonym_is_hashed_again(place) -> None:
    """A value that looks like a pseudonym is no pass."""
    record = emitted("agent.invoked", agent="h:0123456789ab")

    assert place.key.pseudonym("agent", "h:0123456789ab") == record["agent"]


def test_a_restored_configuration_hashes_again(place) -> None:
    """A name is public as long as its declaration is in force."""
    with configure(agents=["a"]):
        inside = emitted("agent.invoked", agent="a")
    outside = emitted("agent.invoked", agent="a")

    assert (inside["agent"], bool(HASHED.fullmatch(outside["agent"]))) == ("a", True)


@given(st.text(max_size=1024))
def test_nothing_undeclared_is_in_plain_text(place, value: str) -> None:
    """Whatever text arrives as an agent, the line has a pseudonym or nothing of it."""
    record = track_role_event("agent.invoked", agent=value)

    assert record is not None
    if value:
        assert place.key.pseudonym("agent", value) == record["agent"]
    else:
        assert (record.get("agent"), record["dropped"]) == (None, 1)


# -- dropped -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 3.5, True, b"x", ["x"], {"x": 1}, object(), "", "x" * 1025])
@pytest.mark.parametrize("field", NAMES)
def test_what_is_no_name_is_dropped_and_counted(place, field: str, value: object) -> None:
    """A name that is no text of 1 to 1,024 characters is left out and counted."""
    record = track_role_event("agent.invoked", **{field: value})  # type: ignore[arg-type]

    assert record is not None
    assert (field in record, record["dropped"]) == (False, 1)


def test_none_is_not_given(place) -> None:
    """None is neither stored nor counted."""
    record = track_role_event("agent.invoked", **dict.fromkeys(NAMES), context=None)

    assert record is not None
    assert not set(NAMES) & set(record)
    assert "dropped" not in record


@pytest.mark.parametrize(
    "field",
    [
        "user",
        "email",
        "event_type",
        "timestamp",
        "seq",
        "project_id",
        "session_id",
        "span_id",
        "parent_id",
        "error_type",
        "source",
        "key_epoch",
        "schema_version",
        "event_id",
        "dropped",
        "level",
        "logger",
        "_at",
        "_given",
        "_record",
        "_scope",
        "exc_info",
        "",
    ],
)
def test_fields_that_a_host_may_not_set(place, field: str) -> None:
    """Unknown fields, and those that processors fill in, are dropped and counted."""
    plain = emitted("agent.invoked")
    record = emitted("agent.invoked", **{field: "mine"})

    assert record["dropped"] == 1
    assert b"mine" not in place.log.read_bytes()
    same = set(plain) - {"event_id", "seq"}
    assert {f: plain[f] for f in same} == {f: record[f] for f in same}


@pytest.mark.parametrize("value", ["mine", None, {"source": "mine"}, object()])
def test_the_metadata_cannot_be_given(place, value: object) -> None:
    """A host cannot set the metadata that the processors share, and it is in no record."""
    record = track_role_event("agent.invoked")
    plain = emitted("agent.invoked", **{pipeline.METADATA: value})

    assert record is not None
    assert {*record} == {*plain}
    assert (plain["source"], b"mine" in place.log.read_bytes()) == ("api", False)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("ok", True),
        ("error", True),
        ("cancelled", True),
        ("closed", True),
        ("OK", False),
        ("fine", False),
        ("", False),
        (1, False),
        (b"ok", False),
    ],
)
def test_outcome_is_a_token(place, value: object, kept: bool) -> None:
    """An outcome is one of four words; anything else is dropped."""
    record = emitted("agent.completed", outcome=value)

    assert (kept, None if kept else 1) == ("outcome" in record, record.get("dropped"))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0, True),
        (-(2**31), True),
        (2**31 - 1, True),
        (2**31, False),
        (-(2**31) - 1, False),
        (True, False),
        (1.0, False),
        ("1", False),
        (10**5000, False),
    ],
    ids=lambda v: str(v)[:12] if not isinstance(v, int) or abs(v) < 10**20 else "huge",
)
def test_exit_code_is_bounded(place, value: object, kept: bool) -> None:
    """An exit code is a whole number of 32 bits; anything else is dropped."""
    record = emitted("command.completed", exit_code=value)

    assert (value if kept else None) == record.get("exit_code")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (0, 1),
        (0.0, 1),
        (0.2, 1),
        (1, 1),
        (1.0, 1),
        (1.1, 2),
        (2, 2),
        (3, 4),
        (4, 4),
        (5, 8),
        (1000, 1024),
        (1024.0, 1024),
        (1024.001, 2048),
        (86400000, 134217728),
        (-1, None),
        (-0.1, None),
        (math.nan, None),
        (math.inf, None),
        (10**12, None),
        (1000000000000.0, None),
        (True, None),
        ("3", None),
        (10**5000, None),
    ],
    ids=lambda v: str(v)[:12] if not isinstance(v, int) or abs(v) < 10**20 else "huge",
)
def test_durations_are_powers_of_two(place, given: object, stored: int | None) -> None:
    """A duration is rounded up to a power of two, at least 1; what is none is dropped."""
    assert stored == validation.power_of_two(given)
    assert stored == emitted("agent.completed", duration_ms=given).get("duration_ms")


@given(st.floats(min_value=0, max_value=1e11))
def test_a_duration_never_shrinks(milliseconds: float) -> None:
    """What is stored is at least what was measured and less than twice it."""
    stored = validation.power_of_two(milliseconds)

    assert stored is not None
    assert stored & (stored - 1) == 0
    assert milliseconds <= stored <= max(1, 2 * math.ceil(milliseconds) - 1)


# -- context -----------------------------------------------------------------------------------

DECLARED = {"task": "identifier", "size": "measure", "dry": "flag", "mode": ["fast", "slow"]}


@pytest.mark.parametrize(
    ("given", "stored", "dropped"),
    [
        ({}, None, None),
        ({"dry": True}, {"dry": True}, None),
        ({"dry": False}, {"dry": False}, None),
        ({"dry": 1}, None, 1),
        ({"dry": "yes"}, None, 1),
        ({"mode": "fast"}, {"mode": "fast"}, None),
        ({"mode": "FAST"}, None, 1),
        ({"mode": ["fast"]}, None, 1),
        ({"size": 7}, {"size": 7}, None),
        ({"size": True}, None, 1),
        ({"size": "7"}, None, 1),
        ({"secret": "x"}, None, 1),
        ({"secret": "x", "dry": True, "user": "y"}, {"dry": True}, 2),
        ({3: "x", None: 1, b"dry": True, ("a",): 1}, None, 4),
        ({"size": None}, None, 1),
        ({"size": {"deep": 1}, "task": ["x"]}, None, 2),
    ],
    ids=str,
)
def test_context_keys(place, given: dict, stored: dict | None, dropped: int | None) -> None:
    """Only declared keys with a value of their class are kept; all others are counted."""
    place.configure(context=DECLARED)
    record = emitted("agent.invoked", context=given)

    assert (stored, dropped) == (record.get("context"), record.get("dropped"))


@pytest.mark.parametrize("context", ["text", 3, ["a"], [("dry", True)], object(), b"", True])
def test_what_is_no_mapping_is_dropped(place, context: object) -> None:
    """A context that is no dict is dropped and counts as one."""
    record = emitted("agent.invoked", context=context)

    assert ("context" in record, record["dropped"]) == (False, 1)


@pytest.mark.parametrize("value", ["T-1", 42, -7, "jane@example.org", "ü" * 1024])
def test_identifiers_are_hashed(place, value: object) -> None:
    """An identifier is a text or a whole number, and always a pseudonym."""
    place.configure(context=DECLARED)
    record = emitted("agent.invoked", context={"task": value})

    assert {"task": place.key.pseudonym("context.task", str(value))} == record["context"]


@pytest.mark.parametrize(
    "value", [1.5, True, None, b"x", 2**64, 10**5000, "", "x" * 1025], ids=type
)
def test_no_identifiers(place, value: object) -> None:
    """Anything else is no identifier."""
    place.configure(context=DECLARED)

    assert emitted("agent.invoked", context={"task": value})["dropped"] == 1


def test_context_keys_are_sorted(place) -> None:
    """The order in which a host gives keys leaves no trace."""
    place.configure(context=DECLARED)
    record = emitted("agent.invoked", context={"size": 1, "mode": "fast", "dry": True})

    assert list(record["context"]) == ["dry", "mode", "size"]


def test_a_huge_context_is_cut_and_counted(place) -> None:
    """Of a million keys only the first few are looked at; all that is not kept is counted."""
    place.configure(context={"k0": "measure", "k999999": "measure"})
    record = emitted("agent.invoked", context={f"k{n}": n for n in range(1_000_000)})

    assert (record["context"], record["dropped"]) == ({"k0": 0}, 999_999)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (0, 0),
        (7, 7),
        (999, 999),
        (1000, 1000),
        (1234, 1230),
        (-98765, -98800),
        (5551234567, 5550000000),
        (0.0, 0.0),
        (1.2345, 1.23),
        (-0.00012345, -0.000123),
        (98765.4, 98800.0),
        (10**12, None),
        (-(10**12), None),
        (1000000000000.0, None),
        (math.nan, None),
        (math.inf, None),
        (-math.inf, None),
        (True, None),
        ("7", None),
        (1j, None),
        (10**5000, None),
    ],
    ids=lambda v: str(v)[:14] if not isinstance(v, int) or abs(v) < 10**20 else "huge",
)
def test_measures_have_three_digits(given: object, stored: object) -> None:
    """A measure keeps three significant digits: ten would tell a telephone number."""
    found = validation.measure(given)

    assert (stored, type(stored)) == (found, type(found))


# -- exceptions --------------------------------------------------------------------------------


class Ours(Exception):  # noqa: N818
    """An exception class of the host."""


class Loud(type):
    """A metaclass that must not be asked anything."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise AssertionError("asked")

    def __repr__(cls) -> str:
        raise AssertionError("asked")

    def __hash__(cls) -> int:
        raise AssertionError("asked")


def test_error_names() -> None:
    """Builtin classes by name, declared ones by name, all others are `other`."""
    found = [validation.error_name(k, frozenset()) for k in (ValueError, OSError, Ours)]

    assert found == ["ValueError", "OSError", "other"]
    assert validation.error_name(Ours, frozenset({"Ours"})) == "Ours"


def test_a_class_that_pretends_to_be_builtin() -> None:
    """A class of the host called like a builtin one is recognised by identity, so `other`."""
    pretender = type("ValueError", (Exception,), {})

    assert validation.error_name(pretender, frozenset()) == "other"


def test_a_hostile_exception_class(place) -> None:
    """The metaclass of an exception is asked nothing, and the host's exception comes through."""
    hostile = Loud("Jane", (Exception,), {})
    with pytest.raises(Exception) as caught, tracks("agent.invoked"):  # noqa: PT011
        raise hostile

    assert hostile is type(caught.value)
    assert [e["error_type"] for e in place.events() if "error_type" in e] == ["other"]


@pytest.mark.parametrize("declared", [True, False])
def test_error_type_in_a_line(place, declared: bool) -> None:
    """A declared class is named; a message is never stored."""
    if declared:
        configure(errors=[Ours])
    with pytest.raises(Ours), tracks("command.executed"):
        raise Ours("jane.doe@example.org")

    assert ("Ours" if declared else "other") == place.events()[-1]["error_type"]
    assert b"jane" not in place.log.read_bytes()


# -- hostile values ----------------------------------------------------------------------------


def never(*_: object, **__: object) -> object:
    """What no recording path may call."""
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
    """A subclass that fails whatever it is asked."""
    return type(f"Loud{base.__name__}", (base,), dict.fromkeys(HOOKS, never))


def self_reference() -> dict:
    """A dict that contains itself."""
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


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values_never_raise_and_never_leak(place, kind: str) -> None:
    """In every argument: no exception, no hook called, one line or none, nothing in plain text."""
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
def test_an_object_that_lies_about_its_class(place, field: str) -> None:
    """A value is known by its type; `__class__`, which a lazy proxy works out, is not asked."""

    class Lazy:
        @property
        def __class__(self) -> type:  # type: ignore[override]
            raise RuntimeError("working outside of a request")

    if field == "outcome":
        assert emitted("agent.completed", outcome=Lazy())["dropped"] == 1
    else:
        track_role_event("agent.invoked", **{field: Lazy()})  # type: ignore[arg-type]


def test_a_subclass_of_str_counts_by_its_text(place) -> None:
    """A str subclass counts as its text: in plain text if declared, else a pseudonym."""
    kept = emitted("agent.invoked", role=loud(str)("dev"), agent=loud(str)("x"))

    assert ("dev", str) == (kept["role"], type(kept["role"]))
    assert place.key.pseudonym("agent", "x") == kept["agent"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_project_root(place, kind: str) -> None:
    """A `project_root` that is no directory raises nothing."""
    track_role_event("role.selected", project_root=HOSTILE[kind])  # type: ignore[arg-type]

    assert b"secret-jane" not in b"".join(place.lines())


# -- the line ----------------------------------------------------------------------------------


def canonical(line: bytes) -> bytes:
    """What `json.dumps` makes of the same event."""
    return json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys((*NAMES, "previous_role"), st.text(max_size=80)),
            "outcome": st.sampled_from(catalog.OUTCOMES),
            "exit_code": st.integers(-(2**31), 2**31 - 1),
            "duration_ms": st.floats(0, 1e9) | st.integers(0, 10**9),
            "context": st.dictionaries(
                st.sampled_from(["f", "m", "t", "k", "unknown"]),
                st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            ),
        },
    ),
    st.sampled_from(list(catalog.EVENTS)),
)
def test_lines_are_canonical(place, fields: dict, name: str) -> None:
    """Every line is what `json.dumps` writes: ASCII, no spaces, at most 4,096 bytes."""
    with place.configure(
        context={"f": "flag", "m": "measure", "t": ["a", "ü", '"'], "k": "identifier"},
        agents=['"quoted"', "back\\slash", "ü"],
    ):
        record = pipeline.emit({**fields, "event": name})
    line = place.lines()[-1]

    assert canonical(line) == line == encode(record or {})
    assert record == json.loads(line)
    assert line.startswith(b'{"schema_version":"1.0","event_id":"')
    assert len(line) <= 4096


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ü", "日本", "🦜", "</script>", "a/b", "\u007e"])
def test_declared_names_of_any_script_survive(place, name: str) -> None:
    """A declared name comes back from its line as it was, whatever has to be escaped."""
    configure(agents=[name])
    track_role_event("agent.invoked", agent=name)

    assert (name, True) == (place.events()[-1]["agent"], place.lines()[-1].isascii())


def test_a_line_never_gets_too_long(place) -> None:
    """A record over 4,096 bytes loses its context, whose keys are counted, and fits."""
    keys = {f"{'k' * 100}{n:02}": "identifier" for n in range(40)}
    place.configure(context=keys)
    record = emitted("agent.invoked", role="dev", context=dict.fromkeys(keys, "x"), unknown=1)

    assert (record["dropped"], "context" in record, record["role"]) == (41, False, "dev")
    assert [record] == place.events()
    assert list(record) == [f for f in catalog.ORDER if f in record]
    assert len(place.lines()[-1]) <= 4096


def test_the_longest_names_fit(place) -> None:
    """Seven names of the longest kind that can be declared fit into a line."""
    longest = "x" * 128
    vocabularies = {v: [longest] for v in catalog.VOCABULARIES}
    configure(**vocabularies)
    record = emitted("agent.invoked", **dict.fromkeys((*NAMES, "previous_role"), longest))

    assert longest == record["previous_role"]
    assert len(place.lines()[-1]) <= 4096


# -- places ------------------------------------------------------------------------------------


@pytest.fixture
def other(place) -> Path:
    """A second project of the same user, granted as well."""
    from telemetry_kit.consent import changes

    found = place.root.parent / "other"
    (found / "deep/er").mkdir(parents=True)
    (found / ".git").mkdir()
    changes.enable_telemetry(found)
    return found


def test_project_root_chooses_the_project(place, other: Path) -> None:
    """An event goes where `project_root` says, from wherever it comes."""
    for start in (other, str(other), other / "deep/er", os.fsencode(other / "deep")):
        assert track_role_event("role.selected", role="dev", project_root=start)

    assert place.lines() == []
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 4


def test_the_working_directory_chooses_the_project(place, other: Path, monkeypatch) -> None:
    """The project is found for each event; a change of directory changes it at once."""
    for directory in (other, place.root, other / "deep/er"):
        monkeypatch.chdir(directory)
        track_role_event("role.selected", role="dev")

    assert len(place.lines()) == 1
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 2
    assert not (other / "deep/er/.flowspec").exists()


def test_a_project_without_consent_gets_nothing(place, monkeypatch) -> None:
    """A change into a project without a grant records nothing there, nor elsewhere."""
    strange = place.root.parent / "strange"
    strange.mkdir()
    monkeypatch.chdir(strange)

    assert None is track_role_event("role.selected", role="dev")
    assert (list(strange.iterdir()), place.lines()) == ([], [])


@pytest.mark.parametrize("start", ["/nonexistent/x", "\0", "", "relative/gone"])
def test_no_such_project(place, start: str) -> None:
    """A directory that is not there is no project with a consent."""
    track_role_event("role.selected", project_root=start)

    assert not os.path.exists("/nonexistent")


def test_a_deleted_working_directory(place, monkeypatch) -> None:
    """In a working directory that is gone nothing is recorded and nothing raised."""
    gone = place.root / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert None is track_role_event("role.selected", role="dev")
    assert track_role_event("role.selected", role="dev", project_root=place.root)


def test_another_app_has_its_own_everything(place) -> None:
    """`configure(app=...)` changes folder, consent and key."""
    from telemetry_kit.consent import changes

    with configure(app="acme"):
        assert None is track_role_event("role.selected", role="dev")
        changes.enable_telemetry()
        record = track_role_event("agent.invoked", agent="x")
        assert [record] == place.events()
        assert str(place.root / ".acme/telemetry.jsonl") == place.home.log
    again = track_role_event("agent.invoked", agent="x")

    assert again is not None
    assert record is not None
    assert record["agent"] != again["agent"]


def test_key_epoch_says_which_key(place) -> None:
    """The epoch in a line is that of the key that made its pseudonyms."""
    from telemetry_kit.consent import changes

    first = emitted("agent.invoked", agent="x")
    changes.clear(place.home)
    second = emitted("agent.invoked", agent="x")

    assert (first["key_epoch"], second["key_epoch"]) == (1, 2)
    assert (place.key.pseudonym("agent", "x"), [second]) == (second["agent"], place.events())


def test_a_clear_before_the_log_is_open(place, monkeypatch) -> None:
    """The key is loaded first, and again if a clear replaces it before the log is open."""
    from telemetry_kit.consent import changes
    from telemetry_kit.storage.writer import LogWriter

    opened, real = [], LogWriter.open

    def clear_and_open(journal: LogWriter) -> None:
        if not opened:
            opened.append(changes.clear(place.home))
        real(journal)

    monkeypatch.setattr(LogWriter, "open", clear_and_open)
    event = emitted("agent.invoked", agent="x")

    assert opened == [[]]
    assert (event["key_epoch"], place.key.epoch) == (2, 2)
    assert place.key.pseudonym("agent", "x") == event["agent"]


def test_run_says_why(undecided) -> None:
    """The direct driver raises `Refused` with a reason; nothing else."""
    with pytest.raises(Refused) as caught:
        pipeline.run({"event": "role.selected"})

    assert caught.value.reason


def test_the_processors_in_order() -> None:
    """The pipeline is six processors, in this order."""
    assert [processor.__name__ for processor in pipeline.PROCESSORS] == [
        "check_consent",
        "validate",
        "add_metadata",
        "add_context",
        "pseudonymize",
        "write",
    ]


# -- each processor alone ------------------------------------------------------------------------


@pytest.fixture
def alone():
    """An event with metadata, as `check_consent` leaves it, and what is captured."""
    with capture_events() as captured:
        yield pipeline.check_consent(None, "info", {"event": "agent.invoked"}), captured


def test_check_consent_alone(place) -> None:
    """It adds the metadata with a recorder under one key, and changes nothing else."""
    event = pipeline.check_consent(None, "info", {"event": "agent.invoked", "agent": "x"})
    metadata = event.pop(pipeline.METADATA)

    assert event == {"event": "agent.invoked", "agent": "x"}
    assert (metadata.source, metadata.scope) == ("api", None)
    assert metadata.recorder.key.equals(place.key)


def test_check_consent_alone_when_off(undecided) -> None:
    """Where recording is off it raises `Refused`."""
    with pytest.raises(Refused):
        pipeline.check_consent(None, "info", {"event": "agent.invoked"})


def test_validate_alone(alone) -> None:
    """It keeps known fields with fitting values, and counts the others."""
    event, captured = alone
    given = {**event, "agent": "x", "exit_code": "many", "unknown": 1, "role": None}
    valid = pipeline.validate(None, "info", given)
    valid.pop(pipeline.METADATA)

    assert sorted(valid) == [
        *("agent", "dropped", "event_type", "key_epoch", "project_id", "schema_version", "source")
    ]
    assert (valid["agent"], valid["dropped"]) == ("x", 2)
    assert captured.dropped == [("agent.invoked", "exit_code"), ("agent.invoked", "unknown")]


def test_add_metadata_alone(alone) -> None:
    """It adds id, time and sequence number."""
    first = pipeline.add_metadata(None, "info", dict(alone[0]))
    second = pipeline.add_metadata(None, "info", dict(alone[0]))

    assert set(first) - set(alone[0]) == {"event_id", "timestamp", "seq"}
    assert (second["seq"] - first["seq"], first["event_id"] == second["event_id"]) == (1, False)


def test_add_context_alone(alone) -> None:
    """It adds what the scope has; a name that the event has is left as it is."""
    event, _ = alone
    scope = context.Scope(None, None, {"role": "dev", "agent": "x"}, "s" * 12, "p" * 12)
    metadata = pipeline.EventMetadata(scope=scope, span_id="i" * 12)
    metadata.recorder = event[pipeline.METADATA].recorder
    found = pipeline.add_context(None, "info", {"agent": "y", pipeline.METADATA: metadata})
    found.pop(pipeline.METADATA)

    assert found == {
        "agent": "y",
        "role": "dev",
        "span_id": "i" * 12,
        "session_id": "s" * 12,
        "parent_id": "p" * 12,
    }


def test_pseudonymize_alone(alone) -> None:
    """It keeps a declared name and replaces every other one."""
    event = pipeline.pseudonymize(None, "info", {**alone[0], "role": "dev", "agent": "x"})

    assert (event["role"], bool(HASHED.fullmatch(event["agent"]))) == ("dev", True)
    assert alone[1].undeclared == [("agent", "x")]


@pytest.mark.parametrize("formatted", [True, False])
def test_write_alone(alone, formatted: bool) -> None:
    """It writes one line with the fields in order, and returns the record without metadata."""
    event = pipeline.validate(None, "info", {**alone[0], "role": "dev"})
    event = pipeline.pseudonymize(None, "info", pipeline.add_metadata(None, "info", event))
    if not formatted:
        event[pipeline.METADATA].line_format = None
    record = pipeline.write(None, "info", event)

    assert [f for f in catalog.ORDER if f in record] == list(record)
    assert alone[1].lines == [encode(record)]


def test_an_internal_error_is_swallowed_outside_of_tests(place) -> None:
    """A bug of ours never reaches a host."""
    code = (
        "import sys\nfrom telemetry_kit import track_role_event\n"
        "from telemetry_kit.recording import pipeline\n"
        "def broken(*_): raise ZeroDivisionError('secret')\n"
        "pipeline.PROCESSORS = (broken, *pipeline.PROCESSORS[1:])\n"
        "print(track_role_event('role.selected'))\n"
    )

    done = place.run(code)

    assert (done.stdout, done.stderr) == ("None\n", "")


def test_an_internal_error_is_raised_under_pytest(place, monkeypatch) -> None:
    """A test run sees our bugs."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "PROCESSORS", (broken, *pipeline.PROCESSORS[1:]))
    with pytest.raises(ZeroDivisionError):
        track_role_event("role.selected")
