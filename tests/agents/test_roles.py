"""Commands have the roles that the configuration files give them."""

from pathlib import Path

import pytest

from telemetry_kit.agents.roles import role_in, role_of

MAPPING = {
    "/pm:*": "pm",
    "/pm:audit": "sec",
    "/pm:arch-*": "arch",
    "speckit.*": "maker",
    "/bad": 5,
    "*": "dev",
}


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/pm:plan", "pm"),
        ("pm:plan", "pm"),
        ("/pm:audit", "sec"),
        ("/pm:arch-review", "arch"),
        ("/speckit.plan", "maker"),
        ("/bad", "dev"),
        ("/pm", "dev"),
    ],
)
def test_the_longest_key_decides(command: str, role: str) -> None:
    """The longest key that fits a command decides, and the slash may be left out."""
    assert role_in(MAPPING, command) == role


@pytest.mark.parametrize("mapping", [None, [], "x", {}, {"/pm:*": None}])
def test_no_role(mapping: object) -> None:
    """Without a usable table, a command has no role."""
    assert role_in(mapping, "/pm:plan") is None


def test_the_file_of_the_project_is_first(place) -> None:
    """The table of the project counts before that of the user, and a change counts at once."""
    ours, theirs = map(Path, place.home.naming_files)
    theirs.write_text('[command_roles]\n"/a:*" = "qa"\n"/b:*" = "ops"\n')
    ours.parent.mkdir(exist_ok=True)
    ours.write_text('[command_roles]\n"/a:*" = "pm"\n')
    first = [role_of(command, place.home) for command in ("/a:x", "/b:x", "/c:x")]
    ours.write_text('agents = ["x"]\n')

    assert first == ["pm", "ops", None]
    assert role_of("/a:x", place.home) == "qa"


def test_without_files(place) -> None:
    """Without configuration files, or with a damaged one, there is no role."""
    before = role_of("/a:x", place.home)
    path = Path(place.home.naming_files[0])
    path.parent.mkdir(exist_ok=True)
    path.write_text("[command_roles")

    assert (before, role_of("/a:x", place.home)) == (None, None)
