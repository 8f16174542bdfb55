"""Compare clients that train together with other ways to do the same computation.

    python -m bench.gradient_sharing [--clients 100] [--rounds 3] [--repeats 5]

Each client has 38 real digits and goes through them once per round, sixteen at a
time, on the page's CNN; a round of all clients is timed and scaled to thirty. The comparisons are
centralised training on the same number of examples (batches of 16, as a client's; of 32, as the
page's; of 256), the same clients one after the other by torch's own layers, and torch.func.vmap.
The minimum over interleaved repetitions (--repeats) counts.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from engine.datasets import registry
from engine.learning.networks import report_cnn
from engine.studies.gradient_sharing import federation
from engine.studies.gradient_sharing.federation import Clients, Federation, Task
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing

ROUNDS = 30


def task() -> Task:
    """The tutorial CNN with tanh, trained and tested on the training digits of mnist-5k."""
    images = registry.load("mnist-5k")
    network = report_cnn(1, 28, 10, 0, "tanh")
    x, y = torch.tensor(images.train_images), torch.tensor(images.train_labels)
    return Task(network, x, y, x, y, federation.pixels, federation.flat(network))


def clients(learned: Task, owned: list[np.ndarray], batch: int) -> Clients:
    """Clients that own the given rows and train for one epoch per round."""
    return Clients(
        learned,
        owned,
        batch_size=batch,
        epochs=1,
        learning_rate=0.2,
        shuffling=torch.Generator().manual_seed(0),
    )


def by_vmap(learned: Task, owned: list[np.ndarray], batch: int):
    """A round of all clients with torch.func.vmap over the network's own layers.

    All clients have equally many examples.
    """
    names = [name for name, _ in learned.network.named_parameters()]

    def loss(weights, x, y):
        return F.cross_entropy(functional_call(learned.network, dict(zip(names, weights)), (x,)), y)

    rows = torch.from_numpy(np.stack(owned))

    def train():
        weights = [
            p.detach().expand(len(owned), *p.shape).clone() for p in learned.network.parameters()
        ]
        for part in rows.split(batch, 1):
            gradients = vmap(grad(loss))(
                weights,
                federation.pixels(learned.train[part]).permute(0, 1, 4, 2, 3),
                learned.labels[part],
            )
            weights = [w - 0.2 * g for w, g in zip(weights, gradients)]

    return train


def ways_to_train(count: int, each: int) -> dict:
    """Name → a function that computes one round; Veil's whole round comes first.

    count: number of clients. each: digits of each client.
    """
    learned = task()
    owned = [np.arange(i * each, (i + 1) * each) for i in range(count)]
    together = clients(learned, owned, 16)
    central = {batch: clients(learned, [np.arange(count * each)], batch) for batch in (16, 32, 256)}
    federated = Federation(GradientSharing(clients=count).plan(), together, learned.start)
    return {
        "Veil, 10 % shared, server and bytes included": federated.round,
        "Veil, the clients' own training alone": lambda: together.accumulated(
            learned.start, list(range(count))
        ),
        **{
            f"centralised, batches of {batch}": lambda one=one: one.accumulated(learned.start, [0])
            for batch, one in central.items()
        },
        "the clients one after the other": lambda: [
            together.accumulated(learned.start, [i]) for i in range(count)
        ],
        "the clients by torch.func.vmap": by_vmap(learned, owned, 16),
    }


def main() -> None:
    """Time a round in each way and print the seconds, scaled to ROUNDS rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    each = 3800 // options.clients
    ways = ways_to_train(options.clients, each)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(options.repeats):
        for name, train in ways.items():
            begun = time.perf_counter()
            for _ in range(options.rounds):
                train()
            best[name] = min(best[name], (time.perf_counter() - begun) / options.rounds)
    mine = next(iter(best.values()))
    print(
        f"{options.clients} clients with {each} digits each, {ROUNDS} rounds,"
        f" {torch.get_num_threads()} threads; the least of {options.repeats} times"
        f" {options.rounds} rounds, scaled"
    )
    for name, seconds in best.items():
        print(f"  {name:46s} {ROUNDS * seconds:6.2f} s   Veil takes {mine / seconds:.2f} x")


if __name__ == "__main__":
    main()
