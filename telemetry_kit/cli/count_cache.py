"""Save the count cache under the maintenance lock, and only while it is still valid.

`insights.cache` defines its content. A failure costs only time, so it is never reported.
"""

from __future__ import annotations

import os

from telemetry_kit.errors import JournalError
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.cache import NAME
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import rotation


def keep(home: ProjectPaths, counted: CountedLog) -> bool:
    """Save the count cache beside the log.

    Args:
        home: whose journal.
        counted: what was counted.

    Returns:
        Whether it was.
    """
    if counted.cache_lines is None:
        return False
    try:
        with rotation.maintenance(home) as folder:
            # What was deleted since it was counted must not come back as a number.
            if folder is None or not all(_is_there(folder, *file) for file in counted.files):
                return False
            _put(folder, counted.cache_lines)
            return True
    except (JournalError, OSError):
        return False


def _is_there(folder: int, name: str, inode: tuple[int, int]) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == inode


def _put(folder: int, lines: list[bytes]) -> None:
    with NewFile(NAME, folder) as new:
        with open(new.fd, "wb", closefd=False) as out:
            for line in lines:
                out.write(line)
                out.write(b"\n")
        # A cache with a checksum: after a power failure it is counted anew.
        new.place(NAME, sync=False)
