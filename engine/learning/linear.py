"""Softmax regression on fixed features under DP-SGD. torch.

The norms of its per-example gradients have a closed form: no gradient is ever written out. With
features x (d), the released mean m, weights W (classes, d) and b, an image's loss is the
cross-entropy of W (x − m) + b. Its gradient is the residual r = softmax − onehot times (x − m, 1),
so its norm is ‖r‖·√(‖x − m‖² + 1).

Source: Tramèr and Boneh 2021. Subtracting a *private* mean is our own addition
(docs/dp_training.md): half of the norm of scattering features is common to all images, carries no
information and would cost noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Self

import numpy as np
import torch

from engine.learning import dp_sgd
from engine.learning.features import longest
from engine.learning.plan import TrainingPlan
from engine.learning.trainer import Learner
from engine.privacy.mechanism import Mechanism
from engine.privacy.noise import GaussianNoise

# training images that accuracy is measured on: more would take as long as training
SHOWN = 2000
CHUNK = 256  # rows at a time: they stay in the CPU cache between forward and backward pass


class LinearTraining(Learner):
    """Softmax regression on features (n, d) float16, with the interface of trainer.Training."""

    def __init__(
        self,
        plan: TrainingPlan,
        images,
        device: torch.device,
        train: np.ndarray,
        test: np.ndarray,
    ):
        super().__init__(plan, images, device)
        self.shown = min(self.shown, SHOWN)
        self.rows, self.test_rows = (torch.from_numpy(found).to(device) for found in (train, test))
        classes, d = len(images.classes), train.shape[1]
        # These buffers are reused for every part: allocating memory would take half of a step's
        # time.
        self.half, self.full = (
            torch.empty(CHUNK, d, dtype=torch.float16, device=device),
            torch.empty(CHUNK, d, device=device),
        )
        self.weight, self.bias = (
            torch.zeros(classes, d, device=device),
            torch.zeros(classes, device=device),
        )
        self.bind(plan.mechanism.max_grad_norm, plan.mechanism.noise_multiplier)
        self.mean = self._mean()
        self.lengths = self._lengths()
        self.begin([self.weight, self.bias])

    def share(self, other: Self) -> None:
        """Use the rows that another learner of the same data holds in memory."""
        self.rows, self.test_rows, self.labels, self.test_labels = (
            other.rows,
            other.test_rows,
            other.labels,
            other.test_labels,
        )

    def bind(self, max_grad_norm: float, noise_multiplier: float) -> None:
        """Set the clip norm and the noise multiplier from now on.

        Only audits, which plant errors, pass values that differ from the plan's.
        """
        self.max_grad_norm, self.noise_multiplier = max_grad_norm, noise_multiplier

    def _taken(self, part: torch.Tensor) -> torch.Tensor:
        """Training rows by index, (r,) → (r, d) float32, valid until the next call."""
        half, full = self.half[: len(part)], self.full[: len(part)]
        return full.copy_(torch.index_select(self.rows, 0, part, out=half))

    def _parts(self, rows: torch.Tensor) -> Iterator[torch.Tensor]:
        """(n, d) float16 → parts (r, d) float32, each valid until the next."""
        for part in rows.split(CHUNK):
            yield self.full[: len(part)].copy_(part)

    def _mean(self) -> torch.Tensor:
        """The mean of all training rows, (d,).

        Under privacy it carries noise of release_noise times the longest row, by
        engine.privacy.noise, which the mechanism accounts for.
        """
        total = torch.zeros(self.rows.shape[1], dtype=torch.float64, device=self.device)
        most = longest(self.rows.shape[1])
        # Each row is clipped to `most`: the sensitivity of the sum relies on it.
        for x in self._parts(self.rows):
            total += (
                (x * (most / (x.norm(dim=1, keepdim=True) * (1 + dp_sgd.ROUNDING))).clamp(max=1))
                .double()
                .sum(0)
            )
        if self.plan.mechanism.private:
            seed = self.plan.streams.derive_seed("noise on the mean")
            noise = GaussianNoise(seed, self.device)
            total = noise.added_to(total, _release_noise(self.plan.mechanism) * most)
        return (total / self.plan.examples).float()

    def _lengths(self) -> torch.Tensor:
        """√(‖x − m‖² + 1) of each row, (n,); never too small, since clipping relies on it."""
        squares = [x.sub_(self.mean).square().sum(1) for x in self._parts(self.rows)]
        return (torch.cat(squares) + 1).sqrt() * (1 + dp_sgd.ROUNDING)

    def gradient(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum the rows' gradients, each clipped if the mechanism clips.

        Returns (classes, d) for the weights and (classes,) for the bias.
        """
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        offset = self.bias - self.weight @ self.mean
        for part in rows.split(CHUNK):
            x = self._taken(part)  # (r, d)
            residual = ((self.weight @ x.T).T + offset).softmax(1)  # (r, classes)
            residual[torch.arange(len(part), device=self.device), self.labels[part]] -= 1
            if self.plan.mechanism.clips:
                norms = residual.norm(dim=1) * (1 + dp_sgd.ROUNDING) * self.lengths[part]
                # a NaN contributes nothing
                residual = (
                    residual * dp_sgd.clip_factors(norms, self.max_grad_norm)[:, None]
                ).nan_to_num(nan=0.0)
            weight.addmm_(residual.T, x)
            bias += residual.sum(0)
        return weight - bias[:, None] * self.mean, bias

    def learn(self, rows: torch.Tensor) -> None:
        """Set the gradients: the noised sum divided by the expected batch size."""
        self.release(self.gradient(rows))

    def release(self, totals: tuple[torch.Tensor, ...]) -> None:
        """Clipped sums (classes, d) and (classes,) → .grad.

        The noise is float64, by engine.privacy.noise, and the result is rounded once.
        """
        for parameter, total in zip(self.parameters, totals):
            noised = total
            if self.plan.mechanism.clips:
                noised = self.noise.added_to(total, self.noise_multiplier * self.max_grad_norm)
            parameter.grad = (noised / self.plan.batch_size).to(parameter.dtype)

    def logits_of(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of feature rows, (n, d) → (n, classes)."""
        weight, bias = self.released()
        offset = bias - weight @ self.mean
        return torch.cat([(weight @ x.T).T + offset for x in self._parts(rows)])

    def test_logits(self) -> torch.Tensor:
        """Logits of all test images, (m, classes)."""
        return self.logits_of(self.test_rows)

    def shown_logits(self) -> torch.Tensor:
        """Logits of the training images that accuracy is measured on, (shown, classes)."""
        return self.logits_of(self.rows[: self.shown])

    def weights(self) -> np.ndarray:
        """All that is published of the model: W, b and the mean, (classes·d + classes + d,)."""
        return torch.cat([*(p.flatten() for p in self.released()), self.mean]).cpu().numpy()


def _release_noise(mechanism: Mechanism) -> float:
    """Noise multiplier of the mean. Raises ValueError if the mechanism has none."""
    if mechanism.release_noise is None:
        raise ValueError("a private linear model needs noise on its mean")
    return mechanism.release_noise


def logits(weights: np.ndarray, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """Logits of features (n, d) under `LinearTraining.weights`, (n, classes)."""
    d, found = rows.shape[1], torch.from_numpy(weights).to(device)
    classes = (len(found) - d) // (d + 1)
    weight, bias, mean = found.split([classes * d, classes, d])
    weight = weight.view(classes, d)
    return torch.cat(
        [
            torch.from_numpy(part).to(device).float() @ weight.T
            for part in np.array_split(rows, -(-len(rows) // 2048))
        ]
    ) + (bias - weight @ mean)


class LinearShadowModels(Learner):
    """Many linear models, each trained on its own subset of the same rows, in one pass.

    A batch is read once for all models. rows (n, d) float16, labels (n,), members (n, k) bool.
    Drawing one Poisson batch of all rows and leaving out non-members gives each model a Poisson
    batch of its own members at the same sample rate. The models share draws, which models of a
    private sweep must not do; comparisons between them must take this into account.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        images,
        device: torch.device,
        rows: np.ndarray,
        labels: np.ndarray,
        members: np.ndarray,
    ):
        super().__init__(plan, replace(images, train_labels=labels), device)
        self.rows, self.members = (
            torch.from_numpy(rows).to(device),
            torch.from_numpy(members).to(device).float(),
        )
        self.models, self.classes, d = members.shape[1], len(images.classes), rows.shape[1]
        self.weight, self.bias = (
            torch.zeros(self.models * self.classes, d, device=device),
            torch.zeros(self.models, self.classes, device=device),
        )
        self._release_means()
        self.begin([self.weight, self.bias])

    def _parts(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for start in range(0, len(self.rows), 2048):
            place = slice(start, start + 2048)
            yield place, self.rows[place].float()

    def _release_means(self) -> None:
        """Set means (k, d), as LinearTraining's, and lengths (n, k) of every row minus every mean.

        The noise comes from engine.privacy.noise.
        """
        total = torch.zeros(self.models, self.rows.shape[1], device=self.device)
        for place, x in self._parts():
            total += self.members[place].T @ x
        if self.plan.mechanism.private:
            most = longest(total.shape[1])
            total = self.noise.added_to(total, _release_noise(self.plan.mechanism) * most)
        self.means = (total / self.plan.examples).float()
        squares = [x.square().sum(1, keepdim=True) - 2 * x @ self.means.T for _, x in self._parts()]
        self.lengths = (torch.cat(squares) + self.means.square().sum(1) + 1).clamp_min(1).sqrt() * (
            1 + dp_sgd.ROUNDING
        )

    def _offset(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Offset b − W m of each model, (k, classes)."""
        return bias - (weight.view(self.models, self.classes, -1) @ self.means[:, :, None])[:, :, 0]

    def gradient(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum the clipped gradients of each model's members among the rows.

        Returns (k·classes, d) and (k, classes).
        """
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        offset = self._offset(self.weight, self.bias)
        for part in rows.split(CHUNK):
            x = self.rows[part].float()
            residual = (
                (x @ self.weight.T).view(len(part), self.models, self.classes) + offset
            ).softmax(2)
            residual[torch.arange(len(part), device=self.device), :, self.labels[part]] -= 1
            weights = self.members[part]  # (r, k)
            if self.plan.mechanism.clips:
                norms = residual.norm(dim=2) * (1 + dp_sgd.ROUNDING) * self.lengths[part]
                weights = weights * dp_sgd.clip_factors(norms, self.plan.mechanism.max_grad_norm)
            residual = (residual * weights[:, :, None]).nan_to_num(nan=0.0)
            weight.addmm_(residual.flatten(1).T, x)
            bias += residual.sum(0)
        return weight - (bias[:, :, None] * self.means[:, None]).view_as(weight), bias

    def learn(self, rows: torch.Tensor) -> None:
        """Set the gradients, each model's with its own noise from engine.privacy.noise."""
        for parameter, total in zip((self.weight, self.bias), self.gradient(rows)):
            noised = total
            if self.plan.mechanism.clips:
                noised = self.noise.added_to(total, self.plan.mechanism.noise_std)
            parameter.grad = (noised / self.plan.batch_size).to(parameter.dtype)

    def logits_of(self, count: int) -> torch.Tensor:
        """Logits of the first rows, (count, k, classes)."""
        weight, bias = self.released()
        parts = [(x @ weight.T) for place, x in self._parts() if place.start < count]
        return torch.cat(parts)[:count].view(count, self.models, self.classes) + self._offset(
            weight, bias
        )
