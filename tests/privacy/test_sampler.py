"""The sampler of protective noise: normal far out, where float32 noise is not; and no other one."""

import ast
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from opacus.optimizers.optimizer import _generate_noise
from scipy import stats

from engine.attacks.auditing import FLOAT32, LEVEL, Tails
from engine.privacy.noise import GaussianNoise, summed
from tests.conftest import ROOT, finish

DRAWS = 4_000_000


def ours(seed):
    return GaussianNoise(seed).array(DRAWS)


def elsewhere(seed):
    """As on a GPU, from a generator for the CPU."""
    return summed((DRAWS,), torch.Generator().manual_seed(seed)).numpy()


def float32(seed):
    return torch.randn(DRAWS, generator=torch.Generator().manual_seed(seed)).double().numpy()


def opacus(seed):
    generator = torch.Generator().manual_seed(seed)
    return _generate_noise(1.0, torch.zeros(DRAWS), generator).double().numpy()


def cut_off(seed):
    """Nothing beyond 3.9 standard deviations."""
    return GaussianNoise(seed).array(DRAWS).clip(-3.9, 3.9)


def found(draws):
    tails = Tails()
    tails.observe(draws, FLOAT32 * np.abs(draws))
    return tails.p_value()


@pytest.mark.parametrize("sampler", [ours, elsewhere])
def test_protective_noise_is_normal_far_out(sampler):
    assert all(found(sampler(seed)) > LEVEL for seed in range(3))


@pytest.mark.parametrize("sampler", [float32, opacus, cut_off])
def test_the_same_check_rejects_float32_noise_and_that_of_opacus(sampler):
    assert all(found(sampler(seed)) < 1e-9 for seed in range(3))


@pytest.mark.parametrize("sampler", [ours, elsewhere])
def test_protective_noise_is_normal_everywhere(sampler):
    draws = sampler(0)
    assert stats.kstest(draws[:500_000], "norm").pvalue > 0.001
    assert len(np.unique(draws)) == len(draws)
    pairs = np.corrcoef(draws[:-8], draws[8:])[0, 1]
    assert abs(pairs) < 4.5 / np.sqrt(DRAWS)


def test_numpys_float32_numbers_are_a_grid_in_the_tail():
    """Why local noise does not take them: beyond 3.65 they are r − log(1 − k/2²⁴)/r, k whole."""
    r = 3.6541528853610088  # where numpy's ziggurat begins its tail
    draws = {
        kind: np.random.default_rng(0).standard_normal(DRAWS, kind).astype(np.float64)
        for kind in (np.float32, np.float64)
    }
    off = {}
    for kind, found in draws.items():
        far = np.abs(found[np.abs(found) > 4.9])
        steps = 2**24 * np.exp(-(far - r) * r)
        off[kind] = np.abs(steps - steps.round()).mean()
    assert off[np.float32] < 0.15 and off[np.float64] > 0.2  # a quarter, by chance


def test_a_stream_does_not_depend_on_how_it_is_cut():
    whole, cut = GaussianNoise(3).array(1000), GaussianNoise(3)
    parts = [cut.array(7), cut.tensor(3, 1).numpy().ravel(), cut.array((33, 30)).ravel()]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(GaussianNoise(4).array(1000), whole)


def test_noise_is_added_in_float64():
    total = torch.tensor([1e6, -3.0, 0.1], dtype=torch.float32)
    z = GaussianNoise(5).array(3)
    noised = GaussianNoise(5).added_to(total, 1e-4)
    assert noised.dtype == torch.float64
    assert np.array_equal(noised.numpy(), total.double().numpy() + 1e-4 * z)
    # the caller's rounding
    assert not np.array_equal(noised.float().double().numpy(), noised.numpy())


# --- no other noise reaches a released number -----------------------------------------------------

NORMAL = {
    "randn",
    "randn_like",
    "normal_",
    "normal",
    "standard_normal",
    "xavier_normal_",
    "kaiming_normal_",
    "trunc_normal_",
    "laplace",
    "exponential_",
    "exponential",
    "log_normal_",
    "lognormal",
    "cauchy_",
    "multivariate_normal",
    "rvs",
    "gauss",
    "normalvariate",
    "Normal",
    "Laplace",
    "MultivariateNormal",
    "standard_exponential",
    "ppf",
    "isf",
    "ndtri",
    "erfinv",
}
# What draws such numbers, or could make them of uniform ones, and protects nobody:
# file, function with its class, how often.
HARMLESS = {
    ("engine/privacy/noise.py", "GaussianNoise.array"): 1,  # the sampler
    ("engine/privacy/noise.py", "summed.draw"): 1,  # the sampler, on a GPU
    ("engine/attacks/canaries.py", "Float32Noise.tensor"): 1,  # a planted error of the audit
    # the random features' frequencies, which are public
    ("engine/studies/fidelity/merf.py", "RandomFourierFeatures.__init__"): 1,
    (
        "engine/learning/supervised.py",
        "Fit.changed",
    ): 1,  # augmentation in trainings without privacy
    (
        "engine/studies/clustering/invariant_information.py",
        "ScatteredViews.batch",
    ): 1,  # augmentation of features of what was released
    (
        "engine/studies/clustering/invariant_information.py",
        "whitened_axes",
    ): 1,  # a random start for a singular value decomposition
    ("engine/studies/clustering/invariant_information.py", "_drawn"): 1,  # initial weights
    ("engine/studies/clustering/invariant_information.py", "Heads.__init__"): 1,  # initial weights
    ("engine/studies/fidelity/generator.py", "GeneratorTrainer.latent"): 1,  # a generator's input
    ("engine/studies/fidelity/generator.py", "walk"): 1,  # a generator's input
    ("engine/learning/networks.py", "_normal"): 1,  # initial weights
    # a control: copies, noised visibly
    ("engine/studies/synthesis/bn_synthesis.py", "Neighbours.controls"): 1,
    ("engine/studies/fidelity/drawing.py", "GeneratorRun.__init__"): 1,  # a generator's input
    (
        "engine/studies/fidelity/fidelity.py",
        "Fidelity._real",
    ): 1,  # a control: copies, noised visibly
    ("engine/studies/fidelity/fidelity.py", "Fidelity._untrained"): 1,  # a generator's input
    ("engine/studies/synthesis/bn_inversion.py", "Batch.__init__"): 1,  # where made-up images start
}


def normal_draws(source, name):
    """How often each function, named with its classes, calls what makes normal numbers."""
    calls, stack = Counter(), []

    def visit(node):
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if inside:
            stack.append(node.name)
        if isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Load):
            called = node.attr if isinstance(node, ast.Attribute) else node.id
            calls[name, ".".join(stack)] += called in NORMAL
        for child in ast.iter_child_nodes(node):
            visit(child)
        if inside:
            stack.pop()

    visit(ast.parse(source))
    return +calls


def all_draws():
    files = [
        path for folder in ("engine", "pages") for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    # quantiles, no draws
    statistics = {
        "engine/attacks/auditing.py",
        "engine/attacks/lira.py",
        "engine/privacy/dp_sgd.py",
        "engine/privacy/gaussian.py",
        "engine/privacy/odds.py",
        "engine/privacy/renyi.py",
    }
    names = {str(path.relative_to(ROOT)): path for path in files}
    return sum(
        (
            normal_draws(path.read_text(), name)
            for name, path in names.items()
            if name not in statistics
        ),
        Counter(),
    )


def test_no_other_normal_number_can_reach_a_release():
    assert dict(all_draws()) == HARMLESS


@pytest.mark.parametrize(
    "line",
    [
        "torch.randn(3)",
        "torch.randn_like(x)",
        "x.normal_(0, 1)",
        "rng.standard_normal(3)",
        "np.random.normal(0, 1, 3)",
        "torch.distributions.Normal(0, 1).sample()",
        "stats.norm.rvs(3)",
        "rng.multivariate_normal(m, c)",
        "random.gauss(0, 1)",
        "stats.norm.ppf(rng.random())",
    ],
)
def test_the_search_finds_a_planted_one(line):
    source = f"class Imitator:\n    def __init__(self, x, rng):\n        self.x = x + {line}\n"
    assert normal_draws(source, "engine/planted.py")["engine/planted.py", "Imitator.__init__"] >= 1


# --- drawn and added in float64, rounded once: every mechanism ------------------------------------

SEED = 3


class Observed(GaussianNoise):
    """The sampler, and what was asked of it."""

    def added_to(self, total, deviation):
        self.total, self.noised = total.clone(), super().added_to(total, deviation)
        return self.noised.clone()


class Float32(Observed):
    """A planted error: draws and sums in float32."""

    def added_to(self, total, deviation):
        z = self.tensor(*total.shape).float()
        self.total, self.noised = total.clone(), total.double() + deviation * z.double()
        return (total.float() + deviation * z).double()


def gradient(noise):
    """(released, once rounded) of a step of DP-SGD."""
    from engine.learning.dp_sgd import PrivateGradient
    from engine.learning.networks import report_cnn

    network = report_cnn(1, 28, 10, seed=0)
    PrivateGradient(
        network, expected_batch=48, max_grad_norm=0.3, noise_multiplier=1.1, noise=noise
    )(torch.rand(4, 1, 28, 28), torch.arange(4))
    flat = torch.cat([p.grad.flatten() for p in network.parameters()])
    return flat, (noise.noised / 48).float()


def linear(noise):
    """Of a step of the linear model: its weights, released first."""
    from engine.learning.linear import LinearTraining
    from engine.privacy.mechanism import Mechanism

    totals = (torch.rand(3, 5), torch.rand(3))
    training = SimpleNamespace(
        parameters=[torch.zeros(3, 5), torch.zeros(3)],
        noise=noise,
        noise_multiplier=1.3,
        max_grad_norm=0.7,
        plan=SimpleNamespace(mechanism=Mechanism(1.3, 0.7, 0.1, 10), batch_size=48),
    )
    LinearTraining.release(training, totals[:1])
    return training.parameters[0].grad, (noise.noised / 48).float()


def embedding(noise):
    """Of DP-MERF's sums."""
    from engine.studies.fidelity import merf

    return (
        merf.released(torch.rand(3, 9, dtype=torch.float64), 2.0, noise),
        noise.noised.float().double(),
    )


def clients(noise):
    """Of the uploads of a federation, or their sum."""
    from engine.studies.gradient_sharing.federation import Federation

    server = SimpleNamespace(noise=noise, plan=SimpleNamespace(noise_std=0.6))
    return Federation._noised(server, torch.rand(5, 7)), noise.noised.float()


def statistics(noise):
    """Of a teacher's statistics: mean and variance of its first layer, from the noised sums."""
    from engine.learning import networks
    from engine.studies.synthesis import bn_inversion

    network = networks.resnet("narrow", "plain group", 1, 28, 10, 3)
    found = bn_inversion.private_statistics(
        network, torch.randint(0, 256, (5, 28, 28, 1), dtype=torch.uint8), 0.5, 1.0, noise
    )
    means = [mean / 1.0 for mean, _ in found.values()]
    sizes, total = [len(mean) for mean in means], noise.noised.float()
    parts = (total[:-1] / total[-1].clamp_min(1)).split([2 * size for size in sizes])
    wanted = [
        part[:size] / bn_inversion.weight(len(sizes), size) for part, size in zip(parts, sizes)
    ]
    return torch.cat(means), torch.cat(wanted)


def private_mean(noise):
    """Of the mean of all rows of the linear model.

    Half-precision rows add up exactly in float64, in any order, so the oracle begins with the rows.
    """
    from engine.learning.features import longest
    from engine.learning.linear import CHUNK, LinearTraining
    from engine.privacy.mechanism import Mechanism

    rng = np.random.default_rng(0)
    # too fine for float32
    rows = rng.uniform(0, 1, (5000, 7)) * 10 ** rng.uniform(-4, 0, (5000, 7))
    rows = torch.from_numpy(rows.astype(np.float16))
    streams = SimpleNamespace(derive_seed=lambda purpose: SEED)
    mechanism = Mechanism(1.0, 1.0, 0.1, 10, release_noise=0.3)
    training = SimpleNamespace(
        rows=rows,
        device="cpu",
        full=torch.empty(CHUNK, 7),
        plan=SimpleNamespace(examples=5000, mechanism=mechanism, streams=streams),
    )
    training._parts = lambda found: LinearTraining._parts(training, found)
    with drawn_by(noise, "engine.learning.linear.GaussianNoise"):
        released = LinearTraining._mean(training)
    z, deviation = GaussianNoise(SEED).tensor(7), 0.3 * longest(7)
    return released, ((rows.double().sum(0) + deviation * z) / 5000).float()


def upload(noise):
    """Of one client's upload, as the attacker reads it."""
    from engine.core.lab import Lab
    from engine.datasets import registry
    from engine.studies.gradient_sharing.inversion import Inversion

    OnHost = type("OnHost", (Lab,), {"device": torch.device("cpu")})  # as the sampler is
    study, images = (
        Inversion(leak_noise=0.3, leak_clip=0.7, company_share=0.0),
        registry.load("mnist-5k"),
    )
    with drawn_by(noise, "engine.privacy.noise.GaussianNoise"):
        leak, _ = finish(study._leak(OnHost(None, threads=1), images, *study.pick(images)))[1]
    assert 0 < float(noise.total.double().norm()) <= 0.7
    z = GaussianNoise(SEED).tensor(*noise.total.shape)
    return leak.upload, (noise.total.double() + 0.3 * 0.7 * z).float()


def drawn_by(noise, where):
    """While it lasts, whoever makes a sampler there gets this one."""
    return mock.patch(where, lambda seed, device="cpu": noise)


MECHANISMS = [gradient, linear, embedding, clients, statistics, private_mean, upload]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_adds_in_float64_and_rounds_once(mechanism):
    released, once = mechanism(Observed(SEED))
    assert torch.equal(released, once)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_noise_that_was_added_in_float32_would_be_seen(mechanism):
    released, once = mechanism(Float32(SEED))
    assert not torch.equal(released, once)


def test_stacked_steps_add_in_float64_and_round_once():
    from engine.datasets import registry
    from engine.learning.stacked_steps import Group, Stacked
    from engine.learning.trainer import Training
    from engine.studies.dp_training.dp_training import DPTraining

    study = DPTraining(
        network="cnn", batch_size=200, epochs=1, noise_multiplier=1.0, learning_rate=1.0
    )
    learner = Training(study.plan(4000), registry.load("mnist-5k"), torch.device("cpu"))
    Group(1).join(learner)
    stack = Stacked([learner])
    before, size = stack.weights.clone(), stack.weights.shape[1]
    z = GaussianNoise(study.derive_seed("noise")).tensor(
        stack.ahead if stack.ahead < 20 else 20, size
    )[:1]
    stack.accumulate = lambda: None  # nothing but noise
    stack.step()
    assert stack.drawn_noise.dtype == stack.noise.dtype == torch.float64
    released = (z * study.clip / 200).float()  # σ = 1
    assert torch.equal(stack.weights, before - (released * 1.0))


def test_local_noise_is_added_in_float64_and_rounded_once():
    from engine.datasets import registry
    from engine.studies.clustering.kmeans_labels import KMeansLabels

    seeds, study, images = (
        [],
        KMeansLabels(epsilon=50.0),
        registry.load("mnist-5k").train_images[:30],
    )
    kind = type(
        "Watched",
        (KMeansLabels,),
        {
            "release_seed": (
                lambda self, purpose: (
                    seeds.append(KMeansLabels.release_seed(self, purpose)) or seeds[-1]
                )
            )
        },
    )
    released = kind(epsilon=50.0).released(images, "train")
    clean = study.clean(images)
    once = study.sigma(50.0) * GaussianNoise(seeds[0]).array(clean.shape) + clean.astype(np.float64)
    assert np.array_equal(released, np.maximum(once, 0).astype(np.float32))
    planted = (
        study.sigma(50.0) * GaussianNoise(seeds[0]).array(clean.shape).astype(np.float32) + clean
    )
    assert not np.array_equal(released, np.maximum(planted, 0).astype(np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_noise_on_a_gpu_is_normal_far_out():
    noise = GaussianNoise(0, "cuda")
    draws = noise.tensor(DRAWS)
    assert draws.dtype == torch.float64 and draws.is_cuda and found(draws.cpu().numpy()) > LEVEL
    with pytest.raises(TypeError, match="drawn on the host"):
        noise.array(3)


DRAWS_NOISE = {"added_to", "GaussianNoise"}


def undocumented(source):
    """Functions that add protective noise, or make its sampler, and do not name the module: nor
    does their class.
    """
    found = []

    def visit(node, named):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            named = named or "engine.privacy.noise" in (ast.get_docstring(node) or "")
            used = {
                getattr(inner.func, "attr", getattr(inner.func, "id", ""))
                for inner in ast.walk(node)
                if isinstance(inner, ast.Call)
            }
            if isinstance(node, ast.FunctionDef) and used & DRAWS_NOISE and not named:
                found.append(node.name)
        for child in ast.iter_child_nodes(node):
            visit(child, named)

    visit(ast.parse(source), False)
    return found


def test_whoever_adds_noise_names_the_sampler():
    files = [
        path
        for path in sorted((ROOT / "engine").rglob("*.py"))
        if path.name not in ("noise/page.py", "canaries.py")
    ]
    assert {path.name: names for path in files if (names := undocumented(path.read_text()))} == {}


def test_an_unnamed_sampler_is_found():
    assert undocumented(
        'def release(x, noise):\n    """Adds noise."""\n    return noise.added_to(x, 1.0)'
    ) == ["release"]
