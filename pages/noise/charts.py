"""Figures of one release and of its trainings on page Noise; pure functions."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.common.figures import COLOURS, Curve, figure, line, percent

ARM_COLOURS = {
    "raw": "raw",
    "true labels": "noised",
    "noised labels": "not private",
    "K-means labels": "spent",
    "IIC labels": "private",
}


def arm_name(arm: str) -> str:
    """The name of a kind of images and labels in the legend."""
    return "raw images" if arm == "raw" else f"noised images, {arm}"


def label_odds(classes: list[str], keep: float, truth: str) -> go.Figure:
    """Probability of each answer of the randomised response, given the true label."""
    other = (1 - keep) / (len(classes) - 1)
    chart = figure("Reported label", "Probability, %", height=240)
    chart.add_bar(
        x=classes,
        y=[100 * (keep if c == truth else other) for c in classes],
        hovertemplate="%{y:.3g} %",
        marker=dict(color=[COLOURS["raw"] if c == truth else COLOURS["noised"] for c in classes]),
    )
    chart.update_xaxes(type="category")
    chart.update_yaxes(range=[0, 102])
    return chart


def arms(curves: dict[str, dict[str, Curve]], epochs: int, chance: float) -> go.Figure:
    """Accuracy over epochs by arm. curves: arm → the study's curves.

    Solid: test images treated like the training images; dotted: raw ones.
    """
    chart = figure("Epochs", "Test accuracy, %", height=360)
    for arm, found in curves.items():
        name, colour = arm_name(arm), ARM_COLOURS[arm]
        line(chart, name, percent(found.get("test_accuracy", [])), colour, unit=" %")
        if found.get("test_accuracy_noised"):
            raw = percent(found.get("test_accuracy_raw", []))
            line(chart, f"{name}, tested on raw ones", raw, colour, dash="dot", unit=" %")
            chart.data[-1].showlegend = False
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot"),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    chart.update_xaxes(range=[0, epochs * 1.02], dtick=1 if epochs <= 10 else None)
    chart.update_yaxes(range=[0, 102])
    return chart
