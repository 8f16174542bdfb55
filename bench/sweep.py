"""Compare a sweep of eight noise multipliers trained together with eight runs of Opacus.

    python -m bench.sweep [--epochs 15] [--measured 2]

The network is the CNN of report 3 (Boulif and Durand 2021), on 12,000 real digits as in
bench.dp_step, batch size 256. `--measured` epochs are timed and scaled to `--epochs`, because all
epochs take the same time. Opacus runs once with one training at a time and all threads, which is
how its example is run, and once with two at a time and one thread each, which is its fastest way.
If there is a GPU, everything runs on it, and a single training is compared, too. On a GPU, Veil
replays the recorded step of engine/learning/stacked_steps.py; every contender trains one epoch
before timing, because kernels are loaded at their first call, and Veil records its step then.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader

from bench.dp_step import (
    BATCH,
    CLIP,
    MEAN,
    NOISE,
    RATE,
    SPREAD,
    STEPS,
    PilDigits,
    digits,
    opacus_tensors,
    ours,
    tutorial_cnn,
)
from engine.datasets import registry
from engine.learning.networks import report_cnn
from engine.learning.stacked_steps import Stacked
from engine.learning.trainer import Training
from engine.privacy.noise import GaussianNoise
from engine.studies.dp_training.dp_training import DPTraining

MEMBERS = 8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Trainings do not share a GPU well.
WITHOUT_GPU = {
    "Veil, two at a time",
    "Veil, one after the other",
    "Opacus on tensors, two at a time",
}


def opacus_example(network: nn.Module, data, mode: str):
    """Opacus's examples/mnist.py with one of its ways to compute per-example gradients.

    Returns a function that trains one epoch.
    """
    network, optimizer, *rest = PrivacyEngine().make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=RATE),
        noise_multiplier=NOISE,
        data_loader=DataLoader(data, batch_size=BATCH),
        max_grad_norm=CLIP,
        grad_sample_mode=mode,
        **({"criterion": nn.CrossEntropyLoss()} if mode == "ghost" else {}),
    )
    criterion, loader = (rest[0], rest[1]) if mode == "ghost" else (nn.CrossEntropyLoss(), rest[0])

    def epoch():
        for images, labels in loader:
            optimizer.zero_grad()
            criterion(network(images.to(DEVICE)), labels.to(DEVICE)).backward()
            optimizer.step()

    return epoch


def in_one_step(count: int, pixels, labels):
    """`count` members of a sweep in one step; returns a function that trains one epoch of each."""
    studies = [
        DPTraining.preset(
            "report",
            dataset="mnist-5k",
            noise_multiplier=NOISE + i / 10,
            max_grad_norm=CLIP,
            learning_rate=RATE,
            batch_size=BATCH,
            seed=i,
        )
        for i in range(count)
    ]
    images = replace(registry.load("mnist-5k"), train_images=pixels[..., None], train_labels=labels)
    made = []

    def epoch():
        if not made:
            made.append(
                Stacked([Training(study.plan(len(labels)), images, DEVICE) for study in studies])
            )
        for _ in range(STEPS):
            made[0].step()

    return epoch


def seconds(epochs: list, at_once: int, threads: int, measured: int) -> float:
    """Seconds for `measured` epochs of each, `at_once` at a time, with `threads` threads each."""
    torch.set_num_threads(threads)
    for train in epochs if on_gpu() else ():
        train()  # kernels are compiled and loaded at their first call
    _finish()
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        for done in [
            pool.submit(lambda train=train: [train() for _ in range(measured)]) for train in epochs
        ]:
            done.result()
    _finish()
    return time.perf_counter() - begun


def _finish() -> None:
    if on_gpu():
        torch.cuda.synchronize()


def contenders(images, labels) -> tuple[dict, dict]:
    """The ways to train a sweep, and the ways to train one network, Veil's first.

    Name → (trainings at a time, threads of each, a function that builds them, each as a function
    that trains one epoch).
    """
    x = ((torch.from_numpy(images).float() / 255 - MEAN) / SPREAD).unsqueeze(1).to(DEVICE)
    y = torch.from_numpy(labels).to(DEVICE)
    pil = PilDigits(images, labels)

    def veil():
        return ours(report_cnn(1, 28, 10, seed=0).to(DEVICE), x, y, GaussianNoise(0))

    def on_tensors():
        return opacus_tensors(tutorial_cnn().to(DEVICE), x, y)

    def example(mode):
        return opacus_example(tutorial_cnn().to(DEVICE), pil, mode)

    def together(count):
        return in_one_step(count, images, labels)

    return _sweeps(veil, on_tensors, example, together), _singles(veil, example, together)


def _sweeps(veil, on_tensors, example, together) -> dict:
    """The ways to train a sweep. Each argument builds one training, `together` several."""
    threads = all_threads()

    def each(build):
        return lambda: [build() for _ in range(MEMBERS)]

    ways = {
        "Veil, two at a time": (threads, 1, each(veil)),
        "Veil, one after the other": (1, threads, each(veil)),
        "Veil, eight in one step": (1, threads, lambda: [together(MEMBERS)]),
        **{
            f"Opacus' example ({mode})": (1, threads, each(lambda mode=mode: example(mode)))
            for mode in ("hooks", "functorch", "ew", "ghost")
        },
        "Opacus on tensors (hooks)": (1, threads, each(on_tensors)),
        "Opacus on tensors, two at a time": (threads, 1, each(on_tensors)),
    }
    return {name: way for name, way in ways.items() if not (on_gpu() and name in WITHOUT_GPU)}


def _singles(veil, example, together) -> dict:
    """The ways to train one network."""
    threads = all_threads()
    return {
        "Veil, one alone": (1, threads, lambda: [together(1) if on_gpu() else veil()]),
        "Opacus' example (hooks), one alone": (1, threads, lambda: [example("hooks")]),
    }


def on_gpu() -> bool:
    """Whether everything runs on a GPU."""
    return DEVICE.type == "cuda"


def all_threads() -> int:
    """How many threads one training may use, or how many trainings run at a time."""
    return 1 if on_gpu() else os.cpu_count() or 1


def race(ways: dict, epochs: int, measured: int) -> None:
    """Time each way, scaled to `epochs`, and print it beside the first one that works."""
    first = None
    for name, (at_once, threads, build) in ways.items():
        try:
            found = seconds(build(), at_once, threads, measured) * epochs / measured
        except (NotImplementedError, ValueError, RuntimeError) as error:
            print(f"{name:36} cannot: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
            continue
        first = first or found
        print(f"{name:36} {found:8.1f} s   {found / first:5.2f} x Veil's time", flush=True)
    print()


def main() -> None:
    """Time the sweep, then a single training, in every way and print the seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--measured", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    where = torch.cuda.get_device_name() if on_gpu() else f"{all_threads()} cores"
    print(
        f"{MEMBERS} trainings x {options.epochs} epochs of 12,000 digits, batch {BATCH};"
        f" {options.measured} epochs measured; {where}, torch {torch.__version__}\n"
    )
    for ways in contenders(*digits()):
        race(ways, options.epochs, options.measured)


if __name__ == "__main__":
    main()
