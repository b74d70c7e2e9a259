"""The files of the administrator, the repository and the user can deny, and never grant."""

import os
from pathlib import Path

import pytest

from telemetry_kit import (
    is_telemetry_enabled,
    track_role_event,
)
from telemetry_kit.consent import policy
from tests.consent.policy_helpers import PYPROJECT, SETTINGS_FILE, Administered, decide, write

pytestmark = pytest.mark.usefixtures("fixed_day")


# -- the system ----------------------------------------------------------------------------------


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
def test_the_administrators_file(administered, text: bytes | None, allowed: bool) -> None:
    """The administrator's file denies unless it contains `enabled = true`."""
    home, path, environ = administered
    if text is not None:
        path.write_bytes(text)
    decision = policy.decide(home, environ)

    assert allowed == decision.allowed
    assert allowed or ("system", str(path)) == (decision.rule.owner, decision.rule.name)


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_an_unreadable_administrators_file_denies(administered, kind: str) -> None:
    """If the administrator's file exists but cannot be read, it denies without waiting."""
    home, path, environ = administered
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)

    assert not policy.decide(home, environ).allowed


def test_the_administrators_file_cannot_grant(undecided, tmp_path) -> None:
    """`enabled = true` in the administrator's file does not grant consent."""
    home = Administered("flowspec", str(undecided.root), str(undecided.user / "c"), "/nonexistent")
    Administered.system_file = str(tmp_path / "telemetry.conf")
    Path(Administered.system_file).write_text("enabled = true\n")
    try:
        assert not policy.decide(home, {}).allowed
    finally:
        Administered.system_file = ""


# -- the repository and the user's file ----------------------------------------------------------


@pytest.mark.parametrize("file", [SETTINGS_FILE, PYPROJECT])
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
def test_a_file_of_the_repository(place, file: str, body: str, verdict: str) -> None:
    """A committed file can only deny. `enabled = true` is ignored, and a damaged file denies."""
    path = write(place, file, body)
    rule = next(r for r in policy.rules(place.home, place.environ) if r.name == str(path))

    assert ("repository", verdict) == (rule.owner, rule.verdict)
    assert (verdict != "deny") == decide(place).allowed


def test_an_ignored_setting_does_not_decide(undecided) -> None:
    """If consent is undecided, the decision reports that, and not the ignored setting."""
    path = Path(undecided.home.user_file)
    path.parent.mkdir(parents=True)
    path.write_text("enabled = true\n")
    rule = decide(undecided).rule

    assert (rule.verdict, rule.says) == ("silent", "no decision yet")


@pytest.mark.parametrize("file", [SETTINGS_FILE, PYPROJECT])
def test_a_file_of_the_repository_cannot_grant(undecided, file: str) -> None:
    """A committed file cannot grant consent for another user."""
    write(undecided, file, "enabled = true\n")

    assert not is_telemetry_enabled()
    assert None is track_role_event("role.selected", role="dev")


@pytest.mark.parametrize(
    "text",
    ["[[[", "[project]\nname = 'x'\n", "telemetry = 1\n[tool]\nother = 1\n", "[tool.ruff]\n"],
)
def test_a_pyproject_without_the_package(place, text: str) -> None:
    """A pyproject.toml that does not mention the package does not deny, even if it is invalid."""
    (place.root / PYPROJECT).write_text(text)

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
def test_an_invalid_pyproject_with_the_package(place, text: str) -> None:
    """A pyproject.toml that mentions the package and is invalid denies."""
    (place.root / PYPROJECT).write_text(text)

    assert not decide(place).allowed


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_an_unreadable_repository_file_denies(place, kind: str) -> None:
    """A directory, a FIFO or a circular link at the file's path denies without waiting."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    path = place.root / SETTINGS_FILE
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
def test_the_users_file(place, body: str, verdict: str) -> None:
    """The user's file can deny. Only the command `enable` grants consent."""
    Path(place.home.user_file).write_text(body)
    rule = next(
        r for r in policy.rules(place.home, place.environ) if r.name == place.home.user_file
    )

    assert ("user", verdict) == (rule.owner, rule.verdict)
    assert (verdict != "deny") == decide(place).allowed


def test_a_change_of_the_repository_is_noticed(place) -> None:
    """If a pull adds `enabled = false`, a running process stops within 20 ms."""
    assert track_role_event("role.selected", role="dev")
    write(place, SETTINGS_FILE, "enabled = false\n")
    place.clock.advance(0.021)

    assert None is track_role_event("role.selected", role="dev")
