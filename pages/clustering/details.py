"""What is guaranteed on page Clustering, and the tabs of details below it."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.core.study import Result
from engine.studies.clustering import IIC
from pages.clustering import charts, text
from pages.common import live, panels


def draw(iic: IIC, views: dict[str, live.View]) -> None:
    """Draw the guarantee and the details of the finished methods. views: by method."""
    done = {
        name: result for name in ("IIC", "K-means") if (result := views[name].result) is not None
    }
    if not done:
        return
    method = next(iter(done))
    if len(done) > 1:
        method = st.segmented_control(
            "Show guarantee for",
            list(done),
            default=method,
            required=True,
            key="clustering.promise",
        )
    panels.warnings(done)
    panels.odds(
        done[method].guarantee,
        "An attacker knows that your image is one of two. Which one?",
        "Without looking",
        "Seeing what left your phone",
    )
    panels.guarantee(done[method].guarantee)
    panels.deeper(
        {
            "Clusters and classes": partial(draw_confusion, done),
            "Releases and ε": partial(draw_releases, iic),
            "Report 1": lambda: st.markdown(text.REPORT),
            "Formulas": lambda: st.markdown(text.FORMULAS),
        }
    )
    panels.made(views[method].study, done[method])


def draw_confusion(done: dict[str, Result]) -> None:
    """Draw the confusion matrices before and after matching."""
    st.caption(text.CONFUSION)
    for name, result in done.items():
        st.markdown(f"**{name}**")
        for column, matched in zip(st.columns(2), (False, True)):
            chart = charts.confusion(
                result.arrays["confusion"],
                result.arrays["matching"],
                result.facts["classes"],
                matched,
            )
            when = "after" if matched else "before"
            with column:
                panels.chart(
                    chart,
                    key=f"confusion {name} {matched}",
                    alt=f"Confusion matrix of {name}, {when} matching",
                )


def draw_releases(iic: IIC) -> None:
    """Compare the ε of one noise draw per image with that of fresh noise for every copy."""
    st.markdown(text.releases(iic))
    if iic.network == "scattering":
        st.caption(text.FIXED_WAVELETS)
    st.markdown(text.POST_PROCESSING)
