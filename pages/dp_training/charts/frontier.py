"""Accuracy over ε: the trade-off between utility and privacy."""

from __future__ import annotations

from statistics import mean

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, Curve, figure
from pages.dp_training.charts.training import ACCURACY
from pages.dp_training.text.choosing import Ends, Means, means_of

# Published results at δ = 1e-5: (ε, accuracy in %, source), read from the papers, not reproduced
# here.
PUBLISHED = {
    "mnist": (
        (0.5, 90.0, "Abadi et al. 2016"),
        (2.0, 95.0, "Abadi et al. 2016"),
        (8.0, 97.0, "Abadi et al. 2016"),
        (1.16, 94.63, "Opacus' example"),
        (2.91, 96.84, "Opacus' example"),
        (6.86, 97.09, "Opacus' example"),
        (2.93, 98.1, "tempered sigmoids, 2021"),
        (2.93, 98.7, "Tramèr and Boneh 2021"),
    ),
    "fashion-mnist": ((2.7, 86.1, "tempered sigmoids, 2021"), (2.7, 89.7, "Tramèr and Boneh 2021")),
}


def frontier(
    paths: dict[str, Curve],
    ends: Ends,
    baselines: list[float],
    published: tuple,
    chosen: float | None,
) -> go.Figure:
    """Accuracy over ε.

    paths: name → (ε, accuracy in [0, 1]) over a training's epochs; ends: noise multiplier → (ε,
    accuracy) of its finished seeds; baselines: accuracies without privacy; published: results of
    others; chosen: the visitor's ε.
    """
    chart = figure("ε spent (smaller is more private)", ACCURACY, height=440)
    _add_paths(chart, paths)
    means = means_of(ends)
    if any(len(seeds) > 1 for seeds in ends.values()):
        _add_spread(chart, means, ends)
    _add_means(chart, means, ends, several=len(baselines) > 1)
    if published:
        _add_published(chart, published)
    if baselines:
        _add_baseline(chart, 100 * mean(baselines))
    low, high = _range(ends, baselines, published)
    if chosen is not None:
        _add_chosen(chart, chosen, low, high)
    chart.update_xaxes(type="log", tickvals=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000])
    chart.update_yaxes(range=[low, high])
    chart.update_layout(hovermode="closest")
    return chart


def _add_paths(chart: go.Figure, paths: dict[str, Curve]) -> None:
    for name, points in paths.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
            line=dict(color=COLOURS["spent"], width=1),
        )


def _add_spread(chart: go.Figure, means: Means, ends: Ends) -> None:
    """The worst and the best seed of each noise multiplier, and the band between them."""
    x = [epsilon for epsilon, *_ in means]
    low, high = (
        [100 * pick(y for _, y in ends[noise]) for *_, noise in means] for pick in (min, max)
    )
    chart.add_scatter(
        x=x * 2,
        y=low + high,
        mode="markers",
        showlegend=False,
        hoverinfo="skip",
        marker=dict(size=5, color=COLOURS["private"], opacity=0.5),
    )
    chart.add_scatter(
        x=x + x[::-1],
        y=low + high[::-1],
        fill="toself",
        mode="none",
        showlegend=False,
        hoverinfo="skip",
        fillcolor="rgba(0,114,178,0.18)",
    )


def _add_means(chart: go.Figure, means: Means, ends: Ends, several: bool) -> None:
    """The finished trainings, with ε and σ on hover."""
    chart.add_scatter(
        x=[epsilon for epsilon, *_ in means],
        y=[100 * accuracy for _, accuracy, _ in means],
        name="private, mean over seeds" if several else "private",
        mode="lines+markers",
        line=dict(color=COLOURS["private"], width=3),
        marker=dict(size=9),
        text=[
            f"ε = {rounding.epsilon(epsilon)} (σ = {rounding.chosen(noise)}"
            + (f", {len(ends[noise])} seeds)" if len(ends[noise]) > 1 else ")")
            for epsilon, _, noise in means
        ],
        hovertemplate="%{y:.2f} % at %{text}",
    )


def _add_published(chart: go.Figure, published: tuple) -> None:
    chart.add_scatter(
        x=[epsilon for epsilon, *_ in published],
        y=[accuracy for _, accuracy, _ in published],
        name="published results",
        mode="markers",
        text=[f"ε = {rounding.chosen(epsilon)}: {who}" for epsilon, _, who in published],
        marker=dict(symbol="x", size=9, color=COLOURS["chance"]),
        hovertemplate="%{y:.1f} % at %{text}",
    )


def _add_baseline(chart: go.Figure, accuracy: float) -> None:
    colour = COLOURS["not private"]
    chart.add_hline(
        y=accuracy,
        line=dict(color=colour, dash="dash"),
        annotation=dict(text=f"not private: {accuracy:.2f} %", font=dict(color=colour)),
        annotation_position="bottom left",
    )


def _add_chosen(chart: go.Figure, epsilon: float, low: float, high: float) -> None:
    """The visitor's ε: a trace, because plotly misplaces a vertical line's label on a log axis."""
    chart.add_scatter(
        x=[epsilon] * 2,
        y=[low, high],
        mode="lines",
        name="your ε",
        line=dict(color=COLOURS["chance"], dash="dot"),
        hoverinfo="skip",
    )


def _range(ends: Ends, baselines: list[float], published: tuple) -> tuple[float, float]:
    """The range of the accuracy axis in per cent, which is close to what is drawn."""
    private = [100 * y for seeds in ends.values() for _, y in seeds]
    others = [y for _, y, _ in published]
    best = max(private + others + [100 * y for y in baselines] + [50.0])
    worst = min(private + others + [best - 2])
    return max(0, worst - 0.15 * (100 - worst) - 1), min(100.5, best + 0.2 * (best - worst) + 0.3)
