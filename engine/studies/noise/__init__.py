"""Studies on local noise: what one release shows, and what a network learns from many."""

from engine.studies.noise.noise import STRIP, Noise
from engine.studies.noise.noisy_training import (
    ARMS,
    BUDGETS,
    DEPTHS,
    WIDTHS,
    NoisyTraining,
    least_budgets,
)

__all__ = [
    "ARMS",
    "BUDGETS",
    "DEPTHS",
    "Noise",
    "NoisyTraining",
    "STRIP",
    "WIDTHS",
    "least_budgets",
]
