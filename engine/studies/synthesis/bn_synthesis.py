"""Study `bn_synthesis`: images made from a network's batch-norm statistics (report 2).

Report 2 is arXiv 2210.03205, 2022. The study shows how the images emerge and measures what they
reveal about the training data. The snapshots at the chosen steps come from one optimisation, so all
of them together cost one run. The optimisation itself is in bn_inversion.py.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import numpy as np
from pydantic import Field, model_validator

from engine import privacy
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.study import Guarantee, Image, Phase, Point, Refused, Result
from engine.datasets import imaging, registry
from engine.studies.image_study import Holder
from engine.studies.synthesis.classifier import PRIVATE, Classifier, taught

COLUMNS = 8  # images of each class in the gallery
FILM = 24  # frames from the initial noise to the last step
NEIGHBOURS = 3  # images of each class that are shown beside their nearest real images
HELD_OUT = 20  # minimum number of test images, which no network has trained on
MOST_BYTES = 200_000_000  # size limit for all snapshots together
COMPARED = 2_000  # synthetic images whose nearest neighbours are searched
REFERENCES = 20_000  # maximum number of training images searched for neighbours
BY_SSIM = 5_000  # the same for structural similarity (SSIM), which is slow
# standard deviation of the noise on the noised copies, as a share of the pixel range
NOISED = 0.3
# For exact copies, the share of copies found and the membership AUC must be at least this;
# otherwise no verdict is given.
ALL_FOUND = 0.9
SPACES = {"pixels": "pixels", "ssim": "structure (SSIM)", "features": "the teacher's features"}


class BNSynthesis(Holder):
    """Optimise images to match a network's recorded statistics; compare them with real images."""

    NAME, VERSION = "bn_synthesis", 5
    TITLE = "Images from statistics"
    PRESETS = {
        "quick": {},
        "tiny": {
            "epochs": 1,
            "batch_size": 200,
            "images": 40,
            "synthesis_batch_size": 20,
            "steps": 6,
            "snapshots": "2,6",
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
        },
        "best": {
            "dataset": "cifar10",
            "network": "resnet20",
            "weights": "given",
            "images": 50_000,
            "steps": 1000,
            "snapshots": "1000",
            "synthesis_learning_rate": 0.1,
            "statistics_weight": 1.0,
            "flip": True,
        },
    }

    teacher: Classifier = Field(default_factory=Classifier)
    images: int = parameter(
        "Images to generate",
        1000,
        low=2,
        high=50_000,
        scale="log",
        help="How many images, spread evenly over the classes.",
    )
    steps: int = parameter(
        "Steps",
        100,
        low=1,
        high=10_000,
        scale="log",
        ends=("noise", "all that the network stores"),
        help="Optimization steps that change each image towards the statistics.",
    )
    snapshots: str = parameter(
        "Snapshots after steps",
        "10,25,50,75,100",
        pattern=r"^\d{1,5}(,\d{1,5}){0,9}$",
        help=(
            "steps after which the images are kept: up to ten ascending numbers with commas, such"
            " as 10,50,100"
        ),
    )
    pixels: str = parameter(
        "Images are",
        "smooth",
        choices={"smooth": "smooth", "pixels": "free pixels, as in report 2"},
        pattern="^(smooth|pixels)$",
        help=(
            "Smooth: a small blur makes neighbouring pixels change together. Free pixels can match"
            " the statistics with patterns that mean nothing."
        ),
    )
    synthesis_batch_size: int = parameter(
        "Images at a time",
        250,
        low=2,
        high=5000,
        scale="log",
        help="Images whose statistics are matched together (the batch size). Report 2 used 250.",
    )
    synthesis_learning_rate: float = parameter(
        "Step size",
        0.5,
        low=1e-4,
        high=10.0,
        scale="log",
        help="The step size of Adam, which changes the images. Report 2 used 0.1.",
    )
    statistics_weight: float = parameter(
        "Weight of the statistics",
        1.0,
        low=0.0,
        high=1000.0,
        help="Weight of matching the statistics, relative to the labels.",
    )
    labels_weight: float = parameter(
        "Weight of the labels",
        1.0,
        low=0.0,
        high=1000.0,
        help="Weight of the intended classes, relative to the statistics.",
    )
    variation: float = parameter(
        "Total variation",
        0.0,
        low=0.0,
        high=10.0,
        help="Penalty on differences between neighbouring pixels.",
    )
    norm: float = parameter("Image norm", 0.0, low=0.0, high=10.0, help="Penalty on bright images.")
    softness: float = parameter(
        "Label smoothing",
        0.0,
        low=0.0,
        high=0.9,
        help="Share of each intended label that is spread over all classes.",
    )
    jitter: int = parameter(
        "Jitter",
        2,
        low=0,
        high=8,
        unit="pixels",
        help="How far the images are shifted, at random, before the teacher processes them.",
    )
    flip: bool = parameter(
        "Mirror", False, help="Mirror the images half of the time. Not for digits."
    )
    class_wise: bool = parameter(
        "Statistics of each class",
        False,
        help="Match the statistics of each class separately instead of those of all images.",
    )
    forward: str = parameter(
        "The teacher normalises by",
        "recorded",
        choices={"recorded": "recorded statistics", "batch": "batch statistics"},
        pattern="^(recorded|batch)$",
        help=(
            "The statistics that the teacher's batch norm uses: those recorded in training, or"
            " those of the current batch."
        ),
    )
    ending: str = parameter(
        "The last snapshot is",
        "last",
        choices={"last": "as it comes", "best": "the best so far"},
        pattern="^(last|best)$",
        help=(
            "Best: the images of each batch with the smallest loss so far, instead of those of the"
            " last step."
        ),
    )
    teachers: int = parameter(
        "Teachers",
        1,
        low=1,
        high=4,
        help="Networks with different seeds. The images are optimized for all of them.",
    )

    @model_validator(mode="after")
    def _snapshots_fit(self) -> BNSynthesis:
        kept = self.kept
        if list(kept) != sorted(set(kept)):
            raise Refused(
                "snapshots",
                f"snapshots: {self.snapshots} is not allowed; the steps must ascend, such as"
                " 10,50,100",
            )
        if kept[0] < 1:
            raise Refused(
                "snapshots",
                f"snapshots: {kept[0]} is not allowed; the first snapshot comes after at least 1"
                " step",
            )
        if kept[-1] > self.steps:
            raise Refused(
                "snapshots",
                f"snapshots: {kept[-1]} is not allowed; there are {self.steps} steps, so it would"
                " never come",
            )
        return self

    @property
    def kept(self) -> tuple[int, ...]:
        """The steps after which a snapshot of the images is kept."""
        return tuple(int(step) for step in self.snapshots.split(","))

    def check(self, shown) -> None:
        """Raise Refused, before computing anything, if the parameters do not fit the data set.

        shown: the data set's preview or images.
        """
        self.check_images(shown)
        self.teacher.check(shown)
        self._check_sizes(shown)
        self._check_teachers()

    def _check_sizes(self, shown) -> None:
        """Raise Refused if there are too many images for memory, or too few for the classes."""
        size = self.images * len(self.kept) * shown.test_images[0].size
        if size > MOST_BYTES:
            raise Refused(
                "images",
                f"images: {self.images} is not allowed with {len(self.kept)} snapshots:"
                f" {size / 1e6:,.0f} MB; allowed: at most"
                f" {MOST_BYTES // (len(self.kept) * shown.test_images[0].size):,}, or fewer"
                " snapshots",
            )
        if self.images < len(shown.classes):
            raise Refused(
                "images",
                f"images: {self.images} is not allowed; there are {len(shown.classes)} classes, and"
                " each needs an image",
            )
        if self.synthesis_batch_size < 2 * len(shown.classes) and self.class_wise:
            raise Refused(
                "synthesis_batch_size",
                f"synthesis_batch_size: {self.synthesis_batch_size} is not allowed with statistics"
                f" of each class; allowed: at least {2 * len(shown.classes)}",
            )

    def _check_teachers(self) -> None:
        """Raise Refused if the teachers allow no such synthesis."""
        if self.teacher.weights == "given" and self.teachers > 1:
            raise Refused(
                "teachers",
                f"teachers: {self.teachers} is not allowed with given weights; there is one file",
            )
        if self.teacher.private and (self.teachers > 1 or self.class_wise):
            name = "teachers" if self.teachers > 1 else "class_wise"
            raise Refused(
                name,
                f"{name}: {str(getattr(self, name)).lower()} is not allowed with a private teacher;"
                " only one release of its statistics is paid for",
            )
        if self.teacher.private and self.forward == "batch":
            raise Refused(
                "forward",
                "forward: batch is not allowed with a private teacher; group norm always divides by"
                " each image's own statistics",
            )

    def fitting(self, shown) -> dict:
        """Adjust the number of images to the data set.

        At least one per class, or two where statistics are matched per class, and no more than fit
        in memory.
        """
        found, classes = super().fitting(shown), len(shown.classes)
        most = MOST_BYTES // (len(self.kept) * shown.test_images[0].size)
        if not classes <= self.images <= most:
            found["images"] = classes if self.images < classes else most
        if self.class_wise and self.synthesis_batch_size < 2 * classes:
            found["synthesis_batch_size"] = 2 * classes
        return found

    def check_images(self, shown) -> None:
        """Raise Refused if no student can learn this data set or no attack can be tried on it."""
        self.teacher.check_shape(shown)
        if len(shown.test_images) < HELD_OUT:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; it has {len(shown.test_images)} test"
                f" images, and fewer than {HELD_OUT} say nothing of what is given away",
            )

    def label_of(self, classes: int) -> np.ndarray:
        """(images,) the class that each image is to show; the classes take turns."""
        return np.arange(self.images) % classes

    def needs(self) -> tuple:
        """The teachers, which differ only in their seeds."""
        return tuple(
            self.teacher.replace(seed=(self.seed + number) % 2**31)
            for number in range(self.teachers)
        )

    def work(self) -> float:
        """Pixels times steps, plus the neighbour search, without the teachers.

        The neighbour search takes as long as twenty steps on all the images searched.
        """
        shown = registry.preview(self.dataset)
        searched = min(REFERENCES, shown.train_size) + min(REFERENCES // 2, len(shown.test_images))
        return (self.images * self.steps * self.teachers + 20 * searched) * shown.test_images[
            0
        ].size

    def typical(self) -> float:
        """Seconds on two cores (docs/synthesis.md)."""
        return {"narrow": 1.3e-7, "resnet20": 3.1e-7}[self.teacher.network] * self.work()

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.teacher.network}"

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield the gallery and each layer's distance while the first images are optimised.

        Returns all snapshots and the measures of what they reveal.
        """
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        found = []
        for each in self.needs():
            found.append((each, (yield from lab.need(each))))
        making = Synthesizer(self, images, found, lab.device)
        yield from making.all_batches()
        yield Phase("looking for their nearest real images")
        return (yield from making.result())

    def guarantee(self, teacher: Guarantee) -> Guarantee:
        """The guarantee for a training image: the same as the teacher's."""
        if teacher.epsilon is None:
            return replace(
                teacher,
                mechanism=(
                    "none: images made from the statistics and the answers of a network that"
                    " learned without privacy"
                ),
                note=(
                    "Nothing is promised to anyone in the data. Statistics come from the images"
                    " themselves, and the teacher may have memorised some of them. That the"
                    " images look odd is no protection. A promise needs noise: choose a private"
                    " teacher."
                ),
            )
        return replace(
            teacher,
            note=(
                "The images are made from the private teacher and its noised statistics alone:"
                f" post-processing, which costs no further privacy. {teacher.note}"
            ),
        )


class Synthesizer:
    """The images during their optimisation."""

    def __init__(self, study: BNSynthesis, images, found: list, device):
        import torch

        from engine.studies.synthesis import bn_inversion

        self.study, self.images, self.found, self.device = study, images, found, device
        self.h, _, self.channels = images.train_images.shape[1:]
        self.classes = len(images.classes)
        self.teachers = [self._teacher(*each) for each in found]
        self.labels = torch.from_numpy(study.label_of(self.classes)).to(device)
        self.shots = {
            step: np.empty((study.images, *images.train_images.shape[1:]), np.uint8)
            for step in study.kept
        }
        self.settings = bn_inversion.Settings(
            study.pixels,
            study.steps,
            study.synthesis_learning_rate,
            jitter=study.jitter,
            flip=study.flip,
            weights=bn_inversion.Weights(
                study.statistics_weight,
                study.labels_weight,
                study.variation,
                study.norm,
                study.softness,
                study.class_wise,
            ),
        )
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.film: dict[int, bytes] = {}
        self.filmed = {
            round(step) for step in np.r_[0, np.geomspace(1, study.steps, FILM - 1)]
        } | set(study.kept)
        # step → for each batch: number of images, distance, share that the teacher assigns the
        # wanted class
        self.released: dict[int, list[tuple[int, float, float]]] = {}

    def _teacher(self, study, result: Result):
        import torch

        from engine.learning import networks
        from engine.studies.synthesis import bn_inversion

        network, scale = taught(study, result, self.channels, self.h, self.device)
        kind = "class" if self.study.class_wise else "statistics"
        names = [
            name.removeprefix(f"{kind}:mean:")
            for name in result.arrays
            if name.startswith(f"{kind}:mean:")
        ]
        means, variances = (
            [torch.tensor(result.arrays[f"{kind}:{what}:{name}"]).to(self.device) for name in names]
            for what in ("mean", "variance")
        )
        wanted = dict(zip(names, zip(means, variances)))
        if not all(bool(torch.isfinite(value).all()) for pair in wanted.values() for value in pair):
            raise Failed(
                "A class of these images has no training image, so it has no statistics. Choose"
                " statistics of all classes together."
            )
        if self.study.forward == "batch":
            for layer in bn_inversion.norm_layers(network).values():
                layer.train()
                # normalise by the batch, but do not update the recorded statistics
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = 0.0
        return bn_inversion.Teacher(networks.channels_last(network), wanted, scale)

    def all_batches(self):
        """Optimise the batches one after the other.

        Memory then holds only one batch, and the snapshots as bytes.
        """
        from engine.studies.synthesis import bn_inversion

        study, begun = self.study, 0
        for number, labels in enumerate(self._batches()):
            batch = bn_inversion.Batch(
                self.settings,
                self.teachers,
                labels,
                (self.channels, self.h, self.images.train_images.shape[2]),
                study.seed,
                number,
            )
            if number == 0:
                yield self._frame(0, batch)
            for step, found in bn_inversion.optimise(batch):
                if step in self.shots:
                    self._keep(step, batch, slice(begun, begun + len(labels)))
                if number == 0 and step in self.filmed:
                    yield from self._points(step, found)
                    yield self._frame(step, batch)
                done = begun * study.steps + step * len(labels)
                yield Phase("making the images", done, study.images * study.steps)
            if not bool(batch.free.isfinite().all() & found.total.isfinite()):
                raise Failed(
                    "The images ran away: the objective is not a number any more. Take a smaller"
                    " step size or smaller weights."
                )
            begun += len(labels)

    def _batches(self) -> tuple:
        """The labels of each batch."""
        parts = self.labels.split(self.study.synthesis_batch_size)
        # A last batch with fewer images than classes is too small for statistics of its own.
        if len(parts) > 1 and len(parts[-1]) < self.classes:
            parts = (*parts[:-2], self.labels[-len(parts[-2]) - len(parts[-1]) :])
        return parts

    def _keep(self, step: int, batch, rows: slice) -> None:
        """Store a snapshot as the bytes that are released, and how the teacher sees those bytes."""
        import torch

        from engine.studies.synthesis import bn_inversion

        best = self.study.ending == "best" and step == self.study.kept[-1]
        self.shots[step][rows] = as_bytes(batch.best.clamp(0, 1) if best else batch.pixels)
        pixels = (
            torch.tensor(self.shots[step][rows]).to(self.device).permute(0, 3, 1, 2).float() / 255
        )
        watches = [bn_inversion.Watch(teacher.network) for teacher in self.teachers]
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for watch in watches:
                stack.enter_context(watch)
            found = bn_inversion.objective(
                pixels, batch.labels, self.teachers, self.settings.weights, watches
            )
        self.released.setdefault(step, []).append(
            (len(pixels), float(sum(found.distances.values())), float(found.right))
        )

    def of_released(self, step: int) -> dict[str, float]:
        """Means over the batches of a snapshot.

        The distance of its statistics, and the share of images that the teacher assigns the wanted
        class.
        """
        count, distance, right = np.array(self.released[step]).T
        return {
            "distance": float(np.average(distance, weights=count)),
            "teacher_agrees": float(np.average(right, weights=count)),
        }

    def _points(self, step: int, found):
        values = {f"distance:{name}": float(value) for name, value in found.distances.items()}
        for name, value in (values | {"label_loss": float(found.labels)}).items():
            self.curves.setdefault(name, []).append((float(step), value))
            yield Point(name, float(step), value)

    def _frame(self, step: int, batch) -> Image:
        """The gallery: one row per class, with the same images in every frame."""
        labels = batch.labels.cpu().numpy()
        rows = [np.flatnonzero(labels == c)[:COLUMNS] for c in range(min(self.classes, 10))]
        shown, blank = (
            as_bytes(batch.pixels),
            np.full(self.images.train_images.shape[1:], 128, np.uint8),
        )
        tiles = [shown[row[i]] if i < len(row) else blank for row in rows for i in range(COLUMNS)]
        self.film[step] = imaging.png(imaging.gallery(np.stack(tiles), COLUMNS))
        return Image("gallery", self.film[step], f"after {step} steps")

    # --- what the images reveal -------------------------------------------------------------------

    def result(self):
        """Compare each snapshot with training and held-out images; return the complete result."""
        neighbours = Neighbours(self)
        controls = neighbours.controls()
        doubts = doubt(controls, len(neighbours.held) // 2)
        shown = yield from self._compare(neighbours)
        last = {
            name: points[-1][1]
            for name, points in self.curves.items()
            if not name.startswith("distance:")
        }
        teacher = self.found[0][1]
        of_teacher = {
            "teacher_accuracy": teacher.metrics["test_accuracy"],
            "teacher_membership_auc": teacher.metrics["membership_auc"],
            "teacher_membership_odds": teacher.metrics["membership_odds"],
        }
        return Result(
            metrics=last | of_teacher | self._areas(teacher),
            guarantee=self.study.guarantee(teacher.guarantee),
            curves=self.curves,
            arrays={f"images_{step}": shot for step, shot in self.shots.items()}
            | {"labels": self.labels.cpu().numpy().astype(np.int16)},
            images={f"film_{step:05d}": png for step, png in self.film.items()}
            | shown
            | {"gallery": self.film[max(self.film)]},
            facts={
                "classes": list(self.images.classes),
                "controls": controls,
                "doubts": doubts,
                "compared": neighbours.compared,
                "references": len(neighbours.train),
                "held_out": len(neighbours.held),
                "asked": neighbours.asked,
                "warnings": doubts + self._warnings(),
            },
        )

    def _compare(self, neighbours: Neighbours):
        """Measure each snapshot and add to the curves; return PNGs of its nearest real images."""
        shown = {}
        for number, step in enumerate(self.study.kept):
            measures = neighbours.measures(self.shots[step]) | self.of_released(step)
            for name, value in measures.items():
                self.curves.setdefault(name, []).append((float(step), value))
                yield Point(name, float(step), value)
            for space, png in neighbours.sheets(self.shots[step]).items():
                shown[f"nearest_{space}_{step}"] = png
            yield Phase("looking for their nearest real images", number + 1, len(self.study.kept))
        return shown

    def _areas(self, teacher: Result) -> dict[str, float]:
        """Upper bounds on the area under a ROC curve: for any (ε, δ) method, and for this one.

        Empty if there is no guarantee.
        """
        promise = teacher.guarantee
        if promise.epsilon is None or promise.delta is None:
            return {}
        any_ = privacy.area_any(promise.epsilon, promise.delta)
        noise, release = teacher.metrics["noise_multiplier"], self.study.teacher.statistics_noise
        mine = privacy.area_dp_sgd(noise, promise.sample_rate, promise.steps, release)
        return {"area_any": any_, "area_mechanism": min(any_, mine)}

    def _warnings(self) -> list[str]:
        found = []
        if self.of_released(self.study.kept[-1])["teacher_agrees"] < 0.5:
            found.append(
                "The teacher sees the wanted class in fewer than half of the images: take more"
                " steps, or let the labels count more."
            )
        if self.study.synthesis_batch_size < self.classes:
            found.append(
                f"Only {self.study.synthesis_batch_size} images share their statistics: too few"
                f" for {self.classes} classes."
            )
        return found + [f"Of the teacher: {warning}" for warning in self.found[0][1].warnings]


def doubt(controls: dict[str, dict[str, float]], compared: int) -> list[str]:
    """Reasons why no verdict can be given on what the images reveal.

    These are the controls with a known answer that do not give it. compared: the number of held-out
    images, and of members, in the last control.
    """
    copies, unseen = controls["copies of training images"], controls["held-out images"]
    by = {"pixels": "by pixels", "features": "by what the teacher sees"}
    # The comparison is written so that NaN counts as not found.
    found = [
        f"Compared {by[space]}, exact copies of training images are not found:"
        f" {100 * copies[f'copies_{space}']:.0f} in 100 look like copies and members are told in"
        f" {100 * copies[f'membership_{space}']:.0f} of "
        "100 cases, where both should be 100."
        for space in by
        if not all(copies[f"{name}_{space}"] >= ALL_FOUND for name in ("copies", "membership"))
    ]
    # four standard deviations of the AUC of an uninformative score
    chance = 4 * math.sqrt((2 * compared + 1) / (12 * compared**2))
    found += [
        f"Compared {by[space]}, images that nobody learned from seem to give members away in"
        f" {100 * unseen[f'membership_{space}']:.0f} of 100 cases, where 50 is chance."
        for space in by
        if not abs(unseen[f"membership_{space}"] - 0.5) <= max(0.1, chance)
    ]
    return [
        f"{each} No verdict is given on what these images give away: images that stand in the"
        " training part and in the test part, or that all look alike, make the tests blind."
        for each in found
    ]


class Neighbours:
    """Nearest real images of synthetic ones, by pixels and by the teacher's features.

    Held-out images give the reference distances.
    """

    def __init__(self, making: Synthesizer):
        self.making, self.teacher = making, making.teachers[0]
        self.train = making.images.train_images[:REFERENCES]
        self.held = making.images.test_images[: REFERENCES // 2]
        self.compared, self.asked = (
            min(COMPARED, making.study.images),
            min(COMPARED, len(self.train), len(self.held)),
        )
        self.features = {
            name: self.views(found) for name, found in (("train", self.train), ("held", self.held))
        }

    def views(self, images: np.ndarray) -> dict:
        """(n, h, w, c) uint8 → normalised pixels and features, as rows (n, d) on the device."""
        import torch

        from engine.learning import supervised

        on_device = torch.tensor(images).to(self.making.device)
        rows = on_device.flatten(1).float() / 255
        # ignore brightness and contrast: a pale copy is still a copy
        rows = rows - rows.mean(1, keepdim=True)
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)
        return {
            "pixels": rows,
            "features": supervised.outputs(
                self.teacher.network, on_device, self.teacher.scale, features=True
            ),
        }

    def measures(self, shot: np.ndarray) -> dict[str, float]:
        """One snapshot's share that looks like copies, median ratio, and membership AUC.

        The last says how well membership of a real image can be inferred from the snapshot.
        """
        return self._measures(self.views(shot[: self.compared]))

    def _measures(self, seen: dict) -> dict[str, float]:
        from engine.attacks import memorization

        found: dict[str, float] = {}
        for space in ("pixels", "features"):
            train, held = self.features["train"][space], self.features["held"][space]
            copies = memorization.copies(seen[space], train, held)
            members, others = (
                -memorization.nearest(real[: self.asked], seen[space])[1].cpu().numpy()
                for real in (train, held)
            )
            found |= {
                f"copies_{space}": copies.share,
                f"ratio_{space}": copies.median,
                f"membership_{space}": memorization.membership(members, others),
            }
        return found

    def controls(self) -> dict[str, dict[str, float]]:
        """The same measures for images whose answer is known.

        These are copies of training images, and half of the held-out images.
        """
        from engine.attacks import memorization

        real = self.train[: self.asked]
        noise = np.random.default_rng(0).normal(0, 255 * NOISED, real.shape)
        noised = (real + noise).clip(0, 255).round().astype(np.uint8)
        found = {
            "copies of training images": self._measures(
                {space: rows[: self.asked] for space, rows in self.features["train"].items()}
            ),
            f"the same copies under noise ({NOISED:g} of the range)": self._measures(
                self.views(noised)
            ),
            "held-out images": {},
        }
        half = len(self.held) // 2
        for space in ("pixels", "features"):
            train, held = self.features["train"][space], self.features["held"][space]
            copies = memorization.copies(held[:half], train, held[half:])
            members, others = (
                -memorization.nearest(rows, held[:half])[1].cpu().numpy()
                for rows in (train[:half], held[half : 2 * half])
            )
            found["held-out images"] |= {
                f"copies_{space}": copies.share,
                f"ratio_{space}": copies.median,
                f"membership_{space}": memorization.membership(members, others),
            }
        return found

    def sheets(self, shot: np.ndarray) -> dict[str, bytes]:
        """One PNG per space: pairs of a synthetic image and its nearest training image.

        Three pairs per class, two classes per row.
        """
        import torch

        from engine.attacks import memorization

        classes = min(10, self.making.classes)
        labels = self.making.labels.cpu().numpy()[: len(shot)]
        rows = np.concatenate([np.flatnonzero(labels == c)[:NEIGHBOURS] for c in range(classes)])
        some, seen = shot[rows], self.views(shot[rows])
        found = {
            space: memorization.nearest(seen[space], self.features["train"][space])[0].cpu().numpy()
            for space in ("pixels", "features")
        }

        def channels_first(images):
            return torch.tensor(images).to(self.making.device).permute(0, 3, 1, 2).float() / 255

        found["ssim"] = (
            memorization.nearest_by_ssim(
                channels_first(some), channels_first(self.train[:BY_SSIM])
            )[0]
            .cpu()
            .numpy()
        )
        sheets = {}
        for space, nearest in found.items():
            # left: synthetic; right: real
            pairs = np.concatenate([some, self.train[nearest]], 2)
            sheets[space] = imaging.png(imaging.gallery(pairs, 2 * NEIGHBOURS, gap=4))
        return sheets


def as_bytes(pixels) -> np.ndarray:
    """(b, c, h, w) in [0, 1] → (b, h, w, c) uint8."""
    return (pixels * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
