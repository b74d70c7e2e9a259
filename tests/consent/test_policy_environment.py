"""The environment can deny and never grants: switches, CI variables and test runs."""

import json
import os

import pytest

from telemetry_kit import (
    configure,
    is_telemetry_enabled,
    track_role_event,
)
from telemetry_kit.consent import cache, changes, policy
from tests.consent.policy_helpers import SWITCHES, VENDORS, decide

pytestmark = pytest.mark.usefixtures("fixed_day")


HARMLESS = ["", "0", "false", "no", "off", "False", "NO", "oFF", " 0 ", "\tfalse\n", "   "]


DENYING = [
    *("1", "true", "yes", "on", "TRUE", "2", "00", "0.0", "n", "f", "none", "null", "x", "-0"),
    *(" TRUE ", "banana", "NaN", '"false"', "0 0", "false;", "\uff10", "\udcff", "1" * 10_000),
]


@pytest.mark.parametrize("variable", SWITCHES)
@pytest.mark.parametrize("value", DENYING, ids=lambda value: ascii(value)[:12])
def test_denying_values_of_a_switch(place, variable: str, value: str) -> None:
    """Any value of a switch denies, except for the five harmless words."""
    decision = decide(place, **{variable: value})

    assert (False, "environment", variable) == (
        decision.allowed,
        decision.rule.owner,
        decision.rule.name,
    )
    assert (value, True) == (decision.rule.raw, decision.vetoed)


@pytest.mark.parametrize("variable", SWITCHES)
@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_harmless_values_of_a_switch(place, variable: str, value: str) -> None:
    """`""`, `0`, `false`, `no` and `off` do not deny, in any case and with spaces around."""
    assert decide(place, **{variable: value}).allowed


@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_a_harmless_switch_grants_nothing(undecided, value: str) -> None:
    """A harmless value does not grant consent."""
    assert not decide(undecided, DO_NOT_TRACK=value).allowed


def test_the_switch_of_another_app(place) -> None:
    """`ACME_TELEMETRY_DISABLED` does not deny for flowspec."""
    assert decide(place, ACME_TELEMETRY_DISABLED="1").allowed


def test_the_switch_has_the_name_of_the_app(place) -> None:
    """The switch of the app `acme-x` is `ACME_X_TELEMETRY_DISABLED`."""
    configure(app="acme-x")
    changes.enable_telemetry()
    place.environ["FLOWSPEC_TELEMETRY_DISABLED"] = "1"

    assert is_telemetry_enabled()
    place.environ["ACME_X_TELEMETRY_DISABLED"] = "1"
    assert not is_telemetry_enabled()


@pytest.mark.parametrize("variable", VENDORS)
def test_each_ci_variable_denies(place, variable: str) -> None:
    """The CI variable of each vendor denies with any value but the harmless ones."""
    for value in DENYING:
        decision = decide(place, **{variable: value})
        assert (False, variable, value, True) == (
            decision.allowed,
            decision.rule.name,
            decision.rule.raw,
            decision.rule.everywhere,
        )


@pytest.mark.parametrize("variable", VENDORS)
def test_harmless_values_of_a_ci_variable(place, variable: str) -> None:
    """`GITHUB_ACTIONS=false` does not deny, and does not override another denial."""
    for value in HARMLESS:
        assert decide(place, **{variable: value}).allowed, value
        assert not decide(place, **{variable: value, "DO_NOT_TRACK": "1"}).allowed, value


def test_all_ci_variables_are_tested() -> None:
    """The vendors in these tests are the vendors of the policy, and each has a rule."""
    assert tuple(VENDORS) == policy.CI_VARIABLES
    rules = policy.environment_rules("FLOWSPEC", {}, every=True)
    assert {*VENDORS, "CI", *SWITCHES} <= {rule.name for rule in rules}


@pytest.mark.parametrize(
    "value", [*DENYING, "woodpecker", "codeship"], ids=lambda value: ascii(value)[:12]
)
def test_ci_denies(place, value: str) -> None:
    """`CI` denies with any value but the harmless ones."""
    assert not decide(place, CI=value).allowed


@pytest.mark.parametrize("value", [v for v in HARMLESS if v.strip()], ids=repr)
def test_ci_false_overrides_the_vendors(place, value: str) -> None:
    """If `CI` is false, the variables of vendors do not deny."""
    assert decide(place, CI=value, GITHUB_ACTIONS="true", JENKINS_URL="x").allowed


def test_ci_false_overrides_nothing_else(place) -> None:
    """If `CI` is false, switches and pytest still deny."""
    assert not decide(place, CI="false", DO_NOT_TRACK="1").allowed
    assert not decide(place, CI="false", PYTEST_VERSION="9").allowed


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_ci_is_ignored(place, value: str) -> None:
    """An empty `CI` neither denies nor overrides the variables of vendors."""
    assert decide(place, CI=value).allowed
    assert not decide(place, CI=value, GITHUB_ACTIONS="true").allowed


@pytest.mark.parametrize("variable", ["BUILD_ID", "run_ID"])
def test_weak_ci_variables_deny_without_a_terminal(place, variable: str) -> None:
    """If the program has no terminal, `BUILD_ID` and `run_ID` deny."""
    code = "from telemetry_kit import is_telemetry_enabled; print(is_telemetry_enabled())"
    options = {"stdin": -3}

    assert place.run(code, env={variable: "7"}, **options).stdout == "False\n"
    assert place.run(code, env={variable: "0"}, **options).stdout == "True\n"


@pytest.mark.parametrize("variable", ["BUILD_ID", "run_ID"])
def test_each_value_of_a_weak_ci_variable(place, variable: str) -> None:
    """Without a terminal, weak CI variables have the same denying values as the others."""
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
def test_weak_ci_variables_do_not_deny_at_a_terminal(place, variable: str) -> None:
    """At a terminal, `BUILD_ID` and `run_ID` do not deny, since developers may set them too."""
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
    """If a variable of pytest is set, recording is off, whatever its value is."""
    assert not decide(place, **{variable: value}).allowed


def test_this_very_process_is_denied(place, monkeypatch) -> None:
    """With the real environment, a test records no event."""
    monkeypatch.setenv("HOME", str(place.user))
    with cache.override_runtime():
        assert not is_telemetry_enabled()
        assert None is track_role_event("role.selected", role="dev")

    assert place.lines() == []


def test_a_variable_set_while_running_is_noticed_at_once(place) -> None:
    """If a switch is set between two events, the second one is not recorded."""
    assert track_role_event("role.selected", role="dev")
    place.environ["DO_NOT_TRACK"] = "1"
    assert None is track_role_event("role.selected", role="dev")
    del place.environ["DO_NOT_TRACK"]

    assert track_role_event("role.selected", role="dev")
    assert len(place.lines()) == 2


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "GITHUB_ACTIONS"])
def test_a_variable_set_in_os_environ_is_noticed_at_once(place, variable: str) -> None:
    """A switch that is set in the real `os.environ` stops the next event."""
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
