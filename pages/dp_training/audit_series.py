"""Below a finished series: audit all of it, or test one of its trainings."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from engine.core import rounding
from engine.core.study import Result, Study
from engine.studies.dp_training import Audit, DPTraining
from pages.common import live, panels
from pages.common.controls import Controls
from pages.dp_training import attacks, charts, text

ALL = "all"


def panel(
    controls: Controls, members: dict[str, DPTraining], finished: dict[str, Result]
) -> Mapping[str, Study]:
    """Choose what to test, and test it. Returns the studies that can be run."""
    st.subheader("Test the guarantee", anchor=False)
    audited = {
        name: member
        for name, member in members.items()
        if member.private and member.noise_multiplier != 0
    }
    chosen = controls.listed("attacked", "Which training", options(members, audited, finished))
    if chosen == ALL:
        studies = audit_all(controls, audited)
        return {f"audit of {name}": each for name, each in studies.items()}
    name = list(members)[int(chosen) - 1]
    return attacks.panel(
        controls, members[name], finished[name].guarantee, baseline=False, title=""
    )


def options(
    members: dict[str, DPTraining], audited: dict[str, DPTraining], finished: dict[str, Result]
) -> dict[str, str]:
    """What can be tested: ALL, or the number of a training → its title in the list."""
    found = {ALL: f"audit all {len(audited)} private trainings"}
    for number, name in enumerate(members, 1):
        spent = rounding.epsilon(finished[name].guarantee.epsilon)
        found[str(number)] = (
            f"{name} (ε = {spent}): audit and attack" if name in audited else f"{name}: attack"
        )
    return found


def audit_all(controls: Controls, audited: dict[str, DPTraining]) -> dict[str, Audit]:
    """Audit each private training of the series."""
    st.markdown(
        "An **auditor** repeats each training with artificial examples (*canaries*) and guesses"
        " which were included. The accountant gives an upper bound on ε; right guesses give a lower"
        " bound."
    )
    attacks.settings(controls, next(iter(audited.values())), audited=True, attacked=False)
    studies = {name: attacks.audit_of(controls, member) for name, member in audited.items()}
    attacks.check(controls, studies)
    live.run_button(studies, "Audit all")
    live.follow(studies, lambda views: draw(views, controls.value("bug")))
    return studies


def draw(views: dict[str, live.View], bug: str) -> None:
    """Draw both bounds on ε of each training. bug: the one that was planted, or 'none'."""
    live.progress(views)
    found = {name: view.result for name, view in views.items() if view.result is not None}
    if not found:
        return
    metrics = {name: result.metrics for name, result in found.items()}
    panels.chart(
        charts.bounds_of_all(
            {
                n: (m["lower_bound"], m["upper_bound"], bool(m["violated"]))
                for n, m in metrics.items()
            },
            list(views),
        ),
        key="bounds",
        alt="For each training the ε that is guaranteed and the least that was shown to be spent",
    )
    blind = [
        name
        for name, result in found.items()
        if any(check["blind"] and check["error"] == bug for check in result.facts["checks"])
    ]
    st.markdown(text.audited_all(metrics, blind, len(views), bug))
    panels.warnings(found)
    st.dataframe([row(name, result) for name, result in found.items()], hide_index=True)
    st.caption(
        "A low lower bound does not show privacy: an audit with a few thousand guesses cannot show"
        " more where noise is strong."
    )
    with st.expander("Details"):
        st.markdown(
            "For a correct training, a lower bound is too high in at most 5 of 100 audits, and a"
            " check fails in at most 1 of 100, each counted by itself."
        )


def row(name: str, result: Result) -> dict[str, str]:
    """A training's row in the table."""
    metrics, checks = result.metrics, result.facts["checks"]
    failed = [check["name"] for check in checks if not check["kept"]]
    failed += ["lower bound above upper bound"] * bool(metrics["bound_violated"])
    return {
        "": name,
        "guaranteed ε, at most": rounding.at_most(metrics["upper_bound"]),
        "shown ε, at least": rounding.at_least(metrics["lower_bound"]),
        "right guesses": f"{metrics['right']:,.0f} of {metrics['guesses']:,.0f}",
        "failed checks": ", ".join(failed) or "none",
        "cannot detect": ", ".join(check["error"] for check in checks if check["blind"]) or "–",
    }
