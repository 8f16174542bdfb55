"""Study `dp_training`: train a network under DP-SGD, or its non-private baseline.

Source: report 3 (Boulif and Durand 2021); Abadi et al. 2016. Every step draws a Poisson sample of
the images, clips the per-example gradients, adds noise to their sum once, and takes an optimizer
step. The model is the report's CNN, or a linear model on fixed features, which learns more on so
small a budget (Tramèr and Boneh 2021).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import ClassVar, Self

import numpy as np
from pydantic import model_validator

from engine import privacy
from engine.core import parameters, rounding
from engine.core.parameters import parameter
from engine.core.study import Event, Guarantee, Image, Phase, Point, Refused, Result, build
from engine.datasets import imaging, registry
from engine.evaluation import cautions, scores
from engine.learning.plan import TrainingPlan
from engine.privacy.mechanism import Mechanism
from engine.studies import guarantees
from engine.studies.image_study import ImageStudy, check_batch
from engine.studies.shared import Features

# Tuned on held-out training images, never on test images (docs/dp_training.md). Clipped gradients
# are short, so private training can use larger learning rates.
CNN_RATE = {
    True: {"sgd": 1.0, "adam": 0.006, "adagrad": 0.05},
    False: {"sgd": 0.3, "adam": 0.003, "adagrad": 0.03},
}
LINEAR_RATE = {
    True: {"adam": 0.01, "adagrad": 0.1},
    False: {"sgd": 0.4, "adam": 0.003, "adagrad": 0.02},
}
DEFAULT_MAX_GRAD_NORM = {"cnn": 1.0, "scattering": 0.1}
# how far the noise of all steps together may move each weight of the linear model; this sets its
# learning rate
RANDOM_WALK_SCALE = 0.07
CLOTHES = {
    "dataset": "fashion-mnist",
    "straighten": False,
    "batch_size": 4096,
    "epochs": 40,
    "learning_rate": 16.0,
    "momentum": 0.9,
}
DIGITS = {"dataset": "mnist", "batch_size": 4096, "epochs": 20}
CNN = {"network": "cnn", "batch_size": 250, "epochs": 20}
LEAST_MEAN_NOISE = 0.5  # lower bound on the noise multiplier of the mean
FRONTIER = (0.3, 0.6, 1.0, 2.0, 3.0, 5.0, 8.0, 16.0)  # ε values to be approximated
CLIPS = {"cnn": (0.5, 1.0, 2.0, 4.0, 8.0), "scattering": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)}
OPTIMIZER_NAMES = {"sgd": "SGD", "adam": "Adam", "adagrad": "Adagrad"}
# fraction of the privacy (as μ² in Gaussian DP) spent on the noised mean if its noise is not given
MEAN_SHARE = 0.02
SHOWN = 10  # correctly and wrongly classified images on the page
LEAST_NOISE = 0.01  # smallest nonzero noise: less hides nothing, and no accountant can handle it
# half an hour to an hour on two cores: the most that one user may ask of the shared worker
MOST_STEPS = 100_000
# fields that the trainer takes as they are
HANDED_ON = (
    "batch_size",
    "epochs",
    "optimizer",
    "momentum",
    "averaging",
    "augmentations",
    "activation",
    "norm",
)


class DPTraining(ImageStudy):
    """Train a model under DP-SGD, DP-Adam or DP-Adagrad; report its accuracy and the ε spent."""

    NAME, VERSION = "dp_training", 9
    TITLE = "Training under differential privacy"
    PRESETS = {
        "quick": {},
        "tiny": {"epochs": 2},
        "mnist": DIGITS,
        "fashion": CLOTHES,
        "cnn": CNN | {"target_epsilon": 8.0},
        "report": (
            CNN
            | {
                "dataset": "mnist",
                "epochs": 15,
                "learning_rate": 0.1,
                "max_grad_norm": 4.0,
                "noise_multiplier": 0.5,
                "batch_size": 256,
                "activation": "relu",
            }
        ),
        "report_fashion": (
            CNN
            | {
                "dataset": "fashion-mnist",
                "epochs": 12,
                "learning_rate": 0.2,
                "max_grad_norm": 4.0,
                "noise_multiplier": 0.5,
                "batch_size": 256,
                "activation": "relu",
            }
        ),
    }
    SERIES = {
        "frontier": "accuracy over ε: eight noise multipliers and the non-private baseline",
        "clips": "the effect of the clip norm (report 3, figure 3)",
        "optimizers": (
            "SGD, Adam and Adagrad, each with its non-private baseline (figures 7 and 10)"
        ),
    }
    # the best recipe for each data set; others use the first
    BEST: ClassVar[dict[str, dict]] = {"mnist-5k": {}, "mnist": DIGITS, "fashion-mnist": CLOTHES}

    EXCLUSIVE = ("noise_multiplier", "target_epsilon")
    DONE, PHASE, SHOWS = "trained", "training", False

    dataset: str = parameters.dataset()
    network: str = parameter(
        "Model",
        "scattering",
        choices={"scattering": "linear, on wavelets", "cnn": "CNN of report 3"},
        pattern="^(scattering|cnn)$",
        help=(
            "A linear model on fixed wavelet features (scattering), or the CNN of report 3 (Boulif"
            " and Durand 2021): two convolutions and two dense layers with 26,000 weights, which"
            " must learn its features from noised steps."
        ),
    )
    straighten: bool = parameter(
        "Deskew",
        True,
        help=(
            "For the linear model, on digits: shear slanted images upright and centre them, each by"
            " itself."
        ),
    )
    mean_noise: float | None = parameter(
        "Noise on the mean",
        None,
        low=LEAST_MEAN_NOISE,
        high=100_000.0,
        scale="log",
        help=(
            "For the linear model: noise multiplier of the mean of all images' features, which is"
            " released once and included in ε. Empty: it takes about a fiftieth of the budget."
        ),
    )
    activation: str = parameter(
        "Activation",
        "tanh",
        choices={"tanh": "tanh", "relu": "ReLU, as in report 3"},
        pattern="^(tanh|relu)$",
        help=(
            "Of the CNN. tanh keeps gradients small, so clipping costs less (Papernot et al. 2021)."
        ),
    )
    norm: str = parameter(
        "Normalisation",
        "none",
        choices={"none": "none", "group": "group norm"},
        pattern="^(none|group)$",
        help=(
            "Of the CNN, after each convolution. Batch norm is not possible with privacy, because"
            " it mixes the images of a batch."
        ),
    )
    augmentations: int = parameter(
        "Augmentations",
        1,
        low=1,
        high=16,
        help=(
            "For the CNN: number of copies of each image, all but the first shifted. Its gradient"
            " is the mean over them (De et al. 2022). Costs time, but no privacy."
        ),
    )
    optimizer: str = parameter(
        "Optimizer",
        "sgd",
        choices={"sgd": "DP-SGD", "adam": "DP-Adam", "adagrad": "DP-Adagrad"},
        pattern="^(sgd|adam|adagrad)$",
        help="How a noised gradient becomes a step.",
    )
    target_epsilon: float | None = parameters.target_epsilon(3.0)
    noise_multiplier: float | None = parameters.noise_multiplier(None)
    max_grad_norm: float | None = parameters.max_grad_norm(None)
    learning_rate: float | None = parameters.learning_rate()
    momentum: float = parameter(
        "Momentum",
        0.0,
        low=0.0,
        high=0.99,
        help="Of SGD: how much of the last step is added to the next. 0: none.",
    )
    averaging: float = parameter(
        "Averaging",
        0.0,
        low=0.0,
        high=1.0,
        help=(
            "Share of the last steps over which the weights are averaged. 0: only the last weights"
            " count. Costs no privacy."
        ),
    )
    batch_size: int = parameters.batch_size(
        1000,
        "Expected number of images in a step: each image is sampled independently.",
    )
    epochs: int = parameters.epochs(
        40,
        "How often each image is used, on average. More epochs learn more and spend more privacy.",
    )
    delta: float = parameters.delta(1e-5)
    private: bool = parameter(
        "With privacy", True, help="Off: the same network without clipping and noise."
    )
    seed: int = parameters.seed()

    @model_validator(mode="before")
    @classmethod
    def _one_of_noise_and_budget(cls, values: dict) -> dict:
        """Drop the default budget if a noise multiplier is given; refuse both together."""
        if values.get("noise_multiplier") is None:
            return values
        if values.get("target_epsilon") is not None:
            raise Refused(
                "target_epsilon",
                "target_epsilon: give target_epsilon or noise_multiplier, not both; one "
                "follows from the other",
            )
        return values | {"target_epsilon": None}

    @model_validator(mode="after")
    def _noise_or_budget(self) -> DPTraining:
        if self.private and self.noise_multiplier is None and self.target_epsilon is None:
            raise Refused(
                "noise_multiplier",
                "noise_multiplier: none is not allowed without target_epsilon; give one of the two",
            )
        if self.noise_multiplier is not None and 0 < self.noise_multiplier < LEAST_NOISE:
            raise Refused(
                "noise_multiplier",
                f"noise_multiplier: {rounding.chosen(self.noise_multiplier)} is not allowed;"
                f" allowed: 0 (no privacy), or a number from {LEAST_NOISE} to 1000",
            )
        return self

    @classmethod
    def preset(cls, name: str, **changes) -> Self:
        """A preset; `best` is the strongest recipe for the data set named in the changes."""
        if name != "best":
            return super().preset(name, **changes)
        recipe = cls.BEST.get(changes.get("dataset", "mnist-5k"), {"straighten": False})
        dropped = cls.EXCLUSIVE if set(cls.EXCLUSIVE) & set(changes) else ()
        return build(cls, {k: v for k, v in recipe.items() if k not in dropped} | changes)

    def check(self, shown) -> None:
        """Refuse settings that do not fit the data set, before computing. shown: its preview."""
        n = shown.train_size
        if self.network == "scattering":
            self.features().check(shown)
        elif min(shown.test_images.shape[1:3]) < 28:
            raise Refused(
                "network",
                "network: cnn is not allowed; it needs images of at least 28 x 28 pixels, and"
                f" those of {self.dataset} have {shown.test_images.shape[1]} x"
                f" {shown.test_images.shape[2]}",
            )
        check_batch(self, n)
        steps = self.epochs * math.ceil(n / self.batch_size)
        if steps > MOST_STEPS:
            raise Refused(
                "epochs",
                f"epochs: {self.epochs} at batch size {self.batch_size} is not allowed: {steps:,}"
                f" steps; allowed: at most {MOST_STEPS:,}, so fewer epochs or larger batches",
            )

    def alike(self) -> tuple:
        """The settings that trainings must share to take their steps together.

        See engine/learning/stacked_steps.py.
        """
        return (
            self.dataset,
            self.network,
            self.straighten,
            self.activation,
            self.norm,
            self.augmentations,
            self.optimizer,
            self.batch_size,
            self.epochs,
        )

    def baseline(self) -> DPTraining:
        """The non-private baseline: the same training without privacy.

        Fields that only private training uses keep their defaults, so all share one baseline.
        """
        shared = (
            "dataset",
            "network",
            "straighten",
            "activation",
            "norm",
            "augmentations",
            "optimizer",
            "momentum",
            "averaging",
            "batch_size",
            "epochs",
            "seed",
        )
        return DPTraining(**{name: getattr(self, name) for name in shared}, private=False)

    # --- series: several trainings that differ in one setting -------------------------------------

    def _like(self, seed: int = 0, **changes) -> DPTraining:
        """The same private training with some fields changed, its seed offset by `seed`."""
        return self.replace(private=True, seed=(self.seed + seed) % 2**31, **changes)

    def _seeded(self, members: dict[str, DPTraining], seeds: int) -> dict[str, DPTraining]:
        """Each member at several seeds; all members at the first seed come first."""
        return {
            name if k == 0 else f"{name}, seed {self.seed + k}": member.replace(
                seed=(member.seed + k) % 2**31
            )
            for k in range(seeds)
            for name, member in members.items()
        }

    def noises(self) -> tuple[float, ...]:
        """Eight round noise multipliers for ε from about 16 to 0.3."""
        n = registry.preview(self.dataset).train_size
        steps = self.epochs * math.ceil(n / self.batch_size)
        return tuple(
            dict.fromkeys(
                privacy.dp_sgd_noise_about(epsilon, self.batch_size / n, steps, self.delta)
                for epsilon in FRONTIER
            )
        )

    def frontier(self, seeds: int = 1) -> dict[str, DPTraining]:
        """Accuracy over ε: noise multipliers, and the non-private baseline."""
        members = {
            f"σ = {noise:g}": self._like(noise_multiplier=noise, target_epsilon=None)
            for noise in self.noises()
        }
        return self._seeded({"not private": self.baseline()} | members, seeds)

    def clips(self, seeds: int = 1) -> dict[str, DPTraining]:
        """The influence of the clip norm, and the non-private baseline.

        For the CNN: the report's four clip norms and a smaller one; for the linear model: those
        around its default.
        """

        # None for the default clip norm: the same training as elsewhere on the page.
        def usual(clip):
            return (
                None
                if clip == DEFAULT_MAX_GRAD_NORM[self.network] and self.max_grad_norm is None
                else clip
            )

        return self._seeded(
            {f"C = {clip:g}": self._like(max_grad_norm=usual(clip)) for clip in CLIPS[self.network]}
            | {"not private": self.baseline()},
            seeds,
        )

    def optimizers(self, seeds: int = 1) -> dict[str, DPTraining]:
        """The three optimizers and their non-private baselines.

        Those not chosen use their default learning rate.
        """
        members: dict[str, DPTraining] = {}
        for name in ("sgd", "adam", "adagrad"):
            member = self._like(
                optimizer=name, learning_rate=self.learning_rate if name == self.optimizer else None
            )
            members |= {
                f"{OPTIMIZER_NAMES[name]}, private": member,
                f"{OPTIMIZER_NAMES[name]}, not private": member.baseline(),
            }
        return self._seeded(members, seeds)

    def exactly(self, epsilon: float) -> dict:
        """The noise and the exact ε of the same training at this budget, without training.

        Returns noise_multiplier, mean_noise, steps and epsilon; takes a few seconds. Raises
        Refused.
        """
        values = self.values() | {
            "private": True,
            "target_epsilon": epsilon,
            "noise_multiplier": None,
        }
        study = build(DPTraining, values)
        found = study.plan(registry.preview(self.dataset).train_size).mechanism
        return {
            "noise_multiplier": found.noise_multiplier,
            "mean_noise": found.release_noise,
            "steps": found.steps,
            "epsilon": found.spent(self.delta).epsilon,
        }

    def spending(self) -> dict[float, list[tuple[float, float]]]:
        """The ε spent over the epochs, for each noise multiplier.

        This is figure 6 of report 3; it needs no training. Noise multiplier → list of (epoch, ε
        spent by then, an upper bound by RDP).
        """
        found, n = {}, registry.preview(self.dataset).train_size
        marks = sorted({round(e) for e in np.geomspace(1, self.epochs, min(12, self.epochs))})
        for noise in self.noises():
            plan = self._like(noise_multiplier=noise, target_epsilon=None).plan(n)
            found[noise] = [
                (
                    float(e),
                    plan.mechanism.epsilon_after(e * plan.steps_per_epoch, self.delta),
                )
                for e in marks
            ]
        return found

    def stream_name(self) -> str:
        """The study's key if it is private: several private trainings may be published together."""
        return super().stream_name() if self.private else ""

    def features(self) -> Features:
        """The study that computes the linear model's features."""
        return Features(dataset=self.dataset, straighten=self.straighten)

    def needs(self) -> tuple:
        """The features of the linear model."""
        return (self.features(),) if self.network == "scattering" else ()

    @property
    def clip(self) -> float:
        """The clip norm: max_grad_norm, or the model's default."""
        return (
            DEFAULT_MAX_GRAD_NORM[self.network]
            if self.max_grad_norm is None
            else self.max_grad_norm
        )

    def derived(self) -> dict:
        """The clip norm, which no metric tells."""
        return {"max_grad_norm": self.clip} if self.private else {}

    def rate(self, noise_multiplier: float, steps: int) -> float:
        """The learning rate: the chosen one, or the default for optimizer and network.

        For the linear model under DP-SGD, the noise of all steps together, √T steps of rate·σC/B
        each, must move a weight no further than RANDOM_WALK_SCALE, so more noise means a smaller
        rate. It depends on the noise and the number of steps alone, which are not secret.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        if self.network == "cnn":
            return CNN_RATE[self.private][self.optimizer]
        if self.optimizer != "sgd":
            return LINEAR_RATE[self.private][self.optimizer]
        if not self.private:
            return (1 - self.momentum) * LINEAR_RATE[False]["sgd"]
        noise = max(noise_multiplier, 0.3) * self.clip * math.sqrt(steps) / self.batch_size
        return (1 - self.momentum) * RANDOM_WALK_SCALE / noise

    def work(self) -> float:
        """Images processed in total; the overhead of a step equals about fifty images."""
        n = registry.preview(self.dataset).train_size
        return (
            self.augmentations
            * self.epochs
            * math.ceil(n / self.batch_size)
            * (self.batch_size + 50.0)
        )

    def kind(self) -> str:
        """Runs of one kind take time in proportion to their work."""
        return f"{self.NAME}:{self.network}:{self.dataset}:{self.private}"

    def typical(self) -> float:
        """Typical seconds, including the linear model's features.

        Measured on MNIST, its 5,000 digits and the report's network.
        """
        return self.features_seconds() + self.seconds_alone()

    def seconds_alone(self) -> float:
        """Typical seconds without the linear model's features."""
        return self.seconds_for(self.work())

    def features_seconds(self) -> float:
        """Typical seconds of the linear model's features; 0 for the CNN."""
        return sum(need.typical() for need in self.needs())

    def seconds_for(self, work: float) -> float:
        """Typical seconds that steps of this training take for so much work."""
        pixels = registry.preview(self.dataset).test_images[0].size / 784
        return pixels * work * (6e-5 if self.network == "cnn" else 7e-6)

    def sample(self) -> bytes:
        """PNG of the first 60 training images."""
        return imaging.png(imaging.gallery(registry.preview(self.dataset).train_images, columns=10))

    def chance(self) -> float:
        """The test accuracy of always predicting the most frequent class."""
        return scores.guessing(registry.preview(self.dataset).test_labels)

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield accuracy, loss and spent ε per epoch; return the finished model's figures."""
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(registry.preview(self.dataset))
        yield Phase("finding the noise for this ε")
        plan = self.plan(len(images.train_images))
        training = yield from self.training(lab, images, plan)
        own = None
        # On a GPU, steps are recorded as CUDA graphs, also for a single training.
        if lab.group or lab.device.type != "cpu":
            from engine.learning.stacked_steps import Group

            group = lab.group or Group()
            group.join(training)
            own = None if lab.group else group
        curves = yield from self._train(training, plan)
        if own:
            own.end()
        yield Phase("adding up the exact ε")
        guarantee = self.guarantee(plan)
        return self._result(images, training, curves, guarantee, plan)

    def plan(self, n: int) -> TrainingPlan:
        """How it is trained: the mechanism, the steps and the optimizer. n: training images.

        Raises Refused if no noise meets the privacy budget.
        """
        mechanism = self.mechanism(n)
        return TrainingPlan(
            mechanism=mechanism,
            streams=self.streams(),
            examples=n,
            steps_per_epoch=math.ceil(n / self.batch_size),
            learning_rate=self.rate(mechanism.noise_multiplier, mechanism.steps),
            **{name: getattr(self, name) for name in HANDED_ON},
        )

    def mechanism(self, n: int) -> Mechanism:
        """What the accountant counts. n: number of training images. Raises Refused."""
        rate, steps = self.batch_size / n, math.ceil(n / self.batch_size) * self.epochs
        if not self.private:
            return Mechanism(0.0, math.inf, rate, steps)
        release = None
        if self.network == "scattering" and self.noise_multiplier != 0:
            release = self.mean_noise or self._mean_noise(rate, steps)
        noise = self.noise_multiplier
        if noise is None:
            noise = guarantees.noise_for(self.budget, rate, steps, self.delta, release)
        return Mechanism(noise, self.clip, rate, steps, release)

    @property
    def budget(self) -> float:
        """The target ε of a private training that is given no noise multiplier."""
        assert self.target_epsilon is not None  # validated: it has the one or the other
        return self.target_epsilon

    def _mean_noise(self, rate: float, steps: int) -> float:
        """Noise multiplier with which the mean takes about MEAN_SHARE of the privacy.

        Privacy is measured as μ² in Gaussian differential privacy (Dong, Roth and Su 2019).
        """
        if self.noise_multiplier is None:
            mu = 1 / privacy.gaussian_sigma(self.budget, self.delta)
        else:
            mu = privacy.dp_sgd_mu(self.noise_multiplier, rate, steps)
        return max(LEAST_MEAN_NOISE, 1 / (math.sqrt(MEAN_SHARE) * mu))

    def training(self, lab, images, plan: TrainingPlan):
        """The learner, ready for its first step."""
        if self.network == "cnn":
            from engine.learning.trainer import Training

            return Training(plan, images, lab.device)
        from engine.learning.linear import LinearTraining

        found = yield from lab.need(self.features())
        return LinearTraining(plan, images, lab.device, found.arrays["train"], found.arrays["test"])

    def _train(self, training, plan: TrainingPlan):
        """Run the training loop; returns the curves."""
        curves: dict[str, list[tuple[float, float]]] = {}
        for epoch in range(1, self.epochs + 1):
            begun = time.perf_counter()
            for step in range(plan.steps_per_epoch):
                training.step()
                yield Phase("training", (epoch - 1) * plan.steps_per_epoch + step + 1, plan.steps)
            yield from self._epoch_points(
                training, plan, epoch, time.perf_counter() - begun, curves
            )
            yield Image("answers", training.answers())
            if training.lost:  # depends only on the network, which is released anyway
                break
        return curves

    def _epoch_points(
        self, training, plan: TrainingPlan, epoch: int, seconds: float, curves: dict
    ) -> Iterator[Event]:
        points = training.measure() | {
            "images_per_second": plan.steps_per_epoch * self.batch_size / max(seconds, 1e-9)
        }
        if plan.mechanism.private:
            points["epsilon"] = plan.mechanism.epsilon_after(
                epoch * plan.steps_per_epoch, self.delta
            )
        for name, value in points.items():
            curves.setdefault(name, []).append((float(epoch), float(value)))
            yield Point(name, float(epoch), float(value))

    def _result(self, images, training, curves, guarantee, plan) -> Result:
        predictions = training.predictions
        right = predictions == images.test_labels
        metrics = {name: points[-1][1] for name, points in curves.items() if name != "epsilon"}
        metrics |= scores.beside(images.test_labels, predictions)
        warnings = self.warnings(plan, training.divergence, images) + scores.warnings(
            images.test_labels, images.classes
        )
        return Result(
            metrics=metrics
            | {
                "noise_multiplier": plan.mechanism.noise_multiplier,
                "learning_rate": plan.learning_rate,
            }
            | ({"mean_noise": release} if (release := plan.mechanism.release_noise) else {}),
            guarantee=guarantee,
            curves=curves,
            arrays={"predictions": predictions.astype(np.int16), "weights": training.weights()},
            images={"answers": training.answers()} | self._examples(images, predictions, right),
            facts={
                "per_class": scores.per_class(images.test_labels, right, images.classes),
                "classes": list(images.classes),
                "diverged": bool(training.divergence),
                "train_accuracy_on": training.shown,
                "test_images": {
                    c: int((images.test_labels == i).sum())
                    for i, c in enumerate(images.classes)
                    if (images.test_labels == i).any()
                },
                "warnings": warnings,
                "wrong": self._names(images, predictions, ~right),
            },
        )

    def _examples(self, images, predictions, right) -> dict[str, bytes]:
        """PNGs of the first ten correctly and the first ten wrongly classified test images."""
        shown: dict[str, bytes] = {}
        for name, rows in (("right", np.flatnonzero(right)), ("wrong", np.flatnonzero(~right))):
            shown |= {
                f"{name}_{i}": imaging.png(images.test_images[row], 84)
                for i, row in enumerate(rows[:SHOWN])
            }
        return shown

    def _names(self, images, predictions, chosen) -> list[list[str]]:
        """[predicted class, true class] for the first ten chosen test images."""
        rows = np.flatnonzero(chosen)[:SHOWN]
        named = (*images.classes, "nothing: its answer is no number")  # the last name belongs to -1
        return [[named[predictions[r]], images.classes[images.test_labels[r]]] for r in rows]

    # --- guarantee --------------------------------------------------------------------------------

    def warnings(self, plan: TrainingPlan, divergence: list[str], images) -> list[str]:
        """Warnings that qualify the guarantee or the figures."""
        found = [privacy.delta_warning(self.delta, plan.examples)] if self.private else []
        if self.private and not plan.mechanism.private:
            found.append("The noise multiplier is 0: nothing is hidden, ε is infinite.")
        return [w for w in found if w] + divergence + cautions.of(images)

    def guarantee(self, plan: TrainingPlan) -> Guarantee:
        """The (ε, δ) guarantee of this training, if it has one."""
        mechanism = plan.mechanism
        if not mechanism.private:
            return self._no_guarantee(plan)
        mean = (
            "; before that the mean of all images' features, once, under noise of"
            f" {rounding.described(mechanism.release_noise)} times the longest"
            if mechanism.release_noise
            else ""
        )
        return guarantees.subsampled_gaussian(
            mechanism,
            self.delta,
            words=(
                f"{self.optimizer_name}: each image's gradient clipped to {self.clip:g}, Gaussian"
                f" noise of {rounding.described(mechanism.noise_multiplier)} times that added to"
                f" their sum, {mechanism.steps} times{mean}"
            ),
            against=(
                "anyone who gets the trained network, or every step of its training, whatever else"
                " they know"
            ),
            also_released=(
                "the curves of training accuracy and loss, which are kept with the result, look at"
                " the training images directly; they are not covered by ε and would not be"
                " published. The test images are not protected"
            ),
            note=(
                "A simulation: the seed is known, so a real release would draw its noise from a"
                " secret source. Settings tried before this run on the same images are not"
                " counted in ε. ε counts all planned steps."
            ),
        )

    def charged(self, result: Result) -> Mechanism | None:
        """What publishing this training's result is charged for; None without privacy."""
        if not self.private:
            return None
        found, (rate, steps) = result.metrics, guarantees.sampled(result.guarantee)
        return Mechanism(found["noise_multiplier"], self.clip, rate, steps, found.get("mean_noise"))

    def jointly(self, promises: list[Guarantee]) -> dict[str, str]:
        """The words of the guarantee of several published trainings."""
        return {
            "mechanism": (
                f"{len(promises)} trainings by"
                f" {' and '.join(sorted({one.mechanism.split(':')[0] for one in promises}))} on the"
                " same images, each with draws of its own, all published"
            ),
            "note": (
                "Picking the best of several trainings spends what all of them spend, unless the"
                " picking is private too. A network without privacy, where one was trained beside"
                f" them for comparison, must not be published. {promises[0].note}"
            ),
        }

    def _no_guarantee(self, plan: TrainingPlan) -> Guarantee:
        return guarantees.nothing(
            "the noise multiplier is 0" if self.private else "trained without clipping and noise",
            "Nothing is promised to anyone in the data: the network may have memorised any of"
            " the training images.",
            sampling="Poisson",
            sample_rate=plan.mechanism.sample_rate,
            steps=plan.steps,
        )

    @property
    def optimizer_name(self) -> str:
        """DP-SGD, DP-Adam or DP-Adagrad."""
        return parameters.spec(DPTraining, "optimizer").label(self.optimizer)
