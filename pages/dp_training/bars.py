"""Final accuracy as bars: the effect of the clip norm, and of the optimizer."""

from __future__ import annotations

import streamlit as st

from engine.studies.dp_training import DPTraining
from pages.common import figures, live, panels
from pages.dp_training.charts.training import ACCURACY


def draw(study: DPTraining, series: live.Series[DPTraining], shown: str) -> None:
    """Draw one bar per setting with all its seeds. shown: 'clips' or 'optimizers'."""
    done: dict[str, list[float]] = {}
    for name, accuracy in series.metric("test_accuracy").items():
        done.setdefault(setting(name), []).append(accuracy)
    running = {
        setting(name): found["test_accuracy"][-1][1]
        for name, found in series.curves.items()
        if found.get("test_accuracy") and setting(name) not in done
    }
    panels.chart(
        figures.beside(
            done,
            running,
            {setting(name): colour for name, colour in colours(series).items()},
            ACCURACY,
        ),
        key=shown,
        alt="A bar for each setting: accuracy on test images",
    )
    if shown == "clips":
        st.caption(clip_norm(study))
    else:
        st.caption(
            "Each optimizer with privacy and without, at the same noise multiplier and at the"
            " learning rate that suits it."
        )


def setting(name: str) -> str:
    """A training's name without its seed."""
    return name.partition(", seed ")[0]


def colours(series: live.Series[DPTraining]) -> dict[str, str]:
    """The colour of each training in COLOURS."""
    return {
        name: "private" if member.private else "not private"
        for name, member in series.members.items()
    }


def clip_norm(study: DPTraining) -> str:
    """The effect of the clip norm in words: figure 3 of report 3."""
    sentence = (
        "The clip norm C limits how far one image moves the network in a step; the noise grows with"
        " it. A small C slows learning, a large C adds noise."
    )
    if study.network == "cnn":
        return f"{sentence} Report 3 found about 90 % at 1, 2 and 4, and a drop at 8."
    if study.learning_rate is None:
        return (
            f"{sentence} C alone changes little here, because the default learning rate makes up"
            " for it: set a learning rate to see more."
        )
    return sentence
