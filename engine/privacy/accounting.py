"""What is promised: noise, ε, δ and odds of every mechanism that Veil runs.

Pure functions on plain numbers.

Units: `sigma` is a standard deviation in the data's own unit, `noise_multiplier` one in units of
the clip norm; `epsilon` is in nats; odds are probabilities in [0.5, 1]. Every ε and every σ is
rounded to the private side: a σ never gives more than the ε that was asked for, and a returned ε is
never below the truth.

Sources: Balle and Wang 2018 (analytic Gaussian mechanism); Dong, Roth and Su 2019 (Gaussian
differential privacy); Abadi et al. 2016 (DP-SGD); Mironov 2017 and Mironov, Talwar and Zhang 2019
(Rényi DP, sampled Gaussian); Koskela et al. 2020, Gopi et al. 2021 and Doroshenko et al. 2022
(privacy loss distributions); Kairouz et al. 2014 (k-ary randomised response). No torch and no
opacus here: the web process imports this file. dp_accounting takes 0.5 s to import, so `_composed`,
which needs it, imports it when it is called.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from engine.core import rounding

# float arithmetic errs below this, relatively: checked against 60 digits in the tests
ROUND_UP = 1 + 1e-9


@dataclass(frozen=True)
class Spent:
    """A privacy loss and who counted it. `epsilon` is math.inf where no noise was added."""

    epsilon: float
    accountant: str


@dataclass(frozen=True)
class RandomizedResponse:
    """Probabilities of k-ary randomised response: the true label, each single other one, and all
    others together.
    """

    keep: float
    other: float
    flip: float  # (k - 1) * other, exact even where keep rounds to 1


class Unreachable(ValueError):
    """No noise within the allowed range meets the wanted ε; the message says so in one sentence."""


# --- one release with Gaussian noise --------------------------------------------------------------


def gaussian_hockey_stick(epsilon: float, sigma: float, sensitivity: float = 1.0) -> float:
    """The exact δ at which Gaussian noise is (ε, δ)-private; ε may have either sign (Balle and Wang
    2018, Theorem 8).

    Φ(u) − e^ε·Φ(−t) with u = Δ/2σ − εσ/Δ and t = Δ/2σ + εσ/Δ. As e^ε·φ(t) = φ(u), the second term
    is φ(u) times the Mills ratio at t, which neither overflows nor cancels for any ε > 0.
    """
    _require(
        sigma > 0 and sensitivity > 0, "σ and the sensitivity are above 0", (sigma, sensitivity)
    )
    # the two neighbours change places: δ(ε) = 1 − e^ε + e^ε δ(−ε), of which nothing cancels
    if epsilon < 0:
        other = gaussian_hockey_stick(-epsilon, sigma, sensitivity)
        return -math.expm1(epsilon) + math.exp(epsilon) * other
    half, shift = sensitivity / sigma / 2, epsilon * sigma / sensitivity
    u, t = half - shift, half + shift
    density = math.exp(-u * u / 2) / math.sqrt(2 * math.pi)
    if u <= 0 <= t:
        return max(0.0, density * _mills_between(-u, t, 2 * half))
    if u > 0 and 0 <= epsilon < 1:  # Φ(u) − Φ(−t) by halves of one sign, which do not cancel
        apart = (math.erf(u / math.sqrt(2)) + math.erf(t / math.sqrt(2))) / 2
        return max(0.0, apart - math.expm1(epsilon) * float(special.ndtr(-t)))
    second = density * _mills(t) if t >= 0 else math.exp(epsilon + special.log_ndtr(-t))
    return min(1.0, max(0.0, float(special.ndtr(u)) - second))


def gaussian_epsilon(sigma: float, delta: float, sensitivity: float = 1.0) -> float:
    """The ε that noise of σ really gives at δ: exact, never below the truth, 0 where δ alone covers
    it.

    math.inf at σ = 0. Raises ValueError for a negative σ or a δ outside (0, 1).
    """
    _require(
        sigma >= 0 and sensitivity > 0 and 0 < delta < 1,
        "σ ≥ 0, sensitivity > 0, 0 < δ < 1",
        (sigma, sensitivity, delta),
    )
    ratio = sigma / sensitivity
    if ratio < 1e-150:
        return math.inf
    high = 0.5 / ratio**2 + 40 / ratio  # there δ < Φ(-40)
    return (
        _least(lambda e: gaussian_hockey_stick(e, ratio) * ROUND_UP <= delta, 0.0, high) * ROUND_UP
    )


def gaussian_sigma(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """The least σ that gives (ε, δ), by exact calibration (Balle and Wang 2018, Algorithm 1),
    rounded up.

    Raises ValueError unless ε > 0, 0 < δ < 1 and sensitivity > 0.
    """
    _require(
        epsilon > 0 and 0 < delta < 1 and sensitivity > 0,
        "ε > 0, 0 < δ < 1, sensitivity > 0",
        (epsilon, delta, sensitivity),
    )
    root = math.sqrt(100 + 2 * epsilon), math.sqrt(1600 + 2 * epsilon)
    low, high = 1 / (10 + root[0]), (40 + root[1]) / (2 * epsilon)  # where u = 10 and u = -40
    ratio = _least(lambda s: gaussian_hockey_stick(epsilon, s) <= delta, low, high)
    return ratio * sensitivity * ROUND_UP


def textbook_sigma(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Δ·sqrt(2 ln(1.25/δ))/ε (Dwork and Roth 2014, Theorem A.1): proved for ε < 1 only, and wrong
    far above it.
    """
    _require(
        epsilon > 0 and 0 < delta < 1 and sensitivity > 0,
        "ε > 0, 0 < δ < 1, sensitivity > 0",
        (epsilon, delta, sensitivity),
    )
    return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def _mills(x: float) -> float:
    """Φ(−x)/φ(x), for x ≥ 0."""
    return math.sqrt(math.pi / 2) * float(special.erfcx(x / math.sqrt(2)))


def _mills_between(a: float, b: float, gap: float) -> float:
    """The Mills ratio at a less that at b = a + gap, for 0 ≤ a ≤ b, without their cancelling where
    the gap is small.

    There by its derivative, x·mills(x) − 1, halfway: the next term is the gap squared times
    smaller.
    """
    if gap > 3e-5:
        return _mills(a) - _mills(b)
    middle = a + gap / 2
    return gap * (1 - middle * _mills(middle)) if middle < 10 else gap * _tail_of_mills(middle)


def _tail_of_mills(x: float) -> float:
    """1 − x·mills(x) for x ≥ 10, where the two are nearly alike: its continued fraction (Laplace),
    60 levels of it.
    """
    fraction = x
    for level in range(60, 1, -1):
        fraction = x + level / fraction
    return 1 / (x * fraction + 1)


def _least(good: Callable[[float], bool], low: float, high: float, tolerance: float = 0.0) -> float:
    """The least x in [low, high] with good(x), where good turns true once and is true at high.

    Exact to the last bit, or above by at most `tolerance` (relative).
    """
    if good(low):
        return low
    while low < (middle := low + (high - low) / 2) < high and high - low > tolerance * high:
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def _require(condition: bool, words: str, values: object) -> None:
    if not condition:
        raise ValueError(f"needs {words}; got {values}")


# --- DP-SGD: many releases, each on a Poisson sample; one picture blanked -------------------------

FRACTIONAL = 1 + np.geomspace(0.002, 10, 80)  # (80,) Rényi orders
INTEGER = np.unique(np.geomspace(2, 2**14, 90).astype(int))  # large ones for small ε
ORDERS = np.concatenate([FRACTIONAL, INTEGER])
# below it the quadrature has too many nodes, and convexity alone is nearly tight
SMALL_NOISE = 0.05


def rdp_epsilon(
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    release_noise: float | None = None,
) -> float:
    """An ε that holds, fast enough to show after every epoch: Rényi DP (Mironov, Talwar and Zhang
    2019).

    One step is computed once for each (noise multiplier, sample rate) and scaled by `steps`. Rényi
    to (ε, δ) by Canonne, Kamath and Steinke 2020, Proposition 12. math.inf without noise, 0 without
    steps. Raises ValueError.
    """
    _check(noise_multiplier, sample_rate, steps, delta)
    if steps == 0 or sample_rate == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    rdp = steps * _one_step(float(noise_multiplier), float(sample_rate))  # (orders,)
    rdp = rdp if release_noise is None else rdp + ORDERS / (2 * release_noise**2)
    return _from_renyi(rdp, delta)


def _from_renyi(rdp: np.ndarray, delta: float) -> float:
    """The least ε at δ that Rényi divergences at ORDERS leave; math.inf where one is no number."""
    if np.isnan(rdp).any():
        return math.inf
    # total variation ≤ sqrt(1 − e^−KL) ≤ δ (Bretagnolle and Huber 1979)
    if -math.expm1(-rdp.min()) <= delta**2:
        return 0.0
    epsilon = rdp + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(epsilon.min())) * ROUND_UP


@lru_cache(maxsize=1024)
def _one_step(noise: float, rate: float) -> np.ndarray:
    """Rényi divergence of one step at ORDERS, shape (orders,): never below the truth, and never 0.

    A moment is 1 and a little more; the little is added up by itself, in logs, from terms of one
    sign. Next to the 1 it would be rounded away where noise is strong, and many steps would seem to
    cost nothing.
    """
    if rate == 1:
        return ORDERS / (2 * noise**2)
    fractional = _convexity if noise < SMALL_NOISE else _quadrature
    integers = [_whole_order(order, noise, rate) for order in INTEGER.tolist()]
    return np.concatenate([fractional(noise, rate), integers]) / (ORDERS - 1) * ROUND_UP


def _whole_order(order: int, noise: float, rate: float) -> float:
    """Log moment at a whole order, exact (Mironov, Talwar and Zhang 2019, Section 3.3).

    The binomial weights sum to 1, so the moment less 1 is the same sum with e^y − 1 in place of
    e^y.
    """
    k = np.arange(2, order + 1)  # no e^y − 1 for 0 and 1
    choose = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(order - k + 1)
    y = k * (k - 1) / (2 * noise**2)
    drawn = choose + k * math.log(rate) + (order - k) * math.log1p(-rate)
    terms = drawn + y + np.log(-np.expm1(-y))
    return float(np.logaddexp(0.0, special.logsumexp(terms)))


def _quadrature(noise: float, rate: float) -> np.ndarray:
    """Log moments E[(1 − q + q·e^((2z−1)/2σ²))^α], z ~ N(0, σ²), at FRACTIONAL: shape (80,).

    With u the log of what is raised to α = 1 + β, and E[e^u] = 1, the moment less 1 is E[e^(αu) − 1
    − α(e^u − 1)], which is E[β·e^u·r(−u) + e^u·r(βu)] with r(y) = e^y − 1 − y ≥ 0. The trapezoid
    rule errs by less than e^−39: its step is half of σ, and half of σ², the width of the turn.
    """
    step = min(noise, noise**2) / 2
    z = np.arange(-10 * noise, FRACTIONAL[-1] + 10 * noise, step)[:, None]  # (nodes, 1)
    density = -(z**2) / (2 * noise**2) + math.log(step / noise / math.sqrt(2 * math.pi))
    u, beta = _log_mixed((2 * z - 1) / (2 * noise**2), rate), FRACTIONAL - 1
    beyond = np.logaddexp(np.log(beta) + _log_rest(-u), _log_rest(beta * u))
    return np.logaddexp(0.0, special.logsumexp(density + u + beyond, axis=0))


def _log_mixed(t: np.ndarray, rate: float) -> np.ndarray:
    """log(1 − q + q·e^t), exact where it is small; any shape."""
    small = np.log1p(rate * np.expm1(np.minimum(t, 600.0)))
    return np.where(t < 600, small, np.logaddexp(math.log1p(-rate), math.log(rate) + t))


def _log_rest(y: np.ndarray) -> np.ndarray:
    """log(e^y − 1 − y), any shape; −inf at 0. Below 0.3 by its series, as the difference would
    cancel.
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
    """Upper bound of the same moments, as x^α is convex: log(1 − q + q·e^(α(α−1)/2σ²)), shape
    (80,).
    """
    return _log_mixed(FRACTIONAL * (FRACTIONAL - 1) / (2 * noise**2), rate)


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
    _check(noise_multiplier, sample_rate, steps, delta)
    _require(
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
        _interval(noise, rate, steps, seconds),
        delta - _rounding(steps + (release is not None)),
    )
    renyi = rdp_epsilon(noise, rate, steps, delta, release)
    usable = interval <= WIDEST and spare > 0.9 * delta
    if usable:
        epsilon = _epsilon_of(_composed(noise, rate, steps, interval, release), spare, renyi)
        rounded = f", losses rounded up to multiples of {interval:g}"
        fine = interval == INTERVAL
        told = "PLD (dp_accounting)" + ("" if fine else rounded)
        yield Spent(epsilon * (1 if fine else COARSE), told)
    yield Spent(renyi, "RDP, an upper bound")


Run = tuple[float, float, int, float | None]  # noise multiplier, sample rate, steps, release noise


@lru_cache(maxsize=256)
def dp_sgd_epsilon_of_all(runs: tuple[Run, ...], delta: float) -> Spent:
    """The ε of several runs of DP-SGD on the same data, all published: their privacy loss
    distributions composed, as in dp_sgd_epsilon.

    Where no PLD can be computed, the sum of what each spends at its share of δ. math.inf where one
    has no noise. Raises ValueError.
    """
    _require(len(runs) > 0, "at least one run", runs)
    for noise, rate, steps, _ in runs:
        _check(noise, rate, steps, delta)
    if any(noise == 0 and steps and rate for noise, rate, steps, _ in runs):
        return Spent(math.inf, "none: no noise was added")
    interval = max(_interval(noise, rate, steps, 0.3) for noise, rate, steps, _ in runs)
    spare = delta - sum(_rounding(steps + 2) for _, _, steps, _ in runs)
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
    """As odds_dp_sgd, for an attacker who sees several independent runs on the same data.

    Never above what their (ε, δ) allows, which is all that is known where no PLD can be computed.
    Raises ValueError.
    """
    return min(_odds_of_all(runs), odds_any(dp_sgd_epsilon_of_all(runs, delta).epsilon, delta))


def _odds_of_all(runs: tuple[Run, ...]) -> float:
    """By the PLD; 1 without one."""
    interval = max(
        _interval(noise, rate, steps, 0.3) if noise > 0 else math.inf
        for noise, rate, steps, _ in runs
    )
    if interval > WIDEST:
        return 1.0
    return min(
        1.0,
        (
            1
            + float(_composed_of_all(runs, interval).get_delta_for_epsilon(0.0))
            + sum(_rounding(steps + 2) for _, _, steps, _ in runs)
        )
        / 2,
    )


def _composed_of_all(runs: tuple[Run, ...], interval: float):
    """The privacy loss distribution of independent runs together."""
    return functools.reduce(
        lambda one, other: one.compose(other),
        (_composed(noise, rate, steps, interval, release) for noise, rate, steps, release in runs),
    )


def _apart(runs: tuple[Run, ...], delta: float) -> float:
    """Basic composition: each run at its share of δ."""
    return sum(
        dp_sgd_epsilon(noise, rate, steps, delta / len(runs), release_noise=release).epsilon
        for noise, rate, steps, release in runs
    )


def _composed(noise: float, rate: float, steps: int, interval: float, release: float | None = None):
    """dp_accounting's privacy loss distribution of all the steps together, and of one Gaussian
    release where there is one.
    """
    from dp_accounting.pld import privacy_loss_distribution as pld

    if release is not None:
        return _composed(noise, rate, steps, interval).compose(
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
    return _least(lambda e: composed.get_delta_for_epsilon(e) <= delta, 0.0, bound, 1e-6)


def _rounding(steps: int) -> float:
    """How far the Fourier transforms in dp_accounting's PLD put δ off at most: without it, ε can
    fall below the truth.

    Measured against exact Gaussians and tilted convolutions: below 2e-16 a step. With δ = 1e-12 and
    100,000 steps of an unsampled Gaussian (noise multiplier 100), dp_accounting 0.6 gives an ε that
    is 2.7 % too small.
    """
    return 4.5e-16 * (steps + 10)


def _interval(noise: float, rate: float, steps: int, seconds: float) -> float:
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


def _check(noise: float, rate: float, steps: int, delta: float) -> None:
    _require(
        noise >= 0 and 0 <= rate <= 1 and steps >= 0 and 0 < delta < 1,
        "noise multiplier ≥ 0, 0 ≤ sample rate ≤ 1, steps ≥ 0, 0 < δ < 1",
        (noise, rate, steps, delta),
    )


# --- how much noise for a wanted ε ----------------------------------------------------------------

LEAST_NOISE, MOST_NOISE = 0.01, 1000.0


@lru_cache(maxsize=1024)
def dp_sgd_noise(
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    release_noise: float | None = None,
) -> float:
    """The least noise multiplier in [0.01, 1000] whose dp_sgd_epsilon is at most the target, and at
    most 0.5 % below.

    Searches with quick, coarse PLDs and ends with the final one. 0 without steps. Raises
    Unreachable where even 1000 spends more than the target, and ValueError for arguments out of
    range. release_noise: as for dp_sgd_epsilon.
    """
    _check(1.0, sample_rate, steps, delta)
    _require(target_epsilon > 0, "ε > 0", target_epsilon)
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
    """A round noise multiplier (two digits) that spends roughly ε, at once: for choosing what to
    try, never for promising.
    """
    _check(1.0, sample_rate, steps, delta)
    return float(f"{math.exp(_central_limit(epsilon, sample_rate, steps, delta)):.2g}")


def dp_sgd_mu(noise_multiplier: float, sample_rate: float, steps: int) -> float:
    """μ of the Gaussian mechanism that many small steps come close to: q·sqrt(T(e^(1/σ²) − 1)) (Bu
    et al. 2020). For choosing, never for promising.
    """
    _check(noise_multiplier, sample_rate, steps, 0.5)
    return sample_rate * math.sqrt(steps * math.expm1(min(700.0, noise_multiplier**-2)))


def _central_limit(epsilon: float, rate: float, steps: int, delta: float) -> float:
    """First guess, log σ: q·sqrt(T(e^(1/σ²) − 1)) = μ (Bu et al. 2020), where μ-Gaussian DP gives
    (ε, δ).
    """
    mu = 1 / gaussian_sigma(epsilon, delta)
    return -0.5 * math.log(math.log1p((mu / rate) ** 2 / steps))


def _close_in(excess: Callable[[float], float], least: float, most: float, x: float) -> float:
    """A log noise near x where the falling function `excess` is in [least, most]: step out, then a
    safe secant.

    Illinois method: halving the value at an end that stays put keeps both ends moving. LEAST_NOISE
    if that is enough, MOST_NOISE if nothing less is, and the private end of a jump.
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


# --- odds: with even odds before, how often the best attacker guesses right -----------------------


def odds_any(epsilon: float, delta: float) -> float:
    """(e^ε + δ)/(1 + e^ε): what no attacker can beat, whatever the mechanism (Kairouz et al. 2015,
    Theorem 2.1).
    """
    _require(epsilon >= 0 and 0 <= delta <= 1, "ε ≥ 0, 0 ≤ δ ≤ 1", (epsilon, delta))
    small = math.exp(-epsilon)
    return (1 + delta * small) / (1 + small)


def odds_gaussian(sigma: float, sensitivity: float = 1.0) -> float:
    """Φ(Δ/2σ): the best attacker on one release with Gaussian noise (Dong, Roth and Su 2019). 1
    without noise.
    """
    _require(sigma >= 0 and sensitivity > 0, "σ ≥ 0, sensitivity > 0", (sigma, sensitivity))
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
    """The best attacker on DP-SGD who must tell whether one picture was in the data: by the
    PLD (1 + δ(ε = 0))/2.

    Never above the odds that remain without any noise, where being drawn once gives a picture away,
    nor, where `delta` is given, above what (ε, δ) allows to any method. Rounded up. Raises
    ValueError.
    """
    _check(noise_multiplier, sample_rate, steps, 0.5)
    if delta is not None:
        setting = (noise_multiplier, sample_rate, steps)
        epsilon = dp_sgd_epsilon(*setting, delta, seconds, release_noise).epsilon
        return min(odds_any(epsilon, delta), odds_dp_sgd(*setting, seconds, release_noise))
    drawn = float(steps > 0) if sample_rate == 1 else -math.expm1(steps * math.log1p(-sample_rate))
    if release_noise is not None:  # two releases at once are at most so far apart
        drawn = 1 - (1 - drawn) * (2 - 2 * odds_gaussian(release_noise))
    if noise_multiplier > 0 and drawn > 0:
        drawn = min(drawn, _variation(noise_multiplier, sample_rate, steps, seconds, release_noise))
    return (1 + drawn) / 2


def _variation(
    noise: float, rate: float, steps: int, seconds: float, release: float | None = None
) -> float:
    """Total variation between DP-SGD with and without one picture, or 1 where no PLD can be
    computed.
    """
    if rate == 1:
        return (
            2 * odds_gaussian((steps / noise**2 + (0 if release is None else release**-2)) ** -0.5)
            - 1
        )
    interval = _interval(noise, rate, steps, seconds)
    if interval > WIDEST:
        return 1.0
    return float(
        _composed(noise, rate, steps, interval, release).get_delta_for_epsilon(0.0)
    ) + _rounding(steps + 1)


def tradeoff_gaussian(alpha: np.ndarray, mu: float) -> np.ndarray:
    """The least miss rate at false alarm rate `alpha` (any shape): Φ(Φ⁻¹(1 − α) − μ), μ = Δ/σ (Dong
    et al. 2019).
    """
    return special.ndtr(-special.ndtri(alpha) - mu)


def tradeoff_any(alpha: np.ndarray, epsilon: float, delta: float) -> np.ndarray:
    """The same for whatever is (ε, δ)-private: max(0, 1 − δ − e^ε·α, e^−ε(1 − δ − α)) (Wasserman
    and Zhou 2010).
    """
    steep = 1 - delta - np.exp(np.minimum(0.0, epsilon + np.log(np.maximum(alpha, 1e-300))))
    return np.maximum(0.0, np.maximum(steep, math.exp(-epsilon) * (1 - delta - np.asarray(alpha))))


def tradeoff_dp_sgd(
    alpha: np.ndarray,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    release_noise: float | None = None,
) -> np.ndarray:
    """The same for DP-SGD: what no attacker who watches every step can go below, from the PLD's δ
    at many ε (Dong, Roth and Su 2019, Proposition 6).

    Each (ε, δ(ε)) bounds it; their envelope is the mechanism's own curve but for the gaps between
    the ε, which only lower it. Rounded to the safe side; 0 where no PLD can be computed. Raises
    ValueError.
    """
    _check(noise_multiplier, sample_rate, steps, 0.5)
    alpha = np.asarray(alpha, float)
    if steps == 0 or sample_rate == 0:
        return 1 - alpha
    interval = (
        _interval(noise_multiplier, sample_rate, steps, 3.0) if noise_multiplier > 0 else math.inf
    )
    if interval > WIDEST:
        return np.zeros_like(alpha)
    composed, spare = (
        _composed(noise_multiplier, sample_rate, steps, interval, release_noise),
        _rounding(steps + (release_noise is not None)),
    )
    highest = min(
        30.0,
        dp_sgd_epsilon(
            noise_multiplier, sample_rate, steps, 1e-9, release_noise=release_noise
        ).epsilon,
    )
    epsilons = np.linspace(0, highest, 200)
    deltas = [float(delta) + spare for delta in composed.get_delta_for_epsilon(epsilons)]
    return np.max(
        [tradeoff_any(alpha, epsilon, min(1.0, delta)) for epsilon, delta in zip(epsilons, deltas)],
        axis=0,
    )


def area_any(epsilon: float, delta: float) -> float:
    """The largest area under a ROC curve that (ε, δ) allows: 1 − (1 − δ)²/(1 + e^ε), which is ∫ (1
    − f) of tradeoff_any.

    The area is how often a picture that was in scores higher than one that was not, a bound of its
    own: it may lie far above odds_any, which is about yes-or-no guesses. Raises ValueError.
    """
    _require(epsilon >= 0 and 0 <= delta <= 1, "ε ≥ 0, 0 ≤ δ ≤ 1", (epsilon, delta))
    return 1 - (1 - delta) ** 2 * float(special.expit(-epsilon))


def area_gaussian(mu: float) -> float:
    """The same for one Gaussian release, μ = Δ/σ: Φ(μ/√2)."""
    _require(mu >= 0, "μ ≥ 0", mu)
    return float(special.ndtr(mu / math.sqrt(2)))


@lru_cache(maxsize=256)
def area_dp_sgd(
    noise_multiplier: float, sample_rate: float, steps: int, release_noise: float | None = None
) -> float:
    """The same for DP-SGD: ∫ (1 − f) of tradeoff_dp_sgd, rounded up. 1 where no PLD can be
    computed. Raises ValueError.

    f is convex, so its value in the middle of a cell, times the cell's width, is at most its
    integral there.
    """
    edges = np.concatenate([[0.0], np.geomspace(1e-9, 1.0, 2000)])
    middles = (edges[1:] + edges[:-1]) / 2
    missed = tradeoff_dp_sgd(middles, noise_multiplier, sample_rate, steps, release_noise)
    return float(1 - missed @ np.diff(edges))


# --- randomised response over k labels ------------------------------------------------------------


def randomized_response(epsilon: float, k: int) -> RandomizedResponse:
    """Keep the label with e^ε/(e^ε + k − 1), else one of the k − 1 others (Kairouz et al. 2014,
    Section 4).

    One label replaced by another costs ε, with δ = 0. Overflows for no ε, math.inf included. Raises
    ValueError.
    """
    _require(epsilon >= 0 and k >= 2, "ε ≥ 0 and k ≥ 2", (epsilon, k))
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
    _require(
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


def odds_pair(sigma: float, sensitivity: float, label_epsilon: float, k: int) -> float:
    """The best attacker who must tell two given pictures with different labels apart, image and
    label released.

    (1 + total variation)/2; the variation sums, over what the label came out as (its own, the
    other's, a third), the Gaussian hockey stick at that outcome's likelihood ratio. The pair's ε is
    `pair_epsilon`.
    """
    response = randomized_response(label_epsilon, k)
    stick = lambda epsilon: gaussian_hockey_stick(epsilon, sigma, sensitivity)
    own = response.keep * stick(-label_epsilon)
    theirs = response.other * stick(label_epsilon)
    third = (k - 2) * response.other * stick(0.0)
    return min(1.0, (1 + own + theirs + third) / 2)


def pair_epsilon(image_epsilon: float, label_epsilon: float) -> float:
    """ε of an image and its label released together, at the image's δ, by basic composition: the
    sum.
    """
    return image_epsilon + label_epsilon


# --- warnings in words ----------------------------------------------------------------------------


def delta_warning(delta: float, n: int) -> str | None:
    """None, or one sentence where δ is not below one in the n units protected: then it promises
    next to nothing.
    """
    if delta < 1 / n:
        return None
    return (
        f"δ = {rounding.chosen(delta)} is not below 1 in {n:,}: publishing one of the {n:,} in"
        " full, picked at random, would keep this promise; choose δ well below"
        f" {rounding.at_least(1 / n, 1, leading=True)}."
    )
