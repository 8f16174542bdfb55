"""Study `classifier`: a residual network that classifies images, the teacher of page Synthesis.

The statistics that its batch norms record are the starting point of the synthesis. Its weights are
trained here or read from VEIL_DATA/weights. A private teacher is trained by DP-SGD, and its layers'
statistics are released with additional noise.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib

import numpy as np

from engine import privacy
from engine.core import parameters, rounding, settings
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.streams import derive_seed
from engine.core.study import Guarantee, Phase, Point, Refused, Result
from engine.datasets import imaging, reading, registry, source
from engine.evaluation import cautions, scores
from engine.privacy.mechanism import Mechanism
from engine.studies import guarantees
from engine.studies.image_study import ImageStudy, check_batch

# mean and standard deviation of the colours that the given weights were trained with; 0.5 for grey
# images
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NETWORKS = {"narrow": "narrow ResNet (8 layers)", "resnet20": "ResNet20"}
SCORED = 10_000  # maximum number of training and of test images scored by the membership test
# settings of the private preset; see docs/synthesis.md
PRIVATE = {"private": True, "epochs": 30, "batch_size": 250, "learning_rate": 4.0}
SLOWER = {
    False: "A smaller learning rate for the teacher helps.",
    True: "A smaller learning rate for the teacher or a larger ε helps.",
}  # key: is the teacher private?
STATISTICS_CLIP = 1.0  # clip norm of an image's vector of statistics


class Classifier(ImageStudy):
    """Train a residual network or read its weights; measure accuracy and membership leakage."""

    NAME, VERSION = "classifier", 5
    TITLE = "A network that names images"
    PRESETS = {
        "quick": {},
        "tiny": {"epochs": 1, "batch_size": 200},
        "private": PRIVATE,
        "report": {"dataset": "cifar10", "network": "resnet20", "weights": "given"},
        "best": {
            "dataset": "cifar10",
            "network": "resnet20",
            "epochs": 200,
            "batch_size": 128,
            "pixel_noise": 0.0,
            "crop": "mirrored",
        },
    }

    dataset: str = parameters.dataset()
    network: str = parameter(
        "Network",
        "narrow",
        choices=NETWORKS,
        pattern="^(narrow|resnet20)$",
        help=(
            "The network that classifies the images. The narrow one is for computers without a"
            " graphics card."
        ),
    )
    weights: str = parameter(
        "Teacher's weights",
        "trained",
        choices={"trained": "trained here", "given": "from a file"},
        pattern="^(trained|given)$",
        help="From a file: VEIL_DATA/weights/NETWORK_DATASET.npz, such as resnet20_cifar10.npz.",
    )
    private: bool = parameter(
        "Private teacher",
        False,
        help=(
            "On: the teacher is trained by DP-SGD, and the statistics of its layers are noised."
            " What is made from them then has a guarantee."
        ),
    )
    target_epsilon: float = parameter(
        "Privacy budget ε",
        8.0,
        low=0.1,
        high=1000.0,
        scale="log",
        ends=("more private", "more accurate"),
        help=(
            "For a private teacher: how much the teacher and its statistics together may reveal"
            " about any image."
        ),
    )
    delta: float = parameters.delta(1e-5)
    max_grad_norm: float = parameters.max_grad_norm(1.0)
    statistics_noise: float = parameter(
        "Noise on the statistics",
        4.0,
        low=0.5,
        high=1000.0,
        scale="log",
        help="For a private teacher: noise multiplier of the released statistics.",
    )
    epochs: int = parameters.epochs(
        6, "Of the teacher: how often each image is used; with privacy, on average."
    )
    batch_size: int = parameters.batch_size(
        100, "Of the teacher: images in each training step; with privacy, on average."
    )
    learning_rate: float = parameter(
        "Learning rate",
        0.1,
        low=1e-5,
        high=100.0,
        scale="log",
        help=(
            "Of the teacher: the largest learning rate of SGD with momentum. With privacy: that of"
            " every step of plain SGD."
        ),
    )
    pixel_noise: float = parameter(
        "Noise on the teacher's images",
        1.0,
        low=0.0,
        high=5.0,
        help=(
            "Noise during the teacher's training, in units of half the pixel range. It makes the"
            " teacher respond to shapes instead of single pixels, so that the synthetic images"
            " can be recognised. It protects nobody."
        ),
    )
    crop: str = parameter(
        "Teacher's images are",
        "kept",
        choices={"kept": "unchanged", "shifted": "shifted", "mirrored": "shifted and mirrored"},
        pattern="^(kept|shifted|mirrored)$",
        help="Data augmentation, for small sets of photographs. Digits must not be mirrored.",
    )
    seed: int = parameters.seed()

    def idle(self) -> frozenset[str]:
        """Parameters without effect: of privacy without it, and of training with given weights."""
        privacy = {"target_epsilon", "delta", "max_grad_norm", "statistics_noise"}
        trained = {"epochs", "batch_size", "learning_rate", "pixel_noise", "crop", "seed"}
        if self.weights == "given":
            return frozenset(trained | privacy | {"private"})
        return frozenset({"pixel_noise", "crop"} if self.private else privacy)

    def sample(self) -> bytes:
        """PNG of the first 60 training images."""
        return imaging.png(imaging.gallery(registry.preview(self.dataset).train_images, columns=10))

    def chance(self) -> float:
        """The accuracy of always predicting the most frequent test class."""
        return scores.guessing(registry.preview(self.dataset).test_labels)

    def check_shape(self, shown) -> None:
        """Raise Refused if these networks cannot take the images or there is nothing to classify.

        shown: the data set's preview or images.
        """
        size = shown.test_images.shape[1:3]
        if min(size) < 16 or max(size) > 64 or size[0] != size[1]:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; its images have {size[0]} x {size[1]}"
                " pixels; allowed: squares of 16 to 64",
            )
        if len(shown.classes) < 2:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; it has a single class, so there is"
                " nothing to tell apart",
            )

    def check(self, shown) -> None:
        """Raise Refused, before computing anything, if the parameters do not fit the data set.

        shown: the data set's preview or images.
        """
        self.check_shape(shown)
        if self.weights == "given" and self.private:
            raise Refused(
                "weights",
                "weights: given is not allowed for a private teacher; nobody knows what those"
                " weights have seen",
            )
        if (
            self.private
            and (spent := privacy.gaussian_epsilon(self.statistics_noise, self.delta))
            >= self.target_epsilon
        ):
            raise Refused(
                "target_epsilon",
                f"target_epsilon: {rounding.chosen(self.target_epsilon)} is not allowed; the noised"
                f" statistics alone spend {rounding.epsilon(spent)} of it, and the training must"
                " spend some too; take a larger ε, or more noise on the statistics",
            )
        if self.weights == "trained":
            check_batch(self, shown.train_size)

    def reads(self) -> dict[str, str]:
        """The file of weights and its checksum, if the weights are given."""
        return {"weights": reading.digest(self.weights_file())} if self.weights == "given" else {}

    def weights_file(self):
        """The path of the given weights.

        Raises MissingFile, which says what to do, if there is no such file.
        """
        name = f"{self.network}_{self.dataset.replace(':', '_')}.npz"
        path = settings.data_folder() / "weights" / name
        if not path.is_file():
            raise source.MissingFile(
                f"weights/{name}",
                "Put it into the data folder (VEIL_DATA), or choose weights that are trained here.",
            )
        return path

    def work(self) -> float:
        """Forward passes over pixels; a training pass counts as three, a private one as six."""
        shown = registry.preview(self.dataset)
        return (
            shown.train_size
            * shown.test_images[0].size
            * (4 + (0 if self.weights == "given" else self.epochs * (6 if self.private else 3)))
        )

    def typical(self) -> float:
        """Seconds on two cores (docs/synthesis.md)."""
        return {"narrow": 8e-8, "resnet20": 1e-7}[self.network] * self.work()

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{self.network}:{self.private}"

    def stream_name(self) -> str:
        """The key, for a private teacher: several of them may be published together."""
        return super().stream_name() if self.private else ""

    # --- running ----------------------------------------------------------------------------------

    def run(self, lab):
        """Yield accuracy over epochs.

        Returns the weights, the statistics, and a membership score for each image.
        """
        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        mechanism = self.mechanism(len(images.train_images))
        trainer = ClassifierTrainer(self, images, lab.device)
        if self.weights == "given":
            trainer.load(self.weights_file())
        else:
            yield from trainer.learn(mechanism)
        yield Phase("recording the statistics")
        if not trainer.finite():
            raise Failed(
                "The teacher's training diverged: its weights are not numbers any more. Take a"
                " smaller learning rate for the teacher."
            )
        trainer.record()
        # The weights may be finite while the squares of the activations are not.
        if not trainer.finite():
            raise Failed(
                "The teacher's training diverged: its layers' statistics are not numbers any more."
                " Take a smaller learning rate for the teacher."
            )
        if self.weights == "trained":
            yield trainer.point(self.epochs)
        return trainer.result(mechanism)

    def recipe(self):
        """The training recipe for engine.learning.supervised."""
        from engine.learning.supervised import Recipe

        return Recipe(
            self.epochs,
            self.batch_size,
            self.learning_rate,
            optimizer="sgd",
            weight_decay=5e-4,
            pixel_noise=self.pixel_noise,
            shift=0 if self.crop == "kept" else 2 if self.network == "narrow" else 4,
            flip=self.crop == "mirrored",
        )

    def mechanism(self, n: int) -> Mechanism:
        """What the accountant counts; it spends exactly the budget, statistics included.

        n: number of training images. Raises Refused.
        """
        steps_per_epoch = math.ceil(n / self.batch_size)
        rate, steps = 1 / steps_per_epoch, steps_per_epoch * self.epochs
        if not self.private:
            return Mechanism(0.0, math.inf, rate, steps)
        noise = guarantees.noise_for(
            self.target_epsilon, rate, steps, self.delta, self.statistics_noise
        )
        return Mechanism(noise, self.max_grad_norm, rate, steps, self.statistics_noise)

    def guarantee(self, mechanism: Mechanism) -> Guarantee:
        """The guarantee that the network and its recorded statistics give a training image."""
        if not self.private:
            return guarantees.nothing(
                "its weights were read from a file"
                if self.weights == "given"
                else "trained without clipping and noise",
                "Nothing is promised to anyone in the data: weights and statistics come from"
                " the images themselves.",
                sampling="none: shuffled batches",
            )
        return guarantees.subsampled_gaussian(
            mechanism,
            self.delta,
            words=(
                f"DP-SGD: gradients clipped to {self.max_grad_norm:g}, noise of"
                f" {rounding.described(mechanism.noise_multiplier)} times that on their sum,"
                f" {mechanism.steps} times; and one Gaussian release of the layers' statistics,"
                f" noise multiplier {self.statistics_noise:g}"
            ),
            accounted=", DP-SGD and statistics composed",
            against="anyone who gets the network, its statistics, and whatever is made of them",
            also_released=(
                "accuracies, the loss, membership and distance figures, the real images beside"
                " made-up ones and those of the empty page: they look at the training images"
                " directly, are not covered by ε and would not be published"
            ),
            note=(
                "Releasing the statistics with noise is Veil's own addition (proof in"
                " docs/synthesis.md). A simulation: the seed is known. Settings tried before this"
                " run on the same images, those of the preset included, are not counted in ε."
            ),
        )


class ClassifierTrainer:
    """The network during training."""

    def __init__(self, study: Classifier, images, device):
        import torch

        from engine.learning import networks
        from engine.learning.supervised import Scale

        self.study, self.images, self.device = study, images, device
        h, _, channels = images.train_images.shape[1:]
        self.network = networks.resnet(
            study.network,
            "plain group" if study.private else "batch",
            channels,
            h,
            len(images.classes),
            derive_seed("init", study.seed),
        ).to(device)
        self.seen, self.labels = (
            torch.tensor(images.train_images).to(device),
            torch.tensor(images.train_labels).long().to(device),
        )
        self.scale = Scale(*IMAGENET) if study.weights == "given" and channels == 3 else Scale()
        self.curves: dict[str, list[tuple[float, float]]] = {}

    def load(self, path) -> None:
        """Load weights from a file of plain arrays.

        Raises Failed, worded for the user, if the file holds no arrays or arrays of other shapes.
        """
        load_arrays(self.network, read_arrays(path), path.name)

    def learn(self, mechanism: Mechanism):
        """Train for all epochs."""
        from engine.learning import supervised

        study, recipe = self.study, self.study.recipe()
        fit: supervised.Fit | supervised.PrivateFit
        if study.private:
            fit = supervised.PrivateFit(
                self.network,
                self.seen,
                self.labels,
                mechanism,
                learning_rate=study.learning_rate,
                streams=study.streams(),
            )
        else:
            fit = supervised.Fit(self.network, recipe, self.seen, self.labels, study.seed)
        for epoch in range(1, study.epochs + 1):
            for step in fit.epoch():
                yield Phase(
                    "training the teacher", (epoch - 1) * fit.steps + step, fit.steps * study.epochs
                )
            # The last epoch is measured after recording, with the statistics that are kept.
            if epoch < study.epochs:
                yield self.point(epoch)

    def point(self, epoch: int) -> Point:
        """Measure the current test accuracy and add it to the curve."""
        self.curves.setdefault("test_accuracy", []).append((float(epoch), self.accuracy()))
        return Point("test_accuracy", *self.curves["test_accuracy"][-1])

    def finite(self) -> bool:
        """Whether all weights and recorded statistics are finite.

        Only the network is read, and it is released anyway.
        """
        return all(bool(value.isfinite().all()) for value in self.network.state_dict().values())

    def accuracy(self) -> float:
        """Test accuracy: the share of test images classified correctly."""
        return float((self.named_tests() == self.images.test_labels).mean())

    def named_tests(self) -> np.ndarray:
        """(m,) predicted classes of the test images; -1 where a logit is NaN."""
        from engine.learning.networks import named

        return named(self.logits_of_tests()).cpu().numpy()

    def logits_of_tests(self):
        """(m, classes) logits of the test images."""
        import torch

        from engine.learning import supervised

        return supervised.outputs(
            self.network, torch.tensor(self.images.test_images).to(self.device), self.scale
        )

    def record(self) -> None:
        """Record the statistics that the images are made from.

        They are those of all training images, or for a private teacher noised once
        (engine.privacy.noise).
        """
        from engine.privacy.noise import GaussianNoise
        from engine.studies.synthesis import bn_inversion

        study, classes = self.study, len(self.images.classes)
        if study.private:
            noise = GaussianNoise(study.derive_seed("statistics"), self.device)
            self.statistics = bn_inversion.private_statistics(
                self.network, self.seen, study.statistics_noise, STATISTICS_CLIP, noise
            )
            self.of_classes = {}
            return
        if study.weights == "trained":
            bn_inversion.record(self.network, self.seen)
        self.statistics = bn_inversion.recorded(self.network)
        self.of_classes = bn_inversion.by_class(
            self.network, self.seen, self.labels, classes, self.scale
        )

    def result(self, mechanism: Mechanism) -> Result:
        """Weights, statistics and membership scores as arrays."""
        from engine.attacks import memorization
        from engine.learning import supervised
        from engine.learning.networks import named

        train = supervised.outputs(self.network, self.seen[:SCORED], self.scale)
        sure = self._confidences(train, self.logits_of_tests()[:SCORED])
        said, tests = self.named_tests(), self.images.test_labels
        right, beside = said == tests, scores.beside(tests, said)
        loss = -float(sure[0].mean())
        agreed = float((named(train) == self.labels[:SCORED]).float().mean())
        return Result(
            metrics={
                "test_accuracy": float(right.mean()),
                "train_accuracy": agreed,
                "membership_auc": memorization.membership(*sure),
                "membership_odds": memorization.advantage(*sure),
                "train_loss": loss,
                "parameters": sum(p.numel() for p in self.network.parameters()),
            }
            | beside
            | ({"noise_multiplier": mechanism.noise_multiplier} if self.study.private else {}),
            guarantee=self.study.guarantee(mechanism),
            curves=self.curves,
            arrays=self._arrays(),
            images={"answers": imaging.answers(self.images.test_images, right)},
            facts={
                "classes": list(self.images.classes),
                "mean": list(self.scale.mean),
                "std": list(self.scale.std),
                "warnings": self._warnings(loss, agreed),
            },
        )

    def _confidences(self, train, test) -> list[np.ndarray]:
        """Log-probabilities of the true labels, of training and of test images.

        train, test: (n, classes) logits of the first images of each part.
        """
        from torch.nn import functional as F

        return [
            -F.cross_entropy(logits, labels, reduction="none").cpu().numpy()
            for logits, labels in (
                (train, self.labels[:SCORED]),
                (test, self.labels.new_tensor(self.images.test_labels[:SCORED])),
            )
        ]

    def _arrays(self) -> dict[str, np.ndarray]:
        """The network's weights and the recorded statistics."""
        arrays = {
            f"weight:{name}": value.cpu().numpy()
            for name, value in self.network.state_dict().items()
            if "num_batches" not in name
        }
        for kind, found in (("statistics", self.statistics), ("class", self.of_classes)):
            for name, (mean, variance) in found.items():
                arrays |= {
                    f"{kind}:mean:{name}": mean.cpu().numpy(),
                    f"{kind}:variance:{name}": variance.cpu().numpy(),
                }
        return arrays

    def _warnings(self, loss: float, accuracy: float) -> list[str]:
        """Warnings about δ, the images and the training; loss and accuracy on training images."""
        study, images = self.study, self.images
        slack = (
            privacy.delta_warning(study.delta, len(images.train_images)) if study.private else None
        )
        warnings = [*([slack] if slack else []), *cautions.of(images)]
        # Weights from a file may be meant for other labels.
        if study.weights == "trained":
            learned = cautions.beyond_guessing(accuracy, images.train_labels[:SCORED])
            guessing = math.log(len(images.classes))
            warnings += cautions.divergence(loss, guessing, learned, remedy=SLOWER[study.private])
        return warnings + scores.warnings(images.test_labels, images.classes)


# --- weights as plain arrays ----------------------------------------------------------------------


def read_arrays(path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, without unpickling.

    Raises Failed, worded for the user.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            return {name: file[name] for name in file.files}
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        SyntaxError,
        zipfile.BadZipFile,
        zlib.error,
        tokenize.TokenError,
    ) as error:
        raise Failed(
            f"weights: {path.name} is not a file of plain arrays (.npz without pickled objects):"
            f" {str(error)[:120]}"
        ) from None


def load_arrays(network, arrays: dict[str, np.ndarray], name: str) -> None:
    """Fill a network's weights.

    Raises Failed if an array is missing, not finite, or has another shape.
    """
    import torch

    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    for key, value in state.items():
        found = arrays.get(key)
        if found is None:
            raise Failed(
                f"weights: {name} has no {key}; it belongs to another network. Choose the network"
                " that it was made for."
            )
        if found.shape != tuple(value.shape) or found.dtype.kind != "f":
            raise Failed(
                f"weights: {key} in {name} has shape {found.shape}, where {tuple(value.shape)} is"
                " needed; it belongs to another network or other images."
            )
        if not np.isfinite(found).all():
            raise Failed(f"weights: {key} in {name} holds numbers that are not finite.")
        if key.endswith("running_var") and (found < 0).any():
            raise Failed(f"weights: {key} in {name} holds negative variances.")
    network.load_state_dict(
        {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in state}, strict=False
    )


def taught(study: Classifier, result: Result, channels: int, size: int, device):
    """The trained network of a stored result, frozen, and its scale: (network, Scale)."""
    from engine.learning import networks
    from engine.learning.supervised import Scale

    network = networks.resnet(
        study.network,
        "plain group" if study.private else "batch",
        channels,
        size,
        len(result.facts["classes"]),
        0,
    )
    load_arrays(
        network,
        {
            name.removeprefix("weight:"): value
            for name, value in result.arrays.items()
            if name.startswith("weight:")
        },
        "the teacher",
    )
    return network.to(device).eval().requires_grad_(False), Scale(
        tuple(result.facts["mean"]), tuple(result.facts["std"])
    )
