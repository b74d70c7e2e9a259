"""The public names. The use of one loads only its own module."""

import importlib

import pytest

import telemetry_kit

# The first public names of the design. `__all__` has later ones, too.
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
    """`__all__` is sorted and has no duplicates."""
    assert sorted(set(telemetry_kit.__all__)) == telemetry_kit.__all__


def test_names_are_complete() -> None:
    """`__all__` has the first public names of the design, and the version."""
    assert EARLY | {"__version__"} <= set(telemetry_kit.__all__)


def test_every_name_has_a_module() -> None:
    """The table of modules and `__all__` have the same names."""
    assert telemetry_kit.__all__ == sorted(telemetry_kit._MODULES)


@pytest.mark.parametrize("name", telemetry_kit.__all__)
def test_a_name_is_the_one_in_its_module(name: str) -> None:
    """Every public name is the object of that name in its module."""
    module = importlib.import_module(f"telemetry_kit.{telemetry_kit._MODULES[name]}")

    assert getattr(module, name) is getattr(telemetry_kit, name)


def test_names_are_listed() -> None:
    """`dir()` lists every public name, for completion."""
    assert set(telemetry_kit.__all__) <= set(dir(telemetry_kit))


def test_unknown_name() -> None:
    """An unknown name raises an AttributeError with that name."""
    with pytest.raises(AttributeError, match="has no attribute 'trakcs'"):
        telemetry_kit.trakcs  # noqa: B018


def test_types_are_declared_for_checkers() -> None:
    """Type checkers find every name of `__all__`."""
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
    """`import telemetry_kit` loads no other module of the package."""
    done = undecided.run(
        "import sys, telemetry_kit; print([m for m in sys.modules if m.startswith('telemetry_')])",
        named=False,
    )

    assert (done.stdout, done.stderr) == ("['telemetry_kit']\n", "")


def test_a_name_loads_its_module_alone(undecided) -> None:
    """`RoleEvent` loads `events` and no other module of the package."""
    done = undecided.run(
        "import sys\nfrom telemetry_kit import RoleEvent\n"
        "print(sorted(m for m in sys.modules if m.startswith('telemetry_')))",
        named=False,
    )

    assert (done.stdout, done.stderr) == ("['telemetry_kit', 'telemetry_kit.events']\n", "")


def test_importing_creates_nothing(undecided) -> None:
    """Importing every public name creates nothing on disk."""
    before = undecided.tree()
    done = undecided.run("from telemetry_kit import *", env={"PYTHONDONTWRITEBYTECODE": "1"})

    assert (0, before) == (done.returncode, undecided.tree())
