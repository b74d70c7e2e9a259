"""Reports of the history: mismatches in words, damaged entries and expired grants."""

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
from tests.consent.history_helpers import audit, history_dir, history_file


def days_from(day: str, days: int) -> str:
    """Return the day that is `days` after `day`."""
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


# -- in words ------------------------------------------------------------------------------------


def test_mismatches_are_described(decided) -> None:
    """Each mismatch has a sentence with the scope and the command that shows details."""
    today = consent_decision.today()
    history, record = history_file(decided), decided.record
    home = decided.home
    record.write_bytes(b"v1 no 2024-02-28\n")
    mismatch = "the current record (no of 2024-02-28) is not the last decision of the history"
    assert consent_history.trouble(home) == [f"for this project, {mismatch}: see audit"]
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


def test_an_unreadable_history_is_reported(decided) -> None:
    """A report names the file that cannot be read and the reason, also for the directory key."""
    history_file(decided).chmod(0o644)
    assert consent_history.trouble(decided.home) == [
        f"{history_file(decided)} is open to others (mode 0644)"
    ]
    key = Path(decided.home.directory_key)
    key.write_bytes(b"short")
    assert consent_history.trouble(decided.home) == [
        f"{key} is not a key: reset --all-projects deletes it, with every decision"
    ]


def test_the_directories_of_decisions(undecided) -> None:
    """The list has the directory of all projects, and of the project after its first decision."""
    home = undecided.home
    assert consent_history.folders(home) == [("all projects", home.config)]
    undecided.grant()
    assert consent_history.folders(home) == [
        ("all projects", home.config),
        ("this project", history_dir(undecided)),
    ]


@pytest.mark.parametrize(
    ("days", "agrees"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_a_decision_at_midnight(decided, days: int, agrees: bool) -> None:
    """A record and its entry may differ by one day, because the write can span midnight."""
    today = consent_decision.today()
    text = decided.record.read_text().replace(f" {today} ", f" {days_from(today, days)} ", 1)
    decided.record.write_text(text)

    assert agrees == (consent_history.disagrees(history_dir(decided)) is None)


def test_an_expired_grant_matches_its_entry(decided) -> None:
    """If a grant expires, record and history still match."""
    text = decided.record.read_text()
    expires = text.partition(" expires=")[2].partition(" ")[0]
    decided.record.write_text(text.replace(expires, "2020-01-01"))

    assert not is_telemetry_enabled()
    assert consent_history.disagrees(history_dir(decided)) is None


def test_a_history_without_the_current_decision(decided) -> None:
    """If the last entry was deleted, the report names the decision of the record."""
    lines = history_file(decided).read_bytes().splitlines(keepends=True)
    history_file(decided).write_bytes(b"".join(lines[:-1]))

    assert consent_history.disagrees(history_dir(decided)) == (
        f"the current record (yes of {consent_decision.today()}) is not in the history"
    )


def test_the_files_that_were_set_aside(decided) -> None:
    """`set_aside()` returns the sorted paths of damaged files, and none without a directory."""
    for name in ("b.damaged-2", "a.damaged-1", "damaged"):
        Path(history_dir(decided), name).write_bytes(b"")

    assert consent_history.set_aside(history_dir(decided)) == [
        f"{history_dir(decided)}/a.damaged-1",
        f"{history_dir(decided)}/b.damaged-2",
    ]
    assert consent_history.set_aside(f"{history_dir(decided)}/nothing") == []


def test_a_history_without_a_final_line_end(decided) -> None:
    """The next decision adds the missing line end, and keeps every byte before it."""
    torn = history_file(decided).read_bytes()[:-1]
    history_file(decided).write_bytes(torn)
    assert 3 == len(consent_history.read(history_dir(decided)))
    with cache.override_runtime(decided.environ):
        disable_telemetry()

    assert history_file(decided).read_bytes().startswith(torn + b"\n{")
    assert [e["decision"] for e in consent_history.read(history_dir(decided))] == [
        "yes",
        "no",
        "yes",
        "no",
    ]
    assert consent_history.trouble(decided.home) == []


def test_invalid_entries_are_skipped(decided) -> None:
    """`read()` skips invalid entries, and `broken_at()` returns the number of the first."""
    whole = history_file(decided).read_bytes()
    history_file(decided).write_bytes(whole + b"[]\nnot json\n" + b"[" * 100_000 + b"\n")

    assert len(consent_history.read(history_dir(decided))) == 3
    assert consent_history.broken_at(history_dir(decided)) == 4
    with cache.override_runtime(decided.environ):
        disable_telemetry()
    last = consent_history.read(history_dir(decided))[-1]
    assert (last["decision"], last["withdrawn_at"]) == ("no", last["at"])


@pytest.mark.parametrize(
    ("damage", "backups"), [(0o400, 0), (0o644, 1), (0o622, 1), (b"nonsense", 1)], ids=ascii
)
def test_a_new_decision_sets_an_untrusted_record_aside(
    decided, damage: int | bytes, backups: int
) -> None:
    """A record that other users may read or that is damaged is renamed, not overwritten."""
    if isinstance(damage, bytes):
        decided.record.write_bytes(damage)
    else:
        decided.record.chmod(damage)
    with cache.override_runtime(decided.environ):
        enable_telemetry()

    assert backups == len(consent_history.set_aside(history_dir(decided)))
    assert consent_history.trouble(decided.home) == []


def test_a_second_grant_keeps_the_scope_of_the_first(undecided) -> None:
    """A second grant adds its context keys, or keeps the permission for any key."""
    for key in ("a", "b"):
        with configure(context={key: "flag"}):
            enable_telemetry()
    assert " context=a:flag,b:flag " in undecided.record.read_text()
    enable_telemetry(any_context=True)
    enable_telemetry()

    assert " context=* " in undecided.record.read_text()


def test_a_repeated_flag_with_a_damaged_history(decided) -> None:
    """If the history is damaged, a repeated grant renames it and starts a new one."""
    with cache.override_runtime(decided.environ):
        enable_telemetry(method="flag")
        history_file(decided).chmod(0o666)
        enable_telemetry(method="flag")

    assert 1 == len(consent_history.set_aside(history_dir(decided)))
    assert ["yes"] == [e["decision"] for e in consent_history.read(history_dir(decided))]
    assert consent_history.trouble(decided.home) == []


@pytest.mark.parametrize("between", ["no", "expired"])
def test_a_grant_without_a_current_grant_has_its_own_scope(undecided, between: str) -> None:
    """After a denial or an expired grant, a new grant does not include the former scope."""
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


def test_a_grant_expires_after_twelve_months(place) -> None:
    """A grant is valid on the last day of its twelve months, and expired on the day after."""
    data = place.record.read_bytes()
    day = data.decode().split()[2]
    last = date.fromisoformat(consent_decision.a_year_after(day))
    after = (last + timedelta(1)).isoformat()

    assert f" expires={last} " in data.decode()
    assert consent_decision.parse_record(data, last.isoformat()) == ("yes", day)
    assert consent_decision.parse_record(data, after) == ("expired", day)


def test_an_expired_grant_records_nothing(place) -> None:
    """An expired grant is neither a grant nor a denial, and `audit` exits with 0."""
    text = place.record.read_text()
    year = text.partition("expires=")[2][:4]
    place.record.write_text(text.replace(f"expires={year}", "expires=2020"))
    decision = policy.decide(place.home, place.environ)

    assert (decision.allowed, decision.vetoed) == (False, False)
    assert "has expired" in decision.rule.says
    assert track_role_event("role.selected", role="dev") is None
    assert audit(place).returncode == 0
