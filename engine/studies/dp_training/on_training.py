"""Base class of the studies that look into a training: they hold it, and repeat or attack it."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.image_study import Holder


class OnTraining(Holder):
    """A study of one training; the training's parameters are its own as well."""

    PRESETS: ClassVar[dict[str, dict]] = DPTraining.PRESETS
    EXCLUSIVE = DPTraining.EXCLUSIVE

    training: DPTraining = Field(default_factory=DPTraining)

    @classmethod
    def preset(cls, name: str, **changes) -> Self:
        """A preset; `best` is the strongest training for the data set named in the changes."""
        if name != "best":
            return super().preset(name, **changes)
        own = {n: v for n, v in changes.items() if n in cls.model_fields}
        rest = {n: v for n, v in changes.items() if n not in own}
        return super().preset("quick", **DPTraining.preset("best", **rest).values(), **own)

    def needs(self) -> tuple:
        """What the training needs."""
        return self.training.needs()
