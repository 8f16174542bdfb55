"""Studies gan, dp_merf and side_by_side: what ε they earn, what is refused, what they keep, and
that they learn.
"""

import math

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from pydantic import ValidationError

from engine import privacy
from engine.core.errors import Failed
from engine.core.lab import Lab
from engine.core.streams import derive_seed
from engine.core.study import Image, Point, Refused, key
from engine.datasets import registry
from engine.studies.ensemble import Ensemble, composed
from engine.studies.fidelity.dp_merf import DPMERF
from engine.studies.fidelity.drawing import GeneratorRun
from engine.studies.fidelity.fidelity import Fidelity
from engine.studies.fidelity.gan import GAN, USUAL
from tests.conftest import finish, full_unless

TINY, TINY_MERF = GAN.preset("tiny"), DPMERF.preset("tiny")


@pytest.fixture(scope="module")
def store(common):
    """The network that compares, and the real images' features, are computed once for all."""
    return common


# --- what is promised -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    full_unless(
        lambda changes: changes == {} or "delta" in changes,
        [
            {},
            {"target_epsilon": 1.0},
            {"examples": 50},
            {"batch_size": 64, "steps": 300, "discriminator_steps": 3, "delta": 1e-6},
        ],
    ),
)
def test_the_gans_epsilon_is_what_dp_accounting_says_of_its_plan(changes):
    study = GAN(**changes)
    plan = study.plan(study.examples or 4000)
    promise = study.guarantee(plan.mechanism)
    steps = plan.steps * plan.discriminator_steps
    event = dp_event.SelfComposedDpEvent(
        dp_event.PoissonSampledDpEvent(
            plan.mechanism.sample_rate, dp_event.GaussianDpEvent(plan.mechanism.noise_multiplier)
        ),
        steps,
    )
    exact = PLDAccountant().compose(event).get_epsilon(study.delta)
    assert exact <= promise.epsilon * (1 + 1e-4) and promise.epsilon <= 1.01 * exact
    assert promise.epsilon <= study.target_epsilon and promise.epsilon > 0.97 * study.target_epsilon
    assert promise.steps == steps and promise.sample_rate == plan.mechanism.sample_rate


def test_charging_the_generators_steps_alone_would_be_far_too_little():
    study = GAN()
    plan = study.plan(4000)
    cheated = privacy.dp_sgd_epsilon(
        plan.mechanism.noise_multiplier, plan.mechanism.sample_rate, plan.steps, study.delta
    ).epsilon
    assert cheated < 0.6 * study.guarantee(plan.mechanism).epsilon


def test_dp_merfs_epsilon_is_that_of_one_gaussian_release():
    promise = DPMERF(target_epsilon=3.0).guarantee()
    event = dp_event.GaussianDpEvent(DPMERF(target_epsilon=3.0).noise_multiplier())
    assert PLDAccountant().compose(event).get_epsilon(1e-5) == pytest.approx(
        promise.epsilon, rel=1e-3
    ) and promise.epsilon == pytest.approx(3.0, rel=1e-4)


def test_two_private_generators_together_spend_more_than_each_and_less_than_the_sum(store):
    members = (TINY.gan(private=False), TINY, TINY_MERF)
    results = [finish(Lab(store).need(member))[1] for member in members]
    both = composed(members, results)
    assert (
        max(results[1].guarantee.epsilon, results[2].guarantee.epsilon)
        < both.epsilon
        < results[1].guarantee.epsilon + results[2].guarantee.epsilon
    )
    sigma, rate, steps = (
        results[1].metrics["noise_multiplier"],
        results[1].guarantee.sample_rate,
        results[1].guarantee.steps,
    )
    gan = dp_event.SelfComposedDpEvent(
        dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma)), steps
    )
    exact = (
        PLDAccountant()
        .compose(gan)
        .compose(dp_event.GaussianDpEvent(results[2].metrics["noise_multiplier"]))
        .get_epsilon(1e-5)
    )
    assert exact <= both.epsilon * (1 + 1e-4) and both.epsilon <= 1.02 * exact
    assert composed(members[:1], results[:1]).epsilon is None
    assert composed(members[:2], results[:2]) == results[1].guarantee


def test_without_privacy_nothing_is_promised():
    for promise in (
        GAN(private=False).guarantee(GAN(private=False).mechanism(4000)),
        DPMERF(private=False).guarantee(),
    ):
        assert (
            promise.epsilon is None
            and promise.mechanism.startswith("none")
            and "Nothing is promised" in promise.note
        )


def test_no_two_private_trainings_share_their_draws():
    one, other = GAN(), GAN(target_epsilon=9.0)
    assert one.derive_seed("noise") != other.derive_seed("noise") != DPMERF().derive_seed("noise")
    assert one.derive_seed("noise") != one.derive_seed("sampling") and GAN(
        private=False
    ).derive_seed("noise") == derive_seed("noise", 0)


# --- settings -------------------------------------------------------------------------------------


def test_what_is_left_empty_is_the_usual_with_privacy_or_without():
    for private in (True, False):
        plan = GAN(private=private).plan(4000)
        assert all(getattr(plan, name) == value for name, value in USUAL[private].items())
    assert GAN(steps=7).plan(4000).steps == 7
    few = GAN(examples=50).plan(50)
    assert few.batch_size == 50 and few.mechanism.sample_rate == 1.0


def test_the_reports_settings_are_its_own():
    report = GAN.preset("report")
    assert (
        report.dataset,
        report.side,
        report.colour,
        report.target_epsilon,
        report.delta,
        report.max_grad_norm,
    ) == ("celeba", 64, "grey", 5.0, 1e-6, 1.0)
    names = (
        "generator_width",
        "discriminator_width",
        "batch_size",
        "generator_learning_rate",
        "discriminator_steps",
    )
    assert tuple(report.usual(name) for name in names) == (32, 32, 128, 5e-5, 1)
    assert report.mechanism(182_637).steps == math.ceil(5 * 182_637 / 128)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"examples": 5000}, "examples", "has 4000 training images"),
        ({"batch_size": 4001}, "batch_size", "learns from 4000 images"),
        ({"examples": 20, "batch_size": 30}, "batch_size", "learns from 20 images"),
        ({"steps": 100_000, "discriminator_steps": 100}, "steps", "10,000,000 in all"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changes, field, words):
    with pytest.raises(Refused, match=words) as refused:
        GAN(**changes).check(registry.preview("mnist-5k"))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "48"),
        ("colour", "sepia"),
        ("latent", 0),
        ("target_epsilon", 0.0),
        ("samples", 10),
        ("examples", 1),
        ("extractor", "vgg"),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(Refused, match=f"{name}: "):
        GAN.preset("tiny", **{name: str(value)})


def test_a_budget_that_cannot_be_reached_is_refused_in_words():
    with pytest.raises(Refused, match="target_epsilon: 0.1 cannot be reached"):
        GAN(
            target_epsilon=0.1, delta=1e-12, batch_size=4000, steps=10_000, discriminator_steps=100
        ).plan(4000)


# --- running --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "study", [TINY, TINY.gan(private=False), TINY_MERF], ids=["private", "not private", "dp_merf"]
)
def test_a_run_shows_its_images_measures_itself_and_keeps_what_it_made(study, store):
    events, result = finish(study.run(Lab(store)))
    shown, points = (
        [e for e in events if isinstance(e, Image)],
        {e.curve for e in events if isinstance(e, Point)},
    )
    # the three steps and the beginning
    assert len(shown) == len([name for name in result.images if name.startswith("film_")]) == 4
    assert points == {"frechet_distance"} | ({"epsilon"} if study.private else set())
    assert (
        result.arrays["images"].shape == (40, 32, 32, 1)
        and result.arrays["images"].dtype == np.uint8
    )
    assert result.curves["frechet_distance"][0] == (
        0.0,
        result.metrics["untrained_frechet_distance"],
    )
    if study.private and study.NAME == "gan":  # while it runs an upper bound, at the end exact
        assert result.curves["epsilon"][-1][1] >= result.guarantee.epsilon > 0


def test_a_training_that_runs_away_ends_with_a_reason(store):
    """Bounded images and Adam keep weights finite whatever the rates; so the error is planted."""
    real = finish(Lab(store).need(TINY.real()))[1]
    images, plan = registry.load("mnist-5k"), TINY.plan(4000)
    trainer, extract = (
        TINY._adversaries(images, plan, torch.device("cpu")),
        finish(TINY.feature_extractor(Lab(store)))[1],
    )
    with torch.no_grad():
        next(trainer.generator.parameters()).fill_(float("nan"))
    with pytest.raises(Failed, match="diverged.*smaller learning rates"):
        finish(GeneratorRun(TINY, trainer, 3, real, extract).all_steps(None))


def test_every_width_that_is_allowed_works(store):
    result = finish(TINY.gan(generator_width=5, discriminator_width=7, steps=1).run(Lab(store)))[1]
    assert result.arrays["images"].shape == (40, 32, 32, 1)


@pytest.mark.full
def test_without_privacy_the_gan_learns_digits_in_a_few_steps(store):
    _, result = finish(Lab(store).need(GAN(private=False, steps=250, samples=400)))
    # 0.07 to 0.37 of it over five seeds
    assert result.metrics["frechet_distance"] < 0.6 * result.metrics["untrained_frechet_distance"]


@pytest.mark.full
def test_dp_merf_learns_digits_under_privacy(store):
    _, result = finish(Lab(store).need(DPMERF(merf_steps=150, samples=400)))
    assert (
        result.metrics["frechet_distance"] < 0.3 * result.metrics["untrained_frechet_distance"]
        and result.guarantee.epsilon <= 10.0
    )
    assert result.metrics["signal_and_noise_over_noise"] > 3


def test_side_by_side_stores_each_as_if_it_had_run_alone(store):
    members = (TINY.gan(private=False), TINY_MERF)
    events, result = finish(Lab(store).need(Ensemble(members=members)))
    assert result.guarantee == finish(Lab(store).need(TINY_MERF))[1].guarantee
    for member in members:
        stored = store.get(key(member))
        alone = finish(member.run(Lab(store)))[1]
        # a generator grows on one core, whoever asks
        assert np.array_equal(stored[1]["array:images"], alone.arrays["images"])
    with pytest.raises(ValidationError, match="at least one must be"):
        Ensemble(members=())


def test_members_tell_whose_image_it_is(store):
    members = (TINY_MERF.dp_merf(seed=5), TINY.gan(private=False, seed=5))
    events, _ = finish(Ensemble(members=members).run(Lab(store)))
    assert {e.name for e in events if isinstance(e, Image)} == {"0:gallery", "1:gallery"}
    assert {"0:frechet_distance", "1:frechet_distance", "0:epsilon"} == {
        e.curve for e in events if isinstance(e, Point)
    }


def test_the_pages_members_are_those_that_are_measured():
    study = Fidelity()
    for words, member in study.generators().items():
        assert study.table()[words].needs()[0] == member
