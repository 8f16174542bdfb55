"""Fixed features of pictures, in which a linear model learns well.

Nothing in them is learned, and each picture is treated by itself. torch.

Source: Tramèr and Boneh 2021, "Differentially Private Learning Needs Better Features (or Much More
Data)": scattering, then group normalisation. Straightening slanted digits is old (LeCun et al.
1998, "deslanting"); before scattering it is our own addition here.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from engine.learning.scattering import Scattering

TOGETHER = 3  # maps that are normalised together: 27 groups of a channel's 81, as Tramèr and Boneh
CHUNK = 500  # pictures at a time
MOST_SLANT = 1.0  # pixels to the side for each pixel down


def features(
    images: torch.Tensor, straighten: bool, device: torch.device
) -> Iterator[torch.Tensor]:
    """(n, h, w, c) uint8 → parts of up to 500 rows (part, d) float16 on the CPU, d =
    81·c·⌈h/4⌉·⌈w/4⌉. Each row is at most `longest(d)` long.
    """
    scattering = Scattering().to(device)
    for part in images.split(CHUNK):
        pictures = part.to(device).permute(0, 3, 1, 2).float() / 255
        maps = scattering(straightened(pictures) if straighten else pictures)
        yield normalised(maps).to(torch.float16).cpu()


def longest(d: int) -> float:
    """No row of d features is longer: normalised entries have mean square 1 at most, and float16
    adds 2^-11 of each at most.
    """
    return d**0.5 * (1 + 2**-11) * (1 + 1e-6)


def normalised(maps: torch.Tensor) -> torch.Tensor:
    """(n, m, h, w) → (n, m·h·w): groups of three maps, each less its mean and over its deviation, a
    picture by itself.
    """
    groups = maps.reshape(len(maps), maps.shape[1] // TOGETHER, -1)
    spread = groups.var(2, keepdim=True, unbiased=False)
    return ((groups - groups.mean(2, keepdim=True)) / (spread + 1e-5).sqrt()).flatten(1)


def straightened(pictures: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) in [0, 1], dark outside → the same, sheared until upright and moved to the
    middle. A picture without light stays as it is.

    With all channels' light as a mass: the slant is cov(x, y) / var(y), the middle its centre. One
    bilinear sampling.
    """
    n, _, h, w = pictures.shape
    y, x = torch.meshgrid(
        torch.arange(h, device=pictures.device).float(),
        torch.arange(w, device=pictures.device).float(),
        indexing="ij",
    )
    mass = pictures.sum(1)
    mass = mass / mass.sum((1, 2), keepdim=True).clamp_min(1e-6)
    lit = (mass.sum((1, 2)) > 0.5).float()[:, None, None]
    middle_y, middle_x = ((mass * axis).sum((1, 2), keepdim=True) for axis in (y, x))
    from_y, from_x = y - middle_y, x - middle_x
    variance = (mass * from_y.square()).sum((1, 2), keepdim=True)
    slant = ((mass * from_x * from_y).sum((1, 2), keepdim=True) / variance.clamp_min(1e-3)).clamp(
        -MOST_SLANT, MOST_SLANT
    ) * lit
    source_x = x + slant * (y - (h - 1) / 2) + (middle_x - (w - 1) / 2) * lit
    source_y = y + (middle_y - (h - 1) / 2) * lit
    grid = torch.stack([2 * source_x / (w - 1) - 1, 2 * source_y / (h - 1) - 1], -1)
    return F.grid_sample(
        pictures, grid.expand(n, h, w, 2), mode="bilinear", padding_mode="zeros", align_corners=True
    )
