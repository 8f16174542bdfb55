"""The same forty images at high, medium and low noise, and the attacker's odds in each case."""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine.core import rounding
from engine.core.study import Result
from engine.datasets import imaging, registry
from engine.studies.dp_training import DPTraining
from pages.common import figures, live, sentences

HARD = 40  # number of images shown; if networks disagree on at least this many, these are shown
Trainings = live.Series[DPTraining]


def draw(study: DPTraining, series: Trainings) -> None:
    """Draw the same forty images at high, medium and low noise, with the attacker's odds."""
    names = levels_of(study, series)
    if not names:
        st.image(study.sample(), width=420, alt=f"Some training images of {study.dataset}")
        st.caption("Some of the training images. The noise hides whether any one was among them.")
        return
    previewed = registry.preview(study.dataset)
    right = {
        name: series.finished[name].arrays["predictions"] == previewed.test_labels for name in names
    }
    # images that at least one network gets wrong; on others they look alike
    hard = np.flatnonzero(~np.all(list(right.values()), axis=0))
    # keep the images fixed while networks are still training
    chosen = (
        hard if len(hard) >= HARD and series.complete else np.arange(len(previewed.test_labels))
    )
    for column, name in zip(st.columns(4), names):
        with column:
            draw_level(
                name,
                series.members[name].private,
                series.finished[name],
                imaging.answers(previewed.test_images[chosen], right[name][chosen]),
            )
    st.caption(
        f"Forty {'*hard* ' if chosen is hard else ''}test images, misclassified ones framed."
        " Figures: how many of 100 attackers guess right at most (outlines: no limit); by chance,"
        " 50 do."
    )


def levels_of(study: DPTraining, series: Trainings) -> list[str]:
    """The most private training, the one nearest to the dial, the least private, a baseline."""
    spent = {
        name: found.guarantee.epsilon
        for name, found in series.finished.items()
        if series.members[name].private and found.guarantee.epsilon is not None
    }
    wanted = (0.0, study.target_epsilon or 3.0, 1e9)
    nearest = [min(spent, key=lambda name: abs(spent[name] - e)) for e in wanted if spent]
    return [
        *dict.fromkeys(nearest),
        *[name for name in series.finished if not series.members[name].private][:1],
    ]


def draw_level(name: str, private: bool, found: Result, images: bytes) -> None:
    """Draw one network's answers, its accuracy, and how many attackers are right."""
    promise = found.guarantee
    st.markdown(f"**ε = {rounding.epsilon(promise.epsilon)}**" if private else "**Not private**")
    st.image(
        images, width="stretch", alt=f"Forty test images, the misclassified ones framed, {name}"
    )
    odds = promise.odds_mechanism
    n = None if odds is None else rounding.of_hundred(odds)
    st.image(
        figures.crowd(n),
        width="stretch",
        alt="100 small figures, "
        + (f"{n} of them marked" if n else "all of them outlines: nobody knows"),
    )
    risk = (
        "may be certain: **nothing is guaranteed**" if odds is None else sentences.how_often(odds)
    )
    st.markdown(
        f"Accuracy **{100 * found.metrics['test_accuracy']:.1f} %**. Attackers who guess whether"
        f" *your* image was used for training {risk}."
    )
