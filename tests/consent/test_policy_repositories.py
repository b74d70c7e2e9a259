"""Repositories that contain each other, and files of consent that cannot be read."""

import errno
import os
from pathlib import Path

import pytest

from telemetry_kit import (
    disable_telemetry,
    enable_telemetry,
    is_telemetry_enabled,
)
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.errors import ConsentError
from telemetry_kit.paths import ProjectPaths, find
from telemetry_kit.privacy.projects import ProjectDirs
from tests.consent.policy_helpers import (
    DAY,
    OURS,
    THEIRS,
    allowed,
    decide,
    line,
    write,
)


@pytest.fixture(autouse=True)
def _day_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables below are made once; decisions here are of that day, whenever they are made."""
    monkeypatch.setattr(consent_decision, "today", lambda: DAY)


VETO = "[tool.telemetry_kit]\nenabled = false\n"


# -- repositories that share the place -----------------------------------------------------------


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


# -- what is there and cannot be read ------------------------------------------------------------


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


# -- a place key that is gone --------------------------------------------------------------------


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
