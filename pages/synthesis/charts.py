"""Figures of page Synthesis, drawn from the curves of results; pure functions."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.common.figures import COLOURS, Curve, figure, line, percent

# kind of labels that the student was trained with → colour and dash
LABELS = {"hard": ("not private", "solid"), "soft": ("private", "solid")}


def students(
    found: dict[str, Curve],
    learning: dict[str, Curve],
    levels: dict[str, float],
    chance: float,
    steps: int,
) -> go.Figure:
    """Student accuracy over the steps of the synthesis.

    found, and learning for those not done yet: 'hard' / 'soft' → (steps, accuracy in [0, 1]);
    levels: name → accuracy, drawn as lines.
    """
    chart = figure("Steps of the synthesis", "Test accuracy on real images, %", height=360)
    for kind, points in found.items():
        line(
            chart,
            f"synthetic images, {kind} labels",
            percent(points),
            LABELS[kind][0],
            unit=" %",
        )
    for kind, points in learning.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name="still training",
            mode="markers",
            showlegend=False,
            marker=dict(size=9, symbol="circle-open", color=COLOURS[LABELS[kind][0]]),
            hovertemplate="%{y:.1f} %, still training",
        )
    _levels(chart, levels | {"guessing": chance})
    chart.update_xaxes(range=[0, 1.05 * steps])
    chart.update_yaxes(range=[0, 112])
    return chart


def _levels(chart: go.Figure, levels: dict[str, float]) -> None:
    """Dotted lines at known accuracies, with names that do not cover each other."""
    highest = max((value for name, value in levels.items() if name != "guessing"), default=1.0)
    for name, value in levels.items():
        colour = COLOURS["chance" if name == "guessing" else "raw"]
        place = "top" if value == highest or name == "guessing" else "bottom"
        chart.add_hline(
            y=100 * value,
            line=dict(color=colour, dash="dot"),
            annotation=dict(text=name, font=dict(color=colour)),
            annotation_position=f"{place} left",
        )


def layers(curves: dict[str, Curve]) -> go.Figure:
    """The distance of each layer's statistics over steps, from light (first layers) to dark."""
    chart = figure("Steps", "Distance of the statistics", height=320)
    for i, points in enumerate(curves.values()):
        shade = 200 - round(170 * i / max(1, len(curves) - 1))
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=f"layer {i + 1}",
            mode="lines",
            hovertemplate="%{y:.3g}",
            line=dict(
                color=f"rgb({shade // 2},{round(0.8 * shade)},{min(255, shade + 60)})", width=2
            ),
        )
    chart.update_yaxes(type="log", dtick=1, exponentformat="power")
    chart.update_layout(showlegend=len(curves) <= 8)
    return chart


def given_away(points: list[tuple[int, float, float]], controls: dict[str, float]) -> go.Figure:
    """Leakage over accuracy.

    points: (steps, accuracy or NaN, AUC of the attack) for each snapshot; controls: name → AUC,
    drawn as lines.
    """
    chart = figure(
        "Accuracy of the student with hard labels, %",
        "Attack AUC (teacher features), %",
        height=330,
    )
    for (name, auc), (colour, dash) in zip(
        controls.items(), (("chance", "dot"), ("raw", "dash"), ("spent", "dashdot"))
    ):
        chart.add_scatter(
            x=[0, 103],
            y=[100 * auc] * 2,
            mode="lines",
            name=f"{name}: {100 * auc:.1f}",
            line=dict(color=COLOURS[colour], dash=dash),
            hoverinfo="skip",
        )
    chart.add_scatter(
        x=[100 * accuracy for _, accuracy, _ in points],
        y=[100 * auc for *_, auc in points],
        text=[f"{step} steps" for step, *_ in points],
        mode="lines+markers",
        name="synthetic images, one point per snapshot",
        marker=dict(size=9, color=COLOURS["attacker"]),
        line=dict(color=COLOURS["attacker"], width=2),
        hovertemplate="%{text}: %{x:.1f} % accuracy, AUC %{y:.1f} %<extra></extra>",
    )
    chart.update_xaxes(range=[0, 103])
    chart.update_yaxes(range=[40, 104])
    chart.update_layout(hovermode="closest")
    return chart
