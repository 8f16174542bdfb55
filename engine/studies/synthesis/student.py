"""Study `student`: a network trained on synthetic images only and tested on real ones.

It is trained from scratch, as in report 2 (arXiv 2210.03205, 2022), Table 1.
"""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
from pydantic import Field, model_validator

from engine.core import parameters
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.study import Phase, Point, Refused, Result
from engine.datasets import imaging, registry
from engine.datasets.source import Missing
from engine.evaluation import cautions, scores
from engine.studies import guarantees
from engine.studies.image_study import Holder
from engine.studies.synthesis.bn_synthesis import BNSynthesis
from engine.studies.synthesis.classifier import PRIVATE, Classifier, taught

# what a student on real images with their own labels takes from the teacher's settings
ON_REAL = ("dataset", "network", "seed")
LOOKED_AT = 2000  # test images scored during training; all of them are scored at the end
# The name of the training images in a warning.
PARTS = {"synthetic": "synthetic", "real": "training"}
NOT_PROMISED = guarantees.nothing(
    "trained on the images themselves, without clipping and noise",
    "Nothing is promised to anyone in the data.",
    sampling="none: shuffled batches",
)


class Student(Holder):
    """Train a network from scratch on one snapshot or on as many real images.

    The labels are hard or soft.
    """

    NAME, VERSION = "student", 5
    TITLE = "A network that learns from synthetic images"
    PRESETS = {
        "quick": {},
        "tiny": {
            "epochs": 1,
            "batch_size": 200,
            "images": 40,
            "synthesis_batch_size": 20,
            "steps": 6,
            "snapshots": "2,6",
            "student_epochs": 2,
        },
        "private": PRIVATE,
        "fashion": {"dataset": "fashion-mnist", "epochs": 2},
        "report": {
            "dataset": "cifar10",
            "network": "resnet20",
            "weights": "given",
            "images": 20_000,
            "steps": 500,
            "snapshots": "100,250,500",
            "pixels": "pixels",
            "synthesis_learning_rate": 0.1,
            "jitter": 0,
            "student_epochs": 200,
            "student_batch_size": 128,
            "student_learning_rate": 0.1,
            "student_optimizer": "sgd",
            "student_norm": "batch",
            "shift": 0,
        },
        "best": {
            "dataset": "cifar10",
            "network": "resnet20",
            "weights": "given",
            "images": 50_000,
            "steps": 1000,
            "snapshots": "1000",
            "synthesis_learning_rate": 0.1,
            "flip": True,
            "soft_share": 1.0,
            "student_epochs": 200,
            "student_batch_size": 128,
            "student_learning_rate": 0.1,
            "student_optimizer": "sgd",
            "shift": 4,
            "student_flip": True,
            "mixup": 1.0,
        },
    }
    SERIES = {"table": "student accuracy over the snapshots, hard and soft labels, and real images"}

    synthesis: BNSynthesis = Field(default_factory=BNSynthesis)
    after: int = parameter(
        "Learns from the images after",
        0,
        low=0,
        high=10_000,
        unit="steps",
        help="One of the snapshots; 0 is the last of them.",
    )
    source: str = parameter(
        "Student's images",
        "synthetic",
        choices={"synthetic": "synthetic", "real": "as many real ones"},
        pattern="^(synthetic|real)$",
        help="Real ones, for comparison: the same number of training images.",
    )
    soft_share: float = parameter(
        "Share of soft labels",
        0.0,
        low=0.0,
        high=1.0,
        help=(
            "0: hard labels, the intended class of each image. 1: soft labels, the teacher's"
            " probabilities."
        ),
    )
    temperature: float = parameter(
        "Temperature",
        3.0,
        low=0.1,
        high=50.0,
        scale="log",
        help="Of soft labels: a higher one makes the teacher's probabilities more even.",
    )
    student_epochs: int = parameter(
        "Student's epochs",
        30,
        low=1,
        high=1000,
        scale="log",
        unit="passes over the images",
        help="How often each image is used.",
    )
    student_batch_size: int = parameter(
        "Student's batch size",
        50,
        low=1,
        high=4096,
        scale="log",
        unit="images",
        help="Images in each training step.",
    )
    student_learning_rate: float = parameter(
        "Student's learning rate",
        0.002,
        low=1e-5,
        high=10.0,
        scale="log",
        help="The largest; it falls during training.",
    )
    student_optimizer: str = parameter(
        "Student's optimizer",
        "adam",
        choices={"adam": "Adam", "sgd": "SGD with momentum"},
        pattern="^(adam|sgd)$",
        help="Report 2 used SGD with a learning rate of 0.1.",
    )
    student_norm: str = parameter(
        "Student's norm",
        "group",
        choices={"group": "group norm", "batch": "batch norm, as in report 2"},
        pattern="^(group|batch)$",
        help=(
            "Batch norm would record statistics of the synthetic images, which real ones may not"
            " have."
        ),
    )
    shift: int = parameter(
        "Shift",
        2,
        low=0,
        high=8,
        unit="pixels",
        help="How far images are shifted, at random, during the student's training.",
    )
    student_flip: bool = parameter(
        "Mirror for the student",
        False,
        help="Mirror half of the images at random. Not for digits.",
    )
    mixup: float = parameter(
        "Mixup",
        0.0,
        low=0.0,
        high=8.0,
        help="Mix images in pairs, with a share from Beta(α, α). 0: none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _last_snapshot(cls, values: dict) -> dict:
        """Replace 0 by the step of the last snapshot, so that each student has only one key."""
        values = parameters.nested(cls, values)  # this runs before Study's own validator
        given = values.get("synthesis", {})
        usual = BNSynthesis.model_fields["snapshots"].default
        told = given.get("snapshots", usual) if isinstance(given, dict) else given.snapshots
        last = str(told).rsplit(",", 1)[-1]
        return (
            values | {"after": int(last)}
            if values.get("after", 0) == 0 and last.isdecimal()
            else values
        )

    @model_validator(mode="after")
    def _after_is_kept(self) -> Student:
        if self.source == "synthetic" and self.after not in self.synthesis.kept:
            raise Refused(
                "after",
                f"after: {self.after} is not allowed; there are snapshots after"
                f" {self.synthesis.snapshots.replace(',', ', ')} steps",
            )
        return self

    def needs(self) -> tuple:
        """The synthetic images and their teacher."""
        if self.source == "synthetic":
            return (self.synthesis,)
        return (self.synthesis.teacher,) if self.soft_share else ()

    def idle(self) -> frozenset[str]:
        """Parameters without effect: of the synthesis on real images, of soft labels without."""
        found = super().idle() if self.soft_share else super().idle() | {"temperature"}
        if self.source == "synthetic":
            return found
        used = {"images"} | set(Classifier.model_fields if self.soft_share else ON_REAL)
        return found | {"after"} | (set(parameters.specs(BNSynthesis)) - used)

    def on_real(self) -> Student:
        """The same student on as many real images, with their own labels."""
        images = self.synthesis.images
        with suppress(Missing):  # a series can be named before its data set is here
            images = min(images, registry.preview(self.dataset).train_size)
        return self.replace(source="real", soft_share=0.0, images=images)

    def table(self) -> dict[str, Student]:
        """All snapshots with hard and with soft labels, and real images with their own labels."""
        found = {
            f"{name} labels, {step} steps": self.replace(
                source="synthetic", soft_share=share, after=step
            )
            for name, share in (("hard", 0.0), ("soft", 1.0))
            for step in self.synthesis.kept
        }
        return found | {"real images": self.on_real()}

    def fitting(self, shown) -> dict:
        """Adjust the number of images to the data set.

        On real images, at most all of them; otherwise as for the synthesis.
        """
        if self.source == "synthetic":
            return super().fitting(shown)
        return {"images": shown.train_size} if self.synthesis.images > shown.train_size else {}

    def check(self, shown) -> None:
        """Raise Refused, before computing anything, if the parameters do not fit the data set."""
        if self.source == "synthetic":
            return super().check(shown)
        self.synthesis.check_images(shown)
        if self.synthesis.images > shown.train_size:
            raise Refused(
                "images",
                f"images: {self.synthesis.images} is not allowed for a comparison with real"
                f" images; {self.dataset} has {shown.train_size} training images",
            )

    def work(self) -> float:
        """Forward passes over pixels; a training pass counts as three."""
        tests = registry.preview(self.dataset).test_images
        learned = 3 * self.synthesis.images * self.student_epochs
        return (learned + 20 * min(LOOKED_AT, len(tests)) + len(tests)) * tests[0].size

    def typical(self) -> float:
        """Seconds on two cores (docs/synthesis.md)."""
        return {"narrow": 6e-8, "resnet20": 1e-7}[self.synthesis.teacher.network] * self.work()

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.synthesis.teacher.network}"

    def run(self, lab):
        """Yield test accuracy over epochs; return it with the predictions."""
        import torch

        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        seen, labels, logits, promise, warnings = yield from self._lesson(lab, images)
        fit = self._fit(
            images,
            torch.tensor(seen).to(lab.device),
            torch.tensor(labels).long().to(lab.device),
            logits,
        )
        predictions, curves = yield from self._train(fit, images, lab.device)
        right = predictions == images.test_labels
        warnings = [
            *warnings,
            *fit.divergence("A smaller learning rate for the student helps."),
            *cautions.too_few(labels, images.classes, PARTS[self.source]),
            *cautions.too_few(images.test_labels, images.classes, "test"),
            *scores.warnings(images.test_labels, images.classes),
        ]
        metrics = {name: points[-1][1] for name, points in curves.items()}
        return Result(
            metrics=metrics
            | {"images": len(seen)}
            | scores.beside(images.test_labels, predictions),
            guarantee=promise,
            curves=curves,
            arrays={"predictions": predictions.astype(np.int16)},
            images={"answers": imaging.answers(images.test_images, right)},
            facts={
                "classes": list(images.classes),
                "per_class": scores.per_class(images.test_labels, right, images.classes),
                "warnings": warnings,
            },
        )

    def _train(self, fit, images, device):
        """Train for all epochs; return the predictions (m,) for the test images, and the curves."""
        import torch

        test = torch.tensor(images.test_images).to(device)
        curves: dict[str, list[tuple[float, float]]] = {}
        shown = max(1, self.student_epochs // 20)
        for epoch in range(1, self.student_epochs + 1):
            for step in fit.epoch():
                done = (epoch - 1) * fit.steps + step
                yield Phase("training the student", done, self.student_epochs * fit.steps)
            if not math.isfinite(fit.loss):
                raise Failed(
                    "The student's training diverged: its loss is not a number any more. Take a"
                    " smaller learning rate for the student."
                )
            last = epoch == self.student_epochs
            if epoch % shown == 0 or last:
                predictions = self._predictions(fit, test if last else test[:LOOKED_AT])
                accuracy = float((predictions == images.test_labels[: len(predictions)]).mean())
                for name, value in (("test_accuracy", accuracy), ("train_loss", fit.loss)):
                    curves.setdefault(name, []).append((float(epoch), value))
                    yield Point(name, float(epoch), value)
        return predictions, curves

    def _lesson(self, lab, images):
        """What the student trains on.

        Images (n, h, w, c) uint8, labels (n,), the teacher's logits or None, the guarantee, and
        warnings about the images.
        """
        import torch

        from engine.core.streams import derive_seed
        from engine.learning import supervised

        h, _, channels = images.train_images.shape[1:]
        if self.source == "real":
            rows = np.random.default_rng(derive_seed("real images", self.seed)).permutation(
                len(images.train_images)
            )[: self.synthesis.images]
            seen, labels = images.train_images[rows], images.train_labels[rows]
            promise, warnings = NOT_PROMISED, []
        else:
            made = yield from lab.need(self.synthesis)
            seen, labels, promise = (
                made.arrays[f"images_{self.after}"],
                made.arrays["labels"].astype(np.int64),
                made.guarantee,
            )
            warnings = made.warnings
        logits = None
        if self.soft_share:
            heard = []
            teachers = self.synthesis.needs()
            for teacher in teachers if self.source == "synthetic" else teachers[:1]:
                network, scale = taught(
                    teacher, (yield from lab.need(teacher)), channels, h, lab.device
                )
                heard.append(supervised.outputs(network, torch.tensor(seen).to(lab.device), scale))
            logits = sum(heard) / len(heard)
        return seen, labels, logits, promise, warnings

    def _fit(self, images, seen, labels, logits):
        from engine.core.streams import derive_seed
        from engine.learning import networks, supervised

        h, _, channels = images.train_images.shape[1:]
        network = networks.resnet(
            self.synthesis.teacher.network,
            self.student_norm,
            channels,
            h,
            len(images.classes),
            derive_seed("student", self.seed),
        ).to(seen.device)
        recipe = supervised.Recipe(
            self.student_epochs,
            self.student_batch_size,
            self.student_learning_rate,
            self.student_optimizer,
            5e-4 if self.student_optimizer == "sgd" else 0.0,
            shift=self.shift,
            flip=self.student_flip,
            mixup=self.mixup,
            temperature=self.temperature,
            soft_share=self.soft_share,
        )
        return supervised.Fit(network, recipe, seen, labels, self.seed + 1, logits)

    def _predictions(self, fit, test) -> np.ndarray:
        from engine.learning import networks, supervised

        return networks.named(supervised.outputs(fit.network, test)).cpu().numpy()
