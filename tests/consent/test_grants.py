"""What a yes covers: never more than was said, and what is wider is told in sentences."""

import time

import pytest

from telemetry_kit import configure, settings
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent.decision import Grant
from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import is_day

NOW = catalog.NOTICE_VERSION
SCOPE = "0123456789abcdef"
CONTEXT = {"task_id": "identifier", "mode": frozenset({"fast", "slow mo", "\u00fc"})}
WORDS = frozenset(
    {"task_id:identifier", "mode:=fast", "mode:=slow%20.mo", "mode:=%fc."},
)


def line(*words: str) -> str:
    """A valid yes with more words."""
    least = f"v1 yes 2024-02-28 notice=1 scope={SCOPE} expires=2025-02-28"
    return " ".join([least, *words]) + "\n"


# -- what is wider -----------------------------------------------------------------------------


def test_a_first_notice_is_all_new() -> None:
    """Whatever is recorded now is told, sorted, in one sentence each, kinds of things in order."""
    with configure(context=CONTEXT, timestamp_resolution="minute", retention_days=60):
        found = Grant(0, "day", 30, frozenset({"mode:=fast"})).scope_extension(settings.current())
    later = catalog.later_tokens(0)

    assert found == [
        *(f"a new kind of event: {name}" for name in sorted(catalog.EVENTS)),
        *(
            f"a new field: {name}, {catalog.FIELDS[name].meaning}"
            for name in sorted(catalog.FIELDS)
        ),
        *(f"new values of {name}: {', '.join(sorted(later[name]))}" for name in sorted(later)),
        "times by the minute instead of the day",
        "stored for 60 days instead of 30",
        "a new context key: mode:=%fc.",
        "a new context key: mode:=slow%20.mo",
        "a new context key: task_id:identifier",
    ]


def test_new_values_are_told(monkeypatch) -> None:
    """Values that a later notice added to a field, sorted, and to whom they are new alone."""
    row = catalog.FIELDS["source"]
    first, second = sorted(row.domain)[:2]
    later = {second: NOW + 1, first: NOW + 1}
    monkeypatch.setitem(catalog.FIELDS, "source", row)
    wider = type(row)(row.name, row.kind, row.meaning, row.domain, later=later)
    rows = tuple(wider if f.name == "source" else f for f in catalog._FIELDS)
    monkeypatch.setattr(catalog, "_FIELDS", rows)

    assert Grant(NOW).scope_extension(settings.current()) == [
        f"new values of source: {first}, {second}"
    ]
    assert Grant(NOW + 1).scope_extension(settings.current()) == []


@pytest.mark.parametrize(
    ("resolution", "days", "expected"),
    [
        ("day", 90, []),
        ("day", 89, []),
        ("day", 91, ["stored for 91 days instead of 90"]),
        ("hour", 90, ["times by the hour instead of the day"]),
    ],
)
def test_only_more_is_wider(resolution: str, days: int, expected: list[str]) -> None:
    """What was accepted, or less, is not told."""
    with configure(timestamp_resolution=resolution, retention_days=days):
        assert expected == Grant(NOW).scope_extension(settings.current())


def test_any_context_covers_every_key() -> None:
    """Who accepted whatever the tool declares is told of no key."""
    with configure(context=CONTEXT):
        now = settings.current()

        assert Grant(NOW, context=None).scope_extension(now) == []
        assert Grant(NOW, context=WORDS).scope_extension(now) == []
        assert len(Grant(NOW).scope_extension(now)) == 4


def test_context_in_words() -> None:
    """One word for each key, or for each token of one; without what separates words."""
    assert consent_decision.context_words(CONTEXT) == WORDS


def test_context_that_is_covered() -> None:
    """Keys with the very class that was accepted, and of tokens those that were."""
    accepted = frozenset({"task_id:identifier", "mode:=fast", "size:flag"})
    declared = {**CONTEXT, "size": "measure", "new": "flag", "other": frozenset({"x"})}

    assert Grant(NOW, context=accepted).covered(declared) == {
        "task_id": "identifier",
        "mode": frozenset({"fast"}),
        "other": frozenset(),
    }
    assert Grant(NOW, context=None).covered(declared) == declared


@pytest.mark.parametrize(
    ("accepted", "wanted", "found"),
    [
        ("day", "day", "day"),
        ("day", "second", "day"),
        ("hour", "minute", "hour"),
        ("hour", "hour", "hour"),
        ("second", "day", "day"),
    ],
)
def test_the_coarser_resolution_counts(accepted: str, wanted: str, found: str) -> None:
    """Never finer than accepted, never finer than configured."""
    assert found == Grant(NOW, accepted).resolution(wanted)


def test_what_was_declined_is_not_asked_again() -> None:
    """Exactly the scopes that were declined; a wider one is a new question."""
    now = consent_decision.scope_fingerprint(settings.current())

    assert Grant(NOW, declined=("0" * 16, now)).has_declined(settings.current())
    assert not Grant(NOW, declined=("0" * 16,)).has_declined(settings.current())
    assert not Grant(NOW).has_declined(settings.current())


def test_only_the_last_few_are_remembered() -> None:
    """Eight of them, each once, the newest last."""
    asked = [str(number) * 16 for number in range(10)]
    found = Grant(NOW, declined=tuple(asked[:3])).with_declined(asked[1])
    many = Grant(NOW, declined=tuple(asked[:9])).with_declined(asked[9])

    assert ",".join([asked[0], asked[2], asked[1]]) == found
    assert ",".join(asked[2:]) == many


# -- the record --------------------------------------------------------------------------------


def test_words_that_are_missing() -> None:
    """They accept the least there is."""
    found = consent_decision.parse_grant(line())

    assert (1, "day", 90, frozenset(), ()) == (
        found.notice,
        found.time,
        found.keep_days,
        found.context,
        found.declined,
    )


def test_words_that_are_there() -> None:
    """Each counts, whatever is in its value; other words are none of ours."""
    found = consent_decision.parse_grant(
        line("time=hour", "keep=7", "context=a:flag,,m:=x", "declined=aa,,bb", "more", "x=1=2")
    )

    assert (1, "hour", 7, frozenset({"a:flag", "m:=x"}), ("aa", "bb")) == (
        found.notice,
        found.time,
        found.keep_days,
        found.context,
        found.declined,
    )
    assert None is consent_decision.parse_grant(line("context=*")).context


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("notice=999999999", "yes"),
        ("notice=1000000000", "corrupt"),
        ("notice=1_0", "corrupt"),
        ("keep=999999999", "yes"),
        ("keep=1000000000", "corrupt"),
        ("keep=", "corrupt"),
        ("keep=-1", "corrupt"),
        (f"scope={SCOPE}0", "corrupt"),
        (f"scope={SCOPE[1:]}", "corrupt"),
    ],
)
def test_words_that_cannot_be(words: str, state: str) -> None:
    """A number has at most nine digits, a fingerprint sixteen; anything else is no record."""
    key = words.partition("=")[0]
    said = " ".join(word for word in line().split() if not word.startswith(f"{key}="))

    assert state == consent_decision.parse_record(f"{said} {words}\n".encode(), "2024-03-01")[0]


def test_a_yes_holds_through_its_last_day() -> None:
    """It has expired on the day after."""
    data = line().replace("2025-02-28", "2024-03-01").encode()

    assert ("yes", "2024-02-28") == consent_decision.parse_record(data, "2024-03-01")
    assert ("expired", "2024-02-28") == consent_decision.parse_record(data, "2024-03-02")


@pytest.mark.parametrize("decision", ["yes", "no"])
def test_a_second_yes_adds_to_the_first(decision: str) -> None:
    """Two programs of one app do not ask in turns for ever; a no adds nothing."""
    before = Grant(1, "minute", 120, frozenset({"a:flag"}))
    with configure(context={"b": "flag"}, timestamp_resolution="hour", retention_days=30):
        now = settings.current()
        data = consent_decision.render_record(
            decision, "2024-02-28", now, more="x=1", before=before
        )
    yes = decision == "yes"

    assert data == (
        f"v1 {decision} 2024-02-28 notice={NOW} scope={consent_decision.scope_fingerprint(now)} "
        f"expires=2025-02-28 time={'minute' if yes else 'hour'} keep={120 if yes else 30} "
        f"context={'a:flag,b:flag' if yes else 'b:flag'} x=1\n"
    ).encode("ascii")


@pytest.mark.parametrize(
    ("any_context", "before", "expected"),
    [
        (False, None, "context=b:flag"),
        (True, None, "context=*"),
        (False, Grant(1, context=None), "context=*"),
        (True, Grant(1), "context=*"),
        (False, Grant(1), "context=b:flag"),
    ],
)
def test_any_context_stays_any(any_context: bool, before: Grant | None, expected: str) -> None:
    """Once accepted, it is not narrowed by a later yes."""
    with configure(context={"b": "flag"}):
        data = consent_decision.render_record(
            "yes", "2024-02-28", settings.current(), any_context=any_context, before=before
        )

    assert expected == data.decode().split()[-1]


def test_nothing_is_declared_and_nothing_kept() -> None:
    """The shortest record, with the finer resolution and the longer time of the two."""
    with configure(timestamp_resolution="minute", retention_days=200):
        data = consent_decision.render_record(
            "yes", "2024-02-28", settings.current(), before=Grant(1)
        )

    assert data.decode().split()[-3:] == ["time=minute", "keep=200", "context="]


def test_words_of_a_later_version() -> None:
    """They are found whatever they are, and no word of ours is among them."""
    own = [f"{key}=1" for key in consent_decision._KEYS]

    assert "entries=2 x=1 bare" == consent_decision.unknown_words(
        line(*own, "entries=2", "x=1", "bare")
    )
    assert "" == consent_decision.unknown_words(line(*own))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"entry": "bb"}, "keep=7 declined=cc entry=bb later=1 x=y=z"),
        ({"entry": ""}, "keep=7 declined=cc later=1 x=y=z"),
        ({"declined": "dd,ee", "entry": "bb"}, "keep=7 declined=dd,ee entry=bb later=1 x=y=z"),
        ({"keep": "8"}, "declined=cc entry=aa keep=8 later=1 x=y=z"),
    ],
    ids=["another", "none", "two", "other"],
)
def test_words_that_are_exchanged(words: dict[str, str], expected: str) -> None:
    """In the place of those of the same keys, before what belongs to a later version."""
    before = line("keep=7", "declined=cc", "entry=aa", "later=1", "x=y=z")
    found = consent_decision.stamped(before, **words).decode("ascii")

    assert line(*expected.split()) == found
    assert words.get("entry", "aa") == consent_decision.value_of(found, "entry")


@pytest.mark.parametrize(
    "text", ["2024/02/28", "20240-2-28", "2024-02/28", "2024-o2-28", "2024-02-2"]
)
def test_a_day_is_written_in_one_way(text: str) -> None:
    """Ten characters, with its hyphens where they belong."""
    assert not is_day(text)


def test_a_year_after() -> None:
    """The same day; four digits also in early years; the 28th for a leap day alone."""
    days = ["2024-02-28", "2024-02-29", "0009-12-31", "2024-12-29"]

    assert ["2025-02-28", "2025-02-28", "0010-12-31", "2025-12-29"] == [
        consent_decision.a_year_after(day) for day in days
    ]


def test_today_is_that_of_utc(monkeypatch) -> None:
    """Wherever the user is."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    days = {time.strftime("%Y-%m-%d", time.gmtime()), consent_decision.today()}
    days.add(time.strftime("%Y-%m-%d", time.gmtime()))
    monkeypatch.undo()
    time.tzset()

    assert consent_decision.today() in days
    assert len(days) <= 2
    assert all(is_day(day) for day in days)


def test_the_fingerprint_of_a_scope() -> None:
    """Sixteen digits: other when anything wider or narrower may be recorded, else the same."""
    found = [consent_decision.scope_fingerprint(settings.current())]
    for given in (
        {"retention_days": 91},
        {"timestamp_resolution": "hour"},
        {"context": {"a": "flag"}},
        {"context": {"a": "measure"}},
        {"context": {"a": frozenset({"x"})}},
        {"context": {"a": frozenset({"x", "y"})}},
    ):
        with configure(**given):
            found.append(consent_decision.scope_fingerprint(settings.current()))
    with configure(agents=["somebody"]):
        found.append(consent_decision.scope_fingerprint(settings.current()))

    assert 7 == len(set(found))
    assert found[0] == found[-1]
    assert {16} == {len(one) for one in found}
    assert all(set(one) <= set("0123456789abcdef") for one in found)


@pytest.mark.parametrize("table", ["EVENTS", "FIELDS"])
def test_the_fingerprint_of_another_catalog(monkeypatch, table: str) -> None:
    """A version that records more events or fields, or other ones, has another fingerprint."""
    before = consent_decision.scope_fingerprint(settings.current())
    rows = dict(getattr(catalog, table))
    last = rows.popitem()[0]
    monkeypatch.setattr(catalog, table, rows)
    fewer = consent_decision.scope_fingerprint(settings.current())
    monkeypatch.setattr(catalog, table, {**rows, f"{last}s": next(iter(rows.values()))})

    assert 3 == len({before, fewer, consent_decision.scope_fingerprint(settings.current())})


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2024-02-28", "2024-02-29"),
        ("2024-02-29", "2024-03-01"),
        ("2023-02-28", "2023-03-01"),
        ("2024-01-09", "2024-01-10"),
        ("2024-10-31", "2024-11-01"),
        ("2024-11-30", "2024-12-01"),
        ("2024-12-31", "2025-01-01"),
    ],
)
def test_the_day_after(day: str, expected: str) -> None:
    """The next day, in the next month or year where there is none left in this one."""
    assert expected == consent_decision.day_after(day)


def test_the_value_of_a_key() -> None:
    """A record has a word for each key, and a missing key has an empty value."""
    assert ("all", "") == (
        consent_decision.value_of(line("place=all"), "place"),
        consent_decision.value_of(line("entry=all"), "place"),
    )


# -- the last entry of a history ---------------------------------------------------------------

OURS = "0123456789abcdef"
CODE = OURS + "8" * 48


def entry(said: str, code: str = "9" * 64) -> bytes:
    """A line of a history, with `said` in front of its code."""
    return f'{{"schema": 1, {said}, "sha256": "{code}"}}\n'.encode()


GRANT, DENIAL = entry('"decision": "yes"'), entry('"decision": "no"')
DECLINED = entry('"decision": "no", "declined": "0123456789abcdef"')
MINE = entry('"decision": "yes"', CODE)


def wrapped(inner: bytes, code: str = "9" * 64) -> bytes:
    """A line of an earlier version inside a line of this one."""
    return b'{"entry": %b, "previous": null, "sha256": "%b"}\n' % (inner.strip(), code.encode())


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (MINE, True),
        (MINE[:-1], True),
        (DENIAL + MINE, True),
        (MINE + GRANT + DECLINED + GRANT, True),
        (MINE + DENIAL, False),
        (MINE + GRANT + DENIAL + GRANT, False),
        (MINE + b"\n" + GRANT, False),
        (wrapped(GRANT, CODE), True),
        (wrapped(MINE), True),
        (wrapped(MINE) + wrapped(DECLINED), True),
        (wrapped(MINE) + wrapped(DENIAL), False),
        (wrapped(DENIAL, CODE), False),
        (wrapped(entry(f'"decision": "yes", "sha256": "{CODE}"')), False),
        (GRANT, False),
        (b"", False),
        # Its name elsewhere than where the code of an entry stands.
        (entry(f'"decision": "yes", "sha256": "{CODE}"'), False),
        (entry('"decision": "yes"', f"{CODE}0"), False),
        (entry('"decision": "yes"', "9" * 48 + OURS), False),
    ],
)
def test_the_last_grant_of_a_history(history: bytes, expected: bool) -> None:
    """A grant counts when its entry is there and nothing but grants and declined ones follow."""
    assert expected is consent_decision.is_last_grant(line(f"entry={OURS}"), history)


@pytest.mark.parametrize("name", ["", OURS[:15], OURS + "8", CODE])
def test_a_name_of_another_length(name: str) -> None:
    """Sixteen digits are the name of an entry: fewer would be that of many."""
    assert not consent_decision.is_last_grant(line(f"entry={name}"), MINE)
