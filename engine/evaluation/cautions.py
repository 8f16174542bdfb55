"""What to know before one believes what was learned or measured: it diverged; too few pictures.
numpy.

Every study that learns or measures says these two things, and says them from here
(tests/evaluation/test_cautions.py asks all of them).
"""

from __future__ import annotations

import math

import numpy as np

from engine.evaluation import scores

FEW = 100  # pictures: an accuracy over fewer is uncertain by more than ten points
HANDFUL = 5  # pictures of a class: of fewer nobody can say what they have in common
CLEARLY = 2.0  # times as large
KNOWS = 0.5  # of what lies beyond guessing: from there on a network has learned
LEAST_KNOWN = 1e-3  # nats that clusters tell of pictures at least
SMALLER = "A smaller learning rate helps."
CALMER = "A smaller learning rate or less noise helps."
NAMED = 20  # classes named in a sentence, at most


# --- it diverged ----------------------------------------------------------------------------------


def diverged(loss: float, guessing: float, learned: float = 0.0, start: float = 0.0) -> bool:
    """Did a training end worse than if it had learned nothing?

    loss: mean cross-entropy (nats) of the finished network on pictures that it learned from.
    guessing: the same of one who calls all classes equally likely, ln(classes). learned: see
    `beyond_guessing`. start: the loss before the first step, where the network had learned before;
    random weights begin at about ln(classes).

    True where the loss is no finite number (float32 goes on for long after a training has run away,
    so that alone is not enough), and where it is clearly above both and the network knows little:
    who descends does not climb above what ignorance costs. Both are asked, because each alone
    misleads. A network that names 97 in 100 correctly and is very sure of the others has a large
    loss and has learned; one that noise or wrong labels keep at chance has learned nothing, at a
    loss near guessing, and did not diverge.
    """
    if not math.isfinite(loss):
        return True
    return loss > CLEARLY * max(guessing, start) and not learned >= KNOWS


def beyond_guessing(accuracy: float, labels: np.ndarray) -> float:
    """The share that is right of what always saying the most frequent class leaves wrong.

    accuracy: in [0, 1], over labels (n,). 1: all is right, 0: as guessing, or where guessing is
    always right; below 0: worse.
    """
    guess = scores.guessing(labels)
    return (accuracy - guess) / (1 - guess) if guess < 1 else 0.0


def divergence(
    loss: float, guessing: float, learned: float = 0.0, start: float = 0.0, remedy: str = SMALLER
) -> list[str]:
    """`diverged` as a warning, or none. remedy: what helps, a sentence."""
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
    """A warning where a generator ends clearly further from the real pictures than it began.

    Both are Fréchet distances; one that is no number is as far as can be.
    """
    if math.isfinite(distance) and distance <= CLEARLY * untrained:
        return []
    return [
        f"The training diverged: the generator ended at a Fréchet distance of {distance:,.2f} "
        f"from the real pictures, and began at {untrained:,.2f}. Smaller learning rates help."
    ]


def uninformed(loss: float, clusters: int, entropy_weight: float) -> list[str]:
    """A warning where the clusters of an information loss (engine/studies/clustering/invariant_information.py) know nothing of pictures.

    loss: nats, negative where a picture's cluster tells that of its copies. Independent ones have
    −2(λ − 1) ln(clusters) at equally full clusters, and 0 where all is in one.
    """
    ignorant = min(0.0, -2 * (entropy_weight - 1) * math.log(clusters))
    if math.isfinite(loss) and (clusters == 1 or loss < ignorant - LEAST_KNOWN):
        return []
    return [
        f"The training diverged, or found nothing: its loss ended at {loss:,.3f}, where clusters "
        f"that know nothing of the pictures have {ignorant:,.3f}. {SMALLER}"
    ]


# --- too few pictures -----------------------------------------------------------------------------


def few(count: int, what: str, so: str) -> list[str]:
    """A warning where there are fewer than FEW pictures, or none. what: 'test pictures'.

    so: for what they are too few.
    """
    if not 0 < count < FEW:
        return []
    one = count == 1
    return [
        f"{count:,} {what.removesuffix('s') if one else what} {'is' if one else 'are'} too few "
        f"{so}."
    ]


def too_few(labels: np.ndarray, names: tuple[str, ...], part: str = "training") -> list[str]:
    """Warnings where pictures are too few, in all or of a class.

    labels (n,) of the pictures that were learned from, or measured on; names: of all classes; part:
    which pictures these are. Nothing for n = 0. A class without a test picture is told by scores.
    """
    n, tested = len(labels), part == "test"
    if 0 < n < FEW:
        points = f"an accuracy over them is uncertain by {100 / math.sqrt(n):.0f} points"
        return few(
            n, f"{part} pictures", f"to say much: {points}" if tested else "to learn much from"
        )
    sizes = np.bincount(labels, minlength=len(names))
    least = 1 if tested else 0
    scarce = [name for name, size in zip(names, sizes) if n and least <= size < HANDFUL]
    if not scarce:
        return []
    more = f" and {len(scarce) - NAMED} more" if len(scarce) > NAMED else ""
    return [
        f"Fewer than {HANDFUL} {part} pictures show {', '.join(scarce[:NAMED])}{more}: too few "
        f"to say much of {'it' if len(scarce) == 1 else 'them'}."
    ]


def of(images) -> list[str]:
    """Both parts of a data set that was learned from as a whole and measured on."""
    return [
        *too_few(images.train_labels, images.classes),
        *too_few(images.test_labels, images.classes, "test"),
    ]
