"""Page DP training: train networks live while their privacy loss is counted.

It shows one training beside its non-private baseline, or a series over one setting. Report 3 is
Boulif and Durand 2021.
"""

import numpy as np
import streamlit as st

from engine.core import rounding
from engine.core.lab import settings_of
from engine.core.study import Refused
from engine.datasets import imaging, registry
from engine.studies.dp_training import Audit, DPTraining, Membership
from engine.studies.ensemble import Ensemble
from pages.common import figures, live, panels, sentences
from pages.common.controls import Asked, Controls, Look
from pages.dp_training import attacks, charts, text

SHOWN = {
    "frontier": "The whole trade-off",
    "one": "One training, live",
    "clips": "Clip norms",
    "optimizers": "Optimizers",
    "spending": "ε over epochs",
}
HARD = 40  # number of images shown; if networks disagree on at least this many, these are shown
SEEDS = {"1": "one seed", "3": "three seeds"}
MOST = 27  # trainings in the longest series: nine with three seeds each

st.title("Can a machine learn from you without remembering you?", anchor=False)
st.markdown(
    "Here a machine learns to read pictures while noise hides what each single picture taught it."
    " **Press Run and watch what it still learns at eight strengths of noise; or choose how much"
    " privacy and watch one training closely.**"
)

# the non-private baseline has a switch of its own
controls = Controls(
    DPTraining,
    Audit,
    Membership,
    hidden=("private",),
    aside=attacks.FIELDS,
    looks={
        "shown": Look(tuple(SHOWN), ("frontier",)),
        "seeds": Look(tuple(SEEDS), ("1",)),
        "compare": Look(("yes", "no"), ("yes",)),
        "attacked": Look((attacks.ALL, *map(str, range(1, MOST + 1))), (attacks.ALL,)),
        "need": Asked(10.0, 100.0),
        "have": Asked(0.01, 1000.0),
    },
)
controls.opening("mnist")
controls.complain()


def switch_dial() -> None:
    """Switch between a budget and a noise multiplier; one follows from the other."""
    by_noise = st.session_state["dp_training.by"] == "noise"
    controls.change(
        noise_multiplier=1.0 if by_noise else None, target_epsilon=None if by_noise else 3.0
    )


st.session_state["dp_training.by"] = (
    "budget" if controls.value("noise_multiplier") is None else "noise"
)
controls.dial(
    "target_epsilon" if st.session_state["dp_training.by"] == "budget" else "noise_multiplier"
)
controls.presets(
    {
        "quick": "5,000 digits",
        "mnist": "All of MNIST",
        "fashion": "Clothes",
        "cnn": "A CNN",
        "report": "As in the report",
        "report_fashion": "The report's clothes",
    }
)
with st.expander(
    "More settings",
    icon=":material/tune:",
    expanded=controls.opens(*DPTraining.model_fields, also=controls.lacks_data()),
):
    first, second, third = st.columns(3)
    with first:
        st.segmented_control(
            "The dial sets",
            ["budget", "noise"],
            key="dp_training.by",
            on_change=switch_dial,
            required=True,
            format_func={"budget": "the budget ε", "noise": "the noise"}.get,
        )
        controls.dataset()
        controls.choice("network")
        if controls.value("network") == "cnn":
            for name in ("activation", "norm"):
                controls.choice(name)
            controls.number("augmentations")
        else:
            controls.switch("straighten")
            controls.number("mean_noise")
    with second:
        controls.choice("optimizer")
        for name in ("learning_rate", "momentum", "averaging"):
            controls.number(name)
    with third:
        for name in ("max_grad_norm", "batch_size", "epochs", "delta", "seed"):
            controls.number(name)
shown = controls.look("shown", "Show", SHOWN, required=True)[0]

study = controls.ready()
controls.checked(lambda: study.check(registry.preview(study.dataset)))
WHO = attacks.who_of(study)  # 'private', or 'no noise' without noise


# --- many trainings: what a setting does ----------------------------------------------------------


def show_sweep() -> None:
    """Run a series of trainings; its chart fills while they run."""
    count = int(controls.look("seeds", "Each", SEEDS, required=True)[0])
    members = getattr(study, shown)(count)
    sweep = {"all of them": Ensemble(members=tuple(members.values()))}
    live.run_button(sweep)
    live.follow(sweep, lambda views: draw_sweep(members, views["all of them"]))
    if live.look(sweep["all of them"]).state == "done":
        finished = {
            name: live.look(member, remembered=True).result for name, member in members.items()
        }
        offered = attacks.panel_of_series(controls, members, finished)
        found = found_by(offered)
        besides = (
            " Audits and attacks took"
            f" {sum(result.made.get('seconds', 0.0) for _, result in found.values()):.0f} s"
            " besides; their commands stand above, or follow from these with `run audit` and `run"
            " membership`."
            if found
            else ""
        )
        panels.made(
            study,
            live.look(sweep["all of them"]).result,
            more={name: (members[name], finished[name]) for name in members} | found,
            series=(
                "python -m engine series dp_training"
                f" {shown}{f' --seeds {count}' if count > 1 else ''}"
                f"{settings_of(study, without=DPTraining.EXCLUSIVE if shown == 'frontier' else ())}"
            ),
            told=(
                f"That is for the {len(members)} trainings together, as many of them as had not run"
                f" before.{besides}"
            ),
        )


def draw_sweep(members: dict[str, DPTraining], view: live.View) -> None:
    """Draw the current state of the series."""
    live.progress({f"{len(members)} trainings": view})
    finished = {
        name: found
        for name, member in members.items()
        if (found := live.look(member, remembered=True).result) is not None
    }
    curves = {
        name: finished[name].curves if name in finished else live.of_member(view, number)
        for number, name in enumerate(members)
    }
    {"frontier": draw_frontier, "clips": draw_clips, "optimizers": draw_optimizers}[shown](
        members, finished, curves
    )
    draw_learning(members, curves)
    if finished:
        draw_promise(members, finished, view)


def draw_frontier(members: dict[str, DPTraining], finished: dict, curves: dict) -> None:
    """Draw accuracy over ε, including every epoch: figures 5 and 9 of report 3."""
    private = {name: member for name, member in members.items() if member.private}
    draw_strengths(members, finished)
    paths = {name: merged(curves[name]) for name in private if "epsilon" in curves[name]}
    ends: dict[float, list[tuple[float, float]]] = {}
    for name, member in private.items():
        if name in finished and finished[name].guarantee.epsilon is not None:
            ends.setdefault(member.noise_multiplier, []).append(
                (finished[name].guarantee.epsilon, finished[name].metrics["test_accuracy"])
            )
    twins = [
        finished[name].metrics["test_accuracy"]
        for name, member in members.items()
        if not member.private and name in finished
    ]
    st.plotly_chart(
        charts.frontier(
            paths,
            ends,
            twins,
            charts.KNOWN.get(study.dataset, ()),
            study.target_epsilon,
        ),
        key="frontier",
        config={"displayModeBar": False},
        alt=(
            "Accuracy over the ε spent, a point for each noise multiplier, beside the network"
            " without privacy"
        ),
    )
    st.caption(
        "Each thin line is one training on its way: every epoch learns more and spends more. Its"
        " thick point is the finished network, its ε counted exactly. The lines are counted by a"
        " faster accountant, which is never below the truth, so a line may run on to the right of"
        " its point. The left end has much noise, the right end little. To train at exactly your ε,"
        " see *One training, live*."
        + (" Crosses: what others published, at δ = 1e-5." if study.dataset in charts.KNOWN else "")
    )
    if (
        twins
        and ends
        and max(sum(y for _, y in found) / len(found) for found in ends.values())
        > sum(twins) / len(twins) + 0.001
    ):
        st.caption(
            "Some private networks do better than the one without privacy. Clipping may do that: no"
            " single odd picture pulls hard. Their learning rates differ, too."
        )
    if len(finished) == len(members) and ends:
        draw_solved(ends, twins)


def draw_strengths(members: dict[str, DPTraining], finished: dict) -> None:
    """Draw the same forty images under strong, medium and weak noise.

    Also how many of a hundred attackers are right in each case.
    """
    promised = sorted(
        (found.guarantee.epsilon, name)
        for name, found in finished.items()
        if members[name].private and found.guarantee.epsilon is not None
    )
    # the most private, the nearest to the slider, the least private
    wanted = (0.0, study.target_epsilon or 3.0, 1e9)
    names = (
        dict.fromkeys(min(promised, key=lambda one: abs(one[0] - target))[1] for target in wanted)
        if promised
        else {}
    )
    names = [*names, *[name for name in finished if not members[name].private][:1]]
    if not names:
        st.image(study.sample(), width=420, alt=f"Some training pictures of {study.dataset}")
        st.caption(
            "Some of the pictures that it learns from, and whose owners trust that nobody finds out"
            " about them."
        )
        return
    previewed = registry.preview(study.dataset)
    right = {name: finished[name].arrays["predictions"] == previewed.test_labels for name in names}
    # images that at least one network gets wrong; on others they look alike
    hard = np.flatnonzero(~np.all(list(right.values()), axis=0))
    # keep the images fixed while networks are still training
    hard = hard if len(hard) >= HARD and len(finished) == len(members) else np.array([], int)
    shown_pictures = previewed.test_images[hard] if len(hard) else previewed.test_images
    right = {name: found[hard] if len(hard) else found for name, found in right.items()}
    for column, name in zip(st.columns(4), names):
        promise = finished[name].guarantee
        with column:
            st.markdown(
                f"**ε = {rounding.epsilon(promise.epsilon)}**"
                if members[name].private
                else "**Not private**"
            )
            st.image(
                imaging.answers(shown_pictures, right[name]),
                width="stretch",
                alt=f"Forty test pictures, the wrongly named ones framed, {name}",
            )
            n = (
                rounding.of_hundred(promise.odds_mechanism)
                if promise.odds_mechanism is not None
                else None
            )
            st.image(
                figures.crowd(n),
                width="stretch",
                alt="100 small figures, "
                + (f"{n} of them marked" if n else "all of them outlines: nobody knows"),
            )
            risk = (
                f"they {sentences.how_often(promise.odds_mechanism)}"
                if n
                else "**nothing is promised**: they may be certain"
            )
            st.markdown(
                f"{100 * finished[name].metrics['test_accuracy']:.1f} of 100 pictures named"
                " correctly. When attackers who start from even odds guess whether *your* picture"
                f" was among those learned from, {risk}."
            )
    st.caption(
        (
            "Forty *hard* new pictures: each is named wrongly by at least one of these networks"
            if len(hard)
            else "Forty new pictures"
        )
        + "; those framed are named wrongly. Below them: the guesses of 100 attackers, the right"
        " ones marked, at most; outlines where nobody knows. A coin flip would make 50 right."
    )


def draw_learning(members: dict[str, DPTraining], curves: dict) -> None:
    """Draw all trainings over epochs: figures 3, 4, 7, 8 and 10 of report 3."""
    lines = {
        name: found["test_accuracy"] for name, found in curves.items() if found.get("test_accuracy")
    }
    if lines:
        st.markdown(
            "**On their way**",
            help=(
                "Accuracy on new pictures, epoch by epoch, all seeds. Click a name in the legend to"
                " hide its line."
            ),
        )
        colours = {
            name: "private" if member.private else "not private" for name, member in members.items()
        }
        st.plotly_chart(
            charts.learning(lines, colours, study.epochs, study.chance()),
            key="learning",
            config={"displayModeBar": False},
            alt="Accuracy over epochs, a line for each training",
        )


def merged(curves: dict) -> list[tuple[float, float]]:
    """(ε, accuracy) for each epoch."""
    accuracy = dict(curves.get("test_accuracy", []))
    return [(epsilon, accuracy[epoch]) for epoch, epsilon in curves["epsilon"] if epoch in accuracy]


def draw_solved(ends: dict[float, list[tuple[float, float]]], twins: list[float]) -> None:
    """Draw the answers to a practitioner's two questions, from what has run.

    The questions are the least ε for an accuracy, and the best accuracy within a budget. twins:
    accuracies of the non-private baseline.
    """
    st.markdown("**Solve for it**")
    left, right = st.columns(2)
    means = sorted(
        (found[0][0], sum(y for _, y in found) / len(found), noise) for noise, found in ends.items()
    )
    with left:
        wanted = controls.asked(
            "need", "I need at least, in per cent", round(100 * means[len(means) // 2][1] - 0.5, 1)
        )
        st.markdown(
            text.least_epsilon(
                means, ends, wanted / 100, sum(twins) / len(twins) if twins else None
            )
        )
    with right:
        budget = controls.asked("have", "I have at most ε =", float(study.target_epsilon or 1.0))
        st.markdown(text.most_accuracy(means, ends, budget))
        dial = controls.specs["target_epsilon"]
        if dial.low <= budget <= dial.high:
            st.button(
                "Train one at this ε, live",
                key="dp_training.train",
                icon=":material/play_arrow:",
                on_click=lambda: controls.change(
                    shown=("one",), target_epsilon=budget, noise_multiplier=None
                ),
            )
        if st.button(
            "Find the noise that spends this",
            key="dp_training.solve",
            help="The noise is rounded up, so that what is spent stays just within.",
        ):
            try:
                exact = study.exactly(budget)
                st.markdown(
                    f"σ = **{rounding.sufficient(exact['noise_multiplier'])}**"
                    + (
                        f", with noise of {rounding.sufficient(exact['mean_noise'])} on the mean"
                        if exact["mean_noise"]
                        else ""
                    )
                    + f", spends ε = {rounding.epsilon(exact['epsilon'])}"
                    f" in {exact['steps']:,} steps."
                )
            except Refused as refused:
                st.warning(
                    sentences.plain(sentences.named(str(refused), controls.specs)),
                    icon=":material/edit:",
                )
    tested = len(registry.preview(study.dataset).test_labels)
    st.caption(
        f"Measured on {tested:,} test pictures: give or take"
        f" {sentences.give_or_take(sentences.margin(means[-1][1], tested))} points, and another"
        " seed moves it about as much. Looking at several networks and taking the best one spends"
        " what all of them spend: see *What is guaranteed* below."
    )


def draw_clips(members: dict[str, DPTraining], finished: dict, curves: dict) -> None:
    """Draw the effect of the clip norm: figure 3 of report 3."""
    draw_bars(
        members,
        finished,
        curves,
        {name: "private" if member.private else "not private" for name, member in members.items()},
        "clips",
    )
    st.caption(
        "How far one picture may pull at most (the clip norm C), all else the same, the noise grown"
        " with it. Small: pictures are cut short and learn slowly. Large: more noise. "
        + (
            "The report saw about 90 % for 1, 2 and 4, and a drop at 8."
            if study.network == "cnn"
            else (
                "Here the learning rate is chosen so that the noise carries the weights equally far"
                " whatever C is, so C alone changes little: set a learning rate to see more of it."
                if study.learning_rate is None
                else ""
            )
        )
    )


def draw_optimizers(members: dict[str, DPTraining], finished: dict, curves: dict) -> None:
    """Compare SGD, Adam and Adagrad: figures 7 and 10 of report 3."""
    draw_bars(
        members,
        finished,
        curves,
        {name: "private" if member.private else "not private" for name, member in members.items()},
        "optimizers",
    )
    st.caption(
        "Each optimizer with privacy and without, the same noise multiplier, each at the rate that"
        " suits it."
    )


def draw_bars(
    members: dict, finished: dict, curves: dict, colours: dict[str, str], key: str
) -> None:
    """Draw one bar per setting, with all its seeds."""

    def of(name):
        return name.split(", seed ")[0]

    done: dict[str, list[float]] = {}
    for name in members:
        if name in finished:
            done.setdefault(of(name), []).append(finished[name].metrics["test_accuracy"])
    running = {
        of(name): found["test_accuracy"][-1][1]
        for name, found in curves.items()
        if name not in finished and found.get("test_accuracy")
    }
    st.plotly_chart(
        figures.beside(
            done,
            {n: v for n, v in running.items() if n not in done},
            {of(n): c for n, c in colours.items()},
            "New pictures named correctly, %",
        ),
        key=key,
        config={"displayModeBar": False},
        alt="A bar for each setting: accuracy on new pictures",
    )


def draw_promise(members: dict, finished: dict, view: live.View) -> None:
    """Draw the guarantee of each network and of all of them together."""
    panels.warnings(finished)
    rows = [
        {
            "": name + (" (diverged)" if found.facts["diverged"] else ""),
            "named correctly, %": f"{100 * found.metrics['test_accuracy']:.2f}",
            **sentences.balanced_column(found.metrics),
            "ε, by itself": (
                rounding.epsilon(found.guarantee.epsilon) if members[name].private else "none"
            ),
            "σ": rounding.described(found.metrics["noise_multiplier"]),
            "learning rate": f"{found.metrics['learning_rate']:.3g}",
            "seconds": f"{found.made.get('seconds', 0):.1f}",
        }
        for name, found in finished.items()
    ]
    st.dataframe(rows, hide_index=True)
    st.caption("ε is rounded up here; the download has all digits.")
    if view.result is not None:
        panels.guarantee(view.result.guarantee)
        st.caption(
            "That is the price of all of them together. One of them alone, chosen beforehand,"
            " spends what stands in its row."
        )


def show_spending() -> None:
    """Draw ε over epochs, without any training: figure 6 of report 3."""
    st.plotly_chart(
        charts.spending(study.spending(), study.target_epsilon),
        key="spending",
        config={"displayModeBar": False},
        alt="ε over epochs for eight noise multipliers",
    )
    st.caption(
        f"What training {study.epochs} epochs at batch size {study.batch_size:,} spends, by the"
        " fast accountant (RDP), which is never below the truth. Nothing was trained for this"
        " chart."
    )


# --- one training, live ---------------------------------------------------------------------------


def show_one() -> None:
    """Show one network beside its non-private baseline."""
    compare = controls.flag(
        "compare",
        "Beside it, the same without privacy",
        "Its twin: the same pictures, nothing clipped, nothing noised, at the learning rate that"
        " its optimizer usually has without privacy.",
    )
    studies = {WHO: study} | ({"not private": study.baseline()} if compare else {})
    if study.noise_multiplier == 0 and live.look(study).result is None:
        st.warning(
            "The noise multiplier is 0: pictures are clipped, but nothing is hidden. ε is infinite,"
            " and nothing is promised to anyone.",
            icon=":material/warning:",
        )
    live.run_button(studies)
    live.follow(studies, draw_one)
    if all(live.look(each).state == "done" for each in studies.values()):
        finished = {who: live.look(each).result for who, each in studies.items()}
        offered = attacks.panel(controls, study, finished[WHO].guarantee, twin=compare)
        draw_deeper(
            finished,
            (
                {"not private": (study.baseline(), finished["not private"])} | found_by(offered)
                if compare
                else found_by(offered)
            ),
        )


def found_by(offered: dict) -> dict:
    """The audits and attacks offered that have run, for the download.

    name → study and Result.
    """
    return {
        who: (each, result)
        for who, each in offered.items()
        if (result := live.look(each, remembered=True).result) is not None
    }


def draw_one(views: dict[str, live.View]) -> None:
    """Draw everything below the settings from the current state."""
    live.progress(views)
    pictures, learned = st.columns([1, 2])
    with pictures:
        draw_pictures(views)
    with learned:
        draw_learned(views)
    result = views[WHO].result
    if result is not None:
        draw_finished(views, result)


def draw_pictures(views: dict[str, live.View]) -> None:
    """Draw the networks' current answers on the same forty images, or the training images."""
    shown = {who: view for who, view in views.items() if "answers" in view.pictures}
    if not shown:
        st.markdown("**What it learns from**")
        st.image(study.sample(), width="stretch", alt=f"Some training pictures of {study.dataset}")
        st.caption("Some of the pictures whose owners trust that nobody finds out about them.")
        return
    st.markdown("**Forty new pictures: those it names wrongly are framed**")
    for who, view in shown.items():
        st.image(
            view.pictures["answers"],
            caption=who,
            width="stretch",
            alt=f"Forty test pictures, the wrongly named ones framed, {who}",
        )


def draw_learned(views: dict[str, live.View]) -> None:
    """Draw the current numbers and the accuracy curves."""
    curves = {who: view.curves for who, view in views.items()}
    if not any(curves.values()):
        st.markdown("**What it will show**")
        st.markdown(
            "For each network a curve: how many pictures that it has never seen it names correctly,"
            " epoch by epoch, and how much of the privacy budget that has cost."
        )
        st.plotly_chart(
            charts.accuracy(curves, study.epochs, study.chance()),
            key="accuracy",
            alt="An empty chart of accuracy over epochs",
            config={"displayModeBar": False},
        )
        return
    draw_numbers(views)
    st.plotly_chart(
        charts.accuracy(curves, study.epochs, study.chance()),
        key="accuracy",
        config={"displayModeBar": False},
        alt="Accuracy over epochs, with and without privacy",
    )


def draw_numbers(views: dict[str, live.View]) -> None:
    """Draw the private training's accuracy beside the baseline's, its ε, speed and time."""
    view, against = views[WHO], None
    if view.state == "empty":
        st.caption("The network without privacy is here already; the private one has not run yet.")
        return
    twin = views["not private"].curves.get("test_accuracy") if "not private" in views else None
    if twin:
        against = f"{100 * twin[-1][1]:.1f} % without privacy"
    first, second, third, fourth = st.columns(4)
    accuracy, spent, speed = (
        view.curves.get(n, []) for n in ("test_accuracy", "epsilon", "pictures_per_second")
    )
    first.metric(
        "Named correctly",
        f"{100 * accuracy[-1][1]:.1f} %" if accuracy else "–",
        help="With privacy, after the last epoch so far, on pictures that it never learned from.",
        delta=against,
        delta_color="off",
        delta_arrow="off",
    )
    exact = view.result.guarantee.epsilon if view.result else None
    endless = view.result is not None and exact is None  # without noise
    second.metric(
        "ε spent" if exact or not spent else "ε spent, at most",
        (
            "∞"
            if endless
            else rounding.epsilon(exact)
            if exact
            else rounding.epsilon(spent[-1][1])
            if spent
            else "–"
        ),
        help=(
            "While it runs, a fast upper bound (RDP), which may lie above the budget. At the end"
            " the tight accountant (PLD) counts what was really spent, and that keeps the budget."
        ),
    )
    third.metric("Pictures a second", f"{speed[-1][1]:,.0f}" if speed else "–")
    fourth.metric("Time", f"{view.seconds:.0f} s")


def draw_finished(views: dict[str, live.View], result) -> None:
    """Draw what is shown after the private training has finished."""
    panels.warnings({who: view.result for who, view in views.items() if view.result is not None})
    accuracy, tested = result.metrics["test_accuracy"], len(result.arrays["predictions"])
    rates = {
        who: f"{view.result.metrics['learning_rate']:.3g}"
        for who, view in views.items()
        if view.result is not None
    }
    st.caption(
        f"Measured on {tested:,} test pictures{sentences.balanced(result.metrics)}: give or take"
        f" {sentences.give_or_take(sentences.margin(accuracy, tested))} points, and another seed"
        f" moves it about as much. Learning rates: {rates[WHO]} {text.WHO[WHO]}"
        + (f", {rates['not private']} without" if "not private" in rates else "")
        + ". Training accuracy and loss are measured on the "
        f"first {result.facts['train_accuracy_on']:,} training pictures."
    )
    panels.odds(
        result.guarantee,
        "An attacker wants to know whether your picture was among the training pictures, or its"
        " place was left blank.",
        "Without looking at the network",
        "With the network in hand",
    )
    panels.guarantee(result.guarantee)


def draw_deeper(finished: dict, more: dict) -> None:
    """Draw the details and how the result was made.

    finished: name → Result; more: what else is in the download.
    """
    result = finished[WHO]
    tabs = {
        "Who pays": lambda: draw_classes(finished),
        "Right and wrong": lambda: draw_examples(result),
        "Loss": lambda: draw_loss(finished),
        "Budget": lambda: draw_budget(result),
        "The report": lambda: st.markdown(text.DP_TRAINING_REPORT),
        "Formulas": lambda: st.markdown(text.DP_TRAINING_FORMULAS),
    }
    panels.deeper(tabs)
    panels.made(study, result, more=more)


def draw_classes(finished: dict) -> None:
    """Draw accuracy per class, with and without privacy."""
    st.plotly_chart(
        charts.per_class({who: r.facts["per_class"] for who, r in finished.items()}),
        key="classes",
        alt="Accuracy by class, with and without privacy",
        config={"displayModeBar": False},
    )
    fewest = min(finished[WHO].facts["test_pictures"].values()) if WHO in finished else 0
    if fewest:
        st.caption(
            f"The smallest class has {fewest:,} test pictures: differences of less than"
            f" {sentences.give_or_take(sentences.margin(0.9, fewest), 200, 0)} points between two"
            " bars may be chance."
        )


def draw_loss(finished: dict) -> None:
    """Draw training loss over epochs."""
    st.plotly_chart(
        charts.loss({who: r.curves for who, r in finished.items()}, study.epochs),
        key="loss",
        alt="Training loss over epochs",
        config={"displayModeBar": False},
    )


def draw_budget(result) -> None:
    """Draw ε over epochs, and what determined the noise."""
    st.plotly_chart(
        charts.spent(
            result.curves.get("epsilon", []), study.epochs, study.target_epsilon, study.delta
        ),
        key="spent",
        alt="Spent epsilon over epochs",
        config={"displayModeBar": False},
    )
    if result.guarantee.epsilon is not None:
        st.caption(
            f"Noise multiplier σ = {rounding.described(result.metrics['noise_multiplier'])}. The"
            " curve is the fast upper bound (RDP); the final ε ="
            f" {rounding.epsilon(result.guarantee.epsilon)} comes from the tight accountant (PLD)."
        )


def draw_examples(result) -> None:
    """Draw ten images classified correctly and ten classified wrongly."""
    for kind, title in (("right", "Named correctly"), ("wrong", "Named wrongly")):
        st.markdown(f"**{title}**")
        for i, column in enumerate(st.columns(10)):
            name = f"{kind}_{i}"
            if name in result.pictures:
                said = result.facts["wrong"][i] if kind == "wrong" else None
                column.image(
                    result.pictures[name],
                    caption=sentences.plain(f"{said[0]}, is {said[1]}") if said else None,
                    width="stretch",
                    alt=f"A test picture named {'wrongly' if said else 'correctly'}",
                )


if shown == "one":
    show_one()
elif shown == "spending":
    show_spending()
else:
    show_sweep()
