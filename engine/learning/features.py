"""Fixed image features on which a linear model learns well.

Nothing in them is learned, and each image is processed on its own. torch.

Source: Tramèr and Boneh 2021, "Differentially Private Learning Needs Better Features (or Much More
Data)": scattering, then group normalization. Straightening slanted digits is an old method (LeCun
et al. 1998, "deslanting"); applying it before scattering is our own addition.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from engine.learning.scattering import Scattering

TOGETHER = 3  # maps normalized together: 27 groups of a channel's 81, as Tramèr and Boneh
CHUNK = 500  # images at a time
MOST_SLANT = 1.0  # pixels sideways per pixel down


def features(
    images: torch.Tensor, straighten: bool, device: torch.device
) -> Iterator[torch.Tensor]:
    """(n, h, w, c) uint8 → parts of up to 500 rows (part, d) float16 on the CPU.

    d = 81·c·⌈h/4⌉·⌈w/4⌉. The norm of each row is at most `longest(d)`.
    """
    scattering = Scattering().to(device)
    for part in images.split(CHUNK):
        scaled = part.to(device).permute(0, 3, 1, 2).float() / 255
        maps = scattering(straightened(scaled) if straighten else scaled)
        yield normalised(maps).to(torch.float16).cpu()


def longest(d: int) -> float:
    """Upper bound on the norm of a row of d features.

    Normalized entries have a mean square of at most 1, and float16 adds at most 2^-11 of each.
    """
    return d**0.5 * (1 + 2**-11) * (1 + 1e-6)


def normalised(maps: torch.Tensor) -> torch.Tensor:
    """Standardize groups of three maps, each image on its own: (n, m, h, w) → (n, m·h·w)."""
    groups = maps.reshape(len(maps), maps.shape[1] // TOGETHER, -1)
    spread = groups.var(2, keepdim=True, unbiased=False)
    return ((groups - groups.mean(2, keepdim=True)) / (spread + 1e-5).sqrt()).flatten(1)


def straightened(images: torch.Tensor) -> torch.Tensor:
    """Shear images upright and center them: (n, c, h, w) in [0, 1] on a dark background → the same.

    Takes the brightness of all channels as a mass: the slant is cov(x, y) / var(y), the center is
    the center of mass. Uses a single bilinear sampling. An all-black image stays as it is.
    """
    n, _, h, w = images.shape
    y, x = torch.meshgrid(
        torch.arange(h, device=images.device).float(),
        torch.arange(w, device=images.device).float(),
        indexing="ij",
    )
    mass = images.sum(1)
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
        images, grid.expand(n, h, w, 2), mode="bilinear", padding_mode="zeros", align_corners=True
    )
