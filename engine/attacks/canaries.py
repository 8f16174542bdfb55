"""Audited trainings: the unchanged training code, with canaries among the images. torch.

The rows are those that auditing.Canaries describes. A canary has a column of its own, in which only
its rows are nonzero. The linear model receives it as an additional feature, the CNN as an
additional input beside the image, connected to the output by a separate layer. `Auditing.auditor`
observes what each step publishes about these columns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jacrev

from engine.attacks.auditing import FLOAT32, Canaries, MechanismAuditor, Observation
from engine.learning import networks
from engine.learning.features import longest
from engine.learning.linear import LinearTraining
from engine.learning.plan import TrainingPlan
from engine.learning.trainer import Learner, Training
from engine.privacy.noise import GaussianNoise

# a canary's entry: large enough to dominate its gradient, small enough that noise does not
# determine its predicted label
LIGHT = 50.0
# byte values of a canary in an image: a positive entry, a negative one; 0 is none
CODES = (200, 100)
FAR = 1e6  # multiple of the clip norm that amounts to no clipping


class Float32Noise(GaussianNoise):
    """A planted error: float32 draws by torch's CPU generator, as in most code."""

    def __init__(self, seed: int, device: torch.device):
        super().__init__(seed)
        self.generator, self.where = torch.Generator().manual_seed(seed), device

    def tensor(self, *shape: int) -> torch.Tensor:
        """Float64 copies of float32 draws."""
        return torch.randn(shape, generator=self.generator).double().to(self.where)


class Auditing(Learner):
    """The common part of both trainings with canaries."""

    shuffling: torch.Generator | None = None  # of the planted error "shuffled batches"

    def prepare(self, canaries: Canaries, bug: str) -> None:
        """Create the auditor and plant the error; call this right before the first step.

        bug: the error, as named by the study, that the accountant does not know of.
        """
        mechanism, streams = self.plan.mechanism, self.plan.streams
        self.canaries = canaries
        self.auditor = MechanismAuditor(
            canaries,
            mechanism.noise_multiplier,
            mechanism.sample_rate,
            self.plan.steps_per_epoch,
        )
        if bug == "no clipping":
            self.bind(mechanism.max_grad_norm * FAR, mechanism.noise_multiplier / FAR)
        elif bug == "half the noise":
            self.bind(mechanism.max_grad_norm, mechanism.noise_multiplier / 2)
        elif bug == "float32 noise":
            self.use(Float32Noise(streams.derive_seed("noise"), self.device))
        elif bug == "shuffled batches":
            self.shuffling = torch.Generator(self.device).manual_seed(
                streams.derive_seed("shuffling")
            )
            self.waiting: list[torch.Tensor] = []

    def use(self, noise: GaussianNoise) -> None:
        """Draw noise from this source from now on."""
        raise NotImplementedError

    def canary_means(self) -> torch.Tensor:
        """The released mean of each canary's column, (columns,)."""
        raise NotImplementedError

    def canary_logits(self, sign: float) -> torch.Tensor:
        """The model's logits of each canary with an entry of this sign, (columns, classes)."""
        raise NotImplementedError

    def canary_norms(self, sign: float, residual: torch.Tensor) -> torch.Tensor:
        """Norms (columns, labels) of each row's whole gradient before clipping.

        residual: (columns, labels, classes).
        """
        raise NotImplementedError

    def canary_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The released gradients of the canaries (columns, classes) and of the bias (classes,)."""
        raise NotImplementedError

    def observe_noise(self, total: torch.Tensor, released: torch.Tensor) -> None:
        """Observe the noise of one release: the released values minus the exact sum, both (n,).

        Only the trainer has that sum. Released values are rounded to float32, which blurs the
        noise.
        """
        unit = self.plan.mechanism.noise_std
        sums, noised = (
            found.detach().double().flatten().cpu().numpy() / unit
            for found in (total, released.double() * self.plan.batch_size)
        )
        noise = noised - sums
        error = FLOAT32 / np.sqrt(3) * (np.abs(sums) + 2 * np.abs(noise))  # √3: uniform error
        self.auditor.tails.observe(noise, error)

    def draw(self) -> torch.Tensor:
        """Draw the rows of the next batch, or take those of a shuffled epoch as in most code."""
        if self.shuffling is None:
            return super().draw()
        if not self.waiting:
            order = torch.randperm(len(self.labels), generator=self.shuffling, device=self.device)
            self.waiting = list(order.tensor_split(self.plan.steps_per_epoch))
        return self.waiting.pop()

    def step(self) -> None:
        """Take one training step and observe it."""
        self.learn(self.draw())
        self.auditor.observe(self.observed())
        self.advance()

    def observed(self) -> Observation:
        """What the gradients reveal about the canaries' columns, in units of the clip norm."""
        m, each = len(self.canaries.included), torch.arange(len(self.canaries.included))
        unit = self.plan.batch_size / self.plan.mechanism.max_grad_norm
        weight, bias = (one * unit for one in self.canary_gradients())
        (up, reach), (down, _), labels = (
            self._contributions(1.0),
            self._contributions(-1.0),
            torch.from_numpy(self.canaries.labels),
        )
        found = (
            weight,
            bias,
            self.canary_means(),
            up[each, labels],
            torch.cat([up[m:], down[m:]], 1),
            reach[each, labels],
        )
        return Observation(*(one.detach().double().cpu().numpy() for one in found))

    def _contributions(self, sign: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The contributions of a row with an entry of this sign to its column's sum.

        Returns the clipped contributions (columns, labels, classes) and their norms without
        clipping, (columns, labels).
        """
        residual = self.canary_logits(sign).double().softmax(1)[:, None] - torch.eye(
            self.canaries.classes, device=self.device
        )
        # (columns, labels)
        clip = self.plan.mechanism.max_grad_norm
        factors = (clip / self.canary_norms(sign, residual).clamp_min(1e-200)).clamp(max=1)
        whole = sign * LIGHT / clip * residual
        return factors[:, :, None] * whole, whole.norm(dim=2)


def grad_of(parameter: torch.Tensor) -> torch.Tensor:
    """The gradient that a step has set."""
    assert parameter.grad is not None
    return parameter.grad


def _released_with_half_the_noise(plan: TrainingPlan) -> TrainingPlan:
    """The same plan, with half of the noise on the mean."""
    noise = plan.mechanism.release_noise
    half = replace(plan.mechanism, release_noise=None if noise is None else noise / 2)
    return replace(plan, mechanism=half)


class AuditedLinear(Auditing, LinearTraining):
    """The linear model with an additional column for every canary.

    A canary's row is the mean of the test images' rows, of which little remains once the released
    mean is subtracted, with LIGHT in its own column.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        images,
        device: torch.device,
        train: np.ndarray,
        test: np.ndarray,
        canaries: Canaries,
        bug: str,
    ):
        (n, d), (columns, labels, signs) = train.shape, canaries.rows()
        base = test.mean(0, dtype=np.float64).astype(np.float16)
        rows, tests = (
            np.zeros((n + len(columns), d + canaries.columns), np.float16),
            np.zeros((len(test), d + canaries.columns), np.float16),
        )
        rows[:n, :d], rows[n:, :d], tests[:, :d] = train, base, test
        rows[np.arange(n, len(rows)), d + columns] = LIGHT * signs
        super().__init__(
            _released_with_half_the_noise(plan) if bug == "half the noise" else plan,
            replace(images, train_labels=np.r_[images.train_labels, labels]),
            device,
            rows,
            tests,
        )
        self.plan = plan  # what the accountant assumes
        self.base = torch.zeros(d + canaries.columns, device=device)
        self.base[:d] = torch.from_numpy(base).to(device)
        self.first = d
        self.prepare(canaries, bug)
        if (release := plan.mechanism.release_noise) is not None:
            m, noise = len(canaries.included), release * longest(rows.shape[1]) / LIGHT
            self.auditor.release(self.canary_means()[:m].double().cpu().numpy() * n / LIGHT, noise)

    def use(self, noise: GaussianNoise) -> None:
        """Draw noise from this source from now on."""
        self.noise = noise

    def release(self, totals: tuple[torch.Tensor, ...]) -> None:
        """Release the sums and observe their noise."""
        super().release(totals)
        for parameter, total in zip(self.parameters, totals):
            self.observe_noise(total, grad_of(parameter))

    def canary_means(self) -> torch.Tensor:
        """The released mean of each canary's column, (columns,)."""
        return self.mean[self.first :]

    def canary_logits(self, sign: float) -> torch.Tensor:
        """The model's logits of each canary, (columns, classes)."""
        return (
            sign * LIGHT * self.weight[:, self.first :].T
            + self.weight @ (self.base - self.mean)
            + self.bias
        )

    def canary_norms(self, sign: float, residual: torch.Tensor) -> torch.Tensor:
        """Norms (columns, labels) of each row's whole gradient before clipping.

        residual: (columns, labels, classes).
        """
        far = (
            (self.base - self.mean).square().sum()
            + 1
            - 2 * sign * LIGHT * self.canary_means()
            + LIGHT**2
        ).sqrt()
        return residual.norm(dim=2) * far[:, None]

    def canary_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The released gradients of the canaries (columns, classes) and of the bias (classes,)."""
        return grad_of(self.weight)[:, self.first :].T, grad_of(self.bias)


class AuditedCNN(Auditing, Training):
    """The CNN of report 3 (Boulif and Durand 2021) with an additional input for every canary."""

    network: WithCanaries

    def __init__(
        self, plan: TrainingPlan, images, device: torch.device, canaries: Canaries, bug: str
    ):
        self.shape = images.train_images.shape[1:]
        columns, labels, signs = canaries.rows()
        n, size = len(images.train_images), int(np.prod(self.shape))
        train = np.zeros((n + len(columns), 1, 1, size + canaries.columns), np.uint8)
        train[:n, 0, 0, :size] = images.train_images.reshape(n, -1)
        train[np.arange(n, len(train)), 0, 0, size + columns] = np.where(signs > 0, *CODES)
        test = np.zeros((len(images.test_images), 1, 1, train.shape[3]), np.uint8)
        test[:, 0, 0, :size] = images.test_images.reshape(len(test), -1)
        self.canary_columns = canaries.columns
        super().__init__(
            plan,
            replace(
                images,
                train_images=train,
                train_labels=np.r_[images.train_labels, labels],
                test_images=test,
            ),
            device,
        )
        self.black = torch.full((1, self.shape[2], *self.shape[:2]), -1.0, device=device)
        self.prepare(canaries, bug)
        self.release = self.private_gradient.release
        # This one gradient is observed; those of other trainings stay as they are.
        self.private_gradient.release = self._watched_release  # type: ignore[method-assign]

    def use(self, noise: GaussianNoise) -> None:
        """Draw noise from this source from now on."""
        self.private_gradient.noise = noise

    def _watched_release(self, total: torch.Tensor) -> None:
        """Release the sum and observe its noise."""
        self.release(total)
        layers = self.private_gradient.layers
        parameters = [p for layer in layers for p in layer.parameters(recurse=False)]
        self.observe_noise(total, torch.cat([grad_of(p).flatten() for p in parameters]))

    def build(self, images) -> WithCanaries:
        """The CNN for the images, with a linear layer for the canaries beside it."""
        h, _, channels = self.shape
        network = networks.report_cnn(
            channels,
            h,
            len(images.classes),
            self.plan.streams.derive_seed("init"),
            self.plan.activation,
            self.plan.norm,
        )
        return WithCanaries(network, self.shape, self.canary_columns, len(images.classes))

    def _copies(self, images: torch.Tensor) -> torch.Tensor:
        """Shift only the image, not the canaries."""
        size = int(np.prod(self.shape))
        pixels, codes = images[..., :size], images[..., size:]
        moved = super()._copies(pixels.reshape(-1, *self.shape))
        return torch.cat(
            [
                moved.reshape(len(moved), 1, 1, size),
                codes.repeat_interleave(self.plan.augmentations, 0),
            ],
            3,
        )

    def canary_means(self) -> torch.Tensor:
        """Zeros (columns,), because no mean is subtracted from the CNN's inputs."""
        return torch.zeros(self.canary_columns, device=self.device)

    @torch.no_grad()
    def canary_logits(self, sign: float) -> torch.Tensor:
        """The network's logits of a black image with each canary, (columns, classes)."""
        return self.network.images(self.black) + sign * LIGHT * self.network.canaries.weight.T

    def canary_norms(self, sign: float, residual: torch.Tensor) -> torch.Tensor:
        """Norms (columns, labels) of each row's whole gradient before clipping.

        The gradient combines that of the black image and that of its canary.
        """
        ways = jacrev(
            lambda weights: functional_call(self.network.images, weights, (self.black,))[0]
        )({n: p.detach() for n, p in self.network.images.named_parameters()})
        # (classes, weights)
        each = torch.cat([way.flatten(1) for way in ways.values()], 1).double()
        return (
            (residual @ (each @ each.T) * residual).sum(2) + residual.square().sum(2) * LIGHT**2
        ).sqrt()

    def canary_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The canaries' released gradients (columns, classes), and zeros (classes,): no bias."""
        return grad_of(self.network.canaries.weight).T, torch.zeros(
            self.canaries.classes, device=self.device
        )


class WithCanaries(nn.Module):
    """The sum of a network for images and a linear layer for canaries.

    (batch, h·w·c + columns, 1, 1) scaled to [−1, 1] → (batch, classes).
    """

    def __init__(self, images: nn.Module, shape: tuple[int, int, int], columns: int, classes: int):
        super().__init__()
        self.images, self.shape = images, shape
        self.canaries = nn.Linear(columns, classes, bias=False)
        nn.init.zeros_(self.canaries.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes) of images with their canaries; see the class for the input."""
        x, size = x.flatten(1), int(np.prod(self.shape))
        images = x[:, :size].reshape(-1, *self.shape).permute(0, 3, 1, 2)
        codes = (x[:, size:] + 1) * 127.5  # back to the byte values of CODES
        middle = sum(CODES) / 2
        return self.images(images) + LIGHT * self.canaries(
            (codes > middle).float() - ((codes > CODES[1] / 2) & (codes <= middle)).float()
        )
