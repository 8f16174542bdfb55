"""Defines what a data set is (Images, Source), and the errors if one is missing or unusable.

At module level only numpy is imported: the web process reads images, but never imports torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.core import parameters

EXHIBITED = 60  # training images that a page shows


SIZE = 64  # pixels per side of the images that are cropped and scaled here: CelebA and folders


MOST_BYTES = 50_000_000  # largest image file in a folder


DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Images:
    """A data set in memory.

    The arrays are shared between all who load it and are read-only.

    train_images: (n, h, w, c) uint8; test_images likewise.
    train_labels: (n,) int64; test_labels likewise.
    classes: the word for each label.
    fingerprint: see registry.fingerprint.
    skipped: number of image files of a folder that are not used.
    train_size: number of training images in the whole set (registry.preview keeps fewer).
    notes: what to know about a folder, in sentences: skipped files with the reason, and duplicates.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "train_size", self.train_size or len(self.train_images))
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            array.flags.writeable = False


@dataclass(frozen=True)
class Available:
    """A data set that can be named here.

    bytes: size on disk, or of the download if it is not present.
    how: how to get it, or what to change.
    damaged: it is here but cannot be used.
    notes: as in Images, if its images were read.
    """

    name: str
    title: str
    present: bool
    count: int
    bytes: int
    how: str
    damaged: bool = False
    notes: tuple[str, ...] = ()

    def how_to_get(self) -> str:
        """Describe a data set that is not present, for the command line and the pages."""
        return f"{'cannot be used' if self.damaged else 'not here'}. {self.how}"


class Missing(Exception):
    """A data set is not here; the message says how to get it."""

    def __init__(self, name: str, how: str):
        how = printable(how)  # it may quote a file name with arbitrary bytes, and is printed
        super().__init__(name, how)  # both arguments, so that the exception can be pickled
        self.name, self.how = name, how

    def __str__(self) -> str:
        return f"The data set {self.name} is not here. {self.how}"


class MissingFile(Missing):
    """A file is not in the data folder; the message says where it belongs."""

    def __str__(self) -> str:
        return f"The file {self.name} is not here. {self.how}"


class Unusable(Missing):
    """A data set is here but cannot be used; the message says what to change."""

    def __str__(self) -> str:
        return f"The data set {self.name} cannot be used. {self.how}"


class FetchFailed(Exception):
    """A download failed; the message gives the reason in plain words."""


def tested_class(images: Images, category: int) -> int:
    """Return the class, or the nearest one before it that has a test image.

    If there is none before it, returns the first class with a test image.
    """
    tested = np.unique(images.test_labels)
    return int(max(tested[tested <= category], default=tested[0]))


class Registry(Protocol):
    """What a source may use of engine/datasets/registry.py, which caches what was read."""

    def load(self, name: str) -> Images:
        """Return a data set by name; raises Missing or Unusable."""
        ...

    def fingerprint(self, name: str) -> str:
        """Return the SHA-256 (hex) of a data set's content; raises Missing or Unusable."""
        ...


@dataclass(frozen=True)
class Source:
    """Where one data set comes from.

    digests and read may raise OSError and ValueError in addition to Missing.
    """

    name: str

    @property
    def title(self) -> str:
        """The title shown to users."""
        return parameters.DATASETS[self.name]

    def digests(self) -> list[str]:
        """Return checksums of the content, in a fixed order.

        Raises Missing, or Unusable for a file that is not the published one.
        """
        raise NotImplementedError

    def read(self, fingerprint: str) -> Images:
        """Read all images and split them for training and testing."""
        raise NotImplementedError

    def available(self, registry: Registry) -> Available:
        """Check quickly whether it is here; raises Missing and OSError."""
        raise NotImplementedError

    def everything(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return all images without a split, and notes, for a folder; otherwise raises Unusable."""
        raise Unusable(self.name, "Only a folder of your own is taken as it is.")

    def examined(self, found: Available, registry: Registry) -> Available:
        """Return the entry after everything was read and checked; raises Missing."""
        registry.fingerprint(self.name)
        return found


def printable(name: str) -> str:
    r"""Return a file name as text, whatever its bytes.

    Bytes that are not UTF-8 become escapes such as \xe9, so that different names stay different.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")
