"""How a result was made: parameters, versions, seconds, the command, and the download."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import streamlit as st

from engine.core.lab import command
from engine.core.study import Result, Study
from pages.common import sentences

More = Mapping[str, tuple[Study, Result]]


def made(
    study: Study,
    result: Result,
    again: bool = True,
    more: More | None = None,
    series: str = "",
    refers_to: str = "",
) -> None:
    """How the result was made, with the command that reproduces it if there is one.

    more: other results of the page, name → study and result, for the download; series: the command
    for all of them; refers_to: what the seconds and the key refer to, if not to the study alone.
    """
    facts, more = result.made, more or {}
    with st.expander("How this was made", icon=":material/receipt_long:"):
        if facts:
            st.markdown(_computed(facts))
            if note := refers_to or _of_others(study, more):
                st.markdown(note)
        _command(series or command(study), again)
        _tables(study, facts, again)
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


def _command(text: str, again: bool) -> None:
    """The command, unless the result is of a visitor's own image."""
    if not again:
        st.markdown("Your own image was not stored, so this result cannot be reproduced.")
        return
    st.markdown(
        "This command reproduces the result; the address of this page links to it. On another kind"
        " of processor, sums are rounded differently, and a training may end slightly differently."
    )
    st.code(text, language="bash", wrap_lines=True)


def _computed(facts: dict) -> str:
    digits = ".0f" if facts["seconds"] >= 10 else ".2g"
    return (
        f"Computed in **{facts['seconds']:{digits}} s** on {facts['device']},"
        f" {facts['finished']}. Key `{facts['key'][:16]}…`"
    )


def _of_others(study: Study, more: More) -> str:
    if not more:
        return ""
    seconds = sum(result.made.get("seconds", 0.0) for _, result in more.values())
    return (
        f"This is `{study.NAME}` alone; the {len(more)} others on this page took {seconds:.0f} s."
    )


def _tables(study: Study, facts: dict, again: bool) -> None:
    """The study's parameters and the versions of packages, side by side."""
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


def export(study: Study, result: Result, more: More) -> str:
    """Everything except the images, as JSON text.

    Of the page's other results: parameters, metrics, guarantees, facts, curves and short arrays.
    """
    plain, arrays = result.parts()
    small = {
        n.removeprefix("array:"): a.tolist()
        for n, a in arrays.items()
        if n.startswith("array:") and a.size <= 20_000
    }
    others = {name: _other(*each) for name, each in more.items()}
    return json.dumps(
        {"study": result.made.get("study", study.NAME), "params": study.values()}
        | plain
        | {"arrays": small}
        | ({"more": others} if others else {}),
        indent=1,
    )


def _other(study: Study, found: Result) -> dict:
    return {
        "study": study.NAME,
        "params": study.values(),
        "metrics": found.metrics,
        "guarantee": asdict(found.guarantee),
        "facts": found.facts,
        "curves": found.curves,
        "arrays": {
            each: array.tolist() for each, array in found.arrays.items() if array.size <= 2000
        },
    }
