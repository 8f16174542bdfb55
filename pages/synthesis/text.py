"""Texts of page Synthesis; pure functions."""

from __future__ import annotations

import math

from engine.core.rounding import epsilon, of_hundred
from engine.core.study import Guarantee


def told_apart(metrics: dict[str, float], promise: Guarantee) -> str:
    """The AUC of one membership attack beside the upper bound on any such AUC.

    Also says that the odds of the guarantee answer another question.
    """
    right = f"{100 * metrics['membership_features']:.0f}"
    found = (
        "Of a training picture and a held-out one, the attack above names the right one"
        f" **{right}** times in 100 (50 is a coin flip). That is the area under its ROC curve."
    )
    if promise.epsilon is None:
        return f"{found} It is what one attack found. Nothing is promised: another may find more."
    mine, any_ = of_hundred(metrics["area_mechanism"]), of_hundred(metrics["area_any"])
    return (
        f"{found} Take a picture's score in a training that it was part of, and its score in"
        " another training that it was not part of. Behind this noise, no attack's scores tell the"
        f" two apart with an area above **{mine}** in 100; behind any method with ε ="
        f" {epsilon(promise.epsilon)}, with none above {any_}. Training and held-out pictures may"
        " differ in other ways, too, which an attack may use where nothing leaks. What follows is"
        " about another question, yes or no about a single picture, which has a bound of its own."
    )


def margin_of_ranks(members: int, others: int) -> float:
    """Half the width of the 95 % interval of an AUC near chance, in [0, 1].

    From the rank statistic of Mann and Whitney 1947.
    """
    return 1.96 * math.sqrt((members + others + 1) / (12 * members * others))


SYNTHESIS_REPORT = """
The report ([arXiv 2210.03205](https://arxiv.org/abs/2210.03205), 2022) takes a ResNet20 that knows
CIFAR-10, changes free pixels until the batch-norm statistics fit, and trains a ResNet20 from
scratch on the result with hard labels. It says that privacy falls as accuracy rises, but measures
no privacy, states no guarantee, and its text has lost the numbers of steps and of pictures. Its
free pixels are a choice among the settings.
"""


SYNTHESIS_PROMISE = """
Statistics of pictures and a network that learned from them carry **no** guarantee, however odd the
pictures look: nothing bounds what one person's picture may have changed. A guarantee needs noise
that was added on purpose. A network trained by DP-SGD has one, but it cannot use batch norm,
because there one picture changes what happens to all others of its batch; and the norm that it uses
instead, group norm, remembers no statistics that could be matched.

The preset *A private teacher* shows a way (our own addition, with its proof in docs/synthesis.md):
the teacher learns by DP-SGD with group norm. Then each training picture hands in one vector, the
means and mean squares of what every layer says of it. Vectors are shortened to a fixed length,
added up, and Gaussian noise is added to the sum, once. ε counts both, training and statistics. All
that is made afterwards, the pictures and the students, costs nothing more.
"""


SYNTHESIS_FORMULAS = (
    r"""
Pictures $x$ with wanted labels $y$ are changed to make small

$$\sum_l \Big( \lVert \mu_l(x) - \hat\mu_l \rVert_2^2"""
    r""" + \lVert \sigma_l^2(x) - \hat\sigma_l^2 \rVert_2^2 \Big) + \mathrm{CE}(f(x), y),$$

with $\hat\mu_l, \hat\sigma_l^2$ what batch norm $l$ recorded of the training data and
$\mu_l(x), \sigma_l^2(x)$ the same of the pictures in the making.

**Looks like a copy**: with $d$ the distance to the nearest picture (each picture less its mean,
scaled to length 1), $d(x, \text{training}) / d(x, \text{held out})$ below the value that 5 % of the
held-out pictures themselves are below.

**Members told**: area under the ROC curve of minus the distance from a real picture to the nearest
released one; training pictures against held-out ones.

**Noised statistics**: with $v_i$ the vector of picture $i$, $\lVert v_i \rVert_2 \le C$, released
is $\sum_i (v_i, 1) + \mathcal N(0, \sigma^2 (C^2 + 1) I)$, a Gaussian mechanism with noise
multiplier $\sigma$: a blanked picture adds $(0, 0)$.
"""
)
