"""The synthetic images on page Synthesis: the gallery while it grows, the film, the layers."""

from __future__ import annotations

import streamlit as st

from engine.core.study import Result
from engine.studies.synthesis import Student
from pages.common import live, panels, sentences
from pages.common.scrubber import film, scrubber
from pages.synthesis import charts


def draw_gallery(student: Student, view: live.View) -> None:
    """Draw the current images, or the teacher's training data before there are any."""
    if "gallery" in view.images:
        st.image(
            view.images["gallery"],
            width="stretch",
            alt="A row of images for each class, as they are now",
        )
        step = view.curves["label_loss"][-1][0] if view.curves.get("label_loss") else 0
        st.caption(f"{sentences.after(round(step)).capitalize()}.")
        return
    alt = f"Some training images of {student.dataset}"
    st.image(student.synthesis.teacher.sample(), width="stretch", alt=alt)
    st.caption(
        "Real images, from which the teacher learns. Synthetic images will appear here, starting"
        " from noise."
    )


def draw_film(student: Student, result: Result) -> None:
    """Draw the gallery as a film from noise to the last step."""
    scrubber(
        film(result.images),
        "Steps of the synthesis",
        "A row of images for each class, from noise to the last step",
        "film",
    )
    st.caption(
        "Synthetic images, one row for each class:"
        f" {sentences.plain(', '.join(result.facts['classes'][:10]))}. Drag to go from noise to"
        f" step {student.synthesis.steps}."
    )


def draw_layers(curves: dict) -> None:
    """Draw the distance of each layer's statistics over the steps."""
    layers = {
        name.removeprefix("distance:"): points
        for name, points in curves.items()
        if name.startswith("distance:")
    }
    if not layers:
        return
    st.markdown(
        "**Distance between each layer's statistics and the teacher's**",
        help=(
            "Squared differences of means and variances, for the first batch of images (those in"
            " the gallery). Light: the first layers, which respond to edges. Dark: the last ones,"
            " which respond to whole shapes."
        ),
    )
    panels.chart(
        charts.layers(layers),
        key="layers",
        alt="Distance of each layer's statistics over the steps",
    )
