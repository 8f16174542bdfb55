"""What a page asks its visitor beside the parameters of its studies: Look and Asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.core import parameters
from engine.core.study import Refused


@dataclass(frozen=True)
class Look:
    """Which of the page's charts are shown.

    In the URL like a parameter, but not part of any study, so that it changes no result.
    """

    options: tuple[str, ...]
    default: tuple[str, ...] = ()
    several: bool = False  # more than one may be chosen

    def text(self, chosen: tuple[str, ...]) -> str:
        """The choice as text for the URL."""
        return ",".join(chosen) or "none"

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        """The choice in a URL. Raises Refused for unknown options."""
        chosen = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
        if not set(chosen) <= set(self.options) or (len(chosen) > 1 and not self.several):
            raise Refused(
                name,
                f"{name}: {text[:80]} is not allowed; allowed: {'some' if self.several else 'one'}"
                f" of {', '.join(self.options)}",
            )
        return chosen


@dataclass(frozen=True)
class Asked:
    """A number that the page asks the visitor for, such as a required accuracy.

    In the URL, but not part of any study. Empty: the page's suggestion.
    """

    low: float
    high: float
    default: tuple[str, ...] = ()

    def text(self, chosen: tuple[str, ...]) -> str:
        """The number as text for the URL."""
        return "".join(chosen)

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        """The number in a URL. Raises Refused if it is not a number or out of range."""
        try:
            number = parameters.numeral(text)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:
            raise Refused(
                name,
                f"{name}: {text[:80]} is not allowed; allowed: a number from {self.low:g} to"
                f" {self.high:g}",
            )
        return (parameters.number(number),)
