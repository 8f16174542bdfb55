"""The tabs below a finished training, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from engine.core import rounding
from engine.core.study import Result, Study
from engine.studies.dp_training import DPTraining
from pages.common import live, panels, sentences
from pages.dp_training import charts, text


def draw(
    study: DPTraining, who: str, finished: dict[str, Result], others: Mapping[str, Study]
) -> None:
    """Draw the tabs. finished: a key of WHO → Result; others: what the download holds besides."""
    result = finished[who]
    panels.deeper(
        {
            "Accuracy by class": lambda: draw_classes(who, finished),
            "Examples": lambda: draw_examples(result),
            "Loss": lambda: draw_loss(study, finished),
            "Budget": lambda: draw_budget(study, result),
            "Report 3": lambda: st.markdown(text.REPORT),
            "Formulas": lambda: st.markdown(text.FORMULAS),
        }
    )
    done = live.finished(others)
    panels.made(study, result, more={name: (others[name], found) for name, found in done.items()})


def draw_classes(who: str, finished: dict[str, Result]) -> None:
    """Draw accuracy per class, with and without privacy."""
    panels.chart(
        charts.per_class({name: r.facts["per_class"] for name, r in finished.items()}),
        key="classes",
        alt="Accuracy by class, with and without privacy",
    )
    fewest = min(finished[who].facts["test_images"].values())
    if fewest:
        st.caption(
            f"The smallest class has {fewest:,} test images: differences of less than"
            f" {sentences.give_or_take(sentences.margin(0.9, fewest), 200, 0)} points between two"
            " bars may be chance."
        )


def draw_loss(study: DPTraining, finished: dict[str, Result]) -> None:
    """Draw training loss over epochs."""
    panels.chart(
        charts.loss({who: r.curves for who, r in finished.items()}, study.epochs),
        key="loss",
        alt="Training loss over epochs",
    )


def draw_budget(study: DPTraining, result: Result) -> None:
    """Draw ε over epochs, and what determined the noise."""
    points = result.curves.get("epsilon", [])
    panels.chart(
        charts.spent(points, study.epochs, study.target_epsilon, study.delta),
        key="spent",
        alt="Spent epsilon over epochs",
    )
    if result.guarantee.epsilon is not None:
        st.caption(
            f"Noise multiplier σ = {rounding.described(result.metrics['noise_multiplier'])}. The"
            " curve is a fast upper bound (RDP); the final ε ="
            f" {rounding.epsilon(result.guarantee.epsilon)} comes from a tight accountant (PLD)."
        )


def draw_examples(result: Result) -> None:
    """Draw ten images classified correctly and ten classified wrongly."""
    for kind, title in (("right", "Classified correctly"), ("wrong", "Misclassified")):
        st.markdown(f"**{title}**")
        for i, column in enumerate(st.columns(10)):
            name = f"{kind}_{i}"
            if name in result.images:
                said = result.facts["wrong"][i] if kind == "wrong" else None
                column.image(
                    result.images[name],
                    caption=sentences.plain(f"{said[0]}, is {said[1]}") if said else None,
                    width="stretch",
                    alt=f"A test image {'misclassified' if said else 'classified correctly'}",
                )
