"""Scattering features of images: two layers of fixed wavelets, with nothing learned. torch.

Bruna and Mallat 2013, "Invariant scattering convolution networks". Let ψ_j,θ be a wavelet at scale
2^j and angle θ, φ a blur, and ↓k subsampling by k. At J = 2 scales and L = 8 angles, an image x
gives

    order 0: φ_J ⋆ x ↓4     order 1: φ ⋆ |ψ_j,θ ⋆ x| ↓4     order 2: φ ⋆ |ψ_1,θ' ⋆ |ψ_0,θ ⋆ x|| ↓4

that is, 1 + 2·8 + 8·8 = 81 small maps per channel. The moduli |ψ_0,θ ⋆ x| are blurred and
subsampled *before* the second wavelet, which then sees half as many pixels per side and can use the
small kernel of the first scale: everything is a strided convolution.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

ANGLES = 8  # L
MAPS = 1 + 2 * ANGLES + ANGLES**2  # 81 small maps per channel
DECIMATION = 4  # 2^J
# A wavelet's center frequency, width and slant at the first scale, as in Bruna and Mallat's code:
# 3π/4, 0.8 and 4/L.
FREQUENCY, WIDTH, SLANT = 3 * math.pi / 4, 0.8, 4 / ANGLES


class Scattering(nn.Module):
    """(n, channels, h, w) float → (n, channels·81, ⌈h/4⌉, ⌈w/4⌉) float.

    The output is non-negative, except for rounding in order 0. Channels are transformed one by one
    and concatenated, each with its 81 maps: order 0, order 1 at both scales, order 2. Outside its
    frame an image is 0. Nothing is random and nothing is learned. Raises ValueError below 8 x 8
    pixels.
    """

    fine: torch.Tensor
    coarse: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("fine", wavelets(0))  # (2·L, 1, 7, 7)
        self.register_buffer("coarse", wavelets(1))  # (2·L, 1, 13, 13)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) → (n, channels·81, ⌈h/4⌉, ⌈w/4⌉) scattering coefficients."""
        n, channels, h, w = images.shape
        if min(h, w) < 8:
            raise ValueError(f"scattering needs images of at least 8 x 8 pixels, not {h} x {w}")
        x = images.reshape(n * channels, 1, h, w)
        fine = blurred(modulus(x, self.fine, 1), 1.0, 2)  # (n·channels, L, h/2, w/2)
        coarse = modulus(x, self.coarse, 2)
        second = modulus(fine.reshape(-1, 1, *fine.shape[2:]), self.fine, 1).reshape(
            len(x), -1, *fine.shape[2:]
        )
        lower = blurred(torch.cat([fine, coarse, second], 1), 1.0, 2)
        maps = torch.cat([blurred(x, 2.0, 4), lower], 1)  # (n·channels, 81, h/4, w/4)
        return maps.reshape(n, channels * MAPS, *maps.shape[2:])


def modulus(x: torch.Tensor, kernels: torch.Tensor, stride: int) -> torch.Tensor:
    """Absolute values of complex convolutions, (n, 1, h, w) → (n, L, h/stride, w/stride).

    kernels: (2·L, 1, k, k), first the real parts, then the imaginary parts.
    """
    real, imaginary = F.conv2d(x, kernels, stride=stride, padding=kernels.shape[-1] // 2).chunk(
        2, 1
    )
    return torch.sqrt(real.square() + imaginary.square())


def blurred(x: torch.Tensor, sigma: float, stride: int) -> torch.Tensor:
    """Blur each map with a Gaussian of σ pixels, then keep every stride-th pixel.

    (..., h, w) → (..., ⌈h/stride⌉, ⌈w/stride⌉). This is a strided convolution along each axis in
    turn, computed as products with two small matrices: twice as fast as conv2d with one channel.
    """
    rows, columns = (strided_blur(side, sigma, stride).to(x.device) for side in x.shape[-2:])
    return ((x @ columns.T).transpose(-1, -2) @ rows.T).transpose(-1, -2)


def strided_blur(side: int, sigma: float, stride: int) -> torch.Tensor:
    """Weights of a Gaussian cut off at three σ, (⌈side/stride⌉, side) float32.

    Each row sums to 1, except near the frame, outside of which the image is 0.
    """
    places, reach = torch.arange(side, dtype=torch.float64), math.ceil(3 * sigma)
    distance = places[::stride, None] - places
    whole = torch.exp(
        -torch.arange(-reach, reach + 1, dtype=torch.float64).square() / (2 * sigma**2)
    ).sum()
    weights = torch.where(
        distance.abs() <= reach, torch.exp(-distance.square() / (2 * sigma**2)), 0
    )
    return (weights / whole).to(torch.float32)


def wavelets(scale: int) -> torch.Tensor:
    """Morlet wavelets at scale 2^j, (2·L, 1, k, k) float32: real parts, then imaginary parts.

    A wavelet is a plane wave under a slanted Gaussian, minus the multiple of the Gaussian that
    makes the sum zero: a constant image gives 0.
    """
    size = 6 * 2**scale + 1
    turned = [_morlet(math.pi * k / ANGLES, scale, size) for k in range(ANGLES)]
    return torch.cat(
        [torch.stack([w.real for w in turned]), torch.stack([w.imag for w in turned])]
    )[:, None].to(torch.float32)


def _morlet(angle: float, scale: int, size: int) -> torch.Tensor:
    """One Morlet wavelet, (size, size) complex128."""
    y, x = _offsets(size)
    along, across = (
        x * math.cos(angle) + y * math.sin(angle),
        y * math.cos(angle) - x * math.sin(angle),
    )
    sigma, frequency = WIDTH * 2**scale, FREQUENCY / 2**scale
    envelope = torch.exp(-(along.square() + (SLANT * across).square()) / (2 * sigma**2))
    wave = envelope * torch.exp(1j * frequency * along)
    return (wave - envelope * (wave.sum() / envelope.sum())) * SLANT / (2 * math.pi * sigma**2)


def _offsets(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    steps = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return y, x
