"""Eight noise multipliers of the report's CNN, trained together, against eight runs of Opacus: `python -m bench.sweep [--epochs 15] [--measured 2]`.

12,000 real digits as in bench.dp_step, batch 256. `--measured` epochs are timed and scaled to `--epochs`: an epoch takes as long as any other. Opacus runs
one after the other with all threads, which is how its example is run; and, as its strongest showing, two at a time with a thread each.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader

from bench.dp_step import BATCH, CLIP, NOISE, RATE, PilDigits, digits, opacus_tensors, ours, tutorial_cnn
from engine.networks import report_cnn

MEMBERS = 8


def opacus_example(network: nn.Module, data, mode: str):
    """Opacus' examples/mnist.py with one of its ways to per-example gradients; a function that trains one epoch."""
    network, optimizer, *rest = PrivacyEngine().make_private(
        module=network, optimizer=torch.optim.SGD(network.parameters(), lr=RATE), noise_multiplier=NOISE, data_loader=DataLoader(data, batch_size=BATCH), max_grad_norm=CLIP,
        grad_sample_mode=mode, **({"criterion": nn.CrossEntropyLoss()} if mode == "ghost" else {}))
    criterion, loader = (rest[0], rest[1]) if mode == "ghost" else (nn.CrossEntropyLoss(), rest[0])

    def epoch():
        for pictures, labels in loader:
            optimizer.zero_grad()
            criterion(network(pictures), labels).backward()
            optimizer.step()
    return epoch


def seconds(epochs: list, at_once: int, threads: int, measured: int) -> float:
    """Seconds for `measured` epochs of each, so many at once, with so many threads each."""
    torch.set_num_threads(threads)
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(lambda train=train: [train() for _ in range(measured)]) for train in epochs]:
            done.result()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--measured", type=int, default=2)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    pictures, labels = digits()
    y = torch.from_numpy(labels)
    x = ((torch.from_numpy(pictures).float() / 255 - 0.1307) / 0.3081).unsqueeze(1)
    data, cores = PilDigits(pictures, labels), os.cpu_count()
    each = lambda build: [build() for _ in range(MEMBERS)]
    contenders = {
        "Veil, two at a time": (each(lambda: ours(report_cnn(1, 28, 10, seed=0), x, y)), cores, 1),
        "Veil, one after the other": (each(lambda: ours(report_cnn(1, 28, 10, seed=0), x, y)), 1, cores),
        "Opacus' example (hooks)": (each(lambda: opacus_example(tutorial_cnn(), data, "hooks")), 1, cores),
        "Opacus' example (functorch)": (each(lambda: opacus_example(tutorial_cnn(), data, "functorch")), 1, cores),
        "Opacus' example (ew)": (each(lambda: opacus_example(tutorial_cnn(), data, "ew")), 1, cores),
        "Opacus' example (ghost)": (each(lambda: opacus_example(tutorial_cnn(), data, "ghost")), 1, cores),
        "Opacus on tensors (hooks)": (each(lambda: opacus_tensors(tutorial_cnn(), x, y)), 1, cores),
        "Opacus on tensors, two at a time": (each(lambda: opacus_tensors(tutorial_cnn(), x, y)), cores, 1),
    }
    print(f"{MEMBERS} trainings x {options.epochs} epochs of 12,000 digits, batch {BATCH}; {options.measured} epochs measured; {cores} cores, torch {torch.__version__}\n")
    found = {}
    for name, (epochs, at_once, threads) in contenders.items():
        try:
            found[name] = seconds(epochs, at_once, threads, options.measured) * options.epochs / options.measured
        except (NotImplementedError, ValueError, RuntimeError, TypeError) as error:
            print(f"{name:34} cannot: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
            continue
        print(f"{name:34} {found[name]:8.1f} s   {found[name] / found['Veil, two at a time']:5.2f} x Veil's time", flush=True)


if __name__ == "__main__":
    main()
