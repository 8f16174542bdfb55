"""Uploads as bytes: what was packed is read again, the shortest form is taken, and other bytes are
refused.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.studies.gradient_sharing import wire


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [0.0, 0.005, 0.1, 1.0])
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_what_was_packed_is_read_again_bit_for_bit(n, share, dtype):
    rng = np.random.default_rng(0)
    values, kept = rng.standard_normal(n).astype(dtype), rng.random(n) < share
    found = wire.unpack(wire.pack(values, kept), n)
    assert found.dtype == dtype and np.array_equal(found, np.where(kept, values, 0))
    assert np.array_equal(
        wire.unpack(wire.pack(values, kept, known=True), n, kept), np.where(kept, values, 0)
    )


def test_positions_cost_what_they_have_to():
    values, size = (
        np.ones(8000, np.float32),
        lambda count, known=False: (
            len(wire.pack(values, np.arange(8000) < count, known)) - wire.HEADER.size
        ),
    )
    assert size(8000) == 32_000  # all: no positions
    assert size(800) == 3200 + 1000  # a bit for each
    assert size(80) == 320 + 320  # 32-bit numbers
    assert size(800, known=True) == 3200  # both sides know them
    assert size(0) == 0


def test_numbers_that_are_none_travel_as_they_are():
    values = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)
    assert np.array_equal(
        wire.unpack(wire.pack(values, np.ones(4, bool)), 4), values, equal_nan=True
    )


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(raw):
    try:
        assert wire.unpack(raw, 16).shape == (16,)
    except wire.Unreadable:
        pass


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[:-1],
        lambda m: m + b"\0",
        lambda m: bytes([9]) + m[1:],
        lambda m: m[:2] + (17).to_bytes(4, "little") + m[6:],
        lambda m: b"",
        lambda m: m[:10] + b"\xff" * 4 + m[14:],
    ],
)
def test_a_broken_message_is_refused(change):
    message = wire.pack(np.arange(16.0, dtype=np.float32), np.arange(16) == 3)
    with pytest.raises(wire.Unreadable):
        wire.unpack(
            change(
                bytes([wire.LISTED]) + message[1:10] + np.array([3], "<u4").tobytes() + message[-4:]
            ),
            16,
        )
