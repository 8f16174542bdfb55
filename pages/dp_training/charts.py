"""Figures of page DP training, drawn from the curves of results; pure functions."""

from __future__ import annotations

import plotly.graph_objects as go

from engine.core import rounding
from pages.common.figures import COLOURS, Curve, figure, line, percent, shade

# colours of trainings in one figure
WHO_COLOURS = {"private": "private", "not private": "not private", "no noise": "noised"}


def accuracy(curves: dict[str, dict[str, Curve]], epochs: int, chance: float) -> go.Figure:
    """Accuracy over epochs.

    curves: 'private' / 'not private' → the study's curves, accuracies in [0, 1].
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
    # zoom in if all accuracies are high
    chart.update_yaxes(range=[worst - 0.1 * (100 - worst) if worst > 60 else 0, 101])
    return chart


def loss(curves: dict[str, dict[str, Curve]], epochs: int) -> go.Figure:
    """Mean loss on the training images over epochs."""
    chart = figure(
        "Epochs (passes over the training pictures)", "Loss on training pictures (nats)", height=260
    )
    for who, found in curves.items():
        line(chart, who, found.get("train_loss", []), WHO_COLOURS[who], digits=".3f")
    chart.update_xaxes(range=[0, epochs * 1.02])
    return chart


def spent(points: Curve, epochs: int, limit: float | None, delta: float) -> go.Figure:
    """ε spent so far over epochs, with the budget, if there is one, as a dotted line."""
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
    """Accuracy per class. accuracies: 'private' / 'not private' → class name → accuracy in [0, 1].

    With both, classes are sorted by loss of accuracy, the largest first.
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


# --- several trainings in one figure --------------------------------------------------------------

# Published results at δ = 1e-5: (ε, accuracy in %, source), read from the papers, not reproduced
# here.
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
) -> go.Figure:
    """Accuracy over ε.

    paths: name → (ε, accuracy in [0, 1]) over a training's epochs; ends: noise multiplier → (ε,
    accuracy) of its finished seeds; twins: accuracies of the non-private baseline; known: published
    results; chosen: the visitor's ε.
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
    # drawn as a trace, because plotly misplaces the label of a vertical line on a log axis
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


def learning(
    curves: dict[str, Curve], colours: dict[str, str], epochs: int, chance: float
) -> go.Figure:
    """Accuracy over epochs, one line per training: name → (epoch, accuracy in [0, 1]).

    Lines of the same colour go from pale to dark; non-private ones are dashed.
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
    # zoom in if all accuracies are high
    chart.update_yaxes(range=[worst - 0.1 * (100 - worst) if worst > 60 else 0, 101])
    chart.update_layout(hovermode="closest")
    return chart


def spending(curves: dict[float, Curve], chosen: float | None) -> go.Figure:
    """ε over epochs, one line per noise multiplier, from little noise (dark) to much."""
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
    # drawn as a trace, because plotly misplaces the label of a line on a log axis
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
    """One axis of ε with the lower bound shown by the audit and the upper bound guaranteed."""
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
    """The lower bound from the audit and the accountant's ε over the epochs."""
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
    """A vertical bar per training, from the lower to the upper bound of ε.

    found: name → (lower bound, upper bound, violated); names: all trainings to come.
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


FEWEST = 10  # false positives below which the curve of a single network is mostly noise


def roc(found: dict[str, dict]) -> go.Figure:
    """ROC curves on log axes: members found over false positives.

    found: 'private' / 'not private' / 'no noise' → arrays of a Membership result.
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
