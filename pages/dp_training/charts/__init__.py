"""Figures of page DP training, drawn from the curves of results; pure functions.

- training: one network beside its non-private baseline
- frontier: accuracy over ε
- series: several trainings over epochs
- audit: the lower and the upper bound on ε
- membership: ROC curves of the attack
"""

from pages.dp_training.charts.audit import bounds, bounds_of_all, bounds_over_epochs
from pages.dp_training.charts.frontier import PUBLISHED, frontier
from pages.dp_training.charts.membership import roc
from pages.dp_training.charts.series import learning, spending
from pages.dp_training.charts.training import accuracy, loss, per_class, spent

__all__ = [
    "PUBLISHED",
    "accuracy",
    "bounds",
    "bounds_of_all",
    "bounds_over_epochs",
    "frontier",
    "learning",
    "loss",
    "per_class",
    "roc",
    "spending",
    "spent",
]
