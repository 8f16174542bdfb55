"""Several studies that run together as one, whose results are stored one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

from engine.core.study import Result, Study
from pages.common.live.view import S, View, look, of_member


@dataclass(frozen=True)
class Series(Generic[S]):
    """The members of a series as they can be drawn now.

    members: name → study, in the order in which the study that runs all of them holds them.
    """

    members: Mapping[str, S]
    finished: dict[str, Result]  # name → Result, of those that are done
    curves: dict[str, dict[str, list[tuple[float, float]]]]  # name → curves, as far as they go

    @classmethod
    def of(cls, members: Mapping[str, S], view: View) -> Series[S]:
        """The series as it is now. view: of the study that runs all of them."""
        done = finished(members)
        curves = {
            name: done[name].curves if name in done else of_member(view, number)
            for number, name in enumerate(members)
        }
        return cls(members, done, curves)

    @property
    def complete(self) -> bool:
        """Whether all members are done."""
        return len(self.finished) == len(self.members)

    def metric(self, name: str) -> dict[str, float]:
        """Name → this metric, of those that are done."""
        return {who: result.metrics[name] for who, result in self.finished.items()}


def finished(studies: Mapping[str, Study]) -> dict[str, Result]:
    """Name → Result of the studies that have run."""
    return {
        name: result
        for name, study in studies.items()
        if (result := look(study, remembered=True).result) is not None
    }
