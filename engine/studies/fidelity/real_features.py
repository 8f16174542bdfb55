"""Study `real_features`: features of the real images, training and held-out.

They are computed once for all sets that are compared with them. They are not released, so the study
has no page.
"""

from __future__ import annotations

import numpy as np

from engine.core import parameters
from engine.core.parameters import parameter
from engine.core.study import Phase, Refused, Result
from engine.datasets import imaging, registry
from engine.studies.image_study import ImageStudy
from engine.studies.shared import NOT_RELEASED
from engine.studies.synthesis import Classifier, taught

EXTRACTORS = {
    "classifier": "our own network, trained on these images",
    "efficientnet_lite0": "EfficientNet-Lite0 (ImageNet)",
    "inception": "Inception-v3, as FID is defined",
    "inception64": "Inception-v3, its first 64 features (report 4)",
}
DIMENSIONS = {"classifier": 64, "efficientnet_lite0": 1280, "inception": 2048, "inception64": 64}
# per image, on two cores
SECONDS = {
    "classifier": 0.0002,
    "efficientnet_lite0": 0.0045,
    "inception": 0.12,
    "inception64": 0.12,
}
# training images processed over all epochs by our own network, if that is more than one epoch
MOST_TRAINED = 24_000
MOST_BYTES = 250_000_000  # limit on the features of the training images
CHUNK = 500  # images between two progress reports
SIZES = {"32": "32 x 32", "64": "64 x 64"}


class FeatureSettings(ImageStudy):
    """The real images, their format, and the feature extractor.

    Base class of the studies of page Fidelity.
    """

    dataset: str = parameters.dataset()
    size: str = parameter(
        "Size",
        "32",
        choices=SIZES,
        pattern="^(32|64)$",
        help=(
            "Width and height of generated images in pixels. Real images are brought to this size:"
            " framed in black if little is missing, otherwise resized."
        ),
    )
    colour: str = parameter(
        "Colours",
        "grey",
        choices={"grey": "grey", "kept": "as they are"},
        pattern="^(grey|kept)$",
        help="A grey image has a third of the numbers.",
    )
    extractor: str = parameter(
        "Compared by",
        "classifier",
        choices=EXTRACTORS,
        pattern="^(classifier|efficientnet_lite0|inception|inception64)$",
        help=(
            "The feature extractor by which sets of images are compared. Only Inception-v3's"
            " distance may be called FID; its weights (96 MB) are downloaded at the first use, and"
            " it is slow without a graphics card. Distances by different networks cannot be"
            " compared."
        ),
    )

    @property
    def side(self) -> int:
        """Side length in pixels."""
        return int(self.size)

    def canvas(self, images: np.ndarray) -> np.ndarray:
        """Real images in the format of generated ones, (n, side, side, c) uint8."""
        return imaging.canvas(images, self.side, self.colour == "grey")

    def check_seen(self, shown) -> None:
        """Raise Refused if the images cannot be compared. shown: the preview or images."""
        self.classifier(shown.train_size).check_shape(shown)
        if len(shown.test_images) < 2:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; it has {len(shown.test_images)} held-out"
                " images, and fewer than 2 have no spread to compare with",
            )

    def classifier(self, n: int) -> Classifier:
        """Our own network as a feature extractor, sized for n training images.

        It is the same with and without privacy, because it is not part of any release.
        """
        return Classifier(
            dataset=self.dataset,
            epochs=max(1, min(6, round(MOST_TRAINED / max(1, n)))),
            batch_size=max(1, min(100, n)),
        )

    def feature_extractor(self, lab):
        """The feature extractor: a function (n, side, side, c) uint8 → (n, d) float32.

        Trains our own network first if it is the extractor.
        """
        from engine.learning import feature_extractors

        if self.extractor != "classifier":
            yield Phase("fetching the network that compares")
            if self.extractor == "efficientnet_lite0":
                return feature_extractors.efficientnet_lite0(lab.device)
            return feature_extractors.inception(lab.device, DIMENSIONS[self.extractor])
        shown = registry.preview(self.dataset)
        h, _, channels = shown.test_images.shape[1:]
        study = self.classifier(shown.train_size)
        network, scale = taught(study, (yield from lab.need(study)), channels, h, lab.device)
        return feature_extractors.of_classifier(network, scale, h, channels, lab.device)


class RealFeatures(FeatureSettings):
    """Features of training and held-out images, and the order in which they were taken."""

    NAME, VERSION = "real_features", 2
    TITLE = "What a network sees in real images"

    def needs(self) -> tuple:
        """Our own network, if it is the extractor."""
        return (
            (self.classifier(registry.preview(self.dataset).train_size),)
            if self.extractor == "classifier"
            else ()
        )

    def work(self) -> float:
        """The number of images."""
        shown = registry.preview(self.dataset)
        return min(shown.train_size, self.most()) + len(shown.test_images)

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.extractor}"

    def typical(self) -> float:
        """Seconds on two cores."""
        return SECONDS[self.extractor] * self.work() + sum(need.typical() for need in self.needs())

    def most(self) -> int:
        """Maximum number of training images whose features are kept."""
        return MOST_BYTES // (4 * DIMENSIONS[self.extractor])

    def run(self, lab):
        """Yield progress; return features of training and of held-out images.

        Both are in the order of `permutation`, which is kept in the result.
        """
        images = registry.load(self.dataset)
        self.check_seen(images)
        extract = yield from self.feature_extractor(lab)
        order, held_order = (
            permutation(len(part))[: self.most()]
            for part in (images.train_images, images.test_images)
        )
        found, total, done = {}, len(order) + len(held_order), 0
        for name, real in (
            ("train", images.train_images[order]),
            ("held", images.test_images[held_order]),
        ):
            rows = []
            for start in range(0, len(real), CHUNK):
                rows.append(extract(self.canvas(real[start : start + CHUNK])))
                done += len(rows[-1])
                yield Phase("looking at the real images", done, total)
            found[name] = np.concatenate(rows).astype(np.float32)
        return Result(
            metrics={
                "dimensions": found["train"].shape[1],
                "training_images": len(order),
                "held_out_images": len(found["held"]),
            },
            guarantee=NOT_RELEASED,
            arrays=found | {"order": order, "held_order": held_order},
        )


def permutation(n: int) -> np.ndarray:
    """(n,) the order in which images are taken if not all of them are.

    It is always the same and mixes the classes.
    """
    return np.random.default_rng(0).permutation(n)
