"""Accuracy over rounds, over the bytes uploaded, and over ε: one line per arm."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from engine.core import rounding
from engine.studies.gradient_sharing import ARMS
from pages.common import sentences
from pages.common.figures import COLOURS, Curve, figure
from pages.gradient_sharing.charts.styles import add_level, style

ACCURACY = "Accuracy on test images, %"


def by_round(
    curves: dict[str, Curve],
    names: list[str],
    chosen: str,
    rounds: int,
    chance: float,
    private: bool,
) -> go.Figure:
    """Accuracy per round.

    curves: name → (round, accuracy in [0, 1]); names: of all arms, including those not started;
    chosen: the arm drawn thick.
    """
    chart = figure("Rounds", ACCURACY, height=380)
    for name, points in curves.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            line=style(name, names, private) | ({"width": 4.5} if name == chosen else {}),
            hovertemplate="%{y:.1f} %",
        )
    chart.update_layout(showlegend=True)
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot", width=1),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    chart.update_xaxes(range=[-0.01 * rounds, 1.02 * rounds])
    chart.update_yaxes(range=_range([100 * y for points in curves.values() for _, y in points]))
    return chart


def _range(values: list[float]) -> list[float]:
    """The range of the accuracy axis in per cent, zoomed in if all are high."""
    worst, best = min(values, default=0.0), max(values, default=100.0)
    room = 0.1 * (best - worst) + 0.5
    return [worst - room, best + room] if worst > 50 else [0, 101]


def by_bytes(
    curves: dict[str, Curve],
    levels: dict[str, float],
    centralised: tuple[float, float] | None,
    private: bool,
) -> go.Figure:
    """Accuracy over bytes uploaded per client.

    curves: name → (bytes, accuracy); levels: arms that send nothing; centralised: bytes of a
    client's images, and the accuracy with all of them.
    """
    chart = figure("Uploaded per client so far, on average", ACCURACY, height=380)
    for name, points in curves.items():
        sent = [(x, y) for x, y in points if x > 0]
        chart.add_scatter(
            x=[x for x, _ in sent],
            y=[100 * y for _, y in sent],
            name=name,
            mode="lines+markers",
            marker=dict(size=4),
            line=style(name, list(curves), private),
            text=[sentences.size(x) for x, _ in sent],
            hovertemplate="%{y:.1f} % after %{text}",
        )
    if centralised is not None:
        _add_images(chart, *centralised)
    for name, level in levels.items():
        add_level(chart, name, level, "bottom right")
    sizes = [x for points in curves.values() for x, _ in points if x > 0]
    _name_sizes(chart, sizes + ([centralised[0]] if centralised else []))
    chart.update_layout(hovermode="closest")
    return chart


def _add_images(chart: go.Figure, size: float, accuracy: float) -> None:
    """A star for the images themselves, sent to one place."""
    chart.add_scatter(
        x=[size],
        y=[100 * accuracy],
        name="the images themselves",
        mode="markers",
        marker=dict(symbol="star", size=15, color=COLOURS["raw"]),
        text=[sentences.size(size)],
        hovertemplate="%{y:.1f} % for %{text} of images",
    )


def _name_sizes(chart: go.Figure, sizes: list[float]) -> None:
    """A log axis of bytes with a tick at each power of ten."""
    chart.update_xaxes(type="log")
    if sizes:
        low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
        ticks = [10.0**e for e in range(low, high + 1)]
        names = [sentences.size(tick).replace(".0", "") for tick in ticks]
        chart.update_xaxes(tickvals=ticks, ticktext=names)


def by_epsilon(
    paths: dict[str, Curve], ends: dict[str, tuple[float, float]], levels: dict[str, float]
) -> go.Figure:
    """Accuracy over the ε spent by a client.

    paths: name → (ε, accuracy) per round; ends: (exact ε, accuracy) of finished arms; levels: arms
    without a guarantee.
    """
    chart = figure("ε of a client (smaller is more private)", ACCURACY, height=400)
    for name, points in paths.items():
        kept = [(x, y) for x, y in points if 0 < x < math.inf]
        chart.add_scatter(
            x=[x for x, _ in kept],
            y=[100 * y for _, y in kept],
            mode="lines",
            line=style(name, list(paths), True) | {"width": 1.2},
            showlegend=False,
            hoverinfo="skip",
        )
    _add_ends(chart, sorted((x, y, name) for name, (x, y) in ends.items()))
    for name, level in levels.items():
        add_level(chart, name, level, "top left" if name == ARMS["none"] else "bottom right")
    chart.update_xaxes(type="log", tickvals=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
    chart.update_layout(hovermode="closest")
    return chart


def _add_ends(chart: go.Figure, done: list[tuple[float, float, str]]) -> None:
    """(exact ε, accuracy, name) of finished arms."""
    chart.add_scatter(
        x=[x for x, *_ in done],
        y=[100 * y for _, y, _ in done],
        mode="lines+markers+text",
        name="at the end",
        line=dict(color=COLOURS["private"], width=3),
        marker=dict(size=9),
        text=[name for *_, name in done],
        textposition="bottom center",
        customdata=[rounding.epsilon(x) for x, *_ in done],
        hovertemplate="%{y:.1f} % at ε = %{customdata} (%{text})",
    )
