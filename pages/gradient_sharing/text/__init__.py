"""Texts of page Gradient sharing; pure functions.

- sharing: what clients have learned together, sent, and been guaranteed
- attack: what was reconstructed from an upload
- background: report 5, and the formulas
"""

from pages.gradient_sharing.text.attack import NOTHING, attempts, defended, quality, rebuilt
from pages.gradient_sharing.text.background import FORMULAS, REPORT
from pages.gradient_sharing.text.sharing import (
    cheap,
    dip,
    per_cent,
    round_text,
    row,
    shared,
    user_level,
)

__all__ = [
    "FORMULAS",
    "NOTHING",
    "REPORT",
    "attempts",
    "cheap",
    "defended",
    "dip",
    "per_cent",
    "quality",
    "rebuilt",
    "row",
    "shared",
    "round_text",
    "user_level",
]
