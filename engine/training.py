"""Training: one network on one device, the pictures as one uint8 tensor there, batches as indices into it."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch.nn import functional as F

from engine import dp_sgd, networks, pictures

EVALUATE = 2000  # pictures a forward pass when nothing is learned
SHOWN_ROWS = 10_000  # training accuracy is measured on at most so many training pictures
ANSWERS = 40  # test pictures that are shown with the network's answers while it learns
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}


def scaled(images: torch.Tensor) -> torch.Tensor:
    """(n, h, w, c) uint8 → (n, c, h, w) float32 in [-1, 1]. Fixed numbers: the data's own mean and spread would leak."""
    return images.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)


def stream(purpose: str, seed: int) -> int:
    """A seed of its own for each purpose: with one stream for all, the initial weights would foretell batches and noise."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:8], "big") >> 1


class Training:
    """A network, its optimizer and its pictures; `step` learns once, `measure` says how much has been learned."""

    def __init__(self, study, plan: dict, images, device: torch.device):
        self.study, self.plan, self.device = study, plan, device
        self.images = torch.tensor(images.train_images).to(device)
        self.labels = torch.tensor(images.train_labels).to(device)
        self.test_images = torch.tensor(images.test_images).to(device)
        self.test_labels = torch.tensor(images.test_labels).to(device)
        self.shown_rows = torch.arange(min(SHOWN_ROWS, len(self.images)), device=device)
        h, _, channels = images.train_images.shape[1:]
        self.network = networks.report_cnn(channels, h, len(images.classes), stream("init", study.seed), study.activation).to(device)
        self.optimizer = OPTIMIZERS[study.optimizer](self.network.parameters(), lr=study.rate)
        self.sampling = torch.Generator(device).manual_seed(stream("sampling", study.seed))
        self.private_gradient = dp_sgd.PrivateGradient(
            self.network, expected_batch=study.batch_size, max_grad_norm=study.max_grad_norm,
            noise_multiplier=plan["noise_multiplier"],
            generator=torch.Generator(device).manual_seed(stream("noise", study.seed)))
        self.diverged = False

    def step(self) -> None:
        """One Poisson batch, one step."""
        rows = dp_sgd.poisson_batch(len(self.images), self.plan["sample_rate"], self.sampling)
        learn = self.private_gradient if self.study.private else self._plain_gradient
        learn(scaled(self.images[rows]), self.labels[rows])
        self.optimizer.step()

    def _plain_gradient(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """The twin: the same Poisson batches, nothing clipped, nothing noised. An empty batch changes nothing."""
        self.optimizer.zero_grad()
        (F.cross_entropy(self.network(images), labels, reduction="sum") / self.study.batch_size).backward()

    @torch.no_grad()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(n, h, w, c) uint8 on the device → (n, classes)."""
        self.network.eval()
        found = torch.cat([self.network(scaled(part)) for part in images.split(EVALUATE)])
        self.network.train()
        return found

    def predict(self, images: torch.Tensor) -> np.ndarray:
        """(n, h, w, c) uint8 on the device → (n,) class numbers."""
        return self.logits(images).argmax(1).cpu().numpy()

    def measure(self) -> dict[str, float]:
        """Accuracy in [0, 1] on test and training pictures and the mean training loss in nats, as of now."""
        test, train = self.logits(self.test_images), self.logits(self.images[self.shown_rows])
        labels = self.labels[self.shown_rows]
        loss = float(F.cross_entropy(train, labels))
        self.diverged = not all(bool(p.isfinite().all()) for p in self.network.parameters())  # post-processing of the network
        return {"test_accuracy": float((test.argmax(1) == self.test_labels).double().mean()),
                "train_accuracy": float((train.argmax(1) == labels).double().mean()), "train_loss": loss}

    def answers(self) -> bytes:
        """PNG of 40 test pictures, always the same ones, those framed that the network names wrongly as of now."""
        rows = torch.linspace(0, len(self.test_images) - 1, ANSWERS, device=self.device).long()
        wrong = self.predict(self.test_images[rows]) != self.test_labels[rows].cpu().numpy()
        return pictures.png(pictures.gallery(pictures.framed(self.test_images[rows].cpu().numpy(), wrong), columns=8, gap=3), 480)


class Supervised:
    """An ordinary training on pictures as floats: report 1's networks under Adadelta, in shuffled batches.

    images (n, h, w, c) float32 and labels (n,) → a network with `outputs` logits; tests: name → pictures to predict.
    """

    def __init__(self, study, images: np.ndarray, labels: np.ndarray, tests: dict[str, np.ndarray], outputs: int, device: torch.device):
        self.study, self.device = study, device
        self.images, self.labels = _pixels_last(images, device), torch.tensor(labels).long().to(device)
        self.tests = {name: _pixels_last(found, device) for name, found in tests.items()}
        _, h, _, channels = images.shape
        network = networks.keras_cnn(study.network, study.width, channels, h, outputs, stream("init", study.seed))
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.parameters = sum(p.numel() for p in network.parameters())
        self.optimizer = torch.optim.Adadelta(self.network.parameters(), lr=study.learning_rate, rho=0.95, eps=1e-7)  # as Keras 2
        self.shuffling = torch.Generator().manual_seed(stream("sampling", study.seed))
        self.loss = self.agreement = 0.0  # of the last epoch, while it learned
        self._predicted: dict[str, np.ndarray] = {}

    def epoch(self):
        """One pass over the pictures; yields (step, steps)."""
        batches = torch.randperm(len(self.images), generator=self.shuffling).to(self.device).split(self.study.batch_size)
        loss, right = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        self.network.train()
        for step, rows in enumerate(batches, 1):
            if len(rows) > 1 or self.study.batch_size == 1:  # a single picture left over would steer batch norm by itself
                one = self._step(rows)
                loss, right = loss + one[0], right + one[1]
            yield step, len(batches)
        self.loss, self.agreement = float(loss) / len(self.images), float(right) / len(self.images)
        self._predicted.clear()

    def _step(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One step; the batch's summed loss and how many it named as labelled, dropout included."""
        labels = self.labels[rows]
        logits = self.network(self.images[rows])
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach() * len(rows), (logits.detach().argmax(1) == labels).sum()

    @torch.no_grad()
    def predict(self, name: str) -> np.ndarray:
        """(n,) the largest output for each test picture, as of the last epoch."""
        if name not in self._predicted:
            self.network.eval()
            self._predicted[name] = torch.cat([self.network(part).argmax(1) for part in self.tests[name].split(EVALUATE)]).cpu().numpy()
        return self._predicted[name]

    def seen(self, name: str, row: int) -> np.ndarray:
        """(h, w, c) one test picture as the network sees it."""
        return self.tests[name][row].permute(1, 2, 0).cpu().numpy()


def _pixels_last(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """(n, h, w, c) → (n, c, h, w) with the channels last in memory, as they lie already."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(device)
