"""Odds, trade-off curves and ROC areas: how well the best attacker can do against a mechanism.

Odds are the probability that the best attacker guesses correctly, with even prior odds. An ROC area
is the area under an attack's ROC curve (AUC).

Sources: Kairouz, Oh and Viswanath 2015 for (ε, δ); Dong, Roth and Su 2019 for Gaussian noise.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special

from engine.privacy.bounds import check_dp_sgd, require
from engine.privacy.dp_sgd import WIDEST, composed_pld, dp_sgd_epsilon, interval_for, rounding_error


def odds_any(epsilon: float, delta: float) -> float:
    """Return the best odds against any (ε, δ)-private mechanism: (e^ε + δ)/(1 + e^ε).

    Kairouz et al. 2015, Theorem 2.1.
    """
    require(epsilon >= 0 and 0 <= delta <= 1, "ε ≥ 0, 0 ≤ δ ≤ 1", (epsilon, delta))
    small = math.exp(-epsilon)
    return (1 + delta * small) / (1 + small)


def odds_gaussian(sigma: float, sensitivity: float = 1.0) -> float:
    """Return the best attacker's odds on one release with Gaussian noise: Φ(Δ/2σ); 1 without noise.

    Dong, Roth and Su 2019.
    """
    require(sigma >= 0 and sensitivity > 0, "σ ≥ 0, sensitivity > 0", (sigma, sensitivity))
    return float(special.ndtr(sensitivity / sigma / 2)) if sigma > 0 else 1.0


@lru_cache(maxsize=4096)
def odds_dp_sgd(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    seconds: float = 3.0,
    release_noise: float | None = None,
    delta: float | None = None,
) -> float:
    """Return the best attacker's odds on DP-SGD of telling whether one image was in the data.

    By the PLD: (1 + δ(ε = 0))/2. Never above the odds that remain without any noise, where being
    sampled once reveals an image, nor, if `delta` is given, above what (ε, δ) allows for any
    mechanism. Rounded up. Raises ValueError.
    """
    check_dp_sgd(noise_multiplier, sample_rate, steps, 0.5)
    if delta is not None:
        setting = (noise_multiplier, sample_rate, steps)
        epsilon = dp_sgd_epsilon(*setting, delta, seconds, release_noise).epsilon
        return min(odds_any(epsilon, delta), odds_dp_sgd(*setting, seconds, release_noise))
    drawn = float(steps > 0) if sample_rate == 1 else -math.expm1(steps * math.log1p(-sample_rate))
    if release_noise is not None:  # the joint total variation of both releases is at most this
        drawn = 1 - (1 - drawn) * (2 - 2 * odds_gaussian(release_noise))
    if noise_multiplier > 0 and drawn > 0:
        drawn = min(drawn, _variation(noise_multiplier, sample_rate, steps, seconds, release_noise))
    return (1 + drawn) / 2


def _variation(
    noise: float, rate: float, steps: int, seconds: float, release: float | None = None
) -> float:
    """Return the total variation between DP-SGD with and without one image.

    1 if no PLD can be computed.
    """
    if rate == 1:
        return (
            2 * odds_gaussian((steps / noise**2 + (0 if release is None else release**-2)) ** -0.5)
            - 1
        )
    interval = interval_for(noise, rate, steps, seconds)
    if interval > WIDEST:
        return 1.0
    return float(
        composed_pld(noise, rate, steps, interval, release).get_delta_for_epsilon(0.0)
    ) + rounding_error(steps + 1)


def tradeoff_gaussian(alpha: np.ndarray, mu: float) -> np.ndarray:
    """Return the least miss rate (type II error) at false alarm rate `alpha`, for Gaussian noise.

    Φ(Φ⁻¹(1 − α) − μ) with μ = Δ/σ (Dong et al. 2019); `alpha` has any shape.
    """
    missed: np.ndarray = special.ndtr(-special.ndtri(alpha) - mu)
    return missed


def tradeoff_any(alpha: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """Return the least miss rate at `alpha` for any (ε, δ)-private mechanism.

    max(0, 1 − δ − e^ε·α, e^−ε(1 − δ − α)) (Wasserman and Zhou 2010).
    """
    steep = 1 - delta - np.exp(np.minimum(0.0, epsilon + np.log(np.maximum(alpha, 1e-300))))
    flat = math.exp(-epsilon) * (1 - delta - np.asarray(alpha))
    missed: np.ndarray = np.maximum(0.0, np.maximum(steep, flat))
    return missed


def tradeoff_dp_sgd(
    alpha: np.ndarray,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    release_noise: float | None = None,
) -> np.ndarray:
    """Return a lower bound on the miss rate at `alpha` when an attacker sees every DP-SGD step.

    Computed from the PLD's δ at many ε (Dong, Roth and Su 2019, Proposition 6). Each (ε, δ(ε)) is a
    bound; their envelope is the mechanism's own curve except for the gaps between the ε, which can
    only lower it. Rounded to the safe side; 0 if no PLD can be computed. Raises ValueError.
    """
    check_dp_sgd(noise_multiplier, sample_rate, steps, 0.5)
    alpha = np.asarray(alpha, float)
    if steps == 0 or sample_rate == 0:
        return 1 - alpha
    interval = (
        interval_for(noise_multiplier, sample_rate, steps, 3.0)
        if noise_multiplier > 0
        else math.inf
    )
    if interval > WIDEST:
        return np.zeros_like(alpha)
    composed = composed_pld(noise_multiplier, sample_rate, steps, interval, release_noise)
    spare = rounding_error(steps + (release_noise is not None))
    spent = dp_sgd_epsilon(noise_multiplier, sample_rate, steps, 1e-9, release_noise=release_noise)
    epsilons = np.linspace(0, min(30.0, spent.epsilon), 200)
    deltas = [float(delta) + spare for delta in composed.get_delta_for_epsilon(epsilons)]
    missed: np.ndarray = np.max(
        [tradeoff_any(alpha, epsilon, min(1.0, delta)) for epsilon, delta in zip(epsilons, deltas)],
        axis=0,
    )
    return missed


def area_any(epsilon: float, delta: float) -> float:
    """Return the largest ROC area that (ε, δ) allows: 1 − (1 − δ)²/(1 + e^ε).

    This is ∫ (1 − f) of tradeoff_any. The area is how often an image from the data scores higher
    than one that is not from it. It is a bound of its own and may lie far above odds_any, which is
    about yes-or-no guesses. Raises ValueError.
    """
    require(epsilon >= 0 and 0 <= delta <= 1, "ε ≥ 0, 0 ≤ δ ≤ 1", (epsilon, delta))
    return 1 - (1 - delta) ** 2 * float(special.expit(-epsilon))


def area_gaussian(mu: float) -> float:
    """Return the largest ROC area for one Gaussian release with μ = Δ/σ: Φ(μ/√2)."""
    require(mu >= 0, "μ ≥ 0", mu)
    return float(special.ndtr(mu / math.sqrt(2)))


@lru_cache(maxsize=256)
def area_dp_sgd(
    noise_multiplier: float, sample_rate: float, steps: int, release_noise: float | None = None
) -> float:
    """Return the largest ROC area for DP-SGD: ∫ (1 − f) of tradeoff_dp_sgd, rounded up.

    f is convex, so its value at the middle of a cell times the cell's width is at most its integral
    there. 1 if no PLD can be computed. Raises ValueError.
    """
    edges = np.concatenate([[0.0], np.geomspace(1e-9, 1.0, 2000)])
    middles = (edges[1:] + edges[:-1]) / 2
    missed = tradeoff_dp_sgd(middles, noise_multiplier, sample_rate, steps, release_noise)
    return float(1 - missed @ np.diff(edges))
