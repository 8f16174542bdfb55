"""Durations, sizes, factors, and the margins of accuracies, in words."""

from __future__ import annotations

import math

from engine.core.rounding import at_most


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
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def times(value: float) -> str:
    """A factor in words: '0.54', '7', '160', '1,400'."""
    if value < 10:
        return f"{value:.2g}"
    digits = len(str(int(value))) - 2  # keep two significant digits
    return f"{round(value, -digits):,.0f}"


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
        f" (balanced accuracy {100 * metrics[name]:.1f} %; always predicting the most frequent "
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
