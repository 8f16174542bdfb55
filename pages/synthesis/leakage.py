"""What the synthetic images reveal on page Synthesis: near-duplicates, membership, accuracy."""

from __future__ import annotations

import math

import streamlit as st

from engine.core.study import Result
from engine.studies.synthesis import SPACES
from pages.common import live, panels
from pages.common.controls import Controls
from pages.synthesis import charts, text
from pages.synthesis.runs import Runs


def draw(controls: Controls, runs: Runs, result: Result) -> None:
    """Draw nearest training images, copies and membership, against accuracy."""
    st.subheader("What do the images reveal?", anchor=False)
    other = [warning for warning in result.warnings if warning not in result.facts["doubts"]]
    panels.warnings({"the images": result}, said=other)  # the others follow below
    left, right = st.columns([1.2, 1])
    with left:
        draw_nearest(controls, runs, result)
    with right:
        draw_membership(runs, result)
    draw_table(runs, result)


def draw_nearest(controls: Controls, runs: Runs, result: Result) -> None:
    """Draw pairs of a synthetic image and the nearest training image."""
    kept = runs.student.synthesis.kept
    (space,) = controls.look("space", "Find the nearest training image by", SPACES, required=True)
    step = kept[0]
    if len(kept) > 1:
        step = st.select_slider("After steps", kept, value=kept[-1], key="synthesis.shown")
    st.image(
        result.images[f"nearest_{space}_{step}"],
        width="stretch",
        alt="Pairs: a synthetic image and the training image nearest to it",
    )
    st.caption("Pairs: a synthetic image (left) and the nearest training image (right).")


def draw_membership(runs: Runs, result: Result) -> None:
    """Draw the attack's AUC over the accuracy of students, with its controls."""
    learned = live.finished(runs.students)
    points = []
    for step, auc in result.curves["membership_features"]:
        student = learned.get(f"hard labels, {int(step)} steps")
        accuracy = student.metrics["test_accuracy"] if student else math.nan
        points.append((int(step), accuracy, auc))
    levels = {"chance": 0.5} | {
        name: result.facts["controls"][name]["membership_features"]
        for name in ("copies of training images", "held-out images")
    }
    panels.chart(
        charts.given_away(points, levels),
        key="given away",
        alt=(
            "AUC of the membership attack over the accuracy of the student with hard labels, one"
            " point per snapshot"
        ),
    )
    asked = result.facts["asked"]
    st.caption(text.attack(text.margin_of_ranks(asked, asked)))
    st.expander("Details").markdown(text.ATTACK_DETAILS)


def draw_table(runs: Runs, result: Result) -> None:
    """Draw all measures of each snapshot and of the controls."""
    known = result.facts["controls"]
    released = {
        f"synthetic images, {step} steps": {
            name: dict(result.curves[name])[step] for name in known["held-out images"]
        }
        for step in runs.student.synthesis.kept
    }
    st.dataframe(
        [{"Released": name, **text.leakage(found)} for name, found in (released | known).items()],
        hide_index=True,
    )
    st.caption(
        "All but the ratio in per cent. *Distance ratio*: 0 for copies, near 1 for images that are"
        " no nearer to training images than to others. *Attack AUC*: 50 is chance."
    )
    st.expander("Details").markdown(text.table_details(result.facts, result.metrics))
