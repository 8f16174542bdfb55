"""What is no number is never a good score: not in a distance, a share of copies, an accuracy, a
bound on ε, a verdict or a choice.
"""

import math

import numpy as np
import pytest
import torch

from engine import privacy
from engine.attacks import lira, memorization
from engine.attacks.auditing import Canaries, MechanismAuditor
from engine.core.errors import Failed
from engine.evaluation import metrics
from engine.learning import networks
from engine.privacy import renyi
from engine.studies.clustering.iic import least_of
from engine.studies.dp_training.membership import check_finite
from engine.studies.fidelity import CONTROLS, fidelity
from engine.studies.gradient_sharing import federation
from engine.studies.noise.noisy_training import called
from pages.fidelity import verdict

BROKEN = [math.nan, math.inf, 1e200]


def broken(value, rows=40, seed=0):
    """(rows, 8) features of which a single entry is broken."""
    found = np.random.default_rng(seed).normal(size=(rows, 8)) + 1
    found[2, 2] = value
    return found


def sound(rows=50):
    return np.random.default_rng(1).normal(size=(rows, 8)) + 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("columns", [8, 4])
def test_a_broken_feature_gives_no_frechet_distance(value, columns):
    """It gave 0.0, the best there is."""
    few = (broken(value, 3), sound(3))
    for real, made in [(sound(), broken(value)), (broken(value), sound()), few]:
        assert math.isnan(metrics.frechet_distance(metrics.moments(real), metrics.moments(made)))
    whole = metrics.moments(sound())
    assert metrics.frechet_distance(whole, whole) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", BROKEN)
def test_a_broken_feature_gives_no_precision_no_recall_and_no_kernel_distance(value):
    """A point without end had a ball without end, which took in every real image: a recall of
    1.
    """
    with np.errstate(all="ignore"):
        found = metrics.precision_and_recall(sound(), broken(value))
        assert math.isnan(found.precision) or found.precision < 1
        assert math.isnan(found.recall) and not metrics.kernel_distance(sound(), broken(value)) < 1
    assert metrics.precision_and_recall(sound(), sound()).recall == 1


def test_mifid_of_what_is_no_number_is_none():
    """NaN was above no threshold: 0.0 by torchmetrics' rule, and unpunished by the paper's. A
    broken row was left out, as if it were black.
    """
    found = metrics.memorised(sound(), sound(30), math.nan)
    assert math.isnan(found.torchmetrics) and math.isnan(found.bai)
    found = metrics.memorised(sound(), broken(math.nan), 3.0)
    assert math.isnan(found.torchmetrics_distance) and math.isnan(found.bai_distance)
    assert math.isnan(found.torchmetrics) and math.isnan(found.bai)
    black = sound(30)
    black[4] = 0
    assert math.isfinite(metrics.memorised(sound(), black, 3.0).bai)  # zeros are left out still
    assert metrics.memorised(sound(), sound(), 0.0).torchmetrics == 0.0


@pytest.mark.parametrize("where", ["made", "training", "held out"])
def test_no_share_of_copies_where_a_ratio_is_no_number(where):
    """No comparison with NaN is true, so nothing looked like a copy."""
    shifts = {"made": 0.0, "training": 0.1, "held out": 0.2}
    rows = {name: torch.tensor(sound(60) + shift) for name, shift in shifts.items()}
    assert 0 <= memorization.copies(rows["made"], rows["training"], rows["held out"]).share <= 1
    rows[where][5, 0] = math.nan
    found = memorization.copies(rows["made"], rows["training"], rows["held out"])
    assert math.isnan(found.share) and not found.conclusive


def test_a_network_that_diverged_names_nothing():
    """argmax takes NaN for the largest, and so named the first class: right 200 times in 202 where
    that is so large.
    """
    logits = torch.tensor([[1.0, 2.0], [math.nan, 0.0], [0.0, math.nan], [math.inf, 1.0]])
    assert networks.named(logits).tolist() == [1, -1, -1, 0]
    assert called(np.array([0, 1, -1]), np.array([7, 3])).tolist() == [7, 3, -1]
    labels = torch.zeros(202, dtype=torch.long)
    assert (networks.named(torch.full((202, 2), math.nan)) == labels).sum() == 0


def test_no_accuracy_for_weights_that_are_no_numbers():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    x, zeros = torch.rand(20, 1, 2, 2), torch.zeros(20, dtype=torch.long)
    weights = torch.full((10,), math.nan)
    task = federation.Task(network, x, zeros, x, zeros, lambda images: images, weights)
    assert task.accuracy(weights) == 0 and (task.predictions(weights) == -1).all()


def test_a_sub_head_whose_loss_is_no_number_is_never_chosen():
    assert least_of([math.nan, -1.0, -2.0, math.inf]) == 2
    with pytest.raises(Failed, match="diverged"):
        least_of([math.nan, math.nan])


def test_an_audit_of_numbers_that_broke_ends_in_no_clean_verdict():
    """A variance without end left a p of e^min(0, NaN) = 1, 'kept', or a division by zero."""
    watch = MechanismAuditor(Canaries.drawn(50, 10, 1, 2, np.random.default_rng(0)), 1.0, 0.1, 10)
    watch.excess, watch.expected, watch.by_draws, watch.by_noise = 1.0, 1.0, 1.0, math.inf
    assert watch._rate().p == 0 and not watch._rate().kept
    for name in ("excess", "expected", "by_noise"):
        watch.excess, watch.expected, watch.by_noise = 1.0, 1.0, 1.0
        assert watch._rate().p > 0
        setattr(watch, name, math.nan)
        assert watch._rate().p == 0


def test_no_epsilon_from_a_bound_that_is_no_number():
    """max(0.0, NaN) is 0.0: nothing spent."""
    found = np.full(len(privacy.ORDERS), 0.01)
    assert 0 < renyi._from_renyi(found, 1e-5) < 1
    found[7] = math.nan
    assert renyi._from_renyi(found, 1e-5) == math.inf


def test_an_attack_on_answers_that_are_no_numbers_is_refused():
    """They stood for 'says nothing', and the attack found as little as behind the strongest
    noise.
    """
    logits, labels = np.random.default_rng(0).normal(size=(5, 3)), np.zeros(5, int)
    assert np.isfinite(lira.confidence(logits, labels)).all()
    logits[2, 1] = math.nan
    assert np.flatnonzero(np.isnan(lira.confidence(logits, labels))).tolist() == [2]
    sure = np.zeros((5, 8))
    check_finite(sure, sure[:, 0])
    one_lost = np.where(np.arange(8) == 2, math.nan, sure)
    for shadows, target in [(one_lost, sure[:, 0]), (sure, np.full(5, math.nan))]:
        with pytest.raises(Failed, match="no numbers"):
            check_finite(shadows, target)


def test_a_margin_of_what_is_no_number_is_none():
    assert math.isnan(lira.margin(lira.Measured(0.5, np.full((10, 4), math.nan))))


def of_set(**changes):
    """What page Fidelity knows of one set."""
    found = {
        "again_pixels": 0,
        "copies_pixels": 0.04,
        "distinct_pixels": 500,
        "known_pixels": 1.0,
        "yardstick_pixels": 500,
        "frechet_distance": 3.0,
        "precision": 0.5,
        "learned": 500,
        "images": 500,
        "mifid_torchmetrics": 9.0,
    }
    return found | changes


def controls(**copies):
    """Of the sets whose answer is known."""
    known = {
        "held-out": of_set(),
        "untrained": of_set(),
        "copies": of_set(again_pixels=500, **copies),
    }
    return {CONTROLS[name]: found for name, found in known.items()}


LOST = [{"again_pixels": math.nan}, {"copies_pixels": math.nan, "again_pixels": math.nan}]


@pytest.mark.parametrize("changes", LOST)
def test_a_set_without_numbers_is_not_acquitted(changes):
    rest = controls(copies_pixels=1.0)
    clean, lost = (
        verdict.answer({"GAN": found} | rest, ("GAN",)) for found in (of_set(), of_set(**changes))
    )
    assert "in none of them" in clean and "in none of them" not in lost
    assert "Nothing can be said of GAN" in lost


@pytest.mark.parametrize(
    ("copies", "unseen"),
    [
        ({"known_pixels": math.nan}, {}),
        ({"again_pixels": math.nan}, {}),
        ({}, {"again_pixels": math.nan}),
    ],
)
def test_a_control_without_numbers_gives_no_verdict(copies, unseen):
    exact = of_set(again_pixels=500, copies_pixels=1.0)
    assert fidelity.doubt(exact, of_set()) == ""
    assert "whose answer is known" in fidelity.doubt(exact | copies, of_set() | unseen)


def test_a_generator_without_numbers_is_not_the_best_by_mifid():
    made = {"GAN": of_set(mifid_torchmetrics=math.nan), "DP-GAN": of_set(mifid_torchmetrics=7.0)}
    told = verdict.answer(made | controls(mifid_torchmetrics=1.0), ("GAN", "DP-GAN"))
    assert "at least 7" in told
