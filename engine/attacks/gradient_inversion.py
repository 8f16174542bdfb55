"""Gradient inversion: reconstruct an image from its gradient, as a server could from an upload.

Source: Geiping et al. 2020, "Inverting Gradients". torch. The attacker knows the network, its
weights, and the upload, and optimizes a candidate image until its gradient points in the direction
of the upload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# fractions of all steps at which the step size drops by ten (as in Geiping et al.)
DROPS = (3 / 8, 5 / 8, 7 / 8)
# initial factor on the smoothness penalty, which falls to 1 by half time (found by trial: fewer
# attempts end in a bad local minimum)
SMOOTHER = 100.0
FIRST = 0.1  # initial step size, in units of the range from black to white
TINY = 1e-12


@dataclass(frozen=True)
class Leak:
    """What the attacker knows.

    network: (1, c, h, w) in [0, 1] → (1, classes), including its input scaling; shared: its
    parameters whose gradients are known; upload (n,); kept (n,) bool, the entries that were
    uploaded.
    """

    network: Callable[[Tensor], Tensor]
    shared: list[nn.Parameter]
    upload: Tensor
    kept: Tensor

    def gradient(self, image: Tensor, label: Tensor, create_graph: bool = False) -> Tensor:
        """The gradient (n,) that a client with only this image computes in one step."""
        found = torch.autograd.grad(
            F.cross_entropy(self.network(image), label), self.shared, create_graph=create_graph
        )
        return torch.cat([part.flatten() for part in found])

    def apart(self, gradient: Tensor) -> Tensor:
        """1 − cosine between a gradient and the upload, on the uploaded entries: in [0, 2]."""
        mine = gradient * self.kept
        return 1 - (mine @ self.upload) / (mine.norm() * self.upload.norm() + TINY)


def labels_of(upload: Tensor, kept: Tensor, classes: int, width: int) -> list[int]:
    """All classes, most likely first; empty if nothing of the last layer was uploaded.

    upload (n,) ends with the last layer's weights (classes, width) and biases. Row c of their
    gradient is (p_c − y_c) times (layer input, 1): a matrix of rank one, negative only at the true
    class (after Zhao et al. 2020). The largest singular vector therefore gives the p_c − y_c up to
    their sign, and the biases, whose input is 1, give the sign. Without a bias only absolute values
    are known.
    """
    layer = torch.cat(
        [upload[-classes * (width + 1) : -classes].view(classes, width), upload[-classes:, None]], 1
    )
    if not bool(layer.any()):
        return []
    u, s, v = torch.linalg.svd(layer.double(), full_matrices=False)
    coefficients = u[:, 0] * s[0]  # p_c − y_c, up to a common factor
    if bool(kept[-classes:].any()) and float(v[0, -1]) != 0:
        return (coefficients * v[0, -1].sign()).argsort().tolist()
    return coefficients.abs().argsort(descending=True).tolist()


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighboring pixels, (1, c, h, w) → ()."""
    return (image[:, :, 1:] - image[:, :, :-1]).abs().mean() + (
        image[:, :, :, 1:] - image[:, :, :, :-1]
    ).abs().mean()


class Attempt:
    """One reconstruction attempt, started from noise.

    `image` (1, c, h, w) in [0, 1] is the current candidate, `best` the best so far and `loss` its
    loss.
    """

    def __init__(
        self,
        leak: Leak,
        label: int,
        shape: tuple[int, int, int],
        steps: int,
        smoothness: float,
        draws: torch.Generator,
    ):
        self.leak, self.steps, self.smoothness = leak, steps, smoothness
        device = leak.upload.device
        self.label = torch.tensor([label], device=device)
        self.image = torch.rand(1, *shape, generator=draws).to(device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.image], lr=FIRST)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, [round(steps * at) for at in DROPS], 0.1
        )
        self.best, self.loss, self.done = self.image.detach().clone(), float("inf"), 0

    def step(self) -> float:
        """Take one step along the sign of the gradient.

        Returns the candidate's 1 − cosine before the step.
        """
        apart = self.leak.apart(self.leak.gradient(self.image, self.label, create_graph=True))
        more = SMOOTHER ** max(0.0, 1 - 2 * self.done / self.steps)
        loss = apart + self.smoothness * more * total_variation(self.image)
        self.done += 1
        if more == 1 and loss.item() < self.loss:
            self.best, self.loss = self.image.detach().clone(), loss.item()
        (self.image.grad,) = torch.autograd.grad(loss, self.image)
        self.image.grad.sign_()
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            self.image.clamp_(0, 1)
        return apart.item()
