"""Encodes a stored value as bytes: header, key, JSON, npz.

Decoding never executes code from the data: there is no pickle in it.

    magic and version (8 bytes) | SHA-256 of all that follows (32) | three lengths (4 + 8 + 8) | key
    | JSON | npz

The key is part of the value, so a lost index can be rebuilt from the values alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from typing import Any

import numpy as np

# contains a line ending, which any text conversion would break, and the format version
MAGIC = b"VEIL\r\n\x00\x01"
LENGTHS = struct.Struct(">IQQ")  # of key, JSON and npz
DIGEST = slice(len(MAGIC), len(MAGIC) + hashlib.sha256().digest_size)
HEADER = DIGEST.stop + LENGTHS.size  # bytes before the key
LONGEST_KEY = 2000  # bytes


class Damaged(ValueError):
    """The bytes are not, or no longer, what encode returned."""


def encode(plain: dict[str, Any], arrays: dict[str, np.ndarray], key: str = "") -> bytes:
    """Encode a JSON-able dict and named numpy arrays as bytes.

    NaN and infinities survive; tuples come back as lists.

    Raises TypeError for what would not come back unchanged: object arrays, dict keys that are not
    text, other types.
    """
    _check_plain(plain, "the value")
    _check_arrays(arrays)
    packed = io.BytesIO()
    np.savez(packed, *arrays.values(), allow_pickle=False)
    text = json.dumps({"plain": plain, "names": list(arrays)}, default=_number).encode()
    name = key.encode()
    body = LENGTHS.pack(len(name), len(text), packed.tell()) + name + text + packed.getvalue()
    return MAGIC + hashlib.sha256(body).digest() + body


def decode(raw: bytes, key: str | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Decode a value into (plain, arrays): the inverse of encode.

    Raises Damaged, also if the value was stored under another key.
    """
    key_end, text_end = _ends(raw, len(raw))
    if hashlib.sha256(memoryview(raw)[DIGEST.stop :]).digest() != raw[DIGEST]:
        raise Damaged("the checksum does not match")
    if key is not None and raw[HEADER:key_end] != key.encode():
        raise Damaged("the value belongs to another key")
    try:
        return _parse(raw[key_end:text_end], raw[text_end:])
    except MemoryError:
        raise
    except Exception as error:
        raise Damaged(f"the content cannot be read ({type(error).__name__}: {error})") from error


def key_of(beginning: bytes, size: int) -> str:
    """Return the key of a value of `size` bytes, from its first HEADER + LONGEST_KEY bytes.

    Checks only magic and lengths; decode checks the rest. Raises Damaged.
    """
    key_end, _ = _ends(beginning, size)
    try:
        return beginning[HEADER:key_end].decode()
    except UnicodeDecodeError as error:
        raise Damaged("the key is not text") from error


def _ends(raw: bytes, size: int) -> tuple[int, int]:
    """Return where key and JSON end.

    Raises Damaged if magic or lengths do not fit a value of `size` bytes.
    """
    if raw[: len(MAGIC)] != MAGIC:
        raise Damaged("not a stored value, or of another version")
    if len(raw) < HEADER:
        raise Damaged("cut off inside its header")
    lengths = LENGTHS.unpack(raw[DIGEST.stop : HEADER])
    if lengths[0] > LONGEST_KEY or HEADER + sum(lengths) != size:
        raise Damaged("the length does not match")
    return HEADER + lengths[0], HEADER + lengths[0] + lengths[1]


def _parse(text: bytes, packed: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    content = json.loads(text)
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        members = [stored[f"arr_{i}"] for i in range(len(stored.files))]
    return content["plain"], dict(zip(content["names"], members, strict=True))


def _check_plain(value: Any, where: str) -> None:
    """Refuse dict keys that are not text: JSON would silently turn the key 1 into "1"."""
    if isinstance(value, dict):
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError(f"{where} has the key {name!r}, which is not text")
            _check_plain(item, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_plain(item, where)


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if type(name) is not str or type(array) is not np.ndarray:
            raise TypeError(
                f"{name!r} is a {type(array).__name__}, not a plain numpy array with a name"
            )
        if array.dtype.hasobject:
            raise TypeError(
                f"the array {name!r} holds Python objects, which only pickle could store"
            )


def _number(value: Any) -> Any:
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
