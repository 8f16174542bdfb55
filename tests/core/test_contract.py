"""What every study must do, shown for each of them at its smallest preset."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from cache import Store
from engine.core import parameters
from engine.core.lab import Lab, command
from engine.core.study import EVENTS, Guarantee, Result, build, key
from engine.studies import STUDIES
from tests.conftest import finish, full_unless, furnish

SMALL = {
    study.NAME: study.preset("tiny" if "tiny" in study.PRESETS else "quick")
    for study in STUDIES.values()
}
EACH = pytest.mark.parametrize("study", SMALL.values(), ids=SMALL)
# In `make test` all but these are run three times; they take seconds each.
SLOW = {"iic", "bn_synthesis", "student", "classifier", "membership"}
TWICE = full_unless(lambda study: study.NAME not in SLOW, SMALL.values())


@pytest.fixture
def store(tmp_path, common, study):
    """What the study needs is there; itself it has never been computed."""
    return furnish(Store(tmp_path / "store"), common, study)


@pytest.fixture(scope="module")
def results():
    """The Results of this module's runs, by study name: each study is computed once for all tests
    that only look.
    """
    return {}


@EACH
def test_events_then_a_result_then_the_same_from_the_store(study, store, results):
    events, result = finish(Lab(store).need(study))
    assert events and all(type(e) in EVENTS.values() for e in events)
    again, cached = finish(Lab(store).need(study))
    assert again == []
    assert json.dumps(cached.parts()[0]) == json.dumps(result.parts()[0])
    assert all(np.array_equal(a, cached.parts()[1][n]) for n, a in result.parts()[1].items())
    assert not [warning for warning in result.warnings if "diverged" in warning]
    results[study.NAME] = result


def share_alike(one: np.ndarray, other: np.ndarray) -> float:
    """Of two arrays: the share of entries that are equal, floats to a hundredth of the array's
    spread.
    """
    if one.shape != other.shape or one.dtype.kind != "f":
        return (
            float(np.mean(one == other))
            if one.shape == other.shape and one.size
            else float(one.shape == other.shape)
        )
    room = 0.01 * np.nanstd(one[np.isfinite(one)]) if np.isfinite(one).any() else 0.0
    return (
        float(np.mean(np.isclose(one, other, rtol=1e-3, atol=room, equal_nan=True)))
        if one.size
        else 1.0
    )


def alike(one: Result, other: Result) -> bool:
    """The same but for the last digit of a sum, which may turn a near tie: two answers in a
    thousand, a tile of an image.
    """

    def timed(result):
        return {n: value for n, value in result.metrics.items() if "second" not in n}

    if (
        timed(one) != pytest.approx(timed(other), rel=1e-3, abs=2e-3, nan_ok=True)
        or one.images.keys() != other.images.keys()
    ):
        return False

    def pixels(png):
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)

    seen = all(
        share_alike(pixels(png) // 8, pixels(other.images[n]) // 8) > 0.9
        for n, png in one.images.items()
    )
    return seen and all(
        share_alike(array, other.arrays[n]) > 0.97 for n, array in one.arrays.items()
    )


@pytest.mark.parametrize("study", TWICE, ids=SMALL)
def test_the_same_seed_gives_the_same_result_and_another_seed_another(study, store, results):
    """Up to what rounding may turn: float32 features of fresh and of stored arrays differ in their
    last digit.
    """
    first = results.get(study.NAME) or finish(study.run(Lab(store)))[1]
    second = finish(study.run(Lab(store)))[1]
    assert alike(first, second) and first.guarantee == second.guarantee
    other = finish(study.replace(seed=12345).run(Lab(store)))[1]
    assert not alike(first, other)


@EACH
def test_a_study_survives_json_and_its_own_command_line(study):
    assert key(type(study)(**json.loads(study.model_dump_json()))) == key(study)
    texts = dict(part.split("=", 1) for part in command(study).split("--set ")[1:])
    assert key(build(type(study), {n: t.strip() for n, t in texts.items()})) == key(study)


@EACH
def test_a_result_holds_plain_numbers_arrays_and_png_bytes(study, store, results):
    result = results.get(study.NAME) or finish(study.run(Lab(store)))[1]
    assert all(type(v) in (int, float) for v in result.metrics.values())
    assert all(png.startswith(b"\x89PNG") for png in result.images.values())
    assert all(type(a) is np.ndarray and a.dtype != object for a in result.arrays.values())
    json.dumps(result.parts()[0])


@EACH
def test_a_guarantee_names_what_it_protects_and_nothing_is_promised_without_an_epsilon(
    study, store, results
):
    promise = (results.get(study.NAME) or finish(study.run(Lab(store)))[1]).guarantee
    assert isinstance(promise, Guarantee) and promise.unit and promise.mechanism and promise.note
    if promise.epsilon is not None:
        assert 0.5 <= promise.odds_mechanism <= promise.odds_any <= 1
        assert promise.neighbours and promise.against and 0 < promise.delta < 1


@EACH
def test_presets_are_allowed_and_named_fields_exist(study):
    for preset in type(study).PRESETS:
        type(study).preset(preset)
    names = set(parameters.specs(type(study)))
    assert {"dataset", "seed"} <= names
    # the field's terms, not nicknames
    assert not {n for n in names if n in ("eps", "sigma", "lr", "clip", "bs", "max_norm")}
