"""Texts of page Noise."""

from __future__ import annotations

from engine.core.rounding import chosen

TITLE = "Can anyone still be recognised?"

INTRODUCTION = """
Before an image leaves a phone, noise can be added to it. The privacy budget ε (epsilon) limits how
much an attacker can still learn from it: the smaller ε, the more noise. **Drag the slider and find
where the image disappears.** (This page re-examines report 1, a student report by Green, Hodson and
Hanoian, 2020.)
"""

OWN_IMAGE = (
    "Your image, cropped to a square and scaled to 64 × 64 pixels in colour. It needs a larger ε to"
    " be visible than a digit of 28 × 28 pixels: its length of 1 is spread over 12,288 numbers"
    " instead of 784."
)

FORMULAS = r"""
The image $x$ becomes $u = x / \lVert x \rVert_2$. The release is
$\max(u + \mathcal N(0, \sigma^2 I),\, 0)$. Replacing $u$ by another non-negative unit vector moves
it by at most $\Delta = \sqrt 2$.

**Exact** (Balle and Wang 2018): the least $\sigma$ with $\Phi\!\left(\tfrac{\Delta}{2\sigma} -
\tfrac{\varepsilon\sigma}{\Delta}\right) - e^{\varepsilon}\,\Phi\!\left(-\tfrac{\Delta}{2\sigma} -
\tfrac{\varepsilon\sigma}{\Delta}\right) \le \delta$. **Textbook**:
$\sigma = \Delta \sqrt{2 \ln(1.25/\delta)} / \varepsilon$, proved for $\varepsilon < 1$ only.

**Label**, one of $k$: the true one with probability $e^{\varepsilon} / (e^{\varepsilon} + k - 1)$,
each other one with $1 / (e^{\varepsilon} + k - 1)$.
"""

TRAINING = """
Every phone adds noise to its image at the level set above, and a network learns from what leaves
the phones. For comparison, another network learns from the raw images. Both architectures are those
of report 1, which found almost nothing left to learn. **Choose the training labels, press Train,
and compare.**
"""

SEVERAL_RELEASES = (
    "Each noise level is a separate release with its own noise. Publishing several of them, or"
    " anything learned from them, spends the sum of their ε."
)

WALK_DETAILS = """
The bars show the test accuracy of the shallow network. Each step is trained with one seed, so a
change of a point or two may be chance; where clustering finds the labels, even more.
"""

WALK_DETAILS_IIC = """
Report 1 trained no network on IIC's labels. Its clustering code scaled 700 images to a common
length; here the network sees those images, too. Its fresh noise for every copy of an image is on
page Clustering.
"""

SWEEP = (
    "Report 1 asked whether depth amplifies noise. If it did, the accuracy of deeper networks would"
    " fall earlier as ε shrinks (downwards)."
)

SWEEP_DETAILS = """
Each cell is trained with one seed. After few epochs, narrow networks are still learning, so small
differences between neighbouring cells mean nothing.
"""


def walk(published: tuple[float, float] | None) -> str:
    """What the colours of the walk mean. published: the range of accuracies in report 1."""
    said = (
        "Green: raw images, true labels. Yellow: having no labels. Blue: privacy, with everything"
        " done right. Red: each error of report 1, added one by one."
    )
    if published:
        low, high = (100 * value for value in published)
        said += f" Grey: what report 1 measured ({low:.0f} to {high:.0f} %)."
    return said


def survival(budgets: list[float]) -> str:
    """What the levels of the survival chart mean. budgets: every ε that was trained."""
    return (
        "An image counts from the smallest ε at which it, and at every larger one, is classified"
        f" correctly. *off and on*: wrong at ε = {chosen(max(budgets))}, right at a smaller one."
        " *never*: right at none."
    )


def survival_details(budgets: list[float]) -> str:
    """How the survival chart was made."""
    return (
        "The shallow network is trained separately at each ε. Classes are ordered by how few of"
        f" their images survive ε = {chosen(min(budgets))}. Each image has one noise draw; with"
        " another draw, single images would move."
    )


def label(truth: str, reported: str, keep: float, classes: int, own: bool) -> str:
    """How the label is reported. keep: the probability of the true one; own: a visitor's image."""
    first = "Suppose the label of your image is" if own else "The label of the image:"
    return (
        f"{first} **{truth}**. Reported label: **{reported}**.\n\nThe true label is reported with a"
        f" probability of {100 * keep:.3g} %, otherwise one of the other {classes - 1}, all equally"
        " likely. This is *randomised response*: a biased coin decides between truth and lie."
        " The smaller ε, the more deniable the answer."
    )
