"""The one decision: any denial wins, only the user can grant, what cannot be read is a no."""

import errno
import hmac
import itertools
import json
import os
import re
import stat
from datetime import date, timedelta
from pathlib import Path

import pytest

from telemetry_kit import (
    configure,
    disable_telemetry,
    enable_telemetry,
    is_telemetry_enabled,
    settings,
    track_role_event,
)
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.errors import ConsentError
from telemetry_kit.paths import ProjectPaths, find
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.schema.validation import is_day
from tests.conftest import believed, record_of

SCOPE = "0123456789abcdef"
DAY = consent_decision.today()
DOUBLED = (b"notice=1", b"expires=2024-01-01", b"x=1 x=2", b"keep=90 keep=90")
LAST = consent_decision.a_year_after(DAY)


def line(decision: str, day: str = DAY, expires: str = LAST) -> bytes:
    """A consent record of version 1."""
    return f"v1 {decision} {day} notice=1 scope={SCOPE} expires={expires}\n".encode()


def decide(place, **environ: str) -> policy.Decision:
    """The decision for a place, with more variables."""
    return policy.decide(place.home, {**place.environ, **environ})


@pytest.fixture(autouse=True)
def _day_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables below are made once; decisions here are of that day, whenever they are made."""
    monkeypatch.setattr(consent_decision, "today", lambda: DAY)


# -- the environment ---------------------------------------------------------------------------

SWITCHES = ("DO_NOT_TRACK", "FLOWSPEC_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED")
HARMLESS = ["", "0", "false", "no", "off", "False", "NO", "oFF", " 0 ", "\tfalse\n", "   "]
DENYING = [
    *("1", "true", "yes", "on", "TRUE", "2", "00", "0.0", "n", "f", "none", "null", "x", "-0"),
    *(" TRUE ", "banana", "NaN", '"false"', "0 0", "false;", "\uff10", "\udcff", "1" * 10_000),
]
VENDORS = [
    "CONTINUOUS_INTEGRATION",
    "CI_NAME",
    "CI_APP_ID",
    "CI_BUILD_ID",
    "CI_BUILD_NUMBER",
    "BUILD_NUMBER",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "TF_BUILD",
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
    "JENKINS_URL",
    "HUDSON_URL",
    "TRAVIS",
    "CIRCLECI",
    "BUILDKITE",
    "DRONE",
    "APPVEYOR",
    "TEAMCITY_VERSION",
    "BITBUCKET_BUILD_NUMBER",
    "BITBUCKET_COMMIT",
    "CODEBUILD_BUILD_ID",
    "CODEBUILD_BUILD_ARN",
    "CIRRUS_CI",
    "SEMAPHORE",
    "GITEA_ACTIONS",
    "NETLIFY",
    "VERCEL",
    "RENDER",
    "CF_PAGES",
    "PROW_JOB_ID",
    "BUDDY",
    "AC_APPCIRCLE",
    "bamboo_planKey",
]


@pytest.mark.parametrize("variable", SWITCHES)
@pytest.mark.parametrize("value", DENYING, ids=lambda value: ascii(value)[:12])
def test_a_switch_that_denies(place, variable: str, value: str) -> None:
    """Every value but the five harmless words denies, over any grant."""
    decision = decide(place, **{variable: value})

    assert (False, "environment", variable) == (
        decision.allowed,
        decision.rule.owner,
        decision.rule.name,
    )
    assert (value, True) == (decision.rule.raw, decision.vetoed)


@pytest.mark.parametrize("variable", SWITCHES)
@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_a_switch_that_does_not_deny(place, variable: str, value: str) -> None:
    """Stripped and casefolded, `""`, `0`, `false`, `no` and `off` do not deny."""
    assert decide(place, **{variable: value}).allowed


@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_a_harmless_switch_grants_nothing(undecided, value: str) -> None:
    """A switch that does not deny is no yes."""
    assert not decide(undecided, DO_NOT_TRACK=value).allowed


def test_the_switch_of_another_app(place) -> None:
    """`ACME_TELEMETRY_DISABLED` is about acme; for flowspec it says nothing."""
    assert decide(place, ACME_TELEMETRY_DISABLED="1").allowed


def test_the_switch_follows_the_app(place) -> None:
    """The kill switch of `acme-x` is `ACME_X_TELEMETRY_DISABLED`."""
    configure(app="acme-x")
    changes.enable_telemetry()
    place.environ["FLOWSPEC_TELEMETRY_DISABLED"] = "1"

    assert is_telemetry_enabled()
    place.environ["ACME_X_TELEMETRY_DISABLED"] = "1"
    assert not is_telemetry_enabled()


@pytest.mark.parametrize("variable", VENDORS)
def test_each_ci_variable_denies(place, variable: str) -> None:
    """The variable of each vendor denies by itself, whatever it is called and whatever it says."""
    for value in DENYING:
        decision = decide(place, **{variable: value})
        assert (False, variable, value, True) == (
            decision.allowed,
            decision.rule.name,
            decision.rule.raw,
            decision.rule.everywhere,
        )


@pytest.mark.parametrize("variable", VENDORS)
def test_each_ci_variable_may_say_no(place, variable: str) -> None:
    """`GITHUB_ACTIONS=false` and its like do not deny, and lift no other denial."""
    for value in HARMLESS:
        assert decide(place, **{variable: value}).allowed, value
        assert not decide(place, **{variable: value, "DO_NOT_TRACK": "1"}).allowed, value


def test_ci_variables_are_all_known() -> None:
    """The list of vendors here is the list that is asked, and all are watched for."""
    assert tuple(VENDORS) == policy.CI_VARIABLES
    rules = policy.environment_rules("FLOWSPEC", {}, every=True)
    assert {*VENDORS, "CI", *SWITCHES} <= {rule.name for rule in rules}


@pytest.mark.parametrize(
    "value", [*DENYING, "woodpecker", "codeship"], ids=lambda value: ascii(value)[:12]
)
def test_ci_denies(place, value: str) -> None:
    """`CI` denies with any value that is no plain no."""
    assert not decide(place, CI=value).allowed


@pytest.mark.parametrize("value", [v for v in HARMLESS if v.strip()], ids=repr)
def test_ci_false_bypasses_the_vendors(place, value: str) -> None:
    """`CI=false` says that this is no CI run, whatever else is set."""
    assert decide(place, CI=value, GITHUB_ACTIONS="true", JENKINS_URL="x").allowed


def test_ci_false_bypasses_nothing_else(place) -> None:
    """`CI=false` does not lift a switch or pytest."""
    assert not decide(place, CI="false", DO_NOT_TRACK="1").allowed
    assert not decide(place, CI="false", PYTEST_VERSION="9").allowed


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_ci_says_nothing(place, value: str) -> None:
    """An empty `CI` neither denies nor bypasses."""
    assert decide(place, CI=value).allowed
    assert not decide(place, CI=value, GITHUB_ACTIONS="true").allowed


@pytest.mark.parametrize("variable", ["BUILD_ID", "run_ID"])
def test_weak_ci_variables_count_without_a_terminal(place, variable: str) -> None:
    """`BUILD_ID` and `run_ID` deny where nobody sits at a terminal."""
    code = "from telemetry_kit import is_telemetry_enabled; print(is_telemetry_enabled())"
    options = {"stdin": -3}

    assert place.run(code, env={variable: "7"}, **options).stdout == "False\n"
    assert place.run(code, env={variable: "0"}, **options).stdout == "True\n"


@pytest.mark.parametrize("variable", ["BUILD_ID", "run_ID"])
def test_each_value_of_a_weak_ci_variable(place, variable: str) -> None:
    """Without a terminal the same values deny as of any other variable."""
    code = (
        "import json, os, sys\nfrom telemetry_kit.consent import policy as consent\n"
        "from telemetry_kit.consent import changes as control\nhome, found = "
        "control.paths_of(), []\nfor value in json.load(sys.stdin):\n"
        "    found.append(consent.decide(home, {**os.environ, sys.argv[1]: value}).allowed)\n"
        "print(json.dumps(found))"
    )
    values = [*DENYING, *HARMLESS]
    done = place.run(code, variable, input=json.dumps(values))

    assert json.loads(done.stdout) == [False] * len(DENYING) + [True] * len(HARMLESS)


@pytest.mark.parametrize("variable", ["BUILD_ID", "run_ID"])
@pytest.mark.tty
def test_weak_ci_variables_do_not_count_at_a_terminal(place, variable: str) -> None:
    """A developer's machine may carry them too: at a terminal they say nothing."""
    import pty

    leader, follower = pty.openpty()
    code = "from telemetry_kit import is_telemetry_enabled; print(is_telemetry_enabled())"
    try:
        done = place.run(code, env={variable: "7"}, stdin=follower)
    finally:
        os.close(leader)
        os.close(follower)

    assert done.stdout == "True\n"


@pytest.mark.parametrize("variable", ["PYTEST_VERSION", "PYTEST_CURRENT_TEST"])
@pytest.mark.parametrize("value", ["9.2.0", "tests/x.py::y (call)", "", "0"])
def test_pytest_denies(place, variable: str, value: str) -> None:
    """Running under pytest denies, by the variable being there at all."""
    assert not decide(place, **{variable: value}).allowed


def test_this_very_process_is_denied(place, monkeypatch) -> None:
    """With the real environment nothing is recorded from a test."""
    monkeypatch.setenv("HOME", str(place.user))
    with cache.override_runtime():
        assert not is_telemetry_enabled()
        assert None is track_role_event("role.selected", role="dev")

    assert place.lines() == []


def test_a_variable_set_while_running_is_noticed_at_once(place) -> None:
    """`os.environ` may change between two events; the second one is not recorded."""
    assert track_role_event("role.selected", role="dev")
    place.environ["DO_NOT_TRACK"] = "1"
    assert None is track_role_event("role.selected", role="dev")
    del place.environ["DO_NOT_TRACK"]

    assert track_role_event("role.selected", role="dev")
    assert len(place.lines()) == 2


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "GITHUB_ACTIONS"])
def test_a_variable_set_in_os_environ_is_noticed_at_once(place, variable: str) -> None:
    """The same with the real `os.environ`, which is watched through its own table."""
    done = place.run(
        "import os, sys\nfrom telemetry_kit import track_role_event as t\n"
        "from telemetry_kit.consent import decision as grants\n"
        "assert t('role.selected', role='dev')\n"
        "os.environ[sys.argv[1]] = '1'\n"
        "assert t('role.selected', role='dev') is None\n"
        "del os.environ[sys.argv[1]]\n"
        "assert t('role.selected', role='dev')",
        variable,
    )

    assert (done.returncode, done.stderr, len(place.lines())) == (0, "", 2)


# -- the system --------------------------------------------------------------------------------


class Administered(ProjectPaths):
    """Paths with another file of the administrator."""

    system_file = ""  # type: ignore[assignment]


@pytest.fixture
def administered(place, tmp_path):
    """A granted place with a path for an administrator's file."""
    home = place.home
    found = Administered(home.app, home.root, home.config, home.state)
    Administered.system_file = str(tmp_path / "telemetry.conf")
    yield found, Path(Administered.system_file), place.environ
    Administered.system_file = ""


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (None, True),
        (b"enabled = true\n", True),
        (b"enabled=true", True),
        (b"# policy\n  enabled = TRUE  # yes\n", True),
        (b"enabled = false\n", False),
        (b"enabled = true\nenabled = true\n", True),
        (b"enabled = true\nenabled = false\n", False),
        (b"enabled = true\nenabled = false = x\n", False),
        (b"enabled = false\nenabled = true\n", False),
        (b'enabled = "true"\n', False),
        (b"enabled = yes\n", False),
        (b"", False),
        (b"\n", False),
        (b"enabled\n", False),
        (b"enabled = 1\n", False),
        (b"nonsense", False),
        (b"#enabled = true\n", False),
        (b"disabled = true\n", False),
        (b"\xff\xfe\x00", False),
        (b"x" * 100_000, False),
    ],
)
def test_system_file(administered, text: bytes | None, allowed: bool) -> None:
    """An administrator's file denies unless it says `enabled = true`; it never grants."""
    home, path, environ = administered
    if text is not None:
        path.write_bytes(text)
    decision = policy.decide(home, environ)

    assert allowed == decision.allowed
    assert allowed or ("system", str(path)) == (decision.rule.owner, decision.rule.name)


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_strange_system_file_denies(administered, kind: str) -> None:
    """What is there but cannot be read denies, without waiting."""
    home, path, environ = administered
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)

    assert not policy.decide(home, environ).allowed


def test_system_file_cannot_grant(undecided, tmp_path) -> None:
    """`enabled = true` of an administrator is no yes of the user."""
    home = Administered("flowspec", str(undecided.root), str(undecided.user / "c"), "/nonexistent")
    Administered.system_file = str(tmp_path / "telemetry.conf")
    Path(Administered.system_file).write_text("enabled = true\n")
    try:
        assert not policy.decide(home, {}).allowed
    finally:
        Administered.system_file = ""


# -- the repository and the user's file ----------------------------------------------------------

OURS = ".flowspec/telemetry.toml"
THEIRS = "pyproject.toml"


def write(place, file: str, body: str) -> Path:
    """Put a switch into one of the project's files, under its own table."""
    path = place.root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(body if file == OURS else "[tool.telemetry_kit]\n" + body)
    return path


@pytest.mark.parametrize("file", [OURS, THEIRS])
@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("", "silent"),
        ("roles = ['x']\n", "silent"),
        ("enabled = true\n", "ignored"),
        ("enabled = false\n", "deny"),
        ("enabled = 'false'\n", "deny"),
        ("enabled = 'true'\n", "deny"),
        ("enabled = 1\n", "deny"),
        ("enabled = 0\n", "deny"),
        ("enabled = []\n", "deny"),
        ("enabled = [\n", "deny"),
        ("enabled = true\nenabled = true\n", "deny"),
    ],
)
def test_repository_file(place, file: str, body: str, verdict: str) -> None:
    """A committed file can only deny; true is ignored and damage denies."""
    path = write(place, file, body)
    rule = next(r for r in policy.rules(place.home, place.environ) if r.name == str(path))

    assert ("repository", verdict) == (rule.owner, rule.verdict)
    assert (verdict != "deny") == decide(place).allowed


def test_what_is_ignored_does_not_decide(undecided) -> None:
    """Where nothing was decided that is what is told, and not that a file has no say."""
    path = Path(undecided.home.user_file)
    path.parent.mkdir(parents=True)
    path.write_text("enabled = true\n")
    rule = decide(undecided).rule

    assert (rule.verdict, rule.says) == ("silent", "no decision yet")


@pytest.mark.parametrize("file", [OURS, THEIRS])
def test_repository_true_is_no_grant(undecided, file: str) -> None:
    """A committed file cannot speak for a colleague."""
    write(undecided, file, "enabled = true\n")

    assert not is_telemetry_enabled()
    assert None is track_role_event("role.selected", role="dev")


@pytest.mark.parametrize(
    "text",
    ["[[[", "[project]\nname = 'x'\n", "telemetry = 1\n[tool]\nother = 1\n", "[tool.ruff]\n"],
)
def test_pyproject_without_us(place, text: str) -> None:
    """A pyproject.toml that does not name us says nothing, not even when it is broken."""
    (place.root / THEIRS).write_text(text)

    assert decide(place).allowed


@pytest.mark.parametrize(
    "text",
    [
        "tool = 1 # telemetry_kit",
        "[tool]\ntelemetry_kit = false\n",
        "telemetry_kit = [",
        "[tool.telemetry_kit\n",
    ],
)
def test_pyproject_that_cannot_be_understood(place, text: str) -> None:
    """One that names us and cannot be understood denies."""
    (place.root / THEIRS).write_text(text)

    assert not decide(place).allowed


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_strange_repository_file_denies(place, kind: str) -> None:
    """A directory, a FIFO or a circular link in its place denies, without waiting."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    path = place.root / OURS
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)

    assert not decide(place).allowed


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("enabled = true\n", "ignored"),
        ("enabled = false\n", "deny"),
        ("nonsense", "deny"),
        ("agents = ['x']\n", "silent"),
    ],
)
def test_user_file(place, body: str, verdict: str) -> None:
    """The user's own configuration denies; a grant is made by the command alone."""
    Path(place.home.user_file).write_text(body)
    rule = next(
        r for r in policy.rules(place.home, place.environ) if r.name == place.home.user_file
    )

    assert ("user", verdict) == (rule.owner, rule.verdict)
    assert (verdict != "deny") == decide(place).allowed


def test_repository_change_is_noticed(place) -> None:
    """A pull that brings `enabled = false` stops a running process within 20 ms."""
    assert track_role_event("role.selected", role="dev")
    write(place, OURS, "enabled = false\n")
    place.clock.advance(0.021)

    assert None is track_role_event("role.selected", role="dev")


# -- the record --------------------------------------------------------------------------------


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


# -- the lattice -------------------------------------------------------------------------------

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


# -- deciding ----------------------------------------------------------------------------------


def test_off_until_somebody_says_yes(undecided) -> None:
    """Nothing decided means off, and looking leaves nothing behind."""
    assert not is_telemetry_enabled()
    assert None is track_role_event("role.selected", role="dev")
    assert undecided.tree() == []


def test_enable_says_whether_it_is_on(undecided) -> None:
    """`enable_telemetry()` tells whether events are recorded now: a veto may still hold."""
    assert True is enable_telemetry()
    undecided.environ["DO_NOT_TRACK"] = "1"

    assert False is enable_telemetry()


def test_enable_writes_nothing_into_the_project(place) -> None:
    """A decision is in the user's directories; the project has nothing until an event comes."""
    assert list(place.root.iterdir()) == []


def test_everything_of_the_user_is_private(place) -> None:
    """Folders that we make are 0700 and files 0600."""
    for path in (place.user / ".config").rglob("*"):
        assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode), path


def test_a_yes_is_for_one_project(place) -> None:
    """A yes for this project says nothing about another one."""
    other = place.root.parent / "other"
    other.mkdir()

    assert is_telemetry_enabled()
    assert not is_telemetry_enabled(other)
    assert None is track_role_event("role.selected", role="dev", project_root=other)


def test_a_yes_for_all_projects(undecided) -> None:
    """A yes for all projects holds in each, a project's no wins over it."""
    other = undecided.root.parent / "other"
    other.mkdir()
    enable_telemetry(all_projects=True)

    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (True, True)
    disable_telemetry(other)
    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (True, False)


def test_a_no_for_all_projects(place) -> None:
    """A no for all projects wins over a project's yes."""
    disable_telemetry(all_projects=True)

    assert not is_telemetry_enabled()


def test_a_yes_is_for_one_app(place) -> None:
    """A yes to flowspec is no yes to acme."""
    with configure(app="acme"):
        assert not is_telemetry_enabled()

    assert is_telemetry_enabled()


def test_disable_is_remembered_and_undone(place) -> None:
    """No after yes is off, yes after no is on."""
    disable_telemetry()
    assert not is_telemetry_enabled()
    assert place.record.read_bytes()[:6] == b"v1 no "

    assert enable_telemetry()


def test_disable_where_nothing_was_decided(undecided) -> None:
    """A no can be the first thing that is said, and records nothing about itself."""
    disable_telemetry()

    assert not is_telemetry_enabled()
    assert undecided.record.read_bytes()[:6] == b"v1 no "
    assert list(undecided.root.iterdir()) == []


def test_disable_under_a_veto_is_written(place) -> None:
    """Turning off writes the denial even when it is vetoed already."""
    place.environ["DO_NOT_TRACK"] = "1"
    disable_telemetry()

    assert place.record.read_bytes()[:6] == b"v1 no "


def test_turning_off_records_no_event(place) -> None:
    """The log ends with the last event before; what was recorded stays."""
    track_role_event("role.selected", role="dev")
    disable_telemetry()
    stored = [p for p in (place.root / ".flowspec").iterdir() if p.suffix == ".jsonl"]

    assert [len(p.read_bytes().splitlines()) for p in stored] == [1]
    assert [stat.S_IMODE(p.stat().st_mode) for p in stored] == [0o400]


@pytest.mark.parametrize(
    "damage", [b"nonsense", b"v9 yes 2024-02-28\n", b"", line("yes") * 2], ids=ascii
)
def test_a_damaged_record_is_kept_aside(place, damage: bytes) -> None:
    """`enable` over a damaged record works, and keeps what was there under another name."""
    place.record.write_bytes(damage)
    assert not is_telemetry_enabled()

    assert enable_telemetry()
    aside = [p for p in place.record.parent.iterdir() if "damaged" in p.name]
    assert [damage] == [p.read_bytes() for p in aside]


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "0666"])
def test_a_strange_record_is_kept_aside(place, kind: str) -> None:
    """The same with something that is no record at all; nothing behind a link is changed."""
    outside = place.user / "outside"
    outside.write_bytes(b"theirs")
    if kind == "0666":
        place.record.chmod(0o666)
    else:
        place.record.unlink()
    if kind == "directory":
        place.record.mkdir()
    elif kind == "fifo":
        os.mkfifo(place.record)
    elif kind == "link":
        place.record.symlink_to(outside)

    assert enable_telemetry()
    assert (outside.read_bytes(), place.record.is_symlink()) == (b"theirs", False)
    assert len([p for p in place.record.parent.iterdir() if "damaged" in p.name]) == 1


def test_enable_twice_changes_no_key(place) -> None:
    """A second yes keeps key and place, so that events go on under the same names."""
    before = place.key_file.read_bytes()
    enable_telemetry()

    assert before == place.key_file.read_bytes()


def test_no_home_cannot_be_decided(undecided) -> None:
    """Without a home directory a decision is an error that says so, not a silent success."""
    undecided.environ["HOME"] = ""

    with pytest.raises(ConsentError, match="home directory"):
        enable_telemetry()
    with pytest.raises(ConsentError, match="home directory"):
        disable_telemetry()
    assert not is_telemetry_enabled()


def test_a_decision_that_cannot_be_written(undecided) -> None:
    """A file where our folder should be is an error with the system's short name."""
    (undecided.user / ".config").write_text("")

    with pytest.raises(ConsentError, match=r"ENOTDIR|EEXIST|FileExists"):
        enable_telemetry()
    assert not is_telemetry_enabled()


def test_umask_takes_nothing(undecided) -> None:
    """Whatever the umask, the record can be read by us and by nobody else."""
    for mask in (0o777, 0o000, 0o077):
        former = os.umask(mask)
        try:
            assert enable_telemetry()
        finally:
            os.umask(former)
        assert stat.S_IMODE(undecided.record.stat().st_mode) == 0o600


# -- what was decided elsewhere ------------------------------------------------------------------

LOOP = """
import sys
from telemetry_kit import track_role_event
from telemetry_kit.privacy import keys as privacy
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.schema.validation import is_day
for word in sys.stdin:
    print(track_role_event("role.selected", role="dev") is not None, flush=True)
"""


def ask(child) -> bool:
    """Have a child record once; whether it did."""
    child.stdin.write("go\n")
    child.stdin.flush()
    return child.stdout.readline() == "True\n"


def test_revocation_is_noticed_at_the_next_event(place) -> None:
    """A running process stops at its next event after `disable`, and goes on after `enable`."""
    child = place.start(LOOP)
    try:
        assert ask(child)
        for _ in range(20):
            changes.disable_telemetry()
            assert not ask(child)
            changes.enable_telemetry()
            assert any(ask(child) for _ in range(10_000))
    finally:
        _, err = child.communicate(timeout=30)

    assert err == ""


def test_nothing_is_written_after_a_revocation(place) -> None:
    """What a running process is asked after `disable` returned is in no file."""
    child = place.start(LOOP)
    try:
        assert ask(child)
        changes.disable_telemetry()
        before = {p: p.read_bytes() for p in place.root.rglob("*") if p.is_file()}
        assert [ask(child) for _ in range(50)] == [False] * 50
    finally:
        child.communicate(timeout=30)

    assert before == {p: p.read_bytes() for p in place.root.rglob("*") if p.is_file()}


def test_clear_is_noticed_at_the_next_event(place) -> None:
    """A running process writes its next event into a new log, under the new key."""
    child = place.start(LOOP)
    try:
        assert ask(child)
        old = place.key
        assert changes.clear(place.home) == []
        assert not place.log.exists()
        assert ask(child)
    finally:
        child.communicate(timeout=30)

    assert [place.key.epoch] == [event["key_epoch"] for event in place.events()]
    assert not place.key.equals(old)
    assert place.key.pseudonym("project_id", str(place.root)) == place.events()[0]["project_id"]


def test_a_hand_edited_record_is_noticed_within_20_ms(place) -> None:
    """A record that the user edited takes effect 20 ms later at the latest."""
    assert track_role_event("role.selected", role="dev")
    place.record.write_bytes(line("no"))
    place.clock.advance(0.0201)

    assert None is track_role_event("role.selected", role="dev")
    place.record.write_bytes(believed(place.record, line("yes")))
    place.clock.advance(0.0201)
    assert track_role_event("role.selected", role="dev")


def test_a_deleted_record_is_noticed_within_20_ms(place) -> None:
    """Removing the record by hand turns recording off."""
    assert track_role_event("role.selected", role="dev")
    place.record.unlink()
    place.clock.advance(0.0201)

    assert None is track_role_event("role.selected", role="dev")


def test_a_decision_of_this_process_holds_at_once(place) -> None:
    """What this process decided itself holds without any time passing."""
    assert track_role_event("role.selected", role="dev")
    disable_telemetry()
    assert None is track_role_event("role.selected", role="dev")
    enable_telemetry()

    assert track_role_event("role.selected", role="dev")


def test_a_first_yes_reaches_a_running_process(undecided) -> None:
    """A process that began before anything was decided sees the yes within 20 ms."""
    assert None is track_role_event("role.selected", role="dev")
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry()
    undecided.clock.advance(0.0201)

    assert track_role_event("role.selected", role="dev")


# -- explaining --------------------------------------------------------------------------------


def test_every_rule_is_told(place) -> None:
    """`status --explain` can show all rules in order, each with a sentence."""
    found = list(policy.rules(place.home, place.environ, every=True))
    names = [rule.name for rule in found]

    assert found[0].owner == "system"
    assert set(SWITCHES) | {"CI", *VENDORS, "PYTEST_VERSION"} <= set(names)
    assert [rule.owner for rule in found[-3:]] == ["user"] * 3
    assert all(rule.says for rule in found)
    order = [owner for owner, _ in itertools.groupby(rule.owner for rule in found)]
    assert order == ["system", "environment", "repository", "user"]


@pytest.mark.parametrize("start", [None, "/nonexistent/deep", "\0", b"\xff", 3, object()])
def test_asking_never_raises(undecided, start: object) -> None:
    """Whatever directory is given, the answer is True or False."""
    assert False is is_telemetry_enabled(start)  # type: ignore[arg-type]


# -- each rule in full -------------------------------------------------------------------------


def told(rules) -> list[tuple[object, ...]]:
    """All that a rule holds, for each."""
    return [(r.owner, r.name, r.raw, r.verdict, r.says, r.everywhere) for r in rules]


def of_the_file(place, path: Path) -> tuple[object, ...]:
    """What the one rule about a file says."""
    every = told(policy.rules(place.home, place.environ))
    (found,) = [rule for rule in every if rule[1] == str(path)]
    return found


def of_the_environment(every: bool = False, **environ: str) -> list[tuple[object, ...]]:
    """What the rules of the environment say, without their owner."""
    found = told(policy.environment_rules("FLOWSPEC", environ, every))
    assert {"environment"} >= {owner for owner, *_ in found}
    return [rest for _, *rest in found]


def test_an_environment_that_says_nothing() -> None:
    """No rule; asked for every one, each in order, not set."""
    names = [
        *("DO_NOT_TRACK", "FLOWSPEC_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED", "CI"),
        *policy.CI_VARIABLES,
        *policy.WEAK_CI_VARIABLES,
        *("PYTEST_VERSION", "PYTEST_CURRENT_TEST"),
    ]

    assert [] == of_the_environment()
    found = of_the_environment(every=True)
    assert [[name, None, "silent", "not set", False] for name in names] == [
        row for row in found if row[0] in names
    ]
    assert {row[0] for row in found} <= set(names)


@pytest.mark.parametrize(
    ("variable", "value", "verdict", "says"),
    [
        *((name, " 1 ", "deny", f"{name} is set") for name in SWITCHES),
        *((name, " No ", "silent", "does not deny") for name in SWITCHES),
        ("CI", "1", "deny", "running in CI"),
        ("CI", " False ", "silent", "this is no CI run"),
        ("GITHUB_ACTIONS", "true", "deny", "running in CI (GITHUB_ACTIONS is set)"),
        ("PYTEST_VERSION", "9.0", "deny", "running under pytest"),
        ("PYTEST_CURRENT_TEST", "", "deny", "running under pytest"),
    ],
)
def test_what_a_variable_says(variable: str, value: str, verdict: str, says: str) -> None:
    """Its name, its raw value, the verdict in words; a denial holds whatever the project."""
    expected = [variable, value, verdict, says, verdict == "deny"]

    assert [expected] == of_the_environment(**{variable: value})
    assert expected in of_the_environment(every=True, **{variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [("CI", " ", "does not deny"), ("TRAVIS", "off", "does not deny")],
)
def test_a_variable_that_is_told_only_when_asked(variable: str, value: str, says: str) -> None:
    """What neither denies nor decides anything stands in the full list alone."""
    assert [] == of_the_environment(**{variable: value})
    assert [variable, value, "silent", says, False] in of_the_environment(
        every=True, **{variable: value}
    )


def test_ci_false_leaves_the_rest_out() -> None:
    """After it no vendor is asked, and pytest still is."""
    found = of_the_environment(every=True, CI="0", TRAVIS="1")

    assert [row[0] for row in found] == [*SWITCHES, "CI", "PYTEST_VERSION", "PYTEST_CURRENT_TEST"]


@pytest.mark.parametrize(
    ("text", "raw", "verdict", "says"),
    [
        (None, None, "silent", "no such file"),
        (b"  enabled = true  \n", "enabled = true", "silent", "does not deny"),
        (b"# no\n", "# no", "deny", "{path} denies"),
        (b"\xff = 1\n", "\ufffd = 1", "deny", "{path} denies"),
        ("directory", None, "deny", "{path} cannot be read"),
    ],
    ids=["none", "true", "comment", "no text", "directory"],
)
def test_what_the_administrator_says(administered, text, raw, verdict: str, says: str) -> None:
    """The file, what is in it, and the verdict in words."""
    home, path, environ = administered
    if text == "directory":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text)
    found = told(policy.rules(home, environ))[0]

    assert found == (
        "system",
        str(path),
        raw,
        verdict,
        says.format(path=path),
        verdict == "deny",
    )


def test_where_the_folder_of_the_administrator_is_a_file(administered, tmp_path) -> None:
    """Then there is no file of his."""
    home, _, environ = administered
    (tmp_path / "file").touch()
    Administered.system_file = str(tmp_path / "file" / "telemetry.conf")

    assert "no such file" == told(policy.rules(home, environ))[0][4]


@pytest.mark.parametrize("file", ["telemetry.toml", "pyproject.toml", "user"])
@pytest.mark.parametrize(
    ("body", "raw", "verdict", "says"),
    [
        (None, None, "silent", "does not deny"),
        ("other = 1\n", None, "silent", "does not deny"),
        ("enabled = true\n", "enabled = true", "ignored", "ignored: {why}"),
        ("enabled = false\n", "enabled = false", "deny", "{path} has enabled = false"),
        ('enabled = "x"\n', "enabled = ?", "deny", "{path} has enabled = ?"),
        ("enabled = 1\n", "enabled = ?", "deny", "{path} has enabled = ?"),
        ("enabled = =\n", None, "deny", "{path} cannot be read"),
    ],
    ids=["none", "other", "true", "false", "text", "number", "damaged"],
)
def test_what_a_file_says(place, file: str, body, raw, verdict: str, says: str) -> None:
    """A file of the project denies for the project, one of the user whatever the project."""
    path = {
        "telemetry.toml": place.root / ".flowspec" / "telemetry.toml",
        "pyproject.toml": place.root / "pyproject.toml",
        "user": Path(place.home.user_file),
    }[file]
    owner = "user" if file == "user" else "repository"
    why = "a committed file cannot grant consent for other people"
    if body is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text("[tool.telemetry_kit]\n" * (file == "pyproject.toml") + body)
    if file == "user":
        why = "only the command enable grants consent"
    found = of_the_file(place, path)

    assert found == (
        owner,
        str(path),
        raw,
        verdict,
        says.format(path=path, why=why),
        verdict == "deny" and file == "user",
    )


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("telemetry_kit = 1\n", "does not deny"),
        ("# telemetry_kit\n", "does not deny"),
        ("[tool]\nx = 1  # telemetry_kit\n", "does not deny"),
        ("tool = 1  # telemetry_kit\n", "cannot be read"),
        ("[tool]\ntelemetry_kit = 1\n", "cannot be read"),
    ],
    ids=["key", "comment", "behind", "no tool", "no table"],
)
def test_a_pyproject_with_our_name_somewhere(place, text: str, state: str) -> None:
    """Only the table of that name speaks; where something else is in its place, it denies."""
    path = place.root / "pyproject.toml"
    path.write_text(text)
    found = of_the_file(place, path)

    assert found[4].endswith(state)


def test_what_the_users_records_say(undecided) -> None:
    """Before anything was decided, after a yes for all projects, and after one for this."""
    home = undecided.home

    def records() -> list[tuple[object, ...]]:
        return told(policy.rules(home, undecided.environ))[-2:]

    nothing = ("user", home.config, None, "silent", "no decision yet", True)
    assert nothing == records()[-1]
    Path(home.config).mkdir(parents=True)
    all_projects = Path(home.config, policy.RECORD)
    assert [
        ("user", str(all_projects), None, "silent", "no decision for all projects", False),
        ("user", f"{home.config}/projects", None, "silent", "no decision yet", True),
    ] == records()
    undecided.grant()
    undecided.record.write_bytes(line("no"))
    all_projects.write_bytes(believed(all_projects, line("yes")))
    all_projects.chmod(0o600)
    yes, no = all_projects.read_text().strip(), line("no").decode().strip()
    said = f"for all projects on {DAY}", f"for this project on {DAY}"
    assert [
        ("user", str(all_projects), yes, "grant", f"you granted consent {said[0]}", True),
        ("user", str(undecided.record), no, "deny", f"you denied consent {said[1]}", False),
    ] == records()


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("data", "raw", "verdict", "says"),
    [
        (
            b"v1 no 2024-02-28\n",
            "v1 no 2024-02-28",
            "deny",
            "you denied consent {scope} on 2024-02-28",
        ),
        (
            line("yes", expires="2024-03-01"),
            line("yes", expires="2024-03-01").decode().strip(),
            "silent",
            f"your consent {{scope}} of {DAY} has expired",
        ),
        (b"\xff?\n", "\\xff?", "deny", "{path} is not a valid consent record: {anew}"),
        (b"x" * 70_000, None, "deny", "{path} is longer than 65536 bytes: {anew}"),
        ("open", None, "deny", "{path} is open to others (mode 0622): {anew}"),
    ],
    ids=["no", "expired", "damaged", "long", "open"],
)
def test_what_a_record_says(place, everywhere: bool, data, raw, verdict: str, says: str) -> None:
    """The file, its line, the verdict in words; one for all projects holds whatever the project."""
    path = Path(place.home.config, policy.RECORD) if everywhere else place.record
    path.write_bytes(line("yes") if data == "open" else data)
    path.chmod(0o622 if data == "open" else 0o600)
    found = of_the_file(place, path)
    scope = "for all projects" if everywhere else "for this project"
    anew = f"run on or off{' --all-projects' * everywhere} to decide again"

    assert found == (
        "user",
        str(path),
        raw,
        verdict,
        says.format(path=path, scope=scope, anew=anew),
        everywhere and verdict == "deny",
    )


WAY_OUT = "reset --all-projects deletes it, with every decision"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (b"", "is not a key"),
        (b"\0" * 32, "is not a key"),
        (b"x" * 31, "is not a key"),
        (b"x" * 33, "is longer than 32 bytes"),
    ],
    ids=len,
)
def test_a_directory_key_that_is_none(place, key: bytes, says: str) -> None:
    """Without it nobody can say where this project's record is: off, in every project."""
    path = Path(place.home.directory_key)
    path.write_bytes(key)
    found = told(policy.rules(place.home, place.environ))[-1]

    assert found == ("user", str(path), None, "deny", f"{path} {says}: {WAY_OUT}", True)
    with pytest.raises(ConsentError, match=f"^{path} {says}: {WAY_OUT}$"):
        ProjectDirs.of(place.home)


def test_folders_of_a_project_do_not_show_its_path(place, make_place) -> None:
    """Sixteen digits that depend on the key and on the path."""
    elsewhere = ProjectPaths(
        "flowspec", str(make_place("x").root), place.home.config, place.home.state
    )
    mine, theirs = ProjectDirs.of(place.home).name, ProjectDirs.of(elsewhere).name
    Path(place.home.directory_key).write_bytes(bytes(range(32)))
    anew = ProjectDirs.of(place.home).name
    mac = hmac.digest(bytes(range(32)), b"place\0" + os.fsencode(place.home.root), "sha256").hex()

    assert 3 == len({mine, theirs, anew})
    assert mac[:16] == anew


@pytest.mark.parametrize(
    ("environ", "record", "vetoed"),
    [
        ({}, line("yes"), False),
        ({"DO_NOT_TRACK": "1"}, line("yes"), True),
        ({}, line("no"), False),
        ({}, line("yes", expires="2024-03-01"), False),
    ],
    ids=["yes", "switch", "no", "expired"],
)
def test_a_veto_is_somebody_elses_no(place, environ, record: bytes, vetoed: bool) -> None:
    """The user's own no, or no answer, is none."""
    place.record.write_bytes(believed(place.record, record))

    assert vetoed == decide(place, **environ).vetoed


def test_only_a_grant_says_what_was_accepted(place) -> None:
    """The deciding rule, and what its record covers."""
    words = b" time=hour keep=7 context=a:measure\n"
    place.record.write_bytes(believed(place.record, line("yes")[:-1] + words))
    found = decide(place)
    denied = decide(place, DO_NOT_TRACK="1")

    assert found.grant is not None
    assert (1, "hour", 7, frozenset({"a:measure"})) == (
        found.grant.notice,
        found.grant.time,
        found.grant.keep_days,
        found.grant.context,
    )
    assert (None, "DO_NOT_TRACK") == (denied.grant, denied.rule.name)


@pytest.mark.parametrize(
    ("configured", "words", "expected"),
    [(30, " keep=90", 30), (90, " keep=90", 90), (120, " keep=90", 90), (120, " keep=7", 7)],
)
def test_lines_are_kept_as_long_as_both_say(
    place, configured: int, words: str, expected: int
) -> None:
    """As configured, and never longer than the user said yes to."""
    configure(retention_days=configured)
    place.record.write_bytes(believed(place.record, line("yes")[:-1] + f"{words}\n".encode()))

    assert expected == decide(place).keep_days
    # Without a yes, what is there goes as configured.
    assert configured == decide(place, DO_NOT_TRACK="1").keep_days


@pytest.mark.parametrize("decision", ["yes", "no", "damaged"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_what_was_ever_decided(undecided, decision: str, everywhere: bool) -> None:
    """For this project or for all, whatever became of it; and not before."""
    home = undecided.home
    assert not policy.is_decided(home)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(undecided.root, all_projects=everywhere)
    path = record_of(home, everywhere)
    path.write_bytes(b"" if decision == "damaged" else line(decision))

    assert policy.is_decided(home)
    # Another project of the same user knows of one for all.
    other = ProjectPaths(home.app, f"{home.root}-2", home.config, home.state)
    assert everywhere == policy.is_decided(other)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_directory_key_that_cannot_be_used_decides_nothing(place, everywhere: bool) -> None:
    """Only what is for all projects can be found without it."""
    Path(place.home.directory_key).write_bytes(b"short")
    if everywhere:
        Path(place.home.config, policy.RECORD).write_bytes(line("no"))

    assert everywhere == policy.is_decided(place.home)


def test_the_variables_that_can_deny(monkeypatch) -> None:
    """All that can deny for one app, with a name of its own among them."""
    monkeypatch.setattr(policy, "has_terminal", lambda: False)
    found = {rule.name for rule in policy.environment_rules("ACME", {}, every=True)}

    assert {"ACME_TELEMETRY_DISABLED", "DO_NOT_TRACK", "CI", "BUILD_ID", "TRAVIS"} <= found
    assert {"TELEMETRY_KIT_DISABLED", "PYTEST_VERSION", "PYTEST_CURRENT_TEST"} <= found
    assert 1 == len([name for name in found if name.endswith("_TELEMETRY_DISABLED")])


def decide_in(start, place, app: str = "flowspec", **variables: str) -> policy.Decision:
    """The decision for a folder."""
    environ = {**place.environ, **variables}
    return policy.decide(find(app, str(start), environ), environ)


def test_deciding_for_a_directory(place, make_place) -> None:
    """The project of the directory decides, for one app at a time."""
    (place.root / ".git").mkdir()
    (place.root / "deep").mkdir()
    found = decide_in(place.root / "deep", place)
    other_app = decide_in(place.root, place, "acme")
    elsewhere = decide_in(make_place("theirs").root, place)
    denied = decide_in(place.root, place, DO_NOT_TRACK="1")

    assert [True, False, False] == [found.allowed, other_app.allowed, elsewhere.allowed]
    assert "DO_NOT_TRACK" == denied.rule.name


def test_no_key_no_yes(undecided) -> None:
    """Where no key can be made, nothing was decided: there is no yes on file."""
    state = undecided.user / ".local/state/telemetry-kit/flowspec"
    state.mkdir(parents=True, mode=0o700)
    (state / "projects").write_text("")
    with pytest.raises(ConsentError):
        changes.enable_telemetry()

    assert list(undecided.user.rglob("telemetry.enabled")) == []
    assert not policy.decide(undecided.home, undecided.environ).allowed


def test_a_yes_that_cannot_be_written_leaves_no_key(undecided) -> None:
    """A key that was made for a yes goes with it."""
    config = undecided.user / ".config/telemetry-kit/flowspec"
    config.mkdir(parents=True, mode=0o700)
    (config / "projects").write_text("")
    with pytest.raises(ConsentError):
        changes.enable_telemetry()

    assert list((undecided.user / ".local").rglob("key")) == []


# -- repositories that share the place ---------------------------------------------------------

VETO = "[tool.telemetry_kit]\nenabled = false\n"


def allowed(place, *parts: str) -> bool:
    """Whether recording is on in a folder of the project."""
    return decide_in(place.root.joinpath(*parts), place).allowed


def test_a_repository_below_the_root_may_deny(place) -> None:
    """Its files deny in it, whatever is granted, and nowhere else."""
    (place.root / ".flowspec").mkdir()
    (place.root / "repo" / ".git").mkdir(parents=True)
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    assert allowed(place, "repo")
    (place.root / "repo" / "pyproject.toml").write_text(VETO)

    assert not allowed(place, "repo")
    assert allowed(place)


def test_a_folder_of_ours_does_not_shake_off_the_repository(place) -> None:
    """`mkdir sub/.flowspec` makes a project of its own; the repository around still denies."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    (place.root / ".git").mkdir()
    (place.root / "sub" / ".flowspec").mkdir(parents=True)
    assert allowed(place, "sub")
    (place.root / "pyproject.toml").write_text(VETO)
    assert not allowed(place, "sub")
    (place.root / "pyproject.toml").unlink()
    with cache.override_runtime(place.environ):
        changes.disable_telemetry(place.root)

    assert not allowed(place, "sub")


def test_a_yes_for_a_repository_around_grants_nothing(place) -> None:
    """Only a no reaches further than its project."""
    (place.root / ".git").mkdir()
    (place.root / "sub" / ".flowspec").mkdir(parents=True)

    assert not allowed(place, "sub")
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(place.root / "sub")
    rules = policy.nearby(find("flowspec", str(place.root / "sub"), place.environ), place.environ)
    assert [r.verdict for r in rules] == ["silent", "silent", "ignored"]


def test_the_rules_of_a_repository_around(undecided) -> None:
    """Whose they are, where they stand, what they say: of no decision, a yes, a damaged key."""
    around = undecided.root
    (around / ".git").mkdir()
    (around / "sub" / ".flowspec").mkdir(parents=True)
    home = find("flowspec", str(around / "sub"), undecided.environ)

    def told() -> tuple[object, ...]:
        rule = list(policy.nearby(home, undecided.environ))[-1]
        return rule.owner, rule.name, rule.raw, rule.verdict, rule.says, rule.everywhere

    says = f"no decision for {around}"
    assert told() == ("user", f"{home.config}/projects", None, "silent", says, False)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(around)
    record = Path(ProjectDirs.of(home, str(around)).config, policy.RECORD)
    says = f"ignored: it covers only {around}"
    assert told() == ("user", str(record), record.read_text().strip(), "ignored", says, False)
    Path(home.directory_key).write_bytes(b"short")
    says = (
        f"{home.directory_key} is not a key: reset --all-projects deletes it, with every decision"
    )
    assert told() == ("user", home.directory_key, None, "deny", says, True)


@pytest.mark.parametrize("file", [OURS, THEIRS])
def test_both_files_of_a_repository_around_deny(place, file: str) -> None:
    """That of the app as well as that of the project."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    (place.root / ".git").mkdir()
    (place.root / "sub" / ".flowspec").mkdir(parents=True)
    assert allowed(place, "sub")
    write(place, file, "enabled = false\n")

    assert not allowed(place, "sub")


def test_the_rule_of_a_lost_key(place) -> None:
    """It is the user's, denies everywhere, and says the way out."""
    Path(place.home.directory_key).unlink()
    rule = decide(place).rule

    assert decide(place).allowed is False
    assert (rule.owner, rule.name, rule.raw) == ("user", place.home.directory_key, None)
    assert (rule.verdict, rule.everywhere) == ("deny", True)
    assert rule.says == policy.lost_key_problem(place.home)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0123456789abcdef", True),
        ("0000000000000000", True),
        ("0123456789abcde", False),
        ("0123456789abcdef0", False),
        ("0123456789abcdeg", False),
        ("0123456789abcdeX", False),
        ("0123456789ABCDEF", False),
    ],
)
def test_names_of_places(name: str, expected: bool) -> None:
    """Sixteen digits of a code, and nothing else that may lie in that folder."""
    assert expected == policy.is_directory_name(name)


@pytest.mark.parametrize(
    ("stdin", "stderr", "expected"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)]
)
def test_either_end_of_a_terminal(monkeypatch, stdin: int, stderr: int, expected: bool) -> None:
    """Somebody is there where input or errors are on one; stdout is often a pipe."""
    found = {0: bool(stdin), 2: bool(stderr)}
    monkeypatch.setattr(os, "isatty", found.__getitem__)

    assert expected == policy.has_terminal()


def test_a_terminal_that_cannot_be_asked(monkeypatch) -> None:
    """A closed descriptor is none."""

    def closed(_: int) -> bool:
        raise OSError(errno.EBADF, "closed")

    monkeypatch.setattr(os, "isatty", closed)

    assert not policy.has_terminal()


def test_a_no_reaches_the_worktrees(undecided) -> None:
    """A no for the main worktree of a git repository holds in the others."""
    main, tree = undecided.root / "main", undecided.root / "tree"
    (main / ".git" / "worktrees" / "tree").mkdir(parents=True)
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main}/.git/worktrees/tree\n")
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(all_projects=True)
    assert allowed(undecided, "tree")
    with cache.override_runtime(undecided.environ):
        changes.disable_telemetry(main)

    assert not allowed(undecided, "tree")


# -- what is there and cannot be read ----------------------------------------------------------


@pytest.mark.parametrize("which", ["ours", "theirs", "user"])
def test_a_link_that_leads_nowhere_denies(place, which: str) -> None:
    """It is there, and what it would say is not known."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    path = Path(
        {"ours": place.root / OURS, "theirs": place.root / THEIRS}.get(which, place.home.user_file)
    )
    path.symlink_to("/nonexistent-file")

    assert not is_telemetry_enabled()
    assert f"{path} cannot be read" == decide(place).rule.says


def test_a_system_file_that_leads_nowhere_denies(place, monkeypatch, tmp_path: Path) -> None:
    """The same for the administrator's."""
    path = tmp_path / "telemetry.conf"
    monkeypatch.setattr(ProjectPaths, "system_file", str(path))
    assert decide(place).allowed
    path.symlink_to("/nonexistent-file")

    assert f"{path} cannot be read" == decide(place).rule.says


# -- a place key that is gone ------------------------------------------------------------------


def test_decisions_without_the_directory_key(place) -> None:
    """Nobody can tell what they are about: off everywhere, with the way out, and it works."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
        changes.disable_telemetry()
    Path(place.home.directory_key).unlink()
    rule = decide(place).rule

    assert (rule.verdict, rule.everywhere) == ("deny", True)
    assert rule.says.endswith(
        "is missing, so no decision can be matched to its project: "
        "reset --all-projects deletes them all"
    )
    with pytest.raises(ConsentError, match="is missing"):
        enable_telemetry()
    with pytest.raises(ConsentError, match="is missing"):
        disable_telemetry()
    assert not Path(place.home.directory_key).exists()
    changes.reset(place.home, all_projects=True)
    assert decide(place).rule.says == "no decision yet"


def test_a_no_for_all_projects_without_the_directory_key(place) -> None:
    """It needs no place."""
    Path(place.home.directory_key).unlink()
    disable_telemetry(all_projects=True)

    assert decide(place).rule.says.startswith("you denied consent for all projects")


def test_an_expired_yes_for_all_projects_is_told(undecided) -> None:
    """It says more than that nothing was decided for this one."""
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(all_projects=True)
    path = Path(undecided.home.config, policy.RECORD)
    path.write_bytes(line("yes", day="2020-01-01", expires="2021-01-01"))

    assert decide(undecided).rule.says == "your consent for all projects of 2020-01-01 has expired"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("step", [enable_telemetry, disable_telemetry])
def test_nothing_is_made_in_a_folder_of_somebody_else(undecided, step) -> None:
    """As `sudo -E` would: the user could not take it away again."""
    os.chown(undecided.user, 65_534, 65_534)
    with pytest.raises(ConsentError, match="belongs to another user"):
        step()

    assert undecided.tree() == []
