"""Warnings that qualify a result: the training diverged, or there were too few images. numpy.

Every study that trains or measures gives both kinds of warning, and takes them from here;
tests/evaluation/test_cautions.py checks all studies.
"""

from __future__ import annotations

import math

import numpy as np

from engine.evaluation import scores

FEW = 100  # images: an accuracy over fewer is uncertain by more than ten points
HANDFUL = 5  # images of a class: fewer do not show what they have in common
CLEARLY = 2.0  # factor that counts as clearly larger
KNOWS = 0.5  # fraction of the accuracy beyond guessing from which a network counts as trained
LEAST_KNOWN = 1e-3  # nats: least information of clusters about images
SMALLER = "A smaller learning rate helps."
CALMER = "A smaller learning rate or less noise helps."
NAMED = 20  # largest number of classes named in a sentence


# --- divergence -----------------------------------------------------------------------------------


def diverged(loss: float, guessing: float, learned: float = 0.0, start: float = 0.0) -> bool:
    """Whether a training ended worse than if it had learned nothing.

    loss: mean cross-entropy (nats) of the finished network on training images. guessing: the same
    for equal probabilities of all classes, ln(classes). learned: see `beyond_guessing`. start: the
    loss before the first step, for a pretrained network; random weights start at about ln(classes).

    True if the loss is not finite, and if it is clearly above both guessing and start while the
    network knows little: gradient descent does not climb above the loss of ignorance. Non-finite
    losses alone are not enough, because float32 continues for long after a training has diverged.
    Both conditions are needed, because each alone misleads. A network that classifies 97 in 100
    correctly and is overconfident about the others has a large loss and has learned; one that noise
    or wrong labels keep at chance has learned nothing, at a loss near guessing, and did not
    diverge.
    """
    if not math.isfinite(loss):
        return True
    return loss > CLEARLY * max(guessing, start) and not learned >= KNOWS


def beyond_guessing(accuracy: float, labels: np.ndarray) -> float:
    """The accuracy rescaled between always predicting the most frequent class (0) and perfect (1).

    accuracy: in [0, 1], over labels (n,). Negative: worse than guessing. 0 also if guessing is
    always right.
    """
    guess = scores.guessing(labels)
    return (accuracy - guess) / (1 - guess) if guess < 1 else 0.0


def divergence(
    loss: float, guessing: float, learned: float = 0.0, start: float = 0.0, remedy: str = SMALLER
) -> list[str]:
    """The warning for `diverged`, or none. remedy: a sentence that says what helps."""
    if not diverged(loss, guessing, learned, start):
        return []
    if not math.isfinite(loss):
        return [f"The training diverged: its loss is no longer a number. {remedy}"]
    began = f" and it began at {start:,.2f}" if start > guessing else ""
    return [
        f"The training diverged: its loss ended at {loss:,.2f}, where guessing without looking "
        f"has {guessing:,.2f}{began}. {remedy}"
    ]


def further_away(distance: float, untrained: float) -> list[str]:
    """A warning if a generator ends clearly further from the real images than it began.

    Both arguments are Fréchet distances; NaN or infinity counts as the largest distance.
    """
    if math.isfinite(distance) and distance <= CLEARLY * untrained:
        return []
    return [
        f"The training diverged: the generator ended at a Fréchet distance of {distance:,.2f} "
        f"from the real images, and began at {untrained:,.2f}. Smaller learning rates help."
    ]


def uninformed(loss: float, clusters: int, entropy_weight: float) -> list[str]:
    """A warning if the clusters of an information loss carry no information about the images.

    The loss is that of engine/studies/clustering/invariant_information.py, in nats, negative if an
    image's cluster predicts that of its copies. Independent clusters have −2(λ − 1) ln(clusters) if
    equally full, and 0 if a single one holds everything.
    """
    ignorant = min(0.0, -2 * (entropy_weight - 1) * math.log(clusters))
    if math.isfinite(loss) and (clusters == 1 or loss < ignorant - LEAST_KNOWN):
        return []
    return [
        f"The training diverged, or found nothing: its loss ended at {loss:,.3f}, where clusters "
        f"that know nothing of the images have {ignorant:,.3f}. {SMALLER}"
    ]


# --- too few images -------------------------------------------------------------------------------


def few(count: int, what: str, so: str) -> list[str]:
    """A warning if there are fewer than FEW images, or none.

    what: for example 'test images'. so: what they are too few for.
    """
    if not 0 < count < FEW:
        return []
    one = count == 1
    return [
        f"{count:,} {what.removesuffix('s') if one else what} {'is' if one else 'are'} too few "
        f"{so}."
    ]


def too_few(labels: np.ndarray, names: tuple[str, ...], part: str = "training") -> list[str]:
    """Warnings if there are too few images, in total or of a class.

    labels (n,) of the images that were trained or evaluated on; names: of all classes; part: which
    images these are. Nothing for n = 0. For classes without a test image, see scores.warnings.
    """
    n, tested = len(labels), part == "test"
    if 0 < n < FEW:
        points = f"an accuracy over them is uncertain by {100 / math.sqrt(n):.0f} points"
        return few(
            n, f"{part} images", f"to say much: {points}" if tested else "to learn much from"
        )
    sizes = np.bincount(labels, minlength=len(names))
    least = 1 if tested else 0
    scarce = [name for name, size in zip(names, sizes) if n and least <= size < HANDFUL]
    if not scarce:
        return []
    more = f" and {len(scarce) - NAMED} more" if len(scarce) > NAMED else ""
    return [
        f"Fewer than {HANDFUL} {part} images show {', '.join(scarce[:NAMED])}{more}: too few "
        f"to say much of {'it' if len(scarce) == 1 else 'them'}."
    ]


def of(images) -> list[str]:
    """The warnings for both the training and the test part of a data set."""
    return [
        *too_few(images.train_labels, images.classes),
        *too_few(images.test_labels, images.classes, "test"),
    ]
