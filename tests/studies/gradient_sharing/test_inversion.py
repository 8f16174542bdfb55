"""Study `inversion`: what an upload gives away, the attack, and that what is uploaded by a visitor
is never stored.
"""

import base64

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from engine.attacks import gradient_inversion
from engine.core.errors import Failed
from engine.core.lab import Lab
from engine.core.study import Refused, key
from engine.datasets import registry
from engine.learning.networks import report_cnn
from engine.studies.gradient_sharing import wire
from engine.studies.gradient_sharing.inversion import DEFENCES, Inversion
from tests.conftest import finish
from tests.studies.gradient_sharing.test_gradient_sharing import oracle

QUICK = {"company_share": 0.0, "restarts": 1}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    from cache import Store

    return Lab(Store(tmp_path_factory.mktemp("inversion") / "store"))


def ran(lab, **changes):
    return finish(lab.need(Inversion(**QUICK | changes)))[1]


def leak(seed=0, label=4):
    network = report_cnn(1, 28, 10, seed, "tanh")
    shared = list(network.parameters())
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    blank = gradient_inversion.Leak(
        lambda x, network=network: network(x * 2 - 1), shared, torch.empty(0), torch.empty(0)
    )
    gradient = blank.gradient(image, torch.tensor([label])).detach()
    return (
        network,
        image,
        gradient_inversion.Leak(
            blank.network, shared, gradient, torch.ones_like(gradient, dtype=torch.bool)
        ),
    )


def test_the_gradient_is_autograds():
    network, image, held = leak()
    F.cross_entropy(network(image * 2 - 1), torch.tensor([4])).backward()
    assert torch.allclose(
        held.upload, torch.cat([p.grad.flatten() for p in network.parameters()]), atol=1e-7
    )


def test_apart_is_one_minus_the_cosine_on_what_was_sent():
    _, _, held = leak()
    other = torch.randn_like(held.upload)
    kept = torch.rand(len(other)) < 0.1
    part = gradient_inversion.Leak(held.network, held.shared, held.upload * kept, kept)
    a, b = (x[kept].double().numpy() for x in (other, held.upload))
    assert part.apart(other).item() == pytest.approx(
        1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5
    )
    # clipping alone is not even noticed
    assert held.apart(held.upload * 0.01).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_label_stands_in_the_upload(classes):
    for seed in range(20):
        network = report_cnn(1, 28, classes, seed, "tanh")
        held = gradient_inversion.Leak(
            lambda x, network=network: network(x * 2 - 1),
            list(network.parameters()),
            torch.empty(0),
            torch.empty(0),
        )
        label = seed % classes
        gradient = held.gradient(
            torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(seed)),
            torch.tensor([label]),
        ).detach()
        assert (
            gradient_inversion.labels_of(
                gradient, torch.ones_like(gradient, dtype=torch.bool), classes, 32
            )[0]
            == label
        )
        without = gradient.clone()  # no bias came: lengths tell, where there are more than two
        without[-classes:] = 0
        assert (
            gradient_inversion.labels_of(without, without != 0, classes, 32)[0] == label
            or classes == 2
        )
        assert sorted(gradient_inversion.labels_of(without, without != 0, classes, 32)) == list(
            range(classes)
        )
    assert (
        gradient_inversion.labels_of(
            torch.zeros(1000), torch.zeros(1000, dtype=torch.bool), classes, 32
        )
        == []
    )


def test_total_variation_is_numpys():
    x = torch.rand(1, 2, 5, 6)
    wanted = np.abs(np.diff(x.numpy(), axis=2)).mean() + np.abs(np.diff(x.numpy(), axis=3)).mean()
    assert gradient_inversion.total_variation(x).item() == pytest.approx(wanted, rel=1e-5)


def test_an_image_comes_back_from_all_gradients_and_not_through_noise(lab):
    plain, noised = (ran(lab, leak_noise=noise, attack_steps=200) for noise in (0.0, 0.1))
    assert plain.metrics["psnr_db"] > 15 and noised.metrics["psnr_db"] < 12
    assert plain.metrics["label_found"] == 1 and plain.guarantee.epsilon is None


@pytest.mark.full
def test_an_image_is_rebuilt_from_all_gradients_and_not_through_noise(lab):
    """The number that the page promises: 20 dB from the full gradients of an untrained network."""
    plain, noised = ran(lab), ran(lab, leak_noise=0.1, attack_steps=300)
    assert (
        plain.metrics["psnr_db"] >= 20
        and plain.metrics["label_found"] == 1
        and plain.metrics["named_the_same"] == 1
    )
    assert noised.metrics["psnr_db"] < 12 and noised.metrics["noise_to_signal"] > 5
    assert plain.guarantee.epsilon is None
    frames = [name for name in plain.images if name.startswith("film_")]
    assert len(frames) >= 15 and plain.curves["psnr_db"][0][1] < 10


@pytest.mark.parametrize(
    "policy",
    [{}, {"leak_policy": "threshold", "leak_threshold": 0.02}],
    ids=["largest", "threshold"],
)
def test_next_to_no_noise_protects_no_better_than_none(lab, policy):
    """An attacker knows the policy: noise on what was not sent must not blind it."""

    def first(**changes):
        return ran(lab, leak_fraction=0.1, attack_steps=20, **policy, **changes).curves["apart"][0][
            1
        ]

    assert first(leak_noise=1e-7, leak_clip=10.0) == pytest.approx(first(), abs=1e-3)


def test_no_two_uploads_share_their_noise():
    """Or the difference of two would hold none."""
    defences, purpose = Inversion().defences(), "noise"
    names = [
        study.derive_seed(purpose)
        for study in (
            *defences.values(),
            Inversion(index=1),
            Inversion(leak_noise=0.5),
            Inversion().with_image(np.zeros((28, 28, 1), np.uint8)),
        )
    ]
    assert len(set(names)) == len(names)
    assert Inversion().derive_seed("noise") != Inversion().derive_seed("public")


SIGMA, CLIP = 4.0, 0.5  # so much that random positions, other ones without noise, do not matter
POLICIES = {
    "everything": {},
    "largest": {"leak_fraction": 0.1},
    "random": {"leak_fraction": 0.25, "leak_policy": "random"},
    "threshold": {"leak_policy": "threshold", "leak_threshold": 0.02},
    "the last layer": {"layers": "last"},
}


def uploaded(lab, monkeypatch, **changes):
    """What leaves the client, as bytes, read again: (values (n,) float64, which were sent (n,)
    bool).
    """
    study, images, seen, pack = (
        Inversion(**QUICK, **changes),
        registry.load("mnist-5k"),
        [],
        wire.pack,
    )

    def watched(values, sent, known):
        seen.append((pack(values, sent, known), sent.copy(), sent if known else None))
        return seen[-1][0]

    with monkeypatch.context() as watch:
        watch.setattr(wire, "pack", watched)
        finish(study._leak(lab, images, *study.pick(images)))
    message, sent, known = seen[0]
    return wire.unpack(message, len(sent), known).astype(np.float64), sent


def spread_is(values, sigma) -> bool:
    """Does a two-sided chi-square test at 1e-4 take these for N(0, sigma²)?"""
    chance = stats.chi2.cdf(np.square(values / sigma).sum(), len(values))
    return 5e-5 < chance < 1 - 5e-5


@pytest.mark.parametrize("policy", POLICIES)
def test_an_upload_holds_the_noise_that_is_charged_on_all_that_is_sent(lab, monkeypatch, policy):
    """Less the same upload without noise it is N(0, (σC)²). The promise is for σ/2: an image
    replaced moves the upload by 2C.
    """
    changes, seeds = POLICIES[policy], range(8 if policy == "the last layer" else 2)
    clean, _ = uploaded(lab, monkeypatch, leak_clip=CLIP, **changes)
    assert 0.9 * CLIP < np.linalg.norm(clean) <= CLIP
    found, noised = [], {"leak_noise": SIGMA, "leak_clip": CLIP, **changes}
    for seed in seeds:
        values, sent = uploaded(lab, monkeypatch, seed=seed, **noised)
        same, _ = uploaded(lab, monkeypatch, seed=seed, leak_clip=CLIP, **changes)
        assert sent.all() or policy == "random" and not values[~sent].any()
        found.append((values - same)[sent])
    noise = np.concatenate(found)
    assert (
        spread_is(noise, SIGMA * CLIP) and stats.kstest(noise / SIGMA / CLIP, "norm").pvalue > 1e-4
    )
    assert not spread_is(0.9 * noise, SIGMA * CLIP)  # a planted error
    assert abs(np.corrcoef(found[:2])[0, 1]) < 4.5 / len(found[0]) ** 0.5  # each upload's own
    promise = Inversion(**noised).guarantee()
    assert promise.epsilon == pytest.approx(oracle(SIGMA / 2, 1.0, 1, promise.delta), rel=0.01)


def test_an_attack_is_the_same_on_one_core_and_on_two(lab):
    study = Inversion(**QUICK, attack_steps=40, seed=3)
    one, two = (finish(study.run(Lab(lab.store, threads=threads)))[1] for threads in (1, 2))
    assert np.array_equal(one.arrays["rebuilt"], two.arrays["rebuilt"]) and one.curves == two.curves


@pytest.mark.parametrize(
    "changes,sent",
    [
        ({"leak_fraction": 0.1}, 2601),
        ({"leak_fraction": 0.1, "leak_policy": "random"}, 2601),
        ({"leak_fraction": 0.1, "leak_noise": 0.01}, 26_010),
        ({"leak_fraction": 0.1, "leak_noise": 0.01, "leak_policy": "random"}, 2601),
        ({"layers": "last"}, 330),
        ({"model": "initial", "company_share": 0.05, "initial_epochs": 3}, 26_010),
    ],
    ids=str,
)
def test_the_attacker_gets_what_the_policy_sends(lab, changes, sent):
    result = ran(lab, attack_steps=20, **changes)
    assert result.metrics["sent"] == sent and result.metrics["gradients"] == (
        330 if "layers" in changes else 26_010
    )
    assert result.metrics["bytes"] >= 4 * sent


def test_clipping_changes_the_length_and_not_the_direction(lab):
    plain, clipped = ran(lab, attack_steps=20), ran(lab, attack_steps=20, leak_clip=0.01)
    assert (
        clipped.metrics["upload_norm"] == pytest.approx(0.01, rel=1e-4)
        and plain.metrics["upload_norm"] > 1
    )
    assert clipped.curves["apart"][0][1] == pytest.approx(plain.curves["apart"][0][1], abs=1e-3)


def test_what_one_upload_promises_is_dp_accountings_number():
    for noise in (1.0, 4.0):
        promise = Inversion(leak_noise=noise).guarantee()
        wanted = oracle(noise / 2, 1.0, 1, 1e-5)
        assert 0.999 * wanted <= promise.epsilon <= 1.01 * wanted
    # no image to be seen, and next to nothing promised
    assert Inversion(leak_noise=0.001).guarantee().epsilon > 1e5
    assert Inversion(leak_clip=0.1, leak_fraction=0.001).guarantee().epsilon is None


def test_a_visitors_own_image_is_never_stored(lab):
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    study = Inversion(**QUICK, attack_steps=20).with_image(image)
    result = finish(lab.need(study))[1]
    assert key(study) not in lab.store and result.images["true"]
    folder, needles = (
        lab.store.folder,
        (
            base64.b64encode(image.tobytes())[:60],
            image.tobytes()[:60],
            *(png[20:80] for png in result.images.values()),
        ),
    )
    paths = [p for p in folder.rglob("*") if p.is_file()]
    assert paths and not any(needle in p.read_bytes() for needle in needles for p in paths)
    kept = Inversion(**QUICK, attack_steps=20, seed=8)
    shown = finish(lab.need(kept))[1].images["rebuilt"][20:80]
    # one of the data set is found so
    assert key(kept) in lab.store and any(
        shown in p.read_bytes() for p in folder.rglob("*") if p.is_file()
    )
    assert key(study) != key(Inversion(**QUICK, attack_steps=20)) and key(
        study.with_image(255 - image)
    ) != key(study)


def test_an_image_of_another_format_is_refused():
    with pytest.raises(Refused, match="another format"):
        Inversion().with_image(np.zeros((5, 5, 1), np.uint8)).pick(registry.preview("mnist-5k"))


def test_what_is_not_there_is_said(lab):
    with pytest.raises(Refused, match="has the classes 0 to 9"):
        finish(Inversion(category=10).run(lab))
    with pytest.raises(Failed, match="Nothing is above this threshold"):
        ran(lab, leak_policy="threshold", leak_threshold=1e6)


def test_defences_are_of_one_image():
    found = Inversion(category=7, leak_noise=3.0, leak_fraction=0.5).defences()
    assert (
        list(found) == list(DEFENCES)
        and {s.category for s in found.values()} == {7}
        and found["everything"].leak_noise == 0
    )
