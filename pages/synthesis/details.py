"""What is guaranteed on page Synthesis, and the tabs of details below it."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.core.lab import settings_of
from engine.core.study import Result
from pages.common import live, panels
from pages.synthesis import background, text
from pages.synthesis.runs import Runs

# Report 2, Table 1, on CIFAR-10: ResNet20 on images after more and more steps (it does not say how
# many), and on the original images.
REPORT = {
    "hard labels, few steps (it does not say how many)": 0.5800,
    "hard labels, more steps (it does not say how many)": 0.6116,
    "hard labels, most steps (it does not say how many)": 0.6179,
    "the original images": 0.9269,
}


def draw(runs: Runs, result: Result) -> None:
    """Draw the guarantee, the details, and how the results were made."""
    panels.warnings(
        {"the images": result} | live.finished(runs.students), said=result.facts["doubts"]
    )
    if not result.facts["doubts"]:
        st.markdown(text.membership_text(result.metrics, result.guarantee))
    panels.odds(
        result.guarantee,
        "An attacker wants to know whether your image was among those that the teacher learned"
        " from, or its place was left blank.",
        "Without looking at the synthetic images",
        "With them in hand",
    )
    panels.guarantee(result.guarantee)
    panels.deeper(
        {
            "How to get a guarantee": lambda: st.markdown(background.HOW_TO_PROTECT),
            "Report 2": partial(draw_report, runs),
            "Formulas": lambda: st.markdown(background.FORMULAS),
        }
    )
    others = runs.teachers | runs.students
    panels.made(
        runs.images,
        result,
        more={name: (others[name], found) for name, found in live.finished(others).items()},
        series=(
            "python -m engine series student table"
            f"{settings_of(runs.student, without=('after', 'source', 'soft_share'))}"
        ),
    )


def draw_report(runs: Runs) -> None:
    """Draw Table 1 of report 2 beside our results."""
    st.markdown(background.REPORT)
    column = "Student learned from"
    theirs = [
        {column: name, "report 2, on CIFAR-10, %": f"{100 * value:.2f}"}
        for name, value in REPORT.items()
    ]
    ours = [
        {
            column: name,
            f"ours, on {runs.student.dataset}, %": f"{100 * found.metrics['test_accuracy']:.2f}",
        }
        for name, found in live.finished(runs.students).items()
    ]
    st.dataframe([*theirs, *ours], hide_index=True)
    st.caption("Only numbers on the same data set can be compared.")
