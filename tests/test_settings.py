"""`configure()` checks, sets and restores the settings of a host as a whole."""

import os
from collections.abc import Iterator

import pytest

from telemetry_kit import configure, settings
from telemetry_kit._runtime import runtime
from telemetry_kit.errors import ConfigurationError
from telemetry_kit.schema import catalog


class Custom(Exception):  # noqa: N818
    """An exception class of the host."""


def test_defaults() -> None:
    """The defaults are the app flowspec, the day, 90 days, and no names but the roles."""
    now = settings.current()

    assert (
        now.app,
        now.prefix,
        now.resolution,
        now.retention_days,
    ) == ("flowspec", "FLOWSPEC", "day", 90)
    assert frozenset(catalog.ROLES) == settings.vocabulary("roles")
    assert frozenset() == settings.vocabulary("commands")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"app": "acme"}, "telemetry-kit --app acme"),
        ({"app": "flowspec"}, "telemetry-kit"),
        ({"app": "acme", "prog": "acme telemetry"}, "acme telemetry"),
        ({"app": "acme", "prog": "python -m acme telemetry"}, "python -m acme telemetry"),
    ],
)
def test_the_commands_that_users_are_told(given: dict, told: str) -> None:
    """`prog` is what every notice and message says; without it, our own command line."""
    with configure(**given):
        assert told == runtime.command_line
    assert runtime.prog == ""


@pytest.mark.parametrize(
    "prog",
    [
        *("acme 'telemetry'", 'acme "telemetry"', " acme", "acme  telemetry", "acme\ttelemetry"),
        *("acme; rm", "acme $HOME", "`acme`", "a" * 61, "\u00e4cme", 3),
    ],
)
def test_bad_progs(prog: object) -> None:
    """Words that a shell would not take as they are raise one sentence, and change nothing."""
    before = settings.current()
    with pytest.raises(ConfigurationError, match="use the words that users type, such as 'acme"):
        configure(prog=prog)

    assert before is settings.current()


@pytest.mark.parametrize("vocabulary", ["roles", "agents", "commands", "workflows"])
def test_names_are_added(vocabulary: str) -> None:
    """Newly declared names are added to the declared ones."""
    configure(**{vocabulary: ["one"]})
    configure(**{vocabulary: ("two",)})
    configure(app="acme")

    assert {"one", "two"} <= settings.vocabulary(vocabulary)


def test_omitted_settings_are_unchanged() -> None:
    """A second call replaces only the settings that it gives."""
    configure(app="acme", timestamp_resolution="hour", retention_days=7)
    configure(timestamp_resolution="minute")
    now = settings.current()

    assert (now.app, now.resolution, now.retention_days) == ("acme", "minute", 7)


def test_as_a_context_manager_it_restores() -> None:
    """Leaving the block restores the previous settings, even after an exception."""
    previous = settings.current()
    with configure(app="acme", commands=["/x"]) as inside:
        assert ("acme", inside) == (settings.current().app, settings.current())
    assert previous is settings.current()
    with pytest.raises(RuntimeError, match="host"), configure(app="acme"):
        raise RuntimeError("host")

    assert previous is settings.current()


def test_restored_settings_reach_the_runtime() -> None:
    """The runtime follows a change of the app, and its restoration."""

    with configure(app="acme"):
        assert runtime.app == "acme"

    assert runtime.app == "flowspec"


def test_nothing_is_read_or_created(undecided) -> None:
    """`configure()` reads and writes no file."""
    configure(app="acme", roles=["r"], context={"task_id": "identifier"})

    assert undecided.tree() == []


@pytest.mark.parametrize("app", ["acme", "a", "a-b", "a_b", "0x", "x" * 40, "flow-spec2"])
def test_good_apps(app: str) -> None:
    """An app has lower-case letters, digits, '-' and '_', and begins with a letter or digit."""
    configure(app=app)

    assert (app, app.upper().replace("-", "_")) == (
        settings.current().app,
        settings.current().prefix,
    )


@pytest.mark.parametrize(
    "app",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "A",
        "ä",
        "-a",
        "_a",
        "a b",
        "a.b",
        "a\n",
        "x" * 41,
        "a\x00",
        3,
        b"a",
        ["a"],
    ],
)
def test_bad_apps(app: object) -> None:
    """An app that cannot name a folder and a variable is refused, and nothing changes."""
    previous = settings.current()
    with pytest.raises(ConfigurationError, match="lower-case letters"):
        configure(app=app)  # type: ignore[arg-type]

    assert previous is settings.current()


BAD_NAMES = [
    ("", "printable"),
    (" x", "printable"),
    ("x ", "printable"),
    ("a\nb", "printable"),
    ("a\x1b[31m", "printable"),
    ("a\u202eb", "printable"),
    ("\ud800", "printable"),
    ("h:0123456789ab", "pseudonym"),
    ("h:", "pseudonym"),
    ("x" * 129, "128 bytes"),
    ("ü" * 33, "128 bytes"),
    (3, "must be a string"),
    (None, "must be a string"),
    (b"x", "must be a string"),
]


@pytest.mark.parametrize(("name", "why"), BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("vocabulary", ["roles", "agents", "commands", "workflows", "errors"])
def test_bad_names(vocabulary: str, name: object, why: str) -> None:
    """A name that cannot be stored is refused with the reason, and nothing changes."""
    previous = settings.current()
    with pytest.raises(ConfigurationError, match=why):
        configure(**{vocabulary: ["fine", name]})

    assert previous is settings.current()


@pytest.mark.parametrize(("name", "why"), [b for b in BAD_NAMES if b[0] is not None], ids=ascii)
def test_bad_names_at_decoration(at_top_level, name: object, why: str) -> None:
    """A decoration refuses the same names as `configure()`. None means that no name is given."""
    with pytest.raises(ConfigurationError, match=why):
        at_top_level("tracks(RoleEvent.AGENT_INVOKED, agent=name)(len)", name=name)


@pytest.mark.parametrize("name", ["/flow:implement", "a b", "ü", "日本", "x" * 128, "-", "🦜"])
def test_good_names(name: str) -> None:
    """A name is printable text of up to 128 bytes, in any script."""
    configure(commands=[name])

    assert name in settings.vocabulary("commands")


def test_a_single_string_is_refused() -> None:
    """A single string is refused, not split into letters."""
    with pytest.raises(ConfigurationError, match="a list of names"):
        configure(commands="/flow:implement")


def test_a_generator_of_names() -> None:
    """Names may be given by any iterable."""

    def names() -> Iterator[str]:
        yield from ("one", "two")

    configure(agents=names())

    assert {"one", "two"} == settings.vocabulary("agents")


def test_errors_as_classes_or_names() -> None:
    """Exception classes may be declared as classes or by name."""
    configure(errors=[Custom, "OtherError"])

    assert {"Custom", "OtherError"} == settings.current().errors


def test_context_classes() -> None:
    """The class of a context key is identifier, measure, flag, or a list of strings."""
    configure(
        context={"task": "identifier", "size": "measure", "dry": "flag", "mode": ["fast", "slow"]}
    )

    assert {
        "task": "identifier",
        "size": "measure",
        "dry": "flag",
        "mode": frozenset({"fast", "slow"}),
    } == settings.current().context


@pytest.mark.parametrize(
    "context",
    [
        {"k": "name"},
        {"k": "text"},
        {"k": ""},
        {"": "flag"},
        {3: "flag"},
        {"k": ["a", 3]},
        {"h:x": "flag"},
        {"a\nb": "flag"},
    ],
    ids=str,
)
def test_bad_context(context: dict) -> None:
    """An unknown class, or a key that cannot be stored, is refused, and nothing changes."""
    previous = settings.current()
    with pytest.raises(ConfigurationError):
        configure(app="acme", context=context)

    assert previous is settings.current()


@pytest.mark.parametrize("value", ["week", "", "Day", "days", 3])
def test_resolution(value: object) -> None:
    """An unknown resolution is refused with the four valid ones."""
    with pytest.raises(ConfigurationError, match="day, hour, minute, second"):
        configure(timestamp_resolution=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, 3651, True, 90.0, "90", float("nan")])
def test_bad_retention(value: object) -> None:
    """Retention is a whole number of days from 1 to 3650."""
    with pytest.raises(ConfigurationError, match="1 to 3650"):
        configure(retention_days=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("1.4.2", "1.4.2"),
        ("7", "7"),
        ("v2.0rc1", "2.0"),
        ("2.0.0-beta.3+build.5", "2.0.0"),
        ("1.2.dev7", "1.2"),
        ("1.2.3.4.5", "1.2.3.4"),
        ("2026.11.28", "2026.11.28"),
        ("0+unknown", "0"),
    ],
)
def test_the_release_of_a_version(given: str, stored: str) -> None:
    """A version is stored as the numbers that it begins with."""
    configure(version=given)
    configure(app="acme")

    assert stored == settings.current().version


@pytest.mark.parametrize("value", ["", "unknown", "main", "1234567890", "\u0661.2", 1.4, b"1"])
def test_bad_version(value: object) -> None:
    """A version without a release number is refused with an example of a good one."""
    with pytest.raises(ConfigurationError, match=r"for instance '1\.4\.2'"):
        configure(version=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 3650])
def test_good_retention(value: int) -> None:
    """1 and 3650 days are valid."""
    configure(retention_days=value)

    assert value == settings.current().retention_days


def test_unhashable_resolution_is_a_configuration_error() -> None:
    """A resolution of the wrong type raises our error with advice."""
    with pytest.raises(ConfigurationError):
        configure(timestamp_resolution=["day"])  # type: ignore[arg-type]


def test_a_number_is_a_configuration_error() -> None:
    """A number in place of a list raises our error, not a bare TypeError."""
    with pytest.raises(ConfigurationError):
        configure(commands=3)  # type: ignore[arg-type]


def test_decorated_names_stay_declared(at_top_level) -> None:
    """A name given to a decorator stays declared after `configure()` restores the settings."""
    with configure(app="acme"):
        at_top_level("tracks(RoleEvent.AGENT_INVOKED, agent='planner')(lambda: None)")

    assert "planner" in settings.vocabulary("agents")


def test_decoration_declares_in_its_own_vocabulary(at_top_level) -> None:
    """A decorator declares a name only for the vocabulary of its field."""
    at_top_level(
        "tracks('handoff.clicked', source_agent='a1', target_agent='a2', command='/c')(len)"
    )

    assert {"a1", "a2"} == settings.vocabulary("agents")
    assert {"/c"} == settings.vocabulary("commands")


def test_generation_changes_with_settings(at_top_level) -> None:
    """The generation number changes with the settings, so caches can detect the change."""
    first = settings.generation()
    configure(commands=["/x"])
    second = settings.generation()
    at_top_level("tracks(RoleEvent.AGENT_INVOKED, agent='planner-2')(lambda: None)")
    third = settings.generation()
    at_top_level("tracks(RoleEvent.AGENT_INVOKED, agent='planner-2')(lambda: None)")

    assert first != second != third
    assert third == settings.generation()


# -- configuration files -----------------------------------------------------------------------


def test_toml_is_read(tmp_path) -> None:
    """A file's tables are returned. A missing file is an empty one."""
    (tmp_path / "a.toml").write_text("roles = ['x']\n")

    assert settings.read_toml(str(tmp_path / "a.toml")) == {"roles": ["x"]}
    assert settings.read_toml(str(tmp_path / "b.toml")) == {}
    assert settings.read_toml(str(tmp_path / "a.toml" / "c.toml")) == {}


@pytest.mark.parametrize(
    "data",
    [b"roles = [", b"\xff\xfe", b"a = 1\na = 2\n", b"\0", b"x = " + b"[" * 5000, b"#" * 1_100_000],
    ids=["open", "bytes", "twice", "zero", "deep", "long"],
)
def test_damaged_toml_is_none(tmp_path, data: bytes) -> None:
    """A file that cannot be parsed is read as None, which callers treat as a denial."""
    (tmp_path / "a.toml").write_bytes(data)

    assert None is settings.read_toml(str(tmp_path / "a.toml"))


@pytest.mark.parametrize("kind", ["directory", "fifo", "loop"])
def test_strange_toml_is_none(tmp_path, kind: str) -> None:
    """A directory, a FIFO or a circular link is read as None without waiting."""
    path = tmp_path / "a.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path)

    assert None is settings.read_toml(str(path))


def test_without_the_marker_nothing_is_parsed(tmp_path) -> None:
    """A pyproject.toml without our table is not parsed, so it may be damaged."""
    (tmp_path / "p.toml").write_bytes(b"[[[")

    assert settings.read_toml(str(tmp_path / "p.toml"), b"telemetry_kit") == {}


def test_a_changed_file_is_read_again(tmp_path) -> None:
    """A rewritten file is parsed again, even if its size and time are the same."""
    path = tmp_path / "a.toml"
    path.write_text("x = 1\n")
    os.utime(path, (1, 1))
    first = settings.read_toml(str(path))
    (tmp_path / "new").write_text("x = 2\n")
    os.utime(tmp_path / "new", (1, 1))
    os.replace(tmp_path / "new", path)

    assert (first, settings.read_toml(str(path))) == ({"x": 1}, {"x": 2})
