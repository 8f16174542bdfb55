"""Context for an accuracy: the guessing baseline, balanced accuracy, untested classes. numpy."""

from __future__ import annotations

import numpy as np

UNEVEN = 2.0  # least size ratio of the largest to the smallest non-empty class
NAMED = 20  # largest number of classes named in a sentence


def guessing(labels: np.ndarray) -> float:
    """The accuracy of always predicting the most frequent class.

    labels (n,) integers from 0; NaN for n = 0.
    """
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else float("nan")


def balanced_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The mean over classes of the fraction classified correctly.

    Classes without images are left out. labels, predictions (n,); NaN for n = 0. The same as
    scikit-learn's. Guessing reaches one over the number of non-empty classes, however uneven they
    are.
    """
    if not len(labels):
        return float("nan")
    return float(np.mean([(predictions[labels == c] == c).mean() for c in np.unique(labels)]))


def uneven(labels: np.ndarray) -> bool:
    """Whether class sizes in labels (n,) differ so much that an accuracy misleads."""
    sizes = np.unique(labels, return_counts=True)[1]
    return len(sizes) > 1 and bool(sizes.max() >= UNEVEN * sizes.min())


def per_class(labels: np.ndarray, right: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    """The accuracy on each class that has images, by name.

    labels (n,) integers from 0; right (n,): whether the prediction is the label.
    """
    return {
        name: float(right[labels == number].mean())
        for number, name in enumerate(names)
        if (labels == number).any()
    }


def beside(labels: np.ndarray, predictions: np.ndarray, of: str = "test_accuracy") -> dict:
    """Metrics to show beside the accuracy named `of`, as floats by name.

    These are the guessing baseline and, for uneven classes, balanced accuracy.
    """
    found = {"guessing": guessing(labels)}
    if uneven(labels):
        found[f"balanced_{of}"] = balanced_accuracy(labels, predictions)
    return found


def warnings(labels: np.ndarray, names: tuple[str, ...], tested: str = "test") -> list[str]:
    """Warnings that qualify an accuracy over these labels (n,).

    names: of all classes; tested: which images the labels belong to.
    """
    sizes = np.bincount(labels, minlength=len(names))
    found = []
    if missing := [name for name, size in zip(names, sizes) if not size]:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        found.append(
            f"No {tested} image shows {', '.join(missing[:NAMED])}{more}: the accuracy "
            f"says nothing of {'it' if len(missing) == 1 else 'them'}."
        )
    return found + ([_uneven(labels, sizes, names, tested)] if uneven(labels) else [])


def _uneven(labels: np.ndarray, sizes: np.ndarray, names: tuple[str, ...], tested: str) -> str:
    most, least = int(sizes.argmax()), int(np.where(sizes, sizes, sizes.max() + 1).argmin())
    return (
        f"The classes are uneven: of {len(labels):,} {tested} images {sizes[most]:,} show "
        f"{names[most]} and {sizes[least]:,} {names[least]}. Always saying {names[most]} is "
        f"right for {100 * guessing(labels):.1f} % of them. Look at balanced accuracy, the "
        f"mean over classes, where guessing reaches {100 / np.count_nonzero(sizes):.1f} %."
    )
