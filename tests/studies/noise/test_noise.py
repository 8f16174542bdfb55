"""The noise study against independent computations."""

import math

import numpy as np
import pytest
from scipy import stats

from engine import privacy
from engine.core.lab import Lab
from engine.core.study import Refused
from engine.datasets import registry
from engine.studies.noise.noise import REPLACE_ONE, STRIP, Noise, unit_length
from tests.conftest import finish


def release(**changes):
    study = Noise(**changes)
    images = registry.load(study.dataset)
    return study, study.release(*study.pick(images), images.classes)


def test_the_reports_sigmas():
    """Textbook as published: 0.0026 at ε = 2000; the exact formula with its sensitivity: 0.0170,
    0.0750, 0.01048.
    """
    published = Noise(calibration="textbook", sensitivity="report")
    assert published.sigma(2000) == pytest.approx(0.0026, abs=5e-5)
    exact = Noise(calibration="exact", sensitivity="report")
    for epsilon, sigma in ((2000, 0.0170), (150, 0.0750), (5000, 0.01048)):
        assert exact.sigma(epsilon) == pytest.approx(sigma, rel=5e-3)


def test_published_settings_are_charged_what_they_really_give():
    _, result = release(
        epsilon=2000, calibration="textbook", sensitivity="report", label_epsilon=75
    )
    truth = privacy.gaussian_epsilon(result.metrics["sigma"], 1 / 784**2, math.sqrt(2))
    assert result.metrics["epsilon_image"] == pytest.approx(truth) and truth > 70_000
    assert result.guarantee.epsilon == pytest.approx(truth + 75)
    assert "names ε = 2,000" in result.guarantee.note


def test_the_exact_formula_is_charged_its_own_epsilon():
    _, result = release(epsilon=150, label_epsilon=2)
    assert result.guarantee.epsilon == pytest.approx(152, rel=1e-6)


def test_no_two_images_are_farther_apart_than_the_sensitivity():
    images = registry.load("mnist-5k").test_images[:200]
    units = np.stack([unit_length(i).ravel() for i in images])
    assert np.linalg.norm(units[:, None] - units[None], axis=-1).max() <= REPLACE_ONE
    black, one = np.zeros(784), np.eye(784)
    assert (
        np.linalg.norm(one[0] - one[1]) == pytest.approx(REPLACE_ONE)
        and np.linalg.norm(one[0] - black) <= REPLACE_ONE
    )


def noise_of(scale: float, seeds: int = 40) -> np.ndarray:
    """Noise on pixels that the clipping at 0 cannot touch: a bright flat image at a small σ."""
    image, found = np.full((28, 28, 1), 255, np.uint8), []
    for seed in range(seeds):
        study = Noise(epsilon=150_000, seed=seed)
        found.append(
            (study.release(image, 3, tuple("0123456789")).arrays["released"] - unit_length(image))
            * scale
        )
    return np.concatenate(found).ravel() / Noise(epsilon=150_000).sigma(150_000)


def test_the_noise_is_gaussian_of_the_stated_size_and_a_tenth_less_is_noticed():
    draws = noise_of(1.0)
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    assert stats.kstest(noise_of(0.9), "norm").pvalue < 1e-6
    assert draws.std() == pytest.approx(1, rel=0.02)


def test_the_label_lies_as_often_as_it_says():
    told = [release(label_epsilon=2.0, seed=s)[1].facts["released_label"] for s in range(400)]
    keep = math.exp(2) / (math.exp(2) + 9)
    assert stats.binomtest(told.count("3"), 400, keep).pvalue > 1e-3
    assert stats.binomtest(told.count("3"), 400, keep * 0.75).pvalue < 1e-3


def test_a_black_image_is_defined():
    study = Noise(epsilon=10)
    result = study.release(np.zeros((28, 28, 1), np.uint8), 0, tuple("0123456789"))
    assert result.metrics["signal_norm"] == 0 and np.isfinite(result.arrays["released"]).all()
    assert np.isfinite(list(result.metrics.values())).all()


@pytest.mark.parametrize("epsilon", [0.1, 200_000.0])
@pytest.mark.parametrize("delta", [1e-12, 0.1])
@pytest.mark.parametrize("calibration", ["exact", "textbook"])
def test_the_ends_of_every_slider_work(epsilon, delta, calibration):
    _, result = release(epsilon=epsilon, delta=delta, calibration=calibration, label_epsilon=100)
    assert 0.5 <= result.guarantee.odds_mechanism <= 1
    assert all(f"strip_{e:g}" in result.images for e in STRIP)


def test_a_class_or_image_that_is_not_there_is_named_with_what_is():
    images = registry.load("mnist-5k")
    with pytest.raises(Refused, match="category: 10 is not allowed.*0 to 9"):
        Noise(category=10).pick(images)
    with pytest.raises(Refused, match="index: 5000 is not allowed.*images 0 to"):
        Noise(index=5000).pick(images)


def test_the_study_itself_runs_without_torch_and_shows_the_noised_image(store):
    events, result = finish(Lab(store).need(Noise()))
    assert events[0].png == result.images["noised"]
