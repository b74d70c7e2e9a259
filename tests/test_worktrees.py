"""Which project a checkout of git belongs to, and which files may deny in it."""

import os
import subprocess
from pathlib import Path

import pytest

from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.paths import find

GIT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "PATH": os.environ.get("PATH", os.defpath),
}


def git(folder: Path, *words: str) -> str:
    """Run git in a folder."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder,
        env=GIT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def create_folder(folder: Path) -> Path:
    """Create a folder."""
    folder.mkdir()
    return folder


def commit(folder: Path) -> None:
    """Make a commit, because a repository without one has no worktrees."""
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")


def ordinary(base: Path) -> tuple[Path, Path]:
    """Make a repository with `git init`, and a worktree with `git worktree add`."""
    git(base, "init", "-q", "main")
    return base / "main", linked(base / "main", base / "tree")


def linked(main: Path, tree: Path) -> Path:
    """Add a linked worktree to a repository."""
    commit(main)
    git(main, "worktree", "add", "-q", str(tree))
    return tree


def separate(base: Path) -> tuple[Path, Path]:
    """Make a repository with `--separate-git-dir`, whose main worktree git does not record."""
    git(base, "init", "-q", f"--separate-git-dir={base}/store.git", "main")
    return base / "main", linked(base / "main", base / "tree")


def link(base: Path) -> tuple[Path, Path]:
    """Make a repository whose `.git` is a symbolic link."""
    git(base, "init", "-q", "main")
    (base / "main/.git").rename(base / "store.git")
    (base / "main/.git").symlink_to(base / "store.git")
    return base / "main", linked(base / "main", base / "tree")


def bare(base: Path) -> tuple[Path, Path]:
    """Make a bare repository whose checkouts are all linked worktrees."""
    first, _ = ordinary(create_folder(base / "from"))
    create_folder(base / "work")
    git(base, "clone", "-q", "--bare", str(first), "work/.bare")
    (base / "work/.git").write_text("gitdir: ./.bare\n")
    git(base / "work", "worktree", "add", "-q", "-b", "one", "one")
    git(base / "work", "worktree", "add", "-q", "-b", "two", "two")
    return base / "work/one", base / "work/two"


def submodule(base: Path) -> tuple[Path, Path]:
    """Make a worktree of a submodule."""
    first, _ = ordinary(create_folder(base / "from"))
    git(base, "init", "-q", "above")
    git(base / "above", "submodule", "--quiet", "add", str(first), "below")
    return base / "above/below", linked(base / "above/below", base / "tree")


def relative(base: Path) -> tuple[Path, Path]:
    """Make a worktree whose `.git` names the repository by a relative path."""
    main, tree = ordinary(base)
    (tree / ".git").write_text("gitdir: ../main/.git/worktrees/tree\n")
    return main, tree


LAYOUTS = [ordinary, separate, link, bare, submodule, relative]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_denial_reaches_the_linked_worktree(undecided, layout) -> None:
    """A denial in the main worktree applies in the linked one, and the other way round."""
    for denied, other in ((0, 1), (1, 0)):
        pair = layout(create_folder(undecided.root / str(denied)))
        with cache.override_runtime(undecided.environ):
            changes.enable_telemetry(pair[other], all_projects=True)
            assert is_recorded(undecided, pair[other])
            changes.disable_telemetry(pair[denied])

        assert not is_recorded(undecided, pair[other])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_linked_worktree_belongs_to_its_main_worktree(undecided, layout) -> None:
    """A linked worktree shares decision and log with the main one, which keeps them."""
    main, tree = layout(undecided.root)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(main)
    done = undecided.run("telemetry_kit.track_role_event('agent.invoked')", cwd=tree)
    assert (done.returncode, done.stderr) == (0, "")
    homes = [find("flowspec", str(folder), undecided.environ) for folder in (main, tree)]

    assert homes[0].log == homes[1].log
    assert 1 == Path(homes[0].log).read_bytes().count(b"\n")
    assert not homes[1].log.startswith(f"{tree}/")
    assert ["", ""] == [git(folder, "status", "--porcelain") for folder in (main, tree)]


def test_a_submodule_has_its_own_decision(undecided) -> None:
    """A submodule has its own decision. A denial of the enclosing repository applies, too."""
    below, _ = submodule(undecided.root)
    above = undecided.root / "above"
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(above)
    assert not is_recorded(undecided, below)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(below)
        assert is_recorded(undecided, below)
        changes.disable_telemetry(above)

    assert not is_recorded(undecided, below)


def test_a_false_worktree_has_its_own_decision(undecided) -> None:
    """A folder that falsely claims to belong to a repository does not get its consent."""
    main, _ = ordinary(undecided.root)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(main)
    false_worktree = create_folder(undecided.root / "false_worktree")
    (false_worktree / ".git").write_text(f"gitdir: {main}/.git/worktrees/tree\n")

    assert not is_recorded(undecided, false_worktree)


@pytest.mark.parametrize(
    "text", ["", "what", "gitdir:", "gitdir: nowhere\n", "gitdir: /dev/null\n"]
)
def test_a_broken_git_file_has_its_own_decision(undecided, text: str) -> None:
    """A folder whose `.git` git would not follow is its own project."""
    folder = create_folder(undecided.root / "a")
    (folder / ".git").write_text(text)

    assert str(folder) == find("flowspec", str(folder), undecided.environ).root


def test_the_branch_of_a_linked_worktree_may_deny(undecided) -> None:
    """Settings files in either worktree may deny."""
    main, tree = ordinary(undecided.root)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(main)
    assert is_recorded(undecided, tree)
    for denying in (main, tree):
        file = denying / "pyproject.toml"
        file.write_text("[tool.telemetry_kit]\nenabled = false\n")

        assert not is_recorded(undecided, tree)
        file.unlink()


def test_a_project_inside_a_linked_worktree(undecided) -> None:
    """A project in a linked worktree is the project of the same path in the main worktree."""
    main, tree = ordinary(undecided.root)
    for folder in (main, tree):
        (folder / "part/.flowspec").mkdir(parents=True)
    (tree / "other/.flowspec").mkdir(parents=True)

    assert [str(main / "part"), str(main)] == [
        find("flowspec", str(tree / name), undecided.environ).root for name in ("part", "other")
    ]


def test_a_grant_for_a_folder_covers_no_repository_below(place) -> None:
    """A repository created below a folder with consent is a new project without a decision."""
    below = create_folder(place.root / "below")
    (place.root / ".flowspec").mkdir(exist_ok=True)
    assert is_recorded(place, below)
    git(below, "init", "-q")

    assert not is_recorded(place, below)
    assert is_recorded(place, place.root)


def test_a_record_inside_the_repository_grants_nothing(undecided) -> None:
    """A consent record inside the repository grants nothing."""
    user = create_folder(undecided.root / "user")
    git(undecided.root, "init", "-q")
    environ = {
        "HOME": str(undecided.user),
        "XDG_CONFIG_HOME": str(user / "config"),
        "XDG_STATE_HOME": str(user / "state"),
    }
    with cache.override_runtime(environ):
        changes.enable_telemetry(undecided.root)
        changes.enable_telemetry(all_projects=True)
    found = policy.decide(find("flowspec", str(undecided.root), environ), environ)

    assert not found.allowed
    assert "is inside the repository" in found.rule.says


def test_a_home_directory_under_version_control_grants(undecided) -> None:
    """If the home directory is inside a repository, the consent record is the user's own."""
    git(undecided.root.parent, "init", "-q")
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(undecided.root)

    assert is_recorded(undecided, undecided.root)


def is_recorded(place, folder: Path) -> bool:
    """Return whether an event in a folder would be recorded."""
    with cache.override_runtime(place.environ):
        home = find("flowspec", str(folder), place.environ)
        return policy.decide(home, place.environ).allowed
