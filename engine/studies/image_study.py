"""What every study that learns from a data set has in common: its key holds the data, and its defaults fit them."""

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
        """What takes the place of values that nobody has chosen and that the data set has no room
        for. shown: its exhibits.

        A batch is at most all of the training pictures. tests/core/test_fitting.py asks every preset of
        every study.
        """
        usual = getattr(self, "batch_size", None)
        return (
            {"batch_size": shown.train_size}
            if usual is not None and usual > shown.train_size
            else {}
        )


def fitted(study: ImageStudy, given: Collection[str] = ()) -> tuple[ImageStudy, list[str]]:
    """The study with defaults that fit its data set, and a sentence for each value that was
    replaced.

    given: fields that somebody has chosen, which stay as they are (a wrong one is refused by the
    study's check). Raises data.Missing.
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
