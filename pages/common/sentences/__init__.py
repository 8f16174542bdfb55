"""Sentences that several pages use; pure functions.

- markup: text from elsewhere in Markdown, refusals, warnings
- numbers: durations, sizes, factors, and the margins of accuracies
- odds: what a guarantee means for a person
"""

from pages.common.sentences.markup import _and, named, notice, plain, warned
from pages.common.sentences.numbers import (
    after,
    balanced,
    balanced_column,
    give_or_take,
    margin,
    seconds,
    size,
    times,
)
from pages.common.sentences.odds import how_often, odds, odds_detail

__all__ = [
    "_and",
    "after",
    "balanced",
    "balanced_column",
    "give_or_take",
    "how_often",
    "margin",
    "named",
    "notice",
    "odds",
    "odds_detail",
    "plain",
    "seconds",
    "size",
    "times",
    "warned",
]
