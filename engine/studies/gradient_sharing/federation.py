"""Phones that learn together without sending their pictures (Shokri and Shmatikov 2015), each
training on its own and uploading a part of its gradients. torch.

    phones = Phones(task, owned, batch_size=16, epochs=1, learning_rate=0.1, shuffling=generator)
    federation = Federation(study, plan, phones, task.start)  # study: who has the fields of
    studies/gradient_sharing.py
    day = federation.day()                                    # everybody trains, uploads, and the
    server goes one step

A phone's upload is the sum of the gradients along its own training (each step's, as plain SGD would
take it), the chosen part of it, clipped, as bytes. The server reads the bytes, refuses what cannot
be true, adds up, adds noise where it is to, and moves the model.
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
from engine.privacy.noise import Coins, GaussianNoise
from engine.studies.gradient_sharing import wire

# examples in one pass over many phones: more no longer fit into a processor's caches
AT_ONCE = 1000
ON_CARD = 20_000  # the same where there is a graphics card
# norms are float32 and may come out a little short: each is taken this much longer, relatively
ROUNDING = 2e-6
LEAST_DEVIATION = 0.01  # of a feature: one that hardly ever differs is not blown up
CLOSE = 1e-30  # keeps a norm of 0 from dividing
MEASURED = 2000  # training pictures that a loss is measured on, at most


@dataclass(frozen=True)
class Task:
    """What is learned from what. network: layers with a rule in engine.learning.vmapped. train and test (n,
    h, w, c) or (n, features), prepare: a part of them → floats.
    """

    network: nn.Sequential
    train: Tensor
    labels: Tensor
    test: Tensor
    test_labels: Tensor
    prepare: Callable[[Tensor], Tensor]
    start: Tensor  # (n,) all parameters as they are at first

    def logits(self, rows: Tensor) -> Tensor:
        """(batch, classes) of the network itself on training pictures, for those who train it
        alone.
        """
        x = self.prepare(self.train[rows])
        return self.network(x.permute(0, 3, 1, 2) if x.dim() == 4 else x)

    def last_layer(self, weights: Tensor) -> tuple[Task, Tensor]:
        """The task of learning the last layer alone, all before it fixed at `weights` (n,): what it
        sees is computed once. Returns that and the last layer's weights.
        """
        body, head = self.network[:-1], self.network[-1:]
        fixed, own = weights.split([len(weights) - len(flat(head)), len(flat(head))])
        see = lambda inputs: outputs(body, fixed, inputs, self.prepare)
        return (
            replace(
                self,
                network=head,
                train=see(self.train),
                test=see(self.test),
                prepare=lambda x: x,
                start=own,
            ),
            own,
        )

    def current_accuracy(self) -> float:
        """Test accuracy of the network itself, as it is now."""
        return self.accuracy(flat(self.network))

    def learned(self, weights: Tensor, rows: np.ndarray) -> tuple[float, float]:
        """Of a network with weights (n,) on the first MEASURED of these training pictures: mean
        cross-entropy (nats), and what it knows (cautions.beyond_guessing). (0, 0) for no
        pictures.
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
        """(m,) what a network with weights (n,) calls the test pictures."""
        return named(outputs(self.network, weights, self.test, self.prepare))

    def accuracy(self, weights: Tensor) -> float:
        """Share of the test pictures that are named correctly."""
        return float((self.predictions(weights) == self.test_labels).double().mean())


def pixels(images: Tensor) -> Tensor:
    """(..., h, w, c) uint8 → float32 in [−1, 1].

    Fixed numbers: the data's own mean and spread would leak.
    """
    return images.to(torch.float32).mul_(2 / 255).sub_(1)


def standardised(known: Tensor) -> Callable[[Tensor], Tensor]:
    """Features (batch, d) float16 → float32 with mean 0 and deviation 1 in those `known` (k, d):
    the company's. With none, as they are.
    """
    if len(known) < 2:
        return lambda x: x.to(torch.float32)
    mean, deviation = known.float().mean(0), known.float().std(0).clamp(min=LEAST_DEVIATION)
    return lambda x: (x.to(torch.float32) - mean) / deviation


class Phones:
    """Participants with pictures of their own.

    All of them take their steps at once, with a leading participant dimension.

    owned: the rows of each participant's pictures; none is allowed. Each trains `epochs` times over
    its own pictures in shuffled batches by SGD.
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
        # (people, longest), −1 where there is none
        self.rows = torch.from_numpy(rows).to(task.train.device)
        self.batch_size, self.epochs, self.learning_rate, self.shuffling = (
            batch_size,
            epochs,
            learning_rate,
            shuffling,
        )
        self.shapes = [p.shape for p in task.network.parameters()]

    def accumulated(self, weights: Tensor, who: list[int]) -> Tensor:
        """The sum of all gradients along each one's own training from `weights`, (n,) for all or
        (people, n): (people, n). Zeros for one without pictures.
        """
        found = weights.new_zeros(len(who), weights.shape[-1])
        for part in self._parts(who):
            start = (weights if weights.dim() == 2 else weights.expand(len(who), -1))[part]
            found[part] = self._train(
                start, torch.tensor([who[i] for i in part], device=weights.device)
            )
        return found

    def _parts(self, who: list[int]) -> list[list[int]]:
        """Places in `who` that train together: alike in how much they have, and so many that their
        batches fit into a pass.
        """
        order = sorted(range(len(who)), key=lambda i: -self.sizes[who[i]])
        count = max(
            1, (AT_ONCE if self.task.train.device.type == "cpu" else ON_CARD) // self.batch_size
        )
        return [order[i : i + count] for i in range(0, len(order), count)]

    def _train(self, start: Tensor, who: Tensor) -> Tensor:
        """One part's own training: (people, n) of accumulated gradients."""
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
                        weight -= self.learning_rate * gradient
                        sum_ += gradient
        return torch.cat([sum_.flatten(1) for sum_ in total], 1)

    def _shuffled(self, rows: Tensor) -> Tensor:
        """(people, longest): each one's rows in a new order, what there is not at the end."""
        order = (
            torch.rand(rows.shape, generator=self.shuffling, device=rows.device)
            .masked_fill_(rows < 0, 2.0)
            .argsort(1)
        )
        return rows.gather(1, order)

    def _loss(self, weights: vmapped.Weights, rows: Tensor) -> Tensor:
        """Sum over participants of each one's mean loss over its batch, rows (people, batch): its
        gradients are everybody's own.
        """
        there = rows >= 0
        taken = rows.clamp(min=0).flatten()
        x = self.task.prepare(self.task.train[taken])
        # (people, batch, classes)
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
    """(m, classes) of one network with `weights` (n,) on inputs (m, ...)."""
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
    """(n,) all parameters in the network's order, a copy."""
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# --- what is uploaded -----------------------------------------------------------------------------


def count_of(fraction: float, n: int) -> int:
    """How many of n gradients a fraction is: rounded, one at least."""
    return min(n, max(1, round(fraction * n)))


def public_positions(n: int, fraction: float, generator: torch.Generator) -> Tensor:
    """(n,) bool: a random fraction, the same for server and phones, drawn from nobody's pictures."""
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
    """(people, n) bool: which gradients each one uploads.

    A number that is none (NaN) is taken for the smallest.

    policy "largest": the `fraction` of largest magnitude; "random": the `known` ones (n,), the same
    for everybody; "threshold": all of magnitude above `threshold`. Raises ValueError.
    """
    if policy == "random":
        return known.expand_as(gradients)
    sizes = gradients.abs().nan_to_num(nan=0.0)
    if policy == "threshold":
        return sizes > threshold
    if policy != "largest":
        raise ValueError(f"no policy {policy}")
    top = sizes.topk(count_of(fraction, gradients.shape[1]), dim=1, sorted=False).indices
    return torch.zeros_like(gradients, dtype=torch.bool).scatter_(1, top, True)


def clipped(updates: Tensor, max_grad_norm: float | None) -> Tensor:
    """(people, n), each shortened to the clip norm where it is longer; one that holds what is no
    number, or is endless, becomes zeros. None: nothing is shortened.
    """
    if max_grad_norm is None:
        return updates
    norms = torch.linalg.vector_norm(updates.double(), dim=1) * (1 + ROUNDING)
    factors = (max_grad_norm / norms.clamp(min=CLOSE)).clamp(max=1).nan_to_num(nan=0.0)
    return torch.where(factors[:, None] > 0, updates, 0.0) * factors[:, None].to(updates.dtype)


# --- a day ----------------------------------------------------------------------------------------

# what a phone has sent on a day, where it is no number of bytes
NOTHING, DROPPED, REFUSED, NOT_ASKED = 0, -1, -2, -3
SHIFTS = 4  # of an asynchronous day
LONGEST = 1e6  # an upload that is longer than this is refused, and
TOO_LONG = 10.0  # one that is so many times as long as the median of all before it and beside it
SPREAD = 6.0  # standard deviations that the length of a phone's own noise may be off
HUGE = 1e9  # length of what a broken phone sends


class Federation:
    """Phones and their server.

    Noise is drawn by engine.privacy.noise. `study` has the fields of studies/gradient_sharing.py; plan: its
    noise_multiplier and clip (None: nothing is shortened).
    """

    def __init__(self, study, plan: dict, phones: Phones, start: Tensor):
        self.study, self.plan, self.phones = study, plan, phones
        self.weights, self.people = start.clone(), len(phones.sizes)
        # what has not been sent yet
        self.rest = start.new_zeros(self.people, len(start)) if study.keep_rest else None
        self.group = {
            "together": self.people,
            "turns": 1,
            "asynchronous": -(-self.people // SHIFTS),
        }[study.order]
        device = start.device
        self.lengths: list[float] = []  # of accepted uploads
        self.coins = Coins(study.derive_seed("participation"))
        self.public = torch.Generator().manual_seed(study.derive_seed("public"))
        self.noise = GaussianNoise(study.derive_seed("noise"), device)

    def day(self) -> np.ndarray:
        """Everybody once, in the study's order.

        (people,) int64: bytes that each has sent, or why none.
        """
        said = np.full(self.people, NOTHING, np.int64)
        order = torch.randperm(self.people, generator=self.public).tolist()
        begun = self.weights
        for i in range(0, self.people, self.group):
            # a shift begins before the last one's uploads are in
            base = begun if self.study.order == "asynchronous" else self.weights
            begun = self.weights
            self._shift(order[i : i + self.group], base, said)
        return said

    def _shift(self, group: list[int], base: Tensor, said: np.ndarray) -> None:
        """A group trains on the model `base`, uploads, and the server moves its own."""
        asked = self.coins.joins(self.study.participation, len(group))
        stays = ~self.coins.joins(self.study.dropout, len(group))
        who = [i for i, a in zip(group, asked.tolist()) if a]
        said[[i for i, a in zip(group, asked.tolist()) if not a]] = NOT_ASKED
        gradients = self.phones.accumulated(base, who)
        if self.rest is not None:
            gradients = gradients + self.rest[who]
        there = [stay for stay, a in zip(stays.tolist(), asked.tolist()) if a]
        known = (
            public_positions(len(base), self.study.fraction, self.public).to(base.device)
            if self.study.policy == "random"
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
        """Phone → what it sends. Notes who has dropped out, and keeps what was not sent."""
        study, noised = (
            self.study,
            self.study.noised_by == "phone" and self.plan["noise_multiplier"] > 0,
        )
        chosen = selected(gradients, study.policy, study.fraction, study.threshold, known)
        updates, sent = clipped(gradients * chosen, self.plan["clip"]), chosen
        # which of them are the largest would give something away: so all of them go, unless
        # everybody knows which ones
        if noised:
            sent = chosen if known is not None else torch.ones_like(chosen)
            updates = torch.where(sent, self._noised(updates), updates)
        if self.rest is not None:
            gone = chosen & torch.tensor(there, dtype=torch.bool, device=chosen.device)[:, None]
            self.rest[who] = gradients.masked_fill(gone, 0.0).nan_to_num(nan=0.0)
        said[[phone for phone, stays in zip(who, there) if not stays]] = DROPPED
        return {
            phone: wire.pack(
                self._broken(phone, updates[i]).cpu().numpy(),
                sent[i].cpu().numpy(),
                known is not None,
            )
            for i, phone in enumerate(who)
            if there[i] and (self.phones.sizes[phone] or noised)
        }

    def _broken(self, phone: int, update: Tensor) -> Tensor:
        """The first phone's upload, where the study wants it to be broken."""
        if phone != 0 or self.study.faulty == "none":
            return update
        return (
            torch.full_like(update, float("nan"))
            if self.study.faulty == "nan"
            else torch.full_like(update, HUGE / len(update) ** 0.5)
        )

    def _received(
        self, messages: dict[int, bytes], known: Tensor | None, said: np.ndarray
    ) -> list[Tensor]:
        """What the server reads and accepts, (n,) each; what cannot be true is refused."""
        places = None if known is None else known.cpu().numpy()
        read = {
            phone: (
                torch.from_numpy(wire.unpack(message, len(self.weights), places)).to(self.weights)
            )
            for phone, message in messages.items()
        }
        lengths = {
            phone: float(torch.linalg.vector_norm(update.double()))
            for phone, update in read.items()
        }
        bound, accepted = self._bound(list(lengths.values())), []
        for phone, update in read.items():
            good = lengths[phone] <= bound  # not where it is NaN
            said[phone] = len(messages[phone]) if good else REFUSED
            if good:
                self.lengths.append(lengths[phone])
                accepted.append(update)
        return accepted

    def _bound(self, lengths: list[float]) -> float:
        """The longest upload that can be true.

        With a clip norm phones are shortened by their own hand, and whoever does not do it is
        refused.
        """
        clip, sigma = self.plan["clip"], self.plan["noise_multiplier"]
        if clip is not None:
            own = (
                sigma * (len(self.weights) ** 0.5 + SPREAD)
                if self.study.noised_by == "phone"
                else 0.0
            )
            return clip * (1 + own)
        usual = np.median([x for x in (*self.lengths[-1000:], *lengths) if np.isfinite(x)] or [0.0])
        return min(LONGEST, TOO_LONG * float(usual)) if usual else LONGEST

    def _noised(self, sums: Tensor) -> Tensor:
        """sums with Gaussian noise of noise_multiplier times the clip norm: float64 draws, rounded
        once.
        """
        deviation = self.plan["noise_multiplier"] * self.plan["clip"]
        return self.noise.added_to(sums, deviation).to(sums.dtype)

    def _move(self, accepted: list[Tensor], known: Tensor | None, group: int) -> None:
        """One step of the server along the mean of what it accepted.

        Where it is the server that adds noise, the sum is divided by how many were expected, never
        by how many came, which is itself private; a sum of nothing is noised like any other; and
        noise goes to every gradient that somebody could have sent, for who sent which is private
        too.
        """
        study, total, count = self.study, torch.zeros_like(self.weights), float(len(accepted))
        for update in accepted:
            total += update
        if study.noised_by == "server" and self.plan["noise_multiplier"] > 0:
            count, noised = group * study.participation, self._noised(total)
            total = noised if known is None else torch.where(known, noised, total)
        if count:
            self.weights = self.weights - self.phones.learning_rate * study.server_rate * (
                total / count
            )
