"""The consent line: what grants, what denies, and what counts as undecided."""

import itertools
import os
import re
import stat
from datetime import date, timedelta
from pathlib import Path

import pytest

from telemetry_kit import (
    enable_telemetry,
    is_telemetry_enabled,
    settings,
)
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent import policy
from telemetry_kit.schema.validation import is_day
from tests.conftest import believed, record_of
from tests.consent.policy_helpers import DAY, LAST, OURS, SCOPE, THEIRS, Administered, decide, line

DOUBLED = (b"notice=1", b"expires=2024-01-01", b"x=1 x=2", b"keep=90 keep=90")


@pytest.fixture(autouse=True)
def _day_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables below are made once; decisions here are of that day, whenever they are made."""
    monkeypatch.setattr(consent_decision, "today", lambda: DAY)


@pytest.fixture
def administered(place, tmp_path):
    """A granted place with a path for an administrator's file."""
    home = place.home
    found = Administered(home.app, home.root, home.config, home.state)
    Administered.system_file = str(tmp_path / "telemetry.conf")
    yield found, Path(Administered.system_file), place.environ
    Administered.system_file = ""


# What a parser of objects, numbers or text would trip over; each must be off.
def later(days: int, day: str = DAY) -> str:
    """So many days after one of the calendar."""
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


HOSTILE = [
    *(b"[]\n", b'["v1", "yes", "2024-02-28"]\n', b"{}\n", b'{"enabled": true}\n', b"null\n"),
    *(b"[" * 60_000 + b"\n", b"{" * 60_000 + b"\n", b"NaN\n", b"-Infinity\n", b"1e999\n"),
    *(b"true\n", b'"true"\n', b'"false"\n', b"enabled\n", b"1\n", b"on\n"),
    *(b"\xff\xfe\n", b"\x80" * 1_000 + b"\n", b"\0" * 1_000, line("yes").decode().encode("utf-16")),
    *(line("yes").replace(b"v1", version) for version in (b"v0", b"v10", b"v", b"1", b"v1.0")),
    *(line("yes").replace(b"notice=1", b"notice=" + n) for n in (b"-1", b"NaN", b"1.0", b"9" * 10)),
    *(line("yes")[:-1] + b" keep=" + n + b"\n" for n in (b"-1", b"NaN", b"1e9", b"", b"9" * 10)),
    *(line("yes", day=day) for day in ("2024-02-30", "2023-02-29", "0000-01-01", "2024-13-01")),
    *(line("yes", expires=day) for day in ("NaN", "2999-02-29", "", "29990-01-01")),
]


# -- the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (line("yes"), "yes"),
        (line("yes", expires=DAY), "yes"),
        (line("yes", expires="2024-02-27"), "expired"),
        (line("yes", day=later(1), expires=LAST), "yes"),
        (line("yes", day=later(2), expires=LAST), "corrupt"),
        (line("yes", expires=later(1, LAST)), "yes"),
        (line("yes", expires=later(2, LAST)), "corrupt"),
        (line("no", day="2999-01-01"), "no"),
        *((line("yes")[:-1] + b" " + word + b"\n", "corrupt") for word in DOUBLED),
        (line("no"), "no"),
        (line("no", expires="2000-01-01"), "no"),
        (b"v1 no 2024-02-28\n", "no"),
        (line("yes")[:-1] + b" later=1\n", "yes"),
        (line("yes")[:-1], "corrupt"),
        (line("yes") + b"\n", "corrupt"),
        (line("yes") + line("yes"), "corrupt"),
        (b"\n" + line("yes"), "corrupt"),
        (b"", "corrupt"),
        (b"\n", "corrupt"),
        (b"yes\n", "corrupt"),
        (b"v2 yes 2024-02-28 notice=1\n", "corrupt"),
        (line("yes").replace(b"v1", b"V1"), "corrupt"),
        (line("YES"), "corrupt"),
        (line("maybe"), "corrupt"),
        (line("yes", day="28.02.2024"), "corrupt"),
        (line("yes", day="2024-2-28x"), "corrupt"),
        (line("yes").replace(b"notice=1", b"notice=x"), "corrupt"),
        (line("yes").replace(b"notice=1", b"notice="), "corrupt"),
        (line("yes").replace(b"notice=1 ", b""), "corrupt"),
        (line("yes").replace(SCOPE.encode(), b"short"), "corrupt"),
        (line("yes").replace(f"expires={LAST}".encode(), b""), "corrupt"),
        (line("yes").replace(LAST.encode(), b"never"), "corrupt"),
        (line("yes").replace(b"yes", "yés".encode()), "corrupt"),
        (line("yes").replace(b"\n", b"\r\n"), "yes"),
        (line("yes").replace(b"v1", b"v1\0"), "corrupt"),
        (b"\xef\xbb\xbf" + line("yes"), "corrupt"),
        *((data, "corrupt") for data in HOSTILE),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_states_of_a_record(place, data: bytes, state: str) -> None:
    """One line of version 1 is a decision; anything else is corrupt, off, and left as it is."""
    assert state == consent_decision.parse_record(data, DAY)[0]
    data = believed(place.record, data)
    place.record.write_bytes(data)

    allowed = {"yes": True, "no": False}.get(state, False)
    assert allowed == is_telemetry_enabled()
    assert data == place.record.read_bytes()


def test_an_expired_yes_is_undecided(place) -> None:
    """A yes older than twelve months is no yes, and no denial either: the user may be asked."""
    place.record.write_bytes(line("yes", day="2020-01-01", expires="2021-01-01"))
    decision = decide(place)

    assert (decision.allowed, decision.rule.verdict, decision.vetoed) == (False, "silent", False)


def test_ten_megabytes(place) -> None:
    """A record of 10 MB is not read into memory; it denies and stays."""
    place.record.write_bytes(line("yes") + b"x" * 10_000_000)

    assert not is_telemetry_enabled()
    assert place.record.stat().st_size > 10_000_000


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o620, 0o602, 0o644, 0o640, 0o601])
def test_a_record_that_is_open_to_others(place, mode: int) -> None:
    """A yes that somebody else could have written, or that came out of a checkout, is no yes."""
    place.record.chmod(mode)

    assert not is_telemetry_enabled()
    assert mode == stat.S_IMODE(place.record.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_record_of_the_user_alone(place, mode: int) -> None:
    """Whether it may be written by its owner does not matter."""
    place.record.chmod(mode)

    assert is_telemetry_enabled()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("all_projects", [False, True], ids=["project", "all"])
def test_a_record_of_somebody_else(undecided, all_projects: bool) -> None:
    """A yes that another user owns is no yes of ours."""
    enable_telemetry(all_projects=all_projects)
    path = record_of(undecided.home, all_projects)
    assert is_telemetry_enabled()
    os.chown(path, 65_534, 65_534)
    undecided.clock.advance(0.021)

    assert not is_telemetry_enabled()


def test_days_of_the_calendar() -> None:
    """A day is one exactly where the calendar has it."""
    texts = [
        f"{year:04}-{month:02}-{day:02}"
        for year in (0, 1, 1900, 2000, 2023, 2024, 9999)
        for month in range(14)
        for day in range(34)
    ]

    assert [t for t in texts if is_day(t)] == [t for t in texts if in_calendar(t)]


def in_calendar(text: str) -> bool:
    """What the standard library says."""
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


@pytest.mark.parametrize("time", ["", "fortnight", "DAY", "second,day"])
def test_a_resolution_that_nobody_knows(time: str) -> None:
    """A record with another resolution than ours accepts the coarsest."""
    text = line("yes")[:-1].decode() + f" time={time}\n"

    assert consent_decision.parse_grant(text).resolution("second") == "day"


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo"])
@pytest.mark.parametrize("scope", ["project", "all"])
def test_strange_record(place, kind: str, scope: str) -> None:
    """A link, a directory or a FIFO in the record's place denies, without waiting, and stays."""
    path = place.record if scope == "project" else Path(place.home.config) / policy.RECORD
    genuine = place.user / "record"
    if scope == "project":
        path.rename(genuine)
    else:
        genuine.write_bytes(line("yes"))
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(genuine if kind == "link" else place.user / "nothing")
    before = os.lstat(path).st_ino

    assert not is_telemetry_enabled()
    assert before == os.lstat(path).st_ino


def test_the_written_record(place) -> None:
    """`enable_telemetry()` writes one line with day, notice, scope and expiry, readable by us."""
    text = place.record.read_bytes()
    found = re.fullmatch(
        rb"v1 yes (\d{4})-\d\d-\d\d notice=\d+ scope=([0-9a-f]{16}) expires=(\d{4})-\d\d-\d\d"
        rb"( [a-z]+=\S*)*\n",
        text,
    )

    assert found is not None
    assert int(found[3]) == int(found[1]) + 1
    assert found[2].decode() == consent_decision.scope_fingerprint(settings.current())
    assert stat.S_IMODE(place.record.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("day", "expires"),
    [("2024-02-28", "2025-02-28"), ("2024-02-29", "2025-02-28"), ("2024-12-31", "2025-12-31")],
)
def test_twelve_months(day: str, expires: str) -> None:
    """A decision holds for twelve months, also from a leap day."""
    data = consent_decision.render_record("yes", day, settings.current())

    assert f" expires={expires} " in data.decode()
    assert consent_decision.parse_record(data, expires) == ("yes", day)


OWNERS = ("system", "environment", "ours", "pyproject", "user file", "all", "project")


STATES = {
    "system": ("none", "true", "deny"),
    "environment": ("none", "deny"),
    "ours": ("none", "true", "deny"),
    "pyproject": ("none", "true", "deny"),
    "user file": ("none", "true", "deny"),
    "all": ("none", "yes", "no", "corrupt", "expired"),
    "project": ("none", "yes", "no", "corrupt", "expired"),
}


RECORDS = {
    "yes": line("yes"),
    "no": line("no"),
    "corrupt": b"v1 yes",
    "expired": line("yes", expires="2000-01-01"),
}


def put(path: Path, content: bytes | None) -> None:
    """Make a file say something, or be gone."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    if path.name == policy.RECORD:
        content = believed(path, content)
    if not path.exists() or path.read_bytes() != content:
        # A new inode: what was read before is not believed again.
        path.with_name("new").write_bytes(content)
        path.with_name("new").chmod(0o600)
        path.with_name("new").rename(path)


# -- the lattice ---------------------------------------------------------------------------------


@pytest.mark.parametrize("for_all", STATES["all"])
@pytest.mark.parametrize("for_project", STATES["project"])
def test_any_denial_wins(administered, place, for_all: str, for_project: str) -> None:
    """Over every combination of all owners: on exactly if a user's yes stands and nobody denies."""
    home, system, environ = administered
    switch = {"none": None, "true": b"enabled = true\n", "deny": b"enabled = false\n"}
    table = b"[tool.telemetry_kit]\n"
    (place.root / ".flowspec").mkdir(exist_ok=True)
    project = place.record
    put(Path(home.config) / policy.RECORD, RECORDS.get(for_all))
    put(project, RECORDS.get(for_project))
    for states in itertools.product(*(STATES[o] for o in OWNERS[:5])):
        given = dict(zip(OWNERS, (*states, for_all, for_project), strict=True))
        put(system, switch[given["system"]])
        put(place.root / OURS, switch[given["ours"]])
        body = switch[given["pyproject"]]
        put(place.root / THEIRS, None if body is None else table + body)
        put(Path(home.user_file), switch[given["user file"]])
        variables = {"DO_NOT_TRACK": "1"} if given["environment"] == "deny" else {}
        denied = {"deny", "no", "corrupt"} & set(given.values())
        granted = "yes" in (for_all, for_project)
        decision = policy.decide(home, {**environ, **variables}, every_file=True)
        recorder = policy.decide(home, {**environ, **variables})

        assert recorder.allowed == decision.allowed, given
        assert (granted and not denied) == decision.allowed, given
        assert decision.rule.verdict == "deny" or not denied, given
