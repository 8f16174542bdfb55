"""Curves and counts → plotly figures and small SVGs.

Pure: no Streamlit here, nothing is computed but what is drawn.

One colour means one thing on every page (Okabe and Ito's palette, which colour-blind readers can
tell apart).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas  # noqa: F401  plotly looks for it in sys.modules, where a second thread would find it half imported
import plotly.graph_objects as go

from engine.core import rounding
from pages.parts import words

COLOURS = {
    "private": "#0072B2",
    "not private": "#E69F00",
    "raw": "#009E73",
    "noised": "#CC79A7",
    "attacker": "#D55E00",
    "spent": "#56B4E9",
    "chance": "#7F7F7F",
}
# of trainings beside each other
WHO_COLOURS = {"private": "private", "not private": "not private", "no noise": "noised"}
# (hue, lightness in %) from pale to strong
BLUES, ORANGES = ((190, 72), (215, 42)), ((44, 60), (12, 40))
Curve = list[tuple[float, float]]


def shade(number: int, count: int, ends: tuple[tuple[int, int], tuple[int, int]] = BLUES) -> str:
    """The colour of one of `count` lines, from pale to strong; the palest stands out from a white
    page and the strongest from a dark one.
    """
    at = number / max(1, count - 1)
    hue, light = (round(first + at * (last - first)) for first, last in zip(*ends))
    return f"hsl({hue}, 70%, {light}%)"


def figure(x_title: str, y_title: str, height: int = 320) -> go.Figure:
    """An empty figure in the house style: axes in words, legend on top, exact values on hover."""
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
    told: Callable[[float], str] | None = None,
) -> None:
    """One curve with its points visible.

    SVG, because browsers allow only a few WebGL charts a page.

    told: makes the text on hover, for what plotly must not round by itself: bounds.
    """
    chart.add_scatter(
        x=[x for x, _ in points],
        y=[y for _, y in points],
        name=name,
        mode="lines+markers",
        line=dict(color=COLOURS[colour], width=3, dash=dash),
        marker=dict(size=6, color=COLOURS[colour]),
        text=[told(y) for _, y in points] if told else None,
        hovertemplate=f"%{{text}}{unit}" if told else f"%{{y:{digits}}}{unit}",
    )


def accuracy(curves: dict[str, dict[str, Curve]], epochs: int, chance: float) -> go.Figure:
    """Accuracy over epochs. curves: 'private' / 'not private' → the study's curves, accuracies in
    [0, 1].
    """
    chart = figure("Epochs (passes over the training pictures)", "Pictures named correctly, %")
    for who, found in curves.items():
        line(
            chart,
            f"new pictures, {who}",
            percent(found.get("test_accuracy", [])),
            WHO_COLOURS[who],
            unit=" %",
        )
        line(
            chart,
            f"training pictures, {who}",
            percent(found.get("train_accuracy", [])),
            WHO_COLOURS[who],
            dash="dot",
            unit=" %",
        )
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot"),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    worst = 100 * min(
        (
            y
            for found in curves.values()
            for name in ("test_accuracy", "train_accuracy")
            for _, y in found.get(name, [])
        ),
        default=0.0,
    )
    chart.update_xaxes(range=[0, epochs * 1.02])
    # where all do well, what lies between them
    chart.update_yaxes(range=[worst - 0.1 * (100 - worst) if worst > 60 else 0, 101])
    return chart


def loss(curves: dict[str, dict[str, Curve]], epochs: int) -> go.Figure:
    """Mean loss on the training pictures over epochs."""
    chart = figure(
        "Epochs (passes over the training pictures)", "Loss on training pictures (nats)", height=260
    )
    for who, found in curves.items():
        line(chart, who, found.get("train_loss", []), WHO_COLOURS[who], digits=".3f")
    chart.update_xaxes(range=[0, epochs * 1.02])
    return chart


def spent(points: Curve, epochs: int, limit: float | None, delta: float) -> go.Figure:
    """ε spent so far over epochs, with the budget as a dotted line where there is one."""
    chart = figure(
        "Epochs (passes over the training pictures)",
        f"ε spent so far (δ = {rounding.chosen(delta)})",
        height=260,
    )
    line(
        chart,
        "at most so much was spent (RDP, while it runs)",
        points,
        "spent",
        told=rounding.epsilon,
    )
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
    """Accuracy by class. accuracies: 'private' / 'not private' → class name → accuracy in [0, 1].

    With both, the class that loses most stands first.
    """
    both = len(accuracies) == 2 and "not private" in accuracies
    first = next(iter(accuracies))
    chart = figure(
        "Class, those that lose most to privacy first" if both else "Class",
        "Named correctly, %",
        height=300,
    )
    for who, by_class in accuracies.items():
        chart.add_bar(
            x=list(by_class),
            y=[100 * a for a in by_class.values()],
            name=who,
            marker=dict(color=COLOURS[WHO_COLOURS[who]]),
            hovertemplate="%{y:.1f} %",
        )
    order = (
        sorted(
            accuracies[first],
            key=lambda c: accuracies[first][c] - accuracies["not private"].get(c, 0.0),
        )
        if both
        else None
    )
    chart.update_xaxes(
        type="category", **({"categoryorder": "array", "categoryarray": order} if order else {})
    )
    chart.update_yaxes(range=[0, 102])
    return chart


def label_odds(classes: list[str], keep: float, truth: str) -> go.Figure:
    """How likely each answer of the randomised response is, for the true label."""
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

    Solid: pictures treated like those learned from; dotted: raw ones.
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


# of the walk's steps → their colours
KINDS = {"raw": "raw", "no labels": "not private", "privacy": "private", "error": "attacker"}


def walk(
    steps: dict[str, tuple[str, float | None]], published: tuple[float, float] | None, chance: float
) -> go.Figure:
    """From raw accuracy down, a bar a step: words → (kind, accuracy in [0, 1], or None while it is
    missing).

    A step whose predecessor is missing has no bar yet: it would carry two changes in one colour.
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
    """(ε, depth, width) → accuracy in [0, 1] or None while it is missing: one panel a depth, ε up,
    width to the right.
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
    """Class → budget in words → share of its pictures in [0, 1]: stacked bars, one a class, in the
    given order.
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


def heads(
    curves: dict[str, Curve], prefix: str, title: str, chosen: int | None, factor: float = 1.0
) -> go.Figure:
    """A line for each sub-head: curves whose names are prefix + number.

    The chosen one is dark, the others pale.
    """
    chart = figure("Epochs", title, height=240)
    for name, points in curves.items():
        if name.startswith(prefix):
            head = int(name.removeprefix(prefix))
            mine = head == chosen
            chart.add_scatter(
                x=[x for x, _ in points],
                y=[factor * y for _, y in points],
                name=f"sub-head {head + 1}",
                mode="lines",
                showlegend=False,
                line=dict(
                    color=COLOURS["private"] if mine else COLOURS["spent"], width=4 if mine else 1.5
                ),
                hovertemplate="%{y:.2f}",
            )
    chart.update_layout(hovermode="closest")
    return chart


def budgets(curves: dict[str, Curve], epochs: int) -> go.Figure:
    """Matched error over epochs, a line for each budget, from pale (much noise) to dark."""
    chart = figure("Epochs", "Matched error, %", height=320)
    for i, (name, points) in enumerate(curves.items()):
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            line=dict(color=shade(i, len(curves)), width=3),
            hovertemplate="%{y:.1f} %",
        )
    chart.update_xaxes(range=[0, 1.02 * epochs])
    chart.update_yaxes(range=[0, 102])
    return chart


def confusion(table, matching, classes: list[str], matched: bool) -> go.Figure:
    """(classes, clusters) counts as a heat map: clusters as they were numbered, or in the order of
    the classes that they stand for.
    """
    order = (
        sorted(range(len(matching)), key=lambda k: (matching[k] < 0, matching[k], k))
        if matched
        else list(range(len(matching)))
    )
    names = (
        [classes[matching[k]] if matching[k] >= 0 else f"none ({k})" for k in order]
        if matched
        else [str(k) for k in order]
    )
    chart = figure("Heap stands for" if matched else "Heap, as numbered", "Class", height=380)
    chart.add_heatmap(
        z=[[int(row[k]) for k in order] for row in table],
        x=names,
        y=classes,
        colorscale="Blues",
        showscale=False,
        texttemplate="%{z}" if len(classes) <= 12 else None,
        hovertemplate="class %{y}, heap %{x}: %{z} pictures<extra></extra>",
    )
    chart.update_xaxes(type="category")
    chart.update_yaxes(type="category", autorange="reversed")
    chart.update_layout(hovermode="closest")
    return chart


def percent(points: Curve) -> Curve:
    """Fractions → per cent."""
    return [(x, 100 * y) for x, y in points]


def crowd(right: int | None) -> str:
    """100 small figures as SVG, the first `right` of them in the attacker's colour and filled;
    None: outlines, as nobody knows.
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


# --- private trainings beside each other ----------------------------------------------------------

# Known results at δ = 1e-5: (ε, accuracy in %, who). Read from the papers, not run here.
KNOWN = {
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
    ends: dict[float, list[tuple[float, float]]],
    twins: list[float],
    known: tuple,
    chosen: float | None,
    chance: float,
) -> go.Figure:
    """Accuracy over ε. paths: words → (ε, accuracy in [0, 1]) over a training's epochs; ends: noise
    multiplier → (ε, accuracy) of its finished seeds; twins: accuracies without privacy; known:
    other people's results; chosen: the visitor's ε.
    """
    chart = figure(
        "ε spent (smaller is more private)", "New pictures named correctly, %", height=440
    )
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
    middle = sorted(
        (found[0][0], sum(y for _, y in found) / len(found), noise, len(found))
        for noise, found in ends.items()
    )
    if any(count > 1 for *_, count in middle):
        chart.add_scatter(
            x=[e for e, *_ in middle] * 2,
            y=[100 * min(y for _, y in ends[noise]) for *_, noise, _ in middle]
            + [100 * max(y for _, y in ends[noise]) for *_, noise, _ in middle],
            mode="markers",
            showlegend=False,
            hoverinfo="skip",
            marker=dict(size=5, color=COLOURS["private"], opacity=0.5),
        )
        low, high = (
            [100 * pick(y for _, y in ends[noise]) for *_, noise, _ in middle]
            for pick in (min, max)
        )
        chart.add_scatter(
            x=[e for e, *_ in middle] + [e for e, *_ in middle][::-1],
            y=low + high[::-1],
            fill="toself",
            mode="none",
            showlegend=False,
            hoverinfo="skip",
            fillcolor="rgba(0,114,178,0.18)",
        )
    chart.add_scatter(
        x=[e for e, *_ in middle],
        y=[100 * y for _, y, *_ in middle],
        name="private, mean of its seeds" if len(twins) > 1 else "private",
        mode="lines+markers",
        line=dict(color=COLOURS["private"], width=3),
        marker=dict(size=9),
        text=[
            f"ε = {rounding.epsilon(e)} (σ = {rounding.chosen(noise)}"
            + (f", {count} seeds)" if count > 1 else ")")
            for e, _, noise, count in middle
        ],
        hovertemplate="%{y:.2f} % at %{text}",
    )
    if known:
        chart.add_scatter(
            x=[e for e, *_ in known],
            y=[y for _, y, _ in known],
            name="published elsewhere",
            mode="markers",
            text=[f"ε = {rounding.chosen(e)}: {who}" for e, _, who in known],
            marker=dict(symbol="x", size=9, color=COLOURS["chance"]),
            hovertemplate="%{y:.1f} % at %{text}",
        )
    if twins:
        chart.add_hline(
            y=100 * sum(twins) / len(twins),
            line=dict(color=COLOURS["not private"], dash="dash"),
            annotation=dict(
                text=f"not private: {100 * sum(twins) / len(twins):.2f} %",
                font=dict(color=COLOURS["not private"]),
            ),
            annotation_position="bottom left",
        )
    best = max(
        [100 * y for found in ends.values() for _, y in found]
        + [100 * y for y in twins]
        + [y for _, y, _ in known]
        + [50.0]
    )
    worst = min(
        [100 * y for found in ends.values() for _, y in found]
        + [y for _, y, _ in known]
        + [best - 2]
    )
    low, high = (
        max(0, worst - 0.15 * (100 - worst) - 1),
        min(100.5, best + 0.2 * (best - worst) + 0.3),
    )
    # a trace: plotly puts the words of a vertical line elsewhere on a log axis
    if chosen is not None:
        chart.add_scatter(
            x=[chosen] * 2,
            y=[low, high],
            mode="lines",
            name="your ε",
            line=dict(color=COLOURS["chance"], dash="dot"),
            hoverinfo="skip",
        )
    chart.update_xaxes(type="log", tickvals=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000])
    chart.update_yaxes(range=[low, high])
    chart.update_layout(hovermode="closest")
    return chart


def beside(
    found: dict[str, list[float]], running: dict[str, float], colours: dict[str, str], title: str
) -> go.Figure:
    """Bars of final accuracy, each finished seed a dot, several a band. found: words → accuracies
    in [0, 1]; running: of what still learns, pale.
    """
    chart = figure("", title, height=340)
    for name in [*dict.fromkeys([*found, *running])]:
        values = found.get(name, [])
        shown = sum(values) / len(values) if values else running[name]
        chart.add_bar(
            x=[name],
            y=[100 * shown],
            marker=dict(color=COLOURS[colours[name]], opacity=1.0 if values else 0.35),
            showlegend=False,
            hovertemplate="%{y:.2f} %",
        )
        if len(values) > 1:  # the band of its seeds
            chart.add_bar(
                x=[name],
                y=[100 * (max(values) - min(values))],
                base=[100 * min(values)],
                width=0.5,
                marker=dict(color="rgba(40,40,40,0.35)"),
                showlegend=False,
                hoverinfo="skip",
            )
        chart.add_scatter(
            x=[name] * len(values),
            y=[100 * v for v in values],
            mode="markers",
            showlegend=False,
            marker=dict(color="#333333", size=6, line=dict(color="#FFFFFF", width=1)),
            hoverinfo="skip",
        )
        chart.add_annotation(
            x=name, y=100 * shown, text=f"{100 * shown:.1f}", showarrow=False, yshift=12
        )
    chart.update_layout(barmode="overlay")
    chart.update_xaxes(type="category")
    chart.update_yaxes(range=[0, 108])
    return chart


def learning(
    curves: dict[str, Curve], colours: dict[str, str], epochs: int, chance: float
) -> go.Figure:
    """Accuracy over epochs, a line for each training: words → (epoch, accuracy in [0, 1]).

    Those of one colour go from pale to dark; without privacy dashed.
    """
    chart = figure(
        "Epochs (passes over the training pictures)", "New pictures named correctly, %", height=340
    )
    private = [name for name in curves if colours[name] == "private"]
    for name, points in curves.items():
        colour = (
            shade(private.index(name), len(private)) if name in private else COLOURS[colours[name]]
        )
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name=name,
            mode="lines",
            hovertemplate="%{y:.2f} %",
            line=dict(color=colour, width=2.5, dash="solid" if name in private else "dash"),
        )
    chart.add_hline(
        y=100 * chance,
        line=dict(color=COLOURS["chance"], dash="dot"),
        annotation=dict(text="guessing", font=dict(color=COLOURS["chance"])),
    )
    worst = 100 * min((y for points in curves.values() for _, y in points), default=0.0)
    chart.update_xaxes(range=[0, 1.02 * epochs])
    # where all do well, what lies between them
    chart.update_yaxes(range=[worst - 0.1 * (100 - worst) if worst > 60 else 0, 101])
    chart.update_layout(hovermode="closest")
    return chart


def spending(curves: dict[float, Curve], chosen: float | None) -> go.Figure:
    """ε over epochs, a line for each noise multiplier, from little noise (dark) to much."""
    chart = figure(
        "Epochs (passes over the training pictures)", "ε spent by then, at most", height=400
    )
    for i, (noise, points) in enumerate(curves.items()):
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=f"σ = {rounding.chosen(noise)}",
            mode="lines+markers",
            line=dict(color=shade(i, len(curves)), width=3),
            text=[rounding.epsilon(y) for _, y in points],
            hovertemplate="%{text}",
        )
    # a trace: plotly puts the words of a line elsewhere on a log axis
    if chosen is not None and curves:
        last = max(x for points in curves.values() for x, _ in points)
        chart.add_scatter(
            x=[0, last],
            y=[chosen] * 2,
            mode="lines",
            name="your ε",
            line=dict(color=COLOURS["chance"], dash="dot"),
            hoverinfo="skip",
        )
    chart.update_yaxes(type="log", tickvals=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100])
    return chart


# --- attacks and audits ---------------------------------------------------------------------------


def between(floor: float, ceiling: float) -> go.Figure:
    """One axis of ε: shown to be spent, may be spent, promised not to be."""
    end = 1.25 * max(floor, ceiling, 0.1)
    chart = figure("", "", height=150)
    least, most = rounding.floor(floor), rounding.epsilon(ceiling)
    parts = (
        ("shown by right guesses", 0.0, floor, COLOURS["attacker"], f"at least {least}"),
        ("not settled", floor, max(floor, ceiling), "#D9D9D9", f"{least} to {most}"),
    )
    for name, start, stop, colour, told in parts:
        chart.add_bar(
            y=["ε"],
            x=[stop - start],
            base=[start],
            orientation="h",
            name=name,
            marker=dict(color=colour),
            hovertemplate=told,
        )
    chart.add_scatter(
        x=[ceiling] * 2,
        y=[-0.45, 0.45],
        mode="lines",
        name=f"promised: at most {most}",
        line=dict(color=COLOURS["private"], width=4),
        yaxis="y2",
        hoverinfo="skip",
    )
    chart.update_layout(
        barmode="overlay",
        hovermode="closest",
        yaxis2=dict(overlaying="y", range=[-0.5, 0.5], visible=False),
    )
    chart.update_xaxes(range=[0, end])
    chart.update_layout(legend=dict(orientation="h", y=-0.35, yanchor="top"))
    return chart


def floor_and_ceiling(curves: dict[str, Curve]) -> go.Figure:
    """How what was shown and what was charged grew over the epochs."""
    chart = figure("Epochs (passes over the training pictures)", "ε", height=260)
    line(
        chart,
        "charged by the accountant",
        curves.get("ceiling", []),
        "private",
        told=rounding.epsilon,
    )
    line(chart, "shown by the auditor", curves.get("floor", []), "attacker", told=rounding.floor)
    chart.update_yaxes(rangemode="tozero")
    return chart


def floors_and_ceilings(found: dict[str, tuple[float, float, bool]], names: list[str]) -> go.Figure:
    """words → (floor, ceiling, violated): an upright bar for each training, from what was shown up
    to what was promised. names: all that there will be.
    """
    chart = figure("", "ε", height=380)
    chart.add_bar(
        x=list(found),
        y=[floor for floor, *_ in found.values()],
        name="shown by the auditor, at least",
        marker=dict(color=COLOURS["attacker"]),
        customdata=[rounding.floor(floor) for floor, *_ in found.values()],
        hovertemplate="at least %{customdata}",
    )
    chart.add_scatter(
        x=list(found),
        y=[ceiling for _, ceiling, _ in found.values()],
        mode="markers+text",
        name="promised, at most",
        hovertemplate="at most %{customdata}",
        customdata=[rounding.epsilon(ceiling) for _, ceiling, _ in found.values()],
        marker=dict(symbol="line-ew-open", size=34, line=dict(width=4), color=COLOURS["private"]),
        textposition="top center",
        text=["broken" if violated else "" for *_, violated in found.values()],
    )
    top = max(max(floor, ceiling) for floor, ceiling, _ in found.values())
    chart.update_xaxes(
        type="category", categoryorder="array", categoryarray=names, range=[-0.5, len(names) - 0.5]
    )
    chart.update_yaxes(range=[0, 1.15 * top])
    return chart


BOUND = "#444444"
FEWEST = 10  # false alarms below which the curve of a single network is luck


def roc(found: dict[str, dict]) -> go.Figure:
    """Members found over false alarms, log axes. found: 'private' / 'not private' / 'no noise' →
    arrays of a Membership result.
    """
    chart = figure("False alarms, % of others taken for members", "Members found, %", height=420)
    first = next(iter(found.values()))
    alarms, others = first["false_alarms"][1:], len(first["score"]) / 2
    for arrays in found.values():
        for name, words_, dash in (
            ("bound_any", "at most, by ε and δ", "dash"),
            ("bound_mechanism", "at most, by this noise", "solid"),
        ):
            if name in arrays:
                chart.add_scatter(
                    x=100 * alarms,
                    y=100 * arrays[name][1:],
                    name=words_,
                    mode="lines",
                    line=dict(color=BOUND, dash=dash, width=1.5),
                    text=[rounding.at_most(y, leading=True, times=100) for y in arrays[name][1:]],
                    hovertemplate="%{text} %",
                )
    for who, arrays in found.items():
        for name, words_, width, least in (
            ("roc_like_it", f"{who}: networks like this", 3, 0.0),
            ("roc", f"{who}: this very one", 1, FEWEST / others),
        ):
            shown = (arrays[name][1:] > 0) & (alarms >= least)
            chart.add_scatter(
                x=100 * alarms[shown],
                y=100 * arrays[name][1:][shown],
                name=words_,
                mode="lines",
                line=dict(color=COLOURS[WHO_COLOURS[who]], width=width),
                hovertemplate="%{y:.3g} %",
            )
    chart.add_scatter(
        x=100 * alarms,
        y=100 * alarms,
        name="guessing",
        mode="lines",
        line=dict(color=COLOURS["chance"], dash="dot"),
        hoverinfo="skip",
    )
    ticks = dict(type="log", tickvals=[0.01, 0.1, 1, 10, 100], range=[-2, 2])
    chart.update_xaxes(**ticks)
    chart.update_yaxes(**ticks)
    chart.update_layout(legend=dict(orientation="h", y=-0.22, yanchor="top", traceorder="normal"))
    return chart


# --- pictures from statistics ---------------------------------------------------------------------

# how the student was told what the pictures are
LABELS = {"hard": ("not private", "solid"), "soft": ("private", "solid")}


def students(
    found: dict[str, Curve],
    learning: dict[str, Curve],
    levels: dict[str, float],
    chance: float,
    steps: int,
) -> go.Figure:
    """Student accuracy over steps. found, and learning for those not done yet: 'hard' / 'soft' →
    (steps, accuracy in [0, 1]); levels: words → accuracy, drawn as lines.
    """
    chart = figure("Steps of making the pictures", "Real pictures named correctly, %", height=360)
    for kind, points in found.items():
        line(
            chart,
            f"learned from made-up pictures, {kind} labels",
            percent(points),
            LABELS[kind][0],
            unit=" %",
        )
    for kind, points in learning.items():
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[100 * y for _, y in points],
            name="still learning",
            mode="markers",
            showlegend=False,
            marker=dict(size=9, symbol="circle-open", color=COLOURS[LABELS[kind][0]]),
            hovertemplate="%{y:.1f} %, still learning",
        )
    highest = max(levels.values(), default=1.0)
    for name, value in (levels | {"guessing": chance}).items():
        colour, place = (
            COLOURS["chance" if name == "guessing" else "raw"],
            ("top" if value == highest or name == "guessing" else "bottom"),
        )
        chart.add_hline(
            y=100 * value,
            line=dict(color=colour, dash="dot"),
            annotation=dict(text=name, font=dict(color=colour)),
            annotation_position=f"{place} left",
        )
    chart.update_xaxes(range=[0, 1.05 * steps])
    chart.update_yaxes(range=[0, 112])
    return chart


def layers(curves: dict[str, Curve]) -> go.Figure:
    """How far each layer's statistics are from those wanted, over steps; first layers light, last
    ones dark.
    """
    chart = figure("Steps", "Distance of the statistics", height=320)
    for i, (name, points) in enumerate(curves.items()):
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
    """Leakage over accuracy: (steps, accuracy or NaN, odds) for each snapshot; controls: words →
    odds, drawn as lines.
    """
    chart = figure(
        "Accuracy of the student with hard labels, %",
        "Attacker tells members from others,<br>times in 100",
        height=330,
    )
    for (name, odds), (colour, dash) in zip(
        controls.items(), (("chance", "dot"), ("raw", "dash"), ("spent", "dashdot"))
    ):
        chart.add_scatter(
            x=[0, 103],
            y=[100 * odds] * 2,
            mode="lines",
            name=f"{name}: {100 * odds:.1f}",
            line=dict(color=COLOURS[colour], dash=dash),
            hoverinfo="skip",
        )
    chart.add_scatter(
        x=[100 * accuracy for _, accuracy, _ in points],
        y=[100 * odds for *_, odds in points],
        text=[f"{step} steps" for step, *_ in points],
        mode="lines+markers",
        name="made-up pictures, a point a snapshot",
        marker=dict(size=9, color=COLOURS["attacker"]),
        line=dict(color=COLOURS["attacker"], width=2),
        hovertemplate="%{text}: %{x:.1f} % accuracy, %{y:.1f} in 100<extra></extra>",
    )
    chart.update_xaxes(range=[0, 103])
    chart.update_yaxes(range=[40, 104])
    chart.update_layout(hovermode="closest")
    return chart


# --- generated pictures ---------------------------------------------------------------------------

# the others are controls, grey
SET_COLOURS = {
    "GAN without privacy": "not private",
    "private GAN": "private",
    "private DP-MERF": "spent",
}


def growth(lines: dict[str, Curve], real: float | None) -> go.Figure:
    """Fréchet distance over the share of the training that is done, in %, on a log axis. real: that
    of real pictures.
    """
    chart = figure("Share of its training, %", "Fréchet distance from real pictures", height=320)
    for name, points in lines.items():
        line(chart, name, points, SET_COLOURS[name], digits=".3g")
    # a trace: plotly puts the words of a line elsewhere on a log axis
    if real is not None and real > 0:
        chart.add_scatter(
            x=[0, 100],
            y=[real] * 2,
            mode="lines",
            name="real pictures",
            line=dict(color=COLOURS["chance"], dash="dot"),
            hovertemplate="%{y:.3g}",
        )
    chart.update_xaxes(range=[-1, 102])
    chart.update_yaxes(type="log", dtick=1)
    return chart


PANELS = {
    "frechet_distance": "Fréchet distance",
    "copies_pixels": "look like copies,<br>of 100",
    "mifid_torchmetrics": "MiFID,<br>torchmetrics",
    "mifid_bai": "MiFID,<br>Bai et al.",
}


def sets(
    metrics: dict[str, dict[str, float]], panels: tuple[str, ...], extractor: str
) -> go.Figure:
    """A row for each set of pictures, a panel for each metric of PANELS. Log axes but for copies,
    whose chance level is dotted.
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
        share = name.startswith("copies")
        values = [metrics[each].get(name, math.nan) * (100 if share else 1) for each in names]
        drawn = values if share else [min(max(v, 1e-3), words.BEYOND) for v in values]
        chart.add_scatter(
            x=drawn,
            y=[each.replace(" ", "<br>", 1) for each in names],
            mode="markers+text",
            marker=dict(
                size=13, color=[COLOURS[SET_COLOURS.get(each, "chance")] for each in names]
            ),
            text=[f" {words.short(v)}" for v in values],
            textposition="middle right",
            row=1,
            col=column,
            customdata=[f"{each}: {words.large(v)}" for each, v in zip(names, values)],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            cliponaxis=False,
        )
        if share:
            chart.update_xaxes(range=[-6, 145], tickvals=[0, 50, 100], row=1, col=column)
            chart.add_vline(x=5, line=dict(color=COLOURS["chance"], dash="dot"), row=1, col=column)
        else:
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


def ratios(found, yardstick, threshold: float, name: str) -> go.Figure:
    """How often ratios of nearest distances occur: in a set of pictures, and among held-out ones."""
    chart = figure("Distance ratio", "Of 100 pictures", height=320)
    top = max(1.5, min(3.0, float(max(found.max(), yardstick.max()))))
    bins = dict(start=0.0, end=top, size=top / 40)
    for values, whose, colour in (
        (yardstick, "real pictures that nobody learned from", COLOURS["chance"]),
        (found, name, COLOURS[SET_COLOURS.get(name, "attacker")]),
    ):
        chart.add_histogram(
            x=values,
            xbins=bins,
            histnorm="percent",
            name=whose,
            marker=dict(color=colour),
            opacity=0.6,
            hovertemplate="%{y:.1f} of 100",
        )
    chart.add_vline(x=threshold, line=dict(color=COLOURS["attacker"], dash="dot"))
    chart.update_layout(barmode="overlay")
    chart.update_xaxes(range=[-0.02, top])
    return chart


# --- phones that share gradients ------------------------------------------------------------------

# arms without a shade: colour and dash
COMPARED = {
    "no update": ("chance", "dot"),
    "each phone alone": ("noised", "dash"),
    "all pictures in one place": ("raw", "solid"),
    "clipped, no noise": ("not private", "dash"),
}
WAYS = {
    "the largest": ("#E69F00", "solid"),
    "the largest, the rest kept": ("#E69F00", "dash"),
    "random ones": ("#8856A7", "solid"),
    "random ones, the rest kept": ("#8856A7", "dash"),
    # which gradients: other hues, as shades could not be told apart
    "above a threshold": ("#9A5B00", "solid"),
    "above a threshold, the rest kept": ("#9A5B00", "dash"),
}


def _arm(name: str, names: list[str], private: bool) -> dict:
    """A line's look, the same while others are still to come: those that share go from pale to
    dark, orange without a promise, blue with one. names: of all arms.
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
    """Accuracy day by day, a line for each arm. curves: words → (day, accuracy in [0, 1]); names:
    of all arms, those too that have not begun; chosen: the thick one.
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
    """Accuracy over bytes uploaded a phone. curves: words → (bytes, accuracy); levels: of arms that
    send nothing; centralised: bytes of a phone's pictures, and the accuracy with all of them.
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
            text=[words.size(x) for x, _ in sent],
            hovertemplate="%{y:.1f} % after %{text}",
        )
    if centralised is not None:
        chart.add_scatter(
            x=[centralised[0]],
            y=[100 * centralised[1]],
            name="the pictures themselves",
            mode="markers",
            marker=dict(symbol="star", size=15, color=COLOURS["raw"]),
            text=[words.size(centralised[0])],
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
            tickvals=marks, ticktext=[words.size(mark).replace(".0", "") for mark in marks]
        )
    chart.update_xaxes(type="log")
    chart.update_layout(hovermode="closest")
    return chart


def by_epsilon(
    paths: dict[str, Curve], ends: dict[str, tuple[float, float]], levels: dict[str, float]
) -> go.Figure:
    """Accuracy over the ε that a participant has spent. paths: words → (ε, accuracy) day by day;
    ends: (exact ε, accuracy) of finished ones; levels: without a promise.
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
    """How like the true picture the rebuilt one is, over the attacker's steps. curves: psnr_db over
    steps, all attempts one after the other, each of `steps`.
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
