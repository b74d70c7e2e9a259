"""Each rule of consent explains its verdict in a sentence."""

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
    rule_fields,
)

pytestmark = pytest.mark.usefixtures("fixed_day")


# -- explaining ----------------------------------------------------------------------------------


def test_every_rule_is_listed(place) -> None:
    """`rules(every=True)` returns all rules in order, each with a sentence."""
    found = list(policy.rules(place.home, place.environ, every=True))
    names = [rule.name for rule in found]

    assert found[0].owner == "system"
    assert set(SWITCHES) | {"CI", *VENDORS, "PYTEST_VERSION"} <= set(names)
    assert [rule.owner for rule in found[-3:]] == ["user"] * 3
    assert all(rule.says for rule in found)
    order = [owner for owner, _ in itertools.groupby(rule.owner for rule in found)]
    assert order == ["system", "environment", "repository", "user"]


@pytest.mark.parametrize("start", [None, "/nonexistent/deep", "\0", b"\xff", 3, object()])
def test_is_telemetry_enabled_never_raises(undecided, start: object) -> None:
    """For any directory argument, the function returns True or False."""
    assert False is is_telemetry_enabled(start)  # type: ignore[arg-type]


def fields_of_file_rule(place, path: Path) -> tuple[object, ...]:
    """Return the fields of the rule for a file."""
    every = rule_fields(policy.rules(place.home, place.environ))
    (found,) = [rule for rule in every if rule[1] == str(path)]
    return found


def fields_of_environment_rules(every: bool = False, **environ: str) -> list[tuple[object, ...]]:
    """Return the fields of the rules of the environment, without their owner."""
    found = rule_fields(policy.environment_rules("FLOWSPEC", environ, every))
    assert {"environment"} >= {owner for owner, *_ in found}
    return [rest for _, *rest in found]


# -- each rule in full ---------------------------------------------------------------------------


def test_an_empty_environment() -> None:
    """An empty environment has no rule. With `every`, each variable has a rule with "not set"."""
    names = [
        *("DO_NOT_TRACK", "FLOWSPEC_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED", "CI"),
        *policy.CI_VARIABLES,
        *policy.WEAK_CI_VARIABLES,
        *("PYTEST_VERSION", "PYTEST_CURRENT_TEST"),
    ]

    assert [] == fields_of_environment_rules()
    found = fields_of_environment_rules(every=True)
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
def test_the_rule_of_a_variable(variable: str, value: str, verdict: str, says: str) -> None:
    """The rule of a variable has its name, value, verdict and sentence. It covers all projects."""
    expected = [variable, value, verdict, says, verdict == "deny"]

    assert [expected] == fields_of_environment_rules(**{variable: value})
    assert expected in fields_of_environment_rules(every=True, **{variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [("CI", " ", "does not deny"), ("TRAVIS", "off", "does not deny")],
)
def test_a_variable_that_decides_nothing(variable: str, value: str, says: str) -> None:
    """If a variable decides nothing, only the full list has its rule."""
    assert [] == fields_of_environment_rules(**{variable: value})
    assert [variable, value, "silent", says, False] in fields_of_environment_rules(
        every=True, **{variable: value}
    )


def test_ci_false_omits_the_vendors() -> None:
    """If `CI` is false, the list omits the variables of vendors, but not those of pytest."""
    found = fields_of_environment_rules(every=True, CI="0", TRAVIS="1")

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
def test_the_rule_of_the_administrators_file(
    administered, text, raw, verdict: str, says: str
) -> None:
    """The rule of the administrator's file has its path, content, verdict and sentence."""
    home, path, environ = administered
    if text == "directory":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text)
    found = rule_fields(policy.rules(home, environ))[0]

    assert found == (
        "system",
        str(path),
        raw,
        verdict,
        says.format(path=path),
        verdict == "deny",
    )


def test_a_file_at_the_administrators_directory(administered, tmp_path) -> None:
    """If the administrator's directory is a file, there is no administrator's file."""
    home, _, environ = administered
    (tmp_path / "file").touch()
    Administered.system_file = str(tmp_path / "file" / "telemetry.conf")

    assert "no such file" == rule_fields(policy.rules(home, environ))[0][4]


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
def test_the_rule_of_a_settings_file(place, file: str, body, raw, verdict: str, says: str) -> None:
    """A project's file denies for the project, and the user's file for all projects."""
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
    found = fields_of_file_rule(place, path)

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
def test_a_pyproject_that_mentions_the_package(place, text: str, state: str) -> None:
    """Only the package's table has settings. If its key has another value, the file denies."""
    path = place.root / "pyproject.toml"
    path.write_text(text)
    found = fields_of_file_rule(place, path)

    assert found[4].endswith(state)


def test_the_rules_of_the_users_records(undecided) -> None:
    """Each record has a rule: before a decision, after a grant for all, and after a denial here."""
    home = undecided.home

    def records() -> list[tuple[object, ...]]:
        return rule_fields(policy.rules(home, undecided.environ))[-2:]

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
    grant, denial = all_projects.read_text().strip(), line("no").decode().strip()
    scopes = f"for all projects on {DAY}", f"for this project on {DAY}"
    assert [
        ("user", str(all_projects), grant, "grant", f"you granted consent {scopes[0]}", True),
        ("user", str(undecided.record), denial, "deny", f"you denied consent {scopes[1]}", False),
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
        (b"\xff?\n", "\\xff?", "deny", "{path} is not a valid consent record: {repair}"),
        (b"x" * 70_000, None, "deny", "{path} is longer than 65,536 bytes: {repair}"),
        ("open", None, "deny", "{path} is open to others (mode 0622): {repair}"),
    ],
    ids=["no", "expired", "damaged", "long", "open"],
)
def test_the_rule_of_a_record(place, everywhere: bool, data, raw, verdict: str, says: str) -> None:
    """The rule of a record has path, line, verdict and sentence. It covers one or all projects."""
    path = Path(place.home.config, policy.RECORD) if everywhere else place.record
    path.write_bytes(line("yes") if data == "open" else data)
    path.chmod(0o622 if data == "open" else 0o600)
    found = fields_of_file_rule(place, path)
    scope = "for all projects" if everywhere else "for this project"
    repair = f"run on or off{' --all-projects' * everywhere} to decide again"

    assert found == (
        "user",
        str(path),
        raw,
        verdict,
        says.format(path=path, scope=scope, repair=repair),
        everywhere and verdict == "deny",
    )


REPAIR = "reset --all-projects deletes it, with every decision"


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
def test_an_invalid_directory_key_denies(place, key: bytes, says: str) -> None:
    """If the directory key is invalid, no record can be found, so recording is off everywhere."""
    path = Path(place.home.directory_key)
    path.write_bytes(key)
    found = rule_fields(policy.rules(place.home, place.environ))[-1]

    assert found == ("user", str(path), None, "deny", f"{path} {says}: {REPAIR}", True)
    with pytest.raises(ConsentError, match=f"^{path} {says}: {REPAIR}$"):
        ProjectDirs.of(place.home)


def test_a_projects_directory_name_hides_its_path(place, make_place) -> None:
    """The name is sixteen hex digits of an HMAC of the project's path."""
    elsewhere = ProjectPaths(
        "flowspec", str(make_place("x").root), place.home.config, place.home.state
    )
    own, other = ProjectDirs.of(place.home).name, ProjectDirs.of(elsewhere).name
    Path(place.home.directory_key).write_bytes(bytes(range(32)))
    with_new_key = ProjectDirs.of(place.home).name
    mac = hmac.digest(bytes(range(32)), b"place\0" + os.fsencode(place.home.root), "sha256").hex()

    assert 3 == len({own, other, with_new_key})
    assert mac[:16] == with_new_key


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
def test_a_veto_is_a_denial_by_another_owner(place, environ, record: bytes, vetoed: bool) -> None:
    """A denial of the user or a missing decision is no veto."""
    place.record.write_bytes(believed(place.record, record))

    assert vetoed == decide(place, **environ).vetoed


def test_only_a_grant_has_a_scope(place) -> None:
    """A decision has the scope of the grant, and none if another rule denies."""
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
def test_the_shorter_retention_applies(place, configured: int, words: str, expected: int) -> None:
    """Events are kept as configured, and never longer than the user granted."""
    configure(retention_days=configured)
    place.record.write_bytes(believed(place.record, line("yes")[:-1] + f"{words}\n".encode()))

    assert expected == decide(place).keep_days
    # Without a grant, existing events expire as configured.
    assert configured == decide(place, DO_NOT_TRACK="1").keep_days


@pytest.mark.parametrize("decision", ["yes", "no", "damaged"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_is_decided_after_any_decision(undecided, decision: str, everywhere: bool) -> None:
    """`is_decided()` is true after a decision for the project or for all projects."""
    home = undecided.home
    assert not policy.is_decided(home)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(undecided.root, all_projects=everywhere)
    path = record_of(home, everywhere)
    path.write_bytes(b"" if decision == "damaged" else line(decision))

    assert policy.is_decided(home)
    # A decision for all projects also covers another project of the same user.
    other = ProjectPaths(home.app, f"{home.root}-2", home.config, home.state)
    assert everywhere == policy.is_decided(other)


@pytest.mark.parametrize("everywhere", [False, True])
def test_is_decided_with_an_invalid_directory_key(place, everywhere: bool) -> None:
    """Without a valid directory key, only a decision for all projects is found."""
    Path(place.home.directory_key).write_bytes(b"short")
    if everywhere:
        Path(place.home.config, policy.RECORD).write_bytes(line("no"))

    assert everywhere == policy.is_decided(place.home)


def test_the_variables_that_can_deny(monkeypatch) -> None:
    """The full list has all variables that can deny for an app, with the app's own switch."""
    monkeypatch.setattr(policy, "has_terminal", lambda: False)
    found = {rule.name for rule in policy.environment_rules("ACME", {}, every=True)}

    assert {"ACME_TELEMETRY_DISABLED", "DO_NOT_TRACK", "CI", "BUILD_ID", "TRAVIS"} <= found
    assert {"TELEMETRY_KIT_DISABLED", "PYTEST_VERSION", "PYTEST_CURRENT_TEST"} <= found
    assert 1 == len([name for name in found if name.endswith("_TELEMETRY_DISABLED")])


def test_the_decision_for_a_directory(place, make_place) -> None:
    """The decision for a directory is that of its project, for one app."""
    (place.root / ".git").mkdir()
    (place.root / "deep").mkdir()
    found = decide_in(place.root / "deep", place)
    other_app = decide_in(place.root, place, "acme")
    elsewhere = decide_in(make_place("theirs").root, place)
    denied = decide_in(place.root, place, DO_NOT_TRACK="1")

    assert [True, False, False] == [found.allowed, other_app.allowed, elsewhere.allowed]
    assert "DO_NOT_TRACK" == denied.rule.name


def test_no_grant_is_saved_without_a_key(undecided) -> None:
    """If no key can be created, `enable_telemetry()` raises and saves no grant."""
    state = undecided.user / ".local/state/telemetry-kit/flowspec"
    state.mkdir(parents=True, mode=0o700)
    (state / "projects").write_text("")
    with pytest.raises(ConsentError):
        changes.enable_telemetry()

    assert list(undecided.user.rglob("telemetry.enabled")) == []
    assert not policy.decide(undecided.home, undecided.environ).allowed


def test_a_grant_that_cannot_be_saved_leaves_no_key(undecided) -> None:
    """If a grant cannot be saved, its new key is deleted."""
    config = undecided.user / ".config/telemetry-kit/flowspec"
    config.mkdir(parents=True, mode=0o700)
    (config / "projects").write_text("")
    with pytest.raises(ConsentError):
        changes.enable_telemetry()

    assert list((undecided.user / ".local").rglob("key")) == []
