"""Log lines, segment files and an open segment for the tests of rewriting."""

import fcntl
import gzip
import os
from pathlib import Path

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import reader

DAY = "2024-02-28"


def line(number: int, day: str = DAY, pad: int = 0) -> bytes:
    """Return one log line of this day."""
    context = f',"context":{{"pad":"{"x" * pad}"}}' if pad else ""
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"{context}}}\n'
    ).encode()


def write_segment(
    home: ProjectPaths, data: bytes, named: str = DAY, compressed: bool = False
) -> Path:
    """Write these bytes as a sealed segment, or compressed as an archive."""
    path = Path(home.folder, f"telemetry-{named}.jsonl{'.gz' * compressed}")
    path.write_bytes(gzip.compress(data) if compressed else data)
    path.chmod(0o600 if compressed else 0o400)
    return path


class SegmentUser:
    """A program that is suspended while it has a sealed segment open.

    Args:
        path: the segment.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def end(self) -> None:
        """Release the lease."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def ids(home: ProjectPaths) -> list[int]:
    """Return the numbers of all events that the reader finds."""
    return [int(event["event_id"], 16) for event in reader.read(home)]
