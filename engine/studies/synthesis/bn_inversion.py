"""Make images whose batch-norm statistics match those of the training data, with torch.

A network with batch norm records the mean and the variance of every channel over its training
images. Here images are optimised until their own statistics match the recorded ones and the network
assigns each image the class that was asked for.

Sources: report 2 (arXiv 2210.03205, 2022) and Yin et al. 2020, "DeepInversion".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning.supervised import Scale
from engine.privacy.noise import GaussianNoise

USUAL = Scale()  # how a network is shown images
CHUNK = 250  # images whose activations in all layers are held at once
BLUR = 1.0  # standard deviation, in pixels, of the blur applied to smooth images
# layer → mean, variance: (channels,) each, or (classes, channels)
Statistics = dict[str, tuple[torch.Tensor, torch.Tensor]]


# --- statistics of a network's layers -------------------------------------------------------------


def norm_layers(network: nn.Module) -> dict[str, nn.BatchNorm2d | nn.GroupNorm]:
    """The batch-norm or group-norm layers of a network by name, in module order.

    Raises ValueError if there are none.
    """
    found = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm))
    }
    if not found:
        raise ValueError(
            "this network has no batch norm layers, so there are no statistics to match"
        )
    return found


class Watch:
    """A context manager that keeps what each norm layer sees in a forward pass.

    `inputs` maps a layer's name to a tensor (b, channels, h, w): the input of a batch norm, because
    that is what its statistics describe; the output of a group norm, because its size is bounded
    for every single image.
    """

    def __init__(self, network: nn.Module):
        self.layers = norm_layers(network)
        self.inputs: dict[str, torch.Tensor] = {}

    def __enter__(self) -> Watch:
        self.hooks = [
            layer.register_forward_hook(self._keeper(name, isinstance(layer, nn.BatchNorm2d)))
            for name, layer in self.layers.items()
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self.hooks:
            hook.remove()

    def _keeper(self, name: str, its_input: bool):
        def keep(_, inputs, output):
            self.inputs[name] = inputs[0] if its_input else output

        return keep


def recorded(network: nn.Module) -> Statistics:
    """The statistics that the batch norms of a network recorded on their training data.

    Raises ValueError if a layer is a group norm.
    """
    found: Statistics = {}
    for name, layer in norm_layers(network).items():
        if not isinstance(layer, nn.BatchNorm2d):
            raise ValueError(
                "group norm remembers nothing of its training data, so there are no statistics to"
                " match"
            )
        assert layer.running_mean is not None and layer.running_var is not None  # it has learned
        found[name] = layer.running_mean.clone(), layer.running_var.clone()
    return found


@torch.no_grad()
def record(network: nn.Module, images: torch.Tensor, scale: Scale = USUAL) -> None:
    """Reset the batch norms and record their statistics on images (n, h, w, c) uint8.

    The recorded values are means over batches.
    """
    layers = [layer for layer in norm_layers(network).values() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # use a cumulative mean
    network.train()
    for part in images.split(500):
        # a short last batch would count as much as a full one
        if len(part) == len(images) or len(part) > 250:
            network(scale.of(part))
    for layer, momentum in zip(layers, before):
        layer.momentum = momentum
    network.eval()


@torch.no_grad()
def by_class(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    scale: Scale = USUAL,
) -> Statistics:
    """Per-class mean and variance of what each norm layer sees.

    Each is (classes, channels), NaN for a class without images.
    """
    network.eval()
    sums: dict[str, torch.Tensor] = {}
    with Watch(network) as watch:
        for part, its_labels in zip(images.split(CHUNK), labels.split(CHUNK)):
            network(scale.of(part))
            which = F.one_hot(its_labels, classes).double().T  # (classes, b)
            for name, x in watch.inputs.items():
                found = which @ moments(x).double()
                sums[name] = sums.get(name, 0) + found
    count = torch.bincount(labels, minlength=classes)[:, None]
    return {name: spread((total / count).float()) for name, total in sums.items()}


def moments(x: torch.Tensor) -> torch.Tensor:
    """Each image's channel means over its pixels, then its channel mean squares.

    (b, channels, h, w) → (b, 2·channels).
    """
    return torch.cat([x.mean((2, 3)), x.square().mean((2, 3))], 1)


def spread(found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn means and mean squares (..., 2·channels) into mean and variance, (..., channels) each.

    The variance is clamped at 0, because rounding or noise could make it negative.
    """
    mean, square = found.chunk(2, -1)
    return mean, (square - mean.square()).clamp_min(0)


# --- statistics under differential privacy --------------------------------------------------------


@torch.no_grad()
def private_statistics(
    network: nn.Module,
    images: torch.Tensor,
    noise_multiplier: float,
    clip: float,
    sampler: GaussianNoise,
    scale: Scale = USUAL,
) -> Statistics:
    """Noised mean and variance of the norm layers' outputs over images (n, h, w, c) uint8.

    The network must use group norm. Each image gives one vector: for each layer, its channels'
    means and mean squares divided by √(2·layers·channels), clipped to length `clip`, and a 1 that
    counts the image. An image that is blanked gives a vector of zeros, including the count, while
    the number of images stays fixed and public (engine/privacy/neighbours.py). One image therefore
    moves the sum by at most S = √(clip² + 1), and N(0, (noise_multiplier·S)²) is added to each
    entry. This is one Gaussian release of sensitivity 1 with that noise multiplier, drawn by
    engine.privacy.noise and rounded once. Everything after it is post-processing. The proof is in
    docs/synthesis.md.
    """
    total: torch.Tensor | None = None
    sizes: dict[str, int] = {}
    network.eval()
    with Watch(network) as watch:
        for part in images.split(CHUNK):
            network(scale.of(part))
            sizes = {name: x.shape[1] for name, x in watch.inputs.items()}
            vectors = torch.cat(
                [moments(x) * weight(len(sizes), x.shape[1]) for x in watch.inputs.values()], 1
            ).double()
            lengths = vectors.norm(dim=1, keepdim=True)
            vectors *= torch.where(
                lengths.isfinite(), (clip * (1 - 1e-6) / lengths.clamp_min(1e-12)).clamp_max(1), 0
            )
            vectors = torch.cat([vectors.nan_to_num(), torch.ones_like(lengths)], 1)
            total = vectors.sum(0) + (0 if total is None else total)
    assert total is not None  # there are images
    total = sampler.added_to(total, noise_multiplier * (clip**2 + 1) ** 0.5).float()
    means = (total[:-1] / total[-1].clamp_min(1)).float()
    parts = means.split([2 * channels for channels in sizes.values()])
    return {
        name: spread(part / weight(len(sizes), sizes[name])) for name, part in zip(sizes, parts)
    }


def weight(layers: int, channels: int) -> float:
    """Weight of one layer's moments in an image's vector.

    Mean squares of group-norm outputs are 1 on average, so the vector's length is about 1.
    """
    return (2 * layers * channels) ** -0.5


# --- the objective --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Teacher:
    """A frozen network, the statistics to match, and how the network scales pixels."""

    network: nn.Module
    wanted: Statistics
    scale: Scale = USUAL


@dataclass(frozen=True)
class Weights:
    """Weights of the terms of the objective."""

    statistics: float = 1.0
    labels: float = 1.0
    variation: float = 0.0
    norm: float = 0.0
    softness: float = 0.0  # label smoothing: the share of the target that goes to the other classes
    by_class: bool = False  # match the statistics of each class separately


@dataclass
class Objective:
    """The objective of a batch of images: `total` to minimise, and its parts for the charts."""

    total: torch.Tensor
    # layer → ‖μ − μ̂‖² + ‖σ² − σ̂²‖²
    distances: dict[str, torch.Tensor]
    labels: torch.Tensor
    # share of the images that the teacher assigns the wanted class
    right: torch.Tensor


def objective(
    pixels: torch.Tensor,
    labels: torch.Tensor,
    teachers: list[Teacher],
    weights: Weights,
    watches: list[Watch],
) -> Objective:
    """The objective for pixels (b, c, h, w) and wanted labels (b,).

    It is the mean over teachers of the statistics term and the cross-entropy, plus the terms of the
    images themselves (total variation and norm).

    The statistics term is Σ over layers of ‖μ − μ̂‖² + ‖σ² − σ̂²‖², with biased variances over
    batch and pixels (report 2, equation 1).
    """
    found = [
        _of_teacher(pixels, labels, teacher, weights, watch)
        for teacher, watch in zip(teachers, watches)
    ]
    total = _mean([each.total for each in found])
    if weights.variation:
        total = total + weights.variation * variation(pixels)
    if weights.norm:
        total = total + weights.norm * pixels.flatten(1).norm(dim=1).mean()
    distances = {
        name: _mean([each.distances[name] for each in found]).detach()
        for name in found[0].distances
    }
    return Objective(
        total,
        distances,
        _mean([each.labels for each in found]).detach(),
        _mean([each.right for each in found]),
    )


def _mean(values: list[torch.Tensor]) -> torch.Tensor:
    """The mean of at least one tensor, summed in their order."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values)


def _of_teacher(pixels, labels, teacher: Teacher, weights: Weights, watch: Watch) -> Objective:
    logits = teacher.network(teacher.scale(pixels).contiguous(memory_format=torch.channels_last))
    distances = {}
    for name, x in watch.inputs.items():
        mean, variance = (
            _by_label(x, labels, logits.shape[1]) if weights.by_class else MeanAndVariance.apply(x)
        )
        wanted_mean, wanted_variance = teacher.wanted[name]
        if weights.by_class:
            present = labels.unique()
            wanted_mean, wanted_variance = wanted_mean[present], wanted_variance[present]
        distances[name] = (
            (mean - wanted_mean).square().sum(-1) + (variance - wanted_variance).square().sum(-1)
        ).mean()
    said = F.cross_entropy(logits, labels, label_smoothing=weights.softness)
    total = weights.statistics * sum(distances.values()) + weights.labels * said
    return Objective(total, distances, said, (logits.detach().argmax(1) == labels).float().mean())


class MeanAndVariance(torch.autograd.Function):
    """Mean and biased variance of each channel, differentiable.

    (b, channels, h, w) → (channels,) each. The gradient is linear in x and takes one pass over it;
    autograd's own takes several passes and would cost more than the convolutions
    (bench/synthesis_step.py).
    """

    @staticmethod
    def forward(context, x: torch.Tensor):
        """Mean and biased variance over batch and pixels, (channels,) each."""
        # a view if the channels are last in memory
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        once = rows.new_full((1, len(rows)), 1 / len(rows))
        # Matrix products, because torch.var_mean takes three times as long.
        mean = (once @ rows)[0]
        variance = (once @ (rows - mean).square())[0]
        context.save_for_backward(x, mean)
        return mean, variance

    @staticmethod
    def backward(context, of_mean: torch.Tensor, of_variance: torch.Tensor):
        """The gradient of x, (b, channels, h, w), from those of mean and variance."""
        x, mean = context.saved_tensors
        count = x.numel() // x.shape[1]
        slope = 2 * of_variance / count
        offset = of_mean / count - slope * mean
        return torch.addcmul(offset[:, None, None], x, slope[:, None, None])


def _by_label(
    x: torch.Tensor, labels: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each class in the batch, (present, channels) each."""
    which = F.one_hot(labels, classes).to(x.dtype).T
    which = which[which.sum(1) > 0]
    return spread(which @ moments(x) / which.sum(1, keepdim=True))


def variation(pixels: torch.Tensor) -> torch.Tensor:
    """Total variation: the sum of squared differences between neighbouring pixels.

    The mean over images (Mahendran and Vedaldi 2015, β = 2).
    """
    down, across = pixels[:, :, 1:] - pixels[:, :, :-1], pixels[..., 1:] - pixels[..., :-1]
    return (down.square().sum() + across.square().sum()) / len(pixels)


# --- the images being optimised -------------------------------------------------------------------


def smooth(free: torch.Tensor) -> torch.Tensor:
    """Free numbers (b, c, h, w) → pixels in [0, 1], by a blur and a sigmoid.

    The blur makes neighbouring pixels move together.
    """
    reach = round(3 * BLUR)
    places = torch.arange(-reach, reach + 1, device=free.device, dtype=free.dtype)
    kernel = torch.exp(-places.square() / (2 * BLUR**2))
    kernel, channels = kernel / kernel.sum(), free.shape[1]
    across = F.conv2d(
        free,
        kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1),
        padding=(0, reach),
        groups=channels,
    )
    return torch.sigmoid(
        F.conv2d(
            across,
            kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1),
            padding=(reach, 0),
            groups=channels,
        )
    )


def free_pixels(free: torch.Tensor) -> torch.Tensor:
    """Free numbers (b, c, h, w) → pixels, each pixel independent, as in report 2.

    N(0, 1) becomes grey with standard deviation 0.5.
    """
    return free / 2 + 0.5


IMAGES = {"smooth": smooth, "pixels": free_pixels}


@dataclass(frozen=True)
class Settings:
    """How one batch of images is optimised."""

    kind: str  # "smooth" or "pixels"
    steps: int
    rate: float
    weights: Weights
    jitter: int = 0
    flip: bool = False


class Batch:
    """One batch of images during its optimisation.

    `step` takes one optimiser step; `pixels` are the current images; `best` are those with the
    lowest objective so far.
    """

    def __init__(
        self,
        settings: Settings,
        teachers: list[Teacher],
        labels: torch.Tensor,
        shape: tuple[int, int, int],
        seed: int,
        number: int,
    ):
        self.settings, self.teachers, self.labels = settings, teachers, labels
        self.draws = torch.Generator().manual_seed(derive_seed(f"synthesis {number}", seed))
        self.free = (
            torch.randn(len(labels), *shape, generator=self.draws)
            .to(labels.device)
            .requires_grad_()
        )
        self._bound()
        self.optimizer = torch.optim.Adam([self.free], lr=settings.rate, betas=(0.5, 0.9))
        self.best: torch.Tensor | None = None  # None before the first step
        self.least, self.best_view = float("inf"), (0, 0, False)

    @torch.no_grad()
    def _bound(self) -> None:
        """Clamp free pixels between black and white, as DeepInversion does.

        What is released is then what was optimised.
        """
        if self.settings.kind == "pixels":
            self.free.clamp_(-1, 1)

    @property
    def pixels(self) -> torch.Tensor:
        """The current images as a copy: (b, c, h, w) in [0, 1]."""
        return IMAGES[self.settings.kind](self.free.detach()).clamp(0, 1).clone()

    def view(self) -> tuple[int, int, bool]:
        """Draw the view of the next step: the shift (dx, dy) in pixels, and whether to mirror."""
        j = self.settings.jitter
        dx, dy = (torch.randint(-j, j + 1, (2,), generator=self.draws).tolist()) if j else (0, 0)
        return dx, dy, bool(self.settings.flip and torch.rand((), generator=self.draws) < 0.5)

    def step(self, watches: list[Watch]) -> Objective:
        """Take one optimiser step; return the objective before it."""
        view = self.view()
        pixels = IMAGES[self.settings.kind](self.free)
        found = objective(
            viewed(pixels, view), self.labels, self.teachers, self.settings.weights, watches
        )
        self.optimizer.zero_grad()
        found.total.backward()
        if (now := float(found.total.detach())) < self.least:
            # a copy, because the optimiser changes the free numbers in place
            self.least, self.best, self.best_view = now, pixels.detach().clone(), view
        self.optimizer.step()
        self._bound()
        return found


def viewed(pixels: torch.Tensor, view: tuple[int, int, bool]) -> torch.Tensor:
    """Shift and mirror images; uncovered borders are black, as in the usual random crops."""
    dx, dy, mirrored = view
    most = max(abs(dx), abs(dy))
    if most:
        pixels = F.pad(pixels, (most,) * 4)[
            :, :, most + dy : most + dy + pixels.shape[2], most + dx : most + dx + pixels.shape[3]
        ]
    return pixels.flip(3) if mirrored else pixels


def optimise(batch: Batch) -> Iterator[tuple[int, Objective]]:
    """Run all steps of one batch; yields (steps done, objective before the last of them)."""
    with contextlib.ExitStack() as stack:
        watches = [stack.enter_context(Watch(teacher.network)) for teacher in batch.teachers]
        for step in range(1, batch.settings.steps + 1):
            yield step, batch.step(watches)
