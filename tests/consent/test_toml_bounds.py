"""Limits on a repository's configuration files: time, memory, and when they are read."""

import json
import subprocess
import sys
import tomllib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetry_kit import settings
from telemetry_kit.consent import policy

MAX_BYTES = settings.MAX_TOML_BYTES
DENY = b"[tool.telemetry_kit]\nenabled = false\n"
EIGHT = "a.b.c.d.e.f.g.h"
NINE = f"{EIGHT}.i"


def parse(text: str):
    """Return the tables of a document, or None if it is rejected."""
    return settings.parse_toml(text.encode())


# -- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [EIGHT, f"'x.y.z'.{EIGHT[2:]}", EIGHT.replace(".", " \t. ")])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "x = [{{{}=1}}]"])
def test_a_key_of_eight_parts(key: str, form: str) -> None:
    """A key of eight parts is accepted in every form of a key."""
    assert tomllib.loads(form.format(key)) == parse(form.format(key))


@pytest.mark.parametrize(
    "key",
    [
        NINE,
        NINE.replace(".", " \t. "),
        NINE.replace("b", "'b'").replace("d", '"d"'),
        NINE.replace("b", '"\\""').replace("d", '"\\u0064."'),
        NINE.replace("b", "''").replace("d", '""'),
        NINE.replace("b", "'#'").replace("d", '"="'),
        "1.2.3.4.5.6.7.8.9",
        ".".join("k" * 9),
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        "{} = 1",
        "[{}]",
        "[[ {} ]]",
        "x = {{ {} = 1 }}",
        "x = [\n1.5, # {{\n{{ y = '''\n''', {} = 1 }}]",
        'x = """\\""""""\n{} = 1',
        "x = '''\n'''''\n{} = 1",
        'x = """\n\\""""""\n{} = 1',
        "x = 'a\\'\n{} = 1",
        'x = "a\\\\"\n{} = 1',
        "# '\n{} = 1",
        "x = '#'\n{} = 1 # '",
    ],
)
def test_a_key_of_nine_parts(key: str, form: str) -> None:
    """A key of nine parts is rejected, whatever strings and comments surround it."""
    assert tomllib.loads(form.format(key)) != {}
    assert parse(form.format(key)) is None


@pytest.mark.parametrize(
    "text",
    [
        f"x = '{NINE}'",
        f'x = "{NINE}" # {NINE}',
        f"x = '''\n{NINE}\n'''",
        f'x = """\n{NINE}\\"""\n{NINE}"""""',
        f"x = '''\n'{NINE}'''''",
        f"# {NINE}\n# '''\nx = 1",
        f"'{NINE}' = 1",
        f'"{NINE}"."{NINE}" = 1',
        "x = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]",
        "x = [0.1 , \n 0.2 , 0.3, # .\n 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]",
        "x = [" + "1979-05-27T07:32:00.5Z," * 9 + "]",
        "\n".join(f"a{n}.b = 0.5" for n in range(20)),
        "\r\n".join(f"a{n}.b = 0.5" for n in range(20)),
    ],
)
def test_dots_outside_keys(text: str) -> None:
    """Dots in strings, comments and numbers do not count as parts of a key."""
    assert tomllib.loads(text) == parse(text)


_part = st.sampled_from(["a", "'b.#'", '"c\\".="', '""', "''", "1"])
_key = st.lists(_part, min_size=1, max_size=12).map(" . ".join)
_value = st.sampled_from(
    ["1.5", "'a.b'", '"a\\".b # "', "'''\n.'.'''''", '"""\n.\\""".""""', "[1.5, [2.5], # .\n]"]
)
_line = st.one_of(
    st.builds("{} = {}".format, _key, _value),
    st.builds("{} = {{ {} = {} }} # {}".format, _key, _key, _value, _key),
    _key.map("[{}]".format),
    _key.map("[[{}]]".format),
    _key.map("# {}".format),
)


@given(st.lists(_line, min_size=1, max_size=5))
def test_only_long_keys_are_rejected(lines: list[str]) -> None:
    """A document without long keys is parsed like any TOML. Others are rejected or parsed so."""
    text = "\n".join(lines)
    found = parse(text)
    try:
        expected = tomllib.loads(text)
    except ValueError:
        expected = None
    if all(line.count(" . ") < 8 for line in lines):
        assert expected == found
    assert found in (expected, None)


@given(st.lists(_line, min_size=1, max_size=3), st.integers(9, 12))
def test_a_long_key_after_other_lines(lines: list[str], parts: int) -> None:
    """A long key is rejected after any other lines."""
    text = "\n".join([*lines, ".".join("k" * parts) + " = 1"])

    assert parse(text) is None


# -- costs -------------------------------------------------------------------------------------

_BYTES_FOR_ONE = 600


class Cost:
    """The cost of a parse: its peak memory, and the number of function calls.

    Args:
        data: the document.
    """

    def __init__(self, data: bytes) -> None:
        self.calls = 0
        tracemalloc.start()
        sys.setprofile(self._count)
        try:
            settings.parse_toml(data)
        finally:
            sys.setprofile(None)
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    def _count(self, *_: object) -> None:
        self.calls += 1


_pieces = """ \"\"\" ''' \\" a. [a]; [[a]]; {a= \\u0041 0x1f, 1.5, x={ x=[ true, {}, \\;
a.b.c.d.e.f.g.h=1; [a.b.c.d.e.f.g.h]; """
_atom = st.sampled_from(
    [*"a1.\"'=[]{},#\\-:_ \n\r\0é", *(piece.replace(";", "\n") for piece in _pieces.split())]
)


@given(
    st.lists(_atom, max_size=8).map("".join),
    st.lists(_atom, min_size=1, max_size=4).map("".join),
    st.lists(_atom, max_size=8).map("".join),
)
@example("", "a.", "a=1")
@example("", '"""\\', "")
@example("x=[", "{a.b.c.d.e.f.g.h=1},", "]")
@example("a=", "{a=", "")
@example("a=", "[", "")
@example("a=0.", "9", "")
@example('a="', "\\\\", '"')
def test_the_cost_of_a_document_is_limited(before: str, repeated: str, after: str) -> None:
    """Memory and function calls are proportional to the size of a document at most."""
    size = 1 << 13
    times = max(size - len(before + after), 0) // len(repeated)
    data = (before + repeated * times + after).encode()[:size]
    settings.parse_toml(b"")
    cost = Cost(data)

    assert cost.peak < _BYTES_FOR_ONE * size
    assert cost.calls < 20 * size


@pytest.mark.parametrize("repeated", ["[{}.b.c.d.e.f.g.h]\n", "{}.b.c.d.e.f.g.h=1\n", "[[{}]]\n"])
def test_the_cost_of_many_keys_is_limited(repeated: str) -> None:
    """The largest accepted documents have the same limits."""
    text = "".join(map(repeated.format, range(MAX_BYTES // len(repeated))))
    data = text.encode()[:MAX_BYTES].rpartition(b"\n")[0]
    cost = Cost(data)

    assert settings.parse_toml(data) is not None
    assert cost.peak < _BYTES_FOR_ONE * MAX_BYTES
    assert cost.calls < 20 * MAX_BYTES


_LIMITED = """
import resource, sys
from telemetry_kit import settings
settings.parse_toml(b"")
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20),) * 2)
sys.setrecursionlimit(10**6)
print(settings.read_toml(sys.argv[1], b""))
"""


@pytest.mark.parametrize(
    "text", ["a." * 20_000 + "b = 1", "[" + "a." * 20_000 + "b]", "a = " + "[" * 60_000], ids=len
)
def test_a_hostile_file_needs_at_most_64_mebibytes(tmp_path: Path, text: str) -> None:
    """A hostile file needs at most 64 MiB, even if the recursion limit is very high."""
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, check=False
    )

    assert (0, "None\n", "") == (done.returncode, done.stdout, done.stderr)


# -- long files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "has_table", "denies"),
    [
        (1_000, False, False),
        (MAX_BYTES, True, True),
        (MAX_BYTES + 1, False, False),
        (MAX_BYTES * 4, False, False),
        (MAX_BYTES * 4, True, True),
        (1 << 20, False, False),
        (1 << 20, True, True),
        ((1 << 20) + 1, False, True),
    ],
)
def test_a_long_pyproject(place, size: int, has_table: bool, denies: bool) -> None:
    """A long pyproject.toml denies if it has the package's table, even at its end."""
    end = DENY if has_table else b""
    start = b"[project]\n"
    filled = b"# filler\n" * (size // 9 + 1)
    data = start + filled[: size - len(start) - len(end) - 1] + b"\n" + end
    (place.root / "pyproject.toml").write_bytes(data)
    rules = {rule.name: rule for rule in policy.rules(place.home, place.environ)}
    rule = rules[f"{place.root}/pyproject.toml"]

    assert len(data) == size
    assert denies != policy.decide(place.home, place.environ).allowed
    assert ("deny" if denies else "silent") == rule.verdict


@pytest.mark.parametrize("name", [".flowspec/telemetry.toml", "user"])
def test_a_long_file_of_the_package(place, name: str) -> None:
    """If a file with settings of only this package is too long, it denies."""
    path = Path(place.home.user_file) if name == "user" else place.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"#" * MAX_BYTES)
    allowed = policy.decide(place.home, place.environ).allowed
    path.write_bytes(b"#" * (MAX_BYTES + 1))

    assert (True, False) == (allowed, policy.decide(place.home, place.environ).allowed)


# -- when files are read -----------------------------------------------------------------------

_TRACED = """
import json, sys
opened = []
sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
from telemetry_kit import *
configure(app="flowspec")
print(bool(track_role_event("role.selected")), is_telemetry_enabled())
print(json.dumps([path for path in opened if path.endswith((".toml", ".git"))]))
"""


@pytest.mark.parametrize("decided", ["nothing", "yes", "no"])
def test_files_are_read_only_after_a_grant(undecided, decided: str) -> None:
    """Without a grant, a program opens no file of the repository."""
    (undecided.root / "pyproject.toml").write_bytes(DENY)
    (undecided.root / ".git").write_text("gitdir: elsewhere\n")
    if decided == "yes":
        undecided.grant()
    elif decided == "no":
        undecided.python("-m", "telemetry_kit", "--app", "flowspec", "off")
    done = undecided.run(_TRACED)
    first, opened = done.stdout.splitlines()

    assert (0, "", "False False") == (done.returncode, done.stderr, first)
    names = [name for name in json.loads(opened) if not name.endswith("/.git")]
    expected = [f"{undecided.root}/pyproject.toml"] if decided == "yes" else []
    assert expected == names


def test_commands_name_the_file_before_a_grant(undecided) -> None:
    """Before a grant, `status` names the file of the repository that denies."""
    (undecided.root / "pyproject.toml").write_text("# telemetry_kit\n" + "a." * 20_000 + "b = 1")
    done = undecided.python("-m", "telemetry_kit", "--app", "flowspec", "status", "--check")
    status = undecided.python("-m", "telemetry_kit", "--app", "flowspec", "status", "--json")

    assert (11, 0) == (done.returncode, status.returncode)
    assert "pyproject.toml cannot be read" in status.stdout
