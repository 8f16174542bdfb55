"""The command line as a user meets it: real processes, exit codes, one JSON object, one line for a
wrong value.
"""

import json
import os
import shlex
import subprocess
import sys

import pytest

from engine.__main__ import COMMANDS, chosen_study, main, parser
from engine.core.lab import command
from engine.core.study import build
from engine.studies.dp_training import Audit, Membership
from engine.studies.fidelity import GAN
from engine.studies.gradient_sharing import GradientSharing, InitialModel, Inversion
from tests.conftest import ROOT


def engine(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=200,
        env=os.environ | more.get("env", {}),
    )


def test_list_names_every_study_and_parameter():
    found = engine("list")
    assert found.returncode == 0
    for word in ("noise:", "dp_training:", "target_epsilon", "max_grad_norm", "from 0.1 to 200000"):
        assert word in found.stdout


@pytest.mark.parametrize(
    ("name", "studies"),
    [
        ("dp_training", ["dp_training", "audit", "membership"]),  # a topic
        ("membership", ["membership"]),  # a study
    ],
)
def test_list_of_a_topic_or_a_study_names_no_other(name, studies, capsys):
    assert main(["list", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == studies
    assert any(line.startswith("  target_epsilon = ") for line in lines)


def test_list_of_what_is_neither_says_what_there_is(capsys):
    assert main(["list", "dp-training"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert not out and line.startswith("name: 'dp-training' is not known")
    assert "gradient_sharing" in line and "membership" in line


def test_each_command_explains_itself_and_its_arguments(capsys):
    for each in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([each.name, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        assert end.value.code == 0 and each.help in told
        for names, _ in each.arguments:
            assert names[0] in told or "{" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        [],
        ["run"],
        ["run", "noise", "--sett", "x"],
        ["cache", "burn"],
        ["series", "dp_training", "frontier", "--seeds", "10"],
        ["dashboard", "--port", "eighty"],
        ["dashboard", "--port", "65536"],
    ],
    ids=lambda a: " ".join(a) or "nothing",
)
def test_wrong_arguments_are_exit_two_and_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and not out and len(err.splitlines()) == 1 and "--help" in err


def test_json_is_exactly_one_object_and_the_second_time_cached():
    first, second = (engine("run", "noise", "--set", "epsilon=150", "--json") for _ in range(2))
    assert first.returncode == second.returncode == 0
    before, after = json.loads(first.stdout), json.loads(second.stdout)
    assert set(before) == {
        "study",
        "key",
        "params",
        "used",
        "metrics",
        "guarantee",
        "warnings",
        "notes",
        "seconds",
        "cached",
    }
    assert {
        "unit",
        "epsilon",
        "delta",
        "mechanism",
        "accountant",
        "sampling",
        "sample_rate",
        "steps",
        "note",
    } <= set(before["guarantee"])
    assert (before["cached"], after["cached"]) == (False, True)
    assert (
        before["key"] == after["key"]
        and before["metrics"] == after["metrics"]
        and before["params"]["epsilon"] == 150.0
    )


def test_training_reports_progress_on_stderr_only():
    found = engine("run", "dp_training", "--preset", "tiny", "--set", "private=false", "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["guarantee"]["epsilon"] is None and "test_accuracy" in found.stderr
    assert {"test_accuracy", "train_accuracy"} <= set(told["metrics"])


def test_a_series_is_a_line_each_and_shares_what_is_stored():
    tiny = ("--preset", "tiny", "--json")
    found = engine("series", "noisy_training", "walk", *tiny, "--set", "labels=randomised")
    assert found.returncode == 0, found.stderr
    told = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["step"] for line in told][:2] == ["raw images", "noise on images"] and len(
        told
    ) == 6
    assert len({line["key"] for line in told}) == 6 and not any(line["cached"] for line in told)
    again = json.loads(engine("run", "noisy_training", *tiny).stdout)
    assert again["cached"] and again["key"] == told[1]["key"]
    wrong = engine("series", "noisy_training", "dance")
    assert wrong.returncode == 2 and "walk, sweep, survival" in wrong.stderr


def ran(capsys, *arguments) -> list[dict]:
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_says_what_was_used_for_what_was_left_empty(capsys):
    (told,) = ran(capsys, "run", "dp_training", "--preset", "tiny")
    used, params = told["used"], told["params"]
    assert params["max_grad_norm"] is params["learning_rate"] is params["noise_multiplier"] is None
    assert f"clipped to {used['max_grad_norm']:g}," in told["guarantee"]["mechanism"]
    assert set(used) == {"max_grad_norm", "learning_rate", "noise_multiplier", "mean_noise"}
    chosen = f"max_grad_norm={used['max_grad_norm']!r}"
    (same,) = ran(capsys, "run", "dp_training", "--preset", "tiny", "--set", chosen)
    assert same["guarantee"] == told["guarantee"] and same["key"] != told["key"]
    assert "max_grad_norm" not in same["used"]
    (bare,) = ran(capsys, "run", "dp_training", "--preset", "tiny", "--set", "private=false")
    assert "max_grad_norm" not in bare["used"] and bare["used"]["learning_rate"] > 0


DERIVED = {
    Membership(network="cnn"): {"max_grad_norm", "shadows"},
    GAN(private=False): {
        "generator_width",
        "discriminator_width",
        "batch_size",
        "discriminator_steps",
        "steps",
        "generator_learning_rate",
        "discriminator_learning_rate",
    },
    InitialModel(): {"initial_learning_rate"},
    GradientSharing(noise_multiplier=1.0): {
        "initial_learning_rate",
        "learning_rate",
        "max_grad_norm",
    },
    Inversion(model="initial", leak_noise=1.0): {
        "initial_learning_rate",
        "leak_clip",
        "attack_steps",
        "restarts",
    },
}


@pytest.mark.parametrize("study", DERIVED, ids=lambda study: study.NAME)
def test_what_stands_for_an_empty_field_is_told_and_may_be_typed_instead(study):
    """Given these values by name, a study derives the same ones."""
    derived = study.derived()
    assert set(derived) == DERIVED[study] and None not in derived.values()
    assert all(study.values()[name] is None for name in derived)
    typed = build(type(study), study.changed() | derived)
    assert typed.derived() == derived


WRONG = [
    "epsilon=nan",
    "epsilon=inf",
    "epsilon=1e308",
    "epsilon=-1",
    "epsilon=../../etc",
    "epsilon=" + "9" * 10_000,
    "nonsense=1",
    "dataset=../../etc/passwd",
    "dataset=folder:../x",
    "seed=1.5",
    "epsilon",
    "calibration=magic",
    "index=1e9",
]


@pytest.mark.parametrize("change", WRONG, ids=lambda c: c[:20])
def test_a_wrong_value_is_exit_two_and_one_line(change):
    found = engine("run", "noise", "--set", change, "--json")
    assert found.returncode == 2 and found.stdout == ""
    assert len(found.stderr.strip().splitlines()) == 1 and "Traceback" not in found.stderr
    assert change.split("=")[0] in found.stderr and len(found.stderr) < 500


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "nosuch"],
        ["run", "noise", "--preset", "nosuch"],
        ["run", "dp_training", "--set", "dataset=mnist"],
        ["run", "noise", "--set", "index=5000"],
        ["data", "fetch"],
        ["data", "fetch", "nosuch"],
        ["nosuch"],
        [],
    ],
    ids=lambda a: " ".join(a) or "nothing",
)
def test_what_is_not_there_is_exit_two(arguments):
    found = engine(*arguments, env={"VEIL_DATA": "/nowhere"})
    assert found.returncode == 2 and "Traceback" not in found.stderr and found.stderr


def test_a_missing_data_set_says_how_to_get_it():
    found = engine("run", "dp_training", "--set", "dataset=cifar10", env={"VEIL_DATA": "/nowhere"})
    assert "python -m engine data fetch cifar10" in found.stderr


def test_cache_stats_verify_and_clear():
    engine("run", "noise", "--json")
    assert "entries" in engine("cache").stdout
    assert "0 damaged" in engine("cache", "verify").stdout
    assert "removed" in engine("cache", "clear").stdout
    assert json.loads(engine("run", "noise", "--json").stdout)["cached"] is False


def test_data_lists_what_is_here_and_how_to_get_the_rest():
    found = engine("data", env={"VEIL_DATA": "/nowhere"}).stdout
    assert "mnist-5k" in found and "5,000 images" in found and "data fetch cifar10" in found


def test_the_command_that_is_shown_is_what_a_shell_takes():
    """Values with spaces too: split as a shell splits them, they give the same study."""
    study = Audit(noise_multiplier=1.3, bug="no clipping", canaries=300)
    words = shlex.split(command(study))
    assert words[:4] == ["python", "-m", "engine", "run"] and "bug=no clipping" in words
    options = parser().parse_args(words[3:])
    assert chosen_study(options.study, options.preset, options.changes) == study
