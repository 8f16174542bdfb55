"""Study `gan`: a DCGAN with or without privacy (report 4, Faber; see docs/fidelity.md).

With privacy, only the discriminator sees real images, through clipped and noised per-example
gradients. Parameters left empty take the usual values with or without privacy; values that suit one
do not suit the other (docs/fidelity.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.core import parameters, rounding
from engine.core.parameters import parameter
from engine.core.streams import Streams
from engine.core.study import Guarantee, Phase, Refused, Result
from engine.datasets import registry
from engine.privacy.mechanism import Mechanism
from engine.studies import guarantees
from engine.studies.fidelity.drawing import GeneratorRun, GeneratorStudy, one_core

# private? → the usual values, chosen on mnist-5k (docs/fidelity.md)
USUAL = {
    True: {
        "generator_width": 16,
        "discriminator_width": 8,
        "batch_size": 200,
        "discriminator_steps": 10,
        "steps": 200,
        "generator_learning_rate": 1e-3,
        "discriminator_learning_rate": 2e-3,
    },
    False: {
        "generator_width": 16,
        "discriminator_width": 16,
        "batch_size": 50,
        "discriminator_steps": 1,
        "steps": 1200,
        "generator_learning_rate": 5e-4,
        "discriminator_learning_rate": 5e-4,
    },
}
MOST_STEPS = 1_000_000  # limit on the steps of the discriminator
REPORT = {
    "dataset": "celeba",
    "size": "64",
    "generator_width": 32,
    "discriminator_width": 32,
    "batch_size": 128,
    "discriminator_steps": 1,
    "steps": 7135,  # 5 epochs of 182,637 images
    "generator_learning_rate": 5e-5,
    "discriminator_learning_rate": 5e-5,
    "target_epsilon": 5.0,
    "delta": 1e-6,
    "latent": 100,
    "averaging": 0.0,
}


@dataclass(frozen=True)
class AdversarialPlan:
    """How a GAN is trained: all that its trainer needs beside the images.

    steps: of the generator, each after `discriminator_steps` steps of the discriminator, which are
    those of the mechanism.
    """

    mechanism: Mechanism
    streams: Streams
    generator_width: int
    discriminator_width: int
    batch_size: int
    steps: int
    discriminator_steps: int
    generator_learning_rate: float
    discriminator_learning_rate: float
    latent: int
    averaging: float


class GANSettings(GeneratorStudy):
    """The parameters of the GAN; base class of the studies that include one."""

    max_grad_norm: float = parameters.max_grad_norm(1.0)
    generator_width: int | None = parameter(
        "Width of the generator",
        None,
        low=4,
        high=128,
        scale="log",
        help="Channels of its last hidden layer (ngf). Empty: the default.",
    )
    discriminator_width: int | None = parameter(
        "Width of the discriminator",
        None,
        low=4,
        high=128,
        scale="log",
        help=(
            "Channels of its first layer (ndf). With noise, a small one learns more. Empty: the"
            " default."
        ),
    )
    batch_size: int | None = parameter(
        "Batch size",
        None,
        low=1,
        high=16384,
        unit="images",
        scale="log",
        help=("Real images in each step of the discriminator, on average. Empty: the default."),
    )
    discriminator_steps: int | None = parameter(
        "Discriminator's steps",
        None,
        low=1,
        high=1000,
        scale="log",
        help=(
            "For each step of the generator. With noise, the discriminator needs many (Bie et al."
            " 2023). Empty: the default."
        ),
    )
    steps: int | None = parameter(
        "Generator's steps",
        None,
        low=1,
        high=100_000,
        scale="log",
        help="How long both learn. Empty: the default.",
    )
    generator_learning_rate: float | None = parameter(
        "Generator's learning rate",
        None,
        low=1e-6,
        high=1.0,
        scale="log",
        help="Of Adam. Empty: the default.",
    )
    discriminator_learning_rate: float | None = parameter(
        "Discriminator's learning rate",
        None,
        low=1e-6,
        high=1.0,
        scale="log",
        help="Of Adam. Empty: the default.",
    )

    labelled: bool = parameter(
        "Class-conditional GAN",
        True,
        help=(
            "The generator is given the class to show, and the discriminator has an output for each"
            " class."
        ),
    )

    def usual(self, name: str):
        """A parameter's value or, if it is empty, the usual value with or without privacy."""
        value = getattr(self, name)
        return USUAL[self.private][name] if value is None else value

    def check(self, shown) -> None:
        """Raise Refused if the parameters do not fit the data set."""
        super().check(shown)
        if self.batch_size is not None and self.batch_size > self.count(shown):
            raise Refused(
                "batch_size",
                f"batch_size: {self.batch_size} is not allowed; the generator learns from"
                f" {self.count(shown)} images",
            )
        steps = self.usual("steps") * self.usual("discriminator_steps")
        if steps > MOST_STEPS:
            raise Refused(
                "steps",
                f"steps: {self.usual('steps')} is not allowed with"
                f" {self.usual('discriminator_steps')} steps of the discriminator to each:"
                f" {steps:,} in all; allowed: at most {MOST_STEPS:,}",
            )

    def fitting(self, shown) -> dict:
        """Limit the batch size to the number of training images."""
        found = super().fitting(shown)
        count = found.get("examples", self.count(shown))
        return found | ({"batch_size": count} if (self.batch_size or 0) > count else {})

    def gan(self, **changes) -> GAN:
        """The training only, with parameters that have no effect at their defaults."""
        values = {name: getattr(self, name) for name in GANSettings.model_fields} | changes
        idle = ("extractor",) + (
            () if values["private"] else ("target_epsilon", "delta", "max_grad_norm")
        )
        return GAN(**{name: value for name, value in values.items() if name not in idle})


class GAN(GANSettings):
    """Train generator and discriminator against each other.

    Keeps a film, the distance from real images during training, and the images generated at the
    end.
    """

    NAME, VERSION = "gan", 5
    TITLE = "A generator and its discriminator"
    PRESETS = {
        "quick": {},
        "tiny": {
            "generator_width": 4,
            "discriminator_width": 4,
            "batch_size": 20,
            "discriminator_steps": 2,
            "steps": 3,
            "samples": 40,
            "latent": 8,
        },
        "report": REPORT,
    }

    def work(self) -> float:
        """Pixels processed by the discriminator's steps, times its width.

        A private step counts as two non-private ones.
        """
        pixels = self.side**2 * (1 if self.colour == "grey" else 3)
        return (
            pixels
            * self.usual("steps")
            * (self.usual("discriminator_steps") + 2)
            * self.usual("batch_size")
            * (self.usual("discriminator_width") + 8)
            * (2 if self.private else 1)
        )

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.private}"

    def seconds_alone(self) -> float:
        """Seconds on two cores, without the features of the real images."""
        return (4.6e-9 if self.private else 9e-9) * self.work() + 8.0

    def charged(self, result: Result) -> Mechanism | None:
        """What publishing the generator is charged for; None without privacy."""
        if not self.private:
            return None
        rate, steps = guarantees.sampled(result.guarantee)
        return Mechanism(result.metrics["noise_multiplier"], self.max_grad_norm, rate, steps)

    def plan(self, n: int) -> AdversarialPlan:
        """How both networks are trained, with the usual values filled in. n: training images.

        Raises Refused if no noise meets the privacy budget.
        """
        usual = {name: self.usual(name) for name in USUAL[True]}
        usual["batch_size"] = min(usual["batch_size"], n)
        return AdversarialPlan(
            **usual,
            mechanism=self.mechanism(n),
            streams=self.streams(),
            latent=self.latent,
            averaging=self.averaging,
        )

    def derived(self) -> dict:
        """The usual values, with or without privacy."""
        images = self.count(registry.preview(self.dataset))
        usual = {name: self.usual(name) for name in USUAL[True]}
        return usual | {"batch_size": min(usual["batch_size"], images)}

    def mechanism(self, n: int) -> Mechanism:
        """What the accountant counts: the steps of the discriminator. n: training images."""
        rate = min(self.usual("batch_size"), n) / n
        steps = self.usual("steps") * self.usual("discriminator_steps")
        if not self.private:
            return Mechanism(0.0, math.inf, rate, steps)
        noise = guarantees.noise_for(self.target_epsilon, rate, steps, self.delta)
        return Mechanism(noise, self.max_grad_norm, rate, steps)

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield the gallery and the distance during training; return film, curves and images."""
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        plan = self.plan(self.count(images))
        real = yield from lab.need(self.real())
        extract = yield from self.feature_extractor(lab)
        growing = GeneratorRun(
            self, self._adversaries(images, plan, one_core(lab)), plan.steps, real, extract
        )

        def spent(step):
            done = step * plan.discriminator_steps
            return plan.mechanism.epsilon_after(done, self.delta) if step else 0.0

        yield from growing.all_steps(spent if self.private else None)
        yield Phase("adding up the exact ε")
        return Result(
            metrics=growing.metrics() | {"noise_multiplier": plan.mechanism.noise_multiplier},
            guarantee=self.guarantee(plan.mechanism),
            **growing.parts(),
            facts={
                "extractor": self.extractor,
                "compared": min(self.samples, 1000),
                "warnings": self._warnings(self.count(images)) + growing.warnings(images),
            },
        )

    def _adversaries(self, images, plan: AdversarialPlan, device):
        from engine.studies.fidelity.dcgan import GANTrainer

        rows = self.learned(images)
        labels, classes = (
            (images.train_labels[rows], len(images.classes)) if self.labelled else (0 * rows, 1)
        )
        return GANTrainer(plan, self.canvas(images.train_images[rows]), labels, classes, device)

    def guarantee(self, mechanism: Mechanism) -> Guarantee:
        """The guarantee that the generator and its images give a training image."""
        unit = "one training image" + (" with its label" if self.labelled else "")
        if not self.private:
            return guarantees.nothing(
                "trained without clipping and noise",
                "Nothing is promised to anyone in the data: the generator may have memorised"
                " any of the training images.",
                unit=unit,
                sampling="Poisson",
                sample_rate=mechanism.sample_rate,
                steps=mechanism.steps,
            )
        return guarantees.subsampled_gaussian(
            mechanism,
            self.delta,
            unit=unit,
            words=(
                "DP-Adam on the discriminator: each real image's gradient clipped to"
                f" {self.max_grad_norm:g}, Gaussian noise of"
                f" {rounding.described(mechanism.noise_multiplier)} times that added to their sum,"
                f" {mechanism.steps:,} times; the generator learns from the discriminator alone"
            ),
            against=(
                "anyone who gets the generator, the discriminator, every step of both, and all"
                " images made"
            ),
            also_released=NOT_COVERED,
            note=(
                "A simulation: the seed is known. Settings tried before this run on the same"
                " images, the usual ones included, are not counted in ε. ε counts all planned"
                " steps."
            ),
        )


NOT_COVERED = (
    "the distances, and the real images shown beside generated ones: they look at the training"
    " images directly, partly through a network that was trained on them without privacy, are not"
    " covered by ε and would not be published"
)
