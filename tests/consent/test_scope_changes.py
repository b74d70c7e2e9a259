"""A wider scope records only what was accepted and asks again; a narrower one never asks."""

import json
import sys
from pathlib import Path

import pexpect
import pytest

from telemetry_kit import configure, enable_telemetry, settings, track_role_event
from telemetry_kit.cli.commands.status import OUTDATED, RECORDING, code_of
from telemetry_kit.consent import cache, changes, notice, policy, prompt
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.schema import catalog
from tests.conftest import NAMED

NOTICES = Path(__file__).parent / "notices"


# -- the guard: nothing gets wider without a new notice -----------------------------------------


def scope_of(number: int) -> dict:
    """The scope that a notice covers, as its snapshot holds it."""
    return {
        "events": sorted(e.name for e in catalog.EVENTS.values() if e.since <= number),
        "fields": {
            f.name: {"class": f.kind, "domain": domain_of(f, number), "given": f.given}
            for f in catalog.FIELDS.values()
            if f.since <= number
        },
    }


def domain_of(field: catalog.Field, number: int) -> object:
    """The domain of a field without tokens and events of later notices."""
    later = {token for token, since in field.later.items() if since > number}
    later |= {e.name for e in catalog.EVENTS.values() if e.since > number}
    if isinstance(field.domain, tuple) and field.kind == catalog.TOKEN:
        return [token for token in field.domain if token not in later]
    return json.loads(json.dumps(field.domain))


def wider(old: dict, new: dict) -> list[str]:
    """What `new` may record that `old` may not."""
    found = [f"event {name}" for name in new["events"] if name not in old["events"]]
    for name, row in new["fields"].items():
        before = old["fields"].get(name)
        if before is None or before["class"] != row["class"]:
            found.append(f"field {name}")
        elif before["domain"] != row["domain"] and not narrower(before["domain"], row["domain"]):
            found.append(f"domain of {name}: {before['domain']} is now {row['domain']}")
    return found


def narrower(old: object, new: object) -> bool:
    """Whether a domain is within another one of the same kind."""
    if isinstance(old, int) and isinstance(new, int):
        return new <= old
    if not isinstance(old, list) or not isinstance(new, list):
        return False
    if all(isinstance(n, int) for n in old):
        return old[0] <= new[0] and new[1] <= old[1]
    return set(new) <= set(old)


@pytest.mark.parametrize("number", range(1, catalog.NOTICE_VERSION + 1))
def test_no_notice_covers_more_than_it_said(number: int) -> None:
    """A wider row needs `since=` a new notice, and NOTICE_VERSION raised.

    A new notice also gets its snapshot in `notices`: `scope_of(NOTICE_VERSION)` as JSON.
    """
    accepted = json.loads((NOTICES / f"{number}.json").read_text())

    assert wider(accepted, scope_of(number)) == []


def test_no_row_is_newer_than_the_notice() -> None:
    """A row with a `since` above NOTICE_VERSION was added without raising it."""
    rows = [*catalog.EVENTS.values(), *catalog.FIELDS.values()]
    newer = [row.name for row in rows if row.since > catalog.NOTICE_VERSION]
    newer += [
        f"{f.name}: {token}"
        for f in catalog.FIELDS.values()
        for token, since in f.later.items()
        if since > catalog.NOTICE_VERSION
    ]

    assert newer == []


def test_no_default_is_wider_than_the_first_notice() -> None:
    """Days, 90 of them, and no context of its own: the defaults that notice 1 names."""
    now = settings.Settings()

    assert (now.resolution, now.retention_days, now.context) == ("day", 90, {})


@pytest.mark.parametrize(
    "change",
    [
        *("event", "field", "class", "token", "measure", "bits", "vocabulary"),
    ],
)
def test_the_guard_sees(change: str, monkeypatch) -> None:
    """Each way to widen a row in place is found by the comparison above."""
    old = scope_of(1)
    new = json.loads(json.dumps(old))
    fields = new["fields"]
    if change == "event":
        new["events"].append("model.used")
    elif change == "field":
        fields["host"] = {"class": "name", "domain": None, "given": True}
    elif change == "class":
        fields["project_id"]["class"] = "name"
    elif change == "token":
        fields["outcome"]["domain"].append("bored")
    elif change == "measure":
        fields["duration_ms"]["domain"][0] = 0
    elif change == "bits":
        fields["event_id"]["domain"] = 128
    else:
        fields["role"]["domain"] = "people"

    assert wider(json.loads(json.dumps(old)), new) != []
    assert wider(old, json.loads(json.dumps(old))) == []


def test_narrowing_is_no_widening() -> None:
    """Fewer events, fields, tokens and smaller numbers need no new notice."""
    old = scope_of(1)
    new = json.loads(json.dumps(old))
    new["events"].pop()
    del new["fields"]["dropped"]
    new["fields"]["outcome"]["domain"].pop()
    new["fields"]["seq"]["domain"][1] = 10
    new["fields"]["event_id"]["domain"] = 32

    assert wider(old, new) == []


# -- wider settings ----------------------------------------------------------------------------

FINE = {"timestamp_resolution": "minute"}
LONG = {"retention_days": 365}
KEYS = {"context": {"task_id": "identifier", "mode": ["fast", "slow"]}}


def not_yet(place) -> list[str]:
    """What the decision in force does not cover."""
    decision = policy.decide(place.home, place.environ)
    assert decision.grant is not None
    return decision.grant.scope_extension(settings.current())


def code(place) -> int:
    return code_of(policy.decide(place.home, place.environ))


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        (FINE, ["times by the minute instead of the day"]),
        (LONG, ["stored for 365 days instead of 90"]),
        (
            KEYS,
            [
                "a new context key: mode:=fast",
                "a new context key: mode:=slow",
                "a new context key: task_id:identifier",
            ],
        ),
    ],
    ids=["finer", "longer", "keys"],
)
def test_wider_settings(place, options, sentences) -> None:
    """Finer times, longer keeping and new keys: named, 12, and only what was accepted is kept."""
    assert (not_yet(place), code(place)) == ([], RECORDING)
    with configure(**options):
        assert (not_yet(place), code(place)) == (sentences, OUTDATED)
        record = track_role_event(
            "agent.invoked", agent="x", context={"task_id": "T-1", "mode": "fast"}
        )
    assert record is not None
    assert record["timestamp"] == "2024-02-28T00:00:00Z"
    assert "context" not in record


@pytest.mark.parametrize(
    "options",
    [
        *({"timestamp_resolution": "hour"}, {"timestamp_resolution": "day"}),
        *({"retention_days": 30}, {"context": {"mode": ["fast"]}}, {}),
    ],
    ids=repr,
)
def test_narrower_settings(undecided, options) -> None:
    """Coarser times, shorter keeping, fewer keys and tokens are covered and never asked about."""
    before = settings.current()
    with configure(**FINE, **LONG, **KEYS):
        enable_telemetry()
    settings.state.replace(before)
    with configure(**options):
        assert (not_yet(undecided), code(undecided)) == ([], RECORDING)
        record = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})

    assert record is not None
    assert ("context" in record) == ("context" in options)


def test_one_new_token_of_a_key(undecided) -> None:
    """Of a key whose list got longer the old words are recorded, the new one is not."""
    with configure(context={"mode": ["fast"]}):
        enable_telemetry()
    with configure(context={"mode": ["fast", "slow"]}):
        kept = [
            (track_role_event("agent.invoked", agent="x", context={"mode": m}) or {}).get("context")
            for m in ("fast", "slow")
        ]
        assert not_yet(undecided) == ["a new context key: mode:=slow"]

    assert kept == [{"mode": "fast"}, None]


def test_another_class_of_a_key(undecided) -> None:
    """A key that was a code and is a number now is a new key."""
    with configure(context={"task": "identifier"}):
        enable_telemetry()
    with configure(context={"task": "measure"}):
        record = track_role_event("agent.invoked", agent="x", context={"task": 7})

    assert record is not None
    assert "context" not in record


# -- wider catalog -----------------------------------------------------------------------------


# A later version: one event, one field and one token more. It is data, put in before any other
# room is loaded, so that everything made from the catalog is made from this one.
NOTICE_2 = """
import json, sys
from telemetry_kit.schema import catalog
catalog.NOTICE_VERSION = 2
event = catalog.Event("model.used", "Which models are used?", since=2)
field = catalog.Field("model", catalog.NAME, "the model", "agents", given=True, since=2)
catalog.OUTCOMES = (*catalog.OUTCOMES, "skipped")
outcome = catalog.Field(
    "outcome", catalog.TOKEN, "how it ended", catalog.OUTCOMES, given=True, later={"skipped": 2}
)
catalog._EVENTS += (event,)
catalog._FIELDS = tuple(outcome if f.name == "outcome" else f for f in catalog._FIELDS) + (field,)
catalog.EVENTS = {e.name: e for e in catalog._EVENTS}
catalog.FIELDS = {f.name: f for f in catalog._FIELDS}
catalog.ORDER = tuple(catalog.FIELDS)
catalog.NAMES = {f.name: str(f.domain) for f in catalog._FIELDS if f.kind == catalog.NAME}
from telemetry_kit import ask_consent, enable_telemetry, settings
from telemetry_kit.consent import decision as grants
from telemetry_kit.consent import policy as consent
from telemetry_kit.recording import pipeline
from telemetry_kit.cli import main
"""
USE_IT = """
pipeline.emit({"event": "model.used", "model": "m", "outcome": "skipped"})
pipeline.emit({"event": "agent.completed", "agent": "x", "model": "m", "outcome": "skipped"})
pipeline.emit({"event": "agent.completed", "agent": "x", "outcome": "ok"})
"""
NEW = [
    "a new kind of event: model.used",
    "a new field: model, the model",
    "new values of outcome: skipped",
]


def later_version(place, code: str):
    """Run code with the catalog of the later version."""
    done = place.run(NOTICE_2 + code)
    assert done.stderr == ""
    return done


def test_a_wider_catalog(place) -> None:
    """A new event is not recorded, a new field and a new token are left out, the rest goes on."""
    later_version(place, USE_IT)
    first, second = place.events()

    assert place.types() == ["agent.completed", "agent.completed"]
    assert not {"model", "outcome"} & set(first)
    assert second["outcome"] == "ok"


def test_a_wider_catalog_in_status(place) -> None:
    """`status` names what is not recorded yet, and `--check` ends with 12."""
    done = later_version(place, "raise SystemExit(main(['status', '--check']))")
    found = later_version(place, "main(['status', '--json'])")

    assert done.returncode == OUTDATED
    assert [f"  not yet  {new}: only after you grant it" for new in NEW] == [
        line for line in done.stdout.splitlines() if "not yet" in line
    ]
    assert json.loads(found.stdout)["not_yet"] == NEW
    assert json.loads(found.stdout)["notice"] == 1


def test_a_wider_catalog_accepted(place) -> None:
    """After a new yes the new event, field and token are recorded."""
    done = later_version(
        place, "enable_telemetry()" + USE_IT + "raise SystemExit(main(['status', '--check']))"
    )

    assert done.returncode == RECORDING
    assert "not yet" not in done.stdout
    assert place.types() == ["model.used", "agent.completed", "agent.completed"]
    assert [e.get("outcome") for e in place.events()] == ["skipped", "skipped", "ok"]
    assert place.events()[0]["model"][:2] == "h:"


def test_a_notice_that_widens_nothing(place, monkeypatch) -> None:
    """A new version of the notice alone, with better words, asks nobody again."""
    monkeypatch.setattr(catalog, "NOTICE_VERSION", 2)

    assert (not_yet(place), code(place)) == ([], RECORDING)


def test_a_yes_to_a_later_notice(place) -> None:
    """Who has said yes to a later version and runs an earlier one has said yes to this, too."""
    later_version(place, "enable_telemetry()")

    assert " notice=2 " in place.record.read_text()
    assert (not_yet(place), code(place)) == ([], RECORDING)
    assert track_role_event("role.selected", role="dev")


@pytest.mark.tty
def test_a_wider_catalog_is_asked_about(place) -> None:
    """The next interactive run shows the difference alone."""
    screen = at_terminal(place, "y\r", source=NAMED + NOTICE_2 + "ask_consent()" + USE_IT)

    assert screen.splitlines()[1:4] == [f"  {new}" for new in NEW]
    assert place.types() == ["model.used", "agent.completed", "agent.completed"]


def test_fingerprints_differ(place) -> None:
    """The fingerprint of the scope changes with anything that may be recorded."""
    found = {consent_decision.scope_fingerprint(settings.current())}
    for options in (FINE, LONG, KEYS):
        with configure(**options):
            found.add(consent_decision.scope_fingerprint(settings.current()))
    done = later_version(place, "print(grants.scope_fingerprint(settings.current()))")
    found.add(done.stdout.strip())

    assert len(found) == 5


def test_what_declining_says(place) -> None:
    """Declined, it is no longer asked about; what was accepted goes on being recorded."""
    with configure(**FINE):
        decision = policy.decide(place.home, place.environ)
        assert prompt.pending_extension(decision) != []
        changes.answer_extension(place.home, decision, is_granted=False)
        decision = policy.decide(place.home, place.environ)
        assert (decision.allowed, prompt.pending_extension(decision)) == (True, [])
        # Nothing is left to ask: to a script it is recording, as decided.
        assert code(place) == RECORDING
        assert not_yet(place) == ["times by the minute instead of the day"]
        assert track_role_event("role.selected", role="dev")
    with configure(**FINE, **LONG):
        # Something else again is a new question.
        assert prompt.pending_extension(policy.decide(place.home, place.environ)) != []


def test_programs_that_differ_are_each_told_no_once(place) -> None:
    """Two programs of one app with different settings do not ask in turns for ever."""
    for options in (FINE, LONG, KEYS):
        with configure(**options):
            changes.answer_extension(
                place.home, policy.decide(place.home, place.environ), is_granted=False
            )
    for options in (FINE, LONG, KEYS):
        with configure(**options):
            assert prompt.pending_extension(policy.decide(place.home, place.environ)) == []


def test_what_was_declined_does_not_pile_up(place) -> None:
    """A record remembers the last eight wider scopes that were declined."""
    for days in range(100, 110):
        with configure(retention_days=days):
            changes.answer_extension(
                place.home, policy.decide(place.home, place.environ), is_granted=False
            )

    assert (
        len(consent_decision.parse_grant(place.record.read_text()).declined)
        == consent_decision.MAX_DECLINED
        == 8
    )


# -- context keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        (None, {}),
        ("context=", {}),
        ("context=mode:=fast", {"mode": "fast"}),
        ("context=other:flag", {}),
        ("context=*", {"mode": "fast"}),
    ],
    ids=["no word", "empty", "named", "another", "any"],
)
def test_context_of_a_record(place, word: str | None, kept: dict) -> None:
    """Only what a record names is accepted; none at all where an earlier version named none."""
    words = [w for w in place.record.read_text().split() if not w.startswith("context=")]
    place.record.write_text(" ".join([*words, *([word] if word else [])]) + "\n")
    with configure(context={"mode": ["fast"]}):
        record = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})
        open_ = not_yet(place)

    assert record is not None
    assert record.get("context", {}) == kept
    assert open_ == ([] if kept else ["a new context key: mode:=fast"])


def test_keys_declared_after_the_yes(undecided) -> None:
    """A host that says yes before it declares its keys has them accepted at the next question."""
    enable_telemetry()
    with configure(**KEYS):
        first = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})
        changes.answer_extension(
            undecided.home, policy.decide(undecided.home, undecided.environ), is_granted=True
        )
        second = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})

    assert [(r or {}).get("context") for r in (first, second)] == [None, {"mode": "fast"}]


def test_the_notice_names_what_any_context_is(undecided) -> None:
    """`context=*` is what `enable` writes, under a notice that names every class there is."""
    done = undecided.python("-m", "telemetry_kit", "enable", "--yes")
    shown = " ".join(notice.lines(undecided.home))

    assert (done.returncode, " context=* " in undecided.record.read_text()) == (0, True)
    assert "Context that the tool declares: pseudonyms, numbers, yes/no, listed words." in shown
    assert {"identifier", "measure", "flag"} == set(catalog.CONTEXT_CLASSES)


# -- at a terminal -----------------------------------------------------------------------------

HOST = """
from telemetry_kit import ask_consent, configure, track_role_event
configure(
    app="flowspec",
    timestamp_resolution="minute",
    retention_days=365,
    context={"task_id": "identifier"},
)
ask_consent()
track_role_event("agent.invoked", agent="x", context={"task_id": "T-1"})
"""


def at_terminal(place, *keys: str, source: str = HOST) -> str:
    """What a person sees who runs the host and presses these keys."""
    child = pexpect.spawn(
        sys.executable,
        ["-W", "error", "-c", source],
        cwd=place.root,
        env={"TERM": "xterm", **place.env},
        timeout=30,
        echo=False,
    )
    child.delaybeforesend = None
    screen = ""
    for key in keys:
        child.expect_exact("later] ")
        screen += (child.before + child.after).decode()
        child.send(key)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    return (screen + child.before.decode()).replace("\r\n", "\n")


DIFFERENCE = """\
flowspec could record more than you granted:
  times by the minute instead of the day
  stored for 365 days instead of 90
  a new context key: task_id:identifier
Without another grant, recording continues as before.
Record this, too? [y/N/later] """


@pytest.mark.tty
def test_the_difference_is_shown(place) -> None:
    """The next interactive run shows what is new, and a yes records it in the same run."""
    assert at_terminal(place, "y\r") == DIFFERENCE + "This is recorded from now on.\n"
    (event,) = place.events()

    assert set(event["context"]) == {"task_id"}
    assert at_terminal(place) == ""


@pytest.mark.tty
@pytest.mark.parametrize("key", ["\r", "n\r"])
def test_declining_is_remembered(place, key: str) -> None:
    """Enter is no: it goes on as before, and is not asked again."""
    before = place.record.read_text().split()
    assert at_terminal(place, key) == DIFFERENCE + "Recording continues as before.\n"
    (event,) = place.events()
    after = place.record.read_text().split()

    # The yes is what it was, to the word; only the two that point at the no are new.
    assert [w for w in after if w in before] == [w for w in before if w[:6] != "entry="]
    assert [w.partition("=")[0] for w in after if w not in before] == ["declined", "entry"]

    assert event["timestamp"].endswith("T00:00:00Z")
    assert "context" not in event
    assert at_terminal(place) == ""


@pytest.mark.tty
@pytest.mark.parametrize("key", ["later\r", "\x04"], ids=["later", "end of file"])
def test_later_is_asked_again(place, key: str) -> None:
    """`later` and end of file keep what was accepted and ask in the next run."""
    assert at_terminal(place, key).endswith("Nothing was decided. Recording continues as before.\n")
    assert at_terminal(place, "later\r").startswith(DIFFERENCE)
    assert len(place.events()) == 2


@pytest.mark.tty
def test_a_yes_to_any_context_stays_one(undecided) -> None:
    """Who accepted whatever keys the tool declares is not asked about keys after a later yes."""
    with cache.override_runtime(undecided.environ):
        enable_telemetry(any_context=True)
    screen = at_terminal(undecided, "y\r")

    assert "context key" not in screen
    assert " context=* " in undecided.record.read_text().replace("\n", " ")


def test_without_a_terminal(place) -> None:
    """Where nobody can be asked it goes on with what was accepted."""
    done = place.run(HOST)

    assert (done.stdout, done.stderr) == ("", "")
    assert place.events()[0]["timestamp"].endswith("T00:00:00Z")


@pytest.mark.tty
def test_at_most_fifteen_lines(place) -> None:
    """However much is new, the question fits a small terminal."""
    keys = {f"key_{n:03}" + "x" * 90: "flag" for n in range(40)}
    source = HOST.replace('{"task_id": "identifier"}', repr(keys))
    lines = at_terminal(place, "\r", source=source).splitlines()

    assert len(lines) <= 15
    assert "  and 32 more" in lines
    assert all(len(line) <= 78 and line.isascii() for line in lines)
