"""Converts an uploaded image file to numpy pixels, treating it as untrusted input.

Only Pillow's PNG and JPEG readers are used, whatever the file is called. The file size, and the
number of pixels in the header, are checked before anything is decoded. Of the metadata only the
orientation is used, and nothing is kept. The user's own folders (engine/datasets/folder.py) are
read by the same code, with a few more formats.
"""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import Image, TiffImagePlugin

FORMATS = ("PNG", "JPEG")  # allowed in uploads
OWN_FORMATS = (*FORMATS, "WEBP", "BMP", "TIFF", "GIF")  # allowed in the user's own folders
MAX_BYTES = 5_000_000  # as Streamlit's upload limit of 5 MB
MAX_PIXELS = 40_000_000
# Scans of a progressive JPEG. Real ones have about ten; 5 MB can hold thousands, and each of them
# passes over the whole image.
MAX_SCANS = 40
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
# A 16-bit image with all values below this uses 12 bits, as medical and scientific cameras do.
TWELVE_BITS = 4096
GREY_AND_ALPHA = 4  # a PNG colour type for which Pillow cannot return the lower 8 bits
TILE_SIDES = (322, 323)  # TIFF tags for the width and the length of tiles
PAPER = 255  # background behind transparent pixels: white
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # EXIF orientation → operation that turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# warnings about damaged files; serious damage is refused with a message
warnings.filterwarnings("ignore", module="PIL")


class Refused(ValueError):
    """An image is not accepted; the message gives the reason in the visitor's words."""


def decode(raw: bytes, size: int, channels: int, invert: bool = False) -> np.ndarray:
    """Decode one PNG or JPEG of at most 5 MB to (size, size, channels) uint8.

    channels: 1 (grey) or 3 (RGB).
    invert: invert an image that is lighter than middle grey on average (a dark drawing on light
    paper), so that it has light strokes on black like MNIST.

    The central square is cut out and scaled with antialiasing. Raises Refused within a second.
    """
    if len(raw) > MAX_BYTES:
        raise Refused(
            f"The file has {len(raw) / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} MB are taken."
        )
    pixels = square(raw, size, channels)
    return 255 - pixels if invert and pixels.mean() > 127 else pixels


def square(raw: bytes, size: int, channels: int, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Decode a file of any length, otherwise as decode: (size, size, channels) uint8.

    formats: those whose readers are used.

    Of an animation, the first frame is taken (an uploaded animated PNG is refused). Raises Refused.
    """
    image = _open(raw, formats)
    cut = _square(_load(image, size, raw), size)
    # orientation is read after loading, because Pillow then turns a TIFF upright itself
    turn = UPRIGHT.get(_orientation(image))
    flat = _on_paper(cut).convert("L" if channels == 1 else "RGB")
    upright = flat.transpose(turn) if turn is not None else flat
    return np.asarray(upright, np.uint8).reshape(size, size, channels).copy()


def _open(raw: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Read only the header; raises Refused."""
    if "WEBP" in formats:
        # before Pillow opens the file, because it then allocates memory for the whole canvas
        _check_size(*_webp_size(raw))
    try:
        image = Image.open(io.BytesIO(raw), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large() from None
    except Exception:
        raise Refused(f"This is not a {_listed(formats)} image, or it is damaged.") from None
    _check_size(image.width, image.height)
    if image.format == "PNG" and formats == FORMATS and getattr(image, "n_frames", 1) > 1:
        raise Refused("This is an animation; send a single image.")
    if image.format in ("JPEG", "MPO") and raw.count(b"\xff\xda") > MAX_SCANS:
        raise Refused("This JPEG is built up in too many steps; save it again as an ordinary one.")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_size(*(_number(image.tag_v2.get(tag)) for tag in TILE_SIDES))
    return image


def _listed(formats: tuple[str, ...]) -> str:
    names = ["WebP" if name == "WEBP" else name for name in formats]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _check_size(width: int, height: int) -> None:
    """Raise Refused for more than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise Refused(
            f"The image has {width} × {height} pixels; at most {MAX_PIXELS // 10**6} million are"
            " taken."
        )


def _too_large() -> Refused:
    return Refused(
        f"The image has too many pixels; at most {MAX_PIXELS // 10**6} million are taken."
    )


def _number(value: object) -> int:
    """Return a TIFF tag's integer value, or 0 if there is none."""
    return value if isinstance(value, int) else 0


def _webp_size(raw: bytes) -> tuple[int, int]:
    """Return width and height from a WebP file's first chunk (RFC 9649), or (0, 0) otherwise."""
    if raw[:4] != b"RIFF" or raw[8:12] != b"WEBP" or len(raw) < 30:
        return 0, 0
    kind, content = raw[12:16], raw[20:30]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(
            content[7:10], "little"
        )
    if kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", content, 6)
    return (width & 0x3FFF, height & 0x3FFF) if kind == b"VP8 " else (0, 0)


def _load(image: Image.Image, size: int, raw: bytes) -> Image.Image:
    """Decode the pixels to 8 bits each; raises Refused.

    A JPEG is decoded at between an eighth of its size and its full size, at least twice the wanted
    size.
    """
    try:
        image.draft(None, (2 * size, 2 * size))
        image.load()
        return _eight_bits(image, raw)
    except Refused:
        raise
    except MemoryError:
        raise Refused("The image is too large for this machine.") from None
    except Exception:
        raise Refused("The image is cut off or damaged.") from None


def _eight_bits(image: Image.Image, raw: bytes) -> Image.Image:
    """Convert any mode to L or RGB, or to RGBA if the image has transparency.

    Raises Refused.
    """
    if image.mode.startswith("I"):  # 16 bits per pixel: convert() would clip, not scale
        return _of_sixteen(np.asarray(image).astype(np.int64), image.info.get("transparency"))
    if image.mode == "F":
        raise Refused("Its pixels are floating point numbers; save it with 8 or 16 bits.")
    if image.format == "PNG" and image.mode in ("RGB", "RGBA") and raw[24] == 16:
        image = _of_twelve(image, raw)
    if image.mode in TRANSPARENT or "transparency" in image.info:
        return (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _of_sixteen(values: np.ndarray, see_through: object) -> Image.Image:
    """Convert (h, w) grey values of 16 or 12 bits to L, according to their actual range.

    Returns RGBA if one of the values is transparent. Raises Refused.
    """
    if values.min() < 0 or values.max() > 65535:
        raise Refused("Its pixels have more than 16 bits.")
    grey = (values >> (4 if values.max() < TWELVE_BITS else 8)).astype(np.uint8)
    if not isinstance(see_through, int):
        return Image.fromarray(grey)
    return Image.fromarray(
        np.dstack([grey] * 3 + [np.where(values == see_through, 0, 255).astype(np.uint8)])
    )


def _of_twelve(image: Image.Image, raw: bytes) -> Image.Image:
    """Rescale a 16-bit colour PNG that uses only 12 bits to their upper 8 bits.

    Pillow has kept only the upper 8 of the 16. An image that uses all 16 bits is returned as it is.
    Raises Refused.
    """
    high = np.asarray(image)
    if high[..., :3].max(initial=0) >= TWELVE_BITS >> 8:
        return image
    if raw[25] == GREY_AND_ALPHA:
        raise Refused("Grey with transparency in 12 of 16 bits is not taken; save it with 8 bits.")
    again = Image.open(io.BytesIO(raw), formats=("PNG",))
    # read with swapped bytes, which gives the lower 8 bits
    again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
    low = np.asarray(again)
    scaled = (high << 4 | low >> 4).astype(np.uint8)
    scaled[..., 3:] = high[..., 3:]
    return Image.fromarray(scaled)


def _square(image: Image.Image, size: int) -> Image.Image:
    """Cut out the central square and scale it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize(
        (size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side), reducing_gap=3
    )


def _on_paper(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    paper = Image.new("RGBA", image.size, (PAPER, PAPER, PAPER, 255))
    return Image.alpha_composite(paper, image)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 (upright) if there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1
