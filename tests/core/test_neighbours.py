"""What a promise compares: an image and a blank in its place, n being public; and is it
charged?
"""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from engine import privacy
from engine.datasets import registry
from engine.learning.features import longest
from engine.learning.linear import LinearShadowModels
from engine.privacy import neighbours
from engine.studies import STUDIES
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing
from tests.conftest import ROOT


def hockey_stick(upper, lower, epsilon: float) -> float:
    """∫ (p − e^ε q)₊ by quadrature of two densities on the line."""
    x = np.linspace(-60, 60, 400_001)
    return float(integrate.trapezoid(np.maximum(upper(x) - np.exp(epsilon) * lower(x), 0.0), x))


def step(sigma: float, rate: float, length: float):
    """Density of a step's noised sum where an image of this length is drawn at this rate.

    A length of 0 is a blank.
    """

    def density(x, mean):
        return stats.norm.pdf(x, mean, sigma)

    return lambda x: (1 - rate) * density(x, 0.0) + rate * density(x, length)


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.1), (2.0, 0.5), (0.7, 0.02), (3.0, 1.0)])
def test_the_charged_epsilon_covers_a_blanked_image_both_ways_and_no_replaced_one(sigma, rate):
    delta = 1e-5
    epsilon = privacy.dp_sgd_epsilon(sigma, rate, 1, delta).epsilon
    there, blank, other = (step(sigma, rate, length) for length in (1.0, 0.0, -1.0))
    both = hockey_stick(there, blank, epsilon), hockey_stick(blank, there, epsilon)
    assert max(both) <= delta * (1 + 1e-4)
    assert hockey_stick(there, other, epsilon) > 1.05 * delta  # farther than what is charged


IMAGES, WIDTH, BLANK = 300, 40, 7
STUDY = DPTraining(noise_multiplier=0.0, max_grad_norm=0.07, batch_size=100)  # clips, no noise


def rows_of_features():
    """(300, 40) float16, all nearly as long as is allowed and of one direction, but for one that
    has the opposite one.
    """
    rows = 3 + np.random.default_rng(0).normal(size=(IMAGES, WIDTH))
    rows[BLANK] = -rows.mean(0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (0.999 * longest(WIDTH) * rows / lengths).astype(np.float16)


def world(kept=slice(None), blank=()):
    """One linear model on the kept rows, its plan from their number; blank ones are no members."""
    images = registry.load("mnist-5k")
    rows, labels = rows_of_features()[kept], images.train_labels[:IMAGES][kept]
    members = np.ones((len(rows), 1), bool)
    members[list(blank)] = False
    plan = STUDY.plan(len(rows))
    return LinearShadowModels(plan, images, torch.device("cpu"), rows, labels, members)


@pytest.fixture
def worlds():
    """With all images, with one of them blanked, and with that one removed."""
    return world(), world(blank=[BLANK]), world(kept=np.arange(IMAGES) != BLANK)


def test_a_blank_leaves_the_plan_and_the_draws_as_they_were_and_a_missing_image_does_not(worlds):
    there, blank, missing = worlds
    assert there.plan == blank.plan and there.plan.examples == IMAGES
    assert missing.plan.examples == IMAGES - 1
    assert missing.plan.mechanism.sample_rate != there.plan.mechanism.sample_rate
    draws = [[one.draw().tolist() for _ in range(5)] for one in worlds]
    assert draws[0] == draws[1] != draws[2]
    assert any(BLANK in rows for rows in draws[1])  # its place stays: it is drawn as before


def test_a_blank_moves_a_mean_by_its_own_row_alone_and_a_missing_image_by_more(worlds):
    """The mean's noise is charged for the longest row over n. Without the image's place the
    divisor is another one, and all the others' rows move the mean too.
    """
    there, blank, missing = (one.means[0].double() * IMAGES for one in worlds)
    row = torch.from_numpy(rows_of_features()[BLANK]).double()
    assert torch.allclose(there - blank, row, atol=1e-4 * longest(WIDTH))
    assert float((there - blank).norm()) <= longest(WIDTH)
    assert float((there - missing).norm()) > 1.9 * longest(WIDTH)  # the check rejects it


def step_of(model, like, rows):
    """All gradients of a step on these rows, after the mean that another world released."""
    model.means, model.lengths = like.means, like.lengths
    model.learn(rows)
    return torch.cat([model.weight.grad.flatten(), model.bias.grad.flatten()]).double()


def test_a_blank_moves_a_step_by_its_own_clipped_gradient_over_the_same_divisor(worlds):
    there, blank, _ = worlds
    rows = torch.arange(0, IMAGES, 3)
    rows[2] = BLANK
    steps = [step_of(one, there, rows) for one in (there, blank)]
    moved = (steps[0] - steps[1]) * STUDY.batch_size
    assert torch.allclose(moved, own_gradient(there), atol=1e-5)
    assert 0.999 * STUDY.clip < float(moved.norm()) <= STUDY.clip * (1 + 1e-5)
    over_the_members = steps[1] * len(rows) / (len(rows) - 1)  # a divisor that counts who is there
    wrong = (steps[0] - over_the_members) * STUDY.batch_size
    assert float((wrong - own_gradient(there)).norm()) > 0.05 * STUDY.clip


def own_gradient(model):
    """(classes·d + classes,) of the image alone, written out at weights of 0 and clipped."""
    x = torch.from_numpy(rows_of_features()[BLANK]).double() - model.means[0].double()
    residual = torch.full((10,), 0.1, dtype=torch.float64)
    residual[int(model.labels[BLANK])] -= 1
    found = torch.cat([torch.outer(residual, x).flatten(), residual])
    return found * min(1.0, STUDY.clip / float(found.norm()))


SUMS = [
    DPTraining(noise_multiplier=1.0),
    STUDIES["classifier"].preset("private"),
    STUDIES["gan"](),
    STUDIES["dp_merf"](),
    GradientSharing(noise_multiplier=1.0),
]
PLANNED = ("dp_training", "classifier", "gan")


def charged(study):
    """What the study's guarantee is computed from."""
    return study.plan(4000) if study.NAME == "dp_training" else study.mechanism(4000)


@pytest.mark.parametrize("study", SUMS, ids=lambda study: study.NAME)
def test_every_promise_of_noise_on_a_sum_says_blanked_and_what_is_public(study):
    planned = study.NAME in PLANNED
    promise = study.guarantee(charged(study)) if planned else study.guarantee()
    assert promise.epsilon is not None
    assert promise.neighbours in (neighbours.ONE_IMAGE, neighbours.ONE_PARTICIPANT)
    assert all(word in promise.neighbours for word in ("blanked", "fixed and public"))


WRONG = (
    "added or removed",
    "addition or removal",
    "adding or removing",
    "image more or less",
    "client more or less",
    "image more or fewer",
)
EXPLAINS = (
    "blanked, not added or removed",  # where it says why not, or what was wrong before
    "it is not quite adding or removing an image",
    'neighbours said "added or removed" while *n* is used',
)


def says_it_wrong(text: str) -> bool:
    """Does a text compare with an image that is added or removed?"""
    text = " ".join(text.lower().split())
    for explained in EXPLAINS:
        text = text.replace(explained, "")
    return any(words in text for words in WRONG)


def test_no_module_no_page_and_no_document_says_added_or_removed():
    folders = [ROOT / name for name in ("engine", "cache", "pages", "docs")]
    told = [
        path for folder in folders for path in folder.rglob("*.*") if path.suffix in (".py", ".md")
    ] + [ROOT / "README.md", ROOT / "app.py"]
    assert len(told) > 80
    assert [path.name for path in told if says_it_wrong(path.read_text())] == []
    assert says_it_wrong("one training image added\n or removed")
    assert says_it_wrong("One image more or less moves the sum")
