"""Ids that the environment carries: 12 hex digits in every line, whatever the variable holds."""

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
    """The event that is recorded under these variables."""
    place.environ.update(variables)
    cache.invalidate()
    record = track_role_event("agent.invoked", agent="T-1")
    assert record is not None
    return record


def told(field: str) -> list[str]:
    """Fields under which a host might ask for a code that the environment would pass with."""
    return [field, f"environment.{field}", f"outside.{field}", f"\xffenvironment\0{field}"]


@pytest.mark.parametrize("text", FORGED)
@pytest.mark.parametrize(("field", "variable"), [("session_id", SESSION), ("parent_id", PARENT)])
def test_a_forged_id_is_a_code(place, text: str, field: str, variable: str) -> None:
    """No code of `hash_pii` lets a text through; it is stored as the hex digits of its code."""
    for asked in told(field):
        given_id = f"{text}-{hash_pii(text, field=asked)}"
        record = record_with(place, **{variable: given_id})

        assert HEX.fullmatch(record[field])
        assert place.key.outside_id(field, given_id) == record[field]


@pytest.mark.parametrize("field", ["session_id", "parent_id"])
def test_a_code_of_hash_pii_is_no_signature(place, field: str) -> None:
    """Twelve hex digits with a hash of `hash_pii` are an id of another source: a pseudonym."""
    value = "0123456789ab"
    for asked in told(field):
        given_id = f"{value}-{hash_pii(value, field=asked)}"
        record = record_with(place, **{SESSION: given_id, PARENT: given_id})

        assert value != record[field]


def test_our_own_id_goes_on(place) -> None:
    """What `child_environment()` gave is stored as it is."""
    with role_session("dev"):
        variables = child_environment()
    session = variables[SESSION].partition("-")[0]
    record = record_with(place, **variables)

    assert (session, place.events()[0]["session_id"]) == (record["session_id"], session)


def test_a_pseudonym_of_a_field_is_no_pseudonym_of_an_id(place) -> None:
    """Equal texts in the environment and in a field have different codes."""
    record = record_with(place, **{SESSION: "T-1"})

    digits = place.key.digits("session_id", "T-1")
    assert record["session_id"] not in (digits, record["agent"][2:])


def test_find_knows_it(place) -> None:
    """`find` still finds the id by the text that the variable held."""
    record_with(place, **{SESSION: "TICKET-4711"})
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "find", "TICKET-4711")

    assert "1 event" in done.stdout


@given(st.dictionaries(st.sampled_from([SESSION, PARENT]), TEXT), TEXT)
def test_every_line_follows_the_grammar(place, variables: dict[str, str], name: str) -> None:
    """Whatever the environment and the names hold, both drivers write lines of the schema."""
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


def test_an_error_of_the_host_among_the_builtins(place) -> None:
    """A class that a host put among the builtins, under any name, is stored as `other`."""
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
