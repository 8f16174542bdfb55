"""Which of several guarantees page Noise shows while its trainings end one after another."""

import pytest
from streamlit.testing.v1 import AppTest

from engine.core.lab import Lab
from engine.studies.noise import NoisyTraining
from pages.common.live import View
from tests.conftest import finish

RAW, NOISED = "raw images, shallow", "noised images, shallow"


def page() -> None:
    """Draw the guarantees of the arms that have finished."""
    import streamlit as st

    from pages.noise import training

    training.draw_guarantee(st.session_state["views"])


@pytest.fixture(scope="module")
def views(common):
    """Two arms that have finished."""
    found = {}
    for arm, images in ((RAW, "raw"), (NOISED, "noised")):
        study = NoisyTraining.preset("tiny", images=images)
        found[arm] = View(study, "done", result=finish(Lab(common).need(study))[1])
    return found


def test_the_first_noised_arm_is_shown_as_soon_as_it_has_finished(views):
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["views"] = {RAW: views[RAW]}
    assert test.run().selectbox[0].value == RAW and not test.exception
    test.session_state["views"] = views
    assert test.run().selectbox[0].value == NOISED and not test.exception
    test.selectbox[0].set_value(RAW).run()
    assert test.run().selectbox[0].value == RAW  # what the visitor chose stays
