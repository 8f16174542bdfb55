"""The DCGAN: its shapes, what one real image can do to a discriminator's step, the noise, and
that the generator never meets a real image.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.core.streams import Streams
from engine.learning import networks
from engine.privacy.mechanism import Mechanism
from engine.studies.fidelity.dcgan import MADE, REAL, GANTrainer, logistic
from engine.studies.fidelity.gan import AdversarialPlan

CPU = torch.device("cpu")
CLASSES = 3


def of(batch):
    return torch.arange(len(batch)) % CLASSES  # the labels of a batch in the tests


def adversaries(images=None, private=True, max_grad_norm=0.5, sigma=0.0, seed=0):
    """Two small networks over random images, before their first step."""
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 1), dtype=np.uint8)
    clip = max_grad_norm if private else math.inf
    plan = AdversarialPlan(
        mechanism=Mechanism(sigma, clip, 10 / len(images), 100),
        streams=Streams(seed),
        generator_width=8,
        discriminator_width=8,
        batch_size=10,
        steps=50,
        discriminator_steps=2,
        generator_learning_rate=1e-3,
        discriminator_learning_rate=1e-3,
        latent=16,
        averaging=0.9,
    )
    return GANTrainer(plan, images, np.arange(len(images)) % CLASSES, CLASSES, CPU)


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (64, 3)])
def test_shapes_and_range(size, channels):
    generator, discriminator = networks.dcgan(8, 4, channels, size, 16, 3, seed=1)
    made = generator(torch.randn(5, 16))
    assert (
        made.shape == (5, channels, size, size)
        and float(made.detach().abs().max()) <= 1
        and discriminator(made).shape == (5, 3)
    )
    again, _ = networks.dcgan(8, 4, channels, size, 16, 3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(generator.parameters(), again.parameters()))
    with pytest.raises(ValueError, match="32 or 64 pixels"):
        networks.dcgan(8, 4, 1, 28, 16, 3, seed=1)


def released(game: GANTrainer, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """What a step publishes: the discriminator's gradient, over all parameters, as a sum."""
    before = [p.detach().clone() for p in game.discriminator.parameters()]
    game.learns[game.discriminator] = SimpleNamespace(step=lambda: None)
    game.discriminate(real, of(real), made, of(made))
    assert all(torch.equal(a, b) for a, b in zip(before, game.discriminator.parameters()))
    return (
        torch.cat([p.grad.flatten() for p in game.discriminator.parameters()]).double()
        * game.plan.batch_size
    )


def images(count: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * (
        2 * torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1
    )


@pytest.mark.parametrize(
    "made",
    [images(10, 5), images(10, 5, 1e4), torch.zeros(10, 1, 32, 32)],
    ids=["ordinary", "enormous", "black"],
)
def test_one_real_image_moves_a_step_by_at_most_the_clip_norm_whatever_is_generated(made):
    """Add, remove: C. Replace: 2 C. Odd real images too, and one that is no number moves
    nothing.
    """
    game = adversaries()
    with torch.no_grad():
        # far from its small beginning: gradients are longer than the clip norm
        for p in game.discriminator.parameters():
            p.mul_(30)
    base, clip = images(9, 1), game.plan.mechanism.max_grad_norm
    without, most = released(game, base, made), 0.0
    for odd in (images(1, 2), images(1, 3, 1e4), torch.full((1, 1, 32, 32), 1e-4)):
        one = released(game, torch.cat([base, odd]), made)
        assert float((one - without).norm()) <= clip * (1 + 1e-4)
        other = released(game, torch.cat([base, -odd]), made)
        assert float((one - other).norm()) <= 2 * clip * (1 + 1e-4)
        most = max(most, float((one - without).norm()))
    assert most > 0.9 * clip  # the bound is met: without clipping it would be far exceeded
    lost = released(game, torch.cat([base, torch.full((1, 1, 32, 32), float("nan"))]), made)
    assert float((lost - without).norm()) < 1e-4


def test_without_clipping_the_same_test_fails():
    game = adversaries(max_grad_norm=1e9)
    with torch.no_grad():
        for p in game.discriminator.parameters():
            p.mul_(30)
    base, made = images(9, 1), images(10, 5)
    assert (
        float(
            (
                released(game, torch.cat([base, images(1, 3, 1e4)]), made)
                - released(game, base, made)
            ).norm()
        )
        > 10 * 0.5
    )


def test_the_sum_is_that_of_every_clipped_gradient():
    game, real, made = adversaries(max_grad_norm=0.02), images(7, 1), images(10, 2)
    total = torch.zeros(
        sum(p.numel() for p in game.discriminator.parameters()), dtype=torch.float64
    )
    for batch, sign in ((real, REAL), (made, MADE)):
        for image, label in zip(batch, of(batch)):
            grads = torch.autograd.grad(
                F.softplus(sign * game.discriminator(image[None])[0, [0, 1 + label]].sum()),
                list(game.discriminator.parameters()),
            )
            one = torch.cat([g.flatten() for g in grads]).double()
            total += one * min(1.0, 0.02 / float(one.norm()))
    found = released(game, real, made)
    assert float((found - total).norm() / total.norm()) < 1e-4
    assert float((released(game, real[:6], made) - total).norm() / total.norm()) > 1e-2


def test_without_privacy_it_is_the_plain_gradient():
    game, real, made = adversaries(private=False), images(10, 1), images(10, 2)
    loss = (
        logistic(game.discriminator(real), of(real), REAL).sum()
        + logistic(game.discriminator(made), of(made), MADE).sum()
    )
    plain = torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, list(game.discriminator.parameters()))]
    ).double()
    assert float((released(game, real, made) - plain).norm() / plain.norm()) < 1e-5


def test_noise_is_on_the_real_images_part_alone_and_as_large_as_charged():
    game = adversaries(sigma=3.0)
    quiet, made = adversaries(), images(10, 2)
    noise = torch.cat(
        [
            released(game, images(5, i), made) - released(quiet, images(5, i), made)
            for i in range(20)
        ]
    )
    assert float(noise.std()) == pytest.approx(3.0 * 0.5, rel=0.02)
    empty = released(game, images(0, 1), made) - released(quiet, images(0, 1), made)
    # nobody was drawn: noised like any other
    assert float(empty.std()) == pytest.approx(3.0 * 0.5, rel=0.05)
    assert float((noise * 0.9).std()) != pytest.approx(3.0 * 0.5, rel=0.02)


def test_the_generator_never_meets_a_real_image():
    """Other real images, the same discriminator: the same generator after its step, and the same
    new images.
    """
    one, other = adversaries(), adversaries(np.zeros((60, 32, 32, 1), np.uint8))
    for game in (one, other):
        game.train_generator()
    assert all(
        torch.equal(a, b) for a, b in zip(one.generator.parameters(), other.generator.parameters())
    )
    assert torch.equal(one.make(3)[0], other.make(3)[0])
    assert not any(p.grad is not None for p in one.discriminator.parameters())
    for game in (one, other):
        game.step()
    assert not all(
        torch.equal(a, b) for a, b in zip(one.generator.parameters(), other.generator.parameters())
    )


def test_batches_are_poisson():
    game = adversaries()
    sizes = [len(game.draw()[0]) for _ in range(400)]
    assert np.mean(sizes) == pytest.approx(10, abs=0.6) and np.var(sizes) == pytest.approx(
        60 * (1 / 6) * (5 / 6), rel=0.25
    )
