"""Clients and their server: plain SGD where it must be, the largest gradients, uploads no longer
than the clip norm, noise as charged. Each statistical check also sees a planted error.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from engine.core.streams import Streams, derive_seed
from engine.learning.networks import initialised, report_cnn
from engine.studies.gradient_sharing import federation, wire
from engine.studies.gradient_sharing.federation import (
    DROPPED,
    NOT_ASKED,
    NOTHING,
    REFUSED,
    Clients,
    Federation,
    Task,
)
from engine.studies.gradient_sharing.plan import SharingPlan

QUIET = {"noise_multiplier": 0.0, "max_grad_norm": None}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plan_of(seed=0, **changes):
    return SharingPlan(streams=Streams(seed), **changes)


def small_task(n=60, d=12, classes=4, dtype=torch.float64):
    """A linear model on made-up features, quick enough for statistics."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=draws, dtype=dtype)
    y = torch.randint(0, classes, (n,), generator=draws)
    network = initialised(nn.Sequential(nn.Linear(d, classes)), 0).to(dtype)
    return Task(network, x, y, x, y, lambda z: z, federation.flat(network))


def image_task(n=24, dtype=torch.float64):
    draws = torch.Generator().manual_seed(0)
    x, y = (
        torch.randint(0, 256, (n, 28, 28, 1), generator=draws, dtype=torch.uint8),
        torch.randint(0, 10, (n,), generator=draws),
    )
    network = report_cnn(1, 28, 10, 0, "tanh").to(dtype)
    return Task(
        network, x, y, x, y, lambda z: z.to(dtype) * (2 / 255) - 1, federation.flat(network)
    )


def clients(task, owned, batch_size=100, epochs=1, rate=0.1):
    return Clients(
        task,
        [np.array(rows, int) for rows in owned],
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=rate,
        shuffling=torch.Generator().manual_seed(1),
    )


def thirds(n=60, count=6):
    return np.array_split(np.arange(n), count)


def run(task, owned, rounds=1, plan=QUIET, batch_size=100, **changes):
    federated = Federation(plan_of(**plan, **changes), clients(task, owned, batch_size), task.start)
    return federated, [federated.round() for _ in range(rounds)]


# --- plain SGD ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [small_task, image_task], ids=["linear", "report_cnn"])
def test_one_client_that_shares_everything_is_plain_sgd(make):
    """To float64's rounding: a learning rate that is a millionth off would be seen."""
    task = make()
    n = len(task.train)
    federated, _ = run(task, [np.arange(n)], rounds=5)
    network, order = task.network, torch.Generator().manual_seed(1)
    parameters = list(network.parameters())
    for _ in range(5):
        rows = torch.rand((1, n), generator=order).argsort(1)[0]
        gradients = torch.autograd.grad(
            F.cross_entropy(task.logits(rows), task.labels[rows]), parameters
        )
        with torch.no_grad():
            for p, g in zip(parameters, gradients):
                p.sub_(0.1 * g)
    moved, most = federation.flat(network) - task.start, 1e-12 * task.start.norm()
    assert (federated.weights - task.start - moved).norm() < most
    assert (federated.weights - task.start - moved * (1 + 1e-6)).norm() > most


def alone(task, rows, batch_size, epochs, rate, orders):
    """One client by torch.optim.SGD; returns minus what its weights have moved, over the rate."""
    network = task.network
    torch.nn.utils.vector_to_parameters(task.start.clone(), network.parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    for order in orders:
        for part in torch.as_tensor(rows)[order].split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(task.logits(part), task.labels[part]).backward()
            optimizer.step()
    moved = (task.start - federation.flat(network)) / rate
    torch.nn.utils.vector_to_parameters(task.start.clone(), network.parameters())
    return moved


@pytest.mark.parametrize("make", [small_task, image_task], ids=["linear", "report_cnn"])
def test_uneven_clients_together_train_as_each_would_alone(make, monkeypatch):
    task = make()
    n = len(task.train)
    owned = [np.arange(0, 7), np.arange(7, 8), np.array([], int), np.arange(8, n)]
    these = clients(task, owned, batch_size=4, epochs=2, rate=0.05)
    kept = []
    # in their own order
    monkeypatch.setattr(Clients, "_shuffled", lambda self, rows: kept.append(rows) or rows)
    found = these.accumulated(task.start, [0, 1, 2, 3])
    for i, rows in enumerate(owned):
        wanted = alone(task, rows, 4, 2, 0.05, [torch.arange(len(rows))] * 2)
        assert torch.allclose(found[i], wanted, atol=1e-9), i
    assert float(found[2].abs().max()) == 0 and kept


def test_shuffling_keeps_everybodys_own_images():
    task = small_task()
    these = clients(task, [np.arange(5), np.arange(5, 17), np.array([], int)])
    mixed = these._shuffled(these.rows)
    assert [sorted(row[row >= 0].tolist()) for row in mixed] == [
        list(range(5)),
        list(range(5, 17)),
        [],
    ]
    assert bool((mixed[0, :5] >= 0).all())  # what there is not comes last
    assert not torch.equal(mixed, these._shuffled(these.rows))


def test_the_server_goes_along_the_mean():
    task = small_task()
    federated, _ = run(task, thirds(), server_learning_rate=2.0)
    mean = torch.stack(
        [alone(task, rows, 100, 1, 0.1, [torch.arange(len(rows))]) for rows in thirds()]
    ).mean(0)
    assert torch.allclose(federated.weights, task.start - 0.1 * 2.0 * mean, atol=1e-12)


def test_in_turns_everybody_begins_with_what_the_last_one_left():
    task = small_task()
    federated, _ = run(task, thirds(), order="turns")
    order = torch.randperm(
        6, generator=torch.Generator().manual_seed(derive_seed("public", 0))
    ).tolist()
    weights = task.start
    for i in order:
        weights = weights - 0.1 * clients(task, thirds()).accumulated(weights, [i])[0]
    assert torch.allclose(federated.weights, weights, atol=1e-9)
    together, _ = run(task, thirds())
    assert not torch.allclose(together.weights, federated.weights, atol=1e-3)


def test_a_shift_begins_before_the_last_ones_uploads_are_in():
    task = small_task()
    federated, _ = run(task, thirds(count=4), order="asynchronous")
    order = torch.randperm(
        4, generator=torch.Generator().manual_seed(derive_seed("public", 0))
    ).tolist()
    weights = before = task.start
    for i in order:
        base, before = before, weights
        weights = weights - 0.1 * clients(task, thirds(count=4)).accumulated(base, [i])[0]
    assert torch.allclose(federated.weights, weights, atol=1e-9)


# --- what is uploaded -----------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [1e-4, 0.01, 0.1, 0.333, 1.0])
def test_the_largest_are_numpys_largest(fraction):
    gradients = torch.randn(5, 1000, generator=torch.Generator().manual_seed(0))
    kept = federation.selected(gradients, "largest", fraction).numpy()
    count = max(1, round(fraction * 1000))
    for row, mask in zip(gradients.numpy(), kept):
        assert set(np.flatnonzero(mask)) == set(np.argsort(-np.abs(row))[:count])


def test_ties_and_numbers_that_are_none_do_not_change_how_many():
    gradients = torch.ones(2, 100)
    gradients[1, :50] = float("nan")
    kept = federation.selected(gradients, "largest", 0.3)
    assert kept.sum(1).tolist() == [30, 30] and not bool(kept[1, :50].any())


def test_above_a_threshold_are_all_and_only_those():
    gradients = torch.tensor([[0.1, -0.3, 0.2, float("nan")]])
    assert federation.selected(gradients, "threshold", 1.0, 0.15).tolist() == [
        [False, True, True, False]
    ]


def test_random_ones_are_the_same_for_all_and_new_each_round():
    draws = torch.Generator().manual_seed(0)
    first, second = (
        federation.public_positions(1000, 0.1, draws),
        federation.public_positions(1000, 0.1, draws),
    )
    assert int(first.sum()) == 100 and not torch.equal(first, second)
    assert federation.selected(torch.randn(3, 1000), "random", 0.1, known=first).all(0).equal(first)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e6, 1e30])
def test_no_upload_is_longer_than_the_clip_norm(scale):
    updates = torch.randn(20, 5000, generator=torch.Generator().manual_seed(0)) * scale
    lengths = federation.clipped(updates, 0.7).double().norm(dim=1)
    assert float(lengths.max()) <= 0.7
    assert scale < 1 or float(lengths.min()) > 0.6999  # and no shorter than it must be


def test_what_is_no_number_is_uploaded_as_nothing():
    updates = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0], [3.0, 4.0]])
    assert torch.allclose(
        federation.clipped(updates, 1.0), torch.tensor([[0.0, 0], [0, 0], [0.6, 0.8]]), atol=1e-5
    )


def test_the_rest_is_kept_and_nothing_is_lost():
    task = small_task()
    federated, _ = run(task, thirds(), fraction=0.1, keep_rest=True)
    gradients = clients(task, thirds()).accumulated(task.start, list(range(6)))
    sent = gradients - federated.rest
    assert torch.allclose(federated.weights, task.start - 0.1 * sent.mean(0), atol=1e-12)
    assert (
        (sent.abs() > 1e-12).sum(1) <= federation.count_of(0.1, gradients.shape[1])
    ).all() and bool((federated.rest != 0).any())


def test_who_drops_out_keeps_everything():
    task = small_task()
    federated, rounds = run(task, thirds(), keep_rest=True, dropout=0.99)
    gone = [i for i, said in enumerate(rounds[0]) if said == DROPPED]
    assert len(gone) >= 4
    gradients = clients(task, thirds()).accumulated(task.start, list(range(6)))
    assert torch.allclose(federated.rest[gone], gradients[gone], atol=1e-12)


def test_bytes_are_those_of_the_messages():
    task = small_task()
    n = len(task.start)
    _, rounds = run(task, [*thirds()[:5], []], fraction=0.25)
    kept = federation.count_of(0.25, n)
    # float64: eight bytes each
    assert rounds[0].tolist() == [wire.HEADER.size + -(-n // 8) + 8 * kept] * 5 + [NOTHING]
    _, random = run(task, thirds(), fraction=0.25, policy="random")
    assert random[0].tolist() == [wire.HEADER.size + 8 * kept] * 6


# --- broken clients ------------------------------------------------------------------------------


@pytest.mark.parametrize("faulty", ["nan", "huge"])
@pytest.mark.parametrize(
    "plan", [QUIET, {"noise_multiplier": 0.0, "max_grad_norm": 0.5}], ids=["unclipped", "clipped"]
)
@pytest.mark.parametrize("order", ["together", "turns"])
def test_a_broken_client_is_refused_and_does_no_harm(faulty, plan, order):
    task = small_task()
    federated, rounds = run(task, thirds(), plan=plan, faulty=faulty, rounds=3, order=order)
    assert all(said[0] == REFUSED and (said[1:] > 0).all() for said in rounds)
    if order == "together":
        without, _ = run(task, [[], *thirds()[1:]], plan=plan, rounds=3)
        assert torch.allclose(federated.weights, without.weights, atol=1e-9)
    assert bool(federated.weights.isfinite().all())


# --- privacy --------------------------------------------------------------------------------------


def moved(task, owned, weights=None, **changes):
    """The noised sum that the server has divided: (start − weights) over the rate, times the number
    it divided by.
    """
    federated, _ = run(task, owned, **changes)
    return (task.start - federated.weights) / 0.1 * len(owned) * changes.get("participation", 1.0)


@pytest.mark.parametrize("policy", ["largest", "random", "threshold"])
@pytest.mark.parametrize("order", ["together", "turns", "asynchronous"])
def test_one_participant_moves_a_days_sum_by_at_most_the_clip_norm(policy, order):
    """The first to come is taken out, so that all others begin where they did; noise is there and
    the same.
    """
    task, plan = small_task(), {"noise_multiplier": 1e-9, "max_grad_norm": 0.05}
    settings = {"plan": plan, "policy": policy, "fraction": 0.5, "order": order}
    first = torch.randperm(
        6, generator=torch.Generator().manual_seed(derive_seed("public", 0))
    ).tolist()
    whose = first[-1]  # of those who come last nobody's gradient depends on
    without = [[] if i == whose else rows for i, rows in enumerate(thirds())]
    far = float(
        (
            run(task, thirds(), **settings)[0].weights - run(task, without, **settings)[0].weights
        ).norm()
    )
    group = {"together": 6, "turns": 1, "asynchronous": 2}[order]
    assert 0.99 * 0.05 < far * group / 0.1 <= 0.05 * (1 + 1e-6)
    # a planted error: as if nothing were clipped
    loose = {**settings, "plan": {"noise_multiplier": 1e-9, "max_grad_norm": 10.0}}
    assert (
        float(
            (
                run(task, thirds(), **loose)[0].weights - run(task, without, **loose)[0].weights
            ).norm()
        )
        * group
        / 0.1
        > 0.05
    )


def noises(plan, rounds=400, **changes):
    """What the server added over many rounds in which nobody has anything to say."""
    task = small_task(d=30)
    federated = Federation(plan_of(**plan, **changes), clients(task, [[]] * 5), task.start)
    found = []
    for _ in range(rounds):
        before = federated.weights
        federated.round()
        found.append((before - federated.weights) / 0.1 * 5 * federated.plan.client_sampling_rate)
    return torch.stack(found)


def spread_is(values, sigma) -> bool:
    """Does a two-sided chi-square test at 1e-4 take these for N(0, sigma²)?"""
    values = values.flatten().double()
    statistic = float((values / sigma).square().sum())
    return stats.chi2.ppf(5e-5, len(values)) < statistic < stats.chi2.ppf(1 - 5e-5, len(values))


def test_the_server_adds_the_noise_that_is_charged_even_to_nothing():
    found = noises({"noise_multiplier": 2.0, "max_grad_norm": 0.5})
    assert spread_is(found, 1.0) and not spread_is(0.9 * found, 1.0)
    assert abs(float(torch.corrcoef(found[:2])[0, 1])) < 0.5 and not torch.equal(found[0], found[1])


def test_who_is_asked_rarely_makes_no_less_noise():
    # in most rounds nobody is asked
    found = noises({"noise_multiplier": 2.0, "max_grad_norm": 0.5}, client_sampling_rate=0.01)
    assert spread_is(found, 1.0)


def test_random_positions_get_noise_and_only_those():
    found = noises({"noise_multiplier": 2.0, "max_grad_norm": 0.5}, policy="random", fraction=0.25)
    assert ((found != 0).sum(1) == federation.count_of(0.25, found.shape[1])).all() and spread_is(
        found[found != 0], 1.0
    )


def test_each_client_adds_the_noise_that_is_charged_and_sends_all_of_it():
    plan = {"noise_multiplier": 2.0, "max_grad_norm": 0.5}
    found = noises(plan, noised_by="client", fraction=0.1)  # the mean of five clients, times five
    assert spread_is(found, 1.0 * 5**0.5) and not spread_is(found, 0.9 * 5**0.5)
    task = small_task()
    _, rounds = run(task, [*thirds()[:5], []], plan=plan, noised_by="client", fraction=0.1)
    # all gradients, and one without images sends as much as the others
    assert set(rounds[0]) == {wire.HEADER.size + 8 * len(task.start)}


def test_participants_are_asked_by_independent_coins():
    task = small_task()
    _, rounds = run(task, [[]] * 6, rounds=500, client_sampling_rate=0.3)
    asked = np.array(rounds) != NOT_ASKED  # (rounds, people)
    assert stats.binomtest(int(asked.sum()), asked.size, 0.3).pvalue > 1e-4
    assert len({tuple(one) for one in asked.tolist()}) > 20  # not always so many at a time
    # a planted error is seen
    assert not stats.binomtest(int(asked.sum()), asked.size, 0.27).pvalue > 1e-4
