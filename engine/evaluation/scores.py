"""What an accuracy is worth: what guessing reaches, balanced accuracy, untested classes. numpy."""

from __future__ import annotations

import numpy as np

UNEVEN = 2.0  # the largest class has so many times as many pictures as the smallest that has any
NAMED = 20  # classes named in a sentence, at most


def guessing(labels: np.ndarray) -> float:
    """The accuracy of always saying the most frequent class: what one reaches without looking.

    labels (n,) whole numbers from 0; NaN for none.
    """
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else float("nan")


def balanced_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The mean over classes of the share named correctly; classes without a picture left out.

    labels, predictions (n,); NaN for none. As scikit-learn's. Guessing reaches one over the
    number of classes that have pictures, however uneven they are.
    """
    if not len(labels):
        return float("nan")
    return float(np.mean([(predictions[labels == c] == c).mean() for c in np.unique(labels)]))


def uneven(labels: np.ndarray) -> bool:
    """Do classes differ so much in size that an accuracy misleads? labels (n,)."""
    sizes = np.unique(labels, return_counts=True)[1]
    return len(sizes) > 1 and bool(sizes.max() >= UNEVEN * sizes.min())


def beside(labels: np.ndarray, predictions: np.ndarray, of: str = "test_accuracy") -> dict:
    """Metrics to stand beside the accuracy of that name: float by name.

    What guessing reaches, and balanced accuracy where classes are uneven.
    """
    found = {"guessing": guessing(labels)}
    if uneven(labels):
        found[f"balanced_{of}"] = balanced_accuracy(labels, predictions)
    return found


def warnings(labels: np.ndarray, names: tuple[str, ...], tested: str = "test") -> list[str]:
    """What to know before one believes an accuracy over these labels (n,).

    names: of all classes; tested: which pictures the labels are of.
    """
    sizes = np.bincount(labels, minlength=len(names))
    found = []
    if missing := [name for name, size in zip(names, sizes) if not size]:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        found.append(
            f"No {tested} picture shows {', '.join(missing[:NAMED])}{more}: the accuracy "
            f"says nothing of {'it' if len(missing) == 1 else 'them'}."
        )
    return found + ([_uneven(labels, sizes, names, tested)] if uneven(labels) else [])


def _uneven(labels: np.ndarray, sizes: np.ndarray, names: tuple[str, ...], tested: str) -> str:
    most, least = int(sizes.argmax()), int(np.where(sizes, sizes, sizes.max() + 1).argmin())
    return (
        f"The classes are uneven: of {len(labels):,} {tested} pictures {sizes[most]:,} show "
        f"{names[most]} and {sizes[least]:,} {names[least]}. Always saying {names[most]} is "
        f"right for {100 * guessing(labels):.1f} % of them. Look at balanced accuracy, the "
        f"mean over classes, where guessing reaches {100 / np.count_nonzero(sizes):.1f} %."
    )
