"""From the values of the widgets to a study that fits its data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from engine.core import parameters
from engine.core.study import Refused, build
from engine.datasets import registry, source
from engine.studies.image_study import ImageStudy, fitted
from pages.common import sentences
from pages.common.controls.state import S
from pages.common.controls.url import Url

T = TypeVar("T")
A = TypeVar("A", bound=ImageStudy)  # any study of the page


class Studies(Url[S]):
    """Builds and checks the page's studies; a refusal is shown at the widget that can mend it."""

    def ready(self) -> S:
        """The page's first study with the current values.

        If the values contradict each other, show a message and stop the page.
        """
        return self.ready_as(self.study)

    def ready_as(self, kind: type[A]) -> A:
        """The same for any of the page's studies."""
        known = parameters.specs(kind)
        study = self.checked(
            lambda: build(kind, {n: self.value(n) for n in self.specs if n in known}), kind.NAME
        )
        self.finish()
        if self.missing:
            st.stop()
        self._say_notes(study)
        return self._fitted(study)

    def checked(self, check: Callable[[], T], what: str = "data") -> T:
        """The result of `check`; if it raises Refused, stop the page.

        The message is shown at the widget where the problem can be fixed. what: names the check,
        for a page with several.
        """
        marked, held = f"{self.study.NAME}?checked {what}", st.session_state
        try:
            found = check()
        except Refused as refused:
            # a message about what was just typed there comes first
            if refused.field in self.specs and not held.get(self.slot(refused.field, "!")):
                held[self.slot(refused.field, "!")], held[marked] = f"{refused}.", refused.field
                self._mark_url_as_read()
                # The container of this widget was drawn before the error was known.
                st.rerun()
            st.error(self._refusal(refused), icon=":material/edit:")
            st.stop()
        if (field := held.pop(marked, None)) and held.pop(self.slot(field, "!"), None):
            st.rerun()  # corrected, perhaps at another widget: the message goes
        return found

    def _refusal(self, refused: Refused) -> str:
        """What stands in the place of a result; the reason stands at the field, if it has one."""
        if refused.field in self.specs:
            title = self.specs[refused.field].title
            return f"Nothing can run with these settings: see *{title}* above."
        return sentences.plain(str(refused))

    def _say_notes(self, study: ImageStudy) -> None:
        """Show the notes on a visitor's own folder once per page.

        Stops the page if the folder cannot be used after all.
        """
        if study.dataset in self.shown_notes:
            return
        try:
            notes = registry.preview(study.dataset).notes
        except source.Missing as missing:
            st.error(sentences.notice(str(missing)), icon=":material/folder_off:")
            st.stop()
        self.shown_notes.add(study.dataset)
        for note in notes:
            st.info(sentences.plain(f"{study.dataset}: {note}"), icon=":material/folder:")

    def _fitted(self, study: A) -> A:
        """The study with defaults adapted to its data set, as on the command line.

        Replaced values are reported once per page.
        """
        chosen = {
            name for name in self.specs if self.value(name) not in self._usual(name, type(study))
        }
        study, said = fitted(study, chosen)
        for sentence in said:
            if sentence not in self.shown_notes:
                st.info(
                    sentences.plain(sentences.named(f"{sentence}.", self.specs)),
                    icon=":material/fit_screen:",
                )
            self.shown_notes.add(sentence)
        return study

    def _usual(self, name: str, study: type[ImageStudy]) -> list:
        """Values of a field that nobody has typed: its default, and those of the presets."""
        return [
            self.specs[name].default,
            *(
                preset[name]
                for each in (study, self.study)
                for preset in each.PRESETS.values()
                if name in preset
            ),
        ]
