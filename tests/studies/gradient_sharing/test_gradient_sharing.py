"""Studies `initial_model`, `gradient_sharing` and `arms`: who has which images, what each arm is,
what a client is promised, what is refused.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import pld_privacy_accountant

from engine.core.lab import Lab
from engine.core.study import Refused, build, key
from engine.datasets import registry
from engine.learning.networks import report_cnn
from engine.studies.ensemble import Ensemble
from engine.studies.gradient_sharing.gradient_sharing import ALONE, GradientSharing, shares
from engine.studies.gradient_sharing.initial_model import InitialModel
from tests.conftest import finish, full_unless

TINY = {"clients": 4, "images_per_client": 60, "rounds": 3, "initial_epochs": 3}


def tiny(**changes):
    return GradientSharing(**TINY | changes)


@pytest.fixture(scope="module")
def lab(common):
    return Lab(common)


def ran(lab, study):
    return finish(lab.need(study))[1]


# --- whose images -------------------------------------------------------------------------------


@pytest.mark.parametrize("unevenness", [None, 0.05, 1.0, 1000.0])
def test_every_image_is_with_one_client_and_none_is_the_companys(unevenness):
    study, labels = (
        GradientSharing(unevenness=unevenness, company_share=0.3),
        registry.load("mnist-5k").train_labels,
    )
    owned, (company, rest) = study.owned(labels), study.split(len(labels))
    together = np.concatenate(owned)
    assert (
        len(owned) == 20
        and np.array_equal(np.sort(together), rest)
        and not set(together) & set(company)
    )
    assert len(company) == 1200 and len(together) + len(company) == 4000


def test_a_small_alpha_is_uneven_and_a_large_one_is_not():
    labels = np.repeat(np.arange(10), 400)

    def spread(alpha):
        return [
            np.bincount(labels[rows], minlength=10)
            for rows in shares(labels, 20, alpha, np.random.default_rng(0))
        ]

    def most(alpha):
        return np.mean([counts.max() / max(1, counts.sum()) for counts in spread(alpha)])

    assert most(0.05) > 0.6 and most(1000.0) < 0.2 and most(None) < 0.25
    assert (
        min(counts.sum() for counts in spread(0.05))
        < 50
        < max(counts.sum() for counts in spread(0.05))
    )


def test_images_each_and_all_images_in_one_place_are_the_same_pool():
    labels = registry.load("mnist-5k").train_labels
    study = tiny(unevenness=0.5)
    assert np.array_equal(
        np.sort(np.concatenate(study.owned(labels))),
        np.sort(np.concatenate(study.arms()["all images in one place"].owned(labels))),
    )
    assert all(len(rows) == 60 for rows in tiny().owned(labels))


# --- the arms -------------------------------------------------------------------------------------


def test_arms_that_share_nothing_do_not_know_what_others_share():
    one, other = (
        tiny(fraction=0.3, noise_multiplier=2.0, policy="random", keep_rest=True),
        tiny(delta=1e-6, order="turns"),
    )
    for name in ("no update", "each client alone", "all images in one place"):
        assert key(one.arms()[name]) == key(other.arms()[name])
    assert "30 %" in one.arms() and one.arms()["30 %"] == one


def test_arms_are_what_they_say(lab):
    members = tiny().arms()
    results = {name: ran(lab, member) for name, member in members.items()}
    metrics = {name: result.metrics for name, result in results.items()}
    first = {m["initial_accuracy"] for name, m in metrics.items()}
    assert len(first) == 1 and metrics["no update"]["test_accuracy"] in first
    assert metrics["no update"].get("bytes") is None and results["each client alone"].metrics[
        "clients_trained"
    ] == min(ALONE, 4)
    assert (
        metrics["each client alone"]["worst"]
        <= metrics["each client alone"]["test_accuracy"]
        <= metrics["each client alone"]["best"]
    )
    assert (
        metrics["1 %"]["bytes"]
        < metrics["10 %"]["bytes"]
        < metrics["20 %"]["bytes"]
        < metrics["100 %"]["bytes"]
    )
    assert (
        metrics["100 %"]["bytes"]
        == 4 * 3 * (10 + 4 * 26_010)
        == results["100 %"].arrays["sent"].sum()
    )
    assert metrics["all images in one place"]["bytes"] == 240 * 784
    assert (
        metrics["all images in one place"]["test_accuracy"] > metrics["no update"]["test_accuracy"]
    )
    assert (
        results["10 %"].curves["bytes"][-1] == (3.0, metrics["10 %"]["bytes"])
        and len(results["10 %"].curves["test_accuracy"]) == 4
    )
    assert results["10 %"].arrays["images"].sum() == 240


def test_together_they_are_the_results_that_each_would_be_alone(lab):
    members = tuple(tiny(seed=5, fraction=f) for f in (0.1, 1.0))
    events, result = finish(lab.need(Ensemble(members=members)))
    assert {e.curve for e in events if hasattr(e, "curve")} >= {
        "0:test_accuracy",
        "1:test_accuracy",
        "0:client 0",
        "1:bytes",
    }
    fresh = finish(members[0].run(lab))[1]
    # one core or two
    assert np.allclose(ran(lab, members[0]).arrays["weights"], fresh.arrays["weights"], atol=1e-4)
    assert result.guarantee.epsilon is None and "fraction" in result.guarantee.note


@pytest.mark.parametrize(
    "changes",
    [
        {"trained": "last"},
        {"policy": "random"},
        {"policy": "threshold", "threshold": 0.05},
        {"order": "turns"},
        {"order": "asynchronous"},
        {"keep_rest": True},
        {"company_share": 0.0},
        pytest.param(
            {"images_per_client": None, "unevenness": 0.02, "clients": 30},
            marks=pytest.mark.full,
        ),
        {"noise_multiplier": 1.0, "client_sampling_rate": 0.5, "dropout": 0.3},
        {"noise_multiplier": 1.0, "noised_by": "client"},
        {"clients": 1},
    ],
    ids=str,
)
def test_every_way_to_share_runs(changes, lab):
    result = ran(lab, tiny(**changes))
    assert (
        not result.facts["diverged"]
        and 0 <= result.metrics["test_accuracy"] <= 1
        and result.arrays["sent"].shape == (3, changes.get("clients", 4))
    )
    if changes.get("unevenness"):
        assert (
            result.metrics["clients_without_images"] > 0
            and (result.arrays["images"] > 0).sum(1).min() <= 1
        )
    if changes.get("trained"):
        assert result.metrics["gradients"] == 330


def test_a_diverging_training_ends_and_says_so(lab):
    result = ran(lab, tiny(learning_rate=100.0, fraction=1.0, rounds=5, activation="relu"))
    assert (
        result.facts["diverged"]
        and result.metrics["refused_honest"] == result.metrics["refused"] > 0
    )
    broken = ran(lab, tiny(faulty="huge"))
    assert (
        not broken.facts["diverged"]
        and broken.metrics["refused"] == 3
        and broken.metrics["refused_honest"] == 0
    )


def test_the_chosen_arm_is_among_those_of_every_series():
    for study in (
        GradientSharing(target_epsilon=3.0),
        GradientSharing(noise_multiplier=0.9999),
        GradientSharing(fraction=0.09999),
        GradientSharing(policy="threshold", keep_rest=True),
        GradientSharing(target_epsilon=0.1, rounds=300, noised_by="client"),
        GradientSharing(),
    ):
        for series in ("arms", "policies") + (
            ("noises",) if study.guarantee().epsilon is not None else ()
        ):
            members = getattr(study, series)()
            assert study in members.values(), (study, series)
    assert all(
        member.plan().max_grad_norm == 1.0
        for member in GradientSharing(target_epsilon=3.0).noises().values()
        if member.arm == "shared"
    )


@pytest.mark.full
def test_clients_that_share_a_tenth_learn_nearly_as_much_as_all_images_in_one_place(lab):
    """The page's own numbers, over fewer rounds; the full ones are in docs/gradient_sharing.md."""
    study = GradientSharing(rounds=8, local_epochs=2)
    accuracy = {
        name: ran(lab, member).metrics["test_accuracy"]
        for name, member in study.arms().items()
        if name in ("no update", "10 %", "all images in one place")
    }
    assert (
        accuracy["no update"] < accuracy["10 %"] - 0.03
        and accuracy["10 %"] > accuracy["all images in one place"] - 0.03
    )


# --- what a client is promised ---------------------------------------------------------------


def oracle(sigma: float, rate: float, rounds: int, delta: float) -> float:
    """dp_accounting's own accountant, from events."""
    accountant = pld_privacy_accountant.PLDAccountant()
    one_round = dp_event.GaussianDpEvent(sigma)
    accountant.compose(
        one_round if rate == 1 else dp_event.PoissonSampledDpEvent(rate, one_round), rounds
    )
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize(
    "sigma,rate,rounds", [(1.0, 1.0, 30), (4.0, 1.0, 30), (0.7, 0.1, 100), (2.0, 0.01, 300)]
)
def test_epsilon_is_dp_accountings_for_the_same_rounds_and_sampling(sigma, rate, rounds):
    promise = GradientSharing(
        noise_multiplier=sigma, client_sampling_rate=rate, rounds=rounds
    ).guarantee()
    wanted = oracle(sigma, rate, rounds, 1e-5)
    assert wanted * (1 - 1e-6) <= promise.epsilon <= 1.01 * wanted
    assert promise.sample_rate == rate and promise.steps == rounds and "client" in promise.unit


@pytest.mark.parametrize("sigma,rounds", [(2.0, 10), (8.0, 30)])
def test_a_client_that_noises_by_itself_is_charged_twice_the_clip_norm_and_no_sampling(
    sigma, rounds
):
    promise = GradientSharing(
        noise_multiplier=sigma, client_sampling_rate=0.1, rounds=rounds, noised_by="client"
    ).guarantee()
    wanted = oracle(sigma / 2, 1.0, rounds, 1e-5)
    assert wanted * (1 - 1e-6) <= promise.epsilon <= 1.01 * wanted
    # what a wrong neighbour and a wrong sampling would promise
    assert promise.epsilon > 3 * oracle(sigma, 0.1, rounds, 1e-5)


@pytest.mark.parametrize("noised_by", ["server", "client"])
def test_a_budget_is_kept_and_nearly_used_up(noised_by):
    promise = GradientSharing(target_epsilon=5.0, rounds=20, noised_by=noised_by).guarantee()
    assert 4.97 <= promise.epsilon <= 5.0


def test_fractions_clipping_and_dropouts_earn_no_epsilon():
    bare = [
        GradientSharing(fraction=0.001),
        GradientSharing(max_grad_norm=0.01),
        GradientSharing(dropout=0.9),
        GradientSharing(client_sampling_rate=0.01),
        *GradientSharing(noise_multiplier=3.0)._like(noise_multiplier=0.0).arms().values(),
    ]
    assert all(study.guarantee().epsilon is None for study in bare)
    with_noise = [
        GradientSharing(noise_multiplier=3.0, **changes).guarantee().epsilon
        for changes in (
            {},
            {"dropout": 0.9},
            {"fraction": 0.001},
            {"order": "turns"},
            {"order": "asynchronous"},
            {"policy": "random"},
            {"keep_rest": True},
        )
    ]
    assert len(set(with_noise)) == 1
    arms = GradientSharing(noise_multiplier=3.0).arms()
    assert [name for name, member in arms.items() if member.guarantee().epsilon is not None] == [
        "1 %",
        "10 %",
        "20 %",
        "100 %",
    ]


def test_the_curve_of_epsilon_ends_at_or_above_what_is_promised(lab):
    for changes in ({"client_sampling_rate": 0.5}, {}, {"noised_by": "client"}):
        study = tiny(noise_multiplier=2.0, **changes)
        result = ran(lab, study)
        spent = [e for _, e in result.curves["epsilon"]]
        assert (
            spent[0] == 0
            and sorted(spent) == spent
            and spent[-1] >= result.guarantee.epsilon * (1 - 1e-3)
        )
    assert GradientSharing().spent(3) == math.inf


def test_arms_with_noise_together_spend_more_than_each(lab):
    members = tuple(tiny(noise_multiplier=2.0, fraction=f) for f in (0.1, 1.0))
    promise = ran(lab, Ensemble(members=members)).guarantee
    each = members[0].guarantee().epsilon
    assert each < promise.epsilon <= 2 * each and promise.epsilon >= oracle(
        2.0 / math.sqrt(2), 1.0, 3, 1e-5
    ) * (1 - 1e-3)


def test_two_arms_with_noise_do_not_share_their_draws():
    one, other = tiny(noise_multiplier=2.0), tiny(noise_multiplier=2.0, fraction=0.2)
    assert one.derive_seed("noise") != other.derive_seed("noise") and one.derive_seed(
        "noise"
    ) != one.derive_seed("participation")


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values,words",
    [
        ({"fraction": "0"}, "fraction: 0 is not allowed; allowed: a number from 0.0001 to 1"),
        ({"fraction": "1.5"}, "1.5 is not allowed"),
        ({"clients": "0"}, "from 1 to 5000"),
        ({"noise_multiplier": "0.001"}, "allowed: 0 .no promise., or a number from 0.01 to 2000"),
        ({"noise_multiplier": "1", "target_epsilon": "3"}, "not both"),
        ({"noise_multiplier": "none"}, "without target_epsilon"),
        ({"unevenness": "0"}, "unevenness"),
        ({"order": "chaos"}, "one of together, turns, asynchronous"),
        ({"company_share": "0.95"}, "from 0 to 0.9"),
        ({"dropout": "1"}, "dropout"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_in_words(values, words):
    with pytest.raises(Refused, match=words):
        build(GradientSharing, values)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"clients": 4000}, "3800 images of mnist-5k are not the company's"),
        ({"images_per_client": 500}, "20 clients would need 10000"),
        ({"clients": 3000, "rounds": 1000}, "500,000 uploads"),
        ({"company_share": 1e-5}, "not even one"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_data_is_refused_in_words(changes, words):
    with pytest.raises(Refused, match=words):
        GradientSharing(**changes).check(registry.preview("mnist-5k"))


def test_a_budget_that_cannot_be_met_is_refused_in_words():
    with pytest.raises(Refused, match="cannot be reached"):
        GradientSharing(
            target_epsilon=0.1, delta=1e-12, rounds=1000, noised_by="client", clients=4
        ).plan()


# --- the initial model ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", full_unless(lambda optimizer: optimizer == "sgd", ["sgd", "rmsprop", "adam"])
)
def test_the_first_model_learns_from_the_companys_images_alone(lab, optimizer):
    result = ran(lab, InitialModel(optimizer=optimizer, company_share=0.2))
    assert result.metrics["test_accuracy"] > 0.85 and result.metrics["images"] == 800
    assert result.curves["test_accuracy"][0][1] < 0.3 and result.guarantee.epsilon is None


def test_without_a_company_there_is_no_first_model(lab):
    result = ran(lab, InitialModel(company_share=0.0))
    assert (
        result.metrics["images"] == 0
        and result.metrics["test_accuracy"] < 0.3
        and len(result.curves["test_accuracy"]) == 1
    )


def test_the_number_of_gradients_is_that_of_the_network(lab):
    assert (
        GradientSharing().gradients(registry.preview("mnist-5k"))
        == ran(lab, InitialModel()).metrics["parameters"]
    )
    for size, channels, classes in ((28, 1, 10), (32, 3, 10), (64, 3, 4), (45, 3, 300)):
        shown = SimpleNamespace(
            classes=range(classes), test_images=np.zeros((1, size, size, channels))
        )
        assert GradientSharing().gradients(shown) == sum(
            p.numel() for p in report_cnn(channels, size, classes, 0).parameters()
        )
