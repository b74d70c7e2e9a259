"""What the history reports: decisions in words, declined extensions, expired grants."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from telemetry_kit import (
    configure,
    disable_telemetry,
    enable_telemetry,
    is_telemetry_enabled,
    track_role_event,
)
from telemetry_kit.consent import cache, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import history as consent_history
from tests.consent.history_helpers import audit, file, folder


@pytest.fixture
def decided(place):
    """A project with a yes, a no and a yes, all by the real clock."""
    with cache.override_runtime(place.environ):
        disable_telemetry(method="flag")
        enable_telemetry(method="prompt")
    return place


def days_from(day: str, days: int) -> str:
    """So many days after a day."""
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


# -- in words ------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_in_words(decided) -> None:
    """For the project and for all projects, each with where to look closer."""
    today = consent_decision.today()
    history, record = file(decided), decided.record
    home = decided.home
    record.write_bytes(b"v1 no 2024-02-28\n")
    told = "the current record (no of 2024-02-28) is not the last decision of the history"
    assert consent_history.trouble(home) == [f"for this project, {told}: see audit"]
    record.unlink()
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(lines[0] + lines[2])
    Path(home.config, policy.RECORD).write_text(f"v1 no {today}\n")
    Path(home.config, policy.RECORD).chmod(0o600)
    assert consent_history.trouble(home) == [
        f"for all projects, the current record (no of {today}) has no history: see audit",
        "decision 2 for this project is not as it was written: see audit",
        "for this project, the record of the last decision is missing: see audit",
    ]


def test_a_history_that_cannot_be_read_is_told(decided) -> None:
    """The file and the reason; so is a place key by which no history can be found."""
    file(decided).chmod(0o644)
    assert consent_history.trouble(decided.home) == [
        f"{file(decided)} is open to others (mode 0644)"
    ]
    key = Path(decided.home.directory_key)
    key.write_bytes(b"short")
    assert consent_history.trouble(decided.home) == [
        f"{key} is not a key: reset --all-projects deletes it, with every decision"
    ]


def test_the_folders_of_decisions(undecided) -> None:
    """That of all projects, and that of the project once something was decided in it."""
    home = undecided.home
    assert consent_history.folders(home) == [("all projects", home.config)]
    undecided.grant()
    assert consent_history.folders(home) == [
        ("all projects", home.config),
        ("this project", folder(undecided)),
    ]


@pytest.mark.parametrize(
    ("days", "agrees"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_a_decision_at_midnight(decided, days: int, agrees: bool) -> None:
    """The record may carry the day before or after, and no other."""
    today = consent_decision.today()
    text = decided.record.read_text().replace(f" {today} ", f" {days_from(today, days)} ", 1)
    decided.record.write_text(text)

    assert agrees == (consent_history.disagrees(folder(decided)) is None)


def test_an_expired_yes_is_the_yes_it_was(decided) -> None:
    """Time passing is no difference between record and history."""
    text = decided.record.read_text()
    expires = text.partition(" expires=")[2].partition(" ")[0]
    decided.record.write_text(text.replace(expires, "2020-01-01"))

    assert not is_telemetry_enabled()
    assert consent_history.disagrees(folder(decided)) is None


def test_a_history_without_the_decision_in_force(decided) -> None:
    """An entry that was taken out is missed by its name."""
    lines = file(decided).read_bytes().splitlines(keepends=True)
    file(decided).write_bytes(b"".join(lines[:-1]))

    assert consent_history.disagrees(folder(decided)) == (
        f"the current record (yes of {consent_decision.today()}) is not in the history"
    )


def test_what_was_set_aside(decided) -> None:
    """Full paths, sorted; nothing else of the folder, and nothing where there is none."""
    for name in ("b.damaged-2", "a.damaged-1", "damaged"):
        Path(folder(decided), name).write_bytes(b"")

    assert consent_history.set_aside(folder(decided)) == [
        f"{folder(decided)}/a.damaged-1",
        f"{folder(decided)}/b.damaged-2",
    ]
    assert consent_history.set_aside(f"{folder(decided)}/nothing") == []


def test_a_history_whose_last_line_has_no_end(decided) -> None:
    """It gets one before the next entry; what is there stays to the byte."""
    torn = file(decided).read_bytes()[:-1]
    file(decided).write_bytes(torn)
    assert 3 == len(consent_history.read(folder(decided)))
    with cache.override_runtime(decided.environ):
        disable_telemetry()

    assert file(decided).read_bytes().startswith(torn + b"\n{")
    assert [e["decision"] for e in consent_history.read(folder(decided))] == [
        "yes",
        "no",
        "yes",
        "no",
    ]
    assert consent_history.trouble(decided.home) == []


def test_entries_that_cannot_be_read_are_left_out(decided) -> None:
    """They are no entry, and the number of the first of them is told."""
    whole = file(decided).read_bytes()
    file(decided).write_bytes(whole + b"[]\nnot json\n" + b"[" * 100_000 + b"\n")

    assert len(consent_history.read(folder(decided))) == 3
    assert consent_history.broken_at(folder(decided)) == 4
    with cache.override_runtime(decided.environ):
        disable_telemetry()
    last = consent_history.read(folder(decided))[-1]
    assert (last["decision"], last["withdrawn_at"]) == ("no", last["at"])


@pytest.mark.parametrize(
    ("damage", "kept"), [(0o400, 0), (0o644, 1), (0o622, 1), (b"nonsense", 1)], ids=ascii
)
def test_what_a_new_decision_does_with_a_record(decided, damage: int | bytes, kept: int) -> None:
    """One that cannot be trusted is kept aside, also one that others may only read."""
    if isinstance(damage, bytes):
        decided.record.write_bytes(damage)
    else:
        decided.record.chmod(damage)
    with cache.override_runtime(decided.environ):
        enable_telemetry()

    assert kept == len(consent_history.set_aside(folder(decided)))
    assert consent_history.trouble(decided.home) == []


def test_a_second_yes_keeps_what_the_first_covers(undecided) -> None:
    """Context keys add up, and whoever accepted any keeps that."""
    for key in ("a", "b"):
        with configure(context={key: "flag"}):
            enable_telemetry()
    assert " context=a:flag,b:flag " in undecided.record.read_text()
    enable_telemetry(any_context=True)
    enable_telemetry()

    assert " context=* " in undecided.record.read_text()


def test_a_flag_said_again_beside_a_damaged_history(decided) -> None:
    """It is a decision then: the history begins anew, and the damaged one is kept."""
    with cache.override_runtime(decided.environ):
        enable_telemetry(method="flag")
        file(decided).chmod(0o666)
        enable_telemetry(method="flag")

    assert 1 == len(consent_history.set_aside(folder(decided)))
    assert ["yes"] == [e["decision"] for e in consent_history.read(folder(decided))]
    assert consent_history.trouble(decided.home) == []


@pytest.mark.parametrize("between", ["no", "expired"])
def test_a_yes_that_follows_no_yes_covers_itself_alone(undecided, between: str) -> None:
    """What was accepted before a no, or a year ago, is not accepted by a yes to something else."""
    with configure(context={"a": "flag"}, retention_days=365):
        enable_telemetry()
        if between == "no":
            disable_telemetry()
    if between == "expired":
        text = undecided.record.read_text()
        expires = text.partition(" expires=")[2].partition(" ")[0]
        undecided.record.write_text(text.replace(expires, "2020-01-01"))
    with configure(context={"b": "flag"}):
        enable_telemetry()

    assert " keep=90 context=b:flag " in undecided.record.read_text()


# -- twelve months -------------------------------------------------------------------------------


def test_twelve_months(place) -> None:
    """A yes holds on the last day of its twelve months and no longer on the day after."""
    data = place.record.read_bytes()
    day = data.decode().split()[2]
    last = date.fromisoformat(consent_decision.a_year_after(day))
    after = (last + timedelta(1)).isoformat()

    assert f" expires={last} " in data.decode()
    assert consent_decision.parse_record(data, last.isoformat()) == ("yes", day)
    assert consent_decision.parse_record(data, after) == ("expired", day)


def test_an_expired_yes_records_nothing(place) -> None:
    """Its twelve months over, a yes is off, undecided, and its history is still whole."""
    text = place.record.read_text()
    year = text.partition("expires=")[2][:4]
    place.record.write_text(text.replace(f"expires={year}", "expires=2020"))
    decision = policy.decide(place.home, place.environ)

    assert (decision.allowed, decision.vetoed) == (False, False)
    assert "has expired" in decision.rule.says
    assert track_role_event("role.selected", role="dev") is None
    assert audit(place).returncode == 0
