"""Base class of the studies that train on a data set.

The data set's content is part of a study's key, and the study's defaults are fitted to it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from engine.core import parameters
from engine.core.study import Refused, Seeded, Study
from engine.datasets import registry


class ImageStudy(Study):
    """A study with a field `dataset`."""

    if TYPE_CHECKING:  # pydantic would make a field of an annotation

        @property
        def dataset(self) -> str:
            """The name of the data set: a field of each subclass."""

    def content(self) -> dict[str, str]:
        """The data set's fingerprint. Raises Missing."""
        return {"data": registry.fingerprint(self.dataset)}

    def fitting(self, shown) -> dict[str, Any]:
        """Replacements for default values that do not fit the data set. shown: its preview.

        A batch has at most as many images as the training set. tests/core/test_fitting.py checks
        every preset of every study.
        """
        usual = getattr(self, "batch_size", None)
        return (
            {"batch_size": shown.train_size}
            if usual is not None and usual > shown.train_size
            else {}
        )


class Holder(ImageStudy):
    """An image study that holds another one, whose data set and seed are its own."""

    @property
    def inner(self) -> ImageStudy:
        """The study that it holds."""
        return getattr(self, next(iter(parameters.held(type(self)))))

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.inner.dataset

    @property
    def seed(self) -> int:
        """The seed that fixes every random draw."""
        return cast("Seeded", self.inner).seed  # only studies with a seed are held

    def content(self) -> dict[str, str]:
        """Nothing further: the key of the held study covers the data set."""
        return {}

    def fitting(self, shown) -> dict[str, Any]:
        """Replacements for the held study's defaults that do not fit the data set."""
        return self.inner.fitting(shown)

    def sample(self) -> bytes | None:
        """PNG of what the held study learns from."""
        return self.inner.sample()

    def chance(self) -> float | None:
        """The accuracy of always predicting the most frequent test class."""
        return self.inner.chance()

    def derived(self) -> dict[str, Any]:
        """The values that stand for the held study's empty fields."""
        return self.inner.derived()

    def check(self, shown) -> None:
        """Raise Refused, before computing anything, if the held study does not fit the data."""
        self.inner.check(shown)


class Batched(Protocol):
    """A study that learns from a data set in batches."""

    @property
    def dataset(self) -> str:
        """The name of the data set."""

    @property
    def batch_size(self) -> int:
        """The number of images in a step."""


def check_batch(study: Batched, n: int) -> None:
    """Raise Refused if a batch is larger than the n training images."""
    if study.batch_size > n:
        raise Refused(
            "batch_size",
            f"batch_size: {study.batch_size} is not allowed; {study.dataset} has {n} training"
            " images",
        )


S = TypeVar("S", bound=ImageStudy)


def fitted(study: S, given: Collection[str] = ()) -> tuple[S, list[str]]:
    """The study with defaults that fit its data set, and a sentence for each replaced value.

    given: fields that the user has chosen, which stay unchanged (the study's check refuses a wrong
    one). Raises source.Missing.
    """
    changes = {
        name: value
        for name, value in study.fitting(registry.preview(study.dataset)).items()
        if name not in given
    }
    spec, usual = parameters.specs(type(study)), study.values()
    said = [
        f"{name}: {spec[name].format(usual[name])}, the usual value, does not fit"
        f" {study.dataset}; {spec[name].format(value)} is taken"
        for name, value in changes.items()
    ]
    return study.replace(**changes), said
