"""k-ary randomised response: one label, told truthfully or replaced (Kairouz et al. 2014)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.privacy.bounds import require


@dataclass(frozen=True)
class RandomizedResponse:
    """Probabilities of k-ary randomised response: the true label, each single other one, and all
    others together.
    """

    keep: float
    other: float
    flip: float  # (k - 1) * other, exact even where keep rounds to 1


# --- randomised response over k labels ------------------------------------------------------------


def randomized_response(epsilon: float, k: int) -> RandomizedResponse:
    """Keep the label with e^ε/(e^ε + k − 1), else one of the k − 1 others (Kairouz et al. 2014,
    Section 4).

    One label replaced by another costs ε, with δ = 0. Overflows for no ε, math.inf included. Raises
    ValueError.
    """
    require(epsilon >= 0 and k >= 2, "ε ≥ 0 and k ≥ 2", (epsilon, k))
    small = math.exp(-epsilon)
    total = 1 + (k - 1) * small
    return RandomizedResponse(keep=1 / total, other=small / total, flip=(k - 1) * small / total)


def sample_randomized_response(
    labels: np.ndarray, epsilon: float, k: int, rng: np.random.Generator
) -> np.ndarray:
    """A private copy of whole-number labels in [0, k), of the same shape and type.

    Raises ValueError.
    """
    labels = np.asarray(labels)
    require(
        labels.size == 0 or (labels.min() >= 0 and labels.max() < k),
        f"labels from 0 to {k - 1}",
        labels,
    )
    flipped = rng.random(labels.shape) < randomized_response(epsilon, k).flip
    # any label but its own, each with the same chance
    others = (labels + rng.integers(1, k, labels.shape)) % k
    return np.where(flipped, others, labels).astype(labels.dtype)


def odds_randomized_response(epsilon: float, k: int) -> float:
    """The best attacker who must tell which of two given labels was answered: (1 + keep − other)/2."""
    response = randomized_response(epsilon, k)
    return 1 - (response.flip + response.other) / 2
