"""A single training, live, beside its non-private baseline."""

from __future__ import annotations

import streamlit as st

from engine.core import rounding
from engine.core.study import Result
from engine.studies.dp_training import DPTraining
from pages.common import live, panels, sentences
from pages.common.controls import Controls
from pages.dp_training import attacks, charts, details, text

BASELINE = "not private"
Views = dict[str, live.View]


def show(controls: Controls, study: DPTraining) -> None:
    """Run the training and, if wanted, its baseline; then offer the audit and the attack."""
    compare = controls.flag(
        "compare",
        "Compare with the non-private baseline",
        "The same images without clipping or noise, at the learning rate that its optimizer usually"
        " has without privacy.",
    )
    who = text.who_of(study)
    studies = {who: study} | ({BASELINE: study.baseline()} if compare else {})
    if study.noise_multiplier == 0 and live.look(study).result is None:
        st.warning(
            "The noise multiplier is 0: gradients are clipped, but nothing is hidden. ε is"
            " infinite, and nothing is guaranteed to anyone.",
            icon=":material/warning:",
        )
    live.run_button(studies)
    live.follow(studies, lambda views: draw(study, who, views))
    finished = live.finished(studies)
    if len(finished) == len(studies):
        offered = attacks.panel(controls, study, finished[who].guarantee, baseline=compare)
        others = {BASELINE: studies[BASELINE]} if compare else {}
        details.draw(study, who, finished, {**others, **offered})


def draw(study: DPTraining, who: str, views: Views) -> None:
    """Draw everything below the settings from the current state."""
    live.progress(views)
    images, learned = st.columns([1, 2])
    with images:
        draw_images(study, views)
    with learned:
        draw_learned(study, who, views)
    if views[who].result is not None:
        draw_finished(who, views)


def draw_images(study: DPTraining, views: Views) -> None:
    """Draw the networks' current answers on the same forty images, or the training images."""
    shown = {who: view for who, view in views.items() if "answers" in view.images}
    if not shown:
        st.markdown("**Training images**")
        st.image(study.sample(), width="stretch", alt=f"Some training images of {study.dataset}")
        st.caption("Some of them. The noise hides whether any one was used.")
        return
    st.markdown("**Forty test images, misclassified ones framed**")
    for who, view in shown.items():
        st.image(
            view.images["answers"],
            caption=text.WHO[who].capitalize(),
            width="stretch",
            alt=f"Forty test images, the misclassified ones framed, {text.WHO[who]}",
        )


def draw_learned(study: DPTraining, who: str, views: Views) -> None:
    """Draw the current numbers and the accuracy curves."""
    curves = {name: view.curves for name, view in views.items()}
    started = any(curves.values())
    if started:
        draw_numbers(who, views)
    else:
        st.markdown("**Results appear here**")
        st.markdown("Accuracy on test images, epoch by epoch, and the ε spent so far.")
    panels.chart(
        charts.accuracy(curves, study.epochs, study.chance()),
        key="accuracy",
        alt=(
            "Accuracy over epochs, with and without privacy"
            if started
            else "An empty chart of accuracy over epochs"
        ),
    )


def draw_numbers(who: str, views: Views) -> None:
    """Draw the private training's accuracy beside the baseline's, its ε, speed and time."""
    view = views[who]
    if view.state == "empty":
        st.caption("Only the network without privacy has run so far.")
        return
    baseline = views[BASELINE].curves.get("test_accuracy") if BASELINE in views else None
    accuracy, speed = (view.curves.get(n, []) for n in ("test_accuracy", "images_per_second"))
    first, second, third, fourth = st.columns(4)
    first.metric(
        "Accuracy",
        f"{100 * accuracy[-1][1]:.1f} %" if accuracy else "–",
        help=f"{text.WHO[who].capitalize()}, on test images, after the last epoch so far.",
        delta=f"{100 * baseline[-1][1]:.1f} % without privacy" if baseline else None,
        delta_color="off",
        delta_arrow="off",
    )
    label, value = spent(view)
    second.metric(
        label,
        value,
        help=(
            "During training, a fast upper bound (RDP), which may exceed the budget. At the end, a"
            " tight accountant (PLD) computes the ε spent, which stays within it."
        ),
    )
    third.metric("Images per second", f"{speed[-1][1]:,.0f}" if speed else "–")
    fourth.metric("Time", f"{view.seconds:.0f} s")


def spent(view: live.View) -> tuple[str, str]:
    """Label and value of the ε spent: exact at the end, an upper bound before."""
    if view.result is not None:
        exact = view.result.guarantee.epsilon
        return "ε spent", "∞" if exact is None else rounding.epsilon(exact)
    points = view.curves.get("epsilon", [])
    return ("ε spent, at most", rounding.epsilon(points[-1][1])) if points else ("ε spent", "–")


def draw_finished(who: str, views: Views) -> None:
    """Draw what is shown after the private training has finished."""
    found = {name: view.result for name, view in views.items() if view.result is not None}
    result = found[who]
    panels.warnings(found)
    draw_margins(who, found)
    panels.odds(
        result.guarantee,
        "An attacker wants to know whether your image was used for training, or replaced by a"
        " blank.",
        "Without the network",
        "With the network",
    )
    panels.guarantee(result.guarantee)


def draw_margins(who: str, found: dict[str, Result]) -> None:
    """What the accuracy was measured on, its margin, and the learning rates."""
    result = found[who]
    accuracy, tested = result.metrics["test_accuracy"], len(result.arrays["predictions"])
    rates = [f"{r.metrics['learning_rate']:.3g} {text.WHO[name]}" for name, r in found.items()]
    st.caption(
        f"Measured on {tested:,} test images{sentences.balanced(result.metrics)}: ±"
        f" {sentences.give_or_take(sentences.margin(accuracy, tested))} points; another seed"
        f" changes it by about as much. Learning rate: {', '.join(rates)}. Training accuracy: on"
        f" the first {result.facts['train_accuracy_on']:,} training images."
    )
