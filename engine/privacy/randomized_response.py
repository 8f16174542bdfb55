"""k-ary randomized response: one label, kept or replaced (Kairouz et al. 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.privacy.bounds import require


@dataclass(frozen=True)
class RandomizedResponse:
    """Probabilities of the outcomes of k-ary randomized response.

    keep: the true label.
    other: each single other label.
    flip: all other labels together.
    """

    keep: float
    other: float
    flip: float  # (k - 1) * other, exact even where keep rounds to 1


def randomized_response(epsilon: float, k: int) -> RandomizedResponse:
    """Keep the label with probability e^ε/(e^ε + k − 1), else report one of the k − 1 others.

    Kairouz et al. 2014, Section 4. Replacing one label by another costs ε, with δ = 0. No ε
    overflows, including math.inf. Raises ValueError.
    """
    require(epsilon >= 0 and k >= 2, "ε ≥ 0 and k ≥ 2", (epsilon, k))
    small = math.exp(-epsilon)
    total = 1 + (k - 1) * small
    return RandomizedResponse(keep=1 / total, other=small / total, flip=(k - 1) * small / total)


def sample_randomized_response(
    labels: np.ndarray, epsilon: float, k: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a private copy of integer labels in [0, k), of the same shape and dtype.

    Raises ValueError.
    """
    labels = np.asarray(labels)
    require(
        labels.size == 0 or (labels.min() >= 0 and labels.max() < k),
        f"labels from 0 to {k - 1}",
        labels,
    )
    flipped = rng.random(labels.shape) < randomized_response(epsilon, k).flip
    # any label but its own, each with the same probability
    others = (labels + rng.integers(1, k, labels.shape)) % k
    return np.where(flipped, others, labels).astype(labels.dtype)


def odds_randomized_response(epsilon: float, k: int) -> float:
    """Return the odds of the best attacker, who must tell which of two given labels was the input.

    (1 + keep − other)/2.
    """
    response = randomized_response(epsilon, k)
    return 1 - (response.flip + response.other) / 2
