"""The data sets by name: a name states exactly which data were used.

Other modules need only `load`, `everything`, `preview` and `fingerprint`; `fetch` downloads a
published data set.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from engine.core import settings
from engine.datasets.bundled import Bundled
from engine.datasets.celeba import CelebA
from engine.datasets.cifar import Cifar
from engine.datasets.download import download
from engine.datasets.folder import FOLDER, Folder, own_folders
from engine.datasets.published import DEBIAN_FASHION, Idx, Published
from engine.datasets.source import (
    EXHIBITED,
    Available,
    FetchFailed,
    Images,
    Missing,
    Source,
    Unusable,
)

RECIPE = 1  # increased whenever the same files would be read, split or cropped differently


# One lock per name: nobody waits for another data set, and none is loaded twice.
_LOADING: dict[str, threading.RLock] = {}


# --- public functions -----------------------------------------------------------------------------


def load(name: str) -> Images:
    """Load a data set by name, keeping the last few in memory; raises Missing or Unusable."""
    _source(name)  # raises for unknown names, so that only known names get a lock
    with _LOADING.setdefault(name, threading.RLock()), _as_unusable(name):
        return _load(name, settings.data_folder(), fingerprint(name))


def everything(name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return all images of the user's own folder without a split, and what to know about them.

    The images are (n, SIZE, SIZE, 3) uint8, shuffled; the notes are sentences. There is no split
    because a set to be compared may consist of duplicates only. Raises Missing or its subclass
    Unusable.
    """
    _source(name)
    with _LOADING.setdefault(name, threading.RLock()), _as_unusable(name):
        return _everything(name, settings.data_folder(), fingerprint(name))


def preview(name: str) -> Images:
    """Return the test images and only the first EXHIBITED training images.

    This is what the web process keeps of a data set. Raises as load does.
    """
    _source(name)
    with _LOADING.setdefault(name, threading.RLock()), _as_unusable(name):
        return _preview(name, settings.data_folder(), fingerprint(name))


def fingerprint(name: str) -> str:
    """Return the SHA-256 (hex) of the data set's content, however it is packed.

    The first call in a process reads the files and verifies the published ones. Later calls only
    check whether path, size and modification time are still the same. Raises Missing or its
    subclass Unusable.
    """
    with _as_unusable(name):
        content = [f"recipe {RECIPE}", name, *_source(name).digests()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def available(thorough: bool = False) -> list[Available]:
    """List all data sets that can be named here: the known ones, then each of the user's folders.

    Of a folder, only as many images are read as show that it can be used.

    thorough: everything is read and checked, so that what is present loads, and skipped files are
    counted.
    """
    return [_available(name, thorough) for name in (*SOURCES, *own_folders())]


def _available(name: str, thorough: bool) -> Available:
    source = _source(name)
    try:
        with _as_unusable(name):
            found = source.available(sys.modules[__name__])
        return (
            source.examined(found, sys.modules[__name__]) if thorough and found.present else found
        )
    except Missing as missing:
        return Available(
            name, source.title, False, 0, 0, missing.how, damaged=isinstance(missing, Unusable)
        )


def fetch(name: str, progress: Callable[[int, int], object] | None = None) -> None:
    """Download a data set into VEIL_DATA and verify it.

    Does nothing if it is already here and intact.

    progress(done bytes, total bytes) is called repeatedly and may raise to end the download. Raises
    FetchFailed.
    """
    source = _source(name)
    try:
        fingerprint(name)
    except Missing as missing:
        if not isinstance(source, Published):
            raise FetchFailed(str(missing)) from None
        download(source, progress, partial(fingerprint, name))


@lru_cache(maxsize=3)
def _load(
    name: str,
    folder: Path,  # noqa: ARG001  part of the cache's key
    fingerprint: str,
) -> Images:
    return _source(name).read(fingerprint)


@lru_cache(maxsize=1)
def _everything(
    name: str,
    folder: Path,  # noqa: ARG001  part of the cache's key
    fingerprint: str,  # noqa: ARG001  part of the cache's key
) -> tuple[np.ndarray, tuple[str, ...]]:
    return _source(name).everything()


@lru_cache(maxsize=6)
def _preview(
    name: str,
    folder: Path,  # noqa: ARG001  part of the cache's key
    fingerprint: str,
) -> Images:
    whole = _source(name).read(fingerprint)
    return replace(
        whole,
        train_images=whole.train_images[:EXHIBITED].copy(),
        train_labels=whole.train_labels[:EXHIBITED].copy(),
    )


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    if name.startswith("folder:") and FOLDER.fullmatch(name[7:]):
        return Folder(name)
    raise Missing(
        name,
        f"Known are {', '.join(SOURCES)}, and folder:NAME for images of your own "
        "(letters, digits, - and _).",
    )


@contextmanager
def _as_unusable(name: str) -> Iterator[None]:
    """Convert errors while reading to Unusable."""
    try:
        yield
    except OSError as error:
        raise Unusable(name, f"{error.filename or 'A file'}: {error.strerror or error}.") from error
    except (ValueError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise Unusable(name, f"{error}.") from error


# --- known data sets ------------------------------------------------------------------------------


def _four_files(folder: str, *digests: str) -> dict[str, str]:
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    return {f"{folder}/raw/{name}": digest for name, digest in zip(names, digests, strict=True)}


# MNIST and Fashion-MNIST: SHA-256 of the unpacked files, computed from .gz files whose MD5 is the
# published one. CIFAR-10 and CelebA: the MD5 that torchvision publishes
# (torchvision/datasets/cifar.py and celeba.py).
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Bundled("mnist-5k"),
        Idx(
            "mnist",
            "MNIST",
            _four_files(
                "MNIST",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            70_000,
            11_594_722,
        ),
        Idx(
            "fashion-mnist",
            "FashionMNIST",
            _four_files(
                "FashionMNIST",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            70_000,
            30_878_645,
            elsewhere=DEBIAN_FASHION,
        ),
        Cifar(
            "cifar10",
            "CIFAR10",
            {
                "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
                "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
                "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
            },
            60_000,
            170_498_071,
            "md5",
        ),
        CelebA(
            "celeba",
            "CelebA",
            {
                "celeba/list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
                "celeba/list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668",
            },
            202_599,
            1_494_710_798,
            "md5",
        ),
    )
}
