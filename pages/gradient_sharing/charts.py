"""Figures of page Gradient sharing, drawn from the curves of results; pure functions."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from engine.core import rounding
from pages.common import sentences
from pages.common.figures import BLUES, COLOURS, ORANGES, Curve, figure, shade

# --- clients that share gradients -----------------------------------------------------------------

# arms with a fixed style: colour and dash
COMPARED = {
    "no update": ("chance", "dot"),
    "each phone alone": ("noised", "dash"),
    "all pictures in one place": ("raw", "solid"),
    "clipped, no noise": ("not private", "dash"),
}


# The ways to choose gradients have hues of their own, because shades could not be told apart.
WAYS = {
    "the largest": ("#E69F00", "solid"),
    "the largest, the rest kept": ("#E69F00", "dash"),
    "random ones": ("#8856A7", "solid"),
    "random ones, the rest kept": ("#8856A7", "dash"),
    "above a threshold": ("#9A5B00", "solid"),
    "above a threshold, the rest kept": ("#9A5B00", "dash"),
}


def _arm(name: str, names: list[str], private: bool) -> dict:
    """A line's style, which does not change while other arms are still to come.

    Sharing arms go from pale to dark, in orange without a guarantee and in blue with one. names: of
    all arms.
    """
    if name in WAYS:
        return dict(color=WAYS[name][0], dash=WAYS[name][1], width=2.5)
    if name in COMPARED:
        return dict(color=COLOURS[COMPARED[name][0]], dash=COMPARED[name][1], width=2.5)
    shades = [each for each in names if each not in COMPARED]
    return dict(
        color=shade(shades.index(name), len(shades), BLUES if private else ORANGES), width=2.5
    )


def days(
    curves: dict[str, Curve],
    names: list[str],
    chosen: str,
    rounds: int,
    chance: float,
    private: bool,
) -> go.Figure:
    """Accuracy per round, one line per arm.

    curves: name → (round, accuracy in [0, 1]); names: of all arms, including those not started;
    chosen: the arm drawn thick.
    """
    chart = figure("Days", "New pictures named correctly, %", height=380)
    for name, points in curves.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            line=_arm(name, names, private) | ({"width": 4.5} if name == chosen else {}),
            hovertemplate="%{y:.1f} %",
        )
    chart.update_layout(showlegend=True)
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot", width=1),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    values = [100 * y for points in curves.values() for _, y in points]
    worst, best = min(values, default=0.0), max(values, default=100.0)
    chart.update_xaxes(range=[-0.01 * rounds, 1.02 * rounds])
    chart.update_yaxes(
        range=(
            [worst - 0.1 * (best - worst) - 0.5, best + 0.1 * (best - worst) + 0.5]
            if worst > 50
            else [0, 101]
        )
    )
    return chart


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
    chart = figure(
        "Uploaded by a phone so far, on average", "New pictures named correctly, %", height=380
    )
    names = list(curves)
    for name, points in curves.items():
        sent = [(x, y) for x, y in points if x > 0]
        chart.add_scatter(
            x=[x for x, _ in sent],
            y=[100 * y for _, y in sent],
            name=name,
            mode="lines+markers",
            marker=dict(size=4),
            line=_arm(name, names, private),
            text=[sentences.size(x) for x, _ in sent],
            hovertemplate="%{y:.1f} % after %{text}",
        )
    if centralised is not None:
        chart.add_scatter(
            x=[centralised[0]],
            y=[100 * centralised[1]],
            name="the pictures themselves",
            mode="markers",
            marker=dict(symbol="star", size=15, color=COLOURS["raw"]),
            text=[sentences.size(centralised[0])],
            hovertemplate="%{y:.1f} % for %{text} of pictures",
        )
    for name, level in levels.items():
        chart.add_hline(
            y=100 * level,
            line=dict(color=COLOURS[COMPARED[name][0]], dash=COMPARED[name][1], width=1.5),
            annotation=dict(text=name, font=dict(color=COLOURS[COMPARED[name][0]])),
            annotation_position="bottom right",
        )
    seen = [x for points in curves.values() for x, _ in points if x > 0] + (
        [centralised[0]] if centralised else []
    )
    if seen:
        marks = [
            10.0**e
            for e in range(math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen))) + 1)
        ]
        chart.update_xaxes(
            tickvals=marks, ticktext=[sentences.size(mark).replace(".0", "") for mark in marks]
        )
    chart.update_xaxes(type="log")
    chart.update_layout(hovermode="closest")
    return chart


def by_epsilon(
    paths: dict[str, Curve], ends: dict[str, tuple[float, float]], levels: dict[str, float]
) -> go.Figure:
    """Accuracy over the ε spent by a client.

    paths: name → (ε, accuracy) per round; ends: (exact ε, accuracy) of finished arms; levels: arms
    without a guarantee.
    """
    chart = figure(
        "ε of a participant (smaller is more private)",
        "New pictures named correctly, %",
        height=400,
    )
    for name, points in paths.items():
        kept = [(x, y) for x, y in points if 0 < x < math.inf]
        chart.add_scatter(
            x=[x for x, _ in kept],
            y=[100 * y for _, y in kept],
            mode="lines",
            line=_arm(name, list(paths), True) | {"width": 1.2},
            showlegend=False,
            hoverinfo="skip",
        )
    done = sorted((x, y, name) for name, (x, y) in ends.items())
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
    for name, level in levels.items():
        colour = COMPARED.get(name, ("not private", "dash"))
        chart.add_hline(
            y=100 * level,
            line=dict(color=COLOURS[colour[0]], dash=colour[1], width=1.5),
            annotation=dict(text=name, font=dict(color=COLOURS[colour[0]])),
            annotation_position="top left" if name == "no update" else "bottom right",
        )
    chart.update_xaxes(type="log", tickvals=[0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
    chart.update_layout(hovermode="closest")
    return chart


def rebuilding(curves: dict[str, Curve], steps: int) -> go.Figure:
    """Similarity of the reconstruction to the true image over the attacker's steps.

    curves: psnr_db over steps, all attempts one after the other, each of `steps`.
    """
    chart = figure("Attacker's steps", "Likeness to the picture (PSNR, dB)", height=280)
    attempts: dict[int, Curve] = {}
    for x, y in curves.get("psnr_db", []):
        attempts.setdefault(int((x - 1) // steps), []).append(((x - 1) % steps + 1, y))
    for number, points in attempts.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="lines+markers",
            name=f"attempt {number + 1}",
            line=dict(
                color=COLOURS["attacker"], width=3, dash=("solid", "dot", "dash")[number % 3]
            ),
            marker=dict(size=5),
            hovertemplate="%{y:.1f} dB",
        )
    chart.update_layout(showlegend=len(attempts) > 1)
    chart.update_xaxes(range=[0, 1.02 * steps])
    return chart
