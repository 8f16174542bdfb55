"""The audit of a finished training and the attack on it, beside the guarantee.

Drawn below the training, never inside its live part.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeVar

import streamlit as st

from engine.core import parameters
from engine.core.study import Guarantee, Refused, Study
from engine.datasets import registry
from engine.studies.dp_training import SHADOWS, Audit, DPTraining, Membership
from pages.common import live, sentences
from pages.common.controls import Controls
from pages.dp_training import audit, exact, membership, text

Test = TypeVar("Test", Audit, Membership, Audit | Membership)
AUDIT, ATTACK, BASELINE = "the audit", "the attack", "the attack without privacy"
FIELDS = ("canaries", "bug", "shadows")  # parameters of the audit and the attack only
INTRO = (
    "An **auditor** repeats the training with artificial examples (*canaries*), each included by a"
    " coin flip, and guesses from all that the training publishes which were included. An"
    " **attacker** trains similar networks (*shadow models*) and guesses which real images were"
    " used. Both know far more than an outsider."
)


def panel(
    controls: Controls,
    member: DPTraining,
    promise: Guarantee,
    baseline: bool,
    title: str = "Test the guarantee",
) -> Mapping[str, Study]:
    """Audit and attack one finished training.

    baseline: also attack the non-private baseline. Returns the studies that can be run.
    """
    if title:
        st.subheader(title, anchor=False)
    st.markdown(INTRO)
    audited = member.private and member.noise_multiplier != 0
    settings(controls, member, audited, attacked=True)
    studies: dict[str, Audit | Membership] = {AUDIT: audit_of(controls, member)} if audited else {}
    studies[ATTACK] = attack_on(controls, member)
    if baseline and member.private:
        studies[BASELINE] = attack_on(controls, member.baseline())
    studies = possible(studies)
    check(controls, studies)
    live.run_button(studies, "Audit and attack" if audited else "Attack")
    live.follow(studies, lambda views: draw(views, promise))
    return studies


def draw(views: dict[str, live.View], promise: Guarantee) -> None:
    """Draw the audit and the attack as far as they have run."""
    live.progress(views)
    attacked = {
        text.who_of(view.study.training): view.result
        for who, view in views.items()
        if who != AUDIT and view.result is not None
    }
    if attacked:
        bug = views[AUDIT].study.bug if AUDIT in views else "none"
        found = {who: result.metrics for who, result in attacked.items()}
        st.markdown(text.tied(promise, found, bug))
    left, right = st.columns(2)
    if AUDIT in views:
        with left:
            audit.draw(views[AUDIT])
    with right if AUDIT in views else left:
        membership.draw(attacked, promise)
    membership.draw_most_certain(attacked)
    done = {
        who: (view.study, view.result) for who, view in views.items() if view.result is not None
    }
    exact.draw(done)


# --- settings and studies -------------------------------------------------------------------------


def settings(controls: Controls, member: DPTraining, audited: bool, attacked: bool) -> None:
    """Draw the settings of the audit and of the attack."""
    if audited:
        bug = controls.value("bug")
        controls.choice("bug", beside=True)
        honest = " The attack is on the training without the bug."
        st.caption(text.BUGS[bug] + (honest if attacked and bug != "none" else ""))
    left, right = st.columns(2)
    if audited:
        with left:
            controls.number("canaries")
    if attacked:
        with right if audited else left:
            controls.number("shadows", placeholder=str(SHADOWS[member.network]))


def audit_of(controls: Controls, member: DPTraining) -> Audit:
    """The audit of a training with the page's settings."""
    return Audit(training=member, canaries=controls.value("canaries"), bug=controls.value("bug"))


def attack_on(controls: Controls, member: DPTraining) -> Membership:
    """The attack on a training with the page's settings."""
    return Membership(training=member, shadows=controls.value("shadows"))


def possible(studies: Mapping[str, Test]) -> dict[str, Test]:
    """The studies that the data set is large enough for; says why others are not offered.

    The training is shown without them.
    """
    found = {}
    for who, study in studies.items():
        try:
            study.check(registry.preview(study.dataset))
        except Refused as refused:
            if refused.field == "dataset":
                why = sentences.named(str(refused), parameters.specs(type(study)))
                st.info(
                    sentences.plain(f"{who[0].upper()}{who[1:]} cannot run: {why}."),
                    icon=":material/groups:",
                )
                continue
        found[who] = study
    return found


def check(controls: Controls, studies: Mapping[str, Test]) -> None:
    """Stop the page if a study does not fit the data set, with the message at its field."""
    for study in studies.values():
        controls.checked(partial(study.check, registry.preview(study.dataset)), study.NAME)
