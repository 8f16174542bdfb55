"""One released image on page Noise: the images, their measures, the label, the guarantee."""

from __future__ import annotations

import streamlit as st

from engine.core import parameters, rounding
from engine.core.study import Result
from engine.studies.noise import STRIP, Noise
from pages.common import panels, sentences
from pages.common.controls import Controls
from pages.noise import charts, text


def draw(controls: Controls, study: Noise, result: Result, classes: list[str], own: bool) -> None:
    """Draw everything about one release. own: the image is the visitor's."""
    draw_images(result)
    panels.warnings({"": result})
    draw_strip(study, result)
    st.subheader("The label", anchor=False)
    controls.dial("label_epsilon")
    draw_label(result, classes, own)
    draw_guarantee(study, result)
    with st.expander("Formulas", icon=":material/function:"):
        st.markdown(text.FORMULAS)
    panels.made(study, result, again=not own)


def draw_images(result: Result) -> None:
    """Draw the image before and after the noise, and how much the noise is."""
    metrics = result.metrics
    before, after, numbers = st.columns([1, 1, 1.2])
    before.image(
        result.images["original"],
        caption="The image",
        width="stretch",
        alt=f"The original image: {result.facts['label']}",
    )
    after.image(
        result.images["noised"],
        caption=(
            f"What leaves the phone at ε = {rounding.epsilon(metrics['epsilon_image'])}, brightened"
        ),
        width="stretch",
        alt=f"The same image under noise of {metrics['noise_norm']:.2g} times its own strength",
    )
    with numbers:
        draw_numbers(metrics)


def draw_numbers(metrics: dict[str, float]) -> None:
    """Draw the strength of the noise and the similarity of both images."""
    st.metric(
        "Noise, relative to the image",
        f"{sentences.times(metrics['noise_norm'])} ×",
        help="Expected length of the noise as a vector, where the image has length 1.",
    )
    one, two = st.columns(2)
    one.metric(
        "σ of each pixel",
        f"{rounding.described(metrics['sigma'])}",
        help="Standard deviation of the noise on each pixel of the unit-length image.",
    )
    two.metric(
        "Signal-to-noise ratio",
        f"{metrics['snr_db']:.1f} dB",
        help="Power of the image over the power of the noise.",
    )
    one.metric(
        "Similarity (SSIM)",
        f"{metrics['ssim'] + 0:.3f}".replace("-0.000", "0.000"),
        help="Structural similarity of both images; 1 if they are equal.",
    )
    two.metric(
        "PSNR",
        f"{metrics['psnr_db']:.1f} dB",
        help="Peak signal-to-noise ratio of the released image.",
    )


def draw_strip(study: Noise, result: Result) -> None:
    """Draw the image at the budgets of report 1's figure 1."""
    st.markdown(
        "**The same image at six budgets**",
        help="Those of figure 1 in report 1 (Green, Hodson and Hanoian 2020).",
    )
    for column, epsilon in zip(st.columns(len(STRIP)), STRIP):
        nominal = f"ε = {rounding.chosen(epsilon)}"
        column.image(
            result.images[f"strip_{parameters.number(epsilon)}"],
            caption=(
                nominal
                if study.proved
                else f"nominal {nominal}, actual {rounding.epsilon(study.earned(epsilon))}"
            ),
            width="stretch",
            alt=f"The image under the noise of {nominal}",
        )


def draw_label(result: Result, classes: list[str], own: bool) -> None:
    """Draw how the label is reported, and the ε of image and label together."""
    metrics, facts = result.metrics, result.facts
    said, chart = st.columns([1, 1.4], vertical_alignment="center")
    said.markdown(
        text.label(
            sentences.plain(facts["label"]),
            sentences.plain(facts["released_label"]),
            metrics["label_keep_probability"],
            facts["classes"],
            own,
        )
    )
    with chart:
        panels.chart(
            charts.label_odds(classes, metrics["label_keep_probability"], facts["label"]),
            key="label odds",
            alt="Bars: the probability of each reported label",
        )


def draw_guarantee(study: Noise, result: Result) -> None:
    """Draw what an attacker can learn from the image, from the label, and from both."""
    metrics = result.metrics
    st.markdown(
        f"Image (ε = {rounding.epsilon(metrics['epsilon_image'])}) and label (ε ="
        f" {rounding.chosen(metrics['epsilon_label'])}) together: **ε ="
        f" {rounding.epsilon(result.guarantee.epsilon)}**, δ = {rounding.chosen(study.delta)}."
    )
    panels.odds(
        result.guarantee,
        "An attacker knows that it is one of two images, each with its label. Which one?",
        "Without looking",
        "Seeing what left the phone",
    )
    image, label = (
        sentences.how_often(metrics[name]).replace("*", "") for name in ("odds_image", "odds_label")
    )
    st.caption(f"From the image alone they {image}; from the label alone they {label}.")
    panels.guarantee(result.guarantee)
