"""The ε, odds and σ that docs/ states, computed again: each rounded to the honest side."""

import math
import re

import pytest

from engine import privacy
from engine.core import rounding
from engine.core.parameters import ALIASES
from engine.studies.dp_training.dp_training import DPTraining
from engine.studies.fidelity.dp_merf import DPMERF
from engine.studies.fidelity.gan import GAN
from tests.conftest import ROOT

PIXEL_DELTA, REPLACED = 1 / 784**2, math.sqrt(2)


def text(name: str) -> str:
    """A document, its lines joined."""
    return re.sub(r"\s+", " ", (ROOT / "docs" / f"{name}.md").read_text())


def row(name: str, begins: str) -> list[str]:
    """The cells of the one table row that begins so, without the first."""
    lines = (ROOT / "docs" / f"{name}.md").read_text().splitlines()
    found = [line for line in lines if line.startswith(begins)]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].strip("| ").split("|")][1:]


def spent_by(study: DPTraining, n: int) -> float:
    """The ε that a training on n images spends."""
    return study.mechanism(n).spent(study.delta).epsilon


def honest(told: str, value: float) -> bool:
    """Is a text such as '8,040' or '35.5 million' the value rounded up at its own digits?"""
    number, unit = re.match(r"([\d.,]+)(?: (million|billion))?", told).groups()
    scale = {None: 1, "million": 1e6, "billion": 1e9}[unit]
    return number == rounding.at_most(value / scale, len(number.partition(".")[2]))


def test_what_is_rounded_down_would_be_found():
    assert honest("8,040", 8039.18) and not honest("8,039", 8039.18)
    assert honest("35.5 million", 35_458_397.3) and not honest("8.32 million", 8_320_344.1)
    assert [text for text in ("2.995", "2.996", "2.997") if honest(text, 2.99535)] == ["2.996"]


def test_the_odds_of_the_example():
    spent = privacy.dp_sgd_epsilon(1.0, 256 / 50_000, 1950, 1e-5).epsilon
    any_ = rounding.of_hundred(privacy.odds_any(spent, 1e-5))
    tight = rounding.of_hundred(privacy.odds_dp_sgd(1.0, 256 / 50_000, 1950))
    assert f"1,950 steps it says {any_} where {tight} is tight" in text("guarantees")


def test_the_sigma_that_would_be_needed():
    needed = rounding.at_most(privacy.gaussian_sigma(2000.0, PIXEL_DELTA, 1.0), 4)
    assert f"where {needed} would be needed for one who believes" in text("guarantees")


@pytest.mark.parametrize(
    ("formula", "sensitivity", "begins"),
    [
        (privacy.textbook_sigma, 1.0, "| as published: textbook formula"),
        (privacy.gaussian_sigma, REPLACED, "| corrected: exact formula"),
    ],
)
def test_what_noise_on_an_image_really_gives(formula, sensitivity, begins):
    sigma = formula(1925.0, PIXEL_DELTA, sensitivity)
    told, epsilon = row("noise", begins)
    half = 0.5 * 10 ** -len(told.partition(".")[2])
    assert float(told) == pytest.approx(sigma, abs=half)  # described, not promised
    really = privacy.gaussian_epsilon(sigma, PIXEL_DELTA, REPLACED)
    assert honest(f"{int(epsilon.replace(',', '')):,}", really)


@pytest.mark.parametrize("named", ["150", "2,000", "3,000", "5,000", "200,000"])
def test_the_epsilons_of_many_releases(named):
    epsilon = float(named.replace(",", ""))
    exact = privacy.gaussian_sigma(epsilon, PIXEL_DELTA, REPLACED)
    report = privacy.textbook_sigma(epsilon, PIXEL_DELTA, 1.0)
    cells = row("clustering", f"| {named} | {named} |")
    wanted = [(exact, 1), (exact, 9), (report, 1), (report, 9), (report, 240)]
    values = [
        privacy.gaussian_epsilon(sigma, PIXEL_DELTA, REPLACED * math.sqrt(count))
        for sigma, count in wanted
    ]
    wrong = [pair for pair in zip(cells, values, strict=True) if not honest(*pair)]
    assert wrong == []


@pytest.mark.parametrize("sigma", [0.001, 0.01, 0.1])
def test_the_epsilon_of_one_noised_upload(sigma):
    told = re.search(rf"noise σ = {sigma}[^(]*\(ε = ([\d,]+)\)", text("gradient_sharing"))[1]
    assert honest(told, privacy.gaussian_epsilon(sigma / 2, 1e-5))


@pytest.mark.parametrize("sigma", [4, 8])
def test_the_epsilon_of_a_participant(sigma):
    told = re.search(rf"ε = ([\d.]+) \(σ = {sigma}\)", text("gradient_sharing"))[1]
    assert honest(told, privacy.dp_sgd_epsilon(float(sigma), 1.0, 30, 1e-5).epsilon)


def test_the_epsilons_of_the_frontier_and_of_all_of_it():
    noises, told, runs = row("dp_training", "| σ | 13 |"), row("dp_training", "| ε | 0."), []
    for noise, epsilon in zip(noises[:-1], told[:-1], strict=True):
        study = DPTraining.preset("mnist", noise_multiplier=float(noise))
        runs.append(study.mechanism(60_000).run)
        assert honest(epsilon, spent_by(study, 60_000)), noise
    together = re.search(r"published or picked from: ε = ([\d.]+?)\. ", text("dp_training"))[1]
    assert honest(together, privacy.dp_sgd_epsilon_of_all(tuple(runs), 1e-5).epsilon)


@pytest.mark.parametrize(
    ("preset", "n", "begins"),
    [
        ("quick", 4000, "| mnist-5k (`quick`), ε = 3 |"),
        ("report", 60_000, "| the report's CNN at its settings"),
        ("cnn", 4000, "| the CNN on mnist-5k"),
    ],
)
def test_the_epsilons_that_were_spent(preset, n, begins):
    assert honest(row("dp_training", begins)[-2], spent_by(DPTraining.preset(preset), n))


def test_the_epsilon_of_both_private_generators():
    plan = GAN().plan(4000)
    steps = plan.steps * plan.discriminator_steps
    runs = (
        (plan.mechanism.noise_multiplier, plan.mechanism.sample_rate, steps, None),
        (DPMERF().noise_multiplier(), 1.0, 1, None),
    )
    both = re.search(r"Both private ones published: ε = ([\d.]+?)\. ", text("fidelity"))[1]
    assert honest(both, privacy.dp_sgd_epsilon_of_all(runs, 1e-5).epsilon)
    alone = re.search(r"private GAN, ε = ([\d.]+) \| 9\.86", text("fidelity"))[1]
    assert honest(alone, privacy.dp_sgd_epsilon(*runs[0][:3], 1e-5).epsilon)


def test_all_earlier_names_of_parameters_are_listed():
    listed = set(re.findall(r"\| `(\w+)` \| `(\w+)` \|", text("architecture")))
    assert listed >= set(ALIASES.items())
