"""What an address asks for and a page cannot do is said there; nothing is dropped in silence, and
nothing runs.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SHOWN = """
import json, sys
from tests.drawing import drawn
from pages.common.live import services

found = []
for page, query in json.loads(sys.argv[1]):
    app = drawn(page, **query)
    assert not app.exception, (page, app.exception)
    warnings = [each.value.replace("\\\\", "") for each in app.warning]
    others = [each.value.replace("\\\\", "") for each in (*app.error, *app.info, *app.markdown)]
    stops = [each.label for each in app.button if each.label == "Stop"]
    found.append([warnings, dict(app.query_params), others, stops])
print(json.dumps(found))
services().runner.close()
"""
PAGES = ("noise", "dp_training", "clustering", "synthesis", "fidelity", "gradient_sharing")
LONG, PATH, BUDGET = "1" * 10_000, "../../etc/passwd", "Privacy budget ε for the image: "
REFUSED = [
    ("noise", {"epsilon": "nan"}, f"{BUDGET}nan is not allowed"),
    ("noise", {"epsilon": "inf"}, f"{BUDGET}inf is not allowed"),
    ("noise", {"epsilon": "-1"}, f"{BUDGET}-1 is not allowed"),
    ("noise", {"epsilon": "1e308"}, "is not allowed; allowed: a number from 0.1"),
    ("noise", {"epsilon": "\0"}, f"{BUDGET}� is not allowed"),
    ("noise", {"dataset": PATH}, f"Data set: {PATH} is not allowed"),
    ("noise", {"seed": LONG}, "Seed: 111"),
    ("noise", {"shoe_size": "44"}, "noise has no parameter shoe_size"),
    ("noise", {"calibration": "<b>x</b>"}, "Noise formula: "),
    ("noise", {"category": "250"}, "Class: 250 is not allowed"),
    ("dp_training", {"target_epsilon": "nan"}, "Privacy budget ε: nan is not allowed"),
    ("dp_training", {"learning_rate": "inf"}, "Learning rate: inf is not allowed"),
    ("dp_training", {"epochs": "-1"}, "Epochs: -1 is not allowed"),
    ("dp_training", {"seed": "1e308"}, "Seed: "),
    ("dp_training", {"dataset": PATH}, f"Data set: {PATH} is not allowed"),
    ("dp_training", {"optimizer": "\0sgd"}, "Optimizer: "),
    ("dp_training", {"delta": LONG}, "δ: 111"),
    ("dp_training", {"hat_size": "7"}, "has no "),
    ("dp_training", {"noise_multiplier": "1", "target_epsilon": "3"}, "not both"),
    ("clustering", {"epsilon": "nan"}, f"{BUDGET}nan is not allowed"),
    ("clustering", {"clusters": "9999"}, "Clusters: 9999 is not allowed"),
    ("clustering", {"shoe": "4"}, "iic has no parameter shoe"),
    (
        "clustering",
        {"batch_size": "9000"},
        "Batch size: 9000 is not allowed; mnist-5k has 4000",
    ),
    ("clustering", {"dataset": "cifar10"}, "fetch cifar10"),
    ("synthesis", {"snapshots": "50,10"}, "must ascend"),
    ("synthesis", {"snapshots": "10,500"}, "would never come"),
    ("synthesis", {"images": "3"}, "each needs an image"),
    ("synthesis", {"weights": "given"}, "The file weights/narrow_mnist-5k.npz is not here"),
    ("synthesis", {"batch_size": "9000"}, "4000 training images"),
    ("synthesis", {"rate": "nan"}, "Step size: nan is not allowed"),
    (
        "synthesis",
        {"private": "true", "target_epsilon": "0.5"},
        "the noised statistics alone spend 0.927",
    ),
    ("fidelity", {"examples": "5000"}, "4000 training images"),
    ("fidelity", {"examples": "20", "batch_size": "30"}, "learns from 20 images"),
    ("fidelity", {"size": "48"}, "Size: 48 is not allowed"),
    ("fidelity", {"samples": "10"}, "Images to compare: 10 is not allowed"),
    ("fidelity", {"extractor": "vgg"}, "Compared by: vgg is not allowed"),
    ("fidelity", {"dataset": "celeba"}, "fetch celeba"),
    ("fidelity", {"target_epsilon": "0"}, "Privacy budget ε: 0 is not allowed"),
    ("gradient_sharing", {"fraction": "0"}, "Share of the gradients: 0 is not allowed"),
    (
        "gradient_sharing",
        {"fraction": "1.5"},
        "1.5 is not allowed; allowed: a number from 0.0001 to 1",
    ),
    (
        "gradient_sharing",
        {"clients": "4500"},
        "3800 images of mnist-5k are not the company's",
    ),
    ("gradient_sharing", {"images_per_client": "1000"}, "20 clients would need 20000"),
    (
        "gradient_sharing",
        {"noise_multiplier": "1", "target_epsilon": "3"},
        "one follows from the other",
    ),
    (
        "gradient_sharing",
        {
            "target_epsilon": "0.1",
            "delta": "1e-12",
            "rounds": "1000",
            "noised_by": "client",
            "clients": "4",
        },
        "cannot be reached",
    ),
    ("gradient_sharing", {"dataset": "folder:mine"}, "There is no data set folder:mine here"),
    ("gradient_sharing", {"category": "11"}, "classes 0 to 9"),
    ("gradient_sharing", {"index": "5000"}, "this class has the images"),
    ("gradient_sharing", {"shown": "all"}, "shown: all is not allowed"),
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """(page, what its address asks) → (warnings, address afterwards), all drawn by one process."""
    asked = [
        (page, query)
        for page in PAGES
        for query in ({"preset": "zzz"}, {"preset": "quick", "shoe": "44", "hat": "1"}, {})
    ]
    asked += [("home", {"preset": "zzz"}), ("home", {"a": "1", "b": "2"}), ("home", {})]
    asked += [(page, query) for page, query, _ in REFUSED]
    place = tmp_path_factory.mktemp("addresses")

    env = os.environ | {"VEIL_HOME": str(place / "home"), "VEIL_DATA": str(place / "data")}
    found = subprocess.run(
        [sys.executable, "-c", SHOWN, json.dumps(asked)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        env=env,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    told = json.loads(found.stdout.splitlines()[-1])
    return {(page, *query.items()): answer for (page, query), answer in zip(asked, told)}


@pytest.mark.parametrize("page", PAGES)
def test_a_preset_in_the_address_is_said_where_presets_are(page, shown):
    (warning,), address, *_ = shown[page, ("preset", "zzz")]
    assert (
        "zzz is not taken from an address; choose one here" in warning and "preset" not in address
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_name_that_is_none_of_the_page_s_is_said(page, shown):
    warnings, *_ = shown[page, ("preset", "quick"), ("shoe", "44"), ("hat", "1")]
    assert len(warnings) == 2 and any("quick is not taken" in each for each in warnings)
    assert any("no parameter shoe" in each and "no parameter hat" in each for each in warnings)
    assert shown[(page,)][0] == []


def test_a_page_without_settings_says_it_too(shown):
    assert shown["home", ("preset", "zzz")][0] == [
        "This page has no settings: preset in its address is not used."
    ]
    assert shown["home", ("a", "1"), ("b", "2")][0] == [
        "This page has no settings: a, b in its address are not used."
    ]
    assert shown[("home",)][0] == []


@pytest.mark.parametrize(
    ("page", "query", "words"),
    REFUSED,
    ids=[f"{number} {page}" for number, (page, *_) in enumerate(REFUSED)],
)
def test_a_value_that_cannot_be_is_told_in_words_and_nothing_runs(page, query, words, shown):
    warnings, _, others, stops = shown[page, *query.items()]
    (told, *_) = [text for text in (*warnings, *others) if words in text]
    assert len(told) < 1000 and "Traceback" not in told and not stops
