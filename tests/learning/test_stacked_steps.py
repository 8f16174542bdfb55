"""Trainings in one step: each is what it would be alone (Opacus and torch.optim are the oracles),
draws for itself, and the step is a fixed program that a GPU can replay.
"""

import numpy as np
import opacus
import pytest
import torch
import torch.nn.functional as F
from opacus.optimizers import DPOptimizer
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from engine.core.errors import Failed
from engine.core.lab import Lab, load
from engine.core.study import Phase, key
from engine.datasets import registry
from engine.learning import stacked_steps
from engine.learning.linear import LinearTraining
from engine.learning.stacked_steps import Group, Stacked
from engine.learning.trainer import OPTIMIZERS, Training, scaled, shifted
from engine.runtime.ensemble import Lockstep
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.shared.features import Features
from tests.conftest import finish

CPU = torch.device("cpu")
CNN = {"network": "cnn", "batch_size": 60, "epochs": 2, "target_epsilon": None}


@pytest.fixture(scope="module")
def images():
    return registry.load("mnist-5k")


@pytest.fixture(scope="module")
def rows(common):
    return finish(Lab(common).need(Features()))[1].arrays


def learner(study, images, rows=None):
    plan = study.plan(len(images.train_images))
    return (
        Training(plan, images, CPU)
        if study.network == "cnn"
        else LinearTraining(plan, images, CPU, rows["train"], rows["test"])
    )


def stacked(studies, images, rows=None, **more):
    return Stacked([learner(study, images, rows) for study in studies], **more)


def drawn(stack, step, member):
    """The rows of one member's batch."""
    return stack.drawn_rows[step, member][stack.drawn_counted[step, member] > 0]


def flat(parameters):
    return torch.cat([p.detach().flatten() for p in parameters])


def assert_moved_alike(found, wanted, start, relative=1e-2):
    """Float32, and the CNN pools the largest: where two pixels are nearly equal the last digit
    decides, which moves a step by up to a thousandth.
    """
    assert (wanted - start).norm() > 0
    assert (found - wanted).norm() <= relative * (wanted - start).norm()


# --- each member is what it would be alone --------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Full backward hook")  # Opacus' own
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_four_steps_are_those_of_opacus_and_torch(optimizer, images):
    """Clip norms that shorten all and none, rates and momenta of their own.

    Without noise, so that they can be compared.
    """
    momenta = {"sgd": (0.0, 0.9, 0.5)}.get(optimizer, (0.0, 0.0, 0.0))
    studies = [
        DPTraining(
            **CNN,
            optimizer=optimizer,
            noise_multiplier=0.0,
            max_grad_norm=clip,
            learning_rate=rate,
            momentum=momentum,
            activation="relu",
            seed=seed,
        )
        for seed, (clip, rate, momentum) in enumerate(
            zip((0.3, 2.0, 100.0), (0.02, 0.05, 0.01), momenta)
        )
    ]
    stack = stacked(studies, images, room=32)  # less than a batch: most come in two or three parts
    start = stack.weights.clone()
    for _ in range(4):
        stack.step()
    assert max(stack.parts[:4]) >= 2
    for member, study in enumerate(studies):
        network = learner(study, images).network
        more = {"momentum": study.momentum} if optimizer == "sgd" else {}
        wrapped = opacus.GradSampleModule(network)
        optimize = DPOptimizer(
            OPTIMIZERS[optimizer](wrapped.parameters(), lr=study.learning_rate, **more),
            noise_multiplier=0.0,
            max_grad_norm=study.clip,
            expected_batch_size=60,
        )
        for step in range(4):
            batch = drawn(stack, step, member)
            optimize.zero_grad()
            # channels first in memory too: Opacus' unfold goes by strides
            chosen = torch.stack(
                [scaled(torch.tensor(images.train_images[[row]]))[0, 0] for row in batch]
            )[:, None]
            F.cross_entropy(wrapped(chosen), torch.tensor(images.train_labels)[batch]).backward()
            optimize.step()
        assert_moved_alike(stack.weights[member], flat(network.parameters()), start[member])


@pytest.mark.parametrize(
    "changes",
    [{"norm": "group", "activation": "tanh"}, {"augmentations": 3}, {"private": False}],
    ids=["group norm", "copies", "no privacy"],
)
def test_it_is_the_step_of_one_alone(changes, images):
    studies = [
        DPTraining(
            **(CNN | ({"noise_multiplier": 0.0} if changes.get("private", True) else {}) | changes),
            learning_rate=rate,
            seed=seed,
        )
        for seed, rate in enumerate((0.1, 0.3))
    ]
    stack = stacked(studies, images)
    start = stack.weights.clone()
    for _ in range(3):
        stack.step()
    for member, study in enumerate(studies):
        alone = learner(study, images)
        for step in range(3):
            batch = drawn(stack, step, member)
            if study.augmentations > 1:
                moves = (
                    stack.drawn_moves[step, member][stack.drawn_counted[step, member] > 0]
                    .long()
                    .permute(2, 0, 1)
                )
                assert (moves[:, :, 0] == 2).all() and moves.unique().tolist() == [0, 1, 2, 3, 4]
                alone.private_gradient(
                    scaled(shifted(alone.images[batch], moves)),
                    alone.labels[batch].repeat_interleave(3),
                )
            else:
                alone.learn(batch)
            alone.advance()
        assert_moved_alike(stack.weights[member], flat(alone.parameters), start[member])


@pytest.mark.parametrize(
    "changes",
    [{}, {"private": False}, {"averaging": 0.9, "momentum": 0.5}],
    ids=["private", "no privacy", "averaged"],
)
def test_it_is_the_step_of_one_linear_model_alone(changes, images, rows):
    noise = {} if changes.get("private") is False else {"noise_multiplier": 0.0}
    studies = [
        DPTraining(epochs=1, batch_size=500, learning_rate=rate, seed=seed, **noise, **changes)
        for seed, rate in enumerate((2.0, 10.0))
    ]
    stack = stacked(studies, images, rows)
    for _ in range(5):
        stack.step()
    for member, study in enumerate(studies):
        alone = learner(study, images, rows)
        for step in range(5):
            alone.learn(drawn(stack, step, member))
            alone.advance()
        assert_moved_alike(stack.weights[member], flat(alone.parameters), torch.zeros(()))
        assert_moved_alike(
            flat(stack.learners[member].released()), flat(alone.released()), torch.zeros(())
        )
        # the learner sees what was learned
        assert torch.equal(flat(stack.learners[member].parameters), stack.weights[member])
        assert (stack.learners[member].averaged is None) == (study.averaging == 0)


def test_noise_is_added_once_however_many_parts_a_batch_has(images):
    studies = [DPTraining(**CNN, noise_multiplier=noise, seed=3) for noise in (1.0, 4.0)]
    whole, parts, twice = (stacked(studies, images, room=room) for room in (None, 20, 20))
    start = whole.weights.clone()
    # planted: noise for every part
    twice.accumulate = lambda: (
        twice._accumulate(),
        twice.noise.copy_(twice.drawn_noise[twice.at]),
        twice.total.add_(twice.noise.float()),
    )
    for stack in (whole, parts, twice):
        for _ in range(3):
            stack.step()
    assert max(parts.parts[:3]) >= 3 and max(whole.parts[:3]) == 1
    assert_moved_alike(parts.weights, whole.weights, start)
    assert (twice.weights - whole.weights).norm() > 0.5 * (whole.weights - start).norm()


def test_a_member_that_diverges_harms_no_other(images):
    calm = DPTraining(**CNN, noise_multiplier=1.0)
    wild = DPTraining(**CNN, noise_multiplier=1.0, learning_rate=100.0, max_grad_norm=100.0)
    both, alone = stacked([calm, wild], images), stacked([calm, calm], images)
    start = both.weights[0].clone()
    for stack in (both, alone):
        for step in range(4):
            stack.step()
            if step == 1 and stack is both:
                stack.weights[1, :9] = float("nan")  # as a diverging learning rate ends
    assert both.weights[1].isnan().any()
    assert_moved_alike(both.weights[0], alone.weights[0], start)


def test_what_is_no_number_counts_nothing_where_there_is_privacy(images, rows):
    """The linear model's residuals are NaN where its weights are; a clipped sum must be 0 then, and
    its neighbour's what it was.
    """
    study = DPTraining(epochs=1, batch_size=500, noise_multiplier=1.0)
    stack = stacked(
        [study, DPTraining(epochs=1, batch_size=500, noise_multiplier=2.0), study.baseline()],
        images,
        rows,
    )
    stack.step()
    stack.accumulate()
    before = stack.total.clone()
    stack.total.zero_(), stack.weights[::2].fill_(float("nan"))
    stack.accumulate()
    assert (
        (stack.total[0] == 0).all()
        and torch.equal(stack.total[1], before[1])
        and before[:2].abs().sum() > 0
    )
    assert stack.total[2].isnan().any()  # without privacy nothing is silenced


# --- draws of their own ---------------------------------------------------------------------------


def checked_draws(coins, noise):
    """p-values of what ε is charged for. coins (steps, members, n) bool, noise (steps, members,
    parameters) of standard deviation 1.
    """
    steps, members, n = coins.shape
    q = 60 / 4000
    often = coins.sum(0).ravel()  # of each row in each member: Binomial(steps, q)
    p_rows = stats.chisquare(
        np.bincount(np.minimum(often, 3), minlength=4),
        np.append(stats.binom.pmf(range(3), steps, q), stats.binom.sf(2, steps, q)) * often.size,
    ).pvalue
    sizes = coins.sum(2).ravel()
    spread = ((sizes - n * q) ** 2 / (n * q * (1 - q))).sum()
    p_sizes = 2 * min(stats.chi2.cdf(spread, sizes.size), stats.chi2.sf(spread, sizes.size))
    met = (coins[:, 0] & coins[:, 1]).sum()  # rows in both members' batches: Binomial(steps·n, q²)
    p_met = stats.binomtest(int(met), steps * n, q * q).pvalue
    p_noise = stats.kstest(noise[:, 0].ravel(), "norm").pvalue
    p_shared = stats.pearsonr(noise[:, 0].ravel(), noise[:, 1].ravel()).pvalue
    return min(p_rows, p_sizes, p_met, p_noise, p_shared)


def released_noise(stack, steps):
    """(steps, members, parameters): how far each step moves the weights where no image asks for
    anything, in units of rate · σC/B.
    """
    stack.accumulate = lambda: None
    found, unit = [], stack.rate * stack.scale / stack.expected
    for _ in range(steps):
        before = stack.weights.clone()
        stack.step()
        found.append(((before - stack.weights) / unit)[:, ::16].clone())
    return torch.stack(found).double().numpy()


def checked_noise(noise):
    """The least p-value of: standard deviation 1, normal, no two steps and no two members alike.
    noise (steps, members, n).
    """
    steps, members, n = noise.shape
    p_size = 2 * min(
        stats.chi2.cdf(np.square(noise).sum(), noise.size),
        stats.chi2.sf(np.square(noise).sum(), noise.size),
    )
    p_normal = stats.kstest(noise.ravel()[:20_000], "norm").pvalue
    alike = np.corrcoef(noise.reshape(steps * members, n))[np.triu_indices(steps * members, 1)]
    # of the largest of so many
    p_alike = stats.norm.sf(np.abs(alike).max() * n**0.5) * 2 * alike.size
    return min(p_size, p_normal, p_alike)


class Quieter(Stacked):
    """Nine tenths of the noise."""

    def step(self):
        if self.at == len(self.parts):
            self._draw()
            self.drawn_noise *= 0.9
        super().step()


class Repeating(Stacked):
    """What was drawn once is used again when it is used up."""

    def step(self):
        self.at = 0 if self.parts and self.at == len(self.parts) else self.at
        super().step()


class Stuck(Stacked):
    """The same noise at every step."""

    def step(self):
        if self.parts:
            self.drawn_noise[self.at % len(self.parts)] = self.drawn_noise[0]
        super().step()


@pytest.mark.parametrize(
    "kind", [Stacked, Quieter, Repeating, Stuck], ids=lambda kind: kind.__name__
)
def test_the_noise_that_reaches_the_weights_is_what_is_charged(kind, images, monkeypatch):
    """Over several refills, for members with clip norms, multipliers and rates of their own;
    planted errors are found.
    """
    monkeypatch.setattr(stacked_steps, "AHEAD", 9 * stacked_steps.MOST * 26_010)
    studies = [
        DPTraining(**CNN, noise_multiplier=noise, max_grad_norm=clip, learning_rate=rate)
        for noise, clip, rate in ((1.0, 1.0, 1.0), (4.0, 0.5, 0.3), (2.0, 3.0, 0.1))
    ]
    stack = kind([learner(study, images) for study in studies])
    assert stack.ahead == 9
    p = checked_noise(released_noise(stack, 22))
    assert p > 1e-4 if kind is Stacked else p < 1e-9


def test_batches_and_noise_are_as_charged_and_each_members_own(images):
    studies = [DPTraining(**CNN, noise_multiplier=2.0, max_grad_norm=clip) for clip in (1.0, 3.0)]
    stack = stacked(studies, images)
    stack._draw()
    steps = len(stack.parts)
    assert steps == stack.ahead == stacked_steps.AHEAD // (stacked_steps.MOST * 26_010)
    coins = np.zeros((steps, 2, 4000), bool)
    for step in range(steps):
        for member in range(2):
            batch = drawn(stack, step, member)
            assert torch.equal(batch, batch.unique())
            coins[step, member, batch] = True
    # σC of each
    noise = (stack.drawn_noise / torch.tensor([2.0, 6.0])[:, None]).numpy()[:, :, :500]
    assert checked_draws(coins, noise) > 1e-4
    planted = {
        "shuffled batches": (
            np.stack(
                [
                    np.stack(
                        [
                            np.isin(
                                np.arange(4000),
                                np.random.default_rng(s * 2 + m).permutation(4000)[:60],
                            )
                            for m in range(2)
                        ]
                    )
                    for s in range(steps)
                ]
            ),
            noise,
        ),
        "the same batches for both": (coins[:, [0, 0]], noise),
        "the same noise for both": (coins, noise[:, [0, 0]]),
        "noise of 0.9": (coins, 0.9 * noise),
    }
    for name, (their_coins, their_noise) in planted.items():
        assert checked_draws(their_coins, their_noise) < 1e-6, name


def test_members_that_differ_in_anything_draw_otherwise_and_in_a_group_as_alone(
    images, monkeypatch
):
    """Batches, noise and shifts, over two refills: what is stored under a key does not depend on
    who trained beside it.
    """
    monkeypatch.setattr(stacked_steps, "AHEAD", 3 * stacked_steps.MOST * 26_010)
    studies = [
        DPTraining(**CNN, noise_multiplier=noise, augmentations=2) for noise in (2.0, 2.5, 3.0)
    ]
    several, alone = stacked(studies, images), stacked(studies[2:], images)
    for _ in range(3):
        several._draw(), alone._draw()
        assert len(several.parts) == 3
        assert torch.equal(several.drawn_noise[:, 2], alone.drawn_noise[:, 0])
        assert not torch.equal(several.drawn_noise[:, 1], several.drawn_noise[:, 2])
        for step in range(3):
            mine, its = several.drawn_counted[step, 2] > 0, alone.drawn_counted[step, 0] > 0
            assert (
                torch.equal(drawn(several, step, 2), drawn(alone, step, 0))
                and len(drawn(alone, step, 0)) > 20
            )
            assert torch.equal(several.drawn_moves[step, 2][mine], alone.drawn_moves[step, 0][its])


def test_what_is_drawn_ahead_fits_into_memory(images):
    large = DPTraining(**(CNN | {"batch_size": 3900, "augmentations": 16}), noise_multiplier=1.0)
    stack = stacked([large], images)
    stack._draw()
    assert stack.drawn_moves.numel() * stack.drawn_moves.element_size() < 2 * stacked_steps.AHEAD
    assert stack.room * stack.copies <= stacked_steps.MOST_ROWS and stack.parts[0] == 2


# --- a fixed program ------------------------------------------------------------------------------


class Program(TorchDispatchMode):
    """Writes down every operation with the shapes and constants that it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def describe(x):
            return (
                ("tensor", tuple(x.shape), x.stride(), x.dtype, x.device.type)
                if isinstance(x, torch.Tensor)
                else repr(x)
            )

        self.seen.append(
            (
                str(func),
                *(describe(x) for x in torch.utils._pytree.tree_leaves((args, kwargs or {}))),
            )
        )
        return func(*args, **(kwargs or {}))


def program(work):
    with Program() as seen:
        work()
    return seen.seen


def on_no_device(stack):
    """The stack with all of its tensors on torch's meta device, which has shapes and no numbers:
    whoever asks for a number, or for as many as the numbers want, or mixes devices, is refused.
    """
    for thing in (stack, stack.gradients):
        for name, value in vars(thing).items():
            if isinstance(value, torch.Tensor):
                setattr(thing, name, value.to("meta"))
    return stack


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
@pytest.mark.parametrize(
    "changes",
    [{"augmentations": 2, "norm": "group"}, {"network": "scattering", "batch_size": 300}],
    ids=["cnn", "linear"],
)
def test_the_step_is_the_same_program_whatever_was_drawn(optimizer, changes, images, rows):
    studies = [
        DPTraining(
            **(CNN | changes),
            optimizer=optimizer,
            noise_multiplier=noise,
            averaging=0.99,
            seed=seed,
        )
        for seed, noise in enumerate((1.0, 3.0))
    ]
    stack = stacked([*studies, studies[0].baseline()], images, rows)
    found = []
    for _ in range(3):
        stack.step()
        found.append((program(stack._accumulate), program(stack._release)))
    assert found[0] == found[1] == found[2] and len(found[0][0]) > 20 and len(found[0][1]) > 5


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
@pytest.mark.parametrize(
    "changes",
    [{"augmentations": 2, "norm": "group"}, {"network": "scattering", "batch_size": 300}],
    ids=["cnn", "linear"],
)
def test_in_the_step_nobody_waits_for_a_number_or_sends_one(optimizer, changes, images, rows):
    study = DPTraining(**(CNN | changes), optimizer=optimizer, noise_multiplier=1.0, averaging=0.99)
    stack = on_no_device(stacked([study, study.baseline()], images, rows))
    seen = program(lambda: (stack._accumulate(), stack._release()))
    where = {
        described[4] for _, *all_ in seen for described in all_ if isinstance(described, tuple)
    }
    assert where == {"meta"} and len(seen) > 25
    planted = {
        "looks at a number": lambda: bool(stack.total.any()),
        "takes what it wants": lambda: stack.counted[stack.counted > 0],
        "asks how many": stack.counted.nonzero,
        "brings numbers of the host": lambda: stack.counted * torch.arange(stack.room),
    }
    for what, work in planted.items():
        with pytest.raises((RuntimeError, NotImplementedError)):
            program(work)
            pytest.fail(f"a step that {what} would be let through")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_a_replayed_step_is_the_step(optimizer, images):
    gpu = torch.device("cuda")
    studies = [
        DPTraining(**CNN, optimizer=optimizer, noise_multiplier=noise) for noise in (1.0, 3.0)
    ]
    replayed, plain = (
        Stacked([Training(study.plan(4000), images, gpu) for study in studies]) for _ in range(2)
    )
    assert replayed.graphs
    plain.graphs = None
    start = plain.weights.clone()
    for stack in (replayed, plain):
        for _ in range(10):
            stack.step()
    assert_moved_alike(replayed.weights, plain.weights, start)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_where_recording_fails_the_step_is_computed_all_the_same(images, monkeypatch):
    def refused(work):
        work()
        raise RuntimeError("not permitted")

    monkeypatch.setattr(stacked_steps, "_graph", refused)
    study = DPTraining(**CNN, noise_multiplier=1.0)
    stack = Stacked([Training(study.plan(4000), images, torch.device("cuda"))])
    start = stack.weights.clone()
    assert not stack.graphs and float(stack.count) == 0
    stack.step()
    assert float(stack.count) == 1 and not torch.equal(stack.weights, start)


# --- through a crew -------------------------------------------------------------------------------


def lockstep(members, store):
    return Lockstep(tuple(members), Lab(store), "trained", "training")


def test_members_are_stored_under_their_own_keys_and_others_may_be_there_already(store):
    members = [
        DPTraining(noise_multiplier=noise, epochs=2, batch_size=500) for noise in (1.0, 2.0, 4.0)
    ]
    earlier = finish(Lab(store).need(members[1]))[1]
    crew = lockstep([*members, members[0].baseline(), members[0]], store)  # one stored, one twice
    events, results = finish(crew.all())
    assert [len(numbers) for numbers in crew.groups] == [5]
    assert (
        results[1].made["finished"] == earlier.made["finished"]
        and results[4].made == results[0].made
    )
    for member, result in zip(members, results):
        assert (
            load(store, key(member)).metrics == result.metrics
            and result.metrics["test_accuracy"] > 0.4
        )
    shares = [e.done / e.total for e in events if isinstance(e, Phase) and "trained" in e.name]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_members_that_are_not_alike_form_groups_of_their_own(store):
    members = [
        DPTraining(noise_multiplier=2.0, epochs=1, batch_size=500, optimizer=optimizer)
        for optimizer in ("sgd", "adam", "adagrad")
    ]
    members += [member.baseline() for member in members] + [
        DPTraining(noise_multiplier=2.0, epochs=1, batch_size=500, seed=seed)
        for seed in range(1, 9)
    ]
    crew = lockstep(members, store)
    assert sorted(len(numbers) for numbers in crew.groups) == [2, 2, 2, 8]
    assert len(finish(crew.all())[1]) == 14


def test_one_that_is_refused_or_diverges_costs_none_of_the_others(store):
    members = [
        DPTraining(noise_multiplier=2.0, epochs=3, batch_size=500),
        DPTraining(target_epsilon=0.1, mean_noise=0.5, epochs=3, batch_size=500),
        DPTraining(
            noise_multiplier=2.0,
            epochs=3,
            batch_size=500,
            learning_rate=100.0,
            momentum=0.99,
            max_grad_norm=100.0,
            seed=1,
        ),
        DPTraining(**CNN | {"epochs": 3, "noise_multiplier": 1.0}),
    ]
    crew = lockstep(members, store)
    with pytest.raises(
        Failed,
        match=(
            "1 of 4 could not be trained; the others are kept. target_epsilon: 0.1 cannot be"
            " reached"
        ),
    ):
        finish(crew.all())
    assert (
        len(crew.results[0].curves["test_accuracy"]) == 3
        and crew.results[0].metrics["test_accuracy"] > 0.8
    )
    assert all(key(members[i]) in store for i in (0, 2, 3))


def test_a_crew_that_is_stopped_leaves_no_lock_behind_and_can_start_again(store):
    members = [DPTraining(noise_multiplier=noise, epochs=3, batch_size=500) for noise in (1.0, 2.0)]
    crew = lockstep(members, store)
    run = crew.all()
    while crew.done[1] < 0.5:
        next(run)
    run.close()
    assert not crew.running and not any(key(member) in store for member in members)
    assert len(finish(lockstep(members, store).all())[1]) == 2


@pytest.mark.parametrize("which", [1, 5, 8], ids=["first", "middle", "last"])
def test_a_failing_step_fails_all_who_took_part(which, store, monkeypatch):
    """Whichever it is: nobody is stored who was promised a step that was never taken.

    A group after it trains all the same.
    """
    step, taken = Stacked.step, []

    def broken(self):
        taken.append(self)
        if len(taken) == which:
            raise MemoryError("no room on the device")
        step(self)

    monkeypatch.setattr(Stacked, "step", broken)
    members = [
        DPTraining(noise_multiplier=noise, epochs=1, batch_size=500) for noise in (1.0, 2.0, 3.0)
    ] + [DPTraining(noise_multiplier=1.0, epochs=1, batch_size=400)]
    crew = lockstep(members, store)
    with pytest.raises(
        Failed, match="3 of 4 could not be trained; the others are kept.*no room on the device"
    ):
        finish(crew.all())
    assert [key(member) in store for member in members] == [False, False, False, True]
    assert all(error.__traceback__ is None for error in crew.failed.values())


def test_a_step_that_fails_when_one_leaves_is_told_to_those_who_asked(store, monkeypatch):
    """The last of a round is in the store already, so that its leaving makes the others step."""
    members = [
        DPTraining(noise_multiplier=noise, epochs=1, batch_size=500) for noise in (1.0, 2.0)
    ] + [DPTraining(noise_multiplier=1.0, epochs=1, batch_size=400)]
    finish(Lab(store).need(members[1]))

    def broken(self, learners):
        if learners[0].plan.batch_size == 500:
            raise MemoryError("no room on the device")
        init(self, learners)

    init = Stacked.__init__
    monkeypatch.setattr(Stacked, "__init__", broken)
    with pytest.raises(Failed, match="1 of 3 could not be trained"):
        finish(lockstep(members, store).all())
    assert [key(member) in store for member in members] == [False, True, True]


def test_what_a_group_held_is_let_go(store):
    """Without waiting for the garbage collector: a device's memory is needed by the next group."""
    import gc
    import weakref

    study, group = DPTraining(noise_multiplier=2.0, epochs=1, batch_size=500), Group(1)
    run = Lab(store, group=group).need(study)
    while group.stacked is None:
        next(run)
    held = weakref.ref(group.stacked)
    finish(run)
    gc.disable()
    try:
        group.end()
        assert held() is None
    finally:
        gc.enable()


def test_images_that_changed_meanwhile_are_not_learned_from_together(images, rows):
    from dataclasses import replace

    study, group = DPTraining(noise_multiplier=2.0, epochs=1, batch_size=500), Group(2)
    group.join(learner(study, images, rows))
    with pytest.raises(RuntimeError, match="the images have changed"):
        group.join(learner(study, replace(images, fingerprint="another"), rows))


def test_a_group_that_has_begun_takes_nobody_in(images, rows):
    group, study = Group(1), DPTraining(noise_multiplier=2.0, epochs=1, batch_size=500)
    first = learner(study, images, rows)
    group.join(first)
    first.step()
    assert first.steps == 1
    with pytest.raises(RuntimeError, match="begun to train"):
        group.join(learner(study, images, rows))


@pytest.mark.full
def test_it_learns_as_well_as_alone(store, tmp_path):
    """Sixteen seeds each way, in a setting in which noise matters: no difference between the means,
    and one that less noise would make is found.
    """
    from cache import Store

    def made(noise):
        return [
            DPTraining(
                noise_multiplier=noise,
                mean_noise=40.0,
                learning_rate=14.0,
                epochs=4,
                batch_size=200,
                seed=seed,
            )
            for seed in range(16)
        ]

    def accuracy(results):
        return [result.metrics["test_accuracy"] for result in results]

    together = accuracy(finish(lockstep(made(4.0), store).all())[1])
    lab = Lab(Store(tmp_path / "alone"))
    alone = accuracy(finish(lab.need(member))[1] for member in made(4.0))
    # planted: seven tenths of the noise
    quieter = accuracy(finish(lockstep(made(2.8), store).all())[1])
    assert stats.ttest_ind(together, alone).pvalue > 1e-3
    assert stats.ttest_ind(quieter, alone).pvalue < 1e-6
