"""Training of one network on one device.

The images are one uint8 tensor on the device, and batches are indices into it. `Learner` is the
part common to all DP studies, `Training` trains a CNN under DP-SGD or without privacy, and
`Supervised` trains the networks of report 1 (Green, Hodson, Hanoian 2020).
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.datasets import imaging
from engine.evaluation import cautions
from engine.learning import dp_sgd, networks
from engine.learning.plan import TrainingPlan
from engine.privacy.noise import BernoulliSampler, GaussianNoise

if TYPE_CHECKING:
    from engine.learning.stacked_steps import Group

EVALUATE = 2000  # images per forward pass during evaluation
SHOWN_ROWS = 10_000  # training accuracy is measured on at most this many training images
ANSWERS = 40  # test images shown with the network's predictions during training
SHIFT = 2  # pixels, for augmented copies
LATEST = 10  # batches; their median loss counts as the final loss of a training
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}


def scaled(images: torch.Tensor) -> torch.Tensor:
    """(n, h, w, c) uint8 → (n, c, h, w) float32 in [-1, 1].

    The scale is fixed: the data's own mean and spread would leak.
    """
    return images.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)


def shifts(count: int, copies: int, generator: torch.Generator) -> torch.Tensor:
    """Random shifts (2, count, copies), down and right, for each image's copies.

    They refer to a canvas with SHIFT black pixels around the image; the first copy is the image
    itself.
    """
    moves = torch.randint(
        0, 2 * SHIFT + 1, (2, count, copies), generator=generator, device=generator.device
    )
    moves[:, :, 0] = SHIFT
    return moves


def shifted(images: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Make shifted copies of images (b, h, w, c) by moves (2, b, copies) → (b·copies, h, w, c).

    Each image's copies follow each other, shifted by up to two pixels in each direction.
    """
    (b, h, w, c), copies = images.shape, moves.shape[2]
    padded = F.pad(images, (0, 0, SHIFT, SHIFT, SHIFT, SHIFT))
    # (b, copies, h), (b, copies, w)
    y, x = (
        torch.arange(side, device=images.device) + moves[i][:, :, None]
        for i, side in enumerate((h, w))
    )
    image = torch.arange(b, device=images.device)[:, None, None, None]
    return padded[image, y[:, :, :, None], x[:, :, None, :]].view(b * copies, h, w, c)


class Learner:
    """The common part of a study's training: Poisson batches, steps, metrics and previews.

    A subclass sets the gradients of its parameters in `learn`, with noise from `noise`
    (engine.privacy.noise), and computes logits. In a `group` (engine/learning/stacked_steps.py) its
    steps are taken together with those of other learners.
    """

    def __init__(self, plan: TrainingPlan, images, device: torch.device):
        self.plan, self.device = plan, device
        self.labels = torch.tensor(images.train_labels).to(device)
        self.test_images, self.test_labels = (
            images.test_images,
            torch.tensor(images.test_labels).to(device),
        )
        self.shown = min(SHOWN_ROWS, len(self.labels))
        self.sampling = BernoulliSampler(plan.streams.derive_seed("sampling"), device)
        self.noise = GaussianNoise(plan.streams.derive_seed("noise"), device)
        self.fingerprint = images.fingerprint
        self.lost, self.steps, self.asked = False, 0, 0
        self.averaged: list[torch.Tensor] | None = None  # None before the first averaged step
        self.group: Group | None = None
        self.divergence: list[str] = []  # warnings of the latest measurement
        self.among: torch.Tensor | None = None  # rows that it trains on, ascending; None: all

    def begin(self, parameters: list[torch.Tensor]) -> None:
        """Set the trained parameters and create their optimizer."""
        self.parameters = parameters
        more = {"momentum": self.plan.momentum} if self.plan.optimizer == "sgd" else {}
        self.optimizer = OPTIMIZERS[self.plan.optimizer](
            parameters, lr=self.plan.learning_rate, **more
        )

    def step(self) -> None:
        """Take one step on one Poisson batch; in a group, once all its members have asked."""
        if self.group:
            self.asked += 1
            return self.group.step()
        self.learn(self.draw())
        self.advance()

    def share(self, other: Self) -> None:
        """Use the images that another learner of the same data holds in memory."""
        raise NotImplementedError

    def bind(self, max_grad_norm: float, noise_multiplier: float) -> None:
        """Set another clip norm and noise multiplier from now on."""
        raise NotImplementedError

    def draw(self) -> torch.Tensor:
        """Draw the rows of the next batch."""
        rows = dp_sgd.poisson_batch(self.count, self.plan.mechanism.sample_rate, self.sampling)
        return rows if self.among is None else self.among[rows]

    @property
    def count(self) -> int:
        """The number of images it trains on."""
        return len(self.labels) if self.among is None else len(self.among)

    def advance(self) -> None:
        """Take one step along the gradients that `learn` has set."""
        self.optimizer.step()
        self.steps += 1
        self._average()

    def _average(self) -> None:
        """Update the mean of the parameters over the last steps.

        These are a fixed fraction of all steps. Averaging is post-processing of what was released
        at every step.
        """
        begun = self.plan.average_from
        if self.steps <= begun:
            return
        if self.averaged is None:
            self.averaged = [p.detach().clone() for p in self.parameters]
        for mean, p in zip(self.averaged, self.parameters):
            mean.add_(p.detach() - mean, alpha=1 / (self.steps - begun))

    def released(self) -> list[torch.Tensor]:
        """The parameters as they would be published now: the last ones, or their mean so far.

        Raises RuntimeError if a step that was asked for was never taken.
        """
        if self.group and self.steps != self.asked:
            raise RuntimeError(
                f"{self.asked} steps were asked for, and {self.steps} taken:"
                f" {self.group.broken or 'the others have not asked'}"
            ) from self.group.broken
        return self.averaged or [p.detach() for p in self.parameters]

    def learn(self, rows: torch.Tensor) -> None:
        """Set every parameter's gradient from these training images."""
        raise NotImplementedError

    def test_logits(self) -> torch.Tensor:
        """Logits of all test images, (m, classes)."""
        raise NotImplementedError

    def shown_logits(self) -> torch.Tensor:
        """Logits of the training images that accuracy is measured on, (shown, classes)."""
        raise NotImplementedError

    def weights(self) -> np.ndarray:
        """All that is published of the finished network, in one row, float32."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Measure the current accuracy in [0, 1] on test and training images and the training loss.

        The loss is the mean in nats.
        """
        test, train, labels = self.test_logits(), self.shown_logits(), self.labels[: self.shown]
        named = networks.named(test)
        self.predictions = named.cpu().numpy()  # (m,), current predictions
        # post-processing of the network
        self.lost = not all(bool(p.isfinite().all()) for p in self.parameters)
        loss, right = (
            float(F.cross_entropy(train, labels)),
            float((networks.named(train) == labels).double().mean()),
        )
        learned = cautions.beyond_guessing(right, labels.cpu().numpy())
        remedy = cautions.CALMER if self.plan.mechanism.noise_multiplier else cautions.SMALLER
        self.divergence = cautions.divergence(
            math.nan if self.lost else loss, math.log(train.shape[1]), learned, remedy=remedy
        )
        return {
            "test_accuracy": float((named == self.test_labels).double().mean()),
            "train_accuracy": right,
            "train_loss": loss,
        }

    def answers(self) -> bytes:
        """PNG of 40 fixed test images, framed if misclassified in the latest measurement."""
        return imaging.answers(
            self.test_images, self.predictions == self.test_labels.cpu().numpy(), ANSWERS
        )


class Training(Learner):
    """Training of a small CNN, the one of report 3 (Boulif and Durand 2021), on images.

    The images are one uint8 tensor on the device.
    """

    def __init__(self, plan: TrainingPlan, images, device: torch.device):
        super().__init__(plan, images, device)
        self.images, self.test_images = (
            torch.tensor(found).to(device) for found in (images.train_images, images.test_images)
        )
        self.network = self.build(images).to(device)
        if plan.mechanism.clips:
            self.private_gradient = dp_sgd.PrivateGradient(
                self.network,
                expected_batch=plan.batch_size,
                max_grad_norm=plan.mechanism.max_grad_norm,
                noise_multiplier=plan.mechanism.noise_multiplier,
                copies=plan.augmentations,
                noise=self.noise,
            )
        self.shifts = torch.Generator(device).manual_seed(plan.streams.derive_seed("augmentations"))
        self.begin(list(self.network.parameters()))

    def build(self, images) -> torch.nn.Module:
        """The network before its first step."""
        h, _, channels = images.train_images.shape[1:]
        return networks.report_cnn(
            channels,
            h,
            len(images.classes),
            derive_seed("init", self.plan.streams.seed),
            self.plan.activation,
            self.plan.norm,
        )

    def share(self, other: Self) -> None:
        """Use the images that another learner of the same data holds in memory."""
        self.images, self.test_images, self.labels, self.test_labels = (
            other.images,
            other.test_images,
            other.labels,
            other.test_labels,
        )

    def bind(self, max_grad_norm: float, noise_multiplier: float) -> None:
        """Set another clip norm and noise multiplier from now on.

        For audits, which plant errors; no ε accounts for it.
        """
        self.private_gradient.max_grad_norm, self.private_gradient.noise_multiplier = (
            max_grad_norm,
            noise_multiplier,
        )

    def learn(self, rows: torch.Tensor) -> None:
        """Set the gradients of a batch.

        Those of the non-private baseline are neither clipped nor noised.
        """
        copies = self.plan.augmentations
        images, labels = (
            self._copies(self.images[rows]),
            self.labels[rows].repeat_interleave(copies),
        )
        if self.plan.mechanism.clips:
            self.private_gradient(scaled(images), labels)
        else:
            self.optimizer.zero_grad()
            expected = self.plan.batch_size * copies
            (
                F.cross_entropy(self.network(scaled(images)), labels, reduction="sum") / expected
            ).backward()

    def _copies(self, images: torch.Tensor) -> torch.Tensor:
        """Add the augmented copies, (b, h, w, c) → (b·copies, h, w, c)."""
        copies = self.plan.augmentations
        return shifted(images, shifts(len(images), copies, self.shifts)) if copies > 1 else images

    @torch.no_grad()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(n, h, w, c) uint8 on the device → (n, classes), with the parameters to be published."""
        names = [name for name, _ in self.network.named_parameters()]
        weights = dict(zip(names, self.released()))
        return torch.cat(
            [
                functional_call(self.network, weights, (scaled(part),))
                for part in images.split(EVALUATE)
            ]
        )

    def weights(self) -> np.ndarray:
        """Every parameter, in the network's order."""
        return torch.cat([p.flatten() for p in self.released()]).cpu().numpy()

    @torch.no_grad()
    def restore(self, weights: np.ndarray) -> None:
        """Set the parameters from what `weights` returned."""
        self.averaged = None
        torch.nn.utils.vector_to_parameters(
            torch.from_numpy(weights).to(self.device), self.network.parameters()
        )

    def test_logits(self) -> torch.Tensor:
        """Logits of all test images, (m, classes)."""
        return self.logits(self.test_images)

    def shown_logits(self) -> torch.Tensor:
        """Logits of the training images that accuracy is measured on, (shown, classes)."""
        return self.logits(self.images[: self.shown])


class Supervised:
    """Non-private training on float images: report 1's networks with Adadelta, in shuffled batches.

    images (n, h, w, c) float32 and labels (n,) → a network with `outputs` logits; tests: name →
    images to predict.
    """

    def __init__(
        self,
        study,
        images: np.ndarray,
        labels: np.ndarray,
        tests: dict[str, np.ndarray],
        outputs: int,
        device: torch.device,
    ):
        self.study, self.device, self.outputs = study, device, outputs
        self.images, self.labels = (
            _pixels_last(images, device),
            torch.tensor(labels).long().to(device),
        )
        self.tests = {name: _pixels_last(found, device) for name, found in tests.items()}
        _, h, _, channels = images.shape
        network = networks.keras_cnn(
            study.network, study.width, channels, h, outputs, derive_seed("init", study.seed)
        )
        self.network = networks.channels_last(network.to(device))
        self.parameters = sum(p.numel() for p in network.parameters())
        # the settings of Keras 2
        self.optimizer = torch.optim.Adadelta(
            self.network.parameters(), lr=study.learning_rate, rho=0.95, eps=1e-7
        )
        self.shuffling = torch.Generator().manual_seed(derive_seed("sampling", study.seed))
        self.loss = self.agreement = 0.0  # over the last epoch, measured during training
        self.latest: deque[torch.Tensor] = deque(maxlen=LATEST)  # losses of the last batches
        self._predicted: dict[str, np.ndarray] = {}

    def epoch(self):
        """Run one pass over the images; yields (step, steps)."""
        batches = (
            torch.randperm(len(self.images), generator=self.shuffling)
            .to(self.device)
            .split(self.study.batch_size)
        )
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        self.network.train()
        for step, rows in enumerate(batches, 1):
            # a batch of a single image would distort batch norm
            if len(rows) > 1 or self.study.batch_size == 1:
                one = self._step(rows)
                loss, right = loss + one[0], right + one[1]
            yield step, len(batches)
        self.loss, self.agreement = float(loss) / len(self.images), float(right) / len(self.images)
        self._predicted.clear()

    def _step(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; returns the batch's summed loss and its number of correct predictions.

        Both are measured in training mode, with dropout.
        """
        labels = self.labels[rows]
        logits = self.network(self.images[rows])
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.latest.append(loss.detach())
        return loss.detach() * len(rows), (logits.detach().argmax(1) == labels).sum()

    def divergence(self) -> list[str]:
        """A warning if training ended worse than guessing among its outputs, or none."""
        weights = self.network.parameters()
        finite = all(bool(p.isfinite().all()) for p in weights)
        loss = median_loss(self.latest) if finite else math.nan
        learned = cautions.beyond_guessing(self.agreement, self.labels.cpu().numpy())
        return cautions.divergence(loss, math.log(self.outputs), learned)

    @torch.no_grad()
    def predict(self, name: str) -> np.ndarray:
        """Predicted classes (n,) of test images, as of the last epoch; -1 if an output is NaN."""
        if name not in self._predicted:
            self.network.eval()
            self._predicted[name] = (
                torch.cat(
                    [
                        networks.named(self.network(part))
                        for part in self.tests[name].split(EVALUATE)
                    ]
                )
                .cpu()
                .numpy()
            )
        return self._predicted[name]

    def input_image(self, name: str, row: int) -> np.ndarray:
        """One test image as the network sees it, (h, w, c)."""
        return self.tests[name][row].permute(1, 2, 0).cpu().numpy()


def median_loss(losses) -> float:
    """The median of batch losses; NaN if one of them is NaN.

    A single bad batch does not affect it. 0 without losses.
    """
    return float(np.median(torch.stack(list(losses)).cpu().numpy())) if losses else 0.0


def _pixels_last(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """View images (n, h, w, c) as (n, c, h, w), which keeps channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(device)
