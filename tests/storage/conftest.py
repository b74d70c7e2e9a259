"""The empty log, the writer and the programs that the tests of storage share."""

import os
from collections.abc import Iterator

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage.writer import LogWriter
from tests.storage.rewrite_helpers import SegmentUser
from tests.storage.writer_helpers import Clock


@pytest.fixture
def project_directory(home: ProjectPaths) -> None:
    """Create the empty directory of the log."""
    os.mkdir(home.folder, 0o700)


@pytest.fixture
def clock() -> Clock:
    """Create the clock of the writer."""
    return Clock()


@pytest.fixture
def log_writer(home: ProjectPaths, clock: Clock):
    """Create a writer with consent."""
    created = LogWriter(home, lambda: True, clock)
    yield created
    created.close()


@pytest.fixture
def segment_users(home) -> Iterator[list[SegmentUser]]:
    """Provide a list of programs that have a segment open. The test ends them."""
    found: list[SegmentUser] = []
    yield found
    for one in found:
        one.end()
