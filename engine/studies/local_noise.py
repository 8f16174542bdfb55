"""Local noise: each image is noised by its client before anybody else sees it.

This is the mechanism of report 1 (Green, Hodson, Hanoian 2020). An image is scaled to unit length,
u = x/‖x‖₂, and N(0, σ²) is added to each pixel; negative values are set to 0, which is
post-processing. Each image is released once: whatever is trained or clustered on the released
images afterwards has no further privacy cost.

The report's own errors are fields with the values as_published and corrected, to make it possible
to switch on each separately.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from engine import privacy
from engine.core import parameters, rounding
from engine.core.parameters import parameter
from engine.core.streams import derive_seed
from engine.core.study import Guarantee
from engine.datasets import imaging, registry
from engine.privacy.noise import GaussianNoise
from engine.studies import guarantees
from engine.studies.image_study import ImageStudy

REPLACE_ONE = math.sqrt(2)  # the largest distance between two non-negative unit vectors
CHUNK = 1000  # images noised at a time
REPORT_BATCH = 700  # images that shared one norm in the report's IIC code
ERRORS = {"corrected": "corrected", "as_published": "as published"}


def error(title: str, help: str):
    """A field for one error of a report's pipeline; its default is the corrected version."""
    return parameter(
        title, "corrected", choices=ERRORS, pattern="^(corrected|as_published)$", help=help
    )


class Gaussian(ImageStudy):
    """The strength of the noise on an image: ε, δ, formula and sensitivity.

    A base class for studies, not a study itself.
    """

    epsilon: float = parameter(
        "Privacy budget ε for the image",
        1925.0,
        low=0.1,
        high=200_000.0,
        scale="log",
        ends=("more private", "more visible"),
        help="How much the noised image may reveal. Every step to the left means more noise.",
    )
    delta: float = parameters.delta(1 / 784**2)
    calibration: str = parameter(
        "Noise formula",
        "exact",
        choices={
            "exact": "exact (Balle and Wang 2018)",
            "textbook": "textbook, as in report 1",
        },
        pattern="^(exact|textbook)$",
        help=(
            "The textbook formula is proved only for ε below 1. Above, it adds too little noise for"
            " its nominal ε."
        ),
    )
    sensitivity: str = parameter(
        "Sensitivity",
        "replace",
        choices={"replace": "√2: one image for another", "report": "1, as in report 1"},
        pattern="^(replace|report)$",
        help=(
            "The largest distance between two images of length 1. For images without negative"
            " pixels it is √2."
        ),
    )

    def sigma(self, epsilon: float) -> float:
        """Standard deviation of the noise on each pixel of the unit-length image."""
        formula = {"exact": privacy.gaussian_sigma, "textbook": privacy.textbook_sigma}[
            self.calibration
        ]
        return formula(
            epsilon, self.delta, {"replace": REPLACE_ONE, "report": 1.0}[self.sensitivity]
        )

    def earned(self, epsilon: float, releases: int = 1) -> float:
        """The ε that the noise named `epsilon` gives when one image is replaced by another.

        It covers `releases` independent draws on the same image, which together reveal as much as
        one with σ/√releases.
        """
        return privacy.gaussian_epsilon(
            self.sigma(epsilon), self.delta, REPLACE_ONE * math.sqrt(releases)
        )

    def formula_warnings(self, releases: int = 1) -> list[str]:
        """A warning if a formula names another ε than its noise gives."""
        if self.proved:
            return []
        sigma, earned = self.sigma(self.epsilon), self.earned(self.epsilon, releases)
        return [
            f"With this formula, ε = {rounding.chosen(self.epsilon)} is only nominal: the actual ε"
            f" of its σ = {rounding.described(sigma)} is {rounding.epsilon(earned)}, for one image"
            " replaced by another."
        ]

    @property
    def proved(self) -> bool:
        """Whether the noise actually gives the ε that is named."""
        return self.calibration == "exact" and self.sensitivity == "replace"


class LocalNoise(Gaussian):
    """A data set whose images are noised locally, or not.

    A base class for studies, not a study itself.
    """

    dataset: str = parameters.dataset()
    images: str = parameter(
        "Images are",
        "noised",
        choices={"noised": "noised", "raw": "as they are"},
        pattern="^(noised|raw)$",
        help="What leaves the phones: noised images, or the images themselves.",
    )
    normalisation: str = error(
        "Unit length",
        "Report 1's clustering code scaled 700 images together to length 1 instead of each, so"
        " that the noise on each image was √700 = 26 times stronger than intended.",
    )
    seed: int = parameters.seed()

    def released(self, shown: np.ndarray, part: str, draw: int = 0) -> np.ndarray:
        """What the clients release: (n, h, w, c) uint8 → float32 of the same shape, non-negative.

        Noised: unit length plus noise, with negative values set to 0. Raw: pixels in [0, 1]. Each
        `part` ("train", "test") and each `draw` has its own noise. Noise is drawn and added in
        float64 by engine.privacy.noise, and each pixel is rounded once.
        """
        if self.images == "raw":
            return shown.astype(np.float32) / 255
        # images that share a length affect each other's release, so the seed depends on them
        first = hashlib.sha256(shown[: self._share()].tobytes()).hexdigest()
        sampler = GaussianNoise(self.release_seed(f"{part} images from {first}, draw {draw}"))
        sigma, clean = self.sigma(self.epsilon), self.clean(shown)
        for place in (slice(start, start + CHUNK) for start in range(0, len(clean), CHUNK)):
            noised = sampler.array(clean[place].shape)
            noised *= sigma
            noised += clean[place]
            clean[place] = np.maximum(noised, 0, out=noised)
        return clean

    def _share(self) -> int:
        """How many images share one length."""
        return REPORT_BATCH if self.normalisation == "as_published" else 1

    def release_seed(self, purpose: str) -> int:
        """The seed for the noise of one release, derived from all that the release depends on.

        Studies that merely use the images differently get the very same release, which is then
        accounted for once; a release at another ε, or of other images, shares no draw with it.
        """
        name = (
            f"{registry.fingerprint(self.dataset)} σ {self.sigma(self.epsilon)!r}"
            f" {self.normalisation}"
        )
        return derive_seed(f"local noise on {purpose}", self.seed, name)

    def sample(self, noised: bool = True) -> bytes:
        """PNG of the first 60 training images, as released by the clients or before.

        If 700 images share a length, these are repeated to make 700: a different release, with its
        own noise.
        """
        first = registry.preview(self.dataset).train_images
        # as many as share a length in the mode as_published
        many = np.resize(first, (REPORT_BATCH, *first.shape[1:]))
        shown = (
            np.stack([imaging.stretch(one) for one in self.released(many, "train")[: len(first)]])
            if noised
            else first
        )
        return imaging.png(imaging.gallery(shown, columns=10))

    def clean(self, shown: np.ndarray) -> np.ndarray:
        """The images before the noise, (n, h, w, c) float32.

        Each image, or 700 of them together, is of unit length.
        """
        group = self._share()
        pixels = shown.astype(np.float32).reshape(len(shown), -1)
        squares = np.square(pixels).sum(1)
        squares = (
            np.repeat(np.add.reduceat(squares, np.arange(0, len(pixels), group)), group)[
                : len(pixels)
            ]
            if len(pixels)
            else squares
        )
        # A black image has no direction and stays all zeros. Lengths are slightly below 1, which
        # keeps float32 rounding from putting two images farther apart than √2.
        pixels /= np.sqrt(np.maximum(squares, 1e-30))[:, None] * np.float32(1 + 1e-6)
        return pixels.reshape(shown.shape)

    def formula_warnings(self, releases: int = 1) -> list[str]:
        """The inherited warnings; none if nothing is noised."""
        return [] if self.images == "raw" else super().formula_warnings(releases)

    def image_guarantee(
        self, releases: int = 1, unit: str = "the pixels of one training image", more: str = ""
    ) -> Guarantee:
        """The guarantee that the noise gives the owner of an image; `more` is added to the note."""
        if self.images == "raw":
            return guarantees.nothing(
                "the images are not noised",
                f"Nothing is promised to anyone in the data. {more}".strip(),
                unit=unit,
                sampling="none: every image is used",
            )
        composed = f", {releases:,} releases composed exactly" if releases > 1 else ""
        return guarantees.gaussian(
            self.sigma(self.epsilon),
            self.delta,
            REPLACE_ONE * math.sqrt(releases),
            unit=unit,
            words=self._mechanism_words(releases),
            accountant=guarantees.EXACT_CURVE + composed,
            sampling="none: every image is released",
            releases=releases,
            note=self._guarantee_note(more),
            neighbours=(
                "one image replaced by any other (distance at most √2 for images of unit length"
                " without negative pixels)"
            ),
            against="anyone who sees all noised images and whatever was made of them",
        )

    def _mechanism_words(self, releases: int) -> str:
        """What is noised, by how much, and how often."""
        sigma = self.sigma(self.epsilon)
        together = self.normalisation == "as_published"
        what = "700 images of unit length together" if together else "the unit-length image"
        times = "once" if releases == 1 else f"{releases:,} times, each with fresh noise"
        return (
            f"Gaussian noise, σ = {rounding.described(sigma)} on each pixel of {what},"
            f" released {times}"
        )

    def _guarantee_note(self, more: str) -> str:
        """What to know about the guarantee of noised images."""
        named = (
            f"The chosen formula names ε = {rounding.chosen(self.epsilon)}; the ε stated here is"
            " the one that its σ really gives."
        )
        shared = (
            "700 images share one length here: the bound of √2 still holds, and a typical image"
            " is hidden far better than ε says; but somebody must see all 700 to compute that"
            " length, so the noise is not added on the phones any more."
        )
        parts = (
            "" if self.proved else named,
            shared if self.normalisation == "as_published" else "",
            more,
            "A simulation: whoever knows the seed can take the noise away again.",
        )
        return " ".join(filter(None, parts))
