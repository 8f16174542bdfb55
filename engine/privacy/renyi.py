"""ε of DP-SGD by Rényi DP: fast enough for a live curve, and never below the true value.

Sources: Mironov 2017; Mironov, Talwar and Zhang 2019 (sampled Gaussian mechanism).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from engine.privacy.bounds import ROUND_UP, check_dp_sgd

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRACTIONAL = 1 + np.geomspace(0.002, 10, 80)  # (80,) Rényi orders


INTEGER = np.unique(np.geomspace(2, 2**14, 90).astype(int))  # large orders for small ε


ORDERS: NDArray[np.float64] = np.concatenate([FRACTIONAL, INTEGER])


# below this the quadrature needs too many nodes, and convexity alone is nearly tight
SMALL_NOISE = 0.05


def rdp_epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    release_noise: float | None = None,
) -> float:
    """Return a valid upper bound on ε, fast enough to show after every epoch.

    By Rényi DP (Mironov, Talwar and Zhang 2019). One step is computed once for each (noise
    multiplier, sample rate) and multiplied by `steps`. Rényi DP is converted to (ε, δ) by Canonne,
    Kamath and Steinke 2020, Proposition 12. math.inf without noise, 0 without steps. Raises
    ValueError.
    """
    check_dp_sgd(noise_multiplier, sample_rate, steps, delta)
    if steps == 0 or sample_rate == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    rdp = steps * _one_step(float(noise_multiplier), float(sample_rate))  # (orders,)
    rdp = rdp if release_noise is None else rdp + ORDERS / (2 * release_noise**2)
    return _from_renyi(rdp, delta)


def _from_renyi(rdp: np.ndarray, delta: float) -> float:
    """Return the least ε at δ that Rényi divergences at ORDERS imply; math.inf if one is NaN."""
    if np.isnan(rdp).any():
        return math.inf
    # total variation ≤ sqrt(1 − e^−KL) ≤ δ (Bretagnolle and Huber 1979)
    if -math.expm1(-rdp.min()) <= delta**2:
        return 0.0
    epsilon = rdp + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(epsilon.min())) * ROUND_UP


@lru_cache(maxsize=1024)
def _one_step(noise: float, rate: float) -> np.ndarray:
    """Return the Rényi divergence of one step at ORDERS, shape (orders,): never too small or 0.

    A moment is 1 plus a small excess. The excess is summed on its own, in logs, from terms of one
    sign. If it were added to the 1, it would be rounded away where noise is strong, and many steps
    would seem to cost nothing.
    """
    if rate == 1:
        return ORDERS / (2 * noise**2)
    fractional = _convexity if noise < SMALL_NOISE else _quadrature
    integers = [_whole_order(order, noise, rate) for order in INTEGER.tolist()]
    return np.concatenate([fractional(noise, rate), integers]) / (ORDERS - 1) * ROUND_UP


def _whole_order(order: int, noise: float, rate: float) -> float:
    """Return the exact log moment at an integer order (Mironov et al. 2019, Section 3.3).

    The binomial weights sum to 1, so the moment minus 1 is the same sum with e^y − 1 in place of
    e^y.
    """
    k = np.arange(2, order + 1)  # the terms for 0 and 1 vanish: e^y − 1 = 0
    choose = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(order - k + 1)
    y = k * (k - 1) / (2 * noise**2)
    drawn = choose + k * math.log(rate) + (order - k) * math.log1p(-rate)
    terms = drawn + y + np.log(-np.expm1(-y))
    return float(np.logaddexp(0.0, special.logsumexp(terms)))


def _quadrature(noise: float, rate: float) -> np.ndarray:
    """Return log moments E[(1 − q + q·e^((2z−1)/2σ²))^α], z ~ N(0, σ²), at FRACTIONAL: shape (80,).

    Let u be the log of the base, α = 1 + β, and note E[e^u] = 1. Then the moment minus 1 is
    E[e^(αu) − 1 − α(e^u − 1)] = E[β·e^u·r(−u) + e^u·r(βu)] with r(y) = e^y − 1 − y ≥ 0. The error
    of the trapezoidal rule is less than e^−39: its step is the smaller of σ/2 and σ²/2, where σ² is
    the width of the transition.
    """
    step = min(noise, noise**2) / 2
    z = np.arange(-10 * noise, FRACTIONAL[-1] + 10 * noise, step)[:, None]  # (nodes, 1)
    density = -(z**2) / (2 * noise**2) + math.log(step / noise / math.sqrt(2 * math.pi))
    u, beta = _log_mixed((2 * z - 1) / (2 * noise**2), rate), FRACTIONAL - 1
    beyond = np.logaddexp(np.log(beta) + _log_rest(-u), _log_rest(beta * u))
    moments: np.ndarray = np.logaddexp(0.0, special.logsumexp(density + u + beyond, axis=0))
    return moments


def _log_mixed(t: np.ndarray, rate: float) -> np.ndarray:
    """Return log(1 − q + q·e^t) for any shape, exact where it is small."""
    small = np.log1p(rate * np.expm1(np.minimum(t, 600.0)))
    return np.where(t < 600, small, np.logaddexp(math.log1p(-rate), math.log(rate) + t))


def _log_rest(y: np.ndarray) -> np.ndarray:
    """Return log(e^y − 1 − y) for any shape; −inf at 0.

    Below 0.3 its series is used, because the difference would cancel.
    """
    near = np.where(np.abs(y) < 0.3, y, 0.0)
    series = np.ones_like(near)
    for k in range(14, 2, -1):  # 1 + y/3·(1 + y/4·(…)): the next factor is below 0.3^13/10^12
        series = 1 + series * near / k
    far = np.where(np.abs(y) < 0.3, 1.0, y)
    up, down = np.maximum(far, 0.3), np.minimum(far, -0.3)
    with np.errstate(divide="ignore"):
        close = 2 * np.log(np.abs(near)) - math.log(2) + np.log(series)
    above, below = up + np.log1p(-(1 + up) * np.exp(-up)), np.log(np.expm1(down) - down)
    beyond = np.where(far > 0, above, below)
    return np.where(np.abs(y) < 0.3, close, beyond)


def _convexity(noise: float, rate: float) -> np.ndarray:
    """Return an upper bound on the same moments, shape (80,), by the convexity of x^α.

    log(1 − q + q·e^(α(α−1)/2σ²)).
    """
    return _log_mixed(FRACTIONAL * (FRACTIONAL - 1) / (2 * noise**2), rate)
