"""Panels that all study pages share.

- promise: what the guarantee means for a person, and the guarantee itself
- details: warnings, charts and tabs
- provenance: how a result was made, and the download
"""

from pages.common.panels.details import chart, deeper, warnings
from pages.common.panels.promise import guarantee, odds
from pages.common.panels.provenance import made

__all__ = ["chart", "deeper", "guarantee", "made", "odds", "warnings"]
