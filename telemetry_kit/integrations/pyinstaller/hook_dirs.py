"""The entry point `pyinstaller40`: it tells PyInstaller where the hook is.

PyInstaller is not imported here, because its build loads this module before the hook.
"""

from __future__ import annotations

import os


def get_hook_dirs() -> list[str]:
    """Return the folders that contain hooks of this library."""
    return [os.path.dirname(os.path.abspath(__file__))]
