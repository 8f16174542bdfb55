"""DP-SGD: equal to Opacus and to a loop over the examples, noised as claimed, bounded whatever the
example holds.

Every statistical check here is also run on a planted error, which it must reject.
"""

import math
from collections import OrderedDict

import opacus
import pytest
import torch
import torch.nn.functional as F
from opacus.optimizers import DPOptimizer
from scipy import stats
from torch import nn

from engine.learning import dp_sgd
from engine.learning.dp_sgd import PrivateGradient, poisson_batch
from engine.learning.networks import initialised, report_cnn
from engine.privacy.noise import BernoulliSampler, GaussianNoise

SHARP, WIDE = 0.5, 1e4  # a clip norm that shortens every example, and one that shortens none


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors: on a busy machine a second thread is only waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size, channels=1, classes=10, seed=0):
    """Random images with a flat upper half, where pooling meets ties, and labels."""
    images = torch.randn(size, channels, 28, 28, generator=generator(seed))
    images[:, :, :14] = 0.3
    return images, torch.randint(0, classes, (size,), generator=generator(seed + 1))


def gradient(network, x, y, *, clip=1.0, noise=0.0, expected=32, seed=0, loss=None):
    """All of a network's private gradient in one vector."""
    private = PrivateGradient(
        network,
        expected_batch=expected,
        max_grad_norm=clip,
        noise_multiplier=noise,
        noise=GaussianNoise(seed),
        loss=loss,
    )
    private(x, y)
    return flat(network)


def flat(network):
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def assert_close(ours, theirs, relative=1e-5):
    assert (ours - theirs).norm() <= relative * theirs.norm()


# --- against independent oracles ------------------------------------------------------------------


def opacus_gradient(network, x, y, clip, expected):
    wrapped = opacus.GradSampleModule(network)
    optimizer = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=expected,
    )
    F.cross_entropy(wrapped(x), y).backward()
    optimizer.pre_step()
    return flat(network)


@pytest.mark.filterwarnings("ignore:Full backward hook")  # Opacus' own
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("clip", [SHARP, WIDE])
def test_equals_opacus(channels, clip):
    """In float64.

    In float32 the last digit decides which of two nearly equal pixels a pooling passes on: as good,
    but not the same.
    """
    x, y = batch(40, channels)

    def of(network, dtype):
        return gradient(network.to(dtype), x.to(dtype), y, clip=clip)

    theirs = opacus_gradient(
        report_cnn(channels, 28, 10, seed=0).double(), x.double(), y, clip, expected=32
    )
    assert_close(
        of(report_cnn(channels, 28, 10, seed=0), torch.float64), theirs, 2 * dp_sgd.ROUNDING
    )
    assert_close(of(report_cnn(channels, 28, 10, seed=0), torch.float32).double(), theirs, 0.03)


def loop_gradient(network, x, y, clip, expected, loss):
    """One backward pass an example; norms and sums in float64."""
    parameters, total = [p for p in network.parameters() if p.requires_grad], 0
    for i in range(len(x)):
        grads = torch.autograd.grad(loss(network(x[i : i + 1]), y[i : i + 1]).sum(), parameters)
        one = torch.cat([g.flatten() for g in grads]).double()
        total = total + one * min(1.0, clip / one.norm().item())
    return (total / expected).to(x.dtype)


def crossed(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


NETWORKS = {
    "report": ((1, 28, 28), lambda: report_cnn(1, 28, 10, seed=0)),
    "linear only": ((1, 28, 28), lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))),
    # few positions and many channels: the products' form for convolutions; oblong kernels, strides
    # and padding
    "deep": (
        (3, 9, 8),
        lambda: nn.Sequential(
            nn.Conv2d(3, 24, (3, 4), stride=(2, 1), padding=(1, 2)),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(24, 48, (2, 3), bias=False),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.LazyLinear(10, bias=False),
        ),
    ),
    # kernels whose height the stride divides, with rows left over, and does not divide
    "strips": (
        (2, 17, 15),
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 4, stride=2, padding=(0, 1)),
            nn.Tanh(),
            nn.Conv2d(5, 6, 3),
            nn.Tanh(),
            nn.Conv2d(6, 4, (3, 2), stride=(2, 3)),
            nn.Flatten(),
            nn.LazyLinear(10),
        ),
    ),
    # linear layers over positions: few (products) and many (written out)
    "sequence": (
        (6, 40),
        lambda: nn.Sequential(nn.Linear(40, 64), nn.ELU(), nn.Flatten(), nn.Linear(384, 10)),
    ),
    "long sequence": (
        (90, 4),
        lambda: nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Flatten(), nn.Linear(270, 10)),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("clip", [SHARP, WIDE])
def test_equals_a_loop_over_the_examples(name, clip):
    shape, build = NETWORKS[name]
    network, x, y = build(), torch.randn(17, *shape, generator=generator(3)), batch(17)[1]
    network(x)  # gives the lazy layer its shape
    initialised(network, seed=5)
    # it pools the largest, and float32's last digit decides among nearly equal ones
    if name == "report":
        network, x = network.double(), x.double()
    assert_close(
        gradient(network, x, y, clip=clip), loop_gradient(network, x, y, clip, 32, crossed), 2e-5
    )


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("clip", [SHARP, WIDE])
def test_an_example_with_copies_is_clipped_once_by_its_mean_gradient(norm, clip):
    (x, y), copies = batch(30), 3
    x, ours, theirs = (
        x.double(),
        *(report_cnn(1, 28, 10, seed=0, activation="tanh", norm=norm).double() for _ in range(2)),
    )
    private = PrivateGradient(
        ours,
        expected_batch=32,
        max_grad_norm=clip,
        noise_multiplier=0.0,
        noise=GaussianNoise(0),
        copies=copies,
    )
    summary = private(x, y)
    assert summary.norms.shape == summary.losses.shape == (10,)
    groups = x.view(10, copies, 1, 28, 28), y.view(10, copies)

    def mean_loss(outputs, targets):
        return crossed(outputs, targets[0]).mean()

    assert_close(flat(ours), loop_gradient(_Flat(theirs), *groups, clip, 32, mean_loss))
    if clip == SHARP:  # clipping each copy by itself would be another gradient
        each = loop_gradient(theirs, x, y, clip, 32 * copies, crossed)
        assert (flat(ours) - each).norm() > 0.01 * each.norm()


class _Flat(nn.Module):
    """(1, copies, ...) → the outputs of all copies."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x[0])


def test_both_forms_of_a_layer_agree():
    inputs, grads = (torch.randn(9, 7, n, generator=generator(n)) for n in (30, 20))
    product = dp_sgd.Product(inputs, grads, bias=True)
    explicit = dp_sgd.Explicit([grads.mT @ inputs, grads.sum(1)])
    weights = torch.rand(9, generator=generator())
    assert torch.allclose(product.squared_norms(), explicit.squared_norms(), rtol=1e-5)
    for a, b in zip(product.weighted_sum(weights), explicit.weighted_sum(weights)):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_any_loss_per_example():
    network, x = report_cnn(1, 28, 1, seed=0).double(), batch(12)[0].double()
    y = torch.rand(12, 1, generator=generator(4)).double()

    def binary(outputs, targets):
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(1)

    assert_close(
        gradient(network, x, y, clip=SHARP, loss=binary),
        loop_gradient(network, x, y, SHARP, 32, binary),
        2e-5,
    )


def test_frozen_layers_take_no_part():
    network, x, y = report_cnn(1, 28, 10, seed=0).double(), batch(12)[0].double(), batch(12)[1]
    network[0].requires_grad_(False)
    assert_close(
        gradient(network, x, y, clip=SHARP), loop_gradient(network, x, y, SHARP, 32, crossed), 2e-5
    )
    assert network[0].weight.grad is None


# --- clipping -------------------------------------------------------------------------------------


def loud_batch():
    """Sixteen examples, one of which pulls thousands of times harder than the others."""
    x, y = batch(16)
    x[3] *= 1e4
    return x, y


def blanked_gradient(network, x, y, row, **kwargs):
    """`gradient` where one row's image is blank and asks for nothing.

    As many rows as before: of fewer, another kernel may compute the rest, and in float32 a pooling
    would then pass on the other of two nearly equal pixels.
    """
    there = torch.arange(len(x)) != row
    x = x.masked_fill(~there[:, None, None, None], 0)

    def loss(outputs, targets):
        return crossed(outputs, targets) * there

    return gradient(network, x, y, loss=loss, **kwargs)


def influence(clip_given, dtype=torch.float64):
    """The most that any single example of the loud batch moves the sum: how far it is from the sum
    with a blank in its place.
    """
    network, (x, y) = report_cnn(1, 28, 10, seed=0).to(dtype), loud_batch()
    x = x.to(dtype)
    full = gradient(network, x, y, clip=clip_given, expected=1).double()
    without = [
        blanked_gradient(network, x, y, row, clip=clip_given, expected=1).double()
        for row in range(len(x))
    ]
    return max((full - rest).norm().item() for rest in without)


# What the sums' own rounding may add. Every example is taken 2e-6 too long (dp_sgd.ROUNDING), so
# that float64 needs no room, and float32 as a rule comes out 2e-6 short.
ROOM = {torch.float64: 0.0, torch.float32: 1e-5}


def is_bounded(clip, clip_given=None, dtype=torch.float64):
    return influence(clip_given or clip, dtype) <= clip * (1 + ROOM[dtype])


@pytest.mark.parametrize("dtype", ROOM, ids=str)
def test_clipping_bounds_every_example(dtype):
    """In float32 too, in which every training computes."""
    assert is_bounded(1.0, dtype=dtype)
    assert influence(1.0, dtype) > 0.999  # and takes no more than it must


@pytest.mark.parametrize("dtype", ROOM, ids=str)
def test_the_check_rejects_a_clip_that_is_too_wide(dtype):
    assert not is_bounded(1.0, clip_given=1.01, dtype=dtype)


@pytest.mark.parametrize("dtype", ROOM, ids=str)
def test_the_check_rejects_factors_a_hundredth_too_large(dtype, monkeypatch):
    factors = dp_sgd.clip_factors
    monkeypatch.setattr(dp_sgd, "clip_factors", lambda norms, clip: 1.01 * factors(norms, clip))
    assert not is_bounded(1.0, dtype=dtype)


@pytest.mark.parametrize("dtype", ROOM, ids=str)
def test_the_check_rejects_a_missing_clip(dtype, monkeypatch):
    monkeypatch.setattr(dp_sgd, "clip_factors", lambda norms, clip: torch.ones_like(norms))
    assert not is_bounded(1.0, dtype=dtype)


def test_the_check_rejects_clipping_layer_by_layer(monkeypatch):
    """Two linear layers, each within C by itself, are up to √2 C together."""
    weighted_sum = dp_sgd.Product.weighted_sum

    def clipped_alone(layer, factors):
        return weighted_sum(layer, (1 / layer.squared_norms().sqrt()).clamp(max=1))

    monkeypatch.setattr(dp_sgd.Product, "weighted_sum", clipped_alone)
    assert not is_bounded(1.0)


def test_no_single_example_is_longer_than_the_clip_norm():
    """In float64, over a thousand examples and both forms of a layer: rounding never adds
    length.
    """
    x, y = batch(1000)
    network = report_cnn(1, 28, 10, seed=0)
    _, layers = dp_sgd.contributions_of(network, dp_sgd.trainable_layers(network), crossed, x, y)
    norms = sum(one.squared_norms() for one in layers.values()).sqrt() * (1 + dp_sgd.ROUNDING)
    factors = dp_sgd.clip_factors(norms, SHARP)
    lengths = [one_by_one(one).double().square().sum(1) for one in layers.values()]
    clipped = factors.double() * torch.stack(lengths).sum(0).sqrt()
    assert clipped.max() <= SHARP
    assert clipped.min() > SHARP * (1 - 1e-5)


def one_by_one(contributions):
    """(batch, parameters): written out in float64 from what the layer holds."""
    kept = getattr(contributions, "parts", contributions)
    if isinstance(kept, dp_sgd.Explicit):
        return torch.cat([g.flatten(1).double() for g in kept.gradients], 1)
    weight = kept.grads.double().mT @ kept.inputs.double()
    return torch.cat([weight.flatten(1), kept.grads.double().sum(1)], 1)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 3e38])
def test_an_example_that_is_not_finite_contributes_nothing(poison):
    x, y = batch(16)
    x[5, 0, 20, 20] = poison
    for network in (
        report_cnn(1, 28, 10, seed=0),
        initialised(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), 0),
    ):
        ours = gradient(network, x, y, clip=SHARP)
        assert ours.isfinite().all()
        others = blanked_gradient(network, x, y, 5, clip=SHARP)
        assert_close(ours, others) if not math.isfinite(poison) else None
        assert (ours - others).norm() * 32 <= SHARP * (1 + ROOM[torch.float32])


def test_a_zero_gradient_stays_zero():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(4)
    assert not gradient(network, x, y, loss=lambda outputs, _: outputs.sum(1) * 0).any()


# --- noise ----------------------------------------------------------------------------------------


def noise_p_value(noise_given, noise_claimed, clip=2.0, expected=64, steps=3):
    """Chi-square p-value (two-sided) of the noise that some steps add, if its σ were as claimed."""
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(8)
    quiet = gradient(network, x, y, clip=clip, expected=expected)
    private = PrivateGradient(
        network,
        expected_batch=expected,
        max_grad_norm=clip,
        noise_multiplier=noise_given,
        noise=GaussianNoise(11),
    )
    draws = []
    for _ in range(steps):
        private(x, y)
        draws.append((flat(network) - quiet).double() * expected / (noise_claimed * clip))
    z = torch.cat(draws)
    tail = stats.chi2.cdf(z.square().sum().item(), z.numel())
    mean = stats.norm.cdf(z.sum().item() / math.sqrt(z.numel()))
    return 2 * min(tail, 1 - tail, mean, 1 - mean)


def test_noise_has_the_claimed_scale():
    assert noise_p_value(1.1, 1.1) > 0.001


@pytest.mark.parametrize("given", [0.9 * 1.1, 1.02 * 1.1])
def test_the_check_rejects_another_scale(given):
    assert noise_p_value(given, 1.1) < 1e-6


def test_noise_is_normal_fresh_at_each_step_and_everywhere():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(0)
    private = PrivateGradient(
        network, expected_batch=1, max_grad_norm=1.0, noise_multiplier=1.0, noise=GaussianNoise(5)
    )
    private(x, y)
    first = flat(network)
    private(x, y)
    second = flat(network)
    assert stats.kstest(first.numpy(), "norm").pvalue > 0.001
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 4 / math.sqrt(first.numel())
    # float32: a few of many are equal by chance
    assert all(p.grad.unique().numel() > 0.99 * p.numel() for p in network.parameters())


def test_the_same_seed_is_the_same_result_and_the_global_generator_is_left_alone():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(8)
    before = torch.get_rng_state()
    one, two, other = (gradient(network, x, y, noise=1.0, seed=s) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


# --- batches --------------------------------------------------------------------------------------


def test_divides_by_the_expected_batch_size_never_by_the_drawn_one():
    network, x, y = report_cnn(1, 28, 10, seed=0).double(), batch(8)[0].double(), batch(8)[1]
    once = gradient(network, x, y, expected=32)
    assert_close(gradient(network, x, y, expected=16), 2 * once, 1e-6)
    assert_close(gradient(network, x.repeat(2, 1, 1, 1), y.repeat(2)), 2 * once, 1e-6)


def test_an_empty_batch_is_pure_noise():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(0)
    assert not gradient(network, x, y, noise=0.0).any()
    empty = gradient(network, x, y, noise=1.0, clip=2.0, expected=4)
    assert empty.std().item() == pytest.approx(0.5, rel=0.03)
    private = PrivateGradient(
        network, expected_batch=4, max_grad_norm=1.0, noise_multiplier=1.0, noise=GaussianNoise(0)
    )
    assert math.isnan(private(x, y).loss)


def sampling_p_values(draw, n, rate, rounds=3000):
    """p-values (two-sided) of each row's inclusions and of the batch size's variance, if rows
    joined independently.
    """
    batches = [draw() for _ in range(rounds)]
    counts = torch.bincount(torch.cat(batches), minlength=n).double()
    rows = (counts - rounds * rate).square().sum().item() / (rounds * rate * (1 - rate))
    sizes = torch.tensor([len(b) for b in batches], dtype=torch.float64)
    spread = (sizes - n * rate).square().sum().item() / (n * rate * (1 - rate))
    total = stats.norm.cdf(
        (sizes.sum().item() - rounds * n * rate) / math.sqrt(rounds * n * rate * (1 - rate))
    )
    tails = [stats.chi2.cdf(rows, n), stats.chi2.cdf(spread, rounds), total]
    return [2 * min(t, 1 - t) for t in tails]


def test_poisson_batches_draw_each_row_by_its_own_coin():
    coins = BernoulliSampler(3)
    assert min(sampling_p_values(lambda: poisson_batch(400, 0.05, coins), 400, 0.05)) > 0.001


def test_the_check_rejects_shuffled_batches_and_a_wrong_rate():
    coins = BernoulliSampler(3)
    assert (
        min(
            sampling_p_values(lambda: torch.from_numpy(coins.host.permutation(400)[:20]), 400, 0.05)
        )
        < 1e-6
    )
    assert min(sampling_p_values(lambda: poisson_batch(400, 0.052, coins), 400, 0.05)) < 1e-6


def test_poisson_rows_are_distinct_and_its_ends_are_all_and_nothing():
    assert poisson_batch(50, 1.0, BernoulliSampler(0)).tolist() == list(range(50))
    assert poisson_batch(50, 0.0, BernoulliSampler(0)).tolist() == []
    assert torch.equal(
        poisson_batch(50, 0.5, BernoulliSampler(1)), poisson_batch(50, 0.5, BernoulliSampler(1))
    )
    with pytest.raises(ValueError, match="probability"):
        poisson_batch(50, 1.5, BernoulliSampler(0))


# --- what is refused, and what stays as it was ----------------------------------------------------


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x))


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.scale


def tied():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


def half_frozen():
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].bias.requires_grad_(False)
    return network


def idle():
    network = nn.Sequential(nn.Linear(4, 4))
    network[0].extra = nn.Linear(4, 4)
    return network


REFUSED = {
    "no rule": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), "LayerNorm"),
    "bare parameter": (Bare, "Bare"),
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "mixes the examples"),
    "batch norm without parameters": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
        "mixes",
    ),
    "tied": (tied, "share a parameter"),
    "frozen in part": (half_frozen, "frozen in part"),
    "used twice": (Twice, "used twice"),
    "never used": (idle, "not called"),
    "in place": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4)),
        "in-place",
    ),
    "in place, last": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(inplace=True)),
        "inplace",
    ),
    "groups": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (4, 1, 1)), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten()
        ),
        "groups",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_clipped_raises(name):
    build, message = REFUSED[name]
    network = build()
    # NotImplementedError, or torch's own about the place
    with pytest.raises(RuntimeError, match=message):
        gradient(network, torch.randn(3, 4), torch.tensor([0, 1, 2]))
    assert all(p.grad is None for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_mean_loss_is_refused():
    with pytest.raises(ValueError, match="one value an example"):
        gradient(report_cnn(1, 28, 10, seed=0), *batch(4), loss=F.cross_entropy)


@pytest.mark.parametrize(
    "wrong", [{"clip": 0.0}, {"clip": math.inf}, {"noise": -1.0}, {"expected": 0}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        gradient(report_cnn(1, 28, 10, seed=0), *batch(4), **wrong)


def test_the_network_stays_an_ordinary_network():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(8)
    before, outputs = (
        OrderedDict((k, v.clone()) for k, v in network.state_dict().items()),
        network(x),
    )
    gradient(network, x, y, noise=1.0)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(network(x), outputs)
    assert all(p.requires_grad and p.is_leaf for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.Adagrad])
def test_any_optimizer_steps_and_learns(optimizer):
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(64)
    x += F.one_hot(y, 28)[:, None, :, None]  # one bright row, which tells the class
    private = PrivateGradient(
        network, expected_batch=64, max_grad_norm=1.0, noise_multiplier=0.1, noise=GaussianNoise(0)
    )
    steps = optimizer(
        network.parameters(), lr={"SGD": 1.0, "Adam": 0.003, "Adagrad": 0.01}[optimizer.__name__]
    )
    losses = []
    for _ in range(30):
        losses.append(private(x, y).loss)
        steps.step()
    assert losses[-1] < 0.8 * losses[0]


def test_the_summary_counts_what_was_clipped():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(8)
    x[0, 0, 0, 0] = math.nan
    private = PrivateGradient(
        network, expected_batch=8, max_grad_norm=WIDE, noise_multiplier=0.0, noise=GaussianNoise(0)
    )
    assert private(x, y).clipped == pytest.approx(1 / 8)
    assert private(x[1:], y[1:]).loss == pytest.approx(
        F.cross_entropy(network(x[1:]), y[1:]).item(), rel=1e-5
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu():
    network, (x, y) = report_cnn(1, 28, 10, seed=0), batch(40)
    ours = gradient(network, x, y, clip=SHARP)
    twin = report_cnn(1, 28, 10, seed=0).cuda()
    private = PrivateGradient(
        twin,
        expected_batch=32,
        max_grad_norm=SHARP,
        noise_multiplier=0.0,
        noise=GaussianNoise(0, "cuda"),
    )
    with torch.backends.cudnn.flags(allow_tf32=False):
        private(x.cuda(), y.cuda())
    assert_close(flat(twin).cpu(), ours)
