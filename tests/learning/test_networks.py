"""The report's CNN: its shape, its seed, and that pooling before the ReLU is the tutorial's
network.
"""

import subprocess
import sys

import pytest
import torch
from torch import nn

from engine.learning.networks import initialised, report_cnn


@pytest.mark.parametrize(
    "channels, size, classes", [(1, 28, 10), (3, 32, 10), (3, 33, 7), (1, 64, 2)]
)
def test_any_channels_size_and_classes(channels, size, classes):
    assert report_cnn(channels, size, classes, seed=0)(
        torch.zeros(5, channels, size, size)
    ).shape == (5, classes)


def test_it_has_the_tutorials_number_of_parameters():
    assert sum(p.numel() for p in report_cnn(1, 28, 10, seed=0).parameters()) == 26_010


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 28"):
        report_cnn(1, 27, 10, seed=0)


def test_a_seed_is_one_network_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = report_cnn(1, 28, 10, seed=7).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    two, other = (report_cnn(1, 28, 10, seed=s).state_dict() for s in (7, 8))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_parameters_are_uniform_within_one_by_the_root_of_the_fan_in():
    for layer in report_cnn(3, 32, 10, seed=0).modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_a_layer_that_would_stay_uninitialised_raises():
    with pytest.raises(TypeError, match="LayerNorm"):
        initialised(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), seed=0)


def test_pooling_first_is_exactly_the_tutorials_network():
    """Also where neighbouring pixels tie, which on a flat background they always do."""
    ours = report_cnn(1, 28, 10, seed=0)
    order = [0, 2, 1, 3, 5, 4, 6, 7, 8, 9]
    # the same layers, each ReLU before its pooling
    tutorial = nn.Sequential(*[ours[i] for i in order])
    images = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    images[:, :, :14] = 0.5
    outputs, gradients = [], []
    for network in (ours, tutorial):
        outputs.append(network(images))
        gradients.append(torch.autograd.grad(outputs[-1].square().sum(), list(ours.parameters())))
    # the larger of two numbers is one of them: no sum is taken in another order
    assert torch.equal(*outputs)
    assert all(
        torch.allclose(a, b, rtol=0, atol=1e-6 * float(b.abs().max())) for a, b in zip(*gradients)
    )


def test_torchvision_imports_whatever_torch_is_beside_it():
    code = (
        "from engine.datasets.vision import torchvision as t;"
        "t.datasets.MNIST, t.transforms.ToTensor,"
        " t.models.resnet18()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
