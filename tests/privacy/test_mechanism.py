"""A mechanism as one value: what is drawn by it and what is counted for it are the same."""

import math

import numpy as np
import pytest

from engine import privacy
from engine.privacy.mechanism import Mechanism
from engine.studies import guarantees

SOME = [Mechanism(1.1, 0.5, 0.01, 500), Mechanism(2.0, 1.0, 0.25, 40, release_noise=8.0)]


@pytest.mark.parametrize("mechanism", SOME, ids=str)
def test_it_is_counted_by_all_its_fields(mechanism):
    noise, rate, steps, release = mechanism.run
    spent = privacy.dp_sgd_epsilon(noise, rate, steps, 1e-5, release_noise=release)
    assert mechanism.spent(1e-5) == spent and 0 < spent.epsilon < math.inf
    half = mechanism.epsilon_after(steps // 2, 1e-5)
    assert half < mechanism.epsilon_after(steps, 1e-5) and mechanism.epsilon_after(steps, 1e-5) > (
        0.999 * spent.epsilon
    )
    assert 0.5 < mechanism.odds(1e-5) <= mechanism.odds_undrawn() <= 1
    alarms = np.array([0.01, 0.1, 0.5])
    assert (mechanism.tradeoff(alarms) <= 1 - alarms).all()


def test_noise_is_a_multiple_of_the_clip_norm():
    assert SOME[0].noise_std == pytest.approx(0.55) and SOME[0].clips and SOME[0].private


@pytest.mark.parametrize(
    ("mechanism", "clips"),
    [(Mechanism(0.0, math.inf, 0.1, 10), False), (Mechanism(0.0, 1.0, 0.1, 10), True)],
    ids=["neither clipped nor noised", "clipped and not noised"],
)
def test_without_noise_nothing_is_private(mechanism, clips):
    assert mechanism.clips == clips and not mechanism.private and mechanism.noise_std == 0.0


@pytest.mark.parametrize("mechanism", SOME, ids=str)
def test_the_guarantee_says_what_was_counted(mechanism):
    words = {"words": "w", "against": "a", "also_released": "r", "note": "n"}
    found = guarantees.subsampled_gaussian(mechanism, 1e-5, **words)
    assert found.epsilon == mechanism.spent(1e-5).epsilon and found.delta == 1e-5
    assert (found.sample_rate, found.steps) == (mechanism.sample_rate, mechanism.steps)
    assert found.odds_mechanism == mechanism.odds(1e-5) <= found.odds_any
    more = guarantees.subsampled_gaussian(mechanism, 1e-7, **words)
    assert more.epsilon > found.epsilon
    assert guarantees.nothing("why", "so").epsilon is None
