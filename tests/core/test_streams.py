"""No two private runs share a protective draw: noise, batches, coins.

Shared, one release less another holds no noise.
"""

import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cache import Store
from engine.core import parameters
from engine.core.lab import Lab
from engine.core.streams import Streams, derive_seed
from engine.core.study import key
from engine.datasets import registry, source
from engine.learning import dp_sgd
from engine.privacy.noise import BernoulliSampler, GaussianNoise
from engine.studies import STUDIES
from engine.studies.clustering.iic import IIC
from engine.studies.clustering.kmeans_labels import KMeansLabels
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.gradient_sharing.federation import NOT_ASKED, Federation
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing
from engine.studies.local_noise import LocalNoise
from engine.studies.noise.noise import Noise
from engine.studies.noise.noisy_training import NoisyTraining
from engine.studies.synthesis.classifier import Classifier
from tests.conftest import furnish
from tests.studies.gradient_sharing.test_federation import clients, small_task

# Each at small private settings; those that only use another's release hold it, and run it.
PRIVATE = {
    "dp_training": {"epochs": 2, "noise_multiplier": 1.0},
    "audit": {"epochs": 2, "noise_multiplier": 1.0, "canaries": 50},
    "membership": {"epochs": 2, "noise_multiplier": 1.0, "shadows": 8},
    "classifier": {"private": True, "batch_size": 1000, "epochs": 1},
    "bn_synthesis": {"private": True, "batch_size": 1000, "epochs": 1, "seed": 1},
    "student": {"private": True, "batch_size": 1000, "epochs": 1, "seed": 2},
    "iic": {"images": "noised"},
    "gan": {},
    "dp_merf": {},
    "fidelity": {"source": "gan", "seed": 3},
    "gradient_sharing": {"noise_multiplier": 2.0},
    "inversion": {"leak_noise": 0.5},
}
NEVER = {"initial_model"}  # adds no noise


def small(name, **changes):
    study = STUDIES[name]
    return study.preset(
        "tiny" if "tiny" in study.PRESETS else "quick", **PRIVATE.get(name, {}) | changes
    )


def another(spec, value):
    """Some other value of a parameter."""
    if spec.kind == "choice":
        return next(choice for choice in spec.choices if choice != value)
    if spec.kind == "switch":
        return not value
    if spec.kind == "text":
        return None
    if value is None:
        return spec.low
    return value + 1 if spec.kind == "int" else 1.01 * value + 0.001


def variants(study):
    """The study with each of its fields changed in turn, still private; what cannot run is left
    out.
    """
    for name, spec in parameters.specs(type(study)).items():
        value = another(spec, study.values()[name])
        if value is None or name in ("private", "dataset"):
            continue
        try:
            other = study.replace(**{name: value})
            if key(other) == key(study):  # it has no effect, such as pixel noise under DP-SGD
                continue
        except (ValidationError, source.Missing):
            continue
        yield name, other


@pytest.mark.parametrize(
    "name", sorted(set(PRIVATE) - {"bn_synthesis", "student", "fidelity", "iic"})
)
def test_whatever_private_runs_differ_in_their_streams_differ(name):
    study = small(name)
    purposes = ("sampling", "noise", "noise on the mean", "statistics", "participation", "public")
    seeds = [study.derive_seed(purpose) for purpose in purposes]
    changed = dict(variants(study))
    assert len(changed) >= 8
    seeds += [other.derive_seed(purpose) for other in changed.values() for purpose in purposes]
    assert len(set(seeds)) == len(seeds)


def test_other_images_in_a_folder_of_the_same_name_are_other_streams(monkeypatch):
    study = small("dp_training")
    seeds = set()
    for found in ("one", "other"):
        monkeypatch.setattr(registry, "fingerprint", lambda name, found=found: found)
        seeds.add(study.derive_seed("noise"))
    assert len(seeds) == 2


# --- what really draws is named so ----------------------------------------------------------------


class Enough(Exception):
    """All has been seen."""


def seed_of(coins) -> int:
    """Of a torch generator, or of a sampler that knows its own."""
    return coins.initial_seed() if isinstance(coins, torch.Generator) else coins.seed


@pytest.fixture
def drawn(monkeypatch):
    """(seeds of the noise, the clients and the batches that a run draws, seeds that private
    studies have given out).
    """
    used, named, server = [], set(), Federation.__init__
    noise, batch, derived, released = (
        GaussianNoise.__init__,
        dp_sgd.poisson_batch,
        Streams.derive_seed,
        LocalNoise.release_seed,
    )

    def watched_noise(self, seed, *rest):
        used.append(seed)
        noise(self, seed, *rest)

    def watched_batch(n, rate, coins):
        used.append(coins.seed)
        if len(used) > 20:
            raise Enough
        return batch(n, rate, coins)

    def watched_name(self, purpose):
        seed = derived(self, purpose)
        if re.search("[0-9a-f]{64}", self.name):  # a study's key
            named.add(seed)
        return seed

    def watched_release(self, purpose):
        named.add(released(self, purpose))
        return released(self, purpose)

    def watched_server(self, *given):
        server(self, *given)
        used.append(seed_of(self.coins))

    monkeypatch.setattr(Federation, "__init__", watched_server)
    monkeypatch.setattr(GaussianNoise, "__init__", watched_noise)
    monkeypatch.setattr(dp_sgd, "poisson_batch", watched_batch)
    monkeypatch.setattr(Streams, "derive_seed", watched_name)
    monkeypatch.setattr(LocalNoise, "release_seed", watched_release)
    return used, named


def run_until_drawn(study, store, used, most=40):
    """Some events after the first protective draw."""
    after, run = 0, Lab(store).need(study)
    try:
        for _ in run:
            after += bool(used)
            if after > most:
                break
    except Enough:
        return
    finally:
        run.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory, common):
    """What the runs need without noise is there; they themselves are not, or would draw nothing."""
    needy = [small(name) for name in ("dp_training", "gan", "gradient_sharing")]
    return furnish(Store(tmp_path_factory.mktemp("streams") / "store"), common, *needy)


@pytest.mark.parametrize("name", [*PRIVATE, "noisy_training", "kmeans_labels"])
def test_all_protective_draws_come_from_streams_named_by_everything(name, store, drawn):
    used, named = drawn
    run_until_drawn(small(name), store, used)
    assert used and set(used) <= named


class Careless(DPTraining):
    """A planted error: streams by the seed alone."""

    NAME = "test_careless"

    def stream_name(self):
        return ""


def test_the_check_finds_streams_that_are_named_by_the_seed_alone(store, drawn):
    used, named = drawn
    run_until_drawn(Careless(epochs=2, noise_multiplier=1.0), store, used)
    assert used and not set(used) <= named


# --- who is asked ---------------------------------------------------------------------------------


def named_by_the_seed(purpose):
    """A planted error: a study's stream of this purpose is named by the seed alone."""

    class Careless(GradientSharing):
        NAME = "test_careless_phones"

        def streams(self):
            return CarelessStreams(self.seed, self.stream_name())

    class CarelessStreams(Streams):
        def derive_seed(self, asked):
            return derive_seed(asked, self.seed) if asked == purpose else super().derive_seed(asked)

    return Careless


def test_the_check_finds_coins_of_participants_that_are_named_by_the_seed_alone(store, drawn):
    used, named = drawn
    careless = named_by_the_seed("participation")
    run_until_drawn(careless.preset("tiny", noise_multiplier=2.0), store, used)
    wrong = set(used) - named
    assert wrong == {derive_seed("participation", careless().seed)}


def coins_of(study, monkeypatch, rounds=60):
    """(rounds · people,) who is asked, in the order in which the coins are tossed."""
    task, tossed, shift = small_task(), [], Federation._shift

    def watched(self, group, base, said):
        shift(self, group, base, said)
        tossed.extend(said[group] != NOT_ASKED)

    with monkeypatch.context() as watch:
        watch.setattr(Federation, "_shift", watched)
        server = Federation(study.plan(), clients(task, [[]] * 30), task.start)
        for _ in range(rounds):
            server.round()
    return np.array(tossed)


@pytest.mark.parametrize("kind", [GradientSharing, named_by_the_seed("participation")])
def test_two_federations_ask_by_other_coins(kind, monkeypatch):
    """Else who knows that he was asked in one knows it of the other, and sampling hides nobody."""
    asked = [
        coins_of(kind(client_sampling_rate=0.5, noise_multiplier=noise), monkeypatch)
        for noise in (2.0, 3.0)
    ]
    alike = np.mean(asked[0] == asked[1])
    assert (alike == 1) == (kind is not GradientSharing)
    assert (abs(alike - 0.5) < 0.05) == (kind is GradientSharing)


def test_every_study_is_in_this_test():
    local = {"noise", "noisy_training", "kmeans_labels", "iic"}
    assert set(STUDIES) == set(PRIVATE) | local | NEVER


# --- two private teachers, as a review found them -------------------------------------------------


def first_sum(kind, epsilon, images):
    """The noised sum of a teacher's first step, and its noise multiplier."""
    from engine.learning import networks, supervised

    study = kind(private=True, target_epsilon=epsilon, batch_size=200, epochs=1)
    mechanism = study.mechanism(len(images.train_images))
    network = networks.resnet("narrow", "plain group", 1, 28, 10, derive_seed("init", study.seed))
    fit = supervised.PrivateFit(
        network,
        torch.tensor(images.train_images),
        torch.tensor(images.train_labels),
        mechanism,
        learning_rate=study.learning_rate,
        streams=study.streams(),
    )
    next(fit.epoch())
    total = torch.cat([p.grad.flatten() for p in network.parameters()]).double()
    return (
        total * fit.gradient.expected_batch,
        mechanism.noise_std,
        network,
        fit,
    )


class CarelessTeacher(Classifier):
    """As it was: streams by the seed alone."""

    def stream_name(self):
        return ""


@pytest.mark.parametrize("kind", [Classifier, CarelessTeacher])
def test_two_private_teachers_do_not_give_the_clipped_sum_away(kind):
    images = registry.load("mnist-5k")
    (a, one, *_), (b, other, *_) = (first_sum(kind, epsilon, images) for epsilon in (1.0, 8.0))
    alleged = a - one * (a - b) / (one - other)  # exact where both hold the same draws
    length = float(alleged.norm())
    noise = one * other / (one - other) * (2 * len(a)) ** 0.5  # of independent draws, weighed so
    assert (length < 0.3 * noise) == (kind is CarelessTeacher)
    assert (length > 0.95 * noise) == (kind is Classifier)


# --- local noise ----------------------------------------------------------------------------------


def recovered(one, other, images, row=7):
    """An image from two releases of it, where both hold the same draw: largest error of a
    unit-length pixel.

    Only pixels that neither release has cut off at 0 tell anything.
    """
    (a, s), (b, t) = (
        (
            study.released(images.train_images[:20], "train")[row].astype(float),
            study.sigma(study.epsilon),
        )
        for study in (one, other)
    )
    both = (a > 0) & (b > 0)
    clean = one.clean(images.train_images[:20])[row]
    return np.abs((t * a - s * b) / (t - s) - clean)[both].max()


class CarelessNoise(KMeansLabels):
    """As it was: one draw for all strengths."""

    def release_seed(self, purpose):
        return derive_seed(purpose, self.seed)


@pytest.mark.parametrize("kind", [KMeansLabels, CarelessNoise])
def test_releases_at_two_budgets_do_not_give_the_image_away(kind):
    off = recovered(kind(epsilon=50.0), kind(epsilon=150.0), registry.load("mnist-5k"))
    assert (off < 1e-5) == (kind is CarelessNoise) and (off > 0.1) == (kind is KMeansLabels)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 51.0},
        {"delta": 1e-7},
        {"calibration": "textbook"},
        {"sensitivity": "report"},
        {"normalisation": "as_published"},
        {"seed": 1},
    ],
)
@pytest.mark.parametrize("kind", [KMeansLabels, IIC, NoisyTraining])
def test_another_release_is_another_draw(kind, change):
    base, images = kind(epsilon=50.0), registry.load("mnist-5k").train_images[:50]

    def draw(study):
        return (study.released(images, "train") - study.clean(images))[study.clean(images) > 0]

    one, other = draw(base), draw(base.model_copy(update=change))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


def test_studies_of_one_release_share_it_and_only_it():
    images = registry.load("mnist-5k").train_images[:20]
    clustered, learned = KMeansLabels(epsilon=50.0), NoisyTraining(epsilon=50.0, epochs=3)
    assert np.array_equal(clustered.released(images, "train"), learned.released(images, "train"))
    assert not np.array_equal(
        clustered.released(images, "train"), clustered.released(images, "test")
    )
    assert not np.array_equal(
        clustered.released(images, "train"), clustered.released(images, "train", 1)
    )


@pytest.mark.parametrize("normalisation", ["corrected", "as_published"])
def test_an_image_that_is_scaled_otherwise_has_another_draw(normalisation):
    """Where 700 share a length, 60 of them repeated are other releases; else they are the same
    ones.
    """
    study, images = (
        KMeansLabels(epsilon=150.0, normalisation=normalisation),
        registry.load("mnist-5k").train_images[:700],
    )
    repeated = np.resize(images[:60], images.shape)
    (a, b), (u, v) = (
        [of(found)[:60] for found in (images, repeated)]
        for of in (lambda found: study.released(found, "train"), study.clean)
    )
    assert np.array_equal(a, b) == np.array_equal(u, v) == (normalisation == "corrected")
    if normalisation == "as_published":
        seen = (a > 0) & (b > 0) & (u > 0)
        assert abs(np.corrcoef((a - u)[seen], (b - v)[seen])[0, 1]) < 0.1


def test_the_strengths_of_one_image_are_drawn_afresh():
    study, (image, label) = Noise(epsilon=150.0), Noise().pick(registry.load("mnist-5k"))
    other = study.model_copy(update={"epsilon": 50.0})
    a, b = (
        s.release(image, label, tuple("0123456789")).arrays["released"].astype(float)
        for s in (study, other)
    )
    s, t = study.sigma(150.0), other.sigma(50.0)
    unit = image / np.linalg.norm(image.astype(float))
    both = (a > 0) & (b > 0)
    assert np.abs((t * a - s * b) / (t - s) - unit)[both].max() > 0.1


def test_labels_told_at_two_budgets_toss_other_coins():
    labels = np.zeros(20_000, int)
    lied = [
        NoisyTraining(labels="randomised", label_epsilon=e).released_labels(labels, 10) != 0
        for e in (0.5, 0.6)
    ]
    shares = [lie.mean() for lie in lied]
    assert np.mean(lied[0] & lied[1]) == pytest.approx(shares[0] * shares[1], abs=0.01)


# Names whose seeds agree in the 32 bits that torch's generator keeps on a CPU: found by trying
# 200,000.
ALIKE = ("release 8372", "release 64095")


def test_coins_count_all_bits_of_their_seed():
    """Else two of 200,000 releases would draw the same batches, as they did."""
    seeds = [derive_seed(name, 0) for name in ALIKE]
    assert seeds[0] != seeds[1] and seeds[0] & 0xFFFFFFFF == seeds[1] & 0xFFFFFFFF
    first, second = (BernoulliSampler(seed).joins(0.5, 200) for seed in seeds)
    assert not torch.equal(first, second)
    first, second = (torch.rand(200, generator=torch.Generator().manual_seed(s)) for s in seeds)
    assert torch.equal(first, second)  # the planted error


def test_coins_do_not_depend_on_how_they_are_asked_for():
    whole, parts = BernoulliSampler(5).joins(0.3, 3, 40), BernoulliSampler(5)
    assert torch.equal(whole, torch.stack([parts.joins(0.3, 40) for _ in range(3)]))
