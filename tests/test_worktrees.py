"""Checkouts of git as git itself makes them: which project each belongs to, and who may deny."""

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
    """Run git as a person would."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder,
        env=GIT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def made(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


def commit(folder: Path) -> None:
    """Make a commit, without which there is no worktree."""
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")


def ordinary(base: Path) -> tuple[Path, Path]:
    """`git init`, `git worktree add`."""
    git(base, "init", "-q", "main")
    return base / "main", linked(base / "main", base / "tree")


def linked(main: Path, tree: Path) -> Path:
    """A worktree beside the main one."""
    commit(main)
    git(main, "worktree", "add", "-q", str(tree))
    return tree


def separate(base: Path) -> tuple[Path, Path]:
    """`git init --separate-git-dir`: git itself does not know where the main worktree is."""
    git(base, "init", "-q", f"--separate-git-dir={base}/store.git", "main")
    return base / "main", linked(base / "main", base / "tree")


def link(base: Path) -> tuple[Path, Path]:
    """`.git` is a symbolic link."""
    git(base, "init", "-q", "main")
    (base / "main/.git").rename(base / "store.git")
    (base / "main/.git").symlink_to(base / "store.git")
    return base / "main", linked(base / "main", base / "tree")


def bare(base: Path) -> tuple[Path, Path]:
    """A bare repository whose checkouts are all linked worktrees."""
    first, _ = ordinary(made(base / "from"))
    made(base / "work")
    git(base, "clone", "-q", "--bare", str(first), "work/.bare")
    (base / "work/.git").write_text("gitdir: ./.bare\n")
    git(base / "work", "worktree", "add", "-q", "-b", "one", "one")
    git(base / "work", "worktree", "add", "-q", "-b", "two", "two")
    return base / "work/one", base / "work/two"


def submodule(base: Path) -> tuple[Path, Path]:
    """A worktree of a submodule."""
    first, _ = ordinary(made(base / "from"))
    git(base, "init", "-q", "above")
    git(base / "above", "submodule", "--quiet", "add", str(first), "below")
    return base / "above/below", linked(base / "above/below", base / "tree")


def relative(base: Path) -> tuple[Path, Path]:
    """A worktree whose `.git` names the repository by a relative path."""
    main, tree = ordinary(base)
    (tree / ".git").write_text("gitdir: ../main/.git/worktrees/tree\n")
    return main, tree


LAYOUTS = [ordinary, separate, link, bare, submodule, relative]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_denial_reaches_the_linked_worktree(undecided, layout) -> None:
    """A denial in the main worktree holds in the linked one, and the other way round."""
    for denied, other in ((0, 1), (1, 0)):
        pair = layout(made(undecided.root / str(denied)))
        with cache.override_runtime(undecided.environ):
            changes.enable_telemetry(pair[other], all_projects=True)
            assert allowed(undecided, pair[other])
            changes.disable_telemetry(pair[denied])

        assert not allowed(undecided, pair[other])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_linked_worktree_belongs_to_its_main_worktree(undecided, layout) -> None:
    """There is one decision and one log, which stays when the linked worktree is removed."""
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


def test_a_submodule_stands_for_itself(undecided) -> None:
    """It has a decision of its own, and the denial of what it lies in."""
    below, _ = submodule(undecided.root)
    above = undecided.root / "above"
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(above)
    assert not allowed(undecided, below)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(below)
        assert allowed(undecided, below)
        changes.disable_telemetry(above)

    assert not allowed(undecided, below)


def test_a_worktree_that_git_does_not_know_stands_for_itself(undecided) -> None:
    """A folder that only says that it belongs to a repository gets nothing of its consent."""
    main, _ = ordinary(undecided.root)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(main)
    stranger = made(undecided.root / "stranger")
    (stranger / ".git").write_text(f"gitdir: {main}/.git/worktrees/tree\n")

    assert not allowed(undecided, stranger)


@pytest.mark.parametrize(
    "text", ["", "what", "gitdir:", "gitdir: nowhere\n", "gitdir: /dev/null\n"]
)
def test_a_broken_pointer_stands_for_itself(undecided, text: str) -> None:
    """What git would not follow either."""
    folder = made(undecided.root / "a")
    (folder / ".git").write_text(text)

    assert str(folder) == find("flowspec", str(folder), undecided.environ).root


def test_the_branch_of_a_linked_worktree_may_deny(undecided) -> None:
    """The files of both worktrees are asked."""
    main, tree = ordinary(undecided.root)
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(main)
    assert allowed(undecided, tree)
    for denying in (main, tree):
        file = denying / "pyproject.toml"
        file.write_text("[tool.telemetry_kit]\nenabled = false\n")

        assert not allowed(undecided, tree)
        file.unlink()


def test_a_project_inside_a_linked_worktree(undecided) -> None:
    """It is the one of the same name in the main worktree, where that has one."""
    main, tree = ordinary(undecided.root)
    for folder in (main, tree):
        (folder / "part/.flowspec").mkdir(parents=True)
    (tree / "other/.flowspec").mkdir(parents=True)

    assert [str(main / "part"), str(main)] == [
        find("flowspec", str(tree / name), undecided.environ).root for name in ("part", "other")
    ]


def test_a_grant_for_a_folder_covers_no_repository_below(place) -> None:
    """`git init` below a folder that was granted makes a project of its own: asked anew."""
    below = made(place.root / "below")
    (place.root / ".flowspec").mkdir(exist_ok=True)
    assert allowed(place, below)
    git(below, "init", "-q")

    assert not allowed(place, below)
    assert allowed(place, place.root)


def test_a_repository_that_brings_a_grant_along(undecided) -> None:
    """A record below the repository of the working directory grants nothing."""
    user = made(undecided.root / "user")
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
    """Where the repository is the home directory, or lies above it, the record is the user's."""
    git(undecided.root.parent, "init", "-q")
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(undecided.root)

    assert allowed(undecided, undecided.root)


def allowed(place, folder: Path) -> bool:
    """Whether an event from a folder would be recorded."""
    with cache.override_runtime(place.environ):
        home = find("flowspec", str(folder), place.environ)
        return policy.decide(home, place.environ).allowed
