"""The policy of consent for every owner, every value and every order.

Recording is on only if the user has granted consent and no rule denies it.
"""

import itertools
import os
import random
from pathlib import Path

import pytest

from telemetry_kit import is_telemetry_enabled
from telemetry_kit.consent import cache, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.consent.policy import DENY, GRANT, IGNORED, SILENT, Rule
from telemetry_kit.paths import ProjectPaths
from tests.conftest import believed

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "consent.md"
DAY = consent_decision.today()
LAST = consent_decision.a_year_after(DAY)
YES = f"v1 yes {DAY} notice=1 scope=0123456789abcdef expires={LAST}\n".encode()
SWITCH = {"none": None, "true": b"enabled = true\n", "false": b"enabled = false\n"}
RECORDS = {
    "none": None,
    "yes": YES,
    "no": b"v1 no 2024-02-28\n",
    "corrupt": b"v1 yes",
    "expired": YES.replace(LAST.encode(), b"2024-01-01"),
}
# Each owner with all its values. `product()` changes the values of the first owner last.
VALUES = {
    "all projects": tuple(RECORDS),
    "this project": tuple(RECORDS),
    "user's file": ("none", "true", "false", "broken"),
    ".flowspec/telemetry.toml": ("none", "true", "false", "broken"),
    "pyproject.toml": ("none", "true", "false", "broken"),
    "system": ("none", "true", "false"),
    "environment": ("none", "harmless", "denying"),
}
DENYING = {"false", "broken", "denying", "no", "corrupt"}


def expected_decision(state: dict[str, str]) -> bool:
    """Return whether recording is on for the values of all owners."""
    return "yes" in state.values() and not DENYING & set(state.values())


class Administered(ProjectPaths):
    """Project paths whose administrator's file a test can write."""

    system_file = ""  # type: ignore[assignment]


class Lattice:
    """A project in which a test can set the value of every owner."""

    def __init__(self, place, system: Path) -> None:
        home = place.home
        (place.root / ".flowspec").mkdir(exist_ok=True)
        self.home = Administered(home.app, home.root, home.config, home.state)
        Administered.system_file = str(system)
        self.environ = dict(place.environ)
        self.paths = {
            "system": system,
            ".flowspec/telemetry.toml": place.root / ".flowspec/telemetry.toml",
            "pyproject.toml": place.root / "pyproject.toml",
            "user's file": Path(home.user_file),
            "all projects": Path(home.config) / policy.RECORD,
            "this project": place.record,
        }
        self.state = dict.fromkeys(VALUES, "none")
        place.record.unlink()

    def put(self, owner: str, value: str) -> None:
        """Set the value of an owner."""
        if self.state[owner] == value:
            return
        self.state[owner] = value
        if owner == "environment":
            for name in ("DO_NOT_TRACK", "CI"):
                self.environ.pop(name, None)
            if value != "none":
                self.environ["DO_NOT_TRACK"] = "0" if value == "harmless" else "1"
                self.environ["CI"] = "false"
            return
        content = RECORDS[value] if value in RECORDS else SWITCH.get(value, b"enabled = [\n")
        path = self.paths[owner]
        if content is None:
            path.unlink(missing_ok=True)
            return
        if path.name == policy.RECORD:
            content = believed(path, content)
        if owner == "pyproject.toml":
            content = b"[tool.telemetry_kit]\n" + content
        # A new inode, as an editor creates it.
        path.with_name("new").write_bytes(content)
        path.with_name("new").chmod(0o600)
        path.with_name("new").rename(path)

    def decide(self) -> policy.Decision:
        """Return the decision of the commands, which always equals that of the recorder."""
        decision = policy.decide(self.home, self.environ, every_file=True)
        assert decision.allowed == policy.decide(self.home, self.environ).allowed
        return decision


@pytest.fixture
def lattice(place, tmp_path, monkeypatch):
    """A project in which no owner has a value, on the day of the values above."""
    monkeypatch.setattr(consent_decision, "today", lambda: DAY)
    yield Lattice(place, tmp_path / "telemetry.conf")
    Administered.system_file = ""


@pytest.mark.slow
def test_every_state(lattice) -> None:
    """Each combination of all values, on real files, gives the expected decision."""
    on = number = 0
    for values in itertools.product(*VALUES.values()):
        for owner, value in zip(VALUES, values, strict=True):
            lattice.put(owner, value)
        decision = lattice.decide()
        number, on = number + 1, on + decision.allowed

        assert decision.allowed == expected_decision(lattice.state), lattice.state
        denied = bool(DENYING & set(values))
        assert (decision.rule.verdict == DENY) == denied, lattice.state
        assert (decision.grant is not None) == decision.allowed

    assert f"| states of all owners | {number:,} | {on:,} |" in PAGE.read_text()


def test_every_order_of_changes(lattice) -> None:
    """The decision depends on the final values, in whatever order the owners change them."""
    dice = random.Random(5)
    # The same rule reads both files of the repository, so one of them is enough.
    owners = [owner for owner in VALUES if owner != "pyproject.toml"]
    number = 0
    for order in itertools.permutations(owners):
        target = {owner: dice.choice(VALUES[owner]) for owner in owners}
        for owner in order[: 1 + number % 2]:
            lattice.put(owner, target[owner])
            assert lattice.decide().allowed == expected_decision(lattice.state), (
                order,
                lattice.state,
            )
        for owner in order[2:]:
            lattice.put(owner, target[owner])
        assert lattice.decide().allowed == expected_decision(lattice.state), (order, lattice.state)
        number += 1

    assert f"| orders in which the owners speak | {number:,} |" in PAGE.read_text()


VERDICTS = {
    "system": (SILENT, DENY),
    "environment": (SILENT, DENY),
    "repository": (SILENT, IGNORED, DENY),
    "user's file": (SILENT, IGNORED, DENY),
    "all projects": (SILENT, GRANT, DENY),
    "this project": (SILENT, GRANT, DENY),
}


@pytest.mark.slow
def test_every_order_of_rules(place, monkeypatch) -> None:
    """The decision is the same in whatever order the policy reads the rules."""
    ordered: list[Rule] = []
    monkeypatch.setattr(policy, "rules", lambda *_, **__: iter(ordered))
    number = on = 0
    for verdicts in itertools.product(*VERDICTS.values()):
        made = [
            Rule("user" if at > 2 else name, name, "", verdict, "")
            for at, (name, verdict) in enumerate(zip(VERDICTS, verdicts, strict=True))
        ]
        expected = GRANT in verdicts and DENY not in verdicts
        decisions = set()
        for order in itertools.permutations(made):
            ordered[:] = order
            decisions.add(policy.decide(place.home, {}).allowed)
            number += 1
        assert decisions == {expected}, verdicts
        on += expected * 720

    assert f"| verdicts of six owners, in every order | {number:,} | {on:,} |" in PAGE.read_text()


SWITCHES = ("DO_NOT_TRACK", "FLOWSPEC_TELEMETRY_DISABLED", "TELEMETRY_KIT_DISABLED")
VARIABLES = {
    **dict.fromkeys(SWITCHES, (None, "", "0", " False ", "NO", "off", "1", "yes", "banana")),
    "CI": (None, "", "false", "true"),
    "GITHUB_ACTIONS": (None, "false", "true"),
    "PYTEST_VERSION": (None, "9"),
}


def test_every_environment(place) -> None:
    """For each combination of variables, any denying value denies, and no value grants."""
    number = on = 0
    for values in itertools.product(*VARIABLES.values()):
        given = dict(zip(VARIABLES, values, strict=True))
        environ = {name: value for name, value in given.items() if value is not None}
        switched = any(given[name] in ("1", "yes", "banana") for name in SWITCHES)
        ci = given["CI"] != "false" and "true" in (given["CI"], given["GITHUB_ACTIONS"])
        expected = not switched and not ci and given["PYTEST_VERSION"] is None
        verdicts = {r.verdict for r in policy.environment_rules("FLOWSPEC", environ)}
        number, on = number + 1, on + (DENY not in verdicts)

        assert verdicts <= {DENY, SILENT}, given
        assert (DENY not in verdicts) == expected, given

    assert f"| environments | {number:,} | {on:,} |" in PAGE.read_text()


def test_only_the_user_grants(lattice) -> None:
    """If every owner but the user grants, recording is off."""
    for owner, values in VALUES.items():
        lattice.put(owner, "true" if "true" in values else "none")
    lattice.put("environment", "harmless")

    decision = lattice.decide()
    assert (decision.allowed, decision.vetoed) == (False, False)


def test_a_change_is_noticed(lattice, place) -> None:
    """After 20 ms, the cache follows each change of each owner."""
    with cache.override_runtime(lattice.environ, place.clock, place.now):
        lattice.put("this project", "yes")
        for owner, values in VALUES.items():
            if owner == "system":  # `test_every_state` covers its fixed path
                continue
            before = lattice.state[owner]
            for value in values:
                lattice.put(owner, value)
                place.clock.advance(0.021)
                assert is_telemetry_enabled() == expected_decision(lattice.state), lattice.state
            lattice.put(owner, before)
            place.clock.advance(0.021)
    assert os.path.exists(lattice.home.config)
