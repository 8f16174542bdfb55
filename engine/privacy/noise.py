"""Protective noise and coin flips: the one sampler behind every mechanism in Veil.

Uses numpy, and torch only when tensors are requested.

Why not `torch.randn`: in float32 on a CPU it generates numbers in pairs by the Box-Muller method
from 24-bit uniforms. No value lies beyond sqrt(48 ln 2) = 5.768 standard deviations, and far from 0
a pair lies on one of only a few circles. One example's gradient moves a pair off its circle, which
nothing else can do: an event of probability 0 without the example, so no finite ε holds at small δ
(docs/guarantees.md; `python -m bench.noise_tails` demonstrates it).

Here noise is drawn and added in float64, and the caller rounds the sum once. On a CPU, draws come
from numpy's ziggurat (Marsaglia and Tsang 2000; 52-bit uniforms, tails out to 13 standard
deviations, no pairs). Elsewhere torch offers only the Box-Muller method, so each draw there is half
the sum of four independent float64 draws, as proposed by Holohan and Braghin 2021 ("Secure Random
Sampling in Differential Privacy", section 5.1): its possible values are too dense to tell apart.

Not provided: a generator that cannot be predicted (Veil's runs are simulations with a known seed),
and noise on a grid (Mironov 2012; Canonne, Kamath and Steinke 2020).

Coin flips on a CPU also come from numpy: torch's generator there uses only 32 bits of a seed, so
among 200,000 streams with different names about eight pairs would share all their coin flips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


class GaussianNoise:
    """Standard normal numbers in float64 from one seed, on one device; each is given out only once.

    seed: from `engine.core.streams`.
    device: where tensors are created; arrays are drawn on the host and so need the device "cpu".
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self.device = str(device)
        self.host = np.random.default_rng(seed) if self.device == "cpu" else None
        if self.host is None:
            import torch

            self.elsewhere = torch.Generator(device).manual_seed(seed)

    def array(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """Return a float64 array of N(0, 1) draws.

        The stream does not depend on how it is divided into calls. Raises TypeError for a sampler
        of another device.
        """
        if self.host is None:
            raise TypeError(f"arrays are drawn on the host, and this sampler is for {self.device}")
        return self.host.standard_normal(shape)

    def tensor(self, *shape: int) -> torch.Tensor:
        """Return a float64 tensor of N(0, 1) draws on the device."""
        import torch

        if self.host is not None:
            return torch.from_numpy(self.array(shape))
        return summed(shape, self.elsewhere)

    def added_to(self, total: torch.Tensor, deviation: float) -> torch.Tensor:
        """Return total + N(0, deviation²) on every entry, in float64.

        The caller rounds the sum once, on release.
        """
        return self.tensor(*total.shape).mul_(deviation).add_(total)


class BernoulliSampler:
    """Independent coin flips from one seed, on one device: who joins a Poisson batch, or a round.

    seed: from `engine.core.streams`; all its bits count.

    The stream does not depend on how it is divided into calls.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self.seed, self.device = seed, str(device)
        self.host = np.random.default_rng(seed) if self.device == "cpu" else None
        if self.host is None:
            import torch

            self.elsewhere = torch.Generator(device).manual_seed(seed)

    def joins(self, probability: float, *shape: int) -> torch.Tensor:
        """Return booleans, each True with this probability; raises ValueError outside [0, 1]."""
        import torch

        if not 0 <= probability <= 1:
            raise ValueError(f"a probability is between 0 and 1, not {probability}")
        # float64, because float32 draws cannot represent probabilities finer than 2^-24
        if self.host is not None:
            return torch.from_numpy(self.host.random(shape) < probability)
        return (
            torch.rand(shape, generator=self.elsewhere, dtype=torch.float64, device=self.device)
            < probability
        )


def summed(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return float64 N(0, 1) draws on the generator's device: half the sum of four draws each."""
    import torch

    def draw() -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)

    return draw().add_(draw()).add_(draw()).add_(draw()).div_(2)
