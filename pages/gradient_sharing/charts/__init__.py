"""Figures of page Gradient sharing, drawn from the curves of results; pure functions.

- styles: the colour and the dash of each arm
- sharing: accuracy over rounds, bytes and ε
- attack: the reconstruction of an image
"""

from pages.gradient_sharing.charts.attack import rebuilding
from pages.gradient_sharing.charts.sharing import by_bytes, by_epsilon, by_round
from pages.gradient_sharing.charts.styles import WAYS

__all__ = ["WAYS", "by_bytes", "by_epsilon", "by_round", "rebuilding"]
