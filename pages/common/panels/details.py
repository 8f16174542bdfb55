"""Warnings, charts and tabs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import plotly.graph_objects as go
import streamlit as st

from engine.core.study import Result
from pages.common import sentences


def warnings(found: Mapping[str, Result], said: Collection[str] = ()) -> None:
    """Show all warnings about the results, each sentence once.

    A warning that does not apply to all results names those it applies to. found: name → Result.
    said: sentences that the page has shown already.
    """
    for warning, names in sentences.warned(found).items():
        if warning in said:
            continue
        whose = f"**{sentences.plain('; '.join(names))}**: " if len(names) < len(found) else ""
        st.warning(f"{whose}{sentences.plain(warning)}", icon=":material/warning:")


def chart(figure: go.Figure, key: str, alt: str) -> None:
    """A figure without plotly's toolbar. alt: what it shows, for screen readers."""
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


def deeper(tabs: Mapping[str, Callable[[], object]]) -> None:
    """Details in tabs: title → function that draws the tab.

    Only the open tab is drawn, which keeps the page fast.
    """
    for tab, draw in zip(st.tabs(list(tabs), key="deeper", on_change="rerun"), tabs.values()):
        if tab.open:
            with tab:
                draw()
