"""Texts of page Fidelity; pure functions."""

from __future__ import annotations

import math

from engine.core.rounding import epsilon
from engine.studies.fidelity import doubt
from pages.common.sentences import _and

# --- generated images -----------------------------------------------------------------------------

BEYOND = 1e6  # larger values of a metric are shown as "beyond"


COPIED = 0.05  # share of held-out images that look like copies, by construction


CONTROLS = {
    "held-out": "unseen real pictures",
    "copies": "exact copies",
    "untrained": "untrained generator",
}


def short(value: float) -> str:
    """A number beside its dot in the chart."""
    return (
        ""
        if math.isnan(value)
        else "beyond"
        if value > BEYOND
        else f"{value:,.0f}"
        if value >= 100
        else f"{value:.3g}"
    )


def large(value: float) -> str:
    """A number with its magnitude, however large."""
    return (
        "none"
        if math.isnan(value)
        else (
            "beyond a million"
            if value > BEYOND
            else f"{value:.3g}"
            if abs(value) < 1000
            else f"{value:,.0f}"
        )
    )


def grown(curves: dict[str, list[tuple[float, float]]], steps: int) -> str:
    """The progress of a generator: 'Measured at step 120 of 1,200; ε = 4.1 spent so far'."""
    if not curves.get("frechet_distance"):
        return "About to begin."
    step, spent = curves["frechet_distance"][-1][0], [y for _, y in curves.get("epsilon", [])]
    told = (
        "; nothing promised"
        if not spent
        else (
            f"; ε = {epsilon(spent[-1])}, all of it spent before the first step"
            if spent[0]
            else f"; ε = {epsilon(spent[-1])} spent so far, at most"
        )
    )
    return f"Measured at step {step:,.0f} of {steps:,}{told}."


def untold(metrics: dict[str, float], space: str = "pixels") -> bool:
    """Whether a metric about copies is NaN, in which case it says nothing."""
    return any(math.isnan(metrics[f"{name}_{space}"]) for name in ("again", "copies"))


def suspicious(metrics: dict[str, float], space: str = "pixels") -> bool:
    """Whether more images look like copies than chance explains, at about 1 % false alarms.

    Repeats of an image count once, as many as have different nearest images.
    """
    n, held = metrics[f"distinct_{space}"], metrics[f"yardstick_{space}"]
    return metrics[f"copies_{space}"] > COPIED + 2.33 * math.sqrt(
        COPIED * (1 - COPIED) * (1 / n + 1 / held)
    )


def copied(metrics: dict[str, dict[str, float]], made: tuple[str, ...]) -> str:
    """The answer to the page's question from the metrics of all sets.

    Whose training images come back, what was learned, and which metric detects it. made: the
    generators.
    """
    again = {name: f"**{found['again_pixels']:,}**" for name, found in metrics.items()}
    doubted = doubt(metrics[CONTROLS["copies"]], metrics[CONTROLS["held-out"]])
    unseen = metrics[CONTROLS["held-out"]]["again_pixels"]  # duplicates within the data
    lost = [name for name, found in metrics.items() if untold(found)]
    guilty = (
        [] if doubted else [name for name in made if metrics[name]["again_pixels"] > 2 * unseen]
    )
    uneasy = [name for name in made if name not in guilty and suspicious(metrics[name])]
    blind = [
        name for name in made if name not in guilty and metrics[name].get("precision", 1.0) < 0.05
    ]
    told = (
        f"- **Are there copies?** Of the {metrics[made[0]]['learned']:,} pictures that they learned"
        f" from, so many come back: {_each(made, again)} (unseen real pictures"
        f" {again[CONTROLS['held-out']]}, exact copies {again[CONTROLS['copies']]}). "
    )
    if doubted:
        told += (
            f"**That says nothing here, so no verdict is given**: {doubted}. Pictures that stand"
            " both among those learned from and among the held-out ones, or that all look alike,"
            " make this test blind. "
        )
        uneasy = blind = []
    if guilty:
        told += f"**The {_and(guilty)} hands out pictures that it learned from.** "
    if uneasy:
        told += (
            f"Of the {_and(uneasy)}, more pictures than chance explains lie nearer to those learned"
            " from than to unseen ones: some may have been learned by heart, or few kinds are"
            " drawn, which look alike. "
        )
    if lost:
        told += f"**Nothing can be said of {_and(lost)}**: distances there are no numbers. "
    elif not guilty and not uneasy and not doubted:
        told += (
            "**In none of them does this test find a picture"
            f" again{', beyond what duplicates within the data give' if unseen else ''}.** With"
            " fewer pictures to learn from it may. "
        )
    if blind:
        told += (
            f"The {_and(blind)} drew nothing that could pass for a real picture, so that says"
            " little. "
        )
    told += (
        "A test that finds nothing proves nothing; what a private generator promises holds against"
        " every test."
    )
    far = {name: short(found["frechet_distance"]) for name, found in metrics.items()}
    told += (
        f"\n- **What have they learned?** Distance from real pictures: {_each(made, far)} (unseen"
        f" real pictures {far[CONTROLS['held-out']]}, an untrained generator"
        f" {far[CONTROLS['untrained']]})."
    )
    copies, least = (
        metrics[CONTROLS["copies"]],
        min(made, key=lambda name: _or_worst(metrics[name].get("mifid_torchmetrics", math.inf))),
    )
    if copies.get("mifid_torchmetrics", math.inf) < metrics[least].get(
        "mifid_torchmetrics", -math.inf
    ):
        told += (
            "\n- **Does MiFID see copies?** It was made to punish them. As torchmetrics computes"
            f" it, {metrics[CONTROLS['copies']]['pictures']:,} exact copies score"
            f" {short(copies['mifid_torchmetrics'])}, *better* than every generator here (at least"
            f" {short(metrics[least]['mifid_torchmetrics'])})."
        )
    of_unseen = metrics[CONTROLS["held-out"]].get("mifid_torchmetrics", -math.inf)
    for name in guilty:
        if metrics[name].get("mifid_torchmetrics", math.inf) <= of_unseen:
            told += (
                f"\n- **Does MiFID see copies?** As torchmetrics computes it, the {name}, which"
                f" copies, scores {short(metrics[name]['mifid_torchmetrics'])}, no worse than real"
                f" pictures that nobody learned from ({short(of_unseen)})."
            )
    return told


def _or_worst(value: float) -> float:
    """Map NaN to infinity, so that it is the worst value, not the best."""
    return math.inf if math.isnan(value) else value


def _each(names: tuple[str, ...], values: dict[str, str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names)


def sets(extractor: str, count: int) -> str:
    """What the chart of sets shows."""
    by = {
        "classifier": "our own network's 64 features",
        "efficientnet_lite0": "EfficientNet-Lite0's 1,280 features",
        "inception": "Inception-v3's 2,048 features: this distance is FID",
        "inception64": "the first 64 features of Inception-v3: not FID proper",
    }[extractor]
    return (
        "Small is good in each panel; but an exact copy is near to real pictures, too, and only"
        f" the second panel looks for copies. Distances over {by}, up to {count:,} pictures of each"
        " set. Grey: sets of which the answer is known. Dotted: where real pictures lie that"
        " nobody learned from, about 5 in 100. A generator that draws few kinds of pictures may"
        " lie above that without copying; whether pictures *come back* is asked more strictly."
    )


def measured(m: dict[str, float]) -> dict[str, str]:
    """A row of the table of all metrics."""

    def percent(name):
        return f"{100 * m[name]:.1f}" if name in m else "none"

    def number_(name):
        return large(m[name]) if name in m else "none"

    return {
        "come back, by pixels": f"{m['again_pixels']:,}",
        "come back, by features": f"{m['again_features']:,}",
        "like copies, by pixels, %": percent("copies_pixels"),
        "like copies, by features, %": percent("copies_features"),
        "Fréchet distance": number_("frechet_distance"),
        "kernel distance": number_("kernel_distance"),
        "precision, %": percent("precision"),
        "recall, %": percent("recall"),
        "MiFID, torchmetrics": number_("mifid_torchmetrics"),
        "MiFID, Bai": number_("mifid_bai"),
        "cosine distance, real to made": f"{m.get('cosine_real_to_made', math.nan):.4f}",
        "cosine distance, made to real": f"{m.get('cosine_made_to_real', math.nan):.4f}",
        "distance ratio, pixels": f"{m['ratio_pixels']:.3f}",
        "distance ratio, features": f"{m['ratio_features']:.3f}",
        "pictures": f"{m['pictures']:,}",
    }


MIFID = """
MiFID (Bai et al. 2021) divides the Fréchet distance by how far generated pictures are from the
nearest training pictures, so that copying makes it large. Four things can mislead:

- **A threshold.** Above a mean cosine distance of 0.1 nothing is punished. Whether a set falls
  below depends on the network that compares: in a small network nearly all pictures look alike, and
  everything counts as "memorised", real pictures that nobody learned from and even noise included.
- **A direction.** The paper asks how near each *generated* picture is to a training picture.
  torchmetrics asks how near each *training* picture is to a generated one: a set that copies a
  quarter of the training pictures exactly leaves the other three quarters as far as they are from
  any real picture, and goes nearly unpunished. See the row of exact copies.
- **Zero over zero.** A copy of the whole training set has distance 0, and torchmetrics says 0.0:
  perfect. By the paper's formula it is 0 over 0, and rounding decides.
- **No yardstick.** A real picture that nobody learned from has near neighbours, too. So a low
  distance alone proves nothing: the finder above compares with held-out pictures.

And its two parts pull against each other. Noise moves pictures away from all real ones: that raises
the Fréchet distance and lowers the penalty. So MiFID can rise or fall with privacy, whoever has
memorised what.
"""


FIDELITY_REPORT = """
The report (Faber) trained a DCGAN on faces (CelebA, grey, 64 x 64), with Opacus on the
discriminator and without. FID rose from 1.58 to 4.80 with privacy, MiFID fell from 2460 to 535, and
it concluded that differential privacy lowers memorisation. But an *untrained* generator, in its own
notebook, scores 2316: by that reading noise would be memorised as well as faces. Its FID is over 64
features of Inception-v3, where the name stands for 2,048; and its pictures reach the metric in [−1,
1] where [0, 1] is expected, so that dark pixels wrap around. Below, our sets by its two numbers,
with that mistake and without.
"""


FIDELITY_FORMULAS = r"""
With $\mu, \Sigma$ the mean and covariance of the features of real ($r$) and generated ($g$)
pictures, the **Fréchet distance** is $\lVert \mu_r - \mu_g \rVert^2 + \mathrm{tr}\big(\Sigma_r +
\Sigma_g - 2 (\Sigma_r \Sigma_g)^{1/2}\big)$; over Inception-v3's 2,048 features it is called FID
(Heusel et al. 2017).

**Kernel distance**: the squared maximum mean discrepancy with $(x \cdot y / d + 1)^3$, without bias
(Bińkowski et al. 2018). **Precision**: the share of generated pictures inside the real ones' balls
to their third neighbour; **recall** the other way round (Kynkäänniemi et al. 2019).

**MiFID**: Fréchet distance over $m$ where $m < 0.1$, with $m$ the mean of
$\min_j (1 - |\cos(g_i, r_j)|)$ over generated pictures $i$ (Bai et al. 2021), or over real ones
(torchmetrics 1.9).

**Looks like a copy**: with $d$ the distance to the nearest picture (pixels less their mean, scaled
to length 1; or features), the ratio $d(x, \text{learned from}) / d(x, \text{held out})$ below the
value that 5 % of the held-out pictures themselves are below. Where fewer pictures were learned from
than half of those held out, as many held-out ones are compared with, and the others are the
yardstick. **Comes back**: a picture learned from, nearest to a generated one whose ratio is below a
third of what 99 in 100 held-out pictures lie above.

**The private GAN**: at every step of the discriminator $D$, for a Poisson batch $B$ of real
pictures and generated ones $G(z_j)$, $\tilde g = \tfrac1{qn}\big(\sum_{i \in B}
\mathrm{clip}_C(\nabla \ell(D(x_i), 1)) + \mathcal N(0, \sigma^2 C^2 I) + \sum_j
\mathrm{clip}_C(\nabla \ell(D(G(z_j)), 0))\big)$. $G$ learns from $D$ alone, so whatever it makes
costs no more.

**DP-MERF** (Harder et al. 2021): with $\varphi(x) = (\cos \omega_k \cdot x, \sin \omega_k \cdot
x)_k / \sqrt K$, $\omega_k \sim \mathcal N(0, I / \ell^2)$, released once is
$\sum_i \varphi(x_i) \otimes (e_{y_i})$ with 0.1 times the classes' sizes, all under noise of
$\sigma \sqrt{1 + 0.1^2}$; then $G$ is trained until its own mean is that.
"""
