"""Generators with and without privacy, and metrics of their fidelity and memorization."""

from engine.studies.fidelity.dp_merf import DPMERF
from engine.studies.fidelity.fidelity import CONTROLS, GENERATORS, Fidelity, doubt
from engine.studies.fidelity.gan import GAN
from engine.studies.fidelity.real_features import EXTRACTORS, RealFeatures
from engine.studies.fidelity.side_by_side import SideBySide

__all__ = [
    "CONTROLS",
    "DPMERF",
    "EXTRACTORS",
    "Fidelity",
    "GAN",
    "GENERATORS",
    "RealFeatures",
    "SideBySide",
    "doubt",
]
