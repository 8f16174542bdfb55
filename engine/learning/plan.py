"""All that a trainer needs beside the images, as one value. No torch: the web process reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.core.streams import Streams
from engine.privacy.mechanism import Mechanism


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    examples: how many the mean is taken over, which is public; batch_size: the expected size of a
    Poisson batch; averaging: share of the last steps whose parameters are averaged, 0 for none;
    augmentations: shifted copies of each image, itself included; activation and norm: of the CNN.
    """

    mechanism: Mechanism
    streams: Streams
    examples: int
    batch_size: int
    epochs: int
    steps_per_epoch: int
    optimizer: str
    learning_rate: float
    momentum: float = 0.0
    averaging: float = 0.0
    augmentations: int = 1
    activation: str = "tanh"
    norm: str = "none"

    @property
    def steps(self) -> int:
        """All steps of the training."""
        return self.epochs * self.steps_per_epoch

    @property
    def average_from(self) -> int:
        """The step after which parameters enter the average."""
        return round((1 - self.averaging) * self.steps)

    def of_seed(self, seed: int) -> TrainingPlan:
        """The same training with another seed under the same name."""
        return replace(self, streams=replace(self.streams, seed=seed))
