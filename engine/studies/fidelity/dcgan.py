"""A DCGAN whose discriminator may be trained by DP-SGD, with torch.

Privacy budget is spent only where real images are used: in each step of the discriminator, the
per-example gradient of each real image is clipped and noise is added to their sum. The generator
never sees real images, only the discriminator, so generated images and anything done with them are
post-processing. Private GANs need several steps of the discriminator per step of the generator to
work (Bie, Kamath and Zhang 2023, "Private GANs, Revisited").

With labels (conditional GAN, Mirza and Osindero 2014) the generator is told which class to show,
and the discriminator adds a per-class logit to its common logit, so that what all classes share is
not learned ten times under noise. The label of a real image is as private as the image; the labels
of generated images are drawn uniformly, whatever the data hold.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from engine.core.streams import derive_seed
from engine.learning import dp_sgd, networks
from engine.learning.trainer import scaled
from engine.privacy.noise import BernoulliSampler, GaussianNoise
from engine.studies.fidelity.gan import AdversarialPlan
from engine.studies.fidelity.generator import GeneratorTrainer

BETAS = (0.5, 0.999)  # Adam's β₁ and β₂ (Radford et al. 2016)
REAL, MADE = -1.0, 1.0  # signs in softplus(sign · logit)


class GANTrainer(GeneratorTrainer):
    """Generator and discriminator of a study, trained by `step`.

    images (n, size, size, c) uint8; labels (n,) in [0, classes). With one class, all labels are 0
    and the networks are not conditioned. Noise on the discriminator's gradients is drawn by
    engine.privacy.noise.
    """

    def __init__(
        self,
        plan: AdversarialPlan,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        device: torch.device,
    ):
        streams = plan.streams
        latents = torch.Generator(device).manual_seed(streams.derive_seed("latents"))
        super().__init__(plan.latent, classes, plan.averaging, latents, device)
        self.plan, self.images = plan, torch.tensor(images).to(device)
        self.sampling = BernoulliSampler(streams.derive_seed("sampling"), device)
        self.labels = torch.tensor(labels).long().to(device)
        conditions = classes if classes > 1 else 0
        generator, discriminator = networks.dcgan(
            plan.generator_width,
            plan.discriminator_width,
            images.shape[3],
            images.shape[1],
            plan.latent + conditions,
            1 + conditions,
            derive_seed("init", streams.seed),
        )
        self.begin(generator)
        self.discriminator = networks.channels_last(discriminator.to(device))
        if plan.mechanism.clips:
            self.noised = self._private_gradient()
        self.layers = dp_sgd.trainable_layers(self.discriminator)
        self.learns = {
            who: torch.optim.Adam(who.parameters(), lr=rate, betas=BETAS)
            for who, rate in (
                (self.generator, plan.generator_learning_rate),
                (self.discriminator, plan.discriminator_learning_rate),
            )
        }

    def _private_gradient(self) -> dp_sgd.PrivateGradient:
        """The discriminator's gradient on real images, clipped and noised as the plan says."""
        plan = self.plan
        return dp_sgd.PrivateGradient(
            self.discriminator,
            expected_batch=plan.batch_size,
            max_grad_norm=plan.mechanism.max_grad_norm,
            noise_multiplier=plan.mechanism.noise_multiplier,
            noise=GaussianNoise(plan.streams.derive_seed("noise"), self.device),
            loss=partial(logistic, sign=REAL),
        )

    def step(self) -> None:
        """Take the discriminator's steps, then one step of the generator."""
        for _ in range(self.plan.discriminator_steps):
            self.discriminate(*self.draw(), *self.make(self.plan.batch_size))
        self.train_generator()
        self.average()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A Poisson sample of real images (b, c, size, size) in [−1, 1], and their labels (b,)."""
        rows = dp_sgd.poisson_batch(
            len(self.images), self.plan.mechanism.sample_rate, self.sampling
        )
        return scaled(self.images[rows]), self.labels[rows]

    @torch.no_grad()
    def make(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Generate `count` new images with the current generator.

        Returns the images (count, c, size, size) in [−1, 1] and the labels that they are to show.
        """
        latent, labels = self.latent(count)
        return self.generator(latent), labels

    def discriminate(
        self,
        real: torch.Tensor,
        real_labels: torch.Tensor,
        made: torch.Tensor,
        made_labels: torch.Tensor,
    ) -> None:
        """Take one step of the discriminator."""
        if self.plan.mechanism.clips:
            self.noised(real, real_labels)
            for p, more in self._of_made(made, made_labels).items():
                assert p.grad is not None  # self.noised has just set it
                p.grad = p.grad + more / self.plan.batch_size
        else:
            self.discriminator.zero_grad()
            loss = (
                logistic(self.discriminator(real), real_labels, REAL).sum()
                + logistic(self.discriminator(made), made_labels, MADE).sum()
            )
            (loss / self.plan.batch_size).backward()
        self.learns[self.discriminator].step()

    def _of_made(
        self, made: torch.Tensor, labels: torch.Tensor
    ) -> dict[torch.nn.Parameter, torch.Tensor]:
        """Sum of the clipped gradients of the generated images.

        They are clipped like those of real images, which they would otherwise dominate. No noise is
        added, because they do not depend on any real image.
        """
        _, parts = dp_sgd.contributions_of(
            self.discriminator, self.layers, partial(logistic, sign=MADE), made, labels
        )
        norms = torch.stack([part.squared_norms() for part in parts.values()]).sum(0).sqrt()
        factors = dp_sgd.clip_factors(norms, self.plan.mechanism.max_grad_norm)
        return {
            p: total
            for layer, part in parts.items()
            for p, total in zip(layer.parameters(recurse=False), part.weighted_sum(factors))
        }

    def train_generator(self) -> None:
        """Take one step of the generator, towards images that the discriminator takes for real."""
        latent, labels = self.latent(self.plan.batch_size)
        loss = logistic(self.discriminator(self.generator(latent)), labels, REAL).mean()
        weights = list(self.generator.parameters())
        for p, grad in zip(weights, torch.autograd.grad(loss, weights)):
            p.grad = grad
        self.learns[self.generator].step()


def logistic(logits: torch.Tensor, labels: torch.Tensor, sign: float) -> torch.Tensor:
    """The discriminator's loss, softplus(sign · logit).

    (batch, 1 [+ classes]), (batch,) → (batch,). With sign −1 (real) it favours large logits, with
    sign 1 (generated) small ones. The logit is the first one plus, if there are more, that of the
    label.
    """
    logit = logits[:, 0]
    if logits.shape[1] > 1:
        logit = logit + logits[:, 1:].gather(1, labels[:, None])[:, 0]
    return F.softplus(sign * logit)
