"""A DCGAN whose discriminator may learn by DP-SGD: two networks against each other, only one of which sees real pictures. torch.

Privacy is spent where real pictures are touched, and nowhere else: each real picture's gradient in a discriminator's step is clipped, their sum noised. Generated
pictures come from the generator, which has only ever seen the discriminator: whatever is done with them is post-processing. Several steps of the
discriminator to one of the generator are what makes private GANs work (Bie, Kamath and Zhang 2023, "Private GANs, Revisited").
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from engine import dp_sgd, networks
from engine.training import scaled, stream

BETAS = (0.5, 0.999)  # of Adam (Radford et al. 2016)
REAL, MADE = -1.0, 1.0  # signs in softplus(sign · logit)


class Adversaries:
    """Generator and discriminator of a study: `step` takes the discriminator's steps and one of the generator. images (n, size, size, c) uint8."""

    def __init__(self, study, plan: dict, images: np.ndarray, device: torch.device):
        self.study, self.plan, self.device = study, plan, device
        self.images = torch.tensor(images).to(device)
        seeded = lambda purpose: torch.Generator(device).manual_seed(stream(study.secret(purpose), study.seed))
        generator, discriminator = networks.dcgan(study.width, images.shape[3], images.shape[1], study.latent, stream("init", study.seed))
        self.generator, self.discriminator = (found.to(device).to(memory_format=torch.channels_last) for found in (generator, discriminator))
        self.sampling, self.latents = seeded("sampling"), seeded("latents")
        self.noised = dp_sgd.PrivateGradient(self.discriminator, expected_batch=study.batch_size, max_grad_norm=study.max_grad_norm, noise_multiplier=plan["noise_multiplier"],
                                             generator=seeded("noise"), loss=logistic)
        self.layers = dp_sgd.trainable_layers(self.discriminator)
        self.learns = {who: torch.optim.Adam(who.parameters(), lr=rate, betas=BETAS) for who, rate in ((self.generator, study.generator_rate), (self.discriminator, study.discriminator_rate))}

    def step(self) -> None:
        """The discriminator's steps, then one of the generator."""
        for _ in range(self.study.discriminator_steps):
            self.judge(self.draw(), self.make(self.study.batch_size))
        self.forge()

    def draw(self) -> torch.Tensor:
        """A Poisson batch of real pictures, (b, c, size, size)."""
        rows = dp_sgd.poisson_batch(len(self.images), self.plan["sample_rate"], self.sampling)
        return scaled(self.images[rows])

    @torch.no_grad()
    def make(self, count: int) -> torch.Tensor:
        """So many new pictures, (count, c, size, size) in [−1, 1]."""
        return self.generator(torch.randn(count, self.study.latent, generator=self.latents, device=self.device))

    def judge(self, real: torch.Tensor, made: torch.Tensor) -> None:
        """One step of the discriminator."""
        if self.study.private:
            self.noised(real, torch.full((len(real), 1), REAL, device=self.device))
            for p, more in self._of_made(made).items():
                p.grad = p.grad + more / self.study.batch_size
        else:
            self.discriminator.zero_grad()
            loss = logistic(self.discriminator(real), REAL).sum() + logistic(self.discriminator(made), MADE).sum()
            (loss / self.study.batch_size).backward()
        self.learns[self.discriminator].step()

    def _of_made(self, made: torch.Tensor) -> dict[torch.nn.Parameter, torch.Tensor]:
        """Σ of the generated pictures' gradients, each clipped as the real ones are: unclipped they would drown these. No noise: no real picture is in it."""
        _, parts = dp_sgd.contributions_of(self.discriminator, self.layers, logistic, made, torch.full((len(made), 1), MADE, device=self.device))
        norms = torch.stack([part.squared_norms() for part in parts.values()]).sum(0).sqrt()
        factors = dp_sgd.clip_factors(norms, self.study.max_grad_norm)
        return {p: total for layer, part in parts.items() for p, total in zip(layer.parameters(recurse=False), part.weighted_sum(factors))}

    def forge(self) -> None:
        """One step of the generator: make the discriminator take new pictures for real ones."""
        latents = torch.randn(self.study.batch_size, self.study.latent, generator=self.latents, device=self.device)
        loss = logistic(self.discriminator(self.generator(latents)), REAL).mean()
        weights = list(self.generator.parameters())
        for p, grad in zip(weights, torch.autograd.grad(loss, weights)):
            p.grad = grad
        self.learns[self.generator].step()


def logistic(logits: torch.Tensor, signs: torch.Tensor | float) -> torch.Tensor:
    """(batch, 1) → (batch,): softplus(sign · logit), the loss of a judge who should give real pictures (−1) large logits and generated ones (1) small."""
    return F.softplus(signs * logits).flatten(1).sum(1)
