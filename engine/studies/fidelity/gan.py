"""Study `gan`: a DCGAN with or without privacy (report 4, Faber; see docs/fidelity.md).

With privacy, only the discriminator sees real images, through clipped and noised per-example
gradients. Parameters left empty take the usual values with or without privacy; values that suit one
do not suit the other (docs/fidelity.md).
"""

from __future__ import annotations

from engine import privacy
from engine.core import parameters, rounding
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Phase, Refused, Result
from engine.datasets import registry
from engine.privacy import neighbours
from engine.studies.fidelity.drawing import Drawing, Growing, one_core

# private? → the usual values, chosen on mnist-5k (docs/fidelity.md)
USUAL = {
    True: {
        "width": 16,
        "judge_width": 8,
        "batch_size": 200,
        "discriminator_steps": 10,
        "steps": 200,
        "generator_rate": 1e-3,
        "discriminator_rate": 2e-3,
    },
    False: {
        "width": 16,
        "judge_width": 16,
        "batch_size": 50,
        "discriminator_steps": 1,
        "steps": 1200,
        "generator_rate": 5e-4,
        "discriminator_rate": 5e-4,
    },
}
MOST_STEPS = 1_000_000  # limit on the steps of the discriminator
REPORT = {
    "dataset": "celeba",
    "size": "64",
    "width": 32,
    "judge_width": 32,
    "batch_size": 128,
    "discriminator_steps": 1,
    "steps": 7135,  # 5 epochs of 182,637 images
    "generator_rate": 5e-5,
    "discriminator_rate": 5e-5,
    "target_epsilon": 5.0,
    "delta": 1e-6,
    "latent": 100,
    "averaging": 0.0,
}


class Forging(Drawing):
    """The parameters of the GAN; base class of the studies that include one."""

    max_grad_norm: float = parameters.max_grad_norm(1.0)
    width: int | None = parameter(
        "Width of the generator",
        None,
        low=4,
        high=128,
        scale="log",
        help="Channels of its last hidden layer (ngf). Empty: the default.",
    )
    judge_width: int | None = parameter(
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
    generator_rate: float | None = parameter(
        "Generator's learning rate",
        None,
        low=1e-6,
        high=1.0,
        scale="log",
        help="Of Adam. Empty: the default.",
    )
    discriminator_rate: float | None = parameter(
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
                f" {self.count(shown)} pictures",
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
        values = {name: getattr(self, name) for name in Forging.model_fields} | changes
        idle = ("extractor",) + (
            () if values["private"] else ("target_epsilon", "delta", "max_grad_norm")
        )
        return GAN(**{name: value for name, value in values.items() if name not in idle})


class GAN(Forging):
    """Train generator and discriminator against each other.

    Keeps a film, the distance from real images during training, and the images generated at the
    end.
    """

    NAME, VERSION = "gan", 3
    TITLE = "A generator and its judge"
    PRESETS = {
        "quick": {},
        "tiny": {
            "width": 4,
            "judge_width": 4,
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
            * (self.usual("judge_width") + 8)
            * (2 if self.private else 1)
        )

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.private}"

    def typical(self) -> float:
        """Seconds on two cores."""
        return (
            (4.6e-9 if self.private else 9e-9) * self.work()
            + 8.0
            + sum(need.typical() for need in self.needs())
        )

    def plan(self, n: int) -> dict:
        """All parameters with the usual values filled in, the sample rate and the noise multiplier.

        The noise multiplier spends exactly the budget. n: number of training images.
        """
        plan = {name: self.usual(name) for name in USUAL[True]}
        plan["batch_size"] = min(plan["batch_size"], n)
        plan |= {"n": n, "sample_rate": plan["batch_size"] / n, "noise_multiplier": 0.0}
        if not self.private:
            return plan
        try:
            return plan | {
                "noise_multiplier": privacy.dp_sgd_noise(
                    self.target_epsilon,
                    plan["sample_rate"],
                    plan["steps"] * plan["discriminator_steps"],
                    self.delta,
                )
            }
        except privacy.Unreachable as error:
            raise Refused(
                "target_epsilon",
                f"target_epsilon: {parameters.number(self.target_epsilon)} cannot be reached:"
                f" {error}",
            ) from None

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield the gallery and the distance during training; return film, curves and images."""
        yield Phase("reading the pictures")
        images = registry.load(self.dataset)
        self.check(images)
        plan = self.plan(self.count(images))
        real = yield from lab.need(self.real())
        see = yield from self.eyes(lab)
        growing = Growing(
            self, self._adversaries(images, plan, one_core(lab)), plan["steps"], real, see
        )

        def spent(step):
            return (
                privacy.rdp_epsilon(
                    plan["noise_multiplier"],
                    plan["sample_rate"],
                    step * plan["discriminator_steps"],
                    self.delta,
                )
                if step
                else 0.0
            )

        yield from growing.all_steps(spent if self.private else None)
        yield Phase("adding up the exact ε")
        return Result(
            metrics=growing.metrics() | {"noise_multiplier": plan["noise_multiplier"]},
            guarantee=self.guarantee(plan),
            **growing.parts(),
            facts={
                "plan": plan,
                "extractor": self.extractor,
                "compared": min(self.samples, 1000),
                "warnings": self._warnings(plan) + growing.warnings(images),
            },
        )

    def _adversaries(self, images, plan: dict, device):
        from engine.studies.fidelity.dcgan import Adversaries

        rows = self.learned(images)
        labels, classes = (
            (images.train_labels[rows], len(images.classes)) if self.labelled else (0 * rows, 1)
        )
        return Adversaries(
            self, plan, self.canvas(images.train_images[rows]), labels, classes, device
        )

    def _warnings(self, plan: dict) -> list[str]:
        return (
            [found for found in [privacy.delta_warning(self.delta, plan["n"])] if found]
            if self.private
            else []
        )

    def guarantee(self, plan: dict) -> Guarantee:
        """The guarantee that the generator and its images give a training image."""
        unit, steps = (
            "one training picture" + (" with its label" if self.labelled else ""),
            plan["steps"] * plan["discriminator_steps"],
        )
        if not self.private:
            return Guarantee(
                unit=unit,
                epsilon=None,
                delta=None,
                mechanism="none: trained without clipping and noise",
                accountant="none",
                sampling="Poisson",
                sample_rate=plan["sample_rate"],
                steps=steps,
                note=(
                    "Nothing is promised to anyone in the data: the generator may have memorised"
                    " any of the training pictures."
                ),
            )
        sigma, rate = plan["noise_multiplier"], plan["sample_rate"]
        spent = privacy.dp_sgd_epsilon(sigma, rate, steps, self.delta)
        return Guarantee(
            unit=unit,
            epsilon=spent.epsilon,
            delta=self.delta,
            mechanism=(
                "DP-Adam on the discriminator: each real picture's gradient clipped to"
                f" {self.max_grad_norm:g}, Gaussian noise of {rounding.described(sigma)} times that"
                f" added to their sum, {steps:,} times; the generator learns from the discriminator"
                " alone"
            ),
            accountant=spent.accountant,
            sampling="Poisson",
            sample_rate=rate,
            steps=steps,
            neighbours=neighbours.ONE_PICTURE,
            against=(
                "anyone who gets the generator, the discriminator, every step of both, and all"
                " pictures made"
            ),
            also_released=NOT_COVERED,
            note=(
                "A simulation: the seed is known. Settings tried before this run on the same"
                " pictures, the usual ones included, are not counted in ε. ε counts all planned"
                " steps."
            ),
            odds_any=privacy.odds_any(spent.epsilon, self.delta),
            odds_mechanism=privacy.odds_dp_sgd(sigma, rate, steps, delta=self.delta),
            odds_undrawn=privacy.odds_dp_sgd(0.0, rate, steps),
        )


NOT_COVERED = (
    "the distances, and the real pictures shown beside generated ones: they look at the training"
    " pictures directly, partly through a network that was trained on them without privacy, are not"
    " covered by ε and would not be published"
)
