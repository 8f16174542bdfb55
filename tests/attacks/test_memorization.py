"""Nearest neighbours against scikit-learn, structural similarity against scikit-image, and
yardsticks that catch planted copies.
"""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from engine.attacks import memorization


def rows(count, seed=0, size=20):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_scikit_learns():
    queries, references = rows(1200), rows(700, 1)
    distances, found = NearestNeighbors(n_neighbors=1).fit(references).kneighbors(queries)
    mine, measured = memorization.nearest(queries, references)
    assert measured.numpy() == pytest.approx(distances[:, 0], rel=1e-4)
    assert (queries - references[mine]).norm(dim=1).numpy() == pytest.approx(
        distances[:, 0], rel=1e-4
    )
    # which of two as near is the last digit's affair
    assert (mine.numpy() == found[:, 0]).mean() > 0.99


def test_left_out_is_the_query_itself():
    references = rows(600)
    distances, found = NearestNeighbors(n_neighbors=2).fit(references).kneighbors(references)
    mine, measured = memorization.nearest(references, references, leave_out=True)
    assert measured.numpy() == pytest.approx(distances[:, 1], rel=1e-4)
    assert (references - references[mine]).norm(dim=1).numpy() == pytest.approx(
        distances[:, 1], rel=1e-4
    )
    assert (mine.numpy() == found[:, 1]).mean() > 0.99 and (mine.numpy() != np.arange(600)).all()


def test_an_exact_copy_has_distance_zero_even_far_from_the_origin():
    references = rows(100) + 1000
    assert memorization.nearest(references[:10].clone(), references)[1].max() == 0


def test_structural_similarity_is_scikit_images():
    generator = torch.Generator().manual_seed(0)
    for channels in (1, 3):
        images, references = (
            torch.rand(4, channels, 24, 20, generator=generator),
            torch.rand(30, channels, 24, 20, generator=generator),
        )
        references[7] = 0.9 * images[2]
        oracle = np.array(
            [
                [
                    structural_similarity(a.numpy(), b.numpy(), data_range=1.0, channel_axis=0)
                    for b in references
                ]
                for a in images
            ]
        )
        found, value = memorization.nearest_by_ssim(images, references)
        assert np.array_equal(found, oracle.argmax(1)) and value.numpy() == pytest.approx(
            oracle.max(1), abs=1e-5
        )
        assert found[2] == 7


def test_copies_score_as_copies_and_strangers_as_chance():
    training, held, strangers = rows(4000, 1), rows(1000, 2), rows(1000, 3)
    copies = memorization.copies(training[:500], training, held)
    assert copies.share == 1 and copies.median == 0
    assert memorization.copies(strangers, training, held).share == pytest.approx(
        memorization.CHANCE, abs=0.03
    )
    near = training[:500] + 0.3 * rows(500, 4)  # close to training images, no copies
    assert memorization.copies(near, training, held).share > 0.9
    half = torch.cat([training[:250], strangers[:250]])
    assert memorization.copies(half, training, held).share == pytest.approx(
        0.5 + 0.5 * memorization.CHANCE, abs=0.03
    )


def test_membership_is_the_area_under_the_curve():
    members, others = (
        np.random.default_rng(0).normal(1, 1, 500),
        np.random.default_rng(1).normal(0, 1, 800),
    )
    truth = np.r_[np.ones(500), np.zeros(800)]
    assert memorization.membership(members, others) == pytest.approx(
        roc_auc_score(truth, np.r_[members, others])
    )
    assert memorization.membership(members, members) == 0.5
    best = max(((members >= t).mean() + (others < t).mean()) / 2 for t in np.r_[members, others])
    assert memorization.advantage(members, others) == pytest.approx(best)


def test_exact_copies_are_found_again_and_a_test_that_is_blind_says_so():
    training, held = rows(1000, 1), rows(300, 2)
    threshold = np.quantile(memorization.copies(training[:300], training, held).yardstick, 0.01) / 3
    assert memorization.found_again(training, held, threshold) == 1
    # half of the held-out images were learned from
    twice = torch.cat([training[:150], held[150:]])
    assert memorization.found_again(training[:300], twice, threshold) == pytest.approx(
        0.5, abs=0.02
    )
    blinded = np.quantile(memorization.copies(training[:300], training, twice).yardstick, 0.01) / 3
    assert blinded == 0 and memorization.found_again(training, twice, blinded) == 0
    alike = torch.ones(50, 20)
    assert memorization.found_again(alike, alike, threshold) == 0
