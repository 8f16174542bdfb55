"""What released pictures give away about the training data: nearest neighbours, copies, and
membership. numpy and torch.

The yardstick is always pictures that nobody learned from (held out): whatever is as near to them as
to the training pictures is no copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

CHUNK = 500  # rows of a distance table at a time
WINDOW = 7  # pixels of SSIM's window, as scikit-image
CHANCE = 0.05  # share of held-out pictures that look like copies by construction


@torch.no_grad()
def nearest(
    queries: torch.Tensor, references: torch.Tensor, leave_out: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, d), (m, d) → row of the nearest reference (n,) and its Euclidean distance (n,).
    leave_out: a query is not its own neighbour.

    Found by ‖a‖² + ‖b‖² − 2ab, then measured exactly: an exact copy has distance 0. With leave_out
    the queries are the first of the references.
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
    """How many pictures look like copies of training pictures, by the ratio of nearest-neighbour
    distances.
    """

    # (n,) distance to the nearest training picture over that to the nearest held-out one
    ratios: np.ndarray
    yardstick: np.ndarray  # (m,) the same for the held-out pictures themselves, each without itself
    threshold: float  # the ratio that one in twenty held-out pictures is below
    references: int  # how many held-out pictures, the first ones, distances were compared with

    @property
    def share(self) -> float:
        """Share of pictures with a ratio below the threshold: 1 for copies, 0.05 for real pictures
        that were never learned from.

        Pictures far from all real ones have ratios near 1, and so a share near 0, whatever they
        hide. NaN where a ratio is no number.
        """
        return float((self.ratios < self.threshold).mean()) if self.told else float("nan")

    @property
    def told(self) -> bool:
        """Are all ratios numbers? Otherwise nothing looks like a copy, and that says nothing."""
        return not (np.isnan(self.ratios).any() or np.isnan(self.yardstick).any())

    @property
    def median(self) -> float:
        """Median ratio; 0 for copies."""
        return float(np.median(self.ratios))


def copies(
    pictures: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor, most: int | None = None
) -> Copies:
    """Compare pictures (n, d) with training (t, d) and held-out pictures (m, d) in any order, in
    pixels or features.

    With more training than held-out pictures, the nearest of them is nearer for any picture; the
    held-out pictures themselves, each compared with the others, have that advantage too, and their
    own ratios set the threshold. With fewer, as many held-out pictures are compared with, and the
    others set the threshold: otherwise whatever is equally far from all, such as noise, would seem
    nearer to the few training pictures than real pictures are. most: held-out pictures that set the
    threshold, at most, the first ones.
    """
    if len(training) <= len(held_out) // 2:
        references, others = held_out[: len(training)], held_out[len(training) :][:most]
        yardstick = _ratio(nearest(others, training)[1], nearest(others, references)[1])
    else:
        references, others = held_out, held_out[:most]
        yardstick = _ratio(
            nearest(others, training)[1], nearest(others, references, leave_out=True)[1]
        )
    ratios = _ratio(nearest(pictures, training)[1], nearest(pictures, references)[1])
    return Copies(ratios, yardstick, float(np.quantile(yardstick, CHANCE)), len(references))


def found_again(training: torch.Tensor, references: torch.Tensor, threshold: float) -> float:
    """Share of exact copies of training pictures (t, d) whose ratio is below a threshold, beside
    held-out references (m, d).

    The answer is known: all. It is less where the same pictures are held out too, where all look
    alike, and where the held-out pictures' own ratios have set a threshold of 0. Then the test
    cannot see copies, and what it says of other pictures says nothing.
    """
    return float(
        (
            _ratio(torch.zeros(len(training)), nearest(training, references)[1].cpu()) < threshold
        ).mean()
    )


def _ratio(near: torch.Tensor, far: torch.Tensor) -> np.ndarray:
    """near over far; 1 where a picture is in both sets alike (0 over 0)."""
    both = (near == 0) & (far == 0)
    return torch.where(both, 1.0, near.double() / far.double().clamp_min(1e-12)).cpu().numpy()


def membership(members: np.ndarray, others: np.ndarray) -> float:
    """How often a member scores higher than another picture (area under the ROC curve): 0.5 tells
    nothing, 1 all.
    """
    from sklearn.metrics import roc_auc_score

    return float(
        roc_auc_score(np.r_[np.ones(len(members)), np.zeros(len(others))], np.r_[members, others])
    )


def advantage(members: np.ndarray, others: np.ndarray) -> float:
    """The same as odds: with even odds before, how often the best threshold on the score guesses
    right. At least 0.5.

    The threshold is picked on these same scores, which flatters the attacker a little; so it does
    for random scores.
    """
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(
        np.r_[np.ones(len(members)), np.zeros(len(others))], np.r_[members, others]
    )
    return float((1 + (true - false).max()) / 2)


@torch.no_grad()
def nearest_by_ssim(
    pictures: torch.Tensor, references: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, c, h, w), (m, c, h, w) in [0, 1] → row of the most similar reference (n,) and its
    structural similarity (n,).

    Wang et al. 2004 with scikit-image's window of 7 × 7 equal weights, sample variances and data
    range 1, mean over pixels and channels.
    """
    down, across = (_windows(side, pictures) for side in pictures.shape[2:])
    mean_of = lambda x: down @ x @ across.T
    bias, c1, c2 = WINDOW**2 / (WINDOW**2 - 1), 0.01**2, 0.03**2
    means = mean_of(references)
    variances = bias * (mean_of(references.square()) - means.square())
    rows, values = [], []
    for one in pictures.split(1):
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
    """(side − 6, side): each row takes the mean of seven neighbours.

    As products of matrices these means take a tenth of pooling's time.
    """
    return torch.ones(side - WINDOW + 1, side, device=like.device).tril(WINDOW - 1).triu() / WINDOW
