"""One release with Gaussian noise: σ, ε and δ by the exact formula of Balle and Wang 2018.

Its trade-off curve (Dong, Roth and Su 2019) is in engine/privacy/odds.py.
"""

from __future__ import annotations

import math

from scipy import special

from engine.privacy.bounds import ROUND_UP, least, require


def gaussian_hockey_stick(epsilon: float, sigma: float, sensitivity: float = 1.0) -> float:
    """Return the exact δ at which Gaussian noise is (ε, δ)-private; ε may have either sign.

    Φ(u) − e^ε·Φ(−t) with u = Δ/2σ − εσ/Δ and t = Δ/2σ + εσ/Δ (Balle and Wang 2018, Theorem 8). As
    e^ε·φ(t) = φ(u), the second term is φ(u) times the Mills ratio at t, which neither overflows nor
    cancels for any ε > 0.
    """
    require(
        sigma > 0 and sensitivity > 0, "σ and the sensitivity are above 0", (sigma, sensitivity)
    )
    # swap the two neighbours: δ(ε) = 1 − e^ε + e^ε δ(−ε), where nothing cancels
    if epsilon < 0:
        other = gaussian_hockey_stick(-epsilon, sigma, sensitivity)
        return -math.expm1(epsilon) + math.exp(epsilon) * other
    half, shift = sensitivity / sigma / 2, epsilon * sigma / sensitivity
    u, t = half - shift, half + shift
    density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    if u <= 0 <= t:
        return max(0.0, density * _mills_between(-u, t, 2 * half))
    if u > 0 and 0 <= epsilon < 1:  # Φ(u) − Φ(−t) as terms of one sign, which do not cancel
        apart = (math.erf(u / math.sqrt(2)) + math.erf(t / math.sqrt(2))) / 2
        return max(0.0, apart - math.expm1(epsilon) * float(special.ndtr(-t)))
    second = density * _mills(t) if t >= 0 else math.exp(epsilon + special.log_ndtr(-t))
    return min(1.0, max(0.0, float(special.ndtr(u)) - second))


def gaussian_epsilon(sigma: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the exact ε of noise with standard deviation σ at δ, never below the true value.

    0 where δ alone covers the loss, math.inf at σ = 0. Raises ValueError for a negative σ or a δ
    outside (0, 1).
    """
    require(
        sigma >= 0 and sensitivity > 0 and 0 < delta < 1,
        "σ ≥ 0, sensitivity > 0, 0 < δ < 1",
        (sigma, sensitivity, delta),
    )
    ratio = sigma / sensitivity
    if ratio < 1e-150:
        return math.inf
    high = 0.5 / ratio**2 + 40 / ratio  # there δ < Φ(-40)
    return (
        least(lambda e: gaussian_hockey_stick(e, ratio) * ROUND_UP <= delta, 0.0, high) * ROUND_UP
    )


def gaussian_sigma(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the least σ that gives (ε, δ), rounded up.

    By exact calibration (Balle and Wang 2018, Algorithm 1).

    Raises ValueError unless ε > 0, 0 < δ < 1 and sensitivity > 0.
    """
    require(
        epsilon > 0 and 0 < delta < 1 and sensitivity > 0,
        "ε > 0, 0 < δ < 1, sensitivity > 0",
        (epsilon, delta, sensitivity),
    )
    root = math.sqrt(100 + 2 * epsilon), math.sqrt(1600 + 2 * epsilon)
    low, high = 1 / (10 + root[0]), (40 + root[1]) / (2 * epsilon)  # where u = 10 and u = -40
    ratio = least(lambda s: gaussian_hockey_stick(epsilon, s) <= delta, low, high)
    return ratio * sensitivity * ROUND_UP


def textbook_sigma(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the textbook σ: Δ·sqrt(2 ln(1.25/δ))/ε (Dwork and Roth 2014, Theorem A.1).

    It is proved for ε < 1 only, and wrong far above that.
    """
    require(
        epsilon > 0 and 0 < delta < 1 and sensitivity > 0,
        "ε > 0, 0 < δ < 1, sensitivity > 0",
        (epsilon, delta, sensitivity),
    )
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _mills(x: float) -> float:
    """Return the Mills ratio Φ(−x)/φ(x), for x ≥ 0."""
    return math.sqrt(math.pi / 2) * float(special.erfcx(x / math.sqrt(2)))


def _mills_between(a: float, b: float, gap: float) -> float:
    """Return mills(a) − mills(b) for b = a + gap and 0 ≤ a ≤ b, accurate also for small gaps.

    For a small gap, the derivative x·mills(x) − 1 at the midpoint is used; the next term is smaller
    by a factor of gap squared.
    """
    if gap > 3e-5:
        return _mills(a) - _mills(b)
    middle = a + gap / 2
    return gap * (1 - middle * _mills(middle)) if middle < 10 else gap * _tail_of_mills(middle)


def _tail_of_mills(x: float) -> float:
    """Return 1 − x·mills(x) for x ≥ 10, where the two terms are nearly equal.

    Uses 60 levels of Laplace's continued fraction.
    """
    fraction = x
    for level in range(60, 1, -1):
        fraction = x + level / fraction
    return 1 / (x * fraction + 1)
