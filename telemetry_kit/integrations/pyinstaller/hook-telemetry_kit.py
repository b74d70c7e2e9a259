"""List the files of this library that PyInstaller cannot find from the program's imports.

PyInstaller follows import statements. This library imports many of its modules by their names.
"""

from __future__ import annotations

import ast
from pathlib import Path

from PyInstaller.utils.hooks import (  # pyright: ignore[reportMissingImports]
    collect_submodules,
    get_package_paths,
)

# The files of the example program that `demo` runs.
EXAMPLE = ("specflow.py", "spec.md")


def is_needed(module: str) -> bool:
    """Return whether every program needs a module of this library.

    A program imports the integrations that it uses. The others would add their third-party
    libraries, for instance pytest. All of them may load the module about roles by its name.
    """
    return module.endswith(".roles") or not module.startswith("telemetry_kit.integrations.")


def imported_modules(program: Path) -> set[str]:
    """Return the names of the modules that a program imports; it is read and not run."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(program.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def example_folder() -> Path:
    """Return the folder of the example program; a checkout has it beside the package."""
    package = Path(get_package_paths("telemetry_kit")[1])
    installed = package / "examples"
    return installed if installed.is_dir() else package.parent / "examples"


datas = [(str(example_folder() / name), "telemetry_kit/examples") for name in EXAMPLE]
hiddenimports = [
    *collect_submodules("telemetry_kit", filter=is_needed),
    *sorted(imported_modules(example_folder() / EXAMPLE[0])),
]
