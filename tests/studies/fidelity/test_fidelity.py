"""Study fidelity: sets of which the answer is known, a generator that learns by heart, the report's
mistake, and sets that can hardly be compared.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.attacks import memorization
from engine.core.lab import Lab
from engine.core.study import Refused, key
from engine.datasets import registry, source
from engine.evaluation import metrics
from engine.studies.fidelity.fidelity import AGAIN, CONTROLS, UNSEEN_BELOW, Fidelity, wrapped
from engine.studies.fidelity.real_features import RealFeatures, permutation
from tests.conftest import finish, full_unless

SMALL = Fidelity(samples=300)


@pytest.fixture(scope="module")
def store(common):
    """The network that compares, and the real images' features, are computed once for all."""
    return common


def measured(store, source: str, base: Fidelity = SMALL, private: bool = True):
    return finish(Lab(store).need(base.of(source, private)))[1]


def suspicious(metrics_: dict) -> bool:
    from pages.fidelity import verdict

    return verdict.suspicious(metrics_)


# --- what is known --------------------------------------------------------------------------------


def test_copies_are_flagged_and_real_images_are_not(store):
    copies, noised, held, untrained = (
        measured(store, name).metrics for name in ("copies", "noised", "held-out", "untrained")
    )
    assert (
        copies["ratio_pixels"] == copies["ratio_features"] == 0
        and copies["copies_pixels"] == copies["copies_features"] == 1
    )
    assert (
        suspicious(copies)
        and suspicious(noised)
        and not suspicious(held)
        and not suspicious(untrained)
    )
    assert copies["again_pixels"] == 300 and held["again_pixels"] == untrained["again_pixels"] == 0
    assert held["ratio_pixels"] > 0.6


def test_real_images_are_nearest_then_noised_copies_then_what_an_untrained_generator_makes(store):
    held, noised, untrained = (
        measured(store, name).metrics for name in ("held-out", "noised", "untrained")
    )
    for metric in ("frechet_distance", "kernel_distance"):
        assert held[metric] < noised[metric] < 0.1 * untrained[metric]
    assert (
        held["precision"] > 0.7
        and held["recall"] > 0.7
        and untrained["precision"] == untrained["recall"] == 0
    )


@pytest.mark.full
def test_a_generator_that_has_seen_twenty_images_learns_them_by_heart(store):
    base = Fidelity(samples=300, examples=20, batch_size=20, steps=800)
    heart, copies = (
        measured(store, "gan", base, private=False).metrics,
        measured(store, "copies", base).metrics,
    )
    assert (
        heart["copies_pixels"] > 0.7 and heart["ratio_pixels"] < 0.5 and heart["again_pixels"] >= 3
    )
    assert (
        copies["copies_pixels"] == 1 and copies["again_pixels"] == 20 and copies["mifid_bai"] > 1e6
    )


@pytest.mark.parametrize(
    "examples", full_unless(lambda examples: examples == 20, [20, 300, 700, 4000])
)
def test_noise_is_no_copy_however_few_images_were_learned_from(store, examples):
    """It is equally far from all; real images are not, and with few training images those are
    further than the nearest of many held-out ones.
    """
    base = Fidelity(samples=300, examples=examples)
    untrained, held = (
        measured(store, "untrained", base).metrics,
        measured(store, "held-out", base).metrics,
    )
    assert untrained["copies_pixels"] <= 0.05 and untrained["copies_features"] <= 0.1
    assert held["copies_pixels"] < 0.2 and not suspicious(untrained)


def views(images: np.ndarray) -> torch.Tensor:
    rows = torch.tensor(SMALL.canvas(images)).flatten(1).float() / 255
    rows = rows - rows.mean(1, keepdim=True)
    return rows / rows.norm(dim=1, keepdim=True)


def again(queries: torch.Tensor, training: torch.Tensor, held: torch.Tensor) -> int:
    """Training images that come back, as the study counts them."""
    found = memorization.copies(queries, training, held)
    nearest = memorization.nearest(queries, training)[0].numpy()
    return len(
        np.unique(nearest[found.ratios < AGAIN * np.quantile(found.yardstick, UNSEEN_BELOW)])
    )


def test_unseen_real_images_do_not_come_back_even_of_one_class_and_a_handful_of_copies_does():
    """A set of ones alone looks more like copies than chance explains, and is none: that is why the
    verdict asks more.
    """
    images, draws, false = registry.load("mnist-5k"), np.random.default_rng(0), 0
    train, test = views(images.train_images), views(images.test_images)
    for _ in range(8):
        order = draws.permutation(1000)
        false += again(test[order[:500]], train, test[order[500:]]) > 0
    for label in range(10):
        mine = images.test_labels == label
        false += again(test[mine], train, test[~mine]) > 0
    assert false == 0
    noise = views(draws.integers(0, 256, (960, 28, 28, 1), dtype=np.uint8))
    # 4 in 100: a share would not tell
    assert again(torch.cat([noise, train[:40]]), train, test) == 40
    # a data set whose held-out part holds five of its training images
    baselines = torch.cat([test, train[100:105]])
    assert (
        again(torch.cat([noise, train[:40]]), train, baselines) == 40
        and again(test, train, baselines) == 0
    )


def test_few_copied_images_are_drawn_again_and_again(store):
    made = measured(store, "copies", Fidelity(samples=300, examples=20))
    assert made.metrics["images"] == 300 and made.facts["warnings"] == []


def test_every_metric_is_that_of_its_features(store):
    """From the study's own images and features, computed once more here."""
    study = SMALL.of("held-out")
    result, real = finish(Lab(store).need(study))[1], finish(Lab(store).need(study.real()))[1]
    extract = finish(study.feature_extractor(Lab(store)))[1]
    images = registry.load("mnist-5k")
    rows = np.random.default_rng(0).permutation(1000)[:300]
    features = extract(study.canvas(images.test_images[rows]))
    assert np.allclose(
        features, real.arrays["held"][np.argsort(real.arrays["held_order"])][rows], atol=1e-4
    )
    frechet = metrics.frechet_distance(
        metrics.moments(real.arrays["train"]), metrics.moments(features)
    )
    assert result.metrics["frechet_distance"] == pytest.approx(frechet, rel=1e-6)
    assert result.metrics["mifid_bai"] == pytest.approx(
        metrics.memorised(real.arrays["train"], features, frechet).bai, rel=1e-6
    )


def test_the_nearest_images_are_those_of_numpy(store):
    result = measured(store, "noised")
    study, images = SMALL.of("noised"), registry.load("mnist-5k")
    draws = np.random.default_rng(0)
    learned = permutation(4000)
    made = study.canvas(images.train_images[draws.choice(learned, 300, replace=False)])
    made = (made + draws.normal(0, 255 * 0.1, made.shape)).clip(0, 255).round().astype(np.uint8)

    def level(x):
        rows = x.reshape(len(x), -1) / 255
        rows = rows - rows.mean(1, keepdims=True)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    a, train, held = (
        level(made)[:20],
        level(study.canvas(images.train_images)),
        level(study.canvas(images.test_images)),
    )
    ratio = [
        np.linalg.norm(train - row, axis=1).min() / np.linalg.norm(held - row, axis=1).min()
        for row in a
    ]
    assert np.allclose(result.arrays["ratios_pixels"][:20], ratio, atol=1e-3)


def test_memorisation_is_looked_for_among_the_images_that_were_learned_from_alone(store):
    """A copy of a training image that this generator never saw is no copy of its own."""
    base = Fidelity(samples=300, examples=20)
    known, foreign = (
        measured(store, "copies", base).metrics,
        measured(store, "held-out", base).metrics,
    )
    assert known["searched_pixels"] == foreign["searched_features"] == known["learned"] == 20
    assert known["ratio_pixels"] == 0 and foreign["ratio_pixels"] > 0.5


# --- the report's mistake -------------------------------------------------------------------------


def test_the_mistake_is_the_one_that_torch_makes():
    pixels = np.arange(256, dtype=np.uint8)
    scaled = torch.tensor(pixels).float() / 127.5 - 1
    theirs = (scaled * 255).to(torch.int64).to(torch.uint8).numpy()
    # float32 falls short of a whole number here and there
    assert ((wrapped(pixels).astype(int) - theirs + 1) % 256 <= 2).all()
    # black wraps to nearly black again, dark grey to white
    assert (wrapped(pixels)[128:] > 0).all() and wrapped(np.array([0], np.uint8))[0] == 1


def test_the_mistake_changes_the_numbers(store):
    found = measured(store, "noised").metrics
    assert abs(found["published_frechet_distance"] / found["corrected_frechet_distance"] - 1) > 0.1


# --- sets that can hardly be compared -------------------------------------------------------------


def folder(images: dict[str, list[np.ndarray]]) -> str:
    """A folder of images by class in VEIL_DATA; its name as a source."""
    from engine.core import settings

    for name, found in images.items():
        place = settings.data_folder() / "folders" / "mine" / name
        place.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(found):
            Image.fromarray(image).save(place / f"{i:03d}.png")
    return "folder:mine"


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "own"))


def noise(count: int, shape: tuple, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


def test_images_of_ones_own_are_measured_whatever_their_size(own, store):
    source = folder({"a": noise(30, (40, 40, 3)), "b": noise(30, (40, 40, 3), 1)})
    result = measured(store, source)
    assert result.metrics["images"] == 60 and result.metrics["frechet_distance"] > 1
    assert any("only 60 of these images" in warning for warning in result.facts["warnings"])
    assert any("fewer than the 64 features" in warning for warning in result.facts["warnings"])


def test_another_folder_under_the_same_name_is_another_key(own):
    one = key(SMALL.of(folder({"a": noise(5, (32, 32)), "b": noise(5, (32, 32), 1)})))
    folder({"b": noise(6, (32, 32), 2)})
    assert key(SMALL.of("folder:mine")) != one


def test_constant_images_are_measured_and_named(own, store):
    flat = [np.full((32, 32), 90, np.uint8)] * 40
    result = measured(store, folder({"a": flat, "b": flat}))
    assert "All of these images are the same." in result.facts["warnings"]
    assert (
        np.isfinite([value for value in result.metrics.values()]).all()
        and result.metrics["recall"] == 0
    )


def test_colours_and_grey_are_not_compared(own, store):
    study = Fidelity(samples=300, colour="kept").of(
        folder({"a": noise(20, (32, 32, 3)), "b": noise(20, (32, 32, 3), 1)})
    )
    with pytest.raises(Refused, match="compare them in grey") as refused:
        finish(study.run(Lab(store)))
    assert refused.value.field == "colour"


def test_too_few_held_out_images_are_no_yardstick(own):
    study = Fidelity(dataset=folder({"a": noise(12, (32, 32)), "b": noise(12, (32, 32), 1)}))
    with pytest.raises(Refused, match="no yardstick"):
        study.check(registry.preview(study.dataset))


def test_a_folder_that_is_not_there_is_told(own):
    with pytest.raises(source.Missing, match="folder:nowhere"):
        key(SMALL.of("folder:nowhere"))


@pytest.mark.parametrize("source", ["folder:../etc", "photos", "", "folder:a b"])
def test_sources_that_there_cannot_be_are_refused(source):
    with pytest.raises(Refused, match="source: "):
        Fidelity.preset("quick", source=source)


# --- composition ----------------------------------------------------------------------------------


def test_controls_are_measured_once_whatever_the_generators_are():
    one, other = Fidelity(), Fidelity(steps=99, target_epsilon=2.0, frequencies=7)
    for name in CONTROLS:
        assert key(one.of(name)) == key(other.of(name))
    # the one without privacy takes more steps
    with pytest.raises(Refused, match="1,200,000 in all"):
        Fidelity(discriminator_steps=1000).check(registry.preview("mnist-5k"))
    assert key(one.of("gan")) != key(other.of("gan")) and key(one.of("gan", False)) == key(
        Fidelity(target_epsilon=2.0, frequencies=7).of("gan", False)
    )
    assert key(one.of("copies")) != key(Fidelity(examples=50).of("copies"))


def test_the_extractor_changes_the_measuring_and_not_the_training():
    one, other = Fidelity(), Fidelity(extractor="efficientnet_lite0")
    assert one.generators() == other.generators() and key(one.of("gan")) != key(other.of("gan"))


def test_a_generated_set_keeps_its_generators_promise(store):
    result = finish(Lab(store).need(Fidelity.preset("tiny").of("gan")))[1]
    assert (
        result.guarantee.epsilon == pytest.approx(10.0, rel=0.03)
        and "would not be published" in result.guarantee.also_released
    )
    assert measured(store, "copies").guarantee.epsilon is None


@pytest.mark.full
def test_other_extractors_compare_as_well(store):
    base = Fidelity(samples=100, extractor="efficientnet_lite0", dataset="mnist-5k")
    real = finish(Lab(store).need(base.real()))[1]
    assert real.arrays["train"].shape == (4000, 1280) and isinstance(base.real(), RealFeatures)
    held, untrained = (measured(store, name, base) for name in ("held-out", "untrained"))
    assert held.metrics["frechet_distance"] < 0.3 * untrained.metrics["frechet_distance"]
    assert "fewer than the 1,280 features" in held.facts["warnings"][0]
