"""Splits a folder's images into training and test images, with duplicates on the same side."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.datasets.source import printable


@dataclass(frozen=True)
class Own:
    """One of the user's image files.

    label: its class, which is the name of its folder.
    part: train, test or empty.
    """

    path: Path
    label: str
    part: str = ""


def mixed(files: list[Own]) -> np.ndarray:
    """Return rows in the order of the hashes of the file names."""
    return np.array(
        sorted(
            range(len(files)),
            key=lambda row: hashlib.sha256(os.fsencode(files[row].path.name)).digest(),
        )
    )


def enough(seen: dict[tuple[str, str], set[bytes]]) -> bool:
    """Whether the images read so far are enough: two classes to train, one of them also to test.

    `seen` holds the distinct images read for each class and part.
    """
    train = {
        label: len(images) for (label, part), images in seen.items() if images and part != "test"
    }
    tests = [
        label
        for (label, part), images in seen.items()
        if label in train and (part == "test" and images or not part and len(images) > 1)
    ]
    return len(train) > 1 and bool(tests)


def split_classes(
    order: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into training and test rows, both in the given order.

    That order, by the hashes of the file names, mixes the classes.

    Of each class the first fifth is for testing: at least one image, if the class has two.
    Duplicates (of one `group`) stay together. A group is skipped if it is larger than the test part
    still needs, so that duplicates do not fill it, or if a class would have no training images
    without it.
    """
    units: dict[int, list[int]] = {}
    for row in order:
        units.setdefault(group[row], []).append(row)
    mine: dict[int, list[list[int]]] = {}
    for unit in units.values():
        for label in dict.fromkeys(labels[unit].tolist()):
            mine.setdefault(label, []).append(unit)
    parts = _Parts(labels)
    for label in sorted(mine):
        parts.fill(label, mine[label])
    return order[~parts.is_test[order]], order[parts.is_test[order]]


class _Parts:
    """Moves images to the test part, unit by unit; labels (n,) are those of all images."""

    def __init__(self, labels: np.ndarray):
        self.labels, self.is_test = labels, np.zeros(len(labels), bool)
        self.left: Counter[int] = Counter(labels.tolist())  # number per class
        self.tested: Counter[int] = Counter()

    def fill(self, label: int, units: list[list[int]]) -> None:
        """Move a fifth of a class to the test part, taking its units in order."""
        of_class = self.left[label] + self.tested[label]
        wanted = max(of_class // 5, 1) if of_class > 1 else 0
        for unit in units:
            if wanted <= self.tested[label]:
                return
            if len(unit) <= wanted - self.tested[label] and self.spares(unit):
                self.take(unit)
        if (
            not self.tested[label]
            and (spared := [unit for unit in units if self.spares(unit)])
            and wanted
        ):
            self.take(min(spared, key=len))  # all units are larger than wanted

    def spares(self, unit: list[int]) -> bool:
        """Whether the unit can be taken: not taken yet, and each class keeps a training image."""
        return not self.is_test[unit[0]] and all(
            self.left[label] > count for label, count in self.of(unit).items()
        )

    def take(self, unit: list[int]) -> None:
        self.is_test[unit] = True
        self.left.subtract(self.of(unit))
        self.tested.update(self.of(unit))

    def of(self, unit: list[int]) -> Counter[int]:
        """Count how many images of a unit belong to each class."""
        return Counter(self.labels[unit].tolist())


def distinct(names: list[str]) -> tuple[str, ...]:
    """Return class names as distinct texts, numbering those that would otherwise be equal."""
    texts: list[str] = []
    for name in map(printable, names):
        numbered = (f"{name} ({number})" for number in range(2, len(names) + 2))
        texts.append(
            name if name not in texts else next(text for text in numbered if text not in texts)
        )
    return tuple(texts)
