"""Time the Fréchet distance of 10,000 × 2,048 features against scipy and torchmetrics.

scipy computes it by its matrix square root. Prints seconds and ratios, measured in one run.

    python -m bench.metrics [--n 10000] [--d 2048]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy import linalg

import engine.datasets.vision  # noqa: F401  torchmetrics imports torchvision
from engine.core.lab import device_name
from engine.evaluation.metrics import frechet_distance, moments


def features(n: int, d: int, seed: int, shift: float) -> np.ndarray:
    """(n, d) float32 features: non-negative, correlated, of different scales."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(99)
    mixing = (mixing.normal(size=(d, d)) / d**0.5 * np.geomspace(1, 0.03, d)).astype(np.float32)
    return np.maximum((rng.standard_normal((n, d), np.float32) + np.float32(shift)) @ mixing, 0)


def timed(what) -> tuple[float, float]:
    """Seconds and the value."""
    begun = time.perf_counter()
    value = what()
    return time.perf_counter() - begun, value


def main() -> None:
    """Time the three implementations on the same features and print seconds, values and ratios."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--n", type=int, default=10_000)
    asked.add_argument("--d", type=int, default=2048)
    options = asked.parse_args()
    one, other = features(options.n, options.d, 1, 0.0), features(options.n, options.d, 2, 0.2)

    def by_scipy() -> float:
        a, b = (np.cov(x.astype(np.float64).T) for x in (one, other))
        return float(
            ((one.mean(0, np.float64) - other.mean(0, np.float64)) ** 2).sum()
            + np.trace(a)
            + np.trace(b)
            - 2 * np.trace(linalg.sqrtm(a @ b)).real
        )

    def by_torchmetrics() -> float:
        from torchmetrics.image.fid import _compute_fid

        a, b = (torch.from_numpy(x).double() for x in (one, other))
        return float(_compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T)))

    print(f"{options.n:,} x {options.d:,} features, {device_name()}")
    ours, value = timed(lambda: frechet_distance(moments(one), moments(other)))
    print(f"Veil          {ours:7.1f} s   {value:.8g}")
    for name, way in (("scipy's sqrtm", by_scipy), ("torchmetrics", by_torchmetrics)):
        seconds, found = timed(way)
        print(
            f"{name:13} {seconds:7.1f} s   {found:.8g}   {seconds / ours:.2f} x Veil's time, off by"
            f" {abs(found / value - 1):.1e}"
        )


if __name__ == "__main__":
    main()
