"""The pipeline keeps, hashes or drops each value."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import (
    configure,
    settings,
    track_role_event,
    tracks,
)
from telemetry_kit.recording import pipeline
from telemetry_kit.schema import catalog, validation
from tests.recording.pipeline_helpers import HASHED, NAMES, emitted

# -- names: keep or hash -------------------------------------------------------------------------


@pytest.mark.parametrize("role", catalog.ROLES)
def test_built_in_roles_are_kept(place, role: str) -> None:
    """The seven built-in roles are stored in plain text, also as previous role."""
    record = emitted("role.changed", role=role, previous_role=role)

    assert (role, role) == (record["role"], record["previous_role"])


@pytest.mark.parametrize("field", [*NAMES, "previous_role"])
def test_undeclared_names_are_hashed(place, field: str) -> None:
    """An undeclared name is stored as a pseudonym specific to its field."""
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
    """A declared name is in plain text only in the fields of its vocabulary."""
    names_line = f"{vocabulary} = ['the-name']\n"
    if where == "configure":
        configure(**{vocabulary: ["the-name"]})
    elif where == "project":
        (place.root / ".flowspec").mkdir(exist_ok=True)
        (place.root / ".flowspec/telemetry.toml").write_text(names_line)
    else:
        Path(place.home.user_file).write_text(names_line)
    every = [*NAMES, "previous_role"]
    record = emitted("role.changed", **dict.fromkeys(every, "the-name"))

    assert set(fields) == {f for f in every if record[f] == "the-name"}
    assert all(HASHED.fullmatch(record[f]) for f in every if f not in fields)


def test_the_repositorys_pyproject_declares_nothing(place) -> None:
    """Names come from `.<app>/telemetry.toml`. A pyproject.toml declares none."""
    (place.root / "pyproject.toml").write_text("[tool.telemetry_kit]\nagents = ['x']\n")

    assert HASHED.fullmatch(emitted("agent.invoked", agent="x")["agent"])


@pytest.mark.parametrize(
    "names_line",
    [
        "agents = 'x'",
        "agents = 3",
        "agents = {x = 1}",
        "agents = [3, true, 'h:x', '', ' x', ['x']]",
    ],
)
def test_an_invalid_names_file_declares_nothing(place, names_line: str) -> None:
    """An invalid list of names declares none, and events are still recorded."""
    Path(place.home.user_file).write_text(names_line + "\n")

    assert HASHED.fullmatch(emitted("agent.invoked", agent="x")["agent"])


def test_names_given_at_decoration_are_kept(place, at_top_level) -> None:
    """After decoration, a name given to `@tracks` is in plain text in every event."""
    before = emitted("agent.invoked", agent="planner")
    at_top_level("tracks('agent.invoked', agent='planner')(lambda: None)")
    after = emitted("agent.invoked", agent="planner")

    assert (bool(HASHED.fullmatch(before["agent"])), after["agent"]) == (True, "planner")


def test_a_name_at_run_time_is_not_declared(place) -> None:
    """Recording a name at run time does not declare it."""
    with tracks("agent.invoked", agent="typed"):
        track_role_event("agent.invoked", agent="typed")

    assert b"typed" not in place.log.read_bytes()
    assert "typed" not in settings.vocabulary("agents")


def test_a_given_pseudonym_is_hashed_again(place) -> None:
    """A name that looks like a pseudonym is hashed like any other."""
    record = emitted("agent.invoked", agent="h:0123456789ab")

    assert place.key.pseudonym("agent", "h:0123456789ab") == record["agent"]


def test_a_restored_configuration_hashes_again(place) -> None:
    """A name is hashed again when its declaration is restored away."""
    with configure(agents=["a"]):
        inside = emitted("agent.invoked", agent="a")
    outside = emitted("agent.invoked", agent="a")

    assert (inside["agent"], bool(HASHED.fullmatch(outside["agent"]))) == ("a", True)


@given(st.text(max_size=1024))
def test_nothing_undeclared_is_in_plain_text(place, value: str) -> None:
    """Undeclared text is stored as a pseudonym, and an empty text is dropped."""
    record = track_role_event("agent.invoked", agent=value)

    assert record is not None
    if value:
        assert place.key.pseudonym("agent", value) == record["agent"]
    else:
        assert (record.get("agent"), record["dropped"]) == (None, 1)


# -- dropped -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 3.5, True, b"x", ["x"], {"x": 1}, object(), "", "x" * 1025])
@pytest.mark.parametrize("field", NAMES)
def test_an_invalid_name_is_dropped_and_counted(place, field: str, value: object) -> None:
    """A name that is not a text of 1 to 1,024 characters is dropped and counted."""
    record = track_role_event("agent.invoked", **{field: value})  # type: ignore[arg-type]

    assert record is not None
    assert (field in record, record["dropped"]) == (False, 1)


def test_none_counts_as_not_given(place) -> None:
    """None is neither stored nor counted as dropped."""
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
    """Unknown fields, and fields set by processors, are dropped and counted."""
    plain = emitted("agent.invoked")
    record = emitted("agent.invoked", **{field: "mine"})

    assert record["dropped"] == 1
    assert b"mine" not in place.log.read_bytes()
    same = set(plain) - {"event_id", "seq"}
    assert {f: plain[f] for f in same} == {f: record[f] for f in same}


@pytest.mark.parametrize("value", ["mine", None, {"source": "mine"}, object()])
def test_the_metadata_cannot_be_given(place, value: object) -> None:
    """A host cannot set the metadata of an event, and no record contains it."""
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
    """An outcome is one of four words. Any other value is dropped."""
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
    """An exit code is a signed 32-bit integer. Any other value is dropped."""
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
        (3, 3),
        (99, 99),
        (99.1, 100),
        (100, 100),
        (101, 110),
        (1000, 1000),
        (1000.001, 1100),
        (1024, 1100),
        (9999, 10_000),
        (86_400_000, 87_000_000),
        (10**12 - 1, 10**12),
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
def test_durations_have_two_digits(place, given: object, stored: int | None) -> None:
    """A duration is rounded up to two significant digits. An invalid one is dropped."""
    assert stored == validation.two_digits(given)
    assert stored == emitted("agent.completed", duration_ms=given).get("duration_ms")


@given(st.floats(min_value=0, max_value=1e11))
def test_a_duration_is_rounded_up(milliseconds: float) -> None:
    """A stored duration is at least the measured one, and less than a tenth above it."""
    stored = validation.two_digits(milliseconds)

    assert stored is not None
    assert len(str(stored).rstrip("0")) <= 2
    assert milliseconds <= stored <= max(1, math.ceil(milliseconds) * 1.1)


DECLARED = {"task": "identifier", "size": "measure", "dry": "flag", "mode": ["fast", "slow"]}


# -- context -------------------------------------------------------------------------------------


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
    """A context keeps declared keys with values of their class, and counts all others."""
    place.configure(context=DECLARED)
    record = emitted("agent.invoked", context=given)

    assert (stored, dropped) == (record.get("context"), record.get("dropped"))


@pytest.mark.parametrize("context", ["text", 3, ["a"], [("dry", True)], object(), b"", True])
def test_a_context_that_is_not_a_dict_is_dropped(place, context: object) -> None:
    """A context that is not a dict is dropped and counted once."""
    record = emitted("agent.invoked", context=context)

    assert ("context" in record, record["dropped"]) == (False, 1)


@pytest.mark.parametrize("value", ["T-1", 42, -7, "jane@example.org", "ü" * 1024])
def test_identifiers_are_hashed(place, value: object) -> None:
    """An identifier is a text or an integer and is stored as a pseudonym."""
    place.configure(context=DECLARED)
    record = emitted("agent.invoked", context={"task": value})

    assert {"task": place.key.pseudonym("context.task", str(value))} == record["context"]


@pytest.mark.parametrize(
    "value", [1.5, True, None, b"x", 2**64, 10**5000, "", "x" * 1025], ids=type
)
def test_invalid_identifiers_are_dropped(place, value: object) -> None:
    """A value of any other type is dropped as an identifier."""
    place.configure(context=DECLARED)

    assert emitted("agent.invoked", context={"task": value})["dropped"] == 1


def test_context_keys_are_sorted(place) -> None:
    """Context keys are stored in sorted order."""
    place.configure(context=DECLARED)
    record = emitted("agent.invoked", context={"size": 1, "mode": "fast", "dry": True})

    assert list(record["context"]) == ["dry", "mode", "size"]


def test_a_huge_context_is_truncated_and_counted(place) -> None:
    """Only the first few of a million keys are checked. All keys not kept are counted."""
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
    """A measure keeps three significant digits. Ten would identify a telephone number."""
    found = validation.measure(given)

    assert (stored, type(stored)) == (found, type(found))
