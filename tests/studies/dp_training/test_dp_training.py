"""The dp_training study: what it learns, what it charges, and that the two belong together."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats

from engine import privacy
from engine.core.lab import Lab
from engine.core.streams import derive_seed
from engine.core.study import Phase, Point, Refused, build
from engine.datasets import registry
from engine.learning import dp_sgd
from engine.learning.networks import report_cnn
from engine.learning.trainer import Training, scaled
from engine.studies.dp_training.dp_training import DPTraining
from tests.conftest import finish, full_unless

EPOCHS = 6


def cnn(**changes) -> DPTraining:
    """The report's network on the bundled digits."""
    return DPTraining.preset("cnn", **changes)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The report's CNN at its usual settings but for the number of epochs, run once."""
    from cache import Store

    return finish(Lab(Store(tmp_path_factory.mktemp("quick"))).need(cnn(epochs=EPOCHS)))


@pytest.mark.full
def test_the_cnn_reaches_ninety_per_cent_at_epsilon_eight(store):
    _, result = finish(Lab(store).need(cnn()))
    assert result.metrics["test_accuracy"] >= 0.90
    assert 7.9 <= result.guarantee.epsilon <= 8.0


def test_every_epoch_is_a_point_on_every_curve(quick):
    events, result = quick
    points = [e for e in events if isinstance(e, Point)]
    for name in ("test_accuracy", "train_accuracy", "train_loss", "epsilon", "images_per_second"):
        assert [p.x for p in points if p.curve == name] == list(range(1, EPOCHS + 1))
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
    promise, n = result.guarantee, len(registry.load("mnist-5k").train_images)
    assert promise.steps == steps and promise.sample_rate == 250 / n
    again = privacy.dp_sgd_epsilon(result.metrics["noise_multiplier"], 250 / n, int(steps), 1e-5)
    assert promise.epsilon == again.epsilon
    assert (
        privacy.dp_sgd_epsilon(
            result.metrics["noise_multiplier"], 250 / n, int(steps) // 2, 1e-5
        ).epsilon
        < 0.8 * again.epsilon
    )


class Planted(Training):
    """A Training with one thing wrong, as a careless change would make it."""

    def __init__(self, error: str, *arguments):
        super().__init__(*arguments)
        self.error = error
        if error == "noise of 0.9 σ":
            self.private_gradient.noise_multiplier *= 0.9
        if error == "clip norm × 1.5":
            self.private_gradient.max_grad_norm *= 1.5

    def step(self):
        if self.error == "shuffled batches":
            real, dp_sgd.poisson_batch = dp_sgd.poisson_batch, shuffled
            super().step()
            dp_sgd.poisson_batch = real
        else:
            super().step()


def violations(make) -> list[str]:
    """What a Training does otherwise than its plan is charged for, from batches, gradients and
    weights alone.
    """
    study = cnn(epochs=1, noise_multiplier=1.3, max_grad_norm=0.7, learning_rate=1.0, batch_size=40)
    images = registry.load("mnist-5k")
    plan = study.plan(len(images.train_images))
    training = make(plan, images, torch.device("cpu"))
    sizes, noise = [], []
    for _ in range(60):
        before = torch.cat([p.detach().flatten() for p in training.network.parameters()])
        seen = watch(training)
        training.step()
        after = torch.cat([p.detach().flatten() for p in training.network.parameters()])
        rows = seen["rows"]
        sizes.append(len(rows))
        clipped = clipped_sum(training, images, rows, study.clip, before)
        noise.append(
            ((before - after) * study.batch_size - clipped) / (study.noise_multiplier * study.clip)
        )
    draws = torch.cat(noise).double()
    found = []
    if abs(float(draws.std()) - 1) > 0.01:
        found.append("noise or clipping")
    rate = plan.mechanism.sample_rate
    spread = (len(sizes) - 1) * np.var(sizes, ddof=1) / (plan.examples * rate * (1 - rate))
    low, high = stats.chi2.ppf([1e-5, 1 - 1e-5], len(sizes) - 1)
    if not low < spread < high or abs(np.mean(sizes) - study.batch_size) > 4:
        found.append("sampling")
    return found


def watch(training) -> dict:
    """The rows of the next step, drawn from a copy of the sampling stream: the same rows, seen
    before they are used.
    """
    drawn = (
        shuffled if getattr(training, "error", "") == "shuffled batches" else dp_sgd.poisson_batch
    )
    twin = copy.deepcopy(training.sampling)
    return {"rows": drawn(len(training.labels), training.plan.mechanism.sample_rate, twin)}


def shuffled(n, rate, coins):
    """The planted error: a batch of one size, as ordinary trainings draw it."""
    return torch.from_numpy(coins.host.permutation(n)[: int(n * rate)])


def clipped_sum(training, images, rows, clip: float, weights) -> torch.Tensor:
    """The clipped sum of a step, by one backward pass an image, at the weights before the step."""
    network = report_cnn(1, 28, 10, 0, training.plan.activation)
    torch.nn.utils.vector_to_parameters(weights, network.parameters())
    total = torch.zeros_like(weights)
    for row in rows.tolist():
        network.zero_grad()
        logits = network(scaled(torch.tensor(images.train_images[row : row + 1])))
        torch.nn.functional.cross_entropy(
            logits, torch.tensor(images.train_labels[row : row + 1])
        ).backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        total += gradient * min(1.0, clip / float(gradient.norm()))
    return total


def test_the_training_does_what_its_plan_is_charged_for():
    assert violations(Training) == []


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("noise of 0.9 σ", "noise or clipping"),
        pytest.param("clip norm × 1.5", "noise or clipping", marks=pytest.mark.full),
        ("shuffled batches", "sampling"),
    ],
)
def test_the_same_check_finds_planted_errors(error, found):
    assert violations(lambda *arguments: Planted(error, *arguments)) == [found]


def test_the_first_weights_foretell_neither_batches_nor_noise():
    assert (
        len(
            {
                derive_seed(purpose, seed) & 0xFFFFFFFF
                for purpose in ("init", "sampling", "noise")
                for seed in range(1000)
            }
        )
        == 3000
    )


def test_no_two_private_trainings_share_batches_or_noise():
    """Whatever they differ in: with the same draws, one network less the other would hold no
    noise.
    """
    base = cnn(epochs=1, noise_multiplier=1.0)
    others = [
        base.model_copy(update=change)
        for change in (
            {"noise_multiplier": 1.1},
            {"max_grad_norm": 2.0},
            {"optimizer": "adam"},
            {"epochs": 2},
            {"seed": 1},
        )
    ]
    for purpose in ("sampling", "noise", "noise on the mean"):
        assert len({study.derive_seed(purpose) for study in (base, *others)}) == 6
    assert base.baseline().derive_seed("sampling") == derive_seed("sampling", 0)  # never published


def test_right_and_wrong_images_and_classes_agree_with_the_predictions(quick):
    _, result = quick
    images = registry.load("mnist-5k")
    right = result.arrays["predictions"] == images.test_labels
    assert result.metrics["test_accuracy"] == pytest.approx(right.mean())
    for i, name in enumerate(images.classes):
        assert result.facts["per_class"][name] == pytest.approx(
            right[images.test_labels == i].mean()
        )
    assert all(said != truth for said, truth in result.facts["wrong"])
    assert sum(n.startswith("right_") for n in result.images) == 10


def test_without_privacy_nothing_is_promised(store):
    _, result = finish(Lab(store).need(DPTraining(epochs=1).baseline()))
    assert result.guarantee.epsilon is None and "epsilon" not in result.curves
    assert result.guarantee.odds_mechanism is None


def test_no_noise_is_no_privacy_and_says_so(store):
    _, result = finish(Lab(store).need(DPTraining(epochs=1, noise_multiplier=0.0)))
    assert (
        result.guarantee.epsilon is None and "noise multiplier is 0" in result.facts["warnings"][0]
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
@pytest.mark.parametrize("activation", ["tanh", pytest.param("relu", marks=pytest.mark.full)])
def test_every_optimizer_and_activation_learns(store, optimizer, activation):
    _, result = finish(
        Lab(store).need(
            cnn(epochs=2, noise_multiplier=0.6, optimizer=optimizer, activation=activation)
        )
    )
    assert result.metrics["test_accuracy"] > 0.35


def test_a_training_that_diverges_ends_with_its_curve(store):
    _, result = finish(
        Lab(store).need(
            cnn(private=False, learning_rate=10.0, activation="relu", batch_size=10, epochs=3)
        )
    )
    assert result.facts["diverged"] and len(result.curves["train_loss"]) < 3


def test_a_batch_larger_than_the_data_is_refused(store):
    with pytest.raises(Refused, match="batch_size: 5000 is not allowed.*4000 training images"):
        finish(Lab(store).need(DPTraining(batch_size=5000)))


def test_more_steps_than_a_worker_can_bear_are_refused(store):
    with pytest.raises(Refused, match="epochs: 200 at batch size 1 is not allowed: 800,000 steps"):
        finish(Lab(store).need(DPTraining(batch_size=1, epochs=200)))


def test_noise_too_small_to_be_counted_is_refused():
    for small in (1e-200, 1e-9, 0.009):
        with pytest.raises(Refused, match="noise_multiplier"):
            build(DPTraining, {"noise_multiplier": repr(small)})
    assert build(DPTraining, {"noise_multiplier": "0"}).noise_multiplier == 0


def test_all_images_in_every_step_is_allowed(store):
    _, result = finish(Lab(store).need(DPTraining(batch_size=4000, epochs=2, noise_multiplier=2.0)))
    assert result.guarantee.sample_rate == 1 and math.isfinite(result.guarantee.epsilon)


def test_a_large_delta_is_warned_of(store):
    _, result = finish(Lab(store).need(DPTraining(epochs=1, delta=0.01)))
    assert any("δ" in w for w in result.facts["warnings"])


def test_train_and_test_images_are_different_ones():
    images = registry.load("mnist-5k")
    train = {i.tobytes() for i in images.train_images}
    assert not any(i.tobytes() in train for i in images.test_images)
    assert np.bincount(images.test_labels).tolist() == [100] * 10


def test_copies_are_the_image_itself_and_shifted_ones():
    images = registry.load("mnist-5k")
    study = cnn(epochs=1, noise_multiplier=1.0, augmentations=4)
    training = Training(study.plan(4000), images, torch.device("cpu"))
    some = torch.tensor(images.train_images[:20])
    copies = training._copies(some).view(20, 4, 28, 28, 1)
    assert torch.equal(copies[:, 0], some) and not torch.equal(copies[:, 1], some)
    padded = np.pad(images.train_images[:20], ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifted = {padded[7, y : y + 28, x : x + 28].tobytes() for y in range(5) for x in range(5)}
    assert all(copy.numpy().tobytes() in shifted for copy in copies[7])
    assert (
        len({copy.numpy().tobytes() for copy in training._copies(some[:1].expand(200, -1, -1, -1))})
        > 20
    )


def test_the_published_network_is_the_mean_of_the_last_ones():
    images = registry.load("mnist-5k")
    # five steps: those after the second are averaged
    study = cnn(epochs=1, noise_multiplier=1.0, averaging=0.5, batch_size=800)
    training, seen = Training(study.plan(4000), images, torch.device("cpu")), []
    for _ in range(5):
        training.step()
        seen.append([p.detach().clone() for p in training.network.parameters()])
    for mean, *parts in zip(training.released(), *seen[2:]):
        assert torch.allclose(mean, torch.stack(parts).mean(0), atol=1e-6)
    assert not torch.allclose(training.released()[0], seen[-1][0], atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    full_unless(
        lambda changes: changes.keys() & {"norm", "momentum"},
        [
            {"norm": "group"},
            {"augmentations": 2},
            {"averaging": 0.5},
            {"momentum": 0.9, "learning_rate": 0.1},
        ],
    ),
)
def test_every_recipe_of_the_cnn_learns(store, changes):
    _, result = finish(Lab(store).need(cnn(epochs=2, noise_multiplier=0.6, **changes)))
    assert result.metrics["test_accuracy"] > 0.35
