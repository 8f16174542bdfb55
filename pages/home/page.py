"""Page Home: what Veil is, one small live example, and a card for each topic."""

from functools import partial

import streamlit as st

from engine.core import rounding
from engine.core.study import Result
from engine.datasets import registry, source
from engine.studies.noise import Noise
from pages.common import live, sentences
from pages.common.controls import unread
from pages.home import cards

INTRODUCTION = """
Machines learn from images of people, and what they learn can reveal those people. Differential
privacy hides each person behind noise of a known size, which limits what an attacker can learn.
**Here you choose the noise and watch real models learn under it.**
"""
BUDGETS = (1e5, 3e4, 1e4, 5000.0, 3000.0, 2000.0, 1000.0, 500.0, 150.0, 50.0, 10.0, 3.0, 1.0)


def example() -> tuple[Result, source.Images]:
    """Draw the live example; return its release of an image, and the data set."""
    with st.container(border=True):
        place, dial = st.columns([1, 3], vertical_alignment="center")
        with dial:
            budget = st.select_slider(
                "Privacy budget ε",
                BUDGETS,
                value=3000.0,
                key="home.epsilon",
                format_func=lambda e: f"ε = {e:,.0f}",
                help="A smaller ε means more noise, and less that an attacker can learn.",
            )
            study = Noise(epsilon=budget)
            images = registry.preview(study.dataset)
            release = study.release(*study.pick(images), images.classes)
            describe(release)
        place.image(
            release.images["noised"],
            width="stretch",
            alt=f"A handwritten three under the noise of ε = {rounding.chosen(budget)}",
        )
    return release, images


def describe(release: Result) -> None:
    """Say what an attacker can learn from the example."""
    st.markdown(
        f"The noise is **{sentences.times(release.metrics['noise_norm'])} times** as strong as the"
        " image. Guessing between two images at random, an attacker is right half of the time."
        f" Attackers who see this {sentences.how_often(release.metrics['odds_image'])}."
    )
    st.caption(
        "An attacker can recognise images that you cannot: only very strong noise hides a single"
        " image. Hiding *one among thousands* costs far less. That is what DP training does."
    )


def main() -> None:
    """Draw the page from top to bottom."""
    st.title("See what privacy costs, and what it buys", anchor=False)
    st.markdown(INTRODUCTION)
    unread()
    release, images = example()
    for study in cards.STUDIES.values():
        if live.look(study).state in ("empty", "cancelled"):
            live.services().runner.submit(study)
    live.follow(cards.STUDIES, partial(cards.draw, release, images))
    stats = live.services().store.stats()
    st.caption(
        f"Everything here is computed and stored on this machine: {stats.entries} stored values,"
        f" {sentences.size(stats.bytes)} of at most {sentences.size(stats.limit)}. Images that you"
        " upload are never stored."
    )


main()
