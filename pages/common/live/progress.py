"""Progress bars, the time left, the Stop button, and why a run ended without a result."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from engine.core import parameters
from engine.core.lab import expected_seconds
from engine.core.study import Phase, Study, key
from pages.common import sentences
from pages.common.live.services import services
from pages.common.live.view import View

FEW = 3  # studies that get a progress bar each; more share one
STOPPED = "Run stopped for all viewers. Finished parts are kept: Run continues from there."


def progress(views: Mapping[str, View], key: str = "stop") -> None:
    """Show each running study's phase, progress bar, time left and Stop button.

    Also why a study ended without a result. key: of the button, if a page has several panels.
    """
    active = {who: view for who, view in views.items() if view.active}
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


def _cancel(studies: list[Study]) -> None:
    for study in studies:
        services().runner.cancel(key(study))


def _bar(who: str, view: View) -> None:
    """The progress bar of one study."""
    name = _capitalised(who)
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


# --- many studies in one bar ----------------------------------------------------------------------


def _one_bar(views: Mapping[str, View]) -> None:
    """One progress bar for many studies: how many are done, which is running, the time left."""
    done = sum(view.state == "done" for view in views.values())
    weights = {who: _weight(view.study) for who, view in views.items()}
    share = sum(weights[who] * _share(view) for who, view in views.items()) / sum(weights.values())
    st.progress(min(1.0, share), text=f"**{done} of {len(views)}** done{_now(views)}{_left(views)}")


def _weight(study: Study) -> float:
    """A study's weight in a common bar: its expected seconds, as far as they are known."""
    return expected_seconds(services().store, study) or study.typical() or 1.0


def _share(view: View) -> float:
    """The share of one study that is done, in [0, 1]."""
    if view.state == "running" and view.phase and view.phase.total:
        return view.phase.done / view.phase.total
    return float(view.state == "done")


def _now(views: Mapping[str, View]) -> str:
    """Which study runs now."""
    for who, view in views.items():
        if view.state == "running":
            return f"; now {who}{f' ({view.phase.name})' if view.phase else ''}"
    return "; waiting for their turn"


def _left(views: Mapping[str, View]) -> str:
    """The time left, estimated from how long the others took here; empty if it is not known."""
    queued = [
        expected_seconds(services().store, view.study) or view.study.typical()
        for view in views.values()
        if view.state == "queued"
    ]
    running = sum(view.seconds_left or 0.0 for view in views.values() if view.state == "running")
    left = running + sum(filter(None, queued))
    return f", {sentences.seconds(left)} left" if left and None not in queued else ""


# --- why a run ended ------------------------------------------------------------------------------


def _ends(views: Mapping[str, View]) -> None:
    """Show why studies ended without a result, in one box per message."""
    said: dict[tuple[str, str], list[str]] = {}
    for who, view in views.items():
        if view.state in ("failed", "cancelled"):
            said.setdefault((view.state, _why(view, len(views))), []).append(who)
    done = sum(view.state == "done" for view in views.values())
    for (state, message), names in said.items():
        name = _capitalised(names[0]) if len(names) == 1 else f"{done} of {len(views)} done"
        show, icon = (
            (st.error, ":material/error:")
            if state == "failed"
            else (st.info, ":material/stop_circle:")
        )
        show(f"**{name}**: {sentences.plain(message)}", icon=icon)


def _why(view: View, count: int) -> str:
    if view.state == "cancelled" and count > FEW:
        return STOPPED
    return sentences.named(view.message, parameters.specs(type(view.study)))


def _capitalised(name: str) -> str:
    return name[0].upper() + name[1:]
