"""What a promise compares: a picture and a blank in its place, n being public; and is it charged?"""

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
    """Density of a step's noised sum where a picture of this length is drawn at this rate.

    A length of 0 is a blank.
    """
    density = lambda x, mean: stats.norm.pdf(x, mean, sigma)
    return lambda x: (1 - rate) * density(x, 0.0) + rate * density(x, length)


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.1), (2.0, 0.5), (0.7, 0.02), (3.0, 1.0)])
def test_the_charged_epsilon_covers_a_blanked_picture_both_ways_and_no_replaced_one(sigma, rate):
    delta = 1e-5
    epsilon = privacy.dp_sgd_epsilon(sigma, rate, 1, delta).epsilon
    there, blank, other = (step(sigma, rate, length) for length in (1.0, 0.0, -1.0))
    both = hockey_stick(there, blank, epsilon), hockey_stick(blank, there, epsilon)
    assert max(both) <= delta * (1 + 1e-4)
    assert hockey_stick(there, other, epsilon) > 1.05 * delta  # farther than what is charged


def test_a_blank_leaves_all_that_is_public_as_it_was_and_a_missing_picture_does_not():
    plans = [DPTraining(noise_multiplier=1.0, mean_noise=10.0).plan(n) for n in (4000, 3999)]
    assert plans[0]["sample_rate"] != plans[1]["sample_rate"] and plans[0]["n"] != plans[1]["n"]


SUMS = [DPTraining(noise_multiplier=1.0), STUDIES["classifier"].preset("private"),
        STUDIES["gan"](), STUDIES["dp_merf"](), GradientSharing(noise_multiplier=1.0)]
PLANNED = ("dp_training", "classifier", "gan")


@pytest.mark.parametrize("study", SUMS, ids=lambda study: study.NAME)
def test_every_promise_of_noise_on_a_sum_says_blanked_and_what_is_public(study):
    planned = study.NAME in PLANNED
    promise = study.guarantee(study.plan(4000)) if planned else study.guarantee()
    assert promise.epsilon is not None
    assert promise.neighbours in (neighbours.ONE_PICTURE, neighbours.ONE_PARTICIPANT)
    assert all(word in promise.neighbours for word in ("blanked", "fixed and public"))


WRONG = ("added or removed", "addition or removal", "adding or removing")
EXPLAINED = "### blanked, not added or removed"  # the heading that says why not
EXPLAINS = "it is not quite adding or removing a picture"


def says_it_wrong(text: str) -> bool:
    """Does a text compare with a picture that is added or removed?"""
    text = " ".join(text.lower().split()).replace(EXPLAINED, "").replace(EXPLAINS, "")
    return any(words in text for words in WRONG)


def test_no_page_and_no_document_says_added_or_removed():
    folders = [ROOT / name for name in ("engine/studies", "pages", "docs")]
    told = [path for folder in folders for path in folder.rglob("*.*")
            if path.suffix in (".py", ".md")]
    assert len(told) > 30
    assert [path.name for path in told if says_it_wrong(path.read_text())] == []
    assert says_it_wrong("one training picture added\n or removed")
