"""Page DP training: a network learns live while the privacy it spends is counted."""

import streamlit as st

from engine import data
from engine.studies.dp_training import DPTraining
from pages.parts import charts, live, panels, words
from pages.parts.controls import Controls

st.title("Can a machine learn from you without remembering you?", anchor=False)
st.markdown("Here a network learns to read pictures while noise hides what each single picture taught it. "
            "**Choose how much privacy, press Run, and watch how much is still learned.**")

controls = Controls(DPTraining, hidden=("private",))  # its twin without privacy has a switch of its own
controls.complain()


def switch_dial() -> None:
    """From a budget to a noise multiplier and back: one follows from the other."""
    by_noise = st.session_state["dp_training.by"] == "noise"
    controls.change(noise_multiplier=1.0 if by_noise else None, target_epsilon=None if by_noise else 8.0)


st.session_state["dp_training.by"] = "budget" if controls.value("noise_multiplier") is None else "noise"
controls.dial("target_epsilon" if st.session_state["dp_training.by"] == "budget" else "noise_multiplier")
left, right = st.columns([2, 1], vertical_alignment="bottom")
with left:
    controls.presets({"quick": "Quick (5,000 digits)", "mnist": "All of MNIST, ε = 3", "report": "As in the report"})
with right:
    compare = st.toggle("Beside it, the same network without privacy", value=True, key="dp_training.compare",
                        help="Its twin: the same pictures in the same batches, nothing clipped, nothing noised, at the learning rate "
                             "that its optimizer usually has without privacy.")
with st.expander("More settings", icon=":material/tune:", expanded=controls.opens(*controls.specs, also=controls.lacks_data())):
    first, second, third = st.columns(3)
    with first:
        st.segmented_control("The dial sets", ["budget", "noise"], key="dp_training.by", on_change=switch_dial, required=True,
                             format_func={"budget": "the budget ε", "noise": "the noise"}.get)
        controls.dataset()
        controls.choice("optimizer")
        controls.choice("activation")
    with second:
        controls.number("learning_rate")
        controls.number("max_grad_norm")
        controls.number("batch_size")
    with third:
        controls.number("epochs")
        controls.number("delta")
        controls.number("seed")

study = controls.ready()
controls.checked(lambda: study.check(data.exhibits(study.dataset).train_size))
studies = {"private": study} | ({"not private": study.twin()} if compare else {})
live.run_button(studies)


def draw(views: dict[str, live.View]) -> None:
    """Everything below the settings, from whatever is there now."""
    live.progress(views)
    pictures, learned = st.columns([1, 2])
    with pictures:
        draw_pictures(views)
    with learned:
        draw_learned(views)
    result = views["private"].result
    if result is not None:
        draw_finished(views, result)


def draw_pictures(views: dict[str, live.View]) -> None:
    """What the networks say of the same forty pictures now, or what they are about to learn from."""
    shown = {who: view for who, view in views.items() if "answers" in view.pictures}
    if not shown:
        st.markdown("**What it learns from**")
        st.image(study.sample(), width="stretch", alt=f"Some training pictures of {study.dataset}")
        st.caption("Some of the pictures whose owners trust that nobody finds out about them.")
        return
    st.markdown("**Forty new pictures: those it names wrongly are framed**")
    for who, view in shown.items():
        st.image(view.pictures["answers"], caption=who, width="stretch", alt=f"Forty test pictures, the wrongly named ones framed, {who}")


def draw_learned(views: dict[str, live.View]) -> None:
    """The numbers so far and the accuracy curves."""
    curves = {who: view.curves for who, view in views.items()}
    if not any(curves.values()):
        st.markdown("**What it will show**")
        st.markdown("For each network a curve: how many pictures that it has never seen it names correctly, epoch by epoch, and how much "
                    "of the privacy budget that has cost.")
        st.plotly_chart(charts.accuracy(curves, study.epochs, study.chance()), key="accuracy", alt="An empty chart of accuracy over epochs",
                        config={"displayModeBar": False})
        return
    draw_numbers(views)
    st.plotly_chart(charts.accuracy(curves, study.epochs, study.chance()), key="accuracy", config={"displayModeBar": False},
                    alt="Accuracy over epochs, with and without privacy")


def draw_numbers(views: dict[str, live.View]) -> None:
    """Accuracy beside the twin's, spent so far, speed and time of the private training."""
    view, against = views["private"], None
    if view.state == "empty":
        st.caption("The network without privacy is here already; the private one has not run yet.")
        return
    twin = views["not private"].curves.get("test_accuracy") if "not private" in views else None
    if twin:
        against = f"{100 * twin[-1][1]:.1f} % without privacy"
    first, second, third, fourth = st.columns(4)
    accuracy, spent, speed = (view.curves.get(n, []) for n in ("test_accuracy", "epsilon", "pictures_per_second"))
    first.metric("Named correctly", f"{100 * accuracy[-1][1]:.1f} %" if accuracy else "–",
                 help="With privacy, after the last epoch so far, on pictures that it never learned from.", delta=against, delta_color="off", delta_arrow="off")
    exact = view.result.guarantee.epsilon if view.result else None
    second.metric("ε spent" if exact or not spent else "ε spent, at most", words.epsilon(exact) if exact else words.epsilon(spent[-1][1]) if spent else "–",
                  help="While it runs, a fast upper bound (RDP), which may lie above the budget. At the end the tight accountant (PLD) counts "
                       "what was really spent, and that keeps the budget.")
    third.metric("Pictures a second", f"{speed[-1][1]:,.0f}" if speed else "–")
    fourth.metric("Time", f"{view.seconds:.0f} s")


def draw_finished(views: dict[str, live.View], result) -> None:
    """What is shown once the private network is done."""
    for warning in result.facts["warnings"]:
        st.warning(warning, icon=":material/warning:")
    accuracy, tested = result.metrics["test_accuracy"], len(result.arrays["predictions"])
    st.caption(f"Measured on {tested:,} test pictures: give or take {100 * words.margin(accuracy, tested):.1f} points, and another seed moves it "
               f"about as much. Learning rates: {study.rate:g} with privacy, {study.twin().rate:g} without. Training accuracy and loss are measured on the "
               f"first {result.facts['train_accuracy_on']:,} training pictures.")
    if result.facts["diverged"]:
        st.warning("The training diverged: its loss is no longer a number. A smaller learning rate helps.", icon=":material/warning:")
    panels.odds(result.guarantee, "An attacker wants to know whether your picture was among the training pictures.", "Without looking at the network",
                "With the network in hand")
    panels.guarantee(result.guarantee)
    finished = {who: view.result for who, view in views.items() if view.result is not None}
    tabs = {"Who pays": lambda: draw_classes(finished), "Right and wrong": lambda: draw_examples(result),
            "Loss": lambda: draw_loss(finished), "Budget": lambda: draw_budget(result),
            "The report": lambda: st.markdown(words.DP_TRAINING_REPORT), "Formulas": lambda: st.markdown(words.DP_TRAINING_FORMULAS)}
    panels.deeper(tabs)
    panels.made(study, result)


def draw_classes(finished: dict) -> None:
    """Who pays: accuracy by class, with and without privacy."""
    st.plotly_chart(charts.per_class({who: r.facts["per_class"] for who, r in finished.items()}), key="classes",
                    alt="Accuracy by class, with and without privacy", config={"displayModeBar": False})
    fewest = min(finished["private"].facts["test_pictures"].values()) if "private" in finished else 0
    if fewest:
        st.caption(f"The smallest class has {fewest:,} test pictures: differences of less than {200 * words.margin(0.9, fewest):.0f} points between "
                   "two bars may be chance.")


def draw_loss(finished: dict) -> None:
    """Training loss over epochs."""
    st.plotly_chart(charts.loss({who: r.curves for who, r in finished.items()}, study.epochs), key="loss",
                    alt="Training loss over epochs", config={"displayModeBar": False})


def draw_budget(result) -> None:
    """Spent ε over epochs, and what fixed the noise."""
    st.plotly_chart(charts.spent(result.curves.get("epsilon", []), study.epochs, study.target_epsilon, study.delta), key="spent",
                    alt="Spent epsilon over epochs", config={"displayModeBar": False})
    if result.guarantee.epsilon is not None:
        st.caption(f"Noise multiplier σ = {result.metrics['noise_multiplier']:.4g}. The curve is the fast upper bound (RDP); the final "
                   f"ε = {words.epsilon(result.guarantee.epsilon)} comes from the tight accountant (PLD).")


def draw_examples(result) -> None:
    """Ten right and ten wrong pictures."""
    for kind, title in (("right", "Named correctly"), ("wrong", "Named wrongly")):
        st.markdown(f"**{title}**")
        for i, column in enumerate(st.columns(10)):
            name = f"{kind}_{i}"
            if name in result.pictures:
                said = result.facts["wrong"][i] if kind == "wrong" else None
                column.image(result.pictures[name], caption=words.plain(f"{said[0]}, is {said[1]}") if said else None, width="stretch",
                             alt=f"A test picture named {'wrongly' if said else 'correctly'}")


live.follow(studies, draw)
