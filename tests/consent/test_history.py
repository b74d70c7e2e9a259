"""The history of decisions: the fields of an entry, and how changes are detected."""

import hashlib
import json
import os
import re
import stat

import pytest

from telemetry_kit import (
    configure,
    disable_telemetry,
    enable_telemetry,
    is_telemetry_enabled,
    settings,
)
from telemetry_kit.consent import cache, changes, notice, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import history as consent_history
from telemetry_kit.schema import catalog
from tests.consent.history_helpers import audit, history_dir, history_file

FIELDS = [
    *("schema", "id", "decision", "at", "method", "notice", "notice_sha256", "dictionary_sha256"),
    *("expires", "withdrawn_at", "previous_sha256", "sha256"),
]


# -- an entry ------------------------------------------------------------------------------------


def test_the_fields_of_an_entry(undecided) -> None:
    """An entry has the fields of the list above, in this order."""
    enable_telemetry(method="prompt")
    (entry,) = consent_history.read(history_dir(undecided))

    assert list(entry) == FIELDS
    assert (entry["schema"], entry["decision"], entry["method"]) == (1, "yes", "prompt")
    assert entry["at"] == "2024-02-28T10:20:30Z"
    assert entry["expires"] == "2025-02-28"
    assert entry["notice"] == catalog.NOTICE_VERSION
    assert entry["notice_sha256"] == notice.text_sha256(undecided.home)
    dictionary = hashlib.sha256(notice.dictionary().encode()).hexdigest()
    assert entry["dictionary_sha256"] == dictionary
    assert (entry["withdrawn_at"], entry["previous_sha256"]) == (None, None)
    assert re.fullmatch("[0-9a-f]{16}", entry["id"])


def test_a_grant_on_a_leap_day(undecided) -> None:
    """A grant of 29 February expires on 28 February of the next year."""
    undecided.now.advance(86_400)
    enable_telemetry()

    assert consent_history.read(history_dir(undecided))[0]["expires"] == "2025-02-28"


def test_a_denial_withdraws_a_grant(undecided) -> None:
    """A denial after a grant has the time of withdrawal. The history keeps the grant."""
    enable_telemetry()
    undecided.now.advance(3_600)
    disable_telemetry()
    disable_telemetry()
    first, second, third = consent_history.read(history_dir(undecided))

    assert (first["decision"], first["withdrawn_at"]) == ("yes", None)
    assert second["withdrawn_at"] == second["at"] == "2024-02-28T11:20:30Z"
    assert (second["expires"], third["withdrawn_at"]) == (None, None)


@pytest.mark.parametrize("method", ["prompt", "flag", "api"])
def test_the_method_of_a_decision(undecided, method: str) -> None:
    """An entry has the method by which the user decided."""
    enable_telemetry(method=method)

    assert consent_history.read(history_dir(undecided))[0]["method"] == method


def test_all_projects_have_their_own_history(undecided) -> None:
    """A decision for all projects has its own history and its own notice."""
    enable_telemetry(all_projects=True)
    disable_telemetry()
    everywhere, here = (
        consent_history.read(undecided.home.config),
        consent_history.read(history_dir(undecided)),
    )

    assert [e["decision"] for e in everywhere] == ["yes"]
    assert [e["decision"] for e in here] == ["no"]
    assert everywhere[0]["notice_sha256"] == notice.text_sha256(undecided.home, everywhere=True)
    assert here[0]["notice_sha256"] == notice.text_sha256(undecided.home)


def test_no_user_or_path_is_named(decided) -> None:
    """Record and history contain neither the name of the project nor a path of the user."""
    text = b"".join(p.read_bytes() for p in decided.user.rglob("telemetry*") if p.is_file())

    assert os.fsencode(decided.root.name) not in text
    assert os.fsencode(decided.user) not in text


def test_record_and_history_are_private(decided) -> None:
    """Record and history have mode 0600, and no other file is left."""
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in decided.record.parent.iterdir()}

    assert modes == {policy.RECORD: 0o600, consent_history.HISTORY: 0o600}


# -- changed bytes -------------------------------------------------------------------------------


def test_an_unchanged_history_is_valid(decided) -> None:
    """If no entry was changed, no error is found. Every entry has the hash of the one before."""
    lines = history_file(decided).read_bytes().splitlines()

    assert consent_history.broken_at(history_dir(decided)) is None
    assert consent_history.disagrees(history_dir(decided)) is None
    links = [json.loads(line) for line in lines]
    assert all(list(link) == ["entry", "previous", "sha256"] for link in links)
    assert [link["previous"] for link in links] == [None, *(link["sha256"] for link in links[:-1])]
    for link in links:
        code = link.pop("sha256")
        assert code == hashlib.sha256(json.dumps(link).encode()).hexdigest()


def test_any_changed_byte_is_found(decided) -> None:
    """If any byte is changed or deleted, the number of its entry is found."""
    data = history_file(decided).read_bytes()
    number, missed = 1, []
    for at, byte in enumerate(data):
        others = [bytes([byte ^ 1]), b""] + [b"\r", b" ", b"\n\n"] * (byte == ord("\n"))
        for other in others:
            history_file(decided).write_bytes(data[:at] + other + data[at + 1 :])
            found = consent_history.broken_at(history_dir(decided))
            # A second line end after an entry is an empty entry of its own.
            if found != number + (other == b"\n\n"):
                missed.append((at, other))
        number += byte == ord("\n")

    # A deleted line end at the end of the file changes no entry.
    assert missed == [(len(data) - 1, b"")]


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 1, 1, 2), (2,)])
def test_entries_moved_or_removed(decided, order: tuple[int, ...]) -> None:
    """If entries are deleted, moved or repeated, the hashes do not match."""
    lines = history_file(decided).read_bytes().splitlines(keepends=True)
    history_file(decided).write_bytes(b"".join(lines[at] for at in order))

    assert consent_history.broken_at(history_dir(decided)) is not None


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_truncated_history(decided, kept: int) -> None:
    """If entries at the end are deleted, the history does not end with the current record.

    This is found even if the last entry has the same decision and day as the record.
    """
    with cache.override_runtime(decided.environ):
        disable_telemetry()
    lines = history_file(decided).read_bytes().splitlines(keepends=True)
    history_file(decided).write_bytes(b"".join(lines[:kept]))

    assert consent_history.broken_at(history_dir(decided)) is None
    assert consent_history.disagrees(history_dir(decided)) is not None


def test_a_record_names_its_entry(decided) -> None:
    """`entry=` is the beginning of the last entry's SHA-256, so a user can compare the two."""
    last = consent_history.read(history_dir(decided))[-1]

    assert f" entry={last['sha256'][:16]}\n" in decided.record.read_text()


def test_a_restored_record_is_found(decided) -> None:
    """If a user restores an earlier record of the same decision and day, this is found."""
    earlier = decided.record.read_bytes()
    with cache.override_runtime(decided.environ):
        enable_telemetry()
    decided.record.write_bytes(earlier)

    assert "is not the last decision" in (consent_history.disagrees(history_dir(decided)) or "")


def test_a_grant_without_an_entry(decided) -> None:
    """A grant that names no entry of the history is not valid, and the history reports it."""
    text = decided.record.read_text()
    decided.record.write_text(text.partition(" entry=")[0] + "\n")

    assert not is_telemetry_enabled()
    assert "names no entry" in str(consent_history.disagrees(history_dir(decided)))
    with cache.override_runtime(decided.environ):
        enable_telemetry()
    assert is_telemetry_enabled()
    assert consent_history.trouble(decided.home) == []


def test_a_repeated_flag_repairs_a_mismatch(decided) -> None:
    """A repeated grant by flag adds an entry only if record and history differ."""
    with cache.override_runtime(decided.environ):
        enable_telemetry(method="flag")
        entries = len(consent_history.read(history_dir(decided)))
        enable_telemetry(method="flag")
        assert len(consent_history.read(history_dir(decided))) == entries
        history_file(decided).write_bytes(
            history_file(decided).read_bytes().splitlines(keepends=True)[0]
        )
        enable_telemetry(method="flag")

    assert consent_history.trouble(decided.home) == []


def test_a_record_edited_by_hand(decided) -> None:
    """If a record was edited by hand or deleted, the history reports the mismatch."""
    decided.record.write_text(decided.record.read_text().replace(" yes ", " no "))

    found = consent_history.disagrees(history_dir(decided)) or ""
    assert "the current record (no of " in found
    decided.record.unlink()
    assert consent_history.disagrees(history_dir(decided)) == (
        "the record of the last decision is missing"
    )


def test_audit_lists_decisions(decided) -> None:
    """`audit` lists each decision with its time and method, and exits with 0."""
    done = audit(decided)
    rows = done.stdout.splitlines()

    assert (done.returncode, done.stderr, len(rows)) == (0, "", 3)
    assert [row.split()[1] for row in rows] == ["yes", "no", "yes"]
    assert [row.partition("by ")[2].split(",")[0] for row in rows] == ["api", "flag", "prompt"]
    found = json.loads(audit(decided, "--json").stdout)
    assert [e["decision"] for e in found["this project"]] == ["yes", "no", "yes"]


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"method": "', b'"method": "x'), (b'"decision": "', b'"decisiom": "'), (b"{", b"[")],
    ids=["value", "key", "shape"],
)
def test_audit_names_a_changed_entry(decided, number: int, old: bytes, new: bytes) -> None:
    """If an entry was changed, `audit` exits with 1 and names it, even if it is not JSON."""
    lines = history_file(decided).read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(old, new)
    history_file(decided).write_bytes(b"".join(lines))
    done = audit(decided)

    assert done.returncode == 1
    assert f"entry {number} for this project is not as it was written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "data",
    [b"null\n", b"[]\n", b"{}\n", b"[" * 5_000 + b"\n", b"\xff\xfe\n", b"\n\n", b"1e999\n"],
    ids=lambda data: repr(data[:10]),
)
def test_audit_of_an_invalid_history(decided, data: bytes) -> None:
    """If the history is invalid, `audit` reports it in one sentence."""
    history_file(decided).write_bytes(data)
    done = audit(decided)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "entry 1 for this project" in done.stderr


def test_audit_before_any_decision(undecided) -> None:
    """Without a decision, `audit` exits with 0 and creates no file."""
    done = audit(undecided)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No decision yet.\n")
    assert undecided.tree() == []


# -- kept content --------------------------------------------------------------------------------


def test_entries_of_a_later_version_are_kept(decided) -> None:
    """A new decision keeps every byte of an entry that a later version wrote."""
    body = json.dumps({"schema": 9, "reason": "é", "previous_sha256": "?"})
    later = history_file(decided).read_bytes() + body.encode() + b"\n"
    history_file(decided).write_bytes(later)
    disable_telemetry()

    assert history_file(decided).read_bytes().startswith(later)


def test_unknown_words_of_a_record_are_kept(decided) -> None:
    """New decisions keep the words of a record that this version does not know."""
    decided.record.write_text(decided.record.read_text().rstrip("\n") + " region=eu colour=blue\n")
    for decide in (disable_telemetry, enable_telemetry, disable_telemetry):
        decide()
        assert decided.record.read_text().rstrip().endswith("region=eu colour=blue")


def test_a_record_that_cannot_be_read_is_kept(decided) -> None:
    """A damaged record is renamed, since it may be the only trace of a denial."""
    decided.record.write_bytes(b"v7 no 2031-01-01\n")
    enable_telemetry()
    (kept,) = decided.record.parent.glob(f"{policy.RECORD}.damaged-*")

    assert kept.read_bytes() == b"v7 no 2031-01-01\n"
    assert "Moved aside" in audit(decided).stderr


@pytest.mark.parametrize("damage", ["open", "link", "directory", "long"])
def test_a_damaged_history_does_not_prevent_a_denial(decided, damage: str) -> None:
    """If the history cannot be trusted, a denial is still saved, and the old file is renamed."""
    path = history_file(decided)
    if damage == "open":
        path.chmod(0o666)
    elif damage == "long":
        path.write_bytes(b" " * (consent_history.MAX_HISTORY_BYTES + 1))
    else:
        path.unlink()
        _ = path.mkdir() if damage == "directory" else path.symlink_to("/etc/hosts")
    with cache.override_runtime(decided.environ):
        disable_telemetry()

    assert not is_telemetry_enabled()
    assert [e["decision"] for e in consent_history.read(history_dir(decided))] == ["no"]
    assert len(consent_history.set_aside(history_dir(decided))) == 1
    assert audit(decided).returncode == 0


@pytest.fixture
def earlier(decided):
    """The same decisions in the format of earlier versions."""
    made: list[bytes] = []
    for line in history_file(decided).read_bytes().splitlines():
        before = hashlib.sha256(made[-1]).hexdigest() if made else None
        body = json.dumps({**json.loads(line)["entry"], "previous_sha256": before})
        code = hashlib.sha256(body.encode()).hexdigest()
        made.append(f'{body[:-1]}, "sha256": "{code}"}}'.encode())
    history_file(decided).write_bytes(b"".join(line + b"\n" for line in made))
    text = decided.record.read_text().partition(" entry=")[0]
    decided.record.write_text(f"{text} entry={code[:16]}\n")
    return decided


# -- a history of an earlier version -------------------------------------------------------------


def test_an_earlier_history_is_valid(earlier) -> None:
    """A grant in an earlier history is valid, no error is found, and the file does not change."""
    before = history_file(earlier).read_bytes()

    assert is_telemetry_enabled()
    assert consent_history.trouble(earlier.home) == []
    done = audit(earlier, "--json")
    entries = json.loads(done.stdout)["this project"]
    assert [FIELDS] * 3 == [list(entry) for entry in entries]
    assert entries[0]["previous_sha256"] is None
    assert (done.returncode, done.stderr) == (0, "")
    assert before == history_file(earlier).read_bytes()


def test_the_next_decision_rewrites_an_earlier_history(earlier) -> None:
    """The rewritten history contains all entries, and a grant with a former entry is valid."""
    before, record = history_file(earlier).read_bytes(), earlier.record.read_bytes()
    shown = consent_history.read(history_dir(earlier))
    with cache.override_runtime(earlier.environ):
        enable_telemetry()
    links = [json.loads(line) for line in history_file(earlier).read_bytes().splitlines()]

    assert before == b"".join(json.dumps(link["entry"]).encode() + b"\n" for link in links[:-1])
    assert shown == consent_history.read(history_dir(earlier))[:-1]
    assert is_telemetry_enabled()
    assert consent_history.trouble(earlier.home) == []
    # The state after a crash between the write of the history and the write of the record.
    earlier.record.write_bytes(record)
    assert is_telemetry_enabled()
    with cache.override_runtime(earlier.environ):
        disable_telemetry()
    earlier.record.write_bytes(record)
    assert not is_telemetry_enabled()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_rewrite_keeps_damaged_entries(earlier, number: int) -> None:
    """A damaged entry is found before and after the history is rewritten."""
    lines = history_file(earlier).read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"method": "', b'"method": "x')
    history_file(earlier).write_bytes(b"".join(lines))

    assert consent_history.broken_at(history_dir(earlier)) == number
    with cache.override_runtime(earlier.environ):
        disable_telemetry()
    assert consent_history.broken_at(history_dir(earlier)) == number
    assert lines[number - 1] in history_file(earlier).read_bytes()


@pytest.fixture
def extension(place):
    """A project with a grant, and settings that keep events for longer than the grant allows."""
    with cache.override_runtime(place.environ), configure(retention_days=365):
        yield place


def current_decision(place) -> policy.Decision:
    """Return the current decision for the project."""
    return policy.decide(place.home, place.environ)


# -- a denied scope extension --------------------------------------------------------------------


def test_a_declined_extension_has_an_entry(extension) -> None:
    """The entry of a declined extension has method, notice and scope. The grant remains."""
    decision = current_decision(extension)
    changes.answer_extension(extension.home, decision, is_granted=False)
    grant, denial = consent_history.read(history_dir(extension))
    shown = notice.difference("flowspec", ["stored for 365 days instead of 90"])

    assert list(denial) == [*FIELDS[:10], "declined", *FIELDS[10:]]
    assert (denial["decision"], denial["method"], denial["notice"]) == ("no", "prompt", 1)
    assert denial["declined"] == consent_decision.scope_fingerprint(settings.current())
    assert denial["notice_sha256"] == hashlib.sha256("\n".join(shown).encode()).hexdigest()
    assert (denial["withdrawn_at"], denial["expires"]) == (None, None)
    assert (current_decision(extension).allowed, current_decision(extension).grant.keep_days) == (
        True,
        90,
    )
    assert consent_history.trouble(extension.home) == []
    assert grant["expires"] in extension.record.read_text()


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_record_of_a_declined_extension(extension, mode: int) -> None:
    """After a declined extension, the record names its entry, and the entry has the time."""
    extension.record.chmod(mode)
    with cache.override_runtime(extension.environ, extension.clock, extension.now):
        changes.answer_extension(extension.home, current_decision(extension), is_granted=False)
    entry = consent_history.read(history_dir(extension))[-1]

    assert consent_decision.value_of(extension.record.read_text(), "entry") == entry["sha256"][:16]
    assert entry["at"] == "2024-02-28T10:20:30Z"


def test_audit_of_a_declined_extension(extension) -> None:
    """`audit` lists a declined extension as such, and exits with 0."""
    changes.answer_extension(extension.home, current_decision(extension), is_granted=False)
    done = audit(extension)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("), to an extended scope; the consent remains")


def test_decisions_after_a_declined_extension(extension) -> None:
    """A later denial withdraws the grant, and a later grant covers the extended scope."""
    changes.answer_extension(extension.home, current_decision(extension), is_granted=False)
    disable_telemetry()
    enable_telemetry()
    *_, denial, _ = entries = consent_history.read(history_dir(extension))

    assert [e["decision"] for e in entries] == ["yes", "no", "no", "yes"]
    assert denial["withdrawn_at"] == denial["at"]
    assert current_decision(extension).grant.scope_extension(settings.current()) == []
    assert consent_history.trouble(extension.home) == []


def test_the_entry_of_a_granted_extension(extension) -> None:
    """A granted extension has the hash of the displayed text, which lists only the difference."""
    changes.answer_extension(extension.home, current_decision(extension), is_granted=True)
    *_, last = consent_history.read(history_dir(extension))
    shown = notice.difference("flowspec", ["stored for 365 days instead of 90"])

    assert (last["decision"], last["method"]) == ("yes", "prompt")
    assert last["notice_sha256"] == notice.sha256_of(shown)
    assert consent_history.trouble(extension.home) == []


@pytest.mark.parametrize("is_granted", [False, True])
@pytest.mark.parametrize("meanwhile", ["gone", "reset", "no", "another yes", "damaged"])
def test_a_decision_during_the_prompt(extension, is_granted: bool, meanwhile: str) -> None:
    """If another decision was made during the prompt, the answer raises and changes nothing."""
    decision = current_decision(extension)
    if meanwhile == "gone":
        extension.record.unlink()
    elif meanwhile == "reset":
        changes.reset(extension.home)
    elif meanwhile == "no":
        disable_telemetry()
    elif meanwhile == "another yes":
        enable_telemetry()
    else:
        extension.record.write_bytes(b"nonsense")
    before = extension.tree(), current_decision(extension).allowed
    with pytest.raises(changes.ConsentError, match=r"^another decision was made meanwhile$"):
        changes.answer_extension(extension.home, decision, is_granted=is_granted)

    assert (extension.tree(), current_decision(extension).allowed) == before


def test_a_record_deleted_during_a_denial(extension, monkeypatch) -> None:
    """If a record is deleted before the denial's record is written, it is not restored."""
    decision, rename = current_decision(extension), os.rename

    def rename_and_delete(old: str, new: str, **folders: int) -> None:
        rename(old, new, **folders)
        extension.record.unlink(missing_ok=True)

    monkeypatch.setattr(os, "rename", rename_and_delete)
    with pytest.raises(changes.ConsentError, match="meanwhile"):
        changes.answer_extension(extension.home, decision, is_granted=False)

    assert not extension.record.exists()
