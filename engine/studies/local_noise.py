"""Local noise: every picture is noised on its owner's phone, before anybody else sees it (report
1).

A picture is scaled to unit length, u = x/‖x‖₂, and N(0, σ²) is added to each pixel; what falls
below 0 is set to 0, which is post-processing. One release a picture: whatever is trained or
clustered on the released pictures afterwards costs nothing.

The report's own errors are fields with the values as_published and corrected, so that each can be
switched on by itself.
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
from engine.studies.image_study import ImageStudy

REPLACE_ONE = math.sqrt(2)  # the farthest two non-negative unit vectors can be apart
CHUNK = 1000  # images noised at a time
REPORT_BATCH = 700  # pictures that shared one norm in the report's IIC code
ERRORS = {"corrected": "corrected", "as_published": "as published"}


def error(title: str, help: str):
    """A field for one error of a report's pipeline: corrected unless asked for."""
    return parameter(
        title, "corrected", choices=ERRORS, pattern="^(corrected|as_published)$", help=help
    )


class Gaussian(ImageStudy):
    """How much noise a picture gets: ε, δ, formula and sensitivity.

    A base for studies, not one itself.
    """

    epsilon: float = parameter(
        "Privacy budget ε for the picture",
        1925.0,
        low=0.1,
        high=200_000.0,
        scale="log",
        ends=("more private", "more visible"),
        help="How much the noised picture may reveal. Every step to the left means more noise.",
    )
    delta: float = parameters.delta(1 / 784**2)
    calibration: str = parameter(
        "Noise formula",
        "exact",
        choices={
            "exact": "exact (Balle and Wang 2018)",
            "textbook": "textbook, as the report used it",
        },
        pattern="^(exact|textbook)$",
        help=(
            "The textbook formula is proved only for ε below 1. Beyond, it adds too little noise"
            " for the ε it names."
        ),
    )
    sensitivity: str = parameter(
        "Sensitivity",
        "replace",
        choices={"replace": "√2: one picture for another", "report": "1, as the report used it"},
        pattern="^(replace|report)$",
        help=(
            "How far apart two unit-length pictures can be. For pictures without negative pixels"
            " that is √2."
        ),
    )

    def sigma(self, epsilon: float) -> float:
        """Standard deviation of the noise on each pixel of the unit-length picture."""
        formula = {"exact": privacy.gaussian_sigma, "textbook": privacy.textbook_sigma}[
            self.calibration
        ]
        return formula(
            epsilon, self.delta, {"replace": REPLACE_ONE, "report": 1.0}[self.sensitivity]
        )

    def earned(self, epsilon: float, releases: int = 1) -> float:
        """The ε that the noise named `epsilon` really gives when one picture is replaced by
        another.

        Of `releases` independent draws on the same picture: together they tell as much as one with
        σ/√releases.
        """
        return privacy.gaussian_epsilon(
            self.sigma(epsilon), self.delta, REPLACE_ONE * math.sqrt(releases)
        )

    def formula_warnings(self, releases: int = 1) -> list[str]:
        """Where a formula names another ε than its noise gives."""
        if self.proved:
            return []
        sigma, earned = self.sigma(self.epsilon), self.earned(self.epsilon, releases)
        return [
            f"This formula names ε = {rounding.chosen(self.epsilon)}, but its σ = "
            f"{rounding.described(sigma)} really gives ε = {rounding.epsilon(earned)} when one "
            "picture is replaced by another."
        ]

    @property
    def proved(self) -> bool:
        """Does the noise really give the ε that is named?"""
        return self.calibration == "exact" and self.sensitivity == "replace"


class LocalNoise(Gaussian):
    """A data set whose pictures were noised locally, or not. A base for studies, not one itself."""

    dataset: str = parameters.dataset()
    images: str = parameter(
        "Pictures are",
        "noised",
        choices={"noised": "noised", "raw": "as they are"},
        pattern="^(noised|raw)$",
        help="What leaves the phones: noised pictures, or the pictures themselves.",
    )
    normalisation: str = error(
        "Unit length",
        "The report's clustering code scaled 700 pictures together to length 1 instead of each, so"
        " that the noise was √700 = 26 times stronger against each picture than intended.",
    )
    seed: int = parameters.seed()

    def released(self, shown: np.ndarray, part: str, draw: int = 0) -> np.ndarray:
        """(n, h, w, c) uint8 → float32 of the same shape, not negative: what leaves the phones.

        Noised: unit length plus noise, below 0 set to 0. Raw: pixels in [0, 1]. `part` ("train",
        "test") and `draw` have noise of their own. Noise is drawn and added in float64 by
        engine.privacy.noise, and each pixel is rounded once.
        """
        if self.images == "raw":
            return shown.astype(np.float32) / 255
        # what shares a length is released otherwise
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
        """The seed of what hides one release, named by all that the release depends on.

        Studies that only use the images otherwise get the very same release, which is then charged
        once; a release at another ε, or of other images, shares no draw with it.
        """
        name = f"{registry.fingerprint(self.dataset)} σ {self.sigma(self.epsilon)!r} {self.normalisation}"
        return derive_seed(f"local noise on {purpose}", self.seed, name)

    def sample(self, noised: bool = True) -> bytes:
        """PNG of the first 60 training pictures: as they leave the phones, or before.

        Where 700 share a length, these are repeated to so many: another release, with noise of its
        own.
        """
        first = registry.exhibits(self.dataset).train_images
        # as many as share a length in the mode as_published
        many = np.resize(first, (REPORT_BATCH, *first.shape[1:]))
        shown = (
            np.stack([imaging.stretch(one) for one in self.released(many, "train")[: len(first)]])
            if noised
            else first
        )
        return imaging.png(imaging.gallery(shown, columns=10))

    def clean(self, shown: np.ndarray) -> np.ndarray:
        """The same before the noise: (n, h, w, c) float32, each picture of unit length, or 700 of
        them together.
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
        # A black picture has no direction: it stays all zeros. A little short of 1, so that no
        # float32 rounding makes two pictures stand farther apart than √2.
        pixels /= np.sqrt(np.maximum(squares, 1e-30))[:, None] * np.float32(1 + 1e-6)
        return pixels.reshape(shown.shape)

    def formula_warnings(self, releases: int = 1) -> list[str]:
        """As above; none where nothing is noised."""
        return [] if self.images == "raw" else super().formula_warnings(releases)

    def picture_guarantee(
        self, releases: int = 1, unit: str = "the pixels of one training picture", more: str = ""
    ) -> Guarantee:
        """What one owner of a picture is promised by its noise; `more` is added to the note."""
        if self.images == "raw":
            return Guarantee(
                unit=unit,
                epsilon=None,
                delta=None,
                mechanism="none: the pictures are not noised",
                accountant="none",
                sampling="none: every picture is used",
                sample_rate=None,
                steps=None,
                note=f"Nothing is promised to anyone in the data. {more}".strip(),
            )
        sigma, total = self.sigma(self.epsilon), self.earned(self.epsilon, releases)
        distance = REPLACE_ONE * math.sqrt(releases)
        times = "once" if releases == 1 else f"{releases:,} times, each with fresh noise"
        named = (
            ""
            if self.proved
            else (
                f"The chosen formula names ε = {rounding.chosen(self.epsilon)}; the ε stated here"
                " is the one that its σ really gives."
            )
        )
        shared = (
            "700 pictures share one length here: the bound of √2 still holds, and a typical picture"
            " is hidden far better than ε says; but somebody must see all 700 to compute that"
            " length, so the noise is not added on the phones any more."
            if self.normalisation == "as_published"
            else ""
        )
        return Guarantee(
            unit=unit,
            epsilon=total,
            delta=self.delta,
            mechanism=(
                f"Gaussian noise, σ = {rounding.described(sigma)} on each pixel of"
                f" {'700 pictures of unit length together' if shared else 'the unit-length picture'},"
                f" released {times}"
            ),
            accountant="exact Gaussian curve (Balle and Wang 2018)"
            + (f", {releases:,} releases composed exactly" if releases > 1 else ""),
            sampling="none: every picture is released",
            sample_rate=None,
            steps=releases,
            note=" ".join(
                filter(
                    None,
                    (
                        named,
                        shared,
                        more,
                        "A simulation: whoever knows the seed can take the noise away again.",
                    ),
                )
            ),
            neighbours=(
                "one picture replaced by any other (distance at most √2 for pictures of unit length"
                " without negative pixels)"
            ),
            against="anyone who sees all noised pictures and whatever was made of them",
            odds_any=privacy.odds_any(total, self.delta),
            odds_mechanism=privacy.odds_gaussian(sigma, distance),
        )
