"""What an audit has found."""

from __future__ import annotations

from engine.core import rounding
from engine.core.rounding import epsilon


def audited(metrics: dict[str, float], facts: dict, bug: str, delta: float) -> str:
    """The findings of an audit in sentences. bug: the one that was planted, or 'none'."""
    lower, upper = metrics["lower_bound"], metrics["upper_bound"]
    shown = (
        f"with {100 * facts['confidence']:.0f} % confidence, this training spends **at least ε ="
        f" {rounding.lower_bound(lower)}**"
        if lower
        else "which may be chance: no ε was shown to be spent"
    )
    sentence = (
        "The auditor guessed which canaries were included, and was right"
        f" {metrics['right']:,.0f} of {metrics['guesses']:,.0f} times: {shown}. Guaranteed is **at"
        f" most {epsilon(upper)}**, both at δ = {rounding.chosen(delta)}."
    )
    return f"{_planted(bug, bool(metrics['violated']))}{sentence} {_conclusion(metrics, facts)}"


def _planted(bug: str, found: bool) -> str:
    if bug == "none":
        return ""
    return f"Simulated bug: **{bug}**. The auditor **{'found' if found else 'did not find'} it**. "


def _conclusion(metrics: dict[str, float], facts: dict) -> str:
    failed = "; ".join(check["name"] for check in facts["checks"] if not check["kept"])
    exceeds = metrics["lower_bound"] > metrics["upper_bound"]
    if metrics["bound_violated"]:
        return (
            "**The claimed ε does not hold**: a correct training gives so many right guesses in"
            " less than one of 1,000 audits."
        )
    if failed:
        agree = "and the guesses agree" if exceeds else "although the guesses alone do not show it"
        return f"**A check failed** ({failed}), {agree}: the claimed ε does not hold."
    if exceeds:
        return (
            "The lower bound exceeds the guarantee: either the training spends more than it claims,"
            " or this is one of the 5 in 100 audits whose lower bound is too high. Try another"
            " seed."
        )
    return (
        "No violation was found. The true ε lies between the two, unless this is one of the 5 in"
        " 100 audits whose lower bound is too high."
    )


def audited_all(found: dict[str, dict[str, float]], blind: list[str], total: int, bug: str) -> str:
    """The findings of audits of several trainings.

    blind: those whose noise is too strong for the audit to detect this bug.
    """
    broken = [name for name, metrics in found.items() if metrics["violated"]]
    so_far = "" if len(found) == total else f" ({len(found)} of {total} audited so far)"
    if bug != "none":
        missed = [name for name in found if name not in broken]
        return (
            f"Simulated bug in all of them: **{bug}**. The auditor found it in **{len(broken)} of"
            f" {len(found)}**{so_far}{_missed(missed, blind)}"
        )
    return (
        f"In **{len(broken)} of {len(found)}**, the claimed ε does not hold:"
        f" {', '.join(broken)}{so_far}."
        if broken
        else f"In **none of {len(found)}** was a violation found{so_far}."
    )


def _missed(missed: list[str], blind: list[str]) -> str:
    if not missed:
        return "."
    why = ": the noise is strong enough to hide the bug from the auditor."
    return f" and missed it in {', '.join(missed)}{why if set(missed) <= set(blind) else '.'}"


def powers(facts: dict) -> str:
    """The probability of a false alarm, and how guesses are counted."""
    return (
        f"A correct training fails a check in at most {100 * facts['false_alarm']:.0f} of 100"
        " audits. The lower bound uses the best of four numbers of guesses that were fixed in"
        " advance, each at its share of the 5 % (Steinke, Nasr and Jagielski 2023)."
    )
