"""One step of DP-SGD without the optimizer: clipped, summed, noised per-example gradients.

Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", Algorithm 1.

    private = PrivateGradient(network, expected_batch=256, max_grad_norm=1.0, noise_multiplier=1.1,
                              noise=GaussianNoise(seed))
    for _ in range(steps):
        batch = poisson_batch(len(images), 256 / len(images), sampling)
        private(images[batch], labels[batch])  # sets p.grad of every parameter
        optimizer.step()  # any optimizer: what it does with a private gradient is post-processing

A step takes one forward pass and one backward pass that stops at the layers' outputs. A layer's
input and its output gradient together determine each example's contribution to the layer's
parameters. First only the norms of the contributions are computed; once the norms over all layers
and thus the clip factors are known, the contributions are summed with these weights. To support a
new kind of layer, write a rule and add it to RULES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.linalg import vector_norm

from engine.privacy.noise import BernoulliSampler, GaussianNoise

# Norms are computed in float32 and may come out slightly too small. Each is enlarged by this
# relative amount, which keeps rounding from letting an example contribute more than max_grad_norm.
ROUNDING = 2e-6


def poisson_batch(n: int, sample_rate: float, coins: BernoulliSampler) -> Tensor:
    """Draw the rows of one Poisson batch: each of n rows joins independently at sample_rate.

    Returns ascending rows of shape (size,), int64, on the coins' device. The size is Binomial(n,
    sample_rate) and may be 0. Raises ValueError if sample_rate is not a probability.
    """
    return coins.joins(sample_rate, n).nonzero().flatten()


# --- the mechanism --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Exact figures about one batch, for plots only.

    They carry no noise and are covered by no ε. They stay tensors to avoid waiting for the device.
    """

    losses: Tensor  # (batch,)
    norms: Tensor  # (batch,), norm of each example's gradient before clipping, over all parameters
    max_grad_norm: float

    @property
    def loss(self) -> float:
        """Mean loss over the drawn batch; NaN if the batch is empty."""
        return self.losses.mean().item()

    @property
    def clipped(self) -> float:
        """Fraction in [0, 1] of examples clipped or dropped; NaN if the batch is empty."""
        return (~(self.norms <= self.max_grad_norm)).float().mean().item()


class PrivateGradient:
    """Sets p.grad of a network's parameters to the clipped, summed, noised gradient of a batch.

    gradient = (Σ_i min(1, C/‖g_i‖) g_i + N(0, σ²C²)) / expected_batch, with C = max_grad_norm, σ =
    noise_multiplier and ‖g_i‖ taken over all trainable parameters jointly. An example whose
    gradient holds NaN or Inf contributes nothing, because no factor could bound it. The sum is
    divided by the expected batch size, because the drawn size is itself private. An empty batch is
    noised like any other.

    `loss(outputs, targets)` returns one value per example, (batch,). `noise` must be on the
    network's device. copies: each example appears this many times in a row, transformed, and g_i is
    the mean over its copies, which improves learning at the same sensitivity ("augmentation
    multiplicity", De et al. 2022). Raises NotImplementedError for layers without a rule and for
    layers that mix examples.
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
        """Set every trainable p.grad from one batch, (batch·copies, ...), replacing old values."""
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
        """Add noise to the clipped sum (all parameters,) and store its mean in p.grad.

        The same amount of noise is drawn at every step, in float64 by engine.privacy.noise; the
        result is rounded once.
        """
        noised = self.noise.added_to(total, self.noise_multiplier * self.max_grad_norm)
        mean = noised.div_(self.expected_batch).to(total.dtype)
        parameters = [p for layer in self.layers for p in layer.parameters(recurse=False)]
        for p, part in zip(parameters, mean.split([p.numel() for p in parameters])):
            p.grad = part.view_as(p)


def clip_factors(norms: Tensor, max_grad_norm: float) -> Tensor:
    """min(1, C/norm), and 0 where the norm is NaN or infinite; (batch,) → (batch,)."""
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
    """Compute the losses (batch,) and each example's contribution to each layer.

    The network and its .grad are left unchanged. With copies, inputs are (batch·copies, ...), and
    an example's loss is the mean over its copies.
    """
    calls: dict[nn.Module, _Call] = {}
    hooks = [layer.register_forward_hook(lambda *call: _record(calls, *call)) for layer in layers]
    try:
        # With detached parameters the backward pass stops at the layers' outputs and computes no
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
    """A layer's input and output, and the in-place version of each when the layer was called."""

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
    """Raise for anything that would silently make the contributions wrong."""
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
    """Lay out images and kernels with channels last in memory.

    Pooling and extracting patches are several times faster in this layout.
    """
    # Not .contiguous: it leaves the strides of a single channel unchanged, and convolutions choose
    # their layout by the strides.
    return x.to(memory_format=torch.channels_last) if x.dim() == 4 else x


def trainable_layers(network: nn.Module) -> list[nn.Module]:
    """The layers that hold trainable parameters.

    Raises NotImplementedError if the gradient of one of them could not be clipped.
    """
    layers: list[nn.Module] = []
    owned: list[int] = []  # ids of their parameters
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
    """The per-example gradients of one layer's parameters, in whatever form is cheapest."""

    def squared_norms(self) -> Tensor:
        """Squared norms over all of the layer's parameters, (batch,)."""

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """Σ_i weights_i · gradient_i for each parameter, in the parameter's shape.

        A weight of 0 removes an example even if its gradient holds NaN or Inf.

        weights: (batch,); or (members, batch of each) if the examples of several networks lie one
        after the other, which gives one sum per member, (members, *shape).
        """


@dataclass(frozen=True)
class Explicit:
    """Every per-example gradient in full: one tensor (batch, *shape) per parameter."""

    gradients: list[Tensor]

    def squared_norms(self) -> Tensor:
        """Squared norms of the gradients over all parameters, (batch,)."""
        # In two stages, first over all but the parameter's leading dimension: this keeps float32
        # sums short and thus accurate.
        rows = [vector_norm(g.flatten(2), dim=2) if g.dim() > 2 else g for g in self.gradients]
        return vector_norm(torch.cat(rows, 1), dim=1).square()

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """Weighted sums of the explicit gradients; see Contributions for the shapes."""
        rows = [
            _silenced(g, weights).flatten(1).unflatten(0, weights.shape) for g in self.gradients
        ]
        return [
            (weights.unsqueeze(-2) @ g).view(*weights.shape[:-1], *one.shape[1:])
            for g, one in zip(rows, self.gradients)
        ]


@dataclass(frozen=True)
class Product:
    """The gradients of y = W a + b at T positions, kept as the products Σ_t g_t a_tᵀ and Σ_t g_t.

    ‖Σ_t g_t a_tᵀ‖² = Σ_st (g_s·g_t)(a_s·a_t); a bias is one more input that is always 1. Source:
    Goodfellow 2015 for T = 1; Bu, Mao, Xu 2022, "Scalable and Efficient Training of Large
    Convolutional Neural Networks with DP", section 3.
    """

    inputs: Tensor  # (batch, T, fan_in)
    grads: Tensor  # (batch, T, fan_out)
    bias: bool

    def squared_norms(self) -> Tensor:
        """Squared norms by the identity above, (batch,), with a margin for rounding errors."""
        # (batch, T, T)
        terms = (self.inputs @ self.inputs.mT + float(self.bias)) * (self.grads @ self.grads.mT)
        # Where positions cancel, the rounding error scales with the terms, not with their sum.
        lost = ROUNDING / 16 * terms.diagonal(dim1=1, dim2=2).sqrt().sum(1).square()
        # abs: an overflow to -Inf must not pass for a small norm
        return terms.sum((1, 2)).abs() + lost

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """Weighted sums as one matrix product over all examples and positions."""
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
    """The contributions to a convolution's kernels and bias.

    The kernels come in parts with their pixels in (height, width, channel) order.
    """

    parts: Contributions
    shape: torch.Size  # of the weight: (fan_out, channels, height, width)
    bias: bool

    def squared_norms(self) -> Tensor:
        """Squared norms of the kernels' and the bias's gradients together, (batch,)."""
        return self.parts.squared_norms()

    def weighted_sum(self, weights: Tensor) -> list[Tensor]:
        """Weighted sums with the kernels joined and in PyTorch's order of dimensions."""
        sums = self.parts.weighted_sum(weights)
        count, (fan_out, channels, height, width) = len(sums) - self.bias, self.shape
        weight = torch.cat(sums[:count], -1).reshape(
            *weights.shape[:-1], fan_out, height, width, channels
        )
        return [weight.movedim(-1, -3), *sums[count:]]


def affine(inputs: list[Tensor], grads: Tensor, bias: bool, copies: int) -> Contributions:
    """The contributions to y = W a + b at T positions, in whichever form is cheaper.

    inputs: (batch·copies, T, fan_in), in parts; grads: (batch·copies, T, fan_out). The
    contributions of an example's copies are summed, as if they were additional positions.
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
    # Compare the multiplications that the product form adds with the memory traffic that it saves,
    # weighted as measured.
    if positions**2 * (fan_in + fan_out) < 16 * fan_in * fan_out:
        return Product(torch.cat(inputs, 2), grads, bias)
    weights = [grads.mT @ part for part in inputs]  # (batch, fan_out, part of fan_in) each
    return Explicit([*weights, grads.sum(1)] if bias else weights)


def _silenced(x: Tensor, weights: Tensor) -> Tensor:
    """Zero the examples of weight 0 in x (batch, ...), since 0 · Inf is not 0."""
    # On a CPU the check is cheap and saves a pass over x. On a GPU the pass is cheap, whereas the
    # check would wait for the device; the batches of several networks are padded with zero weights
    # anyway.
    if x.device.type == "cpu" and weights.dim() == 1 and weights.all():
        return x
    return x.masked_fill((weights == 0).view(-1, *[1] * (x.dim() - 1)), 0)


# --- rules: (layer, input, gradient of the loss by the output, copies per example) → Contributions


def linear(layer: nn.Linear, x: Tensor, grad: Tensor, copies: int = 1) -> Contributions:
    """Rule for nn.Linear: x (batch, ..., in), grad (batch, ..., out).

    The dimensions in between are positions.
    """
    return affine([_rows(x)], _rows(grad), layer.bias is not None, copies)


def _rows(x: Tensor) -> Tensor:
    """Reshape (batch, ..., features) to (batch, positions, features)."""
    return x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2)


def conv2d(layer: nn.Conv2d, x: Tensor, grad: Tensor, copies: int = 1) -> Contributions:
    """Rule for nn.Conv2d, as a linear layer over the h · w patches of x.

    x (batch, channels, H, W), grad (batch, out, h, w). Raises NotImplementedError unless groups,
    dilation and padding are plain.
    """
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    if not plain or isinstance(layer.padding, str):
        raise NotImplementedError(
            f"no per-example gradients for {layer}: groups, dilation and padding must be plain"
        )
    if any(layer.padding):  # without padding, F.pad would only make a copy
        x = F.pad(x, (layer.padding[1], layer.padding[1], layer.padding[0], layer.padding[0]))
    bias = layer.bias is not None
    parts = patches(x, layer.kernel_size, layer.stride, rows=grad.shape[2])
    return Kernels(affine(parts, grad.flatten(2).mT, bias, copies), layer.weight.shape, bias)


def patches(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], rows: int) -> list[Tensor]:
    """The patches that a kernel sees on x (batch, channels, H, W), in parts from top to bottom.

    kernel and stride: (height, width) each. A kernel of height q · s that moves by s equals q
    kernels of height s over the same strips of the image, each one strip lower than the one before.
    Strips are therefore copied once, whereas whole patches would hold every pixel q times. Each
    part is (batch, rows · w, height · width · channels).
    """
    height = stride[0] if kernel[0] % stride[0] == 0 else kernel[0]
    windows = x.permute(0, 2, 3, 1).unfold(1, height, stride[0]).unfold(2, kernel[1], stride[1])
    batch, count, width, channels = windows.shape[:4]  # then (height, kernel width)
    strips = windows.permute(0, 1, 2, 4, 5, 3).reshape(
        batch, count * width, height * kernel[1] * channels
    )
    return [strips[:, top * width : (top + rows) * width] for top in range(kernel[0] // height)]


# Any: a rule takes layers of its key's kind
RULES: dict[type[nn.Module], Callable[[Any, Tensor, Tensor, int], Contributions]] = {
    nn.Linear: linear,
    nn.Conv2d: conv2d,
}
