"""Page DP training: train networks live while their privacy loss is counted.

It shows one training beside its non-private baseline, or a series over one setting. Report 3 is
Boulif and Durand 2021.
"""

import streamlit as st

from engine.datasets import registry
from engine.studies.dp_training import Audit, DPTraining, Membership
from pages.common import panels
from pages.common.controls import Asked, Controls, Look
from pages.dp_training import attacks, audit_series, charts, series, settings, single

SHOWN = {
    "frontier": "Accuracy over ε",
    "one": "Single training",
    "clips": "Clip norms",
    "optimizers": "Optimizers",
    "spending": "ε over epochs",
}
MOST = 27  # trainings in the longest series: nine with three seeds each
INTRO = (
    "A network learns to recognise images. Noise hides what it learned from any single image:"
    " *differential privacy*. **Press Run to train at eight noise levels, or choose a privacy"
    " budget and watch a single training.**"
)


def widgets() -> Controls:
    """The page's widgets; the non-private baseline has a switch of its own."""
    controls = Controls(
        DPTraining,
        Audit,
        Membership,
        hidden=("private",),
        aside=attacks.FIELDS,
        looks={
            "shown": Look(tuple(SHOWN), ("frontier",)),
            "seeds": Look(tuple(series.SEEDS), ("1",)),
            "compare": Look(("yes", "no"), ("yes",)),
            "attacked": Look(
                (audit_series.ALL, *map(str, range(1, MOST + 1))), (audit_series.ALL,)
            ),
            "need": Asked(10.0, 100.0),
            "have": Asked(0.01, 1000.0),
        },
    )
    controls.opening("mnist")
    controls.complain()
    return controls


def show_spending(study: DPTraining) -> None:
    """Draw ε over epochs, without any training: figure 6 of report 3."""
    panels.chart(
        charts.spending(study.spending(), study.target_epsilon),
        key="spending",
        alt="ε over epochs for eight noise multipliers",
    )
    st.caption(
        f"The ε spent in {study.epochs} epochs at batch size {study.batch_size:,}, by the fast"
        " accountant (RDP), which never underestimates it. This chart needs no training."
    )


def main() -> None:
    """Draw the page."""
    st.title("Can a machine learn from you without remembering you?", anchor=False)
    st.markdown(INTRO)
    controls = widgets()
    settings.draw(controls)
    shown = controls.look("shown", "Show", SHOWN, required=True)[0]
    study = controls.ready()
    controls.checked(lambda: study.check(registry.preview(study.dataset)))
    if shown == "one":
        single.show(controls, study)
    elif shown == "spending":
        show_spending(study)
    else:
        series.show(controls, study, shown)


main()
