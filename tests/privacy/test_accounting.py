"""Every formula against an oracle that shares no code with it, and every check against errors
planted on purpose.
"""

import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian, get_sigma_gaussian
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.privacy_accountant import NeighboringRelation
from scipy import stats

from engine import privacy
from engine.privacy import renyi
from tests.conftest import full_unless

mpmath.mp.dps = 60
DELTA = 1 / 784**2


# --- one Gaussian release -------------------------------------------------------------------------


def exact_delta(epsilon, sigma):
    """Balle and Wang 2018, Theorem 8, to 60 digits (sensitivity 1)."""
    epsilon, sigma = mpmath.mpf(epsilon), mpmath.mpf(sigma)
    half, shift = 1 / (2 * sigma), epsilon * sigma
    return mpmath.ncdf(half - shift) - mpmath.exp(epsilon) * mpmath.ncdf(-half - shift)


def is_least_sigma(sigma, epsilon, delta):
    """Does sigma give at most δ, and no sigma a 10⁻⁸th smaller?"""
    return exact_delta(epsilon, sigma) <= delta < exact_delta(epsilon, sigma * (1 - 1e-8))


def is_least_epsilon(epsilon, sigma, delta):
    """Does ε hold at δ, and none that is a 10⁻⁸th smaller?"""
    return exact_delta(epsilon, sigma) <= delta < exact_delta(epsilon * (1 - 1e-8), sigma)


@pytest.mark.parametrize("epsilon", [0.1, 0.7, 1, 8, 150, 2000, 5000, 200_000])
@pytest.mark.parametrize("delta", [1e-12, DELTA, 1e-5, 0.1])
def test_gaussian_sigma_is_the_least_one(epsilon, delta):
    sigma = privacy.gaussian_sigma(epsilon, delta)
    assert is_least_sigma(sigma, epsilon, delta)
    assert sigma == pytest.approx(get_sigma_gaussian(epsilon, delta), rel=1e-6)
    assert not is_least_sigma(0.999 * sigma, epsilon, delta)
    assert not is_least_sigma(1.001 * sigma, epsilon, delta)


@pytest.mark.parametrize("sigma", [1e-5, 1e-3, 0.017, 0.3, 1, 4, 1e3])
@pytest.mark.parametrize("delta", [1e-12, DELTA, 1e-3])
def test_gaussian_epsilon_is_the_least_one(sigma, delta):
    epsilon = privacy.gaussian_epsilon(sigma, delta)
    if exact_delta(0, sigma) <= delta:
        assert epsilon == 0
        return
    assert is_least_epsilon(epsilon, sigma, delta)
    assert epsilon == pytest.approx(get_epsilon_gaussian(sigma, delta), rel=1e-6)


@pytest.mark.parametrize(
    "delta, expected_zero", [(1e-12, False), (3e-7, False), (5e-7, True), (0.1, True)]
)
def test_gaussian_epsilon_of_huge_noise(delta, expected_zero):
    epsilon = privacy.gaussian_epsilon(1e6, delta)
    assert (epsilon == 0) is expected_zero
    assert exact_delta(epsilon, 1e6) <= delta
    assert expected_zero or is_least_epsilon(epsilon, 1e6, delta)


def test_known_values_of_the_first_report():
    for epsilon, sigma in [(150, 0.0750), (2000, 0.0170), (5000, 0.01048)]:
        assert privacy.gaussian_sigma(epsilon, DELTA) == pytest.approx(sigma, rel=2e-3)
    textbook = privacy.textbook_sigma(2000, DELTA)
    assert textbook == pytest.approx(0.0026, rel=2e-3)
    assert privacy.gaussian_epsilon(textbook, DELTA) == pytest.approx(75_000, rel=0.01)
    assert not is_least_sigma(textbook, 2000, DELTA)


def test_sensitivity_scales_the_noise():
    assert privacy.gaussian_sigma(3, 1e-5, 1.4) == pytest.approx(
        1.4 * privacy.gaussian_sigma(3, 1e-5)
    )
    assert privacy.textbook_sigma(3, 1e-5, 1.4) == pytest.approx(
        1.4 * privacy.textbook_sigma(3, 1e-5)
    )
    assert privacy.gaussian_epsilon(0.5, 1e-5, 2) == pytest.approx(
        privacy.gaussian_epsilon(0.25, 1e-5)
    )


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.5, 2, 1e4])
@pytest.mark.parametrize("epsilon", [-2000, -75, -1, 0, 1e-3, 1, 75, 2000])
def test_hockey_stick_at_any_sign(epsilon, sigma):
    expected = float(exact_delta(epsilon, sigma))
    assert privacy.gaussian_hockey_stick(epsilon, sigma) == pytest.approx(
        expected, rel=1e-9, abs=1e-300
    )
    assert privacy.gaussian_hockey_stick(epsilon, 3 * sigma, 3) == pytest.approx(
        expected, rel=1e-9, abs=1e-300
    )


@pytest.mark.parametrize(("sigma", "epsilon"), [(1.25e11, -1.03e-11), (1e7, -3e-8), (1e4, -1e-4)])
def test_hockey_stick_does_not_cancel_just_below_zero(sigma, epsilon):
    expected = float(exact_delta(epsilon, sigma))
    assert privacy.gaussian_hockey_stick(epsilon, sigma) == pytest.approx(expected, rel=1e-9)


def test_gaussian_epsilon_is_not_below_the_truth_where_delta_covers_nearly_all():
    """It was 6.285778e-15 where the truth is 6.285782e-15."""
    sigma, delta = 33906.04190534619, 1.1766111815531847e-05
    assert exact_delta(privacy.gaussian_epsilon(sigma, delta), sigma) <= mpmath.mpf(delta)


@pytest.mark.parametrize(
    "call",
    [
        lambda: privacy.gaussian_sigma(0, 1e-5),
        lambda: privacy.gaussian_sigma(1, 0),
        lambda: privacy.gaussian_sigma(1, 1),
        lambda: privacy.gaussian_epsilon(-1, 1e-5),
        lambda: privacy.gaussian_epsilon(1, 1e-5, 0),
        lambda: privacy.dp_sgd_epsilon(1, 1.1, 10, 1e-5),
        lambda: privacy.rdp_epsilon(1, 0.1, 10, 0),
        lambda: privacy.dp_sgd_noise(0, 0.1, 10, 1e-5),
        lambda: privacy.randomized_response(1, 1),
        lambda: privacy.gaussian_sigma(math.nan, 1e-5),
        lambda: privacy.rdp_epsilon(math.nan, 0.1, 10, 1e-5),
        lambda: privacy.sample_randomized_response(np.array([10]), 1, 10, np.random.default_rng(0)),
    ],
)
def test_values_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match="needs"):
        call()


# --- DP-SGD ---------------------------------------------------------------------------------------

SETTINGS = [  # (noise multiplier, sample rate, steps, δ), 50 of them
    *[
        (noise, rate, steps, 1e-5)
        for noise in (1.3, 1.8, 2.5, 4.0, 6.0)
        for rate, steps in [
            (0.00512, 1950),
            (0.01, 500),
            (0.01, 5000),
            (0.02, 1000),
            (0.05, 60),
            (0.05, 600),
            (0.1, 200),
            (0.3, 30),
        ]
    ],
    (0.5, 0.01, 200, 1e-5),
    (0.7, 0.05, 100, 1e-6),
    (0.9, 0.01, 1000, 1e-9),
    (1.0, 0.2, 100, 1e-8),
    (1.0, 256 / 50_000, 1950, 1e-5),
    (1.2, 0.00427, 7000, 1e-4),
    (2.0, 0.2, 2000, 1e-7),
    (5.0, 0.3, 3000, 1e-5),
    (8.0, 0.05, 20_000, 1e-6),
    (20.0, 0.5, 10_000, 1e-5),
]

PLANTED = {  # an accountant that makes this mistake, in terms of a correct one
    "sample rate halved": lambda noise, rate, steps, delta: (noise, rate / 2, steps, delta),
    "σ 10 % too large": lambda noise, rate, steps, delta: (1.1 * noise, rate, steps, delta),
    "steps halved": lambda noise, rate, steps, delta: (noise, rate, steps // 2, delta),
    "shuffled batches": lambda noise, rate, steps, delta: (
        noise,
        1.0,
        max(1, round(rate * steps)),
        delta,
    ),
    "δ ten times too large": lambda noise, rate, steps, delta: (noise, rate, steps, 10 * delta),
}


def default_pld(noise, rate, steps, delta):
    """ε by dp_accounting's PLD, all settings left at their defaults."""
    return (
        pld.from_gaussian_mechanism(noise, sampling_prob=rate)
        .self_compose(steps)
        .get_epsilon_for_delta(delta)
    )


@pytest.fixture(scope="module")
def spent():
    """For each setting, dp_accounting's ε and ours."""
    assert len(SETTINGS) == 50
    return {
        setting: (default_pld(*setting), privacy.dp_sgd_epsilon(*setting)) for setting in SETTINGS
    }


def agrees(epsilon, oracle):
    return oracle <= epsilon <= 1.01 * oracle


def test_dp_sgd_epsilon_is_never_below_dp_accounting_and_at_most_a_percent_above(spent):
    for setting, (oracle, ours) in spent.items():
        assert agrees(ours.epsilon, oracle), setting
        assert ours.accountant == "PLD (dp_accounting)", setting


def test_a_coarser_interval_agrees_too_and_says_so(spent):
    coarse = {setting: privacy.dp_sgd_epsilon(*setting, seconds=0.1) for setting in SETTINGS}
    assert all(agrees(coarse[setting].epsilon, oracle) for setting, (oracle, _) in spent.items())
    assert (
        sum("rounded up to multiples of 0.0" in result.accountant for result in coarse.values())
        >= 30
    )


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistakes_are_rejected_at_every_setting(spent, mistake):
    for setting, (oracle, _) in spent.items():
        wrong = privacy.dp_sgd_epsilon(*PLANTED[mistake](*setting), seconds=0.02)
        assert not agrees(wrong.epsilon, oracle), setting


@pytest.fixture(scope="module")
def opacus_brackets():
    """{setting: (lower, upper)}: what Opacus' PRV accountant proves, which shares no code with
    dp_accounting.
    """
    from opacus.accountants import PRVAccountant

    def bracket(noise, rate, steps, delta):
        accountant = PRVAccountant()
        accountant.history = [(noise, rate, steps)]
        error = {"delta_error": delta / 1000, "eps_error": 0.01}
        lower, _, upper = accountant._get_dprv(**error).compute_epsilon(delta, **error)
        return lower, upper

    return {setting: bracket(*setting) for setting in [*SETTINGS[1:40:5], *SETTINGS[40:45]]}


def within(epsilon, bracket):
    return bracket[0] <= epsilon <= 1.005 * bracket[1]


def test_opacus_prv_brackets_the_same_epsilon(spent, opacus_brackets):
    for setting, bracket in opacus_brackets.items():
        assert within(spent[setting][1].epsilon, bracket), setting


@pytest.mark.parametrize("mistake", PLANTED)
def test_opacus_prv_rejects_planted_mistakes(opacus_brackets, mistake):
    for setting, bracket in opacus_brackets.items():
        wrong = privacy.dp_sgd_epsilon(*PLANTED[mistake](*setting), seconds=0.02)
        assert not within(wrong.epsilon, bracket), setting


@pytest.mark.parametrize("noise, steps", [(100, 100_000), (3, 1000), (10, 10_000), (1, 100)])
@pytest.mark.parametrize("delta", [1e-7, 1e-10, 1e-12])
def test_never_below_the_exact_gaussian_where_dp_accounting_is(noise, steps, delta):
    exact = privacy.gaussian_epsilon(noise / math.sqrt(steps), delta)
    ours = privacy.dp_sgd_epsilon(noise, 1.0, steps, delta).epsilon
    # dp_accounting's own: 2.7 % below at (100, 100,000, 1e-12)
    assert exact * (1 - 1e-8) <= ours <= 1.15 * exact


@pytest.mark.parametrize(
    "noise, rate, steps", [(0.1, 0.01, 10_000), (1e-3, 1e-4, 1000), (0.3, 0.99, 100_000)]
)
def test_little_noise_is_accounted_more_coarsely_and_says_how(noise, rate, steps):
    result = privacy.dp_sgd_epsilon(noise, rate, steps, 1e-5, seconds=1.0)
    assert "multiples" in result.accountant
    assert (
        0.98
        <= result.epsilon / privacy.dp_sgd_epsilon(noise, rate, steps, 1e-5, seconds=0.2).epsilon
        <= 1
    )
    assert result.epsilon <= privacy.rdp_epsilon(noise, rate, steps, 1e-5)


@pytest.mark.parametrize("noise", [0.0285, 0.0293, 0.0297, 0.03])
def test_epsilon_above_700_where_dp_accounting_overflows(noise):
    exact, ours = (
        privacy.gaussian_epsilon(noise, 1e-5),
        privacy.dp_sgd_epsilon(noise, 1.0, 1, 1e-5, seconds=0.3),
    )
    assert exact <= ours.epsilon <= 1.002 * exact and ours.accountant.startswith("PLD")


def test_hardly_any_noise_leaves_the_renyi_bound():
    result = privacy.dp_sgd_epsilon(1e-5, 0.1, 1000, 1e-5)
    assert result == privacy.Spent(
        privacy.rdp_epsilon(1e-5, 0.1, 1000, 1e-5), "RDP, an upper bound"
    )
    assert math.isfinite(result.epsilon)


def test_nothing_released_and_no_noise():
    for count in (lambda *a: privacy.dp_sgd_epsilon(*a).epsilon, privacy.rdp_epsilon):
        assert count(1.0, 0.1, 0, 1e-5) == 0 and count(0.0, 0.0, 10, 1e-5) == 0
        assert count(0.0, 0.1, 10, 1e-5) == math.inf
    assert (
        privacy.odds_dp_sgd(0.0, 0.1, 1) == pytest.approx(0.55)
        and privacy.odds_dp_sgd(1.0, 0.1, 0) == 0.5
    )


def test_ten_million_steps_do_not_hang():
    assert privacy.dp_sgd_epsilon(5.0, 1e-3, 12_000_000, 1e-5).epsilon == pytest.approx(
        3.1, rel=0.1
    )


# --- the bound shown while it runs ----------------------------------------------------------------


def test_rdp_is_never_below_the_pld_and_near_it(spent):
    for setting, (oracle, ours) in spent.items():
        assert max(oracle, ours.epsilon) <= privacy.rdp_epsilon(*setting) <= 1.6 * oracle, setting


def exact_moment(noise, rate, order):
    """log E[(1 − q + q·e^((2z−1)/2σ²))^α], z ~ N(0, σ²), by mpmath's own quadrature of what is
    above 1.
    """
    noise, rate, order = (mpmath.mpf(x) for x in (noise, rate, order))

    def density(z):
        return mpmath.exp(-(z**2) / (2 * noise**2)) / (noise * mpmath.sqrt(2 * mpmath.pi))

    def ratio(z):
        return 1 - rate + rate * mpmath.exp((2 * z - 1) / (2 * noise**2))

    turn = 0.5 + noise**2 * mpmath.log(1 / rate - 1)
    first, last = -14 * noise, order + 14 * noise
    around = {turn - 3 * noise**2, turn, turn + 3 * noise**2}
    ends = around | {first, -5 * noise, mpmath.mpf(0), 5 * noise, order, last}
    inside = sorted(end for end in ends if first <= end <= last)
    return mpmath.log1p(mpmath.quad(lambda z: density(z) * (ratio(z) ** order - 1), inside))


USUAL = [(0.06, 0.01), (0.4, 0.05), (1.0, 0.01), (4.0, 0.3)]
STRONG = [(500.0, 64 / 202_599), (2000.0, 0.001), (1e6, 1e-6), (1.0, 1e-9)]  # a moment rounds to 1


@pytest.mark.parametrize("noise, rate", [*USUAL, *STRONG])
def test_one_step_at_any_order_against_mpmath(noise, rate):
    """Never below the truth, and above it by a few parts in 10⁹ only."""
    step = renyi._one_step(noise, rate)
    with mpmath.workdps(38):
        for index in (0, 60, 80, 95):
            order = float(privacy.ORDERS[index])
            truth = exact_moment(noise, rate, order) / (order - 1)
            assert 1 <= step[index] / truth <= 1 + 3e-9, order


def test_convexity_bounds_the_quadrature():
    for rate in (1e-4, 0.01, 0.5):
        assert (renyi._convexity(0.06, rate) >= renyi._quadrature(0.06, rate)).all()


@pytest.mark.parametrize(
    "noise, rate, steps",
    [(1.0, 0.00512, 1950), (0.6, 0.05, 600), (3.0, 0.3, 30), (8.0, 0.05, 20_000)],
)
def test_rdp_against_dp_accounting_and_opacus(noise, rate, steps):
    import dp_accounting
    from opacus.accountants.analysis import rdp as opacus_rdp

    accountant = dp_accounting.rdp.RdpAccountant(privacy.INTEGER.tolist())
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    ours = privacy.rdp_epsilon(noise, rate, steps, 1e-5)
    assert 0.9 <= ours / accountant.get_epsilon(1e-5) <= 1 + 3e-9  # ours has fractional orders too
    orders = privacy.INTEGER[privacy.INTEGER < 300].tolist()  # above about 1,000 Opacus gives nan
    theirs = opacus_rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)
    mine = renyi._one_step(noise, rate)[len(privacy.FRACTIONAL) :][: len(orders)]
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_moments_are_computed_once_for_all_steps():
    privacy.rdp_epsilon(1.1, 0.01, 100, 1e-5)
    computed = renyi._one_step.cache_info().misses
    for steps in range(100, 200):
        privacy.rdp_epsilon(1.1, 0.01, steps, 1e-5)
    assert renyi._one_step.cache_info().misses == computed


# --- noise for a wanted ε -------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("rate, steps, delta", [(256 / 50_000, 1950, 1e-5), (0.2, 400, 1e-5)])
def test_dp_sgd_noise_meets_the_target_from_below(target, rate, steps, delta):
    noise = privacy.dp_sgd_noise(target, rate, steps, delta)
    assert 0.995 * target <= privacy.dp_sgd_epsilon(noise, rate, steps, delta).epsilon <= target
    assert privacy.dp_sgd_epsilon(0.98 * noise, rate, steps, delta, seconds=0.3).epsilon > target


@pytest.mark.parametrize(
    "target, rate, steps, delta",
    full_unless(
        lambda target, *_: target <= 1.0,
        [
            (2.0, 1e-4, 1, 1e-6),
            (1000.0, 0.2, 400, 1e-5),
            (0.1, 1.0, 1000, 1e-5),
            (3.0, 1e-3, 100_000, 1e-6),
            (1.0, 0.01, 1000, 1e-11),
        ],
    ),
)
def test_dp_sgd_noise_at_the_edges(target, rate, steps, delta):
    noise = privacy.dp_sgd_noise(target, rate, steps, delta)
    assert 0.995 * target <= privacy.dp_sgd_epsilon(noise, rate, steps, delta).epsilon <= target


def test_dp_sgd_noise_that_cannot_be_or_need_not_be():
    with pytest.raises(
        privacy.Unreachable,
        match="ε = 0.01 is out of reach: even a noise multiplier of 1000 spends",
    ):
        privacy.dp_sgd_noise(0.01, 0.5, 100_000, 1e-5)
    assert issubclass(privacy.Unreachable, ValueError)
    assert privacy.dp_sgd_noise(1.0, 0.1, 0, 1e-5) == 0
    # an image is drawn less often than δ
    assert privacy.dp_sgd_noise(1.0, 0.01, 1, 0.02) == pytest.approx(0.01)


# --- odds -----------------------------------------------------------------------------------------


def consistent(odds, right, n):
    """Could `right` of n guesses come from these odds? Two-sided, wrong once in a million."""
    return stats.binomtest(int(right), n, odds).pvalue > 1e-6


def attack(losses_with, losses_without):
    """Correct guesses of the likelihood ratio attacker, who says "in" where the privacy loss is
    above 0.
    """
    return (losses_with > 0).sum() + (losses_without <= 0).sum()


@pytest.mark.parametrize(
    "epsilon, delta", [(0, 0), (0.1, 1e-5), (8, 1e-3), (700, 0), (1e5, 0.1), (2, 1)]
)
def test_odds_any_against_mpmath(epsilon, delta):
    grown = mpmath.exp(epsilon)
    assert privacy.odds_any(epsilon, delta) == pytest.approx(
        float((grown + delta) / (1 + grown)), rel=1e-14
    )


def test_odds_gaussian_are_what_the_best_attacker_reaches():
    rng, n, sigma, sensitivity = np.random.default_rng(1), 400_000, 1.7, 1.4

    def loss(x):
        return (sensitivity * x - sensitivity**2 / 2) / sigma**2

    right = attack(
        loss(sensitivity + sigma * rng.standard_normal(n // 2)),
        loss(sigma * rng.standard_normal(n // 2)),
    )
    assert consistent(privacy.odds_gaussian(sigma, sensitivity), right, n)
    assert not consistent(privacy.odds_gaussian(0.9 * sigma, sensitivity), right, n)
    assert privacy.odds_gaussian(0) == 1 and privacy.odds_gaussian(1e-5) == 1
    assert privacy.odds_gaussian(1e9) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "noise, rate, steps",
    full_unless(lambda noise, *_: noise == 2.0, [(0.8, 0.3, 10), (0.5, 0.02, 30), (2.0, 0.2, 100)]),
)
def test_odds_dp_sgd_are_what_the_best_attacker_reaches(noise, rate, steps):
    rng, n = np.random.default_rng(2), 200_000

    def losses(drawn):  # privacy loss of all steps, the image's clipped gradient being 1
        total = np.zeros(n // 2)
        for _ in range(steps):
            x = drawn * (rng.random(n // 2) < rate) + noise * rng.standard_normal(n // 2)
            total += np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
        return total

    right = attack(losses(1), losses(0))
    assert consistent(privacy.odds_dp_sgd(noise, rate, steps), right, n)
    for wrong in [
        (noise / 1.1, rate, steps),
        (noise, rate / 1.1, steps),
        (noise, rate, steps * 2),
        (noise, 1.0, round(rate * steps)),
    ]:
        assert not consistent(privacy.odds_dp_sgd(*wrong), right, n)


def test_the_odds_that_the_design_promises():
    setting = (1.0, 256 / 50_000, 1950)
    epsilon = privacy.dp_sgd_epsilon(*setting, 1e-5).epsilon
    assert round(100 * privacy.odds_any(epsilon, 1e-5)) == 77
    assert round(100 * privacy.odds_dp_sgd(*setting)) == 56


def test_odds_dp_sgd_without_sampling_are_the_gaussian_ones_and_never_above_being_drawn():
    assert privacy.odds_dp_sgd(10.0, 1.0, 25) == privacy.odds_gaussian(2.0)
    assert privacy.odds_dp_sgd(0.01, 0.001, 1) == pytest.approx(0.5005, rel=1e-6)
    assert privacy.odds_dp_sgd(1e-5, 0.001, 100) == pytest.approx((2 - 0.999**100) / 2)


def test_tradeoff_curves():
    alpha, mu = np.linspace(0, 1, 20_001), 1.3
    curve = privacy.tradeoff_gaussian(alpha, mu)
    assert 1 - ((alpha + curve) / 2).min() == pytest.approx(privacy.odds_gaussian(1 / mu), abs=1e-8)
    assert curve[0] == 1 and curve[-1] == 0 and (np.diff(curve) <= 0).all()
    # every (ε, δ(ε)) supports the curve from below and touches it (Dong et al. 2019)
    for epsilon in (0.0, 0.5, 3.0):
        below = privacy.tradeoff_any(alpha, epsilon, privacy.gaussian_hockey_stick(epsilon, 1 / mu))
        assert (below <= curve + 1e-12).all() and (curve - below).min() < 1e-6
        assert not (privacy.tradeoff_any(alpha, epsilon, 0.0) <= curve).all()
    any_curve = privacy.tradeoff_any(alpha, 2.0, 0.01)
    assert 1 - ((alpha + any_curve) / 2).min() == pytest.approx(
        privacy.odds_any(2.0, 0.01), abs=1e-4
    )
    assert np.isfinite(privacy.tradeoff_any(alpha, 5000.0, 1e-5)).all()


# --- randomised response --------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0, 0.5, 3, 40, 75, 700])
@pytest.mark.parametrize("k", [2, 10])
def test_randomized_response_against_mpmath(epsilon, k):
    response, grown = privacy.randomized_response(epsilon, k), mpmath.exp(epsilon)
    assert response.keep == pytest.approx(float(grown / (grown + k - 1)), rel=1e-14)
    assert response.other == pytest.approx(float(1 / (grown + k - 1)), rel=1e-14)
    assert response.flip == pytest.approx(float((k - 1) / (grown + k - 1)), rel=1e-14)
    odds = (1 + (grown - 1) / (grown + k - 1)) / 2
    assert privacy.odds_randomized_response(epsilon, k) == pytest.approx(float(odds), rel=1e-14)


def test_randomized_response_of_the_first_report_is_not_lost_to_rounding():
    response = privacy.randomized_response(75, 10)
    assert response.keep == 1.0 and response.flip == pytest.approx(9 * math.exp(-75))
    assert math.log(response.keep / response.other) == pytest.approx(75)
    assert privacy.randomized_response(math.inf, 10) == privacy.RandomizedResponse(1.0, 0.0, 0.0)
    assert privacy.randomized_response(5000, 10).keep == 1.0


def test_sampled_labels_follow_the_probabilities():
    rng, n, k, epsilon = np.random.default_rng(3), 200_000, 10, 2.0
    labels = rng.integers(0, k, n).astype(np.uint8)
    private = privacy.sample_randomized_response(labels, epsilon, k, rng)
    assert private.dtype == labels.dtype and private.shape == labels.shape and private.max() < k
    shift = np.bincount((private.astype(int) - labels) % k, minlength=k)

    def p_value(epsilon):
        response = privacy.randomized_response(epsilon, k)
        return stats.chisquare(
            shift, n * np.array([response.keep] + [response.other] * (k - 1))
        ).pvalue

    assert p_value(epsilon) > 1e-4
    # "or any of the k"
    assert p_value(epsilon / 1.05) < 1e-6 and p_value(epsilon + math.log(k / (k - 1))) < 1e-6


def test_sampled_labels_keep_their_shape_and_seed():
    def draw(labels, epsilon):
        return privacy.sample_randomized_response(labels, epsilon, 10, np.random.default_rng(0))

    assert draw(np.array(3), 1e4) == 3 and draw(np.zeros((0,), int), 1.0).shape == (0,)
    labels = np.arange(10).repeat(5).reshape(5, 10)
    assert (draw(labels, 1.0) == draw(labels, 1.0)).all() and (draw(labels, 1.0) != labels).any()
    assert (draw(labels, 75) == labels).all()


def pair_pld(sigma, label_epsilon, k, interval=1e-4):
    """dp_accounting's PLD of image and label together: 1 unit of image, one label for another."""
    image = pld.from_gaussian_mechanism(sigma, value_discretization_interval=interval)
    # its parameter: the chance of "any of the k"
    noise = k * privacy.randomized_response(label_epsilon, k).other
    label = pld.from_randomized_response(
        noise,
        k,
        value_discretization_interval=interval,
        neighboring_relation=NeighboringRelation.REPLACE_ONE,
    )
    return image.compose(label)


@pytest.mark.parametrize(
    "sigma, label_epsilon, k",
    [(1.0, 1.0, 10), (0.4, 0.5, 2), (3.0, 4.0, 10), (1.0, 0.1, 100), (2.0, 5, 10)],
)
def test_odds_pair_against_dp_accounting(sigma, label_epsilon, k):
    composed = pair_pld(sigma, label_epsilon, k)
    oracle = (1 + composed.get_delta_for_epsilon(0.0)) / 2

    def agree(odds):
        return oracle - 1e-4 <= odds <= oracle + 1e-9

    assert agree(privacy.odds_pair(3 * sigma, 3, label_epsilon, k))
    assert not agree(privacy.odds_pair(0.9 * sigma, 1, label_epsilon, k))
    assert not agree(privacy.odds_pair(1e6, 1, label_epsilon, k))  # the image forgotten
    total = privacy.pair_epsilon(privacy.gaussian_epsilon(sigma, 1e-5), label_epsilon)
    assert composed.get_epsilon_for_delta(1e-5) <= total + 1e-3


def test_odds_pair_are_what_the_best_attacker_reaches():
    rng, n, sigma, epsilon, k = np.random.default_rng(4), 400_000, 1.5, 1.2, 10

    def losses(own, other, shift):
        label = privacy.sample_randomized_response(np.full(n // 2, own), epsilon, k, rng)
        x = shift + sigma * rng.standard_normal(n // 2)
        first = epsilon * ((label == 3).astype(float) - (label == 7))
        return first + (2 * x - 1) / (2 * sigma**2)

    right = attack(losses(3, 7, 1.0), losses(7, 3, 0.0))
    assert consistent(privacy.odds_pair(sigma, 1, epsilon, k), right, n)
    for wrong in [
        (0.9 * sigma, epsilon, k),
        (sigma, 1.1 * epsilon, k),
        (sigma, epsilon, 8),
        (1e6, epsilon, k),
    ]:
        assert not consistent(privacy.odds_pair(wrong[0], 1, *wrong[1:]), right, n)


def test_odds_pair_at_the_ends():
    assert privacy.odds_pair(1.3, 1, 0.0, 10) == pytest.approx(privacy.odds_gaussian(1.3))
    assert privacy.odds_pair(1e7, 1, 2.0, 10) == pytest.approx(
        privacy.odds_randomized_response(2.0, 10), abs=1e-6
    )
    assert privacy.odds_pair(0.0026, 1, 75, 10) == pytest.approx(1)
    assert privacy.odds_pair(1, 1, 5000, 10) == pytest.approx(1)


# --- words, and what the web process imports ------------------------------------------------------


def test_delta_warning():
    assert privacy.delta_warning(1e-5, 60_000) is None
    assert privacy.delta_warning(1 / 5000, 5000).startswith("δ = 0.0002 is not below 1 in 5,000")
    assert privacy.delta_warning(0.1, 5000).endswith("choose δ well below 0.0002.")


def test_importing_it_loads_no_heavy_library():
    code = (
        "import sys, engine.privacy; print([m for m in ('torch', 'opacus', 'dp_accounting') if m in"
        " sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True
        ).stdout.strip()
        == "[]"
    )


# --- DP-SGD and one Gaussian release besides ------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "release"),
    [(1.0, 0.025, 240, 10.0), (0.8, 0.02, 600, 3.0), (5.0, 1.0, 40, 2.0)],
)
def test_a_release_beside_dp_sgd_is_composed_as_dp_accounting_does(noise, rate, steps, release):
    import dp_accounting

    oracle = dp_accounting.pld.PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    oracle.compose(
        dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)), steps
    )
    oracle.compose(dp_accounting.GaussianDpEvent(release))
    exact, found = (
        oracle.get_epsilon(DELTA),
        privacy.dp_sgd_epsilon(noise, rate, steps, DELTA, release_noise=release).epsilon,
    )
    assert exact <= found <= 1.001 * exact
    assert found > privacy.dp_sgd_epsilon(noise, rate, steps, DELTA).epsilon  # never free
    assert privacy.rdp_epsilon(noise, rate, steps, DELTA, release) >= exact
    odds = privacy.odds_dp_sgd(noise, rate, steps, release_noise=release)
    assert (
        max(privacy.odds_dp_sgd(noise, rate, steps), privacy.odds_gaussian(release))
        <= odds
        <= privacy.odds_any(found, DELTA)
    )


def test_the_noise_for_a_budget_leaves_room_for_the_release():
    noise = privacy.dp_sgd_noise(4.0, 0.02, 300, DELTA, release_noise=4.0)
    assert 3.97 < privacy.dp_sgd_epsilon(noise, 0.02, 300, DELTA, release_noise=4.0).epsilon <= 4.0
    assert noise > privacy.dp_sgd_noise(4.0, 0.02, 300, DELTA)
    with pytest.raises(privacy.Unreachable, match="noise multiplier 1 alone spends"):
        privacy.dp_sgd_noise(2.0, 0.02, 300, DELTA, release_noise=1.0)
    with pytest.raises(ValueError):
        privacy.dp_sgd_epsilon(1.0, 0.02, 300, DELTA, release_noise=0.0)


# --- areas under ROC curves -----------------------------------------------------------------------

PROMISED = [(0.0, 0.0), (0.5, 1e-5), (2.0, 0.05), (7.988, 1e-5), (800.0, 1e-5), (1.0, 1.0)]


@pytest.mark.parametrize("epsilon, delta", PROMISED)
def test_the_area_of_any_method_is_the_integral_of_its_curve(epsilon, delta):
    alarms = np.linspace(0, 1, 2_000_001)
    missed = privacy.tradeoff_any(alarms, epsilon, delta)
    area = privacy.area_any(epsilon, delta)
    assert area == pytest.approx(1 - np.trapezoid(missed, alarms), abs=1e-6)
    assert area >= privacy.odds_any(epsilon, delta) - 1e-12  # the best guess is on the curve


@pytest.mark.parametrize("mu", [0.0, 0.1, 1.0, 3.0])
def test_the_area_of_a_gaussian_release_is_known(mu):
    alarms = np.linspace(0, 1, 200_001)
    missed = np.trapezoid(privacy.tradeoff_gaussian(alarms, mu), alarms)
    assert privacy.area_gaussian(mu) == pytest.approx(1 - missed, abs=1e-5)
    if mu:
        area = privacy.area_dp_sgd(10 / mu, 1.0, 100)  # steps of a tenth: one Gaussian release
        assert privacy.area_gaussian(mu) <= area <= privacy.area_gaussian(mu) + 2e-3
        both = privacy.area_dp_sgd(10 / mu, 1.0, 100, 1 / mu)
        exact = privacy.area_gaussian(mu * math.sqrt(2))
        assert exact <= both <= exact + 2e-3


def test_the_area_of_dp_sgd_lies_above_its_odds_and_no_simulated_attack_beats_it():
    rng, sigma, q, steps, n = np.random.default_rng(0), 1.0, 0.2, 30, 40_000

    def score(x):
        return np.log1p(q * np.expm1((2 * x - 1) / (2 * sigma**2))).sum(1)

    def noise():
        return sigma * rng.normal(size=(n, steps))

    out, inside = score(noise()), score(noise() + (rng.random((n, steps)) < q))
    found = stats.mannwhitneyu(inside, out).statistic / n**2
    area, odds = privacy.area_dp_sgd(sigma, q, steps), privacy.odds_dp_sgd(sigma, q, steps)
    assert odds + 0.04 < found < area < found + 0.02  # the odds are no bound on an area
    assert privacy.area_dp_sgd(0.0, 0.1, 200) == 1
    assert privacy.area_dp_sgd(1.0, 0.1, 0) == pytest.approx(0.5, abs=1e-9)


# --- DP-SGD's own trade-off curve -----------------------------------------------------------------

ALARMS = np.geomspace(1e-4, 0.999, 60)


def test_without_sampling_the_tradeoff_is_the_gaussians():
    """q = 1: T steps are one Gaussian release of μ = √T/σ; the curve may only lie below it, and
    hardly does.
    """
    found, exact = (
        privacy.tradeoff_dp_sgd(ALARMS, 20.0, 1.0, 400),
        privacy.tradeoff_gaussian(ALARMS, 1.0),
    )
    assert (found <= exact + 1e-9).all() and (found >= exact - 5e-3).all()
    both = privacy.tradeoff_dp_sgd(ALARMS, 20.0, 1.0, 400, release_noise=2.0)
    exact = privacy.tradeoff_gaussian(ALARMS, math.sqrt(1.25))
    assert (both <= exact + 1e-9).all() and (both >= exact - 5e-3).all()


def test_the_tradeoff_agrees_with_the_odds_and_with_epsilon():
    curve = privacy.tradeoff_dp_sgd(np.linspace(0, 1, 2001), 1.2, 0.1, 200)
    alarms = np.linspace(0, 1, 2001)
    assert float((1 - curve - alarms).max() + 1) / 2 == pytest.approx(
        privacy.odds_dp_sgd(1.2, 0.1, 200), abs=2e-3
    )
    epsilon = privacy.dp_sgd_epsilon(1.2, 0.1, 200, 1e-5).epsilon
    assert (curve >= privacy.tradeoff_any(alarms, epsilon, 1e-5) - 1e-3).all()
    assert (privacy.tradeoff_dp_sgd(alarms, 0.0, 0.1, 200) == 0).all() and (
        privacy.tradeoff_dp_sgd(alarms, 1.0, 0.1, 0) == 1 - alarms
    ).all()


@pytest.mark.full
def test_no_attack_on_simulated_dp_sgd_beats_the_curve():
    """The likelihood-ratio attack on two simulated worlds: below the curve's power, and near it; a
    curve of twice the noise is beaten.
    """
    rng, sigma, q, steps, n = np.random.default_rng(0), 1.5, 0.2, 30, 40_000

    def score(x):
        return np.log1p(q * np.expm1((2 * x - 1) / (2 * sigma**2))).sum(1)

    def noise():
        return sigma * rng.normal(size=(n, steps))

    out, inside = np.sort(score(noise())), score(noise() + (rng.random((n, steps)) < q))
    for alarm in (0.01, 0.05, 0.2, 0.5):
        missed = (inside <= out[int((1 - alarm) * n)]).mean()
        bound = float(privacy.tradeoff_dp_sgd(np.array(alarm), sigma, q, steps))
        assert bound - 0.015 < missed < bound + 0.06
        assert missed < float(privacy.tradeoff_dp_sgd(np.array(alarm), 2 * sigma, q, steps))
