"""The students on page Synthesis: how accurate networks are that learned from synthetic images."""

from __future__ import annotations

import streamlit as st

from engine.core.study import Result
from pages.common import live, panels, sentences
from pages.synthesis import charts, text
from pages.synthesis.runs import Runs


def draw(runs: Runs, made: Result | None, views: dict[str, live.View]) -> None:
    """Draw the students' accuracy, with the teacher and a student on real images.

    made: the result of the synthesis.
    """
    synthesis = runs.student.synthesis
    last = f"{synthesis.kept[-1]} steps"
    now = {
        name: views[name].curves["test_accuracy"][-1][1]
        for name in runs.students
        if views[name].curves.get("test_accuracy")
    }
    done = {name: value for name, value in now.items() if views[name].result}
    learning = {name: value for name, value in now.items() if name not in done}
    if len(done) == len(runs.students):
        st.markdown(text.answer(done, last))
        hard = views[f"hard labels, {last}"].result
        if hard is not None and (sentence := sentences.balanced(hard.metrics)):
            st.caption(f"The one with hard labels{sentence}.")
    panels.chart(
        charts.students(
            by_labels(done, synthesis.kept),
            by_labels(learning, synthesis.kept),
            levels(runs, done, views["teacher"].result or made),
            synthesis.teacher.chance(),
            synthesis.kept[-1],
        ),
        key="students",
        alt=(
            "Accuracy of networks that learned from synthetic images, over the steps of the"
            " synthesis"
        ),
    )
    st.caption(text.STUDENTS)
    if synthesis.teacher.private:
        st.expander("Details").markdown(text.GROUP_NORM)


def by_labels(
    accuracy: dict[str, float], kept: tuple[int, ...]
) -> dict[str, list[tuple[float, float]]]:
    """Kind of labels → (steps, accuracy) of the students that have one."""
    return {
        kind: [
            (step, accuracy[name])
            for step in kept
            if (name := f"{kind} labels, {step} steps") in accuracy
        ]
        for kind in ("hard", "soft")
    }


def levels(runs: Runs, done: dict[str, float], teacher: Result | None) -> dict[str, float]:
    """Accuracies that are drawn as lines: the teacher's, and that of a student on real images.

    teacher: the teacher's result, or that of the synthesis, which contains its accuracy, too.
    """
    found = {}
    if teacher:
        of_synthesis = "teacher_accuracy" in teacher.metrics
        found["the teacher"] = teacher.metrics[
            "teacher_accuracy" if of_synthesis else "test_accuracy"
        ]
    if "real images" in done:
        found[f"a student of {runs.student.synthesis.images:,} real images"] = done["real images"]
    return found
