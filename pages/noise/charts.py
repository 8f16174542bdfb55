"""Figures of page Noise, drawn from the curves of results; pure functions."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, Curve, figure, line, percent


def label_odds(classes: list[str], keep: float, truth: str) -> go.Figure:
    """Probability of each answer of the randomised response, given the true label."""
    other = (1 - keep) / (len(classes) - 1)
    chart = figure("Label told", "Chance, %", height=240)
    chart.add_bar(
        x=classes,
        y=[100 * (keep if c == truth else other) for c in classes],
        hovertemplate="%{y:.3g} %",
        marker=dict(color=[COLOURS["raw"] if c == truth else COLOURS["noised"] for c in classes]),
    )
    chart.update_xaxes(type="category")
    chart.update_yaxes(range=[0, 102])
    return chart


ARM_COLOURS = {
    "raw": "raw",
    "true labels": "noised",
    "noised labels": "not private",
    "K-means labels": "spent",
    "IIC labels": "private",
}


def arms(curves: dict[str, dict[str, Curve]], epochs: int, chance: float) -> go.Figure:
    """Accuracy over epochs by arm. curves: arm → the study's curves.

    Solid: test images treated like the training images; dotted: raw ones.
    """
    chart = figure("Epochs", "Named correctly, %", height=360)
    for arm, found in curves.items():
        name = "raw pictures" if arm == "raw" else f"noised pictures, {arm}"
        line(chart, name, percent(found.get("test_accuracy", [])), ARM_COLOURS[arm], unit=" %")
        if found.get("test_accuracy_noised"):
            line(
                chart,
                f"{name}, tested on raw ones",
                percent(found.get("test_accuracy_raw", [])),
                ARM_COLOURS[arm],
                dash="dot",
                unit=" %",
            )
            chart.data[-1].showlegend = False
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot"),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    chart.update_xaxes(range=[0, epochs * 1.02], dtick=1 if epochs <= 10 else None)
    chart.update_yaxes(range=[0, 102])
    return chart


# kind of a step in the walk → its colour
KINDS = {"raw": "raw", "no labels": "not private", "privacy": "private", "error": "attacker"}


def walk(
    steps: dict[str, tuple[str, float | None]], published: tuple[float, float] | None, chance: float
) -> go.Figure:
    """Waterfall chart from raw accuracy down, one bar per step.

    steps: name → (kind, accuracy in [0, 1], or None while it is missing). A step after a missing
    one has no bar yet, because the bar would show two changes in one colour.
    """
    chart = figure("", "Named correctly, %", height=400)
    before: float | None = None
    for i, (name, (kind, accuracy)) in enumerate(steps.items()):
        if accuracy is None or (i and before is None):
            chart.add_bar(x=[name], y=[0], base=[0], showlegend=False)
            before = accuracy
            continue
        base, change = (0.0, accuracy) if before is None else (before, accuracy - before)
        told = (
            f"{100 * accuracy:.1f} %"
            if before is None
            else f"{100 * change:+.1f}<br>→ {100 * accuracy:.1f} %"
        )
        if kind == "error" and before is not None and before < 1.2 * chance:
            told += "<br>(nothing left to lose)"
        chart.add_scatter(
            x=[name],
            y=[100 * accuracy],
            mode="markers",
            showlegend=False,
            hoverinfo="skip",
            marker=dict(symbol="line-ew", size=30, line=dict(color=COLOURS[KINDS[kind]], width=3)),
        )
        chart.add_bar(
            x=[name],
            y=[100 * change],
            base=[100 * base],
            marker=dict(color=COLOURS[KINDS[kind]]),
            showlegend=False,
            hovertemplate=f"{100 * accuracy:.2f} %<extra></extra>",
        )
        chart.add_scatter(
            x=[name],
            y=[100 * max(accuracy, before or 0.0) + 1],
            text=[told],
            mode="text",
            textposition="top center",
            showlegend=False,
            hoverinfo="skip",
        )
        before = accuracy
    if published:
        chart.add_hrect(
            100 * published[0],
            100 * published[1],
            fillcolor=COLOURS["chance"],
            opacity=0.4,
            line_width=0,
            annotation=dict(
                text=f"the report: {100 * published[0]:.0f} to {100 * published[1]:.0f} %"
            ),
            annotation_position="top right",
        )
    chart.update_xaxes(type="category")
    chart.update_yaxes(range=[0, 118])
    return chart


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
        z = [
            [None if (found := cells.get((e, depth, w))) is None else 100 * found for w in widths]
            for e in budgets
        ]
        chart.add_heatmap(
            z=z,
            x=[f"{w:g} ×" for w in widths],
            y=[rounding.chosen(e) for e in budgets],
            zmin=0,
            zmax=100,
            colorscale="Cividis",
            showscale=i == len(depths),
            colorbar=dict(title="%"),
            row=1,
            col=i,
            xgap=2,
            ygap=2,
            texttemplate="%{z:.0f}",
            hovertemplate=f"{depth}, ε = %{{y}}, width %{{x}}: %{{z:.1f}} %<extra></extra>",
        )
        chart.update_xaxes(title="Width", type="category", row=1, col=i)
    chart.update_yaxes(type="category")
    chart.update_yaxes(title="ε of each picture", row=1, col=1)
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


def survival(shares: dict[str, dict[str, float]]) -> go.Figure:
    """Stacked bars of budgets, one per class, in the given order.

    shares: class → budget as text → share of its images in [0, 1].
    """
    chart = figure("Class", "Test pictures, %", height=320)
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
