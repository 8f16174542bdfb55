"""Draw studies now and, while one of them runs, again at every tick.

One top-level fragment ticks; when all have ended, one rerun of the page ends the ticking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from engine.datasets import source
from pages.common import sentences
from pages.common.live.progress import FEW
from pages.common.live.view import S, View, look

TICK = 0.7  # seconds between two polls of a running study
Draw = Callable[[dict[str, View[S]]], None]


def follow(studies: Mapping[str, S], draw: Draw[S]) -> None:
    """Draw the studies now and, while one of them runs, again at every tick."""
    views = _look_all(studies)
    if any(view.active for view in views.values()):
        st.fragment(_tick, run_every=TICK)(studies, draw)
    else:
        draw(views)


def _tick(studies: Mapping[str, S], draw: Draw[S]) -> None:
    try:
        views = _look_all(studies)
    # The image files were deleted or changed during the run.
    except source.Missing as missing:
        st.error(sentences.notice(str(missing)), icon=":material/folder_off:")
        return
    draw(views)
    if not any(view.active for view in views.values()):
        st.rerun()


def _look_all(studies: Mapping[str, S]) -> dict[str, View[S]]:
    return {who: look(study, remembered=len(studies) > FEW) for who, study in studies.items()}
