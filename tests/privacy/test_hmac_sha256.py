"""The package's HMAC-SHA256 equals the standard library's."""

import hmac

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetry_kit.privacy.hmac_sha256 import Mac


@given(st.binary(max_size=200), st.binary(max_size=300))
@example(b"", b"")
@example(b"k" * 63, b"m")
@example(b"k" * 64, b"m")
@example(b"k" * 65, b"m")
def test_equals_the_standard_library(key: bytes, message: bytes) -> None:
    """For any key and message, `Mac` returns the code that `hmac` returns."""
    assert hmac.new(key, message, "sha256").hexdigest() == Mac(key).hex(message, 64)


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_earlier_messages_do_not_change_a_code(messages: list[bytes]) -> None:
    """A `Mac` returns the same code for a message, whatever it has hashed before."""
    mac = Mac(b"key")

    assert [Mac(b"key").hex(m, 64) for m in messages] == [mac.hex(m, 64) for m in messages]


@pytest.mark.parametrize("chars", [1, 12, 16, 64])
def test_the_code_has_the_requested_length(chars: int) -> None:
    """The code is truncated to the requested number of hex digits."""
    assert hmac.new(b"k", b"m", "sha256").hexdigest()[:chars] == Mac(b"k").hex(b"m", chars)


def test_rfc_4231_case_2() -> None:
    """The code equals the published example of RFC 4231."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    assert expected == Mac(b"Jefe").hex(b"what do ya want for nothing?", 64)
