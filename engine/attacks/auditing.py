"""Audit of one training run: a lower bound on ε, and checks of the mechanism's promises.

numpy and scipy; nothing here trains. An auditor inserts *canaries* among the images: examples that
resemble nothing else, each included or excluded by a coin flip. From all that the training
publishes, the auditor guesses which were included. Correct guesses give a lower bound on ε,
whatever the training does (Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1)
Training Run").

In addition, `MechanismAuditor` checks each promise of the mechanism separately: the noise,
clipping, the sample rate, and the independence of the draws. Such a test gives no bound on ε, but
it detects much smaller violations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from engine.core import rounding

CONFIDENCE = 0.95  # of the lower bound
# confidence of the lower bound that must exceed the upper bound before a training is reported as
# wrong
ALARM = 0.999
# fractions of the canaries to guess; fixed beforehand, and paid for by a union bound
SHARES = (0.03, 0.1, 0.3, 1.0)
FALSE_ALARM = 0.01  # probability of a false alarm in any check of a correct training
RELIABLE = 0.9  # probability of detecting its error that a check needs to be considered reliable
MOST_EPSILON = 50.0  # largest lower bound that is searched for


# --- the lower bound: correct guesses -------------------------------------------------------------


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Upper bound on the probability of `right` or more correct guesses.

    It holds for `guesses` guesses about an (ε, δ)-private training (Steinke et al. 2023, Theorem
    5.2): P[B ≥ v] + 2mδ·max_i P[v > B ≥ v − i]/i, with B binomial over the r guesses at e^ε/(1 +
    e^ε), m canaries and v correct guesses.
    """
    chance = special.expit(epsilon)
    tail = stats.binom.sf(right - 1, guesses, chance)
    i = np.arange(1, right + 1)
    # (right,)
    below = stats.binom.cdf(right - 1, guesses, chance) - stats.binom.cdf(
        right - 1 - i, guesses, chance
    )
    return float(min(1.0, tail + 2 * canaries * delta * (below / i).max(initial=0.0)))


def least_epsilon(canaries: int, guesses: int, right: int, delta: float, level: float) -> float:
    """The largest ε that this many correct guesses refute at this level; 0 if they refute none."""

    def refutes(epsilon):
        return p_value(canaries, guesses, right, epsilon, delta) - level

    if refutes(0.0) > 0:
        return 0.0
    if refutes(MOST_EPSILON) <= 0:
        return MOST_EPSILON
    # rounded down, because it is a lower bound
    return max(0.0, float(optimize.brentq(refutes, 0.0, MOST_EPSILON, xtol=1e-3)) - 1e-3)


@dataclass(frozen=True)
class LowerBound:
    """A lower bound on ε that holds with `CONFIDENCE`, and the guesses that gave it."""

    epsilon: float
    guesses: int
    right: int


def lower_bound(
    scores: np.ndarray, included: np.ndarray, delta: float, confidence: float = CONFIDENCE
) -> LowerBound:
    """The best lower bound over a few numbers of guesses.

    Each has an equal part of the error level. scores (m,): high where a canary looks included;
    included (m,) bool. Of the canaries to guess, the half with the highest scores is guessed as
    included, the half with the lowest as excluded.
    """
    order, found = (
        np.argsort(-np.nan_to_num(scores, nan=0.0, posinf=1e300, neginf=-1e300), kind="stable"),
        [],
    )
    for share in SHARES:
        half = max(1, int(share * len(scores) / 2))
        right = int(included[order[:half]].sum() + (~included[order[-half:]]).sum())
        found.append(
            LowerBound(
                least_epsilon(len(scores), 2 * half, right, delta, (1 - confidence) / len(SHARES)),
                2 * half,
                right,
            )
        )
    return max(found, key=lambda one: (one.epsilon, one.guesses))


# --- the canaries and markers among the images ----------------------------------------------------


@dataclass(frozen=True)
class Canaries:
    """Canaries and markers: artificial rows, each nonzero in a single input column.

    Each canary has its own column and is included or not by a coin flip. Markers are always
    included, many rows to a column, and there are equally many of each kind (label and sign of the
    entry), which keeps them from being learned and makes their mean zero.
    """

    included: np.ndarray  # (m,) bool
    labels: np.ndarray  # (m,)
    marker_columns: np.ndarray  # (g,) 0 … groups − 1
    marker_kinds: np.ndarray  # (g,) label, or classes + label where the entry is negative
    classes: int

    @classmethod
    def drawn(
        cls, canaries: int, markers: int, groups: int, classes: int, rng: np.random.Generator
    ) -> Canaries:
        """Draw m canaries with coin flips and random labels, and markers spread over a few columns.

        Every column has at least one marker of each kind.
        """
        each = np.arange(max(markers, 2 * classes * groups))
        return cls(
            rng.random(canaries) < 0.5,
            rng.integers(0, classes, canaries),
            each % groups,
            each // groups % (2 * classes),
            classes,
        )

    @property
    def columns(self) -> int:
        """The number of columns used; those of the canaries come first."""
        return len(self.included) + int(self.marker_columns.max()) + 1

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(k,) column, (k,) label and (k,) sign of every included row."""
        inside = np.flatnonzero(self.included)
        return (
            np.r_[inside, len(self.included) + self.marker_columns],
            np.r_[self.labels[inside], self.marker_kinds % self.classes],
            np.r_[np.ones(len(inside)), np.where(self.marker_kinds < self.classes, 1.0, -1.0)],
        )

    def counts(self) -> np.ndarray:
        """The number of markers of each kind, (groups, kinds)."""
        found = np.zeros((self.columns - len(self.included), 2 * self.classes))
        np.add.at(found, (self.marker_columns, self.marker_kinds), 1.0)
        return found


# --- observing a training step by step ------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """What one step published about the canaries' columns, and what each drawn row contributes.

    Everything is in units of the clip norm and known from what was published before. sums (columns,
    classes) of gradients, including noise; bias (classes,) the same for the bias. If a mean is
    subtracted from the inputs, every drawn row contributes to every column: column j additionally
    holds −means_j times the bias's sum. gradients (m, classes) of the canaries and marker_gradients
    (groups, kinds, classes) are clipped contributions, with a norm of at most 1; reach (m,) is the
    norm of the canaries' contributions without clipping.
    """

    sums: np.ndarray
    bias: np.ndarray
    means: np.ndarray  # (columns,)
    gradients: np.ndarray
    marker_gradients: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class Check:
    """The test of one promise of the mechanism.

    p: upper bound on the probability that a correct training looks like this or worse. power:
    approximate probability in [0, 1] that the test would detect `error` in this training.
    """

    name: str
    p: float
    measured: str
    error: str
    power: float

    @property
    def kept(self) -> bool:
        """Whether there is no violation at this check's part of FALSE_ALARM."""
        return self.p > LEVEL


CHECKS = 6  # at most
LEVEL = FALSE_ALARM / CHECKS


# --- is the noise Gaussian in the tails, which determine δ? ---------------------------------------

# torch draws float32 normal numbers in blocks, in which entries j and j + 8 form a Box-Muller pair.
BLOCK, APART = 16, 8
UNIFORM = 2**24  # values of the uniform number from which the radius of such a pair is computed
FAR_OUT = (3.0, 4.0, 5.0)  # standard deviations
FLOAT32 = 2.0**-24  # half the relative distance between adjacent float32 numbers


def circles(noise: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Test whether pairs of draws lie on the few circles that float32 Box-Muller has far out.

    noise (n,): one call's draws in their order, in standard deviations; error (n,): the standard
    error of each. For normal x and y, u = e^−(x² + y²)/2 is uniform on (0, 1), so the phase of
    2²⁴·u is uniform on the circle; with 24-bit uniforms 2²⁴·u is an integer, and the cosine of its
    phase is 1. Returns (pairs,) cosines and (pairs,) weights: the expected cosine of such noise,
    given the blur by error.
    """
    # torch draws the entries of an incomplete last block again
    whole = len(noise) // BLOCK - (len(noise) % BLOCK > 0)
    if whole < 1:
        return np.empty(0), np.empty(0)
    x, y, dx, dy = (
        part
        for found in (noise, error)
        for part in np.moveaxis(found[: whole * BLOCK].reshape(whole, 2, APART), 1, 0)
    )
    steps = UNIFORM * np.exp(-(x**2 + y**2) / 2)
    blur = 2 * (np.pi * steps) ** 2 * ((x * dx) ** 2 + (y * dy) ** 2)
    # Closer in, the circles are too dense to tell apart; near 0 there is no information, and noise
    # lost in rounding is 0.
    visible = (blur < 3) & (x**2 + y**2 > 4)
    return np.cos(2 * np.pi * steps[visible]), np.exp(-blur[visible])


class Tails:
    """Accumulates tail statistics of a training's noise, measured in float64 where it is added."""

    def __init__(self):
        self.draws, self.beyond = 0, np.zeros(len(FAR_OUT))
        self.on_circles, self.weight, self.pairs = 0.0, 0.0, 0

    def observe(self, noise: np.ndarray, error: np.ndarray) -> None:
        """Add one release's noise, (n,) in standard deviations, and its standard errors."""
        self.draws += len(noise)
        # NaN counts as beyond
        self.beyond += [(~(np.abs(noise) <= far)).sum() for far in FAR_OUT]
        cosines, weights = circles(noise, error)
        self.on_circles += float((weights * cosines).sum())
        self.weight += float((weights**2).sum())
        self.pairs += len(weights)

    def p_value(self) -> float:
        """Upper bound on the probability that normal noise looks like this or worse.

        Counts beyond FAR_OUT use exact two-sided binomial tests. Circles: for a uniform phase E
        e^{λ cos} ≤ e^{λ²/4}, so P[Σ w cos ≥ t] ≤ e^{−t²/Σw²}. All four are combined by a union
        bound.
        """
        chances = 2 * stats.norm.sf(FAR_OUT)
        found = [
            stats.binomtest(int(k), self.draws, p).pvalue for k, p in zip(self.beyond, chances)
        ]
        if self.weight > 0 and self.on_circles > 0:
            found.append(math.exp(-(self.on_circles**2) / self.weight))
        return float(min(1.0, (len(FAR_OUT) + 1) * min(found)))

    def power(self, level: float) -> float:
        """Approximate probability of detecting float32 noise, whose sum is Σw² on average."""
        if not self.weight > 0:
            return 0.0
        needed = math.sqrt(self.weight * math.log((len(FAR_OUT) + 1) / level))
        return float(stats.norm.cdf((self.weight - needed) / math.sqrt(self.weight / 2)))

    def words(self) -> str:
        """A description of the observations."""
        expected = 2 * stats.norm.sf(FAR_OUT[1]) * self.draws
        share = 100 * self.on_circles / self.weight if self.weight > 0 else 0.0
        return (
            f"of {self.draws:,} draws {int(self.beyond[1]):,} lie beyond {FAR_OUT[1]:g} standard"
            f" deviations, {expected:,.1f} expected; {self.pairs:,} pairs lie on the circles of"
            f" float32 noise to {min(share, 100):.0f} % (about 0 by chance, 100 for such noise)"
        )


class MechanismAuditor:
    """Accumulates what the steps of a training reveal about the canaries, in float64.

    noise_multiplier σ, sample_rate q and steps_per_epoch are those that the accountant assumes; the
    trainer calls `observe` at every step and `release` for a Gaussian release.
    """

    def __init__(
        self, canaries: Canaries, noise_multiplier: float, sample_rate: float, steps_per_epoch: int
    ):
        self.canaries, self.noise, self.q, self.steps_per_epoch = (
            canaries,
            noise_multiplier,
            sample_rate,
            steps_per_epoch,
        )
        m = len(canaries.included)
        self.loss = np.zeros(m)  # log likelihood ratio of "in" to "out" given all observations
        self.steps, self.squares, self.entries = 0, 0.0, 0
        # In standard deviations: the largest contribution beyond the clip norm, and the largest
        # expected without clipping.
        self.furthest, self.looks, self.unclipped = -math.inf, 0, 0.0
        # Canaries' contributions beyond what the sample rate allows, the expected sum, and its
        # variances.
        self.excess, self.expected, self.by_draws, self.by_noise = 0.0, 0.0, 0.0, 0.0
        # Products of each step's surprise with the sum of those of the epoch's earlier steps.
        self.products: list[float] = []
        self.shuffled = 0.0  # the expected sum of the products if batches were shuffled
        self.tails = Tails()  # of the noise itself, which only the trainer can measure
        # For a Gaussian release: the sum of squares of entries that hold only noise, and their
        # number.
        self.released: tuple[float, int] | None = None
        self.counts = canaries.counts()
        self._new_epoch()

    def _new_epoch(self) -> None:
        groups, kinds = self.counts.shape
        self.surprise, self.summed = (
            np.zeros((groups, kinds // 2)),
            np.zeros((groups, kinds, kinds // 2)),
        )

    def release(self, scores: np.ndarray, noise: float) -> None:
        """Add a Gaussian release, in which included canaries have mean 1 and excluded ones mean 0.

        scores (m,); noise: the standard deviation in the same units.
        """
        self.loss += (scores - 0.5) / noise**2
        out = scores[~self.canaries.included] / noise
        self.released = (float((out**2).sum()), len(out))

    def observe(self, observed: Observation) -> None:
        """Add one step."""
        self._guess(observed)
        self._compare(observed)
        self.steps += 1

    def _guess(self, observed: Observation) -> None:
        """Update the guesses of which canaries are included.

        This must not use the coin flips: the lower bound requires guesses based only on what is
        published.
        """
        m = len(self.canaries.included)
        norms, means = np.linalg.norm(observed.gradients, axis=1), observed.means[:m]
        # Remove other rows' contributions through the mean, as far as the noised bias reveals them.
        sums = observed.sums[:m] + means[:, None] * observed.bias
        along = (sums * observed.gradients).sum(1) / np.maximum(norms, 1e-200)
        # log 0 if all rows are drawn; NaN after divergence
        with np.errstate(divide="ignore", invalid="ignore"):
            log_in, log_out = np.log(self.q), np.log1p(-self.q)
            self.loss += np.logaddexp(
                log_out, log_in + (along * norms - norms**2 / 2) / (self.noise**2 * (1 + means**2))
            )

    def _compare(self, observed: Observation) -> None:
        """Update the checks of the mechanism, which may use the coin flips."""
        inside, m = self.canaries.included, len(self.canaries.included)
        sums, spread = self._without_the_others(observed, ~inside)
        norms = np.linalg.norm(observed.gradients, axis=1)
        along = (sums[:m] * observed.gradients).sum(1) / np.maximum(norms, 1e-200)  # (m,)
        if inside.any():
            # a NaN cannot come from a correct step
            beyond = np.nan_to_num((along - norms) / spread[:m], nan=math.inf)[inside]
            self.furthest = max(self.furthest, float(beyond.max()))
            self.unclipped = max(
                self.unclipped, float(((observed.reach - norms) / spread[:m])[inside].max())
            )
            self.looks += int(inside.sum())
        self.excess += float((along - self.q * norms)[inside].sum())
        self.expected += self.q * float(norms[inside].sum())
        self.by_draws += self.q * (1 - self.q) * float((norms[inside] ** 2).sum())
        self.by_noise += float((spread[:m][inside] ** 2).sum())
        self._follow_draws(sums[m:], observed.marker_gradients)

    def _without_the_others(
        self, observed: Observation, out: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The sums without other rows' contributions through the mean, and their noise.

        The shapes are (columns, classes) and (columns,). The true sum of the bias is estimated by
        least squares from the excluded canaries' columns, which hold nothing else, and the noised
        bias itself. The residuals are pure noise, with one independent entry for each excluded
        column.
        """
        means = np.r_[-observed.means[: len(out)][out], 1.0]
        # (excluded + 1, classes)
        rows = np.concatenate([observed.sums[: len(out)][out], observed.bias[None]])
        total = means @ rows / (means @ means)  # (classes,)
        self.squares += float((((rows - means[:, None] * total) / self.noise) ** 2).sum())
        self.entries += (len(rows) - 1) * self.canaries.classes
        return observed.sums + observed.means[:, None] * total, self.noise * np.sqrt(
            1 + observed.means**2 / (means @ means)
        )

    def _follow_draws(self, sums: np.ndarray, gradients: np.ndarray) -> None:
        """Multiply this step's surprise with those of earlier steps of the epoch.

        Poisson draws are independent between steps, so the product is zero on average, whatever the
        noise. sums (groups, classes) of the markers' columns; gradients (groups, kinds, classes):
        what a marker of each kind contributes.
        """
        if self.steps % self.steps_per_epoch == 0:
            self._new_epoch()
        surprise = sums - self.q * (self.counts[:, :, None] * gradients).sum(1)  # (groups, classes)
        if self.steps % self.steps_per_epoch:
            self.products.append(float((surprise * self.surprise).sum()))
            self.shuffled -= self.q**2 * float(
                (self.counts[:, :, None] * gradients * self.summed).sum()
            )
        self.surprise += surprise
        self.summed += gradients

    # --- conclusions ------------------------------------------------------------------------------

    def lower_bound(self, delta: float) -> LowerBound:
        """The lower bound on ε from all observations so far."""
        return lower_bound(self.loss, self.canaries.included, delta)

    def checks(self) -> list[Check]:
        """The checks of the mechanism's promises."""
        found = [self._noise("the noise is as large as claimed", self.squares, self.entries)]
        found += (
            [self._noise("the mean's noise is as large as claimed", *self.released)]
            if self.released
            else []
        )
        found += [self._shape()] if self.tails.draws else []
        clipping = self._clipping()
        rest = [self._rate(), self._independence()]
        # They assume contributions of at most the clip norm.
        if not clipping.kept:
            rest = [
                Check(
                    check.name,
                    1.0,
                    "inconclusive, because gradients exceed the clip norm",
                    check.error,
                    0.0,
                )
                for check in rest
            ]
        return [*found, clipping, *rest]

    def _noise(self, name: str, squares: float, entries: int) -> Check:
        """Check that entries without any signal hold at least the promised noise."""
        if not entries:
            return Check(name, 1.0, "no canary was left out: inconclusive", "half the noise", 0.0)
        power = float(stats.chi2.cdf(4 * stats.chi2.ppf(LEVEL, entries), entries))
        least = 100 * math.sqrt(stats.chi2.ppf(LEVEL, entries) / entries)
        return Check(
            name,
            _number(float(stats.chi2.cdf(squares, entries))),
            f"{100 * math.sqrt(squares / entries):.2f} % of the claimed noise; chance alone stays"
            f" above {least:.2f}",
            "half the noise",
            power,
        )

    def _shape(self) -> Check:
        """Check the tails, in which float32 draws are not normal and which determine δ."""
        name = "the noise is Gaussian in its tails"
        return Check(
            name,
            _number(self.tails.p_value()),
            self.tails.words(),
            "float32 noise",
            self.tails.power(LEVEL),
        )

    def _clipping(self) -> Check:
        """Check that no canary contributed more than a clipped gradient plus noise can."""
        name, error = "no gradient exceeds the clip norm", "no clipping"
        if not self.looks:
            return Check(name, 1.0, "no canary was included: inconclusive", error, 0.0)
        p = min(1.0, self.looks * float(stats.norm.sf(self.furthest)))
        most = float(stats.norm.isf(LEVEL / self.looks))
        far = f"{self.furthest:.1f}" if self.furthest < 1000 else "more than 1,000"
        return Check(
            name,
            _number(p),
            f"with its noise, the longest of {self.looks:,} gradients is {far} standard deviations"
            f" beyond the clip norm; chance alone stays below {rounding.at_most(most, 1)}",
            error,
            float(stats.norm.sf(most - self.unclipped)),
        )

    def _rate(self) -> Check:
        """Check that included canaries were not drawn more often than the accountant assumes.

        The tail bound of a martingale by exponential moments (Freedman 1975) holds for any
        distribution: E e^{λ(B − q)c} ≤ e^{q(1−q)c²(e^λ − 1 − λ)} for c ≤ 1, and noise is normal. λ
        is chosen from the variance alone.
        """
        name, error, varies = (
            "images are sampled as often as claimed",
            "every image sampled twice as often",
            self.by_draws + self.by_noise,
        )
        if not math.isfinite(varies + self.expected + self.excess):
            return Check(name, 0.0, "not a number", error, 0.0)
        if not (varies > 0 and self.expected > 0):
            return Check(name, 1.0, "no canary was included: inconclusive", error, 0.0)
        steep = math.sqrt(2 * math.log(1 / LEVEL) / varies)
        charged = (
            self.by_draws * (math.exp(min(50.0, steep)) - 1 - steep) + steep**2 / 2 * self.by_noise
        )
        p = math.exp(min(0.0, charged - steep * self.excess))
        needed = (math.log(1 / LEVEL) + charged) / steep
        power, share, most = (
            float(stats.norm.sf((needed - self.expected) / math.sqrt(varies))),
            100 * (1 + self.excess / self.expected),
            100 * (1 + needed / self.expected),
        )
        measured = (
            f"{share:.0f} % of the claimed sample rate; chance alone stays below"
            f" {rounding.at_most(most, 0)}"
            if most < 1000
            else "inconclusive at this noise"
        )
        return Check(name, _number(p), measured, error, power)

    def _independence(self) -> Check:
        """Check that an image's draws in different steps are independent.

        They are under Poisson sampling, but not in shuffled batches.
        """
        name, error, products = (
            "batches are independent",
            "shuffled batches",
            np.array(self.products),
        )
        size = math.sqrt(float((products**2).sum())) if len(products) else 0.0
        if not size > 0:
            return Check(
                name,
                1.0 if size == 0 else 0.0,
                ("there is one step per epoch: inconclusive" if size == 0 else "not a number"),
                error,
                0.0,
            )
        z, freedom = float(products.sum()) / size, max(1, len(products) - 1)
        most = float(stats.t.isf(LEVEL / 2, freedom))
        return Check(
            name,
            _number(float(2 * stats.t.sf(abs(z), freedom))),
            f"{z:+.1f} standard deviations from independent draws; chance alone stays within"
            f" {rounding.at_most(most, 1)}, shuffled batches would be at about"
            f" {self.shuffled / size:+.1f}",
            error,
            float(stats.norm.cdf(abs(self.shuffled) / size - most)),
        )


def _number(p: float) -> float:
    """Replace a p-value of NaN by 0: a correct training does not produce it."""
    return p if math.isfinite(p) else 0.0
