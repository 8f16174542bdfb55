"""Many networks in one pass: each is the network that it would be alone, forwards and backwards,
whatever kernels, strides and padding.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.learning import vmapped
from engine.learning.networks import report_cnn

NETWORKS = {
    "report_cnn": (lambda: report_cnn(3, 32, 10, 0, "tanh"), (32, 32, 3)),
    "side no multiple of the stride": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, 1, 0),
            nn.Flatten(),
            nn.Linear(45, 7),
        ),
        (10, 10, 2),
    ),
    "stride above what is left": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 5, 3, 1), nn.Tanh(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(16, 7)
        ),
        (10, 10, 2),
    ),
    "linear without bias": (
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 7)),
        (6,),
    ),
}


@pytest.fixture(params=NETWORKS, autouse=True)
def case(request):
    make, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    network = make().double()
    weights = [
        torch.randn(4, *p.shape, dtype=torch.float64).mul(0.3).requires_grad_()
        for p in network.parameters()
    ]
    return (
        network,
        weights,
        torch.randn(4, 6, *shape, dtype=torch.float64, requires_grad=True),
        torch.randint(0, 7, (4, 6)),
    )


def one_by_one(network, weights, x):
    """torch's own layers, a network after the other."""
    return torch.stack(
        [
            torch.func.functional_call(
                network,
                {n: w[i] for (n, _), w in zip(network.named_parameters(), weights)},
                (x[i].permute(0, 3, 1, 2) if x.dim() == 5 else x[i],),
            )
            for i in range(len(x))
        ]
    )


def test_each_is_the_network_that_it_would_be_alone(case):
    network, weights, x, y = case
    found, wanted = vmapped.forward(network, weights, x), one_by_one(network, weights, x)
    assert torch.allclose(found, wanted, atol=1e-12)
    grads = [
        torch.autograd.grad(F.cross_entropy(out.flatten(0, 1), y.flatten()), [*weights, x])
        for out in (found, wanted)
    ]
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(*grads))


def test_weights_of_another_participant_would_be_seen(case):
    network, weights, x, _ = case
    swapped = [w[[1, 0, 2, 3]] for w in weights]
    assert not torch.allclose(
        vmapped.forward(network, swapped, x), one_by_one(network, weights, x), atol=1e-3
    )


def test_a_single_one_goes_through_torchs_layers(case, monkeypatch):
    """No rule of our own is asked, and the numbers are torch's to float64's rounding."""
    network, weights, x, _ = case
    own = [w[:1] for w in weights]
    monkeypatch.setattr(vmapped, "RULES", {})
    assert torch.allclose(
        vmapped.forward(network, own, x[:1]), one_by_one(network, own, x[:1]), rtol=0, atol=1e-12
    )
    with pytest.raises(NotImplementedError):
        vmapped.forward(network, weights, x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Conv2d(2, 2, 3, bias=False),
    ],
)
def test_a_layer_without_a_rule_is_refused_not_guessed(layer):
    with pytest.raises(NotImplementedError):
        vmapped.forward(
            nn.Sequential(layer),
            [p.expand(2, *p.shape) for p in layer.parameters()],
            torch.zeros(2, 1, 8, 8, 2),
        )
