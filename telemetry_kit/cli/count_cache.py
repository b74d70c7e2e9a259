"""Save the count cache under the maintenance lock, and only while it is still valid.

`insights.cache` defines its content. A failure costs only time, so it is not reported.
"""

from __future__ import annotations

import os

from telemetry_kit.errors import JournalError
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.insights.cache import NAME, Look
from telemetry_kit.paths import Home
from telemetry_kit.storage import rotation


def keep(home: Home, look: Look) -> bool:
    """Save the counts beside the log.

    Args:
        home: the project's paths.
        look: the counts.

    Returns:
        Whether they were saved.
    """
    if look.keep is None:
        return False
    try:
        with rotation.maintenance(home) as folder:
            if folder is None:
                return False
            for entry in look.entries:
                # A line that was deleted after the count must not remain in a number.
                found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
                if (found.st_dev, found.st_ino) != entry.inode:
                    return False
            with NewFile(NAME, folder) as new:
                with open(new.fd, "wb", closefd=False) as out:
                    out.writelines(part for line in look.keep for part in (line, b"\n"))
                # The cache has a checksum: if a power failure damages it, the log is counted again.
                new.place(NAME, sync=False)
            return True
    except (JournalError, OSError):
        return False
