"""What a finished series of arms shows: accuracy over bytes or ε, and all numbers."""

from __future__ import annotations

import streamlit as st

from engine.core.study import Result
from engine.datasets import registry
from engine.studies.gradient_sharing import ARMS, GradientSharing
from pages.common import live, panels, sentences
from pages.gradient_sharing import charts, guarantee, text

Sharing = live.Series[GradientSharing]


def draw(study: GradientSharing, shown: str, private: bool, series: Sharing, name: str) -> None:
    """Draw the results when all arms are done. name: the arm with the page's settings."""
    panels.warnings(series.finished)
    if shown == "arms":
        draw_arms(study, private, series, name)
    elif shown == "noises":
        draw_noises(study, series)
    else:
        draw_policies(study, private, series)
    draw_numbers(study, series, name)
    guarantee.draw(study, shown, series, name)


def draw_arms(study: GradientSharing, private: bool, series: Sharing, name: str) -> None:
    """Draw accuracy against bytes, the question of report 5."""
    metrics = {arm: result.metrics for arm, result in series.finished.items()}
    tested = len(registry.preview(study.dataset).test_labels)
    st.markdown(text.shared(metrics, name, study.clients, study.rounds, tested))
    curves = {
        arm: sent(study, result)
        for arm, result in series.finished.items()
        if series.members[arm].arm == "shared"
    }
    levels = {arm: metrics[arm]["test_accuracy"] for arm in (ARMS["none"], ARMS["alone"])}
    central = metrics[ARMS["centralised"]]
    images = (central["bytes"] / study.clients, central["test_accuracy"])
    panels.chart(
        charts.by_bytes(curves, levels, images, private),
        key="bytes",
        alt="Accuracy over the bytes that a phone has uploaded, a line for each share",
    )
    st.caption(
        "Up and to the left is better: more accuracy from fewer bytes. The star: training on all"
        " images in one place, at the size of one phone's images."
    )
    if why := text.cheap({arm: metrics[arm]["bytes"] for arm in curves}, central["bytes"]):
        st.caption(why)
    if private and study.noised_by == "client" and study.policy != "random":
        st.caption(
            "With noise on every phone, all gradients are uploaded whatever the share: which ones"
            " are the largest would reveal something."
        )


def sent(study: GradientSharing, result: Result) -> list[tuple[float, float]]:
    """(bytes per client so far, accuracy) for each round."""
    accuracy = dict(result.curves["test_accuracy"])
    return [
        (total / study.clients, accuracy[number])
        for number, total in result.curves["bytes"]
        if number in accuracy
    ]


def draw_noises(study: GradientSharing, series: Sharing) -> None:
    """Draw accuracy against ε."""
    accuracy = series.metric("test_accuracy")
    paths, ends = {}, {}
    for name, result in series.finished.items():
        if "epsilon" in result.curves:
            by_round = dict(result.curves["test_accuracy"])
            paths[name] = [(e, by_round[number]) for number, e in result.curves["epsilon"]]
        if result.guarantee.epsilon is not None:
            ends[name] = (result.guarantee.epsilon, accuracy[name])
    levels = {name: accuracy[name] for name in (ARMS["none"], "clipped, no noise")}
    panels.chart(
        charts.by_epsilon(paths, ends, levels),
        key="epsilon",
        alt="Accuracy over the ε of a client, a line for each noise level",
    )
    st.caption(
        "A thin line is an arm, round by round; its thick point is the end, with its exact ε. What"
        f" is hidden is a whole client, one of {study.clients:,}: with more of them, the"
        " same noise costs less accuracy."
    )


def draw_policies(study: GradientSharing, private: bool, series: Sharing) -> None:
    """Compare the policies of choosing gradients."""
    curves = {name: sent(study, result) for name, result in series.finished.items()}
    panels.chart(
        charts.by_bytes(curves, {}, None, private),
        key="policies",
        alt="Accuracy over bytes, a line for each way to choose",
    )
    st.caption(
        "Compare at the same bytes. *The rest kept*: what is not sent is added to the gradients of"
        " the next round (Lin et al. 2018)."
    )
    with st.expander("Details"):
        st.markdown(
            "Random ones need no positions, so the same share takes fewer bytes. How many lie above"
            f" a threshold (here {study.threshold:g}, of the sum over a round) changes from round"
            " to round."
        )


def draw_numbers(study: GradientSharing, series: Sharing, name: str) -> None:
    """Draw the table of all arms."""
    metrics = {arm: result.metrics for arm, result in series.finished.items()}
    mine, tested = metrics[name], len(registry.preview(study.dataset).test_labels)
    margin = sentences.give_or_take(sentences.margin(mine["test_accuracy"], tested))
    alone = metrics.get(ARMS["alone"])
    mean = (
        f" *{ARMS['alone']}*: the mean of {alone['clients_trained']:.0f} clients." if alone else ""
    )
    with st.expander("All numbers", icon=":material/table_chart:"):
        st.dataframe(
            [{"": arm, **text.row(m, study.clients)} for arm, m in metrics.items()],
            hide_index=True,
        )
        st.caption(
            f"{mine['gradients']:,} gradients; {mine['images_on_clients']:,} images on"
            f" {study.clients:,} phones. Bytes are those of accepted messages, with"
            f" positions.{mean} Accuracy on {tested:,} test images: ± {margin} points; another seed"
            " changes it as well."
        )
