"""Widgets for a study's parameters, bound to the URL; errors are shown at the widget.

`Controls` reads the URL once, keeps the values in the session under "STUDY.field", and writes
values that differ from the defaults back into the URL, so that every view has a link. (Streamlit's
own bind= silently drops invalid values and has no slider on a log scale; see docs/architecture.md.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import streamlit as st

from engine.core import parameters
from engine.core.parameters import Spec
from engine.core.study import Refused, Study, build, parse
from engine.datasets import folder, registry, source
from engine.studies.image_study import fitted
from pages.common import sentences

T = TypeVar("T")
MOST_NAMES = 5  # maximum number of unknown URL parameters that are listed by name
MOST_LETTERS = 40  # total length of choices that fit side by side in a third of the page
TO_FETCH = " (to be fetched)"
PRESET = "preset"  # a URL parameter that is only answered with a message where the presets are
STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # marks per decade on a log slider


@dataclass(frozen=True)
class Look:
    """Which of the page's charts are shown.

    In the URL like a parameter, but not part of any study, so that it changes no result.
    """

    options: tuple[str, ...]
    default: tuple[str, ...] = ()
    several: bool = False  # more than one may be chosen

    def text(self, chosen: tuple[str, ...]) -> str:
        """The choice as text for the URL."""
        return ",".join(chosen) or "none"

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        """The choice in a URL. Raises Refused for unknown options."""
        chosen = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
        if not set(chosen) <= set(self.options) or (len(chosen) > 1 and not self.several):
            raise Refused(
                name,
                f"{name}: {text[:80]} is not allowed; allowed: {'some' if self.several else 'one'}"
                f" of {', '.join(self.options)}",
            )
        return chosen


@dataclass(frozen=True)
class Asked:
    """A number that the page asks the visitor for, such as a required accuracy.

    In the URL, but not part of any study. Empty: the page's suggestion.
    """

    low: float
    high: float
    default: tuple[str, ...] = ()

    def text(self, chosen: tuple[str, ...]) -> str:
        """The number as text for the URL."""
        return "".join(chosen)

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        """The number in a URL. Raises Refused if it is not a number or out of range."""
        try:
            number = parameters.numeral(text)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:
            raise Refused(
                name,
                f"{name}: {text[:80]} is not allowed; allowed: a number from {self.low:g} to"
                f" {self.high:g}",
            )
        return (parameters.number(number),)


class Controls:
    """The widgets of a page's studies.

    The first study names the page. A field that several studies share has one widget, with the
    title and default of the first. Values in the session are always valid, because invalid text
    never gets in.
    """

    def __init__(
        self,
        study: type[Study],
        *more: type[Study],
        hidden: tuple[str, ...] = (),
        looks: dict[str, Look | Asked] | None = None,
        aside: tuple[str, ...] = (),
    ):
        self.looks, self.aside = looks or {}, aside  # aside: fields that no preset changes
        self.study, self.studies = study, (study, *more)
        specs = {
            name: spec
            for each in reversed(self.studies)
            for name, spec in parameters.specs(each).items()
        }
        self.specs = {name: spec for name, spec in specs.items() if name not in hidden}
        self.missing = False  # whether the chosen data set is missing on this machine
        # data sets whose notes have been shown, and sentences that have been shown
        self.told: set[str] = set()
        # the field whose slider triggered this run
        self.moved = st.session_state.pop(f"{study.NAME}?moved", None)
        self._restore()

    # --- session and URL --------------------------------------------------------------------------

    def slot(self, name: str, mark: str = "") -> str:
        """Session key of a field: '' value, '#' widget, '~' slider, '!' error message.

        The value is never kept under a widget's own key, because Streamlit drops that when the
        visitor goes to another page.
        """
        return f"{self.study.NAME}.{name}{mark}"

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
        for name, spec in self.specs.items():
            st.session_state.setdefault(self.slot(name), spec.default)
        for name, look in self.looks.items():
            st.session_state.setdefault(self.slot(name), look.default)

    def _read(self, texts: dict[str, str]) -> None:
        """Take the valid values of a URL; set messages for the others."""
        self.set(**{name: what.default for name, what in (self.specs | self.looks).items()})
        self._forget_messages()
        for name in set(self.looks) & set(texts):
            self._read_look(name, texts.pop(name))
        texts = {self._known_as(name): text for name, text in texts.items()}
        known = {name: text for name, text in texts.items() if name in self.specs}
        self._tell_unknown({name: text for name, text in texts.items() if name not in known})
        allowed = {name: text for name, text in known.items() if self._allows(name, text)}
        for each in reversed(self.studies):
            try:
                mine = {n: text for n, text in allowed.items() if n in parameters.specs(each)}
                values = build(each, mine).values()
                self.set(**{n: values[n] for n in (*mine, *self._follows(each, mine))})
            except Refused as refused:
                st.session_state[self.slot("", "!")] = f"{refused}. Using the defaults instead."

    def _tell_unknown(self, texts: dict[str, str]) -> None:
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

    def _read_look(self, name: str, text: str) -> None:
        try:
            self.set(**{name: self.looks[name].parse(name, text)})
        except Refused as refused:
            st.session_state[self.slot(name, "!")] = f"{refused}. Using the default instead."

    def _follows(self, study: type[Study], given: dict) -> list[str]:
        """Fields replaced by another one: a noise multiplier clears the default budget."""
        return [n for n in study.EXCLUSIVE if n not in given]

    def _known_as(self, name: str) -> str:
        """The present name of a parameter in the URL, which may be an earlier name or a path."""
        found = (parameters.known_as(each, name) for each in self.studies)
        return next((now for now in found if now in self.specs), name)

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

    def value(self, name: str):
        """The current value of a field in the session."""
        return st.session_state.get(self.slot(name), (self.specs | self.looks)[name].default)

    def set(self, **values) -> None:
        """Change fields from code or from a callback."""
        for name, value in values.items():
            st.session_state[self.slot(name)] = value

    def change(self, **values) -> None:
        """Change fields on behalf of the visitor; clears messages about them and about the URL."""
        # this URL is older than the change and must not be read again
        st.session_state[f"{self.study.NAME}?url"] = st.query_params.to_dict()
        self.set(**values)
        st.session_state[f"{self.study.NAME}?acted"] = True
        self._forget_messages()

    def _forget_messages(self) -> None:
        """Clear all messages, which the visitor has read by now."""
        for name in ("", PRESET, *self.specs, *self.looks):
            st.session_state.pop(self.slot(name, "!"), None)

    def opens(self, *names: str, also: bool = False) -> bool:
        """Whether the container that hides these fields should be open.

        It opens if there is a message about one of them, and then stays open.
        """
        slot = f"{self.study.NAME}?open:{'+'.join(names)}"
        if also or any(self.slot(name, "!") in st.session_state for name in names):
            # Stay open while the visitor corrects the value.
            st.session_state[slot] = True
        return st.session_state.get(slot, False)

    # --- the study --------------------------------------------------------------------------------

    def opening(self, preset: str) -> None:
        """Start a first visit without URL parameters at this preset if its data set is present."""
        slot = f"{self.study.NAME}?opened"
        if (
            slot not in st.session_state
            and not st.query_params
            and any(
                f.present and f.name == self.study.preset(preset).dataset
                for f in registry.available()
            )
        ):
            self.set(**self._at(preset))
        st.session_state[slot] = True

    def ready(self, study: type[Study] | None = None, **fixed) -> Study:
        """A study (the page's first by default) with the current values.

        If the values contradict each other, show a message and stop the page.
        """
        which = study or self.study
        study = self.checked(
            lambda: build(
                which,
                {n: self.value(n) for n in self.specs if n in parameters.specs(which)} | fixed,
            ),
            which.NAME,
        )
        self.finish()
        if self.missing:
            st.stop()
        self._tell_notes(study)
        return self._fitted(study)

    def _fitted(self, study: Study) -> Study:
        """The study with defaults adapted to its data set, as on the command line.

        Replaced values are reported once per page.
        """
        chosen = {
            name for name in self.specs if self.value(name) not in self._usual(name, type(study))
        }
        study, said = fitted(study, chosen)
        for sentence in said:
            if sentence not in self.told:
                st.info(
                    sentences.plain(sentences.named(f"{sentence}.", self.specs)),
                    icon=":material/fit_screen:",
                )
            self.told.add(sentence)
        return study

    def _usual(self, name: str, study: type[Study]) -> list:
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

    def _tell_notes(self, study: Study) -> None:
        """Show the notes on a visitor's own folder once per page.

        Stops the page if the folder cannot be used after all.
        """
        if study.dataset in self.told:
            return
        try:
            notes = registry.preview(study.dataset).notes
        except source.Missing as missing:
            st.error(sentences.plain(str(missing)), icon=":material/folder_off:")
            st.stop()
        self.told.add(study.dataset)
        for note in notes:
            st.info(sentences.plain(f"{study.dataset}: {note}"), icon=":material/folder:")

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
                held[f"{self.study.NAME}?url"] = st.query_params.to_dict()  # mark as read
                # The container of this widget was drawn before the error was known.
                st.rerun()
            where = (
                f"Nothing can run with these settings: see *{self.specs[refused.field].title}*"
                " above."
                if refused.field in self.specs
                else sentences.plain(str(refused))
            )
            st.error(where, icon=":material/edit:")
            st.stop()
        if (field := held.pop(marked, None)) and held.pop(self.slot(field, "!"), None):
            st.rerun()  # corrected, perhaps at another widget: the message goes
        return found

    def complain(self, name: str = "") -> None:
        """Show the message about a field, or about the URL as a whole."""
        if message := st.session_state.get(self.slot(name, "!")):
            st.warning(
                sentences.plain(sentences.named(message, self.specs)), icon=":material/edit:"
            )

    # --- widgets ----------------------------------------------------------------------------------

    def presets(self, names: dict[str, str]) -> None:
        """One row of pills; names maps a preset to its title.

        A preset changes every field at once.
        """
        slot = f"{self.study.NAME}?preset"
        st.session_state[slot] = next((n for n in names if self._is_at(n)), None)
        here = {found.name for found in registry.available() if found.present}
        lacks = {n: TO_FETCH for n in names if self.study.preset(n).dataset not in here}
        st.pills(
            "Presets",
            list(names),
            key=slot,
            format_func=lambda n: names[n] + lacks.get(n, ""),
            on_change=self._apply,
            args=(slot,),
        )
        self.complain(PRESET)

    def _apply(self, slot: str) -> None:
        chosen = st.session_state[slot]
        if chosen and not self._echo():
            self.change(**self._at(chosen))

    def _at(self, preset: str) -> dict:
        """All values of a preset; a field that studies share has the value of the first."""
        values = {}
        for each in reversed(self.studies):
            found = each.preset(preset if preset in each.PRESETS else "quick").values()
            values |= {n: found[n] for n in self.specs if n in found and n not in self.aside}
        return values

    def _is_at(self, preset: str) -> bool:
        return all(self.value(name) == value for name, value in self._at(preset).items())

    def dial(self, name: str) -> None:
        """The large main slider of the page, with labelled ends and an exact number field."""
        spec, slider = self.specs[name], self.slot(name, "~")
        wide, narrow = st.columns([6, 1], vertical_alignment="bottom")
        marks = grid(spec)
        # Do not set a slider that triggered this run: during a fast drag it has already moved on.
        if self.moved != name:
            st.session_state[slider] = nearest(marks, self.value(name))
        with wide:
            st.select_slider(
                spec.title,
                marks,
                key=slider,
                format_func=lambda v: f"{100 * v:,g} %" if spec.unit == "fraction" else f"{v:,g}",
                help=spec.help,
                on_change=self._moved,
                args=(name,),
            )
            with st.container(horizontal=True, horizontal_alignment="distribute"):
                st.caption(f"◀ {spec.ends[0]}", width="content")
                st.caption(f"{spec.ends[1]} ▶", width="content")
        with narrow:
            self._text(spec, "exactly", needed=True)
        self.complain(name)

    def _moved(self, name: str) -> None:
        st.session_state[f"{self.study.NAME}?moved"] = name
        self.change(**{name: st.session_state[self.slot(name, "~")]})

    def _echo(self) -> bool:
        """Whether a widget's value may be outdated.

        During a fast drag, the next event comes before the widget has heard of the last one.
        """
        return f"{self.study.NAME}?moved" in st.session_state

    def number(self, name: str, placeholder: str = "") -> None:
        """A field for an exact number; if empty, the placeholder shows the value used instead."""
        spec = self.specs[name]
        self._text(spec, f"{spec.title} ({spec.unit})" if spec.unit else spec.title, placeholder)
        self.complain(name)

    def _text(self, spec: Spec, label: str, placeholder: str = "", needed: bool = False) -> None:
        """A text field for a number or text.

        Unlike Streamlit's number field, it accepts 1e-5 as written and shows our own error
        messages.
        """
        slot = self.slot(spec.name, "#")
        st.session_state[slot] = (
            "" if self.value(spec.name) is None else spec.format(self.value(spec.name))
        )
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
        widget = st.segmented_control if short else st.selectbox
        more = {"required": True} if widget is st.segmented_control else {}
        st.session_state[self.slot(name, "#")] = self.value(name)
        widget(
            spec.title,
            spec.choices,
            key=self.slot(name, "#"),
            format_func=spec.label,
            help=spec.help,
            on_change=self._picked,
            args=(name,),
            **more,
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

    def _picked(self, name: str) -> None:
        self.change(**{name: st.session_state[self.slot(name, "#")]})

    def look(
        self, name: str, title: str, words_: dict[str, str], required: bool = False
    ) -> tuple[str, ...]:
        """Pills that select what is shown; words_ maps each option to its title.

        Returns the chosen options in the order of the pills.
        """
        look, slot = self.looks[name], self.slot(name, "#")
        chosen = self.value(name)
        st.session_state[slot] = list(chosen) if look.several else next(iter(chosen), None)
        st.pills(
            title,
            look.options,
            key=slot,
            selection_mode="multi" if look.several else "single",
            format_func=words_.get,
            required=required,
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
            format_func=words_.get,
            on_change=self._looked,
            args=(name,),
        )
        self.complain(name)
        return chosen

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
        asked, slot = self.looks[name], self.slot(name, "#")
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

    def _looked(self, name: str) -> None:
        chosen = st.session_state[self.slot(name, "#")]
        chosen = chosen if isinstance(chosen, list) else [chosen]
        self.change(
            **{name: tuple(option for option in self.looks[name].options if option in chosen)}
        )

    def below(self, name: str, count: int, words_: str) -> None:
        """Replace a value that is too large for the data set, and say so.

        The replacement is the default or the last one available.
        """
        if 0 < count <= self.value(name):  # with no items at all, the study reports it
            value, instead = self.value(name), min(self.specs[name].default, count - 1)
            # nobody has typed the default, so it is not refused
            nobody = value == self.specs[name].default
            wrong = ", the usual value, does not fit" if nobody else " is not allowed"
            st.session_state[self.slot(name, "!")] = (
                f"{name}: {value}{wrong}; {words_} 0 to {count - 1}. Using {instead} instead."
            )
            self.set(**{name: instead})
            st.session_state[f"{self.study.NAME}?url"] = st.query_params.to_dict()  # mark as read
            # The container of this widget was drawn closed, before the error was known.
            st.rerun()

    def category(self, name: str, classes: tuple[str, ...]) -> None:
        """Select a class of the data set by its name."""
        self.below(name, len(classes), "these pictures have the classes")
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
        if passed := folder.unnamed():
            st.caption(
                sentences.plain(
                    f"Passed over: {', '.join(passed[:3])}{' …' if len(passed) > 3 else ''}."
                    f" {folder.NAMES[0].upper()}{folder.NAMES[1:]}."
                )
            )
        if self.lacks_data():
            chosen = here.get(self.value(name))
            told = chosen.how if chosen else f"There is no data set {self.value(name)} here."
            if chosen and chosen.damaged:
                st.error(
                    sentences.plain(str(source.Unusable(chosen.name, told))),
                    icon=":material/folder_off:",
                )
            else:
                st.info(sentences.plain(told), icon=":material/download:")
            self.missing = True


def _lack(found: source.Available) -> str:
    """Suffix to a data set's title in the list."""
    return "" if found.present else " (cannot be used)" if found.damaged else TO_FETCH


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


def grid(spec: Spec) -> list[float]:
    """Marks of a log slider: ten per decade, plus the ends and the default."""
    # 0 cannot be on a log scale, so it comes before the first mark.
    low = spec.low or 0.01
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(spec.high)) + 1)
    marks = {round(m * 10.0**d, 12) for d in decades for m in STEPS if m * 10.0**d >= low}
    marks |= {spec.low, spec.high, spec.default if spec.default is not None else spec.low}
    return sorted(float(m) for m in marks if spec.low <= m <= spec.high)


def nearest(marks: list[float], value: float | None) -> float:
    """The mark closest to a value, on the log scale."""
    if value is None or not math.isfinite(value) or value <= 0:
        return marks[0]
    distance = np.abs(np.log(np.maximum(marks, 1e-12)) - math.log(value))
    return marks[int(distance.argmin())]
