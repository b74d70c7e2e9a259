"""The usual ways out of a project, git, archives and packages: no key goes along."""

import base64
import importlib.util
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from telemetry_kit import track_role_event

PEOPLE = [f"zora.quill{n}" for n in range(20)]
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "the-work"
version = "1.0"
"""
# Archives of the whole folder carry its events, which say nothing without a key.
ARCHIVES = ("tar", "gztar", "zip")


def record(place) -> None:
    """A project like any other, with a package of its own, in which something was recorded."""
    (place.root / "pyproject.toml").write_text(PYPROJECT)
    (place.root / "the_work").mkdir()
    (place.root / "the_work" / "__init__.py").write_text('"""Work."""\n')
    for name in PEOPLE:
        track_role_event("agent.invoked", role=name, agent=name, command=name)


def keys(place) -> set[bytes]:
    """The key of the project and the one of all places: raw, in hex and in base64."""
    raw = [
        bytes.fromhex(place.key_file.read_bytes().split()[3].decode()),
        Path(place.home.directory_key).read_bytes(),
    ]
    forms = (bytes, bytes.hex, lambda key: key.hex().upper(), base64.b64encode)
    made = [form(key) for key in raw for form in forms]
    return {code.encode() if isinstance(code, str) else code.rstrip(b"=") for code in made}


def traces(place) -> set[bytes]:
    """What no event is without: its id, and the pseudonyms in it."""
    return {
        event[field].encode()
        for event in place.events()
        for field in ("event_id", "project_id", "role", "agent", "command")
    }


def members(path: Path) -> dict[str, bytes]:
    """The files in an archive, each by its name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    with tarfile.open(path) as packed:
        files = [(member.name, packed.extractfile(member)) for member in packed]
        return {name: file.read() for name, file in files if file is not None}


def held(texts: set[bytes], files: dict[str, bytes]) -> list[str]:
    """Names of the files in which one of `texts` stands."""
    return [name for name, data in files.items() if any(text in data for text in texts)]


def git(place, *args: str) -> bytes:
    """What git says in the project."""
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")
    done = subprocess.run(
        [program, *args], cwd=place.root, env=place.env, check=True, capture_output=True
    )
    return done.stdout


def build(place, kind: str, to: Path) -> Path:
    """A wheel or an sdist of the project, as hatchling makes it."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    done = place.python("-m", "hatchling", "build", "-t", kind, "-d", str(to))
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    (made,) = to.iterdir()
    return made


def test_git_add_takes_neither_key_nor_event(place) -> None:
    """`git add -A` lists the files of the project and nothing else, and commits no trace."""
    git(place, "init", "-q")
    record(place)
    git(place, "add", "-A")
    names = git(place, "ls-files", "-z").decode().split("\0")
    staged = {name: git(place, "show", f":{name}") for name in names if name}

    assert {"pyproject.toml", "the_work/__init__.py"} == set(staged)
    assert [] == held(keys(place) | traces(place), staged)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archive_of_the_project_holds_no_key(kind: str, place, tmp_path) -> None:
    """An archive of the whole folder has the events, hidden files too, and no key to them."""
    record(place)
    files = members(Path(shutil.make_archive(str(tmp_path / "all"), kind, place.root)))

    assert [place.log.name] == [Path(name).name for name in held(traces(place), files)]
    assert [] == held(keys(place), files)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("versioned", [True, False], ids=["git", "no git"])
def test_package_holds_no_key(kind: str, versioned: bool, place, tmp_path) -> None:
    """What is published of the project is its package, and no key, with and without git."""
    if versioned:
        git(place, "init", "-q")
    record(place)
    files = members(build(place, kind, tmp_path / "dist"))

    assert [name for name in files if name.endswith("the_work/__init__.py")]
    assert [] == held(keys(place), files)


@pytest.mark.parametrize(
    "kind",
    [
        "wheel",
        pytest.param(
            "sdist",
            marks=pytest.mark.xfail(
                raises=AssertionError,
                reason="hatchling reads the ignore file at the root only, not the one in .flowspec",
            ),
        ),
    ],
)
def test_package_holds_no_event(kind: str, place, tmp_path) -> None:
    """A package that says nothing of our folder is built without the events in it."""
    git(place, "init", "-q")
    record(place)
    made = build(place, kind, tmp_path / "dist")

    assert [] == held(traces(place), members(made))


def test_sdist_holds_no_event_where_the_root_ignores_them(place, tmp_path) -> None:
    """One line in the ignore file at the root keeps events out of an sdist by hatchling."""
    git(place, "init", "-q")
    record(place)
    (place.root / ".gitignore").write_text("/.flowspec/telemetry*.jsonl*\n")
    files = members(build(place, "sdist", tmp_path / "dist"))

    assert [name for name in files if name.endswith("the_work/__init__.py")]
    assert [] == held(keys(place) | traces(place), files)


def test_the_harness_sees_a_key_and_an_event(place, tmp_path) -> None:
    """A key or an event that somebody did pack is found, in a tar and in a zip."""
    record(place)
    shutil.copy(place.key_file, place.root / "the_work" / "data.bin")
    shutil.copy(place.log, place.root / "the_work" / "copy.txt")
    for kind in ARCHIVES:
        files = members(Path(shutil.make_archive(str(tmp_path / "all"), kind, place.root)))

        assert ["data.bin"] == [Path(name).name for name in held(keys(place), files)]
        assert "copy.txt" in [Path(name).name for name in held(traces(place), files)]
