"""Each rule of consent explains its result in a sentence."""

import hmac
import itertools
import os
from pathlib import Path

import pytest

from telemetry_kit import (
    configure,
    is_telemetry_enabled,
)
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.errors import ConsentError
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy.projects import ProjectDirs
from tests.conftest import believed, record_of
from tests.consent.policy_helpers import (
    DAY,
    SWITCHES,
    VENDORS,
    Administered,
    decide,
    decide_in,
    line,
    told,
)


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


# -- explaining ----------------------------------------------------------------------------------


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


# -- each rule in full ---------------------------------------------------------------------------


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
