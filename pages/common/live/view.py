"""A study as it can be drawn now: its stored result, or its running attempt."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engine.core.lab import load
from engine.core.study import Image, Phase, Point, Result, Study, key
from engine.runtime.runner import ENDED, Run
from pages.common.live.services import services

S = TypeVar("S", bound=Study)


@dataclass
class View(Generic[S]):
    """A study as it can be drawn now, running or done."""

    study: S
    state: str  # empty, queued, running, done, failed or cancelled
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    phase: Phase | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    place: int = 0
    cancelling: bool = False
    result: Result | None = None

    @property
    def active(self) -> bool:
        """Whether it waits for its turn or runs."""
        return self.state in ("queued", "running")


def look(study: S, remembered: bool = False) -> View[S]:
    """The study's stored Result, or its running attempt, or an empty View.

    remembered: read the Result from memory if it is there.
    """
    name = key(study)
    run = services().runner.find(name)
    if run is not None and run.state == "done" and run.result is not None:
        return _done(study, run.result)
    if run is None or run.state in ENDED:
        stored = services().stored(name) if remembered else load(services().store, name)
        if stored is not None:
            return _done(study, stored)
    return _of_run(study, run) if run is not None else View(study, "empty")


def _done(study: S, result: Result) -> View[S]:
    return View(
        study,
        "done",
        result.curves,
        result.images,
        result=result,
        seconds=result.made.get("seconds", 0.0),
    )


def _of_run(study: S, run: Run) -> View[S]:
    view = View(study, run.state, message=run.message, place=run.place, cancelling=run.cancelling)
    for event in list(run.events):
        if isinstance(event, Point):
            view.curves.setdefault(event.curve, []).append((event.x, event.y))
        elif isinstance(event, Image):
            view.images[event.name] = event.png
        else:
            view.phase = event
    if run.began is not None:
        view.seconds = (run.ended or time.monotonic()) - run.began
        view.seconds_left = _time_left(view)
    return view


def _time_left(view: View) -> float | None:
    """Seconds left, estimated from the progress; None while it is too early to tell."""
    phase = view.phase
    if phase is None or phase.total <= 1 or phase.done / phase.total < 0.02:
        return None
    return view.seconds * (phase.total - phase.done) / phase.done


def of_member(view: View, number: int) -> dict[str, list[tuple[float, float]]]:
    """The curves of one member of a running series."""
    return {
        name.removeprefix(f"{number}:"): points
        for name, points in view.curves.items()
        if name.startswith(f"{number}:")
    }
