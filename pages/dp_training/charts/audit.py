"""The lower bound on ε that an audit shows, and the upper bound that is guaranteed."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, Curve, figure, line
from pages.dp_training.charts.training import EPOCHS

SHOWN, GUARANTEED = "shown by the audit", "guaranteed"


def bounds(lower: float, upper: float) -> go.Figure:
    """One axis of ε with the lower bound shown by the audit and the upper bound guaranteed."""
    chart = figure("", "", height=150)
    least, most = rounding.lower_bound(lower), rounding.epsilon(upper)
    parts = (
        (f"{SHOWN}, at least", 0.0, lower, COLOURS["attacker"], f"at least {least}"),
        ("undecided", lower, max(lower, upper), "#D9D9D9", f"{least} to {most}"),
    )
    for name, start, stop, colour, hover in parts:
        chart.add_bar(
            y=["ε"],
            x=[stop - start],
            base=[start],
            orientation="h",
            name=name,
            marker=dict(color=colour),
            hovertemplate=hover,
        )
    chart.add_scatter(
        x=[upper] * 2,
        y=[-0.45, 0.45],
        mode="lines",
        name=f"{GUARANTEED}: at most {most}",
        line=dict(color=COLOURS["private"], width=4),
        yaxis="y2",
        hoverinfo="skip",
    )
    chart.update_layout(
        barmode="overlay",
        hovermode="closest",
        yaxis2=dict(overlaying="y", range=[-0.5, 0.5], visible=False),
        legend=dict(orientation="h", y=-0.35, yanchor="top"),
    )
    chart.update_xaxes(range=[0, 1.25 * max(lower, upper, 0.1)])
    return chart


def bounds_over_epochs(curves: dict[str, Curve]) -> go.Figure:
    """The lower bound from the audit and the accountant's ε over the epochs."""
    chart = figure(EPOCHS, "ε", height=260)
    upper, lower = curves.get("upper_bound", []), curves.get("lower_bound", [])
    line(chart, f"{GUARANTEED}, at most", upper, "private", hover=rounding.epsilon)
    line(chart, f"{SHOWN}, at least", lower, "attacker", hover=rounding.lower_bound)
    chart.update_yaxes(rangemode="tozero")
    return chart


def bounds_of_all(found: dict[str, tuple[float, float, bool]], names: list[str]) -> go.Figure:
    """A bar for the lower bound of each training, and a mark for its upper bound.

    found: name → (lower bound, upper bound, violated); names: all trainings to come.
    """
    chart = figure("", "ε", height=380)
    lower = [low for low, *_ in found.values()]
    upper = [high for _, high, _ in found.values()]
    chart.add_bar(
        x=list(found),
        y=lower,
        name=f"{SHOWN}, at least",
        marker=dict(color=COLOURS["attacker"]),
        customdata=[rounding.lower_bound(low) for low in lower],
        hovertemplate="at least %{customdata}",
    )
    chart.add_scatter(
        x=list(found),
        y=upper,
        mode="markers+text",
        name=f"{GUARANTEED}, at most",
        hovertemplate="at most %{customdata}",
        customdata=[rounding.epsilon(high) for high in upper],
        marker=dict(symbol="line-ew-open", size=34, line=dict(width=4), color=COLOURS["private"]),
        textposition="top center",
        text=["does not hold" if violated else "" for *_, violated in found.values()],
    )
    chart.update_xaxes(
        type="category", categoryorder="array", categoryarray=names, range=[-0.5, len(names) - 0.5]
    )
    chart.update_yaxes(range=[0, 1.15 * max(lower + upper)])
    return chart
