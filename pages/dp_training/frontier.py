"""Accuracy over ε, including every epoch: figures 5 and 9 of report 3."""

from __future__ import annotations

from statistics import mean

import streamlit as st

from engine.studies.dp_training import DPTraining
from pages.common import live, panels
from pages.common.controls import Controls
from pages.dp_training import charts, choosing, levels, text
from pages.dp_training.text.choosing import Ends

Trainings = live.Series[DPTraining]


def draw(controls: Controls, study: DPTraining, series: Trainings) -> None:
    """Draw images, the chart and, when all are done, the answers to the visitor's questions."""
    levels.draw(study, series)
    ends, baselines = ends_of(series), baselines_of(series)
    published = charts.PUBLISHED.get(study.dataset, ())
    panels.chart(
        charts.frontier(paths_of(series), ends, baselines, published, study.target_epsilon),
        key="frontier",
        alt=(
            "Accuracy over the ε spent, a point for each noise multiplier, beside the network"
            " without privacy"
        ),
    )
    st.caption(
        "A thin line is a training, epoch by epoch; its thick point is the finished network with"
        " its exact ε." + (" Crosses: published results at δ = 1e-5." if published else "")
    )
    _details(ends, baselines)
    if series.complete and ends:
        choosing.draw(controls, study, ends, baselines)


def _details(ends: Ends, baselines: list[float]) -> None:
    with st.expander("Details"):
        st.markdown(
            "The lines come from a fast accountant (RDP) that never underestimates ε, so a line may"
            " extend to the right of its point. Noise decreases from left to right. To train at"
            " exactly your ε, show *Single training*."
        )
        if ends and baselines:
            best = max(accuracy for _, accuracy, _ in text.means_of(ends))
            if best > mean(baselines) + 0.001:
                st.markdown(
                    "Some private networks are more accurate than the one without privacy. Clipping"
                    " may cause this: no atypical image has much influence. The learning rates"
                    " differ, too."
                )


def paths_of(series: Trainings) -> dict[str, list[tuple[float, float]]]:
    """Name → (ε, accuracy) for each epoch, of the private trainings."""
    return {
        name: merged(series.curves[name])
        for name, member in series.members.items()
        if member.private and "epsilon" in series.curves[name]
    }


def merged(curves: dict) -> list[tuple[float, float]]:
    """(ε, accuracy) for each epoch."""
    accuracy = dict(curves.get("test_accuracy", []))
    return [(epsilon, accuracy[epoch]) for epoch, epsilon in curves["epsilon"] if epoch in accuracy]


def ends_of(series: Trainings) -> Ends:
    """Noise multiplier → (ε, accuracy) of its finished seeds."""
    ends: Ends = {}
    for name, member in series.members.items():
        found, noise = series.finished.get(name), member.noise_multiplier
        if not member.private or noise is None or found is None:
            continue
        if (epsilon := found.guarantee.epsilon) is not None:
            ends.setdefault(noise, []).append((epsilon, found.metrics["test_accuracy"]))
    return ends


def baselines_of(series: Trainings) -> list[float]:
    """Accuracies without privacy."""
    accuracies = series.metric("test_accuracy")
    return [value for name, value in accuracies.items() if not series.members[name].private]
