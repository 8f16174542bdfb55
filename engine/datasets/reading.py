"""Reads files into arrays and checksums: IDX files, image files, and folders of them."""

from __future__ import annotations

import gzip
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from io import BufferedReader
from itertools import islice
from pathlib import Path

import numpy as np

from engine.datasets.source import MOST_BYTES, SIZE

_TREES: dict[Path, tuple[str, str]] = {}  # folder → (state, checksum) when last read


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, unpacked or as .gz, into a uint8 array of the shape in its header.

    The format is LeCun's (yann.lecun.com/exdb/mnist): 0, 0, type, number of dimensions, then each
    dimension as 4 bytes. Raises ValueError and OSError.
    """
    with _opened(path) as file:
        magic = file.read(4)
        if magic[:3] != b"\0\0\x08" or len(magic) < 4 or not 1 <= magic[3] <= 4:
            raise ValueError(f"{path} is not an idx file of bytes")
        header = file.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise ValueError(f"{path} is cut off in its header")
        shape = np.frombuffer(header, ">u4")
        if (expected := int(np.prod(shape, dtype=np.float64))) > 2**31:
            raise ValueError(f"{path} promises more than 2 GiB in its header")
        content = file.read(expected + 1)
    if len(content) != expected:
        much = "less" if len(content) < expected else "more"
        raise ValueError(
            f"{path} holds {much} than the {expected:,} bytes that its header promises"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the checksum (hex) of a file's unpacked content.

    The file is not read again while path, size, modification time and inode stay the same.
    """
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns, state.st_ino, algorithm)


@lru_cache(maxsize=256)
def _digest(
    path: Path,
    size: int,  # noqa: ARG001  part of the cache's key
    changed: int,  # noqa: ARG001  part of the cache's key
    inode: int,  # noqa: ARG001  part of the cache's key
    algorithm: str,
) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(
            file, partial(hashlib.new, algorithm, usedforsecurity=False)
        ).hexdigest()


def tree_digest(folder: Path, paths: list[Path], state: str) -> str:
    """Return the checksum (hex) of many files and their names, cached while `state` is the same."""
    if _TREES.get(folder, ("", ""))[0] != state:
        total = hashlib.sha256()
        for path in paths:
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            except PermissionError:  # reported as skipped when the file is decoded
                content = b"locked"
            total.update(os.fsencode(path.relative_to(folder)) + b"\0" + content)
        _TREES[folder] = state, total.hexdigest()
    return _TREES[folder][1]


def decode_all(paths: list[Path], pixels: np.ndarray) -> list[str]:
    """Decode files into pixels (n, SIZE, SIZE, 3) uint8, in threads.

    Returns for each file why it could not be read, or an empty string.
    """
    why, rows = [""] * len(paths), iter(range(len(paths)))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while block := list(islice(rows, 1000)):
            for row, (image, reason) in zip(block, pool.map(decode, (paths[row] for row in block))):
                why[row] = reason
                if image is not None:
                    pixels[row] = image
    return why


def decode(path: Path) -> tuple[np.ndarray | None, str]:
    """Return the central square (SIZE, SIZE, 3) uint8, or None and why the image cannot be read."""
    from engine.datasets import uploads

    try:
        if path.stat().st_size > MOST_BYTES:
            return None, f"The file is larger than {MOST_BYTES / 1e6:.0f} MB."
        return uploads.square(path.read_bytes(), SIZE, 3, uploads.OWN_FORMATS), ""
    except OSError as error:
        return None, f"{error.strerror or error}."
    except uploads.Refused as refused:
        return None, str(refused)
