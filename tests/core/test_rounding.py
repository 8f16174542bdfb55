"""Bounds as text: never on the wrong side, and never by any other way than
engine/core/rounding.py.
"""

import ast
import math
import random
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.attacks import auditing
from engine.core import rounding
from pages.common import sentences
from pages.dp_training import charts as dp_training_charts
from pages.dp_training import text
from pages.gradient_sharing import charts as gradient_sharing_charts
from tests.conftest import ROOT

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def step(text: str, leading: bool, digits: int) -> Fraction:
    """One unit in the last digit that the text may have."""
    value = Decimal(text.replace(",", ""))
    return Fraction(10) ** (value.adjusted() - digits + 1 if leading and value else -digits)


@settings(max_examples=1000, deadline=None)
@given(NUMBERS, st.integers(0, 8), st.booleans())
def test_a_bound_is_never_on_the_wrong_side_nor_further_off_than_its_digits(value, digits, leading):
    digits += leading  # no leading digits at all would say nothing
    up = rounding.at_most(value, digits, leading=leading)
    down = rounding.at_least(value, digits, leading=leading)
    exact = Fraction(value)
    assert number(down) <= exact <= number(up)
    assert number(up) - exact < step(up, leading, digits)
    assert exact - number(down) < step(down, leading, digits)
    assert not any(text.startswith("-") and not number(text) for text in (up, down))


def test_ten_thousand_epsilons_odds_and_lower_bounds_are_told_on_the_honest_side():
    draw = random.Random(0)
    for _ in range(10_000):
        epsilon, odds = math.exp(draw.uniform(-7, 13)), draw.uniform(0.5, 1)
        exact, hundred = Fraction(epsilon), 100 * Fraction(odds)
        assert number(rounding.lower_bound(epsilon)) <= exact <= number(rounding.epsilon(epsilon))
        assert hundred <= rounding.of_hundred(odds) < hundred + 1
        told = number(rounding.at_most(odds, 2, times=100))
        assert hundred <= told < hundred + Fraction("0.01")
        assert exact <= number(rounding.sufficient(epsilon)) <= exact * Fraction("1.001")
    drawn = [draw.uniform(0, 10) for _ in range(1000)]
    wrong = [e for e in drawn if Fraction(f"{e:.3f}") < Fraction(e)]
    assert len(wrong) > 400  # rounding as usual would have been found


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (rounding.at_most(0.665946, 2, times=100), "66.60"),
        (rounding.at_most(15.332, 1), "15.4"),
        (rounding.at_least(0.6616, 2), "0.66"),
        (rounding.at_most(2.0), "2.000"),
        (rounding.at_most(2.0, 4, leading=True), "2"),
        (rounding.at_most(0.0), "0.000"),
        (rounding.at_least(0.0, 2), "0.00"),
        (rounding.at_least(-0.0001), "-0.001"),
        (rounding.at_most(-0.0001), "0.000"),
        (rounding.at_most(math.inf), "∞"),
        (rounding.at_least(-math.inf), "−∞"),
        (rounding.at_most(math.nan), "unknown"),
        (rounding.at_least(math.nan), "unknown"),
        (rounding.at_most(1.0000000005), "1.001"),
        (rounding.at_most(139_151.2, 0), "139,152"),
        (rounding.at_most(1.15e-20, 1, leading=True), "2e-20"),
        (rounding.at_most(9.996, 2), "10.00"),
        (rounding.at_most(999.96, 3, leading=True), "1,000"),
        (rounding.at_most(np.float32(0.5)), "0.500"),
        (rounding.epsilon(None), "none"),
        (rounding.epsilon(math.inf), "∞ (no privacy)"),
        (rounding.epsilon(math.nan), "unknown"),
        (rounding.epsilon(15.332), "15.4"),
        (rounding.epsilon(1.1e-7), "0.001"),
        (rounding.lower_bound(12.39), "12.3"),
        (rounding.chosen(1e-5), "1e-05"),
        (rounding.chosen(1925.0), "1,925"),
        (rounding.chosen(0.1), "0.1"),
        (rounding.chosen(1 / 784**2), "1.63e-06"),
        (rounding.chosen(0.0), "0"),
        (rounding.described(2.34567891), "2.34568"),
        (rounding.of_hundred(0.5), 50),
        (rounding.of_hundred(1.0), 100),
        (rounding.formatted("lower_bound", 0.66666666), "0.666666"),
        (rounding.formatted("upper_bound", 2.99511111), "2.99512"),
        (rounding.formatted("area_any", 0.98201415), "0.982015"),
        (rounding.formatted("area_like_it", 0.98201415), "0.982014"),
        (rounding.formatted("epsilon_image", 1925.0), "1925"),
        (rounding.formatted("test_accuracy", 0.66666666), "0.666667"),
        (rounding.formatted("membership_odds", 0.51111166, 4), "0.5111"),
    ],
)
def test_bounds_as_text(told, text):
    assert told == text


def test_every_lower_bound_that_is_shown_is_itself_refuted():
    outcomes = [
        (guesses, right)
        for guesses in (60, 200, 600, 2000)
        for right in range(guesses // 2, guesses + 1, guesses // 20)
    ]
    bounds = {each: auditing.least_epsilon(2000, *each, 1e-5, 0.0125) for each in outcomes}
    found = {each: least for each, least in bounds.items() if 0 < least < auditing.MOST_EPSILON}

    def refuted(each, text):
        return auditing.p_value(2000, *each, float(text), 1e-5) <= 0.0125

    assert len(found) > 20
    assert all(refuted(each, rounding.lower_bound(least)) for each, least in found.items())
    assert all(refuted(each, rounding.at_least(least)) for each, least in found.items())
    as_before = [each for each, least in found.items() if not refuted(each, f"{least:.2f}")]
    assert len(as_before) > 5


# --- nothing is shown another way -----------------------------------------------------------------

SOURCES = [
    *sorted((ROOT / "pages").rglob("*.py")),
    *sorted((ROOT / "engine" / "studies").rglob("*.py")),
    *sorted((ROOT / "engine" / "privacy").glob("*.py")),
    ROOT / "engine" / "__main__.py",
]
BOUND = re.compile(
    r"epsilon|odds|area_any|area_mechanism|lower_bound|upper_bound|delta|spent|budget|sigma"
    r"|noise_multiplier|mean_noise",
    re.IGNORECASE,
)
OTHERS = re.compile(
    r"sentences\.\w+|text\.\w+|rounding\.\w+|\[\w+\]"
)  # may have such a name and be none
ROUNDS = re.compile(r"[gfeGFE%]$|\.\d")
FUNCTIONS = ("round", "math.ceil", "math.floor", "format")
PLOTLY = re.compile(r"([^{}]*)%\{([xyz]:[^}]*)\}")  # words, and a number that plotly formats
SIGNS = re.compile(r"(ε|δ|at most|at least)[^%]*$", re.IGNORECASE)
SUGGESTED = "math.exp(_central_limit(epsilon, sample_rate, steps, delta))"
ALLOWED = {
    ("engine/privacy/calibration.py", SUGGESTED): "a suggestion, never promised",
}


def rounded_otherwise(source: str) -> list[str]:
    """Expressions that name a bound and are rounded by Python's own means, or by plotly."""
    found, by_plotly = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FormattedValue) and node.format_spec:
            if ROUNDS.search(ast.unparse(node.format_spec).strip("f'\"")):
                found.append(ast.unparse(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in FUNCTIONS and node.args:
            found.append(ast.unparse(node.args[0]))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            by_plotly += [
                part for before, part in PLOTLY.findall(node.value) if SIGNS.search(before)
            ]
    return [text for text in found if BOUND.search(OTHERS.sub("", text))] + by_plotly


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_bound_is_rounded_any_other_way(path):
    name = str(path.relative_to(ROOT))
    found = [text for text in rounded_otherwise(path.read_text()) if (name, text) not in ALLOWED]
    assert [text for text in found if "math.log10" not in text] == []  # ends of an axis


@pytest.mark.parametrize(
    "planted",
    [
        'f"ε = {guarantee.epsilon:.2f}"',
        'f"{100 * found.odds_mechanism:.0f}"',
        "f\"{m['lower_bound']:.3f}\"",
        "round(promise.delta, 3)",
        "math.ceil(100 * upper_bound) / 100",
        'dict(hovertemplate="at ε = %{x:.3g}")',
        'dict(hovertemplate="at least %{y:.2f}")',
        "f\"σ = {plan['noise_multiplier']:.4g}\"",
        'f"{spent:,g}"',
    ],
)
def test_a_bound_that_is_rounded_another_way_is_found(planted):
    assert rounded_otherwise(planted)


def test_what_is_no_bound_or_goes_through_the_module_is_not_found():
    assert not rounded_otherwise('f"{accuracy:.2f} {epsilon} {rounding.epsilon(x)}"; round(t)')


CURVE = [(1.0, 0.70049), (2.0, 2.99511)]
ALARMS = np.array([0.0, 0.01, 1.0])
ATTACK = {
    "false_alarms": ALARMS,
    "score": np.zeros(20),
    "roc": ALARMS,
    "roc_like_it": ALARMS,
    "bound_any": np.array([0.0, 0.0123411, 1.0]),
}


@pytest.mark.parametrize(
    ("chart", "told"),
    [
        (dp_training_charts.spent(CURVE, 2, None, 1e-5), ["0.701", "2.996"]),
        (dp_training_charts.spending({0.9: CURVE}, None), ["0.701", "2.996"]),
        (
            dp_training_charts.bounds_over_epochs({"upper_bound": CURVE, "lower_bound": CURVE}),
            ["0.701", "2.996", "0.700", "2.995"],
        ),
        (
            dp_training_charts.bounds_of_all({"a": (0.70049, 2.99511, False)}, ["a"]),
            ["0.700", "2.996"],
        ),
        (
            dp_training_charts.bounds(0.70049, 2.99511),
            ["at least 0.700", "0.700 to 2.996", "guaranteed: at most 2.996"],
        ),
        (
            dp_training_charts.bounds(3.70049, 2.99511),
            ["at least 3.700", "guaranteed: at most 2.996"],
        ),
        (gradient_sharing_charts.by_epsilon({}, {"σ = 2": (2.99511, 0.9)}, {}), ["2.996"]),
        (
            dp_training_charts.frontier({}, {2.0: [(2.99511, 0.9)]}, [], (), None),
            ["ε = 2.996 (σ = 2)"],
        ),
        (dp_training_charts.roc({"private": ATTACK}), ["1.24"]),
    ],
)
def test_what_a_chart_says_on_hover_is_rounded_to_the_honest_side(chart, told):
    said = []
    for trace in chart.data:
        said += [trace.hovertemplate, trace.name]
        said += [
            text for texts in (trace.text, trace.customdata) if texts is not None for text in texts
        ]
    assert all(text in said for text in told), said


def test_a_margin_is_never_shown_narrower_than_it_is():
    """An attack that finds 0.85 ± 0.34 of 1,000 was told as 1 ± 0."""
    assert (
        sentences.give_or_take(0.00034, 1000) == "0.4" and sentences.give_or_take(0.0502) == "5.1"
    )
    for value in np.random.default_rng(0).random(200) ** 4:
        assert float(sentences.give_or_take(value, 1000)) >= 1000 * value > 0
    found = {
        "right_guesses_like_it": 0.5,
        "right_guesses_margin": 0.01,
        "found_at_0.001": 0.00085,
        "found_at_0.001_margin": 0.00034,
    }
    assert "0.8 ± 0.4" in text.attacked({"private": found}) or "0.9 ± 0.4" in text.attacked(
        {"private": found}
    )
