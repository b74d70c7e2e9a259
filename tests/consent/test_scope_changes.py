"""An extended scope records only what was granted until the user grants the extension."""

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


# -- no scope extension without a new notice -----------------------------------------------------


def scope_of(number: int) -> dict:
    """Return the scope that a notice covers, in the format of its snapshot."""
    return {
        "events": sorted(e.name for e in catalog.EVENTS.values() if e.since <= number),
        "fields": {
            f.name: {"class": f.kind, "domain": domain_of(f, number), "given": f.given}
            for f in catalog.FIELDS.values()
            if f.since <= number
        },
    }


def domain_of(field: catalog.Field, number: int) -> object:
    """Return the domain of a field without tokens and events of later notices."""
    later = {token for token, since in field.later.items() if since > number}
    later |= {e.name for e in catalog.EVENTS.values() if e.since > number}
    if isinstance(field.domain, tuple) and field.kind == catalog.TOKEN:
        return [token for token in field.domain if token not in later]
    return json.loads(json.dumps(field.domain))


def extensions(old: dict, new: dict) -> list[str]:
    """Return what `new` may record and `old` may not."""
    found = [f"event {name}" for name in new["events"] if name not in old["events"]]
    for name, row in new["fields"].items():
        before = old["fields"].get(name)
        if before is None or before["class"] != row["class"]:
            found.append(f"field {name}")
        elif before["domain"] != row["domain"] and not is_narrower(before["domain"], row["domain"]):
            found.append(f"domain of {name}: {before['domain']} is now {row['domain']}")
    return found


def is_narrower(old: object, new: object) -> bool:
    """Return whether the domain `new` is within `old`."""
    if isinstance(old, int) and isinstance(new, int):
        return new <= old
    if not isinstance(old, list) or not isinstance(new, list):
        return False
    if all(isinstance(n, int) for n in old):
        return old[0] <= new[0] and new[1] <= old[1]
    return set(new) <= set(old)


@pytest.mark.parametrize("number", range(1, catalog.NOTICE_VERSION + 1))
def test_each_notice_covers_its_snapshot(number: int) -> None:
    """The catalog's scope of each notice is within the notice's snapshot.

    An extended row needs `since=` and a higher NOTICE_VERSION. A new notice also needs a
    snapshot in `notices`, which is `scope_of(NOTICE_VERSION)` as JSON.
    """
    snapshot = json.loads((NOTICES / f"{number}.json").read_text())

    assert extensions(snapshot, scope_of(number)) == []


def test_no_row_is_later_than_the_notice() -> None:
    """No row of the catalog has a `since` above NOTICE_VERSION."""
    rows = [*catalog.EVENTS.values(), *catalog.FIELDS.values()]
    later = [row.name for row in rows if row.since > catalog.NOTICE_VERSION]
    later += [
        f"{f.name}: {token}"
        for f in catalog.FIELDS.values()
        for token, since in f.later.items()
        if since > catalog.NOTICE_VERSION
    ]

    assert later == []


def test_the_defaults_are_those_of_the_first_notice() -> None:
    """The defaults are times by the day, 90 days of retention and no context keys."""
    now = settings.Settings()

    assert (now.resolution, now.retention_days, now.context) == ("day", 90, {})


@pytest.mark.parametrize(
    "change",
    [
        *("event", "field", "class", "token", "measure", "bits", "vocabulary"),
    ],
)
def test_each_extension_is_found(change: str, monkeypatch) -> None:
    """`extensions()` finds each kind of change that extends a row."""
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

    assert extensions(json.loads(json.dumps(old)), new) != []
    assert extensions(old, json.loads(json.dumps(old))) == []


def test_a_narrower_scope_is_no_extension() -> None:
    """Fewer events, fields and tokens and smaller numbers need no new notice."""
    old = scope_of(1)
    new = json.loads(json.dumps(old))
    new["events"].pop()
    del new["fields"]["dropped"]
    new["fields"]["outcome"]["domain"].pop()
    new["fields"]["seq"]["domain"][1] = 10
    new["fields"]["event_id"]["domain"] = 32

    assert extensions(old, new) == []


# -- extended settings -------------------------------------------------------------------------

FINE = {"timestamp_resolution": "minute"}
LONG = {"retention_days": 365}
KEYS = {"context": {"task_id": "identifier", "mode": ["fast", "slow"]}}


def missing_scope(place) -> list[str]:
    """Return the scope of the settings that the current grant does not cover."""
    decision = policy.decide(place.home, place.environ)
    assert decision.grant is not None
    return decision.grant.scope_extension(settings.current())


def code(place) -> int:
    """Return the exit code of `status --check`."""
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
def test_extended_settings(place, options, sentences) -> None:
    """The status lists extended settings, and the recorder stores only the granted scope."""
    assert (missing_scope(place), code(place)) == ([], RECORDING)
    with configure(**options):
        assert (missing_scope(place), code(place)) == (sentences, OUTDATED)
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
    """A grant covers coarser times, a shorter retention, and fewer keys and tokens."""
    before = settings.current()
    with configure(**FINE, **LONG, **KEYS):
        enable_telemetry()
    settings.state.replace(before)
    with configure(**options):
        assert (missing_scope(undecided), code(undecided)) == ([], RECORDING)
        record = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})

    assert record is not None
    assert ("context" in record) == ("context" in options)


def test_a_new_token_of_a_key(undecided) -> None:
    """If a key has a new token, the granted tokens are recorded, and the new one is not."""
    with configure(context={"mode": ["fast"]}):
        enable_telemetry()
    with configure(context={"mode": ["fast", "slow"]}):
        contexts = [
            (track_role_event("agent.invoked", agent="x", context={"mode": m}) or {}).get("context")
            for m in ("fast", "slow")
        ]
        assert missing_scope(undecided) == ["a new context key: mode:=slow"]

    assert contexts == [{"mode": "fast"}, None]


def test_another_class_of_a_key(undecided) -> None:
    """If the class of a key changes, the key needs a new grant."""
    with configure(context={"task": "identifier"}):
        enable_telemetry()
    with configure(context={"task": "measure"}):
        record = track_role_event("agent.invoked", agent="x", context={"task": 7})

    assert record is not None
    assert "context" not in record


# -- an extended catalog -----------------------------------------------------------------------


# A later version of the catalog, with a new event, field and token. It replaces the catalog
# before any other module is loaded, so every module uses it.
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
RECORD_NEW = """
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
    """Run code with the catalog of a later version."""
    done = place.run(NOTICE_2 + code)
    assert done.stderr == ""
    return done


def test_an_extended_catalog(place) -> None:
    """Without a new grant, the recorder drops new events, and omits new fields and tokens."""
    later_version(place, RECORD_NEW)
    first, second = place.events()

    assert place.types() == ["agent.completed", "agent.completed"]
    assert not {"model", "outcome"} & set(first)
    assert second["outcome"] == "ok"


def test_an_extended_catalog_in_status(place) -> None:
    """`status` lists what is not recorded yet, and `status --check` exits with 12."""
    done = later_version(place, "raise SystemExit(main(['status', '--check']))")
    found = later_version(place, "main(['status', '--json'])")

    assert done.returncode == OUTDATED
    assert [f"  not yet  {new}: only after you grant it" for new in NEW] == [
        line for line in done.stdout.splitlines() if "not yet" in line
    ]
    assert json.loads(found.stdout)["not_yet"] == NEW
    assert json.loads(found.stdout)["notice"] == 1


def test_a_granted_extended_catalog(place) -> None:
    """After a new grant, the new event, field and token are recorded."""
    done = later_version(
        place, "enable_telemetry()" + RECORD_NEW + "raise SystemExit(main(['status', '--check']))"
    )

    assert done.returncode == RECORDING
    assert "not yet" not in done.stdout
    assert place.types() == ["model.used", "agent.completed", "agent.completed"]
    assert [e.get("outcome") for e in place.events()] == ["skipped", "skipped", "ok"]
    assert place.events()[0]["model"][:2] == "h:"


def test_a_notice_without_an_extension(place, monkeypatch) -> None:
    """If a new notice has the same scope, no new grant is needed."""
    monkeypatch.setattr(catalog, "NOTICE_VERSION", 2)

    assert (missing_scope(place), code(place)) == ([], RECORDING)


def test_a_grant_under_a_later_notice(place) -> None:
    """A grant under a later notice is valid for an earlier version of the program."""
    later_version(place, "enable_telemetry()")

    assert " notice=2 " in place.record.read_text()
    assert (missing_scope(place), code(place)) == ([], RECORDING)
    assert track_role_event("role.selected", role="dev")


@pytest.mark.tty
def test_the_prompt_for_an_extended_catalog(place) -> None:
    """The next interactive run displays only the difference."""
    screen = at_terminal(place, "y\r", source=NAMED + NOTICE_2 + "ask_consent()" + RECORD_NEW)

    assert screen.splitlines()[1:4] == [f"  {new}" for new in NEW]
    assert place.types() == ["model.used", "agent.completed", "agent.completed"]


def test_each_scope_has_its_own_fingerprint(place) -> None:
    """The fingerprint changes with the settings and the catalog."""
    found = {consent_decision.scope_fingerprint(settings.current())}
    for options in (FINE, LONG, KEYS):
        with configure(**options):
            found.add(consent_decision.scope_fingerprint(settings.current()))
    done = later_version(place, "print(grants.scope_fingerprint(settings.current()))")
    found.add(done.stdout.strip())

    assert len(found) == 5


def test_a_declined_extension(place) -> None:
    """After an extension is declined, it is not pending, and the granted scope is recorded."""
    with configure(**FINE):
        decision = policy.decide(place.home, place.environ)
        assert prompt.pending_extension(decision) != []
        changes.answer_extension(place.home, decision, is_granted=False)
        decision = policy.decide(place.home, place.environ)
        assert (decision.allowed, prompt.pending_extension(decision)) == (True, [])
        # No extension is pending, so scripts see that recording is on.
        assert code(place) == RECORDING
        assert missing_scope(place) == ["times by the minute instead of the day"]
        assert track_role_event("role.selected", role="dev")
    with configure(**FINE, **LONG):
        # Another extension is pending again.
        assert prompt.pending_extension(policy.decide(place.home, place.environ)) != []


def test_each_program_asks_once(place) -> None:
    """If programs of one app have different settings, each asks for its extension once."""
    for options in (FINE, LONG, KEYS):
        with configure(**options):
            changes.answer_extension(
                place.home, policy.decide(place.home, place.environ), is_granted=False
            )
    for options in (FINE, LONG, KEYS):
        with configure(**options):
            assert prompt.pending_extension(policy.decide(place.home, place.environ)) == []


def test_declined_scopes_are_limited(place) -> None:
    """A record contains the last eight declined scopes."""
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
    ("word", "expected"),
    [
        (None, {}),
        ("context=", {}),
        ("context=mode:=fast", {"mode": "fast"}),
        ("context=other:flag", {}),
        ("context=*", {"mode": "fast"}),
    ],
    ids=["no word", "empty", "named", "another", "any"],
)
def test_context_of_a_record(place, word: str | None, expected: dict) -> None:
    """Only the context keys that the record names are recorded, and none if it names none."""
    words = [w for w in place.record.read_text().split() if not w.startswith("context=")]
    place.record.write_text(" ".join([*words, *([word] if word else [])]) + "\n")
    with configure(context={"mode": ["fast"]}):
        record = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})
        missing = missing_scope(place)

    assert record is not None
    assert record.get("context", {}) == expected
    assert missing == ([] if expected else ["a new context key: mode:=fast"])


def test_keys_declared_after_the_grant(undecided) -> None:
    """If the host declares context keys after the grant, they are recorded after a new grant."""
    enable_telemetry()
    with configure(**KEYS):
        first = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})
        changes.answer_extension(
            undecided.home, policy.decide(undecided.home, undecided.environ), is_granted=True
        )
        second = track_role_event("agent.invoked", agent="x", context={"mode": "fast"})

    assert [(r or {}).get("context") for r in (first, second)] == [None, {"mode": "fast"}]


def test_the_notice_describes_any_context(undecided) -> None:
    """`enable` grants any context, and its notice names every class of context keys."""
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
    """Run the host at a terminal, press the keys at its prompts, and return the screen."""
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
    """The next interactive run displays the difference, and a grant applies in the same run."""
    assert at_terminal(place, "y\r") == DIFFERENCE + "This is recorded from now on.\n"
    (event,) = place.events()

    assert set(event["context"]) == {"task_id"}
    assert at_terminal(place) == ""


@pytest.mark.tty
@pytest.mark.parametrize("key", ["\r", "n\r"])
def test_a_declined_extension_is_saved(place, key: str) -> None:
    """Enter declines the extension. Recording continues, and the prompt is not shown again."""
    before = place.record.read_text().split()
    assert at_terminal(place, key) == DIFFERENCE + "Recording continues as before.\n"
    (event,) = place.events()
    after = place.record.read_text().split()

    # The words of the grant do not change. Only the two words of the denial are new.
    assert [w for w in after if w in before] == [w for w in before if w[:6] != "entry="]
    assert [w.partition("=")[0] for w in after if w not in before] == ["declined", "entry"]

    assert event["timestamp"].endswith("T00:00:00Z")
    assert "context" not in event
    assert at_terminal(place) == ""


@pytest.mark.tty
@pytest.mark.parametrize("key", ["later\r", "\x04"], ids=["later", "end of file"])
def test_the_prompt_is_shown_again_after_later(place, key: str) -> None:
    """After `later` or end of file, the grant remains, and the next run asks again."""
    assert at_terminal(place, key).endswith("Nothing was decided. Recording continues as before.\n")
    assert at_terminal(place, "later\r").startswith(DIFFERENCE)
    assert len(place.events()) == 2


@pytest.mark.tty
def test_a_grant_for_any_context_remains(undecided) -> None:
    """If a grant covers any context, a later extension does not list context keys."""
    with cache.override_runtime(undecided.environ):
        enable_telemetry(any_context=True)
    screen = at_terminal(undecided, "y\r")

    assert "context key" not in screen
    assert " context=* " in undecided.record.read_text().replace("\n", " ")


def test_without_a_terminal(place) -> None:
    """Without a terminal, the program records the granted scope."""
    done = place.run(HOST)

    assert (done.stdout, done.stderr) == ("", "")
    assert place.events()[0]["timestamp"].endswith("T00:00:00Z")


@pytest.mark.tty
def test_at_most_fifteen_lines(place) -> None:
    """The prompt for an extension has at most 15 lines."""
    keys = {f"key_{n:03}" + "x" * 90: "flag" for n in range(40)}
    source = HOST.replace('{"task_id": "identifier"}', repr(keys))
    lines = at_terminal(place, "\r", source=source).splitlines()

    assert len(lines) <= 15
    assert "  and 32 more" in lines
    assert all(len(line) <= 78 and line.isascii() for line in lines)
