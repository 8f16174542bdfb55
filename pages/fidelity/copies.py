"""The memorisation finder on page Fidelity: images beside their nearest neighbours."""

from __future__ import annotations

import streamlit as st

from pages.common import live, panels
from pages.common.controls import Controls
from pages.fidelity import charts, text
from pages.fidelity.runs import Runs

SPACES = {"pixels": "pixels", "features": "network features"}


def draw(controls: Controls, runs: Runs) -> None:
    """Draw generated images beside their nearest training and held-out images.

    Those most like copies come first.
    """
    st.subheader("The memorisation finder", anchor=False)
    (name,) = controls.look("set", "Set of images", {n: n for n in runs.sets}, required=True)
    (space,) = controls.look("space", "Nearest by", SPACES, required=True)
    result = live.finished({name: runs.sets[name]})[name]
    left, right = st.columns([1, 1.2])
    with left:
        st.image(
            result.images[f"nearest_{space}"],
            width="stretch",
            alt=(
                "Triples: an image of the set, the nearest training image, the nearest held-out"
                " image"
            ),
        )
        st.caption(text.TRIPLES)
    with right:
        panels.chart(
            charts.ratios(
                result.arrays[f"ratios_{space}"],
                result.arrays[f"yardstick_{space}"],
                result.metrics[f"threshold_{space}"],
                name,
            ),
            key="ratios",
            alt="How often each distance ratio occurs, in this set and among held-out images",
        )
        st.caption(text.RATIOS)
        st.expander("Details").markdown(text.MEMORISED)
