"""What a training can be shown to have given away, and whether it did what its ε is charged for.
numpy and scipy; nothing here trains.

An auditor puts *canaries* among the pictures: examples that nobody else resembles, each in or out
by a coin flip. From all that the training publishes he guesses which were in. Right guesses bound ε
from below, whatever the training does (Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One
(1) Training Run"). Besides, `Witness` checks each promise of the mechanism by itself: noise,
clipping, how often and how independently pictures are drawn. Such a test is no bound on ε, but it
sees much smaller cheats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from engine.core import rounding

CONFIDENCE = 0.95  # of the floor
# confidence of the floor that must lie above the ceiling before a training is said to be wrong
ALARM = 0.999
# of the canaries that are guessed at: fixed beforehand, and paid for by a union bound
SHARES = (0.03, 0.1, 0.3, 1.0)
FALSE_ALARM = 0.01  # of all checks of a correct training together
SEEN = 0.9  # how likely its error should be found before a check may be relied on
MOST_EPSILON = 50.0  # a floor is looked for up to here


# --- the floor: guesses that were right -----------------------------------------------------------


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """At most so likely is it that an (ε, δ)-private training lets `right` or more of `guesses`
    come out right (Steinke et al. 2023, Theorem 5.2).

    P[B ≥ v] + 2mδ·max_i P[v > B ≥ v − i]/i, with B binomial over the r guesses at e^ε/(1 + e^ε).
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
    """The largest ε that so many right guesses refute at this level; 0 where they refute none."""
    refutes = lambda epsilon: p_value(canaries, guesses, right, epsilon, delta) - level
    if refutes(0.0) > 0:
        return 0.0
    if refutes(MOST_EPSILON) <= 0:
        return MOST_EPSILON
    # rounded down: it is a floor
    return max(0.0, float(optimize.brentq(refutes, 0.0, MOST_EPSILON, xtol=1e-3)) - 1e-3)


@dataclass(frozen=True)
class Floor:
    """A lower bound on ε that holds with `CONFIDENCE`, and the guesses that gave it."""

    epsilon: float
    guesses: int
    right: int


def floor(
    scores: np.ndarray, included: np.ndarray, delta: float, confidence: float = CONFIDENCE
) -> Floor:
    """The best of a few numbers of guesses, each at its share of the risk. scores (m,): high where
    a canary looks included; included (m,) bool.

    Of the canaries guessed at, the half with the highest scores are called in, the half with the
    lowest out.
    """
    order, found = (
        np.argsort(-np.nan_to_num(scores, nan=0.0, posinf=1e300, neginf=-1e300), kind="stable"),
        [],
    )
    for share in SHARES:
        half = max(1, int(share * len(scores) / 2))
        right = int(included[order[:half]].sum() + (~included[order[-half:]]).sum())
        found.append(
            Floor(
                least_epsilon(len(scores), 2 * half, right, delta, (1 - confidence) / len(SHARES)),
                2 * half,
                right,
            )
        )
    return max(found, key=lambda one: (one.epsilon, one.guesses))


# --- the marks that are put among the pictures ----------------------------------------------------


@dataclass(frozen=True)
class Marks:
    """Canaries, one column of the input each, included or not by a coin flip; and markers, many
    rows to a column, all included.

    A row is zero outside its column. There are as many markers of each kind (label and sign of the
    entry), so that none is ever learned and their mean is none.
    """

    included: np.ndarray  # (m,) bool
    labels: np.ndarray  # (m,)
    marker_columns: np.ndarray  # (g,) 0 … groups − 1
    marker_kinds: np.ndarray  # (g,) label, or classes + label where the entry is negative
    classes: int

    @classmethod
    def drawn(
        cls, canaries: int, markers: int, groups: int, classes: int, rng: np.random.Generator
    ) -> Marks:
        """m canaries with coin flips and random labels; markers over a few columns, at least one of
        each kind in each.
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
        """How many columns they take: canaries first."""
        return len(self.included) + int(self.marker_columns.max()) + 1

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(k,) column, (k,) label and (k,) sign of every row that is among the pictures."""
        inside = np.flatnonzero(self.included)
        return (
            np.r_[inside, len(self.included) + self.marker_columns],
            np.r_[self.labels[inside], self.marker_kinds % self.classes],
            np.r_[np.ones(len(inside)), np.where(self.marker_kinds < self.classes, 1.0, -1.0)],
        )

    def counts(self) -> np.ndarray:
        """(groups, kinds) how many markers there are of each kind."""
        found = np.zeros((self.columns - len(self.included), 2 * self.classes))
        np.add.at(found, (self.marker_columns, self.marker_kinds), 1.0)
        return found


# --- watching a training step by step -------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What one step published of the marks' columns, in units of the clip norm, and what each row
    would add if it were drawn.

    sums (columns, classes) of gradients, noise in it; bias (classes,) the same of the bias. Where
    inputs are taken less a mean, every row drawn pulls at every column: column j holds −means_j
    times the bias's sum besides. pulls (m, classes) of the canaries and marker_pulls (groups,
    kinds, classes) are at most 1 long; reach (m,) is how long the canaries' would be without
    clipping. All known from what was published before.
    """

    sums: np.ndarray
    bias: np.ndarray
    means: np.ndarray  # (columns,)
    pulls: np.ndarray
    marker_pulls: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class Check:
    """One promise of the mechanism, tested. p: at most so likely does a correct training look like
    this or worse.

    power: about how likely the test would find `error` in this training, in [0, 1].
    """

    name: str
    p: float
    measured: str
    error: str
    power: float

    @property
    def kept(self) -> bool:
        """No violation at this check's share of FALSE_ALARM."""
        return self.p > LEVEL


CHECKS = 6  # at most
LEVEL = FALSE_ALARM / CHECKS


# --- is the noise Gaussian where δ is counted? ----------------------------------------------------

# torch's float32 normal numbers come in blocks, whose entries j and j + 8 are one pair
BLOCK, APART = 16, 8
UNIFORM = 2**24  # values of the uniform number that such a pair's radius is made of
FAR_OUT = (3.0, 4.0, 5.0)  # standard deviations
FLOAT32 = 2.0**-24  # half the distance of two float32 numbers, relatively


def circles(noise: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do pairs of draws lie on the few circles that Box and Muller's method has far out, in
    float32?

    noise (n,): one call's draws in their order, in standard deviations; error (n,): the standard
    error of each. For normal x and y, u = e^−(x² + y²)/2 is uniform on (0, 1), so the phase of
    2²⁴·u is uniform on the circle; with 24-bit uniforms 2²⁴·u is a whole number, and the cosine of
    its phase is 1. Returns (pairs,) cosines and (pairs,) weights: the cosine to expect of such
    noise, as error blurs it.
    """
    # what does not fill a block is drawn again
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
    # Elsewhere the circles are too close to tell; near 0 nothing is, and noise that is lost in
    # rounding is 0.
    seen = (blur < 3) & (x**2 + y**2 > 4)
    return np.cos(2 * np.pi * steps[seen]), np.exp(-blur[seen])


class Tails:
    """Adds up what a training's noise looks like far out, taken where it is added: float64."""

    def __init__(self):
        self.draws, self.beyond = 0, np.zeros(len(FAR_OUT))
        self.on_circles, self.weight, self.pairs = 0.0, 0.0, 0

    def see(self, noise: np.ndarray, error: np.ndarray) -> None:
        """The noise of one release, (n,) in standard deviations, and each number's standard error."""
        self.draws += len(noise)
        # what is no number is far
        self.beyond += [(~(np.abs(noise) <= far)).sum() for far in FAR_OUT]
        cosines, weights = circles(noise, error)
        self.on_circles += float((weights * cosines).sum())
        self.weight += float((weights**2).sum())
        self.pairs += len(weights)

    def p_value(self) -> float:
        """At most so likely does normal noise look like this or worse.

        Counts beyond FAR_OUT by exact binomial tests, on both sides. Circles: for a uniform phase
        E e^{λ cos} ≤ e^{λ²/4}, so P[Σ w cos ≥ t] ≤ e^{−t²/Σw²}. All four by a union bound.
        """
        chances = 2 * stats.norm.sf(FAR_OUT)
        found = [
            stats.binomtest(int(k), self.draws, p).pvalue for k, p in zip(self.beyond, chances)
        ]
        if self.weight > 0 and self.on_circles > 0:
            found.append(math.exp(-(self.on_circles**2) / self.weight))
        return float(min(1.0, (len(FAR_OUT) + 1) * min(found)))

    def power(self, level: float) -> float:
        """About how likely float32 noise would be found: then the sum is Σw² on average."""
        if not self.weight > 0:
            return 0.0
        needed = math.sqrt(self.weight * math.log((len(FAR_OUT) + 1) / level))
        return float(stats.norm.cdf((self.weight - needed) / math.sqrt(self.weight / 2)))

    def words(self) -> str:
        """What was seen."""
        expected = 2 * stats.norm.sf(FAR_OUT[1]) * self.draws
        share = 100 * self.on_circles / self.weight if self.weight > 0 else 0.0
        return (
            f"of {self.draws:,} draws {int(self.beyond[1]):,} lie beyond {FAR_OUT[1]:g} standard"
            f" deviations, {expected:,.1f} expected; {self.pairs:,} pairs lie on the circles of"
            f" float32 noise to {min(share, 100):.0f} % (about 0 by chance, 100 for such noise)"
        )


class Witness:
    """Adds up what the steps of a training give away about the marks. Everything in float64.

    noise_multiplier σ, sample_rate q and steps_per_epoch as charged; whoever trains calls `see` at
    every step and `release` for a Gaussian release.
    """

    def __init__(
        self, marks: Marks, noise_multiplier: float, sample_rate: float, steps_per_epoch: int
    ):
        self.marks, self.noise, self.q, self.steps_per_epoch = (
            marks,
            noise_multiplier,
            sample_rate,
            steps_per_epoch,
        )
        m = len(marks.included)
        self.loss = np.zeros(m)  # log likelihood ratio of "in" against "out", of all that was seen
        self.steps, self.squares, self.entries = 0, 0.0, 0
        # in standard deviations: the hardest pull beyond the clip norm, and the hardest there would
        # be without one
        self.furthest, self.looks, self.unclipped = -math.inf, 0, 0.0
        # how much more canaries pulled than their rate allows, and what it varies by
        self.excess, self.expected, self.by_draws, self.by_noise = 0.0, 0.0, 0.0, 0.0
        # of a step's surprise and that of the steps before it in its epoch
        self.products: list[float] = []
        self.shuffled = 0.0  # what the products would add up to in shuffled batches
        self.tails = Tails()  # of the noise itself, which only whoever trains can take
        # of a Gaussian release: sum of squares where only noise is, and of how many
        self.released: tuple[float, int] | None = None
        self.counts = marks.counts()
        self._new_epoch()

    def _new_epoch(self) -> None:
        groups, kinds = self.counts.shape
        self.surprise, self.pulled = (
            np.zeros((groups, kinds // 2)),
            np.zeros((groups, kinds, kinds // 2)),
        )

    def release(self, scores: np.ndarray, noise: float) -> None:
        """A Gaussian release in which an included canary has mean 1 and an excluded one 0, under
        noise of so many of these. scores (m,).
        """
        self.loss += (scores - 0.5) / noise**2
        out = scores[~self.marks.included] / noise
        self.released = (float((out**2).sum()), len(out))

    def see(self, seen: Seen) -> None:
        """One step."""
        self._guess(seen)
        self._compare(seen)
        self.steps += 1

    def _guess(self, seen: Seen) -> None:
        """What the step says of who is in.

        The coins must not be looked at here: the floor counts on guesses from what is published,
        and nothing else.
        """
        m = len(self.marks.included)
        pull, means = np.linalg.norm(seen.pulls, axis=1), seen.means[:m]
        # what other rows added by way of the mean is taken off again, as far as the noised bias
        # knows it
        sums = seen.sums[:m] + means[:, None] * seen.bias
        along = (sums * seen.pulls).sum(1) / np.maximum(pull, 1e-200)
        # log 0 where all are drawn; what diverged
        with np.errstate(divide="ignore", invalid="ignore"):
            log_in, log_out = np.log(self.q), np.log1p(-self.q)
            self.loss += np.logaddexp(
                log_out, log_in + (along * pull - pull**2 / 2) / (self.noise**2 * (1 + means**2))
            )

    def _compare(self, seen: Seen) -> None:
        """What the step says of the mechanism, to one who knows the coins."""
        inside, m = self.marks.included, len(self.marks.included)
        sums, spread = self._without_the_others(seen, ~inside)
        pull = np.linalg.norm(seen.pulls, axis=1)
        along = (sums[:m] * seen.pulls).sum(1) / np.maximum(pull, 1e-200)  # (m,)
        if inside.any():
            # what is no number was no correct step
            beyond = np.nan_to_num((along - pull) / spread[:m], nan=math.inf)[inside]
            self.furthest = max(self.furthest, float(beyond.max()))
            self.unclipped = max(
                self.unclipped, float(((seen.reach - pull) / spread[:m])[inside].max())
            )
            self.looks += int(inside.sum())
        self.excess += float((along - self.q * pull)[inside].sum())
        self.expected += self.q * float(pull[inside].sum())
        self.by_draws += self.q * (1 - self.q) * float((pull[inside] ** 2).sum())
        self.by_noise += float((spread[:m][inside] ** 2).sum())
        self._follow_draws(sums[m:], seen.marker_pulls)

    def _without_the_others(self, seen: Seen, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(columns, classes) the sums less what other rows added by way of the mean, and (columns,)
        their noise.

        The bias's true sum is estimated by least squares from the excluded canaries' columns, where
        nothing else is, and the noised bias itself. What these are off by is noise alone: so many
        independent entries as there are columns.
        """
        means = np.r_[-seen.means[: len(out)][out], 1.0]
        # (excluded + 1, classes)
        rows = np.concatenate([seen.sums[: len(out)][out], seen.bias[None]])
        total = means @ rows / (means @ means)  # (classes,)
        self.squares += float((((rows - means[:, None] * total) / self.noise) ** 2).sum())
        self.entries += (len(rows) - 1) * self.marks.classes
        return seen.sums + seen.means[:, None] * total, self.noise * np.sqrt(
            1 + seen.means**2 / (means @ means)
        )

    def _follow_draws(self, sums: np.ndarray, pulls: np.ndarray) -> None:
        """Poisson draws of one step know nothing of those before: the product of their surprises is
        zero on average, whatever the noise.

        sums (groups, classes) of the markers' columns; pulls (groups, kinds, classes) what a marker
        of each kind adds.
        """
        if self.steps % self.steps_per_epoch == 0:
            self._new_epoch()
        surprise = sums - self.q * (self.counts[:, :, None] * pulls).sum(1)  # (groups, classes)
        if self.steps % self.steps_per_epoch:
            self.products.append(float((surprise * self.surprise).sum()))
            self.shuffled -= self.q**2 * float(
                (self.counts[:, :, None] * pulls * self.pulled).sum()
            )
        self.surprise += surprise
        self.pulled += pulls

    # --- what it all says -------------------------------------------------------------------------

    def floor(self, delta: float) -> Floor:
        """The lower bound on ε from what was seen so far."""
        return floor(self.loss, self.marks.included, delta)

    def checks(self) -> list[Check]:
        """The promises of the mechanism, one after the other."""
        found = [self._noise("the noise is as large as said", self.squares, self.entries)]
        found += (
            [self._noise("the mean's noise is as large as said", *self.released)]
            if self.released
            else []
        )
        found += [self._shape()] if self.tails.draws else []
        clipping = self._clipping()
        rest = [self._rate(), self._independence()]
        if not clipping.kept:  # they count on pulls of the clip norm at most
            rest = [
                Check(
                    check.name,
                    1.0,
                    "cannot be told where pulls are beyond the clip norm",
                    check.error,
                    0.0,
                )
                for check in rest
            ]
        return [*found, clipping, *rest]

    def _noise(self, name: str, squares: float, entries: int) -> Check:
        """Where nothing was learned there is noise alone: no less of it than said."""
        if not entries:
            return Check(
                name, 1.0, "no canary was left out: nothing to tell", "half the noise", 0.0
            )
        power = float(stats.chi2.cdf(4 * stats.chi2.ppf(LEVEL, entries), entries))
        least = 100 * math.sqrt(stats.chi2.ppf(LEVEL, entries) / entries)
        return Check(
            name,
            _number(float(stats.chi2.cdf(squares, entries))),
            f"{100 * math.sqrt(squares / entries):.2f} % of what was said; chance alone stays above"
            f" {least:.2f}",
            "half the noise",
            power,
        )

    def _shape(self) -> Check:
        """Noise of float32 draws is not normal far out, where δ is counted."""
        name = "the noise is Gaussian in its tails"
        return Check(
            name,
            _number(self.tails.p_value()),
            self.tails.words(),
            "float32 noise",
            self.tails.power(LEVEL),
        )

    def _clipping(self) -> Check:
        """No canary ever pulled further than a clipped one can with noise on it."""
        name, error = "no picture pulls harder than the clip norm", "no clipping"
        if not self.looks:
            return Check(name, 1.0, "no canary was put in: nothing to tell", error, 0.0)
        p = min(1.0, self.looks * float(stats.norm.sf(self.furthest)))
        most = float(stats.norm.isf(LEVEL / self.looks))
        far = f"{self.furthest:.1f}" if self.furthest < 1000 else "more than 1,000"
        return Check(
            name,
            _number(p),
            f"with its noise the hardest of {self.looks:,} pulls is {far} standard deviations"
            f" beyond the clip norm; chance alone stays below {rounding.at_most(most, 1)}",
            error,
            float(stats.norm.sf(most - self.unclipped)),
        )

    def _rate(self) -> Check:
        """Included canaries were not drawn more often than charged: a martingale's tail by its
        exponential moments (Freedman 1975), whatever its shape.

        E e^{λ(B − q)c} ≤ e^{q(1−q)c²(e^λ − 1 − λ)} for c ≤ 1, and noise is normal. λ is chosen by
        the variance alone.
        """
        name, error, varies = (
            "pictures are drawn as often as charged",
            "every picture drawn twice as often",
            self.by_draws + self.by_noise,
        )
        if not math.isfinite(varies + self.expected + self.excess):
            return Check(name, 0.0, "not a number", error, 0.0)
        if not (varies > 0 and self.expected > 0):
            return Check(name, 1.0, "no canary was put in: nothing to tell", error, 0.0)
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
        seen = (
            f"{share:.0f} % of the draws that were charged; chance alone stays below"
            f" {rounding.at_most(most, 0)}"
            if most < 1000
            else "under this much noise draws cannot be counted"
        )
        return Check(name, _number(p), seen, error, power)

    def _independence(self) -> Check:
        """A picture's being drawn in a step says nothing about its other steps: Poisson sampling,
        and no shuffling.
        """
        name, error, products = (
            "each step draws afresh",
            "shuffled batches",
            np.array(self.products),
        )
        size = math.sqrt(float((products**2).sum())) if len(products) else 0.0
        if not size > 0:
            return Check(
                name,
                1.0 if size == 0 else 0.0,
                (
                    "there is one step an epoch: nothing to tell apart"
                    if size == 0
                    else "not a number"
                ),
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
    """What came out as no number was no correct training."""
    return p if math.isfinite(p) else 0.0
