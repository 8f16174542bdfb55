"""Networks that learn from noised images on page Noise: settings, runs, curves, guarantee."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.datasets import source
from engine.studies.noise import ARMS, NoisyTraining
from pages.common import live, panels, sentences
from pages.common.controls import Controls, Look
from pages.noise import charts, series, text

NETWORKS = {
    "shallow": "The shallow network (two convolutions)",
    "deep": "The deep network (four convolutions)",
}
ARM_WORDS = {arm: charts.arm_name(arm) + (", true labels" if arm == "raw" else "") for arm in ARMS}
LOOKS = {
    "arms": Look(tuple(ARMS), ("raw", "true labels", "K-means labels"), several=True),
    "closer": Look(tuple(series.TITLES)),
    "walked": Look(tuple(ARMS)[2:], ("K-means labels",)),
}
SETTINGS = (
    ("epochs", "batch_size"),
    ("learning_rate", "width"),
    ("division", "normalisation", "label_noise", "matching"),
)


def draw(controls: Controls, images: source.Images) -> None:
    """Draw the choice of trainings, their buttons, and everything below them."""
    st.header("Can a network still learn from such images?", anchor=False)
    st.markdown(text.TRAINING)
    chosen = controls.look("arms", "Images and labels to learn from", ARM_WORDS)
    settings(controls)
    base = controls.ready_as(NoisyTraining)

    def check() -> None:
        for arm in chosen:
            base.arm(arm).check(images)

    controls.checked(check)
    if not chosen:
        st.info("Choose at least one kind of images and labels above.", icon=":material/touch_app:")
    arms = {
        f"{arm}, {network}": base.arm(arm, network=network)
        for arm in chosen
        for network in NETWORKS
    }
    live.run_button(arms, "Train")
    closer = series.choose(controls, base, ARM_WORDS)
    extra = {} if closer is None else closer.studies
    if extra:
        live.run_button(extra, "Run these too")
    live.follow(arms | extra, partial(draw_views, base, tuple(arms), closer, images))


def settings(controls: Controls) -> None:
    """The widgets of the training and of report 1's errors."""
    with st.expander(
        "Training settings, and the errors of report 1",
        icon=":material/tune:",
        expanded=controls.opens(*(name for names in SETTINGS for name in names)),
    ):
        *numbers, last = st.columns(3)
        for column, names in zip(numbers, SETTINGS):
            with column:
                for name in names:
                    controls.number(name)
        with last:
            for name in SETTINGS[-1]:
                controls.choice(name)


def draw_views(
    base: NoisyTraining,
    arms: tuple[str, ...],
    closer: series.Series | None,
    images: source.Images,
    views: dict[str, live.View],
) -> None:
    """Draw everything below the settings from the current state."""
    live.progress(views)
    main = {who: views[who] for who in arms}
    draw_arms(base, main)
    if closer is not None:
        closer.draw(base, images, views)
    draw_guarantee(main)


def draw_arms(base: NoisyTraining, views: dict[str, live.View]) -> None:
    """Draw both networks side by side: figure 2 of report 1."""
    for (network, title), column in zip(NETWORKS.items(), st.columns(2)):
        found = {
            who.removesuffix(f", {network}"): view
            for who, view in views.items()
            if who.endswith(f", {network}")
        }
        with column:
            st.markdown(f"**{title}**")
            panels.chart(
                charts.arms(
                    {arm: view.curves for arm, view in found.items()}, base.epochs, base.chance()
                ),
                key=f"arms {network}",
                alt=(
                    f"Accuracy of {title.lower()} over epochs, for each kind of images and labels"
                ),
            )
            ends = [last(arm, view, base.epochs) for arm, view in found.items()]
            st.caption(
                " · ".join(filter(None, ends))
                or "The test accuracy of each kind of images and labels will appear here."
            )
    st.caption("Solid: test images treated like the training images. Dotted: the same images raw.")


def last(arm: str, view: live.View, epochs: int) -> str:
    """An arm's accuracy so far in words; empty before its first epoch."""
    if not view.curves.get("test_accuracy"):
        return ""
    at, value = view.curves["test_accuracy"][-1]
    so_far = f" (epoch {at:.0f} of {epochs})" if at < epochs else ""
    balanced = sentences.balanced(view.result.metrics) if view.result else ""
    return f"{arm}: {100 * value:.1f} %{so_far}{balanced}"


def draw_guarantee(views: dict[str, live.View]) -> None:
    """Draw the guarantee of one finished training, and how it was made."""
    done = {who: view.result for who, view in views.items() if view.result is not None}
    if not done:
        return
    noised = next((who for who in done if not who.startswith("raw")), next(iter(done)))
    who = st.selectbox(
        "Show guarantee for",
        list(done),
        index=list(done).index(noised),
        # another widget once the first noised arm has finished: a widget keeps its first value
        key=f"noise.promise {noised}",
        help="Each kind of images and labels has its own guarantee.",
    )
    panels.warnings(done)
    panels.guarantee(done[who].guarantee)
    panels.made(views[who].study, done[who])
