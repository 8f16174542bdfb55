"""The data set chooser, and what it says about a data set that is not here or not usable."""

from __future__ import annotations

import streamlit as st

from engine.datasets import folder, registry, source
from pages.common import sentences
from pages.common.controls.state import S
from pages.common.controls.url import Url

DOWNLOAD = " (download needed)"


class DatasetChooser(Url[S]):
    """The list of data sets."""

    def lacks_data(self) -> bool:
        """Whether the chosen data set is missing here, so that its panel should be open."""
        return not any(
            found.present for found in registry.available() if found.name == self.value("dataset")
        )

    def dataset(self, name: str = "dataset") -> None:
        """Select the data set; missing ones are offered with instructions to get them."""
        here = {found.name: found for found in registry.available()}
        options = list(dict.fromkeys([*here, self.value(name)]))
        st.session_state[self.slot(name, "#")] = self.value(name)
        st.selectbox(
            self.specs[name].title,
            options,
            key=self.slot(name, "#"),
            on_change=self._picked,
            args=(name,),
            format_func=lambda n: here[n].title + _lack(here[n]) if n in here else n,
        )
        self.complain(name)
        _say_unnamed()
        if self.lacks_data():
            _say_missing(self.value(name), here.get(self.value(name)))
            self.missing = True


def _lack(found: source.Available) -> str:
    """Suffix to a data set's title in the list."""
    return "" if found.present else " (cannot be used)" if found.damaged else DOWNLOAD


def _say_unnamed() -> None:
    """Say which folders are not offered because of their names."""
    if skipped := folder.unnamed():
        st.caption(
            sentences.plain(
                f"Skipped: {', '.join(skipped[:3])}{' …' if len(skipped) > 3 else ''}."
                f" {folder.NAMES[0].upper()}{folder.NAMES[1:]}."
            )
        )


def _say_missing(name: str, found: source.Available | None) -> None:
    """Say how to get a data set, or why it cannot be used. found: None if nobody knows it."""
    sentence = found.how if found else f"There is no data set {name} here."
    if found and found.damaged:
        st.error(
            sentences.notice(str(source.Unusable(name, sentence))),
            icon=":material/folder_off:",
        )
    else:
        st.info(sentences.notice(sentence), icon=":material/download:")
