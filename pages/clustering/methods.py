"""K-means and IIC on page Clustering: their clusters, curves and accuracies, side by side."""

from __future__ import annotations

import streamlit as st

from engine.core.study import Result
from engine.studies.clustering import IIC
from pages.clustering import charts, text
from pages.common import live, panels


def draw(iic: IIC, views: dict[str, live.View]) -> None:
    """Draw both methods as far as they have come. iic: the settings that both share."""
    left, right = st.columns(2)
    with left:
        st.subheader("K-means", anchor=False)
        st.markdown(text.KMEANS)
        draw_kmeans(views["K-means"], iic)
        draw_numbers(views["K-means"].result)
    with right:
        st.subheader("IIC (invariant information clustering)", anchor=False)
        st.markdown(text.IIC_IN_WORDS)
        draw_iic(views["IIC"], iic)
        draw_numbers(views["IIC"].result)
        draw_sub_heads(views["IIC"])


def draw_kmeans(view: live.View, iic: IIC) -> None:
    """Draw the K-means clusters with their centres, or the images as they are released."""
    noised = iic.images == "noised"
    if "clusters" not in view.images:
        st.image(iic.sample(), width="stretch", alt="Some of the images as they leave the phones")
        st.caption("Images as they leave the phones." if noised else "Some images, not noised.")
        return
    st.image(
        view.images["clusters"],
        width="stretch",
        alt="A row for each cluster: its centre, then some of its images; wrong ones framed",
    )
    said = ["One row for each cluster, its centre first."]
    if view.result:
        said += [text.stands_for(view.result), "Framed: other classes."]
    if noised:
        said.append("K-means saw these images noised.")
    st.caption(" ".join(said))


def draw_iic(view: live.View, iic: IIC) -> None:
    """Draw images moving between clusters, or the images before the noise."""
    if "moving" in view.images:
        st.image(
            view.images["moving"],
            width="stretch",
            alt="A row for each cluster with some noised images that are in it now",
        )
        matched = f" {text.stands_for(view.result)}" if view.result else ""
        st.caption(
            "One row for each cluster: 150 images, as the network gets them, in their current"
            f" cluster.{matched}"
        )
    elif iic.images == "noised":
        st.image(iic.sample(noised=False), width="stretch", alt="The same images before the noise")
        st.caption("For comparison: the same images before the noise.")


def draw_sub_heads(view: live.View) -> None:
    """Draw the losses and matched errors of all sub-heads over the epochs."""
    if not any(name.startswith("loss_head") for name in view.curves):
        return
    chosen = view.result.facts["chosen_head"] if view.result else None
    panels.chart(
        charts.heads(view.curves, "error_head_", "Matched error, %", chosen, 100.0),
        key="errors",
        alt="Matched error of each sub-head over epochs",
    )
    panels.chart(
        charts.heads(view.curves, "loss_head_", "Loss (nats)", chosen),
        key="losses",
        alt="Loss of each sub-head over epochs",
    )
    st.caption(text.SUB_HEADS)


def draw_numbers(result: Result | None) -> None:
    """Draw how well the clusters match the classes, with and without matching."""
    if result is None:
        return
    one, two, three = st.columns(3)
    one.metric(
        "Accuracy (matched)",
        f"{100 * result.metrics['matched_accuracy']:.1f} %",
        help=(
            "Clustering accuracy: the share of training images whose cluster stands for their"
            " class, after the best one-to-one matching of clusters and classes (Hungarian"
            " method)."
        ),
    )
    two.metric(
        "Without matching",
        f"{100 * result.metrics['unmatched_accuracy']:.1f} %",
        help=(
            "Accuracy without matching: cluster number 3 is taken for class number 3, and so on, as"
            " in report 1. Cluster numbers have no meaning."
        ),
    )
    three.metric(
        "On test images",
        f"{100 * result.metrics['test_accuracy']:.1f} %",
        help="Accuracy on test images, by the matching found on the training images.",
    )
    st.caption(text.agreement(result.metrics))
