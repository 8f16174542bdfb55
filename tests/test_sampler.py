"""The sampler of protective noise: normal far out, where float32 noise is not; and no other one."""

import ast

import numpy as np
import pytest
import torch
from opacus.optimizers.optimizer import _generate_noise
from scipy import stats

from engine.auditing import FLOAT32, LEVEL, Tails
from engine.noise import GaussianNoise, summed
from tests.conftest import ROOT

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
    tails.see(draws, FLOAT32 * np.abs(draws))
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
    draws = {kind: np.random.default_rng(0).standard_normal(DRAWS, kind).astype(np.float64)
             for kind in (np.float32, np.float64)}
    off = {}
    for kind, found in draws.items():
        far = np.abs(found[np.abs(found) > 4.9])
        steps = 2**24 * np.exp(-(far - r) * r)
        off[kind] = np.abs(steps - steps.round()).mean()
    assert off[np.float32] < 0.15 < 0.2 < off[np.float64]  # a quarter, by chance


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
    assert not np.array_equal(noised.float().double().numpy(), noised.numpy())  # the caller's rounding


# --- no other noise reaches a released number ------------------------------------------------------------

NORMAL = {"randn", "randn_like", "normal_", "normal", "standard_normal", "xavier_normal_",
          "kaiming_normal_", "trunc_normal_", "laplace", "exponential_", "log_normal_", "cauchy_"}
# What draws normal numbers and protects nobody: file, function, why.
HARMLESS = {
    ("engine/noise.py", "array"): "the sampler",
    ("engine/noise.py", "summed"): "the sampler, on a GPU",
    ("engine/canaries.py", "tensor"): "a planted error of the audit",
    ("engine/merf.py", "__init__"): "the random features' frequencies, which are public",
    ("engine/teaching.py", "changed"): "augmentation in trainings without privacy",
    ("engine/iic.py", "batch"): "augmentation of features of what was released",
    ("engine/iic.py", "whitened_axes"): "a random start for a singular value decomposition",
    ("engine/iic.py", "_drawn"): "initial weights",
    ("engine/iic.py", "__init__"): "initial weights",
    ("engine/artist.py", "latent"): "a generator's input",
    ("engine/artist.py", "walk"): "a generator's input",
    ("engine/networks.py", "_normal"): "initial weights",
    ("engine/studies/bn_synthesis.py", "controls"): "a control: copies that are noised visibly",
    ("engine/studies/drawing.py", "__init__"): "a generator's input",
    ("engine/studies/fidelity.py", "_real"): "a control: copies that are noised visibly",
    ("engine/studies/fidelity.py", "_untrained"): "a generator's input",
    ("engine/synthesis.py", "__init__"): "where made-up images start",
}


def normal_draws(source, name):
    """{(file, innermost function)} that call anything that draws normal numbers."""
    calls, stack = set(), []

    def visit(node):
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if inside:
            stack.append(node.name)
        if isinstance(node, (ast.Attribute, ast.Name)):
            called = node.attr if isinstance(node, ast.Attribute) else node.id
            # scipy's and privacy's "normal" distributions are no draws
            if called in NORMAL and isinstance(node.ctx, ast.Load):
                calls.add((name, stack[-1] if stack else ""))
        for child in ast.iter_child_nodes(node):
            visit(child)
        if inside:
            stack.pop()

    visit(ast.parse(source))
    return calls


def all_draws():
    files = sorted((ROOT / "engine").rglob("*.py")) + sorted((ROOT / "pages").rglob("*.py"))
    return set().union(*(normal_draws(path.read_text(), str(path.relative_to(ROOT))) for path in files))


def test_no_other_normal_number_can_reach_a_release():
    assert all_draws() == set(HARMLESS)


@pytest.mark.parametrize("line", ["torch.randn(3)", "torch.randn_like(x)", "x.normal_(0, 1)",
                                  "rng.standard_normal(3)", "np.random.normal(0, 1, 3)"])
def test_the_search_finds_a_planted_one(line):
    source = f"def release(x, rng):\n    return x + {line}\n"
    assert normal_draws(source, "engine/planted.py") == {("engine/planted.py", "release")}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_noise_on_a_gpu_is_normal_far_out():
    noise = GaussianNoise(0, "cuda")
    draws = noise.tensor(DRAWS)
    assert draws.dtype == torch.float64 and draws.is_cuda and found(draws.cpu().numpy()) > LEVEL
    with pytest.raises(TypeError, match="drawn on the host"):
        noise.array(3)


DRAWS_NOISE = {"added_to", "GaussianNoise"}


def undocumented(source):
    """Functions that add protective noise, or make its sampler, and do not name the module: nor does their class."""
    found = []

    def visit(node, named):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            named = named or "engine.noise" in (ast.get_docstring(node) or "")
            used = {getattr(inner.func, "attr", getattr(inner.func, "id", ""))
                    for inner in ast.walk(node) if isinstance(inner, ast.Call)}
            if isinstance(node, ast.FunctionDef) and used & DRAWS_NOISE and not named:
                found.append(node.name)
        for child in ast.iter_child_nodes(node):
            visit(child, named)

    visit(ast.parse(source), False)
    return found


def test_whoever_adds_noise_names_the_sampler():
    files = [path for path in sorted((ROOT / "engine").rglob("*.py")) if path.name not in ("noise.py", "canaries.py")]
    assert {path.name: names for path in files if (names := undocumented(path.read_text()))} == {}


def test_an_unnamed_sampler_is_found():
    assert undocumented('def release(x, noise):\n    """Adds noise."""\n    return noise.added_to(x, 1.0)') == ["release"]
