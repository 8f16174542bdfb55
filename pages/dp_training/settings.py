"""The dial, the presets and the settings of a training."""

from __future__ import annotations

import streamlit as st

from engine.studies.dp_training import DPTraining
from pages.common.controls import Controls

PRESETS = {
    "quick": "5,000 digits",
    "mnist": "MNIST",
    "fashion": "Fashion-MNIST",
    "cnn": "Small CNN",
    "report": "CNN of report 3",
    "report_fashion": "CNN of report 3, Fashion-MNIST",
}


def draw(controls: Controls) -> None:
    """Draw all of them; the dial is above, the rest in an expander."""
    controls.privacy_dial()
    controls.presets(PRESETS)
    with st.expander(
        "More settings",
        icon=":material/tune:",
        expanded=controls.opens(*DPTraining.model_fields, also=controls.lacks_data()),
    ):
        first, second, third = st.columns(3)
        with first:
            controls.budget_or_noise(("budget", "noise"), epsilon=3.0, noise=1.0)
            _model(controls)
        with second:
            controls.choice("optimizer")
            for name in ("learning_rate", "momentum", "averaging"):
                controls.number(name)
        with third:
            for name in ("max_grad_norm", "batch_size", "epochs", "delta", "seed"):
                controls.number(name)


def _model(controls: Controls) -> None:
    """The data set, the model, and what only this model has."""
    controls.dataset()
    controls.choice("network")
    if controls.value("network") == "cnn":
        for name in ("activation", "norm"):
            controls.choice(name)
        controls.number("augmentations")
    else:
        controls.switch("straighten")
        controls.number("mean_noise")
