"""CIFAR-10: pickled batches, from which nothing but arrays is unpickled."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct

from engine.datasets.published import Fetch, Published
from engine.datasets.source import Images


class Cifar(Published):
    """CIFAR-10, which is published as Python pickles; unpickling can run code from a file.

    Therefore a file is unpickled only if its MD5 is the published one, and the same bytes that were
    checked are parsed, without reading the file again. In case somebody finds other bytes with that
    MD5, the unpickler can create numpy arrays and nothing else.
    """

    CLASSES = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    def download(self, datasets: ModuleType, folder: Path, fetch: Fetch) -> None:
        """Download the archive and unpack it beside itself."""
        import pooch

        published = datasets.CIFAR10
        path = folder / published.filename
        fetch([published.url], path, f"md5:{published.tgz_md5}")
        pooch.Untar(extract_dir=".")(str(path), "download", None)

    def read(self, fingerprint: str) -> Images:
        """Read the five training batches and the test batch."""
        batches = [self.batch(file) for file in self.files if not file.endswith(".meta")]
        (*train, test), (*train_labels, test_labels) = zip(*batches)
        return Images(
            self.name,
            np.concatenate(train),
            np.concatenate(train_labels),
            test,
            test_labels,
            self.CLASSES,
            fingerprint,
        )

    def batch(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        """Read one file: (images (n, 32, 32, 3) uint8, labels (n,) int64); raises Unusable."""
        path = self.find(file)
        raw = path.read_bytes()
        if hashlib.new(self.algorithm, raw, usedforsecurity=False).hexdigest() != self.files[file]:
            raise self.damaged(path)
        content = OnlyArrays(io.BytesIO(raw), encoding="bytes").load()
        planes = content[b"data"].reshape(-1, 3, 32, 32)  # (n, 3072): red, green, blue
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(
            content[b"labels"], np.int64
        )


class OnlyArrays(pickle.Unpickler):
    """An unpickler that can create numpy arrays and call nothing else."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed callable; raises pickle.UnpicklingError for any other name."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a data set")
        return self.ALLOWED[module, name]
