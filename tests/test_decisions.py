"""The history of decisions: what an entry holds, and that no changed byte goes unnoticed."""

import hashlib
import json
import os
import re
import signal
import stat
from datetime import date, timedelta
from pathlib import Path

import pytest

from telemetry_kit import (
    catalog,
    consent,
    control,
    decisions,
    disable_telemetry,
    enable_telemetry,
    gate,
    grants,
    is_telemetry_enabled,
    notice,
    track_role_event,
)
from telemetry_kit.latch import World

FIELDS = [
    *("schema", "id", "decision", "at", "method", "notice", "notice_sha256", "dictionary_sha256"),
    *("expires", "withdrawn_at", "previous_sha256", "sha256"),
]


@pytest.fixture
def decided(place):
    """A project with a yes, a no and a yes, all by the real clock."""
    with gate.Elsewhere(World(place.environ)):
        disable_telemetry(method="flag")
        enable_telemetry(method="prompt")
    return place


def folder(place) -> str:
    return os.path.dirname(place.record)


def file(place) -> Path:
    return place.record.with_name(decisions.HISTORY)


def audit(place, *args: str):
    return place.python("-m", "telemetry_kit", "audit", *args)


# -- an entry ----------------------------------------------------------------------------------


def test_fields(undecided) -> None:
    """An entry has what DESIGN lists, in this order, and nothing else."""
    enable_telemetry(method="prompt")
    (entry,) = decisions.read(folder(undecided))

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

    assert decisions.read(folder(undecided))[0]["expires"] == "2025-02-28"


def test_a_withdrawal(undecided) -> None:
    """A no after a yes says when the yes was withdrawn; the yes stays in the history."""
    enable_telemetry()
    undecided.now.advance(3_600)
    disable_telemetry()
    disable_telemetry()
    first, second, third = decisions.read(folder(undecided))

    assert (first["decision"], first["withdrawn_at"]) == ("yes", None)
    assert second["withdrawn_at"] == second["at"] == "2024-02-28T11:20:30Z"
    assert (second["expires"], third["withdrawn_at"]) == (None, None)


@pytest.mark.parametrize("method", ["prompt", "flag", "api"])
def test_methods(undecided, method: str) -> None:
    """How the user said it is kept."""
    enable_telemetry(method=method)

    assert decisions.read(folder(undecided))[0]["method"] == method


def test_all_projects_have_a_history_of_their_own(undecided) -> None:
    """A decision for all projects is not in the history of one, and shows its own notice."""
    enable_telemetry(all_projects=True)
    disable_telemetry()
    everywhere, here = decisions.read(undecided.home.config), decisions.read(folder(undecided))

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

    assert modes == {consent.RECORD: 0o600, decisions.HISTORY: 0o600}


# -- changed bytes -----------------------------------------------------------------------------


def test_an_untouched_history_is_whole(decided) -> None:
    """Nothing is found where nothing was changed; every entry names the one before."""
    lines = file(decided).read_bytes().splitlines()

    assert decisions.broken_at(folder(decided)) is None
    assert decisions.disagrees(folder(decided)) is None
    named = [json.loads(line)["previous_sha256"] for line in lines]
    assert named == [None, *(hashlib.sha256(line).hexdigest() for line in lines[:-1])]


def test_any_changed_byte_is_found(decided) -> None:
    """Each byte, changed or taken out: the entry it belongs to is named."""
    data = file(decided).read_bytes()
    number, missed = 1, []
    for at, byte in enumerate(data):
        others = [bytes([byte ^ 1]), b""] + [b"\r", b" ", b"\n\n"] * (byte == ord("\n"))
        for other in others:
            file(decided).write_bytes(data[:at] + other + data[at + 1 :])
            found = decisions.broken_at(folder(decided))
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

    assert decisions.broken_at(folder(decided)) is not None


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_shortened_history(decided, kept: int) -> None:
    """Entries cut off at the end leave a whole chain that does not end in what is in force."""
    with gate.Elsewhere(World(decided.environ)):
        disable_telemetry()
    lines = file(decided).read_bytes().splitlines(keepends=True)
    file(decided).write_bytes(b"".join(lines[:kept]))

    assert decisions.broken_at(folder(decided)) is None
    assert decisions.disagrees(folder(decided)) is not None


def test_a_record_that_nobody_decided(decided) -> None:
    """A record edited by hand is in force, and audit says that the history does not know it."""
    decided.record.write_text(decided.record.read_text().replace(" yes ", " no "))

    found = decisions.disagrees(folder(decided)) or ""
    assert "the record in force (no of " in found
    decided.record.unlink()
    assert decisions.disagrees(folder(decided)) == (
        "the last decision is not in force: its record is gone"
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

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Nothing was decided yet.\n")
    assert undecided.tree() == []


# -- what is kept ------------------------------------------------------------------------------


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
    (kept,) = decided.record.parent.glob(f"{consent.RECORD}.damaged-*")

    assert kept.read_bytes() == b"v7 no 2031-01-01\n"
    assert "Set aside" in audit(decided).stderr


@pytest.mark.parametrize("damage", ["open", "link", "directory", "long"])
def test_a_damaged_history_never_prevents_a_no(decided, damage: str) -> None:
    """A history that cannot be trusted is set aside; the no is written all the same."""
    path = file(decided)
    if damage == "open":
        path.chmod(0o666)
    elif damage == "long":
        path.write_bytes(b" " * (decisions.MAX_HISTORY_BYTES + 1))
    else:
        path.unlink()
        _ = path.mkdir() if damage == "directory" else path.symlink_to("/etc/hosts")
    with gate.Elsewhere(World(decided.environ)):
        disable_telemetry()

    assert not is_telemetry_enabled()
    assert [e["decision"] for e in decisions.read(folder(decided))] == ["no"]
    assert len(decisions.set_aside(folder(decided))) == 1
    assert audit(decided).returncode == 0


# -- twelve months -----------------------------------------------------------------------------


def test_twelve_months(place) -> None:
    """A yes holds on the last day of its twelve months and no longer on the day after."""
    data = place.record.read_bytes()
    day = data.decode().split()[2]
    last = date.fromisoformat(grants.a_year_after(day))
    after = (last + timedelta(1)).isoformat()

    assert f" expires={last} " in data.decode()
    assert grants.parse_record(data, last.isoformat()) == ("yes", day)
    assert grants.parse_record(data, after) == ("expired", day)


def test_an_expired_yes_records_nothing(place) -> None:
    """Its twelve months over, a yes is off, undecided, and its history is still whole."""
    text = place.record.read_text()
    year = text.partition("expires=")[2][:4]
    place.record.write_text(text.replace(f"expires={year}", "expires=2020"))
    decision = consent.decide(place.home, place.environ)

    assert (decision.allowed, decision.vetoed) == (False, False)
    assert "has expired" in decision.rule.says
    assert track_role_event("role.selected", role="dev") is None
    assert audit(place).returncode == 0


# -- a kill in between -------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from telemetry_kit import control, grants
number = int(sys.argv[2])
rename = os.rename
def killing(*args):
    global number
    number -= 1
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*args)
os.rename = killing
getattr(control, sys.argv[1])()
"""


@pytest.mark.parametrize("decide", ["disable_telemetry", "enable_telemetry"])
@pytest.mark.parametrize("at", [1, 2])
def test_killed_while_deciding(decided, decide: str, at: int) -> None:
    """A kill before either rename leaves the old decision in force and every file whole."""
    before = decided.record.read_bytes()
    entries = len(decisions.read(folder(decided)))
    done = decided.run(KILLED, decide, str(at))

    assert done.returncode == -signal.SIGKILL
    assert decided.record.read_bytes() == before
    assert decisions.broken_at(folder(decided)) is None
    assert len(decisions.read(folder(decided))) == entries + (at == 2)
    with gate.Elsewhere(World(decided.environ)):
        disable_telemetry()
    assert audit(decided).returncode == 0


def test_a_decision_in_force_has_its_entry(decided) -> None:
    """The entry is written first: killed in between, audit says that it never came into force."""
    decided.run(KILLED, "disable_telemetry", "2")
    done = audit(decided)

    assert is_telemetry_enabled()
    assert done.returncode == 1
    assert "is not the last decision of the history" in done.stderr


def test_a_full_disk_decides_nothing(decided, monkeypatch) -> None:
    """Where nothing can be written, nothing is decided, and no half file is left."""
    before = {p.name: p.read_bytes() for p in decided.record.parent.iterdir()}

    def full(*_: object) -> int:
        raise OSError(28, "")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(control.ConsentError, match="ENOSPC"):
        disable_telemetry()

    assert {p.name: p.read_bytes() for p in decided.record.parent.iterdir()} == before
