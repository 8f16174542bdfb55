"""Seeds of random streams, derived from names: streams with different names share no draw.

Anyone who sees two releases made with the same noise draw can remove the noise: with noises σ₁z and
σ₂z on sums a and b, a − σ₁(a − b)/(σ₁ − σ₂) is the exact sum. So all randomness that protects
(noise, Poisson sampling, coin flips) comes from a stream named by everything that the release
depends on: for a study its key (`Study.derive_seed`), for locally noised images the mechanism
(`local_noise.LocalNoise`). Only randomness that protects nobody (initial weights, the order of
shuffled batches, latent vectors) is named by its purpose and the seed alone, so that runs with
other settings start identically.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def derive_seed(purpose: str, seed: int, name: str = "") -> int:
    """Derive a 63-bit seed that differs for each purpose, seed and name.

    With one stream for all purposes, the initial weights would reveal batches and noise.
    """
    text = f"{purpose} {seed} {name}" if name else f"{purpose} {seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Streams:
    """The random streams of one computation: its seed, and the name that they share.

    What draws takes this value, and asks it for one seed per purpose.
    """

    seed: int
    name: str = ""

    def derive_seed(self, purpose: str) -> int:
        """Derive the seed of the stream for this purpose."""
        return derive_seed(purpose, self.seed, self.name)
