"""Every study on folders of a few images: it runs, or refuses in words, and nothing else;
defaults fit the folder, and what is typed is refused.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import Store
from engine.core.errors import Failed
from engine.core.lab import Lab
from engine.core.study import Refused
from engine.datasets import registry, source
from engine.studies import STUDIES
from engine.studies.clustering.iic import IIC
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.dp_training.membership import LEAST, Membership
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing
from engine.studies.image_study import fitted
from engine.studies.noise.noise import Noise
from tests.conftest import ROOT, finish, full_unless


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that holds VEIL_DATA for this module."""
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def store(folder):
    """One store for this module: what several studies need is computed once."""
    return Store(folder / "store")


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    """The small folders are VEIL_DATA."""
    monkeypatch.setenv("VEIL_DATA", str(folder))


def make(folder: Path, name: str, **classes: int) -> str:
    """A folder of one's own with so many different images of each class (train__a is train/a);
    its name as a data set.
    """
    place = folder / "folders" / name
    for number, (label, count) in enumerate(sorted(classes.items())):
        for i in range(count):
            path = place / label.replace("__", "/") / f"{i}.png"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                small = np.random.default_rng([number, i]).integers(
                    0, 256, (8, 8, 3), dtype=np.uint8
                )
                Image.fromarray(small).resize((64, 64)).save(path)
    return f"folder:{name}"


SMALL = {
    "one": {"a": 1, "b": 1},
    "two": {"a": 2, "b": 2},
    "three": {"a": 3, "b": 3},
    "eight": {"a": 8, "b": 8},
    "single": {"a": 9},
    "uneven": {"a": 30, "b": 1, "c": 2},
    "given": {"train__a": 1, "train__b": 1, "test__a": 22, "test__b": 22},
}


@pytest.mark.parametrize("name", full_unless(lambda name: name in ("one", "eight", "given"), SMALL))
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_runs_or_refuses_in_words(study, name, folder, store):
    dataset = make(folder, name, **SMALL[name])
    try:
        chosen, _ = fitted(
            study.preset("tiny" if "tiny" in study.PRESETS else "quick", dataset=dataset)
        )
        _, result = finish(Lab(store).need(chosen))
    except (Refused, Failed, source.Missing) as refused:
        assert dataset in str(refused) and len(str(refused)) > 40
        assert name in ("one", "single") or not isinstance(refused, source.Missing)
        return
    assert (
        name not in ("one", "single")
        and result.metrics
        and not any(np.isnan(value) for value in result.metrics.values())
    )


def test_no_attack_on_fewer_images_than_it_can_tell_apart(folder, store):
    """Thirty images: at one seed of forty some shadow had seen all of them or none, and a curve
    was drawn of nothing.
    """
    small = make(folder, "thirty", a=15, b=15)
    for seed in range(40):
        study, _ = fitted(Membership.preset("tiny", dataset=small, seed=seed))
        with pytest.raises(Refused, match=f"an attack needs {LEAST}"):
            finish(study.run(Lab(store)))
    enough = make(folder, "enough", a=50, b=50)
    for seed in range(3):
        study, _ = fitted(Membership.preset("tiny", dataset=enough, seed=seed))
        _, result = finish(Lab(store).need(study))
        assert all(np.isfinite(value) for value in result.metrics.values())


@pytest.mark.parametrize(
    "study",
    [
        study
        for study in STUDIES.values()
        if "batch_size" in study.model_fields and study is not GradientSharing
    ],
    ids=lambda study: study.NAME,
)
def test_the_default_batch_fits_the_folder_and_a_typed_one_stays(study, folder):
    dataset = make(folder, "eight", **SMALL["eight"])
    chosen = study.preset("quick", dataset=dataset)
    fits, said = fitted(chosen)
    assert fits.batch_size is None or fits.batch_size <= 14
    if chosen.batch_size and chosen.batch_size > 14:
        assert fits.batch_size == 14 and any(
            sentence.startswith(
                f"batch_size: {chosen.batch_size}, the usual value, does not fit {dataset}; 14"
            )
            for sentence in said
        )
    kept, _ = fitted(chosen, given=("batch_size",))
    assert kept.batch_size == chosen.batch_size
    whole, said = fitted(study.preset("quick"))
    assert whole == study.preset("quick") and not said  # on the digits nothing is replaced


def test_an_initial_model_and_one_client_share_two_images(folder):
    """One image is the company's, and twenty clients were asked for: one is taken."""
    dataset = make(folder, "two", **SMALL["two"])
    clients, said = fitted(GradientSharing(dataset=dataset))
    clients.check(registry.preview(dataset))
    assert clients.clients == 1 and any(
        "clients: 20, the usual value, does not fit folder:two; 1 is taken" in sentence
        for sentence in said
    )


def test_other_defaults_that_count_images_fit_too(folder):
    dataset = make(folder, "eight", **SMALL["eight"])
    clients, _ = fitted(GradientSharing(dataset=dataset))
    clients.check(registry.preview(dataset))
    assert clients.clients == 13 and clients.company_share * 14 >= 1
    noise, _ = fitted(Noise(dataset=dataset))
    assert noise.pick(registry.preview(dataset))[1] == 1
    assert fitted(IIC(dataset=dataset))[0].batch_size == 14


def engine(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
    )


def test_the_command_line_fits_defaults_and_refuses_what_is_typed(folder):
    dataset = make(folder, "eight", **SMALL["eight"])
    found = engine("run", "dp_training", "--preset", "tiny", "--set", f"dataset={dataset}")
    assert (
        found.returncode == 0
        and "batch_size: 1000, the usual value, does not fit folder:eight; 14 is taken."
        in found.stderr
    )
    wrong = engine(
        "run",
        "dp_training",
        "--preset",
        "tiny",
        "--set",
        f"dataset={dataset}",
        "--set",
        "batch_size=1000",
    )
    assert (
        wrong.returncode == 2
        and wrong.stderr.strip()
        == "batch_size: 1000 is not allowed; folder:eight has 14 training images"
    )


@pytest.mark.full
def test_a_page_fits_defaults_and_refuses_what_is_typed(folder):
    from pages.common import live
    from tests.drawing import drawn

    make(folder, "eight", **SMALL["eight"])
    try:
        for page in ("dp_training", "clustering", "noise"):
            test = drawn(page, dataset="folder:eight")
            said = " ".join(each.value for each in test.info).replace("\\", "")
            assert (
                not test.exception
                and not test.error
                and "Batch size: " in said
                and "does not fit folder:eight; 14 is taken." in said
            ), page
        for page, taken in (
            (
                "gradient_sharing",
                "Clients: 20, the usual value, does not fit folder:eight; 13 is taken.",
            ),
            ("noise", ""),
        ):
            test = drawn(page, dataset="folder:eight")
            said = " ".join(each.value for each in (*test.info, *test.warning)).replace("\\", "")
            assert (
                not test.exception
                and not test.error
                and taken in said
                and "not allowed" not in said
            )
            assert (
                "Class: 3, the usual value, does not fit; these images have the classes 0 to 1."
                " Using 1 instead." in said
            )
        test = drawn("dp_training", dataset="folder:eight", batch_size=33)
        assert "33 is not allowed; folder:eight has 14 training images" in " ".join(
            each.value for each in test.warning
        ).replace("\\", "")
    finally:
        live.services().runner.close()
        live.services.cache_clear()


@pytest.mark.full
def test_a_training_on_few_images_is_drawn_without_the_attack_that_it_is_too_small_for(
    folder, store, home
):
    from engine.core.lab import open_store
    from pages.common import live
    from tests.drawing import drawn

    dataset = make(folder, "eight", **SMALL["eight"])
    study, _ = fitted(DPTraining(dataset=dataset))
    for each in (study, study.baseline()):
        finish(Lab(open_store()).need(each))
    try:
        test = drawn("dp_training", dataset=dataset, shown="one")
        assert not test.exception and not test.error
        assert "The attack cannot run: Data set: folder:eight is not allowed" in " ".join(
            each.value for each in test.info
        ).replace("\\", "")
    finally:
        live.services().runner.close()
        live.services.cache_clear()
