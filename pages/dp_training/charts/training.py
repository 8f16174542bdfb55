"""One network beside its non-private baseline: accuracy, loss, ε spent, accuracy by class."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, Curve, figure, line, percent

# colours of trainings in one figure
WHO_COLOURS = {"private": "private", "not private": "not private", "no noise": "noised"}
EPOCHS = "Epochs (passes over the training images)"
ACCURACY = "Accuracy on test images, %"
SETS = {"test images": ("test_accuracy", "solid"), "training images": ("train_accuracy", "dot")}


def accuracy(curves: dict[str, dict[str, Curve]], epochs: int, chance: float) -> go.Figure:
    """Accuracy over epochs.

    curves: 'private' / 'not private' → the study's curves, accuracies in [0, 1].
    """
    chart, values = figure(EPOCHS, "Accuracy, %"), []
    for who, found in curves.items():
        for images, (curve, dash) in SETS.items():
            points = found.get(curve, [])
            values += [y for _, y in points]
            line(
                chart,
                f"{images}, {who}",
                percent(points),
                WHO_COLOURS[who],
                dash=dash,
                unit=" %",
            )
    fit_to_accuracy(chart, values, epochs, chance)
    return chart


def fit_to_accuracy(chart: go.Figure, values: list[float], epochs: int, chance: float) -> None:
    """Axes for accuracies in [0, 1] over epochs, zoomed in if all are high; a line at chance."""
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot"),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    worst = 100 * min(values, default=0.0)
    chart.update_xaxes(range=[0, 1.02 * epochs])
    chart.update_yaxes(range=[worst - 0.1 * (100 - worst) if worst > 60 else 0, 101])


def loss(curves: dict[str, dict[str, Curve]], epochs: int) -> go.Figure:
    """Mean loss on the training images over epochs."""
    chart = figure(EPOCHS, "Loss on training images (nats)", height=260)
    for who, found in curves.items():
        line(chart, who, found.get("train_loss", []), WHO_COLOURS[who], digits=".3f")
    chart.update_xaxes(range=[0, epochs * 1.02])
    return chart


def spent(points: Curve, epochs: int, limit: float | None, delta: float) -> go.Figure:
    """ε spent so far over epochs, with the budget, if there is one, as a dotted line."""
    chart = figure(EPOCHS, f"ε spent so far (δ = {rounding.chosen(delta)})", height=260)
    line(chart, "upper bound on the ε spent (RDP)", points, "spent", hover=rounding.epsilon)
    if limit is not None:
        chart.add_hline(
            y=limit,
            line=dict(color=COLOURS["chance"], dash="dot"),
            annotation=dict(text="budget"),
            annotation_position="top left",
        )
    chart.update_xaxes(range=[0, epochs * 1.02])
    chart.update_yaxes(rangemode="tozero")
    return chart


def per_class(accuracies: dict[str, dict[str, float]]) -> go.Figure:
    """Accuracy per class. accuracies: 'private' / 'not private' → class name → accuracy in [0, 1].

    With both, classes are sorted by loss of accuracy, the largest first.
    """
    both = len(accuracies) == 2 and "not private" in accuracies
    title = "Class, those that lose most accuracy to privacy first" if both else "Class"
    chart = figure(title, "Accuracy, %", height=300)
    for who, by_class in accuracies.items():
        chart.add_bar(
            x=list(by_class),
            y=[100 * a for a in by_class.values()],
            name=who,
            marker=dict(color=COLOURS[WHO_COLOURS[who]]),
            hovertemplate="%{y:.1f} %",
        )
    chart.update_xaxes(type="category")
    if both:
        mine, base = next(iter(accuracies.values())), accuracies["not private"]
        order = sorted(mine, key=lambda name: mine[name] - base.get(name, 0.0))
        chart.update_xaxes(categoryorder="array", categoryarray=order)
    chart.update_yaxes(range=[0, 102])
    return chart
