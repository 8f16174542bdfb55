"""The dial, the presets and the settings of sharing."""

from __future__ import annotations

import streamlit as st

from engine.studies.gradient_sharing import GradientSharing
from pages.common.controls import Controls

PRESETS = {
    "quick": "Start",
    "uneven": "Uneven clients",
    "private": "1,000 clients, with noise",
    "shokri": "Shokri and Shmatikov",
    "report": "As in report 5",
}
LACKING = (
    "Nothing can run until the data set is here: see *More settings*. How to build a folder of your"
    " own: docs/gradient_sharing.md. The preset *Start* works with what is here."
)
# of each client: field → what is used if it is empty
CLIENTS = {
    "clients": "",
    "images_per_client": "all that there are",
    "unevenness": "even",
    "rounds": "",
    "local_epochs": "",
    "batch_size": "",
    "learning_rate": "the usual",
    "client_sampling_rate": "",
    "dropout": "",
}
PRIVACY = ("noise_multiplier", "target_epsilon")


def draw(controls: Controls):
    """Draw all of them. Returns the place for the line that says what is guaranteed."""
    controls.dial("fraction")
    controls.presets(PRESETS)
    others = [name for name in GradientSharing.model_fields if name not in ("fraction", *PRIVACY)]
    with st.expander(
        "More settings",
        icon=":material/tune:",
        expanded=controls.opens(*others, also=controls.lacks_data()),
    ):
        first, second, third = st.columns(3)
        with first:
            _model(controls)
        with second:
            st.markdown("**Clients**")
            for name, usual in CLIENTS.items():
                controls.number(name, usual)
            controls.choice("faulty")
        with third:
            _uploads(controls)
    with st.expander(
        "Privacy settings",
        icon=":material/grain:",
        expanded=controls.opens(*PRIVACY, also=controls.value("noise_multiplier") != 0.0),
    ):
        controls.budget_or_noise(("noise", "budget"), epsilon=8.0, noise=0.0)
        controls.privacy_dial()
        return st.empty()


def _model(controls: Controls) -> None:
    """The data set and the initial model."""
    st.markdown("**Data set and initial model**")
    controls.dataset()
    for name in ("network", "activation", "optimizer"):
        controls.choice(name)
    controls.number("initial_epochs")
    controls.number("initial_learning_rate", "the usual")
    controls.number("company_share")
    controls.number("seed")


def _uploads(controls: Controls) -> None:
    """What a client uploads."""
    st.markdown("**Uploads**")
    controls.choice("policy")
    if controls.value("policy") == "threshold":
        controls.number("threshold")
    controls.switch("keep_rest")
    for name in ("trained", "order", "noised_by"):
        controls.choice(name)
    controls.number("max_grad_norm", "none; 1 with noise")
    controls.number("delta")
    controls.number("server_learning_rate")
