"""Page Clustering: cluster noised images without labels.

The widgets stand here, from top to bottom. `methods` draws K-means and IIC, `budgets` the
comparison with report 1's figure 4, `details` the guarantee and what is below it. Report 1 is
Green, Hodson, Hanoian 2020.
"""

from functools import partial

import streamlit as st

from engine.datasets import registry
from engine.studies.clustering import IIC, KMeansLabels
from pages.clustering import budgets, details, methods, text
from pages.common import live
from pages.common.controls import Controls, Look

METHODS = ("K-means", "IIC")
PRESETS = {"quick": "Start", "raw": "Without noise", "report": "As in report 1"}


def settings(controls: Controls) -> None:
    """The widgets behind "More settings": the images, K-means, IIC."""
    with st.expander(
        "More settings",
        icon=":material/tune:",
        expanded=controls.opens(*controls.specs, also=controls.lacks_data()),
    ):
        first, second, third = st.columns(3)
        with first:
            controls.dataset()
            for name in ("images", "calibration", "sensitivity", "normalisation", "releases"):
                controls.choice(name)
        with second:
            st.markdown("**Both**")
            for name in ("clusters", "delta", "seed"):
                controls.number(name)
            st.markdown("**K-means**")
            controls.number("starts")
        with third:
            st.markdown("**IIC**")
            for name in ("network", "heads"):
                controls.choice(name)
            for name in ("epochs", "batch_size", "learning_rate"):
                controls.number(name)
            for name in ("sub_heads", "over_clusters", "views", "entropy_weight"):
                controls.number(name)


def draw(iic: IIC, views: dict[str, live.View]) -> None:
    """Draw everything below the settings from the current state."""
    live.progress(views)
    methods.draw(iic, views)
    beside = {name: view for name, view in views.items() if name not in METHODS}
    if beside:
        budgets.draw(iic, beside)
    details.draw(iic, views)


def main() -> None:
    """Draw the page from top to bottom."""
    st.title(text.TITLE, anchor=False)
    st.markdown(text.INTRODUCTION)
    controls = Controls(IIC, KMeansLabels, looks={"closer": Look(("budgets",))})
    controls.complain()
    if controls.value("images") == "noised":
        controls.dial("epsilon")
    else:
        st.info(text.NOT_NOISED, icon=":material/visibility:")
    controls.presets(PRESETS)
    settings(controls)
    kmeans, iic = controls.ready_as(KMeansLabels), controls.ready()
    studies: dict[str, IIC | KMeansLabels] = {"K-means": kmeans, "IIC": iic}
    shown = registry.preview(controls.value("dataset"))

    def check() -> None:
        for study in studies.values():
            study.check(shown)

    controls.checked(check)
    live.run_button(studies)
    closer = controls.look("closer", "More experiments", {"budgets": budgets.TITLE})
    beside = budgets.studies(iic) if closer else {}
    if beside:
        live.run_button(beside, "Run these too")
    live.follow(studies | beside, partial(draw, iic))


main()
