"""What a client is guaranteed in one arm, and how the results were made."""

from __future__ import annotations

import streamlit as st

from engine.core.lab import settings_of
from engine.core.study import Result
from engine.studies.gradient_sharing import GradientSharing
from pages.common import live, panels

Sharing = live.Series[GradientSharing]


def draw(
    study: GradientSharing, shown: str, series: live.Series[GradientSharing], name: str
) -> None:
    """Draw a client's guarantee in one arm, and how the results were made."""
    arms = list(series.finished)
    arm = st.selectbox(
        "Show guarantee for",
        arms,
        index=arms.index(name),
        key=f"gradient_sharing.promise {shown}",
    )
    result, member = series.finished[arm], series.members[arm]
    changed = settings_of(study, without=("arm",))
    panels.odds(result.guarantee, *question(result, member))
    panels.guarantee(result.guarantee)
    panels.made(
        member,
        result,
        more={each: (series.members[each], series.finished[each]) for each in arms if each != arm},
        series=f"python -m engine series gradient_sharing {shown}{changed}",
    )


def question(result: Result, member: GradientSharing) -> tuple[str, str, str]:
    """What an attacker wants to know; what they have not, and have, seen."""
    if result.guarantee.epsilon is not None and member.noised_by == "client":
        return (
            "An attacker knows that one of two sets of images is on your phone. Which one?",
            "Without your uploads",
            "With all your uploads",
        )
    return (
        "An attacker wants to know whether your phone took part, or sent nothing in any round.",
        "Without the models",
        "With all the models",
    )
