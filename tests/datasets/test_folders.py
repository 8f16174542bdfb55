"""Folders of one's own as people really have them: broken, mixed, nested, with copies.

What is listed as present loads, what is not says why, and no page raises.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.core import settings
from engine.datasets import duplicates, folder, registry, source, uploads
from tests.conftest import ROOT

DRAWS = np.random.default_rng(0)
PAGES = ("noise", "clustering", "synthesis", "dp_training", "fidelity", "gradient_sharing")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch) -> Path:
    """VEIL_DATA/folders, empty."""
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "own data"))
    (tmp_path / "own data" / "folders").mkdir(parents=True)
    return tmp_path / "own data" / "folders"


def tones(seed: int) -> np.ndarray:
    """An image with large soft spots, as photographs have: (64, 64, 3) uint8."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))


def saved(pixels: np.ndarray, form: str = "PNG", **more) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **more)
    return out.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def two_classes(
    folder: Path, each: int, form: str = "PNG", ending: str = "png", start: int = 0
) -> Path:
    for number, name in enumerate("ab"):
        for i in range(each):
            put(folder / name / f"{i}.{ending}", saved(tones(1000 * number + i + start), form))
    return folder


def found(name: str, thorough: bool = False) -> source.Available:
    return next(each for each in registry.available(thorough) if each.name == name)


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form, more",
    [
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("PNG", {}),
    ],
)
def test_images_are_read_by_their_content_whatever_they_are_called(folders, form, more):
    for number, name in enumerate("ab"):
        for i in range(3):
            pixels = np.full((64, 64, 3), 60, np.uint8)
            # two colours: GIF's palette holds them
            pixels[i * 8 : i * 8 + 20, number * 30 : number * 30 + 20] = 200
            put(folders / "own" / name / f"{i}.jpg", saved(pixels, form, **more))
    images = registry.load("folder:own")
    assert len(images.train_images) + len(images.test_images) == 6 and images.notes == ()
    assert {int(v) for v in np.unique(images.train_images)} == {60, 200}


def test_a_stranger_may_still_send_png_and_jpeg_alone():
    for form in ("WEBP", "BMP", "TIFF", "GIF"):
        with pytest.raises(uploads.Refused, match="not a PNG or JPEG"):
            uploads.decode(saved(tones(0), form), 64, 3)


def test_of_what_moves_the_first_frame_is_taken():
    first, second = (
        Image.fromarray(np.full((64, 64, 3), 250, np.uint8)),
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)),
    )
    for form in ("GIF", "WEBP", "TIFF", "PNG"):
        out = io.BytesIO()
        first.save(out, form, save_all=True, append_images=[second])
        assert uploads.square(out.getvalue(), 64, 3, uploads.OWN_FORMATS).min() > 240, form


def png_of_sixteen(values: np.ndarray, kind: int) -> bytes:
    """A PNG with 16 bits a sample, written by hand; kind: 0 grey, 2 colour, 6 colour and
    transparency.
    """
    h, w = values.shape[:2]

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(h, -1))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [16, 12])
@pytest.mark.parametrize("kind", [0, 2, 6])
def test_sixteen_and_twelve_bits_are_scaled_by_their_range(bits, kind):
    wanted = tones(3)[..., :1] if kind == 0 else tones(3)
    values = wanted.astype(np.uint16) * 2 ** (bits - 8) + 2 ** (bits - 8) - 1
    values = np.dstack([values, np.full((64, 64), 65535)]) if kind == 6 else values
    assert np.array_equal(
        uploads.square(png_of_sixteen(values, kind), 64, 3), np.broadcast_to(wanted, (64, 64, 3))
    )


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_white_paper(form):
    hidden = np.dstack([tones(1), np.zeros((64, 64), np.uint8)])
    assert uploads.square(saved(hidden, form), 64, 3, uploads.OWN_FORMATS).min() == 255


def test_a_transparent_colour_of_a_gif_is_white_paper():
    out = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(out, "GIF", transparency=0)
    assert uploads.square(out.getvalue(), 64, 3, uploads.OWN_FORMATS).min() == 255


BOMBS = {
    "webp": b"RIFF" + bytes(4) + b"WEBPVP8X\x0a\0\0\0\x12\0\0\0" + b"\xff\x3f\0" * 2 + bytes(99),
    "bmp": (
        b"BM"
        + bytes(8)
        + struct.pack("<I", 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "gif": (
        b"GIF89a"
        + struct.pack("<HHBBB", 65000, 65000, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65000, 65000, 0)
        + b"\2\2\x4c\1\0;"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_header(name, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(uploads.Refused, match="at most 40 million"):
        uploads.square(BOMBS[name], 64, 3, uploads.OWN_FORMATS)


def test_anybodys_bytes_are_refused_in_words():
    """Real files with bytes changed: decoded, or refused, and nothing else."""
    for form in ("WEBP", "BMP", "TIFF", "GIF", "PNG", "JPEG"):
        whole = np.frombuffer(saved(tones(0), form), np.uint8)
        for _ in range(60):
            raw = whole[: DRAWS.integers(8, len(whole) + 1)].copy()
            raw[DRAWS.integers(0, min(len(raw), 200), 3)] = DRAWS.integers(0, 256, 3)
            try:
                assert uploads.square(raw.tobytes(), 64, 3, uploads.OWN_FORMATS).shape == (
                    64,
                    64,
                    3,
                )
            except uploads.Refused as refused:
                assert str(refused)


# --- what is said of a folder ---------------------------------------------------------------------


def broken(folders: Path) -> dict[str, bool]:
    """Folders of many kinds in VEIL_DATA: name → can it be used?"""
    two_classes(folders / "webp", 12, "WEBP", "jpg")
    two_classes(folders / "single", 1)
    (folders / "empty").mkdir()
    two_classes(folders / "hollow", 1)
    for path in (folders / "hollow").rglob("*.png"):
        path.unlink()
    for path in two_classes(folders / "junk", 4).rglob("*.png"):
        path.write_bytes(b"no image")
    shutil.rmtree(two_classes(folders / "alone", 5) / "b")
    for path in two_classes(folders / "same", 5).rglob("*.png"):
        path.write_bytes(saved(tones(7)))
    (folders / "loop").symlink_to("loop")
    (folders / "away").symlink_to("/etc")
    for path in list((two_classes(folders / "half", 20) / "a").iterdir())[:10]:
        path.write_bytes(b"no image")
    for name in (b"\xe9", b"\xe8"):
        for i in range(12):
            put(
                Path(os.fsdecode(os.fsencode(folders / "bytes") + b"/" + name)) / f"{i}.png",
                saved(tones(i + 100 * name[0])),
            )
    return {"webp": True, "half": True, "bytes": True} | dict.fromkeys(
        ("single", "empty", "hollow", "junk", "alone", "same", "away"), False
    )


def test_what_is_listed_as_present_loads_and_what_is_not_says_why(folders):
    usable = broken(folders)
    for thorough in (False, True):
        listed = {
            each.name[7:]: each
            for each in registry.available(thorough)
            if each.name.startswith("folder:")
        }
        assert {name: each.present for name, each in listed.items()} == usable
        for each in listed.values():
            if each.present:
                assert len(registry.load(each.name).train_images) and registry.preview(each.name)
            else:
                with pytest.raises(source.Unusable) as refused:
                    registry.load(each.name)
                assert refused.value.how == each.how and each.damaged


def test_a_published_set_that_is_damaged_is_not_listed_as_present_by_the_command_line(folders):
    for file in registry.SOURCES["mnist"].files:
        put(settings.data_folder() / file, b"damaged")
    assert found("mnist").present and not found("mnist", thorough=True).present
    assert "is not the published file" in found("mnist", thorough=True).how


DRAW = """
import sys
from tests.drawing import drawn
for page in sys.argv[1].split(","):
    for name in sys.argv[2].split(","):
        test = drawn(page, dataset=f"folder:{name}")
        said = [each.value for kind in (test.error, test.info, test.warning) for each in kind]
        words = " ".join(said).replace("\\\\", "").replace("\\n", " ")
        print(page, name, "raised" if test.exception else "fine", words)
from pages.common.live import services
services().runner.close()
"""


@pytest.mark.full
def test_no_page_raises_for_any_of_them_and_each_says_what_is_wrong(folders):
    usable = broken(folders)
    told = subprocess.run(
        [sys.executable, "-c", DRAW, ",".join(PAGES), ",".join(usable)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
    )
    lines = [line.split(" ", 3) for line in told.stdout.splitlines() if line.split(" ")[0] in PAGES]
    assert len(lines) == len(PAGES) * len(usable) and {line[2] for line in lines} == {"fine"}, (
        told.stdout + told.stderr
    )
    for _, name, _, said in lines:
        if not usable[name]:
            assert found(f"folder:{name}").how in said
        if name == "half":
            assert "Of 40 image files 30 are used" in said


def test_a_page_whose_images_vanish_while_it_is_drawn_says_so(folders, monkeypatch):
    """Listed as present by the quick look, and gone when they are read."""
    from pages.common import live
    from tests.drawing import drawn

    two_classes(folders / "own", 30)
    monkeypatch.setattr(
        folder.Folder,
        "read",
        lambda self, fingerprint: (_ for _ in ()).throw(
            OSError(5, "Input/output error", "a/0.png")
        ),
    )
    try:
        test = drawn("clustering", dataset="folder:own")
        assert not test.exception and "Input/output error" in " ".join(
            each.value for each in test.error
        )
    finally:
        live.services().runner.close()
        live.services.cache_clear()


def test_skipped_files_are_counted_with_their_reasons(folders):
    own = two_classes(folders / "own", 10)
    put(own / "a" / "cut.png", saved(tones(50))[:300])
    put(own / "a" / "text.jpg", b"hello")
    put(own / "b" / "bomb.bmp", BOMBS["bmp"])
    images = registry.load("folder:own")
    assert images.skipped == 3 and len(images.train_images) + len(images.test_images) == 20
    (note,) = images.notes
    assert (
        note.startswith("Of 23 image files 20 are used.")
        and "1 skipped (a/text.jpg): This is not a PNG" in note
        and "(a/cut.png): The image is cut off" in note
    )
    assert (
        found("folder:own", thorough=True).count == 20
        and registry.preview("folder:own").notes == images.notes
    )


def test_what_is_no_image_by_its_name_is_mentioned(folders):
    own = two_classes(folders / "own", 10)
    put(own / "a" / "1.heic", b"x")
    put(own / "b" / "deeper" / "2.png", saved(tones(77)))
    (note,) = registry.load("folder:own").notes
    assert note == "2 passed over, as no images by their names (a/1.heic, b/deeper)."


def engine(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
    )


def test_the_command_line_says_what_was_skipped_and_what_cannot_be_used(folders):
    broken(folders)
    (folders / "no name").mkdir()
    told = engine("data")
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    row = next(number for number, line in enumerate(lines) if "folder:half" in line)
    assert "30 images" in lines[row] and "10 skipped" in lines[row + 1]
    assert "cannot be used. Each class has a single image" in next(
        line for line in lines if "folder:single" in line
    )
    assert "no name" in lines[-1] and "passed over" in lines[-1]
    ran = engine("run", "kmeans_labels", "--set", "dataset=folder:half", "--set", "starts=1")
    assert ran.returncode == 0 and "10 skipped" in ran.stderr and "skipped" not in ran.stdout
    wrong = engine("run", "kmeans_labels", "--set", "dataset=folder:single")
    assert wrong.returncode == 2 and len(wrong.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is locked for root")
def test_a_file_that_may_not_be_read_is_skipped(folders):
    own = two_classes(folders / "own", 10)
    (own / "a" / "3.png").chmod(0)
    assert "a/3.png): Permission denied" in registry.load("folder:own").notes[0]


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [("train", "test"), ("Train", "val"), ("training", "valid"), ("train", "Testing")]
)
def test_nested_parts_are_the_split(folders, names):
    for part, (name, each) in enumerate(zip(names, (7, 4))):
        two_classes(folders / "own" / name, each, start=100 * part)
    images = registry.load("folder:own")
    assert (
        (len(images.train_images), len(images.test_images)) == (14, 8)
        and images.classes == ("a", "b")
        and not images.notes
    )
    learned = {image.tobytes() for image in images.train_images}
    assert learned == {tones(1000 * c + i).tobytes() for c in range(2) for i in range(7)}


def test_a_part_for_validation_beside_a_test_part_is_learned_from(folders):
    for part, (name, each) in enumerate((("train", 5), ("val", 3), ("test", 4))):
        two_classes(folders / "own" / name, each, start=100 * part)
    images = registry.load("folder:own")
    assert (len(images.train_images), len(images.test_images)) == (16, 8)
    assert images.notes == (
        "6 image files in val are taken for training, as there is a part for testing besides.",
    )


def test_of_two_parts_of_one_kind_the_other_is_mentioned(folders):
    """And whatever else lies in no class's folder: nothing is left out without a word."""
    for part, name in enumerate(("train", "test", "val", "valid")):
        two_classes(folders / "own" / name, 4, start=100 * part)
    put(folders / "own" / "loose.png", saved(tones(990)))
    put(folders / "own" / "train" / "read me.txt", b"hello")
    passed = registry.load("folder:own").notes[0]
    assert (
        passed
        == "3 passed over, as they lie in no class's folder (loose.png, val, train/read me.txt)."
    )
    two_classes(folders / "flat", 4)
    put(folders / "flat" / "loose.png", saved(tones(992)))
    assert registry.load("folder:flat").notes == (
        "1 passed over, as they lie in no class's folder (loose.png).",
    )


def test_links_that_lead_nowhere_are_skipped_and_said(folders):
    own = two_classes(folders / "own", 6)
    (own / "a" / "gone.png").symlink_to(own / "a" / "nowhere.png")
    (own / "b" / "circle.png").symlink_to(own / "b" / "circle.png")
    (own / "c").symlink_to(folders / "no class")
    images = registry.load("folder:own")
    assert images.notes == ("3 skipped (c, a/gone.png, b/circle.png): The link leads nowhere.",)
    assert (
        len(images.train_images) + len(images.test_images) == 12
        and registry.everything("folder:own")[1] == images.notes
    )
    assert "3 skipped" in engine("data").stdout


def test_copies_under_contradicting_labels_are_said(folders):
    """An image in the folders of two classes teaches one of them wrongly; in both parts, it tests
    wrongly too.
    """
    own = two_classes(folders / "own", 20)
    for i in range(3):
        put(own / "b" / f"of a {i}.bmp", saved(tones(i), "BMP"))
    put(own / "b" / "again.bmp", saved(tones(0), "BMP"))
    torn = next(note for note in registry.load("folder:own").notes if "contradict" in note)
    assert torn.startswith(
        "7 files contradict each other (a/0.png, a/1.png, a/2.png and 4 more): 3 images have"
        " copies in folders of different"
    )
    two_classes(folders / "split" / "train", 6)
    two_classes(folders / "split" / "test", 4, start=100)
    put(folders / "split" / "test" / "b" / "of a.bmp", saved(tones(2), "BMP"))
    torn = next(note for note in registry.load("folder:split").notes if "contradict" in note)
    assert torn.startswith(
        "2 files contradict each other (test/b/of a.bmp, train/a/2.png): one image has copies in"
        " folders of different classes."
    )
    for i in range(5):
        put(folders / "agreed" / "a" / f"copy {i}.png", saved(tones(i)))
    two_classes(folders / "agreed", 20)
    assert not any("contradict" in note for note in registry.load("folder:agreed").notes)


def test_folders_named_train_and_test_with_images_in_them_are_classes(folders):
    for number, name in enumerate(("train", "test")):
        for i in range(5):
            put(folders / "own" / name / f"{i}.png", saved(tones(10 * number + i)))
    assert registry.load("folder:own").classes == ("test", "train")


def test_a_test_class_that_nobody_learns_and_copies_of_training_images_are_left_out(folders):
    two_classes(folders / "own" / "train", 6)
    two_classes(folders / "own" / "test", 4, start=100)
    put(folders / "own" / "test" / "c" / "0.png", saved(tones(900)))
    put(folders / "own" / "test" / "a" / "copy.bmp", saved(tones(2), "BMP"))
    images = registry.load("folder:own")
    assert images.classes == ("a", "b") and len(images.test_images) == 8 and images.skipped == 2
    assert "test/a/copy.bmp): It stands in the training part too." in images.notes[0]
    assert "test/c/0.png): The training part has no class c." in images.notes[0]


# --- copies ---------------------------------------------------------------------------------------


def test_copies_are_counted_named_and_kept_on_one_side(folders):
    own = two_classes(folders / "own", 40)
    for i in range(40):
        put(own / "a" / f"again {i}.bmp", saved(tones(i), "BMP"))  # the same pixels in another file
        put(own / "b" / f"anew {i}.jpg", saved(tones(1000 + i), "JPEG", quality=80))
    images = registry.load("folder:own")
    learned = images.train_images.reshape(len(images.train_images), -1).astype(float)
    apart = [
        np.sqrt(((learned - image.reshape(-1).astype(float)) ** 2).mean(1)).min()
        for image in images.test_images
    ]
    assert min(apart) > 20 and 24 <= len(images.test_images) <= 32
    (note,) = images.notes
    assert note.startswith(
        "80 of the 160 images are copies of others, 40 of them saved anew (a/0.png, "
    )
    assert "k·ε" in note and "exp((k − 1)·ε)·δ" in note


def test_without_copies_the_split_is_the_fifth_with_the_lowest_hashes(folders):
    import hashlib

    two_classes(folders / "own", 12)
    images = registry.load("folder:own")
    order = sorted(range(12), key=lambda i: hashlib.sha256(f"{i}.png".encode()).digest())
    wanted = {tones(1000 * c + i).tobytes() for c in range(2) for i in order[:2]}
    assert {image.tobytes() for image in images.test_images} == wanted


def test_a_group_that_spans_classes_never_empties_one(folders):
    for name in "abc":
        for i in range(4):
            # the same four images in three classes
            put(folders / "own" / name / f"{name}{i}.png", saved(tones(i)))
    images = registry.load("folder:own")
    assert images.classes == ("a", "b", "c") and len(images.test_images) == 3
    assert not {image.tobytes() for image in images.test_images} & {
        image.tobytes() for image in images.train_images
    }


def test_saved_anew_is_found_and_two_digits_one_are_not_twins():
    photos = np.stack([tones(i) for i in range(60)])
    for form, more in (("JPEG", {"quality": 75}), ("WEBP", {"quality": 75})):
        anew = np.stack(
            [
                uploads.square(saved(photo, form, **more), 64, 3, uploads.OWN_FORMATS)
                for photo in photos
            ]
        )
        group = duplicates.find(np.concatenate([photos, anew])).group
        assert np.array_equal(group[:60], group[60:]) and len(np.unique(group)) == 60, form
    digits = registry.load("mnist-5k")
    ones = digits.train_images[digits.train_labels == 1]
    large = np.stack([uploads.square(saved(one[..., 0]), 64, 3) for one in ones])
    assert duplicates.find(large).copies == 0
    planted = np.concatenate(
        [
            large,
            np.stack(
                [uploads.square(saved(one[..., 0], "JPEG", quality=90), 64, 3) for one in ones[:50]]
            ),
        ]
    )
    assert duplicates.find(planted).copies == 50


def test_images_of_one_colour_are_twins_only_where_they_are_equal():
    flat = np.stack([np.full((64, 64, 3), value, np.uint8) for value in (10, 11, 10, 200)])
    found_ = duplicates.find(flat)
    assert (
        found_.copies == 1
        and found_.exact.tolist() == [False, False, True, False]
        and found_.group[0] == found_.group[2]
    )


def test_a_set_to_be_compared_may_be_all_copies(folders):
    """A generator that has collapsed draws one image again and again: no data set to learn from,
    but a set to measure.
    """
    for path in two_classes(folders / "same", 5).rglob("*.png"):
        path.write_bytes(saved(tones(7)))
    put(folders / "same" / "a" / "broken.png", b"broken")
    with pytest.raises(source.Unusable):
        registry.load("folder:same")
    images, notes = registry.everything("folder:same")
    assert images.shape == (10, 64, 64, 3) and len(np.unique(images.reshape(10, -1), axis=0)) == 1
    assert len(notes) == 1 and notes[0].startswith("Of 11 image files 10 are used.")
