"""The noise multiplier that DP-SGD needs for a target ε."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from engine.core import rounding
from engine.privacy.bounds import Unreachable, check_dp_sgd, require
from engine.privacy.dp_sgd import dp_sgd_epsilon
from engine.privacy.gaussian import gaussian_epsilon, gaussian_sigma

# range of noise multipliers searched
LEAST_NOISE, MOST_NOISE = 0.01, 1000.0


@lru_cache(maxsize=1024)
def dp_sgd_noise(
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    release_noise: float | None = None,
) -> float:
    """Return the least noise multiplier in [0.01, 1000] whose dp_sgd_epsilon is at most the target.

    The ε it spends is at most 0.5 % below the target. The search uses quick, coarse PLDs and ends
    with the final one. Returns 0 without steps. release_noise: as for dp_sgd_epsilon.

    Raises Unreachable if even 1000 spends more than the target, and ValueError for arguments out of
    range.
    """
    check_dp_sgd(1.0, sample_rate, steps, delta)
    require(target_epsilon > 0, "ε > 0", target_epsilon)
    if steps == 0 or sample_rate == 0:
        return 0.0

    def excess(log_noise: float, *seconds: float) -> float:  # log(ε/target)
        epsilon = dp_sgd_epsilon(
            math.exp(log_noise), sample_rate, steps, delta, *seconds, release_noise=release_noise
        ).epsilon
        return min(3.0, max(-3.0, math.log(max(epsilon, 1e-9) / target_epsilon)))

    if excess(math.log(MOST_NOISE)) > 0:
        raise Unreachable(_unreachable(target_epsilon, sample_rate, steps, delta, release_noise))
    first = _central_limit(target_epsilon, sample_rate, steps, delta)
    near = _close_in(lambda x: excess(x, 0.3), -0.0025, -0.0005, first)
    return math.exp(_close_in(excess, -0.005, 0.0, near))


def dp_sgd_noise_about(epsilon: float, sample_rate: float, steps: int, delta: float) -> float:
    """Quickly estimate a noise multiplier, to two digits, that spends roughly ε.

    For choosing what to try, never for a guarantee.
    """
    check_dp_sgd(1.0, sample_rate, steps, delta)
    return float(f"{math.exp(_central_limit(epsilon, sample_rate, steps, delta)):.2g}")


def dp_sgd_mu(noise_multiplier: float, sample_rate: float, steps: int) -> float:
    """Return μ of the Gaussian mechanism that many small steps approximate.

    μ = q·sqrt(T(e^(1/σ²) − 1)) (Bu et al. 2020). For choosing settings, never for a guarantee.
    """
    check_dp_sgd(noise_multiplier, sample_rate, steps, 0.5)
    return sample_rate * math.sqrt(steps * math.expm1(min(700.0, noise_multiplier**-2)))


def _central_limit(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """Return a first guess of log σ from the central limit theorem for DP-SGD (Bu et al. 2020).

    Solves q·sqrt(T(e^(1/σ²) − 1)) = μ, where μ-Gaussian DP gives (ε, δ).
    """
    mu = 1 / gaussian_sigma(epsilon, delta)
    return -0.5 * math.log(math.log1p((mu / rate) ** 2 / steps))


def _close_in(excess: Callable[[float], float], least: float, most: float, x: float) -> float:
    """Return a log noise near x where the decreasing function `excess` is in [least, most].

    Steps out until the root is bracketed, then uses the Illinois variant of regula falsi: halving
    the value at an end that stays put keeps both ends moving. Returns log LEAST_NOISE if that is
    enough, log MOST_NOISE if nothing less is, and the private side of a jump.
    """
    low, high = math.log(LEAST_NOISE), math.log(MOST_NOISE)
    middle, width = (least + most) / 2, (most - least) / 2
    a = b = min(high, max(low, x))
    at_a = at_b = excess(b) - middle
    stride = 0.05
    while at_a * at_b > 0 and abs(at_b) > width:
        a, at_a, b = b, at_b, min(high, max(low, b + math.copysign(stride, at_b)))
        if a == b:
            return b
        at_b, stride = excess(b) - middle, 2 * stride
    for _ in range(60):
        if abs(at_b) <= width:
            return b
        x = b - at_b * (b - a) / (at_b - at_a)
        at_x = excess(x) - middle
        a, at_a = (b, at_b) if at_x * at_b < 0 else (a, at_a / 2)
        b, at_b = x, at_x
    return max(a, b)


def _unreachable(
    epsilon: float, rate: float, steps: int, delta: float, release: float | None
) -> str:
    spent = dp_sgd_epsilon(MOST_NOISE, rate, steps, delta, release_noise=release).epsilon
    if release is not None and gaussian_epsilon(release, delta) > epsilon / 2:
        return (
            f"ε = {rounding.chosen(epsilon)} is out of reach: one release with noise multiplier"
            f" {rounding.described(release)} alone spends ε ="
            f" {rounding.epsilon(gaussian_epsilon(release, delta))}; take more noise there or a"
            " larger ε."
        )
    return (
        f"ε = {rounding.chosen(epsilon)} is out of reach: even a noise multiplier of {MOST_NOISE:g}"
        f" spends ε = {rounding.epsilon(spent)} in {steps:,} steps; take fewer steps, smaller"
        " batches or a larger ε."
    )
