"""Nested repositories, and files of consent that cannot be read."""

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
from telemetry_kit.errors import ConsentError
from telemetry_kit.paths import ProjectPaths, find
from telemetry_kit.privacy.projects import ProjectDirs
from tests.consent.policy_helpers import (
    PYPROJECT,
    SETTINGS_FILE,
    allowed,
    decide,
    line,
    write,
)

pytestmark = pytest.mark.usefixtures("fixed_day")


VETO = "[tool.telemetry_kit]\nenabled = false\n"


# -- nested repositories -------------------------------------------------------------------------


def test_a_nested_repository_can_deny(place) -> None:
    """The files of a nested repository deny in it, and not in the enclosing project."""
    (place.root / ".flowspec").mkdir()
    (place.root / "repo" / ".git").mkdir(parents=True)
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    assert allowed(place, "repo")
    (place.root / "repo" / "pyproject.toml").write_text(VETO)

    assert not allowed(place, "repo")
    assert allowed(place)


def test_the_enclosing_repository_can_deny(place) -> None:
    """If `sub/.flowspec` makes a project of its own, the enclosing repository can still deny."""
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


def test_a_grant_for_the_enclosing_repository_is_ignored(place) -> None:
    """A grant for the enclosing repository does not cover a nested project."""
    (place.root / ".git").mkdir()
    (place.root / "sub" / ".flowspec").mkdir(parents=True)

    assert not allowed(place, "sub")
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(place.root / "sub")
    rules = policy.nearby(find("flowspec", str(place.root / "sub"), place.environ), place.environ)
    assert [r.verdict for r in rules] == ["silent", "silent", "ignored"]


def test_the_rules_of_the_enclosing_repository(undecided) -> None:
    """The last rule describes the decision: none, a grant, or an invalid directory key."""
    enclosing = undecided.root
    (enclosing / ".git").mkdir()
    (enclosing / "sub" / ".flowspec").mkdir(parents=True)
    home = find("flowspec", str(enclosing / "sub"), undecided.environ)

    def last_rule() -> tuple[object, ...]:
        rule = list(policy.nearby(home, undecided.environ))[-1]
        return rule.owner, rule.name, rule.raw, rule.verdict, rule.says, rule.everywhere

    says = f"no decision for {enclosing}"
    assert last_rule() == ("user", f"{home.config}/projects", None, "silent", says, False)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(enclosing)
    record = Path(ProjectDirs.of(home, str(enclosing)).config, policy.RECORD)
    says = f"ignored: it covers only {enclosing}"
    assert last_rule() == ("user", str(record), record.read_text().strip(), "ignored", says, False)
    Path(home.directory_key).write_bytes(b"short")
    says = (
        f"{home.directory_key} is not a key: reset --all-projects deletes it, with every decision"
    )
    assert last_rule() == ("user", home.directory_key, None, "deny", says, True)


@pytest.mark.parametrize("file", [SETTINGS_FILE, PYPROJECT])
def test_both_files_of_the_enclosing_repository_deny(place, file: str) -> None:
    """The app's file and the pyproject.toml of the enclosing repository both deny."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    (place.root / ".git").mkdir()
    (place.root / "sub" / ".flowspec").mkdir(parents=True)
    assert allowed(place, "sub")
    write(place, file, "enabled = false\n")

    assert not allowed(place, "sub")


def test_the_rule_of_a_missing_key(place) -> None:
    """If the directory key is missing, a rule of the user denies and names the repair."""
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
def test_names_of_project_directories(name: str, expected: bool) -> None:
    """The name of a project's directory has sixteen lower-case hex digits."""
    assert expected == policy.is_directory_name(name)


@pytest.mark.parametrize(
    ("stdin", "stderr", "expected"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)]
)
def test_a_terminal_at_stdin_or_stderr(
    monkeypatch, stdin: int, stderr: int, expected: bool
) -> None:
    """A program has a terminal if stdin or stderr is one. Stdout is not checked."""
    found = {0: bool(stdin), 2: bool(stderr)}
    monkeypatch.setattr(os, "isatty", found.__getitem__)

    assert expected == policy.has_terminal()


def test_a_closed_stream_is_no_terminal(monkeypatch) -> None:
    """If a descriptor is closed, the program has no terminal."""

    def closed(_: int) -> bool:
        raise OSError(errno.EBADF, "closed")

    monkeypatch.setattr(os, "isatty", closed)

    assert not policy.has_terminal()


def test_a_denial_covers_the_worktrees(undecided) -> None:
    """A denial for the main worktree of a git repository covers the other worktrees."""
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


# -- unreadable files ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["ours", "theirs", "user"])
def test_a_dangling_link_denies(place, which: str) -> None:
    """If a settings file is a dangling link, it denies, since its content is unknown."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    path = Path(
        {"ours": place.root / SETTINGS_FILE, "theirs": place.root / PYPROJECT}.get(
            which, place.home.user_file
        )
    )
    path.symlink_to("/nonexistent-file")

    assert not is_telemetry_enabled()
    assert f"{path} cannot be read" == decide(place).rule.says


def test_a_dangling_administrators_file_denies(place, monkeypatch, tmp_path: Path) -> None:
    """If the administrator's file is a dangling link, it denies."""
    path = tmp_path / "telemetry.conf"
    monkeypatch.setattr(ProjectPaths, "system_file", str(path))
    assert decide(place).allowed
    path.symlink_to("/nonexistent-file")

    assert f"{path} cannot be read" == decide(place).rule.says


# -- a missing directory key ---------------------------------------------------------------------


def test_decisions_without_the_directory_key(place) -> None:
    """Without the directory key, all decisions raise an error until the user runs `reset`."""
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


def test_a_denial_for_all_projects_without_the_directory_key(place) -> None:
    """A denial for all projects does not need the directory key."""
    Path(place.home.directory_key).unlink()
    disable_telemetry(all_projects=True)

    assert decide(place).rule.says.startswith("you denied consent for all projects")


def test_an_expired_grant_for_all_projects_is_reported(undecided) -> None:
    """If a grant for all projects has expired, the decision reports that."""
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(all_projects=True)
    path = Path(undecided.home.config, policy.RECORD)
    path.write_bytes(line("yes", day="2020-01-01", expires="2021-01-01"))

    assert decide(undecided).rule.says == "your consent for all projects of 2020-01-01 has expired"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("function", [enable_telemetry, disable_telemetry])
def test_a_directory_of_another_user_is_not_changed(undecided, function) -> None:
    """In another user's home, as with `sudo -E`, a decision raises and creates no file."""
    os.chown(undecided.user, 65_534, 65_534)
    with pytest.raises(ConsentError, match="belongs to another user"):
        function()

    assert undecided.tree() == []
