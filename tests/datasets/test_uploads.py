"""A visitor's own image: what is taken comes out right, and what is not is refused at once, in
plain words.
"""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from engine.datasets import uploads
from engine.datasets.uploads import Refused, decode


def encoded(image, format="PNG", **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def quarters(side: int = 200) -> np.ndarray:
    """Red, green, blue and white quarters: (side, side, 3)."""
    image = np.zeros((side, side, 3), np.uint8)
    half = side // 2
    image[:half, :half], image[:half, half:] = (255, 0, 0), (0, 255, 0)
    image[half:, :half], image[half:, half:] = (0, 0, 255), (255, 255, 255)
    return image


def corners(pixels: np.ndarray) -> list[str]:
    """The colour in the middle of each quarter."""
    names = {
        (1, 0, 0): "red",
        (0, 1, 0): "green",
        (0, 0, 1): "blue",
        (1, 1, 1): "white",
        (0, 0, 0): "black",
    }
    a, b = len(pixels) // 4, 3 * len(pixels) // 4
    return [
        names[tuple(int(v) for v in pixels[r, c] > 127)]
        for r, c in ((a, a), (a, b), (b, a), (b, b))
    ]


QUARTERS = ["red", "green", "blue", "white"]


def refusal(raw: bytes, size: int = 28) -> str:
    """The reason."""
    with pytest.raises(Refused) as caught:
        decode(raw, size, 3)
    return str(caught.value)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, data: bytes = b"", more: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + more
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


# --- what is taken --------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("size,channels", [(28, 1), (28, 3), (64, 3), (300, 1)])
def test_shapes(format, size, channels):
    pixels = decode(encoded(quarters(), format), size, channels)
    assert (
        pixels.shape == (size, size, channels)
        and pixels.dtype == np.uint8
        and pixels.flags.writeable
    )
    if channels == 3:
        assert corners(pixels) == QUARTERS


@pytest.mark.parametrize("width,height", [(600, 200), (200, 600), (201, 200), (2000, 200)])
def test_the_middle_square_is_cut_out(width, height):
    image = np.zeros((height, width, 3), np.uint8)
    left, top = (width - 200) // 2, (height - 200) // 2
    image[top : top + 200, left : left + 200] = quarters()
    assert corners(decode(encoded(image), 32, 3)) == QUARTERS


def test_scaling_is_antialiased():
    stripes = np.zeros((280, 280), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encoded(stripes), 28, 1)
    assert np.abs(pixels.astype(int) - 127).max() < 20


def test_an_image_of_the_right_size_comes_through_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    assert np.array_equal(decode(encoded(image), 28, 3), image)


def test_a_single_pixel_is_an_image():
    assert (decode(encoded(np.full((1, 1, 3), 7, np.uint8)), 28, 3) == 7).all()


def test_inverting_is_asked_for_and_only_done_to_light_images():
    drawing = np.full((100, 100), 250, np.uint8)
    drawing[40:60, 40:60] = 10
    assert decode(encoded(drawing), 28, 1).mean() > 127
    assert decode(encoded(drawing), 28, 1, invert=True).mean() < 127
    assert np.array_equal(
        decode(encoded(255 - drawing), 28, 1, invert=True), decode(encoded(255 - drawing), 28, 1)
    )


# --- modes ----------------------------------------------------------------------------------------


def test_cmyk_jpeg():
    assert (
        corners(
            decode(encoded(Image.fromarray(quarters()).convert("CMYK"), "JPEG", quality=95), 32, 3)
        )
        == QUARTERS
    )


def test_16_bit_grey_is_scaled_not_clipped():
    levels = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = decode(encoded(levels), 64, 1)[..., 0]
    assert np.abs(pixels.astype(int) - (levels >> 8)).max() <= 1


def test_16_bit_colour():
    rows = b"".join(b"\0" + struct.pack(">3H", 65535, 32768, 256) * 8 for _ in range(8))
    pixels = decode(png(8, 8, depth=16, colour=2, data=zlib.compress(rows)), 8, 3)
    assert np.abs(pixels.astype(int) - [255, 128, 1]).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes(mode):
    assert decode(encoded(Image.fromarray(quarters()).convert(mode)), 32, 3)[4, 20, 1] > 100


def test_transparency_shows_white_paper():
    pixels = np.zeros((64, 64, 4), np.uint8)  # transparent black
    pixels[:, :32] = (255, 0, 0, 255)
    image = Image.fromarray(pixels)
    variants = [encoded(image), encoded(image.convert("LA"))]
    palette = image.convert("RGB").quantize(4)
    variants.append(encoded(palette, transparency=palette.getpixel((50, 5))))
    variants.append(encoded(image.convert("RGB"), transparency=(0, 0, 0)))
    for raw in variants:
        pixels = decode(raw, 32, 3)
        assert (pixels[:, 20:] == 255).all() and pixels[5, 5, 1] < 128
    assert (decode(variants[0], 32, 1)[:, 20:] == 255).all()


def test_transparent_edges_take_no_colour_from_what_is_invisible():
    image = np.zeros((64, 64, 4), np.uint8)
    image[...] = (0, 255, 0, 0)  # invisible green
    image[:, :31] = (255, 0, 0, 255)
    pixels = decode(encoded(Image.fromarray(image)), 16, 3).astype(int)
    assert (pixels[..., 1] <= pixels[..., 0]).all()


def test_interlaced_and_progressive():
    assert corners(decode(encoded(quarters(), "JPEG", progressive=True), 32, 3)) == QUARTERS


def test_a_phones_double_image_gives_the_first():
    raw = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (200, 200))])
    assert corners(decode(raw, 32, 3)) == QUARTERS


# --- orientation and metadata ---------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_honoured(orientation, format):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(quarters(), format, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(raw))))
    assert corners(decode(raw, 32, 3)) == corners(expected)
    assert orientation == 1 or corners(decode(raw, 32, 3)) != QUARTERS


def test_a_tall_image_that_lies_on_its_side():
    image = np.zeros((200, 400, 3), np.uint8)
    image[:, 100:300] = quarters()
    exif = Image.Exif()
    exif[0x0112] = 6
    assert corners(decode(encoded(image, "JPEG", exif=exif, quality=95), 32, 3)) == [
        "blue",
        "red",
        "white",
        "green",
    ]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_wrong_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert corners(decode(encoded(quarters(), "JPEG", exif=exif), 32, 3)) == QUARTERS


def test_broken_exif_is_ignored():
    raw = encoded(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x01" * 40)
    assert corners(decode(raw, 32, 3)) == QUARTERS


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x89PNG",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"hello" * 100,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        bytes(5000),
    ],
)
def test_what_is_no_image(raw):
    assert "not a PNG or JPEG" in refusal(raw) or "damaged" in refusal(raw)


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "WEBP", "ICO", "PPM", "TGA"])
def test_other_formats_whatever_they_are_called(format):
    """The name is not even handed over: the content decides."""
    assert "not a PNG or JPEG" in refusal(encoded(quarters(64), format))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files(format, part):
    noisy = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    raw = encoded(noisy, format)
    assert "damaged" in refusal(raw[: int(len(raw) * part)])


def test_damaged_content_never_escapes_as_another_error():
    rng = np.random.default_rng(0)
    for format in ("PNG", "JPEG"):
        raw = encoded(quarters(64), format)
        for _ in range(300):
            changed = bytearray(raw)
            for position in rng.integers(0, len(raw), 3):
                changed[position] = rng.integers(256)
            try:
                assert decode(bytes(changed), 28, 3).shape == (28, 28, 3)
            except Refused:
                pass


def test_six_megabytes():
    assert "6.0 MB" in refusal(encoded(quarters()) + bytes(6_000_000 - len(encoded(quarters()))))
    assert "MB" in refusal(bytes(6_000_000))


@pytest.mark.parametrize(
    "width,height", [(60000, 60000), (2**31 - 1, 2**31 - 1), (100_000, 500), (6400, 6400)]
)
def test_a_header_that_promises_too_many_pixels(width, height):
    """Refused from the header alone: there is not a single pixel behind it."""
    assert "million" in refusal(png(width, height)) and "million" in refusal(
        png(width, height, 16, 6)
    )


@pytest.mark.parametrize("width,height", [(0, 0), (0, 10)])
def test_a_header_without_pixels(width, height):
    refusal(png(width, height))


def test_pixels_that_unpack_a_thousandfold_are_refused_or_taken_quickly():
    assert decode(encoded(np.zeros((6000, 6000, 3), np.uint8)), 28, 3).max() == 0
    promised = png(100, 100, data=zlib.compress(bytes(50_000_000)))  # more than its header says
    assert decode(promised, 28, 3).max() == 0


def test_metadata_that_unpacks_a_thousandfold():
    packed = zlib.compress(bytes(100_000_000))
    begun = time.process_time()
    zlib.decompress(packed)
    once = time.process_time() - begun
    bomb = chunk(b"zTXt", b"c\0\0" + packed) * 20
    begun = time.process_time()
    try:
        decode(png(8, 8, data=zlib.compress(bytes(8 * 25)), more=bomb), 28, 3)
    except Refused:
        pass
    assert time.process_time() - begun < 10 * once  # 20 of them all unpacked take twice as long
    profile = chunk(b"iCCP", b"c\0\0" + zlib.compress(bytes(100_000_000)))
    try:
        decode(png(8, 8, data=zlib.compress(bytes(8 * 25)), more=profile), 28, 3)
    except Refused:
        pass
    assert time.process_time() - begun < 20 * once


def test_a_jpeg_of_a_thousand_scans():
    raw = encoded(np.zeros((4000, 4000, 3), np.uint8), "JPEG", progressive=True)
    last = raw[raw.rfind(b"\xff\xda") : -2]
    assert "too many steps" in refusal(raw[:-2] + last * 1000 + b"\xff\xd9")


def test_an_animation():
    frames = [Image.fromarray(quarters(32)), Image.new("RGB", (32, 32))]
    raw = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert "animation" in refusal(raw)


def test_refusals_are_plain_sentences():
    for raw in (b"", bytes(6_000_000), png(60000, 60000), encoded(quarters(), "GIF")):
        reason = refusal(raw)
        assert (
            reason.endswith(".")
            and "Error" not in reason
            and "Traceback" not in reason
            and len(reason) < 120
        )


def test_only_two_readers_are_ever_asked(monkeypatch):
    asked = []
    real = Image.open
    monkeypatch.setattr(
        uploads.Image, "open", lambda *a, **k: asked.append(k["formats"]) or real(*a, **k)
    )
    decode(encoded(quarters()), 28, 3)
    assert asked == [("PNG", "JPEG")]
