"""Presets: one row of pills, each of which changes every field at once."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.datasets import registry
from pages.common.controls.datasets import DOWNLOAD
from pages.common.controls.state import PRESET, S
from pages.common.controls.url import Url


class Presets(Url[S]):
    """The presets of the page's studies."""

    def presets(self, names: dict[str, str]) -> None:
        """One row of pills; names maps a preset to its title.

        A preset changes every field at once.
        """
        slot = f"{self.study.NAME}?preset"
        st.session_state[slot] = next((n for n in names if self._is_at(n)), None)
        here = _present()
        lacks = {n: DOWNLOAD for n in names if self.study.preset(n).dataset not in here}
        st.pills(
            "Presets",
            list(names),
            key=slot,
            format_func=lambda n: names[n] + lacks.get(n, ""),
            on_change=self._apply,
            args=(slot,),
        )
        self.complain(PRESET)

    def opening(self, preset: str) -> None:
        """Start a first visit without URL parameters at this preset if its data set is present."""
        slot = f"{self.study.NAME}?opened"
        first = slot not in st.session_state and not st.query_params
        if first and self.study.preset(preset).dataset in _present():
            self.set(**self._at(preset))
        st.session_state[slot] = True

    def _apply(self, slot: str) -> None:
        chosen = st.session_state[slot]
        if chosen and not self._echo():
            self.change(**self._at(chosen))

    def _at(self, preset: str) -> dict[str, Any]:
        """All values of a preset; a field that studies share has the value of the first."""
        values: dict[str, Any] = {}
        for each in reversed(self.studies):
            found = each.preset(preset if preset in each.PRESETS else "quick").values()
            values |= {n: found[n] for n in self.specs if n in found and n not in self.aside}
        return values

    def _is_at(self, preset: str) -> bool:
        return all(self.value(name) == value for name, value in self._at(preset).items())


def _present() -> set[str]:
    """The names of the data sets on this machine."""
    return {found.name for found in registry.available() if found.present}
