"""The answer to page Fidelity's question: which generators leak, and which metric notices.

Pure functions of the metrics of all sets of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.studies.fidelity import CONTROLS, doubt
from pages.common.sentences import _and
from pages.fidelity.text import short

COPIED = 0.05  # share of held-out images that look like copies, by construction
NO_RESEMBLANCE = 0.05  # a generator of smaller precision has made nothing like a real image

Metrics = dict[str, dict[str, float]]  # set of images → its metrics


@dataclass(frozen=True)
class Findings:
    """What the test for copies says of each generator."""

    doubted: str  # why the test cannot be trusted here; empty if it can
    leaking: list[str]  # far more near-duplicates than among unseen images
    suspicious: list[str]  # nearer to training images than chance explains
    unlike: list[str]  # made nothing that resembles a real image
    unmeasured: list[str]  # sets of which a metric is NaN

    @classmethod
    def of(cls, metrics: Metrics, generators: tuple[str, ...]) -> Findings:
        """The findings from all metrics."""
        unseen = metrics[CONTROLS["held-out"]]
        doubted = doubt(metrics[CONTROLS["copies"]], unseen)
        unmeasured = [name for name, found in metrics.items() if untold(found)]
        if doubted:
            return cls(doubted, [], [], [], unmeasured)
        leaking = [
            name
            for name in generators
            if metrics[name]["again_pixels"] > 2 * unseen["again_pixels"]
        ]
        others = [name for name in generators if name not in leaking]
        return cls(
            doubted,
            leaking,
            [name for name in others if suspicious(metrics[name])],
            [name for name in others if metrics[name].get("precision", 1.0) < NO_RESEMBLANCE],
            unmeasured,
        )


def untold(metrics: dict[str, float], space: str = "pixels") -> bool:
    """Whether a metric about copies is NaN, in which case it says nothing."""
    return any(math.isnan(metrics[f"{name}_{space}"]) for name in ("again", "copies"))


def suspicious(metrics: dict[str, float], space: str = "pixels") -> bool:
    """Whether more images look like copies than chance explains, at about 1 % false alarms.

    Repeats of an image count once, as many as have different nearest images.
    """
    n, held = metrics[f"distinct_{space}"], metrics[f"yardstick_{space}"]
    return metrics[f"copies_{space}"] > COPIED + 2.33 * math.sqrt(
        COPIED * (1 - COPIED) * (1 / n + 1 / held)
    )


def answer(metrics: Metrics, generators: tuple[str, ...]) -> str:
    """The answer as a list in Markdown.

    Whether there are copies, what was learned, and whether MiFID notices.
    """
    found = Findings.of(metrics, generators)
    points = [
        f"**Are there copies?** {_counts(metrics, generators)} {_copies(metrics, found)}",
        f"**What have they learned?** {_learned(metrics, generators)}",
        *(f"**Does MiFID detect copies?** {each}" for each in _mifid(metrics, generators, found)),
    ]
    return "\n".join(f"- {point}" for point in points)


def _counts(metrics: Metrics, generators: tuple[str, ...]) -> str:
    """How many training images have a near-duplicate in each set."""
    again = {name: f"**{found['again_pixels']:,}**" for name, found in metrics.items()}
    return (
        f"How many of the {metrics[generators[0]]['learned']:,} training images have a"
        f" near-duplicate in each set: {_each(generators, again)} (for comparison: unseen real"
        f" images {again[CONTROLS['held-out']]}, exact copies {again[CONTROLS['copies']]})."
    )


def _copies(metrics: Metrics, found: Findings) -> str:
    """What the counts mean."""
    said = []
    if found.doubted:
        said.append(
            f"**The test fails on its controls here, so no verdict is given**: {found.doubted}."
            " Images that are both in the training set and held out, or images that all look"
            " alike, make this test blind."
        )
    if found.leaking:
        verb = "leaks" if len(found.leaking) == 1 else "leak"
        said.append(f"**The {_and(found.leaking)} {verb} training images.**")
    if found.suspicious:
        said.append(
            f"More images of the {_and(found.suspicious)} than chance explains are nearer to"
            " training images than to unseen ones: some may be memorised, or few kinds of images"
            " are made, which look alike."
        )
    if found.unmeasured:
        said.append(
            f"**Nothing can be said of {_and(found.unmeasured)}**: distances there are NaN."
        )
    elif not (found.leaking or found.suspicious or found.doubted):
        duplicates = metrics[CONTROLS["held-out"]]["again_pixels"]
        beyond = " beyond those within the data" if duplicates else ""
        said.append(
            f"**This test finds near-duplicates in none of them{beyond}.** With fewer training"
            " images it may."
        )
    if found.unlike:
        said.append(
            f"The {_and(found.unlike)} made nothing that resembles a real image, so this says"
            " little."
        )
    said.append(
        "A test that finds nothing proves nothing; the guarantee of a private generator holds"
        " against every test."
    )
    return " ".join(said)


def _learned(metrics: Metrics, generators: tuple[str, ...]) -> str:
    """How far the generated images are from real ones."""
    far = {name: short(found["frechet_distance"]) for name, found in metrics.items()}
    return (
        f"Fréchet distance from real images: {_each(generators, far)} (for comparison: unseen real"
        f" images {far[CONTROLS['held-out']]}, untrained generator {far[CONTROLS['untrained']]})."
    )


def _mifid(metrics: Metrics, generators: tuple[str, ...], found: Findings) -> list[str]:
    """Where MiFID, as torchmetrics computes it, calls copies good."""
    mifid = {name: each.get("mifid_torchmetrics", math.nan) for name, each in metrics.items()}
    copies, unseen = CONTROLS["copies"], CONTROLS["held-out"]
    # NaN is the worst value, not the best
    least = min((v for n in generators if not math.isnan(v := mifid[n])), default=-math.inf)
    said = []
    if mifid[copies] < least:
        said.append(
            "It was designed to punish them. As torchmetrics computes it,"
            f" {metrics[copies]['images']:,} exact copies score {short(mifid[copies])}, *better*"
            f" than every generator here (at least {short(least)})."
        )
    said += [
        f"As torchmetrics computes it, the {name}, which copies, scores {short(mifid[name])}, no"
        f" worse than unseen real images ({short(mifid[unseen])})."
        for name in found.leaking
        if mifid[name] <= mifid[unseen]
    ]
    return said


def _each(names: tuple[str, ...], values: dict[str, str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names)
