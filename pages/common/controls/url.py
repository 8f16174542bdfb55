"""The address of the page: read once into the session, and written back.

Values that differ from the defaults stand in the URL, so that every view has a link.
"""

from __future__ import annotations

import streamlit as st

from engine.core import parameters
from engine.core.study import Refused, Study, build
from pages.common import sentences
from pages.common.controls.state import PRESET, S, State

MOST_NAMES = 5  # maximum number of unknown URL parameters that are listed by name


class Url(State[S]):
    """State that is also in the URL."""

    def _restore(self) -> None:
        """Set values from the URL if it is new, else from the session, else from the defaults."""
        texts, memory = st.query_params.to_dict(), f"{self.study.NAME}?url"
        # after a widget was used, the URL is still the old one
        acted = st.session_state.pop(f"{self.study.NAME}?acted", False)
        stayed = st.session_state.get("veil?page") == self.study.NAME
        st.session_state["veil?page"] = self.study.NAME
        if memory not in st.session_state or (
            texts != st.session_state[memory] and not acted and (texts or stayed)
        ):
            # A new visitor, or the browser's Back button.
            self._read(texts)
        for name, what in (self.specs | self.looks).items():
            st.session_state.setdefault(self.slot(name), what.default)

    def _read(self, texts: dict[str, str]) -> None:
        """Take the valid values of a URL; set messages for the others."""
        self.set(**{name: what.default for name, what in (self.specs | self.looks).items()})
        self._forget_messages()
        for name in set(self.looks) & set(texts):
            self._read_look(name, texts.pop(name))
        texts = {self._known_as(name): text for name, text in texts.items()}
        known = {name: text for name, text in texts.items() if name in self.specs}
        self._say_unknown({name: text for name, text in texts.items() if name not in known})
        allowed = {name: text for name, text in known.items() if self._allows(name, text)}
        for each in reversed(self.studies):
            mine = parameters.specs(each)
            self._read_fields(each, {n: t for n, t in allowed.items() if n in mine})

    def _known_as(self, name: str) -> str:
        """The present name of a parameter in the URL, which may be an earlier name or a path."""
        found = (parameters.known_as(each, name) for each in self.studies)
        return next((now for now in found if now in self.specs), name)

    def _read_fields(self, study: type[Study], texts: dict[str, str]) -> None:
        """Take the values of one study's fields, together with those that follow from them."""
        try:
            built = build(study, texts)
        except Refused as refused:
            st.session_state[self.slot("", "!")] = f"{refused}. Using the defaults instead."
            return
        # a noise multiplier clears the default budget
        follow = [name for name in built.EXCLUSIVE if name not in texts]
        values = built.values()
        self.set(**{name: values[name] for name in [*texts, *follow]})

    def _read_look(self, name: str, text: str) -> None:
        try:
            self.set(**{name: self.looks[name].parse(name, text)})
        except Refused as refused:
            st.session_state[self.slot(name, "!")] = f"{refused}. Using the default instead."

    def _say_unknown(self, texts: dict[str, str]) -> None:
        """Report unknown parameters of a URL; a preset is reported where the presets are."""
        if PRESET in texts:
            message = (
                f"preset: {texts[PRESET][:40]} is not taken from an address; choose one here: the"
                " address then names its settings."
            )
            st.session_state[self.slot(PRESET, "!")] = message
        names = [name[:40] for name in texts if name != PRESET]
        if names:
            st.session_state[self.slot("", "!")] = " ".join(
                f"{self.study.NAME} has no parameter {name} on this page."
                for name in names[:MOST_NAMES]
            )

    def finish(self) -> None:
        """Write the values that differ from the defaults into the URL."""
        now = {
            n: s.format(self.value(n)) for n, s in self.specs.items() if self.value(n) != s.default
        }
        now |= {
            n: look.text(self.value(n))
            for n, look in self.looks.items()
            if self.value(n) != look.default
        }
        st.session_state[f"{self.study.NAME}?url"] = now
        if st.query_params.to_dict() != now:
            st.query_params.from_dict(now)


def unread() -> None:
    """On a page without settings, say that URL parameters are ignored."""
    if names := list(st.query_params.to_dict()):
        shown = ", ".join(name[:40] for name in names[:MOST_NAMES])
        st.warning(
            sentences.plain(
                f"This page has no settings: {shown} in its address "
                f"{'is' if len(names) == 1 else 'are'} not used."
            ),
            icon=":material/edit:",
        )
