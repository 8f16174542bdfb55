"""Non-private and private training of residual networks. torch.

Used for the teacher of page Synthesis and the students of its images.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from engine.core.streams import Streams, derive_seed
from engine.evaluation import cautions
from engine.learning import dp_sgd
from engine.learning.networks import ResNet, channels_last, named
from engine.learning.trainer import EVALUATE, LATEST, OPTIMIZERS, median_loss
from engine.privacy.mechanism import Mechanism
from engine.privacy.noise import BernoulliSampler, GaussianNoise

BLACK = -1.0  # as Scale() maps it
WARM_UP = 0.2  # fraction of the steps in which the learning rate rises


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    The learning rate rises for a fifth of the steps and falls to 0 along a cosine.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adam"  # or "sgd": Nesterov momentum 0.9
    weight_decay: float = 0.0
    # largest standard deviation of the noise on an image, in units of half the pixel range; each
    # image draws a fraction of it
    pixel_noise: float = 0.0
    shift: int = 0  # pixels in each direction
    flip: bool = False
    mixup: float = 0.0  # α of the Beta distribution; 0: none
    temperature: float = 1.0  # of the soft labels
    soft_share: float = 0.0  # weight of the soft labels in the loss; the rest goes to hard labels


@dataclass(frozen=True)
class Scale:
    """Maps pixels in [0, 1] to network inputs: (pixel − mean) / std.

    mean and std hold one number per channel, or one for all channels.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale images (n, c, h, w) in [0, 1]."""
        mean, std = (
            torch.tensor(found, device=pixels.device)[:, None, None]
            for found in (self.mean, self.std)
        )
        return (pixels - mean) / std

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """Scale images (n, h, w, c) uint8 → (n, c, h, w) float32, channels last in memory."""
        return self(images.permute(0, 3, 1, 2).to(torch.float32).div_(255))


class Fit:
    """Trains a network on images (n, h, w, c) uint8 with labels (n,).

    logits: a teacher's, (n, classes), for soft labels.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        images: torch.Tensor,
        labels: torch.Tensor,
        seed: int,
        logits: torch.Tensor | None = None,
        scale: Scale = Scale(),
    ):
        self.network, self.recipe, self.scale = channels_last(network), recipe, scale
        self.images, self.labels, self.logits = images, labels, logits
        self.size = min(recipe.batch_size, len(images))
        # per epoch; the rows left over wait for a later epoch
        self.steps = len(images) // self.size
        self.draws = torch.Generator().manual_seed(derive_seed("fit", seed))
        self.mixing = np.random.default_rng(derive_seed("mixup", seed))
        kind, more = (
            OPTIMIZERS[recipe.optimizer],
            ({"momentum": 0.9, "nesterov": True} if recipe.optimizer == "sgd" else {}),
        )
        self.optimizer = kind(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **more
        )
        total = max(2, self.steps * recipe.epochs) + 1
        total += WARM_UP * total == 1  # OneCycleLR would divide by a rise of zero steps
        # cycle_momentum off: the schedule must change only the learning rate
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            recipe.learning_rate,
            total_steps=total,
            pct_start=WARM_UP,
            cycle_momentum=False,
        )
        self.loss = 0.0  # mean over the last epoch
        self.latest: deque[torch.Tensor] = deque(maxlen=LATEST)  # losses of the last batches

    def epoch(self) -> Iterator[int]:
        """Run one pass over the images; yields the number of steps done in it."""
        self.network.train()
        rows = torch.randperm(len(self.images), generator=self.draws).to(self.images.device)
        total = torch.zeros((), device=self.images.device)
        for step, batch in enumerate(rows.split(self.size)[: self.steps], 1):
            total += self._step(batch)
            yield step
        self.loss = float(total) / self.steps

    def _step(self, rows: torch.Tensor) -> torch.Tensor:
        x, weight, other = self.changed(self.scale.of(self.images[rows]))
        outputs = self.network(x)
        loss = weight * self.wanted(outputs, rows)
        if other is not None:
            loss = loss + (1 - weight) * self.wanted(outputs, rows[other])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.latest.append(loss.detach())
        return loss.detach()

    @torch.no_grad()
    def divergence(self, remedy: str = cautions.SMALLER) -> list[str]:
        """A warning if training ended worse than predicting all classes equally, or none."""
        rows = torch.arange(min(EVALUATE, len(self.images)), device=self.images.device)
        said, labels = outputs(self.network, self.images[rows], self.scale), self.labels[rows]
        right = float((named(said) == labels).double().mean())
        finite = all(bool(p.isfinite().all()) for p in self.network.parameters())
        # measured on the labels it is trained on, hard or soft
        guessing = float(self.wanted(torch.zeros_like(said), rows))
        learned = cautions.beyond_guessing(right, labels.cpu().numpy())
        return cautions.divergence(
            median_loss(self.latest) if finite else math.nan, guessing, learned, remedy=remedy
        )

    def wanted(self, outputs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The loss of outputs (b, classes) for rows (b,).

        The targets are hard labels, soft labels (Hinton et al. 2015), or a mixture.
        """
        share, t = self.recipe.soft_share, self.recipe.temperature
        if share == 0:
            return F.cross_entropy(outputs, self.labels[rows])
        assert self.logits is not None  # soft labels are made from them
        soft = F.kl_div(
            F.log_softmax(outputs / t, 1),
            F.log_softmax(self.logits[rows] / t, 1),
            reduction="batchmean",
            log_target=True,
        )
        if share == 1:
            return t * t * soft
        return (1 - share) * F.cross_entropy(outputs, self.labels[rows]) + share * t * t * soft

    def changed(self, x: torch.Tensor) -> tuple[torch.Tensor, float, torch.Tensor | None]:
        """Augment x (b, c, h, w) with noise, shifts, flips and mixup.

        Returns the images, the weight of each image's own label, and the index of the image that it
        was mixed with (None without mixup).
        """
        recipe, b = self.recipe, len(x)
        if recipe.pixel_noise:
            strength = torch.rand(b, 1, 1, 1, generator=self.draws) * recipe.pixel_noise
            x = x + (strength * torch.randn(x.shape, generator=self.draws)).to(x.device)
        if recipe.shift:
            x = shifted(x, recipe.shift, self.draws)
        if recipe.flip:
            x = torch.where(
                (torch.rand(b, 1, 1, 1, generator=self.draws) < 0.5).to(x.device), x.flip(3), x
            )
        if not recipe.mixup:
            return x, 1.0, None
        weight, other = (
            self.mixing.beta(recipe.mixup, recipe.mixup),
            torch.randperm(b, generator=self.draws).to(x.device),
        )
        return weight * x + (1 - weight) * x[other], weight, other


class PrivateFit:
    """Trains a network under DP-SGD: Poisson sampling, clipped per-example gradients, and noise.

    The noise comes from engine.privacy.noise. The optimizer is plain SGD, since steps are few.
    """

    def __init__(
        self,
        network: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        mechanism: Mechanism,
        *,
        learning_rate: float,
        streams: Streams,
    ):
        self.network, self.images, self.labels = network, images, labels
        self.rate = mechanism.sample_rate
        self.steps, self.loss = round(1 / self.rate), float("nan")
        self.sampling = BernoulliSampler(streams.derive_seed("sampling"), images.device)
        self.optimizer = torch.optim.SGD(network.parameters(), lr=learning_rate)
        self.gradient = dp_sgd.PrivateGradient(
            network,
            expected_batch=self.rate * len(images),
            max_grad_norm=mechanism.max_grad_norm,
            noise_multiplier=mechanism.noise_multiplier,
            noise=GaussianNoise(streams.derive_seed("noise"), images.device),
        )

    def epoch(self) -> Iterator[int]:
        """Take as many Poisson batches as use each image once on average; yields steps done."""
        self.network.train()
        for step in range(1, self.steps + 1):
            rows = dp_sgd.poisson_batch(len(self.images), self.rate, self.sampling)
            self.gradient(Scale().of(self.images[rows]), self.labels[rows])
            self.optimizer.step()
            yield step


def shifted(x: torch.Tensor, most: int, draws: torch.Generator) -> torch.Tensor:
    """Shift all images (b, c, h, w) by the same number of pixels, up to `most` in each direction.

    Pixels that become free are black.
    """
    dx, dy = torch.randint(0, 2 * most + 1, (2,), generator=draws).tolist()
    return F.pad(x, (most,) * 4, value=BLACK)[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]


@torch.no_grad()
def outputs(
    network: nn.Module, images: torch.Tensor, scale: Scale = Scale(), features: bool = False
) -> torch.Tensor:
    """Logits (n, classes) of images (n, h, w, c) uint8, or features (n, 64), in eval mode.

    Features are the input of the last layer.
    """
    network.eval()
    of: Callable[[torch.Tensor], torch.Tensor] = network
    if features:
        assert isinstance(network, ResNet)  # other networks have no such layer
        of = network.features
    return torch.cat([of(scale.of(part)) for part in images.split(EVALUATE)])
