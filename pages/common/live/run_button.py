"""The button that runs studies, and how long that will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import streamlit as st

from engine.core.lab import expected_seconds
from engine.core.study import Study
from pages.common import sentences
from pages.common.live.services import services
from pages.common.live.view import look

TOO_LONG = 1800.0  # seconds that nobody would wait for in front of a page
QUICK = "The first preset takes less than a minute on two processor cores."


def run_button(studies: Mapping[str, Study], label: str = "Run", unknown: str = QUICK) -> None:
    """A button that runs what has no result yet, with the expected time beside it.

    unknown: shown instead if this machine has not run anything of the kind.
    """
    open_ = {
        who: s for who, s in studies.items() if look(s).state in ("empty", "failed", "cancelled")
    }
    if not open_:
        if all(look(s, remembered=True).state == "done" for s in studies.values()):
            st.caption("Saved result. Change a setting to run again.")
        return
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.button(
        label,
        type="primary",
        icon=":material/play_arrow:",
        on_click=_submit,
        args=(open_,),
        width="stretch",
    )
    right.markdown(estimate(list(open_.values()), unknown))


def _submit(studies: Mapping[str, Study]) -> None:
    for study in studies.values():
        services().runner.submit(study)


def estimate(studies: list[Study], unknown: str = QUICK) -> str:
    """How long the studies will take on this machine, or that this is not known yet."""
    known = [expected_seconds(services().store, s) for s in studies]
    measured = _total(known)
    if measured is not None:
        return f"Takes {sentences.seconds(measured)}, judging by the last run on this machine."
    guessed = _total(
        study.typical() if seconds is None else seconds for study, seconds in zip(studies, known)
    )
    if guessed is None:
        return f"The first run shows how long it takes on this machine. {unknown}"
    far = (
        " **This needs a graphics card**; a smaller preset shows the same."
        if guessed > TOO_LONG
        else ""
    )
    return (
        "Not run on this machine yet. It takes"
        f" {sentences.seconds(guessed)} on two processor cores.{far}"
    )


def _total(seconds: Iterable[float | None]) -> float | None:
    """The sum; None if one of them is not known."""
    known = list(seconds)
    return None if None in known else sum(filter(None, known))
