"""Published data sets in torchvision's layout, and the IDX ones: MNIST and Fashion-MNIST.

Their files are checked against the published checksums before use.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from engine.core import settings
from engine.datasets.reading import digest, read_idx
from engine.datasets.source import DIGITS, Available, Images, Missing, Registry, Source, Unusable

# Downloads one file, which is at each of the addresses: (addresses, path, "md5:" and checksum).
Fetch = Callable[[Sequence[str], Path, str], None]

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Published(Source):
    """A data set that torchvision knows.

    files: path below VEIL_DATA → published checksum of its content.
    """

    torchvision_name: str
    files: dict[str, str]
    count: int
    download_bytes: int
    algorithm: str = "sha256"
    elsewhere: Path | None = None  # a folder that may hold the same files

    @property
    def how(self) -> str:
        """The sentence that says how to get the data set."""
        return f"Get it with `python -m engine data fetch {self.name}`, or {self.by_hand}."

    @property
    def by_hand(self) -> str:
        """The phrase that says which files to put where by hand."""
        return f"put {self.needed} into {(settings.data_folder() / next(iter(self.files))).parent}"

    @property
    def needed(self) -> str:
        """The phrase that names the files."""
        return "its files (" + ", ".join(Path(file).name for file in self.files) + ")"

    def find(self, file: str) -> Path:
        """Return where one of the files is, unpacked or as .gz; raises Missing."""
        for path in self.places(file):
            if path.is_file():
                return path
        raise Missing(self.name, self.how)

    def places(self, file: str) -> list[Path]:
        """List where a file may be: in VEIL_DATA, unpacked or as .gz, or in `elsewhere`."""
        packed = Path(file).name + ".gz"
        own = settings.data_folder() / file
        return [own, own.with_name(packed), *([self.elsewhere / packed] if self.elsewhere else [])]

    def digests(self) -> list[str]:
        """Verify every file and return the published checksums."""
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
        """Return the error to raise for a file that is not the published one."""
        return Unusable(
            self.name,
            f"{path} is not the published file: it is damaged, or another set's. Delete it, "
            f"then run `python -m engine data fetch {self.name}`.",
        )

    def available(self, registry: Registry) -> Available:
        """Check whether all files are here; their content is not read."""
        try:
            size = sum(self.find(file).stat().st_size for file in self.files)
        except Missing:
            return Available(
                self.name, self.title, False, self.count, self.download_bytes, self.how
            )
        return Available(self.name, self.title, True, self.count, size, "")

    def download(self, datasets: ModuleType, folder: Path, fetch: Fetch) -> None:
        """Download and unpack the files.

        datasets: torchvision's, which knows addresses and checksums; folder: VEIL_DATA; fetch:
        downloads one file.
        """
        raise NotImplementedError

    def discard_broken(self) -> None:
        """Delete files that are not the published ones, such as half unpacked ones."""
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
    """MNIST, or a data set of four files in the same format."""

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

    def download(self, datasets: ModuleType, folder: Path, fetch: Fetch) -> None:
        """Download the four files and unpack each beside its archive."""
        import pooch

        published = getattr(datasets, self.torchvision_name)
        for name, md5 in published.resources:
            path = (folder / next(iter(self.files))).with_name(name)
            fetch([mirror + name for mirror in published.mirrors], path, f"md5:{md5}")
            pooch.Decompress(name=path.stem)(str(path), "download", None)

    def read(self, fingerprint: str) -> Images:
        """Read the four files; images get a channel axis, (n, 28, 28, 1)."""
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
