"""Distances between two sets of images, and memorization metrics, on feature vectors.

numpy and scipy, float64; no feature extractor here. Real and generated features are (n, d) and (m,
d). A value can be compared only with others over the same extractor and the same n, so results
state both. If a feature is NaN or infinite, every metric is NaN, which never counts as the best
value.

Sources: Heusel et al. 2017 (Fréchet distance), Bińkowski et al. 2018 (kernel distance),
Kynkäänniemi et al. 2019 (precision and recall), Bai et al. 2021 (memorization-informed FID), and
torchmetrics 1.9, whose memorization-informed FID differs from the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.linalg import lapack

COPY = 0.1  # cosine distance from which memorization-informed FID has no penalty
BLOCK = 1000  # rows of a distance matrix at a time
NEIGHBOURS = 3  # k for precision and recall


@dataclass(frozen=True)
class Moments:
    """Mean (d,) and a square root of the covariance of n features.

    root: (d, r), with root @ root.T equal to the sample covariance.
    """

    mean: np.ndarray
    root: np.ndarray
    n: int


def moments(features: np.ndarray) -> Moments:
    """The moments of features (n, d).

    With no more features than dimensions, the centered features themselves are the root (n columns,
    of rank n − 1). Raises ValueError for n < 2.
    """
    n, d = features.shape
    if n < 2:
        raise ValueError("a covariance needs at least two images")
    features = np.asarray(features, np.float64)
    if not np.isfinite(features).all():
        return Moments(np.full(d, np.nan), np.full((d, 1), np.nan), n)
    mean = features.mean(0)
    centred = (features - mean) / (n - 1) ** 0.5
    if n <= d:
        return Moments(mean, centred.T, n)
    # pivoted Cholesky, because unused features make the covariance singular
    factor, pivots, rank, _ = lapack.dpstrf(centred.T @ centred, lower=1)
    root = np.zeros((d, rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return Moments(mean, root, n)


def frechet_distance(one: Moments, other: Moments) -> float:
    """‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, never below 0.

    Dowson and Landau 1982; Heusel et al. 2017. With Σ = R Rᵀ the last trace is the sum of the
    singular values of R₁ᵀR₂, whose squares are the eigenvalues of Σ₁Σ₂. They are computed from the
    smaller Gram matrix: this needs no matrix square root and, for n < d, nothing larger than n × n.
    NaN if the moments are not finite.
    """
    parts = (one.mean, one.root, other.mean, other.root)
    if not all(np.isfinite(part).all() for part in parts):
        return float("nan")
    cross = one.root.T @ other.root
    gram = cross @ cross.T if cross.shape[0] <= cross.shape[1] else cross.T @ cross
    values = linalg.eigvalsh(gram, check_finite=False)
    shared = np.sqrt(np.maximum(values, 0.0)).sum()
    apart = ((one.mean - other.mean) ** 2).sum()
    spreads = (one.root**2).sum() + (other.root**2).sum()
    return float(np.maximum(0.0, apart + spreads - 2 * shared))  # unlike max, np.maximum keeps NaN


def kernel_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y/d + 1)³.

    Source: Bińkowski et al. 2018. It uses all features at once and can be slightly negative;
    torchmetrics averages it over random subsets. Raises ValueError for fewer than two images on a
    side.
    """
    n, m, d = len(real), len(generated), real.shape[1]
    if min(n, m) < 2:
        raise ValueError("an unbiased kernel distance needs at least two images on each side")

    def kernel(a, b):
        return (a @ b.T / d + 1) ** 3

    def within(x):
        return (
            sum(kernel(x[i : i + BLOCK], x).sum() for i in range(0, len(x), BLOCK))
            - (((x**2).sum(1) / d + 1) ** 3).sum()
        ) / (len(x) * (len(x) - 1))

    x, y = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    between = sum(kernel(x[i : i + BLOCK], y).sum() for i in range(0, n, BLOCK)) / (n * m)
    return float(within(x) + within(y) - 2 * between)


@dataclass(frozen=True)
class Covered:
    """Precision and recall of a generator.

    precision: fraction of generated images that lie among the real ones; recall: fraction of real
    images that lie among the generated ones.
    """

    precision: float
    recall: float


def precision_and_recall(
    real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS
) -> Covered:
    """Precision and recall by k-nearest-neighbor balls (Kynkäänniemi et al. 2019).

    Balls around each set's images, reaching to their k-th neighbor, estimate the region that the
    set covers. Raises ValueError for k images or fewer on a side.
    """
    if min(len(real), len(generated)) <= neighbours:
        raise ValueError(f"precision and recall need more than {neighbours} images on each side")
    x, y = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    return Covered(_inside(y, x, neighbours), _inside(x, y, neighbours))


def _inside(points: np.ndarray, others: np.ndarray, neighbours: int) -> float:
    """Fraction of points that lie in the ball of at least one of the others.

    NaN if a distance is NaN or infinite.
    """
    # index 0 is the image itself
    reach = np.concatenate(
        [
            np.partition(_squares(others[i : i + BLOCK], others), neighbours, axis=1)[:, neighbours]
            for i in range(0, len(others), BLOCK)
        ]
    )
    if not (np.isfinite(reach).all() and np.isfinite(points).all()):
        return float("nan")
    found = [
        (_squares(points[i : i + BLOCK], others) <= reach).any(1)
        for i in range(0, len(points), BLOCK)
    ]
    return float(np.concatenate(found).mean())


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances, (n, d), (m, d) → (n, m)."""
    return np.maximum(0.0, (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T)


# --- memorization ---------------------------------------------------------------------------------


def nearest_cosine(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Each feature's smallest cosine distance 1 − |cos| to the others, (n,).

    Zero rows are left out on both sides, as in torchmetrics. Raises ValueError if none remains.
    """
    a, b = (_unit(np.asarray(x, np.float64)) for x in (of, among))
    if not len(a) or not len(b):
        raise ValueError("all features are zero: no angle can be taken")
    return np.concatenate(
        [1 - np.abs(a[i : i + BLOCK] @ b.T).max(1) for i in range(0, len(a), BLOCK)]
    )


def _unit(x: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x, axis=1)
    kept = ~(lengths == 0)  # NaN rows stay and propagate
    return x[kept] / lengths[kept, None]


@dataclass(frozen=True)
class Memorised:
    """MiFID, both as torchmetrics 1.9 computes it and as Bai et al. 2021 define it.

    The mean cosine distances that they divide by are stored before any threshold.
    """

    torchmetrics: float
    bai: float
    # mean distance of the real images to the nearest generated one
    torchmetrics_distance: float
    bai_distance: float  # mean distance of the generated images to the nearest real one


def memorised(real: np.ndarray, generated: np.ndarray, distance: float) -> Memorised:
    """MiFID: the Fréchet distance divided by a mean cosine distance if that is below `COPY`.

    distance: the Fréchet distance of the same features. A generator that copies all of the data has
    distance 0 and so a MiFID of 0 over 0: torchmetrics returns 0.0, the best possible value, and
    the paper's definition depends on rounding. For one that copies a part of the data, the paper's
    definition grows without bound; torchmetrics' does so only if no training image is left out.
    """
    backward, forward = (
        float(nearest_cosine(real, generated).mean()),
        float(nearest_cosine(generated, real).mean()),
    )

    def punished(mean):
        return 1.0 if mean >= COPY else mean

    by_torchmetrics = 0.0 if distance <= 1e-8 else distance / (punished(backward) + 10e-15)
    return Memorised(by_torchmetrics, distance / (punished(forward) + 1e-15), backward, forward)
