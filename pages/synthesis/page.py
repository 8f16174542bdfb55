"""Page Synthesis: images made from a network's statistics, and what they reveal.

It also shows what a student can learn from them. Report 2 is arXiv 2210.03205, 2022.
"""

import math

import streamlit as st

from engine.core.lab import settings_of
from engine.datasets import registry, source
from engine.studies.synthesis import SPACES, Student
from pages.common import live, panels, sentences
from pages.common.controls import Controls, Look
from pages.common.scrubber import scrubber
from pages.synthesis import charts, text

# Report 2, Table 1, on CIFAR-10: ResNet20 on images after more and more steps (it does not say how
# many), and on the original images.
REPORT = (0.5800, 0.6116, 0.6179, 0.9269)

st.title("Can a network's memory replace the pictures it learned from?", anchor=False)
st.markdown(
    "A network keeps a few statistics of all the pictures that it has seen. Start from noise,"
    " change it until the statistics fit, and something appears. **Press Run, drag through the"
    " steps, and see what a second network can learn from pictures that nobody ever took.**"
)

controls = Controls(
    Student,
    hidden=("after", "source", "soft_share"),
    looks={"space": Look(tuple(SPACES), ("pixels",))},
)
controls.complain()
controls.presets(
    {
        "quick": "Start",
        "private": "A private teacher",
        "fashion": "Clothes",
        "report": "As in the report",
        "best": "Best known",
    }
)
if controls.value("private"):
    controls.dial("target_epsilon")
with st.expander(
    "More settings",
    icon=":material/tune:",
    expanded=controls.opens(*controls.specs, also=controls.lacks_data()),
):
    first, second, third = st.columns(3)
    with first:
        st.markdown("**The teacher**")
        controls.dataset()
        controls.switch("private")
        for name in ("network", "weights", "crop"):
            controls.choice(name)
        trained = (
            ()
            if controls.value("weights") == "given"
            else ("epochs", "batch_size", "learning_rate")
            + (() if controls.value("private") else ("pixel_noise",))
        )
        for name in (
            *trained,
            *(("delta", "max_grad_norm", "statistics_noise") if controls.value("private") else ()),
            "seed",
        ):
            controls.number(name)
    with second:
        st.markdown("**The pictures**")
        for name in ("pixels", "forward", "ending"):
            controls.choice(name)
        for name in ("flip", "class_wise"):
            controls.switch(name)
        for name in (
            "images",
            "synthesis_batch_size",
            "steps",
            "snapshots",
            "synthesis_learning_rate",
            "statistics_weight",
            "labels_weight",
            "variation",
            "norm",
            "softness",
            "jitter",
            "teachers",
        ):
            controls.number(name)
    with third:
        st.markdown("**The student**")
        for name in ("student_optimizer", "student_norm"):
            controls.choice(name)
        controls.switch("student_flip")
        for name in (
            "student_epochs",
            "student_batch_size",
            "student_learning_rate",
            "temperature",
            "shift",
            "mixup",
        ):
            controls.number(name)

student = controls.ready()
shown = registry.preview(student.dataset)
controls.checked(lambda: student.check(shown))
synthesis = student.synthesis
teachers = {
    f"teacher {i + 1}" if i else "teacher": each for i, each in enumerate(synthesis.needs())
}
students = student.table()
if synthesis.images > shown.train_size:
    del students["real pictures"]  # there are not as many real images to compare with
studies = teachers | {"pictures": synthesis} | students
try:
    made = live.look(studies["pictures"])
# A missing file of weights.
except source.Missing as missing:
    st.error(sentences.plain(str(missing)), icon=":material/download:")
    st.stop()
live.run_button(studies)


def draw(views: dict[str, live.View]) -> None:
    """Draw what is still running: the synthesis, then the students beside the film."""
    live.progress(views)
    if made.result is not None:
        return draw_students(views)
    if views["pictures"].result is not None:
        # From now on the gallery is a film, which is not sent again at every tick.
        st.rerun()
    left, right = st.columns([1, 1.4])
    with left:
        draw_gallery(views["pictures"])
    with right:
        draw_students(views)
        draw_layers(views["pictures"].curves)


def draw_film(result) -> None:
    """Draw the gallery as a film from noise to the last step."""
    film = {
        sentences.after(int(name[5:])): png
        for name, png in sorted(result.pictures.items())
        if name.startswith("film_")
    }
    scrubber(
        film,
        "Steps of making the pictures",
        "A row of pictures for each class, from noise to the last step",
        "film",
    )
    st.caption(
        "Pictures that nobody took, a row for each of:"
        f" {sentences.plain(', '.join(result.facts['classes'][:10]))}. Drag to go from noise to"
        f" step {synthesis.steps}."
    )


def draw_layers(curves: dict) -> None:
    """Draw the distance of each layer's statistics over the steps."""
    layers = {
        name.removeprefix("distance:"): points
        for name, points in curves.items()
        if name.startswith("distance:")
    }
    if layers:
        st.markdown(
            "**How far each layer's statistics are from the teacher's**",
            help=(
                "Down is nearer. Squared differences of means and variances, of the first pictures"
                " that are made, those in the gallery. Light: the first layers, which look at"
                " edges; dark: the last ones, which look at whole shapes."
            ),
        )
        st.plotly_chart(
            charts.layers(layers),
            key="layers",
            config={"displayModeBar": False},
            alt="Distance of each layer's statistics over the steps",
        )


def draw_gallery(view: live.View) -> None:
    """Draw the current images, or the teacher's training data."""
    if "gallery" in view.pictures:
        st.image(
            view.pictures["gallery"],
            width="stretch",
            alt="A row of pictures for each class, as they are now",
        )
        step = view.curves["label_loss"][-1][0] if view.curves.get("label_loss") else 0
        st.caption(f"{sentences.after(round(step)).capitalize()}.")
    else:
        st.image(
            student.sample(), width="stretch", alt=f"Some training pictures of {student.dataset}"
        )
        st.caption(
            "Real pictures, from which the teacher learns. Made-up ones will appear here, out of"
            " noise."
        )


def draw_students(views: dict[str, live.View]) -> None:
    """Draw the students' accuracy, with the teacher and a student on real images."""
    now = {
        name: views[name].curves["test_accuracy"][-1][1]
        for name in students
        if views[name].curves.get("test_accuracy")
    }
    done = {name: value for name, value in now.items() if views[name].result}
    found, learning = (
        {
            kind: [
                (step, those[name])
                for step in synthesis.kept
                if (name := f"{kind} labels, {step} steps") in those
            ]
            for kind in ("hard", "soft")
        }
        for those in (done, {name: value for name, value in now.items() if name not in done})
    )
    teacher = views["teacher"].result or made.result
    levels = (
        {
            "the teacher itself": teacher.metrics.get(
                "teacher_accuracy", teacher.metrics.get("test_accuracy")
            )
        }
        if teacher
        else {}
    )
    if "real pictures" in done:
        levels |= {f"a student of {synthesis.images:,} real pictures": done["real pictures"]}
    if len(done) == len(students):
        draw_answer(done)
        if told := sentences.balanced(
            views[f"hard labels, {synthesis.kept[-1]} steps"].result.metrics
        ):
            st.caption(f"The one with hard labels{told}.")
    st.plotly_chart(
        charts.students(found, learning, levels, student.chance(), synthesis.kept[-1]),
        key="students",
        config={"displayModeBar": False},
        alt=(
            "Accuracy of networks that learned from synthetic pictures, over the steps that the"
            " pictures took"
        ),
    )
    st.caption(
        "Networks that have seen nothing but made-up pictures, tested on real ones. *Hard* labels:"
        " told the class that was wanted. *Soft* labels: told all that the teacher sees in the"
        " picture, doubts included. Circles: still learning."
    )
    if synthesis.teacher.private:
        st.caption(
            "Few steps teach more here than with the preset *Start*. That is not privacy's doing:"
            " this teacher has another norm (group norm), so its pictures come about differently."
            " Compare the ends."
        )


def draw_answer(accuracy: dict[str, float]) -> None:
    """Draw the answer to the page's question in a sentence."""
    of_hundred = {name: f"{100 * value:.0f}" for name, value in accuracy.items()}
    hard, soft = (
        of_hundred[f"{kind} labels, {synthesis.kept[-1]} steps"] for kind in ("hard", "soft")
    )
    real = (
        f" As many real pictures teach **{of_hundred['real pictures']}**."
        if "real pictures" in accuracy
        else ""
    )
    st.markdown(
        f"A network that saw nothing but made-up pictures names **{hard}** of 100 real ones"
        f" correctly, or **{soft}** when it hears the teacher's doubts.{real}"
    )


def draw_given_away(result) -> None:
    """Draw what the images reveal: nearest real images, copies, membership, against accuracy."""
    st.subheader("What do they give away?", anchor=False)
    other = [warning for warning in result.warnings if warning not in result.facts["doubts"]]
    panels.warnings({"the pictures": result}, said=other)  # the others follow below
    left, right = st.columns([1.2, 1])
    with left:
        space = controls.look(
            "space", "Beside each picture the nearest real one, by", SPACES, required=True
        )[0]
        step = (
            st.select_slider(
                "After steps", synthesis.kept, value=synthesis.kept[-1], key="synthesis.shown"
            )
            if len(synthesis.kept) > 1
            else synthesis.kept[0]
        )
        st.image(
            result.pictures[f"nearest_{space}_{step}"],
            width="stretch",
            alt="Pairs: a synthetic picture and the training picture nearest to it",
        )
        st.caption("Pairs: left a made-up picture, right the training picture nearest to it.")
    with right:
        curves, controls_ = result.curves, result.facts["controls"]
        learned = {
            name: found.metrics["test_accuracy"]
            for name in students
            if (found := live.look(students[name], remembered=True).result)
        }
        accuracy = {s: learned.get(f"hard labels, {s} steps", math.nan) for s in synthesis.kept}
        points = [(int(s), accuracy[int(s)], value) for s, value in curves["membership_features"]]
        levels = {"chance": 0.5} | {
            name: controls_[name]["membership_features"]
            for name in ("copies of training pictures", "held-out pictures")
        }
        st.plotly_chart(
            charts.given_away(points, levels),
            key="given away",
            config={"displayModeBar": False},
            alt=(
                "How well members are told from others over the accuracy of the student with hard"
                " labels, a point a snapshot"
            ),
        )
        margin = 100 * text.margin_of_ranks(result.facts["asked"], result.facts["asked"])
        st.caption(
            "An attacker who has the made-up pictures and the teacher holds two real pictures, one"
            " from the training data and one not, and says that the one nearer to a made-up"
            " picture (in what the teacher sees) was in the data: the area under the attack's ROC"
            " curve. It is one attack that we ran, no bound: a better one may do better. By chance"
            f" alone such a figure moves {margin:.1f} up or down."
        )
    rows = [
        {
            "Released": f"made-up pictures, {s} steps",
            **_row({n: dict(curves[n])[s] for n in controls_["held-out pictures"]}),
        }
        for s in synthesis.kept
    ]
    rows += [{"Released": name, **_row(found)} for name, found in controls_.items()]
    st.dataframe(rows, hide_index=True)
    st.caption(
        "*Distance ratio*: how far the nearest training picture is, over how far the nearest"
        " held-out one is, in the median: 0 for copies, near 1 where both are equally far. *Told*:"
        " how often members are told from others. *Pixels*, *teacher*: compared by pixels, or by"
        " what the teacher sees. *Held out*: test pictures, which the teacher never saw. *Look"
        " like copies*: nearer to a training picture, compared with held-out ones, than 19 of 20"
        " held-out pictures are (brightness and contrast aside), so that 5 % of held-out ones do"
        " by definition. A low share proves little where the distance ratio is near 1: such"
        " pictures are far from *all* real ones, and even copies are missed once noise covers"
        f" them, as that row shows. {result.facts['compared']:,} made-up pictures against"
        f" {result.facts['references']:,} training and {result.facts['held_out']:,} held-out ones;"
        " the held-out row is half of those against the other half. The teacher itself: an"
        " attacker with its answers tells members from others"
        f" {100 * result.metrics['teacher_membership_auc']:.1f} times in 100 (50 is chance)."
    )


def _row(found: dict[str, float]) -> dict[str, float]:
    return {
        "like copies, pixels, %": round(100 * found["copies_pixels"], 1),
        "like copies, teacher, %": round(100 * found["copies_features"], 1),
        "distance ratio, pixels": round(found["ratio_pixels"], 3),
        "told, pixels, in 100": round(100 * found["membership_pixels"], 1),
        "told, teacher, in 100": round(100 * found["membership_features"], 1),
    }


def draw_finished(result) -> None:
    """Draw the guarantee, the details, and how the results were made."""
    pupils_done = {
        name: found
        for name, study in students.items()
        if (found := live.look(study, remembered=True).result)
    }
    panels.warnings({"the pictures": result} | pupils_done, said=result.facts["doubts"])
    if not result.facts["doubts"]:
        st.markdown(text.told_apart(result.metrics, result.guarantee))
    panels.odds(
        result.guarantee,
        "An attacker wants to know whether your picture was among those that the teacher learned"
        " from, or its place was left blank.",
        "Without looking at the made-up pictures",
        "With them in hand",
    )
    panels.guarantee(result.guarantee)
    panels.deeper(
        {
            "What would give a promise": lambda: st.markdown(text.SYNTHESIS_PROMISE),
            "The report": draw_report,
            "Formulas": lambda: st.markdown(text.SYNTHESIS_FORMULAS),
        }
    )
    also = {
        name: (study, found)
        for name, study in (teachers | students).items()
        if (found := live.look(study, remembered=True).result)
    }
    changed = settings_of(student, without=("after", "source", "soft_share"))
    panels.made(
        studies["pictures"],
        result,
        more=also,
        series=f"python -m engine series student table{changed}",
    )


def draw_report() -> None:
    """Draw Table 1 of report 2 beside our results."""
    st.markdown(text.SYNTHESIS_REPORT)
    last = {name: live.look(study, remembered=True).result for name, study in students.items()}
    ours = [
        {
            "Student learned from": name,
            f"ours, on {student.dataset}, %": f"{100 * found.metrics['test_accuracy']:.2f}",
        }
        for name, found in last.items()
        if found
    ]
    theirs = [
        {
            "Student learned from": f"hard labels, {much} steps (it does not say how many)",
            "the report, on CIFAR-10, %": f"{100 * value:.2f}",
        }
        for much, value in zip(("few", "more", "most"), REPORT)
    ]
    st.dataframe(
        [
            *theirs,
            {
                "Student learned from": "the original pictures",
                "the report, on CIFAR-10, %": f"{100 * REPORT[3]:.2f}",
            },
            *ours,
        ],
        hide_index=True,
    )
    st.caption(f"Ours on {student.dataset}. Only numbers on the same data can be compared.")


if made.result is None:
    live.follow(studies, draw)
else:
    left, right = st.columns([1, 1.4])
    with left:
        draw_film(made.result)
    with right:
        live.follow(studies, draw)
        draw_layers(made.curves)
    draw_given_away(made.result)
    draw_finished(made.result)
