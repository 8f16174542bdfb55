"""Clusters beside true labels: which cluster is which class, how many are right, and what moved.
numpy and scikit-learn.

True labels are used to judge clusters here, never to make or to choose them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.datasets import imaging


@dataclass(frozen=True)
class Judged:
    """Clusters judged by true labels. confusion (classes, clusters): how many pictures of a class
    fell into a cluster.

    matching (clusters,): the class that stands for each cluster, -1 for those that none is left
    for. accuracy: with that matching, in [0, 1]. unmatched_accuracy: with cluster 0 taken for class
    0, and so on, as report 1 did. nmi, ari: how much clusters and labels tell of each other,
    without any matching (normalised mutual information, adjusted Rand index).
    """

    confusion: np.ndarray
    matching: np.ndarray
    accuracy: float
    unmatched_accuracy: float
    nmi: float
    ari: float


def judge(labels: np.ndarray, clusters: np.ndarray, classes: int, count: int) -> Judged:
    """labels (n,) in [0, classes), clusters (n,) in [0, count) → how well they fit. n may be 0:
    then nothing is right.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    table = confusion(labels, clusters, classes, count)
    matching, n = match(table), max(1, len(labels))
    return Judged(
        table,
        matching,
        float((matching[clusters] == labels).sum() / n),
        float((clusters == labels).sum() / n),
        float(normalized_mutual_info_score(labels, clusters)),
        float(adjusted_rand_score(labels, clusters)),
    )


def confusion(labels: np.ndarray, clusters: np.ndarray, classes: int, count: int) -> np.ndarray:
    """(classes, count) int64: how many pictures of each class are in each cluster."""
    return np.bincount(
        labels.astype(np.int64) * count + clusters, minlength=classes * count
    ).reshape(classes, count)


def match(table: np.ndarray) -> np.ndarray:
    """(classes, clusters) counts → (clusters,) the class for each cluster, one to one, so that most
    pictures are right.

    Kuhn 1955, "The Hungarian method", by scipy. Where there are more clusters than classes the rest
    get -1.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    matching = np.full(table.shape[1], -1)
    matching[columns] = rows
    return matching


def warnings(classes: int, count: int) -> list[str]:
    """What a reader should know before believing how well `count` clusters fit the classes."""
    if classes == 1 or count == 1:
        return [
            "With a single class or cluster there is nothing to find: the accuracy means nothing."
        ]
    if classes == count:
        return []
    left = "clusters" if count > classes else "classes"
    return [f"{count} clusters for {classes} classes: the {left} left over count as wrong."]


def order(matching: np.ndarray) -> np.ndarray:
    """Clusters in the order of their classes, unmatched ones last."""
    return np.lexsort(
        (np.arange(len(matching)), np.where(matching < 0, np.iinfo(int).max, matching))
    )


def sheet(
    images: np.ndarray,
    clusters: np.ndarray,
    count: int,
    labels: np.ndarray | None = None,
    centres: np.ndarray | None = None,
    columns: int = 20,
) -> np.ndarray:
    """One row a cluster: its centre where there is one, then its first pictures; those of other
    labels are framed.

    images (n, h, w, c) uint8, clusters (n,), labels (n,) the cluster that each picture belongs to
    (or None: no frames), centres (count, h, w, c) uint8 → (rows, width, 3) uint8. Empty places are
    dark.
    """
    n, h, w, _ = images.shape
    wide = columns + (centres is not None)
    tiles = np.full((count, wide, h + 4, w + 4, 3), 40, np.uint8)
    for cluster in range(count):
        rows = np.flatnonzero(clusters == cluster)[:columns]
        wrong = np.zeros(len(rows), bool) if labels is None else labels[rows] != cluster
        shown = imaging.framed(images[rows], wrong)
        if centres is not None:
            tiles[cluster, 0] = imaging.framed(centres[cluster : cluster + 1], np.zeros(1, bool))[0]
        tiles[cluster, wide - columns : wide - columns + len(rows)] = shown
    return tiles.transpose(0, 2, 1, 3, 4).reshape(count * (h + 4), wide * (w + 4), 3)
