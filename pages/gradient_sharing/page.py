"""Page Gradient sharing: clients share gradients instead of images; an attack on the gradients.

Report 5 is by Bu, CS230 (see docs/gradient_sharing.md).
"""

import streamlit as st

from engine.datasets import registry
from engine.studies.gradient_sharing import GradientSharing, Inversion
from pages.common.controls import Controls, Look
from pages.gradient_sharing import attack, defences, initial_models, settings, sharing, text

SHOWN = {
    "arms": "How much to share",
    "noises": "Accuracy over ε",
    "policies": "Which gradients",
    "table": "Initial models",
}
INTRO = (
    "A company wants to train its image classifier on your photos without collecting them"
    " (*federated learning*). Each phone, a *client*, trains on its own photos and uploads only"
    " *gradients*, numbers that say how the model should change, or a fraction of them. **Press Run"
    " and watch phones train a model together. Then see below what a single upload reveals.**"
)


def widgets() -> Controls:
    """The page's widgets."""
    controls = Controls(
        GradientSharing,
        Inversion,
        hidden=("arm",),
        aside=attack.FIELDS,
        looks={
            "shown": Look(tuple(SHOWN), ("arms",)),
            "compare": Look(tuple(defences.COMPARE)),
        },
    )
    controls.complain()
    return controls


def main() -> None:
    """Draw the page: sharing above, the attack on one upload below."""
    st.title("Your photos stay on your phone. What do they still give away?", anchor=False)
    st.markdown(INTRO)
    controls = widgets()
    promised = settings.draw(controls)
    shown = controls.look("shown", "Show", SHOWN, required=True)[0]
    if controls.missing:
        st.info(settings.LACKING, icon=":material/download:")
    study = controls.ready()
    previewed = registry.preview(study.dataset)
    controls.checked(lambda: study.check(previewed))
    promise = controls.checked(study.guarantee, "promise")
    by_client = study.noised_by == "client"
    promised.markdown(
        text.user_level(promise, study.plan(), study.rounds, study.clients, by_client)
    )
    if shown == "table":
        initial_models.show(study)
    else:
        sharing.show(controls, study, shown, private=promise.epsilon is not None)
    attack.show(controls, study, previewed)


main()
