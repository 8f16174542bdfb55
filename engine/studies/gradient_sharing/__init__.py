"""Federated learning: clients share gradients instead of images, and attacks on the gradients."""

from engine.studies.gradient_sharing.gradient_sharing import ARMS, SHOWN_CLIENTS, GradientSharing
from engine.studies.gradient_sharing.initial_model import InitialModel
from engine.studies.gradient_sharing.inversion import Inversion
from engine.studies.gradient_sharing.plan import SharingPlan

__all__ = [
    "ARMS",
    "GradientSharing",
    "InitialModel",
    "Inversion",
    "SHOWN_CLIENTS",
    "SharingPlan",
]
