"""Save the count cache under the maintenance lock, and only while it is still valid.

`insights.cache` defines its content. A failure costs only time, so it is not reported.
"""

from __future__ import annotations

import os

from telemetry_kit.errors import JournalError
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.cache import NAME
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import rotation


def keep(paths: ProjectPaths, counted: CountedLog) -> bool:
    """Save the counts beside the log.

    Args:
        paths: the project's paths.
        counted: the counts.

    Returns:
        Whether they were saved.
    """
    if counted.cache_lines is None:
        return False
    try:
        with rotation.maintenance(paths) as folder:
            if folder is None:
                return False
            for name, inode in counted.files:
                # A line that was deleted after the count must not remain in a number.
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if (found.st_dev, found.st_ino) != inode:
                    return False
            with NewFile(NAME, folder) as new:
                with open(new.fd, "wb", closefd=False) as out:
                    out.writelines(part for line in counted.cache_lines for part in (line, b"\n"))
                # The cache has a checksum: if a power failure damages it, the log is counted again.
                new.place(NAME, sync=False)
            return True
    except (JournalError, OSError):
        return False
