"""Page Home: what Veil is, one card per study, and one small live example."""

import streamlit as st

from engine.core import parameters, rounding
from engine.datasets import registry
from engine.studies.clustering import KMeansLabels
from engine.studies.dp_training import DPTraining
from engine.studies.fidelity import GAN
from engine.studies.gradient_sharing import Inversion
from engine.studies.noise import STRIP, Noise
from engine.studies.synthesis import BNSynthesis
from pages.common import live, sentences
from pages.common.controls import unread

st.title("See what privacy costs, and what it buys", anchor=False)
st.markdown(
    "Machines learn from pictures of people, and what they learn can give those people away."
    " Differential privacy hides each of them behind noise of a known size, so that one can say how"
    " much an attacker can find out at most. **Here you turn that noise up and down, and watch real"
    " models learn under it.**"
)

unread()

# --- a small live example -------------------------------------------------------------------------
with st.container(border=True):
    picture, dial = st.columns([1, 3], vertical_alignment="center")
    with dial:
        budget = st.select_slider(
            "Turn the privacy dial",
            [1e5, 3e4, 1e4, 5000.0, 3000.0, 2000.0, 1000.0, 500.0, 150.0, 50.0, 10.0, 3.0, 1.0],
            value=3000.0,
            key="home.epsilon",
            format_func=lambda e: f"ε = {e:,.0f}",
            help="The privacy budget ε: smaller means more noise and less to find out.",
        )
        example = Noise(epsilon=budget)
        images = registry.preview(example.dataset)
        release = example.release(*example.pick(images), images.classes)
        odds = sentences.how_often(release.metrics["odds_picture"])
        st.markdown(
            f"Noise **{sentences.times(release.metrics['noise_norm'])} times** as strong as the"
            " picture itself. Attackers who know that it is one of two pictures, and flip a coin,"
            f" are right 50 times in 100. Seeing this, they {odds}."
        )
        st.caption(
            "The eye fails long before such an attacker does: for one picture on its own, only very"
            " strong noise hides it. Hiding *one among thousands* costs far less: that is what DP"
            " training does."
        )
    picture.image(
        release.pictures["noised"],
        width="stretch",
        alt=f"A handwritten three under the noise of ε = {rounding.chosen(budget)}",
    )

# --- the studies ----------------------------------------------------------------------------------
trained, sorted_ = DPTraining.preset("tiny"), KMeansLabels(starts=1)
cards = {"DP training": trained, "Clustering": sorted_}


def draw(views: dict[str, live.View]) -> None:
    """Draw one card per study, each with an image made by that study."""
    (first, second), (fourth, third), (fifth, sixth) = st.columns(2), st.columns(2), st.columns(2)
    with first.container(border=True, height="stretch"):
        st.subheader("Noise", anchor=False)
        for column, epsilon in zip(st.columns(3) + st.columns(3), STRIP):
            column.image(
                release.pictures[f"strip_{parameters.number(epsilon)}"],
                width="stretch",
                alt=f"The same three at ε = {rounding.chosen(epsilon)}",
            )
        st.markdown(
            "What does noise do to one picture, what can an attacker still tell, and what can a"
            " network still learn? Take a picture of your own."
        )
        st.page_link("noise/page.py", label="Drown a picture", icon=":material/grain:")
    with second.container(border=True, height="stretch"):
        st.subheader("Clustering", anchor=False)
        if card(
            views["Clustering"],
            "clusters",
            "Ten rows of digits, each a heap, those framed that are in the wrong one",
        ):
            st.caption(
                f"4,000 digits sorted in {views['Clustering'].seconds:.1f} s, noised with ε ="
                f" {rounding.chosen(sorted_.epsilon)}:"
                f" {100 * views['Clustering'].result.metrics['matched_accuracy']:.0f} of 100 in the"
                " right heap. Framed: in the wrong one."
            )
        st.markdown(
            "Can a machine sort noised pictures that nobody has labelled? Two methods, and what the"
            " report got wrong."
        )
        st.page_link("clustering/page.py", label="Sort pictures", icon=":material/bubble_chart:")
    with fourth.container(border=True, height="stretch"):
        st.subheader("Synthesis", anchor=False)
        # It takes a minute and a half, so it is shown once somebody has run it, not computed here.
        made = live.look(BNSynthesis())
        if made.result is not None:
            st.image(
                made.pictures["gallery"], width=320, alt="Rows of digits that nobody has written"
            )
            st.caption(
                f"Digits that nobody has written, made in {made.seconds:.0f} s from what a network"
                " remembers."
            )
        else:
            st.image(
                BNSynthesis().sample(),
                width="stretch",
                alt="Real digits, from which a network learns",
            )
            st.caption(
                "Real digits. What does a network remember of them, and what can be made of that?"
            )
        st.markdown(
            "Can pictures made from a network's memory replace the real ones? What do they give"
            " away, and what would make them private?"
        )
        st.page_link(
            "synthesis/page.py", label="Make pictures out of noise", icon=":material/auto_awesome:"
        )
    with fifth.container(border=True, height="stretch"):
        fidelity()
    with sixth.container(border=True, height="stretch"):
        gradient_sharing()
    with third.container(border=True, height="stretch"):
        st.subheader("DP training", anchor=False)
        if card(
            views["DP training"],
            "answers",
            "Forty new digits, those framed that the network names wrongly",
        ):
            result = views["DP training"].result
            st.caption(
                f"Learned in {views['DP training'].seconds:.1f} s at ε ="
                f" {rounding.epsilon(result.guarantee.epsilon)}:"
                f" {100 * result.metrics['test_accuracy']:.0f} of 100 new digits named correctly"
                " after two epochs. Framed: named wrongly."
            )
        st.markdown(
            "Can a network learn from thousands of people and remember none of them? Watch it learn"
            " while its privacy budget is spent."
        )
        st.page_link(
            "dp_training/page.py", label="Train under privacy", icon=":material/show_chart:"
        )


def fidelity() -> None:
    """The card of page Fidelity, whose generators take too long to train for it."""
    st.subheader("Fidelity", anchor=False)
    drawn = live.look(GAN(private=False))  # half a minute, so it is not computed here either
    if drawn.result is not None:
        st.image(
            drawn.pictures["gallery"],
            width=320,
            alt="Rows of digits, each walking from one to another",
        )
        st.caption(
            f"Digits drawn by a generator that learned without privacy, in {drawn.seconds:.0f} s."
            " Each row walks from one to another."
        )
    else:
        st.image(GAN().sample(), width=320, alt="Real digits, from which a generator learns")
        st.caption("Real digits. Would a machine that learned to draw them hand some of them out?")
    st.markdown(
        "Does a machine that draws give away the pictures it learned from? Watch three of them"
        " learn, catch one that copies, and see which metrics notice."
    )
    st.page_link("fidelity/page.py", label="Watch them learn", icon=":material/compare:")


def gradient_sharing() -> None:
    """The card of page Gradient sharing: a reconstruction, once somebody has run the attack."""
    st.subheader("Gradient sharing", anchor=False)
    attack = Inversion()
    attacked = live.look(attack)
    left, right = st.columns(2)
    left.image(attack.shown(images), width="stretch", alt="A picture on a phone")
    if attacked.result is not None:
        right.image(
            attacked.result.pictures["rebuilt"],
            width="stretch",
            alt="The same picture, rebuilt from what the phone has sent",
        )
        st.caption(
            f"Left: on the phone. Right: rebuilt in {attacked.seconds:.0f} s from nothing but the"
            " gradients that the phone has sent."
        )
    else:
        st.caption(
            "A picture on a phone. It stays there; what is learned from it is sent. Could one see"
            " the picture in that?"
        )
    st.markdown(
        "Phones learn together and send gradients instead of pictures. Watch twenty of them, count"
        " what they send, and see what one upload still shows."
    )
    st.page_link("gradient_sharing/page.py", label="Watch phones learn", icon=":material/share:")


def card(view: live.View, picture: str, alt: str) -> bool:
    """Draw a study's current image or its progress; return whether it is done."""
    if picture in view.pictures:
        st.image(view.pictures[picture], width="stretch", alt=alt)
    elif view.state in ("failed", "cancelled"):
        st.caption(view.message)
    else:
        st.progress(0.0, text="Being computed for this card …")
    return view.result is not None


for study in cards.values():
    if live.look(study).state in ("empty", "cancelled"):
        live.services().runner.submit(study)
live.follow(cards, draw)

stats = live.services().store.stats()
st.caption(
    f"Everything here is computed on this machine, and kept: {stats.entries} stored values,"
    f" {sentences.size(stats.bytes)} of at most {sentences.size(stats.limit)}. Nothing that you"
    " upload is stored."
)
