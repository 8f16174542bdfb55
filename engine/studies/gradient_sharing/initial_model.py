"""Study `initial_model`: the model that a company trains on its own images before it ships it.

It is a CNN trained from scratch or a new last layer on a network pretrained on ImageNet (report 5:
Bu, CS230; see docs/gradient_sharing.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from engine.core import parameters
from engine.core.errors import Failed
from engine.core.parameters import parameter
from engine.core.study import Phase, Point, Refused, Result
from engine.datasets import registry
from engine.evaluation import cautions, scores
from engine.studies import guarantees
from engine.studies.image_study import ImageStudy
from engine.studies.shared import BACKBONES, Backbone

NETWORKS = {"cnn": "a small CNN, from scratch"} | {
    name: f"{words}, a new last layer" for name, words in BACKBONES.items()
}
# chosen on held-out training images (docs/gradient_sharing.md)
RATES = {
    "tanh": {"sgd": 0.2, "rmsprop": 0.001, "adam": 0.002},
    "relu": {"sgd": 0.1, "rmsprop": 0.001, "adam": 0.002},
    "features": {"sgd": 0.01, "rmsprop": 0.0002, "adam": 0.0002},
}
OPTIMIZER_NAMES = {"sgd": "SGD", "rmsprop": "RMSProp", "adam": "Adam"}
BATCH = 32  # batch size of the company's training


class InitialModelSettings(ImageStudy):
    """The images, the network, and the training of the initial model.

    Base class of the studies of page Gradient sharing.
    """

    dataset: str = parameters.dataset()
    company_share: float = parameter(
        "Company's share of the images",
        0.05,
        low=0.0,
        high=0.9,
        help=(
            "Share of the training images that belongs to the company, which trains the initial"
            " model on them. The clients have the others. 0: there is no initial model; clients"
            " start from random weights."
        ),
    )
    network: str = parameter(
        "Model",
        "cnn",
        choices=NETWORKS,
        pattern="^(cnn|efficientnet_lite0|vgg16)$",
        help=(
            "A small network trained from scratch, or a large one trained on millions of"
            " photographs, of which only a new last layer is trained."
        ),
    )
    activation: str = parameter(
        "Activation",
        "tanh",
        choices={"tanh": "tanh", "relu": "ReLU"},
        pattern="^(tanh|relu)$",
        help="Of the small CNN.",
    )
    optimizer: str = parameter(
        "Optimizer of the initial model",
        "adam",
        choices=OPTIMIZER_NAMES,
        pattern="^(sgd|rmsprop|adam)$",
        help="Used by the company for the initial model. The clients use SGD.",
    )
    initial_epochs: int = parameter(
        "Epochs of the initial model",
        20,
        low=1,
        high=200,
        scale="log",
        unit="passes over the company's images",
        help="How long the company trains.",
    )
    initial_learning_rate: float | None = parameter(
        "Learning rate of the initial model",
        None,
        low=1e-6,
        high=10.0,
        scale="log",
        help="Empty: the usual rate of its optimizer.",
    )
    seed: int = parameters.seed()

    def check(self, shown) -> None:
        """Raise Refused if the parameters do not fit the data set (shown: preview or images)."""
        if not self.backbone and min(shown.test_images.shape[1:3]) < 28:
            raise Refused(
                "dataset",
                f"dataset: {self.dataset} is not allowed; its images have"
                f" {shown.test_images.shape[1]} x {shown.test_images.shape[2]} pixels, and the CNN"
                " needs 28 x 28",
            )
        if 0 < self.company_share * shown.train_size < 1:
            raise Refused(
                "company_share",
                f"company_share: {self.company_share:g} is not allowed; of {shown.train_size}"
                " training images it is not even one",
            )

    def fitting(self, shown) -> dict:
        """Raise the company's share to at least one image."""
        n = shown.train_size
        return {"company_share": math.ceil(1e4 / n) / 1e4} if 0 < self.company_share * n < 1 else {}

    def split(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the company's training images, and those of all others."""
        order = np.random.default_rng([self.seed, 5]).permutation(n)
        count = round(self.company_share * n)
        return np.sort(order[:count]), np.sort(order[count:])

    @property
    def backbone(self) -> Backbone | None:
        """The pretrained feature extractor, if only a last layer is trained."""
        return (
            Backbone(dataset=self.dataset, network=self.network)
            if self.network in BACKBONES
            else None
        )

    @property
    def learner(self) -> str:
        """The kind of network, as far as the learning rate depends on it."""
        return "features" if self.backbone else self.activation

    def needs(self) -> tuple:
        """The features that a last layer is trained on."""
        return (self.backbone,) if self.backbone else ()

    def initial(self) -> InitialModel:
        """The study that only trains the initial model."""
        return InitialModel(
            **{name: getattr(self, name) for name in InitialModelSettings.model_fields}
        )

    def derived(self) -> dict:
        """The learning rate of the initial model."""
        return {"initial_learning_rate": self.initial().rate}

    def table(self) -> dict[str, InitialModel]:
        """Report 5's table: both kinds of initial model with three optimizers.

        Each optimizer has its usual learning rate.
        """
        kinds = {
            "cnn": "CNN from scratch",
            self.network if self.backbone else "efficientnet_lite0": "new last layer",
        }
        model = self.initial()
        return {
            f"{words}, {OPTIMIZER_NAMES[optimizer]}": model.model_copy(
                update={"network": network, "optimizer": optimizer, "initial_learning_rate": None}
            )
            for network, words in kinds.items()
            for optimizer in OPTIMIZER_NAMES
        }

    def task(self, lab, images):
        """The federation.Task: the data, and the network with random weights.

        Computes the backbone's features first if they are needed.
        """
        import torch

        from engine.core.streams import derive_seed
        from engine.learning import networks
        from engine.studies.gradient_sharing import federation

        labels, test_labels = (
            torch.tensor(found).long().to(lab.device)
            for found in (images.train_labels, images.test_labels)
        )
        if self.backbone is None:
            h, _, channels = images.train_images.shape[1:]
            network = networks.report_cnn(
                channels, h, len(images.classes), derive_seed("init", self.seed), self.activation
            ).to(lab.device)
            prepare: Callable[[torch.Tensor], torch.Tensor] = federation.pixels
            train, test = (
                torch.tensor(found).to(lab.device)
                for found in (images.train_images, images.test_images)
            )
        else:
            found = yield from lab.need(self.backbone)
            train, test = (
                torch.from_numpy(found.arrays[part]).to(lab.device) for part in ("train", "test")
            )
            network = networks.initialised(
                torch.nn.Sequential(torch.nn.Linear(train.shape[1], len(images.classes))),
                derive_seed("init", self.seed),
            ).to(lab.device)
            prepare = federation.standardised(train[self.split(len(train))[0]])
        return federation.Task(
            network, train, labels, test, test_labels, prepare, federation.flat(network)
        )


class InitialModel(InitialModelSettings):
    """Train on the company's images only; return the weights that the clients start from."""

    NAME, VERSION = "initial_model", 5
    TITLE = "The model that an app is shipped with"
    PRESETS = {"quick": {}, "tiny": {"initial_epochs": 2}}
    SERIES = {
        "table": (
            "report 5's table: a CNN from scratch and a new last layer, each by SGD, RMSProp and"
            " Adam"
        )
    }

    @property
    def rate(self) -> float:
        """The learning rate: the chosen one, or the usual one for the optimizer and network."""
        return (
            RATES[self.learner][self.optimizer]
            if self.initial_learning_rate is None
            else self.initial_learning_rate
        )

    def work(self) -> float:
        """Images processed, in units of 28 × 28 pixels or of feature vectors."""
        shown = registry.preview(self.dataset)
        return self.initial_epochs * self.company_share * shown.train_size * (
            1.0 if self.backbone else shown.test_images[0].size / 784
        ) + len(shown.test_images)

    def kind(self) -> str:
        """Runs of the same kind take time in proportion to their work."""
        return f"{self.NAME}:{'features' if self.backbone else 'cnn'}"

    def typical(self) -> float:
        """Seconds on two cores, including the studies it needs."""
        return (1e-5 if self.backbone else 5e-5) * self.work() + sum(
            need.typical() for need in self.needs()
        )

    def run(self, lab):
        """Yield test accuracy epoch by epoch; return it with the weights."""
        from engine.studies.gradient_sharing import federation

        yield Phase("reading the images")
        images = registry.load(self.dataset)
        self.check(images)
        task = yield from self.task(lab, images)
        rows, _ = self.split(len(images.train_images))
        curve = [(0.0, task.accuracy(task.start))]
        yield Point("test_accuracy", *curve[0])
        if len(rows):
            yield from self._train(task, rows, curve)
        weights = federation.flat(task.network)
        if not bool(weights.isfinite().all()):
            raise Failed(
                "The initial model's training diverged: its weights are not numbers any more. Take"
                " a smaller learning rate for it."
            )
        return self._result(images, task, rows, weights, curve)

    def _result(self, images, task, rows: np.ndarray, weights, curve: list) -> Result:
        """The weights, their accuracy over the epochs, and warnings. rows: the company's."""
        beside = scores.beside(images.test_labels, task.predictions(weights).cpu().numpy())
        loss, learned = task.learned(weights, rows)
        labels, classes = images.train_labels[rows], images.classes
        warnings = [
            *cautions.divergence(loss, math.log(len(classes)), learned),
            *cautions.too_few(labels, classes),
            *cautions.too_few(images.test_labels, classes, "test"),
            *scores.warnings(images.test_labels, classes),
        ]
        metrics = {
            "test_accuracy": curve[-1][1],
            "images": len(rows),
            "train_loss": loss,
            "parameters": len(weights),
            "learning_rate": self.rate,
        } | beside
        return Result(
            metrics=metrics,
            guarantee=NOTHING_PROMISED,
            curves={"test_accuracy": curve},
            arrays={"weights": weights.cpu().numpy()},
            facts={"classes": list(classes), "warnings": warnings},
        )

    def _train(self, task, rows: np.ndarray, curve: list):
        """Train for all epochs in shuffled batches."""
        import torch
        from torch.nn import functional as F

        from engine.core.streams import derive_seed

        optimizer = {
            "sgd": torch.optim.SGD,
            "rmsprop": torch.optim.RMSprop,
            "adam": torch.optim.Adam,
        }[self.optimizer](task.network.parameters(), lr=self.rate)
        shuffling, mine = (
            torch.Generator().manual_seed(derive_seed("company", self.seed)),
            torch.from_numpy(rows),
        )
        steps = math.ceil(len(rows) / BATCH)
        for epoch in range(1, self.initial_epochs + 1):
            for step, part in enumerate(
                mine[torch.randperm(len(mine), generator=shuffling)]
                .to(task.train.device)
                .split(BATCH),
                1,
            ):
                optimizer.zero_grad()
                F.cross_entropy(task.logits(part), task.labels[part]).backward()
                optimizer.step()
                yield Phase(
                    "training the initial model",
                    (epoch - 1) * steps + step,
                    steps * self.initial_epochs,
                )
            curve.append((float(epoch), task.current_accuracy()))
            yield Point("test_accuracy", *curve[-1])


NOTHING_PROMISED = guarantees.nothing(
    "trained without clipping and noise",
    "Nothing is promised to those in the company's own images: the initial model may have memorised"
    " any of them.",
    unit="one image of the company's",
    sampling="none: shuffled batches",
)
