"""Widgets that choose what is shown, and ask for numbers: no study depends on them."""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.core import parameters
from engine.core.study import Refused
from pages.common.controls.options import Asked, Look
from pages.common.controls.state import S
from pages.common.controls.url import Url


class Display(Url[S]):
    """One widget for each Look or Asked of the page."""

    def look(
        self, name: str, title: str, words_: dict[str, str], required: bool = False
    ) -> tuple[str, ...]:
        """Pills that select what is shown; words_ maps each option to its title.

        Returns the chosen options in the order of the pills.
        """
        look, slot = self._look(name), self.slot(name, "#")
        chosen = self.value(name)
        st.session_state[slot] = list(chosen) if look.several else next(iter(chosen), None)
        pills = (
            partial(st.pills, selection_mode="multi")
            if look.several
            else partial(st.pills, selection_mode="single", required=required)
        )
        pills(
            title,
            look.options,
            key=slot,
            format_func=words_.__getitem__,
            on_change=self._looked,
            args=(name,),
        )
        self.complain(name)
        return chosen

    def listed(self, name: str, title: str, words_: dict[str, str]) -> str:
        """A list that selects one thing to show; words_ maps the available options to titles.

        Returns the chosen option, or the default if that is no longer available.
        """
        slot, (chosen,) = self.slot(name, "#"), self.value(name)
        if chosen not in words_:
            (chosen,) = self.looks[name].default
            self.set(**{name: (chosen,)})
            self.finish()
        st.session_state[slot] = chosen
        st.selectbox(
            title,
            list(words_),
            key=slot,
            format_func=words_.__getitem__,
            on_change=self._looked,
            args=(name,),
        )
        self.complain(name)
        return chosen

    def _look(self, name: str) -> Look:
        look = self.looks[name]
        if not isinstance(look, Look):
            raise TypeError(f"{name} is a number")
        return look

    def _asked(self, name: str) -> Asked:
        asked = self.looks[name]
        if not isinstance(asked, Asked):
            raise TypeError(f"{name} is a choice")
        return asked

    def _looked(self, name: str) -> None:
        chosen = st.session_state[self.slot(name, "#")]
        chosen = chosen if isinstance(chosen, list) else [chosen]
        self.change(
            **{name: tuple(option for option in self._look(name).options if option in chosen)}
        )

    def flag(self, name: str, title: str, help: str) -> bool:
        """A toggle for a Look with the options yes and no."""
        slot = self.slot(name, "#")
        st.session_state[slot] = self.value(name) == ("yes",)
        st.toggle(title, key=slot, help=help, on_change=self._flagged, args=(name,))
        self.complain(name)
        return self.value(name) == ("yes",)

    def _flagged(self, name: str) -> None:
        self.change(**{name: ("yes" if st.session_state[self.slot(name, "#")] else "no",)})

    def asked(self, name: str, title: str, suggested: float) -> float:
        """A field for a number that the page asks for; if empty, the page's suggestion."""
        asked, slot = self._asked(name), self.slot(name, "#")
        st.session_state[slot] = shown = next(
            iter(self.value(name)), parameters.number(min(max(suggested, asked.low), asked.high))
        )
        st.text_input(title, key=slot, on_change=self._answered, args=(name,))
        self.complain(name)
        return float(shown)

    def _answered(self, name: str) -> None:
        text = st.session_state[self.slot(name, "#")]
        try:
            self.change(**{name: self.looks[name].parse(name, text) if text.strip() else ()})
        except Refused as refused:
            st.session_state[self.slot(name, "!")] = f"{refused}."
