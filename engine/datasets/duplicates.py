"""Pictures that stand in a folder more than once: exact copies, and copies that were saved again.
numpy and scipy.

A picture in the training part and its twin in the test part would make every number on unseen
pictures a number on seen ones. Copies are told by what is decoded, not by names or bytes of files.
A picture that was saved anew (as a JPEG, say) differs in its details and hardly in its coarse
tones; two pictures of one kind, such as two digits 1, may be as near in their details and are not
in their tones. So candidates are found by a perceptual hash, 4 × 4 mean tones, and each is
confirmed by 8 × 8 mean tones and by its pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

TONES = 2.0  # root mean square difference of 8 × 8 mean tones, of 255: up to there may be twins
SHARE = 0.3  # of a picture's own contrast: up to there its pixels may differ from its twin's
CANDIDATES = 8  # nearest pictures that are looked at, for each
BLOCK = 500  # pictures at a time


@dataclass(frozen=True)
class Twins:
    """group (n,): a number for each picture, the same for all that are copies of each other; exact
    (n,) bool: it has the very same pixels as an earlier picture.
    """

    group: np.ndarray
    exact: np.ndarray

    @property
    def copies(self) -> int:
        """Pictures beyond the first of their group."""
        return len(self.group) - len(np.unique(self.group))


def find(pixels: np.ndarray) -> Twins:
    """(n, side, side, 3) uint8, side a multiple of 8 → which are copies of each other."""
    first = _first_of_each(pixels)
    # one of each, and where in `alone` each picture's stands
    alone, place = np.unique(first, return_inverse=True)
    return Twins(_joined(len(alone), _pairs(pixels, alone))[place], first != np.arange(len(pixels)))


def _first_of_each(pixels: np.ndarray) -> np.ndarray:
    """(n,) for each picture the first one with the same pixels."""
    seen: dict[bytes, int] = {}
    return np.array(
        [
            seen.setdefault(hashlib.sha256(picture.tobytes()).digest(), row)
            for row, picture in enumerate(pixels)
        ],
        int,
    )


def _pairs(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(m, 2) places in `rows` of pictures that are copies of each other, though not exact ones."""
    from scipy.spatial import cKDTree

    if len(rows) < 2:
        return np.empty((0, 2), int)
    fine = _tones(pixels, rows)  # (n, 8, 8)
    coarse = fine.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)
    near, found = cKDTree(coarse).query(
        coarse, min(1 + CANDIDATES, len(rows)), distance_upper_bound=TONES * 4
    )
    places = np.repeat(np.arange(len(rows)), near.shape[1])[np.isfinite(near.ravel())]
    pairs = np.column_stack([places, found.ravel()[np.isfinite(near.ravel())]])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], 1), axis=0)
    pairs = pairs[((fine[pairs[:, 0]] - fine[pairs[:, 1]]) ** 2).mean((1, 2)) <= TONES**2]
    return (
        pairs[[_alike(pixels[rows[a]], pixels[rows[b]]) for a, b in pairs]] if len(pairs) else pairs
    )


def _tones(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n, 8, 8) mean tones of some pictures, grey."""
    side = pixels.shape[1] // 8
    parts = [
        pixels[rows[i : i + BLOCK]].reshape(-1, 8, side, 8, side, 3).mean((2, 4, 5))
        for i in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(parts)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Do two pictures differ by little of their own contrast?"""
    one, other = one.astype(np.float64), other.astype(np.float64)
    apart = np.sqrt(((one - other) ** 2).mean())
    return bool(apart <= SHARE * min(one.std(axis=(0, 1)).max(), other.std(axis=(0, 1)).max()))


def _joined(n: int, pairs: np.ndarray) -> np.ndarray:
    """(n,) the same number for all that pairs lead to each other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (n, n))
    return connected_components(links, directed=False)[1]
