"""No ε below the truth, no odds above what ε allows: random settings of every mechanism against
lower bounds that share no code with it.

The lower bound on DP-SGD: an attacker who adds up what all steps released, and says "in" above a
threshold. Of that sum everything is known: it is normal around the number of steps in which the
image was drawn, a binomial. Whatever it gives away, the steps give away; for one step, and for
steps without sampling, it is all that they do. `-m hours` adds dp_accounting's optimistic privacy
loss distributions and takes an hour.
"""

import functools
import itertools
import math
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy import special, stats

from engine import privacy
from engine.privacy import renyi
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing

SLACK = 1 + 1e-9  # of δ, for the rounding of the lower bounds themselves


# --- what cannot be beaten ------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """The attacker's figure under noise of deviation 1: what the image adds to it (m,), and these
    cases' log chances.
    """

    mean: np.ndarray
    chances: np.ndarray


def sums(runs) -> Sums:
    """Of several runs (noise, rate, steps, release noise), each step weighted by how much it tells
    at first order.
    """
    parts, variance = [], 0.0
    for noise, rate, steps, release in runs:
        weight = rate / noise**2
        drawn = likely(steps, rate)
        parts.append((weight * drawn, stats.binom.logpmf(drawn, steps, rate)))
        variance += weight**2 * steps * noise**2
        if release is not None:
            parts.append((np.array([release**-2]), np.zeros(1)))
            variance += release**-2

    def together(a, b):
        return tuple(np.add.outer(one, other).ravel() for one, other in zip(a, b))

    mean, chances = functools.reduce(together, parts)
    scale = math.sqrt(variance)
    return Sums(mean / scale, chances)


def likely(steps, rate) -> np.ndarray:
    """How often an image may be drawn, but for what is rarer than e^−60."""
    mean, spread = steps * rate, math.sqrt(steps * rate * (1 - rate))
    least, most = math.floor(mean - 11 * spread - 2), math.ceil(mean + 11 * spread + 25)
    return np.arange(max(0, least), min(steps, most) + 1)


def least_delta(epsilon: float, found: Sums) -> float:
    """No δ below this can hold at ε: P(above) − e^ε·Q(above) at the threshold where P's density is
    e^ε times Q's.
    """
    low, high = -40.0, found.mean.max() + 40.0
    weights = found.chances - found.mean**2 / 2
    for _ in range(26):
        middle = (low + high) / 2
        logs = weights + middle * found.mean
        ratio = (top := logs.max()) + math.log(np.exp(logs - top).sum())
        low, high = (middle, high) if ratio < epsilon else (low, middle)
    told = np.exp(found.chances) @ special.ndtr(found.mean - high)
    return float(told - math.exp(min(700.0, epsilon + special.log_ndtr(-high))))


def too_small(epsilon, delta, runs) -> bool:
    """Is this ε refuted at δ?"""
    return math.isfinite(epsilon) and least_delta(epsilon, sums(runs)) > delta * SLACK


def settings(rng, count, most_steps=5.0):
    """(noise multiplier, sample rate, steps, δ): from the least noise that the product allows to
    far too much, one in ten without sampling.
    """
    for _ in range(count):
        rate = 1.0 if rng.random() < 0.1 else 10 ** rng.uniform(-5, 0)
        steps, delta = int(10 ** rng.uniform(0, most_steps)), 10 ** rng.uniform(-13, -2)
        yield 10 ** rng.uniform(-2, 3.5), rate, steps, delta


def worse(noise, rate, steps, delta, rng):
    """The same setting with one thing changed to the less private side; its name first."""
    factor = 1 + 10 ** rng.uniform(-3, 0)
    return [
        ("noise", (noise / factor, rate, steps, delta)),
        ("rate", (noise, min(1.0, rate * factor), steps, delta)),
        ("steps", (noise, rate, max(steps + 1, int(steps * factor)), delta)),
        ("δ", (noise, rate, steps, delta / factor)),
    ]


def test_the_lower_bound_is_the_whole_truth_where_it_should_be():
    """Without sampling, and for a single step, it is the exact curve; elsewhere below it. It sees
    an ε that is 3 % too small.
    """
    for noise, steps, release in [(2.0, 4, None), (30.0, 1000, 1.5), (1e4, 1, None)]:
        together = (steps / noise**2 + (0 if release is None else release**-2)) ** -0.5
        for epsilon in (0.0, 0.5 / together, 2 / together):
            exact = float(exact_stick(epsilon, together))
            found = least_delta(epsilon, sums([(noise, 1.0, steps, release)]))
            assert found == pytest.approx(exact, rel=1e-8, abs=0)
    for noise, rate in [(0.7, 0.1), (3.0, 0.01)]:
        one = pld.from_gaussian_mechanism(noise, sampling_prob=rate)
        for epsilon in (0.01, 0.1):
            found = least_delta(epsilon, sums([(noise, rate, 1, None)]))
            assert found == pytest.approx(one.get_delta_for_epsilon(epsilon), rel=1e-3, abs=0)
        assert too_small(0.97 * one.get_epsilon_for_delta(1e-6), 1e-6, [(noise, rate, 1, None)])


# --- DP-SGD ---------------------------------------------------------------------------------------


def test_the_fast_bound_is_never_below_the_truth():
    """10,000 settings: 400 steps' noise and rate, with 25 numbers of steps and δ each."""
    rng, refuted, rounded_to_nothing = np.random.default_rng(0), 0, 0
    for noise, rate, *_ in settings(rng, 400):
        for _ in range(25):
            steps, delta = int(10 ** rng.uniform(0, 5)), 10 ** rng.uniform(-13, -2)
            epsilon = privacy.rdp_epsilon(noise, rate, steps, delta)
            runs = [(noise, rate, steps, None)]
            refuted += too_small(epsilon, delta, runs)
            rounded_to_nothing += noise > 100 and epsilon < 0.01 and too_small(0.0, delta, runs)
    assert refuted == 0
    assert rounded_to_nothing > 500  # settings of the kind whose ε was once told as 0


def test_the_fast_bound_grows_with_less_noise_more_draws_more_steps_and_smaller_delta():
    rng = np.random.default_rng(1)
    for setting in settings(rng, 80):
        epsilon = privacy.rdp_epsilon(*setting)
        for name, other in worse(*setting, rng):
            assert privacy.rdp_epsilon(*other) >= epsilon * (1 - 1e-9), (name, setting, other)


QUICK = 0.05  # seconds that a PLD may take


def spent(noise, rate, steps, delta, release=None, seconds=QUICK):
    return privacy.dp_sgd_epsilon(noise, rate, steps, delta, seconds, release).epsilon


def check_final(count, seed, seconds=QUICK, oracle=None):
    """ε, odds and their order at so many settings. Returns how many have an ε above 0, and how many
    of these are seen to be wrong when 3 % less is said.
    """
    rng, some, seen = np.random.default_rng(seed), 0, 0
    for number, setting in enumerate(settings(rng, count)):
        release = 10 ** rng.uniform(-0.3, 3) if number % 3 == 0 else None
        epsilon, runs = spent(*setting, release, seconds), [(*setting[:3], release)]
        assert not too_small(epsilon, setting[3], runs), (setting, release, epsilon)
        assert oracle is None or epsilon >= oracle(*setting, release), (setting, release, epsilon)
        odds = privacy.odds_dp_sgd(*setting[:3], seconds, release, setting[3])
        assert 0.5 <= odds <= privacy.odds_any(epsilon, setting[3]), (setting, release)
        assert 2 * odds - 1 >= least_delta(0.0, sums(runs)) * (1 - 1e-9), (setting, release)
        name, other = worse(*setting, rng)[number % 4]
        more = spent(*other, release, seconds)
        assert in_order(more, epsilon, setting, release, seconds), (name, setting, other, release)
        some += epsilon > 0
        seen += epsilon > 0 and too_small(0.97 * epsilon, setting[3], runs)
    return some, seen


def in_order(worse, epsilon, setting, release, seconds):
    """Is the worse setting's ε no less, but for what a PLD's Fourier transforms may put δ off?"""
    noise, rate, steps, delta = setting
    off = 2 * transforms_err(steps + 1)
    if worse >= epsilon * (1 - 1e-9):
        return True
    return worse >= spent(noise, rate, steps, delta + off, release, seconds)


def test_the_final_epsilon_is_never_below_the_truth_and_its_order_is_right():
    some, seen = check_final(110, 2)
    assert seen > 0.15 * some  # ε × 0.97 is found out where the attacker's sum tells nearly all


def costs_nothing(epsilon, noise, rate, steps, delta):
    return epsilon if rate**2 / noise**2 > 1e-9 else 0.0


PLANTED = {
    "ε × 0.97": lambda epsilon, *setting: 0.97 * epsilon,
    "a moment that rounds to 1": costs_nothing,
    "δ ignored": lambda epsilon, noise, rate, steps, delta: spent(noise, rate, steps, 0.01),
}


@pytest.mark.parametrize("error", PLANTED)
def test_planted_errors_are_found(error):
    rng, found = np.random.default_rng(3), 0
    for setting in settings(rng, 60):
        wrong = PLANTED[error](spent(*setting), *setting)
        found += too_small(wrong, setting[3], [(*setting[:3], None)])
    assert found >= 5, found


def count_refuted(count, seed):
    """Of so many settings with hardly any noise, where convexity bounds the moments."""
    rng, refuted = np.random.default_rng(seed), 0
    for _, rate, steps, delta in settings(rng, count):
        noise = 10 ** rng.uniform(-2, math.log10(0.05))
        epsilon = privacy.rdp_epsilon(noise, min(rate, 0.9), steps, delta)
        refuted += too_small(epsilon, delta, [(noise, min(rate, 0.9), steps, None)])
    return refuted


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5])
def test_an_error_planted_in_the_bound_for_hardly_any_noise_is_found(share, monkeypatch):
    """Moments with a part of their exponent."""

    def less(noise, rate):
        more = privacy.FRACTIONAL * (privacy.FRACTIONAL - 1) / (2 * noise**2)
        return np.logaddexp(math.log1p(-rate), math.log(rate) + share * more)

    monkeypatch.setattr(renyi, "_convexity", less)
    monkeypatch.setattr(renyi, "_one_step", renyi._one_step.__wrapped__)  # remembers nothing
    found = count_refuted(200, 12)
    assert (found > 5) == (share < 1) and (found == 0) == (share == 1)


@pytest.mark.hours
@pytest.mark.timeout(20_000)
def test_ten_thousand_final_epsilons_against_optimistic_privacy_loss_distributions():
    some, seen = check_final(10_000, 4, 0.1, optimistic)
    assert seen > 0.15 * some


def transforms_err(steps) -> float:
    """How far dp_accounting's Fourier transforms may put δ off: 2^-50 a step, as allowed here."""
    return 2.0**-50 * (steps + 10)


def losses(noise, rate, nodes=20_001):
    """(widest, standard deviation) of one step's privacy loss, at 12 standard deviations of noise
    to each side, with the image drawn at this rate.
    """
    z = np.linspace(-12 * noise, 1 + 12 * noise, nodes)
    left_out = math.log1p(-rate) if rate < 1 else -math.inf
    told = np.logaddexp(left_out, math.log(rate) + (2 * z - 1) / (2 * noise**2))
    chance = (1 - rate) * stats.norm.pdf(z, 0, noise) + rate * stats.norm.pdf(z, 1, noise)
    chance /= chance.sum()
    return np.ptp(told), math.sqrt(chance @ (told - chance @ told) ** 2)


def optimistic(noise, rate, steps, delta, release=None, points=3e5):
    """dp_accounting's ε with losses rounded down instead of up to about so many points, and its
    Fourier transforms' rounding on the low side. 0 where they would be too coarse to tell anything.
    """
    widest, spread = losses(noise, rate)
    interval = (widest + 20 * math.sqrt(steps) * spread) / points
    if interval > 1 or delta < 10 * transforms_err(steps):
        return 0.0
    kind = {
        "value_discretization_interval": interval,
        "pessimistic_estimate": False,
        "use_connect_dots": False,
    }
    composed = pld.from_gaussian_mechanism(noise, sampling_prob=rate, **kind).self_compose(steps)
    if release is not None:
        composed = composed.compose(pld.from_gaussian_mechanism(release, **kind))
    with np.errstate(over="ignore"):
        epsilon = composed.get_epsilon_for_delta(delta + transforms_err(steps + 1))
    return epsilon if epsilon < 700 else 0.0  # beyond, it overflows


def test_the_optimistic_distributions_are_below_the_truth_and_near_it():
    """Without sampling beside the exact curve; with it they find an ε that is 3 % too small."""
    for noise, steps, delta in [
        (0.02, 1, 1e-5),
        (0.5, 10, 1e-9),
        (2.0, 4, 1e-5),
        (20.0, 100, 1e-7),
    ]:
        found, together = optimistic(noise, 1.0, steps, delta), noise / steps**0.5
        told = found > 0
        assert told == (noise > 0.02)  # an ε above 700 is beyond them
        assert exact_stick(found, together) >= delta
        assert exact_stick(1.03 * found, together) < delta or not told
    rng, near = np.random.default_rng(11), 0
    for setting in settings(rng, 8, 1.5):
        epsilon, low = spent(*setting, seconds=0.3), optimistic(*setting, points=1e5)
        assert low <= epsilon, setting
        near += low > 0.97 * epsilon > 0
    assert near >= 3


# --- several runs together ------------------------------------------------------------------------


def run_of(rng):
    steps, rate = int(10 ** rng.uniform(0, 3)), min(1.0, 10 ** rng.uniform(-4, 0.3))
    rate = min(rate, 30 / steps) if rate < 1 else 1.0
    release = 10 ** rng.uniform(0, 3) if rng.random() < 0.3 else None
    return 10 ** rng.uniform(-2, 3), rate, steps, release


def check_together(count, seed):
    rng, seen = np.random.default_rng(seed), 0
    for _ in range(count):
        runs = tuple(run_of(rng) for _ in range(rng.integers(2, 4)))
        delta = 10 ** rng.uniform(-11, -2)
        epsilon = privacy.dp_sgd_epsilon_of_all(runs, delta).epsilon
        assert not too_small(epsilon, delta, runs), (runs, delta)
        seen += too_small(0.97 * epsilon, delta, runs)
        odds = privacy.odds_of_all(runs, delta)
        assert 0.5 <= odds <= privacy.odds_any(epsilon, delta), (runs, delta)
        assert 2 * odds - 1 >= least_delta(0.0, sums(runs)) * (1 - 1e-9), (runs, delta)
        alone = max(spent(*run[:3], delta, run[3], 0.3) for run in runs)
        assert epsilon >= alone * (1 - 1e-4), (runs, delta)  # intervals may differ
    return seen


def test_several_runs_are_never_below_what_they_give_away_together():
    assert check_together(12, 5) >= 1


@pytest.mark.hours
@pytest.mark.timeout(20_000)
def test_ten_thousand_compositions():
    assert check_together(10_000, 6) >= 500


def test_runs_with_hardly_any_noise_promise_no_better_odds_than_their_epsilon():
    """No PLD can be computed here: the odds were 1, above what the runs' own ε allows."""
    runs = ((1e-5, 0.1, 10, None), (1e-5, 0.1, 10, None))
    epsilon = privacy.dp_sgd_epsilon_of_all(runs, 1e-5).epsilon
    assert privacy.odds_of_all(runs, 1e-5) <= privacy.odds_any(epsilon, 1e-5)


# --- one Gaussian release, and a label beside it --------------------------------------------------


def exact_stick(epsilon, ratio):
    """Balle and Wang 2018, Theorem 8, to 40 digits; ratio: σ over the sensitivity."""
    with mpmath.workdps(40):
        epsilon, ratio = mpmath.mpf(epsilon), mpmath.mpf(ratio)
        half, shift = 1 / (2 * ratio), epsilon * ratio
        return mpmath.ncdf(half - shift) - mpmath.exp(epsilon) * mpmath.ncdf(-half - shift)


def test_ten_thousand_gaussian_releases():
    rng, some = np.random.default_rng(7), 0
    for _ in range(10_000):
        sigma, delta = 10 ** rng.uniform(-2, 9), 10 ** rng.uniform(-14, -1)
        sensitivity = 10 ** rng.uniform(-1, 1)
        epsilon, ratio = privacy.gaussian_epsilon(sigma, delta, sensitivity), sigma / sensitivity
        assert exact_stick(epsilon, ratio) <= delta * SLACK, (sigma, delta, sensitivity)
        if epsilon > 0:
            some += 1
            assert exact_stick(0.97 * epsilon, ratio) > delta  # planted
        odds = privacy.odds_gaussian(sigma, sensitivity)
        assert 0.5 <= odds <= privacy.odds_any(epsilon, delta) * (1 + 1e-15)
        assert privacy.gaussian_epsilon(sigma / 1.01, delta, sensitivity) >= epsilon
        assert privacy.gaussian_epsilon(sigma, delta / 1.01, sensitivity) >= epsilon
    assert some > 5000


@pytest.mark.parametrize("sigma", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("share", [0.3, 0.999, 0.9999999])
def test_the_hockey_stick_of_strong_noise_does_not_cancel(sigma, share):
    """Its two terms agree in all but the last digits there: δ(0) came out wrong by parts in
    10,000.
    """
    for epsilon in (0.0, share * 0.5 / sigma**2, share / sigma):
        found, exact = privacy.gaussian_hockey_stick(epsilon, sigma), exact_stick(epsilon, sigma)
        assert found == pytest.approx(float(exact), rel=1e-9, abs=0)


def test_ten_thousand_images_with_a_label():
    """Randomised response beside a Gaussian release: their sum of ε holds, and no less than what
    both give away.
    """
    rng, forgotten = np.random.default_rng(8), 0

    def stick(epsilon, sigma):
        """δ of the image alone at ε."""
        half, shift = 0.5 / sigma, epsilon * sigma
        other = math.exp(min(700.0, epsilon + special.log_ndtr(-half - shift)))
        return special.ndtr(half - shift) - other

    def both(epsilon, sigma, told, k):
        """δ of the pair at ε: over what the label came out as, each with its own likelihood
        ratio.
        """
        keep, other = 1 / (1 + (k - 1) * math.exp(-told)), 1 / (math.exp(told) + k - 1)
        apart = keep * stick(epsilon - told, sigma) + other * stick(epsilon + told, sigma)
        return apart + (k - 2) * other * stick(epsilon, sigma)

    for _ in range(10_000):
        sigma, told = 10 ** rng.uniform(-0.5, 2.5), 10 ** rng.uniform(-2, 1.3)
        k, delta = int(rng.integers(2, 50)), 10 ** rng.uniform(-9, -1)
        image = privacy.gaussian_epsilon(sigma, delta)
        total = privacy.pair_epsilon(image, told)
        assert both(total, sigma, told, k) <= delta * SLACK + 1e-15, (sigma, told, k, delta)
        forgotten += both(image, sigma, told, k) > delta * 1.01 + 1e-14
        odds = privacy.odds_pair(sigma, 1.0, told, k)
        alone = max(privacy.odds_gaussian(sigma), privacy.odds_randomized_response(told, k))
        assert alone <= odds * (1 + 1e-12) and odds <= privacy.odds_any(total, delta) * (1 + 1e-12)
        assert odds >= (1 + both(0.0, sigma, told, k)) / 2 - 1e-12
    assert forgotten > 8000  # a label that is not counted is found out


# --- clients and their server --------------------------------------------------------------------


def test_clients_and_server_are_never_below_the_truth():
    rng, refuted = np.random.default_rng(9), 0
    for noised_by, number in itertools.product(("server", "client"), range(24)):
        server = noised_by == "server"
        clients = GradientSharing(
            noised_by=noised_by,
            noise_multiplier=10 ** rng.uniform(-2, 3.3),
            client_sampling_rate=10 ** rng.uniform(-3, 0) if server else 1.0,
            rounds=int(10 ** rng.uniform(0, 3)),
            delta=10 ** rng.uniform(-12, -2),
        )
        rounds, noise = clients.rounds, clients.noise_multiplier
        step = (noise, clients.client_sampling_rate) if server else (noise / 2, 1.0)
        truth = [(*step, rounds, None)]
        refuted += too_small(clients.spent(rounds), clients.delta, truth)
        refuted += too_small(clients.spent(1), clients.delta, [(*step, 1, None)])
        assert clients.spent(rounds) >= clients.spent(1)
        if number % 6 == 0:
            promise = clients.guarantee()
            assert not too_small(promise.epsilon, promise.delta, truth)
            assert promise.odds_mechanism <= promise.odds_any
    assert refuted == 0


def test_what_the_clients_were_once_told():
    """Strong noise and few clients a round: ε = 0 stood on the page, and in the final promise."""
    told = GradientSharing.preset(
        "tiny", noise_multiplier=2000.0, client_sampling_rate=0.001, delta=1e-12, rounds=1000
    )
    truth = [(2000.0, 0.001, 1000, None)]
    assert too_small(3e-5, 1e-12, truth)
    for epsilon in (told.spent(1000), told.guarantee().epsilon):
        assert 3e-5 < epsilon < 2e-3 and not too_small(epsilon, 1e-12, truth)


def test_strong_noise_and_many_steps_are_not_free():
    setting = (500.0, 64 / 202_599, 100_000, 1e-12)
    assert too_small(3e-4, setting[3], [(*setting[:3], None)])
    assert 9e-4 < privacy.dp_sgd_epsilon(*setting).epsilon <= privacy.rdp_epsilon(*setting) < 2e-3
