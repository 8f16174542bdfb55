"""Basis of all accounting: rounding to the private side, and searching for the least good value.

Units: `sigma` is a standard deviation in the data's own unit, `noise_multiplier` one in units of
the clip norm; `epsilon` is in nats; odds are probabilities in [0.5, 1]. Every ε and every σ is
rounded to the private side: a σ never gives more than the requested ε, and a returned ε is never
below the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.core import rounding

# exceeds the relative error of the float arithmetic: checked against 60 digits in the tests
ROUND_UP = 1 + 1e-9


@dataclass(frozen=True)
class Spent:
    """A privacy loss and the accountant that computed it; ε is math.inf if no noise was added."""

    epsilon: float
    accountant: str


class Unreachable(ValueError):
    """No noise in the allowed range reaches the target ε; the message says so in one sentence."""


def least(good: Callable[[float], bool], low: float, high: float, tolerance: float = 0.0) -> float:
    """Return the least x in [low, high] with good(x), by bisection.

    `good` must turn true once and be true at high. The result is exact to the last bit, or too
    large by at most `tolerance` (relative).
    """
    if good(low):
        return low
    while low < (middle := low + (high - low) / 2) < high and high - low > tolerance * high:
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def require(condition: bool, words: str, values: object) -> None:
    """Raise ValueError with the requirement in words and the given values if a condition fails."""
    if not condition:
        raise ValueError(f"needs {words}; got {values}")


def check_dp_sgd(noise: float, rate: float, steps: int, delta: float) -> None:
    """Raise ValueError if a parameter of DP-SGD is out of its range."""
    require(
        noise >= 0 and 0 <= rate <= 1 and steps >= 0 and 0 < delta < 1,
        "noise multiplier ≥ 0, 0 ≤ sample rate ≤ 1, steps ≥ 0, 0 < δ < 1",
        (noise, rate, steps, delta),
    )


# --- warnings -------------------------------------------------------------------------------------


def delta_warning(delta: float, n: int) -> str | None:
    """Warn, in one sentence, if δ is not below one in the n units protected; otherwise return None.

    With such a δ the guarantee is nearly void.
    """
    if delta < 1 / n:
        return None
    return (
        f"δ = {rounding.chosen(delta)} is not below 1 in {n:,}: publishing one of the {n:,} in"
        " full, picked at random, would keep this promise; choose δ well below"
        f" {rounding.at_least(1 / n, 1, leading=True)}."
    )
