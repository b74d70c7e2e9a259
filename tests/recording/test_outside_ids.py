"""Ids from environment variables are stored as 12 hex digits, whatever the variable contains."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import (
    child_environment,
    get_logger,
    hash_pii,
    is_telemetry_enabled,
    role_session,
    track_role_event,
)
from telemetry_kit.consent import cache
from telemetry_kit.verification import vocabulary
from telemetry_kit.verification.grammar import Grammar

SESSION, PARENT = "FLOWSPEC_TELEMETRY_SESSION_ID", "FLOWSPEC_TELEMETRY_PARENT_ID"
HEX = re.compile("[0-9a-f]{12}")
FORGED = ('","role":"dev', "a\nb\nc\nd\ne\nf\n", "\u202ealice boba", "Alice Jones!", "ABCDEF012345")
TEXT = st.text(st.characters(codec=None, categories=None), min_size=1, max_size=40)


def record_with(place, **variables: str) -> dict:
    """Record one event under these environment variables."""
    place.environ.update(variables)
    cache.invalidate()
    record = track_role_event("agent.invoked", agent="T-1")
    assert record is not None
    return record


def fields_to_hash(field: str) -> list[str]:
    """Return field names that a forger can pass to `hash_pii`."""
    return [field, f"environment.{field}", f"outside.{field}", f"\xffenvironment\0{field}"]


@pytest.mark.parametrize("text", FORGED)
@pytest.mark.parametrize(("field", "variable"), [("session_id", SESSION), ("parent_id", PARENT)])
def test_a_forged_id_is_hashed(place, text: str, field: str, variable: str) -> None:
    """An id signed with a `hash_pii` pseudonym is not accepted as ours. It is hashed."""
    for hash_field in fields_to_hash(field):
        given_id = f"{text}-{hash_pii(text, field=hash_field)}"
        record = record_with(place, **{variable: given_id})

        assert HEX.fullmatch(record[field])
        assert place.key.outside_id(field, given_id) == record[field]


@pytest.mark.parametrize("field", ["session_id", "parent_id"])
def test_a_pseudonym_is_no_signature(place, field: str) -> None:
    """An id of 12 hex digits with a `hash_pii` pseudonym as signature is hashed, too."""
    value = "0123456789ab"
    for hash_field in fields_to_hash(field):
        given_id = f"{value}-{hash_pii(value, field=hash_field)}"
        record = record_with(place, **{SESSION: given_id, PARENT: given_id})

        assert value != record[field]


def test_our_own_id_is_stored(place) -> None:
    """An id from `child_environment()` is stored unchanged."""
    with role_session("dev"):
        variables = child_environment()
    session = variables[SESSION].partition("-")[0]
    record = record_with(place, **variables)

    assert (session, place.events()[0]["session_id"]) == (record["session_id"], session)


def test_ids_and_fields_have_different_pseudonyms(place) -> None:
    """The same text has different pseudonyms as an id and as a field."""
    record = record_with(place, **{SESSION: "T-1"})

    digits = place.key.digits("session_id", "T-1")
    assert record["session_id"] not in (digits, record["agent"][2:])


def test_find_finds_the_id(place) -> None:
    """`find` finds a stored id by the text in the environment variable."""
    record_with(place, **{SESSION: "TICKET-4711"})
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "find", "TICKET-4711")

    assert "1 event" in done.stdout


@given(st.dictionaries(st.sampled_from([SESSION, PARENT]), TEXT), TEXT)
def test_every_line_matches_the_schema(place, variables: dict[str, str], name: str) -> None:
    """Both drivers write lines that match the schema, whatever the environment and names."""
    place.environ.pop(SESSION, None)
    place.environ.pop(PARENT, None)
    place.environ.update(variables)
    cache.invalidate()
    assert is_telemetry_enabled()
    grammar = Grammar(vocabulary.of(place.home))
    before = len(place.lines())
    with role_session(name):
        track_role_event("agent.invoked", agent=name)
        get_logger().info("command.failed", command=name, session_id=name, parent_id=name)
    lines = place.lines()[before:]

    assert len(lines) == 3
    assert [[]] * 3 == [grammar.violations(line.rstrip(b"\n")) for line in lines]


def test_an_exception_added_to_the_builtins(place) -> None:
    """An exception class that a host adds to the builtins is stored as `other`."""
    done = place.run(
        "import builtins\n"
        "builtins.Odd = type('a\"b', (Exception,), {'__module__': 'builtins'})\n"
        "from telemetry_kit import *\n"
        "configure(app='flowspec')\n"
        "def fails(): raise builtins.Odd\n"
        "try: tracks('agent.invoked')(fails)()\n"
        "except Exception: pass\n"
    )

    assert ("", "other") == (done.stderr, place.events()[-1]["error_type"])
