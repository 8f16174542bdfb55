"""Study `noise`: one image and its label, released once under local noise.

Source: report 1 (Green, Hodson, Hanoian 2020), figure 1. The image is scaled to unit length,
x/‖x‖₂, and Gaussian noise of standard deviation σ is added to each pixel; negative values are set
to 0, which is post-processing. The label goes through k-ary randomized response.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from engine import privacy
from engine.core import parameters, rounding
from engine.core.parameters import dataset, parameter, seed
from engine.core.streams import derive_seed
from engine.core.study import Guarantee, Image, Refused, Result
from engine.datasets import imaging, registry, source
from engine.privacy.noise import GaussianNoise
from engine.studies.local_noise import REPLACE_ONE, Gaussian

STRIP = (10.0, 150.0, 500.0, 3000.0, 5000.0, 200_000.0)  # the report's figure 1
SHOWN = 280  # side of a displayed image in screen pixels


class Noise(Gaussian):
    """Release one image under the Gaussian mechanism and its label by randomized response."""

    NAME, VERSION, INSTANT = "noise", 4, True
    TITLE = "Noise on one image"
    PRESETS = {
        "quick": {},
        "report": {
            "epsilon": 1925.0,
            "label_epsilon": 75.0,
            "calibration": "textbook",
            "sensitivity": "report",
        },
    }

    dataset: str = dataset()
    category: int = parameter(
        "Class", 3, low=0, high=299, help="The class of the image, counted from 0."
    )
    index: int = parameter(
        "Which one",
        0,
        low=0,
        high=99_999,
        help="The number of the image in its class, counted from 0.",
    )
    label_epsilon: float = parameter(
        "Privacy budget ε for the label",
        3.0,
        low=0.01,
        high=100.0,
        scale="log",
        ends=("more private", "more truthful"),
        help=(
            "A biased coin decides whether the true label is reported or another one. The smaller"
            " ε, the more often another one."
        ),
    )
    seed: int = seed()

    def run(self, lab):
        """Yield the noised image; return the release of one image of the data set."""
        images = registry.load(self.dataset)
        image, label = self.pick(images)
        result = self.release(image, label, images.classes)
        yield Image("noised", result.images["noised"])
        return result

    def fitting(self, shown) -> dict:
        """Replacements for a class or an image that the data set does not have."""
        category = source.tested_class(shown, self.category)
        found = {
            "category": category,
            "index": min(self.index, int((shown.test_labels == category).sum()) - 1),
        }
        return {name: value for name, value in found.items() if value != getattr(self, name)}

    def pick(self, images: source.Images) -> tuple[np.ndarray, int]:
        """The chosen test image (h, w, c) uint8 and its label.

        Raises Refused if the class has no such image.
        """
        if self.category >= len(images.classes):
            raise Refused(
                "category",
                f"category: {self.category} is not allowed; {self.dataset} has the classes "
                f"0 to {len(images.classes) - 1}",
            )
        rows = np.flatnonzero(images.test_labels == self.category)
        if not len(rows):
            raise Refused(
                "category",
                f"category: {self.category} is not allowed; {self.dataset} has no test image of "
                f"class {images.classes[self.category]}",
            )
        if self.index >= len(rows):
            raise Refused(
                "index",
                f"index: {self.index} is not allowed; class {images.classes[self.category]} of "
                f"{self.dataset} has the images 0 to {len(rows) - 1}",
            )
        return images.test_images[rows[self.index]], self.category

    def release(self, image: np.ndarray, label: int, classes: tuple[str, ...]) -> Result:
        """Release an image (h, w, c) uint8 and its label; measure privacy loss and similarity."""
        unit = unit_length(image)
        released = {e: self._noised(unit, e) for e in {*STRIP, self.epsilon}}
        coins = np.random.default_rng(
            self._seed(unit, f"label {label} of {len(classes)} at ε {self.label_epsilon!r}")
        )
        released_label = int(
            privacy.sample_randomized_response(
                np.array(label), self.label_epsilon, len(classes), coins
            )
        )
        noised = released[self.epsilon]
        shown = {
            "original": imaging.png(image, SHOWN),
            "noised": imaging.png(imaging.stretch(noised), SHOWN),
        }
        shown |= {
            f"strip_{parameters.number(e)}": imaging.png(imaging.stretch(released[e]), 112)
            for e in STRIP
        }
        return Result(
            metrics=self._metrics(unit, noised, len(classes)),
            guarantee=self.guarantee(len(classes)),
            arrays={"released": noised.astype(np.float32)},
            images=shown,
            facts={
                "label": classes[label],
                "released_label": classes[released_label],
                "classes": len(classes),
                "shape": list(image.shape),
                "warnings": self.formula_warnings(),
            },
        )

    def _noised(self, unit: np.ndarray, epsilon: float) -> np.ndarray:
        """The release at one ε, float64, non-negative.

        Each ε has its own noise, by engine.privacy.noise.
        """
        sigma = self.sigma(epsilon)
        sampler = GaussianNoise(self._seed(unit, f"image at σ {sigma!r}"))
        return np.maximum(unit + sigma * sampler.array(unit.shape), 0)

    def _seed(self, unit: np.ndarray, purpose: str) -> int:
        """A random stream that no release of another image or at another strength shares."""
        return derive_seed(purpose, self.seed, hashlib.sha256(unit.tobytes()).hexdigest())

    def _metrics(self, unit: np.ndarray, noised: np.ndarray, classes: int) -> dict[str, float]:
        sigma = self.sigma(self.epsilon)
        keep = privacy.randomized_response(self.label_epsilon, classes).keep
        return {
            "sigma": sigma,
            "noise_norm": sigma * math.sqrt(unit.size),
            "signal_norm": float(np.linalg.norm(unit)),
            "snr_db": float(10 * np.log10(max(np.sum(unit**2), 1e-300) / (sigma**2 * unit.size))),
            "psnr_db": imaging.psnr(unit, noised),
            "ssim": imaging.ssim(unit, noised),
            "epsilon_named": self.epsilon,
            "epsilon_image": self.earned(self.epsilon),
            "odds_image": privacy.odds_gaussian(sigma, REPLACE_ONE),
            "label_keep_probability": keep,
            "epsilon_label": self.label_epsilon,
            "odds_label": privacy.odds_randomized_response(self.label_epsilon, classes),
        }

    def guarantee(self, classes: int) -> Guarantee:
        """The guarantee for image and label: the ε that σ actually gives, plus the label's."""
        sigma = self.sigma(self.epsilon)
        total = self.earned(self.epsilon) + self.label_epsilon
        return Guarantee(
            unit="one image and its label",
            epsilon=total,
            delta=self.delta,
            mechanism=(
                f"Gaussian noise, σ = {rounding.described(sigma)} on the unit-length image;"
                " randomised response on the label"
            ),
            accountant=(
                "exact Gaussian curve (Balle and Wang 2018) plus the label's ε (basic composition)"
            ),
            sampling="none: every image is released",
            sample_rate=None,
            steps=1,
            note=self._note(),
            neighbours=(
                "the image and its label replaced by any other image and label (distance at"
                " most √2)"
            ),
            against="anyone who sees the released image and label, whatever else they know",
            also_released=(
                "the size of the image. This page also shows the original and releases at other"
                " strengths, which add up: a real release would show one noised image only"
            ),
            odds_any=privacy.odds_any(total, self.delta),
            odds_mechanism=privacy.odds_pair(sigma, REPLACE_ONE, self.label_epsilon, classes),
        )

    def _note(self) -> str:
        simulated = "A simulation: whoever knows the seed can take the noise away again."
        if self.proved:
            return simulated
        return (
            f"The chosen formula names ε = {rounding.chosen(self.epsilon)} for the image; the ε"
            " stated here is the one that its σ really gives when one image is replaced by"
            f" another. {simulated}"
        )


def unit_length(image: np.ndarray) -> np.ndarray:
    """Scale an image (h, w, c) uint8 to floats of Euclidean length 1.

    A black image has no direction and stays all zeros.
    """
    pixels = image.astype(np.float64)
    norm = np.linalg.norm(pixels)
    return pixels / norm if norm > 0 else pixels
