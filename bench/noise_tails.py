"""Check whether noise is Gaussian in the tails, where δ is counted.

    python -m bench.noise_tails [--draws N]

For Veil's sampler, torch's float32 numbers, Opacus's own noise and numpy's float32 numbers: how
many draws lie beyond some standard deviations, the largest draw, and whether pairs lie on the
circles of the Box-Muller method with 24-bit uniforms (0 by chance, 1 if all do). Then an event that
reveals an example: noised gradients of a linear layer with and without it.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from opacus.optimizers.optimizer import _generate_noise
from scipy import stats

from engine.attacks.auditing import BLOCK, FLOAT32, UNIFORM, circles
from engine.privacy.noise import GaussianNoise, summed

FAR = (3.0, 4.0, 5.0, 5.5)
CHUNK = 8_000_000
EDGE, OFF = 5.22, 0.001  # the event: a pair at least this far out, and this far from every circle


def samplers() -> dict[str, object]:
    """Name → a function that draws the given count of numbers, float64 (count,)."""
    noise, numbers = GaussianNoise(0), np.random.default_rng(0)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    return {
        "Veil": noise.array,
        "Veil, on a GPU": lambda n: summed((n,), generators[0]).numpy(),
        "torch.randn, float32": lambda n: torch.randn(n, generator=generators[1]).double().numpy(),
        "Opacus 1.6, CPU": (
            lambda n: _generate_noise(1.0, torch.zeros(n), generators[2]).double().numpy()
        ),
        "numpy, float32": lambda n: numbers.standard_normal(n, np.float32).astype(np.float64),
    }


def tails(draw, count: int) -> tuple[np.ndarray, float, float]:
    """(len(FAR),) counts beyond, the largest draw, and the mean cosine on the circles."""
    beyond, farthest, on, weight = np.zeros(len(FAR)), 0.0, 0.0, 0.0
    for _ in range(count // CHUNK):
        found = draw(CHUNK)
        size = np.abs(found)
        beyond += [(size > far).sum() for far in FAR]
        farthest = max(farthest, size.max())
        cosines, weights = circles(found, FLOAT32 / np.sqrt(3) * size)
        on, weight = on + (weights * cosines).sum(), weight + (weights**2).sum()
    return beyond, farthest, on / weight


def events(draw, steps: int, inputs: int, sigma: float, example: float) -> int:
    """Steps in which some pair of the noised gradient is far out and off every circle.

    A linear layer with `inputs` inputs, one output and clip norm 1; the example's gradient has the
    same value in every entry, and norm `example`.
    """
    pull, found = np.float32(example / inputs**0.5), 0
    for _ in range(steps):
        noised = (draw(inputs).astype(np.float32) * np.float32(sigma) + pull) / np.float32(sigma)
        x, y = np.moveaxis(noised.astype(float).reshape(-1, 2, BLOCK // 2), 1, 0)
        radius = np.hypot(x, y)
        k = np.arange(1, 40)
        rings = np.sqrt(2 * np.log(UNIFORM / k))
        far = radius[radius > EDGE]
        found += (
            bool((np.abs(far[:, None] - rings).min(1, initial=9) > OFF).any()) if len(far) else 0
        )
    return found


def main() -> None:
    """Print the tails of every sampler, then how often the revealing event occurs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=80_000_000)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    count = max(1, arguments.draws // CHUNK) * CHUNK
    print(
        f"{count:,} draws of each; beyond {', '.join(f'{far:g}' for far in FAR)} standard"
        " deviations"
    )
    print(f"{'expected':24}", *(f"{2 * stats.norm.sf(far) * count:12.1f}" for far in FAR))
    for name, draw in samplers().items():
        beyond, farthest, share = tails(draw, count)
        print(
            f"{name:24}",
            *(f"{n:12,.0f}" for n in beyond),
            f"  farthest {farthest:.3f}, on circles {share:+.3f}",
            flush=True,
        )
    print(
        f"steps of {arguments.steps} with a pair beyond {EDGE} that is off every circle, "
        "Linear(16384, 1), σ = 0.5, without and with one example"
    )
    for name in ("Veil", "torch.randn, float32"):
        found = [
            events(samplers()[name], arguments.steps, 16_384, 0.5, example) for example in (0, 1)
        ]
        print(f"{name:24} {found[0]:6} {found[1]:6}", flush=True)


if __name__ == "__main__":
    main()
