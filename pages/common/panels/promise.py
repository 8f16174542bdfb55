"""What the guarantee means for a person in the data, and the guarantee in its terms."""

from __future__ import annotations

import streamlit as st

from engine.core import rounding
from engine.core.study import Guarantee
from pages.common import figures, sentences

EPSILON = (
    "Privacy loss: how much the release may reveal about one unit of the data. Smaller is more"
    " private. Each 0.7 more may double an attacker's odds."
)
DELTA = "The guarantee may fail with this small probability."


def odds(guarantee: Guarantee, question: str, blind: str, seeing: str) -> None:
    """What the guarantee means for a person in the data.

    Shows the attacker's question, a sentence and 100 small figures.
    """
    st.subheader("What it means for a person in the data", anchor=False)
    left, right = st.columns([1, 1], vertical_alignment="center")
    left.markdown(f"{question} {sentences.odds(guarantee, blind, seeing)}")
    if guarantee.odds_mechanism is not None:
        n = rounding.of_hundred(guarantee.odds_mechanism)
        right.image(
            figures.crowd(n),
            width="stretch",
            alt=(
                f"100 small figures, {n} of them marked: the attacker is right in at most so many"
                " of 100 cases."
            ),
        )
        with left.expander("Details"):
            st.markdown(sentences.odds_detail(guarantee))


def guarantee(promise: Guarantee) -> None:
    """The guarantee panel: the same fields on every page, including 'none'."""
    st.subheader("What is guaranteed", anchor=False)
    with st.container(border=True):
        first, second, third = st.columns(3)
        first.metric("ε (privacy loss)", rounding.epsilon(promise.epsilon), help=EPSILON)
        second.metric(
            "δ (failure probability)",
            "none" if promise.delta is None else rounding.chosen(promise.delta),
            help=DELTA,
        )
        third.markdown(
            f":small[Protected]  \n**{promise.unit if promise.epsilon is not None else 'nobody'}**"
        )
        rows = {
            "Mechanism": promise.mechanism,
            "Accountant": promise.accountant,
            "Sampling": sampling(promise),
            "Neighbours": promise.neighbours,
            "Against": promise.against,
            "Also released": promise.also_released,
            "Note": promise.note,
        }
        st.markdown(
            "\n".join(
                f"- **{name}**: {sentences.plain(text)}" for name, text in rows.items() if text
            )
        )


def sampling(promise: Guarantee) -> str:
    """How units were sampled, with sample rate and number of steps if they matter."""
    rate = (
        f", rate {rounding.described(promise.sample_rate)}"
        if promise.sample_rate is not None
        else ""
    )
    steps = (
        f", {promise.steps:,} step{'s' if promise.steps != 1 else ''}"
        if promise.steps is not None
        else ""
    )
    return promise.sampling + rate + steps
