"""Joint privacy cost of several releases on the same images (composition)."""

from __future__ import annotations

import functools
import math
from functools import lru_cache

from engine.privacy.bounds import Spent, check_dp_sgd, require
from engine.privacy.dp_sgd import (
    COARSE,
    INTERVAL,
    WIDEST,
    PrivacyLoss,
    composed_pld,
    dp_sgd_epsilon,
    interval_for,
    rounding_error,
)
from engine.privacy.gaussian import gaussian_hockey_stick
from engine.privacy.odds import odds_any
from engine.privacy.randomized_response import randomized_response

Run = tuple[float, float, int, float | None]  # noise multiplier, sample rate, steps, release noise


@lru_cache(maxsize=256)
def dp_sgd_epsilon_of_all(runs: tuple[Run, ...], delta: float) -> Spent:
    """Return the ε of several runs of DP-SGD on the same data, all published.

    Their privacy loss distributions are composed, as in dp_sgd_epsilon. If no PLD can be computed,
    ε is the sum of what each run spends at its share of δ. math.inf if a run has no noise. Raises
    ValueError.
    """
    require(len(runs) > 0, "at least one run", runs)
    for noise, rate, steps, _ in runs:
        check_dp_sgd(noise, rate, steps, delta)
    if any(noise == 0 and steps and rate for noise, rate, steps, _ in runs):
        return Spent(math.inf, "none: no noise was added")
    interval = max(interval_for(noise, rate, steps, 0.3) for noise, rate, steps, _ in runs)
    spare = delta - sum(rounding_error(steps + 2) for _, _, steps, _ in runs)
    if interval > WIDEST or spare <= 0.9 * delta:
        return Spent(_apart(runs, delta), "the sum of what each spends, an upper bound")
    epsilon = float(_composed_of_all(runs, interval).get_epsilon_for_delta(spare)) * COARSE
    rounded = "" if interval == INTERVAL else f", losses rounded up to multiples of {interval:g}"
    return (
        Spent(epsilon, f"PLD (dp_accounting){rounded}")
        if math.isfinite(epsilon)
        else Spent(_apart(runs, delta), "the sum of what each spends, an upper bound")
    )


@lru_cache(maxsize=256)
def odds_of_all(runs: tuple[Run, ...], delta: float) -> float:
    """Return odds like odds_dp_sgd, for an attacker who sees several independent runs.

    All runs are on the same data. Never above what their (ε, δ) allows, which is the only known
    bound if no PLD can be computed. Raises ValueError.
    """
    return min(_odds_of_all(runs), odds_any(dp_sgd_epsilon_of_all(runs, delta).epsilon, delta))


def _odds_of_all(runs: tuple[Run, ...]) -> float:
    """Return the odds from the composed PLD, or 1 if it cannot be computed."""
    interval = max(
        interval_for(noise, rate, steps, 0.3) if noise > 0 else math.inf
        for noise, rate, steps, _ in runs
    )
    if interval > WIDEST:
        return 1.0
    return min(
        1.0,
        (
            1
            + float(_composed_of_all(runs, interval).get_delta_for_epsilon(0.0))
            + sum(rounding_error(steps + 2) for _, _, steps, _ in runs)
        )
        / 2,
    )


def _composed_of_all(runs: tuple[Run, ...], interval: float) -> PrivacyLoss:
    """Compose the privacy loss distributions of independent runs."""
    return functools.reduce(
        lambda one, other: one.compose(other),
        (
            composed_pld(noise, rate, steps, interval, release)
            for noise, rate, steps, release in runs
        ),
    )


def _apart(runs: tuple[Run, ...], delta: float) -> float:
    """Return ε by basic composition, with each run at its share of δ."""
    return sum(
        dp_sgd_epsilon(noise, rate, steps, delta / len(runs), release_noise=release).epsilon
        for noise, rate, steps, release in runs
    )


def odds_pair(sigma: float, sensitivity: float, label_epsilon: float, k: int) -> float:
    """Return the odds of the best attacker on an image and its label, released together.

    The attacker must distinguish two given images with different labels. The odds are (1 + total
    variation)/2. The total variation sums, over the released label (its own, the other image's, or
    a third), the Gaussian hockey-stick divergence at that outcome's likelihood ratio. The pair's ε
    is `pair_epsilon`.
    """
    response = randomized_response(label_epsilon, k)

    def stick(epsilon: float) -> float:
        return gaussian_hockey_stick(epsilon, sigma, sensitivity)

    own = response.keep * stick(-label_epsilon)
    theirs = response.other * stick(label_epsilon)
    third = (k - 2) * response.other * stick(0.0)
    return min(1.0, (1 + own + theirs + third) / 2)


def pair_epsilon(image_epsilon: float, label_epsilon: float) -> float:
    """Return ε of an image and its label released together, at the image's δ.

    By basic composition it is the sum.
    """
    return image_epsilon + label_epsilon
