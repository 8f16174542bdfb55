"""Several trainings over epochs: their accuracies, and the ε that they spend."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, Curve, figure, shade
from pages.dp_training.charts.training import ACCURACY, EPOCHS, fit_to_accuracy


def learning(
    curves: dict[str, Curve], colours: dict[str, str], epochs: int, chance: float
) -> go.Figure:
    """Accuracy over epochs, one line per training: name → (epoch, accuracy in [0, 1]).

    Lines of the same colour go from pale to dark; non-private ones are dashed.
    """
    chart = figure(EPOCHS, ACCURACY, height=340)
    private = [name for name in curves if colours[name] == "private"]
    for name, points in curves.items():
        colour = (
            shade(private.index(name), len(private)) if name in private else COLOURS[colours[name]]
        )
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            hovertemplate="%{y:.2f} %",
            line=dict(color=colour, width=2.5, dash="solid" if name in private else "dash"),
        )
    values = [y for points in curves.values() for _, y in points]
    fit_to_accuracy(chart, values, epochs, chance)
    chart.update_layout(hovermode="closest")
    return chart


def spending(curves: dict[float, Curve], chosen: float | None) -> go.Figure:
    """ε over epochs, one line per noise multiplier, from little noise (dark) to much."""
    chart = figure(EPOCHS, "Upper bound on the ε spent so far", height=400)
    for i, (noise, points) in enumerate(curves.items()):
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=f"σ = {rounding.chosen(noise)}",
            mode="lines+markers",
            line=dict(color=shade(i, len(curves)), width=3),
            text=[rounding.epsilon(y) for _, y in points],
            hovertemplate="%{text}",
        )
    # drawn as a trace, because plotly misplaces the label of a line on a log axis
    if chosen is not None and curves:
        last = max(x for points in curves.values() for x, _ in points)
        chart.add_scatter(
            x=[0, last],
            y=[chosen] * 2,
            mode="lines",
            name="your ε",
            line=dict(color=COLOURS["chance"], dash="dot"),
            hoverinfo="skip",
        )
    chart.update_yaxes(type="log", tickvals=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    return chart
