"""Study `iic`: clusters found by Invariant Information Clustering in noised or raw images.

Source: report 1 (Green, Hodson, Hanoian 2020); Ji, Henriques, Vedaldi 2019. No label is used in
training or to choose among the sub-heads; labels only evaluate the result.
"""

from __future__ import annotations

import math

import numpy as np

from engine.core import parameters
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.study import Image, Phase, Point, Refused, Result
from engine.datasets import imaging, registry
from engine.evaluation import cautions, scores
from engine.studies.clustering import cluster_matching
from engine.studies.image_study import check_batch
from engine.studies.local_noise import LocalNoise, error

SHOWN = 150  # images whose moves between clusters are shown
MOST_POINTS, MOST_IMAGES = 60, 20  # over a whole run
# as for every training: the most that one user may ask of the shared worker
MOST_STEPS = 100_000
MOST_NUMBERS = 6e8  # in the pool of views; 2.4 GB
WIDTHS = {"conv": 16, "paper": 64}
TURNS = {"together": "all heads in every step", "alternating": "in turns, as the paper"}
NETWORKS = {
    "scattering": "fixed wavelets and a small network",
    "conv": "the paper's convolutions, a quarter as wide",
    "paper": "the paper's convolutions (for a GPU)",
}


class IIC(LocalNoise):
    """Cluster images by invariant information; evaluate the clusters by the true classes."""

    NAME, VERSION = "iic", 4
    TITLE = "Clusters that a network finds by itself (IIC)"
    PRESETS = {
        "quick": {},
        "tiny": {
            "images": "raw",
            "epochs": 6,
            "batch_size": 200,
            "learning_rate": 3e-3,
            "views": 2,
            "sub_heads": 2,
            "over_clusters": 20,
        },
        "raw": {"images": "raw"},
        "report": {
            "dataset": "mnist",
            "network": "paper",
            "epochs": 40,
            "batch_size": 700,
            "learning_rate": 1e-4,
            "sub_heads": 5,
            "views": 5,
            "entropy_weight": 1.0,
            "heads": "alternating",
            "calibration": "textbook",
            "sensitivity": "report",
            "normalisation": "as_published",
            "releases": "as_published",
        },
        "best": {"dataset": "mnist", "images": "raw", "epochs": 16},
    }

    network: str = parameter(
        "Network",
        "scattering",
        choices=NETWORKS,
        pattern="^(scattering|conv|paper)$",
        help=(
            "The feature extractor. The wavelets are fixed. Convolutions are learned, which takes a"
            " GPU or patience."
        ),
    )
    epochs: int = parameters.epochs(120)
    batch_size: int = parameters.batch_size(500)
    learning_rate: float = parameter(
        "Learning rate",
        1e-3,
        low=1e-6,
        high=1.0,
        scale="log",
        help="The initial learning rate of Adam. It falls to 0 along a cosine.",
    )
    sub_heads: int = parameter(
        "Sub-heads",
        20,
        low=1,
        high=32,
        help=(
            "Independent attempts at the clusters on top of one network. The one with the lowest"
            " loss is chosen, without labels. The paper has 5. At most 8 of them have an"
            " over-clustering counterpart."
        ),
    )
    clusters: int = parameter(
        "Clusters",
        0,
        low=0,
        high=1000,
        help="How many clusters to find. 0: as many as there are classes.",
    )
    over_clusters: int = parameter(
        "Over-clusters",
        50,
        low=1,
        high=1000,
        help=(
            "Clusters of the over-clustering heads, which only help the network to learn. If there"
            " are fewer than clusters, as many as clusters are used."
        ),
    )
    views: int = parameter(
        "Views",
        8,
        low=1,
        high=32,
        unit="per image",
        help=(
            "Transformed copies of each image: rotated, shifted, zoomed, sheared, brighter or"
            " darker."
        ),
    )
    entropy_weight: float = parameter(
        "Entropy weight λ",
        1.2,
        low=0.5,
        high=5.0,
        help="How strongly clusters of equal size are rewarded. 1 is plain mutual information.",
    )
    heads: str = parameter(
        "Training of the heads",
        "together",
        choices=TURNS,
        pattern="^(together|alternating)$",
        help=(
            "Main and over-clustering heads together in each step, or in separate passes over the"
            " data, which takes twice as long."
        ),
    )
    releases: str = error(
        "Noise draws",
        "Report 1 drew fresh noise for each transformed copy, in every epoch, and counted one"
        " release. Corrected: each image is noised once, and all copies are made from that.",
    )

    # --- settings ---------------------------------------------------------------------------------

    def clusters_for(self, classes: int) -> int:
        """The number of clusters to find."""
        return self.clusters or classes

    @property
    def release_count(self) -> int:
        """How often each training image is released.

        Once, or, as published, for each view of each epoch. The wavelet features of all views are
        computed once, so with these the epochs share them.
        """
        if self.releases == "corrected" or self.images == "raw":
            return 1
        return (1 + self.views) * (1 if self.network == "scattering" else self.epochs)

    def check(self, shown) -> None:
        """Refuse settings that do not fit the data set, before any computation."""
        n, count = shown.train_size, self.clusters_for(len(shown.classes))
        if count > n:
            raise Refused(
                "clusters",
                f"clusters: {count} is not allowed; {self.dataset} has {n} training images",
            )
        check_batch(self, n)
        if self.batch_size < 2:
            raise Refused(
                "batch_size",
                "batch_size: 1 is not allowed; allowed: at least 2, since a single image tells"
                " nothing of how clusters are filled",
            )
        if (steps := self.epochs * self.passes * (n // self.batch_size)) > MOST_STEPS:
            raise Refused(
                "epochs",
                f"epochs: {self.epochs} at batch size {self.batch_size} is not allowed: {steps:,}"
                f" steps; allowed: at most {MOST_STEPS:,}, so fewer epochs or larger batches",
            )
        if self.network == "scattering" and n * (1 + self.views) * 128 > MOST_NUMBERS:
            raise Refused(
                "views",
                f"views: {self.views} is not allowed for {n:,} images: their features would not"
                f" fit in memory; allowed: at most {max(1, int(MOST_NUMBERS / 128 / n) - 1)}",
            )

    def fitting(self, shown) -> dict:
        """Limit clusters and batch size to the number of training images."""
        found = super().fitting(shown)
        return found | (
            {"clusters": len(shown.classes)} if self.clusters > shown.train_size else {}
        )

    @property
    def passes(self) -> int:
        """Passes over the images in an epoch."""
        return 2 if self.heads == "alternating" else 1

    def work(self) -> float:
        """Images processed; with wavelets each view once, and then thirty times as fast."""
        n = registry.preview(self.dataset).train_size
        if self.network == "scattering":
            return n * (1 + self.views + self.epochs * self.passes * (2 + self.sub_heads) / 30)
        return n * (1 + self.views) * self.epochs * self.passes

    def kind(self) -> str:
        """Runs of one kind take time in proportion to their work."""
        return f"{self.NAME}:{self.dataset}:{self.network}"

    def chance(self) -> float:
        """The accuracy of always predicting the most frequent class."""
        return scores.guessing(registry.preview(self.dataset).test_labels)

    def guarantee(self):
        """The guarantee for the owner of a training image, over all its releases."""
        if self.images == "raw":
            return self.image_guarantee(
                more=(
                    "Clusters of images that were not noised are not protected, and neither are"
                    " labels made of them."
                )
            )
        return self.image_guarantee(
            self.release_count,
            more=(
                "The clusters, the network and labels made of them are computed from the noised"
                " images alone: post-processing, which costs nothing more. True labels only judge"
                " the clusters; accuracies and confusion matrices use them and are not covered."
            ),
        )

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield each sub-head's loss and matched error, and previews; return the chosen clusters.

        The previews show images moving between clusters.
        """
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        yield Phase("noising the images" if self.images == "noised" else "preparing the images")
        run = Run(self, images, lab.device)
        yield from run.prepare()
        yield from run.train()
        yield Phase("judging the clusters")
        return run.result()


class Run:
    """The state of one run of the study, and its previews."""

    def __init__(self, study: IIC, images, device):
        self.study, self.images, self.device = study, images, device
        self.classes, self.count = len(images.classes), study.clusters_for(len(images.classes))
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.first = self.release(0)
        if bool((self.first == self.first[:1]).all()):
            raise Failed(
                "All training images are the same, so there is nothing to tell apart. Choose"
                " other images."
            )

    def release(self, draw: int):
        """The training images (n, c, h, w) on the device, as released in one noise draw.

        Everything else (lengths, whitening, clusters) is computed from them alone: post-processing,
        which costs no privacy.
        """
        if self.study.releases == "corrected" or self.study.images == "raw":
            draw = 0
        if draw == 0 and hasattr(self, "first"):
            return self.first
        return self._fitted(self.images.train_images, "train", draw)

    def _fitted(self, shown: np.ndarray, part: str, draw: int = 0):
        import torch

        from engine.studies.clustering.invariant_information import fitted

        pixels = torch.from_numpy(self.study.released(shown, part, draw))
        return torch.cat([fitted(some.to(self.device)) for some in pixels.split(10_000)])

    def prepare(self):
        """Create the views and the untrained network."""
        from engine.studies.clustering.invariant_information import (
            Clustering,
            ImageViews,
            ScatteredViews,
        )

        study = self.study
        fresh = study.releases == "as_published" and study.images == "noised"
        self.views = (
            ScatteredViews(study.views, study.seed, self.device)
            if study.network == "scattering"
            else ImageViews(study.views, WIDTHS[study.network], fresh, study.seed)
        )
        for done, total in self.views.prepare(self.release):
            yield Phase("looking at the images", done, total)
        self.clustering = Clustering(
            study, self.views, self.count, study.heads == "alternating", self.device
        )

    def train(self):
        """Train all epochs."""
        study, clustering = self.study, self.clustering
        each = clustering.steps * study.passes
        points, shown = (
            math.ceil(study.epochs / MOST_POINTS),
            math.ceil(study.epochs / MOST_IMAGES),
        )
        for epoch in range(1, study.epochs + 1):
            for step in clustering.epoch():
                yield Phase("learning", (epoch - 1) * each + step, each * study.epochs)
            if epoch % points == 0 or epoch % shown == 0 or epoch == study.epochs:
                yield from self._points(epoch)
            if epoch % shown == 0 or epoch == study.epochs:
                yield from (
                    Image(name, png)
                    for name, png in self.drawn(least_of(clustering.losses.tolist())).items()
                )

    def _points(self, epoch: int):
        """Yield a point for each sub-head's loss and its matched error.

        True labels are used only for this evaluation.
        """
        self.assigned = self.clustering.assigned(self.views.originals()).cpu().numpy()
        for head, (loss, found) in enumerate(zip(self.clustering.losses.tolist(), self.assigned)):
            wrong = 1 - matched_share(self.images.train_labels, found, self.classes, self.count)
            for name, value in ((f"loss_head_{head}", loss), (f"error_head_{head}", wrong)):
                self.curves.setdefault(name, []).append((float(epoch), float(value)))
                yield Point(name, float(epoch), float(value))

    def drawn(self, head: int) -> dict[str, bytes]:
        """Previews of one sub-head: fixed images in their current clusters; confusion matrix."""
        rows = np.linspace(
            0, len(self.images.train_images) - 1, min(SHOWN, len(self.images.train_images))
        ).astype(int)
        found = self.assigned[head]
        table = cluster_matching.confusion(
            self.images.train_labels, found, self.classes, self.count
        )
        order = cluster_matching.order(cluster_matching.match(table))
        # the row of each cluster, in the order of the classes that they stand for
        place = np.argsort(order)
        shown = self.first[rows].permute(0, 2, 3, 1).cpu().numpy()
        sheet = cluster_matching.sheet(
            np.stack([imaging.stretch(p) for p in shown]), place[found[rows]], self.count
        )
        return {"moving": imaging.png(sheet), "confusion": imaging.png(heat(table[:, order]))}

    # --- result -----------------------------------------------------------------------------------

    def result(self) -> Result:
        """The clusters of the sub-head with the lowest loss, evaluated by true labels."""
        losses = self.clustering.final_losses().tolist()
        head = least_of(losses)
        labels, found = self.images.train_labels, self.assigned[head]
        evaluation = cluster_matching.evaluate(labels, found, self.classes, self.count)
        test = self.clustering.assigned(self.test_inputs()).cpu().numpy()[head]
        accuracies = [
            matched_share(labels, each, self.classes, self.count) for each in self.assigned
        ]
        right = evaluation.matching[test] == self.images.test_labels
        beside = scores.beside(labels, evaluation.matching[found], "matched_accuracy")
        metrics = beside | {
            "matched_accuracy": evaluation.accuracy,
            "test_accuracy": float(right.mean()),
            "nmi": evaluation.nmi,
            "ari": evaluation.ari,
            "unmatched_accuracy": evaluation.unmatched_accuracy,
            "loss": losses[head],
            "best_matched_accuracy": max(accuracies),
            "releases": self.study.release_count,
        }
        return Result(
            metrics=metrics,
            guarantee=self.study.guarantee(),
            curves=self.curves,
            images=self.drawn(head),
            arrays={
                "labels": found.astype(np.int16),
                "test_clusters": test.astype(np.int16),
                "confusion": evaluation.confusion,
                "matching": evaluation.matching.astype(np.int16),
            },
            facts=self.facts(head, losses, accuracies),
        )

    def test_inputs(self):
        """The test images as the network sees them, with their own noise draw if noised."""
        import torch

        shown = self._fitted(self.images.test_images, "test")
        return torch.cat([self.views.inputs(part) for part in shown.split(10_000)])

    def facts(self, head: int, losses: list[float], accuracies: list[float]) -> dict:
        """The settings used and each sub-head's figures.

        best_head is chosen with labels, for comparison only.
        """
        sigma = self.study.sigma(self.study.epsilon) if self.study.images == "noised" else 0.0
        return {
            "network": NETWORKS[self.study.network],
            "clusters": self.count,
            "over_clusters": max(self.count, self.study.over_clusters),
            "chosen_head": head,
            "best_head": int(np.argmax(accuracies)),
            "head_losses": losses,
            "head_accuracies": accuracies,
            "classes": list(self.images.classes),
            "sigma": sigma,
            "weights": sum(p.numel() for p in self.clustering.trunk.parameters()),
            "warnings": self.warnings(losses[head]),
        }

    def warnings(self, loss: float) -> list[str]:
        """Warnings that qualify the figures. loss: of the chosen sub-head."""
        labels, names = self.images.train_labels, self.images.classes
        return [
            *self.study.formula_warnings(self.study.release_count),
            *cluster_matching.warnings(self.classes, self.count),
            *cautions.uninformed(loss, self.count, self.study.entropy_weight),
            *cautions.of(self.images),
            *scores.warnings(labels, names, "training"),
        ]


# --- evaluation and drawing -----------------------------------------------------------------------


def least_of(losses: list[float]) -> int:
    """The sub-head with the lowest loss; NaN and infinite losses are never the lowest.

    Raises Failed if no loss is finite.
    """
    if not np.isfinite(losses).any():
        raise Failed(
            "The training diverged: no sub-head's loss is a number any more. "
            "Take a smaller learning rate."
        )
    return int(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))


def matched_share(labels: np.ndarray, found: np.ndarray, classes: int, count: int) -> float:
    """The accuracy in [0, 1] of the clusters under the best one-to-one matching with classes."""
    table = cluster_matching.confusion(labels, found, classes, count)
    matching = cluster_matching.match(table)
    matched = np.flatnonzero(matching >= 0)
    return float(table[matching[matched], matched].sum() / max(1, len(labels)))


def heat(table: np.ndarray, pixels: int = 280) -> np.ndarray:
    """A heat map of a confusion matrix: (classes, clusters) counts → (h, w, 3) uint8.

    It shows the fraction of each class in each cluster, from white for none to dark blue for all.
    """
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    colours = 255 + shares[..., None] * (np.array([8, 48, 107]) - 255)
    factor = max(1, pixels // max(table.shape))
    return colours.round().astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
