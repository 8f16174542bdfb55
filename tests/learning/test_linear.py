"""The linear model on fixed features: features, gradient, private mean, what it reaches, and that
it does what its ε is charged for.
"""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from engine import privacy
from engine.core.lab import Lab
from engine.core.study import Refused
from engine.datasets import registry
from engine.learning import dp_sgd, features
from engine.learning.linear import LinearTraining
from engine.studies.dp_training.dp_training import MEAN_SHARE, DPTraining
from engine.studies.shared.features import Features
from tests.conftest import finish

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows(common):
    """(train, test) features of the bundled digits, (4000, 3969) and (1000, 3969) float16."""
    _, result = finish(Lab(common).need(Features()))
    return result.arrays["train"], result.arrays["test"]


def learner(rows, kind=LinearTraining, **changes):
    study = DPTraining(
        **{
            "noise_multiplier": 1.3,
            "max_grad_norm": 0.07,
            "learning_rate": 1.0,
            "batch_size": 40,
            "epochs": 1,
        }
        | changes
    )
    images = registry.load("mnist-5k")
    return kind(study.plan(len(images.train_images)), images, CPU, *rows)


# --- features -------------------------------------------------------------------------------------


def test_rows_stand_in_the_order_of_the_images_and_none_is_longer_than_the_mean_relies_on(rows):
    images = registry.load("mnist-5k")
    alone = torch.cat(
        list(features.features(torch.tensor(images.train_images[700:703]), True, CPU))
    )
    assert np.allclose(alone, rows[0][700:703], atol=2e-3)
    lengths = np.linalg.norm(rows[0].astype(np.float64), axis=1)
    assert lengths.max() <= features.longest(3969) and lengths.min() > 0.5 * features.longest(3969)


def test_no_image_makes_a_longer_row():
    """Noise, black, white, stripes: whatever somebody may hand in."""
    rng = np.random.default_rng(0)
    odd = np.stack(
        [
            np.zeros((28, 28, 1)),
            np.full((28, 28, 1), 255),
            rng.integers(0, 256, (28, 28, 1)),
            np.tile([0, 255], (28, 14))[..., None],
            rng.random((28, 28, 1)) < 0.002,
        ]
    ).astype(np.uint8)
    for straighten in (False, True):
        found = torch.cat(list(features.features(torch.tensor(odd), straighten, CPU))).double()
        assert bool(found.isfinite().all()) and float(found.norm(dim=1).max()) <= features.longest(
            found.shape[1]
        )


def test_groups_of_maps_are_normalised_an_image_by_itself():
    maps = torch.rand(5, 6, 4, 4, dtype=torch.float64)
    found = features.normalised(maps).view(5, 2, 48)
    expected = (maps.view(5, 2, 48) - maps.view(5, 2, 48).mean(2, keepdim=True)) / (
        maps.view(5, 2, 48).var(2, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    assert torch.allclose(found, expected)
    others = torch.cat([maps[2:3], 100 * maps[3:]])  # however the others look
    assert torch.allclose(
        features.normalised(others)[:1], features.normalised(maps)[2:3], rtol=0, atol=1e-12
    )


def test_a_slanted_stroke_is_made_upright_and_moved_to_the_middle():
    image = torch.zeros(1, 1, 28, 28)
    for down in range(20):
        image[0, 0, 4 + down, 5 + down // 2 : 8 + down // 2] = 1.0
    upright = features.straightened(image)[0, 0]
    across = torch.arange(28.0)
    middles = [float((row * across).sum() / row.sum()) for row in upright if row.sum() > 1]
    assert max(abs(middle - 13.5) for middle in middles) < 1.0 and len(middles) >= 18
    slanted = [float((row * across).sum() / row.sum()) for row in image[0, 0] if row.sum() > 1]
    assert max(slanted) - min(slanted) > 8
    assert torch.equal(features.straightened(torch.zeros(1, 1, 28, 28)), torch.zeros(1, 1, 28, 28))


def test_images_too_small_or_too_many_for_features_are_refused():
    class Shown:
        train_size, test_images = 500_000, np.zeros((100, 64, 64, 3), np.uint8)

    with pytest.raises(Refused, match="GB of memory"):
        Features().check(Shown)
    Shown.train_size, Shown.test_images = 50, np.zeros((10, 6, 6, 1), np.uint8)
    with pytest.raises(Refused, match="at least 8 x 8"):
        Features().check(Shown)


# --- the step -------------------------------------------------------------------------------------


def clipped_sum(training, batch: torch.Tensor, clip: float) -> torch.Tensor:
    """Σ of clipped gradients by one backward pass an image in float64, weights then bias."""
    total = torch.zeros(training.weight.numel() + training.bias.numel(), dtype=torch.float64)
    for row in batch.tolist():
        weight, bias = (
            p.detach().double().requires_grad_() for p in (training.weight, training.bias)
        )
        x = training.rows[row].double() - training.mean.double()
        loss = F.cross_entropy((weight @ x + bias)[None], training.labels[row : row + 1])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, (weight, bias))])
        total += gradient * min(1.0, clip / float(gradient.norm()))
    return total


@pytest.mark.parametrize("clip", [0.001, 0.07, 100.0])
def test_the_closed_form_is_the_clipped_sum_of_every_images_gradient(rows, clip):
    training = learner(rows, max_grad_norm=clip)
    torch.manual_seed(0)
    (
        training.weight.copy_(0.02 * torch.randn_like(training.weight)),
        training.bias.copy_(torch.randn_like(training.bias)),
    )
    batch = torch.arange(300, 620)  # more than one part
    expected = clipped_sum(training, batch, clip)
    found = torch.cat([part.flatten() for part in training.gradient(batch)]).double()
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    assert (
        float((found - clipped_sum(training, batch, 1.1 * clip)).norm() / expected.norm()) > 1e-3
        or clip == 100.0
    )


def test_no_image_pulls_harder_than_the_clip_norm(rows):
    training = learner(rows)
    training.weight.normal_(generator=torch.Generator().manual_seed(0))
    for row in range(50):
        assert float(
            torch.cat([part.flatten() for part in training.gradient(torch.tensor([row]))])
            .double()
            .norm()
        ) <= 0.07 * (1 + 1e-6)


class Planted(LinearTraining):
    """The same with one thing wrong."""

    def __init__(self, error, *arguments):
        super().__init__(*arguments)
        self.error = error
        if error == "noise of 0.9 σ":
            self.bind(self.max_grad_norm, 0.9 * self.noise_multiplier)

    def gradient(self, rows):
        found = super().gradient(rows)
        return tuple(1.5 * part for part in found) if self.error == "clip norm × 1.5" else found

    def learn(self, rows):
        if self.error == "shuffled batches":
            rows = torch.from_numpy(self.sampling.host.permutation(len(self.labels))[:40])
            self.drawn = rows
        super().learn(rows)


def violations(training) -> list[str]:
    """What is otherwise than charged for, from batches and weights alone."""
    plan, sizes, noise, along = training.plan, [], [], []
    clip = plan.mechanism.max_grad_norm
    for _ in range(25):
        twin = copy.deepcopy(training.sampling)
        batch = dp_sgd.poisson_batch(len(training.labels), plan.mechanism.sample_rate, twin)
        before = torch.cat([p.flatten() for p in training.parameters]).double()
        expected = None
        if getattr(training, "error", "") != "shuffled batches":
            expected = clipped_sum(training, batch, clip)
        training.step()
        after = torch.cat([p.flatten() for p in training.parameters]).double()
        sizes.append(len(getattr(training, "drawn", batch)))
        expected = clipped_at(training, before, training.drawn) if expected is None else expected
        noise.append(
            ((before - after) * plan.batch_size - expected)
            / (plan.mechanism.noise_multiplier * clip)
        )
        # N(0, 1) unless the sum itself is another
        along.append(float(noise[-1] @ expected / expected.norm()))
    rate = plan.mechanism.sample_rate
    spread = (len(sizes) - 1) * np.var(sizes, ddof=1) / (plan.examples * rate * (1 - rate))
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], len(sizes) - 1)
    fine = (
        abs(float(torch.cat(noise).std()) - 1) < 0.004
        and abs(np.mean(along)) < 4.5 / len(along) ** 0.5
    )
    return ([] if fine else ["noise or clipping"]) + ([] if low < spread < high else ["sampling"])


def clipped_at(training, weights: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """The clipped sum at the weights before a step."""
    now = [p.clone() for p in training.parameters]
    split = training.weight.numel()
    (
        training.weight.copy_(weights[:split].view_as(training.weight)),
        training.bias.copy_(weights[split:]),
    )
    found = clipped_sum(training, batch, training.plan.mechanism.max_grad_norm)
    for p, kept in zip(training.parameters, now):
        p.copy_(kept)
    return found


def test_the_training_does_what_its_plan_is_charged_for(rows):
    assert violations(learner(rows)) == []


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("noise of 0.9 σ", "noise or clipping"),
        ("clip norm × 1.5", "noise or clipping"),
        ("shuffled batches", "sampling"),
    ],
)
def test_the_same_check_finds_planted_errors(rows, error, found):
    assert violations(learner(rows, lambda *arguments: Planted(error, *arguments))) == [found]


def test_the_mean_is_noised_as_it_is_charged_for(rows):
    """Without privacy it is the exact mean; with it, off by Gaussian noise of mean_noise times the
    longest row, over n.
    """
    exact = learner(rows, private=False).mean.double()
    assert torch.allclose(exact, torch.tensor(rows[0].astype(np.float64).mean(0)), atol=1e-5)
    off = (
        torch.cat(
            [learner(rows, mean_noise=7.0, seed=seed).mean.double() - exact for seed in range(4)]
        )
        * 4000
        / (7.0 * features.longest(3969))
    )
    assert abs(float(off.std()) - 1) < 0.03 and abs(float(off.mean())) < 0.03
    assert abs(float(0.9 * off.std()) - 1) > 0.03  # the check would find noise of 0.9 times


def test_the_mean_takes_its_share_of_the_budget_and_is_in_epsilon():
    study = DPTraining(target_epsilon=2.0)
    plan = study.plan(4000)
    with_mean = privacy.dp_sgd_epsilon(
        plan.mechanism.noise_multiplier,
        0.25,
        plan.steps,
        1e-5,
        release_noise=plan.mechanism.release_noise,
    ).epsilon
    without = privacy.dp_sgd_epsilon(
        plan.mechanism.noise_multiplier, 0.25, plan.steps, 1e-5
    ).epsilon
    assert 1.98 <= with_mean <= 2.0 and 0.97 < without / with_mean < 0.999
    assert study.guarantee(plan).epsilon == with_mean
    mu = 1 / privacy.gaussian_sigma(2.0, 1e-5)
    assert plan.mechanism.release_noise**-2 == pytest.approx(MEAN_SHARE * mu**2)
    by_noise = (
        DPTraining(noise_multiplier=plan.mechanism.noise_multiplier)
        .plan(4000)
        .mechanism.release_noise
    )
    # the same share, found from the other side
    assert by_noise == pytest.approx(plan.mechanism.release_noise, rel=0.1)


# --- what it reaches ------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize(("epsilon", "least"), [(3.0, 0.96), (1.0, 0.93)])
def test_the_best_recipe_on_the_bundled_digits(store, epsilon, least):
    _, result = finish(Lab(store).need(DPTraining.preset("best", target_epsilon=epsilon)))
    assert result.metrics["test_accuracy"] >= least and result.guarantee.epsilon <= epsilon
    assert math.isfinite(result.metrics["train_loss"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
@pytest.mark.parametrize("private", [True, False])
def test_every_optimizer_learns_with_and_without_privacy(store, optimizer, private):
    _, result = finish(
        Lab(store).need(
            DPTraining(
                epochs=10,
                optimizer=optimizer,
                private=private,
                averaging=0.5 if optimizer == "adam" else 0.0,
            )
        )
    )
    assert result.metrics["test_accuracy"] > 0.9


def test_best_is_the_recipe_of_the_data_set_that_is_named():
    assert (
        DPTraining.preset("best") == DPTraining()
        and DPTraining.preset("best", dataset="mnist").batch_size == 4096
    )
    clothes = DPTraining.preset("best", dataset="fashion-mnist", noise_multiplier=2.0)
    assert not clothes.straighten and clothes.target_epsilon is None
