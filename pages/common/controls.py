"""Widgets made from a study's parameters, bound to the URL. A wrong value is refused in words, at
its widget.

`Controls` reads the URL once, keeps the values in the session under "STUDY.field", and writes what
differs from the defaults back into the URL, so that every view is a link. (Streamlit's own bind=
drops wrong values without a word and has no slider on a log scale; see docs/architecture.md.)
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
MOST_NAMES = 5  # of an address that are none of the page's, told by name
MOST_LETTERS = 40  # of all choices that stand side by side in a third of the page
TO_FETCH = " (to be fetched)"
PRESET = "preset"  # in an address: something to say where the presets are, and nothing more
STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # marks a decade on a log slider


@dataclass(frozen=True)
class Look:
    """Which of the page's charts are looked at: in the URL like a parameter, but in no study, so
    that it changes no result.
    """

    options: tuple[str, ...]
    default: tuple[str, ...] = ()
    several: bool = False  # may be chosen at once

    def text(self, chosen: tuple[str, ...]) -> str:
        """As it stands in a URL."""
        return ",".join(chosen) or "none"

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        """What a URL asks for; raises Refused for what there is not."""
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
    """A number that the page is asked about, such as an accuracy that somebody needs: in the URL,
    in no study. Empty: as the page suggests.
    """

    low: float
    high: float
    default: tuple[str, ...] = ()

    def text(self, chosen: tuple[str, ...]) -> str:
        """As it stands in a URL."""
        return "".join(chosen)

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        """What a URL asks for; raises Refused for what is no number or out of range."""
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

    What the session holds is always allowed: a wrong text never gets in.

    The first study names the page. A field that several studies have is one widget, with the first
    one's words and default.
    """

    def __init__(
        self,
        study: type[Study],
        *more: type[Study],
        hidden: tuple[str, ...] = (),
        looks: dict[str, Look | Asked] | None = None,
        aside: tuple[str, ...] = (),
    ):
        self.looks, self.aside = looks or {}, aside  # aside: fields that no preset touches
        self.study, self.studies = study, (study, *more)
        specs = {
            name: spec
            for each in reversed(self.studies)
            for name, spec in parameters.specs(each).items()
        }
        self.specs = {name: spec for name, spec in specs.items() if name not in hidden}
        self.missing = False  # the chosen data set is not here
        # data sets of which the page has said what to know, and sentences
        self.told: set[str] = set()
        # the field whose slider has brought this run about
        self.moved = st.session_state.pop(f"{study.NAME}?moved", None)
        self._restore()

    # --- session and URL --------------------------------------------------------------------------

    def slot(self, name: str, mark: str = "") -> str:
        """Where the session keeps a field: '' its value, '#' its widget, '~' its slider, '!' what
        is wrong with it.

        Never the value under a widget's own key: Streamlit drops that when the visitor goes to
        another page.
        """
        return f"{self.study.NAME}.{name}{mark}"

    def _restore(self) -> None:
        """Values from the URL when it is new, else from the session, else the defaults."""
        texts, memory = st.query_params.to_dict(), f"{self.study.NAME}?url"
        # a widget was used: the URL is still the old one
        acted = st.session_state.pop(f"{self.study.NAME}?acted", False)
        stayed = st.session_state.get("veil?page") == self.study.NAME
        st.session_state["veil?page"] = self.study.NAME
        if memory not in st.session_state or (
            texts != st.session_state[memory] and not acted and (texts or stayed)
        ):
            self._read(texts)  # a new visitor, or the browser's Back
        for name, spec in self.specs.items():
            st.session_state.setdefault(self.slot(name), spec.default)
        for name, look in self.looks.items():
            st.session_state.setdefault(self.slot(name), look.default)

    def _read(self, texts: dict[str, str]) -> None:
        """Take the allowed values of a URL; say what is wrong with the others."""
        self.set(**{name: what.default for name, what in (self.specs | self.looks).items()})
        self._forget_messages()
        for name in set(self.looks) & set(texts):
            self._read_look(name, texts.pop(name))
        known = {name: text for name, text in texts.items() if name in self.specs}
        self._tell_unknown({name: text for name, text in texts.items() if name not in known})
        allowed = {name: text for name, text in known.items() if self._allows(name, text)}
        for each in reversed(self.studies):
            try:
                mine = {name: text for name, text in allowed.items() if name in each.model_fields}
                study = build(each, mine)
                self.set(
                    **{name: getattr(study, name) for name in mine}, **self._follows(study, mine)
                )
            except Refused as refused:
                st.session_state[self.slot("", "!")] = f"{refused}. Using the defaults instead."

    def _tell_unknown(self, texts: dict[str, str]) -> None:
        """Say which names of a URL are none of this page: all of them, a preset where presets are."""
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

    def _follows(self, study: Study, given: dict) -> dict:
        """Fields that another one has replaced: a noise multiplier in the URL empties the default
        budget.
        """
        return {n: getattr(study, n) for n in study.EXCLUSIVE if n not in given}

    def _allows(self, name: str, text: str) -> bool:
        """Is this text a value of this field? If not, its message says so in the study's own words.

        (How it stands with others: see `checked`.)
        """
        try:
            build(next(each for each in self.studies if name in each.model_fields), {name: text})
            return True
        except Refused as refused:
            if refused.field in self.specs and refused.field != name:
                return True  # it only does not go with another field's default
            used = f" Using {self.specs[name].format(self.value(name))} instead."
            st.session_state[self.slot(name, "!")] = f"{refused}.{used}"
            return False

    def finish(self) -> None:
        """Write what differs from the defaults into the URL."""
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
        """What the session holds for a field now."""
        return st.session_state.get(self.slot(name), (self.specs | self.looks)[name].default)

    def set(self, **values) -> None:
        """Change fields, from code or a callback."""
        for name, value in values.items():
            st.session_state[self.slot(name)] = value

    def change(self, **values) -> None:
        """The visitor changes fields: what was wrong with them, or with the URL, is forgotten."""
        # older than this move: not to be read again
        st.session_state[f"{self.study.NAME}?url"] = st.query_params.to_dict()
        self.set(**values)
        st.session_state[f"{self.study.NAME}?acted"] = True
        self._forget_messages()

    def _forget_messages(self) -> None:
        """What was said of other fields has been read by now."""
        for name in ("", PRESET, *self.specs, *self.looks):
            st.session_state.pop(self.slot(name, "!"), None)

    def opens(self, *names: str, also: bool = False) -> bool:
        """Should what hides these fields be open? Where there is something to say about one of
        them, and from then on.
        """
        slot = f"{self.study.NAME}?open:{'+'.join(names)}"
        if also or any(self.slot(name, "!") in st.session_state for name in names):
            st.session_state[slot] = True  # it does not close under the hand that mends the value
        return st.session_state.get(slot, False)

    # --- the study --------------------------------------------------------------------------------

    def opening(self, preset: str) -> None:
        """Start a first visit, with nothing in the URL, at this preset, where its data set is here."""
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
        """A study (the page's first) at the present values; where they contradict each other, says
        so and ends the page.
        """
        which = study or self.study
        study = self.checked(
            lambda: build(
                which,
                {name: self.value(name) for name in self.specs if name in which.model_fields}
                | fixed,
            ),
            which.NAME,
        )
        self.finish()
        if self.missing:
            st.stop()
        self._tell_notes(study)
        return self._fitted(study)

    def _fitted(self, study: Study) -> Study:
        """The study with defaults that fit its data set, as the command line's; what was replaced
        is said, once a page.
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
        """Values of a field that nobody has typed: its default, and those of presets."""
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
        """What to know about a folder of one's own, once a page; ends the page where it cannot be
        used after all.
        """
        if study.dataset in self.told:
            return
        try:
            notes = registry.exhibits(study.dataset).notes
        except source.Missing as missing:
            st.error(sentences.plain(str(missing)), icon=":material/folder_off:")
            st.stop()
        self.told.add(study.dataset)
        for note in notes:
            st.info(sentences.plain(f"{study.dataset}: {note}"), icon=":material/folder:")

    def checked(self, check: Callable[[], T], what: str = "data") -> T:
        """What `check` gives; the page ends where it refuses how values stand together, with the
        message at the widget where it can be mended.

        what: names the check, for a page with several.
        """
        marked, held = f"{self.study.NAME}?checked {what}", st.session_state
        try:
            found = check()
        except Refused as refused:
            # what was just typed there is answered first
            if refused.field in self.specs and not held.get(self.slot(refused.field, "!")):
                held[self.slot(refused.field, "!")], held[marked] = f"{refused}.", refused.field
                held[f"{self.study.NAME}?url"] = st.query_params.to_dict()  # has been read
                st.rerun()  # what holds this widget was drawn before this was known
            where = (
                f"Nothing can run with these settings: see *{self.specs[refused.field].title}*"
                " above."
                if refused.field in self.specs
                else sentences.plain(str(refused))
            )
            st.error(where, icon=":material/edit:")
            st.stop()
        if (field := held.pop(marked, None)) and held.pop(self.slot(field, "!"), None):
            st.rerun()  # mended, perhaps elsewhere: the message goes
        return found

    def complain(self, name: str = "") -> None:
        """Show what was wrong with a field, or with the URL as a whole."""
        if message := st.session_state.get(self.slot(name, "!")):
            st.warning(
                sentences.plain(sentences.named(message, self.specs)), icon=":material/edit:"
            )

    # --- widgets ----------------------------------------------------------------------------------

    def presets(self, names: dict[str, str]) -> None:
        """One row of pills; names maps a preset to its words.

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
        """All values at a preset; a field of several studies as the first of them has it."""
        values = {}
        for each in reversed(self.studies):
            study = each.preset(preset if preset in each.PRESETS else "quick")
            values |= {
                name: getattr(study, name)
                for name in self.specs
                if name in each.model_fields and name not in self.aside
            }
        return values

    def _is_at(self, preset: str) -> bool:
        return all(self.value(name) == value for name, value in self._at(preset).items())

    def dial(self, name: str) -> None:
        """The large slider that the page is about, with its ends labelled and the exact number
        beside it.
        """
        spec, slider = self.specs[name], self.slot(name, "~")
        wide, narrow = st.columns([6, 1], vertical_alignment="bottom")
        marks = grid(spec)
        # a slider is not told where it has just said to be: a fast hand is further on already
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
        """Is what another widget says only old? A fast hand's next move comes before that has heard
        of the last one.
        """
        return f"{self.study.NAME}?moved" in st.session_state

    def number(self, name: str, placeholder: str = "") -> None:
        """A field for an exact number; empty where that is allowed, with what is then taken in
        grey.
        """
        spec = self.specs[name]
        self._text(spec, f"{spec.title} ({spec.unit})" if spec.unit else spec.title, placeholder)
        self.complain(name)

    def _text(self, spec: Spec, label: str, placeholder: str = "", needed: bool = False) -> None:
        """A text field: unlike a number field it takes 1e-5 as it is written, and wrong values get
        our own words.
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
        """needed: an emptied field takes its last value back, as the page is about it."""
        text = st.session_state[self.slot(name, "#")]
        if self._echo():
            return
        self._forget_messages()
        if needed and not text.strip():
            return
        if self._allows(name, text):
            self.change(**{name: parse(self.specs[name], text)})

    def choice(self, name: str, beside: bool = False) -> None:
        """One of a few: a segmented control for up to three short choices or where there is room
        for all `beside` each other, else a list.
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
        """On or off."""
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
        """Pills for what is looked at; words_ maps each to its words.

        Returns what is chosen, in the order of the pills.
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
        """A list of what is looked at, one at a time; words_ maps what there is now to its words.

        Returns what is chosen, or the default where that is gone.
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
        """On or off, of a Look with the options yes and no."""
        slot = self.slot(name, "#")
        st.session_state[slot] = self.value(name) == ("yes",)
        st.toggle(title, key=slot, help=help, on_change=self._flagged, args=(name,))
        self.complain(name)
        return self.value(name) == ("yes",)

    def _flagged(self, name: str) -> None:
        self.change(**{name: ("yes" if st.session_state[self.slot(name, "#")] else "no",)})

    def asked(self, name: str, title: str, suggested: float) -> float:
        """A field for a number that the page is asked about; what the page suggests where it is
        empty.
        """
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
        """Where the data set has fewer than the value needs: say so, and take the default, or the
        last one there is.
        """
        if 0 < count <= self.value(name):  # where there is none at all, the study says so
            value, instead = self.value(name), min(self.specs[name].default, count - 1)
            nobody = value == self.specs[name].default  # has typed it: there is nothing to refuse
            wrong = ", the usual value, does not fit" if nobody else " is not allowed"
            st.session_state[self.slot(name, "!")] = (
                f"{name}: {value}{wrong}; {words_} 0 to {count - 1}. Using {instead} instead."
            )
            self.set(**{name: instead})
            st.session_state[f"{self.study.NAME}?url"] = st.query_params.to_dict()  # has been read
            st.rerun()  # what hides this widget was drawn closed, before this was known

    def category(self, name: str, classes: tuple[str, ...]) -> None:
        """A class of the data set, by its own name."""
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
        """Is the chosen data set not on this machine? Then what offers it should be open."""
        return not any(
            found.present for found in registry.available() if found.name == self.value("dataset")
        )

    def dataset(self, name: str = "dataset") -> None:
        """The data sets, those that are not here offered with the way to get them."""
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
    """What stands behind a data set's title in the list."""
    return "" if found.present else " (cannot be used)" if found.damaged else TO_FETCH


def unread() -> None:
    """On a page that has no settings: say that what its address names is not used."""
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
    """Marks of a log slider: ten a decade, the ends and the default included."""
    low = spec.low or 0.01  # 0 has no place on a log scale: it is put before the first mark
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
