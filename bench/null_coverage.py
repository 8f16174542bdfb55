"""Measure how often LiRA's 95 % interval holds when there is nothing to find.

    python -m bench.null_coverage [--runs 300]

Null runs use the same statistics as study `membership` (engine/attacks/lira.py) and are of two
kinds. *drawn*: confidences are drawn at random, with heavy tails and a level per image; membership
is decided by coin flips independent of them. *trained*: softmax regressions are trained on the
bundled digits, on images that are never candidates; membership of the candidates is decided by coin
flips, so no network knows anything about them. The true AUC and share of right guesses are then
0.5, and the true positive rate equals the false positive rate. The networks are as in study
`membership`: 8 independent ones (CNN), or 32 in groups of 8 that share their batches and are not
compared with each other (linear). For comparison, the earlier interval is shown: 1.96 standard
errors over networks, as if they were independent.
"""

from __future__ import annotations

import argparse
import functools

import numpy as np
from scipy import stats

from engine.attacks import lira
from engine.datasets import registry

TRUTH = {"area": 0.5, "right guesses": 0.5, "found at 0.1 %": 0.001, "found at 1 %": 0.01}
KINDS = {"8 networks": np.arange(8), "32 in groups of 8": np.arange(32) // 8}
ROWS, STEPS = 300, 20  # examples and steps of a training


def drawn(rng: np.random.Generator, count: int, groups: np.ndarray) -> np.ndarray:
    """(count, networks) confidences that depend only on how easy each image is."""
    return 3 * rng.normal(size=(count, 1)) + rng.standard_t(5, size=(count, len(groups)))


def trained(rng: np.random.Generator, count: int, groups: np.ndarray) -> np.ndarray:
    """The same for networks that were trained on other images.

    Networks of a group are trained on halves of the same rows.
    """
    pixels, labels = digits()
    order = rng.permutation(5000)
    candidates, others = order[:count], order[count:]
    rows = {name: rng.choice(others, 2 * ROWS, replace=False) for name in np.unique(groups)}
    found = []
    for name in groups:
        mine = rows[name][rng.random(2 * ROWS) < 0.5]
        weights = learned(pixels[mine], labels[mine], rng)
        found.append(lira.confidence(pixels[candidates] @ weights, labels[candidates]))
    return np.stack(found, 1)


@functools.lru_cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 5,000 bundled digits at half size, (5000, 196) in [0, 1], and their labels."""
    images = registry.load("mnist-5k")
    pixels = np.concatenate([images.train_images, images.test_images]) / np.float32(255)
    smaller = pixels.reshape(5000, 14, 2, 14, 2).mean((2, 4)).reshape(5000, -1)
    return smaller, np.r_[images.train_labels, images.test_labels].astype(int)


def learned(pixels: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights (pixels, 10) of softmax regression after a few steps of gradient descent."""
    weights = 0.01 * rng.normal(size=(pixels.shape[1], 10)).astype(np.float32)
    wanted = np.eye(10, dtype=np.float32)[labels]
    for _ in range(STEPS):
        logits = pixels @ weights
        chances = np.exp(logits - logits.max(1, keepdims=True))
        weights -= 0.5 / len(pixels) * pixels.T @ (chances / chances.sum(1, keepdims=True) - wanted)
    return weights


def measured(sure: np.ndarray, coins: np.ndarray, groups: np.ndarray) -> dict[str, tuple]:
    """Each statistic with its margin, as the study computes them."""
    among = lira.each_against_the_others(sure, coins, groups)
    rare = [lira.found_of(among, coins, share) for share in (0.001, 0.01)]
    plain = [lira.area_of(among, coins), lira.guesses_of(among, coins)]
    found = dict(zip(TRUTH, plain + rare))
    told = {name: (one.value, lira.margin(one)) for name, one in found.items()}
    return told | {"area, as before": (found["area"].value, as_before(among, coins))}


def as_before(among: np.ndarray, coins: np.ndarray) -> float:
    """The earlier margin, which treats networks as independent."""
    inside = coins.sum(0)
    ranks = np.where(coins, stats.rankdata(among, axis=0), 0).sum(0)
    areas = (ranks / inside - (inside + 1) / 2) / (len(coins) - inside)  # Mann-Whitney
    return 1.96 * float(np.std(areas, ddof=1)) / len(areas) ** 0.5


def null_runs(
    confidences, groups: np.ndarray, count: int, runs: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """(runs, 2) for each statistic: its distance from the truth, and its margin."""
    rng, truth = np.random.default_rng(seed), TRUTH | {"area, as before": 0.5}
    found = {name: np.empty((runs, 2)) for name in truth}
    for run in range(runs):
        sure = confidences(rng, count, groups)
        for name, (value, half) in measured(sure, rng.random(sure.shape) < 0.5, groups).items():
            found[name][run] = abs(value - truth[name]), half
    return found


def coverage(found: dict[str, np.ndarray], scale: float = 1.0) -> dict[str, float]:
    """For each statistic, the share of `null_runs` whose scaled interval contains the truth."""
    return {
        name: float((off <= scale * half).mean())
        for name, (off, half) in ((name, runs.T) for name, runs in found.items())
    }


def main() -> None:
    """Print a table with one row per kind of null run."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--runs", type=int, default=300)
    asked.add_argument(
        "--drawn",
        type=int,
        default=5000,
        help="candidates whose confidences are drawn, as many as the study has",
    )
    asked.add_argument(
        "--trained", type=int, default=2000, help="candidates of real trainings; at most 4,400"
    )
    asked = asked.parse_args()
    columns = ["null runs", *TRUTH, "area, as before"]
    print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
    for kind, count in ((drawn, asked.drawn), (trained, asked.trained)):
        for name, groups in KINDS.items():
            found = coverage(null_runs(kind, groups, count, asked.runs))
            shares = " | ".join(f"{100 * share:.1f} %" for share in found.values())
            told = f"{kind.__name__}, {name}, {count:,} images, {asked.runs} runs"
            print(f"| {told} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
