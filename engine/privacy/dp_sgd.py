"""ε of DP-SGD: many Gaussian releases, each on a Poisson sample; one image blanked, their number fixed.

Abadi et al. 2016 (DP-SGD); Koskela et al. 2020, Gopi et al. 2021 and Doroshenko et al. 2022 (privacy loss
distributions). dp_accounting takes 0.5 s to import, so `composed` imports it when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from engine.privacy.bounds import Spent, check_dp_sgd, least, require
from engine.privacy.renyi import rdp_epsilon

# dp_accounting's own default: privacy losses are rounded to multiples of it, pessimistically
INTERVAL = 1e-4


WIDEST = 100.0  # dp_accounting overflows where e^interval does


COARSE = 1 + 1e-5  # the finest PLD's own noise may put it this much above a coarser one


POINTS = 2e7  # 1.5 GB at the peak


# dp_accounting raises a whole number to the power of the steps: a minute at 10^7 steps
BLOCK = 200_000


@lru_cache(maxsize=4096)
def dp_sgd_epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    seconds: float = 3.0,
    release_noise: float | None = None,
) -> Spent:
    """The final, tight ε of DP-SGD with Poisson sampling: dp_accounting's privacy loss distribution
    (PLD).

    At dp_accounting's default interval where that takes about `seconds` at most. Elsewhere (little
    noise, huge losses) at the least power of two times it that does, which can only raise ε, and
    the accountant's name says so. Where no PLD can be computed, or its rounding errors come near δ,
    a looser bound that holds. The choice depends on the arguments alone, never on a clock. math.inf
    without noise, 0 without steps. release_noise: noise multiplier of one Gaussian release of the
    same pictures besides (sensitivity 1, all of them used), composed with the steps. Raises
    ValueError.
    """
    check_dp_sgd(noise_multiplier, sample_rate, steps, delta)
    require(
        release_noise is None or (release_noise > 0 and steps > 0 and sample_rate > 0),
        "a release with noise, beside steps",
        release_noise,
    )
    if steps == 0 or sample_rate == 0:
        return Spent(0.0, "none needed: nothing was released")
    if noise_multiplier == 0:
        return Spent(math.inf, "none: no noise was added")
    return min(
        _bounds(noise_multiplier, sample_rate, steps, delta, seconds, release_noise),
        key=lambda bound: bound.epsilon,
    )


def _bounds(
    noise: float,
    rate: float,
    steps: int,
    delta: float,
    seconds: float,
    release: float | None = None,
) -> Iterator[Spent]:
    """The ε that hold: dp_accounting's PLD where it can be computed, and the Rényi bound. The least
    of them counts.

    The Rényi bound is the better one where ε is far below a PLD's interval.
    """
    interval, spare = (
        interval_for(noise, rate, steps, seconds),
        delta - rounding_error(steps + (release is not None)),
    )
    renyi = rdp_epsilon(noise, rate, steps, delta, release)
    usable = interval <= WIDEST and spare > 0.9 * delta
    if usable:
        epsilon = _epsilon_of(composed_pld(noise, rate, steps, interval, release), spare, renyi)
        rounded = f", losses rounded up to multiples of {interval:g}"
        fine = interval == INTERVAL
        told = "PLD (dp_accounting)" + ("" if fine else rounded)
        yield Spent(epsilon * (1 if fine else COARSE), told)
    yield Spent(renyi, "RDP, an upper bound")


def composed_pld(
    noise: float, rate: float, steps: int, interval: float, release: float | None = None
):
    """dp_accounting's privacy loss distribution of all the steps together, and of one Gaussian
    release where there is one.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    if release is not None:
        return composed_pld(noise, rate, steps, interval).compose(
            pld.from_gaussian_mechanism(release, value_discretization_interval=interval)
        )
    one = pld.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=interval
    )
    if steps <= BLOCK:
        return one.self_compose(steps)
    blocks, rest = divmod(steps, BLOCK)
    composed = one.self_compose(BLOCK).self_compose(blocks)
    return composed.compose(one.self_compose(rest)) if rest else composed


def _epsilon_of(composed, delta: float, bound: float) -> float:
    """The ε of a privacy loss distribution at δ. dp_accounting overflows to infinity for ε from 709
    to about 820.

    There, bisection below a known bound finds what it missed. (Above 709 its ε holds, but is up to
    1 too large.)
    """
    with np.errstate(over="ignore"):
        epsilon = float(composed.get_epsilon_for_delta(delta))
    if math.isfinite(epsilon):
        return epsilon
    return least(lambda e: composed.get_delta_for_epsilon(e) <= delta, 0.0, bound, 1e-6)


def rounding_error(steps: int) -> float:
    """How far the Fourier transforms in dp_accounting's PLD put δ off at most: without it, ε can
    fall below the truth.

    Measured against exact Gaussians and tilted convolutions: below 2e-16 a step. With δ = 1e-12 and
    100,000 steps of an unsampled Gaussian (noise multiplier 100), dp_accounting 0.6 gives an ε that
    is 2.7 % too small.
    """
    return 4.5e-16 * (steps + 10)


def interval_for(noise: float, rate: float, steps: int, seconds: float) -> float:
    """The least INTERVAL·2^k at which the PLD takes about `seconds` on one core and at most POINTS
    points.
    """
    once = _loss_width(noise, rate)
    spread = math.sqrt(steps * (rate / noise**2 + rate * (1 - rate) / (4 * noise**4)))
    total = once + 17 * spread  # 8.5 standard deviations to each side
    affordable = max((4e-6 * once + 4e-7 * total) / seconds, total / POINTS)
    return INTERVAL * 2.0 ** max(0, math.ceil(math.log2(affordable / INTERVAL)))


def _loss_width(noise: float, rate: float) -> float:
    """Width of the losses of one step that dp_accounting keeps: all but e^−50 of the noise, 9.8 σ
    to each side.
    """
    largest = (0.5 + 9.8 * noise) / noise**2
    if rate == 1:
        return 2 * largest
    return float(np.logaddexp(math.log1p(-rate), math.log(rate) + largest)) - max(
        math.log1p(-rate), -largest
    )
