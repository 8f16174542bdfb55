"""Texts of page DP training; pure functions.

- labels: what trainings, planted bugs and checks are called
- choosing: which noise for which accuracy, from what has run
- audit, membership: what an audit and an attack have found
- background: report 3, and the formulas
"""

from pages.dp_training.text.audit import audited, audited_all, powers
from pages.dp_training.text.background import FORMULAS, REPORT
from pages.dp_training.text.choosing import least_epsilon, means_of, most_accuracy
from pages.dp_training.text.labels import BUGS, WHO, verdict, who_of
from pages.dp_training.text.membership import attacked, measured, method, tied

__all__ = [
    "BUGS",
    "FORMULAS",
    "REPORT",
    "WHO",
    "attacked",
    "audited",
    "audited_all",
    "least_epsilon",
    "means_of",
    "measured",
    "method",
    "most_accuracy",
    "powers",
    "tied",
    "verdict",
    "who_of",
]
