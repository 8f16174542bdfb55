"""One step of DP-SGD (Abadi et al. 2016, "Deep Learning with Differential Privacy", Algorithm 1),
without the optimizer.

    private = PrivateGradient(network, expected_batch=256, max_grad_norm=1.0, noise_multiplier=1.1,
    noise=GaussianNoise(seed))
    for _ in range(steps):
        batch = poisson_batch(len(pictures), 256 / len(pictures), sampling)
        private(pictures[batch], labels[batch])  # sets p.grad of every parameter
        optimizer.step()  # any optimizer: what it makes of a private gradient is post-processing

How a step is computed: one forward pass, and one backward pass that goes only to the layers'
outputs. A layer's input and output gradient together hold what every example contributes to the
layer's parameters: first only the lengths of the contributions are taken, and once all layers are
counted and the clip factors known, their weighted sum. For a new kind of layer, write a rule and
add it to RULES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.linalg import vector_norm

from engine.privacy.noise import Coins, GaussianNoise

# Norms are float32 and may come out a little short. Each is taken this much longer, relatively, so
# that no rounding lets an example pull harder than max_grad_norm.
ROUNDING = 2e-6


def poisson_batch(n: int, sample_rate: float, coins: Coins) -> Tensor:
    """The rows of one Poisson batch, ascending: each of n rows joins independently with probability
    sample_rate.

    The size is Binomial(n, sample_rate) and may be 0. Shape (size,), int64, on the coins' device.
    Raises ValueError where sample_rate is no probability.
    """
    return coins.joins(sample_rate, n).nonzero().flatten()


# --- the mechanism --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Exact figures about one batch, for drawing.

    They are not noised: no ε covers them. Tensors, so nothing waits.
    """

    losses: Tensor  # (batch,)
    norms: Tensor  # (batch,), of each example's gradient before clipping, all parameters together
    max_grad_norm: float

    @property
    def loss(self) -> float:
        """Mean loss over the drawn batch; NaN where it is empty."""
        return self.losses.mean().item()

    @property
    def clipped(self) -> float:
        """The fraction of examples that were shortened or silenced, in [0, 1]; NaN where the batch
        is empty.
        """
        return (~(self.norms <= self.max_grad_norm)).float().mean().item()


class PrivateGradient:
    """Sets p.grad of a network's parameters to the clipped, summed, noised gradient of a batch.

    gradient = (Σ_i min(1, C/‖g_i‖) g_i + N(0, σ²C²)) / expected_batch, with C = max_grad_norm, σ =
    noise_multiplier and ‖g_i‖ over all trainable parameters jointly. An example whose gradient
    holds NaN or Inf contributes nothing, for no factor could bound it. Divided by the expected
    batch size, for the drawn one is itself private. An empty batch is noised like any other.

    `loss(outputs, targets)` returns one value an example, (batch,). `noise` is of the network's
    device. copies: each example comes so many times in a row, transformed, and g_i is the mean over
    its copies: more to learn from at the same sensitivity (De et al. 2022, "augmentation
    multiplicity"). Raises NotImplementedError for layers without a rule, and for those in which
    examples meet.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        expected_batch: float,
        max_grad_norm: float,
        noise_multiplier: float,
        noise: GaussianNoise,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        copies: int = 1,
    ):
        if not (expected_batch > 0 and 0 < max_grad_norm < float("inf") and noise_multiplier >= 0):
            raise ValueError(
                "expected_batch and max_grad_norm must be positive, noise_multiplier not negative"
            )
        self.network, self.noise = network, noise
        self.expected_batch, self.max_grad_norm = expected_batch, max_grad_norm
        self.noise_multiplier = noise_multiplier
        self.loss, self.copies = loss or _cross_entropy, copies
        self.layers = trainable_layers(network)

    def __call__(self, inputs: Tensor, targets: Tensor) -> Summary:
        """One batch, (batch·copies, ...) each: sets every trainable p.grad, adding to nothing that
        was there.
        """
        losses, contributions = contributions_of(
            self.network, self.layers, self.loss, inputs, targets, self.copies
        )
        squares = [one.squared_norms() for one in contributions.values()]
        norms = torch.stack(squares).sum(0).sqrt() * (1 + ROUNDING)  # (batch,)
        factors = clip_factors(norms, self.max_grad_norm)
        sums = {layer: one.weighted_sum(factors) for layer, one in contributions.items()}
        self.release(torch.cat([total.flatten() for layer in self.layers for total in sums[layer]]))
        return Summary(losses, norms, self.max_grad_norm)

    def release(self, total: Tensor) -> None:
        """The clipped sum (all parameters,) → its noised mean in p.grad.

        As much noise is drawn at every step.

        Drawn and added in float64 by engine.privacy.noise, and rounded once.
        """
        noised = self.noise.added_to(total, self.noise_multiplier * self.max_grad_norm)
        mean = noised.div_(self.expected_batch).to(total.dtype)
        parameters = [p for layer in self.layers for p in layer.parameters(recurse=False)]
        for p, part in zip(parameters, mean.split([p.numel() for p in parameters])):
            p.grad = part.view_as(p)


def clip_factors(norms: Tensor, max_grad_norm: float) -> Tensor:
    """min(1, C/norm), and 0 for a norm that is NaN or infinite. (batch,) → (batch,)."""
    return (max_grad_norm / norms).clamp(max=1).nan_to_num(nan=0.0)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


# --- one forward and one backward pass ------------------------------------------------------------


def contributions_of(
    network: nn.Module,
    layers: list[nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    copies: int = 1,
) -> tuple[Tensor, dict[nn.Module, Contributions]]:
    """(losses (batch,), what each example contributes to each layer).

    The network and its .grad stay as they were.

    With copies, inputs are (batch·copies, ...), and an example's loss is the mean over its copies.
    """
    calls: dict[nn.Module, _Call] = {}
    hooks = [layer.register_forward_hook(lambda *seen: _record(calls, *seen)) for layer in layers]
    try:
        # Detached parameters: the backward pass then stops at the layers' outputs and computes no
        # summed gradients.
        detached = {name: _pixels_first(p.detach()) for name, p in network.named_parameters()}
        losses = loss(functional_call(network, detached, (_pixels_first(inputs),)), targets)
    finally:
        for hook in hooks:
            hook.remove()
    _check(calls, layers, losses, len(inputs))
    losses = losses.view(-1, copies).mean(1)
    grads = torch.autograd.grad(losses.sum(), [call.output for call in calls.values()])
    with torch.no_grad():
        return losses.detach(), {
            layer: RULES[type(layer)](layer, call.input.detach(), grad, copies)
            for (layer, call), grad in zip(calls.items(), grads)
        }


@dataclass(frozen=True)
class _Call:
    """A layer's input and output, and how often each had been changed in place by then."""

    input: Tensor
    output: Tensor
    versions: tuple[int, int]


def _record(
    calls: dict[nn.Module, _Call], layer: nn.Module, inputs: tuple[Tensor], output: Tensor
) -> None:
    if layer in calls:
        raise NotImplementedError(
            f"{layer} is used twice in one pass: its two gradients would be clipped apart"
        )
    calls[layer] = _Call(inputs[0], output.requires_grad_(), (inputs[0]._version, output._version))


def _check(
    calls: dict[nn.Module, _Call], layers: list[nn.Module], losses: Tensor, batch: int
) -> None:
    """All that would make the contributions wrong without an error of its own."""
    if losses.shape != (batch,):
        raise ValueError(
            f"loss must return one value an example, ({batch},), not {tuple(losses.shape)}"
        )
    for layer in layers:
        if layer not in calls:
            raise NotImplementedError(f"{layer} is trainable but was not called")
        call = calls[layer]
        if call.versions != (call.input._version, call.output._version):
            raise NotImplementedError(
                f"the input or output of {layer} is changed in place: use inplace=False"
            )


def _pixels_first(x: Tensor) -> Tensor:
    """Pictures and kernels with their channels last in memory: pooling and patches are several
    times faster so.
    """
    # .to, for .contiguous leaves the strides of a single channel as they are, and convolutions go
    # by the strides.
    return x.to(memory_format=torch.channels_last) if x.dim() == 4 else x


def trainable_layers(network: nn.Module) -> list[nn.Module]:
    """The layers that hold trainable parameters.

    Raises NotImplementedError where one could not be clipped.
    """
    layers, owned = [], []
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # with or without parameters
            raise NotImplementedError(f"{layer} mixes the examples of a batch: use GroupNorm")
        parameters = list(layer.parameters(recurse=False))
        if not any(p.requires_grad for p in parameters):
            continue
        if type(layer) not in RULES:  # not isinstance: a subclass may compute something else
            raise NotImplementedError(
                f"no per-example gradients for {type(layer).__name__}: add a rule to RULES"
            )
        if not all(p.requires_grad for p in parameters):
            raise NotImplementedError(f"{layer} is frozen in part: freeze all of it or nothing")
        layers.append(layer)
        owned += map(id, parameters)
    if len(owned) != len(set(owned)):
        raise NotImplementedError(
            "two layers share a parameter: their gradients would be clipped apart"
        )
    return layers


# --- what each example contributes to one layer ---------------------------------------------------


class Contributions(Protocol):
    """The gradients of one layer's parameters, one for each example of a batch, in whatever form is
    cheapest.
    """

    def squared_norms(self) -> Tensor:
        """(batch,): over all of the layer's parameters."""

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """Σ_i weights_i · gradient_i for each parameter, in its shape.

        A weight of 0 silences even NaN and Inf.

        weights (batch,); or (members, batch of each), where the examples of several networks lie
        one after the other: then a sum for each, (members, *shape).
        """


@dataclass(frozen=True)
class Explicit:
    """Every example's gradient written out: one tensor (batch, *shape) for each parameter."""

    gradients: list[Tensor]

    def squared_norms(self) -> Tensor:
        # In two stages, so that no float32 sum grows long: first over all but the parameter's
        # leading dimension.
        rows = [vector_norm(g.flatten(2), dim=2) if g.dim() > 2 else g for g in self.gradients]
        return vector_norm(torch.cat(rows, 1), dim=1).square()

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        rows = [
            _silenced(g, weights).flatten(1).unflatten(0, weights.shape) for g in self.gradients
        ]
        return [
            (weights.unsqueeze(-2) @ g).view(*weights.shape[:-1], *one.shape[1:])
            for g, one in zip(rows, self.gradients)
        ]


@dataclass(frozen=True)
class Product:
    """The gradients of y = W a + b, applied at each of T positions, left as the products Σ_t g_t
    a_tᵀ and Σ_t g_t.

    ‖Σ_t g_t a_tᵀ‖² = Σ_st (g_s·g_t)(a_s·a_t), and a bias is one more input that is always 1.
    Source: Goodfellow 2015 for T = 1; Bu, Mao, Xu 2022, "Scalable and Efficient Training of Large
    Convolutional Neural Networks with DP", section 3.
    """

    inputs: Tensor  # (batch, T, fan_in)
    grads: Tensor  # (batch, T, fan_out)
    bias: bool

    def squared_norms(self) -> Tensor:
        # (batch, T, T)
        terms = (self.inputs @ self.inputs.mT + float(self.bias)) * (self.grads @ self.grads.mT)
        # Where positions cancel each other, the sum rounds in units of its terms, not of itself.
        lost = ROUNDING / 16 * terms.diagonal(dim1=1, dim2=2).sqrt().sum(1).square()
        # abs: what overflowed to -Inf must not pass for short
        return terms.sum((1, 2)).abs() + lost

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        grads = _silenced(self.grads, weights) * weights.flatten()[:, None, None]
        # (..., batch · T, features)
        grads, inputs = (
            x.unflatten(0, weights.shape).flatten(-3, -2)
            for x in (grads, _silenced(self.inputs, weights))
        )
        weight = grads.mT @ inputs  # (..., fan_out, fan_in)
        return [weight, grads.sum(-2)] if self.bias else [weight]


@dataclass(frozen=True)
class Kernels:
    """The contributions to a convolution, whose kernels come as parts with their pixels in (height,
    width, channel) order.
    """

    parts: Contributions
    shape: torch.Size  # of the weight: (fan_out, channels, height, width)
    bias: bool

    def squared_norms(self) -> Tensor:
        return self.parts.squared_norms()

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        sums = self.parts.weighted_sum(weights)
        count, (fan_out, channels, height, width) = len(sums) - self.bias, self.shape
        weight = torch.cat(sums[:count], -1).reshape(
            *weights.shape[:-1], fan_out, height, width, channels
        )
        return [weight.movedim(-1, -3), *sums[count:]]


def affine(inputs: list[Tensor], grads: Tensor, bias: bool, copies: int) -> Contributions:
    """The cheaper form for y = W a + b at T positions: inputs (batch·copies, T, fan_in), in parts;
    grads (batch·copies, T, fan_out).

    What an example's copies contribute is added up, as over so many more positions.
    """
    inputs, grads = (
        [part.reshape(-1, copies * part.shape[1], part.shape[2]) for part in inputs],
        grads.reshape(-1, copies * grads.shape[1], grads.shape[2]),
    )
    positions, fan_in, fan_out = (
        grads.shape[1],
        sum(part.shape[2] for part in inputs),
        grads.shape[2],
    )
    # Multiplications that the product form adds, against the memory traffic that it saves, weighed
    # as measured.
    if positions**2 * (fan_in + fan_out) < 16 * fan_in * fan_out:
        return Product(torch.cat(inputs, 2), grads, bias)
    weights = [grads.mT @ part for part in inputs]  # (batch, fan_out, part of fan_in) each
    return Explicit([*weights, grads.sum(1)] if bias else weights)


def _silenced(x: Tensor, weights: Tensor) -> Tensor:
    """x (batch, ...) with zeros for the examples of weight 0, since 0 · Inf is not 0."""
    # Looking is free on a CPU and saves a pass over x. On a GPU the pass is cheap and looking would
    # wait for the device; the batches of several networks are padded with weights of 0 anyway.
    if x.device.type == "cpu" and weights.dim() == 1 and weights.all():
        return x
    return x.masked_fill((weights == 0).view(-1, *[1] * (x.dim() - 1)), 0)


# --- the layers' rules: (layer, input, gradient of the loss by the output, copies of each example) → Contributions


def linear(layer: nn.Linear, x: Tensor, grad: Tensor, copies: int = 1) -> Contributions:
    """x (batch, ..., in), grad (batch, ..., out): the dimensions between are positions."""
    return affine([_rows(x)], _rows(grad), layer.bias is not None, copies)


def _rows(x: Tensor) -> Tensor:
    """(batch, ..., features) → (batch, positions, features)."""
    return x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2)


def conv2d(layer: nn.Conv2d, x: Tensor, grad: Tensor, copies: int = 1) -> Contributions:
    """x (batch, channels, H, W), grad (batch, out, h, w): a linear layer over the h · w patches of
    x.
    """
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    if not plain or isinstance(layer.padding, str):
        raise NotImplementedError(
            f"no per-example gradients for {layer}: groups, dilation and padding must be plain"
        )
    if any(layer.padding):  # padding by nothing would be one more copy
        x = F.pad(x, (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0]))
    bias = layer.bias is not None
    parts = patches(x, layer.kernel_size, layer.stride, rows=grad.shape[2])
    return Kernels(affine(parts, grad.flatten(2).mT, bias, copies), layer.weight.shape, bias)


def patches(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], rows: int) -> list[Tensor]:
    """What a kernel sees at each of its rows · w positions on x (batch, channels, H, W), in parts
    from top to bottom.

    A kernel of height q · s that moves by s is q kernels of height s, all over the same strips of
    the picture, each a strip lower than the one before. So strips are copied once, where whole
    patches would hold every pixel q times. Each part is (batch, rows · w, height · width ·
    channels).
    """
    height = stride[0] if kernel[0] % stride[0] == 0 else kernel[0]
    windows = x.permute(0, 2, 3, 1).unfold(1, height, stride[0]).unfold(2, kernel[1], stride[1])
    batch, count, width, channels = windows.shape[:4]  # then (height, kernel width)
    strips = windows.permute(0, 1, 2, 4, 5, 3).reshape(
        batch, count * width, height * kernel[1] * channels
    )
    return [strips[:, top * width : (top + rows) * width] for top in range(kernel[0] // height)]


RULES: dict[type[nn.Module], Callable[[nn.Module, Tensor, Tensor, int], Contributions]] = {
    nn.Linear: linear,
    nn.Conv2d: conv2d,
}
