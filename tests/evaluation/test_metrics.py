"""Metrics on features against scipy, torchmetrics and what is known in closed form; and what they
say of copies, of nothing and of noise.
"""

import numpy as np
import pytest
import torch
from scipy import linalg

import engine.datasets.vision  # noqa: F401  torchmetrics imports torchvision
from engine.evaluation.metrics import (
    COPY,
    Covered,
    frechet_distance,
    kernel_distance,
    memorised,
    moments,
    nearest_cosine,
    precision_and_recall,
)


def features(n: int, d: int, seed: int = 0, shift: float = 0.0, dead: int = 0) -> np.ndarray:
    """(n, d) float32 as networks give them: not negative, of very different sizes, dependent, some
    never used.
    """
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(99)
    mixed = (
        (rng.normal(size=(n, d)) + shift)
        @ (mixing.normal(size=(d, d)) / d**0.5)
        * np.geomspace(1, 0.03, d)
    )
    found = np.maximum(mixed, 0).astype(np.float32)
    found[:, :dead] = 0.0
    return found


def reference(one: np.ndarray, other: np.ndarray) -> float:
    """The textbook formula with scipy's square root of a matrix, in float64."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    first, second = np.cov(a.T), np.cov(b.T)
    return float(
        ((a.mean(0) - b.mean(0)) ** 2).sum()
        + np.trace(first)
        + np.trace(second)
        - 2 * np.trace(linalg.sqrtm(first @ second)).real
    )


SIZES = [
    (400, 300, 64, 0),
    (64, 64, 64, 0),
    (40, 55, 64, 0),
    (400, 40, 64, 0),
    (300, 300, 64, 20),
    (2, 3, 64, 0),
    (1000, 1000, 8, 0),
]


@pytest.mark.parametrize(("n", "m", "d", "dead"), SIZES, ids=str)
def test_the_frechet_distance_against_scipy(n, m, d, dead):
    one, other = features(n, d, 1, dead=dead), features(m, d, 2, 0.3, dead=dead)
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(
        reference(one, other), rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize(
    ("n", "m", "d", "dead"), [size for size in SIZES if size[0] > size[2]], ids=str
)
def test_the_frechet_distance_against_torchmetrics(n, m, d, dead):
    from torchmetrics.image.fid import _compute_fid

    one, other = features(n, d, 1, dead=dead), features(m, d, 2, 0.3, dead=dead)
    parts = [
        part
        for x in (one, other)
        for part in (torch.tensor(x).double().mean(0), torch.tensor(np.cov(x.astype(np.float64).T)))
    ]
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(
        float(_compute_fid(*parts)), rel=1e-4
    )


def test_two_normals_are_as_far_apart_as_the_closed_form_says():
    rng = np.random.default_rng(0)
    one, other = (
        rng.normal(size=(200_000, 3)) * [1, 2, 3],
        rng.normal(size=(200_000, 3))
        * [
            2,
            2,
            1,
        ]
        + [1, 0, 0],
    )
    # Σ(μ difference)² + Σ(σ difference)²
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(1 + 1 + 0 + 4, rel=0.02)


@pytest.mark.parametrize(("n", "d"), [(500, 64), (30, 64)])
def test_a_set_is_not_far_from_itself_and_as_far_one_way_as_the_other(n, d):
    one, other = features(n, d, 1), features(n, d, 2, 0.5)
    scale = float((moments(one).root ** 2).sum())
    assert frechet_distance(moments(one), moments(one)) < 1e-6 * scale
    assert frechet_distance(moments(one), moments(other)) == pytest.approx(
        frechet_distance(moments(other), moments(one)), rel=1e-6
    )
    assert frechet_distance(moments(one), moments(one[::-1])) < 1e-6 * scale
    assert frechet_distance(moments(one), moments(other)) > 100 * frechet_distance(
        moments(one), moments(one)
    )


def test_constant_images_have_a_distance_and_a_single_one_has_none():
    flat = np.ones((20, 8))
    assert frechet_distance(moments(flat), moments(flat)) == 0.0
    assert frechet_distance(moments(flat), moments(flat + 2)) == pytest.approx(32)
    with pytest.raises(ValueError, match="at least two images"):
        moments(flat[:1])
    with pytest.raises(ValueError, match="two images on each side"):
        kernel_distance(flat, flat[:1])
    with pytest.raises(ValueError, match="more than 3 images"):
        precision_and_recall(flat[:3], flat)
    with pytest.raises(ValueError, match="all features are zero"):
        nearest_cosine(np.zeros((5, 4)), flat[:, :4])


@pytest.mark.parametrize(("n", "m"), [(50, 80), (1500, 1100)])
def test_the_kernel_distance_against_torchmetrics(n, m):
    from torchmetrics.image.kid import poly_mmd

    one, other = features(n, 32, 1), features(n, 32, 2, 0.4)
    assert kernel_distance(one, other) == pytest.approx(
        float(poly_mmd(torch.tensor(one).double(), torch.tensor(other).double())), rel=1e-9
    )
    # of one kind: about nothing, whatever the numbers
    assert kernel_distance(one, features(m, 32, 3)) < 0.05 * kernel_distance(one, other)


def test_the_kernel_distance_is_unbiased():
    found = [
        kernel_distance(features(30, 8, seed), features(40, 8, seed + 1000)) for seed in range(300)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / 300**0.5 and min(found) < 0 < max(found)


def test_precision_and_recall_against_every_pair_looked_at():
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(1200, 4)), rng.normal(size=(1100, 4)) * 0.4 + 0.5

    def far(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))

    def inside(points, others):
        return np.mean((far(points, others) <= np.sort(far(others, others), axis=1)[:, 3]).any(1))

    found = precision_and_recall(real, made)
    assert found.precision == pytest.approx(inside(made, real)) and found.recall == pytest.approx(
        inside(real, made)
    )
    # narrow: all of it real, but not all that is real
    assert found.precision > 0.9 and found.recall < 0.6
    assert precision_and_recall(real, real) == Covered(1.0, 1.0)
    assert precision_and_recall(real, real + 100) == Covered(0.0, 0.0)


# --- memorisation ---------------------------------------------------------------------------------


def test_memorised_as_torchmetrics_computes_it():
    from torchmetrics.image.mifid import _mifid_compute

    for seed, shift in ((2, 0.3), (3, 2.0)):
        real, made = features(300, 16, 1), features(200, 16, seed, shift)
        distance = frechet_distance(moments(real), moments(made))
        tensors = [torch.tensor(x).double() for x in (real, made)]
        parts = [part for x in tensors for part in (x.mean(0), torch.cov(x.T), x)]
        assert memorised(real, made, distance).torchmetrics == pytest.approx(
            float(_mifid_compute(*parts)), rel=1e-6
        )


def test_memorised_as_the_paper_defines_it_looks_from_the_generated_side():
    """Ten real images copied, nine hundred others far away: the paper's distance sees copies
    only, torchmetrics' sees what was left out.
    """
    real = np.random.default_rng(0).normal(size=(910, 64))
    copies = np.repeat(real[:10], 30, axis=0)
    found = memorised(real, copies, frechet_distance(moments(real), moments(copies)))
    assert found.bai_distance < 1e-12 and found.torchmetrics_distance > COPY
    assert found.bai > 1e12 and found.torchmetrics < 1e3


def test_a_perfect_copy_scores_nought_for_torchmetrics():
    real = features(300, 16, 1)
    found = memorised(real, real, 0.0)
    assert found.torchmetrics == 0.0 and found.bai_distance < 1e-12


def test_above_the_threshold_nothing_is_punished():
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(50, 500)), rng.normal(size=(50, 500))
    found = memorised(real, made, 7.0)
    assert (
        found.bai_distance > COPY
        and found.bai == pytest.approx(7.0)
        and found.torchmetrics == pytest.approx(7.0)
    )


def test_cosine_distances_look_at_every_pair_and_leave_zeros_out():
    one, other = features(1500, 12, 1), features(700, 12, 2)
    one[3] = 0.0

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    expected = (
        1 - np.abs(unit(np.delete(one, 3, 0).astype(np.float64)) @ unit(other.astype(np.float64)).T)
    ).min(1)
    assert np.allclose(nearest_cosine(one, other), expected) and len(expected) == 1499
