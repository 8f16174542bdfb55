"""What is compared in the promise: a picture against a blank in its place, with n public. And that what is charged covers it."""

import numpy as np
import pytest
from scipy import integrate, stats

from engine import neighbours, privacy
from engine.studies import STUDIES
from engine.studies.dp_training import DPTraining
from engine.studies.gradient_sharing import GradientSharing
from tests.conftest import ROOT


def hockey_stick(upper, lower, epsilon: float) -> float:
    """∫ (p − e^ε q)₊ by quadrature of two densities on the line."""
    x = np.linspace(-60, 60, 400_001)
    return float(integrate.trapezoid(np.maximum(upper(x) - np.exp(epsilon) * lower(x), 0.0), x))


def step(sigma: float, rate: float, length: float):
    """Density of one step's noised sum where a picture of this length is drawn at this rate; length 0 is a blank."""
    return lambda x: (1 - rate) * stats.norm.pdf(x, 0, sigma) + rate * stats.norm.pdf(x, length, sigma)


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.1), (2.0, 0.5), (0.7, 0.02), (3.0, 1.0)])
def test_the_charged_epsilon_covers_a_blanked_picture_both_ways_and_no_replaced_one(sigma, rate):
    delta = 1e-5
    epsilon = privacy.dp_sgd_epsilon(sigma, rate, 1, delta).epsilon
    there, blank, other = (step(sigma, rate, length) for length in (1.0, 0.0, -1.0))
    assert max(hockey_stick(there, blank, epsilon), hockey_stick(blank, there, epsilon)) <= delta * (1 + 1e-4)
    assert hockey_stick(there, other, epsilon) > 1.05 * delta  # a replaced picture is farther away than what is charged


def test_a_blank_leaves_all_that_is_public_as_it_was_and_a_missing_picture_does_not():
    plans = [DPTraining(noise_multiplier=1.0, mean_noise=10.0).plan(n) for n in (4000, 3999)]
    assert plans[0]["sample_rate"] != plans[1]["sample_rate"] and plans[0]["n"] != plans[1]["n"]


SUMS = [DPTraining(noise_multiplier=1.0), STUDIES["classifier"].preset("private"), STUDIES["gan"](), STUDIES["dp_merf"](), GradientSharing(noise_multiplier=1.0)]


@pytest.mark.parametrize("study", SUMS, ids=lambda study: study.NAME)
def test_every_promise_of_noise_on_a_sum_says_blanked_and_what_is_public(study):
    promise = study.guarantee(study.plan(4000)) if study.NAME in ("dp_training", "classifier", "gan") else study.guarantee()
    assert promise.epsilon is not None and promise.neighbours in (neighbours.ONE_PICTURE, neighbours.ONE_PARTICIPANT)
    assert all(word in promise.neighbours for word in ("blanked", "fixed and public"))


def test_no_page_and_no_document_says_added_or_removed():
    told = [path for folder in ("engine/studies", "pages", "docs") for path in (ROOT / folder).rglob("*.*") if path.suffix in (".py", ".md")]
    wrong = lambda text: any(words in text.lower().replace("### blanked, not added or removed", "") for words in ("added or removed", "addition or removal", "adding or removing one"))
    assert len(told) > 30 and [path.name for path in told if wrong(path.read_text().replace("\n", " ").replace("adding and removing one record", ""))] == []
    assert wrong("one training picture added or removed")
