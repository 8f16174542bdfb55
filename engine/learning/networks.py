"""The network architectures that studies train.

Each is an ordinary module, initialized from its own seed and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

N = TypeVar("N", bound=nn.Module)


def named(logits: torch.Tensor) -> torch.Tensor:
    """The predicted class, (..., classes) outputs → (...); -1, no class, if an output is NaN.

    argmax treats NaN as the largest value: a network that diverged would always predict the first
    class and be right as often as that class occurs.
    """
    return logits.argmax(-1).masked_fill(logits.isnan().any(-1), -1)


def report_cnn(
    channels: int, size: int, classes: int, seed: int, activation: str = "relu", norm: str = "none"
) -> nn.Sequential:
    """Small CNN of the DP-SGD tutorials: (batch, channels, size, size) → (batch, classes) logits.

    Source: TensorFlow Privacy's mnist_dpsgd_tutorial.py, the same in Opacus' examples/mnist.py;
    26,010 parameters at (1, 28, 10). The tutorials pool after the ReLU. The maximum commutes with
    an increasing function, so pooling first gives the same outputs and gradients and leaves fewer
    pixels for the ReLU. activation: "relu", or "tanh", whose shorter gradients lose less to
    clipping (Papernot et al. 2021). norm: "none", or "group", after each convolution, without
    learned weights. Raises ValueError if size < 28.
    """
    if size < 28:
        raise ValueError(f"report_cnn needs images of at least 28 x 28 pixels, not {size} x {size}")
    side = (size + 2 * 3 - 8) // 2 + 1 - 1  # after the first convolution and its pooling
    side = (side - 4) // 2 + 1 - 1  # after the second
    bend = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    # The meta device gives shapes only: the layers' own initialization would draw from the global
    # generator.
    with torch.device("meta"):
        level = {"none": lambda _: [], "group": lambda c: [nn.GroupNorm(GROUPS, c, affine=False)]}[
            norm
        ]
        network = nn.Sequential(
            nn.Conv2d(channels, 16, 8, stride=2, padding=3),
            *level(16),
            nn.MaxPool2d(2, stride=1),
            bend(),
            nn.Conv2d(16, 32, 4, stride=2),
            *level(32),
            nn.MaxPool2d(2, stride=1),
            bend(),
            nn.Flatten(),
            nn.Linear(32 * side * side, 32),
            bend(),
            nn.Linear(32, classes),
        )
    return initialised(network.to_empty(device="cpu"), seed)


def keras_cnn(
    kind: str, width: float, channels: int, size: int, classes: int, seed: int
) -> nn.Sequential:
    """Networks of report 1: (batch, channels, size, size) → (batch, classes) logits.

    Report 1 is Green, Hodson, Hanoian 2020, "Noised MNIST". kind: "shallow" (its Table 1), "deep"
    (its Table 2), or "deeper" (ours: Table 2 with two more convolutions of 64 before its batch
    norm). width: factor on the numbers of filters and dense units. 3 × 3 kernels, no padding, ReLU.
    Dropout also draws from `seed`. Raises ValueError if size < 16.
    """
    if size < 16:
        raise ValueError(f"keras_cnn needs images of at least 16 x 16 pixels, not {size} x {size}")
    drop = torch.Generator().manual_seed(seed ^ 0x5EED)
    few, many, units = (
        max(1, round(count * width)) for count in (32, 64, 128 if kind == "shallow" else 1024)
    )
    with torch.device("meta"):
        if kind == "shallow":
            filters = [*_convolutions(channels, few, many), nn.MaxPool2d(2)]
            side, dropout = (size - 4) // 2, (0.25, 0.5)
        else:
            filters = _deep_filters(kind, channels, few, many, drop)
            side, dropout = (size - 4) // 2 - 4, (0.5, 0.25)
        network = nn.Sequential(
            *filters,
            Dropout(dropout[0], drop),
            nn.Flatten(),
            nn.Linear(many * side * side, units),
            nn.ReLU(),
            Dropout(dropout[1], drop),
            nn.Linear(units, classes),
        )
    return initialised(network.to_empty(device="cpu"), seed)


def _deep_filters(
    kind: str, channels: int, few: int, many: int, drop: torch.Generator
) -> list[nn.Module]:
    """The layers of "deep" and "deeper" before the last dropout of their convolutions."""
    more = {"deep": [], "deeper": _convolutions(many, many, many, padding=1)}[kind]
    return [
        *_convolutions(channels, few, few),
        nn.MaxPool2d(2),
        Dropout(0.25, drop),
        *_convolutions(few, many, many),
        *more,
        nn.BatchNorm2d(many),
    ]


def _convolutions(*channels: int, padding: int = 0) -> list[nn.Module]:
    """3 × 3 convolutions from each number of channels to the next, each with its ReLU."""
    return [
        layer
        for a, b in zip(channels, channels[1:])
        for layer in (nn.Conv2d(a, b, 3, padding=padding), nn.ReLU())
    ]


RESNETS = {"narrow": (1, 2), "resnet20": (3, 1)}  # blocks per stage, stride of first convolution
GROUPS = 4  # of GroupNorm


def resnet(kind: str, norm: str, channels: int, size: int, classes: int, seed: int) -> ResNet:
    """A residual network for small images: (batch, channels, size, size) → (batch, classes) logits.

    kind: "resnet20" (He et al. 2016, section 4.2: three stages of 16, 32, 64 channels, shortcuts
    without weights), or "narrow" (ours, for CPUs: one block per stage, and the first convolution
    halves the image). norm: "batch", "group", or "plain group", which has no learned weights and
    thus needs no DP-SGD rule. Raises ValueError if size < 16.
    """
    if size < 16:
        raise ValueError(f"resnet needs images of at least 16 x 16 pixels, not {size} x {size}")
    norms: dict[str, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "group": lambda c: nn.GroupNorm(GROUPS, c),
        "plain group": lambda c: nn.GroupNorm(GROUPS, c, affine=False),
    }
    with torch.device("meta"):
        network = ResNet(*RESNETS[kind], norms[norm], channels, classes)
    return initialised(network.to_empty(device="cpu"), seed)


class ResNet(nn.Module):
    """The architecture of `resnet`, without initialization of its weights.

    `features` returns the input of its last layer, (batch, 64).
    """

    def __init__(
        self,
        blocks: int,
        stride: int,
        norm: Callable[[int], nn.Module],
        channels: int,
        classes: int,
    ):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, stride, 1, bias=False), norm(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, norm) for _ in range(blocks)])
        self.layer2 = nn.Sequential(
            Block(16, 32, norm), *[Block(32, 32, norm) for _ in range(blocks - 1)]
        )
        self.layer3 = nn.Sequential(
            Block(32, 64, norm), *[Block(64, 64, norm) for _ in range(blocks - 1)]
        )
        self.linear = nn.Linear(64, classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, size, size) → (batch, 64) features, averaged over positions."""
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, size, size) → (batch, classes) logits."""
        return self.linear(self.features(x))


class Block(nn.Module):
    """A residual block of two 3 × 3 convolutions.

    Where the channels double, the shortcut subsamples pixels and pads with zeros (option A).
    """

    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.more, self.stride = outputs - inputs, 1 if outputs == inputs else 2
        self.conv1, self.bn1 = (
            nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False),
            norm(outputs),
        )
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, inputs, h, w) → (batch, outputs, ⌈h/stride⌉, ⌈w/stride⌉)."""
        short = x[:, :, :: self.stride, :: self.stride]
        short = (
            F.pad(short, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
            if self.more
            else short
        )
        return F.relu(short + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def dcgan(
    width: int,
    discriminator_width: int,
    channels: int,
    size: int,
    latent: int,
    logits: int,
    seed: int,
) -> tuple[nn.Sequential, nn.Sequential]:
    """A DCGAN (Radford et al. 2016): its generator and its discriminator.

    Generator (batch, latent) → (batch, channels, size, size) in [−1, 1]; discriminator back to
    (batch, logits). size: 32 or 64. width and discriminator_width: the smallest number of channels
    of the generator and of the discriminator. Group norm replaces the paper's batch norm, which
    mixes the examples of a batch and so rules out privacy; the discriminator's has no learned
    weights and thus needs no DP-SGD rule. Weights are drawn from N(0, 0.02²), as in the paper.
    Raises ValueError for another size.
    """
    if size not in (32, 64):
        raise ValueError(f"dcgan makes images of 32 or 64 pixels, not {size}")
    # from the image inwards: three stages for size 32, four for 64
    stages, discriminator_stages = (
        [w * 2**i for i in range(size.bit_length() - 3)] for w in (width, discriminator_width)
    )
    with torch.device("meta"):
        pair = (
            _generator(latent, stages, channels),
            _discriminator(channels, discriminator_stages, logits),
        )
    draws = torch.Generator().manual_seed(seed)
    generator, discriminator = (network.to_empty(device="cpu") for network in pair)
    return _normal(generator, draws), _normal(discriminator, draws)


def _generator(latent: int, stages: list[int], channels: int) -> nn.Sequential:
    """The generator of `dcgan`. stages: numbers of channels, from the image inwards."""
    grow = [
        layer
        for a, b in zip(stages[:0:-1], stages[-2::-1])
        for layer in (
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),
            nn.GroupNorm(math.gcd(GROUPS, b), b),
            nn.ReLU(),
        )
    ]
    return nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, stages[-1], 4, bias=False),
        nn.GroupNorm(math.gcd(GROUPS, stages[-1]), stages[-1]),
        nn.ReLU(),
        *grow,
        nn.ConvTranspose2d(stages[0], channels, 4, 2, 1),
        nn.Tanh(),
    )


def _discriminator(channels: int, stages: list[int], logits: int) -> nn.Sequential:
    """The discriminator of `dcgan`. stages: numbers of channels, from the image inwards."""
    shrink = [
        layer
        for a, b in zip(stages, stages[1:])
        for layer in (
            nn.Conv2d(a, b, 4, 2, 1),
            nn.GroupNorm(math.gcd(GROUPS, b), b, affine=False),
            nn.LeakyReLU(0.2),
        )
    ]
    return nn.Sequential(
        nn.Conv2d(channels, stages[0], 4, 2, 1),
        nn.LeakyReLU(0.2),
        *shrink,
        nn.Flatten(),
        nn.Linear(16 * stages[-1], logits),
    )


def _normal(network: N, generator: torch.Generator) -> N:
    """Initialize weights from N(0, 0.02²), biases to 0, and norms to scale 1 and shift 0."""
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.reset_parameters()
            continue
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, 0.0, 0.02, generator=generator)
    return network


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) with its own generator.

    nn.Dropout draws from the global generator of the process.
    """

    def __init__(self, p: float, generator: torch.Generator):
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In training, set values to 0 with probability p and divide the others by 1 − p."""
        if not self.training:
            return x
        # Drawn on the CPU, in the order of the examples: the same network and seed drop the same
        # units on every device.
        kept = torch.rand(x.shape, generator=self.generator).ge_(self.p)
        return x * kept.to(x.device).div_(1 - self.p)


def initialised(network: N, seed: int) -> N:
    """Fill every parameter in place as PyTorch does by default.

    Convolutions and linear layers are uniform in ±1/√fan_in, norms have scale 1 and shift 0. The
    draws come from a separate CPU generator: a seed gives the same network on every device, in any
    order of calls. Raises TypeError for a layer of another kind, which would otherwise remain
    uninitialized memory.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            layer.reset_parameters()
            continue
        parameters = list(layer.parameters(recurse=False))
        if not parameters:
            continue
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise TypeError(f"no initialisation for {type(layer).__name__}")
        bound = 1 / math.sqrt(layer.weight[0].numel())  # fan-in: the inputs of one output
        for parameter in parameters:
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network


def channels_last(network: N) -> N:
    """Lay out a network's kernels with channels last in memory; returns the network."""
    # PyTorch's own types lack this form of `to`.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
