"""The dp_training study: what it learns, what it charges, and that the two belong together."""

import math

import numpy as np
import pytest

from engine import data, privacy
from engine.lab import Lab
from engine.studies.dp_training import DPTraining
from engine.study import Phase, Point, Refused
from tests.test_contract import finish


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick preset, run once."""
    from cache import Store
    return finish(Lab(Store(tmp_path_factory.mktemp("quick"))).need(DPTraining()))


def test_quick_reaches_ninety_per_cent_at_epsilon_eight(quick):
    _, result = quick
    assert result.metrics["test_accuracy"] >= 0.90
    assert 7.9 <= result.guarantee.epsilon <= 8.0
    assert result.made["seconds"] <= 200  # a bound that catches a hang; bench/ and docs have the measured time


def test_every_epoch_is_a_point_on_every_curve(quick):
    events, result = quick
    points = [e for e in events if isinstance(e, Point)]
    for name in ("test_accuracy", "train_accuracy", "train_loss", "epsilon", "pictures_per_second"):
        assert [p.x for p in points if p.curve == name] == list(range(1, 21))
        assert [(p.x, p.y) for p in points if p.curve == name] == result.curves[name]


def test_the_spent_epsilon_rises_to_the_charged_one_from_above(quick):
    _, result = quick
    spent = [y for _, y in result.curves["epsilon"]]
    assert all(a < b for a, b in zip(spent, spent[1:]))
    assert result.guarantee.epsilon <= spent[-1] <= 1.25 * result.guarantee.epsilon


def test_the_charge_is_for_the_sampling_and_the_steps_that_ran(quick):
    """Counted from the events themselves and charged again from scratch."""
    events, result = quick
    steps = max(e.done for e in events if isinstance(e, Phase) and e.name == "training")
    promise, n = result.guarantee, len(data.load("mnist-5k").train_images)
    assert promise.steps == steps and promise.sample_rate == 250 / n
    again = privacy.dp_sgd_epsilon(result.metrics["noise_multiplier"], 250 / n, int(steps), 1e-5)
    assert promise.epsilon == again.epsilon
    assert privacy.dp_sgd_epsilon(result.metrics["noise_multiplier"], 250 / n, int(steps) // 2, 1e-5).epsilon < 0.8 * again.epsilon


def test_right_and_wrong_pictures_and_classes_agree_with_the_predictions(quick):
    _, result = quick
    images = data.load("mnist-5k")
    right = result.arrays["predictions"] == images.test_labels
    assert result.metrics["test_accuracy"] == pytest.approx(right.mean())
    for i, name in enumerate(images.classes):
        assert result.facts["per_class"][name] == pytest.approx(right[images.test_labels == i].mean())
    assert all(said != truth for said, truth in result.facts["wrong"])
    assert sum(n.startswith("right_") for n in result.pictures) == 10


def test_without_privacy_nothing_is_promised(store):
    _, result = finish(Lab(store).need(DPTraining(epochs=1).twin()))
    assert result.guarantee.epsilon is None and "epsilon" not in result.curves
    assert result.guarantee.odds_mechanism is None


def test_no_noise_is_no_privacy_and_says_so(store):
    _, result = finish(Lab(store).need(DPTraining(epochs=1, noise_multiplier=0.0)))
    assert result.guarantee.epsilon is None and "noise multiplier is 0" in result.facts["warnings"][0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_optimizer_and_activation_learns(store, optimizer, activation):
    _, result = finish(Lab(store).need(DPTraining(epochs=2, noise_multiplier=0.6, optimizer=optimizer, activation=activation)))
    assert result.metrics["test_accuracy"] > 0.35


def test_a_training_that_diverges_ends_with_its_curve(store):
    _, result = finish(Lab(store).need(DPTraining(private=False, learning_rate=100.0, activation="relu", epochs=5)))
    assert result.facts["diverged"] or not math.isfinite(result.metrics["train_loss"]) or result.metrics["test_accuracy"] < 0.3
    assert len(result.curves["train_loss"]) >= 1


def test_a_batch_larger_than_the_data_is_refused(store):
    with pytest.raises(Refused, match="batch_size: 5000 is not allowed.*4000 training pictures"):
        finish(Lab(store).need(DPTraining(batch_size=5000)))


def test_all_pictures_in_every_step_is_allowed(store):
    _, result = finish(Lab(store).need(DPTraining(batch_size=4000, epochs=2, noise_multiplier=2.0)))
    assert result.guarantee.sample_rate == 1 and math.isfinite(result.guarantee.epsilon)


def test_a_large_delta_is_warned_of(store):
    _, result = finish(Lab(store).need(DPTraining(epochs=1, delta=0.01)))
    assert any("δ" in w for w in result.facts["warnings"])


def test_train_and_test_pictures_are_different_ones():
    images = data.load("mnist-5k")
    train = {i.tobytes() for i in images.train_images}
    assert not any(i.tobytes() in train for i in images.test_images)
    assert np.bincount(images.test_labels).tolist() == [100] * 10
