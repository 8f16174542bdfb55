"""Study `noisy_training`: train a network on noised images.

The labels are true, noised or found by clustering. The pipeline is that of report 1 (Green, Hodson,
Hanoian 2020): its two networks, optimizer and batches (its Tables 1 and 2; Adadelta, batches of
200). Each error of the report's pipeline is a field, which separates the cost of privacy from the
effect of the errors.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from engine import privacy
from engine.core import parameters, rounding
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Image, Phase, Point, Refused, Result, Study
from engine.datasets import imaging, registry
from engine.evaluation import cautions, scores
from engine.studies.clustering import IIC, KMeansLabels
from engine.studies.image_study import check_batch, fitted
from engine.studies.local_noise import LocalNoise, error

SHOWN = 40  # test images shown with the network's predictions
LABELS = {
    "true": "true labels",
    "randomised": "labels by randomised response",
    "kmeans": "K-means' clusters",
    "iic": "IIC's clusters",
}
ARMS = {
    "raw": {"images": "raw", "labels": "true"},
    "true labels": {"labels": "true"},
    "noised labels": {"labels": "randomised"},
    "K-means labels": {"labels": "kmeans"},
    "IIC labels": {"labels": "iic"},
}
BUDGETS = (50.0, 150.0, 500.0, 1925.0, 5000.0)  # for the sweep over ε, depth and width
WIDTHS = (0.25, 0.5, 1.0)
DEPTHS = ("shallow", "deep", "deeper")
PUBLISHED = {
    "calibration": "textbook",
    "sensitivity": "report",
    "division": "as_published",
    "label_noise": "as_published",
    "matching": "as_published",
}  # the report's pipeline with all its errors


class NoisyTraining(LocalNoise):
    """Train a network of the report on released images; test on raw and equally noised images."""

    NAME, VERSION = "noisy_training", 4
    TITLE = "Learning from noised images"
    PRESETS = {
        "quick": {},
        "tiny": {"epochs": 1, "width": 0.25, "batch_size": 400},
        "report": {"dataset": "mnist", "epochs": 20, "labels": "randomised"} | PUBLISHED,
        "mnist": {
            "dataset": "mnist",
            "epochs": 20,
            "calibration": "textbook",
            "sensitivity": "report",
        },
    }

    SERIES = {
        "walk": "what privacy cost, what the errors cost",
        "sweep": "does depth amplify noise?",
        "survival": "which images survive?",
    }

    labels: str = parameter(
        "Labels are",
        "true",
        choices=LABELS,
        pattern="^(true|randomised|kmeans|iic)$",
        help=(
            "The training label of each image. Clusters found in noised images cost no further"
            " privacy."
        ),
    )
    label_epsilon: float = parameter(
        "Privacy budget ε for the label",
        75.0,
        low=0.01,
        high=100.0,
        scale="log",
        ends=("more private", "more truthful"),
        help="For labels by randomised response: smaller ε, more wrong labels. Report 1 meant 75.",
    )
    network: str = parameter(
        "Network",
        "shallow",
        choices={
            "shallow": "shallow (Table 1)",
            "deep": "deep (Table 2)",
            "deeper": "deeper (ours)",
        },
        pattern="^(shallow|deep|deeper)$",
        help="The two networks of report 1, and one of ours with two more convolutions.",
    )
    width: float = parameter(
        "Width",
        1.0,
        low=0.125,
        high=2.0,
        scale="log",
        unit="times report 1's",
        help="Factor on the number of filters and dense units.",
    )
    epochs: int = parameters.epochs(5)
    batch_size: int = parameter(
        "Batch size",
        200,
        low=1,
        high=16384,
        unit="images",
        scale="log",
        help="Images in each training step.",
    )
    learning_rate: float = parameter(
        "Learning rate",
        1.0,
        low=1e-5,
        high=100.0,
        scale="log",
        help="Of the optimizer Adadelta. Keras' default was 1.",
    )
    division: str = error(
        "Scale of the input",
        "Report 1 divided the noised images, already of length 1, by 255 once more, so the network"
        " received almost nothing.",
    )
    label_noise: str = error(
        "Noise on labels",
        "Report 1 meant to noise the labels, but its keep probability was exactly 1 in floating"
        " point, so all labels stayed true.",
    )
    matching: str = error(
        "Matching",
        "Report 1 took cluster numbers for digits. Corrected, each cluster stands for the digit"
        " that matches best.",
    )

    # --- before running ---------------------------------------------------------------------------

    def clustering(self) -> Study | None:
        """The study that finds the labels, on the same noised images; None without clustering."""
        shared = {name: getattr(self, name) for name in LocalNoise.model_fields}
        if self.labels == "kmeans":
            return KMeansLabels(**shared)
        if self.labels == "iic":
            return fitted(IIC(**shared))[0]
        return None

    def needs(self) -> tuple[Study, ...]:
        """The clustering study, whose clusters are the labels."""
        found = self.clustering()
        return (found,) if found else ()

    def check(self, shown) -> None:
        """Refuse settings that do not fit the data set, before computing."""
        if self.labels == "randomised" and len(shown.classes) < 2:
            raise Refused(
                "labels",
                "labels: randomised is not allowed; a coin needs at least two classes to choose"
                " from",
            )
        if (clustering := self.clustering()) is not None:
            try:
                clustering.check(shown)
            except Refused as refused:
                raise Refused(
                    "labels",
                    f"labels: {self.labels} is not allowed here; the clustering says: {refused}",
                ) from None
        check_batch(self, shown.train_size)

    def work(self) -> float:
        """Images processed in total, weighted by the network's size."""
        return (
            self.epochs
            * registry.preview(self.dataset).train_size
            * self.width**2
            * {"shallow": 1.0, "deep": 1.2, "deeper": 1.6}[self.network]
        )

    def kind(self) -> str:
        """Runs of one kind take time in proportion to their work."""
        return f"{self.NAME}:{self.dataset}:{self.network}:{self.width:g}"

    def chance(self) -> float:
        """The test accuracy of always predicting the most frequent class."""
        return scores.guessing(registry.preview(self.dataset).test_labels)

    # --- series of trainings ----------------------------------------------------------------------

    def corrected(self, **changes) -> NoisyTraining:
        """The same with every error of the report corrected, then with the changes."""
        return self.changed_to(
            **(
                dict.fromkeys(PUBLISHED, "corrected")
                | {"calibration": "exact", "sensitivity": "replace", "normalisation": "corrected"}
                | changes
            )
        )

    def changed_to(self, **changes) -> NoisyTraining:
        """The same with some fields changed.

        Fields that then have no effect return to their defaults, so equivalent trainings share one
        result.
        """
        values = self.model_dump() | changes
        if values["images"] == "raw":
            idle = {"epsilon", "delta", "calibration", "sensitivity", "normalisation", "division"}
        else:
            idle = set()
        idle |= set() if values["labels"] == "randomised" else {"label_epsilon", "label_noise"}
        idle |= set() if values["labels"] in ("kmeans", "iic") else {"matching"}
        return NoisyTraining(**{n: v for n, v in values.items() if n not in idle})

    def arm(self, name: str, **changes) -> NoisyTraining:
        """The same for one of the ARMS."""
        return self.changed_to(**({"images": "noised"} | ARMS[name] | changes))

    def walk(self) -> dict[str, NoisyTraining]:
        """Trainings from raw images to the published pipeline, step by step: words → study."""
        return {words: study for words, (_, study) in self._steps().items()}

    def kinds(self) -> dict[str, str]:
        """What each step of the walk shows: words → kind.

        "raw"; "no labels", the cost of doing without labels even on raw images; "privacy", the cost
        of noise with everything done right; "error", the additional effect of each error of the
        report.
        """
        return {words: kind for words, (kind, _) in self._steps().items()}

    def _steps(self) -> dict[str, tuple[str, NoisyTraining]]:
        told = {
            "true": "true labels",
            "randomised": "noise on labels",
            "kmeans": "labels by K-means",
            "iic": "labels by IIC",
        }[self.labels]
        steps = {"raw images": ("raw", self.corrected(images="raw", labels="true"))}
        if self.labels in ("kmeans", "iic"):
            steps[told] = ("no labels", self.corrected(images="raw"))
            steps["noise on images"] = ("privacy", self.corrected(images="noised"))
        else:
            steps["noise on images"] = ("privacy", self.corrected(images="noised", labels="true"))
            steps[told] = ("privacy", self.corrected(images="noised"))
        made: dict[str, str] = {}
        for words, changes in self._errors():
            made |= changes
            steps[words] = ("error", self.corrected(images="noised", **made))
        return steps

    def _errors(self) -> list[tuple[str, dict[str, str]]]:
        """The report's errors that matter for its labels, in the order of the walk."""
        errors = [
            (
                "too little noise (textbook formula)",
                {"calibration": "textbook", "sensitivity": "report"},
            )
        ]
        if self.labels == "randomised":
            errors.append(("labels left true", {"label_noise": "as_published"}))
        if self.labels == "iic":
            errors.append(("700 images share one length", {"normalisation": "as_published"}))
        errors.append(("divided by 255 twice", {"division": "as_published"}))
        if self.labels in ("kmeans", "iic"):
            errors.append(("clusters not matched", {"matching": "as_published"}))
        return errors

    def sweep(self) -> dict[str, NoisyTraining]:
        """Trainings over ε × depth × width with true labels, to see if depth amplifies noise."""
        return {
            f"ε = {rounding.chosen(epsilon)}, {depth}, width {width:g}": self.corrected(
                images="noised", labels="true", epsilon=epsilon, network=depth, width=width
            )
            for epsilon in BUDGETS
            for width in WIDTHS
            for depth in DEPTHS
        }

    def survival(self) -> dict[str, NoisyTraining]:
        """One training per budget, from much noise to little.

        They show which test images are still classified correctly.
        """
        return {
            f"ε = {rounding.chosen(epsilon)}": self.corrected(
                images="noised", labels="true", epsilon=epsilon
            )
            for epsilon in BUDGETS
        }

    # --- what the clients release -----------------------------------------------------------------

    def inputs(self, released: np.ndarray) -> np.ndarray:
        """Released images → network inputs, scaled by a fixed factor.

        The data's own standard deviation would cost privacy.
        """
        if self.images == "raw":
            return released
        return (
            released / 255
            if self.division == "as_published"
            else released * np.float32(math.sqrt(released[0].size) / 3)
        )

    def released_labels(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """True labels → the labels that the clients report.

        They are the same, or go through randomized response, unless the report's rounding left them
        true.
        """
        if self.labels != "randomised" or self.label_noise == "as_published":
            return labels
        return privacy.sample_randomized_response(
            labels, self.label_epsilon, classes, np.random.default_rng(self._label_seed())
        )

    def _label_seed(self) -> int:
        """The seed of the labels' coin flips.

        It depends on the label's ε and, if the images are noised, on their release.
        """
        return self.release_seed(f"labels at ε {self.label_epsilon!r}, images {self.images}")

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield accuracies per epoch; return them with the predictions for every test image."""
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        classes = len(images.classes)
        if (clustering := self.clustering()) is None:
            labels, standing_for = (
                self.released_labels(images.train_labels, classes),
                np.arange(classes),
            )
        else:
            found = yield from _only_phases(lab.need(clustering))
            labels, standing_for = found.arrays["labels"].astype(np.int64), found.arrays["matching"]
            if self.matching == "as_published":
                standing_for = np.arange(len(standing_for))
        yield Phase("noising the images")
        learner = self._learner(lab, images, labels, len(standing_for))
        curves = yield from self._train(learner, images, standing_for)
        return self._result(images, learner, standing_for, curves)

    def _learner(self, lab, images, labels: np.ndarray, outputs: int):
        from engine.learning.trainer import Supervised

        tests = {
            "raw": (
                images.test_images.astype(np.float32) / 255
                if self.images == "raw"
                else self.inputs(self.clean(images.test_images))
            )
        }
        if self.images == "noised":
            tests["noised"] = self.inputs(self.released(images.test_images, "test"))
        return Supervised(
            self,
            self.inputs(self.released(images.train_images, "train")),
            labels,
            tests,
            outputs,
            lab.device,
        )

    def _train(self, learner, images, standing_for: np.ndarray):
        """Train all epochs; returns the curves."""
        curves: dict[str, list[tuple[float, float]]] = {}
        for epoch in range(1, self.epochs + 1):
            for done, of in learner.epoch():
                yield Phase("training", (epoch - 1) * of + done, self.epochs * of)
            for name, value in self._measure(learner, images, standing_for).items():
                curves.setdefault(name, []).append((float(epoch), value))
                yield Point(name, float(epoch), value)
            yield Image("answers", self._answers(learner, images, standing_for))
        return curves

    def _measure(self, learner, images, standing_for: np.ndarray) -> dict[str, float]:
        found = {
            f"test_accuracy_{name}": float(
                (called(learner.predict(name), standing_for) == images.test_labels).mean()
            )
            for name in learner.tests
        }
        learned_on = found.get("test_accuracy_noised", found["test_accuracy_raw"])
        return (
            {"test_accuracy": learned_on}
            | found
            | {"train_loss": learner.loss, "train_accuracy": learner.agreement}
        )

    def _answers(self, learner, images, standing_for: np.ndarray) -> bytes:
        """PNG of 40 fixed test images as the network saw them, with misclassified ones framed."""
        rows = np.linspace(
            0, len(images.test_images) - 1, min(SHOWN, len(images.test_images))
        ).astype(int)
        name = self.images if self.images in learner.tests else "raw"
        seen = np.stack([imaging.stretch(learner.input_image(name, row)) for row in rows])
        wrong = called(learner.predict(name)[rows], standing_for) != images.test_labels[rows]
        return imaging.png(imaging.gallery(imaging.framed(seen, wrong), columns=8, gap=3), 480)

    def _result(self, images, learner, standing_for: np.ndarray, curves) -> Result:
        predictions = {name: called(learner.predict(name), standing_for) for name in learner.tests}
        main = predictions.get("noised", predictions["raw"])
        right = main == images.test_labels
        beside = scores.beside(images.test_labels, main)
        warnings = [
            *self.formula_warnings(),
            *learner.divergence(),
            *cautions.of(images),
            *scores.warnings(images.test_labels, images.classes),
        ]
        return Result(
            metrics={name: points[-1][1] for name, points in curves.items()} | beside,
            guarantee=self.guarantee(len(images.classes)),
            curves=curves,
            arrays={
                f"predictions_{name}": found.astype(np.int16) for name, found in predictions.items()
            },
            images={"answers": self._answers(learner, images, standing_for)},
            facts={
                "per_class": scores.per_class(images.test_labels, right, images.classes),
                "classes": list(images.classes),
                "parameters": learner.parameters,
                "outputs": len(standing_for),
                "warnings": warnings,
            },
        )

    # --- guarantee --------------------------------------------------------------------------------

    def guarantee(self, classes: int) -> Guarantee:
        """The guarantee for the owner of one training image; it depends on the labels."""
        if self.labels == "randomised" and self.label_noise == "corrected":
            return self._pair(classes)
        more = {
            "true": "The labels are true and not protected.",
            "randomised": (
                "The labels were meant to be noised but stayed true (the report's rounding error):"
                " they are not protected."
            ),
            "kmeans": "",
            "iic": "",
        }[self.labels]
        if self.clustering() is not None:
            more = (
                "The labels were found in the noised images: post-processing, which costs"
                " nothing. Which cluster stands for which class is judged by true labels, for the"
                " accuracies only; that is not covered."
                if self.images == "noised"
                else (
                    "The labels were found in images that were not noised: they promise nothing"
                    " either."
                )
            )
        return self.image_guarantee(more=more)

    def _pair(self, classes: int) -> Guarantee:
        """The guarantee for a noised image with its noised label, or the label alone."""
        unit, told = (
            "one training image and its label",
            f"randomised response with ε = {rounding.chosen(self.label_epsilon)} on the label",
        )
        promise = self.image_guarantee(unit=unit)
        if promise.epsilon is None:
            return replace(
                promise,
                note=(
                    "Nothing is promised about the image, which is not noised. Its label alone"
                    f" has ε = {rounding.chosen(self.label_epsilon)} (randomised response)."
                ),
            )
        total = privacy.pair_epsilon(promise.epsilon, self.label_epsilon)
        return replace(
            promise,
            epsilon=total,
            mechanism=f"{promise.mechanism}; {told}",
            accountant=f"{promise.accountant} plus the label's ε (basic composition)",
            neighbours=("one image and its label replaced by any others (images at most √2 apart)"),
            odds_any=privacy.odds_any(total, self.delta),
            odds_mechanism=privacy.odds_pair(
                self.sigma(self.epsilon), math.sqrt(2), self.label_epsilon, classes
            ),
        )


def called(outputs: np.ndarray, standing_for: np.ndarray) -> np.ndarray:
    """The class that each largest output stands for, (n,); -1 stays -1: an output was NaN."""
    return np.append(standing_for, -1)[outputs]


def least_budgets(answers: dict[float, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The smallest ε from which on each image is classified correctly, (n,).

    answers: ε → predictions (n,); labels (n,). inf if an image is classified correctly at no ε; NaN
    if it is wrong at the largest ε but was right at a smaller one.
    """
    least, holds = np.full(len(labels), np.inf), np.ones(len(labels), bool)
    for epsilon in sorted(answers, reverse=True):
        right = answers[epsilon] == labels
        least[right & ~holds & np.isinf(least)] = np.nan
        holds &= right
        least[holds] = epsilon
    return least


def _only_phases(run):
    """Run another study without its curves and images, which are not this study's."""
    while True:
        try:
            event = next(run)
        except StopIteration as end:
            return end.value
        if isinstance(event, Phase):
            yield event
