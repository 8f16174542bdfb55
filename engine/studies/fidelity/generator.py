"""What all generators of pictures have in common, however they learn: noise in, pictures out, and
the moving average that is published. torch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F

from engine.core.streams import derive_seed

CHUNK = 500  # pictures at a time
SETTLING = 10  # steps that the moving average forgets quickly at first


class Artist:
    """A generator that learns by `step`. latent: numbers that a picture is made of; with several
    classes it is told which one to show.
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
        """The generator as it is before its first step."""
        self.generator = generator.to(self.device).to(memory_format=torch.channels_last)
        self.published = {name: p.detach().clone() for name, p in self.generator.named_parameters()}

    def step(self) -> None:
        """One step of the generator, and whatever must come before it."""
        raise NotImplementedError

    def latent(
        self, count: int, shares: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What so many new pictures are made of, (count, latent [+ classes]), and the labels that
        they are to show (count,), evenly or by shares (classes,).
        """
        noise = torch.randn(count, self.size, generator=self.latents, device=self.device)
        weights = torch.ones(self.classes, device=self.device) if shares is None else shares
        labels = torch.multinomial(weights, count, replacement=True, generator=self.latents)
        return self.told(noise, labels), labels

    def told(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Noise (n, latent) with the wanted classes beside it, where there are several."""
        return (
            torch.cat([noise, F.one_hot(labels, self.classes).float()], 1)
            if self.classes > 1
            else noise
        )

    @torch.no_grad()
    def average(self) -> None:
        """After a step: a moving average over the last generators (Yazıcı et al. 2019), which is
        what is published.
        """
        self.steps += 1
        keep = min(self.averaging, self.steps / (self.steps + SETTLING))
        for name, p in self.generator.named_parameters():
            self.published[name].lerp_(p, 1 - keep)

    @torch.no_grad()
    def show(self, noise: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        """What the published generator makes of noise (n, latent) and labels (n,): (n, size, size,
        c) uint8.
        """
        made = [
            functional_call(self.generator, self.published, (part,))
            for part in self.told(noise, labels).split(CHUNK)
        ]
        return as_bytes(torch.cat(made))

    def finite(self) -> bool:
        """Are all published weights still numbers?"""
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
    """Noise (rows·columns, size) and labels: each row goes from one point to another along a great
    circle, so that neighbours are alike. The same for every generator of a seed.
    """
    draws = torch.Generator().manual_seed(derive_seed("walk", seed))
    begin, end = torch.randn(2, rows, 1, size, generator=draws)
    angle = torch.linspace(0, torch.pi / 2, columns)[None, :, None]
    labels = torch.arange(rows).repeat_interleave(columns) % classes
    return (begin * angle.cos() + end * angle.sin()).view(rows * columns, size), labels
