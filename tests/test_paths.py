"""The project root and the user's folders. Computing them creates nothing."""

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
    """Return the project root of a directory, for a user with or without a home directory."""
    return roots(f".{app}", here, user)[0]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A real path below no project."""
    return Path(os.path.realpath(tmp_path))


def test_root_is_the_nearest_folder_of_the_app(base: Path) -> None:
    """The nearest ancestor with `.<app>/` is the root, before a repository above it."""
    (base / "a/.git").mkdir(parents=True)
    (base / "a/b/.flowspec").mkdir(parents=True)
    (base / "a/b/c").mkdir()

    assert str(base / "a/b") == project_root("flowspec", str(base / "a/b/c"))


def test_root_is_the_nearer_repository(base: Path) -> None:
    """A repository is its own project, even below a folder with `.<app>/`."""
    (base / "a/.flowspec").mkdir(parents=True)
    (base / "a/b/.git").mkdir(parents=True)
    (base / "a/b/c").mkdir()

    assert str(base / "a/b") == project_root("flowspec", str(base / "a/b/c"))


@pytest.mark.parametrize("user", ["a", "link"])
def test_a_folder_in_the_home_directory_makes_no_project(base: Path, user: str) -> None:
    """`~/.<app>/` does not make the home directory a project, because many tools have one."""
    (base / "a/.flowspec").mkdir(parents=True)
    (base / "a/b/.git").mkdir(parents=True)
    (base / "a/c").mkdir()
    (base / "link").symlink_to(base / "a")

    assert str(base / "a/b") == project_root("flowspec", str(base / "a/b"), str(base / user))
    assert str(base / "a/c") == project_root("flowspec", str(base / "a/c"), str(base / user))


def test_enclosing_repositories_may_deny(base: Path) -> None:
    """Every enclosing repository and project may deny. The home directory may not."""
    for name in (".flowspec", "a/.git", "a/x/.flowspec", "a/x/b/.git", "a/x/b/c/.flowspec"):
        (base / name).mkdir(parents=True)
    (base / "a/x/b/c/d/.flowspec").mkdir(parents=True)
    home = find("flowspec", str(base / "a/x/b/c/d"), {"HOME": str(base)})

    assert str(base / "a/x/b/c/d") == home.root
    assert [str(base / name) for name in ("a/x/b/c", "a/x/b", "a")] == enclosing_roots(
        home, {"HOME": str(base)}, enclosing_repositories(home.checkout)
    )


def test_root_is_the_nearest_of_two(base: Path) -> None:
    """Of two ancestors with `.<app>/`, the nearer one is the root."""
    (base / ".flowspec").mkdir()
    (base / "a/.flowspec").mkdir(parents=True)
    (base / "a/b").mkdir()

    assert str(base / "a") == project_root("flowspec", str(base / "a/b"))


def test_root_is_otherwise_the_repository(base: Path) -> None:
    """Without a nearer `.<app>/`, the nearest ancestor with `.git` is the root."""
    (base / ".git").mkdir()
    (base / "a/b").mkdir(parents=True)

    assert str(base) == project_root("flowspec", str(base / "a/b"))


def test_git_may_be_a_file(base: Path) -> None:
    """The folder of a worktree or submodule, where `.git` is a file, is a root."""
    (base / ".git").mkdir()
    (base / "a/b").mkdir(parents=True)
    (base / "a/.git").write_text("gitdir: elsewhere\n")

    assert str(base / "a") == project_root("flowspec", str(base / "a/b"))


def test_root_is_otherwise_the_directory_itself(base: Path) -> None:
    """Without `.<app>/` and `.git`, the directory itself is the root."""
    (base / "a").mkdir()

    assert str(base / "a") == project_root("flowspec", str(base / "a"))


def test_a_file_called_like_our_folder_is_no_root(base: Path) -> None:
    """A file named `.<app>` makes no root."""
    (base / ".flowspec").write_text("")
    (base / "a").mkdir()

    assert str(base / "a") == project_root("flowspec", str(base / "a"))


def test_each_app_has_its_own_root(base: Path) -> None:
    """The folder of another app is ignored."""
    (base / ".flowspec").mkdir()
    (base / "a/.acme").mkdir(parents=True)
    (base / "a/b").mkdir()

    assert (str(base), str(base / "a")) == (
        project_root("flowspec", str(base / "a/b")),
        project_root("acme", str(base / "a/b")),
    )


def test_links_are_followed_to_the_real_root(base: Path) -> None:
    """A project reached through a symbolic link has the paths of the real project."""
    (base / "real/.git").mkdir(parents=True)
    (base / "link").symlink_to(base / "real")
    environ = {"HOME": str(base)}

    assert str(base / "real") == find("flowspec", str(base / "link"), environ).root


def test_paths_of_a_home(base: Path) -> None:
    """Events and the project's settings are in the project, the user's files outside it."""
    home = ProjectPaths("acme", "/p", "/c/acme", "/s/acme")

    assert (home.folder, home.log) == ("/p/.acme", "/p/.acme/telemetry.jsonl")
    assert (home.lock, home.ignore) == ("/p/.acme/.telemetry.lock", "/p/.acme/.gitignore")
    assert [p for p, _ in home.repository_files] == ["/p/.acme/telemetry.toml", "/p/pyproject.toml"]
    assert (home.user_file, home.directory_key) == ("/c/acme/telemetry.toml", "/s/acme/place.key")


def test_root_directory_has_no_double_slash() -> None:
    """In the root directory the folder is `/.acme`."""
    home = ProjectPaths("acme", "/", "/c", "/s")

    assert (home.folder, home.log) == ("/.acme", "/.acme/telemetry.jsonl")


def test_computing_paths_creates_nothing(undecided) -> None:
    """Computing the paths of a project creates nothing on disk."""
    home = undecided.home
    for name in dir(ProjectPaths):
        getattr(home, name)

    assert sorted(p.name for p in undecided.root.parent.iterdir()) == ["home", "the-work"]
    assert undecided.tree() == []


def test_deleted_working_directory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted working directory is refused with a reason."""
    (base / "gone").mkdir()
    monkeypatch.chdir(base / "gone")
    (base / "gone").rmdir()
    with pytest.raises(Refused, match="no longer exists"):
        find("flowspec", None, {"HOME": str(base)})


@pytest.mark.parametrize("start", ["\0", "a\0b"])
def test_impossible_directory(start: str, base: Path) -> None:
    """An impossible directory name is refused."""
    with pytest.raises(Refused, match="cannot be used"):
        find("flowspec", start, {"HOME": str(base)})


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
    """The config and state folders are those that platformdirs computes."""
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
    """Relative XDG paths are ignored, as the specification requires."""
    environ = {"HOME": "/home/u", "XDG_CONFIG_HOME": relative, "XDG_STATE_HOME": relative}

    assert user_folders("acme", environ) == (
        "/home/u/.config/telemetry-kit/acme",
        "/home/u/.local/state/telemetry-kit/acme",
    )


@pytest.mark.parametrize("user", ["", "/", "relative", "."])
def test_no_usable_home_directory(user: str, base: Path) -> None:
    """If HOME is empty, relative or the root directory, there are no folders and no decision."""
    assert None is user_folders("acme", {"HOME": user})
    with pytest.raises(Refused, match="no home directory"):
        find("acme", str(base), {"HOME": user})


def test_without_an_app_name_there_is_no_project(base: Path) -> None:
    """A program without an app name is refused, so unnamed programs share no consent."""
    with pytest.raises(Refused, match=r"configure\(app="):
        find("", str(base), {"HOME": str(base)})


def test_home_from_the_password_database() -> None:
    """If HOME is not set, the home directory comes from the password database."""
    user = os.path.expanduser("~")
    expected = None if user in ("", "/", "~") else f"{user}/"
    folders = user_folders("acme", {})

    assert (expected is None) == (folders is None)
    assert folders is None or folders[0].startswith(str(expected))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the path on Linux")
def test_system_file() -> None:
    """The administrator's file is in /etc."""
    assert ProjectPaths("acme", "/p", "/c", "/s").system_file == "/etc/telemetry-kit/acme.conf"
