"""The networks that studies train. Each is an ordinary module, initialised by its own seed and nothing else."""

from __future__ import annotations

import math

import torch
from torch import nn


def report_cnn(channels: int, size: int, classes: int, seed: int, activation: str = "relu") -> nn.Sequential:
    """The small CNN of the DP-SGD tutorials: (batch, channels, size, size) → (batch, classes) logits.

    Source: TensorFlow Privacy's mnist_dpsgd_tutorial.py, the same in Opacus' examples/mnist.py; 26,010 parameters at
    (1, 28, 10). The tutorials pool after the ReLU. The maximum commutes with a rising function, so pooling first gives
    the same outputs and the same gradients, and leaves the ReLU fewer pixels. activation: "relu", or "tanh", whose short
    gradients lose less to clipping (Papernot et al. 2021). Raises ValueError where size < 28.
    """
    if size < 28:
        raise ValueError(f"report_cnn needs pictures of at least 28 x 28 pixels, not {size} x {size}")
    side = (size + 2 * 3 - 8) // 2 + 1 - 1  # after the first convolution and its pooling
    side = (side - 4) // 2 + 1 - 1  # after the second
    bend = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]
    with torch.device("meta"):  # shapes only: the layers' own initialisation would draw from the global generator
        network = nn.Sequential(
            nn.Conv2d(channels, 16, 8, stride=2, padding=3), nn.MaxPool2d(2, stride=1), bend(),
            nn.Conv2d(16, 32, 4, stride=2), nn.MaxPool2d(2, stride=1), bend(),
            nn.Flatten(), nn.Linear(32 * side * side, 32), bend(), nn.Linear(32, classes))
    return initialised(network.to_empty(device="cpu"), seed)


def initialised(network: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter in place with PyTorch's default for convolutions and linear layers, uniform in ±1/√fan_in.

    The draws come from a CPU generator of their own: a seed gives one network, on every device, in any order of calls.
    Raises TypeError for a layer of another kind, which would stay as it is in memory.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        parameters = list(layer.parameters(recurse=False))
        if parameters and not isinstance(layer, (nn.Conv2d, nn.Linear)):
            raise TypeError(f"no initialisation for {type(layer).__name__}")
        for parameter in parameters:
            bound = 1 / math.sqrt(layer.weight[0].numel())  # fan-in: the inputs of one output
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return network
