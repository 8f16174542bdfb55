"""Whoever draws for a promise draws at the rate that is charged: each row by a coin of its own.

Watched are the rows that reach a step, whatever drew them, so that nothing between the plan and the
step goes unseen. Every check also rejects a rate 1.05 times as large, and batches of one size.
"""

import ast
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from engine.datasets import registry
from engine.learning.linear import LinearShadowModels, LinearTraining
from engine.learning.stacked_steps import Group, Stacked
from engine.learning.supervised import PrivateFit
from engine.learning.trainer import Training
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.fidelity.dcgan import GANTrainer
from engine.studies.fidelity.gan import GAN
from engine.studies.gradient_sharing.federation import NOT_ASKED, Federation
from engine.studies.gradient_sharing.gradient_sharing import GradientSharing
from engine.studies.synthesis.classifier import Classifier
from tests.conftest import ROOT
from tests.studies.gradient_sharing.test_federation import clients, plan_of, small_task

CPU, LEVEL, WRONG = torch.device("cpu"), 1e-4, 1.05
N = 4000  # images
DPT = {"batch_size": 400, "epochs": 15, "noise_multiplier": 1.0}


# --- the check ------------------------------------------------------------------------------------


def p_values(drawn, rate):
    """Of drawn (batches, rows) bool, if each row joined each batch by a coin of its own: p-values
    (two-sided) of how many joined, of how often each row did, and of how the batches' sizes vary.
    """
    batches, n = drawn.shape
    total = stats.binomtest(int(drawn.sum()), drawn.size, rate).pvalue

    def spread(counts, of):
        return ((counts - of * rate) ** 2).sum() / (of * rate * (1 - rate))

    def both(found, count):
        return 2 * min(stats.chi2.cdf(found, count), stats.chi2.sf(found, count))

    return (total, both(spread(drawn.sum(0), batches), n), both(spread(drawn.sum(1), n), batches))


def as_charged(drawn, rate) -> bool:
    return min(p_values(drawn, rate)) > LEVEL


def drawn_at(rate, batches=200, seed=0):
    return np.random.default_rng(seed).random((batches, N)) < rate


def of_one_size(drawn, rate):
    """As ordinary trainings draw them: shuffled, and cut into equal parts."""
    rng, each = np.random.default_rng(1), round(1 / rate)
    parts = np.concatenate([np.argsort(rng.random((len(drawn) // each + 1, N))) * each // N])
    return np.concatenate([part == np.arange(each)[:, None] for part in parts])[: len(drawn)]


def stuck(drawn, rate):
    """The first batch, again and again."""
    return drawn[:1].repeat(len(drawn), 0)


def some_more_often(drawn, rate):
    """A hundred rows at twice the rate, others at a little less: as many in all."""
    chances = np.full(N, rate * (N - 200) / (N - 100))
    chances[:100] = 2 * rate
    return np.random.default_rng(2).random(drawn.shape) < chances


def test_the_check_takes_nearly_all_true_draws():
    assert sum(as_charged(drawn_at(0.05, 150, seed), 0.05) for seed in range(60)) == 60


@pytest.mark.parametrize("error", [of_one_size, stuck, some_more_often])
def test_the_check_rejects_what_are_no_coins(error):
    assert not as_charged(error(drawn_at(0.05), 0.05), 0.05)


def test_the_check_rejects_a_rate_that_is_a_twentieth_off():
    assert not any(
        as_charged(drawn_at(0.05 * wrong, 150, seed), 0.05)
        for seed in range(30)
        for wrong in (WRONG, 1 / WRONG)
    )


# --- the places -----------------------------------------------------------------------------------
# Each gives the rows of its steps (batches, rows) bool, drawn at `wrong` times its plan's rate,
# and the rate that its ε is charged for.


def table(batches, n):
    """Lists of rows → (batches, n) bool. No row comes twice."""
    found = np.zeros((len(batches), n), np.int64)
    for counts, rows in zip(found, batches):
        np.add.at(counts, np.asarray(rows), 1)
    assert found.max() <= 1
    return found > 0


def faster(plan, wrong):
    rate = plan.mechanism.sample_rate * wrong
    return replace(plan, mechanism=replace(plan.mechanism, sample_rate=rate))


def private_teacher(wrong):
    """Labels that are the rows' own numbers say which rows reach the gradient."""
    study, seen = Classifier(private=True, batch_size=400, epochs=1), []
    mechanism = study.mechanism(N)
    fit = PrivateFit(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)),
        torch.zeros(N, 2, 2, 1, dtype=torch.uint8),
        torch.arange(N),
        replace(mechanism, sample_rate=mechanism.sample_rate * wrong),
        learning_rate=1.0,
        streams=study.streams(),
    )
    fit.gradient = lambda images, labels: seen.append(labels)
    while len(seen) < 150:
        steps = list(fit.epoch())
    assert wrong > 1 or len(steps) == mechanism.steps // study.epochs
    return table(seen, N), study.guarantee(mechanism).sample_rate


def watched(training, steps=150):
    """The rows that a training learns from, step by step."""
    seen = []
    training.learn = seen.append
    for _ in range(steps):
        training.step()
    return seen


def cnn(wrong, among=None, seed=0):
    study = DPTraining(network="cnn", seed=seed, **DPT)
    plan = study.plan(N)
    training = Training(faster(plan, wrong), registry.load("mnist-5k"), CPU)
    training.among = among
    return training, study.guarantee(plan).sample_rate


def training(wrong):
    found, rate = cnn(wrong)
    return table(watched(found), N), rate


def training_of_some(wrong):
    """A shadow, which learns from half of the images."""
    rows = torch.arange(1, N, 2)
    found, rate = cnn(wrong, rows)
    drawn = table(watched(found, 250), N)
    assert not drawn[:, ::2].any()
    return drawn[:, 1::2], rate


def linear(wrong):
    study, rows = DPTraining(**DPT), np.zeros((N, 6), np.float16)
    plan = study.plan(N)
    found = LinearTraining(faster(plan, wrong), registry.load("mnist-5k"), CPU, rows, rows[:9])
    return table(watched(found), N), study.guarantee(plan).sample_rate


def linear_shadows(wrong):
    study, rows, images = DPTraining(**DPT), np.zeros((N, 6), np.float16), registry.load("mnist-5k")
    plan = study.plan(N)
    found = LinearShadowModels(
        faster(plan, wrong), images, CPU, rows, images.train_labels, np.ones((N, 1), bool)
    )
    return table(watched(found), N), study.guarantee(plan).sample_rate


def discriminator(wrong):
    """Labels that are the rows' own numbers, as the discriminator is shown them."""
    study, seen = GAN(), []
    plan = study.plan(N)
    small = replace(faster(plan, wrong), generator_width=8, discriminator_width=8)
    game = GANTrainer(small, np.zeros((N, 32, 32, 1), np.uint8), np.arange(N), 1, CPU)
    game.make, game.train_generator = (lambda count: (None, None)), lambda: None
    game.discriminate = lambda real, labels, *made: seen.append(labels)
    rounds = 0
    while sum(map(len, seen)) < 50_000:
        game.step()
        rounds += 1
    assert len(seen) == rounds * plan.discriminator_steps
    return table(seen, N), study.guarantee(plan.mechanism).sample_rate


def stacked(wrong, among=None, steps=80):
    """Two members of a sweep: the rows that each step adds up, of all its parts."""
    learners = [cnn(wrong, among, seed) for seed in range(2)]
    group = Group(2)
    for learner, _ in learners:
        group.join(learner)
    stack = Stacked([learner for learner, _ in learners])
    seen = [[[] for _ in range(steps)] for _ in learners]

    def accumulate():
        for member, rows, counted in zip(seen, stack.rows, stack.counted):
            member[stack.learners[0].steps] += rows[counted > 0].tolist()

    stack.accumulate = accumulate
    for _ in range(steps):
        stack.step()
    return [table(member, N) for member in seen], learners[0][1]


def sweep(wrong):
    (first, second), rate = stacked(wrong)
    return np.concatenate([first, second]), rate


def sweep_of_some(wrong):
    rows = torch.arange(1, N, 2)
    (first, second), rate = stacked(wrong, rows, 130)
    drawn = np.concatenate([first, second])
    assert not drawn[:, ::2].any()
    return drawn[:, 1::2], rate


def asked(wrong, order="together"):
    """Clients that are asked on each of many rounds; nobody has anything to say."""
    told = GradientSharing(client_sampling_rate=0.3, noise_multiplier=2.0, rounds=150)
    task, people = small_task(), 400
    server = Federation(
        plan_of(
            noise_multiplier=2.0, max_grad_norm=0.3, client_sampling_rate=0.3 * wrong, order=order
        ),
        clients(task, [[]] * people),
        task.start,
    )
    rounds = np.array([server.round() for _ in range(told.rounds)])
    return rounds != NOT_ASKED, told.guarantee().sample_rate


def asked_in_shifts(wrong):
    return asked(wrong, "asynchronous")


PLACES = [
    private_teacher,
    training,
    training_of_some,
    linear,
    linear_shadows,
    discriminator,
    sweep,
    sweep_of_some,
    asked,
    asked_in_shifts,
]


@pytest.mark.parametrize("place", PLACES)
def test_rows_are_drawn_at_the_rate_that_is_charged(place):
    drawn, rate = place(1.0)
    assert as_charged(drawn, rate), p_values(drawn, rate)


@pytest.mark.parametrize("place", PLACES)
def test_a_rate_a_twentieth_larger_is_rejected(place):
    drawn, rate = place(WRONG)
    assert p_values(drawn, rate)[0] < LEVEL
    assert as_charged(drawn, rate * WRONG)  # and nothing else is wrong with it


# --- no other place -------------------------------------------------------------------------------

# Who names a stream of coins, and which test above watches it; None: it protects nobody.
DRAWS = {
    ("engine/learning/supervised.py", "PrivateFit.__init__"): private_teacher,
    ("engine/learning/trainer.py", "Learner.__init__"): training,
    ("engine/studies/fidelity/dcgan.py", "GANTrainer.__init__"): discriminator,
    ("engine/studies/gradient_sharing/federation.py", "Federation.__init__"): asked,
    (
        "engine/learning/trainer.py",
        "Supervised.__init__",
    ): None,  # shuffled batches of what was released
}


def named_streams(source, name):
    """Functions, named with their classes, that name a stream of batches or clients."""
    found, stack = set(), []

    def visit(node):
        inside = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        stack.extend([node.name] if inside else [])
        for given in node.args if isinstance(node, ast.Call) else ():
            if isinstance(given, ast.Constant) and given.value in ("sampling", "participation"):
                found.add((name, ".".join(stack)))
        for child in ast.iter_child_nodes(node):
            visit(child)
        if inside:
            stack.pop()

    visit(ast.parse(source))
    return found


def test_no_place_that_draws_is_missing_here():
    files = sorted((ROOT / "engine").rglob("*.py"))
    found = [named_streams(path.read_text(), str(path.relative_to(ROOT))) for path in files]
    assert set().union(*found) == set(DRAWS)
    assert set(DRAWS.values()) - {None} <= set(PLACES)


def test_a_new_place_is_found():
    source = "class New:\n    def __init__(self, study):\n        x = study.derive_seed('sampling')"
    assert named_streams(source, "engine/new.py") == {("engine/new.py", "New.__init__")}
