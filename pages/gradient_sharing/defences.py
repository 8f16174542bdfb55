"""The same image under each of the usual defences."""

from __future__ import annotations

from collections.abc import Collection

import streamlit as st

from engine.studies.gradient_sharing import Inversion
from pages.common import live, panels
from pages.common.controls import Controls
from pages.gradient_sharing import text

COMPARE = {"defences": "Common defences, side by side"}


def show(controls: Controls, attack: Inversion, said: Collection[str]) -> None:
    """Offer the comparison, and draw it if it is wanted. said: warnings shown already."""
    if controls.look("compare", "Compare", COMPARE):
        studies = attack.defences()
        live.run_button(studies, "Reconstruct all", unknown="")
        live.follow(studies, lambda views: draw(views, said))


def draw(views: dict[str, live.View], said: Collection[str]) -> None:
    """Draw the reconstructions."""
    live.progress(views, "stop-defences")
    panels.warnings({name: view.result for name, view in views.items() if view.result}, said=said)
    names = list(views)
    for row in (names[:4], names[4:]):
        for column, name in zip(st.columns(4), row):
            with column:
                draw_one(name, views[name])
    st.caption(
        "*Clipped*: clipped to norm 0.1, which leaves the direction unchanged. *Noise 0.01*: σ for"
        " a clip norm of 1, with the ε that it guarantees."
    )
    with st.expander("Details"):
        st.markdown(
            "An image that you cannot recognise may still be told apart from another one by an"
            " attacker. That is what ε limits."
        )


def draw_one(name: str, view: live.View) -> None:
    """Draw one reconstruction and its numbers."""
    if "rebuilt" in view.images:
        st.image(
            view.images["rebuilt"],
            width="stretch",
            alt=f"The image reconstructed from an upload: {name}",
        )
    found = view.result
    st.caption(f"**{name}**{text.defended(found.metrics, found.guarantee) if found else ''}")
