"""Figures that several pages draw, and the common style of all figures; pure functions."""

from __future__ import annotations

from collections.abc import Callable

# Plotly looks for pandas in sys.modules, where a second thread would find it half imported.
import pandas  # noqa: F401
import plotly.graph_objects as go

COLOURS = {
    "private": "#0072B2",
    "not private": "#E69F00",
    "raw": "#009E73",
    "noised": "#CC79A7",
    "attacker": "#D55E00",
    "spent": "#56B4E9",
    "chance": "#7F7F7F",
}


# (hue, lightness in %) from pale to strong
BLUES, ORANGES = ((190, 72), (215, 42)), ((44, 60), (12, 40))


Curve = list[tuple[float, float]]


def shade(number: int, count: int, ends: tuple[tuple[int, int], tuple[int, int]] = BLUES) -> str:
    """The colour of one of `count` lines, from pale to strong.

    The palest is visible on a white page and the strongest on a dark one.
    """
    at = number / max(1, count - 1)
    hue, light = (round(first + at * (last - first)) for first, last in zip(*ends))
    return f"hsl({hue}, 70%, {light}%)"


def figure(x_title: str, y_title: str, height: int = 320) -> go.Figure:
    """An empty figure in the common style: axis titles, legend on top, exact values on hover."""
    return go.Figure(
        layout=dict(
            height=height,
            margin=dict(l=8, r=8, t=8, b=8),
            hovermode="x unified",
            uirevision="keep",
            legend=dict(orientation="h", y=1.02, yanchor="bottom", x=0),
            font=dict(size=14),
            xaxis=dict(title=x_title, automargin=True),
            yaxis=dict(title=y_title, automargin=True),
        )
    )


def line(
    chart: go.Figure,
    name: str,
    points: Curve,
    colour: str,
    *,
    dash: str = "solid",
    unit: str = "",
    digits: str = ".2f",
    hover: Callable[[float], str] | None = None,
) -> None:
    """Add a curve with visible points.

    Drawn as SVG, because browsers allow only a few WebGL charts per page. hover: makes the hover
    text of values that plotly must not round by itself, such as bounds.
    """
    chart.add_scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        name=name,
        mode="lines+markers",
        line=dict(color=COLOURS[colour], width=3, dash=dash),
        marker=dict(size=6, color=COLOURS[colour]),
        text=[hover(y) for _, y in points] if hover else None,
        hovertemplate=f"%{{text}}{unit}" if hover else f"%{{y:{digits}}}{unit}",
    )


def percent(points: Curve) -> Curve:
    """Fractions → per cent."""
    return [(x, 100 * y) for x, y in points]


def crowd(right: int | None) -> str:
    """100 small figures of people as SVG.

    The first `right` are filled in the attacker's colour; None: outlines only, because the number
    is not known.
    """
    people = "".join(_outline(i) if right is None else _person(i, i < right) for i in range(100))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 134" width="400"'
        f' height="134">{people}</svg>'
    )


def _person(i: int, found: bool) -> str:
    colour, fill = (COLOURS["attacker"], 1.0) if found else (COLOURS["chance"], 0.3)
    return f'<g fill="{colour}" fill-opacity="{fill}">{_shape(i)}</g>'


def _outline(i: int) -> str:
    return f'<g fill="none" stroke="{COLOURS["attacker"]}" stroke-dasharray="2 2">{_shape(i)}</g>'


def _shape(i: int) -> str:
    x, y = 10 + (i % 20) * 20, 6 + (i // 20) * 26
    return (
        f'<circle cx="{x}" cy="{y + 4}" r="4.2"/><path d="M{x - 6} {y + 21}v-6a6 6 0 0 1 12 0v6z"/>'
    )


def beside(
    found: dict[str, list[float]], running: dict[str, float], colours: dict[str, str], title: str
) -> go.Figure:
    """Bars of final accuracy, with one dot per finished seed and a band for several.

    found: name → accuracies in [0, 1]; running: those still training, drawn pale.
    """
    chart = figure("", title, height=340)
    for name in [*dict.fromkeys([*found, *running])]:
        values = [100 * value for value in found.get(name, [])]
        shown = sum(values) / len(values) if values else 100 * running[name]
        _bar(chart, name, shown, COLOURS[colours[name]], opacity=1.0 if values else 0.35)
        _seeds(chart, name, values)
    chart.update_layout(barmode="overlay")
    chart.update_xaxes(type="category")
    chart.update_yaxes(range=[0, 108])
    return chart


def _bar(chart: go.Figure, name: str, shown: float, colour: str, opacity: float) -> None:
    """One bar with its value above it, in per cent."""
    chart.add_bar(
        x=[name],
        y=[shown],
        marker=dict(color=colour, opacity=opacity),
        showlegend=False,
        hovertemplate="%{y:.2f} %",
    )
    chart.add_annotation(x=name, y=shown, text=f"{shown:.1f}", showarrow=False, yshift=12)


def _seeds(chart: go.Figure, name: str, values: list[float]) -> None:
    """A dot for each seed, in per cent, and a band over the range of several."""
    if len(values) > 1:
        chart.add_bar(
            x=[name],
            y=[max(values) - min(values)],
            base=[min(values)],
            width=0.5,
            marker=dict(color="rgba(40,40,40,0.35)"),
            showlegend=False,
            hoverinfo="skip",
        )
    chart.add_scatter(
        x=[name] * len(values),
        y=values,
        mode="markers",
        showlegend=False,
        marker=dict(color="#333333", size=6, line=dict(color="#FFFFFF", width=1)),
        hoverinfo="skip",
    )
