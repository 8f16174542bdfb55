"""The series of trainings on page Noise: the walk of errors, depth and noise, surviving images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st

from engine.core import rounding
from engine.datasets import imaging, source
from engine.studies.noise import BUDGETS, DEPTHS, WIDTHS, NoisyTraining, least_budgets
from pages.common import live, panels
from pages.common.controls import Controls
from pages.noise import series_charts, text

TITLES = {
    "walk": "Cost of privacy, cost of errors",
    "sweep": "Does depth amplify noise?",
    "survival": "Which images survive?",
}
# Report 1's results, read off its figure 2; it trained no network on IIC's labels.
AS_PUBLISHED = {"randomised": (0.10, 0.11), "kmeans": (0.15, 0.16)}
A_ROW = 4  # surviving images of each class that are shown


@dataclass(frozen=True)
class Series:
    """The chosen series: its name, the arm whose errors are walked through, its trainings."""

    name: str  # one of TITLES
    arm: str
    studies: dict[str, NoisyTraining]  # "NAME: words" → training

    def draw(self, base: NoisyTraining, images: source.Images, views: dict[str, live.View]) -> None:
        """Draw the series from the current state of its trainings."""
        st.subheader(TITLES[self.name], anchor=False)
        mine = {who.removeprefix(f"{self.name}: "): views[who] for who in self.studies}
        if self.name == "walk":
            draw_walk(base.arm(self.arm), mine)
        elif self.name == "sweep":
            draw_sweep(mine)
        else:
            draw_survival(images, mine)
        st.caption(text.SEVERAL_RELEASES)


def choose(controls: Controls, base: NoisyTraining, arms: dict[str, str]) -> Series | None:
    """Let the visitor choose a series. arms: arm → its words."""
    name = next(iter(controls.look("closer", "More experiments", TITLES)), None)
    if name is None:
        return None
    arm = "K-means labels"
    if name == "walk":
        (arm,) = controls.look("walked", "Images and labels", arms, required=True)
    trainings = getattr(base.arm(arm), name)()
    return Series(name, arm, {f"{name}: {words}": study for words, study in trainings.items()})


def draw_walk(arm: NoisyTraining, views: dict[str, live.View]) -> None:
    """Draw how much accuracy privacy cost and how much the errors cost."""
    found = {name: (kind, accuracy(views[name])) for name, kind in arm.kinds().items()}
    published = AS_PUBLISHED.get(arm.labels)
    panels.chart(
        series_charts.walk(found, published, arm.chance()),
        key="walk",
        alt=(
            "Bars from the accuracy on raw images to the published one: what privacy costs, then"
            " what each error does"
        ),
    )
    st.caption(text.walk(published))
    with st.expander("Details"):
        st.markdown(text.WALK_DETAILS)
        if arm.labels == "iic":
            st.markdown(text.WALK_DETAILS_IIC)


def accuracy(view: live.View) -> float | None:
    """The accuracy on test images; None before the end."""
    return view.result.metrics["test_accuracy"] if view.result else None


def draw_sweep(views: dict[str, live.View]) -> None:
    """Draw accuracy over ε, depth and width; the chart fills while it runs."""
    cells = {
        (view.study.epsilon, view.study.network, view.study.width): accuracy(view)
        for view in views.values()
    }
    panels.chart(
        series_charts.heat(cells, BUDGETS, DEPTHS, WIDTHS),
        key="sweep",
        alt="Heat maps of accuracy over the budget and the width, one for each depth",
    )
    st.caption(text.SWEEP)
    st.expander("Details").markdown(text.SWEEP_DETAILS)


def draw_survival(images: source.Images, views: dict[str, live.View]) -> None:
    """Draw, per class, the smallest budget at which test images are classified correctly."""
    answers = {
        view.study.epsilon: view.result.arrays["predictions_noised"]
        for view in views.values()
        if view.result
    }
    if len(answers) < len(views):
        st.caption(
            f"{len(answers)} of {len(views)} budgets have been trained. The images appear when all"
            " have."
        )
        return
    levels = levels_of(least_budgets(answers, images.test_labels), sorted(answers))
    shares = {
        c: {name: float(chosen[mine].mean()) for name, chosen in levels.items()}
        for i, c in enumerate(images.classes)
        if (mine := images.test_labels == i).any()
    }
    hardest = dict(sorted(shares.items(), key=lambda item: item[1][next(iter(levels))]))
    panels.chart(
        series_charts.survival(hardest),
        key="survival",
        alt=(
            "For each class, how many of its test images are classified correctly from which"
            " budget on"
        ),
    )
    for column, (name, chosen) in zip(st.columns(len(levels)), levels.items()):
        column.image(
            survivors(images, chosen),
            caption=f"{name}: {100 * float(chosen.mean()):.1f} %",
            width="stretch",
            alt=f"Test images that are classified correctly {name}, a row for each class",
        )
    st.caption(text.survival(sorted(answers)))
    st.expander("Details").markdown(text.survival_details(sorted(answers)))


def levels_of(least: np.ndarray, budgets: list[float]) -> dict[str, np.ndarray]:
    """Words → which test images, (n,) bool. least: the smallest budget of each image, (n,)."""
    return {f"from ε = {rounding.chosen(e)}": least == e for e in budgets} | {
        "off and on": np.isnan(least),
        "never": np.isposinf(least),
    }


def survivors(images: source.Images, chosen: np.ndarray) -> bytes:
    """PNG of a few chosen test images, a row for each of the first ten classes."""
    empty = np.full((A_ROW, *images.test_images.shape[1:]), 60, np.uint8)
    tiles = []
    for i in range(min(10, len(images.classes))):
        rows = np.flatnonzero(chosen & (images.test_labels == i))[:A_ROW]
        tiles += [images.test_images[rows], empty[len(rows) :]]
    return imaging.png(imaging.gallery(np.concatenate(tiles), columns=A_ROW))
