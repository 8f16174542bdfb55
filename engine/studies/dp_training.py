"""Study `dp_training`: a network trained under DP-SGD (report 3; Abadi et al. 2016), or without privacy as its twin.

Every step draws a Poisson sample of the pictures, clips what each of them asks for, adds noise once, and steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
from pydantic import model_validator

from engine import data, parameters, pictures, privacy
from engine.parameters import parameter
from engine.study import Event, Guarantee, Phase, Picture, Point, Refused, Result, Study

# Picked on a held-out fifth of mnist-5k's training digits, two seeds each (docs/dp_training.md). Clipped gradients are
# short, so steps may be longer with privacy.
USUAL_RATE = {True: {"sgd": 1.0, "adam": 0.006, "adagrad": 0.05}, False: {"sgd": 0.3, "adam": 0.003, "adagrad": 0.03}}
SHOWN = 10  # right and wrong pictures on the page
LEAST_NOISE = 0.01  # between none and this, noise hides nothing and no accountant can count it
MOST_STEPS = 100_000  # half an hour to an hour on two cores: the most that one visitor may ask of everybody's worker


class DPTraining(Study):
    """Train the report's network under DP-SGD, DP-Adam or DP-Adagrad; say what was learned and what ε was spent."""

    NAME, VERSION = "dp_training", 2
    TITLE = "Training under differential privacy"
    PRESETS = {
        "quick": {},
        "tiny": {"epochs": 2, "batch_size": 500},
        "report": {"dataset": "mnist", "epochs": 15, "learning_rate": 0.1, "max_grad_norm": 4.0, "noise_multiplier": 0.5,
                   "batch_size": 256, "activation": "relu"},
        "mnist": {"dataset": "mnist", "epochs": 15, "target_epsilon": 3.0, "batch_size": 512},
    }

    EXCLUSIVE = ("noise_multiplier", "target_epsilon")

    dataset: str = parameters.dataset()
    network: str = parameter("Network", "report_cnn", choices={"report_cnn": "the report's CNN (26,000 weights)"},
                             pattern="^report_cnn$", help="What learns: two convolutions and two dense layers.")
    activation: str = parameter("Activation", "tanh", choices={"tanh": "tanh", "relu": "ReLU, as the report"},
                                pattern="^(tanh|relu)$", help="tanh keeps gradients short, so clipping costs less (Papernot et al. 2021).")
    optimizer: str = parameter("Optimizer", "sgd", choices={"sgd": "DP-SGD", "adam": "DP-Adam", "adagrad": "DP-Adagrad"},
                               pattern="^(sgd|adam|adagrad)$", help="How a noised gradient becomes a step.")
    target_epsilon: float | None = parameters.target_epsilon(8.0)
    noise_multiplier: float | None = parameters.noise_multiplier(None)
    max_grad_norm: float = parameters.max_grad_norm(1.0)
    learning_rate: float | None = parameters.learning_rate()
    batch_size: int = parameters.batch_size(250, "How many pictures a step looks at, on average: each picture joins by its own coin flip.")
    epochs: int = parameters.epochs(20, "How often each picture is used on average, about. More epochs learn more and spend more privacy.")
    delta: float = parameters.delta(1e-5)
    private: bool = parameter("With privacy", True, help="Off: the same network with no clipping and no noise.")
    seed: int = parameters.seed()

    @model_validator(mode="before")
    @classmethod
    def _one_of_noise_and_budget(cls, values: dict) -> dict:
        """A noise multiplier alone replaces the default budget; both together contradict each other."""
        if values.get("noise_multiplier") is None:
            return values
        if values.get("target_epsilon") is not None:
            raise Refused("target_epsilon", "target_epsilon: give target_epsilon or noise_multiplier, not both; one "
                                            "follows from the other")
        return values | {"target_epsilon": None}

    @model_validator(mode="after")
    def _noise_or_budget(self) -> DPTraining:
        if self.private and self.noise_multiplier is None and self.target_epsilon is None:
            raise Refused("noise_multiplier", "noise_multiplier: none is not allowed without target_epsilon; give one of the two")
        if self.noise_multiplier is not None and 0 < self.noise_multiplier < LEAST_NOISE:
            raise Refused("noise_multiplier", f"noise_multiplier: {self.noise_multiplier:g} is not allowed; allowed: 0 (no privacy), "
                                              f"or a number from {LEAST_NOISE} to 1000")
        return self

    def check(self, n: int) -> None:
        """Refuse what does not fit n training pictures, before anything is computed."""
        if self.batch_size > n:
            raise Refused("batch_size", f"batch_size: {self.batch_size} is not allowed; {self.dataset} has {n} training pictures")
        steps = self.epochs * math.ceil(n / self.batch_size)
        if steps > MOST_STEPS:
            raise Refused("epochs", f"epochs: {self.epochs} at batch size {self.batch_size} is not allowed: {steps:,} steps; allowed: "
                                    f"at most {MOST_STEPS:,}, so fewer epochs or larger batches")

    def twin(self) -> DPTraining:
        """The same training without privacy. What only privacy uses keeps its default, so that all share one twin."""
        shared = {n: getattr(self, n) for n in ("dataset", "network", "activation", "optimizer", "batch_size", "epochs", "seed")}
        return DPTraining(**shared, private=False)

    @property
    def rate(self) -> float:
        """The learning rate: the chosen one, or what is usual for the optimizer."""
        return USUAL_RATE[self.private][self.optimizer] if self.learning_rate is None else self.learning_rate

    def work(self) -> float:
        """Pictures seen in all; a step of its own costs about as much as fifty of them."""
        n = data.exhibits(self.dataset).train_size
        return self.epochs * math.ceil(n / self.batch_size) * (self.batch_size + 50.0)

    def kind(self) -> str:
        """Runs of one kind take time in proportion to their work."""
        return f"{self.NAME}:{self.dataset}:{self.private}"

    def sample(self) -> bytes:
        """PNG of the first 60 training pictures: what the network is about to learn from."""
        return pictures.png(pictures.gallery(data.exhibits(self.dataset).train_images, columns=10))

    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / len(data.exhibits(self.dataset).classes)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, lab):
        """Yield accuracy, loss and spent ε an epoch; return the finished network's figures."""
        yield Phase("reading the pictures")
        images = lab.images(self.dataset)
        n = len(images.train_images)
        self.check(n)
        yield Phase("finding the noise for this ε")
        plan = self.plan(n)
        training, curves = yield from self._train(lab, images, plan)
        yield Phase("adding up the exact ε")
        guarantee = self.guarantee(plan)
        return self._result(images, training, curves, guarantee, plan)

    def plan(self, n: int) -> dict:
        """What the accountant needs: sample_rate, steps, steps an epoch and the noise multiplier. n: training pictures."""
        steps_per_epoch = math.ceil(n / self.batch_size)
        plan = {"n": n, "sample_rate": self.batch_size / n, "steps_per_epoch": steps_per_epoch,
                "steps": steps_per_epoch * self.epochs, "noise_multiplier": self.noise_multiplier or 0.0}
        if self.private and self.noise_multiplier is None:
            plan["noise_multiplier"] = self._calibrate(plan)
        return plan

    def _calibrate(self, plan: dict) -> float:
        try:
            return privacy.dp_sgd_noise(self.target_epsilon, plan["sample_rate"], plan["steps"], self.delta)
        except privacy.Unreachable as error:
            raise Refused("target_epsilon", f"target_epsilon: {parameters.number(self.target_epsilon)} cannot be reached: {error}") from None

    def _train(self, lab, images, plan: dict):
        """The training loop. Returns (Training, curves)."""
        from engine.training import Training
        training = Training(self, plan, images, lab.device)
        curves: dict[str, list[tuple[float, float]]] = {}
        for epoch in range(1, self.epochs + 1):
            begun = time.perf_counter()
            for step in range(plan["steps_per_epoch"]):
                training.step()
                yield Phase("training", (epoch - 1) * plan["steps_per_epoch"] + step + 1, plan["steps"])
            yield from self._epoch_points(training, plan, epoch, time.perf_counter() - begun, curves)
            yield Picture("answers", training.answers())
            if training.diverged:  # seen from the network alone, which is released anyway
                break
        return training, curves

    def _epoch_points(self, training, plan, epoch: int, seconds: float, curves: dict) -> Iterator[Event]:
        points = training.measure() | {"pictures_per_second": plan["steps_per_epoch"] * self.batch_size / max(seconds, 1e-9)}
        if self.private and plan["noise_multiplier"] > 0:
            spent = privacy.rdp_epsilon(plan["noise_multiplier"], plan["sample_rate"], epoch * plan["steps_per_epoch"], self.delta)
            points["epsilon"] = spent
        for name, value in points.items():
            curves.setdefault(name, []).append((float(epoch), float(value)))
            yield Point(name, float(epoch), float(value))

    def _result(self, images, training, curves, guarantee, plan) -> Result:
        predictions = training.predict(training.test_images)
        right = predictions == images.test_labels
        metrics = {name: points[-1][1] for name, points in curves.items() if name != "epsilon"}
        classes = {c: float(right[images.test_labels == i].mean()) for i, c in enumerate(images.classes)
                   if (images.test_labels == i).any()}
        return Result(
            metrics=metrics | {"noise_multiplier": plan["noise_multiplier"], "learning_rate": self.rate}, guarantee=guarantee, curves=curves,
            arrays={"predictions": predictions.astype(np.int16)},
            pictures={"answers": training.answers()} | self._examples(images, predictions, right),
            facts={"per_class": classes, "classes": list(images.classes), "diverged": training.diverged,
                   "train_accuracy_on": len(training.shown_rows),
                   "test_pictures": {c: int((images.test_labels == i).sum()) for i, c in enumerate(images.classes) if c in classes}, "warnings": self._warnings(plan),
                   "wrong": self._names(images, predictions, ~right)})

    def _examples(self, images, predictions, right) -> dict[str, bytes]:
        """The first ten right and ten wrong test pictures as PNGs."""
        shown = {}
        for name, rows in (("right", np.flatnonzero(right)), ("wrong", np.flatnonzero(~right))):
            shown |= {f"{name}_{i}": pictures.png(images.test_images[row], 84) for i, row in enumerate(rows[:SHOWN])}
        return shown

    def _names(self, images, predictions, chosen) -> list[list[str]]:
        """[what the network said, what it is] for the first ten chosen test pictures."""
        rows = np.flatnonzero(chosen)[:SHOWN]
        return [[images.classes[predictions[r]], images.classes[images.test_labels[r]]] for r in rows]

    # --- what is promised --------------------------------------------------------------------------------------------

    def _warnings(self, plan: dict) -> list[str]:
        found = [privacy.delta_warning(self.delta, plan["n"])] if self.private else []
        if self.private and plan["noise_multiplier"] == 0:
            found.append("The noise multiplier is 0: nothing is hidden, ε is infinite.")
        return [w for w in found if w]

    def guarantee(self, plan: dict) -> Guarantee:
        """The (ε, δ) that this training earned, or none."""
        if not self.private or plan["noise_multiplier"] == 0:
            return self._no_guarantee(plan)
        sigma, q, steps = plan["noise_multiplier"], plan["sample_rate"], plan["steps"]
        spent = privacy.dp_sgd_epsilon(sigma, q, steps, self.delta)
        return Guarantee(
            unit="one training picture with its label", epsilon=spent.epsilon, delta=self.delta,
            mechanism=f"{self.optimizer_name}: each picture's gradient clipped to {self.max_grad_norm:g}, Gaussian noise "
                      f"of {sigma:.4g} times that added to their sum, {steps} times",
            accountant=spent.accountant, sampling="Poisson", sample_rate=q, steps=steps,
            note="A simulation: the seed is known, so a real release would draw its noise from a secret source. Settings "
                 "tried before this run on the same pictures are not counted in ε. ε counts all planned steps.",
            neighbours="one training picture added or removed; how many there are is taken to be public",
            against="anyone who gets the trained network, or every step of its training, whatever else they know",
            also_released="the curves of training accuracy and loss on this page look at the training pictures directly; "
                          "they are not covered by ε and would not be published. The test pictures are not protected",
            odds_any=privacy.odds_any(spent.epsilon, self.delta), odds_mechanism=privacy.odds_dp_sgd(sigma, q, steps))

    def _no_guarantee(self, plan: dict) -> Guarantee:
        why = "trained without clipping and noise" if not self.private else "the noise multiplier is 0"
        return Guarantee(
            unit="one training picture with its label", epsilon=None, delta=None, mechanism=f"none: {why}",
            accountant="none", sampling="Poisson", sample_rate=plan["sample_rate"], steps=plan["steps"],
            note="Nothing is promised to anyone in the data: the network may have memorised any of the training pictures.")

    @property
    def optimizer_name(self) -> str:
        """DP-SGD, DP-Adam or DP-Adagrad."""
        return parameters.spec(DPTraining, "optimizer").label(self.optimizer)
