"""The colour and the dash of each arm, which do not change while other arms are still to come."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.studies.gradient_sharing import ARMS
from pages.common.figures import BLUES, COLOURS, ORANGES, shade

# arms with a fixed style: colour and dash
COMPARED = {
    ARMS["none"]: ("chance", "dot"),
    ARMS["alone"]: ("noised", "dash"),
    ARMS["centralised"]: ("raw", "solid"),
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


def style(name: str, names: list[str], private: bool) -> dict:
    """The line of an arm.

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


def add_level(chart: go.Figure, name: str, accuracy: float, position: str) -> None:
    """A horizontal line for an arm that has no value on the x axis. accuracy: in [0, 1]."""
    colour, dash = COMPARED.get(name, ("not private", "dash"))
    chart.add_hline(
        y=100 * accuracy,
        line=dict(color=COLOURS[colour], dash=dash, width=1.5),
        annotation=dict(text=name, font=dict(color=COLOURS[colour])),
        annotation_position=position,
    )
