"""`status` and `doctor` name each problem of a configuration file, with its line."""

import json
import os
from pathlib import Path

import pytest

from telemetry_kit.cli import configuration
from telemetry_kit.consent import cache

OURS, THEIRS = ".flowspec/telemetry.toml", "pyproject.toml"
SECTION = "[tool.telemetry_kit]\n"
DENIES = "so it denies"


@pytest.fixture
def problems(place):
    """Return a function that writes a file and returns the problems, without the file's name."""

    def find(file: str, data: bytes) -> list[str]:
        path = place.record.parents[2] / "telemetry.toml" if file == "user" else place.root / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        with cache.override_runtime(place.environ):
            found = configuration.problems(place.home)
        assert all(sentence.startswith(str(path)) for sentence in found)
        return [sentence.removeprefix(str(path)) for sentence in found]

    return find


@pytest.mark.parametrize("file", [OURS, "user"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('# names\nagents = ["a", "b"]\nenabled = false\n', []),
        ('# names\n\nagents = "x"\n', [':3: agents has no effect; write a list, agents = ["..."]']),
        ("[roles]\na = 1\n", [':1: roles has no effect; write a list, roles = ["..."]']),
        ('agent = ["x"]\n', [":1: unknown setting 'agent': did you mean agents?"]),
        ("Work-Flows = []\n", [":1: unknown setting 'Work-Flows': did you mean workflows?"]),
        (
            "x = 1\nroles = 1\n",
            [":1: unknown setting 'x'", ":2: roles has no effect; write a list, "],
        ),
        ("x = 1\n  'y' = 2\n", [":1: unknown setting 'x'", ":2: unknown setting 'y'"]),
        ("[names]\nagents = []\n", [":1: unknown setting 'names'"]),
        (
            'agents = ["a",\n 5, " b"]\n',
            [
                ":1: agents: '5' must be a string, not int",
                ":1: agents: ' b' must be printable text without surrounding space",
            ],
        ),
        ('[command_roles]\n"/pm:*" = "pm"\n', []),
        ("command_roles = []\n", [":1: command_roles has no effect; write a table: "]),
        (
            "[command_roles]\na = 1\n",
            [":2: command_roles: 'a' has no effect; its role must be a name"],
        ),
        (
            "[command-roles]\na = 'b'\n",
            [":1: unknown setting 'command-roles': did you mean command_roles?"],
        ),
        ('enabled = "no"\n', [f":1: enabled must be true or false, {DENIES}"]),
        ("agents = [\n", [":2: this is not TOML, so the file denies: Invalid value"]),
        ('a = 1\nb = "\n', [":2: this is not TOML, so the file denies: "]),
        ("agents = 1\nagents = 2\n", [":2: this is not TOML, so the file denies: "]),
        ("a.b.c.d.e.f.g.h.i.j = 1\n", [f" has a key of too many parts, {DENIES}"]),
        ("#" * 65_537, [f" is longer than 64 KiB, {DENIES}"]),
    ],
)
def test_a_file_of_names(problems, file: str, text: str, expected: list[str]) -> None:
    """Each setting that has no effect is named with its line, in the project's file and the user's.

    So is a file that cannot be read.
    """
    found = problems(file, text.encode())

    assert len(expected) == len(found)
    assert [f.startswith(e) for f, e in zip(found, expected, strict=True)] == [True] * len(found)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xef\xbb\xbfagents = []\n", ":1: a byte order mark begins the file, so it denies; "),
        ("a = 1\nb = 'ü'\n".encode("latin-1"), ":2: this is not UTF-8, so the file denies; "),
        ("agents = []".encode("utf-16"), ":1: this is not UTF-8, so the file denies; "),
    ],
)
def test_another_encoding(problems, data: bytes, expected: str) -> None:
    """A byte order mark and another encoding than UTF-8 are named with their line."""
    for file in (OURS, THEIRS):
        (found,) = problems(file, data + SECTION.encode())
        assert found.startswith(expected)
        os.unlink(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[project]\n\n{SECTION}enabled = false\n", []),
        (f"deny = 1\n{SECTION}\ndeny = true\n", [":4: unknown setting 'deny'"]),
        (f"{SECTION}Enabled = false\n", [":2: unknown setting 'Enabled': did you mean enabled?"]),
        ("tool.telemetry_kit.enabled = 0\n", [f":1: enabled must be true or false, {DENIES}"]),
        ("[tool]\ntelemetry_kit = 5\n", [f":2: telemetry_kit is no table, {DENIES}"]),
        (f"{SECTION}agents = []\n", [":2: agents has no effect here; write it into "]),
        (f"{SECTION}enabled = false false\n", [":2: this is not TOML, so the file denies: "]),
        ("[tool.telemetry-kit]\n", [": [tool.telemetry-kit] has no effect; write "]),
        ("[tool.other\n", []),
    ],
)
def test_the_section_of_pyproject(problems, text: str, expected: list[str]) -> None:
    """The section is checked, and a broken file of other tools alone is not."""
    found = problems(THEIRS, text.encode())

    assert len(expected) == len(found)
    assert [f.startswith(e) for f, e in zip(found, expected, strict=True)] == [True] * len(found)


def test_a_file_that_cannot_be_opened(problems, place) -> None:
    """A folder and a link without a target are named."""
    Path(OURS).mkdir(parents=True)
    (place.root / THEIRS).symlink_to("missing")
    with cache.override_runtime(place.environ):
        ours, theirs = configuration.problems(place.home)

    assert [ours.startswith(f"{place.root / OURS} "), ours.endswith(DENIES)] == [True, True]
    assert [theirs.startswith(f"{place.root / THEIRS} "), theirs.endswith(DENIES)] == [True, True]


def test_status_and_doctor_name_it(place) -> None:
    """`status` and `doctor` print the sentence, and `doctor` exits with 1."""
    path = place.root / OURS
    path.parent.mkdir()
    path.write_text("\nagent = ['x']\n")
    sentence = f"{path}:2: unknown setting 'agent': did you mean agents?"
    status = place.python("-m", "telemetry_kit", "status", "--json")
    doctor = place.python("-m", "telemetry_kit", "doctor")

    assert (status.returncode, json.loads(status.stdout)["trouble"]) == (0, [sentence])
    assert (doctor.returncode, f"bad    settings    {sentence}\n" in doctor.stdout) == (1, True)
