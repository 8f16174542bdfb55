"""Panels that all study pages share: odds, guarantee, and how the result was made."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict

import streamlit as st

from engine.core import rounding
from engine.core.lab import command
from engine.core.study import Guarantee, Result, Study
from pages.common import figures, sentences


def odds(guarantee: Guarantee, question: str, blind: str, seeing: str) -> None:
    """What the guarantee means for a person in the data.

    Shows the attacker's question, a sentence and 100 small figures.
    """
    st.subheader("What it means for a person in the data", anchor=False)
    left, right = st.columns([1, 1], vertical_alignment="center")
    left.markdown(f"{question} {sentences.odds(guarantee, blind, seeing)}")
    if guarantee.odds_mechanism is not None:
        n = rounding.of_hundred(guarantee.odds_mechanism)
        right.image(
            figures.crowd(n),
            width="stretch",
            alt=(
                f"100 small figures, {n} of them marked: in so many of 100 cases the attacker is"
                " right at most."
            ),
        )
        left.caption(sentences.odds_detail(guarantee))


def warnings(found: dict[str, Result], said: Collection[str] = ()) -> None:
    """Show all warnings about the results, each sentence once.

    A warning that does not apply to all results names those it applies to. found: name → Result.
    said: sentences that the page has shown already.
    """
    for warning, names in sentences.warned(found).items():
        if warning in said:
            continue
        whose = f"**{sentences.plain(', '.join(names))}**: " if len(names) < len(found) else ""
        st.warning(f"{whose}{sentences.plain(warning)}", icon=":material/warning:")


def guarantee(promise: Guarantee) -> None:
    """The guarantee panel: the same fields on every page, including 'none'."""
    st.subheader("What is guaranteed", anchor=False)
    with st.container(border=True):
        first, second, third = st.columns(3)
        first.metric(
            "ε (privacy loss)",
            rounding.epsilon(promise.epsilon),
            help=(
                "How much the released thing may reveal about one unit of the data; smaller is more"
                " private. Every added 0.7 may double the odds of an attacker."
            ),
        )
        second.metric(
            "δ (slack beside ε)",
            "none" if promise.delta is None else rounding.chosen(promise.delta),
        )
        third.markdown(
            f":small[Protected]  \n**{promise.unit if promise.epsilon is not None else 'nobody'}**"
        )
        rows = {
            "Mechanism": promise.mechanism,
            "Accountant": promise.accountant,
            "Sampling": sampling(promise),
            "Neighbours": promise.neighbours,
            "Against": promise.against,
            "Also released": promise.also_released,
            "Note": promise.note,
        }
        st.markdown(
            "\n".join(
                f"- **{name}**: {sentences.plain(text)}" for name, text in rows.items() if text
            )
        )


def sampling(promise: Guarantee) -> str:
    """How units were sampled, with sample rate and number of steps if they matter."""
    rate = (
        f", rate {rounding.described(promise.sample_rate)}"
        if promise.sample_rate is not None
        else ""
    )
    steps = (
        f", {promise.steps:,} step{'s' if promise.steps != 1 else ''}"
        if promise.steps is not None
        else ""
    )
    return promise.sampling + rate + steps


def deeper(tabs: dict[str, Callable[[], None]]) -> None:
    """Details in tabs: title → function that draws the tab.

    Only the open tab is drawn, which keeps the page fast.
    """
    for tab, draw in zip(st.tabs(list(tabs), key="deeper", on_change="rerun"), tabs.values()):
        if tab.open:
            with tab:
                draw()


def made(
    study: Study,
    result: Result,
    again: bool = True,
    more: dict[str, tuple[Study, Result]] | None = None,
    series: str = "",
    told: str = "",
) -> None:
    """How the result was made: parameters, versions, seconds, downloads, the command.

    The command that reproduces it is shown if there is one. more: other results of the page, name →
    study and result, for the download; series: the command for all of them; told: what the seconds
    and the key refer to, if not to the study alone.
    """
    facts, more = result.made, more or {}
    with st.expander("How this was made", icon=":material/receipt_long:"):
        if facts:
            st.markdown(
                f"Computed in **{facts['seconds']:{'.0f' if facts['seconds'] >= 10 else '.2g'}} s**"
                f" on {facts['device']}, {facts['finished']}. Key `{facts['key'][:16]}…`"
            )
            if told:
                st.markdown(told)
            elif more:
                st.markdown(
                    f"That is for `{study.NAME}` alone; the {len(more)} others on this page took"
                    f" {sum(r.made.get('seconds', 0.0) for _, r in more.values()):.0f} s."
                )
        if again:
            st.markdown(
                "The command that makes it again; the address of this page is a link to it. Another"
                " kind of processor rounds sums otherwise, so that a training there may end a"
                " little elsewhere."
            )
            st.code(series or command(study), language="bash", wrap_lines=True)
        else:
            st.markdown("Your own picture was not stored, so nobody can make this again.")
        parameters, versions = st.columns(2)
        values = {
            name: str(value)
            for name, value in study.values().items()
            if again or name not in ("dataset", "category", "index")
        }
        parameters.dataframe(
            {"parameter": list(values), "value": list(values.values())},
            hide_index=True,
            height=260,
        )
        if facts:
            versions.dataframe(
                {"package": list(facts["versions"]), "version": list(facts["versions"].values())},
                hide_index=True,
                height=260,
            )
        if not again:
            return
        st.download_button(
            "Download all numbers (JSON)",
            export(study, result, more),
            f"veil-{study.NAME}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
    if "not_stored" in facts:
        st.warning(sentences.plain(facts["not_stored"]), icon=":material/save:")


def export(study: Study, result: Result, more: dict[str, tuple[Study, Result]]) -> str:
    """Everything except the images, as JSON text.

    Of the page's other results: parameters, metrics, guarantees, facts, curves and short arrays.
    """
    plain, arrays = result.parts()
    small = {
        n.removeprefix("array:"): a.tolist()
        for n, a in arrays.items()
        if n.startswith("array:") and a.size <= 20_000
    }
    others = {
        name: {
            "study": other.NAME,
            "params": other.values(),
            "metrics": found.metrics,
            "guarantee": asdict(found.guarantee),
            "facts": found.facts,
            "curves": found.curves,
            "arrays": {
                each: array.tolist() for each, array in found.arrays.items() if array.size <= 2000
            },
        }
        for name, (other, found) in more.items()
    }
    return json.dumps(
        {"study": result.made.get("study", study.NAME), "params": study.values()}
        | plain
        | {"arrays": small}
        | ({"more": others} if others else {}),
        indent=1,
    )
