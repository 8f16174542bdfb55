"""Run many networks of one architecture, each with its own weights, in one pass. torch.

When a hundred clients train at once, a loop over them would spend its time in Python and on batches
of ten. Here every tensor has a leading client dimension, and each layer is one batched matrix
product over all clients; convolutions work on their patches (grouped convolutions and
torch.func.vmap reached half this speed when measured, docs/gradient_sharing.md). To support a new
kind of layer, write a rule and add it to RULES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Weights = list[Tensor]  # of each parameter in the network's order, (clients, *shape)


def forward(network: nn.Sequential, weights: Weights, x: Tensor) -> Tensor:
    """Forward pass of all clients.

    x (clients, batch, h, w, c) or (clients, batch, features) → logits (clients,
    batch, classes). A single client uses the network's own layers, as in ordinary training. Raises
    NotImplementedError for a layer without a rule.
    """
    if len(x) == 1:
        named = {
            name: weight[0]
            for (name, _), weight in zip(network.named_parameters(), weights, strict=True)
        }
        images = x[0].permute(0, 3, 1, 2) if x.dim() == 5 else x[0]
        return functional_call(network, named, (images,))[None]
    left = list(weights)
    for layer in network:
        if type(layer) not in RULES:
            raise NotImplementedError(
                f"{type(layer).__name__} has no rule for many clients: add one to RULES"
            )
        own, left = left[: len(list(layer.parameters()))], left[len(list(layer.parameters())) :]
        x = RULES[type(layer)](layer, own, x)
    return x


@dataclass(frozen=True)
class LayerCall:
    """Input and output of one layer with weights in one pass.

    Together with the output's gradient they determine the gradients of the layer's weights.
    """

    layer: nn.Module
    # (clients · batch, positions, fan_in), the patches in (height, width, channel) order
    inputs: Tensor
    output: Tensor  # (clients, batch, ..., fan_out), to take the gradient with respect to


def recorded(network: nn.Sequential, weights: Weights, x: Tensor) -> tuple[Tensor, list[LayerCall]]:
    """`forward` by the rules for any number of clients, recording what each layer saw.

    The backward pass goes only to the outputs.
    """
    left, calls = [weight.detach() for weight in weights], []
    for layer in network:
        own, left = left[: len(list(layer.parameters()))], left[len(list(layer.parameters())) :]
        if not own:
            x = RULES[type(layer)](layer, own, x)
            continue
        people, batch = x.shape[:2]
        if isinstance(layer, nn.Conv2d):
            x, inputs = _convolved(layer, own, x)
        else:
            inputs, x = x, RULES[type(layer)](layer, own, x)
        x.requires_grad_()
        calls.append(
            LayerCall(layer, inputs.detach().reshape(people * batch, -1, inputs.shape[-1]), x)
        )
    return x, calls


# --- the layers' rules: (layer, its weights, x) → x, images with their channels last --------------


def linear(layer: nn.Linear, own: Weights, x: Tensor) -> Tensor:
    """Rule for nn.Linear: x (clients, batch, in) → (clients, batch, out)."""
    return torch.baddbmm(own[1][:, None], x, own[0].mT) if layer.bias is not None else x @ own[0].mT


def convolution(layer: nn.Conv2d, own: Weights, x: Tensor) -> Tensor:
    """Rule for nn.Conv2d: (clients, batch, h, w, in) → (clients, batch, h', w', out)."""
    return _convolved(layer, own, x)[0]


def _convolved(layer: nn.Conv2d, own: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution's output and its patches (clients, batch · h' · w', kernel).

    Raises NotImplementedError unless groups, dilation and padding are plain and there is a bias.
    """
    plain = (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.bias is not None
    )
    if not plain or layer.stride[0] != layer.stride[1] or layer.padding[0] != layer.padding[1]:
        raise NotImplementedError(
            f"no rule for {layer}: groups, dilation and padding must be plain, and it needs a bias"
        )
    return Convolution.apply(x, own[0], own[1], layer.stride[0], layer.padding[0])


def images(layer: nn.Module, own: Weights, x: Tensor) -> Tensor:
    """Rule for layers without weights that process each image on its own."""
    if own:
        raise NotImplementedError(f"no rule for {layer}: it has weights of its own")
    return layer(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def pointwise(layer: nn.Module, _: Weights, x: Tensor) -> Tensor:
    """Rule for element-wise layers."""
    return layer(x)


def flatten(_: nn.Module, __: Weights, x: Tensor) -> Tensor:
    """(clients, batch, h, w, c) → (clients, batch, c·h·w), in nn.Flatten's order."""
    return x.permute(0, 1, 4, 2, 3).flatten(2)


# Any: a rule takes layers of its key's kind
RULES: dict[type[nn.Module], Callable[[Any, Weights, Tensor], Tensor]] = {
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.MaxPool2d: images,
    nn.GroupNorm: images,
    nn.Tanh: pointwise,
    nn.ReLU: pointwise,
    nn.Flatten: flatten,
}


class Convolution(torch.autograd.Function):
    """A convolution with different kernels for each client, as a matrix product over patches.

    Its gradients are two more matrix products. x (P, b, h, w, c), weight (P, out, c, k, l), bias
    (P, out) → (P, b, h', w', out), and the patches (P, b·h'·w', k·l·c), which have no gradient.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> tuple[Tensor, Tensor]:
        """The convolution's output and its patches; see the class for the shapes."""
        (people, out, channels, high, wide), batch = weight.shape, x.shape[1]
        x = F.pad(x, (0, 0, padding, padding, padding, padding)) if padding else x
        windows = x.unfold(2, high, stride).unfold(3, wide, stride)  # (P, b, h', w', c, k, l)
        rows, columns = windows.shape[2:4]
        patches = windows.permute(0, 1, 2, 3, 5, 6, 4).reshape(
            people, batch * rows * columns, high * wide * channels
        )
        kernels = weight.permute(0, 3, 4, 2, 1).reshape(people, high * wide * channels, out)
        ctx.save_for_backward(patches, kernels)
        ctx.of = x.shape, weight.shape, stride, padding, rows, columns
        ctx.mark_non_differentiable(patches)
        return (
            torch.baddbmm(bias[:, None], patches, kernels).view(people, batch, rows, columns, out),
            patches,
        )

    @staticmethod
    def backward(ctx, grad: Tensor, _: Tensor | None):
        """Gradients for each argument of `forward`, None where there is none or none is needed."""
        patches, kernels = ctx.saved_tensors
        shape, (people, out, channels, high, wide), stride, padding, rows, columns = ctx.of
        grad = grad.reshape(people, -1, out)
        x = weight = bias = None
        if ctx.needs_input_grad[1]:
            weight = (
                torch.bmm(patches.mT, grad)
                .view(people, high, wide, channels, out)
                .permute(0, 4, 3, 1, 2)
            )
            bias = grad.sum(1)
        if ctx.needs_input_grad[0]:
            x = _put_back(
                torch.bmm(grad, kernels.mT).view(people, -1, rows, columns, high, wide, channels),
                grad.new_zeros(shape),
                stride,
            )
            x = x[:, :, padding:-padding, padding:-padding] if padding else x
        return x, weight, bias, None, None


def _put_back(patches: Tensor, x: Tensor, stride: int) -> Tensor:
    """Add every patch (P, b, h', w', k, l, c) to where it was cut from in x (P, b, h, w, c).

    Patches do not overlap within a block of stride × stride pixels, so each block of a kernel is
    one addition.
    """
    people, batch, rows, columns, high, wide, channels = patches.shape
    for top in range(0, high, stride):
        for left in range(0, wide, stride):
            block = patches[:, :, :, :, top : top + stride, left : left + stride]
            if block.shape[4:6] == (stride, stride):
                part = block.permute(0, 1, 2, 4, 3, 5, 6).reshape(
                    people, batch, rows * stride, columns * stride, channels
                )
                x[:, :, top : top + rows * stride, left : left + columns * stride] += part
                continue
            # the kernel's side is no multiple of the stride: add its last pixels one by one
            for down in range(block.shape[4]):
                for right in range(block.shape[5]):
                    x[
                        :,
                        :,
                        top + down : top + down + rows * stride : stride,
                        left + right : left + right + columns * stride : stride,
                    ] += block[:, :, :, :, down, right]
    return x
