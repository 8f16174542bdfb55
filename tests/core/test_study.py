"""Studies as values: keys, numbers, wrong values in the user's words."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import parameters
from engine.core.study import Guarantee, Refused, Result, build, canonical, key
from engine.studies import STUDIES
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.noise.noise import Noise
from tests.conftest import ROOT
from tests.toy_studies import Counting, Nested

EVERY = [(study, spec) for study in STUDIES.values() for spec in parameters.specs(study).values()]


def test_one_value_one_key():
    keys = {
        key(Noise(epsilon=e, seed=s))
        for e, s in ((1, 1), (1.0, 1), (np.float64(1), np.int64(1)), (np.float32(1), np.uint8(1)))
    }
    assert len(keys) == 1


def test_every_field_changes_the_key():
    other = {
        "epsilon": 2.0,
        "category": 4,
        "index": 1,
        "delta": 1e-3,
        "calibration": "textbook",
        "sensitivity": "report",
        "label_epsilon": 1.0,
        "seed": 1,
    }
    keys = {key(Noise())} | {key(Noise(**{name: value})) for name, value in other.items()}
    assert len(keys) == len(other) + 1


def test_the_key_is_the_same_in_another_process():
    code = (
        "from engine.studies.noise.noise import Noise; from engine.core.study import key;"
        " print(key(Noise(epsilon=7)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert found.stdout.strip() == key(Noise(epsilon=7))


def test_the_key_holds_version_data_and_nested_keys():
    told = canonical(Nested(inner=Counting(count=3)))
    assert told["fields"]["inner"]["fields"]["count"] == "3"
    assert key(Nested(inner=Counting(count=3))) != key(Nested(inner=Counting(count=4)))
    assert canonical(Noise())["data"] and canonical(Noise())["version"] == Noise.VERSION


def test_a_raised_version_is_another_key(monkeypatch):
    before = key(Noise())
    monkeypatch.setattr(Noise, "VERSION", Noise.VERSION + 1)
    assert key(Noise()) != before


def test_studies_are_frozen_and_keyword_only():
    with pytest.raises(Exception, match="frozen"):
        Noise().epsilon = 3
    with pytest.raises(TypeError):
        Noise("mnist-5k")


@pytest.mark.parametrize(
    ("study", "spec"), EVERY, ids=lambda x: getattr(x, "name", getattr(x, "NAME", ""))
)
def test_every_parameter_is_explained_and_its_default_allowed(study, spec):
    assert spec.title and spec.help
    assert spec.kind in ("choice", "switch", "text") or (
        spec.low is not None and spec.high is not None
    )
    text = spec.format(spec.default)
    assert spec.parse(text) == spec.default


WRONG = [
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "-1",
    "../../etc/passwd",
    "a\x00b",
    "x" * 10_000,
    "",
    "0x10",
    "1,5",
    "true",
    "None",
    "[]",
    "💥",
    "1e-400",
    "9" * 79,
]


@pytest.mark.parametrize(
    ("study", "spec"), EVERY, ids=lambda x: getattr(x, "name", getattr(x, "NAME", ""))
)
def test_a_wrong_text_is_refused_in_one_line_or_is_a_value_in_range(study, spec):
    for text in WRONG:
        try:
            value = build(study, {spec.name: text}).values()[spec.name]
        except Refused as refused:
            assert "\n" not in str(refused) and len(str(refused)) < 400, text
            # empty is allowed, but not together with the rest
            if text.strip().lower() in ("", "none") and spec.optional:
                assert refused.field in study.EXCLUSIVE, text
            else:
                assert refused.field == spec.name in str(refused) and spec.allowed in str(
                    refused
                ), text
        else:
            assert (
                spec.kind not in ("int", "float")
                or value is None
                or math.isfinite(value)
                and spec.low <= value <= spec.high
            ), text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=100))
def test_any_text_at_all_is_refused_or_in_range(text):
    for name in ("epsilon", "dataset", "seed", "calibration"):
        try:
            study = build(Noise, {name: text})
        except Refused:
            continue
        assert (
            0.1 <= study.epsilon <= 200_000
            and ".." not in study.dataset
            and "/" not in study.dataset
        )


@settings(max_examples=300, deadline=None)
@given(st.floats(min_value=0.1, max_value=200_000))
def test_numbers_survive_the_url_exactly(value):
    spec = parameters.spec(Noise, "epsilon")
    assert spec.parse(spec.format(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1925", 1925),
        ("1,925", 1925),
        ("12,345,678.5", 12_345_678.5),
        ("0,5", 0.5),
        ("0,125", 0.125),
        ("3,25", 3.25),
        ("1,5e-5", 1.5e-5),
        (" 1e-5 ", 1e-5),
    ],
)
def test_numbers_are_understood_as_people_write_them(text, value):
    assert parameters.numeral(text) == value


@pytest.mark.parametrize("text", ["1_0", "1,2,3", "1,23,456", "", "five", "0,5,5", "1,925,00"])
def test_what_nobody_means_by_a_number_is_none(text):
    with pytest.raises(ValueError):
        parameters.numeral(text)


def test_unknown_fields_are_named_with_what_there_is():
    with pytest.raises(Refused, match="noise has no such parameter.*epsilon"):
        build(Noise, {"epsilonn": "3"})


def test_noise_or_budget_but_not_both():
    assert DPTraining(noise_multiplier=1.1).target_epsilon is None
    assert DPTraining().target_epsilon == 3.0
    with pytest.raises(Refused, match="not both"):
        build(DPTraining, {"noise_multiplier": "1.1", "target_epsilon": "3"})
    with pytest.raises(Refused, match="give one of the two"):
        build(DPTraining, {"target_epsilon": "none"})
    assert DPTraining.preset("report", target_epsilon=3).noise_multiplier is None


def test_one_twin_serves_every_amount_of_privacy():
    baselines = {
        key(DPTraining(target_epsilon=e, max_grad_norm=c, delta=d).baseline())
        for e, c, d in ((1, 1, 1e-5), (8, 4, 1e-6), (3, 0.1, 1e-4))
    }
    assert len(baselines) == 1 and not DPTraining().baseline().private
    assert key(DPTraining(epochs=3).baseline()) not in baselines


def test_a_result_survives_its_parts_exactly():
    promise = Guarantee("u", None, None, "m", "a", "s", None, None, "n")
    before = Result(
        {"a": math.inf, "b": float("nan")},
        promise,
        {"c": [(1.0, 2.0)]},
        {"x": np.arange(6.0).reshape(2, 3)},
        {"p": b"\x89PNG"},
        {"f": [1, "ü"]},
        {"seconds": 1.0},
    )
    plain, arrays = before.parts()
    after = Result.from_parts(json.loads(json.dumps(plain)), arrays)
    assert (
        after.curves == before.curves
        and after.images == before.images
        and after.facts == before.facts
    )
    assert (
        after.guarantee == promise
        and np.array_equal(after.arrays["x"], before.arrays["x"])
        and math.isinf(after.metrics["a"])
    )
