"""A DCGAN whose discriminator may learn by DP-SGD: two networks against each other, only one of
which sees real pictures. torch.

Privacy is spent where real pictures are touched, and nowhere else: each real picture's gradient in
a discriminator's step is clipped, their sum noised. Generated pictures come from the generator,
which has only ever seen the discriminator: whatever is done with them is post-processing. Several
steps of the discriminator to one of the generator are what makes private GANs work (Bie, Kamath and
Zhang 2023, "Private GANs, Revisited").

With labels (Mirza and Osindero 2014) the generator is told which class to show, and the
discriminator adds to its logit one for the class: what all classes have in common must not be
learned ten times under noise. A real picture's label is then as private as the picture; those of
generated pictures are drawn evenly, whatever the data hold.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning import dp_sgd, networks
from engine.learning.trainer import scaled
from engine.privacy.noise import Coins, GaussianNoise
from engine.studies.fidelity.generator import Artist

BETAS = (0.5, 0.999)  # of Adam (Radford et al. 2016)
REAL, MADE = -1.0, 1.0  # signs in softplus(sign · logit)


class Adversaries(Artist):
    """Generator and discriminator of a study: `step` takes the discriminator's steps and one of the
    generator. images (n, size, size, c) uint8.

    labels (n,) in [0, classes); with one class they are all 0, and nothing is told. Noise on the
    discriminator's gradients is drawn by engine.privacy.noise.
    """

    def __init__(
        self,
        study,
        plan: dict,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        device: torch.device,
    ):
        latents = torch.Generator(device).manual_seed(study.derive_seed("latents"))
        super().__init__(study.latent, classes, study.averaging, latents, device)
        self.study, self.plan, self.images = study, plan, torch.tensor(images).to(device)
        self.sampling = Coins(study.derive_seed("sampling"), device)
        self.labels = torch.tensor(labels).long().to(device)
        told = classes if classes > 1 else 0
        generator, discriminator = networks.dcgan(
            plan["width"],
            plan["judge_width"],
            images.shape[3],
            images.shape[1],
            study.latent + told,
            1 + told,
            derive_seed("init", study.seed),
        )
        self.begin(generator)
        self.discriminator = discriminator.to(device).to(memory_format=torch.channels_last)
        self.noised = dp_sgd.PrivateGradient(
            self.discriminator,
            expected_batch=plan["batch_size"],
            max_grad_norm=study.max_grad_norm,
            noise_multiplier=plan["noise_multiplier"],
            noise=GaussianNoise(study.derive_seed("noise"), device),
            loss=partial(logistic, sign=REAL),
        )
        self.layers = dp_sgd.trainable_layers(self.discriminator)
        self.learns = {
            who: torch.optim.Adam(who.parameters(), lr=plan[rate], betas=BETAS)
            for who, rate in (
                (self.generator, "generator_rate"),
                (self.discriminator, "discriminator_rate"),
            )
        }

    def step(self) -> None:
        """The discriminator's steps, then one of the generator."""
        for _ in range(self.plan["discriminator_steps"]):
            self.judge(*self.draw(), *self.make(self.plan["batch_size"]))
        self.forge()
        self.average()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A Poisson batch of real pictures, (b, c, size, size) in [−1, 1], and their labels (b,)."""
        rows = dp_sgd.poisson_batch(len(self.images), self.plan["sample_rate"], self.sampling)
        return scaled(self.images[rows]), self.labels[rows]

    @torch.no_grad()
    def make(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """So many new pictures of the generator as it is now, (count, c, size, size) in [−1, 1],
        and the labels that they are to show.
        """
        latent, labels = self.latent(count)
        return self.generator(latent), labels

    def judge(
        self,
        real: torch.Tensor,
        real_labels: torch.Tensor,
        made: torch.Tensor,
        made_labels: torch.Tensor,
    ) -> None:
        """One step of the discriminator."""
        if self.study.private:
            self.noised(real, real_labels)
            for p, more in self._of_made(made, made_labels).items():
                p.grad = p.grad + more / self.plan["batch_size"]
        else:
            self.discriminator.zero_grad()
            loss = (
                logistic(self.discriminator(real), real_labels, REAL).sum()
                + logistic(self.discriminator(made), made_labels, MADE).sum()
            )
            (loss / self.plan["batch_size"]).backward()
        self.learns[self.discriminator].step()

    def _of_made(
        self, made: torch.Tensor, labels: torch.Tensor
    ) -> dict[torch.nn.Parameter, torch.Tensor]:
        """Σ of the generated pictures' gradients, each clipped as the real ones are: unclipped they
        would drown these. No noise: no real picture is in it.
        """
        _, parts = dp_sgd.contributions_of(
            self.discriminator, self.layers, partial(logistic, sign=MADE), made, labels
        )
        norms = torch.stack([part.squared_norms() for part in parts.values()]).sum(0).sqrt()
        factors = dp_sgd.clip_factors(norms, self.study.max_grad_norm)
        return {
            p: total
            for layer, part in parts.items()
            for p, total in zip(layer.parameters(recurse=False), part.weighted_sum(factors))
        }

    def forge(self) -> None:
        """One step of the generator: make the discriminator take new pictures for real ones."""
        latent, labels = self.latent(self.plan["batch_size"])
        loss = logistic(self.discriminator(self.generator(latent)), labels, REAL).mean()
        weights = list(self.generator.parameters())
        for p, grad in zip(weights, torch.autograd.grad(loss, weights)):
            p.grad = grad
        self.learns[self.generator].step()


def logistic(logits: torch.Tensor, labels: torch.Tensor, sign: float) -> torch.Tensor:
    """(batch, 1 [+ classes]), (batch,) → (batch,): softplus(sign · logit), the loss of a judge who
    should give real pictures (−1) large logits and generated ones (1) small.

    The logit is the first one and, where there are more, the label's own added to it.
    """
    logit = logits[:, 0]
    if logits.shape[1] > 1:
        logit = logit + logits[:, 1:].gather(1, labels[:, None])[:, 0]
    return F.softplus(sign * logit)
