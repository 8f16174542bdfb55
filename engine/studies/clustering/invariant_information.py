"""Invariant Information Clustering: loss, transformations, networks and training. torch.

Source: Ji, Henriques, Vedaldi 2019. An image and a transformed copy of it should fall into the same
cluster, and the clusters should be about equally full. A single number expresses both: the mutual
information of the two cluster assignments, which is maximized.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning.scattering import MAPS, Scattering

SIDE = 32  # larger images are averaged down to this many pixels per side
COMPONENTS = 128  # of the whitened scattering features
# values that the whitening is computed from: 2,500 images of 3,969 features
MOST_FITTED = 10_000_000
# added to whitened features during training, to keep the few copies in the pool from being
# memorized
FEATURE_NOISE = 0.1
MOST_OVER = 8  # over-clustering sub-heads; they only help to train the trunk and are expensive
CHUNK = 500  # images at a time outside training
# SHIFT: in pixels, in each direction
TURN, ZOOM, SHEAR, SHIFT, JITTER = math.radians(20), 0.15, 0.2, 2.0, 0.2


# --- the loss -------------------------------------------------------------------------------------


def information_loss(
    logits: torch.Tensor, transformed: torch.Tensor, entropy_weight: float = 1.0
) -> torch.Tensor:
    """Negative mutual information between clusters of images and those of their copies, in nats.

    logits (..., n, k) of n images; transformed (..., views, n, k) of their transformed copies;
    leading dimensions are sub-heads, each with its own loss → (...,) float64. With p = softmax of
    logits and p' of transformed, over all n·views pairs,

        P = 1/(n·views) Σ_i Σ_v p_i p'_ivᵀ,  symmetrized: (P + Pᵀ)/2,  P_c = Σ_c' P_cc'
        loss = −Σ_cc' P_cc' (ln P_cc' − λ ln P_c − λ ln P_c')

    λ = entropy_weight; above 1 it rewards equally full clusters more. Softmaxes are computed from
    log-softmaxes in the logits' own precision, the tables are summed in float64: within 1e-6 of the
    formula in float64 throughout. For finite logits, loss and gradient are finite.
    """
    first = F.log_softmax(logits, -1).exp()
    # the pairs of an image share their first half, so the mean over views suffices
    second = F.log_softmax(transformed, -1).exp().mean(-3)
    joint = first.double().transpose(-1, -2) @ second.double() / logits.shape[-2]  # (..., k, k)
    joint = (joint + joint.transpose(-1, -2)) / 2
    return 2 * entropy_weight * x_log_x(joint.sum(-1)).sum(-1) - x_log_x(joint).sum((-1, -2))


def x_log_x(x: torch.Tensor) -> torch.Tensor:
    """Element-wise x ln x for x ≥ 0; 0 at 0, with gradient 0 there.

    A joint probability is 0 here only if every pair's contribution underflows (below 1e-45 from
    float32 logits), and so does each contribution's derivative: its product with the slope of x ln
    x, a few hundred, is practically 0. Nothing is clamped.
    """
    positive = x > 0
    return torch.where(positive, x * torch.where(positive, x, 1).log(), 0)


# --- transformations ------------------------------------------------------------------------------


def transformed(images: torch.Tensor, generator: torch.Generator, size: int = 0) -> torch.Tensor:
    """A random transformed copy of each image: (n, c, h, w) → (n, c, size, size) float.

    It is cropped, rotated, zoomed, sheared and changed in brightness. size 0 keeps the images' own
    size and makes the crop a shift. Everything is one bilinear grid_sample; what falls outside is
    0. Random numbers are drawn on the CPU, the same for every device. Ranges: 20° rotation, 15 %
    zoom, 0.2 shear and 20 % brightness, in each direction.
    """
    n, _, h, w = images.shape
    draws = torch.rand(n, 7, generator=generator).mul_(2).sub_(1)  # in [-1, 1]
    grid = F.affine_grid(
        _affine(draws, h, w, size).to(images.device),
        [n, 1, size or h, size or w],
        align_corners=False,
    )
    copies = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    brightness = (1 + JITTER * draws[:, 6]).to(images.device)
    return copies * brightness[:, None, None, None]


def _affine(draws: torch.Tensor, h: int, w: int, size: int) -> torch.Tensor:
    """Affine matrices from draws: (n, 7) in [-1, 1] → (n, 2, 3).

    They map positions in the copy to positions in the image, both from -1 to 1.
    """
    turn, shear, zoom = TURN * draws[:, 0], SHEAR * draws[:, 1], torch.exp(ZOOM * draws[:, 2:4])
    # the part of the image that the crop shows
    kept = torch.tensor([(size or w) / w, (size or h) / h])
    shift = torch.maximum(1 - kept, 2 * SHIFT / torch.tensor([w, h])) * draws[:, 4:6]
    cos, sin = torch.cos(turn), torch.sin(turn)
    x = torch.stack(
        [zoom[:, 0] * cos * kept[0], zoom[:, 0] * (shear * cos - sin) * kept[1], shift[:, 0]], 1
    )
    y = torch.stack(
        [zoom[:, 1] * sin * kept[0], zoom[:, 1] * (shear * sin + cos) * kept[1], shift[:, 1]], 1
    )
    return torch.stack([x, y], 1)


def fitted(images: torch.Tensor) -> torch.Tensor:
    """Scale each image to length 9: (n, h, w, c) float, non-negative → (n, c, h', w').

    The output has at most 32 pixels per side. 9 is about the length of a digit with pixels in [0,
    1]. Each image is scaled on its own: nothing of another image enters.
    """
    x = images.permute(0, 3, 1, 2)
    if max(x.shape[2:]) > SIDE:
        x = F.adaptive_avg_pool2d(x, SIDE)
    lengths = x.flatten(1).norm(dim=1)
    # a black image stays black
    return x * torch.where(lengths > 0, 9 / lengths, 0)[:, None, None, None]


# --- two kinds of views ---------------------------------------------------------------------------


class ScatteredViews:
    """Each image and `views` transformed copies, as whitened scattering features.

    They are computed once and kept in a pool on the device.
    """

    whitening: tuple[torch.Tensor, torch.Tensor]  # mean and axes, set by `prepare`

    def __init__(self, views: int, seed: int, device: torch.device):
        self.views, self.scattering = views, Scattering().to(device)
        self.draws = torch.Generator().manual_seed(derive_seed("iic views", seed))

    def prepare(self, release) -> Iterator[tuple[int, int]]:
        """Fill the pool (1 + views, n, components); yields (done, total).

        release(v) returns the images (n, c, h, w) that copy v is made from.
        """
        originals = release(0)
        self.whitening = self._whitening(originals)
        self.pool = torch.empty(
            1 + self.views, len(originals), self.whitening[1].shape[1], device=originals.device
        )
        done, total = 0, self.pool.shape[0] * self.pool.shape[1]
        for view in range(1 + self.views):
            images = release(view) if view else originals
            for slot, part in zip(self.pool[view].split(CHUNK), images.split(CHUNK)):
                slot.copy_(self.inputs(transformed(part, self.draws) if view else part))
                done += len(part)
                yield done, total

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Scattering features, (n, c, h, w) → (n, c·81·h/4·w/4)."""
        return torch.cat([self.scattering(part).flatten(1) for part in images.split(CHUNK)])

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """The network's input for any images: (n, c, h, w) → (n, components)."""
        mean, axes = self.whitening
        return (self.features(images) - mean) @ axes

    def _whitening(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (features,) and axes (features, components) of the first images' features.

        Along these axes each component has variance 1.
        """
        _, c, h, w = images.shape
        size = c * MAPS * -(-h // 4) * -(-w // 4)
        features = self.features(images[: max(2 * COMPONENTS, MOST_FITTED // size)])
        mean = features.mean(0)
        return mean, whitened_axes(features - mean, COMPONENTS, self.draws)

    def network(self, seed: int) -> Trunk:
        """An untrained network for the output of `seen`."""
        width, draws = 256, torch.Generator().manual_seed(derive_seed("iic trunk", seed))
        return Trunk(
            [
                linear(self.pool.shape[2], width, draws),
                nn.ReLU(),
                linear(width, width, draws),
                nn.ReLU(),
            ],
            width,
        )

    def epoch(self) -> None:
        """Does nothing: the pool stays the same."""

    def batch(self, rows: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Three of the 1 + views, the same three for the whole batch: (3, rows, components).

        They are all different; there are fewer if `views` is below 2. Pairs of two copies vary more
        than pairs of an image with a copy: accuracy stopped at 0.93-0.95 with the latter and
        reached 0.97 with the former.
        """
        chosen = torch.randperm(1 + self.views, generator=draws)[:3]
        batch = self.pool[chosen.to(rows.device)][:, rows]
        return batch + FEATURE_NOISE * torch.randn(batch.shape, generator=draws).to(rows.device)

    def originals(self) -> torch.Tensor:
        """The features of each untransformed image, (n, components)."""
        return self.pool[0]


def whitened_axes(centred: torch.Tensor, count: int, draws: torch.Generator) -> torch.Tensor:
    """The strongest principal axes divided by their standard deviations: (features, ≤ count).

    centred: (n, features) with mean 0. Halko, Martinsson, Tropp 2011, algorithm 4.4 (subspace
    iteration). Axes with almost no variance are left out, since whitening would amplify their
    rounding errors; there may be none at all.
    """
    count = min(count, *centred.shape)
    basis = torch.randn(centred.shape[1], min(count + 32, *centred.shape), generator=draws).to(
        centred.device
    )
    for _ in range(6):
        basis = torch.linalg.qr(centred.T @ (centred @ basis))[0]
    _, strengths, right = torch.linalg.svd(centred @ basis, full_matrices=False)
    kept = strengths[:count] > max(1e-4 * float(strengths[0]), 1e-6)
    return (basis @ right.T)[:, :count][:, kept] * (
        math.sqrt(len(centred)) / strengths[:count][kept]
    )


class ImageViews:
    """The images themselves on the device, transformed anew in each batch.

    For convolutional networks.
    """

    def __init__(self, views: int, width: int, fresh: bool, seed: int):
        self.views, self.width, self.fresh = views, width, fresh
        self.draws = torch.Generator().manual_seed(derive_seed("iic views", seed))

    def prepare(self, release) -> Iterator[tuple[int, int]]:
        """Store the images (n, c, h, w) that release(0) returns; yields (done, total).

        If every view has its own noise, release(draw) returns a new draw.
        """
        self.release, self.images, self.drawn = release, release(0), 0
        self.size = self.images.shape[-1] * 6 // 7  # 24 of 28, as in the paper
        yield 1, 1

    def epoch(self) -> None:
        """Draw the noise of the image and of all its copies anew, if views have their own."""
        if self.fresh:
            self.current = [self.release(self.drawn + v) for v in range(1 + self.views)]
            self.drawn += 1 + self.views

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """The center crop of images: (n, c, h, w) → (n, c, size, size)."""
        top, left = ((side - self.size) // 2 for side in images.shape[2:])
        return images[:, :, top : top + self.size, left : left + self.size]

    def network(self, seed: int) -> Trunk:
        """The paper's network for digits, narrower if requested."""
        draws = torch.Generator().manual_seed(derive_seed("iic trunk", seed))
        return convolutions(self.images.shape[1], self.size, self.width, draws)

    def batch(self, rows: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
        """Center crops and `views` transformed copies: (1 + views, rows, c, size, size)."""
        of = self.current if self.fresh else [self.images] * (1 + self.views)
        copies = transformed(torch.cat([images[rows] for images in of[1:]]), draws, self.size)
        return torch.cat([self.inputs(of[0][rows]), copies]).reshape(
            1 + self.views, len(rows), *copies.shape[1:]
        )

    def originals(self) -> torch.Tensor:
        """The center crop of each image, (n, c, size, size)."""
        return self.inputs(self.images)


# --- networks -------------------------------------------------------------------------------------


L = TypeVar("L", nn.Linear, nn.Conv2d)


class Trunk(nn.Sequential):
    """The layers shared by all heads; they return `outputs` features per image."""

    def __init__(self, layers: list[nn.Module], outputs: int):
        super().__init__(*layers)
        self.outputs = outputs


def linear(inputs: int, outputs: int, draws: torch.Generator) -> nn.Linear:
    """A linear layer with He et al.'s (2015) normal initialization from its own generator."""
    return _drawn(nn.Linear(inputs, outputs, device="meta"), inputs, draws)


def convolutions(channels: int, size: int, width: int, draws: torch.Generator) -> Trunk:
    """The network of Ji et al. for MNIST (appendix, "VGG-like").

    It has 5 x 5 convolutions with batch norm and ReLU, and pooling between them. (n, channels,
    size, size) → (n, outputs); width, 2·, 4· and 8·width filters, 64 in the paper. Raises
    ValueError below 8 pixels.
    """
    if size < 8:
        raise ValueError(f"this network needs crops of at least 8 x 8 pixels, not {size} x {size}")
    layers: list[nn.Module] = []
    inputs = channels
    for level in range(4):
        outputs = width * 2**level
        layers += [nn.MaxPool2d(2)] if level else []
        layers += [
            _drawn(
                nn.Conv2d(inputs, outputs, 5, padding=2, bias=False, device="meta"),
                25 * inputs,
                draws,
            ),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        inputs = outputs
    return Trunk([*layers, nn.Flatten()], outputs * (size // 8) ** 2)


def _drawn(layer: L, fan_in: int, draws: torch.Generator) -> L:
    """Initialize a layer from the meta device with weights N(0, 2/fan_in) and biases 0.

    The meta device keeps the global generator unused.
    """
    layer = layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan_in), generator=draws)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Heads(nn.Module):
    """Linear sub-heads, each with its own softmax: (n, inputs) → (sub_heads, n, clusters) logits.

    All are stored as one matrix. Weights are scaled to give the logits of `sample` (n, inputs) an
    initial standard deviation of 2: with the usual small ones, training stalls with all clusters
    alike (docs/clustering.md).
    """

    def __init__(self, sample: torch.Tensor, sub_heads: int, clusters: int, draws: torch.Generator):
        super().__init__()
        self.shape = (sub_heads, clusters)
        weight = torch.randn(sub_heads, clusters, sample.shape[1], generator=draws).to(
            sample.device
        )
        spread = (
            (sample @ weight.flatten(0, 1).T).reshape(len(sample), sub_heads, clusters).std((0, 2))
        )
        weight *= (2 / spread.clamp_min(1e-12))[:, None, None]
        self.weight = nn.Parameter(weight.flatten(0, 1))
        self.bias = nn.Parameter(torch.zeros(sub_heads * clusters, device=sample.device))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, inputs) → (sub_heads, n, clusters) logits."""
        return F.linear(features, self.weight, self.bias).reshape(-1, *self.shape).transpose(0, 1)


# --- training -------------------------------------------------------------------------------------


class Clustering:
    """A trunk with main and over-clustering heads, their optimizer and their training views.

    Both kinds of head learn in every step, from the same forward pass. In the paper they alternate,
    each epoch with a pass over the images for the over-clustering heads and then one for the main
    heads, at twice the work: `turns` does that.
    """

    def __init__(self, study, views, clusters: int, turns: bool, device: torch.device):
        self.study, self.views, self.device = study, views, device
        self.draws = torch.Generator().manual_seed(derive_seed("iic batches", study.seed))
        self.trunk = views.network(study.seed).to(device)
        with torch.no_grad():
            sample = self.trunk(views.originals()[:CHUNK])
        start = torch.Generator().manual_seed(derive_seed("iic heads", study.seed))
        self.main = Heads(sample, study.sub_heads, clusters, start)
        self.over = Heads(
            sample, min(study.sub_heads, MOST_OVER), max(clusters, study.over_clusters), start
        )
        parameters = [*self.trunk.parameters(), *self.main.parameters(), *self.over.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=study.learning_rate)
        # per epoch; the rows left over wait for a later epoch
        self.steps = len(views.originals()) // study.batch_size
        self.passes = [[self.over], [self.main]] if turns else [[self.over, self.main]]
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, self.steps * study.epochs * len(self.passes)
        )

    def epoch(self) -> Iterator[int]:
        """Run one pass over the images; yields the number of steps done in it.

        `losses` (sub_heads,) is then the mean of the pass, in nats.
        """
        self.views.epoch()
        self.trunk.train()
        for turn, heads in enumerate(self.passes):
            rows = torch.randperm(len(self.views.originals()), generator=self.draws).to(self.device)
            total = torch.zeros(heads[-1].shape[0], dtype=torch.float64, device=self.device)
            for step, batch in enumerate(rows.split(self.study.batch_size)[: self.steps]):
                total += self._step(self.views.batch(batch, self.draws), heads)
                yield turn * self.steps + step + 1
        self.losses = total / self.steps

    def _step(self, images: torch.Tensor, heads: list[Heads]) -> torch.Tensor:
        """Take one step on images (1 + copies, batch, ...).

        Returns the losses (sub_heads,) of the last kind of head, from before the optimizer's step.
        """
        features = self.trunk(images.flatten(0, 1))
        losses = []
        for head in heads:
            # (sub_heads, 1 + copies, batch, clusters)
            logits = head(features).unflatten(1, images.shape[:2])
            losses.append(information_loss(logits[:, 0], logits[:, 1:], self.study.entropy_weight))
        self.optimizer.zero_grad()
        torch.stack([loss.mean() for loss in losses]).sum().backward()
        self.optimizer.step()
        self.schedule.step()
        return losses[-1].detach()

    @torch.no_grad()
    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (sub_heads, n, clusters) of the main sub-heads, on the device.

        seen: what views.seen returns for n images.
        """
        self.trunk.eval()
        return torch.cat([self.main(self.trunk(part)) for part in inputs.split(CHUNK)], 1)

    def assigned(self, inputs: torch.Tensor) -> torch.Tensor:
        """Cluster numbers (sub_heads, n) for the output of views.seen for n images."""
        return self.logits(inputs).argmax(-1)

    @torch.no_grad()
    def final_losses(self) -> torch.Tensor:
        """The current loss of each main sub-head, (sub_heads,) float64, in nats.

        It covers all images and the copies that a batch has.
        """
        found = []
        for rows in torch.arange(len(self.views.originals()), device=self.device).split(CHUNK):
            found.append(
                torch.stack([self.logits(view) for view in self.views.batch(rows, self.draws)], 1)
            )
        logits = torch.cat(found, 2)  # (sub_heads, 1 + copies, n, clusters)
        return information_loss(logits[:, 0], logits[:, 1:], self.study.entropy_weight)
