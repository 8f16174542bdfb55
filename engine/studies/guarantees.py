"""Guarantees built from the mechanism that was run, and noise that meets a privacy budget.

The figures come from engine.privacy alone; a study adds the words.
"""

from __future__ import annotations

from typing import Any

from engine import privacy
from engine.core import parameters
from engine.core.study import Guarantee, Refused
from engine.privacy import neighbours
from engine.privacy.mechanism import Mechanism

ONE_IMAGE = "one training image with its label"
EXACT_CURVE = "exact Gaussian curve (Balle and Wang 2018)"


def nothing(why: str, note: str, *, unit: str = ONE_IMAGE, **more: Any) -> Guarantee:
    """A result that guarantees nothing, and why. more: further fields of Guarantee."""
    known = {"accountant": "none", "sampling": "none", "sample_rate": None, "steps": None} | more
    return Guarantee(
        unit=unit, epsilon=None, delta=None, mechanism=f"none: {why}", note=note, **known
    )


def subsampled_gaussian(  # noqa: PLR0913  each argument is one thing that the guarantee says
    mechanism: Mechanism,
    delta: float,
    *,
    words: str,
    against: str,
    also_released: str,
    note: str,
    unit: str = ONE_IMAGE,
    sampling: str = "Poisson",
    neighbours: str = neighbours.ONE_IMAGE,
    accounted: str = "",
) -> Guarantee:
    """The guarantee of a private mechanism at this δ.

    words: what was clipped and noised; accounted: what to add to the accountant's name.
    """
    spent = mechanism.spent(delta)
    return Guarantee(
        unit=unit,
        epsilon=spent.epsilon,
        delta=delta,
        mechanism=words,
        accountant=spent.accountant + accounted,
        sampling=sampling,
        sample_rate=mechanism.sample_rate,
        steps=mechanism.steps,
        neighbours=neighbours,
        against=against,
        also_released=also_released,
        note=note,
        odds_any=privacy.odds_any(spent.epsilon, delta),
        odds_mechanism=mechanism.odds(delta),
        odds_undrawn=mechanism.odds_undrawn(),
    )


def gaussian(  # noqa: PLR0913  each argument is one thing that the guarantee says
    sigma: float,
    delta: float,
    distance: float = 1.0,
    *,
    words: str,
    against: str,
    note: str,
    sampling: str,
    neighbours: str,
    unit: str = ONE_IMAGE,
    accountant: str = EXACT_CURVE,
    releases: int = 1,
    also_released: str = "",
) -> Guarantee:
    """The guarantee of Gaussian noise on all of the data at once, without sampling.

    sigma: standard deviation of the noise. distance: how far one unit can move all the releases
    together.
    """
    epsilon = privacy.gaussian_epsilon(sigma, delta, distance)
    return Guarantee(
        unit=unit,
        epsilon=epsilon,
        delta=delta,
        mechanism=words,
        accountant=accountant,
        sampling=sampling,
        sample_rate=None,
        steps=releases,
        neighbours=neighbours,
        against=against,
        also_released=also_released,
        note=note,
        odds_any=privacy.odds_any(epsilon, delta),
        odds_mechanism=privacy.odds_gaussian(sigma, distance),
    )


def sampled(promise: Guarantee) -> tuple[float, int]:
    """The sample rate and the number of steps that the guarantee of a sampled mechanism states."""
    assert promise.sample_rate is not None and promise.steps is not None
    return promise.sample_rate, promise.steps


def noise_for(
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    release_noise: float | None = None,
) -> float:
    """The least noise multiplier that meets the budget.

    Raises Refused, in the user's words, if none does.
    """
    try:
        return privacy.dp_sgd_noise(
            target_epsilon, sample_rate, steps, delta, release_noise=release_noise
        )
    except privacy.Unreachable as error:
        raise Refused(
            "target_epsilon",
            f"target_epsilon: {parameters.number(target_epsilon)} cannot be reached: {error}",
        ) from None
