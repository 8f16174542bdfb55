"""Page Synthesis: images made from a network's statistics, what they teach, what they reveal.

The widgets stand here, from top to bottom. `making` draws the synthesis, `students` what networks
learn from it, `leakage` what it reveals, `details` the guarantee and what is below it. Report 2 is
arXiv 2210.03205, 2022.
"""

from functools import partial

import streamlit as st

from engine.core.study import Result
from engine.datasets import registry, source
from engine.studies.synthesis import SPACES, Student
from pages.common import live, sentences
from pages.common.controls import Controls, Look
from pages.synthesis import details, leakage, making, students, text
from pages.synthesis.runs import Runs

PRESETS = {
    "quick": "Start",
    "private": "A private teacher",
    "fashion": "Clothes",
    "report": "As in report 2",
    "best": "Best known",
}


def settings(controls: Controls) -> None:
    """The widgets behind "More settings"."""
    with st.expander(
        "More settings",
        icon=":material/tune:",
        expanded=controls.opens(*controls.specs, also=controls.lacks_data()),
    ):
        first, second, third = st.columns(3)
        with first:
            st.markdown("**The teacher**")
            of_teacher(controls)
        with second:
            st.markdown("**The images**")
            of_images(controls)
        with third:
            st.markdown("**The student**")
            of_student(controls)


def of_teacher(controls: Controls) -> None:
    """The data set and the teacher's training; only what has an effect."""
    private = controls.value("private")
    controls.dataset()
    controls.switch("private")
    for name in ("network", "weights", "crop"):
        controls.choice(name)
    names: list[str] = []
    if controls.value("weights") != "given":
        names += ["epochs", "batch_size", "learning_rate"]
        names += [] if private else ["pixel_noise"]
    names += ["delta", "max_grad_norm", "statistics_noise"] if private else []
    for name in (*names, "seed"):
        controls.number(name)


def of_images(controls: Controls) -> None:
    """The synthesis."""
    for name in ("pixels", "forward", "ending"):
        controls.choice(name)
    for name in ("flip", "class_wise"):
        controls.switch(name)
    for name in ("images", "synthesis_batch_size", "steps", "snapshots", "synthesis_learning_rate"):
        controls.number(name)
    for name in ("statistics_weight", "labels_weight", "variation", "norm", "softness"):
        controls.number(name)
    for name in ("jitter", "teachers"):
        controls.number(name)


def of_student(controls: Controls) -> None:
    """The student's training."""
    for name in ("student_optimizer", "student_norm"):
        controls.choice(name)
    controls.switch("student_flip")
    for name in ("student_epochs", "student_batch_size", "student_learning_rate"):
        controls.number(name)
    for name in ("temperature", "shift", "mixup"):
        controls.number(name)


def draw_running(runs: Runs, views: dict[str, live.View]) -> None:
    """Draw the synthesis while it runs, with the students beside it."""
    live.progress(views)
    if views["images"].result is not None:
        # From now on the gallery is a film, which is not sent again at every tick.
        st.rerun()
    left, right = st.columns([1, 1.4])
    with left:
        making.draw_gallery(runs.student, views["images"])
    with right:
        students.draw(runs, None, views)
        making.draw_layers(views["images"].curves)


def draw_made(controls: Controls, runs: Runs, made: Result) -> None:
    """Draw the film, the students as far as they have come, and what the images reveal."""

    def draw_students(views: dict[str, live.View]) -> None:
        live.progress(views)
        students.draw(runs, made, views)

    left, right = st.columns([1, 1.4])
    with left:
        making.draw_film(runs.student, made)
    with right:
        live.follow(runs.all(), draw_students)
        making.draw_layers(made.curves)
    leakage.draw(controls, runs, made)
    details.draw(runs, made)


def main() -> None:
    """Draw the page from top to bottom."""
    st.title(text.TITLE, anchor=False)
    st.markdown(text.INTRODUCTION)
    controls = Controls(
        Student,
        hidden=("after", "source", "soft_share"),
        looks={"space": Look(tuple(SPACES), ("pixels",))},
    )
    controls.complain()
    controls.presets(PRESETS)
    if controls.value("private"):
        controls.dial("target_epsilon")
    settings(controls)
    student = controls.ready()
    shown = registry.preview(student.dataset)
    controls.checked(lambda: student.check(shown))
    runs = Runs.of(student, shown.train_size)
    try:
        made = live.look(runs.images)
    # A missing file of weights.
    except source.Missing as missing:
        st.error(sentences.plain(str(missing)), icon=":material/download:")
        st.stop()
    live.run_button(runs.all())
    if made.result is None:
        live.follow(runs.all(), partial(draw_running, runs))
    else:
        draw_made(controls, runs, made.result)


main()
