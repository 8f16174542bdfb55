"""What a membership attack has found. `found`: a key of WHO → metrics of the attack."""

from __future__ import annotations

from engine.core.rounding import of_hundred
from engine.core.study import Guarantee
from pages.common.sentences import give_or_take, margin
from pages.dp_training.text.labels import WHO

Found = dict[str, dict[str, float]]


def tied(promise: Guarantee, found: Found, bug: str = "none") -> str:
    """The guarantee and the findings in one line.

    bug: the one in the audited training, which is not in the attacked one.
    """
    bound = (
        f"guaranteed at most **{of_hundred(promise.odds_mechanism)}**"
        if promise.odds_mechanism is not None
        else "guaranteed: **nothing**"
    )
    parts = [bound] + [
        f"this attack {WHO[who]}: **{100 * metrics['right_guesses_like_it']:.1f}**"
        for who, metrics in found.items()
    ]
    whose = "" if bug == "none" else "**The attack is on the training without the bug.** "
    return (
        f"{whose}Of 100 guesses whether an image was used for training, the number right is: by"
        f" chance **50**; {'; '.join(parts)}."
    )


def attacked(found: Found) -> str:
    """How often the attacker guesses right, and what is found at few false alarms."""
    right = [
        f"**{100 * metrics['right_guesses_like_it']:.1f} ±"
        f" {give_or_take(metrics['right_guesses_margin'])} times in 100** {WHO[who]}"
        for who, metrics in found.items()
    ]
    rare = [
        f"**{1000 * metrics['found_at_0.001']:.1f} ±"
        f" {give_or_take(metrics['found_at_0.001_margin'], 1000)}** {WHO[who]}"
        for who, metrics in found.items()
    ]
    return (
        f"If each image is used with probability one half, the attacker guesses right"
        f" {', '.join(right)}; chance is 50. With one false alarm in 1,000 images, the attacker"
        f" finds this many of 1,000 training images: {' and '.join(rare)}; chance is 1."
    )


def method(found: Found, bounded: bool) -> str:
    """How to read the chart. bounded: whether it has a bound that no attack can exceed."""
    first = next(iter(found.values()))
    bound = (
        "No attack can exceed the dark lines; a weak attack does not show that all are weak."
        if bounded
        else "A weak attack does not show that all are weak: nothing is guaranteed here."
    )
    return (
        f"LiRA (Carlini et al. 2022) with {first['shadows']:.0f} networks. Thick lines: all of"
        f" them; thin: this model. {bound}"
    )


def measured(found: Found) -> str:
    """How the attack was measured, with its margins."""
    first = next(iter(found.values()))
    own = [f"{100 * metrics['right_guesses']:.1f} ({WHO[who]})" for who, metrics in found.items()]
    return (
        "Thick lines: each network is attacked with the help of the others, on"
        f" {first['candidates']:,.0f} images each, with 95 % margins over networks and images."
        " (Where networks differ much in what they reveal, such a margin covers the truth about 88"
        " times in 100.) Thin lines: this model, half of the images its training images and half"
        f" test images, right {', '.join(own)} times in 100, ±"
        f" {give_or_take(margin(0.5, int(first['candidates'])))}."
    )
