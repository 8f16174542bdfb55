"""Sentences that several pages use; pure functions."""

from __future__ import annotations

import math
import re

from engine.core import rounding
from engine.core.parameters import Spec
from engine.core.rounding import at_most, epsilon, of_hundred
from engine.core.study import Guarantee, Result


def plain(text: str) -> str:
    """Escape text from outside (a URL, a file name, an error) so that Markdown shows it as is."""
    text = re.sub(r"([\\`*_{}\[\]()#+\-!|<>$~:])", r"\\\1", text)
    # A word joiner keeps addresses from becoming links.
    return re.sub(r"(?i)(www|@)", lambda found: found[0] + "\u2060", text)


def named(message: str, specs: dict[str, Spec]) -> str:
    """A refusal as the page words it: the field's name replaced by its widget's title."""
    name, colon, rest = message.partition(": ")
    return f"{specs[name].title}{colon}{rest}" if colon and name in specs else message


def seconds(value: float) -> str:
    """A duration in words: 'under a second', 'about 12 seconds', 'about 3 minutes'."""
    if value < 1:
        return "under a second"
    if value < 90:
        whole = max(1, round(value))
        return f"about {whole} second{'s' if whole > 1 else ''}"
    return (
        f"about {round(value / 60)} minutes"
        if value < 5400
        else f"about {round(value / 3600)} hours"
    )


def after(steps: int) -> str:
    """'after 1 step', 'after 25 steps'."""
    return f"after {steps:,} step{'s' if steps != 1 else ''}"


def size(count: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000


def odds(guarantee: Guarantee, blind: str, seeing: str) -> str:
    """A sentence: how often an attacker is right by a coin flip, and after seeing the release."""
    start = f"{blind}, an attacker who has no idea is right 50 times in 100: a coin flip."
    if guarantee.epsilon is None or guarantee.odds_mechanism is None:
        return f"{start} {seeing}, **nothing is promised**: they may be certain."
    return f"{start} {seeing}, they {how_often(guarantee.odds_mechanism)}."


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


def times(value: float) -> str:
    """A factor in words: '0.54', '7', '160', '1,400'."""
    if value < 10:
        return f"{value:.2g}"
    digits = len(str(int(value))) - 2  # keep two significant digits
    return f"{round(value, -digits):,.0f}"


def odds_detail(guarantee: Guarantee) -> str:
    """Both odds, exact: for any method with this (ε, δ), and for this one."""
    if guarantee.odds_mechanism > 1 - 5e-5:
        return (
            f"At ε = {epsilon(guarantee.epsilon)} the noise protects nobody against such an"
            " attacker: they may err less than once in 20,000 times."
        )
    return (
        "Two bounds, for whoever starts from even odds. Some method with ε ="
        f" {epsilon(guarantee.epsilon)}, δ = {rounding.chosen(guarantee.delta)} might leave"
        f" {at_most(guarantee.odds_any, 2, times=100)} in 100; this one, whose noise is known"
        " exactly, leaves at most"
        f" {at_most(guarantee.odds_mechanism, 2, times=100)}.{_by_chance(guarantee)}"
    )


def _by_chance(guarantee: Guarantee) -> str:
    """The part of the odds that comes from the chance of never being sampled.

    That chance protects nobody who was sampled, and nobody from what is released about all.
    """
    known = (guarantee.sample_rate, guarantee.steps, guarantee.odds_undrawn)
    if None in known or guarantee.sample_rate >= 1:
        return ""
    never = (1 - guarantee.sample_rate) ** guarantee.steps
    if never < 0.01:
        return ""
    whom = "participants" if "participant" in guarantee.unit else "pictures"
    told = (
        f" Steps draw at random, and {rounding.at_least(never, 0, times=100)} in 100 {whom} were"
        " never drawn at all"
    )
    others = guarantee.odds_undrawn > 1 - never / 2 + 1e-9
    if of_hundred(guarantee.odds_undrawn) == 100:
        if others:
            return (
                f"{told}; but something is released of all besides: this luck alone protects"
                " nobody."
            )
        return f"{told}: so few that this luck alone protects hardly anybody."
    besides = ", with the noise on what is released of all besides," if others else ""
    most = of_hundred(guarantee.odds_undrawn)
    return f"{told}: that alone{besides} keeps the attacker to at most {most} in 100."


def margin(share: float, count: int) -> float:
    """Half the width of the 95 % interval of a share seen in `count` draws, in [0, 1].

    Wilson's interval (Wilson 1927).
    """
    z = 1.96
    return (
        z
        / (1 + z * z / count)
        * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    )


def give_or_take(margin: float, times: int = 100, digits: int = 1) -> str:
    """Half the width of an interval in per cent, or in units of 1 / `times`, rounded up.

    The interval shown is therefore never too narrow, and 0 only if it is 0.
    """
    return at_most(margin, digits, times=times)


def balanced(metrics: dict[str, float], of: str = "test_accuracy") -> str:
    """Text beside an accuracy that misleads because classes are unbalanced; otherwise empty."""
    name = f"balanced_{of}"
    if name not in metrics:
        return ""
    return (
        f" (balanced accuracy {100 * metrics[name]:.1f} %; always saying the most frequent "
        f"class reaches {100 * metrics['guessing']:.1f} %)"
    )


def balanced_column(metrics: dict[str, float]) -> dict[str, str]:
    """The same for a table."""
    if "balanced_test_accuracy" not in metrics:
        return {}
    return {
        "balanced, %": f"{100 * metrics['balanced_test_accuracy']:.2f}",
        "guessing, %": f"{100 * metrics['guessing']:.2f}",
    }


def warned(found: dict[str, Result]) -> dict[str, list[str]]:
    """Warning → the names of the results that have it, in order."""
    said: dict[str, list[str]] = {}
    for name, result in found.items():
        for warning in result.warnings:
            said.setdefault(warning, []).append(name)
    return said


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
