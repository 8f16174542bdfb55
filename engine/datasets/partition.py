"""How a folder's images are split into training and test images, copies on one side."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.datasets.source import printable

# --- folders of one's own -------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """A picture file of one's own: its path, its class as the folder is named, and its part: train,
    test or none.
    """

    path: Path
    label: str
    part: str = ""


def mixed(files: list[Own]) -> np.ndarray:
    """Rows in the order of the hashes of the files' names."""
    return np.array(
        sorted(
            range(len(files)),
            key=lambda row: hashlib.sha256(os.fsencode(files[row].path.name)).digest(),
        )
    )


def enough(seen: dict[tuple[str, str], set[bytes]]) -> bool:
    """Two classes to train, and one of them to test with, among the pictures that were read of each
    class and part.
    """
    train = {
        label: len(pictures)
        for (label, part), pictures in seen.items()
        if pictures and part != "test"
    }
    tests = [
        label
        for (label, part), pictures in seen.items()
        if label in train and (part == "test" and pictures or not part and len(pictures) > 1)
    ]
    return len(train) > 1 and bool(tests)


def split_classes(
    order: np.ndarray, labels: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train and to test, both in the order given, that of the hashes of the files' names,
    which mixes the classes.

    Of each class the fifth that comes first is for testing: one at least, where there are two.
    Copies (of one `group`) go together; so that they do not fill the test part, those are passed
    over that are more than it still wants, and those without which a class would have nothing to
    train with.
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
    """Pictures going over to the test part, unit by unit; labels (n,), of all pictures."""

    def __init__(self, labels: np.ndarray):
        self.labels, self.is_test = labels, np.zeros(len(labels), bool)
        self.left, self.tested = Counter(labels.tolist()), Counter()  # of each class

    def fill(self, label: int, units: list[list[int]]) -> None:
        """Take a fifth of a class from its units, in their order."""
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
            self.take(min(spared, key=len))  # all are larger

    def spares(self, unit: list[int]) -> bool:
        """Is it not taken, and keeps each class a picture to train with without it?"""
        return not self.is_test[unit[0]] and all(
            self.left[label] > count for label, count in self.of(unit).items()
        )

    def take(self, unit: list[int]) -> None:
        self.is_test[unit] = True
        self.left.subtract(self.of(unit))
        self.tested.update(self.of(unit))

    def of(self, unit: list[int]) -> Counter:
        """How many of a unit are of each class."""
        return Counter(self.labels[unit].tolist())


def distinct(names: list[str]) -> tuple[str, ...]:
    """Classes' names as texts, a number behind those that would be one text: they stay two classes."""
    texts: list[str] = []
    for name in map(printable, names):
        numbered = (f"{name} ({number})" for number in range(2, len(names) + 2))
        texts.append(
            name if name not in texts else next(text for text in numbered if text not in texts)
        )
    return tuple(texts)
