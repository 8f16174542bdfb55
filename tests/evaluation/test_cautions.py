"""A training that diverged says so, one on too few images too: every study, from one place."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from engine.__main__ import main
from engine.core.errors import Failed
from engine.core.lab import Lab
from engine.core.study import Refused
from engine.evaluation import cautions
from engine.learning import networks, supervised
from engine.learning.trainer import median_loss
from engine.studies import STUDIES
from engine.studies.image_study import fitted
from tests.conftest import finish, full_unless

LN10 = math.log(10)


# --- what diverged means --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1868.0, 4.7])
def test_no_number_and_far_above_guessing_is_diverged(loss):
    (said,) = cautions.divergence(loss, LN10)
    assert said.startswith("The training diverged: its loss")
    assert said.endswith("A smaller learning rate helps.")


@pytest.mark.parametrize("loss", [0.0, 2.3, 2.77, 4.6])
def test_around_guessing_is_none(loss):
    """2.77: DP-SGD at ε = 0.1 on 4,000 digits, which learned little and wandered."""
    assert cautions.divergence(loss, LN10) == []


def test_whoever_has_learned_has_not_diverged_however_sure_of_the_rest():
    """The linear model at rate 100: 968 of 1,000 right, and a loss of 14."""
    labels = np.arange(1000) % 10
    assert not cautions.diverged(14.2, LN10, cautions.beyond_guessing(0.968, labels))
    assert cautions.diverged(14.2, LN10, cautions.beyond_guessing(0.1, labels))
    mostly = np.where(np.arange(1000) < 950, 0, 1)  # always saying 0 is no knowledge
    assert cautions.diverged(14.2, math.log(2), cautions.beyond_guessing(0.95, mostly))
    assert cautions.diverged(14.2, LN10, math.nan)
    assert cautions.beyond_guessing(1.0, 0 * mostly) == 0


def test_an_initial_model_that_was_bad_is_not_the_clients_fault():
    assert not cautions.diverged(30.0, LN10, start=21.0)
    assert cautions.diverged(30.0, LN10, start=1.0)
    assert "began at 21.00" in cautions.divergence(60.0, LN10, start=21.0)[0]


def test_clusters_that_know_nothing():
    assert cautions.uninformed(-1.73, 10, 1.2) == []
    for loss in (0.0, -0.4 * LN10, math.nan):  # all in one, independent and equally full, no number
        assert "found nothing" in cautions.uninformed(loss, 10, 1.2)[0]
    assert cautions.uninformed(0.0, 1, 1.2) == []  # a single cluster is told otherwise


def test_a_generator_that_ends_further_away():
    assert cautions.further_away(250.0, 270.0) == [] and cautions.further_away(300.0, 270.0) == []
    for distance in (600.0, math.nan, math.inf):
        assert "further" not in cautions.further_away(distance, 270.0)[0]
        assert "diverged" in cautions.further_away(distance, 270.0)[0]


def test_the_loss_at_the_end_is_that_of_the_last_batches():
    losses = [torch.tensor(value) for value in (900.0, 2.0, 2.1, 2.2)]
    assert median_loss(losses) == pytest.approx(2.15)
    assert math.isnan(median_loss([*losses, torch.tensor(math.nan)]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_guessing_is_counted_by_what_is_taught(share):
    """A student of soft labels has another loss, and guessing has it too."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 16, 16, 1), generator=rng, dtype=torch.uint8)
    labels, logits = torch.arange(40) % 10, 5 * torch.randn(40, 10, generator=rng)
    network = networks.resnet("narrow", "group", 1, 16, 10, 0)
    recipe = supervised.Recipe(2, 20, 1e-4, soft_share=share, temperature=3.0)
    fit = supervised.Fit(network, recipe, images, labels, 0, logits if share else None)
    for _ in range(2):
        list(fit.epoch())
    assert fit.divergence() == []
    fit.latest.extend([torch.tensor(1e4)] * 10)
    assert fit.divergence("Rest.")[0].endswith("Rest.")


@pytest.mark.parametrize("epochs", range(1, 13))
def test_any_number_of_steps_can_be_taken(epochs):
    """At four steps in all the rate's rise had none, and its length was divided by."""
    images, labels = torch.zeros(6, 16, 16, 1, dtype=torch.uint8), torch.arange(6) % 2
    network = networks.resnet("narrow", "group", 1, 16, 2, 0)
    fit = supervised.Fit(network, supervised.Recipe(epochs, 6, 1e-3), images, labels, 0)
    for _ in range(epochs):
        assert list(fit.epoch()) == [1]


# --- every study says so --------------------------------------------------------------------------

DIGITS = {"dataset": "mnist-5k"}
RUNAWAY = [
    ("dp_training", {"network": "cnn", "batch_size": 250, "learning_rate": 100}),
    ("dp_training", {"network": "cnn", "batch_size": 250, "learning_rate": 100, "private": False}),
    (
        "audit",
        {"network": "cnn", "batch_size": 500, "learning_rate": 100, "epochs": 1, "canaries": 20},
    ),
    ("noisy_training", {"network": "deep", "learning_rate": 100}),
    ("classifier", {"learning_rate": 100, "private": True, "batch_size": 500}),
    ("bn_synthesis", {"learning_rate": 100, "private": True, "batch_size": 500}),
    ("student", {"student_learning_rate": 10}),
    ("student", {"student_learning_rate": 10, "source": "real", "images": 400}),
    ("initial_model", {"initial_learning_rate": 10}),
    ("gradient_sharing", {"learning_rate": 5, "fraction": 1}),
    ("gradient_sharing", {"learning_rate": 100, "arm": "centralised"}),
    ("gradient_sharing", {"learning_rate": 100, "arm": "alone"}),
    ("gradient_sharing", {"initial_learning_rate": 10}),
    (
        "inversion",
        {
            "initial_learning_rate": 10,
            "model": "initial",
            "company_share": 0.05,
            "attack_steps": 10,
        },
    ),
    ("iic", {"learning_rate": 1.0, "epochs": 2}),
]
NAMES = [f"{number} {study}" for number, (study, _) in enumerate(RUNAWAY)]
SLOW = {"audit", "bn_synthesis", "classifier", "inversion", "iic"}


@pytest.fixture(scope="module")
def store(common):
    """What several studies need is computed once."""
    return common


@pytest.mark.parametrize(
    ("name", "changes"), full_unless(lambda name, _: name not in SLOW, RUNAWAY), ids=NAMES
)
def test_a_training_that_ran_away_says_so_though_its_loss_is_a_number(name, changes, store):
    _, result = finish(Lab(store).need(STUDIES[name].preset("tiny", **changes)))
    said = [warning for warning in result.warnings if "The training diverged" in warning]
    assert said and "no longer a number" not in said[0], result.warnings
    assert math.isfinite(result.metrics.get("train_loss", 0.0))


@pytest.mark.parametrize("rate", [30, 100])
def test_a_teacher_whose_statistics_are_no_numbers_says_so_itself(rate, store):
    """Who made images of it was told that running_var in its weights is not finite."""
    study = STUDIES["classifier"].preset("tiny", learning_rate=rate)
    try:
        _, result = finish(Lab(store).need(study))
    except Failed as failed:
        assert "The teacher's training diverged" in str(failed)
        return
    assert any("The training diverged" in warning for warning in result.warnings)
    weights = [array for name, array in result.arrays.items() if name.startswith("weight:")]
    assert weights and all(np.isfinite(array).all() for array in weights)


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(set(STUDIES) - {"noise"}))
def test_an_ordinary_training_says_nothing_of_it(name, store):
    _, result = finish(Lab(store).need(STUDIES[name].preset("tiny")))
    assert not [warning for warning in result.warnings if "diverged" in warning]


# --- too few images -----------------------------------------------------------------------------

SAYS = [
    ((), "training", None),
    ((1,), "training", "1 training image is too few to learn much from."),
    ((50, 49), "training", "99 training images are too few to learn much from."),
    ((50, 45, 5), "training", None),
    ((60, 60, 0), "training", "Fewer than 5 training images show c: too few to say much of it."),
    ((90, 4, 6), "test", "Fewer than 5 test images show b: too few to say much of it."),
    ((90, 10, 0), "test", None),  # that is told by scores
    (
        (25, 0, 0),
        "test",
        (
            "25 test images are too few to say much: an accuracy over them is "
            "uncertain by 20 points."
        ),
    ),
]


@pytest.mark.parametrize(("sizes", "part", "wanted"), SAYS)
def test_what_too_few_means(sizes, part, wanted):
    labels = np.repeat(np.arange(len(sizes)), np.array(sizes, int))
    assert cautions.too_few(labels, ("a", "b", "c"), part) == ([wanted] if wanted else [])


def made(folder, sizes) -> None:
    """Folders of one's own with different images of two classes, each of one tone."""
    for name, counts in sizes.items():
        for label, count in enumerate(counts):
            inside = folder / "folders" / name / "ab"[label]
            inside.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([label, number])
                small = rng.integers(60 * label, 130 + 60 * label, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(small).resize((64, 64)).save(inside / f"{number}.png")


SIZES = {"two": (2, 2), "eight": (8, 8), "sixty": (60, 60), "scarce": (150, 5)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """VEIL_DATA with folders of few images."""
    place = tmp_path_factory.mktemp("few")
    made(place, SIZES)
    return place


@pytest.mark.parametrize("name", full_unless(lambda name: name == "scarce", SIZES))
@pytest.mark.parametrize("study", sorted(set(STUDIES) - {"noise"}))
def test_every_study_says_that_images_are_too_few(study, name, folders, store, monkeypatch):
    """In all, of a class, to learn from or to test with. Study noise measures a single image."""
    monkeypatch.setenv("VEIL_DATA", str(folders))
    kind = STUDIES[study]
    try:
        chosen, _ = fitted(kind.preset("tiny", dataset=f"folder:{name}"))
        _, result = finish(Lab(store).need(chosen))
    except (Refused, Failed) as refused:
        assert f"folder:{name}" in str(refused)
        return
    assert any("too few" in warning for warning in result.warnings), result.warnings


def test_the_command_line_says_it_of_two_images(folders, monkeypatch, capsys):
    monkeypatch.setenv("VEIL_DATA", str(folders))
    sets = ["--set", "dataset=folder:two", "--set", "straighten=false"]
    assert main(["run", "dp_training", "--preset", "tiny", "--json", *sets]) == 0
    told = json.loads(capsys.readouterr().out)["warnings"]
    assert "2 training images are too few to learn much from." in told
    assert any(warning.startswith("2 test images are too few") for warning in told)
