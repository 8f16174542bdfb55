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
from engine.studies.dp_training.dp_training import DPTraining

MEMBERS = 8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
        for pictures, labels in loader:
            optimizer.zero_grad()
            criterion(network(pictures.to(DEVICE)), labels.to(DEVICE)).backward()
            optimizer.step()

    return epoch


def in_one_step(count: int, pictures, labels):
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
    images = replace(
        registry.load("mnist-5k"), train_images=pictures[..., None], train_labels=labels
    )
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
    for train in epochs if DEVICE.type == "cuda" else ():
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
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Time the sweep, then a single training, in every way and print the seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--measured", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    pictures, labels = digits()
    x, y = (
        ((torch.from_numpy(pictures).float() / 255 - MEAN) / SPREAD).unsqueeze(1).to(DEVICE),
        torch.from_numpy(labels).to(DEVICE),
    )
    pil, gpu = PilDigits(pictures, labels), DEVICE.type == "cuda"
    threads = 1 if gpu else os.cpu_count()  # trainings at a time: they do not share a GPU well
    ours_here, theirs = (
        lambda make=make: make().to(DEVICE)
        for make in (lambda: report_cnn(1, 28, 10, seed=0), tutorial_cnn)
    )

    def each(build):
        return [build() for _ in range(MEMBERS)]

    contenders = {
        "Veil, eight in one step": (1, threads, lambda: [in_one_step(MEMBERS, pictures, labels)])
    }
    if not gpu:
        contenders = {
            "Veil, two at a time": (threads, 1, lambda: each(lambda: ours(ours_here(), x, y))),
            "Veil, one after the other": (
                1,
                threads,
                lambda: each(lambda: ours(ours_here(), x, y)),
            ),
        } | contenders
    contenders |= {
        f"Opacus' example ({mode})": (
            1,
            threads,
            lambda mode=mode: each(lambda: opacus_example(theirs(), pil, mode)),
        )
        for mode in ("hooks", "functorch", "ew", "ghost")
    }
    contenders["Opacus on tensors (hooks)"] = (
        1,
        threads,
        lambda: each(lambda: opacus_tensors(theirs(), x, y)),
    )
    if not gpu:
        contenders["Opacus on tensors, two at a time"] = (
            threads,
            1,
            lambda: each(lambda: opacus_tensors(theirs(), x, y)),
        )
    alone = {
        "Veil, one alone": (
            1,
            threads,
            lambda: [in_one_step(1, pictures, labels)] if gpu else [ours(ours_here(), x, y)],
        ),
        "Opacus' example (hooks), one alone": (
            1,
            threads,
            lambda: [opacus_example(theirs(), pil, "hooks")],
        ),
    }
    where = torch.cuda.get_device_name() if gpu else f"{threads} cores"
    print(
        f"{MEMBERS} trainings x {options.epochs} epochs of 12,000 digits, batch {BATCH};"
        f" {options.measured} epochs measured; {where}, torch {torch.__version__}\n"
    )
    for race in (contenders, alone):
        first = None
        for name, (at_once, threads_each, build) in race.items():
            try:
                found = (
                    seconds(build(), at_once, threads_each, options.measured)
                    * options.epochs
                    / options.measured
                )
            except (NotImplementedError, ValueError, RuntimeError, TypeError) as error:
                print(
                    f"{name:36} cannot: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
                )
                continue
            first = first or found
            print(f"{name:36} {found:8.1f} s   {found / first:5.2f} x Veil's time", flush=True)
        print()


if __name__ == "__main__":
    main()
