"""Texts of page DP training; pure functions."""

from __future__ import annotations

import math

from engine.core import rounding
from engine.core.rounding import epsilon, of_hundred
from engine.core.study import Guarantee
from pages.common.sentences import give_or_take, margin

# noise multiplier → (ε, accuracy) of its finished seeds
Ends = dict[float, list[tuple[float, float]]]


def least_epsilon(
    means: list[tuple[float, float, float]], ends: Ends, wanted: float, open_: float | None = None
) -> str:
    """Which training reached an accuracy with the least ε, and what to try next.

    means: (ε, mean accuracy, noise multiplier), sorted by ε; open_: accuracy without privacy.
    """
    reached = [
        (epsilon_, accuracy, noise) for epsilon_, accuracy, noise in means if accuracy >= wanted
    ]
    if not reached:
        best = max(means, key=lambda found: found[1])
        told = (
            f"None of what has run reached {100 * wanted:.1f} %: the best was {100 * best[1]:.2f} %"
            f" at ε = {epsilon(best[0])}. "
        )
        if open_ is not None and open_ < wanted:
            return (
                f"{told}Without privacy it is {100 * open_:.2f} %, so less noise will hardly do:"
                " take a data set with more pictures, or another network."
            )
        return f"{told}Take less noise, more epochs, or a data set with more pictures."
    least = reached[0]
    below = [found for found in means if found[0] < least[0]]
    told = (
        f"ε = **{epsilon(least[0])}** (σ = {least[2]:g}) reached"
        f" {spread([y for _, y in ends[least[2]]])}."
    )
    if not below:
        return f"{told} That was the most private of all that have run: a smaller ε may do as well."
    return (
        f"{told} ε = {epsilon(below[-1][0])} did not ({100 * below[-1][1]:.2f} %). Try next: ε ≈"
        f" {math.sqrt(least[0] * below[-1][0]):.2g}."
    )


def most_accuracy(means: list[tuple[float, float, float]], ends: Ends, budget: float) -> str:
    """The best accuracy within a budget."""
    within = [found for found in means if found[0] <= budget]
    if not within:
        return f"Nothing that has run spends as little: the least was ε = {epsilon(means[0][0])}."
    best = max(within, key=lambda found: found[1])
    return (
        f"**{100 * best[1]:.2f} %** was the most, at σ = {best[2]:g} (ε = {epsilon(best[0])}):"
        f" {spread([y for _, y in ends[best[2]]])}."
    )


def spread(values: list[float]) -> str:
    """Accuracies of several seeds: '97.90 % (one seed)', '97.90 % (3 seeds, 97.80 to 98.00 %)'."""
    mean = f"{100 * sum(values) / len(values):.2f} %"
    if len(values) == 1:
        return f"{mean} (one seed)"
    return f"{mean} ({len(values)} seeds, {100 * min(values):.2f} to {100 * max(values):.2f} %)"


CHEATS = {
    "none": "Choose a way to cheat, and see whether the auditor finds it.",
    "no clipping": (
        "Nobody's pull is cut short: a single odd picture can steer the network, and the noise no"
        " longer hides it."
    ),
    "half the noise": "Half of the noise that ε is charged for.",
    "shuffled batches": (
        "Every picture is used exactly once an epoch, as trainings without privacy do. ε counts on"
        " the luck of being drawn or not, which the others cannot foresee."
    ),
    "float32 noise": (
        "Noise of the right size from an ordinary generator, as most code draws it. Far out it"
        " takes few values only, and one picture can show as a value that noise alone never takes."
    ),
}


WHO = {
    "private": "with privacy",
    "not private": "without privacy",
    "no noise": "clipped, without noise",
}


def tied(promise: Guarantee, found: dict[str, dict[str, float]], cheat: str = "none") -> str:
    """The guarantee and the findings in one line.

    found: a key of WHO → metrics of the attack; cheat: the one in the audited training, not in the
    attacked one.
    """
    parts = (
        [f"promised: at most **{of_hundred(promise.odds_mechanism)}**"]
        if promise.odds_mechanism is not None
        else ["promised: **nothing**"]
    )
    parts += [
        f"this attack, {WHO[who]}: **{100 * metrics['right_guesses_like_it']:.1f}**"
        for who, metrics in found.items()
    ]
    honest = "" if cheat == "none" else "**For the honest training**, which is the one attacked: "
    return (
        f"{honest}{'of' if honest else 'Of'} 100 guesses whether a picture was in, so many are"
        f" right: a coin **50**; {'; '.join(parts)}."
    )


def audited(metrics: dict[str, float], facts: dict, cheat: str, delta: float) -> str:
    """The findings of an audit in sentences."""
    floor, ceiling, broken = (
        metrics["floor"],
        metrics["ceiling"],
        [check["name"] for check in facts["checks"] if not check["kept"]],
    )
    guesses = (
        f"right {metrics['right']:,.0f} of {metrics['guesses']:,.0f} times about which of the"
        " made-up examples were in"
    )
    shown = (
        f"with {100 * facts['confidence']:.0f} % confidence **at least ε ="
        f" {rounding.floor(floor)}** is spent by training so"
        if floor
        else "which may be luck: nothing was shown to be spent"
    )
    told = (
        f"The auditor guessed {guesses}: {shown}. Promised is **at most {epsilon(ceiling)}**, both"
        f" at δ = {rounding.chosen(delta)}."
    )
    verdict = (
        "No promise was found broken. What is really spent lies between the two, unless this is one"
        " of the 5 in 100 audits whose floor is too high."
    )
    if metrics["beyond"]:
        verdict = (
            "**That cannot be**: so many right guesses happen to a training that keeps its promise"
            " in less than one of 1,000 audits."
        )
    elif broken and floor > ceiling:
        verdict = (
            f"**A promise of the method is broken** ({'; '.join(broken)}), and the guesses agree:"
            " its ε was not earned."
        )
    elif broken:
        verdict = (
            "The guesses alone do not show it, but **a promise of the method is broken**"
            f" ({'; '.join(broken)}): its ε was not earned."
        )
    elif floor > ceiling:
        verdict = (
            "The floor lies above the ceiling: either the training gives away more than it says, or"
            " this is one of the 5 in 100 audits whose floor is too high. Another seed tells."
        )
    planted = (
        ""
        if cheat == "none"
        else f"Here an error was planted: **{cheat}**. "
        + (
            "The auditor **found it**. "
            if metrics["violated"]
            else "The auditor **did not find it**. "
        )
    )
    return f"{planted}{told} {verdict}"


def audited_all(
    found: dict[str, dict[str, float]], blind: list[str], total: int, cheat: str
) -> str:
    """The findings of audits of several trainings.

    blind: those whose noise is too strong for the audit to detect this cheat.
    """
    broken = [name for name, metrics in found.items() if metrics["violated"]]
    so_far = "" if len(found) == total else f" ({len(found)} of {total} audited so far)"
    if cheat != "none":
        missed = [name for name in found if name not in broken]
        return (
            f"**{cheat.capitalize()}** was planted in all of them. The auditor found it in"
            f" **{len(broken)} of {len(found)}**{so_far}"
            + (
                f" and missed it in {', '.join(missed)}"
                + (
                    ": so much noise hides it from the auditor as well."
                    if set(missed) <= set(blind)
                    else "."
                )
                if missed
                else "."
            )
        )
    return (
        f"**{len(broken)} of {len(found)}** break a promise: {', '.join(broken)}{so_far}."
        if broken
        else f"In **none of {len(found)}** was a promise found broken{so_far}."
    )


def kept(check: dict) -> str:
    """The verdict of a check; one that could not have detected its error says so."""
    return "broken" if not check["kept"] else "cannot be told" if check["blind"] else "kept"


def powers(facts: dict) -> str:
    """The probability of a false alarm, and how guesses are counted."""
    return (
        "A promise of a correct training is called broken in at most"
        f" {100 * facts['false_alarm']:.0f} of 100 audits. Guesses: the best of four numbers of"
        " them, fixed beforehand, each at its share of the 5 % (Steinke, Nasr and Jagielski 2023)."
    )


def attacked(found: dict[str, dict[str, float]]) -> str:
    """How often the attacker guesses right. found: a key of WHO → metrics of the attack."""
    told = [
        f"**{100 * metrics['right_guesses_like_it']:.1f} ±"
        f" {give_or_take(metrics['right_guesses_margin'])} times in 100** {WHO[who]}"
        for who, metrics in found.items()
    ]
    rare = [
        f"**{1000 * metrics['found_at_0.001']:.1f} ±"
        f" {give_or_take(metrics['found_at_0.001_margin'], 1000)}** {WHO[who]}"
        for who, metrics in found.items()
    ]
    return (
        "Asked about a picture that was in by a coin flip, the attacker is right"
        f" {', '.join(told)}; a coin is right 50 times. If one false alarm in 1,000 is all that is"
        f" allowed, of 1,000 pictures that were in they find {' and '.join(rare)}; a guesser"
        " finds 1."
    )


def shadowed(found: dict[str, dict[str, float]], bounded: bool) -> str:
    """How the attack was measured."""
    first = next(iter(found.values()))
    own = [f"{100 * metrics['right_guesses']:.1f} ({WHO[who]})" for who, metrics in found.items()]
    promise = (
        "The dark lines are what no attack can beat; that this one finds little is no promise."
        if bounded
        else (
            "That this attack finds little is no promise: nothing is promised here, and another may"
            " find more."
        )
    )
    return (
        f"LiRA (Carlini et al. 2022) on {first['shadows']:.0f} networks like it, each attacked with"
        f" the help of others, {first['candidates']:,.0f} pictures each: thick lines, with 95 %"
        " margins over networks and pictures (where networks differ much in what they give away,"
        " such a margin holds about 88 times in 100). Thin: this very network, half of the"
        f" pictures its training pictures and half test pictures, right {', '.join(own)} times in"
        f" 100, give or take {give_or_take(margin(0.5, int(first['candidates'])))}. {promise}"
    )


DP_TRAINING_REPORT = """
The report (Boulif and Durand 2021) trained this kind of network with TensorFlow Privacy: two
convolutions with max-pooling, a dense ReLU layer and a softmax. It does not give the layers' sizes;
these are those of the tutorial that it builds on. The preset *As in the report* joins what its
figures on MNIST share: learning rate 0.1, noise multiplier 0.5 and clip norm 4 (its figures 3
and 7) with 15 epochs (its figure 4, where the rate is 0.08), and δ = 1e-5; the batch size of 256 is
the tutorial's, for the text gives none. It found an accuracy of about 0.9 for clip norms 1, 2 and 4
and a drop at 8, about 95 % without privacy, Adam and Adagrad ahead of SGD, and less accuracy the
smaller ε. Two slips in its text: its sensitivity is written in the L1 norm, where the Gaussian
mechanism needs L2, and "0.9 %" means a fraction of 0.9.
"""


DP_TRAINING_FORMULAS = (
    r"""
Each step draws a batch $B$, every picture joining with probability $q$ by its own coin. With $g_i$
the gradient of picture $i$,

$$\tilde g = \frac{1}{q n}\Big(\sum_{i \in B} g_i"""
    r""" \cdot \min\!\big(1, \tfrac{C}{\lVert g_i \rVert_2}\big)"""
    r""" + \mathcal N(0, \sigma^2 C^2 I)\Big).$$

$C$ is the clip norm (max_grad_norm), $\sigma$ the noise multiplier, $q n$ the *expected* batch
size. The training is $(\varepsilon, \delta)$-differentially private: for every set $S$ of networks
and all data sets $D, D'$ of $n$ pictures, one of which is blanked in one of them (it adds nothing
to any sum; $n$ is public), $P[M(D) \in S] \le e^{\varepsilon} P[M(D') \in S] + \delta$ (Abadi et
al. 2016). $\varepsilon$ is added up over the steps with Rényi divergences while it runs and from
the privacy loss distribution at the end.

**The linear model** sees fixed features $x$ of a picture, with $\lVert x \rVert_2 \le R$, less a
mean that is released once, $m = \tfrac1n \big(\sum_i x_i + \mathcal N(0, \sigma_m^2 R^2 I)\big)$,
and $\varepsilon$ counts that too. With the residual $r = \mathrm{softmax}(W(x - m) + b) - y$ its
gradient is $r \otimes (x - m, 1)$, of length
$\lVert r \rVert_2 \sqrt{\lVert x - m \rVert_2^2 + 1}$.

**Several networks**: publishing all of them, or picking the best, spends the composition of all
their privacy loss distributions.

**The auditor's floor**: with $m$ canaries, $r$ guesses, $v$ of them right, and $B \sim
\mathrm{Bin}\big(r, \tfrac{e^\varepsilon}{1 + e^\varepsilon}\big)$, every
$(\varepsilon, \delta)$-private training gives so many right guesses with a probability of at most
$P[B \ge v] + 2 m \delta \max_i \tfrac1i P[v > B \ge v - i]$ (Steinke, Nasr and Jagielski 2023,
Theorem 5.2). The floor is the largest $\varepsilon$ for which that is below 1.25 %, for the best of
four $r$. A canary's score is $\sum_t \log\big(1 - q + q\, e^{(a_t c_t - c_t^2/2)/\sigma^2}\big)$,
with $a_t$ what step $t$ published along its own gradient and $c_t$ how far that may pull.

**The attacker's score** (LiRA): with $\phi = \log \tfrac{p}{1 - p}$ of the right class, $\log
\mathcal N(\phi; \mu_\text{in}, s_\text{in}^2) - \log \mathcal N(\phi; \mu_\text{out},
s_\text{out}^2)$, fitted to shadows that knew the picture and that did not. At a share $\alpha$ of
false alarms no attack finds more than $\min_\varepsilon \big(e^\varepsilon \alpha +
\delta(\varepsilon)\big)$, with $\delta(\varepsilon)$ from the privacy loss distribution.
"""
)
