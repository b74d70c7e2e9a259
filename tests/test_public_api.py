"""The public API: its names, and that the use of one loads only its own module."""

import importlib

import pytest

import telemetry_kit

# Those of the design that later issues bring (current, propagate, instrument, capture_events,
# ask_consent) join this list with them.
EARLY = {
    "RoleEvent",
    "configure",
    "disable_telemetry",
    "enable_telemetry",
    "get_logger",
    "hash_pii",
    "is_telemetry_enabled",
    "role_session",
    "track_role_event",
    "tracks",
}


def test_names_are_sorted_and_unique() -> None:
    """`__all__` is in order and names nothing twice."""
    assert sorted(set(telemetry_kit.__all__)) == telemetry_kit.__all__


def test_names_are_complete() -> None:
    """`__all__` has every name of the design that works by now, and the version."""
    assert EARLY | {"__version__"} <= set(telemetry_kit.__all__)


def test_every_name_has_a_module() -> None:
    """The table of modules and `__all__` agree."""
    assert telemetry_kit.__all__ == sorted(telemetry_kit._MODULES)


@pytest.mark.parametrize("name", telemetry_kit.__all__)
def test_a_name_is_the_one_in_its_module(name: str) -> None:
    """Every name resolves, to the object of that name in its module."""
    module = importlib.import_module(f"telemetry_kit.{telemetry_kit._MODULES[name]}")

    assert getattr(module, name) is getattr(telemetry_kit, name)


def test_names_are_listed() -> None:
    """`dir()` shows every public name, for completion."""
    assert set(telemetry_kit.__all__) <= set(dir(telemetry_kit))


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="has no attribute 'trakcs'"):
        telemetry_kit.trakcs  # noqa: B018


def test_types_are_declared_for_checkers() -> None:
    """Type checkers see the names of `__all__`."""
    import ast
    from pathlib import Path

    tree = ast.parse(Path(telemetry_kit.__file__).read_text())
    declared = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    ]

    assert telemetry_kit.__all__ == sorted(declared)


def test_importing_loads_no_module(undecided) -> None:
    """`import telemetry_kit` alone loads no other file of the package."""
    done = undecided.run(
        "import sys, telemetry_kit; print([m for m in sys.modules if m.startswith('telemetry_')])",
        named=False,
    )

    assert (done.stdout, done.stderr) == ("['telemetry_kit']\n", "")


def test_a_name_loads_its_module_alone(undecided) -> None:
    """`RoleEvent` brings `events` and nothing else of the package."""
    done = undecided.run(
        "import sys\nfrom telemetry_kit import RoleEvent\n"
        "print(sorted(m for m in sys.modules if m.startswith('telemetry_')))",
        named=False,
    )

    assert (done.stdout, done.stderr) == ("['telemetry_kit', 'telemetry_kit.events']\n", "")


def test_importing_creates_nothing(undecided) -> None:
    """Importing every public name leaves the disk as it was."""
    before = undecided.tree()
    done = undecided.run("from telemetry_kit import *", env={"PYTHONDONTWRITEBYTECODE": "1"})

    assert (0, before) == (done.returncode, undecided.tree())
