"""Train several models in lockstep: every tensor has a leading member dimension. torch.

On a GPU, a step is a CUDA graph. A step of one small network consists of a hundred small
operations, and a GPU spends its time waiting for the next one. Here the members of a sweep step
together, and their operations are recorded once and replayed. To make one recording serve all
steps, batches are padded to one size by rows of weight 0, and clip norm, noise and learning rate
are tensors.

What has no fixed size, the coin flips of Poisson sampling, is drawn some steps ahead, for each
member from its own generator, and so is its noise. A batch larger than `room` is processed in
several parts, whose clipped sums are added before noise is added once. Source of the padding: Chua
et al. 2024, "Scalable DP-SGD: Shuffling vs. Poisson Subsampling" (theirs truncates an oversized
batch and pays in δ; ours does not).
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.learning import dp_sgd, vmapped
from engine.learning.linear import LinearTraining
from engine.learning.plan import TrainingPlan
from engine.learning.trainer import SHIFT, Learner, Training, scaled, shifted, shifts

MOST = 8  # members that step together
# drawn at once: coin flips of one member, or noise values of MOST members
AHEAD = 8_000_000
SPARE = 4.0  # room for a batch: standard deviations of the batch size above its mean
# rows of all members together in one part, which must fit on a small GPU; more come in several
# parts
MOST_ROWS = 1 << 15
BETAS, ADAM_LEAST, ADAGRAD_LEAST = (0.9, 0.999), 1e-8, 1e-10  # as torch.optim


class Group:
    """A barrier: learners that join it step together, once the last of `size` has asked.

    A learner that ends earlier leaves the group.
    """

    def __init__(self, size: int = 1):
        self.size, self.asked = size, 0
        self.broken: Exception | None = None  # the error of the step that failed
        self.learners: list[Learner] = []
        self.stacked: Stacked | None = None

    def join(self, learner: Learner) -> None:
        """Take part from the next step on; all members must join before the first step."""
        if self.stacked:
            raise RuntimeError("this group has begun to train")
        if self.learners:
            if _common(learner) != _common(self.learners[0]):
                raise RuntimeError(
                    "these trainings cannot take their steps together: the images have changed"
                    " since the first of them were read"
                )
            learner.share(self.learners[0])
        self.learners.append(learner)
        learner.group = self

    def step(self) -> None:
        """Ask for the next step on behalf of one member.

        The step is taken when all have asked: until then the member must wait, and its parameters
        are those of the step before. Raises RuntimeError if a step of the group has failed.
        """
        if self.broken:
            raise RuntimeError(
                f"a step of the trainings beside this one failed: {self.broken}"
            ) from self.broken
        self.asked += 1
        self._step_if_all()
        if self.broken:
            raise self.broken

    def leave(self) -> None:
        """Remove one expected member, which will not ask again.

        An error in the step that this triggers is raised for those that have asked.
        """
        self.size -= 1
        if not self.broken:
            self._step_if_all()

    def end(self) -> None:
        """Free the device memory used for the steps; the learners keep their parameters."""
        for learner in self.learners:
            learner.group = None
        self.learners, self.stacked = [], None

    def _step_if_all(self) -> None:
        if 0 < self.asked == self.size:
            self.asked = 0
            try:
                self.stacked = self.stacked or Stacked(self.learners)
                self.stacked.step()
            # raised for every member: none may go on as if the step had been taken
            except Exception as error:
                self.broken = error


def _common(learner: Learner) -> tuple:
    return (
        learner.fingerprint,
        learner.plan.examples,
        learner.plan.mechanism.sample_rate,
        learner.plan.steps,
    )


class Stacked:
    """The parameters of several learners as one tensor (members, parameters), and their joint step.

    The learners see views of this tensor as their own parameters. They may differ only in draws,
    privacy, clip norm, noise multiplier, learning rate, momentum, averaging and seed. room: rows
    that one part of a batch holds.
    """

    def __init__(self, learners: list[Learner], room: int | None = None):
        self.learners, one = learners, learners[0]
        self.device, self.n = one.device, max(learner.count for learner in learners)
        self._stack_plans([learner.plan for learner in learners])
        self.expected = float(one.plan.batch_size)
        self.copies = one.plan.augmentations if isinstance(one, Training) else 1
        self.gradients: PerExampleGradients = OF[type(one)](learners)
        self._stack_weights()
        self._make_room(room)
        self.at = 0
        self.parts: list[int] = []  # of each batch that was drawn ahead
        self.optimizer = one.plan.optimizer
        self.graphs: list[torch.cuda.CUDAGraph] | None = None
        if self.device.type == "cuda":
            self._record()

    def _stack_plans(self, plans: list[TrainingPlan]) -> None:
        """Hold what may differ between the members' plans as columns (members, 1)."""

        def column(values, dtype=torch.float32):
            return torch.tensor(list(values), dtype=dtype, device=self.device)[:, None]

        self.clips = column(plan.mechanism.clips for plan in plans) > 0
        self.clip = column(plan.mechanism.max_grad_norm for plan in plans)
        self.rate = column(plan.learning_rate for plan in plans)
        self.scale = column((plan.mechanism.noise_std for plan in plans), torch.float64)
        self.momentum = column(plan.momentum for plan in plans)
        self.begun = [plan.average_from for plan in plans]
        self.average_from = column(self.begun)

    def _stack_weights(self) -> None:
        """Stack the learners' parameters, and make each learner's parameters views of its row."""
        self.weights = torch.stack(
            [
                torch.cat([p.detach().flatten() for p in learner.parameters])
                for learner in self.learners
            ]
        )
        self.total, self.mean = (torch.zeros_like(self.weights) for _ in range(2))
        self.noise = torch.zeros_like(self.weights, dtype=torch.float64)  # for the next release
        # optimizer state
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.count = torch.zeros((), device=self.device)  # steps so far
        self.state = [self.weights, self.total, self.mean, self.first, self.second, self.count]
        for learner, row in zip(self.learners, self.weights):
            for p, part in zip(learner.parameters, self._views(row)):
                p.data = part

    def _make_room(self, room: int | None) -> None:
        """Allocate the rows of one part of a batch, and choose how many steps are drawn ahead."""
        k, rate = len(self.learners), self.learners[0].plan.mechanism.sample_rate
        expected = self.n * rate
        largest = min(self.n, math.ceil(expected + SPARE * math.sqrt(expected * (1 - rate))))
        self.room = room or max(1, min(-(-largest // 16) * 16, MOST_ROWS // (k * self.copies)))
        # The same for one member as for MOST: a stream that is split into calls differently is
        # another stream, in which half of the numbers recur in other places.
        self.ahead = max(
            1, AHEAD // max(self.n, MOST * self.weights.shape[1], MOST * largest * self.copies)
        )
        self.rows = torch.zeros(k, self.room, dtype=torch.int64, device=self.device)
        self.counted = torch.zeros(k, self.room, device=self.device)
        self.moves = torch.full((2, k * self.room, self.copies), SHIFT, device=self.device)

    def _views(self, row: Tensor) -> list[Tensor]:
        """(parameters,) → one learner's parameters, in their shapes."""
        parameters = self.learners[0].parameters
        return [
            part.view(p.shape)
            for p, part in zip(parameters, row.split([p.numel() for p in parameters]))
        ]

    def step(self) -> None:
        """Draw one Poisson batch and take one step for every member."""
        if self.at == len(self.parts):
            self._draw()
        for part in range(self.parts[self.at]):
            place = slice(part * self.room, (part + 1) * self.room)
            self.rows.copy_(self.drawn_rows[self.at, :, place])
            self.counted.copy_(self.drawn_counted[self.at, :, place])
            if self.copies > 1:
                self.moves.view(2, len(self.learners), self.room, self.copies).copy_(
                    self.drawn_moves[self.at, :, place].permute(3, 0, 1, 2)
                )
            self.accumulate()
        self.noise.copy_(self.drawn_noise[self.at])
        self.release()
        self.at += 1
        for learner, begun, row in zip(self.learners, self.begun, self.mean):
            learner.steps += 1
            if learner.steps > begun:
                learner.averaged = self._views(row)

    def accumulate(self) -> None:
        """Add the clipped gradients of the counted rows to the total."""
        self.graphs[0].replay() if self.graphs else self._accumulate()

    def release(self) -> None:
        """Add noise to the total once, step along it, and reset it."""
        self.graphs[1].replay() if self.graphs else self._release()

    # --- drawn ahead ------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw the batches and the noise of the next steps.

        Only here does the host wait for the device, to learn the batch sizes.
        """
        k, ahead = (
            len(self.learners),
            max(1, min(self.ahead, self.learners[0].plan.steps - self.learners[0].steps)),
        )
        found = [self._batches(learner, ahead) for learner in self.learners]
        # (ahead,), of the member with the largest batch
        sizes = torch.stack([sizes for *_, sizes in found]).amax(0)
        self.parts = (-(-sizes // self.room)).tolist()
        width = max(1, *self.parts) * self.room
        self.drawn_rows = torch.zeros(ahead, k, width, dtype=torch.int64, device=self.device)
        self.drawn_counted = torch.zeros(ahead, k, width, device=self.device)
        self.drawn_moves = torch.full(
            (ahead, k, width if self.copies > 1 else 0, self.copies, 2),
            SHIFT,
            dtype=torch.int8,
            device=self.device,
        )
        for member, (learner, (step, place, row, _)) in enumerate(zip(self.learners, found)):
            self.drawn_rows[step, member, place], self.drawn_counted[step, member, place] = row, 1.0
            if self.copies > 1 and isinstance(learner, Training):
                self.drawn_moves[step, member, place] = (
                    shifts(len(row), self.copies, learner.shifts).permute(1, 2, 0).to(torch.int8)
                )
        drawn = [learner.noise.tensor(ahead, self.weights.shape[1]) for learner in self.learners]
        # float64, by engine.privacy.noise
        self.drawn_noise = torch.stack(drawn, 1).mul_(self.scale)
        self.at = 0

    def _batches(self, learner: Learner, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw the Poisson batches of a number of steps.

        Returns, for each row that joined a step: its step, its place in the batch and its index;
        and the sizes of the batches (steps,).
        """
        joins = learner.sampling.joins(learner.plan.mechanism.sample_rate, steps, learner.count)
        step, row = joins.nonzero(as_tuple=True)
        row = row if learner.among is None else learner.among[row]
        sizes = torch.bincount(step, minlength=steps)
        return (
            step,
            torch.arange(len(step), device=self.device) - (sizes.cumsum(0) - sizes)[step],
            row,
            sizes,
        )

    # --- the step: a fixed sequence of operations without synchronization of host and device ------

    @torch.no_grad()
    def _accumulate(self) -> None:
        norms, summed = self.gradients(self.weights, self.rows, self.moves)
        factors = dp_sgd.clip_factors(norms, self.clip)
        # a plain 1 would be sent to the device at every step
        factors = torch.where(self.clips, factors, torch.ones_like(factors)) * self.counted
        self.total.add_(summed(factors))

    @torch.no_grad()
    def _release(self) -> None:
        self.count.add_(1)
        # rounded once
        released = (self.noise + self.total).div_(self.expected).to(self.total.dtype)
        {"sgd": self._sgd, "adam": self._adam, "adagrad": self._adagrad}[self.optimizer](released)
        share = (self.count > self.average_from) / (self.count - self.average_from).clamp(min=1)
        self.mean.add_((self.weights - self.mean) * share)
        self.total.zero_()

    def _sgd(self, gradient: Tensor) -> None:
        self.weights.sub_(self.first.mul_(self.momentum).add_(gradient) * self.rate)

    def _adam(self, gradient: Tensor) -> None:
        """Kingma and Ba 2015, algorithm 1, with ε outside the corrected root, as in torch."""
        self.first.lerp_(gradient, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).add_(gradient.square() * (1 - BETAS[1]))
        # 1 − β^count: bias correction while the running means are young
        first, second = (-torch.expm1(self.count * math.log(beta)) for beta in BETAS)
        self.weights.sub_(
            self.first / first * self.rate / ((self.second / second).sqrt() + ADAM_LEAST)
        )

    def _adagrad(self, gradient: Tensor) -> None:
        """Duchi et al. 2011."""
        self.second.add_(gradient.square())
        self.weights.sub_(gradient * self.rate / (self.second.sqrt() + ADAGRAD_LEAST))

    # --- recording --------------------------------------------------------------------------------

    def _record(self) -> None:
        """Record accumulation and release as CUDA graphs.

        If that fails, they continue to run operation by operation.
        """
        gc.collect()  # frees device memory that an earlier training still holds
        kept, stream = [tensor.clone() for tensor in self.state], torch.cuda.current_stream()
        try:
            self.graphs = [_graph(self._accumulate), _graph(self._release)]
        except RuntimeError:
            logging.getLogger(__name__).exception(
                "the step could not be recorded as a CUDA graph: it is computed operation by"
                " operation, which takes longer"
            )
            torch.cuda.set_stream(stream)  # a failed recording leaves its own stream set
        torch.cuda.synchronize()
        for tensor, before in zip(self.state, kept):  # the warm-up has changed the state
            tensor.copy_(before)


def _graph(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """Capture `work` as a CUDA graph.

    It first runs a few times on a side stream, because some libraries allocate memory at their
    first call.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


# --- per-example gradients of each member, by kind of learner -------------------------------------


class PerExampleGradients(Protocol):
    """The per-example gradients of the rows, for each member."""

    def __call__(
        self, weights: Tensor, rows: Tensor, moves: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Compute the norm of each row's gradient, and a function that sums weighted gradients.

        weights (k, parameters), rows (k, b) → norms (k, b); and a function from factors (k, b) to
        Σ_b factors · gradient, (k, parameters).
        """


class OfImages:
    """Per-example gradients of a network of layers with a rule in engine.learning.vmapped.

    With copies, a row's gradient is the mean over its shifted copies.
    """

    def __init__(self, learners: list[Training]):
        one = learners[0]
        assert isinstance(one.network, nn.Sequential)  # as Training itself builds it
        self.images, self.labels, self.network, self.copies = (
            one.images,
            one.labels,
            one.network,
            one.plan.augmentations,
        )
        self.sizes = [p.numel() for p in one.parameters]
        self.shapes = [p.shape for p in one.parameters]

    def __call__(
        self, weights: Tensor, rows: Tensor, moves: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Norms and weighted sums of PerExampleGradients, from one backward pass."""
        k, b = rows.shape
        images = self.images[rows.flatten()]
        images = shifted(images, moves) if self.copies > 1 else images
        x = scaled(images).permute(0, 2, 3, 1).reshape(k, b * self.copies, *images.shape[1:])
        own = [
            part.view(k, *shape) for part, shape in zip(weights.split(self.sizes, 1), self.shapes)
        ]
        with torch.enable_grad():
            logits, calls = vmapped.recorded(self.network, own, x)
            losses = F.cross_entropy(
                logits.flatten(0, 1),
                self.labels[rows][:, :, None].expand(k, b, self.copies).flatten(),
                reduction="none",
            )
            grads = torch.autograd.grad(losses.sum() / self.copies, [one.output for one in calls])
        contributions = [self._of_layer(one, grad) for one, grad in zip(calls, grads)]
        norms = torch.stack([one.squared_norms() for one in contributions]).sum(0).sqrt().view(
            k, b
        ) * (1 + dp_sgd.ROUNDING)
        return norms, lambda factors: torch.cat(
            [total.flatten(1) for one in contributions for total in one.weighted_sum(factors)], 1
        )

    def _of_layer(self, one: vmapped.LayerCall, grad: Tensor) -> dp_sgd.Contributions:
        bias = one.layer.bias is not None
        parts = dp_sgd.affine(
            [one.inputs],
            grad.detach().reshape(*one.inputs.shape[:2], grad.shape[-1]),
            bias,
            self.copies,
        )
        return (
            dp_sgd.Kernels(parts, one.layer.weight.shape, bias)
            if isinstance(one.layer, nn.Conv2d)
            else parts
        )


class OfRows:
    """Per-example gradients of softmax regression in closed form, as in LinearTraining."""

    def __init__(self, learners: list[LinearTraining]):
        one = learners[0]
        self.rows, self.labels, self.shape = one.rows, one.labels, one.weight.shape
        self.means = torch.stack([learner.mean for learner in learners])  # (k, d)
        self.lengths = torch.stack([learner.lengths for learner in learners])  # (k, n)

    def __call__(
        self, weights: Tensor, rows: Tensor, moves: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Norms and weighted sums of PerExampleGradients, from the residuals."""
        k, b = rows.shape
        weight, bias = weights.split([self.shape.numel(), self.shape[0]], 1)
        weight = weight.view(k, *self.shape)
        x = self.rows[rows.flatten()].float().view(k, b, -1)
        offset = bias - (weight @ self.means[:, :, None])[:, :, 0]
        residual = (x @ weight.mT + offset[:, None]).softmax(2)
        residual.scatter_add_(2, self.labels[rows][:, :, None], residual.new_full((k, b, 1), -1.0))
        norms = residual.norm(dim=2) * (1 + dp_sgd.ROUNDING) * self.lengths.gather(1, rows)

        def summed(factors: Tensor) -> Tensor:
            weighed = (residual * factors[:, :, None]).masked_fill((factors == 0)[:, :, None], 0)
            total = weighed.sum(1)
            return torch.cat(
                [(weighed.mT @ x - total[:, :, None] * self.means[:, None]).flatten(1), total], 1
            )

        return norms, summed


OF: dict[type[Learner], Callable[[list], PerExampleGradients]] = {
    Training: OfImages,
    LinearTraining: OfRows,
}
