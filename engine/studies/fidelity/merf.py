"""DP-MERF: train a generator to match one noised mean of random features, with torch.

The data are not used again after the noised mean. Source: Harder, Adamczewski and Park 2021,
"DP-MERF: Differentially Private Mean Embeddings with Random Features for Practical
Privacy-Preserving Data Generation".

With frequencies ω_k ~ N(0, 1/length²) (Rahimi and Recht 2007), φ(x) = (cos ω_1·x, sin ω_1·x, …)/√K
has length 1, and the mean of φ in each class is an approximate mean embedding of the class under
the Gaussian kernel. The class sizes are released in the same noised vector: an image adds φ(x) to
its class's row and COUNTED to its class's size, so the vector of all sums changes by at most √(1 +
COUNTED²).
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning import networks
from engine.privacy.noise import GaussianNoise
from engine.studies.fidelity.generator import GeneratorTrainer

# What an image adds to its class's size: a larger value would add noise to the embedding, a smaller
# one would be lost in the noise.
COUNTED = 0.1
ROUNDING = 1e-6  # margin for float32, in which φ(x) may be slightly longer than 1
CHUNK = 1000  # images processed at a time
LEAST_SHARE = 1e-3  # share of a class whose noised size is negative
SENSITIVITY = math.hypot(1.0, COUNTED)


class RandomFourierFeatures:
    """φ: images (n, c, h, w) in [0, 1] → (n, 2·count), each of length at most 1."""

    def __init__(self, pixels: int, count: int, length: float, seed: int, device: torch.device):
        draws = torch.Generator().manual_seed(derive_seed("frequencies", seed))
        self.frequencies = (torch.randn(pixels, count, generator=draws) / length).to(device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) in [0, 1] → (n, 2·count): all cosines, then all sines."""
        angles = images.flatten(1) @ self.frequencies
        return (
            torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(angles.shape[1]) / (1 + ROUNDING)
        )


def embedding(
    features: RandomFourierFeatures, images: torch.Tensor, labels: torch.Tensor, classes: int
) -> torch.Tensor:
    """Exact sums over images (n, h, w, c) uint8: (classes, 2·count + 1).

    Each class's row holds Σ φ(x), then COUNTED times the number of images. One image changes the
    sums by at most SENSITIVITY.
    """
    rows = []
    for part in images.split(CHUNK):
        found = features(part.permute(0, 3, 1, 2).float() / 255)
        rows.append(torch.cat([found, torch.full((len(part), 1), COUNTED, device=found.device)], 1))
    sums = torch.zeros(classes, rows[0].shape[1], dtype=torch.float64, device=images.device)
    return sums.index_add_(0, labels, torch.cat(rows).double())


def released(sums: torch.Tensor, noise_multiplier: float, noise: GaussianNoise) -> torch.Tensor:
    """The sums with noise of standard deviation noise_multiplier · SENSITIVITY on every entry.

    This is the only use of the data. The noise is drawn and added in float64 by
    engine.privacy.noise, and the result is rounded once, to float32.
    """
    return noise.added_to(sums, noise_multiplier * SENSITIVITY).float().double()


class MERFTrainer(GeneratorTrainer):
    """A generator trained to match the released mean, which is post-processing.

    sums: from `released`; n: the number of images summed, which is public.
    """

    def __init__(
        self,
        study,
        sums: torch.Tensor,
        n: int,
        features: RandomFourierFeatures,
        size: int,
        channels: int,
        device: torch.device,
    ):
        classes = len(sums)
        super().__init__(
            study.latent,
            classes,
            study.averaging,
            torch.Generator(device).manual_seed(derive_seed("latents", study.seed)),
            device,
        )
        self.study, self.features = study, features
        conditions = classes if classes > 1 else 0
        self.begin(
            networks.dcgan(
                study.merf_width,
                study.merf_width,
                channels,
                size,
                study.latent + conditions,
                1,
                derive_seed("init", study.seed),
            )[0]
        )
        self.wanted = (sums[:, :-1] / n).float()  # (classes, 2·count)
        # (classes,) shares of the generated images
        self.shares = (sums[:, -1] / COUNTED / n).clamp_min(LEAST_SHARE).float()
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=study.merf_learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, study.merf_steps)

    def step(self) -> None:
        """Take one step towards the released mean."""
        latent, labels = self.latent(self.study.merf_batch_size, self.shares)
        made = self.features((self.generator(latent) + 1) / 2)
        mean = F.one_hot(labels, self.classes).float().T @ made / len(made)  # (classes, 2·count)
        self.distance = (mean - self.wanted).square().sum()
        self.optimizer.zero_grad()
        self.distance.backward()
        self.optimizer.step()
        self.schedule.step()
        self.average()
