"""The subsampled Gaussian mechanism as one value.

A trainer clips, samples and draws noise as this value says, and the accountant computes ε from the
same value, so that the two cannot disagree. Source of the idea: `DpEvent` of google-deepmind's
jax_privacy and google's dp_accounting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.privacy.bounds import Spent
from engine.privacy.composition import Run
from engine.privacy.dp_sgd import dp_sgd_epsilon
from engine.privacy.odds import odds_dp_sgd, tradeoff_dp_sgd
from engine.privacy.renyi import rdp_epsilon


@dataclass(frozen=True)
class Mechanism:
    """What a private training does to its examples' gradients, and how often.

    In each of `steps` steps every example joins the batch by itself with probability `sample_rate`,
    its gradient is clipped to `max_grad_norm`, and the sum carries Gaussian noise with a standard
    deviation of noise_multiplier · max_grad_norm. An infinite max_grad_norm stands for a training
    without clipping and noise.

    release_noise: noise multiplier of one further Gaussian release on all examples, or None.
    """

    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    steps: int
    release_noise: float | None = None

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped; without that nothing is private."""
        return math.isfinite(self.max_grad_norm)

    @property
    def private(self) -> bool:
        """Whether a finite ε can be stated."""
        return self.clips and self.noise_multiplier > 0

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on a clipped sum; 0 without privacy."""
        return self.noise_multiplier * self.max_grad_norm if self.clips else 0.0

    @property
    def run(self) -> Run:
        """As privacy.composition takes it."""
        return self.noise_multiplier, self.sample_rate, self.steps, self.release_noise

    def spent(self, delta: float) -> Spent:
        """The ε of all steps and the further release, and which accountant computed it."""
        return dp_sgd_epsilon(
            self.noise_multiplier,
            self.sample_rate,
            self.steps,
            delta,
            release_noise=self.release_noise,
        )

    def epsilon_after(self, steps: int, delta: float) -> float:
        """An upper bound on the ε of the first steps and the further release, by RDP. Fast."""
        return rdp_epsilon(
            self.noise_multiplier, self.sample_rate, steps, delta, self.release_noise
        )

    def odds(self, delta: float) -> float:
        """How often the best attacker guesses correctly whether one example was used."""
        return odds_dp_sgd(
            self.noise_multiplier,
            self.sample_rate,
            self.steps,
            release_noise=self.release_noise,
            delta=delta,
        )

    def odds_undrawn(self) -> float:
        """The same if the steps had no noise: only the chance of not being sampled protects."""
        return odds_dp_sgd(0.0, self.sample_rate, self.steps, release_noise=self.release_noise)

    def tradeoff(self, alarms: np.ndarray) -> np.ndarray:
        """Lowest false negative rate of any attacker at each false positive rate."""
        return tradeoff_dp_sgd(
            alarms, self.noise_multiplier, self.sample_rate, self.steps, self.release_noise
        )
