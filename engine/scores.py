"""What an accuracy is worth: what guessing reaches, balanced accuracy where classes are uneven, and which classes were never tested. numpy alone."""

from __future__ import annotations

import numpy as np

UNEVEN = 2.0  # the largest class has so many times as many pictures as the smallest that has any
NAMED = 20  # classes named in a sentence, at most


def guessing(labels: np.ndarray) -> float:
    """The accuracy of always saying the most frequent class: what one reaches without looking. labels (n,) ≥ 0; NaN for none."""
    return float(np.bincount(labels).max() / len(labels)) if len(labels) else float("nan")


def balanced_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The mean over classes of the share named correctly, classes without a picture left out (as scikit-learn's). labels, predictions (n,); NaN for none.

    Guessing reaches one over the number of classes that have pictures, however uneven they are.
    """
    return float(np.mean([(predictions[labels == c] == c).mean() for c in np.unique(labels)])) if len(labels) else float("nan")


def uneven(labels: np.ndarray) -> bool:
    """Do classes differ so much in size that an accuracy misleads? labels (n,)."""
    sizes = np.unique(labels, return_counts=True)[1]
    return len(sizes) > 1 and bool(sizes.max() >= UNEVEN * sizes.min())


def beside(labels: np.ndarray, predictions: np.ndarray, of: str = "test_accuracy") -> dict[str, float]:
    """Metrics to stand beside the accuracy of that name: what guessing reaches, and balanced accuracy where classes are uneven."""
    found = {"guessing": guessing(labels)}
    return found | ({f"balanced_{of}": balanced_accuracy(labels, predictions)} if uneven(labels) else {})


def warnings(labels: np.ndarray, names: tuple[str, ...], tested: str = "test") -> list[str]:
    """What to know before one believes an accuracy over these labels (n,). tested: which pictures they are of."""
    sizes, found = np.bincount(labels, minlength=len(names)), []
    if missing := [name for name, size in zip(names, sizes) if not size]:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        found.append(f"No {tested} picture shows {', '.join(missing[:NAMED])}{more}: the accuracy says nothing of {'it' if len(missing) == 1 else 'them'}.")
    if uneven(labels):
        most, least = int(sizes.argmax()), int(np.where(sizes, sizes, sizes.max() + 1).argmin())
        found.append(f"The classes are uneven: of {len(labels):,} {tested} pictures {sizes[most]:,} show {names[most]} and {sizes[least]:,} {names[least]}. "
                     f"Always saying {names[most]} is right for {100 * guessing(labels):.1f} % of them. Look at balanced accuracy, the mean over classes, "
                     f"where guessing reaches {100 / np.count_nonzero(sizes):.1f} %.")
    return found
