"""Names of random streams. Two streams with different names share no draw.

Whoever sees two releases with one noise draw can take the noise off: with noises σ₁z and σ₂z on
sums a and b, a − σ₁(a − b)/(σ₁ − σ₂) is the exact sum. So everything that protects (noise, Poisson
sampling, coin flips) is drawn from a stream that is named by all that the release depends on: of a
study by its key (`Study.derive_seed`), of locally noised images by the mechanism
(`local_noise.LocalNoise`). Only what protects nobody (initial weights, the order of shuffled
batches, latent points) is named by its purpose and the seed alone, so that runs with other settings
start alike.
"""

from __future__ import annotations

import hashlib


def derive_seed(purpose: str, seed: int, name: str = "") -> int:
    """A 63-bit seed for one purpose: another for each purpose, seed and name.

    With one stream for all purposes, the initial weights would foretell batches and noise.
    """
    text = f"{purpose} {seed} {name}" if name else f"{purpose} {seed}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
