"""The message format of uploads: gradients as bytes, and back, with numpy.

A message is a header (kind, number type, total number of gradients, number sent), the positions,
and the values. Positions are left out if both sides know them, written as 32-bit integers if they
are few, and as one bit per gradient if that is shorter.
"""

from __future__ import annotations

import struct

import numpy as np

HEADER = struct.Struct("<BBII")
# how positions are encoded: all gradients sent, as integers, as bits, not included
DENSE, LISTED, BITS, KNOWN = range(4)
TYPES = (np.dtype("<f4"), np.dtype("<f8"))


class Unreadable(ValueError):
    """Bytes that are not a valid message."""


def pack(values: np.ndarray, kept: np.ndarray, known: bool = False) -> bytes:
    """Encode values (n,) float32 or float64 at kept (n,) bool as the shortest message.

    known: both sides know the positions already.
    """
    n, count = len(values), int(kept.sum())
    numbers = values[kept].astype(TYPES[_type(values.dtype)], copy=False).tobytes()
    if count == n:
        kind, positions = DENSE, b""
    elif known:
        kind, positions = KNOWN, b""
    elif 4 * count <= -(-n // 8):
        kind, positions = LISTED, np.flatnonzero(kept).astype("<u4").tobytes()
    else:
        kind, positions = BITS, np.packbits(kept).tobytes()
    return HEADER.pack(kind, _type(values.dtype), n, count) + positions + numbers


def unpack(message: bytes, n: int, known: np.ndarray | None = None) -> np.ndarray:
    """Decode a message into (n,), with zeros where nothing was sent.

    known (n,) bool: the positions, if the message leaves them out. Raises Unreadable if the message
    is not valid.
    """
    if len(message) < HEADER.size:
        raise Unreadable("no header")
    kind, type_, told, count = HEADER.unpack_from(message)
    if (
        kind > KNOWN
        or type_ >= len(TYPES)
        or told != n
        or count > n
        or (kind == KNOWN and known is None)
    ):
        raise Unreadable("a wrong header")
    width = {DENSE: 0, LISTED: 4 * count, BITS: -(-n // 8), KNOWN: 0}[kind]
    if len(message) != HEADER.size + width + count * TYPES[type_].itemsize:
        raise Unreadable("cut off, or too long")
    positions = _positions(kind, message[HEADER.size : HEADER.size + width], n, known)
    if len(positions) != count or (count and positions[-1] >= n):
        raise Unreadable("wrong positions")
    values = np.zeros(n, TYPES[type_])
    values[positions] = np.frombuffer(message, TYPES[type_], count, HEADER.size + width)
    return values


def _positions(kind: int, part: bytes, n: int, known: np.ndarray | None) -> np.ndarray:
    """The positions of the values sent, in ascending order."""
    if kind == LISTED:
        found = np.frombuffer(part, "<u4")
        if (np.diff(found.astype(np.int64)) <= 0).any():
            raise Unreadable("positions out of order")
        return found
    if kind == BITS:
        return np.flatnonzero(np.unpackbits(np.frombuffer(part, np.uint8), count=n))
    if kind == DENSE:
        return np.arange(n)
    assert known is not None  # unpack has refused a message that needs them
    return np.flatnonzero(known)


def _type(dtype: np.dtype) -> int:
    return TYPES.index(np.dtype(dtype).newbyteorder("<"))
