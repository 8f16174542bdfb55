"""All numbers of the audit and the attacks with their margins, and the commands."""

from __future__ import annotations

import streamlit as st

from engine.core import rounding
from engine.core.lab import command
from engine.core.study import Result
from engine.studies.dp_training import Audit, Membership
from pages.dp_training import text

LIKE_IT = (
    ("area under the ROC curve", "area_like_it", "area_margin"),
    ("right guesses", "right_guesses_like_it", "right_guesses_margin"),
    ("found at 0.1 % false positives", "found_at_0.001", "found_at_0.001_margin"),
    ("found at 1 % false positives", "found_at_0.01", "found_at_0.01_margin"),
)


def draw(done: dict[str, tuple[Audit | Membership, Result]]) -> None:
    """Draw a table and a command for each study. done: name → study and its Result."""
    if not done:
        return
    with st.expander("Exact numbers and commands", icon=":material/table:"):
        for study, result in done.values():
            if isinstance(study, Audit):
                name, rows = study.TITLE, rows_of_audit(study, result)
            else:
                name = f"Membership, {text.WHO[text.who_of(study.training)]}"
                rows = rows_of_attack(result.metrics)
            st.markdown(f"**{name}**")
            st.dataframe([dict(zip(("", "value", "how"), row)) for row in rows], hide_index=True)
            st.code(command(study), language="bash", wrap_lines=True)


def rows_of_audit(study: Audit, result: Result) -> list[tuple[str, str, str]]:
    """(what, value, how) for both bounds and for each check."""
    metrics = result.metrics
    guesses = f"{metrics['right']:.0f} of {metrics['guesses']:.0f} guesses right"
    bounds = [
        (
            "lower bound on ε (95 %)",
            rounding.at_least(metrics["lower_bound"]),
            f"δ = {rounding.chosen(study.training.delta)}, {guesses}",
        ),
        (
            "upper bound on ε",
            rounding.at_most(metrics["upper_bound"]),
            "PLD accountant, rounded up",
        ),
    ]
    return bounds + [
        (
            f"p: {check['name']}",
            rounding.at_most(check["p"], leading=True),
            f"finds “{check['error']}” in about {100 * check['power']:.0f} of 100 audits",
        )
        for check in result.facts["checks"]
    ]


def rows_of_attack(metrics: dict[str, float]) -> list[tuple[str, str, str]]:
    """(what, value, how) for networks like this one, and for this one."""
    how = (
        f"{metrics['shadows']:.0f} networks, {metrics['candidates']:,.0f} images each; 95 % margin"
        " over networks and images"
    )
    rows = [
        (label, f"{metrics[key]:.4f} ± {rounding.at_most(metrics[margin], 4)}", how)
        for label, key, margin in LIKE_IT
    ]
    this = (
        "area under the ROC curve, this model",
        f"{metrics['area']:.4f}",
        "its training images against test images",
    )
    return [*rows, this]
