"""Folders of the user's own images: every file is counted, and unused ones are reported."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.core import settings
from engine.datasets import duplicates
from engine.datasets.partition import Own, distinct, enough, mixed, split_classes
from engine.datasets.reading import decode, decode_all, tree_digest
from engine.datasets.source import (
    SIZE,
    Available,
    Images,
    Missing,
    Registry,
    Source,
    Unusable,
    printable,
)

FOLDER = re.compile(r"[A-Za-z0-9_-]{1,64}")


NAMES = "a folder's name has up to 64 letters, digits, - and _"


ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif")


FOLDER_RECIPE = 2  # as RECIPE in registry.py, for folders alone


PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


NAMED = 3  # most files that a sentence names


MOST_CLASSES, MOST_IMAGES = 300, 100_000  # limits of a folder; its pixels take up to 1.2 GB


_VERDICTS: dict[Path, tuple[str, str]] = {}  # folder → (state, why it cannot be used, or "")


class Folder(Source):
    """Images in VEIL_DATA/folders/NAME/<class>/, one folder per class.

    The central square of each image is scaled to 64 × 64 RGB.

    With NAME/train/<class> and NAME/test/<class>, that is the split. A validation part replaces a
    missing test part; if there is a test part, it joins the training part, so that all images are
    used (as for CelebA).
    """

    @property
    def title(self) -> str:
        """The title shown to users, with the folder's name."""
        return f"Your own images: {self.name[7:]}"

    @property
    def folder(self) -> Path:
        """The path of the folder in VEIL_DATA."""
        return settings.data_folder() / "folders" / self.name[7:]

    @property
    def how(self) -> str:
        """The sentence that says which images to put where."""
        return (
            f"Put images (PNG, JPEG, WebP, BMP, TIFF or GIF) into {self.folder}, in a folder for"
            f" each class (2 to {MOST_CLASSES})."
        )

    # --- finding the files ------------------------------------------------------------------------

    def files(self) -> list[Own]:
        """List its image files, sorted by part, class and name.

        Raises Missing, or Unusable with what to change.
        """
        if not self.folder.is_dir():
            raise Missing(self.name, self.how)
        self._check_inside(self.folder, self.folder.parent)
        parts = self._parts()
        found = [own for folder, part in parts for own in self._classes(folder, part)]
        if not 2 <= (classes := len({own.label for own in found})) <= MOST_CLASSES:
            raise Unusable(
                self.name, f"{self.folder} has {classes} folders with images. {self.how}"
            )
        if len(found) > MOST_IMAGES:
            raise Unusable(self.name, f"It has {len(found):,} images; at most {MOST_IMAGES:,} fit.")
        return found

    def _parts(self) -> list[tuple[Path, str]]:
        """List (folder of classes, part): the folder itself, or its training and test folders."""
        named = {
            PARTS[entry.name.lower()]: Path(entry.path)
            for entry in entries(self.folder)
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
        """Whether the folder has images in subfolders and none beside them.

        Otherwise it is a class, whatever its name.
        """
        self._check_inside(folder, self.folder)
        return not self._images(folder) and bool(self._classes(folder, ""))

    def _classes(self, folder: Path, part: str) -> list[Own]:
        classes = [entry for entry in entries(folder) if entry.is_dir()]
        return [
            Own(path, entry.name, part)
            for entry in classes
            for path in self._images(Path(entry.path))
        ]

    def _images(self, folder: Path) -> list[Path]:
        self._check_inside(folder, self.folder)
        files = [
            entry
            for entry in entries(folder)
            if entry.name.lower().endswith(ENDINGS) and entry.is_file()
        ]
        for entry in files:
            if entry.is_symlink():
                self._check_inside(Path(entry.path), self.folder)
        return [Path(entry.path) for entry in files]

    def _check_inside(self, path: Path, root: Path) -> None:
        """Raise Unusable if links lead out of root, so that no other file is ever read."""
        if not path.resolve().is_relative_to(root.resolve()):
            raise Unusable(
                self.name,
                f"{path} is a link that leads outside of {root}. Put the images there themselves.",
            )

    def state(self, files: list[Own]) -> str:
        """Return a hash that changes whenever one of the files changes; no file is read for it."""
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
        """Return a checksum of names and contents.

        The files are read again only if one of them has changed.
        """
        files = self.files()
        found = tree_digest(self.folder, [own.path for own in files], self.state(files))
        return [f"recipe of folders {FOLDER_RECIPE}", found]

    # --- reading the images -----------------------------------------------------------------------

    def read(self, fingerprint: str) -> Images:
        """Read all images and split them into training and test images.

        The split is that of the folders, if they give one. Otherwise four fifths of each class are
        for training and one fifth for testing (see split_classes).

        Duplicates (engine/datasets/duplicates.py) always go into the same part.
        """
        files, pixels, kept, why = self._decoded()
        self._check_classes(kept, len(files))
        found = duplicates.find(pixels)
        train, test, left_out = self._parted(kept, found.group)
        self._check_parts(kept, train, test, len(files), found.copies)
        # a class without training images does not count
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
            distinct(named),
            fingerprint,
            skipped=len(why),
            notes=notes,
        )

    def _decoded(self) -> tuple[list[Own], np.ndarray, list[Own], dict[Path, str]]:
        """Decode all files.

        Returns all files; the pixels (n, SIZE, SIZE, 3) uint8 of the readable ones; the readable
        ones; why each of the others cannot be read.
        """
        files = self.files()
        pixels = np.empty((len(files), SIZE, SIZE, 3), np.uint8)
        why = decode_all([own.path for own in files], pixels)
        read = np.array([not reason for reason in why])
        return (
            files,
            pixels[read],
            [own for own, ok in zip(files, read) if ok],
            {own.path: reason for own, reason in zip(files, why) if reason},
        )

    def everything(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return all images without a split, as registry.everything does."""
        files, pixels, kept, why = self._decoded()
        if not kept:
            raise Unusable(
                self.name, f"{len(files)} of its {len(files)} files cannot be read. {self.how}"
            )
        return pixels[mixed(kept)], (*self._of_skipped(len(files), why), *self._of_links())

    def _check_classes(self, kept: list[Own], total: int) -> None:
        """Raise Unusable if fewer than two classes have a readable image."""
        if len({own.label for own in kept}) < 2:
            raise Unusable(
                self.name,
                f"{total - len(kept)} of its {total} files cannot be read, and fewer "
                f"than two classes are left. {self.how}",
            )

    def _parted(
        self, kept: list[Own], group: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[Path, str]]:
        """Return shuffled rows for training and for testing.

        Also returns the files of a given split that are left out, with the reason.
        """
        order = mixed(kept)
        names = np.unique([own.label for own in kept], return_inverse=True)[1]
        if not kept[0].part:
            return *split_classes(order, names, group), {}
        parts = np.array([own.part for own in kept])
        train = order[parts[order] == "train"]
        test = order[parts[order] == "test"]
        known, seen = np.isin(names[test], names[train]), np.isin(group[test], group[train])
        left_out = {
            kept[row].path: "It stands in the training part too." for row in test[known & seen]
        }
        left_out |= {
            kept[row].path: f"The training part has no class {printable(kept[row].label)}."
            for row in test[~known]
        }
        return train, test[known & ~seen], left_out

    def _check_parts(
        self, kept: list[Own], train: np.ndarray, test: np.ndarray, total: int, copies: int
    ) -> None:
        """Raise Unusable if there is nothing to learn from, or nothing to test with."""
        self._check_classes([kept[row] for row in train], total)
        if not len(test):
            aside = ", copies aside" if copies else ""
            reason = (
                f"No test image can be used{aside}."
                if kept[0].part
                else (
                    f"Each class has a single image{aside}; to test, one class at least needs two."
                )
            )
            raise Unusable(self.name, reason)

    def _of_skipped(self, total: int, why: dict[Path, str]) -> list[str]:
        """Report which files are not used, and why."""
        reasons: dict[str, list[Path]] = {}
        for path, reason in why.items():
            reasons.setdefault(reason, []).append(path)
        skipped = " ".join(
            f"{len(paths):,} skipped ({self._names(paths)}): {reason}"
            for reason, paths in reasons.items()
        )
        return [f"Of {total:,} image files {total - len(why):,} are used. {skipped}"] if why else []

    def _of_passed(self) -> list[str]:
        """Report non-image files (by name) in class folders, and files outside class folders."""
        parts = [folder for folder, _ in self._parts()]
        classes = [
            Path(entry.path) for folder in parts for entry in entries(folder) if entry.is_dir()
        ]
        passed = [
            Path(entry.path)
            for folder in classes
            for entry in entries(folder)
            if not (entry.is_file() and entry.name.lower().endswith(ENDINGS))
        ]
        outside = [
            Path(entry.path)
            for folder in dict.fromkeys([self.folder, *parts])
            for entry in entries(folder)
            if Path(entry.path) not in (*parts, *classes)
        ]
        return [
            f"{len(found):,} passed over, as {why} ({self._names(found)})."
            for found, why in (
                (passed, "no images by their names"),
                (outside, "they lie in no class's folder"),
            )
            if found
        ]

    def _of_links(self) -> list[str]:
        """Report broken links, because their creator expects those images to be used."""
        parts = [folder for folder, _ in self._parts()]
        classes = [
            Path(entry.path) for folder in parts for entry in entries(folder) if entry.is_dir()
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
        """Report a validation part that is used for training, which its name does not suggest."""
        found = [
            folder
            for folder, part in self._parts()
            if part == "train" and PARTS[folder.name.lower()] == "val"
        ]
        counted = (
            (folder, sum(own.path.is_relative_to(folder) for own in files)) for folder in found
        )
        return [
            f"{count:,} image files in {printable(folder.name)} are taken for training, as there"
            " is a part for testing besides."
            for folder, count in counted
        ]

    def _of_contradictions(self, kept: list[Own], group: np.ndarray) -> list[str]:
        """Report duplicates that are in folders of different classes, used or not.

        One of their labels must be wrong.
        """
        labels: dict[int, set[str]] = {}
        for own, number in zip(kept, group.tolist()):
            labels.setdefault(number, set()).add(own.label)
        torn = [own.path for own, number in zip(kept, group.tolist()) if len(labels[number]) > 1]
        if not torn:
            return []
        images = sum(len(found) > 1 for found in labels.values())
        which = "one image has" if images == 1 else f"{images:,} images have"
        return [
            f"{len(torn):,} files contradict each other ({self._names(sorted(torn))}): {which}"
            " copies in folders of different classes. Whichever label is right, the others teach,"
            " and test, what is wrong."
        ]

    def _of_copies(self, kept: list[Own], found: duplicates.Twins, used: np.ndarray) -> list[str]:
        """Report which images are duplicates of others, and what that means for the guarantee."""
        group, exact = found.group[used], found.exact[used]
        numbers, count = np.unique(group, return_counts=True)
        copies = len(used) - len(numbers)
        if not copies:
            return []
        several = [kept[row].path for row in used[np.isin(group, numbers[count > 1])]]
        again = copies - min(copies, int(exact.sum()))
        anew = f", {again:,} of them saved anew" if again else ""
        return [
            f"{copies:,} of the {len(used):,} images are copies of others{anew}"
            f" ({self._names(sorted(several))}). Copies stay together, in the training part or in"
            " the test part. " + GROUPS
        ]

    def _names(self, paths: list[Path]) -> str:
        more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
        return (
            ", ".join(printable(str(path.relative_to(self.folder))) for path in paths[:NAMED])
            + more
        )

    # --- quick check ------------------------------------------------------------------------------

    def available(self, registry: Registry) -> Available:
        """Check that enough images can be read; the result is kept until a file changes."""
        files = self.files()
        state = self.state(files)
        if _VERDICTS.get(self.folder, ("", ""))[0] != state:
            _VERDICTS[self.folder] = state, "" if self._proof(files) else self._trouble(registry)
        if trouble := _VERDICTS[self.folder][1]:
            return Available(self.name, self.title, False, 0, 0, trouble, damaged=True)
        size = sum(own.path.stat().st_size for own in files)
        return Available(self.name, self.title, True, len(files), size, "")

    def _proof(self, files: list[Own]) -> bool:
        """Whether enough images can be read for use; as a rule, this reads two per class."""
        seen: dict[tuple[str, str], set[bytes]] = {}
        for own in files:
            images = seen.setdefault((own.label, own.part), set())
            if len(images) < 2 and (image := decode(own.path)[0]) is not None:
                images.add(image.tobytes())
                if enough(seen):
                    return True
        return False

    def _trouble(self, registry: Registry) -> str:
        """Return why the folder cannot be used, or an empty string if it can after all."""
        try:
            registry.load(self.name)
            return ""
        except Missing as missing:
            return missing.how

    def examined(self, found: Available, registry: Registry) -> Available:
        """Return the entry with readable images counted instead of file names."""
        images = registry.load(self.name)
        return replace(
            found, count=len(images.train_images) + len(images.test_images), notes=images.notes
        )


# group privacy (Dwork and Roth 2014, theorem 2.2; Vadhan 2017, lemma 2.2)
GROUPS = (
    "ε protects one image: where k images show one person, they are protected together with k·ε"
    " and "
    "k·exp((k − 1)·ε)·δ only."
)


def own_folders() -> list[str]:
    """List the user's own data sets as folder:NAME, without those whose names are not allowed."""
    folder = settings.data_folder() / "folders"
    try:
        return [
            f"folder:{entry.name}"
            for entry in entries(folder)
            if FOLDER.fullmatch(entry.name) and entry.is_dir()
        ]
    except OSError:
        return []


def unnamed() -> list[str]:
    """List the user's own folders whose names are not allowed."""
    try:
        return [
            printable(entry.name)
            for entry in entries(settings.data_folder() / "folders")
            if entry.is_dir() and not FOLDER.fullmatch(entry.name)
        ]
    except OSError:  # the parent folder does not exist
        return []


def entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """List the entries of a folder, sorted by name, without hidden files and broken links.

    Circular links count as broken.
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
    """List the broken (or circular) links in a folder, sorted by name, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_symlink()
            and not entry.name.startswith(".")
            and not os.path.exists(entry.path)
        )
