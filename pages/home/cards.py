"""The cards of page Home, one for each topic, each with an image made by that topic's study."""

from __future__ import annotations

import streamlit as st

from engine.core import parameters, rounding
from engine.core.study import Result
from engine.datasets import source
from engine.studies.clustering import KMeansLabels
from engine.studies.dp_training import DPTraining
from engine.studies.fidelity import GAN
from engine.studies.gradient_sharing import Inversion
from engine.studies.noise import STRIP
from engine.studies.synthesis import BNSynthesis
from pages.common import live

# computed for their cards at once; other topics' cards show what somebody has run
STUDIES = {"dp_training": DPTraining.preset("tiny"), "clustering": KMeansLabels(starts=1)}


def draw(release: Result, images: source.Images, views: dict[str, live.View]) -> None:
    """Draw all cards. release: of the example above; views: of STUDIES."""
    rows = [st.columns(2), st.columns(2), st.columns(2)]
    places = [
        column.container(border=True, height="stretch") for columns in rows for column in columns
    ]
    with places[0]:
        noise(release)
    with places[1]:
        clustering(views["clustering"])
    with places[2]:
        synthesis()
    with places[3]:
        dp_training(views["dp_training"])
    with places[4]:
        fidelity()
    with places[5]:
        gradient_sharing(images)


def noise(release: Result) -> None:
    """The card of page Noise: the example's image at six budgets."""
    st.subheader("Noise", anchor=False)
    for column, epsilon in zip(st.columns(3) + st.columns(3), STRIP):
        column.image(
            release.images[f"strip_{parameters.number(epsilon)}"],
            width="stretch",
            alt=f"The same three at ε = {rounding.chosen(epsilon)}",
        )
    st.markdown(
        "What does noise do to one image, what can an attacker still tell, and what can a network"
        " still learn? Try an image of your own."
    )
    st.page_link("noise/page.py", label="Add noise to an image", icon=":material/grain:")


def clustering(view: live.View) -> None:
    """The card of page Clustering: clusters found by K-means."""
    st.subheader("Clustering", anchor=False)
    alt = "Ten rows of digits, each a cluster; those in the wrong one are framed"
    if (found := image_or_progress(view, "clusters", alt)) is not None:
        st.caption(
            f"4,000 digits, noised with ε = {rounding.chosen(view.study.epsilon)}, clustered in"
            f" {view.seconds:.1f} s: {100 * found.metrics['matched_accuracy']:.0f} of 100 in"
            " the right cluster. Framed: in the wrong one."
        )
    st.markdown(
        "Can a machine cluster noised images without labels? Two methods, and errors in a 2020"
        " student report."
    )
    st.page_link("clustering/page.py", label="Cluster images", icon=":material/bubble_chart:")


def synthesis() -> None:
    """The card of page Synthesis, which takes a minute and a half."""
    st.subheader("Synthesis", anchor=False)
    made = live.look(BNSynthesis())
    if made.result is not None:
        st.image(made.images["gallery"], width=320, alt="Rows of synthetic digits")
        st.caption(f"Synthetic digits, made in {made.seconds:.0f} s from a network's statistics.")
    else:
        alt = "Real digits, from which a network learns"
        st.image(BNSynthesis().teacher.sample(), width="stretch", alt=alt)
        st.caption("Real digits. What does a network store about them, and can that be shown?")
    st.markdown(
        "Can images made from a network's memory replace the real ones? What do they reveal, and"
        " what would make them private?"
    )
    st.page_link(
        "synthesis/page.py", label="Generate synthetic images", icon=":material/auto_awesome:"
    )


def dp_training(view: live.View) -> None:
    """The card of page DP training: a network's answers."""
    st.subheader("DP training", anchor=False)
    alt = "Forty new digits; those that the network classifies wrongly are framed"
    if (found := image_or_progress(view, "answers", alt)) is not None:
        st.caption(
            f"Trained in {view.seconds:.1f} s at ε ="
            f" {rounding.epsilon(found.guarantee.epsilon)}:"
            f" {100 * found.metrics['test_accuracy']:.0f} of 100 new digits classified"
            " correctly after two epochs. Framed: classified wrongly."
        )
    st.markdown(
        "Can a network learn from thousands of people and memorise none of them? Watch it learn"
        " while its privacy budget is spent."
    )
    st.page_link(
        "dp_training/page.py",
        label="Train with differential privacy",
        icon=":material/show_chart:",
    )


def fidelity() -> None:
    """The card of page Fidelity, whose generators take too long to train for it."""
    st.subheader("Fidelity", anchor=False)
    drawn = live.look(GAN(private=False))
    if drawn.result is not None:
        alt = "Rows of digits, each changing from one to another"
        st.image(drawn.images["gallery"], width=320, alt=alt)
        st.caption(
            f"Digits by a generator, trained without privacy in {drawn.seconds:.0f} s. Each row"
            " changes from one digit to another."
        )
    else:
        st.image(GAN().sample(), width=320, alt="Real digits, from which a generator learns")
        st.caption("Real digits. Would a generator that learned from them reproduce some of them?")
    st.markdown(
        "Does a generator leak its training images? Watch three of them learn, catch one that"
        " copies, and see which metrics notice."
    )
    st.page_link("fidelity/page.py", label="Compare generators", icon=":material/compare:")


def gradient_sharing(images: source.Images) -> None:
    """The card of page Gradient sharing: a reconstruction, once somebody has run the attack."""
    st.subheader("Gradient sharing", anchor=False)
    attack = Inversion()
    attacked = live.look(attack)
    left, right = st.columns(2)
    left.image(attack.shown(images), width="stretch", alt="An image on a phone")
    if attacked.result is not None:
        right.image(
            attacked.result.images["rebuilt"],
            width="stretch",
            alt="The same image, reconstructed from what the phone has sent",
        )
        st.caption(
            f"Left: on the phone. Right: reconstructed in {attacked.seconds:.0f} s from the"
            " gradients that the phone has sent."
        )
    else:
        st.caption("This image never leaves its phone; only gradients do. Do they show the image?")
    st.markdown(
        "Phones learn together and send gradients instead of images. Watch twenty of them, count"
        " what they send, and see what one upload still shows."
    )
    st.page_link("gradient_sharing/page.py", label="Train across phones", icon=":material/share:")


def image_or_progress(view: live.View, name: str, alt: str) -> Result | None:
    """Draw a study's current image or its progress; return its result when it is done."""
    if name in view.images:
        st.image(view.images[name], width="stretch", alt=alt)
    elif view.state in ("failed", "cancelled"):
        st.caption(view.message)
    else:
        st.progress(0.0, text="Being computed for this card …")
    return view.result
