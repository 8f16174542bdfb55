"""What the audit of one training shows: both bounds on ε, and each check."""

from __future__ import annotations

import streamlit as st

from engine.core import rounding
from engine.core.study import Result
from pages.common import live, panels, sentences
from pages.dp_training import charts, text

GROWTH = "The lower and the upper bound on ε over epochs"


def draw(view: live.View) -> None:
    """Draw the audit as far as it has run."""
    st.markdown("**Audit: how much ε was provably spent?**")
    if view.result is not None:
        draw_finished(view, view.result)
    elif view.curves.get("lower_bound"):
        panels.chart(charts.bounds_over_epochs(view.curves), key="audit", alt=GROWTH)
    else:
        st.caption(
            "Results appear here: the ε that is guaranteed at most, and the ε that correct guesses"
            " show was spent at least."
        )


def draw_finished(view: live.View, found: Result) -> None:
    """Draw lower and upper bound, the verdict, and the checks."""
    lower, upper = found.metrics["lower_bound"], found.metrics["upper_bound"]
    panels.chart(
        charts.bounds(lower, upper),
        key="between",
        alt=(
            f"An axis of ε: at least {rounding.lower_bound(lower)} was shown, at most"
            f" {rounding.epsilon(upper)} is guaranteed"
        ),
    )
    audit = view.study
    st.markdown(text.audited(found.metrics, found.facts, audit.bug, audit.training.delta))
    panels.warnings({"": found})
    st.markdown(
        "Checks of what the guarantee assumes:\n"
        + "\n".join(
            f"- {check['name']}: **{text.verdict(check)}**  \n "
            f" :small[{sentences.plain(check['measured'])}]"
            for check in found.facts["checks"]
        )
    )
    with st.expander("Details"):
        st.markdown(text.powers(found.facts))
        panels.chart(charts.bounds_over_epochs(found.curves), key="audit", alt=GROWTH)
        st.markdown(
            "During training, the upper bound comes from a fast accountant (RDP) and lies slightly"
            " above the exact one. The lower bound is claimed only for the end; before, it may fall"
            " by chance."
        )
