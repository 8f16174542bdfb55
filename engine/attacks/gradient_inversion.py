"""A picture rebuilt from the gradient that it has left (Geiping et al. 2020, "Inverting
Gradients"): what a server could see in an upload. torch.

The attacker knows the network, its weights, and the upload. A candidate picture is changed, step by
step, until the gradient that it would leave points where the upload does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# of all steps, where the step becomes ten times shorter (as in Geiping et al.)
DROPS = (3 / 8, 5 / 8, 7 / 8)
# times smoother than at the end a picture has to be at the beginning; it falls to 1 by half time
# (found by trying: fewer attempts end in a bad corner)
SMOOTHER = 100.0
FIRST = 0.1  # length of the first steps, in units of the brightness from black to white
TINY = 1e-12


@dataclass(frozen=True)
class Leak:
    """What the attacker holds. network: (1, c, h, w) in [0, 1] → (1, classes), its scaling
    included; shared: its parameters whose gradients are known; upload (n,); kept (n,) bool.
    """

    network: Callable[[Tensor], Tensor]
    shared: list[nn.Parameter]
    upload: Tensor
    kept: Tensor

    def gradient(self, picture: Tensor, label: Tensor, create_graph: bool = False) -> Tensor:
        """(n,) that a picture would leave: what one phone with this picture alone would compute in
        one step.
        """
        found = torch.autograd.grad(
            F.cross_entropy(self.network(picture), label), self.shared, create_graph=create_graph
        )
        return torch.cat([part.flatten() for part in found])

    def apart(self, gradient: Tensor) -> Tensor:
        """1 − cosine between a gradient and the upload, on what was uploaded: in [0, 2]."""
        mine = gradient * self.kept
        return 1 - (mine @ self.upload) / (mine.norm() * self.upload.norm() + TINY)


def labels_of(upload: Tensor, kept: Tensor, classes: int, width: int) -> list[int]:
    """All classes, the one first that the upload points at most; none where nothing of the last
    layer came.

    upload (n,) ends with the last layer's weights (classes, width) and biases. Row c of their
    gradient is (p_c − y_c) times (what the layer sees, 1): of rank one, and negative at the true
    class alone (after Zhao et al. 2020). So the largest singular vector tells the p_c − y_c but for
    their sign, and the biases, whose input is 1, tell that. Without a bias only lengths are left.
    """
    layer = torch.cat(
        [upload[-classes * (width + 1) : -classes].view(classes, width), upload[-classes:, None]], 1
    )
    if not bool(layer.any()):
        return []
    u, s, v = torch.linalg.svd(layer.double(), full_matrices=False)
    coefficients = u[:, 0] * s[0]  # p_c − y_c, up to one factor
    if bool(kept[-classes:].any()) and float(v[0, -1]) != 0:
        return (coefficients * v[0, -1].sign()).argsort().tolist()
    return coefficients.abs().argsort(descending=True).tolist()


def total_variation(picture: Tensor) -> Tensor:
    """Mean absolute difference between neighbouring pixels, (1, c, h, w) → ()."""
    return (picture[:, :, 1:] - picture[:, :, :-1]).abs().mean() + (
        picture[:, :, :, 1:] - picture[:, :, :, :-1]
    ).abs().mean()


class Attempt:
    """One attempt at a picture, from noise. `picture` (1, c, h, w) in [0, 1] is what it has come
    to, `best` what fitted best so far and `loss` how well.
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
        self.picture = torch.rand(1, *shape, generator=draws).to(device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.picture], lr=FIRST)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer, [round(steps * at) for at in DROPS], 0.1
        )
        self.best, self.loss, self.done = self.picture.detach().clone(), float("inf"), 0

    def step(self) -> float:
        """One step along the sign of the gradient; what the candidate fitted before it, 1 − cosine."""
        apart = self.leak.apart(self.leak.gradient(self.picture, self.label, create_graph=True))
        more = SMOOTHER ** max(0.0, 1 - 2 * self.done / self.steps)
        loss = apart + self.smoothness * more * total_variation(self.picture)
        self.done += 1
        if more == 1 and loss.item() < self.loss:
            self.best, self.loss = self.picture.detach().clone(), loss.item()
        (self.picture.grad,) = torch.autograd.grad(loss, self.picture)
        self.picture.grad.sign_()
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            self.picture.clamp_(0, 1)
        return apart.item()
