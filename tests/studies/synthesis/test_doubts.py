"""Where a control of which the answer is known does not come out, no verdict is given, and it is
said why.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from cache import Store
from engine.core.lab import Lab
from engine.datasets import registry
from engine.studies.fidelity.fidelity import Fidelity
from engine.studies.fidelity.fidelity import doubt as fidelity_doubt
from engine.studies.synthesis.bn_synthesis import BNSynthesis, doubt
from pages.fidelity import verdict
from tests.conftest import finish

GENERATORS = ("GAN without privacy", "private GAN", "private DP-MERF")


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def twice(tmp_path, monkeypatch):
    """The data set `mnist` with 600 digits to learn from, and as test digits the first 150 of
    these. (Folders keep copies on one side; published sets are taken as they are.)
    """
    digits = registry.load("mnist-5k")
    images, labels = digits.train_images[:600, ..., 0], digits.train_labels[:600]
    arrays = (images, labels, images[:150], labels[:150])
    monkeypatch.setenv("VEIL_DATA", str(tmp_path / "twice"))
    source = registry.SOURCES["mnist"]
    files = {
        file: hashlib.sha256(idx(array)).hexdigest() for file, array in zip(source.files, arrays)
    }
    monkeypatch.setitem(registry.SOURCES, "mnist", replace(source, files=files))
    for file, array in zip(files, arrays):
        path = tmp_path / "twice" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx(array))
    return "mnist"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def table(dataset: str, store) -> dict[str, dict[str, float]]:
    base = Fidelity.preset("tiny", dataset=dataset, samples=100)
    return {name: finish(Lab(store).need(study))[1] for name, study in base.table().items()}


def test_fidelity_gives_no_verdict_on_copies_where_it_cannot_find_exact_ones(twice, store):
    found = table(twice, store)
    metrics = {name: result.metrics for name, result in found.items()}
    assert (
        metrics["exact copies"]["known_pixels"] == 0
        and metrics["exact copies"]["again_pixels"] == 0
    )
    told = verdict.answer(metrics, GENERATORS)
    assert "no verdict is given" in told and "in none of them" not in told and "leak" not in told
    for result in found.values():  # each set by itself says so too, for the command line
        assert any("cannot be trusted here" in warning for warning in result.facts["warnings"])


def test_fidelity_gives_its_verdict_where_controls_come_out(common):
    found = table("mnist-5k", common)
    metrics = {name: result.metrics for name, result in found.items()}
    assert metrics["exact copies"]["known_pixels"] == metrics["private GAN"]["known_features"] == 1
    assert "no verdict" not in verdict.answer(metrics, GENERATORS)
    assert not any(
        "cannot be trusted" in warning
        for result in found.values()
        for warning in result.facts["warnings"]
    )


def test_unseen_images_that_come_back_withhold_the_verdict_too():
    copies = {"again_pixels": 100, "distinct_pixels": 100, "known_pixels": 1.0}
    assert not fidelity_doubt(copies, {"again_pixels": 2, "distinct_pixels": 90})
    assert "unseen real images" in fidelity_doubt(
        copies, {"again_pixels": 40, "distinct_pixels": 90}
    )
    assert "exact copies" in fidelity_doubt(
        copies | {"again_pixels": 60}, {"again_pixels": 0, "distinct_pixels": 90}
    )


def test_synthesis_says_that_its_controls_do_not_come_out(twice, store, common):
    tiny = {name: value for name, value in BNSynthesis.PRESETS["tiny"].items()}
    _, blind = finish(Lab(store).need(BNSynthesis(**tiny, dataset=twice)))
    assert blind.facts["doubts"] and set(blind.facts["doubts"]) <= set(blind.facts["warnings"])
    assert any(
        "exact copies of training images are not found" in said for said in blind.facts["doubts"]
    )
    _, seeing = finish(Lab(common).need(BNSynthesis(**tiny)))
    assert seeing.facts["doubts"] == []


def test_chance_alone_raises_no_doubt_and_a_planted_leak_does():
    """Held-out images give nobody away: of 500 honest controls none is doubted; where the test
    images were learned from, all are.
    """
    draws, good = (
        np.random.default_rng(0),
        {
            "copies_pixels": 1.0,
            "copies_features": 1.0,
            "membership_pixels": 1.0,
            "membership_features": 1.0,
        },
    )
    from engine.attacks.memorization import membership

    for half in (10, 75, 500):
        honest = [membership(draws.normal(size=half), draws.normal(size=half)) for _ in range(170)]
        doubted = [
            doubt(
                {
                    "copies of training images": good,
                    "held-out images": {"membership_pixels": value, "membership_features": 0.5},
                },
                half,
            )
            for value in honest
        ]
        assert sum(map(bool, doubted)) <= 1
    assert doubt(
        {
            "copies of training images": good | {"membership_features": np.nan},
            "held-out images": {"membership_pixels": 0.5, "membership_features": 0.5},
        },
        500,
    )
    assert (
        len(
            doubt(
                {
                    "copies of training images": good,
                    "held-out images": {
                        "membership_pixels": np.nan,
                        "membership_features": np.nan,
                    },
                },
                500,
            )
        )
        == 2
    )
    leak = {"membership_pixels": 0.95, "membership_features": 0.5}
    assert all(
        doubt({"copies of training images": good, "held-out images": leak}, half)
        for half in (75, 500)
    )


@pytest.mark.parametrize("blind", [True, pytest.param(False, marks=pytest.mark.full)])
def test_the_page_gives_no_verdict_and_says_why(blind, request):
    from engine.core.lab import open_store
    from pages.common import live
    from tests.drawing import drawn

    values = BNSynthesis.PRESETS["tiny"] | {
        "dataset": request.getfixturevalue("twice") if blind else "mnist-5k"
    }
    finish(Lab(open_store()).need(BNSynthesis(**values)))
    try:
        test = drawn("synthesis", **values)
        assert (
            not test.exception
            and any(
                "exact copies of training images are not found" in said.value
                for said in test.warning
            )
            == blind
        )
        assert blind != any(
            "Of a training image and a held-out one" in said.value for said in test.markdown
        )
    finally:
        live.services().runner.close()
        live.services.cache_clear()


@pytest.mark.full
def test_a_folder_of_twins_gives_no_verdict_from_the_command_line_either(
    tmp_path, monkeypatch, store
):
    """Every image is there twice, and copies stay on one side: unseen images have a twin among
    themselves, so whatever is made seemed a copy.
    """
    from PIL import Image

    draws = np.random.default_rng(0)
    for kind in ("a", "b"):
        folder = tmp_path / "folders" / "twins" / kind
        folder.mkdir(parents=True)
        for number in range(30):
            image = Image.fromarray(draws.integers(0, 256, (32, 32), np.uint8))
            for again in ("", "again"):
                image.save(folder / f"{number}{again}.png")
    monkeypatch.setenv("VEIL_DATA", str(tmp_path))
    _, baselines = finish(
        Lab(store).need(Fidelity.preset("tiny", dataset="folder:twins", samples=20, batch_size=10))
    )
    assert baselines.metrics["threshold_pixels"] > 1e6
    assert any("no verdict on copies is given" in said for said in baselines.warnings)
    _, plain = finish(Lab(store).need(Fidelity.preset("tiny", samples=40)))
    assert not any("no verdict on copies is given" in said for said in plain.warnings)
