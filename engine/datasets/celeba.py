"""CelebA: 202,599 face images, decoded once."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np

from engine.core import settings
from engine.datasets.published import Fetch, Published
from engine.datasets.reading import decode_all, tree_digest
from engine.datasets.source import SIZE, Available, Images, Missing, Registry, Unusable


class CelebA(Published):
    """202,599 faces: the central 178 × 178 pixels of each aligned image, scaled to 64 × 64.

    The label is the attribute "Male".

    The published validation part joins the training part, so that all images are used: 182,637 for
    training, 19,962 for testing. All are decoded once into a file of 2.5 GB next to the image
    folder, which is then memory-mapped.
    """

    TEST = "2"  # in list_eval_partition.txt; 0 is for training, 1 for validation

    @property
    def folder(self) -> Path:
        """The folder celeba in VEIL_DATA."""
        return settings.data_folder() / "celeba"

    @property
    def needed(self) -> str:
        """The phrase that names the files and the image folder."""
        return super().needed + " and the folder img_align_celeba with its images"

    def digests(self) -> list[str]:
        """Return the published checksums of the lists, and one checksum of all images."""
        published, images = super().digests(), self.folder / "img_align_celeba"
        if not images.is_dir():
            raise Missing(self.name, self.how)
        state = images.stat()
        return [*published, self._images_digest(state.st_mtime_ns, state.st_ino)]

    def available(self, registry: Registry) -> Available:
        """Check whether the lists and the image folder are here; no image is read."""
        found = super().available(registry)
        if found.present and not (self.folder / "img_align_celeba").is_dir():
            return Available(
                self.name, self.title, False, self.count, self.download_bytes, self.how
            )
        return found

    def download(self, datasets: ModuleType, folder: Path, fetch: Fetch) -> None:
        """Download all parts with torchvision's loader, which knows Google Drive.

        It checks the MD5 of each file and shows its own progress.
        """
        datasets.CelebA(str(folder), split="all", download=True)

    def read(self, fingerprint: str) -> Images:
        """Return memory-mapped images, which are all decoded on first use (some minutes)."""
        paths, is_test, is_male = self.lists()
        # (n, 64, 64, 3), the test images last
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
        """Return (image paths, is test (n,) bool, is Male (n,) int64), in the published order."""
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
        images = self.folder / "img_align_celeba"
        return (
            [images / name for name, _ in rows],
            is_test,
            np.array([male[name] for name, _ in rows], np.int64),
        )

    def _images_digest(self, changed: int, inode: int) -> str:
        """Return the checksum of all images.

        Since reading them takes a while, it is stored in a file next to their folder and stays
        valid until that folder changes.
        """
        state, note = f"{changed} {inode} {self.count}", self.folder / "veil-checksum.txt"
        kept = note.read_text().rsplit(maxsplit=1) if note.is_file() else []
        if len(kept) == 2 and kept[0] == state:
            return kept[1]
        paths = self.lists()[0]
        if missing := sum(not path.is_file() for path in paths):
            raise Unusable(
                self.name,
                f"{missing:,} of its {self.count:,} images are not in {paths[0].parent}. "
                f"Delete that folder, then run `python -m engine data fetch {self.name}`.",
            )
        found = tree_digest(self.folder, paths, state)
        try:
            note.write_text(f"{state} {found}")
        # read-only data folder: each process then reads the images once
        except OSError:
            pass
        return found

    def _decoded(self, paths: list[Path], fingerprint: str) -> np.ndarray:
        """Return (n, 64, 64, 3) uint8, mapped from a file created on first use (some minutes).

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
                    f"Its images are decoded once, into {path} (2.5 GB), which did not work: "
                    f"{error.strerror or error}.",
                ) from error
            finally:
                draft.unlink(missing_ok=True)
        mapped: np.ndarray = np.load(path, mmap_mode="r")
        return mapped

    def _decode_into(self, draft: Path, paths: list[Path]) -> None:
        # Write real blocks: writing to a map of a sparse file crashes when the disk is full.
        with draft.open("wb") as file:
            np.lib.format.write_array_header_2_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (len(paths), SIZE, SIZE, 3)}
            )
            for start in range(0, len(paths), 5000):
                block = paths[start : start + 5000]
                pixels = np.empty((len(block), SIZE, SIZE, 3), np.uint8)
                for path, reason in zip(block, decode_all(block, pixels)):
                    if reason:
                        raise Unusable(self.name, f"{path} cannot be read: {reason}")
                file.write(pixels.tobytes())
