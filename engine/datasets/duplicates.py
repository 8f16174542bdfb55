"""Finds duplicates in a folder: exact copies, and near-duplicates that were saved again.

Needs numpy and scipy only.

If an image is in the training part and its duplicate in the test part, every result on unseen
images includes images that were seen. Duplicates are recognized by their decoded pixels, not by
names or bytes of files. An image that was saved again (as a JPEG, say) differs in its details and
hardly in its coarse tones. Two images of the same kind, such as two digits 1, may be as close in
their details but not in their tones. So candidates are found by a perceptual hash, 4 × 4 mean
tones, and each is confirmed by 8 × 8 mean tones and by its pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

# largest root mean square difference of 8 × 8 mean tones (of 255) between duplicates
TONES = 2.0
SHARE = 0.3  # largest pixel difference between duplicates, as a share of an image's contrast
CANDIDATES = 8  # nearest images that are compared with each image
BLOCK = 500  # images at a time


@dataclass(frozen=True)
class Twins:
    """Which images of a folder are duplicates of each other.

    group: (n,) a number for each image, the same for all duplicates of each other.
    exact: (n,) bool, whether an earlier image has exactly the same pixels.
    """

    group: np.ndarray
    exact: np.ndarray

    @property
    def copies(self) -> int:
        """Number of images beyond the first of their group."""
        return len(self.group) - len(np.unique(self.group))


def find(pixels: np.ndarray) -> Twins:
    """Find duplicates among (n, side, side, 3) uint8 images; side is a multiple of 8."""
    first = _first_of_each(pixels)
    # one of each set of exact copies, and each image's position in `alone`
    alone, place = np.unique(first, return_inverse=True)
    return Twins(_joined(len(alone), _pairs(pixels, alone))[place], first != np.arange(len(pixels)))


def _first_of_each(pixels: np.ndarray) -> np.ndarray:
    """Return (n,): for each image, the index of the first one with the same pixels."""
    seen: dict[bytes, int] = {}
    return np.array(
        [
            seen.setdefault(hashlib.sha256(image.tobytes()).digest(), row)
            for row, image in enumerate(pixels)
        ],
        int,
    )


def _pairs(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (m, 2) positions in `rows` of images that are near-duplicates, not exact copies."""
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
    alike = [_alike(pixels[rows[a]], pixels[rows[b]]) for a, b in pairs]
    found_alike: np.ndarray = pairs[np.array(alike, bool)]
    return found_alike


def _tones(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (n, 8, 8) grey mean tones of the images at `rows`."""
    side = pixels.shape[1] // 8
    parts = [
        pixels[rows[i : i + BLOCK]].reshape(-1, 8, side, 8, side, 3).mean((2, 4, 5))
        for i in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(parts)


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images differ by little compared with their own contrast."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    apart = np.sqrt(((one - other) ** 2).mean())
    return bool(apart <= SHARE * min(one.std(axis=(0, 1)).max(), other.std(axis=(0, 1)).max()))


def _joined(n: int, pairs: np.ndarray) -> np.ndarray:
    """Return (n,) component numbers: the same for all that pairs connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (n, n))
    numbers: np.ndarray = connected_components(links, directed=False)[1]
    return numbers
