"""The history of decisions: what an entry holds, and that each changed byte is found."""

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
from tests.consent.history_helpers import audit, file, folder

FIELDS = [
    *("schema", "id", "decision", "at", "method", "notice", "notice_sha256", "dictionary_sha256"),
    *("expires", "withdrawn_at", "previous_sha256", "sha256"),
]


@pytest.fixture
def decided(place):
    """A project with a yes, a no and a yes, all by the real clock."""
    with cache.override_runtime(place.environ):
        disable_telemetry(method="flag")
        enable_telemetry(method="prompt")
    return place


# -- an entry ------------------------------------------------------------------------------------


def test_fields(undecided) -> None:
    """An entry has what DESIGN lists, in this order, and nothing else."""
    enable_telemetry(method="prompt")
    (entry,) = consent_history.read(folder(undecided))

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


def test_a_leap_day(undecided) -> None:
    """Twelve months after 29 February is the 28th."""
    undecided.now.advance(86_400)
    enable_telemetry()

    assert consent_history.read(folder(undecided))[0]["expires"] == "2025-02-28"


def test_a_withdrawal(undecided) -> None:
    """A no after a yes says when the yes was withdrawn; the yes stays in the history."""
    enable_telemetry()
    undecided.now.advance(3_600)
    disable_telemetry()
    disable_telemetry()
    first, second, third = consent_history.read(folder(undecided))

    assert (first["decision"], first["withdrawn_at"]) == ("yes", None)
    assert second["withdrawn_at"] == second["at"] == "2024-02-28T11:20:30Z"
    assert (second["expires"], third["withdrawn_at"]) == (None, None)


@pytest.mark.parametrize("method", ["prompt", "flag", "api"])
def test_methods(undecided, method: str) -> None:
    """How the user said it is kept."""
    enable_telemetry(method=method)

    assert consent_history.read(folder(undecided))[0]["method"] == method


def test_all_projects_have_a_history_of_their_own(undecided) -> None:
    """A decision for all projects is not in the history of one, and shows its own notice."""
    enable_telemetry(all_projects=True)
    disable_telemetry()
    everywhere, here = (
        consent_history.read(undecided.home.config),
        consent_history.read(folder(undecided)),
    )

    assert [e["decision"] for e in everywhere] == ["yes"]
    assert [e["decision"] for e in here] == ["no"]
    assert everywhere[0]["notice_sha256"] == notice.text_sha256(undecided.home, everywhere=True)
    assert here[0]["notice_sha256"] == notice.text_sha256(undecided.home)


def test_nobody_is_named(decided) -> None:
    """Neither a user's name nor a path of the project stands in record or history."""
    text = b"".join(p.read_bytes() for p in decided.user.rglob("telemetry*") if p.is_file())

    assert os.fsencode(decided.root.name) not in text
    assert os.fsencode(decided.user) not in text


def test_private(decided) -> None:
    """Record and history can be read by their user alone, and nothing else is left."""
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in decided.record.parent.iterdir()}

    assert modes == {policy.RECORD: 0o600, consent_history.HISTORY: 0o600}


# -- changed bytes -------------------------------------------------------------------------------


def test_an_untouched_history_is_whole(decided) -> None:
    """Nothing is found where nothing was changed; every entry names the one before."""
    lines = file(decided).read_bytes().splitlines()

    assert consent_history.broken_at(folder(decided)) is None
    assert consent_history.disagrees(folder(decided)) is None
    links = [json.loads(line) for line in lines]
    assert all(list(link) == ["entry", "previous", "sha256"] for link in links)
    assert [link["previous"] for link in links] == [None, *(link["sha256"] for link in links[:-1])]
    for link in links:
        code = link.pop("sha256")
        assert code == hashlib.sha256(json.dumps(link).encode()).hexdigest()


def test_any_changed_byte_is_found(decided) -> None:
    """Each byte, changed or taken out: the entry it belongs to is named."""
    data = file(decided).read_bytes()
    number, missed = 1, []
    for at, byte in enumerate(data):
        others = [bytes([byte ^ 1]), b""] + [b"\r", b" ", b"\n\n"] * (byte == ord("\n"))
        for other in others:
            file(decided).write_bytes(data[:at] + other + data[at + 1 :])
            found = consent_history.broken_at(folder(decided))
            # A second line end after an entry is an entry of its own, which says nothing.
            if found != number + (other == b"\n\n"):
                missed.append((at, other))
        number += byte == ord("\n")

    # Without its very last line end the file still says the same.
    assert missed == [(len(data) - 1, b"")]


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (1, 0, 2), (0, 1, 1, 2), (2,)])
def test_entries_moved_or_removed(decided, order: tuple[int, ...]) -> None:
    """Entries taken out, swapped or repeated break the chain."""
    lines = file(decided).read_bytes().splitlines(keepends=True)
    file(decided).write_bytes(b"".join(lines[at] for at in order))

    assert consent_history.broken_at(folder(decided)) is not None


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_shortened_history(decided, kept: int) -> None:
    """Entries cut off at the end leave a whole chain that does not end in what is in force.

    Also where it ends in the same decision of the same day.
    """
    with cache.override_runtime(decided.environ):
        disable_telemetry()
    lines = file(decided).read_bytes().splitlines(keepends=True)
    file(decided).write_bytes(b"".join(lines[:kept]))

    assert consent_history.broken_at(folder(decided)) is None
    assert consent_history.disagrees(folder(decided)) is not None


def test_a_record_names_its_entry(decided) -> None:
    """`entry=` is the beginning of the last entry's own SHA-256, to be compared by eye."""
    last = consent_history.read(folder(decided))[-1]

    assert f" entry={last['sha256'][:16]}\n" in decided.record.read_text()


def test_a_record_put_back(decided) -> None:
    """An earlier record of the same decision and day, put back in place, is noticed."""
    earlier = decided.record.read_bytes()
    with cache.override_runtime(decided.environ):
        enable_telemetry()
    decided.record.write_bytes(earlier)

    assert "is not the last decision" in (consent_history.disagrees(folder(decided)) or "")


def test_a_record_of_an_earlier_version(decided) -> None:
    """A grant that names no entry of the history counts for nothing, and audit says so."""
    text = decided.record.read_text()
    decided.record.write_text(text.partition(" entry=")[0] + "\n")

    assert not is_telemetry_enabled()
    assert "names no entry" in str(consent_history.disagrees(folder(decided)))
    with cache.override_runtime(decided.environ):
        enable_telemetry()
    assert is_telemetry_enabled()
    assert consent_history.trouble(decided.home) == []


def test_a_flag_said_again_mends_what_differs(decided) -> None:
    """The same yes by flag adds no entry, unless record and history had come apart."""
    with cache.override_runtime(decided.environ):
        enable_telemetry(method="flag")
        entries = len(consent_history.read(folder(decided)))
        enable_telemetry(method="flag")
        assert len(consent_history.read(folder(decided))) == entries
        file(decided).write_bytes(file(decided).read_bytes().splitlines(keepends=True)[0])
        enable_telemetry(method="flag")

    assert consent_history.trouble(decided.home) == []


def test_a_record_that_nobody_decided(decided) -> None:
    """A record edited by hand is in force, and audit says that the history does not know it."""
    decided.record.write_text(decided.record.read_text().replace(" yes ", " no "))

    found = consent_history.disagrees(folder(decided)) or ""
    assert "the current record (no of " in found
    decided.record.unlink()
    assert consent_history.disagrees(folder(decided)) == (
        "the record of the last decision is missing"
    )


def test_audit(decided) -> None:
    """Audit shows who decided what, when and how, and ends with 0."""
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
def test_audit_names_the_entry(decided, number: int, old: bytes, new: bytes) -> None:
    """Audit ends with 1 and names the entry, also where it is no JSON any more."""
    lines = file(decided).read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(old, new)
    file(decided).write_bytes(b"".join(lines))
    done = audit(decided)

    assert done.returncode == 1
    assert f"entry {number} for this project is not as it was written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "data",
    [b"null\n", b"[]\n", b"{}\n", b"[" * 5_000 + b"\n", b"\xff\xfe\n", b"\n\n", b"1e999\n"],
    ids=lambda data: repr(data[:10]),
)
def test_hostile_histories(decided, data: bytes) -> None:
    """Whatever the file holds, audit says so in one sentence."""
    file(decided).write_bytes(data)
    done = audit(decided)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "entry 1 for this project" in done.stderr


def test_audit_before_any_decision(undecided) -> None:
    """Nothing decided is no failure, and looking makes nothing."""
    done = audit(undecided)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No decision yet.\n")
    assert undecided.tree() == []


# -- what is kept --------------------------------------------------------------------------------


def test_entries_of_a_later_version_stay(decided) -> None:
    """A line that a later version wrote stays as it is, to the byte."""
    body = json.dumps({"schema": 9, "reason": "é", "previous_sha256": "?"})
    later = file(decided).read_bytes() + body.encode() + b"\n"
    file(decided).write_bytes(later)
    disable_telemetry()

    assert file(decided).read_bytes().startswith(later)


def test_unknown_words_of_a_record_stay(decided) -> None:
    """Words that this version does not know survive any number of decisions."""
    decided.record.write_text(decided.record.read_text().rstrip("\n") + " region=eu colour=blue\n")
    for decide in (disable_telemetry, enable_telemetry, disable_telemetry):
        decide()
        assert decided.record.read_text().rstrip().endswith("region=eu colour=blue")


def test_a_record_that_cannot_be_read_is_kept(decided) -> None:
    """A damaged record may be the only trace of a no: it is kept under another name."""
    decided.record.write_bytes(b"v7 no 2031-01-01\n")
    enable_telemetry()
    (kept,) = decided.record.parent.glob(f"{policy.RECORD}.damaged-*")

    assert kept.read_bytes() == b"v7 no 2031-01-01\n"
    assert "Moved aside" in audit(decided).stderr


@pytest.mark.parametrize("damage", ["open", "link", "directory", "long"])
def test_a_damaged_history_never_prevents_a_no(decided, damage: str) -> None:
    """A history that cannot be trusted is set aside; the no is written all the same."""
    path = file(decided)
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
    assert [e["decision"] for e in consent_history.read(folder(decided))] == ["no"]
    assert len(consent_history.set_aside(folder(decided))) == 1
    assert audit(decided).returncode == 0


@pytest.fixture
def earlier(decided):
    """The same decisions, as earlier versions wrote them."""
    made: list[bytes] = []
    for line in file(decided).read_bytes().splitlines():
        before = hashlib.sha256(made[-1]).hexdigest() if made else None
        body = json.dumps({**json.loads(line)["entry"], "previous_sha256": before})
        code = hashlib.sha256(body.encode()).hexdigest()
        made.append(f'{body[:-1]}, "sha256": "{code}"}}'.encode())
    file(decided).write_bytes(b"".join(line + b"\n" for line in made))
    text = decided.record.read_text().partition(" entry=")[0]
    decided.record.write_text(f"{text} entry={code[:16]}\n")
    return decided


# -- a history of an earlier version -------------------------------------------------------------


def test_it_is_read_and_counts(earlier) -> None:
    """The recorder accepts the grant, and nothing is found; reading rewrites nothing."""
    before = file(earlier).read_bytes()

    assert is_telemetry_enabled()
    assert consent_history.trouble(earlier.home) == []
    done = audit(earlier, "--json")
    entries = json.loads(done.stdout)["this project"]
    assert [FIELDS] * 3 == [list(entry) for entry in entries]
    assert entries[0]["previous_sha256"] is None
    assert (done.returncode, done.stderr) == (0, "")
    assert before == file(earlier).read_bytes()


def test_the_next_decision_writes_it_anew(earlier) -> None:
    """With all that was in it; a grant that still names its former entry counts on."""
    before, record = file(earlier).read_bytes(), earlier.record.read_bytes()
    shown = consent_history.read(folder(earlier))
    with cache.override_runtime(earlier.environ):
        enable_telemetry()
    links = [json.loads(line) for line in file(earlier).read_bytes().splitlines()]

    assert before == b"".join(json.dumps(link["entry"]).encode() + b"\n" for link in links[:-1])
    assert shown == consent_history.read(folder(earlier))[:-1]
    assert is_telemetry_enabled()
    assert consent_history.trouble(earlier.home) == []
    # As if the program had been killed between the history and the record.
    earlier.record.write_bytes(record)
    assert is_telemetry_enabled()
    with cache.override_runtime(earlier.environ):
        disable_telemetry()
    earlier.record.write_bytes(record)
    assert not is_telemetry_enabled()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_its_damage_stays(earlier, number: int) -> None:
    """An altered entry is named before and after it was written anew."""
    lines = file(earlier).read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"method": "', b'"method": "x')
    file(earlier).write_bytes(b"".join(lines))

    assert consent_history.broken_at(folder(earlier)) == number
    with cache.override_runtime(earlier.environ):
        disable_telemetry()
    assert consent_history.broken_at(folder(earlier)) == number
    assert lines[number - 1] in file(earlier).read_bytes()


@pytest.fixture
def wider(place):
    """A yes, and a program that would keep events for longer."""
    with cache.override_runtime(place.environ), configure(retention_days=365):
        yield place


def in_force(place) -> policy.Decision:
    return policy.decide(place.home, place.environ)


# -- a denied scope extension --------------------------------------------------------------------


def test_a_declined_widening_has_its_entry(wider) -> None:
    """A no about the wider scope: how, for which notice and text; the yes is not withdrawn."""
    asked = in_force(wider)
    changes.answer_extension(wider.home, asked, is_granted=False)
    yes, no = consent_history.read(folder(wider))
    shown = notice.difference("flowspec", ["stored for 365 days instead of 90"])

    assert list(no) == [*FIELDS[:10], "declined", *FIELDS[10:]]
    assert (no["decision"], no["method"], no["notice"]) == ("no", "prompt", 1)
    assert no["declined"] == consent_decision.scope_fingerprint(settings.current())
    assert no["notice_sha256"] == hashlib.sha256("\n".join(shown).encode()).hexdigest()
    assert (no["withdrawn_at"], no["expires"]) == (None, None)
    assert (in_force(wider).allowed, in_force(wider).grant.keep_days) == (True, 90)
    assert consent_history.trouble(wider.home) == []
    assert yes["expires"] in wider.record.read_text()


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_declined_widening_and_its_record(wider, mode: int) -> None:
    """The record names the entry, and the entry the moment."""
    wider.record.chmod(mode)
    with cache.override_runtime(wider.environ, wider.clock, wider.now):
        changes.answer_extension(wider.home, in_force(wider), is_granted=False)
    entry = consent_history.read(folder(wider))[-1]

    assert consent_decision.value_of(wider.record.read_text(), "entry") == entry["sha256"][:16]
    assert entry["at"] == "2024-02-28T10:20:30Z"


def test_audit_of_a_declined_widening(wider) -> None:
    """Audit shows it for what it is, and ends with 0."""
    changes.answer_extension(wider.home, in_force(wider), is_granted=False)
    done = audit(wider)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("), to an extended scope; the consent remains")


def test_what_follows_a_declined_widening(wider) -> None:
    """A later no withdraws the yes that stood, and a later yes is one to all of it."""
    changes.answer_extension(wider.home, in_force(wider), is_granted=False)
    disable_telemetry()
    enable_telemetry()
    *_, no, _ = entries = consent_history.read(folder(wider))

    assert [e["decision"] for e in entries] == ["yes", "no", "no", "yes"]
    assert no["withdrawn_at"] == no["at"]
    assert in_force(wider).grant.scope_extension(settings.current()) == []
    assert consent_history.trouble(wider.home) == []


def test_an_accepted_widening_keeps_the_text_that_was_shown(wider) -> None:
    """A yes to a difference has the hash of the difference, which is what the user read."""
    changes.answer_extension(wider.home, in_force(wider), is_granted=True)
    *_, last = consent_history.read(folder(wider))
    shown = notice.difference("flowspec", ["stored for 365 days instead of 90"])

    assert (last["decision"], last["method"]) == ("yes", "prompt")
    assert last["notice_sha256"] == notice.sha256_of(shown)
    assert consent_history.trouble(wider.home) == []


@pytest.mark.parametrize("is_granted", [False, True])
@pytest.mark.parametrize("meanwhile", ["gone", "reset", "no", "another yes", "damaged"])
def test_another_decision_meanwhile(wider, is_granted: bool, meanwhile: str) -> None:
    """An answer to a question that is no longer true decides nothing and brings nothing back."""
    asked = in_force(wider)
    if meanwhile == "gone":
        wider.record.unlink()
    elif meanwhile == "reset":
        changes.reset(wider.home)
    elif meanwhile == "no":
        disable_telemetry()
    elif meanwhile == "another yes":
        enable_telemetry()
    else:
        wider.record.write_bytes(b"nonsense")
    before = wider.tree(), in_force(wider).allowed
    with pytest.raises(changes.ConsentError, match=r"^another decision was made meanwhile$"):
        changes.answer_extension(wider.home, asked, is_granted=is_granted)

    assert (wider.tree(), in_force(wider).allowed) == before


def test_a_record_that_vanishes_while_a_no_is_written(wider, monkeypatch) -> None:
    """Removed by hand between entry and record, the yes does not come back."""
    asked, rename = in_force(wider), os.rename

    def removing(old: str, new: str, **folders: int) -> None:
        rename(old, new, **folders)
        wider.record.unlink(missing_ok=True)

    monkeypatch.setattr(os, "rename", removing)
    with pytest.raises(changes.ConsentError, match="meanwhile"):
        changes.answer_extension(wider.home, asked, is_granted=False)

    assert not wider.record.exists()
