"""The five budgets of report 1's figure 4 on page Clustering, beside each other."""

from __future__ import annotations

import streamlit as st

from engine.core import rounding
from engine.core.study import Study
from engine.studies.clustering import IIC
from pages.clustering import charts, text
from pages.common import live, panels

# ε → matched error at the end of its curve, read off report 1's figure 4; on raw images 0.055
REPORT_ERRORS = {150.0: 0.89, 2000.0: 0.89, 3000.0: 0.29, 5000.0: 0.30, 200_000.0: 0.05}
TITLE = "The five budgets of report 1"


def studies(iic: IIC) -> dict[str, Study]:
    """The same clustering at each budget."""
    return {f"ε = {e:,g}": iic.replace(epsilon=e, images="noised") for e in REPORT_ERRORS}


def draw(iic: IIC, views: dict[str, live.View]) -> None:
    """Draw matched error over epochs, one curve per budget, and final errors beside report 1's."""
    st.subheader(TITLE, anchor=False)
    curves = {name: curve(view) for name, view in views.items()}
    panels.chart(
        charts.budgets(curves, iic.epochs),
        key="budgets",
        alt="Matched error over epochs for each of the five budgets",
    )
    st.dataframe([row(iic, view) for view in views.values()], hide_index=True)
    st.expander("Details").markdown(text.BUDGETS)


def curve(view: live.View) -> list[tuple[float, float]]:
    """The matched error of the chosen sub-head over epochs; empty before the end."""
    if not view.result:
        return []
    return view.curves.get(f"error_head_{view.result.facts['chosen_head']}", [])


def row(iic: IIC, view: live.View) -> dict[str, str]:
    """A row of the table: one budget, our error, the report's."""
    epsilon = view.study.epsilon
    error = 1 - view.result.metrics["matched_accuracy"] if view.result else None
    return {
        "nominal ε": rounding.chosen(epsilon),
        "actual ε": rounding.epsilon(iic.earned(epsilon, view.study.release_count)),
        "matched error": "not run" if error is None else f"{100 * error:.1f} %",
        "in report 1": f"about {100 * REPORT_ERRORS[epsilon]:.0f} %",
    }
