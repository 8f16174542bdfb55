"""Study `features`: fixed features of a whole data set, computed once for all studies.

The features are not released, so the study has no page.
"""

from __future__ import annotations

import numpy as np

from engine.core import parameters
from engine.core.parameters import parameter
from engine.core.study import Phase, Refused, Result
from engine.datasets import registry
from engine.studies import guarantees
from engine.studies.image_study import ImageStudy

MOST_BYTES = 2_500_000_000  # for the features of one data set
MAPS = 81  # per channel; see engine/learning/scattering.py


class Features(ImageStudy):
    """Scattering features of all training and test images, float16, one row per image."""

    NAME, VERSION = "features", 2
    TITLE = "Fixed features of images"
    REMEMBERED = True

    dataset: str = parameters.dataset()
    straighten: bool = parameter(
        "Straighten", True, help="Shear slanted images upright and move them to the middle."
    )

    def check(self, shown) -> None:
        """Refuse what would not fit into memory. shown: the data set's preview or images."""
        h, w, channels = shown.test_images.shape[1:]
        if min(h, w) < 8:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; its images have {h} x {w} pixels, and"
                " fixed wavelets need at least 8 x 8",
            )
        size = (
            2
            * (shown.train_size + len(shown.test_images))
            * MAPS
            * channels
            * -(-h // 4)
            * -(-w // 4)
        )
        if size > MOST_BYTES:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; its features would take {size / 1e9:.1f}"
                f" GB of memory, and {MOST_BYTES / 1e9:.1f} GB are allowed; take the CNN instead",
            )

    def work(self) -> float:
        """The number of pixels."""
        shown = registry.preview(self.dataset)
        return (shown.train_size + len(shown.test_images)) * float(shown.test_images[0].size)

    def typical(self) -> float:
        """Typical seconds; two CPU cores take 16 s for MNIST."""
        return 2.9e-7 * self.work()

    def run(self, lab):
        """Yield progress; return the rows of training and test images, in the data set's order."""
        import torch

        from engine.learning import features

        images = registry.load(self.dataset)
        self.check(images)
        found: dict[str, np.ndarray] = {}
        total, done = len(images.train_images) + len(images.test_images), 0
        for name, pixels in (("train", images.train_images), ("test", images.test_images)):
            begun = 0
            for part in features.features(torch.tensor(pixels), self.straighten, lab.device):
                if name not in found:
                    found[name] = np.empty((len(pixels), part.shape[1]), np.float16)
                found[name][begun : begun + len(part)] = part.numpy()
                begun, done = begun + len(part), done + len(part)
                yield Phase("looking through fixed wavelets", done, total)
        return Result(
            metrics={"features": found["train"].shape[1], "images": total},
            guarantee=NOT_RELEASED,
            arrays=found,
        )


NOT_RELEASED = guarantees.nothing(
    "each image's features, as exact as the image",
    "Features are as private as the images themselves and never leave the machine that trains.",
    unit="one image",
)
