"""Pictures as PNG bytes, in numpy and Pillow: enlargements that keep their pixels, galleries, and
how alike two are.
"""

from __future__ import annotations

import io

import numpy as np


def png(image: np.ndarray, pixels: int = 0) -> bytes:
    """(h, w), (h, w, 1) or (h, w, 3) uint8 → PNG bytes, enlarged by whole factors to about `pixels`
    a side.
    """
    from PIL import Image

    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    factor = max(1, round(pixels / image.shape[0])) if pixels else 1
    big = image.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    Image.fromarray(big).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def gallery(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """(n, h, w, c) uint8 → one picture (rows·(h+gap)−gap, columns·(w+gap)−gap, c), grey between the
    pictures.
    """
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return sheet


def framed(images: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """(n, h, w, c) uint8 and (n,) bool → (n, h + 4, w + 4, 3): a frame around each, bright orange
    where marked.
    """
    n, h, w, _ = images.shape
    out = np.full((n, h + 4, w + 4, 3), 60, np.uint8)
    out[marked] = (230, 159, 0)  # Okabe and Ito's orange: stands out in grey pictures for every eye
    out[:, 2:-2, 2:-2] = images
    return out


def answers(images: np.ndarray, right: np.ndarray, count: int = 40) -> bytes:
    """PNG of `count` of (n, h, w, c) uint8 pictures, evenly from all of them; those are framed that
    are not right (n,) bool.
    """
    rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    return png(gallery(framed(images[rows], ~right[rows]), columns=8, gap=3), 480)


def stretch(image: np.ndarray) -> np.ndarray:
    """Any non-negative (h, w, c) floats → uint8, its own brightest 0.5 % white: a choice made from
    the picture alone.
    """
    top = np.quantile(image, 0.995) or 1.0
    return (np.clip(image / top, 0, 1) * 255).round().astype(np.uint8)


def psnr(truth: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the true picture's brightest value. inf for
    equal pictures.
    """
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(truth, other):
        return float("inf")
    return float(peak_signal_noise_ratio(truth, other, data_range=float(truth.max()) or 1.0))


def ssim(truth: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), 1 for equal pictures; the range is the true
    picture's brightest value.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(truth, other, data_range=float(truth.max()) or 1.0, channel_axis=-1)
    )


# --- one format for real and generated pictures ---------------------------------------------------

CHUNK = 2000  # pictures at a time
# pixels of black around a picture that is a little smaller than wanted: nothing of it is blurred
FRAME = 2


def canvas(images: np.ndarray, size: int, grey: bool) -> np.ndarray:
    """(n, h, w, c) uint8 → (n, size, size, 1 or 3) uint8: framed in black where two pixels a side
    are all that is missing, else resized; grey by luminance.
    """
    # of photographs, all at once as floating point numbers would fill the memory
    if len(images) > CHUNK:
        return np.concatenate(
            [canvas(images[i : i + CHUNK], size, grey) for i in range(0, len(images), CHUNK)]
        )
    if grey and images.shape[3] == 3:
        # ITU-R BT.601
        images = (images @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)[..., None]
    h, w = images.shape[1:3]
    if h == w and 0 < size - h <= 2 * FRAME and (size - h) % 2 == 0:
        margin = (size - h) // 2
        return np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return images if h == w == size else resized(images, size)


def uncanvas(images: np.ndarray, side: int, channels: int) -> np.ndarray:
    """The way back, (n, size, size, c) → (n, side, side, channels): the frame is cut off, else
    resized; grey repeated for each channel.
    """
    size = images.shape[1]
    if 0 < size - side <= 2 * FRAME and (size - side) % 2 == 0:
        margin = (size - side) // 2
        images = images[:, margin:-margin, margin:-margin]
    elif size != side:
        images = resized(images, side)
    return images if images.shape[3] == channels else images.repeat(channels, 3)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w, c) uint8 → (n, size, size, c) uint8, by Pillow's bilinear filter, which averages
    where it shrinks.
    """
    from PIL import Image

    c = images.shape[3]
    small = [
        np.asarray(
            Image.fromarray(image[..., 0] if c == 1 else image).resize(
                (size, size), Image.Resampling.BILINEAR
            )
        )
        for image in images
    ]
    return np.stack(small).reshape(len(images), size, size, c)
