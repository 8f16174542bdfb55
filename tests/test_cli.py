"""The command line as a user meets it: real processes, exit codes, one JSON object, one line for a
wrong value.
"""

import json
import os
import subprocess
import sys

import pytest

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


def test_json_is_exactly_one_object_and_the_second_time_cached():
    first, second = (engine("run", "noise", "--set", "epsilon=150", "--json") for _ in range(2))
    assert first.returncode == second.returncode == 0
    before, after = json.loads(first.stdout), json.loads(second.stdout)
    assert set(before) == {
        "study",
        "key",
        "params",
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
    assert [line["step"] for line in told][:2] == ["raw pictures", "noise on pictures"] and len(
        told
    ) == 6
    assert len({line["key"] for line in told}) == 6 and not any(line["cached"] for line in told)
    again = json.loads(engine("run", "noisy_training", *tiny).stdout)
    assert again["cached"] and again["key"] == told[1]["key"]
    wrong = engine("series", "noisy_training", "dance")
    assert wrong.returncode == 2 and "walk, sweep, survival" in wrong.stderr


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
    assert "mnist-5k" in found and "5,000 pictures" in found and "data fetch cifar10" in found


def test_the_command_that_is_shown_is_what_a_shell_takes():
    """Values with spaces too: split as a shell splits them, they give the same study."""
    import shlex

    from engine.__main__ import chosen_study, parser
    from engine.core.lab import command
    from engine.studies.dp_training.audit import Audit

    study = Audit(noise_multiplier=1.3, cheat="no clipping", canaries=300)
    words = shlex.split(command(study))
    assert words[:4] == ["python", "-m", "engine", "run"] and "cheat=no clipping" in words
    options = parser().parse_args(words[3:])
    assert chosen_study(options.study, options.preset, options.changes) == study
