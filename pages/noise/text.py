"""Texts of page Noise."""

from __future__ import annotations

SEVERAL_RELEASES = (
    "Each strength of noise is a release of the pictures by itself, with noise of its own. "
    "Publishing several of them, or what was learned from them, spends the sum of their ε."
)
