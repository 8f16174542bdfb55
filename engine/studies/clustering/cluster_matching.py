"""Compare clusters with true labels: matching, accuracy, and galleries. numpy and scikit-learn.

True labels are used here only to evaluate clusters, never to make or to choose them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.datasets import imaging


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of clusters by true labels.

    confusion (classes, clusters): number of images of a class in a cluster. matching (clusters,):
    the class of each cluster, -1 for those left without one. accuracy: with that matching, in [0,
    1]. unmatched_accuracy: with cluster 0 taken for class 0, and so on, as in report 1 (Green,
    Hodson, Hanoian 2020). nmi, ari: agreement of clusters and labels without any matching
    (normalized mutual information, adjusted Rand index).
    """

    confusion: np.ndarray
    matching: np.ndarray
    accuracy: float
    unmatched_accuracy: float
    nmi: float
    ari: float


def evaluate(labels: np.ndarray, clusters: np.ndarray, classes: int, count: int) -> Evaluation:
    """Evaluate clusters (n,) in [0, count) by labels (n,) in [0, classes).

    n may be 0; accuracies are then 0.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    table = confusion(labels, clusters, classes, count)
    matching, n = match(table), max(1, len(labels))
    return Evaluation(
        table,
        matching,
        float((matching[clusters] == labels).sum() / n),
        float((clusters == labels).sum() / n),
        float(normalized_mutual_info_score(labels, clusters)),
        float(adjusted_rand_score(labels, clusters)),
    )


def confusion(labels: np.ndarray, clusters: np.ndarray, classes: int, count: int) -> np.ndarray:
    """The number of images of each class in each cluster, (classes, count) int64."""
    return np.bincount(
        labels.astype(np.int64) * count + clusters, minlength=classes * count
    ).reshape(classes, count)


def match(table: np.ndarray) -> np.ndarray:
    """The one-to-one matching with the highest accuracy: the class of each cluster, (clusters,).

    table: counts (classes, clusters). Kuhn 1955, "The Hungarian method", by scipy. If there are
    more clusters than classes, those left over get -1.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    matching = np.full(table.shape[1], -1)
    matching[columns] = rows
    return matching


def warnings(classes: int, count: int) -> list[str]:
    """Warnings that qualify how well `count` clusters fit the classes."""
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
    """A gallery with one row per cluster: its center, if given, then its first images.

    Images with another label are framed. images (n, h, w, c) uint8, clusters (n,), labels (n,) the
    cluster that each image belongs to (None: no frames), centres (count, h, w, c) uint8 → (rows,
    width, 3) uint8. Empty places are dark.
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
