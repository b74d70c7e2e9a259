"""The long log that the tests of export share."""

import pytest

from telemetry_kit.schema.encoding import encode
from tests.cli.export_helpers import MANY, stored


@pytest.fixture(scope="session")
def many_lines():
    """Return 120,000 encoded events."""
    return b"".join(encode(stored(n)) for n in range(MANY))
