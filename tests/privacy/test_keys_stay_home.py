"""Git commits, archives and packages of a project contain no key."""

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
# An archive of the whole directory contains its events. Without a key they identify no person.
ARCHIVES = ("tar", "gztar", "zip")


def record(place) -> None:
    """Create a project with a Python package, and record events in it."""
    (place.root / "pyproject.toml").write_text(PYPROJECT)
    (place.root / "the_work").mkdir()
    (place.root / "the_work" / "__init__.py").write_text('"""Work."""\n')
    for name in PEOPLE:
        track_role_event("agent.invoked", role=name, agent=name, command=name)


def keys(place) -> set[bytes]:
    """Return the project's key and the key of all directories: raw, in hex and in base64."""
    raw = [
        bytes.fromhex(place.key_file.read_bytes().split()[3].decode()),
        Path(place.home.directory_key).read_bytes(),
    ]
    forms = (bytes, bytes.hex, lambda key: key.hex().upper(), base64.b64encode)
    made = [form(key) for key in raw for form in forms]
    return {code.encode() if isinstance(code, str) else code.rstrip(b"=") for code in made}


def traces(place) -> set[bytes]:
    """Return what every event contains: its id and its pseudonyms."""
    return {
        event[field].encode()
        for event in place.events()
        for field in ("event_id", "project_id", "role", "agent", "command")
    }


def members(path: Path) -> dict[str, bytes]:
    """Return the content of each file in an archive, by its name."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        files = [(member.name, archive.extractfile(member)) for member in archive]
        return {name: file.read() for name, file in files if file is not None}


def files_with(texts: set[bytes], files: dict[str, bytes]) -> list[str]:
    """Return the names of the files that contain one of `texts`."""
    return [name for name, data in files.items() if any(text in data for text in texts)]


def git(place, *args: str) -> bytes:
    """Run git in the project, and return its output."""
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")
    done = subprocess.run(
        [program, *args], cwd=place.root, env=place.env, check=True, capture_output=True
    )
    return done.stdout


def build(place, kind: str, to: Path) -> Path:
    """Build a wheel or an sdist of the project with hatchling."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    done = place.python("-m", "hatchling", "build", "-t", kind, "-d", str(to))
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    (made,) = to.iterdir()
    return made


def test_git_add_stages_neither_key_nor_event(place) -> None:
    """`git add -A` stages the project's own files, without a key or an event."""
    git(place, "init", "-q")
    record(place)
    git(place, "add", "-A")
    names = git(place, "ls-files", "-z").decode().split("\0")
    staged = {name: git(place, "show", f":{name}") for name in names if name}

    assert {"pyproject.toml", "the_work/__init__.py"} == set(staged)
    assert [] == files_with(keys(place) | traces(place), staged)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_contains_no_key(kind: str, place, tmp_path) -> None:
    """An archive of the whole directory contains hidden files and events, but no key."""
    record(place)
    files = members(Path(shutil.make_archive(str(tmp_path / "all"), kind, place.root)))

    assert [place.log.name] == [Path(name).name for name in files_with(traces(place), files)]
    assert [] == files_with(keys(place), files)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
@pytest.mark.parametrize("versioned", [True, False], ids=["git", "no git"])
def test_a_package_contains_no_key(kind: str, versioned: bool, place, tmp_path) -> None:
    """A wheel and an sdist contain the package and no key, with and without git."""
    if versioned:
        git(place, "init", "-q")
    record(place)
    files = members(build(place, kind, tmp_path / "dist"))

    assert [name for name in files if name.endswith("the_work/__init__.py")]
    assert [] == files_with(keys(place), files)


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
def test_a_package_contains_no_event(kind: str, place, tmp_path) -> None:
    """A package without settings for `.flowspec` is built without the events in it."""
    git(place, "init", "-q")
    record(place)
    made = build(place, kind, tmp_path / "dist")

    assert [] == files_with(traces(place), members(made))


def test_an_sdist_contains_no_event_that_the_root_ignores(place, tmp_path) -> None:
    """One line in the ignore file at the root excludes the events from hatchling's sdist."""
    git(place, "init", "-q")
    record(place)
    (place.root / ".gitignore").write_text("/.flowspec/telemetry*.jsonl*\n")
    files = members(build(place, "sdist", tmp_path / "dist"))

    assert [name for name in files if name.endswith("the_work/__init__.py")]
    assert [] == files_with(keys(place) | traces(place), files)


def test_the_harness_finds_a_key_and_an_event(place, tmp_path) -> None:
    """If an archive contains a key or an event, the harness finds it, in a tar and in a zip."""
    record(place)
    shutil.copy(place.key_file, place.root / "the_work" / "data.bin")
    shutil.copy(place.log, place.root / "the_work" / "copy.txt")
    for kind in ARCHIVES:
        files = members(Path(shutil.make_archive(str(tmp_path / "all"), kind, place.root)))

        assert ["data.bin"] == [Path(name).name for name in files_with(keys(place), files)]
        assert "copy.txt" in [Path(name).name for name in files_with(traces(place), files)]
