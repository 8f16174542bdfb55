"""Study `backbone`: ImageNet features of all images of a data set, computed once for all studies.

The features are not released, so the study has no page.
"""

from __future__ import annotations

import numpy as np

from engine.core import parameters
from engine.core.parameters import parameter
from engine.core.study import Phase, Refused, Result
from engine.datasets import registry
from engine.studies.image_study import ImageStudy
from engine.studies.shared.features import NOT_RELEASED

BACKBONES = {
    "efficientnet_lite0": "EfficientNet-Lite0 (ImageNet)",
    "vgg16": "VGG16 (ImageNet), as in the report",
}
DIMENSIONS = {"efficientnet_lite0": 1280, "vgg16": 4096}
SECONDS = {"efficientnet_lite0": 0.0045, "vgg16": 0.09}  # per image, on two cores
MOST_BYTES = 1_500_000_000  # for the features of one data set
CHUNK = 500  # images between two progress reports


class Backbone(ImageStudy):
    """Features of all images, float16, one row per image in the data set's order."""

    NAME, VERSION = "backbone", 2
    TITLE = "What a network learned on ImageNet sees"
    REMEMBERED = True

    dataset: str = parameters.dataset()
    network: str = parameter(
        "Backbone",
        "efficientnet_lite0",
        choices=BACKBONES,
        pattern="^(efficientnet_lite0|vgg16)$",
        help="The network whose last layer is taken off.",
    )

    def check(self, shown) -> None:
        """Refuse what would not fit into memory. shown: the data set's preview or images."""
        size = 2 * (shown.train_size + len(shown.test_images)) * DIMENSIONS[self.network]
        if size > MOST_BYTES:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; its features would take {size / 1e9:.1f}"
                f" GB of memory, and {MOST_BYTES / 1e9:.1f} GB are allowed",
            )

    def work(self) -> float:
        """The number of images."""
        shown = registry.preview(self.dataset)
        return shown.train_size + len(shown.test_images)

    def kind(self) -> str:
        """Runs of one kind take time in proportion to their work."""
        return f"{self.NAME}:{self.network}"

    def typical(self) -> float:
        """Typical seconds on two cores."""
        return SECONDS[self.network] * self.work()

    def run(self, lab):
        """Yield progress; return the rows of training and test images."""
        images = registry.load(self.dataset)
        self.check(images)
        yield Phase("fetching the network that looks")
        extract = self.feature_extractor(lab)
        found, total, done = {}, len(images.train_images) + len(images.test_images), 0
        for name, pixels in (("train", images.train_images), ("test", images.test_images)):
            rows = np.empty((len(pixels), DIMENSIONS[self.network]), np.float16)
            for start in range(0, len(pixels), CHUNK):
                part = extract(pixels[start : start + CHUNK])
                rows[start : start + len(part)] = part
                done += len(part)
                yield Phase("looking at the images", done, total)
            found[name] = rows
        return Result(
            metrics={"features": found["train"].shape[1], "images": total},
            guarantee=NOT_RELEASED,
            arrays=found,
        )

    def feature_extractor(self, lab):
        """The network without its last layer: (n, h, w, c) uint8 → (n, d) float32.

        Raises Failed if its weights are not available.
        """
        from engine.learning import feature_extractors

        return feature_extractors.of_backbone(self.network, lab.device)
