"""Trainings with canaries among the pictures: the very code that trains, on rows that
auditing.Marks describes. torch.

A mark is a column of its own, in which only its rows are not zero. The linear model gets it as one
more feature, the CNN as one more input beside the picture, joined to the output by a layer of its
own. What a step publishes of these columns is what `Auditing.witness` looks at.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jacrev

from engine.attacks.auditing import FLOAT32, Marks, Seen, Witness
from engine.learning import networks
from engine.learning.features import longest
from engine.learning.linear import LinearTraining
from engine.learning.trainer import Training
from engine.privacy.noise import GaussianNoise

# a mark's entry: far longer than what else is in its gradient, and short enough that noise does not
# settle what it is named
LIGHT = 50.0
CODES = (200, 100)  # in a picture's byte for a mark: a positive entry, a negative one; 0 is none
FAR = 1e6  # times the clip norm: as good as none


class Float32Noise(GaussianNoise):
    """A planted error: float32 draws by torch's generator for the CPU, as most code has them."""

    def __init__(self, seed: int, device: torch.device):
        super().__init__(seed)
        self.generator, self.where = torch.Generator().manual_seed(seed), device

    def tensor(self, *shape: int) -> torch.Tensor:
        """float64 copies of float32 draws."""
        return torch.randn(shape, generator=self.generator).double().to(self.where)


class Auditing:
    """What both trainings with marks have in common."""

    def prepare(self, marks: Marks, cheat: str) -> None:
        """Called once the training is ready for its first step. cheat: the error, as the study
        names it, that is planted behind the accountant's back.
        """
        study, plan = self.study, self.plan
        self.marks = marks
        self.witness = Witness(
            marks, plan["noise_multiplier"], plan["sample_rate"], plan["steps_per_epoch"]
        )
        if cheat == "no clipping":
            self.bind(study.clip * FAR, plan["noise_multiplier"] / FAR)
        elif cheat == "half the noise":
            self.bind(study.clip, plan["noise_multiplier"] / 2)
        elif cheat == "float32 noise":
            self.use(Float32Noise(study.derive_seed("noise"), self.device))
        elif cheat == "shuffled batches":
            self.shuffling = torch.Generator(self.device).manual_seed(
                study.derive_seed("shuffling")
            )
            self.waiting: list[torch.Tensor] = []
            self.draw = self._next_of_shuffled

    def see_noise(self, total: torch.Tensor, released: torch.Tensor) -> None:
        """The noise of one release: what was released less the exact sum it was added to, both
        (n,).

        Only whoever trains has that sum. Released numbers are rounded to float32, which blurs the
        noise.
        """
        unit = self.plan["noise_multiplier"] * self.study.clip
        sums, noised = (
            found.detach().double().flatten().cpu().numpy() / unit
            for found in (total, released.double() * self.study.batch_size)
        )
        noise = noised - sums
        error = FLOAT32 / np.sqrt(3) * (np.abs(sums) + 2 * np.abs(noise))  # √3: of a uniform error
        self.witness.tails.see(noise, error)

    def _next_of_shuffled(self) -> torch.Tensor:
        """Every row once an epoch, as ordinary trainings do."""
        if not self.waiting:
            order = torch.randperm(len(self.labels), generator=self.shuffling, device=self.device)
            self.waiting = list(order.tensor_split(self.plan["steps_per_epoch"]))
        return self.waiting.pop()

    def step(self) -> None:
        """As any training's, watched."""
        self.learn(self.draw())
        self.witness.see(self.seen())
        self.advance()

    def seen(self) -> Seen:
        """What the gradients say of the marks' columns, in units of the clip norm."""
        m, each = len(self.marks.included), torch.arange(len(self.marks.included))
        weight, bias = (
            one * (self.study.batch_size / self.study.clip) for one in self.mark_gradients()
        )
        (up, reach), (down, _), labels = (
            self._pulls(1.0),
            self._pulls(-1.0),
            torch.from_numpy(self.marks.labels),
        )
        found = (
            weight,
            bias,
            self.mark_means(),
            up[each, labels],
            torch.cat([up[m:], down[m:]], 1),
            reach[each, labels],
        )
        return Seen(*(one.detach().double().cpu().numpy() for one in found))

    def _pulls(self, sign: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(columns, labels, classes) what a row with an entry of this sign adds to its column's sum
        where it is drawn, once it is clipped; (columns, labels) how long that were without.
        """
        residual = self.mark_logits(sign).double().softmax(1)[:, None] - torch.eye(
            self.marks.classes, device=self.device
        )
        # (columns, labels)
        factors = (self.study.clip / self.mark_lengths(sign, residual).clamp_min(1e-200)).clamp(
            max=1
        )
        whole = sign * LIGHT / self.study.clip * residual
        return factors[:, :, None] * whole, whole.norm(dim=2)


class MarkedLinear(Auditing, LinearTraining):
    """The linear model, its rows with a column for every mark.

    A mark's row is the mean of the test pictures' rows, so that little of it is left when the
    released mean is taken off, and LIGHT in its column.
    """

    def __init__(
        self,
        study,
        plan: dict,
        images,
        device: torch.device,
        train: np.ndarray,
        test: np.ndarray,
        marks: Marks,
        cheat: str,
    ):
        (n, d), (columns, labels, signs) = train.shape, marks.rows()
        base = test.mean(0, dtype=np.float64).astype(np.float16)
        rows, tests = (
            np.zeros((n + len(columns), d + marks.columns), np.float16),
            np.zeros((len(test), d + marks.columns), np.float16),
        )
        rows[:n, :d], rows[n:, :d], tests[:, :d] = train, base, test
        rows[np.arange(n, len(rows)), d + columns] = LIGHT * signs
        done = plan | {"mean_noise": plan["mean_noise"] / 2} if cheat == "half the noise" else plan
        super().__init__(
            study,
            done,
            replace(images, train_labels=np.r_[images.train_labels, labels]),
            device,
            rows,
            tests,
        )
        self.plan = plan  # what is charged
        self.base = torch.zeros(d + marks.columns, device=device)
        self.base[:d] = torch.from_numpy(base).to(device)
        self.first = d
        self.prepare(marks, cheat)
        if plan["mean_noise"] is not None:
            m, noise = len(marks.included), plan["mean_noise"] * longest(rows.shape[1]) / LIGHT
            self.witness.release(self.mark_means()[:m].double().cpu().numpy() * n / LIGHT, noise)

    def use(self, noise: GaussianNoise) -> None:
        """Draw noise from there from now on."""
        self.noise = noise

    def release(self, totals: tuple[torch.Tensor, ...]) -> None:
        """As any training's, watched."""
        super().release(totals)
        for parameter, total in zip(self.parameters, totals):
            self.see_noise(total, parameter.grad)

    def mark_means(self) -> torch.Tensor:
        return self.mean[self.first :]

    def mark_logits(self, sign: float) -> torch.Tensor:
        """(columns, classes) what the model says of each mark."""
        return (
            sign * LIGHT * self.weight[:, self.first :].T
            + self.weight @ (self.base - self.mean)
            + self.bias
        )

    def mark_lengths(self, sign: float, residual: torch.Tensor) -> torch.Tensor:
        """(columns, labels) of each row's whole gradient before clipping, from residuals (columns,
        labels, classes).
        """
        far = (
            (self.base - self.mean).square().sum()
            + 1
            - 2 * sign * LIGHT * self.mark_means()
            + LIGHT**2
        ).sqrt()
        return residual.norm(dim=2) * far[:, None]

    def mark_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.weight.grad[:, self.first :].T, self.bias.grad


class MarkedCNN(Auditing, Training):
    """The report's CNN, with an input for every mark beside the picture."""

    def __init__(self, study, plan: dict, images, device: torch.device, marks: Marks, cheat: str):
        self.shape = images.train_images.shape[1:]
        columns, labels, signs = marks.rows()
        n, size = len(images.train_images), int(np.prod(self.shape))
        train = np.zeros((n + len(columns), 1, 1, size + marks.columns), np.uint8)
        train[:n, 0, 0, :size] = images.train_images.reshape(n, -1)
        train[np.arange(n, len(train)), 0, 0, size + columns] = np.where(signs > 0, *CODES)
        test = np.zeros((len(images.test_images), 1, 1, train.shape[3]), np.uint8)
        test[:, 0, 0, :size] = images.test_images.reshape(len(test), -1)
        self.columns_of_marks = marks.columns
        super().__init__(
            study,
            plan,
            replace(
                images,
                train_images=train,
                train_labels=np.r_[images.train_labels, labels],
                test_images=test,
            ),
            device,
        )
        self.black = torch.full((1, self.shape[2], *self.shape[:2]), -1.0, device=device)
        self.prepare(marks, cheat)
        self.release, self.private_gradient.release = (
            self.private_gradient.release,
            self._watched_release,
        )

    def use(self, noise: GaussianNoise) -> None:
        """Draw noise from there from now on."""
        self.private_gradient.noise = noise

    def _watched_release(self, total: torch.Tensor) -> None:
        """As any training's, watched."""
        self.release(total)
        layers = self.private_gradient.layers
        gradients = [p.grad.flatten() for layer in layers for p in layer.parameters(recurse=False)]
        self.see_noise(total, torch.cat(gradients))

    def build(self, images) -> nn.Module:
        h, _, channels = self.shape
        network = networks.report_cnn(
            channels,
            h,
            len(images.classes),
            self.study.derive_seed("init"),
            self.study.activation,
            self.study.norm,
        )
        return Marked(network, self.shape, self.columns_of_marks, len(images.classes))

    def _copies(self, images: torch.Tensor) -> torch.Tensor:
        """Only the picture is moved."""
        size = int(np.prod(self.shape))
        pictures, codes = images[..., :size], images[..., size:]
        moved = super()._copies(pictures.reshape(-1, *self.shape))
        return torch.cat(
            [
                moved.reshape(len(moved), 1, 1, size),
                codes.repeat_interleave(self.study.augmentations, 0),
            ],
            3,
        )

    def mark_means(self) -> torch.Tensor:
        return torch.zeros(self.columns_of_marks, device=self.device)

    @torch.no_grad()
    def mark_logits(self, sign: float) -> torch.Tensor:
        """(columns, classes) what the network says of a black picture with each mark."""
        return self.network.pictures(self.black) + sign * LIGHT * self.network.marks.weight.T

    def mark_lengths(self, sign: float, residual: torch.Tensor) -> torch.Tensor:
        """(columns, labels) of each row's whole gradient before clipping: that of the black
        picture, and that of its mark.
        """
        ways = jacrev(
            lambda weights: functional_call(self.network.pictures, weights, (self.black,))[0]
        )({n: p.detach() for n, p in self.network.pictures.named_parameters()})
        # (classes, weights)
        each = torch.cat([way.flatten(1) for way in ways.values()], 1).double()
        return (
            (residual @ (each @ each.T) * residual).sum(2) + residual.square().sum(2) * LIGHT**2
        ).sqrt()

    def mark_gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.marks.weight.grad.T, torch.zeros(self.marks.classes, device=self.device)


class Marked(nn.Module):
    """A network for pictures and a linear layer for marks, added up.

    (batch, h·w·c + columns, 1, 1) scaled to [−1, 1] → (batch, classes).
    """

    def __init__(
        self, pictures: nn.Module, shape: tuple[int, int, int], columns: int, classes: int
    ):
        super().__init__()
        self.pictures, self.shape = pictures, shape
        self.marks = nn.Linear(columns, classes, bias=False)
        nn.init.zeros_(self.marks.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, size = x.flatten(1), int(np.prod(self.shape))
        pictures = x[:, :size].reshape(-1, *self.shape).permute(0, 3, 1, 2)
        codes = (x[:, size:] + 1) * 127.5  # as they stand in the pictures
        middle = sum(CODES) / 2
        return self.pictures(pictures) + LIGHT * self.marks(
            (codes > middle).float() - ((codes > CODES[1] / 2) & (codes <= middle)).float()
        )
