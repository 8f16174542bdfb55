"""Rows and columns of the tables on page Fidelity; pure functions."""

from __future__ import annotations

import math

from pages.fidelity.text import large


def measured(m: dict[str, float]) -> dict[str, str]:
    """A row of the table of all metrics."""

    def percent(name):
        return f"{100 * m[name]:.1f}" if name in m else "none"

    def number_(name):
        return large(m[name]) if name in m else "none"

    return {
        "memorised (pixels)": f"{m['again_pixels']:,}",
        "memorised (features)": f"{m['again_features']:,}",
        "like copies (pixels), %": percent("copies_pixels"),
        "like copies (features), %": percent("copies_features"),
        "Fréchet distance": number_("frechet_distance"),
        "kernel distance": number_("kernel_distance"),
        "precision, %": percent("precision"),
        "recall, %": percent("recall"),
        "MiFID, torchmetrics": number_("mifid_torchmetrics"),
        "MiFID, Bai": number_("mifid_bai"),
        "cosine distance, real to generated": f"{m.get('cosine_real_to_made', math.nan):.4f}",
        "cosine distance, generated to real": f"{m.get('cosine_made_to_real', math.nan):.4f}",
        "distance ratio (pixels)": f"{m['ratio_pixels']:.3f}",
        "distance ratio (features)": f"{m['ratio_features']:.3f}",
        "images": f"{m['images']:,}",
    }


def numbers(extractor: str) -> str:
    """The columns of the table of all metrics. extractor: its short name."""
    return f"""
- Features: {extractor}. Rows can only be compared if features and number of images are the same.
- *Memorised*: training images that have a near-duplicate in the set.
- *MiFID, torchmetrics* averages the distance from each training image to the nearest generated one,
  *MiFID, Bai* from each generated image to the nearest training image (*cosine distance*). Neither
  penalises distances above 0.1.
- *Kernel distance* has no bias, so it may be slightly below 0.
"""


def report_columns(extractor: str, dataset: str) -> str:
    """The columns of report 4's table beside ours. extractor: its short name."""
    return f"""
- *As published*: pixels are in [−1, 1] where the metric expects [0, 1], so dark pixels wrap around.
- *Corrected*: the same images as they are.
- *n*: how many images of the set were compared with as many of the training set (whether or not the
  generators learned from these).

Ours: {extractor}, {dataset}. Report 4: 64 features of Inception-v3, CelebA. Only columns of the
same features and images can be compared.
"""
