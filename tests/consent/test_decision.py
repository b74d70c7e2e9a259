"""The consent record: which content grants, denies or leaves consent undecided."""

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
from tests.consent.policy_helpers import (
    DAY,
    LAST,
    PYPROJECT,
    SCOPE,
    SETTINGS_FILE,
    decide,
    line,
)

pytestmark = pytest.mark.usefixtures("fixed_day")

DOUBLED = (b"notice=1", b"expires=2024-01-01", b"x=1 x=2", b"keep=90 keep=90")


def later(days: int, day: str = DAY) -> str:
    """Return the day that is `days` after `day`."""
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


# Input that breaks parsers of objects, numbers or text. Recording must be off for each.
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
def test_the_state_of_a_record(place, data: bytes, state: str) -> None:
    """One line of version 1 is a decision. Any other content is corrupt, denies, and is kept."""
    assert state == consent_decision.parse_record(data, DAY)[0]
    data = believed(place.record, data)
    place.record.write_bytes(data)

    allowed = {"yes": True, "no": False}.get(state, False)
    assert allowed == is_telemetry_enabled()
    assert data == place.record.read_bytes()


def test_an_expired_grant_is_undecided(place) -> None:
    """After twelve months a grant neither grants nor denies, so a program may ask again."""
    place.record.write_bytes(line("yes", day="2020-01-01", expires="2021-01-01"))
    decision = decide(place)

    assert (decision.allowed, decision.rule.verdict, decision.vetoed) == (False, "silent", False)


def test_a_record_of_ten_megabytes(place) -> None:
    """A record of 10 MB denies, and is kept."""
    place.record.write_bytes(line("yes") + b"x" * 10_000_000)

    assert not is_telemetry_enabled()
    assert place.record.stat().st_size > 10_000_000


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o620, 0o602, 0o644, 0o640, 0o601])
def test_a_record_that_is_open_to_others(place, mode: int) -> None:
    """If other users may access the record, it does not grant, and its mode does not change."""
    place.record.chmod(mode)

    assert not is_telemetry_enabled()
    assert mode == stat.S_IMODE(place.record.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_record_that_only_the_user_can_read(place, mode: int) -> None:
    """A record that only its owner can read grants, whether it is writable or not."""
    place.record.chmod(mode)

    assert is_telemetry_enabled()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("all_projects", [False, True], ids=["project", "all"])
def test_a_record_of_another_user(undecided, all_projects: bool) -> None:
    """If another user owns the record, it does not grant."""
    enable_telemetry(all_projects=all_projects)
    path = record_of(undecided.home, all_projects)
    assert is_telemetry_enabled()
    os.chown(path, 65_534, 65_534)
    undecided.clock.advance(0.021)

    assert not is_telemetry_enabled()


def test_is_day_follows_the_calendar() -> None:
    """`is_day()` accepts exactly the days of the calendar."""
    texts = [
        f"{year:04}-{month:02}-{day:02}"
        for year in (0, 1, 1900, 2000, 2023, 2024, 9999)
        for month in range(14)
        for day in range(34)
    ]

    assert [t for t in texts if is_day(t)] == [t for t in texts if in_calendar(t)]


def in_calendar(text: str) -> bool:
    """Return whether the standard library accepts a day."""
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


@pytest.mark.parametrize("time", ["", "fortnight", "DAY", "second,day"])
def test_an_unknown_resolution(time: str) -> None:
    """A record with an unknown resolution grants the coarsest one."""
    text = line("yes")[:-1].decode() + f" time={time}\n"

    assert consent_decision.parse_grant(text).resolution("second") == "day"


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo"])
@pytest.mark.parametrize("scope", ["project", "all"])
def test_a_record_of_another_file_type(place, kind: str, scope: str) -> None:
    """A link, a directory or a FIFO at the record's path denies without waiting, and is kept."""
    path = place.record if scope == "project" else Path(place.home.config) / policy.RECORD
    target = place.user / "record"
    if scope == "project":
        path.rename(target)
    else:
        target.write_bytes(line("yes"))
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target if kind == "link" else place.user / "nothing")
    before = os.lstat(path).st_ino

    assert not is_telemetry_enabled()
    assert before == os.lstat(path).st_ino


def test_the_record_of_a_grant(place) -> None:
    """`enable_telemetry()` writes one line with day, notice, scope and expiry, mode 0600."""
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
def test_a_decision_expires_after_twelve_months(day: str, expires: str) -> None:
    """A decision is valid for twelve months, also from a leap day."""
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
    """Write a file, or delete it if `content` is None."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    if path.name == policy.RECORD:
        content = believed(path, content)
    if not path.exists() or path.read_bytes() != content:
        # A new inode, so that no reader uses the content that it read before.
        path.with_name("new").write_bytes(content)
        path.with_name("new").chmod(0o600)
        path.with_name("new").rename(path)


# -- all combinations ----------------------------------------------------------------------------


@pytest.mark.parametrize("for_all", STATES["all"])
@pytest.mark.parametrize("for_project", STATES["project"])
def test_any_denial_wins(administered, place, for_all: str, for_project: str) -> None:
    """For each state of all owners, recording is on only if the user grants and no rule denies."""
    home, system, environ = administered
    switch = {"none": None, "true": b"enabled = true\n", "deny": b"enabled = false\n"}
    table = b"[tool.telemetry_kit]\n"
    (place.root / ".flowspec").mkdir(exist_ok=True)
    project = place.record
    put(Path(home.config) / policy.RECORD, RECORDS.get(for_all))
    put(project, RECORDS.get(for_project))
    for states in itertools.product(*(STATES[o] for o in OWNERS[:5])):
        state = dict(zip(OWNERS, (*states, for_all, for_project), strict=True))
        put(system, switch[state["system"]])
        put(place.root / SETTINGS_FILE, switch[state["ours"]])
        body = switch[state["pyproject"]]
        put(place.root / PYPROJECT, None if body is None else table + body)
        put(Path(home.user_file), switch[state["user file"]])
        variables = {"DO_NOT_TRACK": "1"} if state["environment"] == "deny" else {}
        denied = {"deny", "no", "corrupt"} & set(state.values())
        granted = "yes" in (for_all, for_project)
        decision = policy.decide(home, {**environ, **variables}, every_file=True)
        recorder = policy.decide(home, {**environ, **variables})

        assert recorder.allowed == decision.allowed, state
        assert (granted and not denied) == decision.allowed, state
        assert decision.rule.verdict == "deny" or not denied, state
