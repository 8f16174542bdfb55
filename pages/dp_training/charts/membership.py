"""ROC curves of the membership attack below the bounds that are guaranteed."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, figure
from pages.dp_training.charts.training import WHO_COLOURS

BOUND = "#444444"
BOUNDS = {
    "bound_any": ("upper bound from ε and δ", "dash"),
    "bound_mechanism": ("upper bound for this noise", "solid"),
}
FEWEST = 10  # false positives below which the curve of a single network is mostly noise


def roc(found: dict[str, dict]) -> go.Figure:
    """ROC curves on log axes: training images found over false positives.

    found: 'private' / 'not private' / 'no noise' → arrays of a Membership result.
    """
    chart = figure("False positive rate, %", "True positive rate, %", height=420)
    for arrays in found.values():
        _add_bounds(chart, arrays)
    for who, arrays in found.items():
        least = FEWEST / (len(arrays["score"]) / 2)
        _add_curve(chart, f"{who}: models like this", arrays, "roc_like_it", who, width=3)
        _add_curve(chart, f"{who}: this model", arrays, "roc", who, width=1, least=least)
    rates = 100 * next(iter(found.values()))["false_alarms"][1:]
    chart.add_scatter(
        x=rates,
        y=rates,
        name="guessing",
        mode="lines",
        line=dict(color=COLOURS["chance"], dash="dot"),
        hoverinfo="skip",
    )
    ticks = dict(type="log", tickvals=[0.01, 0.1, 1, 10, 100], range=[-2, 2])
    chart.update_xaxes(**ticks)
    chart.update_yaxes(**ticks)
    chart.update_layout(legend=dict(orientation="h", y=-0.22, yanchor="top", traceorder="normal"))
    return chart


def _add_bounds(chart: go.Figure, arrays: dict) -> None:
    """The bounds that no attack can exceed, if there is a guarantee."""
    for name, (title, dash) in BOUNDS.items():
        if name in arrays:
            chart.add_scatter(
                x=100 * arrays["false_alarms"][1:],
                y=100 * arrays[name][1:],
                name=title,
                mode="lines",
                line=dict(color=BOUND, dash=dash, width=1.5),
                text=[rounding.at_most(y, leading=True, times=100) for y in arrays[name][1:]],
                hovertemplate="%{text} %",
            )


def _add_curve(
    chart: go.Figure, title: str, arrays: dict, name: str, who: str, width: float, least: float = 0
) -> None:
    """One ROC curve. least: false positive rate below which it is left out."""
    rates, found = arrays["false_alarms"][1:], arrays[name][1:]
    shown = (found > 0) & (rates >= least)
    chart.add_scatter(
        x=100 * rates[shown],
        y=100 * found[shown],
        name=title,
        mode="lines",
        line=dict(color=COLOURS[WHO_COLOURS[who]], width=width),
        hovertemplate="%{y:.3g} %",
    )
