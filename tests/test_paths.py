"""Where telemetry lives: the project root, the user's folders, and that asking makes nothing."""

import os
import sys
from pathlib import Path

import pytest

from telemetry_kit.errors import Refused
from telemetry_kit.paths import (
    ProjectPaths,
    enclosing_repositories,
    enclosing_roots,
    find,
    user_folders,
)
from telemetry_kit.paths import project_root as roots


def project_root(app: str, here: str, user: str = "") -> str:
    """The project root of a directory; no home directory is known unless one is given."""
    return roots(app, here, user)[0]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A real path with nothing of ours above it."""
    return Path(os.path.realpath(tmp_path))


def test_root_is_the_nearest_folder_of_the_app(top: Path) -> None:
    """An ancestor with `.<app>/` wins over a repository that is farther away."""
    (top / "a/.git").mkdir(parents=True)
    (top / "a/b/.flowspec").mkdir(parents=True)
    (top / "a/b/c").mkdir()

    assert str(top / "a/b") == project_root("flowspec", str(top / "a/b/c"))


def test_root_is_the_nearer_repository(top: Path) -> None:
    """A repository is a project of its own, also below a folder with `.<app>/`."""
    (top / "a/.flowspec").mkdir(parents=True)
    (top / "a/b/.git").mkdir(parents=True)
    (top / "a/b/c").mkdir()

    assert str(top / "a/b") == project_root("flowspec", str(top / "a/b/c"))


@pytest.mark.parametrize("user", ["a", "link"])
def test_a_folder_in_the_home_directory_makes_no_project(top: Path, user: str) -> None:
    """Many tools keep `~/.<app>/`, and nothing below it becomes one project for that."""
    (top / "a/.flowspec").mkdir(parents=True)
    (top / "a/b/.git").mkdir(parents=True)
    (top / "a/c").mkdir()
    (top / "link").symlink_to(top / "a")

    assert str(top / "a/b") == project_root("flowspec", str(top / "a/b"), str(top / user))
    assert str(top / "a/c") == project_root("flowspec", str(top / "a/c"), str(top / user))


def test_everything_around_may_deny(top: Path) -> None:
    """All repositories, and the projects of the same repository; the home directory is none."""
    for name in (".flowspec", "a/.git", "a/x/.flowspec", "a/x/b/.git", "a/x/b/c/.flowspec"):
        (top / name).mkdir(parents=True)
    (top / "a/x/b/c/d/.flowspec").mkdir(parents=True)
    home = find("flowspec", str(top / "a/x/b/c/d"), {"HOME": str(top)})

    assert str(top / "a/x/b/c/d") == home.root
    assert [str(top / name) for name in ("a/x/b/c", "a/x/b", "a")] == enclosing_roots(
        home, {"HOME": str(top)}, enclosing_repositories(home.checkout)
    )


def test_root_is_the_nearest_of_two(top: Path) -> None:
    """Of two ancestors with `.<app>/` the nearer one is the root."""
    (top / ".flowspec").mkdir()
    (top / "a/.flowspec").mkdir(parents=True)
    (top / "a/b").mkdir()

    assert str(top / "a") == project_root("flowspec", str(top / "a/b"))


def test_root_is_else_the_repository(top: Path) -> None:
    """Without a nearer `.<app>/` the nearest ancestor with `.git` is the root."""
    (top / ".git").mkdir()
    (top / "a/b").mkdir(parents=True)

    assert str(top) == project_root("flowspec", str(top / "a/b"))


def test_git_may_be_a_file(top: Path) -> None:
    """A worktree or submodule has a file called `.git`; that is a root too."""
    (top / ".git").mkdir()
    (top / "a/b").mkdir(parents=True)
    (top / "a/.git").write_text("gitdir: elsewhere\n")

    assert str(top / "a") == project_root("flowspec", str(top / "a/b"))


def test_root_is_else_the_directory_itself(top: Path) -> None:
    """With neither, the directory itself is the root."""
    (top / "a").mkdir()

    assert str(top / "a") == project_root("flowspec", str(top / "a"))


def test_a_file_called_like_our_folder_is_no_root(top: Path) -> None:
    """`.<app>` must be a folder."""
    (top / ".flowspec").write_text("")
    (top / "a").mkdir()

    assert str(top / "a") == project_root("flowspec", str(top / "a"))


def test_each_app_has_its_own_root(top: Path) -> None:
    """Another app's folder says nothing about ours."""
    (top / ".flowspec").mkdir()
    (top / "a/.acme").mkdir(parents=True)
    (top / "a/b").mkdir()

    assert (str(top), str(top / "a")) == (
        project_root("flowspec", str(top / "a/b")),
        project_root("acme", str(top / "a/b")),
    )


def test_links_are_followed_to_the_real_root(top: Path) -> None:
    """A project reached through a link has the place of the project itself."""
    (top / "real/.git").mkdir(parents=True)
    (top / "link").symlink_to(top / "real")
    environ = {"HOME": str(top)}

    assert str(top / "real") == find("flowspec", str(top / "link"), environ).root


def test_paths_of_a_home(top: Path) -> None:
    """Events and switch live in the project, everything of the user's outside it."""
    home = ProjectPaths("acme", "/p", "/c/acme", "/s/acme")

    assert (home.folder, home.log) == ("/p/.acme", "/p/.acme/telemetry.jsonl")
    assert (home.lock, home.ignore) == ("/p/.acme/.telemetry.lock", "/p/.acme/.gitignore")
    assert [p for p, _ in home.repository_files] == ["/p/.acme/telemetry.toml", "/p/pyproject.toml"]
    assert (home.user_file, home.directory_key) == ("/c/acme/telemetry.toml", "/s/acme/place.key")


def test_root_directory_has_no_double_slash() -> None:
    """In `/` the folder is `/.acme`."""
    home = ProjectPaths("acme", "/", "/c", "/s")

    assert (home.folder, home.log) == ("/.acme", "/.acme/telemetry.jsonl")


def test_asking_creates_nothing(undecided) -> None:
    """Computing the paths of a project changes nothing on disk."""
    home = undecided.home
    for name in dir(ProjectPaths):
        getattr(home, name)

    assert sorted(p.name for p in undecided.root.parent.iterdir()) == ["home", "the-work"]
    assert undecided.tree() == []


def test_deleted_working_directory(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that is gone is a refusal with a reason."""
    (top / "gone").mkdir()
    monkeypatch.chdir(top / "gone")
    (top / "gone").rmdir()
    with pytest.raises(Refused, match="no longer exists"):
        find("flowspec", None, {"HOME": str(top)})


@pytest.mark.parametrize("start", ["\0", "a\0b"])
def test_impossible_directory(start: str, top: Path) -> None:
    """A name that no directory can have is a refusal."""
    with pytest.raises(Refused, match="cannot be used"):
        find("flowspec", start, {"HOME": str(top)})


# -- the user's folders ------------------------------------------------------------------------

XDG = [
    {},
    {"XDG_CONFIG_HOME": "/x/config"},
    {"XDG_STATE_HOME": "/x/state"},
    {"XDG_CONFIG_HOME": "/x/config", "XDG_STATE_HOME": "/x/state"},
    {"XDG_CONFIG_HOME": ""},
    {"XDG_CONFIG_HOME": "  "},
    {"XDG_STATE_HOME": ""},
    {"XDG_CONFIG_HOME": "/with space/config"},
]


@pytest.mark.parametrize("given", XDG, ids=str)
@pytest.mark.parametrize("user", ["/home/u", "/home/with space", "/home/ü"])
def test_folders_are_those_of_platformdirs(
    given: dict[str, str], user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Config and state folders are where platformdirs puts them."""
    platformdirs = pytest.importorskip("platformdirs")
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": user, **given}.items():
        monkeypatch.setenv(name, value)

    expected = (
        platformdirs.user_config_dir("telemetry-kit", appauthor=False) + "/acme",
        platformdirs.user_state_dir("telemetry-kit", appauthor=False) + "/acme",
    )

    assert expected == user_folders("acme", {"HOME": user, **given})


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no XDG folders")
@pytest.mark.parametrize("relative", ["config", "./config", "../x", "~/config"])
def test_relative_xdg_paths_are_ignored(relative: str) -> None:
    """The specification: a relative path must be ignored."""
    environ = {"HOME": "/home/u", "XDG_CONFIG_HOME": relative, "XDG_STATE_HOME": relative}

    assert user_folders("acme", environ) == (
        "/home/u/.config/telemetry-kit/acme",
        "/home/u/.local/state/telemetry-kit/acme",
    )


@pytest.mark.parametrize("user", ["", "/", "relative", "."])
def test_no_usable_home_directory(user: str, top: Path) -> None:
    """An empty, relative or root HOME is no place for a decision: no folders, and a refusal."""
    assert None is user_folders("acme", {"HOME": user})
    with pytest.raises(Refused, match="no home directory"):
        find("acme", str(top), {"HOME": user})


def test_without_a_name_there_is_no_place(top: Path) -> None:
    """Two programs that both forget to name themselves share no consent: neither has any."""
    with pytest.raises(Refused, match=r"configure\(app="):
        find("", str(top), {"HOME": str(top)})


def test_home_missing_is_asked_from_the_system() -> None:
    """Without HOME the password database says where the user lives, as everywhere else."""
    user = os.path.expanduser("~")
    expected = None if user in ("", "/", "~") else f"{user}/"
    folders = user_folders("acme", {})

    assert (expected is None) == (folders is None)
    assert folders is None or folders[0].startswith(str(expected))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the path on Linux")
def test_system_file() -> None:
    """The administrator's file is in /etc."""
    assert ProjectPaths("acme", "/p", "/c", "/s").system_file == "/etc/telemetry-kit/acme.conf"
