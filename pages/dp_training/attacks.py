"""The audit of a finished training and the attack on it, beside the guarantee.

Drawn below the training, never inside its live part.
"""

from __future__ import annotations

import streamlit as st

from engine.core import parameters, rounding
from engine.core.lab import command
from engine.core.study import Guarantee, Refused, Result, Study
from engine.datasets import registry
from engine.studies.dp_training import SHADOWS, Audit, DPTraining, Membership
from pages.common import live, panels, sentences
from pages.common.controls import Controls
from pages.dp_training import charts, text

AUDIT, ATTACK, TWIN = "the audit", "the attack", "the attack without privacy"
ALL = "all"
FIELDS = ("canaries", "cheat", "shadows")  # parameters of the audit and the attack only


def panel(
    controls: Controls,
    member: DPTraining,
    promise: Guarantee,
    twin: bool,
    title: str = "What does this ε buy? Attack it",
) -> dict[str, Study]:
    """Audit and attack one finished training.

    The attack on the non-private baseline is shown beside it if it has run. Returns the studies
    that can be run.
    """
    if title:
        st.subheader(title, anchor=False)
    st.markdown(
        "An **auditor** trains once more with made-up examples (*canaries*) among the pictures,"
        " each put in or left out by a coin flip, and guesses which were in from all that the"
        " training publishes. An **attacker** trains networks like this one (*shadows*) and tries"
        " to tell which real pictures it has seen. Both know far more than a stranger would."
    )
    audited = member.private and member.noise_multiplier != 0
    settings(controls, member, audited, attacked=True)
    studies = {AUDIT: audit_of(controls, member)} if audited else {}
    studies |= {ATTACK: attack_on(controls, member)} | (
        {TWIN: attack_on(controls, member.baseline())} if twin and member.private else {}
    )
    studies = possible(studies)
    check(controls, studies)
    live.run_button(studies, "Attack it")
    live.follow(studies, lambda views: draw(views, promise))
    return studies


def possible(studies: dict[str, Study]) -> dict[str, Study]:
    """The studies that the data set is large enough for; says why others are not offered.

    The training is shown without them.
    """
    found = {}
    for who, study in studies.items():
        try:
            study.check(registry.preview(study.dataset))
        except Refused as refused:
            if refused.field == "dataset":
                st.info(
                    sentences.plain(
                        f"{who[0].upper()}{who[1:]} cannot run:"
                        f" {sentences.named(str(refused), parameters.specs(type(study)))}."
                    ),
                    icon=":material/groups:",
                )
                continue
        found[who] = study
    return found


def check(controls: Controls, studies: dict[str, Study]) -> None:
    """Stop the page if a study does not fit the data set, with the message at its field."""
    for study in studies.values():
        controls.checked(
            lambda study=study: study.check(registry.preview(study.dataset)), study.NAME
        )


def settings(controls: Controls, member: DPTraining, audited: bool, attacked: bool) -> None:
    """Draw the settings of the audit and of the attack."""
    if audited:
        cheat = controls.value("cheat")
        controls.choice("cheat", beside=True)
        st.caption(
            text.CHEATS[cheat]
            + (
                " The attacker is shown against the honest training: the cheat concerns the auditor"
                " alone."
                if attacked and cheat != "none"
                else ""
            )
        )
    left, right = st.columns(2)
    if audited:
        with left:
            controls.number("canaries")
    if attacked:
        with right if audited else left:
            controls.number("shadows", placeholder=str(SHADOWS[member.network]))


def audit_of(controls: Controls, member: DPTraining) -> Audit:
    """The audit of a training with the page's settings."""
    return Audit(
        training=member, canaries=controls.value("canaries"), cheat=controls.value("cheat")
    )


def attack_on(controls: Controls, member: DPTraining) -> Membership:
    """The attack on a training with the page's settings."""
    return Membership(training=member, shadows=controls.value("shadows"))


def draw(views: dict[str, live.View], promise: Guarantee) -> None:
    """Draw the audit and the attack as far as they have run."""
    live.progress(views)
    attacks = {
        who_of(view.study.training): view.result
        for who, view in views.items()
        if who != AUDIT and view.result is not None
    }
    if attacks:
        st.markdown(
            text.tied(
                promise,
                {who: result.metrics for who, result in attacks.items()},
                views[AUDIT].study.cheat if AUDIT in views else "none",
            )
        )
    left, right = st.columns(2)
    if AUDIT in views:
        with left:
            draw_audit(views[AUDIT])
    with right if AUDIT in views else left:
        draw_attack(attacks, promise)
    draw_surest(attacks)
    draw_exact({who: view for who, view in views.items() if view.result is not None})


def who_of(study: DPTraining) -> str:
    """'private', 'not private', or 'no noise' if gradients are clipped but not noised."""
    return (
        "not private"
        if not study.private
        else "no noise"
        if study.noise_multiplier == 0
        else "private"
    )


# --- the audit ------------------------------------------------------------------------------------


def draw_audit(view: live.View) -> None:
    """Draw the audit: lower and upper bound of ε, their curves, and each check."""
    st.markdown("**The auditor: how much can be shown to have been spent?**")
    if view.result is None:
        if view.curves.get("floor"):
            st.plotly_chart(
                charts.floor_and_ceiling(view.curves),
                key="audit",
                config={"displayModeBar": False},
                alt="Floor and ceiling of ε over epochs",
            )
        else:
            st.caption(
                "Here will stand what was promised at most, and what guesses prove was given away"
                " at least, on one axis."
            )
        return
    found = view.result
    st.plotly_chart(
        charts.between(found.metrics["floor"], found.metrics["ceiling"]),
        key="between",
        config={"displayModeBar": False},
        alt=(
            f"An axis of ε: at least {rounding.floor(found.metrics['floor'])} was shown, at most"
            f" {rounding.epsilon(found.metrics['ceiling'])} promised"
        ),
    )
    st.markdown(
        text.audited(found.metrics, found.facts, view.study.cheat, view.study.training.delta)
    )
    panels.warnings({"": found})
    st.markdown(
        "Each promise of the method, tested by itself:\n"
        + "\n".join(
            f"- {check['name']}: **{text.kept(check)}**  \n "
            f" :small[{sentences.plain(check['measured'])}]"
            for check in found.facts["checks"]
        )
    )
    st.caption(text.powers(found.facts))
    with st.expander("How floor and ceiling grew"):
        st.plotly_chart(
            charts.floor_and_ceiling(found.curves),
            key="audit",
            config={"displayModeBar": False},
            alt="Floor and ceiling of ε over epochs",
        )
        st.caption(
            "The ceiling while it runs is the fast accountant's (RDP), a little above the exact"
            " one. A floor is claimed for the end alone: on its way it may fall, as luck leaves the"
            " guesses."
        )


# --- the attack -----------------------------------------------------------------------------------


def draw_attack(attacks: dict[str, Result], promise: Guarantee) -> None:
    """Draw ROC curves on log axes below the guaranteed bound, and their summary."""
    st.markdown("**The attacker: which pictures has it learned from?**")
    if not attacks:
        st.caption(
            "Here will stand how many of the pictures that it learned from are found, at how many"
            " false alarms"
            + (
                ", under the bound that the noise guarantees."
                if promise.epsilon is not None
                else "."
            )
        )
        return
    st.plotly_chart(
        charts.roc({who: result.arrays for who, result in attacks.items()}),
        key="roc",
        config={"displayModeBar": False},
        alt=(
            "Share of members found over false alarms, on logarithmic axes, with the bounds that"
            " are guaranteed"
        ),
    )
    st.markdown(text.attacked({who: result.metrics for who, result in attacks.items()}))
    st.caption(
        text.shadowed(
            {who: result.metrics for who, result in attacks.items()},
            bounded=any("bound_any" in result.arrays for result in attacks.values()),
        )
    )


def draw_surest(attacks: dict[str, Result]) -> None:
    """Draw the training images that the attacker is surest of."""
    if attacks:
        st.markdown("**The ten training pictures that the attacker is surest of**")
    for who, result in attacks.items():
        st.image(
            result.pictures["surest_of"],
            width="stretch",
            caption=text.WHO[who].capitalize(),
            alt=f"Ten training pictures, {text.WHO[who]}: {', '.join(result.facts['surest_of'])}",
        )


def draw_exact(views: dict[str, live.View]) -> None:
    """Draw all numbers with their margins, and the commands that reproduce them."""
    if not views:
        return
    with st.expander(
        "Exact numbers, and the commands that make them again", icon=":material/table:"
    ):
        for view in views.values():
            metrics, name = (
                view.result.metrics,
                (
                    view.study.TITLE
                    if isinstance(view.study, Audit)
                    else f"Membership, {text.WHO[who_of(view.study.training)]}"
                ),
            )
            st.markdown(f"**{name}**")
            if isinstance(view.study, Audit):
                rows = [
                    {
                        "": "floor on ε (95 %)",
                        "value": rounding.at_least(metrics["floor"]),
                        "how": (
                            f"δ = {rounding.chosen(view.study.training.delta)},"
                            f" {metrics['right']:.0f} of {metrics['guesses']:.0f} guesses right"
                        ),
                    },
                    {
                        "": "ceiling on ε",
                        "value": rounding.at_most(metrics["ceiling"]),
                        "how": "PLD accountant, rounded up",
                    },
                ]
                rows += [
                    {
                        "": f"p: {check['name']}",
                        "value": rounding.at_most(check["p"], leading=True),
                        "how": (
                            f"would find “{check['error']}” in about {100 * check['power']:.0f}"
                            " of 100"
                        ),
                    }
                    for check in view.result.facts["checks"]
                ]
            else:
                how = (
                    f"{metrics['shadows']:.0f} networks, {metrics['candidates']:,.0f} pictures"
                    " each; 95 % margin over networks and pictures"
                )
                rows = [
                    {
                        "": label,
                        "value": f"{metrics[key]:.4f} ± {rounding.at_most(metrics[margin], 4)}",
                        "how": how,
                    }
                    for label, key, margin in (
                        ("area under the curve", "area_like_it", "area_margin"),
                        ("right guesses", "right_guesses_like_it", "right_guesses_margin"),
                        ("found at 0.1 % false alarms", "found_at_0.001", "found_at_0.001_margin"),
                        ("found at 1 % false alarms", "found_at_0.01", "found_at_0.01_margin"),
                    )
                ]
                rows += [
                    {
                        "": "area under the curve, this very network",
                        "value": f"{metrics['area']:.4f}",
                        "how": "its training pictures against test pictures",
                    }
                ]
            st.dataframe(rows, hide_index=True)
            st.code(command(view.study), language="bash", wrap_lines=True)


# --- a whole series -------------------------------------------------------------------------------


def panel_of_series(
    controls: Controls, members: dict[str, DPTraining], finished: dict[str, Result]
) -> dict[str, Study]:
    """Below a finished series: audit all of it, or attack one of its trainings.

    Returns the studies that can be run.
    """
    st.subheader("What do these ε buy? Attack them", anchor=False)
    audited = {
        name: member
        for name, member in members.items()
        if member.private and member.noise_multiplier != 0
    }

    def told(name):
        return (
            f"{name}: ε = {rounding.epsilon(finished[name].guarantee.epsilon)}, audit and attack"
            if name in audited
            else f"{name}: attack"
        )

    names = list(members)
    chosen = controls.listed(
        "attacked",
        "Which of them",
        {ALL: f"all {len(audited)} private ones: audit each"}
        | {str(number): told(name) for number, name in enumerate(names, 1)},
    )
    if chosen != ALL:
        name = names[int(chosen) - 1]
        return panel(controls, members[name], finished[name].guarantee, twin=False, title="")
    st.markdown(
        "An **auditor** trains each of them once more with made-up examples (*canaries*) among the"
        " pictures, and guesses which were in. What the accountant promises is a ceiling; what"
        " right guesses prove is a floor."
    )
    settings(controls, next(iter(audited.values())), audited=True, attacked=False)
    studies = {name: audit_of(controls, member) for name, member in audited.items()}
    check(controls, studies)
    live.run_button(studies, "Audit them")
    live.follow(studies, lambda views: draw_all(views, controls.value("cheat")))
    return {f"audit of {name}": each for name, each in studies.items()}


def draw_all(views: dict[str, live.View], cheat: str) -> None:
    """Draw the lower and upper bound of ε of each training."""
    live.progress(views)
    found = {name: view.result for name, view in views.items() if view.result is not None}
    if not found:
        return
    st.plotly_chart(
        charts.floors_and_ceilings(
            {
                name: (
                    result.metrics["floor"],
                    result.metrics["ceiling"],
                    bool(result.metrics["violated"]),
                )
                for name, result in found.items()
            },
            list(views),
        ),
        key="floors",
        config={"displayModeBar": False},
        alt="For each training the ε that was promised and the least that was shown to be spent",
    )
    blind = [
        name
        for name, result in found.items()
        if any(check["blind"] and check["error"] == cheat for check in result.facts["checks"])
    ]
    st.markdown(
        text.audited_all(
            {name: result.metrics for name, result in found.items()}, blind, len(views), cheat
        )
    )
    panels.warnings(found)
    st.dataframe(
        [
            {
                "": name,
                "promised, at most": rounding.at_most(result.metrics["ceiling"]),
                "shown, at least": rounding.at_least(result.metrics["floor"]),
                "guesses right": (
                    f"{result.metrics['right']:,.0f} of {result.metrics['guesses']:,.0f}"
                ),
                "broken": (
                    ", ".join(
                        [check["name"] for check in result.facts["checks"] if not check["kept"]]
                        + ["floor above ceiling"] * bool(result.metrics["beyond"])
                    )
                    or "nothing"
                ),
                "cannot see": (
                    ", ".join(check["error"] for check in result.facts["checks"] if check["blind"])
                    or "–"
                ),
            }
            for name, result in found.items()
        ],
        hide_index=True,
    )
    st.caption(
        "A floor is wrong in at most 5 of 100 audits of a correct training, and a promise called"
        " broken in at most 1 of 100, each for itself. Floors lie far below where noise is strong,"
        " as an audit with a few thousand guesses cannot show more: a low floor is no proof of"
        " privacy."
    )
