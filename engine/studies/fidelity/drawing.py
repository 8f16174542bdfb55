"""Base class of the generator studies of page Fidelity; not a study itself.

It holds what they share: the training images, the privacy parameters, and what is shown and
measured during training.
"""

from __future__ import annotations

import math

import numpy as np

from engine import privacy
from engine.core import parameters
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Image, Phase, Point, Refused, Result
from engine.datasets import imaging, registry
from engine.evaluation import cautions
from engine.studies.fidelity.real_features import FeatureSettings, RealFeatures, permutation

# rows and columns of the gallery; each row interpolates between two latent points
ROWS, COLUMNS = 8, 8
FRAMES = 24  # frames of the film, from the first step to the last
MEASURED = 10  # number of measurements during training
MEASURING = 1000  # generated images in each of these measurements
DIVERGED = (
    "The training diverged: the generator's weights are not numbers any more. Take smaller learning"
    " rates."
)


class GeneratorStudy(FeatureSettings):
    """The number of training images and the privacy parameters of a generator."""

    examples: int | None = parameter(
        "Learns from",
        None,
        low=2,
        high=1_000_000,
        scale="log",
        unit="images",
        help=(
            "The number of training images; empty: all. A generator that learns from few images can"
            " memorise them."
        ),
    )
    private: bool = parameter(
        "With privacy", True, help="Off: nothing is clipped and no noise is added."
    )
    target_epsilon: float = parameters.target_epsilon(10.0)
    delta: float = parameters.delta(1e-5)
    latent: int = parameter(
        "Latent dimension", 64, low=1, high=512, help="Random numbers that each image is made of."
    )
    averaging: float = parameter(
        "Averaging",
        0.9,
        low=0.0,
        high=0.999,
        help=(
            "Decay of the moving average of the generator's weights. 0: no average, the last step"
            " alone. Costs no privacy."
        ),
    )
    samples: int = parameter(
        "Images to compare",
        1000,
        low=20,
        high=50_000,
        scale="log",
        help=(
            "How many images are generated, and compared with real ones. Distances over different"
            " numbers of images cannot be compared."
        ),
    )
    seed: int = parameters.seed()

    DONE, PHASE, SHOWS = "grown", "growing", True

    def jointly(self, promises: list[Guarantee]) -> dict[str, str]:
        """The words of the guarantee of several published generators."""
        return {
            "mechanism": "; and ".join(one.mechanism for one in promises),
            "sampling": "Poisson for the GAN; all images, once, for DP-MERF",
            "against": "anyone who gets both private generators and all images made by them",
            "note": (
                "Publishing both, or the better one of them, spends what both spend. What stands"
                f" beside them without privacy must not be published. {promises[0].note}"
            ),
        }

    def seconds_alone(self) -> float:
        """Seconds on two cores, without the features of the real images."""
        raise NotImplementedError

    def typical(self) -> float:
        """Seconds on two cores, including the features of the real images."""
        return self.seconds_alone() + sum(need.typical() for need in self.needs())

    def check(self, shown) -> None:
        """Raise Refused, before computing anything, if the parameters do not fit the data set.

        shown: the data set's preview or images.
        """
        self.check_seen(shown)
        if self.examples is not None and self.examples > shown.train_size:
            raise Refused(
                "examples",
                f"examples: {self.examples} is not allowed; {self.dataset} has {shown.train_size}"
                " training images",
            )

    def fitting(self, shown) -> dict:
        """Limit the number of examples to the size of the training set."""
        found = super().fitting(shown)
        return found | (
            {"examples": shown.train_size} if (self.examples or 0) > shown.train_size else {}
        )

    def count(self, shown) -> int:
        """The number of training images used."""
        return shown.train_size if self.examples is None else self.examples

    def learned(self, images) -> np.ndarray:
        """(n,) indices of the training images used: the first of the permutation."""
        return permutation(len(images.train_images))[: self.count(images)]

    def _warnings(self, n: int) -> list[str]:
        """What qualifies the guarantee. n: number of training images."""
        slack = privacy.delta_warning(self.delta, n) if self.private else None
        return [slack] if slack else []

    def stream_name(self) -> str:
        """The key, for a private generator: several of them may be published together."""
        return super().stream_name() if self.private else ""

    def real(self, **changes) -> RealFeatures:
        """The features of the real images for comparison, by this study's extractor by default."""
        return RealFeatures(
            **{name: getattr(self, name) for name in FeatureSettings.model_fields} | changes
        )

    def needs(self) -> tuple:
        """The features of the real images, for the measurements during training."""
        return (self.real(),)

    def sample(self) -> bytes:
        """PNG of some real images, in full rows."""
        shown = registry.preview(self.dataset).train_images[: ROWS * COLUMNS]
        return imaging.png(
            imaging.gallery(self.canvas(shown[: max(1, len(shown) // COLUMNS) * COLUMNS]), COLUMNS)
        )


def one_core(lab):
    """The device, with torch limited to one thread.

    The number of threads changes the order of sums, and soon the generator. Several generators
    train in parallel instead.
    """
    import torch

    device = lab.device
    torch.set_num_threads(1)
    return device


class GeneratorRun:
    """A generator in training: its frames, its measurements, and what is kept."""

    def __init__(self, study: GeneratorStudy, trainer, steps: int, real: Result, extract):
        import torch

        from engine.evaluation import metrics
        from engine.studies.fidelity.generator import walk

        self.study, self.trainer, self.steps, self.extract = study, trainer, steps, extract
        self.moments = metrics.moments(real.arrays["train"])
        # as many as are generated for a measurement; otherwise there is no comparison
        held = real.arrays["held"][: min(MEASURING, study.samples)]
        self.of_real = (
            metrics.frechet_distance(self.moments, metrics.moments(held))
            if len(held) == min(MEASURING, study.samples)
            else None
        )
        seeded = torch.Generator().manual_seed(study.seed)
        self.walk = tuple(
            found.to(trainer.device)
            for found in walk(ROWS, COLUMNS, study.latent, trainer.classes, study.seed)
        )
        self.noise = torch.randn(study.samples, study.latent, generator=seeded).to(trainer.device)
        self.labels = (torch.arange(study.samples) % trainer.classes).to(trainer.device)
        self.frames = {round(step) for step in np.r_[0, np.geomspace(1, steps, FRAMES - 1)]}
        self.marks = {round(step) for step in np.linspace(0, steps, MEASURED + 1)}
        self.film: dict[int, bytes] = {}
        self.curves: dict[str, list[tuple[float, float]]] = {}
        # One value for each of these steps; NaN has no point in the curve but is kept here.
        self.distances: list[float] = []

    def all_steps(self, spent):
        """Run all steps; yield images and points. spent: maps steps to ε so far, or None."""
        yield from self.look(0, spent)
        for step in range(1, self.steps + 1):
            self.trainer.step()
            if step in self.frames or step in self.marks:
                if not self.trainer.finite():
                    raise Failed(DIVERGED)
                yield from self.look(step, spent)
            yield Phase("growing", step, self.steps)

    def look(self, step: int, spent):
        """Yield the gallery and, at some steps, the distance from real images and the ε spent."""
        if step in self.frames or step == self.steps:
            self.film[step] = imaging.png(imaging.gallery(self.trainer.show(*self.walk), COLUMNS))
            yield Image("gallery", self.film[step], f"after {step} steps")
        if step in self.marks:
            self.distances.append(self.distance())
            values = {"frechet_distance": self.distances[-1]} | (
                {"epsilon": spent(step)} if spent else {}
            )
            for name, value in values.items():
                if math.isfinite(value):
                    self.curves.setdefault(name, []).append((float(step), float(value)))
                    yield Point(name, float(step), float(value))

    def made(self, count: int | None = None) -> np.ndarray:
        """`count` images, always from the same noise: (count, side, side, c) uint8."""
        return self.trainer.show(self.noise[:count], self.labels[:count])

    def distance(self) -> float:
        """Fréchet distance from the training images, over at most MEASURING generated images."""
        from engine.evaluation import metrics

        return metrics.frechet_distance(
            self.moments, metrics.moments(self.extract(self.made(MEASURING)))
        )

    def metrics(self) -> dict[str, float]:
        """The distance at the end, at the beginning, and of unseen real images for reference.

        The last is of as many real images, left out if there are not enough.
        """
        return {
            "frechet_distance": self.distances[-1],
            "untrained_frechet_distance": self.distances[0],
        } | ({"real_frechet_distance": self.of_real} if self.of_real is not None else {})

    def warnings(self, images) -> list[str]:
        """Warnings about divergence and about too few images to train on or to compare with."""
        learned = images.train_labels[self.study.learned(images)]
        held = cautions.few(len(images.test_labels), "held-out images", "to compare with")
        return [
            *cautions.further_away(self.distances[-1], self.distances[0]),
            *cautions.too_few(learned, images.classes),
            *held,
        ]

    def parts(self) -> dict:
        """The parts of a Result that are kept."""
        return {
            "curves": self.curves,
            "arrays": {
                "images": self.made(),
                "labels": self.labels.cpu().numpy().astype(np.int16),
            },
            "images": (
                {f"film_{step:06d}": png for step, png in self.film.items()}
                | {"gallery": self.film[max(self.film)]}
            ),
        }
