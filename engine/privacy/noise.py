"""Protective noise and coins: the one sampler of every mechanism in Veil. numpy; torch only where
tensors are asked for.

Why not `torch.randn`: in float32 on a CPU it makes its numbers in pairs by Box and Muller's method
from uniforms of 24 bits. Nothing lies beyond sqrt(48 ln 2) = 5.768 standard deviations, and far out
a pair lies on one of few circles. One example's gradient moves a pair off its circle, which nothing
else can do: an event of probability 0 without the example, so no finite ε holds where δ is counted
(docs/guarantees.md; `python -m bench.noise_tails` shows it).

Here noise is drawn in float64, added in float64, and the sum is rounded once, by the caller. On a
CPU draws come from numpy's ziggurat (Marsaglia and Tsang 2000; 52-bit uniforms, tails out to 13
standard deviations, no pairs). Elsewhere torch offers Box and Muller's method alone: there each
draw is half the sum of four independent float64 draws, as Holohan and Braghin 2021 ("Secure Random
Sampling in Differential Privacy", section 5.1) propose: its possible values are too dense to tell
from others.

What this does not give: a generator that cannot be predicted (Veil's runs are simulations with a
known seed), and noise on a grid (Mironov 2012; Canonne, Kamath and Steinke 2020).

Coins, too, come from numpy on a CPU: torch's generator there keeps 32 bits of a seed, so that among
200,000 streams of different names some eight pairs would share all their coins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


class GaussianNoise:
    """Standard normal numbers in float64 from one seed, on one device; each number is given out
    once.

    seed: from `engine.core.streams`. device: of the tensors that it is asked for; arrays are drawn on
    the host and so need the device "cpu".
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self.device = str(device)
        self.host = np.random.default_rng(seed) if self.device == "cpu" else None
        if self.host is None:
            import torch

            self.elsewhere = torch.Generator(device).manual_seed(seed)

    def array(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """N(0, 1), float64. The stream does not depend on how it is cut into calls.

        Raises TypeError for a sampler of another device.
        """
        if self.host is None:
            raise TypeError(f"arrays are drawn on the host, and this sampler is for {self.device}")
        return self.host.standard_normal(shape)

    def tensor(self, *shape: int) -> torch.Tensor:
        """N(0, 1), float64, on the device."""
        import torch

        if self.host is not None:
            return torch.from_numpy(self.array(shape))
        return summed(shape, self.elsewhere)

    def added_to(self, total: torch.Tensor, deviation: float) -> torch.Tensor:
        """total + N(0, deviation²) on every entry, float64: to be rounded once, where it is
        released.
        """
        return self.tensor(*total.shape).mul_(deviation).add_(total)


class Coins:
    """Independent coin flips from one seed, on one device: who joins a Poisson batch, or a round.

    seed: from `engine.core.streams`; all its bits count. The stream does not depend on how it is cut
    into calls.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        self.seed, self.device = seed, str(device)
        self.host = np.random.default_rng(seed) if self.device == "cpu" else None
        if self.host is None:
            import torch

            self.elsewhere = torch.Generator(device).manual_seed(seed)

    def joins(self, probability: float, *shape: int) -> torch.Tensor:
        """Bool, each True with this probability. Raises ValueError where it is none."""
        import torch

        if not 0 <= probability <= 1:
            raise ValueError(f"a probability is between 0 and 1, not {probability}")
        # float64, because float32 draws know no probability finer than 2^-24.
        if self.host is not None:
            return torch.from_numpy(self.host.random(shape) < probability)
        return (
            torch.rand(shape, generator=self.elsewhere, dtype=torch.float64, device=self.device)
            < probability
        )


def summed(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """N(0, 1), float64, on the generator's device: half the sum of four independent draws."""
    import torch

    draw = lambda: torch.randn(
        shape, generator=generator, device=generator.device, dtype=torch.float64
    )
    return draw().add_(draw()).add_(draw()).add_(draw()).div_(2)
