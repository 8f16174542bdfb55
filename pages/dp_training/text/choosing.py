"""Which noise for which accuracy, and which accuracy for which ε, from what has run."""

from __future__ import annotations

import math
from statistics import mean

from engine.core.rounding import epsilon

# noise multiplier → (ε, accuracy) of its finished seeds
Ends = dict[float, list[tuple[float, float]]]
# (ε, mean accuracy, noise multiplier), sorted by ε
Means = list[tuple[float, float, float]]


def means_of(ends: Ends) -> Means:
    """The mean over the seeds of each noise multiplier."""
    return sorted((seeds[0][0], mean(y for _, y in seeds), noise) for noise, seeds in ends.items())


def least_epsilon(means: Means, ends: Ends, wanted: float, baseline: float | None = None) -> str:
    """Which training reached an accuracy with the least ε, and what to try next.

    wanted, baseline: accuracies in [0, 1]; baseline: without privacy.
    """
    reached = [found for found in means if found[1] >= wanted]
    if not reached:
        return _unreached(means, wanted, baseline)
    spent, _, noise = reached[0]
    sentence = f"ε = **{epsilon(spent)}** (σ = {noise:g}) reached {_accuracies(ends[noise])}."
    below = [found for found in means if found[0] < spent]
    if not below:
        return f"{sentence} This was the smallest ε that has run; a smaller one may be enough."
    between = math.sqrt(spent * below[-1][0])  # a suggestion, not a bound
    return (
        f"{sentence} ε = {epsilon(below[-1][0])} did not ({100 * below[-1][1]:.2f} %). Try next:"
        f" ε ≈ {between:.2g}."
    )


def _unreached(means: Means, wanted: float, baseline: float | None) -> str:
    best = max(means, key=lambda found: found[1])
    sentence = (
        f"No training reached {100 * wanted:.1f} %: the best was {100 * best[1]:.2f} % at ε ="
        f" {epsilon(best[0])}."
    )
    if baseline is not None and baseline < wanted:
        return (
            f"{sentence} Without privacy it is {100 * baseline:.2f} %, so less noise will hardly"
            " help: use more training images or another network."
        )
    return f"{sentence} Use less noise, more epochs or more training images."


def most_accuracy(means: Means, ends: Ends, budget: float) -> str:
    """The best accuracy within a budget."""
    within = [found for found in means if found[0] <= budget]
    if not within:
        return f"No training spent so little: the smallest was ε = {epsilon(means[0][0])}."
    spent, accuracy, noise = max(within, key=lambda found: found[1])
    return (
        f"**{100 * accuracy:.2f} %** was the best, at σ = {noise:g} (ε = {epsilon(spent)}):"
        f" {_accuracies(ends[noise])}."
    )


def _accuracies(seeds: list[tuple[float, float]]) -> str:
    """'97.90 % (one seed)', '97.90 % (3 seeds, 97.80 to 98.00 %)'."""
    values = [100 * accuracy for _, accuracy in seeds]
    if len(values) == 1:
        return f"{values[0]:.2f} % (one seed)"
    return f"{mean(values):.2f} % ({len(values)} seeds, {min(values):.2f} to {max(values):.2f} %)"
