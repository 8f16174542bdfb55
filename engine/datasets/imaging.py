"""Image utilities in numpy and Pillow: PNG encoding, galleries, resizing, similarity measures."""

from __future__ import annotations

import io

import numpy as np


def png(image: np.ndarray, pixels: int = 0) -> bytes:
    """Encode (h, w), (h, w, 1) or (h, w, 3) uint8 as PNG bytes.

    The image is enlarged by a whole factor to about `pixels` per side, without blurring.
    """
    from PIL import Image

    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    factor = max(1, round(pixels / image.shape[0])) if pixels else 1
    big = image.repeat(factor, 0).repeat(factor, 1)
    buffer = io.BytesIO()
    Image.fromarray(big).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def gallery(images: np.ndarray, columns: int, gap: int = 2) -> np.ndarray:
    """Arrange (n, h, w, c) uint8 images in one, with grey gaps between them.

    Its shape is (rows·(h+gap)−gap, columns·(w+gap)−gap, c).
    """
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return sheet


def framed(images: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Draw a frame around each image, bright orange where marked.

    (n, h, w, c) uint8 and (n,) bool → (n, h + 4, w + 4, 3).
    """
    n, h, w, _ = images.shape
    out = np.full((n, h + 4, w + 4, 3), 60, np.uint8)
    out[marked] = (230, 159, 0)  # Okabe and Ito's orange, visible with any colour vision
    out[:, 2:-2, 2:-2] = images
    return out


def answers(images: np.ndarray, right: np.ndarray, count: int = 40) -> bytes:
    """Encode a gallery of `count` of the (n, h, w, c) uint8 images, evenly spaced, as PNG.

    Those whose answer is not right (n,) bool are framed.
    """
    rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    return png(gallery(framed(images[rows], ~right[rows]), columns=8, gap=3), 480)


def stretch(image: np.ndarray) -> np.ndarray:
    """Scale non-negative (h, w, c) floats to uint8 so that the image's brightest 0.5 % are white.

    The scale depends on the image alone.
    """
    top = np.quantile(image, 0.995) or 1.0
    return (np.clip(image / top, 0, 1) * 255).round().astype(np.uint8)


def psnr(truth: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; inf for equal images.

    The peak is the true image's brightest value.
    """
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(truth, other):
        return float("inf")
    return float(peak_signal_noise_ratio(truth, other, data_range=float(truth.max()) or 1.0))


def ssim(truth: np.ndarray, other: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004); 1 for equal images.

    The range is the true image's brightest value.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(truth, other, data_range=float(truth.max()) or 1.0, channel_axis=-1)
    )


# --- one format for real and generated images -----------------------------------------------------

CHUNK = 2000  # images at a time
# Most black pixels added per side of an image that is slightly too small, instead of resizing it,
# which would blur it.
FRAME = 2


def canvas(images: np.ndarray, size: int, grey: bool) -> np.ndarray:
    """Convert (n, h, w, c) uint8 images to (n, size, size, 1 or 3) uint8.

    An image that lacks at most two pixels per side gets a black frame, any other is resized. Grey
    is computed by luminance.
    """
    # in chunks: as floating-point numbers, all photographs at once would fill the memory
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
    """Convert (n, size, size, c) images back to (n, side, side, channels): the inverse of canvas.

    The frame is cut off, or the image resized; grey is repeated for each channel.
    """
    size = images.shape[1]
    if 0 < size - side <= 2 * FRAME and (size - side) % 2 == 0:
        margin = (size - side) // 2
        images = images[:, margin:-margin, margin:-margin]
    elif size != side:
        images = resized(images, side)
    return images if images.shape[3] == channels else images.repeat(channels, 3)


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Resize (n, h, w, c) uint8 to (n, size, size, c) uint8.

    Uses Pillow's bilinear filter, which averages when it shrinks.
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
