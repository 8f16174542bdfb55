"""Texts of page Fidelity; pure functions. The answer to its question is in verdict.py."""

from __future__ import annotations

import math

from engine.core.rounding import epsilon

BEYOND = 1e6  # larger values of a metric are shown as "beyond"

TITLE = "Does a generator leak its training images?"

INTRODUCTION = """
A generator learns from real images and then makes new ones. Has it learned what they have in
common, or has it memorised some of them? **Press Run and watch three generators learn, two of them
with privacy. Then let them learn from only fifty images.** (This page re-examines report 4, by
Faber, on FID and MiFID of a GAN with and without privacy.)
"""

WHAT = {
    "GAN without privacy": (
        "Two networks learn from each other: the generator makes images, and the discriminator,"
        " which has seen real images, tells them apart."
    ),
    "private GAN": (
        "The same, but what any real image teaches the discriminator (its gradient) is clipped,"
        " then noised."
    ),
    "private DP-MERF": (
        "It gets one noised average over all images, once, and learns to make images that have the"
        " same average."
    ),
}


def short(value: float) -> str:
    """A number beside its dot in the chart."""
    if math.isnan(value):
        return ""
    if value > BEYOND:
        return "beyond"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def large(value: float) -> str:
    """A number with its magnitude, however large."""
    if math.isnan(value):
        return "none"
    if value > BEYOND:
        return "beyond a million"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


# --- the generators -------------------------------------------------------------------------------


def grown(curves: dict[str, list[tuple[float, float]]], steps: int) -> str:
    """The progress of a generator: 'Measured at step 120 of 1,200; ε = 4.1 spent so far'."""
    if not curves.get("frechet_distance"):
        return "About to begin."
    step, spent = curves["frechet_distance"][-1][0], [y for _, y in curves.get("epsilon", [])]
    if not spent:
        spent_words = "no guarantee"
    elif spent[0]:
        spent_words = f"ε = {epsilon(spent[-1])}, all of it spent before the first step"
    else:
        spent_words = f"ε = {epsilon(spent[-1])} spent so far, at most"
    return f"Measured at step {step:,.0f} of {steps:,}; {spent_words}."


def distances(count: int, unseen: bool) -> str:
    """What the chart of distances shows. count: images at a time; unseen: with a dotted line."""
    return (
        "Fréchet distance between generated and real images, over 64 features of our own network"
        f" ({count:,} images at a time). Smaller is better; log scale: 10 × per gridline."
        + (" Dotted: as many held-out real images." if unseen else "")
    )


def films(labelled: bool) -> str:
    """What the films show. labelled: the generators are spent_words a class for each row."""
    shown = " is meant to show one class (check how well it matches) and" if labelled else ""
    return f"Each row{shown} changes from one image to another. Drag to go back to the first step."


def films_details(learned: int, discriminator_steps: int) -> str:
    """How to read the films. learned: images they learned from."""
    return (
        "A generator that has learned what the images have in common changes smoothly along a row."
        " One that has memorised a few images jumps or stands still; so does one that has learned"
        f" nothing. The generators learned from {learned:,} images. Steps are those of the"
        f" generator; the private discriminator takes {discriminator_steps} for each."
    )


# --- the measurements -----------------------------------------------------------------------------

SETS = (
    "Small is good in each panel. But exact copies are near to real images, too: only the second"
    " panel looks for copies. Grey: sets whose answer is known. Dotted: the 5 % of unseen images"
    " that look like copies by definition."
)

EXTRACTORS = {
    "classifier": "64 features of our own network",
    "efficientnet_lite0": "1,280 features of EfficientNet-Lite0",
    "inception": "2,048 features of Inception-v3, so this distance is FID",
    "inception64": "the first 64 features of Inception-v3, so this is not FID proper",
}


def sets_details(extractor: str, count: int) -> str:
    """How the chart of sets was measured. count: images of each set."""
    return (
        f"Distances are over {EXTRACTORS[extractor]}, on up to {count:,} images of each set. A"
        " generator that makes only few kinds of images may lie above the dotted line without"
        " copying. The count of near-duplicates is a stricter test."
    )


# --- the memorisation finder ----------------------------------------------------------------------

TRIPLES = (
    "Groups of three, the most suspicious first: an image of the set, the nearest training image,"
    " the nearest held-out image."
)

RATIOS = (
    "*Distance ratio*: distance to the nearest training image over distance to the nearest held-out"
    " one; 0 for a copy. Grey: held-out images; 5 % of them lie below the dotted line."
)

MEMORISED = """
A training image counts as *memorised* if a near-duplicate of it was generated: an image to which it
is nearest, with an extremely small distance ratio. The limit is one third of the ratio that only
1 % of held-out images are below. How often duplicates within the data pass this limit is shown by
the count for unseen real images.
"""
