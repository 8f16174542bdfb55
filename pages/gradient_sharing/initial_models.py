"""Report 5's table of initial models: from scratch or a new last layer, three optimizers."""

from __future__ import annotations

import streamlit as st

from engine.datasets import registry
from engine.studies.gradient_sharing import GradientSharing
from pages.common import figures, live, panels
from pages.gradient_sharing.charts.sharing import ACCURACY


def show(study: GradientSharing) -> None:
    """Train and compare them."""
    models = study.table()
    live.run_button(models, unknown="")
    live.follow(models, lambda views: draw(study, views))


def draw(study: GradientSharing, views: dict[str, live.View]) -> None:
    """Draw bars of what has been trained."""
    live.progress(views)
    panels.warnings({name: view.result for name, view in views.items() if view.result})
    done = {
        name: [view.result.metrics["test_accuracy"]] for name, view in views.items() if view.result
    }
    running = {
        name: view.curves["test_accuracy"][-1][1]
        for name, view in views.items()
        if not view.result and view.curves.get("test_accuracy")
    }
    if done or running:
        panels.chart(
            figures.beside(done, running, dict.fromkeys(views, "not private"), ACCURACY),
            key="table",
            alt="Accuracy of initial models",
        )
    else:
        st.image(study.sample(), width=420, alt="Some of the images")
    images = round(study.company_share * registry.preview(study.dataset).train_size)
    st.caption(
        f"What the company starts with: models trained on its own {images:,} images, from scratch"
        " or as a new last layer on a network trained on ImageNet."
    )
