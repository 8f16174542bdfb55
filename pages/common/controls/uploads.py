"""An image of the visitor's own: chosen, decoded, and never stored."""

from __future__ import annotations

import numpy as np
import streamlit as st

from engine.datasets import uploads
from pages.common import sentences


def choose(key: str):
    """A field for one image file; returns the file, or None until one is chosen."""
    return st.file_uploader(
        "One PNG or JPEG, at most 5 MB", type=["png", "jpg", "jpeg"], max_upload_size=5, key=key
    )


def decoded(raw, size: int, channels: int, invert: bool = False) -> np.ndarray:
    """The image (size, size, channels) uint8; stops the page with the reason if it is refused.

    invert: turn a dark drawing on light paper into light strokes on black, as in MNIST.
    """
    try:
        return uploads.decode(raw.getvalue(), size=size, channels=channels, invert=invert)
    except uploads.Refused as refused:
        st.error(sentences.plain(str(refused)), icon=":material/broken_image:")
        st.stop()
