"""Study `kmeans_labels`: K-means clusters of images, noised or not, without any label.

Source: report 1 (Green, Hodson, Hanoian 2020), figure 3. Lloyd's algorithm by scikit-learn runs a
few iterations at a time, which makes it possible to watch the centers sharpen.
"""

from __future__ import annotations

import numpy as np

from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.study import Image, Phase, Point, Refused, Result
from engine.datasets import imaging, registry
from engine.evaluation import cautions, scores
from engine.studies.clustering import cluster_matching
from engine.studies.local_noise import LocalNoise

ITERATIONS = 100  # largest number; 60,000 digits settle after 40 to 100
CHUNK = 10  # iterations between two previews
SHOWN = 20  # images of each cluster in the gallery
FREE = (
    "The clusters were found in the noised images alone: that is post-processing and costs no"
    " further privacy. True labels only judge them: accuracies, matching and confusion matrix use"
    " them, and the gallery shows the owners' own images; neither is covered."
)
NO_PROMISE = "Labels found by clustering images that were not noised carry no promise either."


class KMeansLabels(LocalNoise):
    """Cluster the training images; evaluate by true labels, before and after matching."""

    NAME, VERSION = "kmeans_labels", 4
    TITLE = "Labels by K-means"
    PRESETS = {
        "quick": {},
        "tiny": {"clusters": 4, "starts": 1},
        "report": {"dataset": "mnist", "calibration": "textbook", "sensitivity": "report"},
        "best": {"dataset": "mnist"},
    }

    clusters: int = parameter(
        "Clusters",
        0,
        low=0,
        high=300,
        help="How many clusters to find. 0: as many as there are classes.",
    )
    starts: int = parameter(
        "Starts",
        4,
        low=1,
        high=20,
        help=(
            "How often to start again from other initial centres. The run with the smallest spread"
            " within its clusters is kept, without labels."
        ),
    )

    def check(self, shown) -> None:
        """Refuse more clusters than training images."""
        count = self.clusters or len(shown.classes)
        if count > shown.train_size:
            raise Refused(
                "clusters",
                f"clusters: {count} is not allowed; {self.dataset} has {shown.train_size} training"
                " images",
            )

    def fitting(self, shown) -> dict:
        """Limit the number of clusters to the number of training images."""
        return {"clusters": len(shown.classes)} if self.clusters > shown.train_size else {}

    def work(self) -> float:
        """Starts times images times clusters."""
        shown = registry.preview(self.dataset)
        return self.starts * shown.train_size * (self.clusters or len(shown.classes))

    def kind(self) -> str:
        """Runs of one kind take time in proportion to their work."""
        return f"{self.NAME}:{self.dataset}"

    def run(self, lab):
        """Yield centers and inertia as they settle; return clusters, matching and metrics."""
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        count = self.clusters or len(images.classes)
        yield Phase("noising the images")
        train = self.released(images.train_images, "train").reshape(len(images.train_images), -1)
        if not train.any():
            raise Failed("All training images are black: there is nothing to cluster.")
        model, curves = yield from self._cluster(train, images.train_images, count)
        test = self.released(images.test_images, "test").reshape(len(images.test_images), -1)
        return self._result(images, model, curves, model.predict(test), count)

    def _cluster(self, train: np.ndarray, pixels: np.ndarray, count: int):
        """Run several starts; keep the one with the lowest inertia, never chosen by labels.

        Returns (fitted KMeans, curves).
        """
        best = None
        curves: dict[str, list[tuple[float, float]]] = {}
        for start in range(self.starts):
            model = yield from self._settle(train, count, start, curves)
            if best is None or model.inertia_ < best.inertia_:
                best = model
                yield Image(
                    "clusters", self._gallery(pixels, model.labels_, model.cluster_centers_, None)
                )
        return best, curves

    def _settle(self, train: np.ndarray, count: int, start: int, curves: dict):
        """K-means++ (Arthur and Vassilvitskii 2007), then Lloyd's iterations until nothing moves.

        Returns the fitted KMeans.
        """
        from sklearn.cluster import KMeans, kmeans_plusplus

        centres, _ = kmeans_plusplus(
            train, count, random_state=np.random.RandomState([self.seed, start])
        )
        for done in range(CHUNK, ITERATIONS + 1, CHUNK):
            model = KMeans(count, init=centres, n_init=1, max_iter=CHUNK, tol=0).fit(train)
            centres = model.cluster_centers_
            curves.setdefault(f"inertia_{start + 1}", []).append(
                (float(done), float(model.inertia_ / len(train)))
            )
            yield Point(f"inertia_{start + 1}", *curves[f"inertia_{start + 1}"][-1])
            yield Phase(
                f"clustering, start {start + 1} of {self.starts}",
                start * ITERATIONS + done,
                self.starts * ITERATIONS,
            )
            if model.n_iter_ < CHUNK:
                break
        return model

    def _gallery(
        self, pixels: np.ndarray, found: np.ndarray, centres: np.ndarray, belongs: np.ndarray | None
    ) -> bytes:
        """PNG with one row per cluster, its center first.

        pixels (n, h, w, c) are the owners' own images, for display only.
        """
        drawn = [imaging.stretch(c.reshape(pixels.shape[1:]).clip(0)) for c in centres]
        return imaging.png(
            cluster_matching.sheet(pixels, found, len(centres), belongs, np.stack(drawn), SHOWN)
        )

    def _result(self, images, model, curves, test_found: np.ndarray, count: int) -> Result:
        found = model.labels_.astype(np.int64)
        evaluation = cluster_matching.evaluate(
            images.train_labels, found, len(images.classes), count
        )
        matching = evaluation.matching
        test_right = (
            float((matching[test_found] == images.test_labels).mean()) if len(test_found) else 0.0
        )
        return Result(
            metrics=scores.beside(images.train_labels, matching[found], "matched_accuracy")
            | {
                "matched_accuracy": evaluation.accuracy,
                "unmatched_accuracy": evaluation.unmatched_accuracy,
                "test_accuracy": test_right,
                "nmi": evaluation.nmi,
                "ari": evaluation.ari,
                "inertia": float(model.inertia_ / len(found)),
            },
            guarantee=self.image_guarantee(more=FREE if self.images == "noised" else NO_PROMISE),
            curves=curves,
            images={"clusters": self._matched_gallery(images, model, matching)},
            arrays={
                "labels": found.astype(np.int16),
                "test_labels": test_found.astype(np.int16),
                "confusion": evaluation.confusion,
                "matching": matching,
                "centres": model.cluster_centers_.astype(np.float32),
            },
            facts={
                "classes": list(images.classes),
                "clusters": count,
                "warnings": [
                    *self.formula_warnings(),
                    *cluster_matching.warnings(len(images.classes), count),
                    *cautions.of(images),
                    *scores.warnings(images.train_labels, images.classes, "training"),
                ],
                "shape": list(images.train_images.shape[1:]),
            },
        )

    def _matched_gallery(self, images, model, matching: np.ndarray) -> bytes:
        """The gallery with its rows in the order of the classes that they stand for."""
        arranged = cluster_matching.order(matching)
        return self._gallery(
            images.train_images,
            np.argsort(arranged)[model.labels_],
            model.cluster_centers_[arranged],
            _rows_of_labels(images.train_labels, matching[arranged]),
        )


def _rows_of_labels(labels: np.ndarray, standing_for: np.ndarray) -> np.ndarray:
    """The gallery row that each image with labels (n,) belongs to; -1 if no row has its label."""
    row_of = np.full(int(max(labels.max(initial=0), standing_for.max(initial=0))) + 1, -1)
    rows = np.flatnonzero(standing_for >= 0)
    row_of[standing_for[rows]] = rows
    return row_of[labels]
