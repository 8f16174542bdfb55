"""Several trainings at once: the same results as alone, under their own keys, kept when the rest is
stopped; and what all of them spend.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine import privacy
from engine.core.errors import Failed
from engine.core.lab import Lab, load
from engine.core.study import Phase, Point, Refused, key
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.ensemble import Ensemble, composed
from tests.conftest import finish

MEMBERS = tuple(DPTraining(noise_multiplier=sigma, epochs=3) for sigma in (1.0, 2.0, 4.0, 8.0))


def test_members_are_stored_under_their_own_keys_as_if_they_had_run_alone(store, tmp_path):
    from cache import Store

    events, _ = finish(Lab(store).need(Ensemble(members=MEMBERS)))
    alone = Lab(Store(tmp_path / "alone"))
    for number, member in enumerate(MEMBERS):
        found, expected = load(store, key(member)), finish(alone.need(member))[1]
        # sums over one core or two round differently
        assert np.mean(found.arrays["predictions"] == expected.arrays["predictions"]) > 0.995
        assert (
            found.guarantee == expected.guarantee
            and found.metrics["noise_multiplier"] == expected.metrics["noise_multiplier"]
        )
        points = [
            (e.x, e.y)
            for e in events
            if isinstance(e, Point) and e.curve == f"{number}:test_accuracy"
        ]
        assert points == found.curves["test_accuracy"]
    shares = [e.done / e.total for e in events if isinstance(e, Phase) and "trained" in e.name]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_members_draw_their_own_batches_and_noise(store):
    baselines = tuple(DPTraining(noise_multiplier=4.0, epochs=2, seed=seed) for seed in range(4))
    finish(Lab(store).need(Ensemble(members=baselines)))
    losses = {load(store, key(member)).metrics["train_loss"] for member in baselines}
    assert len(losses) == 4


def test_a_sweep_that_is_stopped_at_half_goes_on_where_it_was(store):
    members = tuple(
        DPTraining(noise_multiplier=sigma, epochs=3, seed=7) for sigma in np.geomspace(1, 10, 6)
    )
    run = Ensemble(members=members).run(Lab(store))
    while sum(key(member) in store for member in members) < 3:
        next(run)
    run.close()
    kept = {
        member.noise_multiplier: load(store, key(member)).made["finished"]
        for member in members
        if key(member) in store
    }
    assert 3 <= len(kept) < 6
    events, _ = finish(Ensemble(members=members).run(Lab(store)))
    trained = {int(e.curve.split(":")[0]) for e in events if isinstance(e, Point)}
    assert trained == {i for i, member in enumerate(members) if member.noise_multiplier not in kept}
    assert all(
        load(store, key(member)).made["finished"] == kept[member.noise_multiplier]
        for member in members
        if member.noise_multiplier in kept
    )


def test_one_that_fails_costs_none_of_the_others(store):
    members = (MEMBERS[0], DPTraining(noise_multiplier=1.0, batch_size=9000), MEMBERS[1])
    with pytest.raises(
        Failed, match="1 of 3 could not be trained; the others are kept. batch_size: 9000"
    ):
        finish(Lab(store).need(Ensemble(members=members)))
    assert key(MEMBERS[0]) in store and key(MEMBERS[1]) in store


def test_a_sweep_of_nothing_is_refused():
    with pytest.raises((Refused, ValueError), match="at least one must be"):
        Ensemble(members=())


class Careless(DPTraining):
    """Draws by the seed alone, as they were before a review."""

    def stream_name(self):
        return ""


@pytest.mark.parametrize("kind", [DPTraining, Careless])
def test_one_member_less_another_still_holds_noise(kind, store):
    """Two noised means, weighed so that shared noise would cancel: with draws of their own nothing
    comes near the true sum; the planted error is found.
    """
    import torch

    from engine.datasets import registry
    from engine.learning.features import longest
    from engine.learning.linear import LinearTraining
    from engine.studies.shared.features import Features

    _, rows = finish(Lab(store).need(Features()))
    images, (few, many) = (
        registry.load("mnist-5k"),
        (
            kind(noise_multiplier=2.0),
            kind(noise_multiplier=8.0),
        ),
    )
    plans = [member.plan(4000) for member in (few, many)]
    means = [
        LinearTraining(
            plan, images, torch.device("cpu"), rows.arrays["train"], rows.arrays["test"]
        ).mean.double()
        for member, plan in zip((few, many), plans)
    ]
    a, b = (plan.mechanism.release_noise for plan in plans)
    truth = torch.tensor(rows.arrays["train"].astype(np.float64).mean(0))
    off = float(((b * means[0] - a * means[1]) / (b - a) - truth).norm()) * 4000
    alone = a * longest(3969) * 3969**0.5  # how far the less noised one is off by itself
    assert (off < 0.01 * alone) == (kind is Careless) and (off > 0.9 * alone) == (
        kind is DPTraining
    )


def test_the_promise_of_all_is_at_the_visitors_delta(store):
    members = (
        MEMBERS[0].baseline(),
        DPTraining(noise_multiplier=8.0, epochs=3, delta=1e-7),
        DPTraining(noise_multiplier=6.0, epochs=3, delta=1e-7),
    )
    _, result = finish(Lab(store).need(Ensemble(members=members)))
    assert result.guarantee.delta == 1e-7
    assert result.guarantee.epsilon > max(
        load(store, key(member)).guarantee.epsilon for member in members[1:]
    )
    assert (
        0.5 < result.guarantee.odds_mechanism < result.guarantee.odds_any
        and "seed is known" in result.guarantee.note
    )


# --- what all of them spend -----------------------------------------------------------------------


def test_twice_the_same_run_spends_what_one_of_twice_the_steps_does():
    one, two = (2.0, 0.05, 200, None), (2.0, 0.05, 400, None)
    both = privacy.dp_sgd_epsilon_of_all((one, one), 1e-5).epsilon
    exact = privacy.dp_sgd_epsilon(*two[:3], 1e-5).epsilon
    assert exact <= both <= 1.01 * exact
    assert privacy.dp_sgd_epsilon_of_all((one,), 1e-5).epsilon == pytest.approx(
        privacy.dp_sgd_epsilon(*one[:3], 1e-5).epsilon, rel=0.005
    )
    assert both > 1.2 * privacy.dp_sgd_epsilon(*one[:3], 1e-5).epsilon


def test_different_runs_together_against_dp_accounting():
    import dp_accounting
    from dp_accounting import pld

    runs = ((1.2, 0.1, 100, 8.0), (3.0, 0.02, 500, None))
    accountant = pld.PLDAccountant()
    for noise, rate, steps, release in runs:
        accountant.compose(
            dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)), steps
        )
        if release:
            accountant.compose(dp_accounting.GaussianDpEvent(release))
    expected = accountant.get_epsilon(1e-5)
    found = privacy.dp_sgd_epsilon_of_all(runs, 1e-5).epsilon
    assert 0.9999 * expected <= found <= 1.01 * expected
    assert found < sum(
        privacy.dp_sgd_epsilon(*run[:3], 1e-5, release_noise=run[3]).epsilon for run in runs
    )


def test_one_without_noise_leaves_no_promise(store):
    assert (
        privacy.dp_sgd_epsilon_of_all(((0.0, 0.1, 10, None), (2.0, 0.1, 10, None)), 1e-5).epsilon
        == math.inf
    )
    results = [finish(Lab(store).need(member))[1] for member in MEMBERS[:2]]
    assert composed(MEMBERS[:2], results).epsilon > results[0].guarantee.epsilon
    lost = replace(results[0], guarantee=replace(results[0].guarantee, epsilon=None))
    assert composed(MEMBERS[:2], [lost, results[1]]).epsilon is None
