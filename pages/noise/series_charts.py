"""Figures of page Noise's series of trainings: walk, heat maps, survival; pure functions."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, figure

# kind of a step in the walk → its colour
KINDS = {"raw": "raw", "no labels": "not private", "privacy": "private", "error": "attacker"}


def walk(
    steps: dict[str, tuple[str, float | None]], published: tuple[float, float] | None, chance: float
) -> go.Figure:
    """Waterfall chart from raw accuracy down, one bar per step.

    steps: name → (kind, accuracy in [0, 1], or None while it is missing). A step after a missing
    one has no bar yet, because the bar would show two changes in one colour. published: the range
    that report 1 measured.
    """
    chart = figure("", "Test accuracy, %", height=400)
    before: float | None = None
    for i, (name, (kind, accuracy)) in enumerate(steps.items()):
        if accuracy is None or (i and before is None):
            chart.add_bar(x=[name], y=[0], base=[0], showlegend=False)
        else:
            _step(chart, name, COLOURS[KINDS[kind]], accuracy, before)
            nothing_left = kind == "error" and before is not None and before < 1.2 * chance
            _words(chart, name, accuracy, before, nothing_left)
        before = accuracy
    if published:
        low, high = (100 * value for value in published)
        chart.add_hrect(
            low,
            high,
            fillcolor=COLOURS["chance"],
            opacity=0.4,
            line_width=0,
        )
    chart.update_xaxes(type="category")
    chart.update_yaxes(range=[0, 118])
    return chart


def _step(chart: go.Figure, name: str, colour: str, accuracy: float, before: float | None) -> None:
    """The bar from the last step's accuracy to this one's, and a mark at its end."""
    chart.add_scatter(
        x=[name],
        y=[100 * accuracy],
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker=dict(symbol="line-ew", size=30, line=dict(color=colour, width=3)),
    )
    chart.add_bar(
        x=[name],
        y=[100 * (accuracy - (before or 0.0))],
        base=[100 * (before or 0.0)],
        marker=dict(color=colour),
        showlegend=False,
        hovertemplate=f"{100 * accuracy:.2f} %<extra></extra>",
    )


def _words(
    chart: go.Figure, name: str, accuracy: float, before: float | None, nothing_left: bool
) -> None:
    """The numbers above a bar. nothing_left: the last step was as good as guessing already."""
    words = f"{100 * accuracy:.1f} %"
    if before is not None:
        words = f"{100 * (accuracy - before):+.1f}<br>→ {words}"
    if nothing_left:
        words += "<br>(nothing left to lose)"
    chart.add_scatter(
        x=[name],
        y=[100 * max(accuracy, before or 0.0) + 1],
        text=[words],
        mode="text",
        textposition="top center",
        showlegend=False,
        hoverinfo="skip",
    )


def heat(
    cells: dict[tuple[float, str, float], float | None],
    budgets: tuple,
    depths: tuple,
    widths: tuple,
) -> go.Figure:
    """Heat maps of accuracy: one panel per depth, ε upwards, width to the right.

    Cells: (ε, depth, width) → accuracy in [0, 1], or None while it is missing.
    """
    from plotly.subplots import make_subplots

    chart = make_subplots(
        1, len(depths), subplot_titles=depths, shared_yaxes=True, horizontal_spacing=0.03
    )
    for i, depth in enumerate(depths, 1):
        panel = _panel(cells, budgets, depth, widths, scale=i == len(depths))
        chart.add_trace(panel, row=1, col=i)
        chart.update_xaxes(title="Width", type="category", row=1, col=i)
    chart.update_yaxes(type="category")
    chart.update_yaxes(title="ε of each image", row=1, col=1)
    chart.update_layout(
        height=360,
        margin=dict(l=8, r=8, t=30, b=8),
        font=dict(size=14),
        uirevision="keep",
        plot_bgcolor="rgba(127,127,127,0.12)",
    )
    chart.update_xaxes(showgrid=False)
    chart.update_yaxes(showgrid=False)
    return chart


def _panel(cells: dict, budgets: tuple, depth: str, widths: tuple, scale: bool) -> go.Heatmap:
    """The heat map of one depth. scale: with the colour bar."""

    def percent(epsilon: float, width: float) -> float | None:
        found = cells.get((epsilon, depth, width))
        return None if found is None else 100 * found

    return go.Heatmap(
        z=[[percent(e, w) for w in widths] for e in budgets],
        x=[f"{w:g} ×" for w in widths],
        y=[rounding.chosen(e) for e in budgets],
        zmin=0,
        zmax=100,
        colorscale="Cividis",
        showscale=scale,
        colorbar=dict(title="%"),
        xgap=2,
        ygap=2,
        texttemplate="%{z:.0f}",
        hovertemplate=f"{depth}, ε = %{{y}}, width %{{x}}: %{{z:.1f}} %<extra></extra>",
    )


def survival(shares: dict[str, dict[str, float]]) -> go.Figure:
    """Stacked bars of budgets, one per class, in the given order.

    shares: class → budget as text → share of its images in [0, 1].
    """
    chart = figure("Class", "Test images, %", height=320)
    names = list(next(iter(shares.values()), {}))
    for i, budget in enumerate(names):
        colour = {"never": COLOURS["attacker"], "off and on": COLOURS["not private"]}.get(
            budget, f"hsl(210, 60%, {30 + 55 * i // max(1, len(names) - 1)}%)"
        )
        chart.add_bar(
            x=list(shares),
            y=[100 * found[budget] for found in shares.values()],
            name=budget,
            marker=dict(color=colour),
            hovertemplate="%{y:.1f} %",
        )
    chart.update_layout(barmode="stack")
    chart.update_xaxes(type="category")
    return chart
