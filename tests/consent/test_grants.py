"""The scope of a grant: what it covers, and how a scope extension is described."""

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
    """Return a valid grant with additional words."""
    least = f"v1 yes 2024-02-28 notice=1 scope={SCOPE} expires=2025-02-28"
    return " ".join([least, *words]) + "\n"


# -- scope extensions --------------------------------------------------------------------------


def test_without_a_notice_everything_is_new() -> None:
    """Without an earlier notice, the scope extension lists all that is recorded, in order."""
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


def test_new_values_are_listed(monkeypatch) -> None:
    """The scope extension lists the values that later notices added to a field, sorted."""
    row = catalog.FIELDS["source"]
    first, second = sorted(row.domain)[:2]
    later = {second: NOW + 1, first: NOW + 1}
    monkeypatch.setitem(catalog.FIELDS, "source", row)
    extended = type(row)(row.name, row.kind, row.meaning, row.domain, later=later)
    rows = tuple(extended if f.name == "source" else f for f in catalog._FIELDS)
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
def test_only_an_extension_is_listed(resolution: str, days: int, expected: list[str]) -> None:
    """The scope extension lists only what exceeds the grant."""
    with configure(timestamp_resolution=resolution, retention_days=days):
        assert expected == Grant(NOW).scope_extension(settings.current())


def test_any_context_covers_every_key() -> None:
    """If the grant covers any context key, the scope extension lists none."""
    with configure(context=CONTEXT):
        now = settings.current()

        assert Grant(NOW, context=None).scope_extension(now) == []
        assert Grant(NOW, context=WORDS).scope_extension(now) == []
        assert len(Grant(NOW).scope_extension(now)) == 4


def test_the_words_of_a_context() -> None:
    """A context has one word for each key or token. Separators in a token are escaped."""
    assert consent_decision.context_words(CONTEXT) == WORDS


def test_the_covered_context() -> None:
    """A grant covers the keys with the class that it names, and the tokens that it names."""
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
def test_the_coarser_resolution_applies(accepted: str, wanted: str, found: str) -> None:
    """The resolution is never finer than the granted one or the configured one."""
    assert found == Grant(NOW, accepted).resolution(wanted)


def test_a_declined_scope_is_recognized() -> None:
    """`has_declined()` is true only for a scope that the user has declined."""
    now = consent_decision.scope_fingerprint(settings.current())

    assert Grant(NOW, declined=("0" * 16, now)).has_declined(settings.current())
    assert not Grant(NOW, declined=("0" * 16,)).has_declined(settings.current())
    assert not Grant(NOW).has_declined(settings.current())


def test_a_record_names_the_last_eight_declined_scopes() -> None:
    """A record names at most eight declined scopes, each once, the newest last."""
    scopes = [str(number) * 16 for number in range(10)]
    found = Grant(NOW, declined=tuple(scopes[:3])).with_declined(scopes[1])
    many = Grant(NOW, declined=tuple(scopes[:9])).with_declined(scopes[9])

    assert ",".join([scopes[0], scopes[2], scopes[1]]) == found
    assert ",".join(scopes[2:]) == many


# -- the record --------------------------------------------------------------------------------


def test_a_record_without_optional_words() -> None:
    """If optional words are missing, the record grants the smallest scope."""
    found = consent_decision.parse_grant(line())

    assert (1, "day", 90, frozenset(), ()) == (
        found.notice,
        found.time,
        found.keep_days,
        found.context,
        found.declined,
    )


def test_a_record_with_optional_words() -> None:
    """The grant has the value of each optional word, and ignores unknown words."""
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
def test_invalid_words(words: str, state: str) -> None:
    """A record is corrupt if a number has over nine digits, or a fingerprint not sixteen."""
    key = words.partition("=")[0]
    others = " ".join(word for word in line().split() if not word.startswith(f"{key}="))

    assert state == consent_decision.parse_record(f"{others} {words}\n".encode(), "2024-03-01")[0]


def test_a_grant_is_valid_through_its_last_day() -> None:
    """A grant is valid on its last day, and has expired on the day after."""
    data = line().replace("2025-02-28", "2024-03-01").encode()

    assert ("yes", "2024-02-28") == consent_decision.parse_record(data, "2024-03-01")
    assert ("expired", "2024-02-28") == consent_decision.parse_record(data, "2024-03-02")


@pytest.mark.parametrize("decision", ["yes", "no"])
def test_a_second_grant_extends_the_first(decision: str) -> None:
    """A second grant covers the scopes of both, so two programs do not ask in turns.

    A denial has only the scope of its own settings.
    """
    before = Grant(1, "minute", 120, frozenset({"a:flag"}))
    with configure(context={"b": "flag"}, timestamp_resolution="hour", retention_days=30):
        now = settings.current()
        data = consent_decision.render_record(
            decision, "2024-02-28", now, more="x=1", before=before
        )
    is_grant = decision == "yes"

    assert data == (
        f"v1 {decision} 2024-02-28 notice={NOW} scope={consent_decision.scope_fingerprint(now)} "
        f"expires=2025-02-28 time={'minute' if is_grant else 'hour'} "
        f"keep={120 if is_grant else 30} context={'a:flag,b:flag' if is_grant else 'b:flag'} x=1\n"
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
def test_a_later_grant_keeps_any_context(
    any_context: bool, before: Grant | None, expected: str
) -> None:
    """If a grant covers any context, a later grant covers any context too."""
    with configure(context={"b": "flag"}):
        data = consent_decision.render_record(
            "yes", "2024-02-28", settings.current(), any_context=any_context, before=before
        )

    assert expected == data.decode().split()[-1]


def test_the_shortest_record() -> None:
    """A record without context has the finer resolution and the longer time of two grants."""
    with configure(timestamp_resolution="minute", retention_days=200):
        data = consent_decision.render_record(
            "yes", "2024-02-28", settings.current(), before=Grant(1)
        )

    assert data.decode().split()[-3:] == ["time=minute", "keep=200", "context="]


def test_words_of_a_later_version() -> None:
    """`unknown_words()` returns the words that this version does not know."""
    known = [f"{key}=1" for key in consent_decision._KEYS]

    assert "entries=2 x=1 bare" == consent_decision.unknown_words(
        line(*known, "entries=2", "x=1", "bare")
    )
    assert "" == consent_decision.unknown_words(line(*known))


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
def test_words_that_are_replaced(words: dict[str, str], expected: str) -> None:
    """New words replace those of the same keys. Words of a later version remain at the end."""
    before = line("keep=7", "declined=cc", "entry=aa", "later=1", "x=y=z")
    found = consent_decision.stamped(before, **words).decode("ascii")

    assert line(*expected.split()) == found
    assert words.get("entry", "aa") == consent_decision.value_of(found, "entry")


@pytest.mark.parametrize(
    "text", ["2024/02/28", "20240-2-28", "2024-02/28", "2024-o2-28", "2024-02-2"]
)
def test_a_day_has_one_format(text: str) -> None:
    """A day has ten characters, with hyphens after year and month."""
    assert not is_day(text)


def test_a_year_after() -> None:
    """A year later is the same day, and the 28th for a leap day. Years have four digits."""
    days = ["2024-02-28", "2024-02-29", "0009-12-31", "2024-12-29"]

    assert ["2025-02-28", "2025-02-28", "0010-12-31", "2025-12-29"] == [
        consent_decision.a_year_after(day) for day in days
    ]


def test_today_is_in_utc(monkeypatch) -> None:
    """`today()` returns the day in UTC, whatever the user's time zone is."""
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
    """A fingerprint has sixteen hex digits, and changes only with the scope."""
    found = [consent_decision.scope_fingerprint(settings.current())]
    for options in (
        {"retention_days": 91},
        {"timestamp_resolution": "hour"},
        {"context": {"a": "flag"}},
        {"context": {"a": "measure"}},
        {"context": {"a": frozenset({"x"})}},
        {"context": {"a": frozenset({"x", "y"})}},
    ):
        with configure(**options):
            found.append(consent_decision.scope_fingerprint(settings.current()))
    with configure(agents=["somebody"]):
        found.append(consent_decision.scope_fingerprint(settings.current()))

    assert 7 == len(set(found))
    assert found[0] == found[-1]
    assert {16} == {len(one) for one in found}
    assert all(set(one) <= set("0123456789abcdef") for one in found)


@pytest.mark.parametrize("table", ["EVENTS", "FIELDS"])
def test_the_fingerprint_of_another_catalog(monkeypatch, table: str) -> None:
    """If a version records other events or fields, the fingerprint is different."""
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
    """The day after the last day of a month is in the next month or year."""
    assert expected == consent_decision.day_after(day)


def test_the_value_of_a_key() -> None:
    """`value_of()` returns the value of a key, or an empty text if the key is missing."""
    assert ("all", "") == (
        consent_decision.value_of(line("place=all"), "place"),
        consent_decision.value_of(line("entry=all"), "place"),
    )


# -- the last entry of a history ---------------------------------------------------------------

ENTRY = "0123456789abcdef"
HASH = ENTRY + "8" * 48


def entry(fields: str, code: str = "9" * 64) -> bytes:
    """Return a line of a history with `fields` and its hash."""
    return f'{{"schema": 1, {fields}, "sha256": "{code}"}}\n'.encode()


GRANT, DENIAL = entry('"decision": "yes"'), entry('"decision": "no"')
DECLINED = entry('"decision": "no", "declined": "0123456789abcdef"')
NAMED_GRANT = entry('"decision": "yes"', HASH)


def wrapped(inner: bytes, code: str = "9" * 64) -> bytes:
    """Return a line of this version that contains a line of an earlier version."""
    return b'{"entry": %b, "previous": null, "sha256": "%b"}\n' % (inner.strip(), code.encode())


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (NAMED_GRANT, True),
        (NAMED_GRANT[:-1], True),
        (DENIAL + NAMED_GRANT, True),
        (NAMED_GRANT + GRANT + DECLINED + GRANT, True),
        (NAMED_GRANT + DENIAL, False),
        (NAMED_GRANT + GRANT + DENIAL + GRANT, False),
        (NAMED_GRANT + b"\n" + GRANT, False),
        (wrapped(GRANT, HASH), True),
        (wrapped(NAMED_GRANT), True),
        (wrapped(NAMED_GRANT) + wrapped(DECLINED), True),
        (wrapped(NAMED_GRANT) + wrapped(DENIAL), False),
        (wrapped(DENIAL, HASH), False),
        (wrapped(entry(f'"decision": "yes", "sha256": "{HASH}"')), False),
        (GRANT, False),
        (b"", False),
        # The digits of `entry=` are not at the beginning of an entry's hash.
        (entry(f'"decision": "yes", "sha256": "{HASH}"'), False),
        (entry('"decision": "yes"', f"{HASH}0"), False),
        (entry('"decision": "yes"', "9" * 48 + ENTRY), False),
    ],
)
def test_the_last_grant_of_a_history(history: bytes, expected: bool) -> None:
    """A grant is the last if only grants and declined extensions follow its entry."""
    assert expected is consent_decision.is_last_grant(line(f"entry={ENTRY}"), history)


@pytest.mark.parametrize("name", ["", ENTRY[:15], ENTRY + "8", HASH])
def test_an_entry_name_has_sixteen_digits(name: str) -> None:
    """If `entry=` has more or fewer than sixteen digits, it identifies no entry."""
    assert not consent_decision.is_last_grant(line(f"entry={name}"), NAMED_GRANT)
