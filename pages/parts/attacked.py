"""What a finished training's ε buys: an audit and an attack on it, beside what is promised. Drawn below the training, never inside its live part."""

from __future__ import annotations

import streamlit as st

from engine import data
from engine.studies.audit import Audit
from engine.studies.dp_training import DPTraining
from engine.studies.membership import Membership
from pages.parts import charts, live, words
from pages.parts.controls import Controls

AUDIT, ATTACK, TWIN = "the audit", "the attack", "the attack without privacy"


def panel(controls: Controls, member: DPTraining, twin: bool) -> None:
    """Audit and attack one finished training; with its twin's side by side, where that has run."""
    st.subheader("What does this ε buy? Attack it", anchor=False)
    st.markdown("An **auditor** trains once more with made-up examples among the pictures, each put in or left out by a coin flip, and guesses which were in from all that the training "
                "publishes. An **attacker** trains networks like this one and tries to tell which real pictures it has seen. Both know far more than a stranger would.")
    audited = member.private and member.noise_multiplier != 0
    settings(controls, audited, attacked=True)
    studies = {AUDIT: audit_of(controls, member)} if audited else {}
    studies |= {ATTACK: attack_on(controls, member)} | ({TWIN: attack_on(controls, member.twin())} if twin and member.private else {})
    for study in studies.values():
        controls.checked(lambda study=study: study.check(data.exhibits(study.dataset)), study.NAME)
    live.run_button(studies, "Attack it", "On two processor cores most attacks take less than a minute.")
    live.follow(studies, lambda views: draw(views, member))


def settings(controls: Controls, audited: bool, attacked: bool) -> None:
    """The auditor's and the attacker's."""
    first, second, third = st.columns(3)
    if audited:
        with first:
            controls.choice("cheat")
        with second:
            controls.number("canaries")
    if attacked:
        with third:
            controls.number("shadows")


def audit_of(controls: Controls, member: DPTraining) -> Audit:
    """The audit of a training at the page's settings."""
    return Audit(**fields(member), canaries=controls.value("canaries"), cheat=controls.value("cheat"))


def attack_on(controls: Controls, member: DPTraining) -> Membership:
    """The attack on a training at the page's settings."""
    return Membership(**fields(member), shadows=controls.value("shadows"))


def fields(member: DPTraining) -> dict:
    """All that the training depends on."""
    return {name: getattr(member, name) for name in DPTraining.model_fields}


def draw(views: dict[str, live.View], member: DPTraining) -> None:
    """Both, as far as they are."""
    live.progress(views)
    left, right = st.columns(2)
    if AUDIT in views:
        with left:
            draw_audit(views[AUDIT])
    with right if AUDIT in views else left:
        draw_attack(views)
    draw_given_away(views)


# --- the audit ----------------------------------------------------------------------------------------------------------------------------

def draw_audit(view: live.View) -> None:
    """Floor and ceiling on one axis; how they grew; and the mechanism's promises one by one."""
    st.markdown("**The auditor: how much can be shown to have been spent?**")
    if view.result is None:
        if view.curves.get("floor"):
            st.plotly_chart(charts.floor_and_ceiling(view.curves), key="audit", config={"displayModeBar": False}, alt="Floor and ceiling of ε over epochs")
        else:
            st.caption("Here will stand what was promised at most, and what guesses prove was given away at least, on one axis.")
        return
    found = view.result
    st.plotly_chart(charts.between(found.metrics["floor"], found.metrics["ceiling"]), key="between", config={"displayModeBar": False},
                    alt=f"An axis of ε: at least {found.metrics['floor']:.2f} was shown, at most {found.metrics['ceiling']:.2f} promised")
    st.markdown(words.audited(found.metrics, found.facts, view.study.cheat))
    st.markdown("Each promise of the method, tested by itself:\n" + "\n".join(
        f"- {check['name']}: **{'kept' if check['kept'] else 'broken'}**  \n  :small[{words.plain(check['measured'])}]" for check in found.facts["checks"]))
    st.caption(words.powers(found.facts))
    with st.expander("How floor and ceiling grew"):
        st.plotly_chart(charts.floor_and_ceiling(found.curves), key="audit", config={"displayModeBar": False}, alt="Floor and ceiling of ε over epochs")
        st.caption("The ceiling while it runs is the fast accountant's (RDP), a little above the exact one. A floor is claimed for the end alone.")


# --- the attack -----------------------------------------------------------------------------------------------------------------------------

def draw_attack(views: dict[str, live.View]) -> None:
    """ROC curves on log axes under what is guaranteed, and the sentence that they carry."""
    st.markdown("**The attacker: which pictures has it learned from?**")
    found = {("private" if view.study.private else "not private"): view.result for who, view in views.items() if who != AUDIT and view.result is not None}
    if not found:
        st.caption("Here will stand how many of the pictures that it learned from are found, at how many false alarms, under the bound that the noise guarantees.")
        return
    st.plotly_chart(charts.roc({who: result.arrays for who, result in found.items()}), key="roc", config={"displayModeBar": False},
                    alt="Share of members found over false alarms, on logarithmic axes, with the bounds that are guaranteed")
    st.markdown(words.attacked({who: result.metrics for who, result in found.items()}))
    st.caption(words.shadowed({who: result.metrics for who, result in found.items()}))


def draw_given_away(views: dict[str, live.View]) -> None:
    """The training pictures that the attacker is surest of."""
    found = {who: view.result for who, view in views.items() if who != AUDIT and view.result is not None and view.result.pictures}
    if found:
        st.markdown("**The training pictures that the attacker is surest of**")
        for who, result in found.items():
            st.caption("Without privacy: the oddest ones. No other picture explains why the network is so sure of them." if not views[who].study.private else
                       "With privacy: whichever the noise happened to favour.")
            for i, column in enumerate(st.columns(10)):
                if f"given_away_{i}" in result.pictures:
                    column.image(result.pictures[f"given_away_{i}"], width="stretch", alt=f"A training picture of class {result.facts['given_away'][i]}")


# --- all of a series ----------------------------------------------------------------------------------------------------------------------------

def panel_of_series(controls: Controls, members: dict[str, DPTraining]) -> None:
    """Below a finished series: audit all of it, or attack one of its trainings."""
    st.subheader("What do these ε buy? Attack them", anchor=False)
    audited = {name: member for name, member in members.items() if member.private and member.noise_multiplier != 0}
    names = {"all": f"audit all {len(audited)} private ones"} | {name: name for name in members}
    chosen = st.selectbox("Which", list(names), format_func=names.get, key="dp_training.attacked")
    if chosen != "all":
        return panel(controls, members[chosen], twin=False)
    st.markdown("An auditor trains each of them once more with made-up examples among the pictures, and guesses which were in. What the accountant promises is a ceiling; what right guesses "
                "prove is a floor. The truth lies between.")
    settings(controls, audited=True, attacked=False)
    studies = {name: audit_of(controls, member) for name, member in audited.items()}
    for study in studies.values():
        controls.checked(lambda study=study: study.check(data.exhibits(study.dataset)), study.NAME)
    live.run_button(studies, "Audit them", "On two processor cores most audits take less than ten seconds each.")
    live.follow(studies, draw_all)


def draw_all(views: dict[str, live.View]) -> None:
    """Floors under ceilings, one for each training."""
    live.progress(views)
    found = {name: view.result for name, view in views.items() if view.result is not None}
    if not found:
        return
    st.plotly_chart(charts.floors_and_ceilings({name: (result.metrics["floor"], result.metrics["ceiling"], bool(result.metrics["violated"])) for name, result in found.items()}),
                    key="floors", config={"displayModeBar": False}, alt="For each training the ε that was promised and the least that was shown to be spent")
    broken = [name for name, result in found.items() if result.metrics["violated"]]
    st.markdown(f"**{len(broken)} of {len(found)}** break a promise: {', '.join(broken)}." if broken else f"None of {len(found)} breaks a promise.")
    st.caption("Floors hold with 95 % confidence each. They lie far below where noise is strong, as an audit with a few thousand guesses cannot show more: a low floor is no proof of privacy.")
