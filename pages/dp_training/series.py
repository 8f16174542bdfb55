"""A series of trainings that differ in one setting: run together, each drawn as it grows."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from engine.core import rounding
from engine.core.lab import settings_of
from engine.core.study import Result, Study
from engine.studies.dp_training import DPTraining
from engine.studies.ensemble import Ensemble
from pages.common import live, panels, sentences
from pages.common.controls import Controls
from pages.dp_training import audit_series, bars, charts, frontier

SEEDS = {"1": "one seed", "3": "three seeds"}
ALL = "all of them"
Trainings = live.Series[DPTraining]


def show(controls: Controls, study: DPTraining, shown: str) -> None:
    """Run a series; its charts fill while it runs. shown: 'frontier', 'clips' or 'optimizers'."""
    count = int(controls.look("seeds", "Seeds per setting", SEEDS, required=True)[0])
    members = getattr(study, shown)(count)
    sweep = {ALL: Ensemble(members=tuple(members.values()))}

    def draw(views: dict[str, live.View]) -> None:
        live.progress({f"{len(members)} trainings": views[ALL]})
        series = Trainings.of(members, views[ALL])
        if shown == "frontier":
            frontier.draw(controls, study, series)
        else:
            bars.draw(study, series, shown)
        draw_learning(study, series)
        if series.finished:
            draw_guarantee(series, views[ALL])

    live.run_button(sweep)
    live.follow(sweep, draw)
    whole, finished = live.look(sweep[ALL]), live.finished(members)
    if whole.result is not None and len(finished) == len(members):
        offered = audit_series.panel(controls, members, finished)
        seeds = f" --seeds {count}" if count > 1 else ""
        without = DPTraining.EXCLUSIVE if shown == "frontier" else ()
        command = f"{shown}{seeds}{settings_of(study, without=without)}"
        draw_made(
            study, whole.result, {n: (members[n], finished[n]) for n in finished}, offered, command
        )


def draw_learning(study: DPTraining, series: Trainings) -> None:
    """Draw all trainings over epochs: figures 3, 4, 7, 8 and 10 of report 3."""
    lines = {
        name: found["test_accuracy"]
        for name, found in series.curves.items()
        if found.get("test_accuracy")
    }
    if not lines:
        return
    st.markdown(
        "**Accuracy during training**",
        help=(
            "Accuracy on test images, epoch by epoch, for every seed. Click a name in the legend to"
            " hide its line."
        ),
    )
    panels.chart(
        charts.learning(lines, bars.colours(series), study.epochs, study.chance()),
        key="learning",
        alt="Accuracy over epochs, a line for each training",
    )


def draw_guarantee(series: Trainings, view: live.View) -> None:
    """Draw the guarantee of each network and of all of them together."""
    panels.warnings(series.finished)
    st.dataframe(
        [row(name, series.members[name], found) for name, found in series.finished.items()],
        hide_index=True,
    )
    st.caption("ε is rounded up here; the download has all digits.")
    if view.result is not None:
        panels.guarantee(view.result.guarantee)
        st.caption(
            "This is the ε of all of them together. A single one, chosen in advance, spends the ε"
            " in its row."
        )


def row(name: str, member: DPTraining, found: Result) -> dict[str, str]:
    """A finished training's row in the table."""
    return {
        "": name + (" (diverged)" if found.facts["diverged"] else ""),
        "accuracy, %": f"{100 * found.metrics['test_accuracy']:.2f}",
        **sentences.balanced_column(found.metrics),
        "ε alone": rounding.epsilon(found.guarantee.epsilon) if member.private else "none",
        "σ": rounding.described(found.metrics["noise_multiplier"]),
        "learning rate": f"{found.metrics['learning_rate']:.3g}",
        "seconds": f"{found.made.get('seconds', 0):.1f}",
    }


def draw_made(
    study: DPTraining,
    result: Result,
    trained: dict[str, tuple[DPTraining, Result]],
    offered: Mapping[str, Study],
    command: str,
) -> None:
    """How the series was made. trained: name → study and Result; offered: audits and attacks."""
    found = live.finished(offered)
    tests = (
        f" Audits and attacks took another {_seconds(found.values()):.0f} s; their commands stand"
        " above, or follow from these with `run audit` and `run membership`."
        if found
        else ""
    )
    panels.made(
        study,
        result,
        more={**trained, **{name: (offered[name], each) for name, each in found.items()}},
        series=f"python -m engine series dp_training {command}",
        refers_to=(
            f"This is the time of those of the {len(trained)} trainings that had not run before."
            f"{tests}"
        ),
    )


def _seconds(results) -> float:
    return sum(result.made.get("seconds", 0.0) for result in results)
