"""Texts of page Synthesis; pure functions."""

from __future__ import annotations

import math

from engine.core.rounding import epsilon, of_hundred
from engine.core.study import Guarantee

TITLE = "Can a network's memory replace its training images?"

INTRODUCTION = """
A network keeps a few statistics of all its training images. Start from noise, change it until the
statistics match, and images appear. **Press Run, drag through the steps, and see what a second
network can learn from synthetic images alone.** (This page re-examines report 2,
*Synthetic Dataset Generation for Privacy-Preserving Machine Learning*,
[arXiv 2210.03205](https://arxiv.org/abs/2210.03205), 2022.)
"""

STUDENTS = (
    "Networks trained on synthetic images alone, tested on real ones. *Hard* labels: the intended"
    " class. *Soft* labels: the teacher's probabilities of all classes. Circles: still training."
)

GROUP_NORM = """
A private teacher has another normalisation layer (group norm) than that of preset *Start*, so its
images form differently: after few steps, students may learn more from them. Privacy is not the
cause. Compare the ends of the curves.
"""


def answer(accuracy: dict[str, float], last: str) -> str:
    """The answer to the page's question in a sentence.

    accuracy: student → accuracy in [0, 1]; last: the last snapshot, such as "100 steps".
    """
    of_hundred_ = {name: f"{100 * value:.0f}" for name, value in accuracy.items()}
    hard, soft = (of_hundred_[f"{kind} labels, {last}"] for kind in ("hard", "soft"))
    real = (
        f" Trained on as many real images: **{of_hundred_['real images']}**."
        if "real images" in accuracy
        else ""
    )
    return (
        f"A network trained on synthetic images alone classifies **{hard}** of 100 real images"
        f" correctly, or **{soft}** with soft labels (the teacher's probabilities).{real}"
    )


def attack(margin: float) -> str:
    """What the membership attack does. margin: of its AUC by chance, in [0, 1]."""
    return (
        "The attacker guesses which of two images was a training image. By chance alone, the AUC"
        f" moves by ± {100 * margin:.1f}."
    )


ATTACK_DETAILS = """
The attacker has the synthetic images and the teacher, and is shown a training image and a held-out
one. The guess is the one that is nearer to a synthetic image, in the teacher's features. *AUC*: the
area under the attack's ROC curve, in per cent, which is how often the guess is right. This is one
attack that we ran, not a bound: a better attack may find more.
"""


def leakage(found: dict[str, float]) -> dict[str, float]:
    """A row of the table: what one released set reveals."""
    return {
        "like copies (pixels)": round(100 * found["copies_pixels"], 1),
        "like copies (features)": round(100 * found["copies_features"], 1),
        "distance ratio (pixels)": round(found["ratio_pixels"], 3),
        "attack AUC (pixels)": round(100 * found["membership_pixels"], 1),
        "attack AUC (teacher features)": round(100 * found["membership_features"], 1),
    }


def table_details(facts: dict, metrics: dict[str, float]) -> str:
    """The columns of the table, and what was compared with what."""
    return f"""
- *Like copies*: the share of images that are nearer to a training image, compared with held-out
  ones, than 19 of 20 held-out images are. By definition, 5 % of held-out images are. Brightness and
  contrast do not count. Where the distance ratio is near 1, a low share proves little: such images
  are far from *all* real ones. Even copies are missed once noise covers them; see their row.
- *Distance ratio*: the distance to the nearest training image over the distance to the nearest
  held-out one (median).
- *Attack AUC*: how often the attack above picks the training image, in per cent.
- *Pixels*, *features*: how images are compared; features are the teacher's.
- *Held-out* images are test images, which the teacher never saw.

{facts["compared"]:,} synthetic images were compared with {facts["references"]:,} training images
and {facts["held_out"]:,} held-out ones. The held-out row compares one half of these with the other.
An attacker who can query the teacher itself picks the training image
{100 * metrics["teacher_membership_auc"]:.1f} times in 100 (50 is chance).
"""


def membership_text(metrics: dict[str, float], promise: Guarantee) -> str:
    """The AUC of one membership attack beside the upper bound on any such AUC.

    Also says that the odds of the guarantee answer another question.
    """
    right = f"{100 * metrics['membership_features']:.0f}"
    found = (
        "Of a training image and a held-out one, the attack above picks the training image"
        f" **{right}** times in 100 (its AUC; a coin flip has 50)."
    )
    if promise.epsilon is None:
        return f"{found} Nothing is guaranteed: another attack may find more."
    mine, any_ = of_hundred(metrics["area_mechanism"]), of_hundred(metrics["area_any"])
    return (
        f"{found} Compare an image's score in a training with it and in a training without it. With"
        f" this noise, no attack tells the two apart with an AUC above **{mine}** in 100; with any"
        f" method of ε = {epsilon(promise.epsilon)}, with none above {any_}. Training and held-out"
        " images may also differ in other ways, which an attack can use even if nothing leaks. The"
        " next panel is about another question, yes or no for a single image, which has its own"
        " bound."
    )


def margin_of_ranks(members: int, others: int) -> float:
    """Half the width of the 95 % interval of an AUC near chance, in [0, 1].

    From the rank statistic of Mann and Whitney 1947.
    """
    return 1.96 * math.sqrt((members + others + 1) / (12 * members * others))
