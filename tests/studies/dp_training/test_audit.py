"""The audit of real trainings: canaries in the very code that trains, a lower bound
below the upper bound, and each planted error found.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.attacks.auditing import Canaries
from engine.attacks.canaries import AuditedCNN, AuditedLinear
from engine.core.lab import Lab
from engine.core.study import Refused, build, key
from engine.datasets import registry
from engine.learning.linear import LinearTraining
from engine.studies.dp_training.audit import BUGS, Audit
from engine.studies.shared.features import Features
from tests.conftest import finish

CPU = torch.device("cpu")
SHORT = {"epochs": 10, "noise_multiplier": 2.0, "canaries": 600}
CNN = {"network": "cnn", "batch_size": 200, "epochs": 2, "noise_multiplier": 1.0, "canaries": 300}


@pytest.fixture(scope="module")
def lab(common):
    """With the bundled digits' features already in its store."""
    found = Lab(common)
    finish(found.need(Features()))
    return found


def marked(lab, bug="none", **changes):
    """A training with canaries, before its first step."""
    study = Audit(
        **{"noise_multiplier": 1e-9 + 0.01, "batch_size": 40, "epochs": 1, "canaries": 50} | changes
    )
    images, canaries = (
        registry.load("mnist-5k"),
        Canaries.drawn(50, 80, 2, 10, np.random.default_rng(0)),
    )
    plan = replace(study.training.plan(4000), streams=study.streams())
    if study.training.network == "cnn":
        return AuditedCNN(plan, images, CPU, canaries, bug)
    rows = finish(lab.need(Features()))[1]
    return AuditedLinear(
        plan, images, CPU, rows.arrays["train"], rows.arrays["test"], canaries, bug
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mean_noise": 0.5},
        {"network": "cnn", "max_grad_norm": 1.0},
        {"network": "cnn", "max_grad_norm": 100.0, "norm": "group", "augmentations": 2},
    ],
    ids=str,
)
def test_what_a_row_should_add_is_what_it_adds(lab, changes):
    """Batches of one mark, without noise: the column's sum is the pull that the auditor expects of
    it, sign, label, clipping and all.
    """
    training = marked(lab, **changes)
    training.bind(training.plan.mechanism.max_grad_norm, 0.0)
    weights = (
        training.network.canaries.weight
        if "network" in changes
        else training.weight[:, training.first :]
    )
    with torch.no_grad():
        weights.normal_(0, 0.03, generator=torch.Generator().manual_seed(1))
    columns, labels, signs = training.canaries.rows()
    inside = int(training.canaries.included.sum())
    for row in (0, 5, inside - 1, inside, inside + 13, len(columns) - 1):
        training.learn(torch.tensor([4000 + row]))
        observed, column = training.observed(), columns[row]
        sums = observed.sums[column] + observed.means[column] * observed.bias
        expected = (
            observed.gradients[column]
            if row < inside
            else observed.marker_gradients[column - 50, labels[row] + (0 if signs[row] > 0 else 10)]
        )
        assert 0 < np.linalg.norm(expected) <= 1 + 1e-4
        assert np.allclose(sums, expected, atol=2e-3 * np.linalg.norm(expected)), (
            row,
            sums,
            expected,
        )
        nothing = np.delete(observed.sums + observed.means[:, None] * observed.bias, column, 0)
        assert np.abs(nothing).max() < 2e-3 * np.linalg.norm(expected)


def test_the_images_among_marks_learn_as_they_do_alone(lab):
    """The same batch of images, no marks drawn: the same gradient as without marks, where the
    mean is the same.
    """
    training, rows = marked(lab), finish(lab.need(Features()))[1]
    plain = LinearTraining(
        training.plan,
        registry.load("mnist-5k"),
        CPU,
        rows.arrays["train"],
        rows.arrays["test"],
    )
    plain.mean, training.mean[training.first :] = training.mean[: training.first].clone(), 0.0
    plain.lengths, training.lengths = plain._lengths(), training._lengths()
    batch = torch.arange(100, 400)
    for one, other in zip(training.gradient(batch), plain.gradient(batch)):
        assert torch.allclose(one[..., :3969] if one.dim() == 2 else one, other, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [SHORT, pytest.param(CNN, marks=pytest.mark.full)], ids=["linear", "cnn"]
)
def test_a_correct_training_passes(lab, changes):
    for seed in range(3):
        events, result = finish(build(Audit, changes | {"seed": seed}).run(lab))
        assert (
            result.metrics["lower_bound"] <= result.metrics["upper_bound"]
            and not result.metrics["violated"]
        ), result.facts["checks"]
        assert [e.y for e in events if getattr(e, "curve", "") == "lower_bound"] == [
            y for _, y in result.curves["lower_bound"]
        ]
    assert result.metrics["lower_bound"] > 0.1 or changes is CNN
    assert result.guarantee.epsilon is None and "audit" in result.guarantee.mechanism


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug != "none"])
@pytest.mark.parametrize(
    "changes",
    [SHORT, pytest.param(CNN | {"epochs": 8}, marks=pytest.mark.full)],
    ids=["linear", "cnn"],
)
def test_each_planted_error_is_found(lab, changes, bug):
    _, result = finish(build(Audit, changes | {"bug": bug}).run(lab))
    assert result.metrics["violated"], result.facts["checks"]


def test_without_noise_there_is_nothing_to_audit(store):
    with pytest.raises(Refused, match="without noise there is no ε to audit"):
        finish(Audit(noise_multiplier=0).run(Lab(store)))
    with pytest.raises(Refused, match="canaries: 20000 is not allowed; .* GB of memory"):

        class Shown:
            train_size, test_images = 60_000, np.zeros((10_000, 28, 28, 1), np.uint8)

        Audit(canaries=20_000).check(Shown)


def test_an_audit_draws_what_no_training_draws(lab):
    study = Audit(**SHORT)
    assert key(study) != key(Audit(**SHORT, bug="no clipping"))
    assert study.derive_seed("noise") != study.training.derive_seed("noise")
