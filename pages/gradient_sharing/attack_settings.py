"""The image that is attacked, and the settings of the upload and of the attack."""

from __future__ import annotations

import streamlit as st

from engine.studies.gradient_sharing import GradientSharing, Inversion
from pages.common.controls import Controls, uploads

# parameters of the attack only, which no preset changes
FIELDS = tuple(
    name
    for name in Inversion.model_fields
    if name not in GradientSharing.model_fields and name != "image"
)
WHOSE = {"theirs": "from the data set", "mine": "your own, never stored"}


def draw(controls: Controls, study: GradientSharing, previewed) -> Inversion:
    """Draw all of them; returns the attack. Stops the page until an own image is chosen."""
    own = st.segmented_control(
        "Image",
        list(WHOSE),
        default="theirs",
        required=True,
        key="gradient_sharing.own",
        format_func=WHOSE.__getitem__,
    )
    raw = _image(controls, previewed, own == "mine")
    controls.dial("leak_fraction")
    controls.dial("leak_noise")
    _more(controls, study)
    attack = controls.ready_as(Inversion)
    if own == "mine" and raw is None:
        st.info(
            "Choose an image. It is scaled to the size of the others, and never stored.",
            icon=":material/upload:",
        )
        st.stop()
    if raw is not None:
        size, _, channels = previewed.test_images.shape[1:]
        attack = attack.with_image(uploads.decoded(raw, size, channels, invert=channels == 1))
    controls.checked(lambda: attack.pick(previewed), "image")
    return attack


def _image(controls: Controls, previewed, own: bool):
    """The class, the image and the model. Returns the visitor's own file, if there is one."""
    one, two, three = st.columns(3)
    with one:
        controls.category("category", previewed.classes)
    with three:
        controls.choice("model")
    with two:
        if own:
            return uploads.choose("gradient_sharing.upload")
        count = int((previewed.test_labels == controls.value("category")).sum())
        controls.below("index", count, "this class has the images")
        controls.number("index")
    return None


def _more(controls: Controls, study: GradientSharing) -> None:
    """What is uploaded, and how hard the attacker tries."""
    names = (
        "leak_policy",
        "leak_threshold",
        "leak_clip",
        "layers",
        "attack_steps",
        "restarts",
        "smoothness",
    )
    with st.expander(
        "More settings of the attack", icon=":material/tune:", expanded=controls.opens(*names)
    ):
        left, right = st.columns(2)
        with left:
            for name in ("leak_policy", "layers"):
                controls.choice(name)
            if controls.value("leak_policy") == "threshold":
                controls.number("leak_threshold")
            controls.number("leak_clip", "none; 1 with noise")
            st.button(
                "Use the settings of the clients above",
                on_click=lambda: as_above(controls, study),
                icon=":material/content_copy:",
                help=(
                    "The initial model, and the clients' share, policy and clip norm. Noise only if"
                    " each phone adds it: a server that adds the noise has seen the upload without."
                ),
            )
        with right:
            controls.number("attack_steps", "the usual")
            controls.number("restarts", "the usual")
            controls.number("smoothness")


def as_above(controls: Controls, study: GradientSharing) -> None:
    """Copy the settings of the sharing above to the attack."""
    plan = study.plan()
    controls.change(
        leak_fraction=study.fraction,
        leak_policy=study.policy,
        leak_threshold=study.threshold,
        leak_noise=plan.noise_multiplier if study.noised_by == "client" else 0.0,
        leak_clip=plan.max_grad_norm,
        layers=study.trained,
        model="initial",
    )
