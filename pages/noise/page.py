"""Page Noise: what the Gaussian mechanism does to one image, and what networks learn from many.

The widgets stand here, from top to bottom. `release` draws one released image, which is computed
at once; `training` and `series` run and draw networks. Report 1 is Green, Hodson, Hanoian 2020.
"""

import time
from dataclasses import replace

import streamlit as st

from engine.core.lab import made
from engine.core.study import Result, key
from engine.datasets import registry, source
from engine.studies.noise import Noise, NoisyTraining
from pages.common.controls import Controls, uploads
from pages.noise import release, text, training

OWN_SIZE = 64  # side in pixels of a visitor's own image


def choose_image(controls: Controls) -> tuple:
    """The data set, and the file of the visitor's own image if there is one."""
    with st.expander(
        "Choose an image",
        icon=":material/image:",
        expanded=controls.opens("dataset", "category", "index", also=controls.lacks_data()),
    ):
        left, middle, right = st.columns(3)
        with left:
            controls.dataset()
        if controls.missing:
            st.stop()
        images = registry.preview(controls.value("dataset"))
        with middle:
            controls.category("category", images.classes)
        with right:
            of_class = int((images.test_labels == controls.value("category")).sum())
            controls.below("index", of_class, "this class has the images")
            controls.number("index")
        return images, own_image()


def own_image():
    """The file that the visitor uploads or photographs; None if there is none."""
    where = st.segmented_control(
        "Or an image of your own, which is never stored",
        ["no", "upload", "webcam"],
        default="no",
        required=True,
        key="noise.source",
    )
    if where == "upload":
        return uploads.choose("noise.upload")
    return st.camera_input("Take a photo") if where == "webcam" else None


def more_settings(controls: Controls) -> None:
    """The widgets of the noise formula and the seed."""
    with st.expander(
        "More settings",
        icon=":material/tune:",
        expanded=controls.opens("calibration", "sensitivity", "delta", "seed"),
    ):
        first, second = st.columns(2)
        with first:
            controls.choice("calibration")
            controls.choice("sensitivity")
        with second:
            controls.number("delta")
            controls.number("seed")


def released(controls: Controls, study: Noise, images: source.Images, own) -> Result:
    """The release of the chosen image, or of the visitor's own. own: its file, or None."""
    image, label = controls.checked(lambda: study.pick(images), "image")
    if own is not None:
        image = uploads.decoded(own, OWN_SIZE, channels=3)
        st.caption(text.OWN_IMAGE)
    begun = time.perf_counter()
    result = study.release(image, label, images.classes)
    # A visitor's own image has no key and no command, because it is not kept.
    if own is not None:
        return result
    return replace(result, made=made(study, key(study), time.perf_counter() - begun))


def main() -> None:
    """Draw the page from top to bottom."""
    st.title(text.TITLE, anchor=False)
    st.markdown(text.INTRODUCTION)
    # "network" is hidden because both are trained, "images" and "labels" because arms set them
    controls = Controls(
        Noise, NoisyTraining, hidden=("images", "labels", "network"), looks=training.LOOKS
    )
    controls.complain()
    controls.dial("epsilon")
    controls.presets({"quick": "Start", "report": "As in report 1"})
    images, own = choose_image(controls)
    more_settings(controls)
    study = controls.ready()
    result = released(controls, study, images, own)
    release.draw(controls, study, result, list(images.classes), own=own is not None)
    training.draw(controls, images)


main()
