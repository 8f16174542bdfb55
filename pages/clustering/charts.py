"""Figures of page Clustering, drawn from the curves of results; pure functions."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.common.figures import COLOURS, Curve, figure, shade


def heads(
    curves: dict[str, Curve], prefix: str, title: str, chosen: int | None, factor: float = 1.0
) -> go.Figure:
    """One line per sub-head, from the curves named prefix + number.

    The chosen sub-head is dark, the others pale.
    """
    chart = figure("Epochs", title, height=240)
    for name, points in curves.items():
        if name.startswith(prefix):
            head = int(name.removeprefix(prefix))
            mine = head == chosen
            chart.add_scatter(
                x=[x for x, _ in points],
                y=[factor * y for _, y in points],
                name=f"sub-head {head + 1}",
                mode="lines",
                showlegend=False,
                line=dict(
                    color=COLOURS["private"] if mine else COLOURS["spent"], width=4 if mine else 1.5
                ),
                hovertemplate="%{y:.2f}",
            )
    chart.update_layout(hovermode="closest")
    return chart


def budgets(curves: dict[str, Curve], epochs: int) -> go.Figure:
    """Matched error over epochs, one line per budget, from pale (much noise) to dark."""
    chart = figure("Epochs", "Matched error, %", height=320)
    for i, (name, points) in enumerate(curves.items()):
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            line=dict(color=shade(i, len(curves)), width=3),
            hovertemplate="%{y:.1f} %",
        )
    chart.update_xaxes(range=[0, 1.02 * epochs])
    chart.update_yaxes(range=[0, 102])
    return chart


def confusion(table, matching, classes: list[str], matched: bool) -> go.Figure:
    """Heat map of (classes, clusters) counts.

    The clusters are in their original order or, if matched, in the order of the classes they stand
    for.
    """
    order = (
        sorted(range(len(matching)), key=lambda k: (matching[k] < 0, matching[k], k))
        if matched
        else list(range(len(matching)))
    )
    names = (
        [classes[matching[k]] if matching[k] >= 0 else f"none ({k})" for k in order]
        if matched
        else [str(k) for k in order]
    )
    chart = figure("Cluster stands for" if matched else "Cluster, as numbered", "Class", height=380)
    chart.add_heatmap(
        z=[[int(row[k]) for k in order] for row in table],
        x=names,
        y=classes,
        colorscale="Blues",
        showscale=False,
        texttemplate="%{z}" if len(classes) <= 12 else None,
        hovertemplate="class %{y}, cluster %{x}: %{z} images<extra></extra>",
    )
    chart.update_xaxes(type="category")
    chart.update_yaxes(type="category", autorange="reversed")
    chart.update_layout(hovermode="closest")
    return chart
