"""What guessing reaches, and what an accuracy hides where classes are uneven."""

import math

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import balanced_accuracy_score

from engine.evaluation import scores

NAMES = ("ants", "bees", "cats")


@pytest.mark.parametrize("seed", range(20))
def test_guessing_and_balanced_accuracy_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    labels, said = (rng.choice(5, 200, p=rng.dirichlet(np.ones(5))) for _ in range(2))
    # one wrong class for all others
    known = np.where(np.isin(said, labels), said, labels.max() + 1)
    theirs = balanced_accuracy_score(labels, known)
    assert scores.balanced_accuracy(labels, said) == pytest.approx(theirs, abs=1e-12)
    nothing = np.zeros((len(labels), 1))
    dummy = DummyClassifier(strategy="most_frequent").fit(nothing, labels)
    assert scores.guessing(labels) == pytest.approx(dummy.score(nothing, labels))
    assert scores.guessing(labels) > 1 / 5 + 1e-9  # one over the classes would be told too low


def test_the_accuracy_of_each_class_leaves_out_classes_without_images():
    labels, said = np.array([0, 0, 0, 0, 2, 2]), np.array([0, 0, 0, 2, 2, -1])
    found = scores.per_class(labels, said == labels, NAMES)
    assert found == {"ants": 0.75, "cats": 0.5}


def test_a_folder_of_two_hundred_to_two_shows_what_always_saying_one_class_is_worth():
    labels, said = np.r_[np.zeros(200, int), np.ones(2, int)], np.zeros(202, int)
    found = scores.beside(labels, said)
    assert found["guessing"] == pytest.approx(200 / 202) and found["balanced_test_accuracy"] == 0.5
    told = scores.warnings(labels, NAMES)
    assert "No test image shows cats: the accuracy says nothing of it." in told
    parts = ("200 show ants and 2 bees", "99.0 %", "where guessing reaches 50.0 %")
    assert any(all(part in one for part in parts) for one in told)


def test_even_classes_need_no_balanced_accuracy_and_no_warning():
    labels = np.arange(300) % 3
    assert scores.beside(labels, labels) == {"guessing": pytest.approx(1 / 3)}
    assert scores.warnings(labels, NAMES) == []
    assert not scores.uneven(np.r_[labels, np.zeros(80, int)])
    assert scores.uneven(np.r_[labels, np.zeros(100, int)])


def test_no_images_are_no_accuracy():
    none = np.zeros(0, int)
    assert math.isnan(scores.guessing(none)) and math.isnan(scores.balanced_accuracy(none, none))
    assert not scores.uneven(none)
    assert "ants, bees, cats" in scores.warnings(none, NAMES)[0]
