"""Figures of page Fidelity, drawn from the curves of results; pure functions."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from pages.common.figures import COLOURS, Curve, figure, line
from pages.fidelity import text

# the others are controls, in grey
SET_COLOURS = {
    "GAN without privacy": "not private",
    "private GAN": "private",
    "private DP-MERF": "spent",
}


def growth(lines: dict[str, Curve], real: float | None) -> go.Figure:
    """Fréchet distance over the share of the training done, in %, on a log axis.

    real: the distance of real images.
    """
    chart = figure("Share of its training, %", "Fréchet distance from real images", height=320)
    for name, points in lines.items():
        line(chart, name, points, SET_COLOURS[name], digits=".3g")
    # drawn as a trace, because plotly misplaces the label of a line on a log axis
    if real is not None and real > 0:
        chart.add_scatter(
            x=[0, 100],
            y=[real] * 2,
            mode="lines",
            name="real images",
            line=dict(color=COLOURS["chance"], dash="dot"),
            hovertemplate="%{y:.3g}",
        )
    chart.update_xaxes(range=[-1, 102])
    chart.update_yaxes(type="log", dtick=1)
    return chart


PANELS = {
    "frechet_distance": "Fréchet distance",
    "copies_pixels": "like copies,<br>%",
    "mifid_torchmetrics": "MiFID,<br>torchmetrics",
    "mifid_bai": "MiFID,<br>Bai et al.",
}


def sets(
    metrics: dict[str, dict[str, float]], panels: tuple[str, ...], extractor: str
) -> go.Figure:
    """One row per set of images, one panel per metric of PANELS.

    Axes are logarithmic except for copies, whose chance level is dotted.
    """
    from plotly.subplots import make_subplots

    titles = [
        "FID" if name == "frechet_distance" and extractor == "inception" else PANELS[name]
        for name in panels
    ]
    chart = make_subplots(
        1, len(panels), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles
    )
    names = list(metrics)[::-1]
    for column, name in enumerate(panels, 1):
        _panel(chart, column, name, {each: metrics[each].get(name, math.nan) for each in names})
    chart.update_layout(
        height=110 + 42 * len(names),
        margin=dict(l=8, r=8, t=48, b=8),
        font=dict(size=14),
        uirevision="keep",
        hovermode="closest",
    )
    chart.update_xaxes(tickangle=0)
    chart.update_yaxes(automargin=True)
    return chart


def _panel(chart: go.Figure, column: int, metric: str, found: dict[str, float]) -> None:
    """One metric of all sets. found: set → value or NaN."""
    share = metric.startswith("copies")
    values = [value * (100 if share else 1) for value in found.values()]
    drawn = values if share else [min(max(v, 1e-3), text.BEYOND) for v in values]
    chart.add_scatter(
        x=drawn,
        y=[name.replace(" ", "<br>", 1) for name in found],
        mode="markers+text",
        marker=dict(size=13, color=[COLOURS[SET_COLOURS.get(name, "chance")] for name in found]),
        text=[f" {text.short(v)}" for v in values],
        textposition="middle right",
        row=1,
        col=column,
        customdata=[f"{name}: {text.large(v)}" for name, v in zip(found, values)],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    if share:
        chart.update_xaxes(range=[-6, 145], tickvals=[0, 50, 100], row=1, col=column)
        chart.add_vline(x=5, line=dict(color=COLOURS["chance"], dash="dot"), row=1, col=column)
        return
    seen = [v for v in drawn if math.isfinite(v)] or [1.0]
    low, high = math.log10(min(seen)) - 0.3, math.log10(max(seen)) + 0.3
    chart.update_xaxes(
        type="log",
        range=[low, high + 0.45 * (high - low)],
        dtick=2 if high - low > 2 else 1,
        exponentformat="power",
        row=1,
        col=column,
    )


def ratios(found, yardstick, threshold: float, name: str) -> go.Figure:
    """Histogram of the ratios of nearest distances, for a set of images and for held-out ones."""
    chart = figure("Distance ratio", "Images, %", height=320)
    top = max(1.5, min(3.0, float(max(found.max(), yardstick.max()))))
    bins = dict(start=0.0, end=top, size=top / 40)
    for values, whose, colour in (
        (yardstick, "held-out images", COLOURS["chance"]),
        (found, name, COLOURS[SET_COLOURS.get(name, "attacker")]),
    ):
        chart.add_histogram(
            x=values,
            xbins=bins,
            histnorm="percent",
            name=whose,
            marker=dict(color=colour),
            opacity=0.6,
            hovertemplate="%{y:.1f} %",
        )
    chart.add_vline(x=threshold, line=dict(color=COLOURS["attacker"], dash="dot"))
    chart.update_layout(barmode="overlay")
    chart.update_xaxes(range=[-0.02, top])
    return chart
