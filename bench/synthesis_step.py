"""Compare a step of batch-norm synthesis with a training step of the same network and batch.

    python -m bench.synthesis_step

The target is at most 1.1 × the training step. The baseline beside it is a plain implementation of
the method: hooks, a forward and a backward pass, no more.
"""

import argparse
import time

import torch
from torch.nn import functional as F

from engine.learning import networks
from engine.learning.supervised import Scale
from engine.studies.synthesis import bn_inversion

BATCH, OURS = 250, "Veil's step"


def training(network: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor):
    """One step of SGD with momentum on real images."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return step


def plain(network: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor):
    """Report 2's method (arXiv 2210.03205, 2022) implemented plainly.

    Weights stay in the graph, and variances are computed by torch.var.
    """
    images, seen = torch.randn_like(x).requires_grad_(), []
    optimizer = torch.optim.Adam([images], lr=0.1)
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))

    def step():
        seen.clear()
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        for layer, a in zip(layers, seen):
            loss = (
                loss
                + (a.mean((0, 2, 3)) - layer.running_mean).square().sum()
                + (a.var((0, 2, 3)) - layer.running_var).square().sum()
            )
        loss.backward()
        optimizer.step()

    return step


def ours(network: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor):
    """Veil's step: smooth images, jitter, the best kept."""
    network.requires_grad_(False)
    batch = bn_inversion.Batch(
        bn_inversion.Settings("smooth", 10**9, 0.5, bn_inversion.Weights(), jitter=2),
        [bn_inversion.Teacher(network, bn_inversion.recorded(network), Scale())],
        labels,
        tuple(x.shape[1:]),
        0,
        0,
    )
    steps = bn_inversion.optimise(batch)
    return lambda: next(steps)


def main() -> None:
    """Time the three kinds of step on both networks and print milliseconds and ratios."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--steps", type=int, default=5)
    options = options.parse_args()
    for kind, channels, size in (("narrow", 1, 28), ("resnet20", 3, 32)):
        x = (
            torch.rand(BATCH, channels, size, size)
            .sub(0.5)
            .mul(2)
            .contiguous(memory_format=torch.channels_last)
        )
        labels = torch.arange(BATCH) % 10
        steps = {}
        for name, make in (
            ("a training step", training),
            ("the plain method", plain),
            (OURS, ours),
        ):
            network = networks.resnet(kind, "batch", channels, size, 10, 0).to(
                memory_format=torch.channels_last
            )
            network.train(name == "a training step")
            steps[name] = make(network, x, labels)
        best = dict.fromkeys(steps, float("inf"))
        for _ in range(options.rounds):
            for name, step in steps.items():
                begun = time.perf_counter()
                for _ in range(options.steps):
                    step()
                best[name] = min(best[name], (time.perf_counter() - begun) / options.steps)
        for name, seconds in best.items():
            print(
                f"{kind:9} {name:18} {1000 * seconds:8.1f} ms   Veil takes"
                f" {best[OURS] / seconds:.2f} x"
            )


if __name__ == "__main__":
    main()
