"""The answers to a practitioner's two questions, from the trainings that have run.

The questions are the least ε for an accuracy, and the best accuracy within a budget.
"""

from __future__ import annotations

from statistics import mean

import streamlit as st

from engine.core import rounding
from engine.core.study import Refused
from engine.datasets import registry
from engine.studies.dp_training import DPTraining
from pages.common import sentences
from pages.common.controls import Controls
from pages.common.controls.dial import span
from pages.dp_training import text
from pages.dp_training.text.choosing import Ends


def draw(controls: Controls, study: DPTraining, ends: Ends, baselines: list[float]) -> None:
    """Draw both questions. baselines: accuracies without privacy."""
    st.markdown("**Choose by accuracy or by ε**")
    left, right = st.columns(2)
    means = text.means_of(ends)
    with left:
        suggested = round(100 * means[len(means) // 2][1] - 0.5, 1)
        wanted = controls.asked("need", "Required accuracy, %", suggested) / 100
        baseline = mean(baselines) if baselines else None
        st.markdown(text.least_epsilon(means, ends, wanted, baseline))
    with right:
        budget = controls.asked("have", "Available ε", float(study.target_epsilon or 1.0))
        st.markdown(text.most_accuracy(means, ends, budget))
        draw_buttons(controls, study, budget)
    tested = len(registry.preview(study.dataset).test_labels)
    margin = sentences.give_or_take(sentences.margin(means[-1][1], tested))
    st.caption(
        f"Measured on {tested:,} test images: ± {margin} points; another seed changes it by about"
        " as much. Choosing the best of several networks spends the ε of all of them, see *What is"
        " guaranteed*."
    )


def draw_buttons(controls: Controls, study: DPTraining, budget: float) -> None:
    """Train at this ε, or calculate the noise that it takes."""
    low, high = span(controls.specs["target_epsilon"])
    if low <= budget <= high:
        st.button(
            "Train at this ε",
            key="dp_training.train",
            icon=":material/play_arrow:",
            on_click=lambda: controls.change(
                shown=("one",), target_epsilon=budget, noise_multiplier=None
            ),
        )
    if st.button(
        "Calculate σ for this ε",
        key="dp_training.solve",
        help="σ is rounded up, so that the training stays within this ε.",
    ):
        try:
            st.markdown(noise_for(study.exactly(budget)))
        except Refused as refused:
            st.warning(
                sentences.plain(sentences.named(str(refused), controls.specs)),
                icon=":material/edit:",
            )


def noise_for(exact: dict) -> str:
    """The noise that spends a budget. exact: of DPTraining.exactly."""
    on_mean = (
        f", and {rounding.sufficient(exact['mean_noise'])} for the mean,"
        if exact["mean_noise"]
        else ""
    )
    return (
        f"σ = **{rounding.sufficient(exact['noise_multiplier'])}**{on_mean} spends ε ="
        f" {rounding.epsilon(exact['epsilon'])} in {exact['steps']:,} steps."
    )
