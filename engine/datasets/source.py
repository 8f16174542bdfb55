"""What a data set is, and what is said of one: Images, Source, and the words where one is missing or unusable.

numpy only at module level: the web process reads images, but never imports torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.core import parameters

EXHIBITED = 60  # training pictures that a page shows


SIZE = 64  # pixels a side of the pictures that are cropped and scaled here: CelebA and folders


MOST_BYTES = 50_000_000  # of one of its files


DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Images:
    """A data set in memory.

    The arrays are shared between all who load it, and cannot be written to.

    train_images (n, h, w, c) uint8, train_labels (n,) int64, test_images and test_labels likewise;
    classes: the word for each label; fingerprint: see fingerprint(); skipped: picture files of a
    folder that are not used; train_size: how many training pictures the whole set has (exhibits()
    holds fewer); notes: what to know about a folder, in sentences: what was skipped and why, and
    which pictures stand in it more than once.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    fingerprint: str
    skipped: int = 0
    train_size: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "train_size", self.train_size or len(self.train_images))
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            array.flags.writeable = False


@dataclass(frozen=True)
class Available:
    """A data set that one can name. bytes: on disk, or to be downloaded where it is not present;
    how: to get it.

    damaged: it lies here and cannot be used; how says what to change. notes: as Images', where its
    pictures were read.
    """

    name: str
    title: str
    present: bool
    count: int
    bytes: int
    how: str
    damaged: bool = False
    notes: tuple[str, ...] = ()

    def told(self) -> str:
        """What the command line and the pages say of one that is not present."""
        return f"{'cannot be used' if self.damaged else 'not here'}. {self.how}"


class Missing(Exception):
    """A data set that is not here. The message says how to get it."""

    def __init__(self, name: str, how: str):
        how = printable(how)  # it may quote a file's name of any bytes, and is printed
        super().__init__(name, how)  # both, so that it travels between processes
        self.name, self.how = name, how

    def __str__(self) -> str:
        return f"The data set {self.name} is not here. {self.how}"


class MissingFile(Missing):
    """A file that is not in the data folder. The message says where it belongs."""

    def __str__(self) -> str:
        return f"The file {self.name} is not here. {self.how}"


class Unusable(Missing):
    """A data set that is here but cannot be used. The message says what to change."""

    def __str__(self) -> str:
        return f"The data set {self.name} cannot be used. {self.how}"


class FetchFailed(Exception):
    """A download that did not work, and why, in plain words."""


def tested_class(images: Images, category: int) -> int:
    """A class, or the nearest one before it that has a test picture; the first one that has, where
    there is none before.
    """
    tested = np.unique(images.test_labels)
    return int(max(tested[tested <= category], default=tested[0]))


# --- the bundled digits ---------------------------------------------------------------------------


class Registry(Protocol):
    """What a source may ask of engine/datasets/registry.py, which remembers what was read."""

    def load(self, name: str) -> Images: ...

    def fingerprint(self, name: str) -> str: ...


@dataclass(frozen=True)
class Source:
    """Where one data set comes from. digests and read may raise OSError and ValueError besides
    Missing.
    """

    name: str

    @property
    def title(self) -> str:
        return parameters.DATASETS[self.name]

    def digests(self) -> list[str]:
        """Checksums of the content, in a fixed order.

        Raises Missing; Unusable for what is not the published file.
        """
        raise NotImplementedError

    def read(self, fingerprint: str) -> Images:
        raise NotImplementedError

    def available(self, registry: Registry) -> Available:
        """Whether it is here, by a quick look. Raises Missing, OSError."""
        raise NotImplementedError

    def everything(self) -> tuple[np.ndarray, tuple[str, ...]]:
        raise Unusable(self.name, "Only a folder of your own is taken as it is.")

    def examined(self, found: Available, registry: Registry) -> Available:
        """The same after everything was read and checked. Raises Missing."""
        registry.fingerprint(self.name)
        return found


def printable(name: str) -> str:
    """A file's name as text, whatever bytes it has: what is not UTF-8 as \\xe9, so that names stay
    apart.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
