"""Pictures whose batch-norm statistics are those of the training data (report 2; Yin et al. 2020,
"DeepInversion"). torch.

A network with batch norm keeps the mean and the variance of every channel over its training
pictures. Here pictures are changed until theirs are the same and until the network sees in each the
class that was asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning.supervised import Scale
from engine.privacy.noise import GaussianNoise

CHUNK = 250  # pictures whose activations in all layers are held at once
BLUR = 1.0  # pixels: standard deviation of the blur that smooth pictures are seen through
# layer → mean, variance: (channels,) each, or (classes, channels)
Statistics = dict[str, tuple[torch.Tensor, torch.Tensor]]


# --- statistics of a network's layers -------------------------------------------------------------


def norm_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The batch or group norms of a network by name, in the order of the modules.

    Raises ValueError where there is none.
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
    """While open, keeps what each norm layer sees in a forward pass: `seen`, layer → (b, channels,
    h, w).

    Of batch norm its input, whose statistics it records; of group norm its output, whose size is
    bounded for every single picture.
    """

    def __init__(self, network: nn.Module):
        self.layers, self.seen = norm_layers(network), {}

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
        def keep(layer, inputs, output):
            self.seen[name] = inputs[0] if its_input else output

        return keep


def recorded(network: nn.Module) -> Statistics:
    """What the batch norms of a network remember of their training data."""
    layers = norm_layers(network)
    if any(not isinstance(layer, nn.BatchNorm2d) for layer in layers.values()):
        raise ValueError(
            "group norm remembers nothing of its training data, so there are no statistics to match"
        )
    return {
        name: (layer.running_mean.clone(), layer.running_var.clone())
        for name, layer in layers.items()
    }


@torch.no_grad()
def record(network: nn.Module, images: torch.Tensor, scale: Scale = Scale()) -> None:
    """Let the batch norms forget, and record their statistics anew over images (n, h, w, c) uint8,
    as the mean over batches.
    """
    layers = [layer for layer in norm_layers(network).values() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
    network.train()
    for part in images.split(500):
        # a short rest would count as much as a whole batch
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
    scale: Scale = Scale(),
) -> Statistics:
    """Mean and variance of what each norm layer sees, for each class by itself: (classes, channels)
    each, NaN for a class without pictures.
    """
    network.eval()
    sums: dict[str, torch.Tensor] = {}
    with Watch(network) as watch:
        for part, told in zip(images.split(CHUNK), labels.split(CHUNK)):
            network(scale.of(part))
            which = F.one_hot(told, classes).double().T  # (classes, b)
            for name, x in watch.seen.items():
                found = which @ moments(x).double()
                sums[name] = sums.get(name, 0) + found
    count = torch.bincount(labels, minlength=classes)[:, None]
    return {name: spread((total / count).float()) for name, total in sums.items()}


def moments(x: torch.Tensor) -> torch.Tensor:
    """(b, channels, h, w) → (b, 2·channels): each picture's mean of each channel over its pixels,
    then its mean square.
    """
    return torch.cat([x.mean((2, 3)), x.square().mean((2, 3))], 1)


def spread(found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., 2·channels) means and mean squares → mean and variance (..., channels), which rounding
    or noise does not make negative.
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
    scale: Scale = Scale(),
) -> Statistics:
    """Noised mean and variance of what each norm layer of a group-norm network gives, over images
    (n, h, w, c) uint8.

    Each picture gives one vector: for each layer, its channels' means and mean squares over
    √(2·layers·channels), shortened to length `clip`, and a 1 that counts it. A picture that is
    blanked gives a vector of zeros, count and all, while the number of pictures stays fixed and
    public (engine/privacy/neighbours.py). So one picture moves the sum by at most S = √(clip² + 1), and
    N(0, (noise_multiplier·S)²) is added to each entry: one Gaussian release of sensitivity 1 and
    that noise multiplier, drawn by engine.privacy.noise and rounded once. All the rest is post-processing.
    Proof in docs/synthesis.md.
    """
    total, sizes = None, {}
    network.eval()
    with Watch(network) as watch:
        for part in images.split(CHUNK):
            network(scale.of(part))
            sizes = {name: x.shape[1] for name, x in watch.seen.items()}
            vectors = torch.cat(
                [moments(x) * weight(len(sizes), x.shape[1]) for x in watch.seen.values()], 1
            ).double()
            lengths = vectors.norm(dim=1, keepdim=True)
            vectors *= torch.where(
                lengths.isfinite(), (clip * (1 - 1e-6) / lengths.clamp_min(1e-12)).clamp_max(1), 0
            )
            vectors = torch.cat([vectors.nan_to_num(), torch.ones_like(lengths)], 1)
            total = vectors.sum(0) + (0 if total is None else total)
    total = sampler.added_to(total, noise_multiplier * (clip**2 + 1) ** 0.5).float()
    means = (total[:-1] / total[-1].clamp_min(1)).float()
    parts = means.split([2 * channels for channels in sizes.values()])
    return {
        name: spread(part / weight(len(sizes), sizes[name])) for name, part in zip(sizes, parts)
    }


def weight(layers: int, channels: int) -> float:
    """Of a layer's moments in a picture's vector: group norm's mean squares are 1 on average, so
    the vector's length is about 1.
    """
    return (2 * layers * channels) ** -0.5


# --- the objective --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Teacher:
    """A network that is not changed any more, what is to be matched, and how it sees pixels."""

    network: nn.Module
    wanted: Statistics
    scale: Scale = Scale()


@dataclass(frozen=True)
class Weights:
    """How much each part of the objective counts."""

    statistics: float = 1.0
    labels: float = 1.0
    variation: float = 0.0
    norm: float = 0.0
    softness: float = 0.0  # share of the wanted label that the other classes get
    by_class: bool = False  # statistics of each class by itself


@dataclass
class Objective:
    """The objective of a batch of pictures: `total` to step on, and its parts for drawing."""

    total: torch.Tensor
    # layer → ‖μ − μ̂‖² + ‖σ² − σ̂²‖²
    distances: dict[str, torch.Tensor] = field(default_factory=dict)
    labels: torch.Tensor | None = None
    right: torch.Tensor | None = None  # share of the pictures that the teacher names as wanted


def objective(
    pixels: torch.Tensor,
    labels: torch.Tensor,
    teachers: list[Teacher],
    weights: Weights,
    watches: list[Watch],
) -> Objective:
    """Of pixels (b, c, h, w) and wanted labels (b,): the mean over teachers of statistics and
    cross-entropy, and the pictures' own terms.

    Statistics: Σ over layers of ‖μ − μ̂‖² + ‖σ² − σ̂²‖², with biased variances over batch and
    pixels (report 2, equation 1).
    """
    found = [
        _of_teacher(pixels, labels, teacher, weights, watch)
        for teacher, watch in zip(teachers, watches)
    ]
    total = sum(each.total for each in found) / len(found)
    if weights.variation:
        total = total + weights.variation * variation(pixels)
    if weights.norm:
        total = total + weights.norm * pixels.flatten(1).norm(dim=1).mean()
    distances = {
        name: sum(each.distances[name] for each in found).detach() / len(found)
        for name in found[0].distances
    }
    return Objective(
        total,
        distances,
        sum(each.labels for each in found).detach() / len(found),
        sum(each.right for each in found) / len(found),
    )


def _of_teacher(pixels, labels, teacher: Teacher, weights: Weights, watch: Watch) -> Objective:
    logits = teacher.network(teacher.scale(pixels).contiguous(memory_format=torch.channels_last))
    distances = {}
    for name, x in watch.seen.items():
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
    """(b, channels, h, w) → mean and biased variance of each channel (channels,), differentiable.

    The gradient is linear in x, one pass over it; autograd's own takes several and cost more than
    the convolutions (bench/synthesis_step.py).
    """

    @staticmethod
    def forward(context, x: torch.Tensor):
        # a view where the channels are last in memory
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        once = rows.new_full((1, len(rows)), 1 / len(rows))
        mean = (once @ rows)[0]  # as products of matrices: torch.var_mean takes three times as long
        variance = (once @ (rows - mean).square())[0]
        context.save_for_backward(x, mean)
        return mean, variance

    @staticmethod
    def backward(context, of_mean: torch.Tensor, of_variance: torch.Tensor):
        x, mean = context.saved_tensors
        count = x.numel() // x.shape[1]
        slope = 2 * of_variance / count
        offset = of_mean / count - slope * mean
        return torch.addcmul(offset[:, None, None], x, slope[:, None, None])


def _by_label(
    x: torch.Tensor, labels: torch.Tensor, classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each class that the batch has: (present, channels) each."""
    which = F.one_hot(labels, classes).to(x.dtype).T
    which = which[which.sum(1) > 0]
    return spread(which @ moments(x) / which.sum(1, keepdim=True))


def variation(pixels: torch.Tensor) -> torch.Tensor:
    """Total variation: the sum of squared steps between neighbouring pixels, mean over pictures
    (Mahendran and Vedaldi 2015, β = 2).
    """
    down, across = pixels[:, :, 1:] - pixels[:, :, :-1], pixels[..., 1:] - pixels[..., :-1]
    return (down.square().sum() + across.square().sum()) / len(pixels)


# --- the pictures that are changed ----------------------------------------------------------------


def smooth(free: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) free numbers → pixels in [0, 1]: blurred, so that neighbours move together, then
    through a sigmoid.
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
    """(b, c, h, w) free numbers → pixels as the report has them: each by itself; N(0, 1) is grey
    with spread 0.5.
    """
    return free / 2 + 0.5


PICTURES = {"smooth": smooth, "pixels": free_pixels}


@dataclass(frozen=True)
class Settings:
    """How one batch of pictures is optimised."""

    kind: str  # smooth or pixels
    steps: int
    rate: float
    weights: Weights
    jitter: int = 0
    flip: bool = False


class Batch:
    """One batch of pictures on its way. `step` moves it; `pixels` are the pictures now, `best`
    those with the least objective seen.
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
        self.best, self.least, self.best_view = None, float("inf"), (0, 0, False)

    @torch.no_grad()
    def _bound(self) -> None:
        """Free pixels stay between black and white (as DeepInversion's do), so that what is
        released is what was optimised.
        """
        if self.settings.kind == "pixels":
            self.free.clamp_(-1, 1)

    @property
    def pixels(self) -> torch.Tensor:
        """(b, c, h, w) in [0, 1]: the pictures as of now, in memory of their own."""
        return PICTURES[self.settings.kind](self.free.detach()).clamp(0, 1).clone()

    def view(self) -> tuple[int, int, bool]:
        """How the teacher will see the next step: moved by so many pixels, and mirrored or not."""
        j = self.settings.jitter
        dx, dy = (torch.randint(-j, j + 1, (2,), generator=self.draws).tolist()) if j else (0, 0)
        return dx, dy, bool(self.settings.flip and torch.rand((), generator=self.draws) < 0.5)

    def step(self, watches: list[Watch]) -> Objective:
        """Move the pictures once; the objective is that of the pictures before."""
        view = self.view()
        pixels = PICTURES[self.settings.kind](self.free)
        found = objective(
            seen(pixels, view), self.labels, self.teachers, self.settings.weights, watches
        )
        self.optimizer.zero_grad()
        found.total.backward()
        if (now := float(found.total.detach())) < self.least:
            # a copy: the free numbers move on
            self.least, self.best, self.best_view = now, pixels.detach().clone(), view
        self.optimizer.step()
        self._bound()
        return found


def seen(pixels: torch.Tensor, view: tuple[int, int, bool]) -> torch.Tensor:
    """Pictures moved and mirrored; black fills what comes free, as in the usual random crops."""
    dx, dy, mirrored = view
    most = max(abs(dx), abs(dy))
    if most:
        pixels = F.pad(pixels, (most,) * 4)[
            :, :, most + dy : most + dy + pixels.shape[2], most + dx : most + dx + pixels.shape[3]
        ]
    return pixels.flip(3) if mirrored else pixels


def optimise(batch: Batch) -> Iterator[tuple[int, Objective]]:
    """All steps of one batch; yields (steps done, the objective before the last of them)."""
    with contextlib.ExitStack() as stack:
        watches = [stack.enter_context(Watch(teacher.network)) for teacher in batch.teachers]
        for step in range(1, batch.settings.steps + 1):
            yield step, batch.step(watches)
