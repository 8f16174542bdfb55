"""Draw studies live: stored results at once, running ones as they progress.

The entry point is follow(). One top-level fragment ticks while something runs; when all have ended,
one rerun of the page ends the ticking.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import streamlit as st

from cache import Store
from engine.core import parameters
from engine.core.lab import expected_seconds, load, open_store
from engine.core.study import Phase, Picture, Point, Result, Study, key
from engine.datasets import imaging, source
from engine.runtime.runner import ENDED, Run, Runner
from pages.common import sentences

TICK = 0.7  # seconds between two polls of a running study
REMEMBERED = 64  # results kept in memory
TOO_LONG = 1800.0  # seconds that nobody would wait for in front of a page
FEW = 3  # studies that get a progress bar each; more share one


class Services:
    """The store and the runner that all sessions of this server share."""

    def __init__(self):
        self.store: Store = open_store()
        self.runner = Runner(self.store)
        self.results: OrderedDict[str, Result] = OrderedDict()

    def stored(self, name: str) -> Result | None:
        """A stored Result, read from disk only once.

        A page of many small studies reads all of them at every tick.
        """
        found = self.results.get(name) if name in self.store else None
        if found is None and (found := load(self.store, name)) is not None:
            self.results[name] = found
            if len(self.results) > REMEMBERED:
                self.results.popitem(last=False)
        return found


@lru_cache(maxsize=1)
def services() -> Services:
    """The one store and the one runner of this web process."""
    return Services()


@asynccontextmanager
async def lifespan(_):
    """Start the workers with the server and end them with it.

    They are then warm for the first visitor.
    """
    runner = services().runner
    loading = asyncio.create_task(asyncio.to_thread(_load_slow_packages))
    yield
    await loading
    await asyncio.to_thread(runner.close)


def _load_slow_packages() -> None:
    """Import what the first visitor would otherwise wait for: 0.8 s, measured."""
    import pages.common.panels  # noqa: F401  plotly and pandas

    imaging.psnr(np.zeros((8, 8, 1), np.uint8), np.ones((8, 8, 1), np.uint8))  # skimage and scipy


@dataclass
class View:
    """A study as it can be drawn now, running or done."""

    study: Study
    state: str  # empty, queued, running, done, failed or cancelled
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    phase: Phase | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    place: int = 0
    cancelling: bool = False
    result: Result | None = None


def look(study: Study, remembered: bool = False) -> View:
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


def _done(study: Study, result: Result) -> View:
    return View(
        study,
        "done",
        result.curves,
        result.pictures,
        result=result,
        seconds=result.made.get("seconds", 0.0),
    )


def _of_run(study: Study, run: Run) -> View:
    view = View(study, run.state, message=run.message, place=run.place, cancelling=run.cancelling)
    for event in list(run.events):
        if isinstance(event, Point):
            view.curves.setdefault(event.curve, []).append((event.x, event.y))
        elif isinstance(event, Picture):
            view.pictures[event.name] = event.png
        else:
            view.phase = event
    if run.began is not None:
        view.seconds = (run.ended or time.monotonic()) - run.began
        view.seconds_left = _time_left(view)
    return view


def of_member(view: View, number: int) -> dict[str, list[tuple[float, float]]]:
    """The curves of one member of a running sweep."""
    return {
        name.removeprefix(f"{number}:"): points
        for name, points in view.curves.items()
        if name.startswith(f"{number}:")
    }


def _time_left(view: View) -> float | None:
    """Seconds left, estimated from the progress; None while it is too early to tell."""
    phase = view.phase
    if phase is None or phase.total <= 1 or phase.done / phase.total < 0.02:
        return None
    return view.seconds * (phase.total - phase.done) / phase.done


def follow(studies: dict[str, Study], draw: Callable[[dict[str, View]], None]) -> None:
    """Draw the studies now and, while one of them runs, again at every tick."""
    views = _look_all(studies)
    if any(v.state in ("queued", "running") for v in views.values()):
        st.fragment(_tick, run_every=TICK)(studies, draw)
    else:
        draw(views)


def _tick(studies: dict[str, Study], draw: Callable[[dict[str, View]], None]) -> None:
    try:
        views = _look_all(studies)
    # The image files were deleted or changed during the run.
    except source.Missing as missing:
        st.error(sentences.plain(str(missing)), icon=":material/folder_off:")
        return
    draw(views)
    if not any(v.state in ("queued", "running") for v in views.values()):
        st.rerun()


def _look_all(studies: dict[str, Study]) -> dict[str, View]:
    return {who: look(study, remembered=len(studies) > FEW) for who, study in studies.items()}


# --- the panel of buttons and progress ------------------------------------------------------------

STOPPED = (
    "Stopped, for everybody who watched: runs are shared. What was finished is kept; Run goes on"
    " from there."
)
QUICK = "The first preset is made for less than a minute on two processor cores."


def run_button(studies: dict[str, Study], label: str = "Run", unknown: str = QUICK) -> None:
    """A button that runs what has no result yet, with the expected time beside it.

    unknown: shown instead if this machine has not run anything of the kind.
    """
    open_ = {
        who: s for who, s in studies.items() if look(s).state in ("empty", "failed", "cancelled")
    }
    if not open_:
        if all(look(s, remembered=True).state == "done" for s in studies.values()):
            st.caption(
                "These settings have been run on this machine: below is what came out. Change one,"
                " and you can run again."
            )
        return
    left, right = st.columns([1, 4], vertical_alignment="center")
    left.button(
        label,
        type="primary",
        icon=":material/play_arrow:",
        on_click=_submit,
        args=(open_,),
        width="stretch",
    )
    right.markdown(estimate(list(open_.values()), unknown))


def _submit(studies: dict[str, Study]) -> None:
    for study in studies.values():
        services().runner.submit(study)


def estimate(studies: list[Study], unknown: str = QUICK) -> str:
    """How long the studies will take on this machine, or that this is not known yet."""
    known = [expected_seconds(services().store, s) for s in studies]
    if all(k is not None for k in known):
        return (
            f"Takes {sentences.seconds(sum(known))}, by the last run of this kind on this machine."
        )
    guessed = [
        study.typical() if seconds is None else seconds for study, seconds in zip(studies, known)
    ]
    if any(seconds is None for seconds in guessed):
        return f"How long it takes on this machine will be known after the first run. {unknown}"
    far = (
        " **That is work for a graphics card**: a smaller preset shows the same."
        if sum(guessed) > TOO_LONG
        else ""
    )
    return (
        "Not run here yet. On two processor cores it would take"
        f" {sentences.seconds(sum(guessed))}.{far}"
    )


def progress(views: dict[str, View], key: str = "stop") -> None:
    """Show each running study's phase, progress bar, time left and Stop button.

    Also why a study ended without a result. key: of the button, if a page has several panels.
    """
    active = {who: view for who, view in views.items() if view.state in ("queued", "running")}
    if active and len(views) > FEW:
        _one_bar(views)
    else:
        for who, view in active.items():
            _bar(who, view)
    _ends(views)
    if active:
        stopping = all(view.cancelling for view in active.values())
        st.button(
            "Stopping…" if stopping else "Stop",
            icon=":material/stop:",
            key=key,
            disabled=stopping,
            on_click=_cancel,
            args=([view.study for view in active.values()],),
        )


def _ends(views: dict[str, View]) -> None:
    """Show why studies ended without a result, in one box per message."""
    said: dict[tuple[str, str], list[str]] = {}
    for who, view in views.items():
        if view.state in ("failed", "cancelled"):
            message = (
                STOPPED
                if view.state == "cancelled" and len(views) > FEW
                else sentences.named(view.message, parameters.specs(type(view.study)))
            )
            said.setdefault((view.state, message), []).append(who)
    for (state, message), names in said.items():
        done = sum(view.state == "done" for view in views.values())
        name = (
            names[0][0].upper() + names[0][1:]
            if len(names) == 1
            else f"{done} of {len(views)} done"
        )
        show, icon = (
            (st.error, ":material/error:")
            if state == "failed"
            else (st.info, ":material/stop_circle:")
        )
        show(f"**{name}**: {sentences.plain(message)}", icon=icon)


def _cancel(studies: list[Study]) -> None:
    for study in studies:
        services().runner.cancel(key(study))


def _one_bar(views: dict[str, View]) -> None:
    """One progress bar for many studies: how many are done, which is running, the time left.

    The time left is estimated from how long the others took here.
    """
    done = sum(view.state == "done" for view in views.values())
    running = [who for who, view in views.items() if view.state == "running"]
    weights = {who: _weight(view.study) for who, view in views.items()}
    share = sum(
        weights[who]
        * (
            1.0
            if view.state == "done"
            else (
                view.phase.done / view.phase.total
                if view.state == "running" and view.phase and view.phase.total
                else 0.0
            )
        )
        for who, view in views.items()
    ) / sum(weights.values())
    expected = [
        expected_seconds(services().store, view.study) or view.study.typical()
        for view in views.values()
        if view.state == "queued"
    ]
    left = sum(
        view.seconds_left or 0.0 for view in views.values() if view.state == "running"
    ) + sum(filter(None, expected))
    told = f", {sentences.seconds(left)} left" if left and None not in expected else ""
    phase = views[running[0]].phase if running else None
    now = (
        f"; now {running[0]}{f' ({phase.name})' if phase else ''}"
        if running
        else "; waiting for their turn"
    )
    st.progress(min(1.0, share), text=f"**{done} of {len(views)}** done{now}{told}")


def _weight(study: Study) -> float:
    """A study's weight in a common bar: its expected seconds, as far as they are known."""
    return expected_seconds(services().store, study) or study.typical() or 1.0


def _bar(who: str, view: View) -> None:
    name = who[0].upper() + who[1:]
    if view.state == "queued":
        ahead = (
            f"{view.place} run{'s' if view.place > 1 else ''} ahead" if view.place else "starting"
        )
        st.progress(0.0, text=f"**{name}**: waiting for its turn ({ahead})")
        return
    phase = view.phase or Phase("starting")
    left = f", {sentences.seconds(view.seconds_left)} left" if view.seconds_left is not None else ""
    done = min(1.0, phase.done / phase.total) if phase.total else 0.0
    st.progress(done, text=f"**{name}**: {phase.name}{left}")
