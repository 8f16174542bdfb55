"""The measurements on page Fidelity: the answer, the chart of all sets, the tables."""

from __future__ import annotations

import math

import streamlit as st

from engine.core.study import Result
from engine.studies.fidelity import EXTRACTORS
from pages.common import live, panels
from pages.fidelity import background, charts, tables, text, verdict
from pages.fidelity.runs import Runs

# Report 4's table: Fréchet distance and MiFID by torchmetrics on 64 features of Inception-v3, 1,000
# images of CelebA with negative pixels wrapped around.
REPORT = {
    "GAN without privacy": (1.58, 2460.0),
    "private GAN": (4.80, 535.0),
    "untrained generator (its notebook)": (56.05, 2316.0),
}


def draw(runs: Runs, views: dict[str, live.View]) -> None:
    """Draw what has been measured so far: the answer, the chart, the table."""
    live.progress(views)
    found = {
        name: result
        for name in runs.sets
        if (result := views[f"measuring: {name}"].result) is not None
    }
    if not found:
        return
    metrics = {name: result.metrics for name, result in found.items()}
    if len(found) == len(runs.sets):
        st.subheader("How good are they, and are they copies?", anchor=False)
        st.markdown(verdict.answer(metrics, tuple(runs.generators)))
    draw_sets(runs, metrics)
    panels.warnings(found)
    draw_numbers(runs, found)


def draw_sets(runs: Runs, metrics: dict[str, dict[str, float]]) -> None:
    """Draw the main metrics of each set, one row per set."""
    names = tuple(charts.PANELS)
    for column, some, alt in zip(
        st.columns(2),
        (names[:2], names[2:]),
        ("Fréchet distance and share of copies", "Two kinds of MiFID"),
    ):
        with column:
            panels.chart(
                charts.sets(metrics, some, runs.study.extractor),
                key=f"sets {some[0]}",
                alt=f"{alt} for each set of images",
            )
    st.caption(text.SETS)
    st.expander("Details").markdown(text.sets_details(runs.study.extractor, runs.study.samples))


def draw_numbers(runs: Runs, found: dict[str, Result]) -> None:
    """Draw all metrics of all sets as a table."""
    with st.expander("All numbers", icon=":material/table_chart:"):
        st.dataframe(
            [{"Images": name, **tables.measured(result.metrics)} for name, result in found.items()],
            hide_index=True,
        )
        st.markdown(tables.numbers(extractor(runs)))


def extractor(runs: Runs) -> str:
    """The short name of the network that compares."""
    return EXTRACTORS[runs.study.extractor].split(",")[0]


def draw_report(runs: Runs) -> None:
    """Draw report 4's table beside our results, with its mistake and without."""
    st.markdown(background.REPORT)
    rows = [
        {
            "Images": f"report 4: {name}",
            "Fréchet distance, as published": f"{distance:.2f}",
            "MiFID, as published": f"{mifid:,.0f}",
        }
        for name, (distance, mifid) in REPORT.items()
    ]
    for name, result in live.finished(runs.sets).items():
        m = result.metrics
        rows.append(
            {
                "Images": f"ours: {name}",
                "Fréchet distance, as published": f"{m['published_frechet_distance']:.2f}",
                "MiFID, as published": text.large(m.get("published_mifid", math.nan)),
                "Fréchet distance, corrected": f"{m['corrected_frechet_distance']:.2f}",
                "MiFID, corrected": text.large(m.get("corrected_mifid", math.nan)),
                "n": f"{m['published_images']:,}",
            }
        )
    st.dataframe(rows, hide_index=True)
    st.markdown(tables.report_columns(extractor(runs), runs.study.dataset))
