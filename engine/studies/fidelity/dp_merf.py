"""Study `dp_merf`: a generator trained to match one noised mean of random features.

The method is DP-MERF (Harder et al. 2021). The whole privacy budget is spent once, before training.
"""

from __future__ import annotations

from engine import privacy
from engine.core import rounding
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Phase, Result
from engine.datasets import registry
from engine.privacy import neighbours
from engine.privacy.mechanism import Mechanism
from engine.studies import guarantees
from engine.studies.fidelity.drawing import GeneratorRun, GeneratorStudy, one_core
from engine.studies.fidelity.gan import NOT_COVERED


class MERFSettings(GeneratorStudy):
    """The parameters of DP-MERF; base class of the studies that include it."""

    frequencies: int = parameter(
        "Random frequencies",
        1000,
        low=1,
        high=20_000,
        scale="log",
        help=(
            "Half the number of features of each image: each frequency gives a cosine and a sine."
        ),
    )
    length: float = parameter(
        "Length scale",
        8.0,
        low=0.1,
        high=1000.0,
        scale="log",
        help=(
            "The width of the kernel: the distance at which two images count as different. Pixels"
            " are between 0 and 1."
        ),
    )
    merf_width: int = parameter(
        "Width of DP-MERF's generator",
        16,
        low=4,
        high=128,
        scale="log",
        help="Channels of its last hidden layer.",
    )
    merf_steps: int = parameter(
        "DP-MERF's steps",
        600,
        low=1,
        high=100_000,
        scale="log",
        help="How long the generator learns. Costs no privacy.",
    )
    merf_batch_size: int = parameter(
        "DP-MERF's batch size",
        200,
        low=2,
        high=16384,
        scale="log",
        unit="images",
        help="Images in each step, whose mean is compared with the released one.",
    )
    merf_learning_rate: float = parameter(
        "DP-MERF's learning rate",
        2e-3,
        low=1e-6,
        high=1.0,
        scale="log",
        help="The initial one of Adam. It falls to 0 along a cosine.",
    )

    def dp_merf(self, **changes) -> DPMERF:
        """The training only, with parameters that have no effect at their defaults."""
        values = {name: getattr(self, name) for name in MERFSettings.model_fields} | changes
        idle = ("extractor",) + (() if values["private"] else ("target_epsilon", "delta"))
        return DPMERF(**{name: value for name, value in values.items() if name not in idle})


class DPMERF(MERFSettings):
    """Release the noised mean embedding once, then train without limits; keep what `gan` keeps."""

    NAME, VERSION = "dp_merf", 5
    TITLE = "A generator that has one noised mean"
    PRESETS = {
        "quick": {},
        "tiny": {
            "frequencies": 50,
            "merf_width": 4,
            "merf_steps": 3,
            "merf_batch_size": 20,
            "samples": 40,
            "latent": 8,
        },
    }

    def work(self) -> float:
        """Pixels generated, times the sum of the width and the features."""
        pixels = self.side**2 * (1 if self.colour == "grey" else 3)
        return (
            self.merf_steps
            * self.merf_batch_size
            * pixels
            * (self.merf_width + self.frequencies / 50)
        )

    def seconds_alone(self) -> float:
        """Seconds on two cores, without the features of the real images."""
        return 5e-9 * self.work() + 8.0

    def charged(self, result: Result) -> Mechanism | None:
        """What publishing the generator is charged for: one step at sample rate 1, or None."""
        return Mechanism(self.noise_multiplier(), 1.0, 1.0, 1) if self.private else None

    def noise_multiplier(self) -> float:
        """The noise multiplier σ of the single release; 0 without privacy."""
        return privacy.gaussian_sigma(self.target_epsilon, self.delta) if self.private else 0.0

    def run(self, lab):
        """Yield the gallery and the distance during training; return film, curves and images.

        The data are read once, and engine.privacy.noise adds noise to what was read.
        """
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        real = yield from lab.need(self.real())
        extract = yield from self.feature_extractor(lab)
        yield Phase("taking the mean, once")
        trainer, sums = self._trainer(images, one_core(lab))
        growing = GeneratorRun(self, trainer, self.merf_steps, real, extract)
        yield from growing.all_steps((lambda _: self.target_epsilon) if self.private else None)
        return Result(
            metrics=growing.metrics()
            | {"noise_multiplier": self.noise_multiplier()}
            | self._signal(sums),
            guarantee=self.guarantee(),
            **growing.parts(),
            facts={
                "extractor": self.extractor,
                "compared": min(self.samples, 1000),
                "warnings": self._warnings(len(self.learned(images))) + growing.warnings(images),
            },
        )

    def _trainer(self, images, device):
        """The generator's trainer, and the sums that engine.privacy.noise has noised.

        It gets nothing else of the images.
        """
        import torch

        from engine.privacy.noise import GaussianNoise
        from engine.studies.fidelity import merf

        rows = self.learned(images)
        seen = torch.tensor(self.canvas(images.train_images[rows])).to(device)
        labels = torch.tensor(images.train_labels[rows]).long().to(device)
        features = merf.RandomFourierFeatures(
            seen[0].numel(), self.frequencies, self.length, self.seed, device
        )
        exact = merf.embedding(features, seen, labels, len(images.classes))
        noise = GaussianNoise(self.derive_seed("noise"), device)
        sums = merf.released(exact, self.noise_multiplier(), noise)
        trainer = merf.MERFTrainer(
            self, sums, len(rows), features, self.side, seen.shape[3], device
        )
        return trainer, sums

    def _signal(self, sums) -> dict[str, float]:
        """How large the released sums, noise included, are beside their noise; {} without noise."""
        from engine.studies.fidelity import merf

        if not self.private:
            return {}
        root_mean_square = float(sums[:, :-1].square().mean().sqrt())
        noise = self.noise_multiplier() * merf.SENSITIVITY
        return {"signal_and_noise_over_noise": root_mean_square / noise}

    def guarantee(self) -> Guarantee:
        """The guarantee that the noised mean, and anything made from it, gives a training image."""
        if not self.private:
            return guarantees.nothing(
                "the mean is taken without noise",
                "Nothing is promised to anyone in the data. A mean of many hides each of them a"
                " little, which no number here vouches for.",
                sampling="none: all images, once",
            )
        sigma = self.noise_multiplier()
        return guarantees.gaussian(
            sigma,
            self.delta,
            words=(
                f"Gaussian mechanism, once: sums over all images of {2 * self.frequencies:,}"
                " random features in each class and of the classes' sizes, noise of"
                f" {rounding.described(sigma)} times what one image can change; the generator"
                " learns from those numbers alone"
            ),
            accountant="exact (analytic Gaussian mechanism)",
            sampling="none: all images, once",
            neighbours=neighbours.ONE_IMAGE,
            against="anyone who gets the noised mean, the generator, and all images made",
            also_released=NOT_COVERED,
            note=(
                "A simulation: the seed is known. Settings tried before this run on the same"
                " images, the usual ones included, are not counted in ε."
            ),
        )
