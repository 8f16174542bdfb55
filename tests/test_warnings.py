"""What is known of a result reaches whoever asks: every warning in the command line's text, its JSON and its series, as on the pages."""

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from engine.__main__ import main
from engine.study import Result
from pages.parts import words
from tests.conftest import ROOT
from tests.studies import NONE

LOPSIDED = {"many": 200, "few": 6, "lone": 1}
FOLDER = {"dataset": "folder:lopsided", "batch_size": 50}
UNEVEN, UNTESTED, SLACK = "Always saying many is right for", "No test picture shows lone", "is not below 1 in"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A data folder with a lopsided folder of one's own, and one store for all tests here."""
    base, rng = tmp_path_factory.mktemp("warnings"), np.random.default_rng(0)
    for shade, (name, count) in enumerate(LOPSIDED.items()):
        (base / "data" / "folders" / "lopsided" / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(60 + 60 * shade, 40, (28, 28)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(base / "data" / "folders" / "lopsided" / name / f"{number}.png")
    return base


@pytest.fixture(autouse=True)
def _here(shared, monkeypatch):
    monkeypatch.setenv("VEIL_DATA", str(shared / "data"))
    monkeypatch.setenv("VEIL_HOME", str(shared / "home"))


def asked(study: str, changes: dict, *, preset: str = "tiny", json_: bool = False, series: str = "") -> list[str]:
    """Arguments of the command line."""
    return [*(["series", study, series] if series else ["run", study]), "--preset", preset, *(["--json"] if json_ else []),
            *(part for name, value in changes.items() for part in ("--set", f"{name}={value}"))]


SMALL = {"dataset": "folder:lopsided", "delta": 0.01}
TEACHER = FOLDER | {"private": "true", "delta": 0.01, "images": 6, "together": 6}
RUNS = [
    ("noise", {"calibration": "textbook"}, ["This formula names ε = 1,925"]),
    ("noisy_training", FOLDER | {"calibration": "textbook"}, ["This formula names ε = 1,925", UNEVEN, UNTESTED]),
    ("kmeans_labels", {"dataset": "folder:lopsided", "clusters": 4}, ["4 clusters for 3 classes", "training pictures"]),
    ("iic", FOLDER | {"clusters": 4, "epochs": 1}, ["4 clusters for 3 classes", "training pictures"]),
    ("dp_training", FOLDER | {"delta": 0.01, "straighten": "false"}, [SLACK, UNEVEN, UNTESTED]),
    ("dp_training", {"noise_multiplier": 0}, ["nothing is hidden"]),
    ("dp_training", {"private": "false", "network": "cnn", "activation": "relu", "batch_size": 10, "learning_rate": 10}, ["The training diverged"]),
    ("audit", {"cheat": "no clipping", "delta": 0.001}, [SLACK, "A promise of the method is broken: no picture pulls harder than the clip norm"]),
    ("audit", {"noise_multiplier": 20}, ["This audit could miss"]),
    ("membership", FOLDER | {"delta": 0.01, "straighten": "false"}, [SLACK, UNEVEN]),
    ("classifier", {name: value for name, value in TEACHER.items() if name not in ("images", "together")}, [SLACK, UNEVEN, UNTESTED]),
    ("bn_synthesis", TEACHER, ["Of the teacher: δ = 0.01 is not below", "Of the teacher: The classes are uneven"]),
    ("student", TEACHER, [SLACK, UNEVEN, UNTESTED]),
    ("gan", SMALL, [SLACK]),
    ("dp_merf", SMALL, [SLACK]),
    ("fidelity", SMALL, [SLACK, "40 pictures are too few", "fewer than the 64 features"]),
    ("gradient_sharing", {"participants": 20, "pictures_each": 5, "noise_multiplier": 1, "delta": 0.1, "faulty": "nan", "unevenness": 0.02},
     [SLACK, "came from the broken phone and were refused", "phones have no pictures"]),
    ("gradient_sharing", {"learning_rate": 100.0, "activation": "relu", "fraction": 1, "rounds": 5}, ["It diverged"]),
    ("initial_model", {"dataset": "folder:lopsided", "company_share": 0.5}, [UNEVEN, UNTESTED]),
]


@pytest.mark.parametrize(("study", "changes", "wanted"), RUNS, ids=[f"{name} {', '.join(map(str, changes))}"[:60] for name, changes, _ in RUNS])
def test_a_run_says_every_warning_in_text_and_in_json(study, changes, wanted, capsys):
    preset = "quick" if study == "noise" else "tiny"
    assert main(asked(study, changes, preset=preset, json_=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(any(part in warning for warning in told["warnings"]) for part in wanted), told["warnings"]
    assert main(asked(study, changes, preset=preset)) == 0
    text = capsys.readouterr().out
    assert all(f"  warning: {warning}\n" in text for warning in told["warnings"])


SERIES = [("dp_training", "optimizers", FOLDER | {"delta": 0.01, "straighten": "false"}, SLACK), ("student", "table", TEACHER, UNEVEN),
          ("fidelity", "table", SMALL, SLACK), ("gradient_sharing", "policies", {"faulty": "nan"}, "came from the broken phone"),
          ("noisy_training", "walk", FOLDER | {"calibration": "textbook"}, UNTESTED)]


@pytest.mark.parametrize(("study", "series", "changes", "wanted"), SERIES, ids=[f"{name} {series}" for name, series, *_ in SERIES])
def test_a_series_says_every_warning_of_each_of_its_results(study, series, changes, wanted, capsys):
    assert main(asked(study, changes, json_=True, series=series)) == 0
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(steps) > 2 and any(wanted in warning for step in steps for warning in step["warnings"])
    assert main(asked(study, changes, series=series)) == 0
    text = capsys.readouterr().out
    assert text.count("  warning: ") == sum(len(step["warnings"]) for step in steps) > 0
    assert all(f"  warning: {warning}\n" in text for step in steps for warning in step["warnings"])


def test_an_honest_even_and_large_enough_training_has_no_warning(capsys):
    assert main(asked("dp_training", {}, json_=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["warnings"] == [] and 0.1 <= told["metrics"]["guessing"] < 0.12 and "balanced_test_accuracy" not in told["metrics"]


def test_pages_say_each_warning_once_with_whose_it_is():
    results = {name: Result({}, NONE, facts={"warnings": said}) for name, said in (("a", ["x", "y"]), ("b", ["x"]), ("c", []))}
    assert words.warned(results) == {"x": ["a", "b"], "y": ["a"]}


def warned_by_hand(source: str) -> list[str]:
    """Calls of st.warning in a page that say something of their own, other than a refusal or what a result's facts hold."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "st.warning"]
    return [ast.unparse(call.args[0]) for call in calls if not any(part in ast.unparse(call.args[0]) for part in ("words.named(", "not_stored", "plain(warning)"))]


@pytest.mark.parametrize("path", sorted((ROOT / "pages").rglob("*.py")), ids=lambda path: path.name)
def test_no_page_keeps_a_warning_to_itself(path):
    before_a_run = ["'The noise multiplier is 0: pictures are clipped, but nothing is hidden. ε is infinite, and nothing is promised to anyone.'"]
    assert [text for text in warned_by_hand(path.read_text()) if text not in before_a_run] == []
    assert warned_by_hand("st.warning(f'{name} diverged')")


SHOWS = {"dp_training.py": 2, "noise.py": 2, "clustering.py": 1, "synthesis.py": 1, "fidelity.py": 1, "gradient_sharing.py": 2}


@pytest.mark.parametrize("name", SHOWS)
def test_every_page_shows_the_warnings_of_its_results(name):
    assert (ROOT / "pages" / name).read_text().count("panels.warnings(") >= SHOWS[name]


ON_PAGES = """
import contextlib, io, json, sys
from streamlit.testing.v1 import AppTest
from engine.__main__ import main
from pages.parts.live import services

def told(study, changes):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        assert main(["run", study, "--json", *(part for name, value in changes.items() for part in ("--set", f"{name}={value}"))]) == 0
    return json.loads(said.getvalue())["warnings"]

for page, studies, changes, looks in json.loads(sys.argv[1]):
    wanted = [warning for study in studies for warning in told(study, changes[study])]
    app = AppTest.from_file("pages/menu.py", default_timeout=120).switch_page(f"{page}.py")
    for name, value in ({k: v for each in changes.values() for k, v in each.items()} | looks).items():
        app.query_params[name] = str(value)
    app.run()
    assert not app.exception, (page, app.exception)
    shown = " ".join(found.value.replace("\\\\", "") for found in app.warning)
    print(page, len(wanted), [warning for warning in wanted if warning not in shown])
services().runner.close()
"""


def test_a_page_shows_what_the_command_line_says():
    lopsided = {"dataset": "folder:lopsided"}
    network = lopsided | {"images": "raw", "clusters": 4, "batch_size": 50, "epochs": 1, "views": 2, "sub_heads": 2, "over_clusters": 20}
    heaps = lopsided | {"images": "raw", "clusters": 4, "starts": 1}
    asked_ = [("noise", ["noise"], {"noise": {"calibration": "textbook"}}, {}),
              ("dp_training", ["dp_training"], {"dp_training": lopsided | {"batch_size": 50, "epochs": 2, "delta": 0.01, "straighten": "false"}}, {"shown": "one", "compare": "no"}),
              ("clustering", ["iic", "kmeans_labels"], {"iic": network, "kmeans_labels": heaps}, {})]
    found = subprocess.run([sys.executable, "-c", ON_PAGES, json.dumps(asked_)], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert found.stdout.splitlines() == ["noise 1 []", "dp_training 3 []", "clustering 4 []"], found.stdout + found.stderr
