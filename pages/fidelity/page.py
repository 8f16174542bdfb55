"""Page Fidelity: train generators with and without privacy; compare quality and copying.

The widgets stand here, from top to bottom. `grid` draws the generators, `measures` their metrics,
`copies` the memorisation finder, `details` the guarantee and what is below it. Report 4 is by Faber
(see docs/fidelity.md).
"""

from functools import partial

import streamlit as st

from engine.datasets import registry
from engine.studies.fidelity import CONTROLS, GENERATORS, Fidelity
from pages.common import live
from pages.common.controls import Controls, Look
from pages.fidelity import copies, details, grid, measures, text
from pages.fidelity.runs import Runs

LOOKS = {
    "set": Look(tuple(GENERATORS) + tuple(CONTROLS.values()), ("GAN without privacy",)),
    "space": Look(tuple(copies.SPACES), ("pixels",)),
    "released": Look(tuple(details.RELEASED), ("private GAN",)),
}
PRESETS = {
    "quick": "Start",
    "few": "Only fifty images",
    "fashion": "Clothes",
    "report": "As in report 4",
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
            st.markdown("**The images**")
            of_images(controls)
        with second:
            st.markdown("**The GAN**")
            of_gan(controls)
        with third:
            st.markdown("**DP-MERF**")
            for name in ("frequencies", "length", "merf_steps"):
                controls.number(name)
            for name in ("merf_batch_size", "merf_width", "merf_learning_rate"):
                controls.number(name)


def of_images(controls: Controls) -> None:
    """The data set, and what all generators share."""
    controls.dataset()
    for name in ("size", "colour", "extractor"):
        controls.choice(name)
    controls.number("examples", "all")
    for name in ("samples", "latent", "averaging", "delta", "seed"):
        controls.number(name)


def of_gan(controls: Controls) -> None:
    """The training of generator and discriminator."""
    controls.switch("labelled")
    for name in (
        "steps",
        "discriminator_steps",
        "batch_size",
        "generator_width",
        "discriminator_width",
    ):
        controls.number(name, "default")
    for name in ("generator_learning_rate", "discriminator_learning_rate"):
        controls.number(name, "default")
    controls.number("max_grad_norm")


def draw_trained(controls: Controls, runs: Runs, learned: int) -> None:
    """Draw everything below the settings once the generators are trained.

    learned: how many images they learned from.
    """
    trained = live.finished(runs.generators)
    measured = len(live.finished(runs.sets)) == len(runs.sets)
    draw_measures = partial(measures.draw, runs)
    if not measured:  # keep the progress, and errors, next to the button
        live.follow(runs.all(), draw_measures)
    grid.draw_films(runs, trained, learned)
    grid.draw_distances(runs, {name: result.curves for name, result in trained.items()})
    if measured:
        live.follow(runs.all(), draw_measures)
        copies.draw(controls, runs)
        details.draw(controls, runs, trained)


def main() -> None:
    """Draw the page from top to bottom."""
    st.title(text.TITLE, anchor=False)
    st.markdown(text.INTRODUCTION)
    controls = Controls(Fidelity, hidden=("source", "private"), looks=LOOKS)
    controls.complain()
    controls.dial("target_epsilon")
    controls.presets(PRESETS)
    settings(controls)
    study = controls.ready()
    shown = registry.preview(study.dataset)
    controls.checked(lambda: study.check(shown))
    runs = Runs.of(study)
    live.run_button(runs.all(), unknown="")
    if live.look(runs.together, remembered=True).result is None:
        live.follow(runs.all(), partial(grid.draw_training, runs))
    else:
        draw_trained(controls, runs, study.count(shown))


main()
