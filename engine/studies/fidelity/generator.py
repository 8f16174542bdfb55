"""What all image generators share, however they are trained, with torch.

They turn noise into images, and the moving average of their weights is what is published.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning.networks import channels_last

CHUNK = 500  # images processed at a time
SETTLING = 10  # steps over which the moving average starts with a short memory


class GeneratorTrainer:
    """A generator that is trained by calling `step`.

    latent: the length of the noise vector that an image is generated from. With several classes the
    generator is conditioned on the class.
    """

    generator: torch.nn.Module

    def __init__(
        self,
        latent: int,
        classes: int,
        averaging: float,
        latents: torch.Generator,
        device: torch.device,
    ):
        self.size, self.classes, self.averaging, self.latents, self.device = (
            latent,
            classes,
            averaging,
            latents,
            device,
        )
        self.steps = 0

    def begin(self, generator: torch.nn.Module) -> None:
        """Set the generator as it is before its first step."""
        self.generator = channels_last(generator.to(self.device))
        self.published = {name: p.detach().clone() for name, p in self.generator.named_parameters()}

    def step(self) -> None:
        """Take one step of the generator, after whatever must come first."""
        raise NotImplementedError

    def latent(
        self, count: int, shares: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the inputs of new images (count, latent [+ classes]) and their labels (count,).

        The labels are drawn uniformly or by shares (classes,).
        """
        noise = torch.randn(count, self.size, generator=self.latents, device=self.device)
        weights = torch.ones(self.classes, device=self.device) if shares is None else shares
        labels = torch.multinomial(weights, count, replacement=True, generator=self.latents)
        return self.conditioned(noise, labels), labels

    def conditioned(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Noise (n, latent), with the wanted classes one-hot beside it if there are several."""
        return (
            torch.cat([noise, F.one_hot(labels, self.classes).float()], 1)
            if self.classes > 1
            else noise
        )

    @torch.no_grad()
    def average(self) -> None:
        """After a step, update the moving average of the weights (Yazıcı et al. 2019).

        The average is what is published.
        """
        self.steps += 1
        keep = min(self.averaging, self.steps / (self.steps + SETTLING))
        for name, p in self.generator.named_parameters():
            self.published[name].lerp_(p, 1 - keep)

    @torch.no_grad()
    def show(self, noise: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        """Images of the published generator from noise (n, latent) and labels (n,).

        Returns (n, size, size, c) uint8.
        """
        made = [
            functional_call(self.generator, self.published, (part,))
            for part in self.conditioned(noise, labels).split(CHUNK)
        ]
        return as_bytes(torch.cat(made))

    def finite(self) -> bool:
        """Whether all published weights are finite."""
        return all(bool(p.isfinite().all()) for p in self.published.values())


def as_bytes(made: torch.Tensor) -> np.ndarray:
    """(n, c, h, w) in [−1, 1] → (n, h, w, c) uint8."""
    return (
        made.add(1)
        .mul(127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .cpu()
        .numpy()
    )


def walk(
    rows: int, columns: int, size: int, classes: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (rows·columns, size) and labels, for rows that interpolate between two points.

    Each row follows a great circle, so neighbouring images are similar. Generators with the same
    seed get the same noise.
    """
    draws = torch.Generator().manual_seed(derive_seed("walk", seed))
    begin, end = torch.randn(2, rows, 1, size, generator=draws)
    angle = torch.linspace(0, torch.pi / 2, columns)[None, :, None]
    labels = torch.arange(rows).repeat_interleave(columns) % classes
    return (begin * angle.cos() + end * angle.sin()).view(rows * columns, size), labels
