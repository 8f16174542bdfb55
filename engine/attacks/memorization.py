"""What released images reveal about the training data: near-duplicates and membership.

Methods: nearest neighbors in pixels or features, and SSIM. numpy and torch. The reference is always
held-out images, which nobody trained on: an image as near to them as to the training images is not
a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

CHUNK = 500  # rows of a distance matrix at a time
WINDOW = 7  # side of SSIM's window in pixels, as in scikit-image
CHANCE = 0.05  # fraction of held-out images that look like copies by construction


@torch.no_grad()
def nearest(
    queries: torch.Tensor, references: torch.Tensor, leave_out: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the nearest reference (n,) and its Euclidean distance (n,), for (n, d) and (m, d).

    Found by ‖a‖² + ‖b‖² − 2ab, then measured exactly: an exact copy has distance 0. leave_out: a
    query is not its own neighbor; the queries must then be the first of the references.
    """
    squares, rows = references.square().sum(1), []
    for start, part in zip(range(0, len(queries), CHUNK), queries.split(CHUNK)):
        table = squares - 2 * part @ references.T
        if leave_out:
            table[torch.arange(len(part)), torch.arange(start, start + len(part))] = float("inf")
        rows.append(table.argmin(1))
    found = torch.cat(rows)
    return found, torch.cat(
        [(q - references[r]).norm(dim=1) for q, r in zip(queries.split(CHUNK), found.split(CHUNK))]
    )


@dataclass(frozen=True)
class Copies:
    """Near-duplicates of training images, identified by ratios of nearest-neighbor distances."""

    # (n,) distance to the nearest training image over that to the nearest held-out image
    ratios: np.ndarray
    yardstick: np.ndarray  # (m,) the same for held-out images, each without itself
    threshold: float  # the ratio that one in twenty held-out images is below
    references: int  # number of held-out images (the first ones) used as references

    @property
    def share(self) -> float:
        """Fraction of images with a ratio below the threshold.

        It is 1 for copies and 0.05 for real images that were not trained on. Images far from all
        real ones have ratios near 1, and so a fraction near 0, whatever they hide. NaN if a ratio
        is NaN.
        """
        return float((self.ratios < self.threshold).mean()) if self.conclusive else float("nan")

    @property
    def conclusive(self) -> bool:
        """Whether no ratio is NaN; otherwise no image looks like a copy, which means nothing."""
        return not (np.isnan(self.ratios).any() or np.isnan(self.yardstick).any())

    @property
    def median(self) -> float:
        """Median ratio; 0 for copies."""
        return float(np.median(self.ratios))


def copies(
    images: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor, most: int | None = None
) -> Copies:
    """Compare images (n, d) with training images (t, d) and held-out images (m, d).

    The dimensions are pixels or features. With more training than held-out images, the nearest
    training image is nearer for any image; the held-out images, each compared with the others,
    share this advantage, and their ratios set the threshold. With fewer, the same number of
    held-out images is used as references, and the others set the threshold: otherwise anything
    equally far from all images, such as noise, would seem nearer to the few training images than
    real images are. most: the largest number of held-out images that set the threshold, taken from
    the start.
    """
    if len(training) <= len(held_out) // 2:
        references, others = held_out[: len(training)], held_out[len(training) :][:most]
        yardstick = _ratio(nearest(others, training)[1], nearest(others, references)[1])
    else:
        references, others = held_out, held_out[:most]
        yardstick = _ratio(
            nearest(others, training)[1], nearest(others, references, leave_out=True)[1]
        )
    ratios = _ratio(nearest(images, training)[1], nearest(images, references)[1])
    return Copies(ratios, yardstick, float(np.quantile(yardstick, CHANCE)), len(references))


def found_again(training: torch.Tensor, references: torch.Tensor, threshold: float) -> float:
    """Fraction of exact copies of training images (t, d) that the test detects.

    Their ratio to held-out references (m, d) must be below the threshold. The expected answer is 1.
    It is lower if the same images are also held out, if all images look alike, or if the held-out
    images have set a threshold of 0. The test then cannot detect copies, and its result for other
    images has no meaning.
    """
    return float(
        (
            _ratio(torch.zeros(len(training)), nearest(training, references)[1].cpu()) < threshold
        ).mean()
    )


def _ratio(near: torch.Tensor, far: torch.Tensor) -> np.ndarray:
    """Ratio of near to far; 1 for an image that is in both sets (0 over 0)."""
    both = (near == 0) & (far == 0)
    return torch.where(both, 1.0, near.double() / far.double().clamp_min(1e-12)).cpu().numpy()


def membership(members: np.ndarray, others: np.ndarray) -> float:
    """Probability that a member scores higher than another image (area under the ROC curve).

    0.5 means no information, 1 perfect separation.
    """
    from sklearn.metrics import roc_auc_score

    return float(
        roc_auc_score(np.r_[np.ones(len(members)), np.zeros(len(others))], np.r_[members, others])
    )


def advantage(members: np.ndarray, others: np.ndarray) -> float:
    """Accuracy of guessing membership with the best threshold, at even prior odds; at least 0.5.

    The threshold is chosen on these same scores, which favors the attacker slightly, as it does for
    random scores.
    """
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(
        np.r_[np.ones(len(members)), np.zeros(len(others))], np.r_[members, others]
    )
    return float((1 + (true - false).max()) / 2)


@torch.no_grad()
def nearest_by_ssim(
    images: torch.Tensor, references: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Index of the most similar reference (n,) and its structural similarity (n,).

    (n, c, h, w), (m, c, h, w) in [0, 1]. Wang et al. 2004 with scikit-image's window of 7 × 7 equal
    weights, sample variances and data range 1, averaged over pixels and channels.
    """
    down, across = (_windows(side, images) for side in images.shape[2:])

    def mean_of(x):
        return down @ x @ across.T

    bias, c1, c2 = WINDOW**2 / (WINDOW**2 - 1), 0.01**2, 0.03**2
    means = mean_of(references)
    variances = bias * (mean_of(references.square()) - means.square())
    rows, values = [], []
    for one in images.split(1):
        mean, cross = mean_of(one), mean_of(references * one)
        variance, covariance = (
            bias * (mean_of(one.square()) - mean.square()),
            bias * (cross - means * mean),
        )
        top = (2 * means * mean + c1) * (2 * covariance + c2)
        likeness = (
            top / ((means.square() + mean.square() + c1) * (variances + variance + c2))
        ).mean((1, 2, 3))
        rows.append(likeness.argmax())
        values.append(likeness.max())
    return torch.stack(rows), torch.stack(values)


def _windows(side: int, like: torch.Tensor) -> torch.Tensor:
    """A matrix (side − 6, side) whose rows average seven neighbors.

    As matrix products, these means take a tenth of the time of pooling.
    """
    return torch.ones(side - WINDOW + 1, side, device=like.device).tril(WINDOW - 1).triu() / WINDOW
