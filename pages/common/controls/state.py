"""Values and messages in the visitor's session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import streamlit as st

from engine.core import parameters
from engine.core.study import Refused, build
from engine.studies.image_study import ImageStudy
from pages.common import sentences
from pages.common.controls.options import Asked, Look

PRESET = "preset"  # a URL parameter that is only answered with a message where the presets are

S = TypeVar("S", bound=ImageStudy)  # the page's first study


class State(Generic[S]):
    """The value of each field, kept in the session under "STUDY.field"."""

    def __init__(
        self,
        study: type[S],
        *more: type[ImageStudy],
        hidden: tuple[str, ...] = (),
        looks: Mapping[str, Look | Asked] | None = None,
        aside: tuple[str, ...] = (),
    ):
        self.looks, self.aside = dict(looks or {}), aside  # aside: fields that no preset changes
        self.study = study
        self.studies: tuple[type[ImageStudy], ...] = (study, *more)
        specs = {
            name: spec
            for each in reversed(self.studies)
            for name, spec in parameters.specs(each).items()
        }
        self.specs = {name: spec for name, spec in specs.items() if name not in hidden}
        self.missing = False  # whether the chosen data set is missing on this machine
        # data sets whose notes have been shown, and sentences that have been shown
        self.shown_notes: set[str] = set()
        # the field whose slider triggered this run
        self.moved = st.session_state.pop(f"{study.NAME}?moved", None)
        self._restore()

    def _restore(self) -> None:
        """Set all values, which differs with where they are kept besides the session."""
        raise NotImplementedError

    def slot(self, name: str, mark: str = "") -> str:
        """Session key of a field: '' value, '#' widget, '~' slider, '!' error message.

        The value is never kept under a widget's own key, because Streamlit drops that when the
        visitor goes to another page.
        """
        return f"{self.study.NAME}.{name}{mark}"

    def value(self, name: str) -> Any:
        """The current value of a field in the session."""
        return st.session_state.get(self.slot(name), (self.specs | self.looks)[name].default)

    def set(self, **values: Any) -> None:
        """Change fields from code or from a callback."""
        for name, value in values.items():
            st.session_state[self.slot(name)] = value

    def change(self, **values: Any) -> None:
        """Change fields on behalf of the visitor; clears messages about them and about the URL."""
        self._mark_url_as_read()
        self.set(**values)
        st.session_state[f"{self.study.NAME}?acted"] = True
        self._forget_messages()

    def _mark_url_as_read(self) -> None:
        """Keep the present URL from being read again: it is older than what changes now."""
        st.session_state[f"{self.study.NAME}?url"] = st.query_params.to_dict()

    def _echo(self) -> bool:
        """Whether a widget's value may be outdated.

        During a fast drag, the next event comes before the widget has heard of the last one.
        """
        return f"{self.study.NAME}?moved" in st.session_state

    def _picked(self, name: str) -> None:
        """Take the value of a widget that allows valid values only."""
        self.change(**{name: st.session_state[self.slot(name, "#")]})

    # --- messages ---------------------------------------------------------------------------------

    def _allows(self, name: str, text: str) -> bool:
        """Whether this text is a valid value of this field; if not, set its message.

        (How it combines with other fields is checked by `checked`.)
        """
        try:
            owner = next(each for each in self.studies if name in parameters.specs(each))
            build(owner, {name: text})
            return True
        except Refused as refused:
            if refused.field in self.specs and refused.field != name:
                return True  # it only conflicts with another field's default
            used = f" Using {self.specs[name].format(self.value(name))} instead."
            st.session_state[self.slot(name, "!")] = f"{refused}.{used}"
            return False

    def _forget_messages(self) -> None:
        """Clear all messages, which the visitor has read by now."""
        for name in ("", PRESET, *self.specs, *self.looks):
            st.session_state.pop(self.slot(name, "!"), None)

    def complain(self, name: str = "") -> None:
        """Show the message about a field, or about the URL as a whole."""
        if message := st.session_state.get(self.slot(name, "!")):
            st.warning(
                sentences.plain(sentences.named(message, self.specs)), icon=":material/edit:"
            )

    def opens(self, *names: str, also: bool = False) -> bool:
        """Whether the container that hides these fields should be open.

        It opens if there is a message about one of them, and then stays open.
        """
        slot = f"{self.study.NAME}?open:{'+'.join(names)}"
        if also or any(self.slot(name, "!") in st.session_state for name in names):
            # Stay open while the visitor corrects the value.
            st.session_state[slot] = True
        return st.session_state.get(slot, False)
