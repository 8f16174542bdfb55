"""A visitor's own picture → numpy pixels. What comes in is anybody's bytes: believe nothing, keep nothing.

Only Pillow's PNG and JPEG readers are asked, whatever the file is called; size and number of pixels are checked in the
header, before anything is decoded; of the metadata only the orientation is used, and none is kept.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG")
MAX_BYTES = 5_000_000  # Streamlit's 5 MB
MAX_PIXELS = 40_000_000
MAX_SCANS = 40  # of a progressive JPEG. Real ones have about ten; 5 MB hold thousands, and each walks the whole picture
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
PAPER = 255  # what shows through a transparent picture: white
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # EXIF orientation → what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90}


class Refused(ValueError):
    """A picture that is not taken, and why, in the visitor's words."""


def decode(raw: bytes, size: int, channels: int, invert: bool = False) -> np.ndarray:
    """One PNG or JPEG of at most 5 MB → (size, size, channels) uint8; channels is 1 (grey) or 3 (RGB).

    The middle square is cut out and scaled with antialiasing. With `invert` a picture that is lighter than middle grey
    on average (a dark drawing on light paper) is inverted, which gives the light strokes on black that MNIST has.
    Raises Refused within a second.
    """
    if len(raw) > MAX_BYTES:
        raise Refused(f"The file has {len(raw) / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} MB are taken.")
    pixels = picture(raw, size, channels)
    return 255 - pixels if invert and pixels.mean() > 127 else pixels


def picture(raw: bytes, size: int, channels: int) -> np.ndarray:
    """As decode, for a file of any length: (size, size, channels) uint8. Raises Refused."""
    image = _open(raw)
    turn = UPRIGHT.get(_orientation(image))
    square = _square(_load(image, size), size)
    flat = _on_paper(square).convert("L" if channels == 1 else "RGB")
    upright = flat.transpose(turn) if turn is not None else flat
    return np.asarray(upright, np.uint8).reshape(size, size, channels).copy()


def _open(raw: bytes) -> Image.Image:
    """Read the header only. Raises Refused."""
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(f"The picture has too many pixels; at most {MAX_PIXELS // 10**6} million are taken.") from None
    except Exception:
        raise Refused("This is not a PNG or JPEG picture, or it is damaged.") from None
    if image.width * image.height > MAX_PIXELS:
        raise Refused(f"The picture has {image.width} × {image.height} pixels; at most {MAX_PIXELS // 10**6} million "
                      "are taken.")
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise Refused("This is an animation; send a single picture.")
    if image.format != "PNG" and raw.count(b"\xff\xda") > MAX_SCANS:
        raise Refused("This JPEG is built up in too many steps; save it again as an ordinary one.")
    return image


def _load(image: Image.Image, size: int) -> Image.Image:
    """Decode the pixels; a JPEG at an eighth to a whole of its size, at least twice what is wanted. Raises Refused."""
    try:
        image.draft(None, (2 * size, 2 * size))
        image.load()
    except MemoryError:
        raise Refused("The picture is too large for this machine.") from None
    except Exception:
        raise Refused("The picture is cut off or damaged.") from None
    return _eight_bits(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Any mode that a PNG or JPEG comes in → L, RGB, or RGBA where it is transparent somewhere."""
    if image.mode.startswith("I"):  # 16 bits a pixel: convert() would clip them, not scale them
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in TRANSPARENT or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    """The middle square, scaled."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side), reducing_gap=3)


def _on_paper(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    paper = Image.new("RGBA", image.size, (PAPER, PAPER, PAPER, 255))
    return Image.alpha_composite(paper, image)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or it cannot be read."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
