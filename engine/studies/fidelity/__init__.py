"""Generators with and without privacy, and metrics of their fidelity and memorization."""

from engine.studies.fidelity.dp_merf import DPMERF
from engine.studies.fidelity.fidelity import CONTROLS, GENERATORS, Fidelity, doubt
from engine.studies.fidelity.gan import GAN
from engine.studies.fidelity.real_features import EXTRACTORS, RealFeatures

__all__ = [
    "CONTROLS",
    "DPMERF",
    "EXTRACTORS",
    "Fidelity",
    "GAN",
    "GENERATORS",
    "RealFeatures",
    "doubt",
]
