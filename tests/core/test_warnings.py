"""What is known of a result reaches whoever asks: in text, JSON and series as on the pages."""

import ast
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from engine.__main__ import main
from engine.core import rounding
from engine.core.study import Result
from pages.common import sentences
from tests.conftest import ROOT, full_unless
from tests.toy_studies import NONE

LOPSIDED = {"many": 200, "few": 6, "lone": 1}
FOLDER = {"dataset": "folder:lopsided", "batch_size": 50}
UNEVEN, UNTESTED = "Always saying many is right for", "No test image shows lone"
SLACK = "is not below 1 in"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A data folder with a lopsided folder of one's own, and one store for all tests here."""
    base, rng = tmp_path_factory.mktemp("warnings"), np.random.default_rng(0)
    for shade, (name, count) in enumerate(LOPSIDED.items()):
        folder = base / "data" / "folders" / "lopsided" / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(60 + 60 * shade, 40, (28, 28)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return base


@pytest.fixture(autouse=True)
def _here(shared, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(shared / "data"))
    monkeypatch.setenv("VEIL_HOME", str(shared / "home"))


def asked(
    study: str, changes: dict, *, preset: str = "tiny", json_: bool = False, series: str = ""
) -> list[str]:
    """Arguments of the command line."""
    begins = ["series", study, series] if series else ["run", study]
    sets = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    return [*begins, "--preset", preset, *(["--json"] if json_ else []), *sets]


HERE = {"dataset": "folder:lopsided"}
SMALL = HERE | {"delta": 0.01}
LINEAR = FOLDER | {"delta": 0.01, "straighten": "false"}
PRIVATE = FOLDER | {"private": "true", "delta": 0.01}
TEACHER = PRIVATE | {"images": 6, "synthesis_batch_size": 6}
RUNAWAY = {"activation": "relu", "learning_rate": 10}
CLIENTS = {
    "clients": 20,
    "images_per_client": 5,
    "noise_multiplier": 1,
    "delta": 0.1,
    "faulty": "nan",
    "unevenness": 0.02,
}
FORMULA, HEAPS = (
    "With this formula, ε = 1,925 is only nominal",
    ["4 clusters for 3 classes", "training images"],
)
BROKEN = "A check of the training failed: no gradient exceeds the clip norm"
RUNS = [
    ("noise", {"calibration": "textbook"}, [FORMULA]),
    ("noisy_training", FOLDER | {"calibration": "textbook"}, [FORMULA, UNEVEN, UNTESTED]),
    ("kmeans_labels", HERE | {"clusters": 4}, HEAPS),
    ("iic", FOLDER | {"clusters": 4, "epochs": 1}, HEAPS),
    ("dp_training", LINEAR, [SLACK, UNEVEN, UNTESTED]),
    ("dp_training", {"noise_multiplier": 0}, ["nothing is hidden"]),
    (
        "dp_training",
        RUNAWAY | {"private": "false", "network": "cnn", "batch_size": 10},
        ["The training diverged"],
    ),
    ("audit", {"bug": "no clipping", "delta": 0.001}, [SLACK, BROKEN]),
    ("audit", {"noise_multiplier": 20}, ["This audit cannot detect"]),
    ("membership", LINEAR, [SLACK, UNEVEN]),
    ("classifier", PRIVATE, [SLACK, UNEVEN, UNTESTED]),
    ("bn_synthesis", TEACHER, ["Of the teacher: δ = 0.01", "Of the teacher: The classes are"]),
    ("student", TEACHER, [SLACK, UNEVEN, UNTESTED]),
    ("gan", SMALL, [SLACK]),
    ("dp_merf", SMALL, [SLACK]),
    ("fidelity", SMALL, [SLACK, "40 images are too few", "fewer than the 64 features"]),
    (
        "gradient_sharing",
        CLIENTS,
        [SLACK, "came from the broken client and were refused", "clients have no images"],
    ),
    (
        "gradient_sharing",
        RUNAWAY | {"learning_rate": 100, "fraction": 1, "rounds": 5},
        ["It diverged"],
    ),
    ("initial_model", HERE | {"company_share": 0.5}, [UNEVEN, UNTESTED]),
]
NAMES = [f"{number} {study}" for number, (study, *_) in enumerate(RUNS)]
# A study of each topic in `make test`; of the others each takes seconds, twice.
QUICK = {"noise", "kmeans_labels", "dp_training", "membership", "dp_merf", "gradient_sharing"}


@pytest.mark.parametrize(
    ("study", "changes", "wanted"), full_unless(lambda study, *_: study in QUICK, RUNS), ids=NAMES
)
def test_a_run_says_every_warning_in_text_and_in_json(study, changes, wanted, capsys):
    preset = "quick" if study == "noise" else "tiny"
    assert main(asked(study, changes, preset=preset, json_=True)) == 0
    told = json.loads(capsys.readouterr().out)
    found = told["warnings"]
    assert [part for part in wanted if not any(part in warning for warning in found)] == [], found
    assert main(asked(study, changes, preset=preset)) == 0
    text = capsys.readouterr().out
    assert all(f"  warning: {warning}\n" in text for warning in told["warnings"])


SERIES = [
    ("dp_training", "optimizers", LINEAR, SLACK),
    ("student", "table", TEACHER, UNEVEN),
    ("fidelity", "table", SMALL, SLACK),
    ("gradient_sharing", "policies", {"faulty": "nan"}, "came from the broken client"),
    ("noisy_training", "walk", FOLDER | {"calibration": "textbook"}, UNTESTED),
]
SERIES_NAMES = [f"{study} {series}" for study, series, *_ in SERIES]


@pytest.mark.parametrize(
    ("study", "series", "changes", "wanted"),
    full_unless(lambda study, *_: study == "gradient_sharing", SERIES),
    ids=SERIES_NAMES,
)
def test_a_series_says_every_warning_of_each_of_its_results(study, series, changes, wanted, capsys):
    assert main(asked(study, changes, json_=True, series=series)) == 0
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    warnings = [warning for step in steps for warning in step["warnings"]]
    assert len(steps) > 2 and any(wanted in warning for warning in warnings)
    assert main(asked(study, changes, series=series)) == 0
    text = capsys.readouterr().out
    assert text.count("  warning: ") == len(warnings)
    assert all(f"  warning: {warning}\n" in text for warning in warnings)


def test_a_series_says_the_epsilon_of_each_of_its_results_rounded_up(capsys):
    """In text nothing was said of it, though that is what a series is compared by."""
    changes = {"epochs": 1}
    assert main(asked("dp_training", changes, json_=True, series="optimizers")) == 0
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(asked("dp_training", changes, series="optimizers")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "  epsilon " in line]
    told = [re.search(r"  epsilon (\S+)", line)[1] for line in lines]
    wanted = [step["guarantee"]["epsilon"] for step in steps]
    assert told == [rounding.epsilon(found) for found in wanted] and told.count("none") == 3
    assert all(float(text) >= found for text, found in zip(told, wanted) if found is not None)
    assert all("at delta 1e-05" in line for line, found in zip(lines, wanted) if found is not None)


def test_an_honest_even_and_large_enough_training_has_no_warning(capsys):
    assert main(asked("dp_training", {}, json_=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["warnings"] == [] and "balanced_test_accuracy" not in told["metrics"]
    assert 0.1 <= told["metrics"]["guessing"] < 0.12


def test_pages_say_each_warning_once_with_whose_it_is():
    said = {"a": ["x", "y"], "b": ["x"], "c": []}
    results = {name: Result({}, NONE, facts={"warnings": each}) for name, each in said.items()}
    assert sentences.warned(results) == {"x": ["a", "b"], "y": ["a"]}


def warned_by_hand(source: str) -> list[str]:
    """What a page's calls of st.warning say, but for refusals, addresses and a result's facts."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    told = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "st.warning"]
    others = ("sentences.named(", "not_stored", "plain(warning)", "in its address")
    return [text for text in told if not any(part in text for part in others)]


@pytest.mark.parametrize("path", sorted((ROOT / "pages").rglob("*.py")), ids=lambda path: path.name)
def test_no_page_keeps_a_warning_to_itself(path):
    before_a_run = "'The noise multiplier is 0: gradients are clipped"  # there is no result yet
    found = [text for text in warned_by_hand(path.read_text()) if before_a_run not in text]
    assert found == []
    assert warned_by_hand("st.warning(f'{name} diverged')")


SHOWS = {
    "noise": 2,
    "clustering": 1,
    "synthesis": 1,
    "dp_training": 4,
    "fidelity": 1,
    "gradient_sharing": 2,
}


@pytest.mark.parametrize("topic", SHOWS)
def test_every_page_shows_the_warnings_of_its_results(topic):
    sources = [path.read_text() for path in (ROOT / "pages" / topic).rglob("*.py")]
    assert sum(source.count("panels.warnings(") for source in sources) >= SHOWS[topic]


ON_PAGES = """
import contextlib, io, json, sys
from tests.drawing import drawn
from engine.__main__ import main
from pages.common.live import services

def told(study, changes):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        sets = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
        assert main(["run", study, "--json", *sets]) == 0
    return json.loads(said.getvalue())["warnings"]

for page, studies, changes, looks in json.loads(sys.argv[1]):
    wanted = [warning for study in studies for warning in told(study, changes[study])]
    asked = {name: value for each in changes.values() for name, value in each.items()} | looks
    app = drawn(page, **asked)
    assert not app.exception, (page, app.exception)
    shown = " ".join(found.value.replace("\\\\", "") for found in app.warning)
    print(page, len(wanted), [warning for warning in wanted if warning not in shown])
services().runner.close()
"""


@pytest.mark.full
def test_a_page_shows_what_the_command_line_says():
    raw = HERE | {"images": "raw", "clusters": 4}
    network = raw | {"batch_size": 50, "epochs": 1, "views": 2, "sub_heads": 2, "over_clusters": 20}
    training = LINEAR | {"epochs": 2}
    asked_ = [
        ("noise", ["noise"], {"noise": {"calibration": "textbook"}}, {}),
        (
            "dp_training",
            ["dp_training"],
            {"dp_training": training},
            {"shown": "one", "compare": "no"},
        ),
        (
            "clustering",
            ["iic", "kmeans_labels"],
            {"iic": network, "kmeans_labels": raw | {"starts": 1}},
            {},
        ),
    ]
    found = subprocess.run(
        [sys.executable, "-c", ON_PAGES, json.dumps(asked_)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    told = [line.split(" ", 2) for line in found.stdout.splitlines()]
    least = {"noise": 1, "dp_training": 5, "clustering": 8}  # so few images may diverge besides
    assert [page for page, *_ in told] == list(least), found.stdout + found.stderr
    assert all(int(count) >= least[page] and lacking == "[]" for page, count, lacking in told)
