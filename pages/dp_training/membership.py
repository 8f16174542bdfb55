"""What the membership attack has found. `attacked`: a key of WHO → Result."""

from __future__ import annotations

import streamlit as st

from engine.core.study import Guarantee, Result
from pages.common import panels
from pages.dp_training import charts, text


def draw(attacked: dict[str, Result], promise: Guarantee) -> None:
    """Draw ROC curves on log axes below the guaranteed bound, and their summary."""
    st.markdown("**Membership attack: which images were used for training?**")
    if not attacked:
        bound = ", below the bound that the noise guarantees"
        st.caption(
            "Results appear here: the true positive rate over the false positive rate"
            f"{bound if promise.epsilon is not None else ''}."
        )
        return
    panels.chart(
        charts.roc({who: result.arrays for who, result in attacked.items()}),
        key="roc",
        alt=(
            "True positive rate over false positive rate, on logarithmic axes, with the bounds that"
            " are guaranteed"
        ),
    )
    found = {who: result.metrics for who, result in attacked.items()}
    st.markdown(text.attacked(found))
    bounded = any("bound_any" in result.arrays for result in attacked.values())
    st.caption(text.method(found, bounded))
    with st.expander("Details"):
        st.markdown(text.measured(found))


def draw_most_certain(attacked: dict[str, Result]) -> None:
    """Draw the training images of which the attacker is most certain."""
    if attacked:
        st.markdown("**The ten training images of which the attacker is most certain**")
    for who, result in attacked.items():
        st.image(
            result.images["surest_of"],
            width="stretch",
            caption=text.WHO[who].capitalize(),
            alt=f"Ten training images, {text.WHO[who]}: {', '.join(result.facts['surest_of'])}",
        )
