"""What is guaranteed on page Fidelity, and the tabs of details below it."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.core.lab import settings_of
from engine.core.study import Result, Study
from pages.common import live, panels
from pages.common.controls import Controls
from pages.fidelity import background, measures
from pages.fidelity.runs import Runs

RELEASED = {
    "private GAN": "the private GAN",
    "private DP-MERF": "DP-MERF",
    "both": "both private ones",
    "GAN without privacy": "the GAN without privacy",
}


def draw(controls: Controls, runs: Runs, trained: dict[str, Result]) -> None:
    """Draw the guarantee, the details, and how the results were made."""
    published = trained | live.finished({"both": runs.together})
    (released,) = controls.look(
        "released", "Show guarantee for publishing the images of", RELEASED, required=True
    )
    promise = published[released].guarantee
    panels.odds(
        promise,
        "An attacker wants to know whether your image was among those that the generator learned"
        " from, or its place was left blank.",
        "Without looking at the generated images",
        "With the generator in hand",
    )
    panels.guarantee(promise)
    panels.deeper(
        {
            "Where MiFID misleads": lambda: st.markdown(background.MIFID),
            "Report 4": partial(measures.draw_report, runs),
            "Formulas": lambda: st.markdown(background.FORMULAS),
        }
    )
    draw_made(runs, trained)


def draw_made(runs: Runs, trained: dict[str, Result]) -> None:
    """Draw how the results were made, and offer all of them as a download."""
    measured = live.finished(runs.sets)
    more: dict[str, tuple[Study, Result]] = {
        name: (runs.sets[name], result) for name, result in measured.items()
    }
    first = more.pop("private GAN")
    more |= {
        f"training: {name}": (runs.generators[name], result) for name, result in trained.items()
    }
    changed = settings_of(runs.study, without=("source", "private"))
    panels.made(*first, more=more, series=f"python -m engine series fidelity table{changed}")
