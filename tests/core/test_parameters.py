"""One name for each parameter, wherever it is held; earlier names and paths stand for it."""

from typing import ClassVar

import numpy as np
import pytest
from pydantic import Field, ValidationError

from engine.core import parameters
from engine.core.lab import Lab
from engine.core.parameters import ALIASES, parameter
from engine.core.study import Refused, Study, build, key
from engine.datasets.source import Missing
from engine.studies import STUDIES
from engine.studies.synthesis.bn_synthesis import BNSynthesis
from engine.studies.synthesis.classifier import Classifier
from engine.studies.synthesis.student import Student
from tests.conftest import finish
from tests.core.test_streams import another
from tests.drawing import drawn

OWNERS = [
    (study, old, new)
    for old, new in ALIASES.items()
    for study in STUDIES.values()
    if new in parameters.specs(study)
]


def named(case):
    return case.NAME if isinstance(case, type) else case


@pytest.mark.parametrize(("study", "old", "new"), OWNERS, ids=named)
def test_an_earlier_name_stands_for_the_parameter(study, old, new):
    spec = parameters.spec(study, new)
    others = (value for value in spec.choices or (spec.low, spec.high) if value != spec.default)
    text = spec.format(next(others))
    assert build(study, {old: text}) == build(study, {new: text}) != study()


def test_every_earlier_name_stands_for_a_parameter_of_some_study():
    assert {old for _, old, _ in OWNERS} == set(ALIASES)


def test_an_earlier_name_that_another_study_uses_now_is_that_studys():
    found = build(STUDIES["noisy_training"], {"width": "0.5"})
    assert found.width == 0.5
    with pytest.raises(Refused, match="no such parameter"):
        build(STUDIES["noise"], {"width": "0.5"})


def test_an_earlier_choice_stands_for_the_present_one():
    study = STUDIES["gradient_sharing"]
    assert build(study, {"noised_by": "phone"}).noised_by == "client" != study().noised_by
    with pytest.raises(Refused, match="one of server, client"):
        build(study, {"noised_by": "tablet"})
    page = drawn("gradient_sharing", noised_by="phone", noise_multiplier="1")
    assert not page.exception and not page.error
    assert page.session_state["gradient_sharing.noised_by"] == "client"


def test_an_earlier_name_in_an_address_is_taken():
    page = drawn("gradient_sharing", participants="7", images_per_client="30")
    assert not page.exception and not page.error
    assert page.session_state["gradient_sharing.clients"] == 7
    assert page.session_state["gradient_sharing.images_per_client"] == 30


# --- held studies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["epochs", "synthesis.teacher.epochs"])
def test_a_parameter_is_given_by_its_path_or_its_name(path):
    found = build(Student, {path: "3"})
    assert found.synthesis.teacher.epochs == 3 and found.values()["epochs"] == 3
    assert key(found) == key(Student(synthesis=BNSynthesis(teacher=Classifier(epochs=3))))


def test_a_held_study_that_is_given_as_a_whole_keeps_its_other_values():
    held = BNSynthesis(steps=20, snapshots="5,20")
    found = Student(synthesis=held, epochs=3)
    assert found.synthesis == held.replace(epochs=3) and found.after == 20
    assert found.replace(steps=30).synthesis.snapshots == "5,20"


@pytest.mark.parametrize(
    ("value", "words"),
    [("0", "epochs: 0 is not allowed; allowed: a whole number from 1 to 200"), ("x", "epochs: x")],
)
def test_a_wrong_value_of_a_held_study_is_refused_by_its_name(value, words):
    with pytest.raises(Refused, match=words) as refused:
        build(Student, {"epochs": value})
    assert refused.value.field == "epochs"


def test_two_parameters_of_one_name_are_found():
    class Twice(Study):
        NAME: ClassVar[str] = "test_twice"
        teacher: Classifier = Field(default_factory=Classifier)
        epochs: int = parameter("Epochs", 1, low=1, high=2)

    with pytest.raises(TypeError, match="two parameters called epochs"):
        parameters.specs(Twice)


# --- what has no effect ---------------------------------------------------------------------------

SETTINGS = [
    Classifier(),
    Classifier(private=True),
    Classifier(weights="given", dataset="cifar10"),
    BNSynthesis(private=True),
    Student(),
    Student(source="real"),
    Student(source="real", soft_share=0.5),
]


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A data folder with a file of weights and CIFAR-10's fingerprint."""
    from engine.datasets import registry

    (tmp_path / "weights").mkdir()
    np.savez(tmp_path / "weights" / "narrow_cifar10.npz", some=np.zeros(3))
    monkeypatch.setenv("VEIL_DATA", str(tmp_path))
    monkeypatch.setattr(registry, "fingerprint", lambda name: name)


@pytest.mark.parametrize("study", SETTINGS, ids=lambda s: f"{s.NAME} {s.changed()}")
def test_the_key_covers_what_has_an_effect_and_nothing_else(study, weights):
    for name, spec in parameters.specs(type(study)).items():
        value = another(spec, study.values()[name])
        if value is None or name in ("snapshots", "steps", "after"):
            continue
        try:
            other = study.replace(**{name: value})
            same = key(other) == key(study)
        except (ValidationError, Missing):  # a combination that is refused, data that are not here
            continue
        assert same == (name in study.idle()), name


def test_what_has_no_effect_has_none(store):
    """Students on real images do not look at the synthesis' settings, though they hold them."""
    small = {"source": "real", "images": 40, "student_epochs": 1}
    one, other = (
        finish(Student(**small, **changes).run(Lab(store)))[1]
        for changes in ({}, {"statistics_weight": 9.0, "epochs": 1, "temperature": 7.0})
    )
    assert np.array_equal(one.arrays["predictions"], other.arrays["predictions"])
