"""Clients share gradients: a series of arms, drawn as the rounds go by."""

from __future__ import annotations

import streamlit as st

from engine.datasets import registry
from engine.studies.ensemble import Ensemble
from engine.studies.gradient_sharing import SHOWN_CLIENTS, GradientSharing
from pages.common import live, panels, sentences
from pages.common.controls import Controls
from pages.gradient_sharing import charts, results, text
from pages.gradient_sharing.diagram import Drawing, diagram

ALL = "all arms"
Sharing = live.Series[GradientSharing]


def show(controls: Controls, study: GradientSharing, shown: str, private: bool) -> None:
    """Run a series of arms; chart and diagram fill while they run.

    shown: 'arms', 'noises' or 'policies'; private: whether there is a guarantee.
    """
    members = controls.checked(getattr(study, shown), "series")
    together = {ALL: Ensemble(members=tuple(members.values()))}
    live.run_button(together, unknown="")
    live.follow(together, lambda views: draw(study, shown, private, members, views[ALL]))
    series = Sharing.of(members, live.look(together[ALL]))
    if series.complete:
        results.draw(study, shown, private, series, chosen(study, members))


def chosen(study: GradientSharing, members: dict[str, GradientSharing]) -> str:
    """The arm with the page's settings, or the nearest to them."""
    same = [name for name, member in members.items() if member == study]
    shared = [name for name, member in members.items() if member.arm == "shared"]
    noised = [name for name in shared if members[name].noise_multiplier]
    return [*same, *noised, *shared][0]


def draw(
    study: GradientSharing,
    shown: str,
    private: bool,
    members: dict[str, GradientSharing],
    view: live.View,
) -> None:
    """Draw the current state of the series: the clients, and accuracy over rounds."""
    live.progress({f"{len(members)} arms": view})
    series, name = Sharing.of(members, view), chosen(study, members)
    left, right = st.columns([1, 1.25])
    with left:
        st.markdown(
            f"**Sharing {'with ' if shown == 'noises' else ''}{name}**",
            help=(
                "A larger dot is a larger upload. Dashed: a phone without images. Dash: it dropped"
                " out. Cross: the server refused its upload. The filling shows how many images a"
                " phone has."
            ),
        )
        draw_clients(study, shown, name, series)
    with right:
        draw_accuracy(study, shown, private, name, series)


def draw_accuracy(
    study: GradientSharing, shown: str, private: bool, name: str, series: Sharing
) -> None:
    """Draw accuracy over rounds. name: the arm drawn thick."""
    accuracy = {
        arm: each["test_accuracy"] for arm, each in series.curves.items() if "test_accuracy" in each
    }
    if not accuracy:
        st.image(study.sample(), width="stretch", alt="Some of the images on the phones")
        st.caption(
            "Some of the images on the phones. Results appear here: accuracy on test images, round"
            " by round."
        )
        return
    panels.chart(
        charts.by_round(
            accuracy, list(series.members), name, study.rounds, study.chance(), private
        ),
        key=f"rounds-{shown}",
        alt="Accuracy round by round, a line for each arm",
    )
    if why := text.dip(accuracy.get(name, []), study.optimizer, private):
        st.caption(why)


def draw_clients(study: GradientSharing, shown: str, name: str, series: Sharing) -> None:
    """Draw clients and server of one arm."""
    curve, found = series.curves[name], series.finished.get(name)
    count = min(study.clients, SHOWN_CLIENTS)
    codes = [dict(curve.get(f"client {i}", [])) for i in range(count)]
    rounds = sorted(codes[-1])  # with many rounds, only some are reported
    sent = [[int(each[number]) for each in codes] for number in rounds]
    accuracy = dict(curve.get("test_accuracy", []))
    diagram(
        Drawing(
            rounds=sent,
            clients=count,
            full=4 * study.gradients(registry.preview(study.dataset)),
            named=[_accuracy(accuracy.get(number)) for number in (0, *rounds)],
            words=[
                text.round_text(
                    int(number), study.rounds, each, accuracy.get(number), study.clients
                )
                for number, each in zip((0, *rounds), ([0] * count, *sent))
            ],
            sizes={str(code): sentences.size(code) for each in sent for code in each if code > 0},
            had=[] if found is None else images_on(found),
            live=not series.complete and len(rounds) > 0,
            alt=f"{study.clients} phones around a server",
        ),
        key=f"clients {shown}",
    )


def _accuracy(share: float | None) -> str:
    """The text on the server."""
    return "" if share is None else f"{text.per_cent(share)} %"


def images_on(result) -> list[float]:
    """How full each drawn client is, relative to the fullest."""
    counts = result.arrays["images"].sum(1)[:SHOWN_CLIENTS]
    return [float(count) for count in counts / max(1, counts.max())]
