"""The dial of one parameter: a large slider on a log scale with a field for the exact value."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from engine.core.parameters import Spec
from pages.common.controls.fields import Fields
from pages.common.controls.state import S

STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # marks per decade on a log slider
SETS = {"budget": "the privacy budget ε", "noise": "the noise multiplier σ"}


class Dial(Fields[S]):
    """The large sliders of a page."""

    def dial(self, name: str) -> None:
        """The large main slider of the page, with labelled ends and an exact number field."""
        wide, narrow = st.columns([6, 1], vertical_alignment="bottom")
        with wide:
            self._slider(self.specs[name])
        with narrow:
            self._text(self.specs[name], "Exact value", needed=True)
        self.complain(name)

    def _slider(self, spec: Spec) -> None:
        marks, slider = grid(spec), self.slot(spec.name, "~")
        # Do not set a slider that triggered this run: during a fast drag it has already moved on.
        if self.moved != spec.name:
            st.session_state[slider] = nearest(marks, self.value(spec.name))
        st.select_slider(
            spec.title,
            marks,
            key=slider,
            format_func=lambda v: f"{100 * v:,g} %" if spec.unit == "fraction" else f"{v:,g}",
            help=spec.help,
            on_change=self._moved,
            args=(spec.name,),
        )
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            st.caption(f"◀ {spec.ends[0]}", width="content")
            st.caption(f"{spec.ends[1]} ▶", width="content")

    def _moved(self, name: str) -> None:
        st.session_state[f"{self.study.NAME}?moved"] = name
        self.change(**{name: st.session_state[self.slot(name, "~")]})

    # --- the budget or the noise: one follows from the other --------------------------------------

    def sets_budget(self) -> bool:
        """Whether the visitor chooses ε, so that σ follows from it, and not the other way round."""
        return self.value("target_epsilon") is not None

    def privacy_dial(self) -> None:
        """The dial of the privacy budget or of the noise multiplier, whichever is chosen."""
        self.dial("target_epsilon" if self.sets_budget() else "noise_multiplier")

    def budget_or_noise(self, options: tuple[str, str], epsilon: float, noise: float) -> None:
        """The switch between the two dials. epsilon, noise: where each dial starts."""
        slot = f"{self.study.NAME}.by"
        st.session_state[slot] = "budget" if self.sets_budget() else "noise"
        st.segmented_control(
            "The dial sets",
            options,
            key=slot,
            on_change=self._switch,
            args=(slot, epsilon, noise),
            required=True,
            format_func=SETS.__getitem__,
        )

    def _switch(self, slot: str, epsilon: float, noise: float) -> None:
        budget = st.session_state[slot] == "budget"
        self.change(
            target_epsilon=epsilon if budget else None, noise_multiplier=None if budget else noise
        )


def grid(spec: Spec) -> list[float]:
    """Marks of a log slider: ten per decade, plus the ends and the default."""
    least, most = span(spec)
    # 0 cannot be on a log scale, so it comes before the first mark.
    low = least or 0.01
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(most)) + 1)
    marks = {round(m * 10.0**d, 12) for d in decades for m in STEPS if m * 10.0**d >= low}
    marks |= {least, most, spec.default if spec.default is not None else least}
    return sorted(float(m) for m in marks if least <= m <= most)


def span(spec: Spec) -> tuple[float, float]:
    """The range of a number; only a parameter with both ends can have a dial."""
    if spec.low is None or spec.high is None:
        raise TypeError(f"{spec.name} has no range")
    return spec.low, spec.high


def nearest(marks: list[float], value: float | None) -> float:
    """The mark closest to a value, on the log scale."""
    if value is None or not math.isfinite(value) or value <= 0:
        return marks[0]
    distance = np.abs(np.log(np.maximum(marks, 1e-12)) - math.log(value))
    return marks[int(distance.argmin())]
