"""What a guarantee means for a person: how often an attacker is right."""

from __future__ import annotations

from engine.core import rounding
from engine.core.rounding import at_most, epsilon, of_hundred
from engine.core.study import Guarantee


def odds(guarantee: Guarantee, blind: str, seeing: str) -> str:
    """A sentence: how often an attacker is right by guessing, and after seeing the release."""
    start = f"{blind}, an attacker who guesses is right 50 times in 100."
    if guarantee.epsilon is None or guarantee.odds_mechanism is None:
        return f"{start} {seeing}, **nothing is guaranteed**: the attacker may be certain."
    return f"{start} {seeing}, attackers {how_often(guarantee.odds_mechanism)}."


def how_often(odds: float) -> str:
    """Odds in [0.5, 1] → 'are right at most **56 times in 100**'.

    Odds near 1 are put in words.
    """
    n = of_hundred(odds)
    if n < 100:
        return f"are right at most **{n} times in 100**"
    return (
        "can be **all but certain**"
        if odds > 1 - 1e-6
        else "may be right more than **99 times in 100**"
    )


def odds_detail(guarantee: Guarantee) -> str:
    """Both odds, exact: for any method with this (ε, δ), and for this one."""
    delta, any_, mechanism = guarantee.delta, guarantee.odds_any, guarantee.odds_mechanism
    if delta is None or any_ is None or mechanism is None:
        raise ValueError("a guarantee without odds")
    if mechanism > 1 - 5e-5:
        return (
            f"At ε = {epsilon(guarantee.epsilon)} the noise protects nobody against such an"
            " attacker, who may be wrong less than once in 20,000 times."
        )
    return (
        "Both bounds are for an attacker who starts from even odds. A method of which only ε ="
        f" {epsilon(guarantee.epsilon)} and δ = {rounding.chosen(delta)} are known may"
        f" let the attacker be right {at_most(any_, 2, times=100)} times in 100. The"
        " noise of this method is known exactly, which allows at most"
        f" {at_most(mechanism, 2, times=100)}.{_by_chance(guarantee)}"
    )


def _by_chance(guarantee: Guarantee) -> str:
    """The part of the odds that comes from the chance of never being sampled.

    That chance protects nobody who was sampled, and nobody from what is released about all.
    """
    rate, steps, undrawn = guarantee.sample_rate, guarantee.steps, guarantee.odds_undrawn
    if rate is None or steps is None or undrawn is None or rate >= 1:
        return ""
    never = (1 - rate) ** steps
    if never < 0.01:
        return ""
    whom = "clients" if "of one client" in guarantee.unit else "images"
    sentence = (
        f" Steps sample at random, and {rounding.at_least(never, 0, times=100)} in 100 {whom} were"
        " never drawn at all"
    )
    others = undrawn > 1 - never / 2 + 1e-9
    if of_hundred(undrawn) == 100:
        if others:
            return (
                f"{sentence}. But something else is released about all: this chance protects"
                " nobody."
            )
        return f"{sentence}: so few that this chance protects hardly anybody."
    besides = ", with the noise on what else is released about all," if others else ""
    most = of_hundred(undrawn)
    return f"{sentence}: that alone{besides} limits the attacker to at most {most} in 100."
