"""The generators on page Fidelity: galleries while they train, films, distance over the steps."""

from __future__ import annotations

import streamlit as st

from engine.core import rounding
from engine.core.study import Result
from pages.common import live, panels
from pages.common.scrubber import film, scrubber
from pages.fidelity import charts, text
from pages.fidelity.runs import Runs


def draw_training(runs: Runs, views: dict[str, live.View]) -> None:
    """Draw the current galleries and distances."""
    live.progress(views)
    running = views["the generators"]
    if running.result is not None:
        # From now on the galleries are films, which are not sent again at every tick.
        st.rerun()
    curves = live.Series.of(runs.generators, running).curves
    galleries = {
        name: live.look(study, remembered=True).images.get("gallery")
        or running.images.get(f"{number}:gallery")
        for number, (name, study) in enumerate(runs.generators.items())
    }
    if not any(galleries.values()):
        draw_real(runs)
        return
    for column, (name, gallery) in zip(st.columns(3), galleries.items()):
        with column:
            st.markdown(f"**{name}**", help=text.WHAT[name])
            if gallery:
                st.image(gallery, width="stretch", alt=f"Images made by the {name} as of now")
            st.caption(
                text.grown(curves[name], runs.steps(name)) if gallery else "Waiting for its turn."
            )
    draw_distances(runs, curves)


def draw_real(runs: Runs) -> None:
    """Draw real images, and what the three generators are."""
    left, right = st.columns([1, 2], vertical_alignment="center")
    left.image(runs.study.sample(), width="stretch", alt="Some of the real images")
    left.caption(
        "Real images, from which three generators learn. Generated images will appear here,"
        " starting from noise."
    )
    right.markdown("\n".join(f"- **{name}**. {what}" for name, what in text.WHAT.items()))


def draw_distances(runs: Runs, curves: dict[str, dict]) -> None:
    """Draw the distance from real images over the training."""
    lines = {
        name: [
            (100 * step / runs.steps(name), value)
            for step, value in found.get("frechet_distance", [])
        ]
        for name, found in curves.items()
    }
    if not any(lines.values()):
        return
    done = next(iter(live.finished(runs.generators).values()), None)
    real = done.metrics.get("real_frechet_distance") if done else None
    panels.chart(
        charts.growth(lines, real),
        key="growth",
        alt="Fréchet distance from the real images over the training, one line for each generator",
    )
    st.caption(text.distances(min(1000, runs.study.samples), unseen=bool(real)))


def draw_films(runs: Runs, found: dict[str, Result], learned: int) -> None:
    """Draw a film of each generator from its first step to its last.

    learned: how many images the generators learned from.
    """
    for column, (name, result) in zip(st.columns(3), found.items()):
        epsilon = result.guarantee.epsilon
        spent = "no guarantee" if epsilon is None else f"ε = {rounding.epsilon(epsilon)}"
        with column:
            st.markdown(f"**{name}** ({spent})", help=text.WHAT[name])
            scrubber(
                film(result.images),
                f"Steps of {name}",
                f"Images made by the {name}, each row changing from one to another",
                f"film {name}",
            )
    st.caption(text.films(runs.study.labelled))
    judged = runs.study.gan(private=True).usual("discriminator_steps")
    st.expander("Details").markdown(text.films_details(learned, judged))
