"""Widgets of single parameters: text fields, choices, switches and classes.

Text fields accept 1e-5 as written and show our own messages, unlike Streamlit's number field.
"""

from __future__ import annotations

from functools import partial

import streamlit as st

from engine.core.parameters import Spec
from engine.core.study import parse
from pages.common.controls.state import S
from pages.common.controls.url import Url

MOST_LETTERS = 38  # total length of choices that fit side by side in a third of the page


class Fields(Url[S]):
    """One widget for each parameter, at the current value, with its help and its message."""

    def number(self, name: str, placeholder: str = "") -> None:
        """A field for an exact number; if empty, the placeholder shows the value used instead."""
        spec = self.specs[name]
        self._text(spec, f"{spec.title} ({spec.unit})" if spec.unit else spec.title, placeholder)
        self.complain(name)

    def _text(self, spec: Spec, label: str, placeholder: str = "", needed: bool = False) -> None:
        """A text field for a number or text."""
        slot, value = self.slot(spec.name, "#"), self.value(spec.name)
        st.session_state[slot] = "" if value is None else spec.format(value)
        allowed = "" if spec.kind == "text" else f" Allowed: {spec.allowed}."
        st.text_input(
            label,
            key=slot,
            help=f"{spec.help}{allowed}",
            on_change=self._typed,
            args=(spec.name, needed),
            placeholder=placeholder or None,
        )

    def _typed(self, name: str, needed: bool) -> None:
        """Take a typed text. needed: an emptied field goes back to its last value."""
        text = st.session_state[self.slot(name, "#")]
        if self._echo():
            return
        self._forget_messages()
        if needed and not text.strip():
            return
        if self._allows(name, text):
            self.change(**{name: parse(self.specs[name], text)})

    def choice(self, name: str, beside: bool = False) -> None:
        """One of a few choices, as a segmented control or a list.

        A segmented control is used for up to three short choices or if there is room for all
        `beside` each other.
        """
        spec = self.specs[name]
        short = beside or (len(spec.choices) <= 3 and sum(map(len, spec.labels)) <= MOST_LETTERS)
        widget = partial(st.segmented_control, required=True) if short else st.selectbox
        st.session_state[self.slot(name, "#")] = self.value(name)
        widget(
            spec.title,
            spec.choices,
            key=self.slot(name, "#"),
            format_func=spec.label,
            help=spec.help,
            on_change=self._picked,
            args=(name,),
        )
        self.complain(name)

    def switch(self, name: str) -> None:
        """A toggle."""
        spec = self.specs[name]
        st.session_state[self.slot(name, "#")] = self.value(name)
        st.toggle(
            spec.title,
            key=self.slot(name, "#"),
            help=spec.help,
            on_change=self._picked,
            args=(name,),
        )
        self.complain(name)

    def category(self, name: str, classes: tuple[str, ...]) -> None:
        """Select a class of the data set by its name."""
        self.below(name, len(classes), "these images have the classes")
        st.session_state[self.slot(name, "#")] = self.value(name)
        st.selectbox(
            self.specs[name].title,
            range(len(classes)),
            key=self.slot(name, "#"),
            format_func=lambda i: classes[i],
            on_change=self._picked,
            args=(name,),
        )
        self.complain(name)

    def below(self, name: str, count: int, words_: str) -> None:
        """Replace a value that is too large for the data set, and say so.

        The replacement is the default or the last one available.
        """
        value = self.value(name)
        if not 0 < count <= value:  # with no items at all, the study reports it
            return
        instead = min(self.specs[name].default, count - 1)
        # nobody has typed the default, so it is not refused
        nobody = value == self.specs[name].default
        wrong = ", the usual value, does not fit" if nobody else " is not allowed"
        st.session_state[self.slot(name, "!")] = (
            f"{name}: {value}{wrong}; {words_} 0 to {count - 1}. Using {instead} instead."
        )
        self.set(**{name: instead})
        self._mark_url_as_read()
        # The container of this widget was drawn closed, before the error was known.
        st.rerun()
