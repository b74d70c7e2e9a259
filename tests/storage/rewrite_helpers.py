"""Shared by the tests of this module."""

import fcntl
import gzip
import os
from pathlib import Path

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import reader

DAY = "2024-02-28"


def line(number: int, day: str = DAY, pad: int = 0) -> bytes:
    more = f',"context":{{"pad":"{"x" * pad}"}}' if pad else ""
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"{more}}}\n'
    ).encode()


def put(home: ProjectPaths, data: bytes, named: str = DAY, packed: bool = False) -> Path:
    """A sealed segment, or an archive, with these bytes."""
    path = Path(home.folder, f"telemetry-{named}.jsonl{'.gz' * packed}")
    path.write_bytes(gzip.compress(data) if packed else data)
    path.chmod(0o600 if packed else 0o400)
    return path


class Sleeper:
    """A program that was stopped with a sealed segment open.

    Args:
        path: the segment.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def end(self) -> None:
        """Give the lease back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def ids(home: ProjectPaths) -> list[int]:
    return [int(event["event_id"], 16) for event in reader.read(home)]
