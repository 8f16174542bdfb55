"""Federated learning with torch: clients train locally and upload a part of their gradients.

The protocol is that of Shokri and Shmatikov 2015.

    clients = Clients(task, owned, batch_size=16, epochs=1, learning_rate=0.1, shuffling=generator)
    federation = Federation(plan, clients, task.start)
    uploaded = federation.round()  # all clients train and upload, and the server takes a step

`study` has the fields of GradientSharing (gradient_sharing.py). A client's upload is the sum of the
gradients along its local training (each step's, as plain SGD takes it), of which the chosen part is
clipped and sent as bytes. The server reads the bytes, refuses implausible uploads, adds up the
rest, adds noise if it is the one to do so, and moves the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.evaluation import cautions
from engine.learning import vmapped
from engine.learning.networks import named
from engine.learning.trainer import EVALUATE
from engine.privacy.noise import BernoulliSampler, GaussianNoise
from engine.studies.gradient_sharing import wire
from engine.studies.gradient_sharing.plan import SharingPlan

# examples in one pass over many clients; more do not fit in a processor's caches
AT_ONCE = 1000
ON_CARD = 20_000  # the same on a GPU
# Norms are float32 and may be slightly too small, so each is increased by this relative margin.
ROUNDING = 2e-6
# lower bound on a feature's standard deviation, so that nearly constant features are not amplified
LEAST_DEVIATION = 0.01
CLOSE = 1e-30  # avoids division by a norm of 0
MEASURED = 2000  # maximum number of training images that a loss is measured on


@dataclass(frozen=True)
class Task:
    """The data, the network and the initial weights of a training task.

    network: layers with a rule in engine.learning.vmapped. train and test: (n, h, w, c) or (n,
    features). prepare: turns a part of them into floats.
    """

    network: nn.Sequential
    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    prepare: Callable[[Tensor], Tensor]
    start: Tensor  # (n,) all parameters before training

    def logits(self, rows: Tensor) -> Tensor:
        """(batch, classes) logits of the network itself on training images.

        For training the network without clients.
        """
        x = self.prepare(self.train[rows])
        return self.network(x.permute(0, 3, 1, 2) if x.dim() == 4 else x)

    def last_layer(self, weights: Tensor) -> tuple[Task, Tensor]:
        """The task of training only the last layer, with all other layers fixed at `weights` (n,).

        The inputs of the last layer are computed once. Returns the task and the last layer's
        weights.
        """
        body, head = self.network[:-1], self.network[-1:]
        # as any slice of one
        assert isinstance(body, nn.Sequential) and isinstance(head, nn.Sequential)
        fixed, own = weights.split([len(weights) - len(flat(head)), len(flat(head))])

        def outputs_of(inputs):
            return outputs(body, fixed, inputs, self.prepare)

        return (
            replace(
                self,
                network=head,
                train=outputs_of(self.train),
                test=outputs_of(self.test),
                prepare=lambda x: x,
                start=own,
            ),
            own,
        )

    def current_accuracy(self) -> float:
        """Test accuracy of the network with its current weights."""
        return self.accuracy(flat(self.network))

    def learned(self, weights: Tensor, rows: np.ndarray) -> tuple[float, float]:
        """Mean cross-entropy (nats) of a model with weights (n,), and how far it beats guessing.

        Measured on the first MEASURED of these training images; the second value is
        cautions.beyond_guessing. Returns (0, 0) if there are no images.
        """
        if not len(rows):
            return 0.0, 0.0
        some = torch.from_numpy(rows[:MEASURED]).to(self.train.device)
        said, labels = (
            outputs(self.network, weights, self.train[some], self.prepare),
            self.labels[some],
        )
        right = float((named(said) == labels).double().mean())
        return float(F.cross_entropy(said, labels)), cautions.beyond_guessing(
            right, labels.cpu().numpy()
        )

    def predictions(self, weights: Tensor) -> Tensor:
        """(m,) the predicted classes of the test images by a model with weights (n,)."""
        return named(outputs(self.network, weights, self.test, self.prepare))

    def accuracy(self, weights: Tensor) -> float:
        """Test accuracy of a model with weights (n,)."""
        return float((self.predictions(weights) == self.test_labels).double().mean())


def pixels(images: Tensor) -> Tensor:
    """(..., h, w, c) uint8 → float32 in [−1, 1].

    The constants are fixed: the data's own mean and standard deviation would leak.
    """
    return images.to(torch.float32).mul_(2 / 255).sub_(1)


def standardised(known: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that standardises features (batch, d) float16 → float32.

    It makes the mean 0 and the standard deviation 1 over the features `known` (k, d), those of the
    company. With fewer than two of these, features are only converted.
    """
    if len(known) < 2:
        return lambda x: x.to(torch.float32)
    mean, deviation = known.float().mean(0), known.float().std(0).clamp(min=LEAST_DEVIATION)
    return lambda x: (x.to(torch.float32) - mean) / deviation


class Clients:
    """Clients with images of their own, trained together with a leading client dimension.

    owned: for each client, the rows of its images; a client may have none. Each client trains
    `epochs` times over its own images in shuffled batches by SGD.
    """

    def __init__(
        self,
        task: Task,
        owned: list[np.ndarray],
        *,
        batch_size: int,
        epochs: int,
        learning_rate: float,
        shuffling: torch.Generator,
    ):
        self.task, self.sizes = task, [len(rows) for rows in owned]
        rows = np.full((len(owned), max(1, *self.sizes)), -1, np.int64)
        for number, mine in enumerate(owned):
            rows[number, : len(mine)] = mine
        # (clients, longest), −1 as padding
        self.rows = torch.from_numpy(rows).to(task.train.device)
        self.batch_size, self.epochs, self.learning_rate, self.shuffling = (
            batch_size,
            epochs,
            learning_rate,
            shuffling,
        )
        self.shapes = [p.shape for p in task.network.parameters()]

    def accumulated(self, weights: Tensor, who: list[int]) -> Tensor:
        """The sum of all gradients along each client's local training: (clients, n).

        Training starts from `weights`, (n,) for all or (clients, n). The sum is zero for a client
        without images.
        """
        found = weights.new_zeros(len(who), weights.shape[-1])
        for part in self._parts(who):
            start = (weights if weights.dim() == 2 else weights.expand(len(who), -1))[part]
            found[part] = self._train(
                start, torch.tensor([who[i] for i in part], device=weights.device)
            )
        return found

    def _parts(self, who: list[int]) -> list[list[int]]:
        """Groups of positions in `who` that train together.

        The clients in a group have similar numbers of images, and their batches fit in one pass.
        """
        order = sorted(range(len(who)), key=lambda i: -self.sizes[who[i]])
        count = max(
            1, (AT_ONCE if self.task.train.device.type == "cpu" else ON_CARD) // self.batch_size
        )
        return [order[i : i + count] for i in range(0, len(order), count)]

    def _train(self, start: Tensor, who: Tensor) -> Tensor:
        """Train one group locally: (clients, n) accumulated gradients."""
        most = max(self.sizes[i] for i in who.tolist())
        weights = [
            part.reshape(-1, *shape).clone().requires_grad_()
            for part, shape in zip(start.split([s.numel() for s in self.shapes], 1), self.shapes)
        ]
        total = [torch.zeros_like(w) for w in weights]
        for _ in range(self.epochs):
            for rows in (
                self._shuffled(self.rows[who, :most]).split(self.batch_size, 1) if most else ()
            ):
                gradients = torch.autograd.grad(self._loss(weights, rows), weights)
                with torch.no_grad():
                    for weight, gradient, sum_ in zip(weights, gradients, total):
                        weight.sub_(self.learning_rate * gradient)
                        sum_.add_(gradient)
        return torch.cat([sum_.flatten(1) for sum_ in total], 1)

    def _shuffled(self, rows: Tensor) -> Tensor:
        """(clients, longest): each client's rows in a new order, with the padding last."""
        order = (
            torch.rand(rows.shape, generator=self.shuffling, device=rows.device)
            .masked_fill_(rows < 0, 2.0)
            .argsort(1)
        )
        return rows.gather(1, order)

    def _loss(self, weights: vmapped.Weights, rows: Tensor) -> Tensor:
        """The sum over clients of the mean loss over each client's batch, rows (clients, batch).

        The gradient of the sum gives every client its own gradient.
        """
        there = rows >= 0
        taken = rows.clamp(min=0).flatten()
        x = self.task.prepare(self.task.train[taken])
        # (clients, batch, classes)
        logits = vmapped.forward(self.task.network, weights, x.unflatten(0, rows.shape))
        if len(rows) == 1 and bool(there.all()):
            return F.cross_entropy(logits[0], self.task.labels[taken])
        losses = F.cross_entropy(
            logits.flatten(0, 1), self.task.labels[taken], reduction="none"
        ).view(rows.shape)
        return (losses.masked_fill(~there, 0.0).sum(1) / there.sum(1).clamp(min=1)).sum()


def outputs(
    network: nn.Sequential, weights: Tensor, inputs: Tensor, prepare: Callable[[Tensor], Tensor]
) -> Tensor:
    """(m, classes) logits of one network with `weights` (n,) on inputs (m, ...)."""
    shapes = [p.shape for p in network.parameters()]
    own = [
        part.view(1, *shape)
        for part, shape in zip(weights.split([s.numel() for s in shapes]), shapes)
    ]
    with torch.no_grad():
        return torch.cat(
            [
                vmapped.forward(network, own, prepare(part)[None])[0]
                for part in inputs.split(EVALUATE)
            ]
        )


def flat(network: nn.Module) -> Tensor:
    """(n,) a copy of all parameters in the network's order."""
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# --- uploads --------------------------------------------------------------------------------------


def count_of(fraction: float, n: int) -> int:
    """The number of gradients in a fraction of n: rounded, and at least one."""
    return min(n, max(1, round(fraction * n)))


def public_positions(n: int, fraction: float, generator: torch.Generator) -> Tensor:
    """(n,) bool: a random fraction, the same for the server and all clients.

    It does not depend on any image.
    """
    kept = torch.zeros(n, dtype=torch.bool)
    kept[torch.rand(n, generator=generator).topk(count_of(fraction, n)).indices] = True
    return kept


def selected(
    gradients: Tensor,
    policy: str,
    fraction: float,
    threshold: float = 0.0,
    known: Tensor | None = None,
) -> Tensor:
    """(clients, n) bool: the gradients that each client uploads.

    policy "largest": the `fraction` of largest magnitude; "random": the `known` ones (n,), the same
    for all clients; "threshold": all of magnitude above `threshold`. NaN counts as the smallest
    magnitude. Raises ValueError for any other policy.
    """
    if policy == "random":
        assert known is not None  # this policy uploads what is known
        return known.expand_as(gradients)
    sizes = gradients.abs().nan_to_num(nan=0.0)
    if policy == "threshold":
        return sizes > threshold
    if policy != "largest":
        raise ValueError(f"no policy {policy}")
    top = sizes.topk(count_of(fraction, gradients.shape[1]), dim=1, sorted=False).indices
    return torch.zeros_like(gradients, dtype=torch.bool).scatter_(1, top, True)


def clipped(updates: Tensor, max_grad_norm: float | None) -> Tensor:
    """Clip each row of (clients, n) to the clip norm; None means no clipping.

    A row that contains NaN or infinity becomes zeros.
    """
    if max_grad_norm is None:
        return updates
    norms = torch.linalg.vector_norm(updates.double(), dim=1) * (1 + ROUNDING)
    factors = (max_grad_norm / norms.clamp(min=CLOSE)).clamp(max=1).nan_to_num(nan=0.0)
    return torch.where(factors[:, None] > 0, updates, 0.0) * factors[:, None].to(updates.dtype)


# --- rounds ---------------------------------------------------------------------------------------

# what a client did in a round, if not the number of bytes sent
NOTHING, DROPPED, REFUSED, NOT_ASKED = 0, -1, -2, -3
SHIFTS = 4  # shifts of an asynchronous round
LONGEST = 1e6  # An upload with a larger norm than this is refused.
# An upload is also refused if its norm is this many times the median of all earlier ones and the
# others in its group.
TOO_LONG = 10.0
SPREAD = 6.0  # standard deviations by which the norm of a client's own noise may deviate
HUGE = 1e9  # norm of what a faulty client sends


class Federation:
    """Clients and their server.

    Noise is drawn by engine.privacy.noise.
    """

    def __init__(self, plan: SharingPlan, clients: Clients, start: Tensor):
        self.plan, self.clients = plan, clients
        self.weights, self.people = start.clone(), len(clients.sizes)
        # what has not been sent yet
        self.rest = start.new_zeros(self.people, len(start)) if plan.keep_rest else None
        self.group = {
            "together": self.people,
            "turns": 1,
            "asynchronous": -(-self.people // SHIFTS),
        }[plan.order]
        device = start.device
        self.lengths: list[float] = []  # norms of accepted uploads
        self.coins = BernoulliSampler(plan.streams.derive_seed("participation"))
        self.public = torch.Generator().manual_seed(plan.streams.derive_seed("public"))
        self.noise = GaussianNoise(plan.streams.derive_seed("noise"), device)

    def round(self) -> np.ndarray:
        """One round: every client takes part once, in the study's order.

        Returns (clients,) int64: the bytes that each client sent, or the code for why it sent none.
        """
        said = np.full(self.people, NOTHING, np.int64)
        order = torch.randperm(self.people, generator=self.public).tolist()
        begun = self.weights
        for i in range(0, self.people, self.group):
            # an asynchronous shift begins before the previous shift's uploads have arrived
            base = begun if self.plan.order == "asynchronous" else self.weights
            begun = self.weights
            self._shift(order[i : i + self.group], base, said)
        return said

    def _shift(self, group: list[int], base: Tensor, said: np.ndarray) -> None:
        """A group trains from the model `base` and uploads; the server updates its own model."""
        asked = self.coins.joins(self.plan.client_sampling_rate, len(group))
        stays = ~self.coins.joins(self.plan.dropout, len(group))
        who = [i for i, a in zip(group, asked.tolist()) if a]
        said[[i for i, a in zip(group, asked.tolist()) if not a]] = NOT_ASKED
        gradients = self.clients.accumulated(base, who)
        if self.rest is not None:
            gradients = gradients + self.rest[who]
        there = [stay for stay, a in zip(stays.tolist(), asked.tolist()) if a]
        known = (
            public_positions(len(base), self.plan.fraction, self.public).to(base.device)
            if self.plan.policy == "random"
            else None
        )
        self._move(
            self._received(self._messages(who, gradients, there, known, said), known, said),
            known,
            len(group),
        )

    def _messages(
        self,
        who: list[int],
        gradients: Tensor,
        there: list[bool],
        known: Tensor | None,
        said: np.ndarray,
    ) -> dict[int, bytes]:
        """The message of each client; records dropouts and keeps what was not sent."""
        plan = self.plan
        chosen = selected(gradients, plan.policy, plan.fraction, plan.threshold, known)
        updates, sent = clipped(gradients * chosen, plan.max_grad_norm), chosen
        # Which gradients are the largest would reveal something, so all of them are sent, unless
        # the positions are public.
        if plan.noised_by_client:
            sent = chosen if known is not None else torch.ones_like(chosen)
            updates = torch.where(sent, self._noised(updates), updates)
        if self.rest is not None:
            gone = chosen & torch.tensor(there, dtype=torch.bool, device=chosen.device)[:, None]
            self.rest[who] = gradients.masked_fill(gone, 0.0).nan_to_num(nan=0.0)
        said[[client for client, stays in zip(who, there) if not stays]] = DROPPED
        return {
            client: wire.pack(
                self._broken(client, updates[i]).cpu().numpy(),
                sent[i].cpu().numpy(),
                known is not None,
            )
            for i, client in enumerate(who)
            if there[i] and (self.clients.sizes[client] or plan.noised_by_client)
        }

    def _broken(self, client: int, update: Tensor) -> Tensor:
        """The upload of the first client, made faulty if the study asks for it."""
        if client != 0 or self.plan.faulty == "none":
            return update
        return (
            torch.full_like(update, float("nan"))
            if self.plan.faulty == "nan"
            else torch.full_like(update, HUGE / len(update) ** 0.5)
        )

    def _received(
        self, messages: dict[int, bytes], known: Tensor | None, said: np.ndarray
    ) -> list[Tensor]:
        """The uploads that the server accepts, (n,) each; implausible ones are refused."""
        places = None if known is None else known.cpu().numpy()
        read = {
            client: (
                torch.from_numpy(wire.unpack(message, len(self.weights), places)).to(self.weights)
            )
            for client, message in messages.items()
        }
        lengths = {
            client: float(torch.linalg.vector_norm(update.double()))
            for client, update in read.items()
        }
        bound, accepted = self._bound(list(lengths.values())), []
        for client, update in read.items():
            good = lengths[client] <= bound  # False for NaN, too
            said[client] = len(messages[client]) if good else REFUSED
            if good:
                self.lengths.append(lengths[client])
                accepted.append(update)
        return accepted

    def _bound(self, lengths: list[float]) -> float:
        """The largest norm of a plausible upload.

        With a clip norm, clients clip their own uploads, and the server refuses an upload that is
        not clipped.
        """
        if (clip := self.plan.max_grad_norm) is not None:
            own = self.plan.noise_std if self.plan.noised_by_client else 0.0
            return clip + own * (len(self.weights) ** 0.5 + SPREAD)
        usual = np.median([x for x in (*self.lengths[-1000:], *lengths) if np.isfinite(x)] or [0.0])
        return min(LONGEST, TOO_LONG * float(usual)) if usual else LONGEST

    def _noised(self, sums: Tensor) -> Tensor:
        """The sums with Gaussian noise of standard deviation noise_multiplier times the clip norm.

        The noise is drawn in float64 and the result is rounded once.
        """
        return self.noise.added_to(sums, self.plan.noise_std).to(sums.dtype)

    def _move(self, accepted: list[Tensor], known: Tensor | None, group: int) -> None:
        """Move the model one step along the mean of the accepted uploads.

        If the server adds the noise, it divides the sum by the expected number of uploads, not by
        the number received, which is itself private. It adds noise to an empty sum like to any
        other, and to every gradient that some client could have sent, because who sent which is
        private, too.
        """
        total, count = torch.zeros_like(self.weights), float(len(accepted))
        for update in accepted:
            total += update
        if self.plan.noised_by_server:
            count, noised = group * self.plan.client_sampling_rate, self._noised(total)
            total = noised if known is None else torch.where(known, noised, total)
        if count:
            rate = self.clients.learning_rate * self.plan.server_learning_rate
            self.weights = self.weights - rate * (total / count)
