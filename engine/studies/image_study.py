"""Base class of the studies that train on a data set.

The data set's content is part of a study's key, and the study's defaults are fitted to it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from engine.core import parameters
from engine.core.study import Study
from engine.datasets import registry


class ImageStudy(Study):
    """A study with a field `dataset`."""

    def content(self) -> dict[str, str]:
        """The data set's fingerprint. Raises Missing."""
        return {"data": registry.fingerprint(self.dataset)}

    def fitting(self, shown) -> dict[str, Any]:
        """Replacements for default values that do not fit the data set. shown: its exhibits.

        A batch has at most as many images as the training set. tests/core/test_fitting.py checks
        every preset of every study.
        """
        usual = getattr(self, "batch_size", None)
        return (
            {"batch_size": shown.train_size}
            if usual is not None and usual > shown.train_size
            else {}
        )


def fitted(study: ImageStudy, given: Collection[str] = ()) -> tuple[ImageStudy, list[str]]:
    """The study with defaults that fit its data set, and a sentence for each replaced value.

    given: fields that the user has chosen, which stay unchanged (the study's check refuses a wrong
    one). Raises data.Missing.
    """
    changes = {
        name: value
        for name, value in study.fitting(registry.exhibits(study.dataset)).items()
        if name not in given
    }
    spec = parameters.specs(type(study))
    said = [
        f"{name}: {spec[name].format(getattr(study, name))}, the usual value, does not fit"
        f" {study.dataset}; {spec[name].format(value)} is taken"
        for name, value in changes.items()
    ]
    return study.model_copy(update=changes), said
