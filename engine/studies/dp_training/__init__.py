"""Studies on training under DP-SGD: the training itself, its audit, and an attack on it."""

from engine.studies.dp_training.audit import Audit
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.dp_training.membership import SHADOWS, Membership

__all__ = ["Audit", "DPTraining", "Membership", "SHADOWS"]
